"""One development node: chain, mempool, templates and publisher wired together, and the conditions it pretends to be
in."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pool.dev.devchain import retarget
from pool.dev.devchain.chain import Chain
from pool.dev.devchain.index import Node
from pool.dev.devchain.mempool import Mempool
from pool.dev.devchain.publish import Publisher
from pool.dev.devchain.rules import Network
from pool.dev.devchain.store import Store
from pool.dev.devchain.template import STEPS, Templates


@dataclass(slots=True)
class Conditions:
    """What the node pretends about itself and its peers."""

    initial_download: bool = False
    peers: int = 1
    headers_ahead: int = 0
    warmup_until_s: float = 0.0  # monotonic clock
    refill_count: int = 0  # keep so many random transactions waiting
    long_poll_check_s: float = 60.0  # Bitcoin Core looks at the mempool after a minute, then each 10 s


class DevNode:
    """Owns the parts; every change of the tip goes through `_moved`."""

    def __init__(
        self, network: Network, datadir: Path, publisher: Publisher, clock: Callable[[], float] = time.time
    ) -> None:
        self.datadir = datadir
        self.store = Store(datadir / "chain.sqlite")
        self.chain = Chain(network, self.store, clock)
        self.mempool = Mempool(self.chain)
        self.templates = Templates(self.chain, self.mempool)
        self.publisher = publisher
        self.conditions = Conditions()
        self.started_s = time.monotonic()
        self.stopping = asyncio.Event()
        self.failure: BaseException | None = None
        self._changed = asyncio.Condition()
        self._wake_tasks: set[asyncio.Task[None]] = set()
        self.chain.on_connect = self.mempool.connected
        self.chain.on_disconnect = self.mempool.disconnected
        self.chain.on_tip = self._moved
        self.chain.on_broken = self.fail

    def close(self) -> None:
        """Close what is open."""
        self.publisher.close()
        self.store.close()

    def _moved(self, tip: Node) -> None:
        self.mempool.settle()
        if self.conditions.refill_count:
            self.mempool.fill(self.conditions.refill_count)
        self.publisher.hash_block(tip.hash)
        self.wake()

    def wake(self) -> None:
        """Let every long poll look again."""
        task = asyncio.ensure_future(self._notify())
        self._wake_tasks.add(task)
        task.add_done_callback(self._wake_tasks.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def long_poll(self, tip: bytes, number: int) -> None:
        """Return when the template differs from the one named: another tip or difficulty step at once, another
        mempool after a minute.

        Also when the node stops. `number` is the second half of the template's longpollid.
        """
        version, step = divmod(number, STEPS)
        wait_s = self.conditions.long_poll_check_s
        look_s = time.monotonic() + wait_s
        async with self._changed:
            while self.chain.tip.hash == tip and self.chain.step(self.chain.tip) == step and not self.stopping.is_set():
                if time.monotonic() >= look_s:
                    if self.mempool.version != version:
                        return
                    look_s = time.monotonic() + min(10.0, wait_s)
                left_s = min(look_s - time.monotonic(), self._next_step_s())
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), timeout=max(0.001, left_s))

    def _next_step_s(self) -> float:
        """Seconds until the demo's difficulty eases without a block."""
        chain = self.chain
        wait_ms = retarget.next_step_ms(chain.network, chain.tip, chain.now_ms()) if chain.network.retargets else None
        return float("inf") if wait_ms is None else wait_ms / 1000 + 0.005

    def fail(self, error: BaseException) -> None:
        """The file and what is in memory may differ now: end the process, which starts again from the file."""
        self.failure = error
        self.stop()

    def stop(self) -> None:
        """Ask the process to end."""
        self.stopping.set()
        self.wake()
