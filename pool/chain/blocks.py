"""Found blocks: to disk, to every node until one holds them, then watched by hash until the chain has decided."""

from __future__ import annotations

import asyncio
import enum
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pool.chain.journal import Journal, Mark
from pool.chain.types import BlockNode, BlockNodes, HeaderInfo, Network, NodeError, Outcome, SubmitAnswer
from pool.records import BlockFound

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
#: A node's client owns its time-out; this one only bounds a client that does not.
CALL_TIMEOUT_S = 120.0
#: Once some node holds the block the network has it: the others are offered it this often, then their peers tell them.
TRIES_WHEN_HELD = 5
#: A mature block is watched this many times the maturity deep: a reorg that deep must raise an alarm, not be missed.
WATCH_DEPTH = 2


class BlockState(enum.StrEnum):
    """Where a found block stands: a function of the chain, so it may go back and forth."""

    PENDING = "pending"  # kept here; no node holds it yet
    REFUSED = "refused"  # every node refuses it; offered again all the same
    HELD = "held"  # a node holds it, its place in the chain is not known yet
    ORPHANED = "orphaned"  # a node holds it, beside the best chain
    CONFIRMED = "confirmed"  # on the best chain, its coins cannot be spent yet
    MATURE = "mature"  # on the best chain, spendable


GOOD_STATES = frozenset((BlockState.HELD, BlockState.CONFIRMED, BlockState.MATURE))

@dataclass(frozen=True, slots=True)
class BlockReport:
    """Told on each change of a block's state or confirmations, again after a restart: key what you do by the hash."""

    found: BlockFound
    state: BlockState
    confirmations: int
    reason: str  # words of a node that refuses it, or what keeps it from being on disk
    held_by: tuple[str, ...]
    final: bool  # nothing will change any more; the last report of this block

    @property
    def hash_hex(self) -> str:
        return self.found.hash_hex


@dataclass(slots=True)
class _Kept:
    """A block under care."""

    found: BlockFound
    report: BlockReport
    held_by: set[str] = field(default_factory=set)
    refused_by: dict[str, str] = field(default_factory=dict)
    disk_fault: str = ""
    offered_to: set[str] = field(default_factory=set)  # nodes whose answer is awaited, by name
    done: bool = False


class Blocks:
    """Care of all found blocks. `submit` may be called at any time on the loop's thread; `run` never ends by itself."""

    def __init__(
        self,
        directory: Path,
        nodes: BlockNodes,
        network: Network,
        on_report: Callable[[BlockReport], None],
        *,
        poll_s: float = 5.0,
        first_pause_s: float = FIRST_PAUSE_S,
        longest_pause_s: float = LONGEST_PAUSE_S,
    ) -> None:
        """Reads the journal: blocks of an earlier run are taken up again. OSError when the directory cannot be used."""
        self._journal = Journal(directory)
        self._nodes = nodes
        self._network = network
        self._on_report = on_report
        self._poll_s = poll_s
        self._pauses_s = first_pause_s, longest_pause_s
        self._kept: dict[str, _Kept] = {}
        self._spawn: asyncio.TaskGroup | None = None
        self._look_now = asyncio.Event()
        self._shunned: set[str] = set()
        for entry in self._journal.load():
            self._kept[entry.found.hash_hex] = _taken_up(entry.found, entry.mark)

    # --- for the porch

    def submit(self, found: BlockFound) -> None:
        """Write to disk, start sending to every node, return; a disk that refuses does not stop the sending.

        A block seen before is not started again.
        """
        if self.knows(found.hash_hex):
            return
        kept = _taken_up(found, None)
        self._kept[found.hash_hex] = kept
        try:
            self._journal.write(found)
        except OSError as error:
            kept.disk_fault = f"not on disk: {error}"
            log.critical("found block %s is not on disk (%s), sending it from memory", found.hash_hex, error)
        log.warning("block %d %s found by %s, on its way to the nodes", found.height, found.hash_hex, found.account)
        self._start_offering(kept)

    def knows(self, hash_hex: str) -> bool:
        """Is this block under care already, or was it?"""
        return hash_hex in self._kept or hash_hex in self._journal.settled

    def look(self) -> None:
        """A new tip was seen: look at all blocks now, not at the next turn of the clock."""
        self._look_now.set()

    @property
    def reports(self) -> Mapping[str, BlockReport]:
        """The latest report of each block under care, by hash."""
        return {hash_hex: kept.report for hash_hex, kept in self._kept.items()}

    @property
    def found_ever(self) -> int:
        """How many blocks this journal has seen: the index of the next fresh address of a watch-only descriptor."""
        return len(self._kept) + len(self._journal.settled)

    async def run(self) -> None:
        """Send and watch until cancelled. An exception of `on_report` ends it."""
        async with asyncio.TaskGroup() as tasks:
            self._spawn = tasks
            try:
                for kept in self._kept.values():
                    if not kept.held_by:
                        self._start_offering(kept)
                while True:
                    await self._look_at_all()
                    await self._next_turn()
            finally:
                self._spawn = None

    async def _next_turn(self) -> None:
        try:
            async with asyncio.timeout(self._poll_s):
                await self._look_now.wait()
        except TimeoutError:
            pass
        self._look_now.clear()

    # --- sending

    def _start_offering(self, kept: _Kept) -> None:
        if self._spawn is not None:
            self._spawn.create_task(self._offer_to_all(kept))

    async def _offer_to_all(self, kept: _Kept) -> None:
        if not kept.offered_to:
            self._tell(kept, kept.report.state, 0)
        block_hex = kept.found.block.hex()
        async with asyncio.TaskGroup() as tasks:
            for node in self._nodes.nodes:
                if node.name not in kept.offered_to:
                    kept.offered_to.add(node.name)
                    tasks.create_task(self._offer(kept, node, block_hex))

    async def _offer(self, kept: _Kept, node: BlockNode, block_hex: str) -> None:
        """To one node until it holds the block, or another does and this one had its tries."""
        pause_s, longest_s = self._pauses_s
        tries = 1
        while not kept.done and not await self._offer_once(kept, node, block_hex):
            if kept.held_by and tries >= TRIES_WHEN_HELD:
                break
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
            pause_s, tries = min(2 * pause_s, longest_s), tries + 1
        kept.offered_to.discard(node.name)

    async def _offer_once(self, kept: _Kept, node: BlockNode, block_hex: str) -> bool:
        """True when that node holds the block now."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                answer = await node.submit_block(block_hex)
        except (NodeError, TimeoutError) as error:
            log.warning("block %s: no answer from node %s: %s", kept.found.hash_hex, node.name, error or "timed out")
            return False
        said = " ".join(dict.fromkeys((answer.outcome.value, answer.reason))).strip()
        level = logging.INFO if answer.outcome.held else logging.WARNING
        log.log(level, "block %s: node %s says %s", kept.found.hash_hex, node.name, said)
        if await self._settle_with(kept, node, answer):
            kept.held_by.add(node.name)
            kept.refused_by.pop(node.name, None)
            if kept.report.state in (BlockState.PENDING, BlockState.REFUSED):
                self._tell(kept, BlockState.HELD, 0)
            self._look_now.set()
            return True
        if answer.outcome is Outcome.REJECTED:
            kept.refused_by[node.name] = answer.reason
            if not kept.held_by and set(kept.refused_by) >= {node.name for node in self._nodes.nodes}:
                self._tell(kept, BlockState.REFUSED, 0)
        return False

    async def _settle_with(self, kept: _Kept, node: BlockNode, answer: SubmitAnswer) -> bool:
        """Whether the node holds the block, by its own index: btcd also says null to a block whose parent it lacks.

        Where it holds the block beside its best chain, it is asked to prefer ours among equals. A header alone proves
        nothing: nodes index blocks that they refused, and headers that peers sent ahead of the block.
        """
        hash_hex = kept.found.hash_hex
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                header = await node.block_header(hash_hex)
                beside = header is not None and header.confirmations < 1
                if beside and answer.outcome.held and await node.precious_block(hash_hex):
                    log.info("block %s: node %s asked to prefer it", hash_hex, node.name)
        except (NodeError, TimeoutError) as error:
            log.warning("block %s: node %s answered, then failed: %s", hash_hex, node.name, error or "timed out")
            return answer.outcome.held
        return header is not None and (answer.outcome.held or header.confirmations >= 1)

    # --- watching

    async def _look_at_all(self) -> None:
        failed: set[str] = set()
        for kept in list(self._kept.values()):
            await self._look_at(kept, failed)
        self._shunned = failed

    async def _look_at(self, kept: _Kept, failed: set[str]) -> None:
        """Ask the nodes in order of preference, at most one time-out per node and round."""
        held_before = set(kept.held_by)  # an answer may be older than the success of an offer
        lost: set[str] = set()
        for node in sorted(self._nodes.nodes, key=lambda node: node.name in self._shunned):
            if node.name in failed:
                continue
            try:
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    header = await node.block_header(kept.found.hash_hex)
                    tip_height = await self._tip_height(node) if header is None or header.confirmations < 1 else 0
            except (NodeError, TimeoutError):
                failed.add(node.name)
                continue
            if header is not None and (header.confirmations >= 1 or node.name in held_before):
                kept.held_by.add(node.name)
                kept.refused_by.pop(node.name, None)
                self._place(kept, header, tip_height)
                return
            lost.add(node.name)
            self._bury_if_refused(kept, tip_height)
        if held_before and held_before <= lost and not kept.done:
            # Whoever held it does not know it now: restored from a backup, or indexed anew. Start again.
            kept.held_by -= lost
            self._tell(kept, BlockState.PENDING, 0)
            self._start_offering(kept)

    async def _tip_height(self, node: BlockNode) -> int:
        tip = await node.block_header(await node.best_block_hash())
        return tip.height if tip is not None else 0

    def _place(self, kept: _Kept, header: HeaderInfo, tip_height: int) -> None:
        maturity = self._network.maturity
        if header.confirmations >= maturity:
            final = header.confirmations >= WATCH_DEPTH * maturity
            self._tell(kept, BlockState.MATURE, header.confirmations, final=final)
        elif header.confirmations >= 1:
            self._tell(kept, BlockState.CONFIRMED, header.confirmations)
        else:
            final = tip_height >= kept.found.height + WATCH_DEPTH * maturity
            self._tell(kept, BlockState.ORPHANED, 0, final=final)

    def _bury_if_refused(self, kept: _Kept, tip_height: int) -> None:
        """A block that every node refuses is given up once the chain is so long past it that it could never win."""
        deep = tip_height >= kept.found.height + WATCH_DEPTH * self._network.maturity
        if deep and kept.report.state is BlockState.REFUSED:
            self._tell(kept, BlockState.REFUSED, 0, final=True)

    # --- telling

    def _tell(self, kept: _Kept, state: BlockState, confirmations: int, *, final: bool = False) -> None:
        words = [kept.disk_fault, *(f"{name}: {reason}" for name, reason in sorted(kept.refused_by.items()))]
        reason = "; ".join(word for word in words if word)
        report = BlockReport(kept.found, state, confirmations, reason, tuple(sorted(kept.held_by)), final)
        before, kept.report = kept.report, report
        if report == before and state is not BlockState.PENDING:
            return
        if state is not before.state:
            level = logging.INFO if state in GOOD_STATES else logging.WARNING
            at = ", ".join(report.held_by) or "no node yet"
            said = f"{state.value} at {at} {reason}".rstrip()
            log.log(level, "block %d %s is %s", kept.found.height, kept.found.hash_hex, said)
        if not self._write_down(kept, before) and final:
            kept.report = before  # the last word is said when it is on disk: tried again at the next look
            return
        self._on_report(report)

    def _write_down(self, kept: _Kept, before: BlockReport) -> bool:
        report = kept.report
        mark = Mark(report.state.value, report.reason, report.held_by)
        try:
            if kept.disk_fault and not report.final:
                self._journal.write(kept.found)
                kept.disk_fault = ""
            if report.final:
                on_chain = report.state is BlockState.MATURE
                self._journal.settle(kept.found, mark, keep_body=not on_chain)
            elif (report.state, report.held_by, report.reason) != (before.state, before.held_by, before.reason):
                self._journal.mark(kept.found, mark)
        except OSError as error:
            log.critical("state of found block %s could not be written to disk: %s", report.hash_hex, error)
            return False
        if report.final:
            kept.done = True
            del self._kept[report.hash_hex]
        return True


def _taken_up(found: BlockFound, mark: Mark | None) -> _Kept:
    state = BlockState(mark.state) if mark is not None else BlockState.PENDING
    held_by = set(mark.held_by) if mark is not None else set()
    report = BlockReport(found, state, 0, mark.reason if mark is not None else "", tuple(sorted(held_by)), False)
    return _Kept(found, report, held_by)
