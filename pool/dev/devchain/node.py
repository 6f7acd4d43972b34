"""One development node: chain, mempool, templates and publisher wired together, and the conditions it pretends to be in."""

from __future__ import annotations

import asyncio
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
from pool.dev.devchain.template import Templates


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

    def __init__(self, network: Network, datadir: Path, publisher: Publisher, clock: Callable[[], float] = time.time) -> None:
        self.datadir = datadir
        self.store = Store(datadir / "chain.sqlite")
        self.chain = Chain(network, self.store, clock)
        self.mempool = Mempool(self.chain)
        self.templates = Templates(self.chain, self.mempool)
        self.publisher = publisher
        self.conditions = Conditions()
        self.started_s = time.monotonic()
        self.stopping = asyncio.Event()
        self._changed = asyncio.Condition()
        self._wake_tasks: set[asyncio.Task[None]] = set()
        self.chain.on_connect = self.mempool.connected
        self.chain.on_disconnect = self.mempool.disconnected
        self.chain.on_tip = self._moved

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

    async def long_poll(self, tip: bytes, mempool_version: int) -> None:
        """Return when the tip is not `tip`, the demo's difficulty step changed, the mempool changed and a minute passed, or the node stops."""
        chain, wait_s = self.chain, self.conditions.long_poll_check_s
        start_nbits = chain.allowed_nbits(chain.tip)[-1]
        deadline = time.monotonic() + wait_s
        async with self._changed:
            while chain.tip.hash == tip and not self.stopping.is_set():
                if chain.allowed_nbits(chain.tip)[-1] != start_nbits:
                    return
                left = deadline - time.monotonic()
                if left <= 0:
                    if self.mempool.version != mempool_version:
                        return
                    left = min(10.0, wait_s)
                    deadline = time.monotonic() + left
                step_ms = retarget.next_step_ms(chain.network, chain.tip, chain.now_ms()) if chain.network.retargets else None
                if step_ms is not None:
                    left = min(left, step_ms / 1000 + 0.01)
                try:
                    await asyncio.wait_for(self._changed.wait(), timeout=left)
                except TimeoutError:
                    continue

    def stop(self) -> None:
        """Ask the process to end."""
        self.stopping.set()
        self.wake()
