"""The follower: tells a WorkSink each new best block, fresh templates, and whether the node side can be mined on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence

from pool.chain.node import Nodes
from pool.chain.types import NodeError, NodeState, Template, TemplateError, Tip, WorkSink
from pool.chain.watch import NodeWatch, Pace

log = logging.getLogger(__name__)

#: Pause after a template that was for another block than the one announced.
RACE_PAUSE_S = 0.02


class Follower:
    """Follows the first node, in order of preference, that can be mined on. Blocks are known by hash: heights are
    compared nowhere but for lag.

    Three signals of a new block, whichever is first: ZMQ, long-poll, and a poll each second. The sink hears the tip
    before its template was waited for,
    so that it can send out work without transactions at once."""

    def __init__(self, nodes: Nodes, sink: WorkSink, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self.tip: Tip | None = None
        self.template: Template | None = None
        self.state = NodeState(False, "waiting for the node", time.time())
        self._sink = sink
        self._turn = asyncio.Event()  # something changed at a node
        self._wanted = asyncio.Event()  # a template is wanted now
        self._moved = asyncio.Event()  # another node is followed, or another long-poll id is to be used
        self._watches = [NodeWatch(node, nodes.network, self.pace, self._turn.set) for node in nodes.nodes]
        self._watch: NodeWatch | None = None
        self._comebacks = 0
        self._held: Template | None = None  # arrived before its tip was announced
        self._template_s = float("-inf")  # when the last one was passed on
        self._asked_s = float("-inf")
        self._asking = False
        self._races = 0
        self._longpoll_id = ""
        self._started_s = time.monotonic()

    @property
    def watches(self) -> Sequence[NodeWatch]:
        return self._watches

    @property
    def following(self) -> str:
        """Name of the node in use; "" before there is one."""
        return self._watch.name if self._watch else ""

    def look(self) -> None:
        """Ask the nodes for their best block now: for whoever knows of a new one, like our own."""
        for watch in self._watches:
            watch.look()

    async def run(self) -> None:
        """Until cancelled."""
        self._started_s = time.monotonic()
        self._sink.on_node_state(self.state)
        async with asyncio.TaskGroup() as tasks:
            for watch in self._watches:
                tasks.create_task(watch.run())
            tasks.create_task(self._follow())
            tasks.create_task(self._fetch())
            tasks.create_task(self._longpoll())

    # --- which node, which block, what state

    async def _follow(self) -> None:
        while True:
            self._turn.clear()
            compare(self._watches, self.pace.lag_s)
            self._choose()
            with contextlib.suppress(NodeError):  # told as the node's trouble; the next turn asks again
                await self._announce()
            self._tell_state()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.pace.poll_s):
                    await self._turn.wait()

    def _choose(self) -> None:
        chosen = choose(self._watches, self._watch, self.pace.return_s)
        first = self._watches[0]
        if self._watch is None and first.undecided and time.monotonic() - self._started_s < self.pace.answer_s:
            return  # the preferred node gets a moment to answer at all
        if chosen is None:
            return
        if chosen is not self._watch:
            if self._watch is not None:
                log.warning(
                    "following node %s instead of %s: %s",
                    chosen.name,
                    self._watch.name,
                    self._watch.worry() or "the preferred one is well again",
                )
            self._watch, self._comebacks = chosen, chosen.comebacks
            self._renew()
        elif chosen.comebacks != self._comebacks:
            self._comebacks = chosen.comebacks
            self._renew()

    def _move(self) -> None:
        """Wake whoever waits to hear that another node, or another long-poll id, is to be used."""
        self._moved.set()
        self._moved = asyncio.Event()

    def _renew(self) -> None:
        """What was said by another node, or before a restart, does not count."""
        self._held, self._longpoll_id = None, ""
        self._move()
        if self.tip is not None and self._watch is not None and self._watch.best_hash_hex == self.tip.hash_hex:
            self._wanted.set()  # with another tip it is asked for when that is announced

    async def _announce(self) -> None:
        watch = self._watch
        if watch is None or not watch.best_hash_hex or watch.trouble(but="template"):
            return
        hash_hex = watch.best_hash_hex
        if self.tip is not None and self.tip.hash_hex == hash_hex:
            return
        if self._held is None or self._held.prevhash_hex != hash_hex:
            self._wanted.set()  # the template is on its way while we ask for the header
        tip = await watch.tip(hash_hex)
        if tip is None:
            watch.look()
            return
        self._sink.on_tip(tip)
        self.tip = tip
        held, self._held = self._held, None
        if held is not None and held.prevhash == tip.hash:
            self._deliver(held)

    def _tell_state(self) -> None:
        watch = self._watch
        info = watch.info if watch else None
        reason, name = self._reason(), self.following
        if reason == self.state.reason and name == self.state.node:
            return
        changed = reason != self.state.reason
        if reason and self.template is not None:
            self.template = None  # what comes before work goes on must be fresh
        self.state = NodeState(
            ok=not reason,
            reason=reason,
            since_s=time.time() if changed else self.state.since_s,
            node=name,
            height=info.blocks if info else 0,
            headers=info.headers if info else 0,
            ibd=bool(info and info.ibd),
        )
        if self.template is None and not self._asking:
            self._wanted.set()
        if changed:
            log.log(logging.WARNING if reason else logging.INFO, "work: %s", reason or f"following {name}")
        self._sink.on_node_state(self.state)

    def _reason(self) -> str:
        if self._watch is None or self._watch.trouble():
            return "; ".join(text for watch in self._watches if (text := watch.trouble())) or "waiting for the node"
        if self.template is None:
            return "waiting for a block template"
        return ""

    # --- templates

    async def _fetch(self) -> None:
        """One template after the other: when wanted, else each refresh_s."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._asked_s + self.pace.refresh_s - time.monotonic())):
                    await self._wanted.wait()
            self._wanted.clear()
            watch = self._watch
            if watch is None or watch.trouble(but="template"):
                await self._pause(self.pace.poll_s)
                continue
            self._asked_s = time.monotonic()
            if (template := await self._ask(watch)) is None:
                await self._pause(self.pace.poll_s)
                self._wanted.set()
            elif self._receive(watch, template):
                self._races = 0
            else:
                self._races = min(self._races + 1, 10)
                await self._pause(min(RACE_PAUSE_S * 2**self._races, self.pace.poll_s))
                self._wanted.set()

    async def _pause(self, seconds: float) -> None:
        """Shorter when a template is wanted anew."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()

    async def _ask(self, watch: NodeWatch) -> Template | None:
        """None when the node gave none (that is its trouble now), or when another node is followed meanwhile."""
        self._asking = True
        try:
            return await self._unless_another_node(watch, "")
        except TemplateError as error:
            watch.set_fault("template", f"gives a template that must not be mined: {error}")
        except NodeError as error:
            watch.set_fault("template", f"gives no block template: {watch.words(error)}", self.pace.template_loss_s)
        finally:
            self._asking = False
        return None

    def _receive(self, watch: NodeWatch, template: Template) -> bool:
        """Pass it on if it is for the block that was (or is about to be) announced. False: ask again."""
        if watch is not self._watch:
            return False
        if template.prevhash_hex != watch.best_hash_hex:
            watch.look()
            watch.set_fault(
                "template", "gives templates for another block than its best one", self.pace.template_loss_s
            )
            return False
        watch.clear_fault("template")
        if self.tip is None or self.tip.hash != template.prevhash:
            self._held = template
            self._turn.set()
        else:
            self._deliver(template)
        return True

    def _deliver(self, template: Template) -> None:
        self.template = template
        self._template_s = time.monotonic()
        if template.longpoll_id != self._longpoll_id:
            self._longpoll_id = template.longpoll_id
            self._move()
        self._sink.on_template(template)
        self._turn.set()  # the first one makes the state good

    async def _longpoll(self) -> None:
        """Asks to be told when a template is worth replacing. One question stays open for as long as it takes: Bitcoin
        Core gives it a thread of its four, and keeps it also when we hang up."""
        while True:
            watch, longpoll_id = self._watch, self._longpoll_id
            if watch is None or not longpoll_id or watch.trouble():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.pace.poll_s):
                        await self._moved.wait()
                continue
            asked_s = time.monotonic()
            try:
                template = await self._unless_another_node(watch, longpoll_id)
            except (NodeError, TemplateError) as error:
                # The poll and the refresh, beside, say what is wrong, if anything is.
                log.debug("long-poll of %s ended: %s", watch.name, error)
                template = None
            if template is None:
                await asyncio.sleep(self.pace.poll_s)
                continue
            self._longpoll_id = template.longpoll_id
            self._told(watch, template)
            if self.tip is not None and template.prevhash == self.tip.hash:
                # A node that answers at once, each time, must not keep us busy.
                await asyncio.sleep(max(0.0, asked_s + self.pace.poll_s - time.monotonic()))

    def _told(self, watch: NodeWatch, template: Template) -> None:
        if watch is not self._watch:
            return
        if template.prevhash_hex != watch.best_hash_hex:
            watch.saw(template.prevhash_hex)
            self._receive(watch, template)
        elif time.monotonic() - self._template_s >= self.pace.refresh_s / 2:
            self._receive(watch, template)

    async def _unless_another_node(self, watch: NodeWatch, longpoll_id: str) -> Template | None:
        """The node's template; None as soon as another node is followed, so that one that hangs is not waited for."""
        answer = asyncio.ensure_future(watch.node.block_template(longpoll_id, self.pace.template_s))
        try:
            while not answer.done() and self._watch is watch:
                moved = asyncio.ensure_future(self._moved.wait())
                try:
                    await asyncio.wait((answer, moved), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    moved.cancel()
            return answer.result() if answer.done() else None
        finally:
            answer.cancel()


def choose(watches: Sequence[NodeWatch], current: NodeWatch | None, return_s: float) -> NodeWatch | None:
    """The node to follow. The first that is well; the present one is left early for one without any trouble, and for a
    preferred one only when that has been well for `return_s`. When none is well: stay."""
    well = [watch for watch in watches if not watch.trouble()]
    steady = [watch for watch in well if not watch.shaky()] or well
    if not steady:
        return current or watches[0]
    if current not in steady:
        return steady[0]
    return next(watch for watch in steady if watch is current or watch.well_for_s() >= return_s)


def compare(watches: Sequence[NodeWatch], lag_s: float) -> None:
    """A node whose chain has less work than that of another node of ours is behind, whatever it thinks itself."""
    for watch in watches:
        info = watch.info
        ahead = [
            other
            for other in watches
            if info
            and other.info
            and not other.trouble()
            and _more(other.info.work, info.work, other.info.blocks, info.blocks)
        ]
        if ahead:
            watch.set_fault("behind", f"is behind {ahead[0].name}", lag_s)
        else:
            watch.clear_fault("behind")


def _more(work: int | None, than_work: int | None, blocks: int, than_blocks: int) -> bool:
    return work > than_work if work is not None and than_work is not None else blocks > than_blocks
