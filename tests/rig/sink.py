"""A WorkSink that keeps what it is told, in order, and lets a test wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence

from pool.chain.node import Nodes
from pool.chain.rpc import NodeAddress
from pool.chain.templates import Follower
from pool.chain.types import Network, NodeState, Template, Tip
from pool.chain.watch import Pace

#: The follower's clock, ten to a hundred times as fast as in life.
QUICK = Pace(
    poll_s=0.05,
    answer_s=0.5,
    template_s=2.0,
    health_s=0.1,
    refresh_s=30.0,
    down_s=0.4,
    lag_s=0.4,
    template_loss_s=0.6,
    return_s=0.4,
    failover_s=0.2,
)
#: For real node processes, which on a busy machine may be silent for a second.
CALM = dataclasses.replace(QUICK, answer_s=3.0, template_s=5.0, down_s=1.0)


class Sink:
    def __init__(self) -> None:
        self.heard: list[Tip | Template | NodeState] = []
        self._news = asyncio.Event()

    def on_tip(self, tip: Tip) -> None:
        self._note(tip)

    def on_template(self, template: Template) -> None:
        self._note(template)

    def on_node_state(self, state: NodeState) -> None:
        self._note(state)

    def _note(self, what: Tip | Template | NodeState) -> None:
        self.heard.append(what)
        self._news.set()

    @property
    def tips(self) -> list[str]:
        return [item.hash_hex for item in self.heard if isinstance(item, Tip)]

    @property
    def templates(self) -> list[Template]:
        return [item for item in self.heard if isinstance(item, Template)]

    @property
    def states(self) -> list[NodeState]:
        return [item for item in self.heard if isinstance(item, NodeState)]

    @property
    def state(self) -> NodeState:
        return self.states[-1] if self.states else NodeState(False, "nothing was said yet", 0.0)

    async def until(self, condition: Callable[[Sink], bool], patience_s: float = 10.0) -> None:
        """Wait until what was heard fulfils this; a failure shows all that was heard."""
        try:
            async with asyncio.timeout(patience_s):
                while not condition(self):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError("heard only:\n" + "\n".join(self.story())) from None

    async def until_on(self, hash_hex: str, patience_s: float = 10.0) -> Template:
        """Wait for a template on this block; it is the newest."""
        await self.until(lambda sink: bool(sink.templates) and sink.templates[-1].prevhash_hex == hash_hex, patience_s)
        return self.templates[-1]

    def story(self) -> list[str]:
        """All that was heard, one line each."""
        lines = []
        for item in self.heard:
            if isinstance(item, Tip):
                lines.append(f"tip {item.height} {item.hash_hex[:8]}")
            elif isinstance(item, Template):
                lines.append(f"template {item.height} {item.prevhash_hex[:8]}")
            else:
                lines.append(f"state {item.ok} {item.reason}")
        return lines


@contextlib.asynccontextmanager
async def following(
    addresses: Sequence[NodeAddress], network: Network, pace: Pace = QUICK
) -> AsyncIterator[tuple[Follower, Sink]]:
    """A running follower of these nodes and the sink it tells."""
    sink = Sink()
    async with Nodes(addresses, network) as nodes:
        follower = Follower(nodes, sink, pace)
        task = asyncio.create_task(follower.run())
        try:
            yield follower, sink
        finally:
            if task.done():
                task.result()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
