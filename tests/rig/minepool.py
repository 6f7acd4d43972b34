"""The whole chain room at work over real nodes: follower, work desk and block keeper, with a test in the place of the
miners."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from native.hashing import header_hash
from native.work import Job
from pool.chain.blocks import BlockReport, Blocks, BlockState
from pool.chain.node import Nodes
from pool.chain.rpc import NodeAddress
from pool.chain.templates import Follower
from pool.chain.types import NETWORKS
from pool.chain.watch import Pace
from pool.chain.work import Payees, WorkDesk
from pool.records import BlockFound
from rig.daemon import NodeDaemon
from rig.sink import CALM

REGTEST = NETWORKS["regtest"]
#: Anyone can spend these, without a signature: P2WSH and P2SH of OP_TRUE.
P2WSH_TRUE = bytes.fromhex("00204ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260")
assert P2WSH_TRUE[2:] == hashlib.sha256(b"\x51").digest()
P2SH_TRUE = bytes.fromhex("a914da1745e9b549bd0bfa1a569971c77eba30cd5a4b87")


class MinePool:
    """`mine()` does what a miner's share does that is a block; conditions are awaited by `until`."""

    def __init__(self, nodes: Nodes, folder: Path, pace: Pace, script: Callable[[], bytes]) -> None:
        self.reports: dict[str, BlockReport] = {}
        self.desk = WorkDesk(REGTEST, Payees(script))
        self.follower = Follower(nodes, self.desk, pace)
        self.blocks = Blocks(folder, nodes, REGTEST, self._report, poll_s=0.05, first_pause_s=0.05, longest_pause_s=0.2)
        self._news = asyncio.Event()
        self._extranonces = itertools.count(1)
        self.desk.listen(self._new_job)

    def _report(self, report: BlockReport) -> None:
        self.reports[report.hash_hex] = report
        self._news.set()
        if report.state is BlockState.HELD:
            self.follower.look()

    def _new_job(self, new_block: bool) -> None:
        self._news.set()
        if new_block:
            self.blocks.look()

    async def until(self, condition: Callable[[], bool], patience_s: float = 20.0) -> None:
        try:
            async with asyncio.timeout(patience_s):
                while not condition():
                    self._news.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.02):  # conditions may be about the node, which has no event
                            await self._news.wait()
        except TimeoutError:
            words = [f"{r.found.height} {r.state} {r.confirmations} {r.reason}" for r in self.reports.values()]
            raise AssertionError(f"desk: {self.desk.state}, blocks: {words[-5:]}") from None

    async def job_at(self, height: int, transactions: int | None = None) -> Job:
        """The newest job, once it is for this height (and holds so many transactions)."""

        def there() -> bool:
            job = self.desk.job_for("ledger", "")
            return job is not None and job.height == height and transactions in (None, job.tx_count)

        await self.until(there)
        job = self.desk.job_for("ledger", "")
        assert job is not None
        return job

    def solve(self, job: Job, *, stale: bool = False) -> BlockFound:
        """A block on this job; another each time."""
        extranonce1, extranonce2 = b"\0\0\0\1", next(self._extranonces).to_bytes(8, "big")
        for nonce in range(1 << 20):
            header = job.header(extranonce1, extranonce2, job.ntime, nonce, 0)
            if int.from_bytes(header_hash(header), "little") <= job.network_target:
                break
        return BlockFound(
            block=job.block(extranonce1, extranonce2, header),
            hash_hex=header_hash(header)[::-1].hex(),
            prevhash_hex=job.prevhash[::-1].hex(),
            height=job.height,
            coinbase_value_sat=0,
            account="tester",
            worker="",
            stale=stale,
            found_at_ns=time.time_ns(),
            epoch=1,
            seq=next(self._extranonces),
        )

    async def mine(self, height: int, transactions: int | None = None) -> BlockFound:
        """Find a block at this height and see it confirmed by a node."""
        found = self.solve(await self.job_at(height, transactions))
        self.blocks.submit(found)
        await self.until(lambda: self.state_of(found) in (BlockState.CONFIRMED, BlockState.MATURE))
        return found

    def state_of(self, found: BlockFound) -> BlockState | None:
        report = self.reports.get(found.hash_hex)
        return report.state if report else None


@contextlib.asynccontextmanager
async def mining(
    daemons: Sequence[NodeDaemon],
    folder: Path,
    *,
    pace: Pace = CALM,
    script: Callable[[], bytes] = lambda: P2WSH_TRUE,
    timeout_s: float = 5.0,
) -> AsyncIterator[MinePool]:
    """A running pool on these nodes; its journal of blocks is in `folder`."""
    addresses = [
        NodeAddress(d.url, d.user, d.password, zmq_hashblock=d.zmq_url or "", timeout_s=timeout_s) for d in daemons
    ]
    async with Nodes(addresses, REGTEST) as nodes:
        pool = MinePool(nodes, folder, pace, script)
        tasks = [asyncio.create_task(job()) for job in (pool.follower.run, pool.desk.run, pool.blocks.run)]
        try:
            yield pool
        finally:
            for task in tasks:
                if task.done():
                    task.result()
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
