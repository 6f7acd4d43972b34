"""The chain room as the porch would open it: nodes, follower, desk and block keeper, with a miner that finds blocks."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from native.hashing import search
from native.work import Job
from pool.chain.blocks import BlockReport, Blocks
from pool.chain.jobs import tag_of
from pool.chain.node import Nodes
from pool.chain.rpc import NodeAddress
from pool.chain.templates import Follower
from pool.chain.types import Network
from pool.chain.watch import Pace
from pool.chain.work import Payees, WorkDesk
from pool.records import BlockFound
from rig.reference import sha256d
from rig.sink import QUICK


def solve(job: Job, rng: random.Random, *, version_bits: int = 0x00C2A000, stale: bool = False) -> BlockFound:
    """A block on this job, as the porch would hand it to the block keeper."""
    extranonce1, extranonce2 = rng.randbytes(4), rng.randbytes(8)
    header = job.header(extranonce1, extranonce2, job.ntime, 0, version_bits)
    nonce = search(header, job.network_target, 0, 1 << 32)
    assert nonce is not None
    header = job.header(extranonce1, extranonce2, job.ntime, nonce, version_bits)
    return BlockFound(
        block=job.block(extranonce1, extranonce2, header),
        hash_hex=sha256d(header)[::-1].hex(),
        prevhash_hex=job.prevhash[::-1].hex(),
        height=job.height,
        coinbase_value_sat=sum(output.value_sat for output in tag_of(job).outputs),
        account="somebody",
        worker="",
        stale=stale,
        found_at_ns=time.time_ns(),
        epoch=1,
        seq=1,
    )


class ChainRoom:
    """The parts, and ways to wait for them."""

    def __init__(self, nodes: Nodes, desk: WorkDesk, follower: Follower, blocks: Blocks) -> None:
        self.nodes, self.desk, self.follower, self.blocks = nodes, desk, follower, blocks
        self.reports: dict[str, BlockReport] = {}
        self.news = asyncio.Event()
        desk.listen(lambda changed: self.news.set())

    def told(self, report: BlockReport) -> None:
        self.reports[report.hash_hex] = report
        self.news.set()

    async def until(self, wanted: Callable[[], object], patience_s: float = 30.0) -> None:
        """Wait for something that comes with a job or a report."""
        async with asyncio.timeout(patience_s):
            while not wanted():
                self.news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):  # states change without news
                        await self.news.wait()

    async def job_on(self, hash_hex: str, *, transactions: int | None = None) -> Job:
        """The job on this previous block, with so many transactions if given."""
        prevhash = bytes.fromhex(hash_hex)[::-1]
        found: list[Job] = []

        def there() -> bool:
            job = self.desk.job_for("ledger", "")
            if job is None or job.prevhash != prevhash or transactions not in (None, job.tx_count):
                return False
            found.append(job)
            return True

        await self.until(there)
        return found[0]


@contextlib.asynccontextmanager
async def chain_room(
    addresses: Sequence[NodeAddress],
    network: Network,
    folder: Path,
    pool_script: bytes,
    *,
    pace: Pace = QUICK,
    poll_s: float = 0.05,
) -> AsyncIterator[ChainRoom]:
    """Open and close it; a room that ends by itself fails the test."""
    async with Nodes(addresses, network) as nodes:
        desk = WorkDesk(network, Payees(lambda: pool_script))
        told: list[Callable[[BlockReport], None]] = []
        pauses = {"poll_s": poll_s, "first_pause_s": 0.02, "longest_pause_s": 0.2}
        blocks = Blocks(folder, nodes, network, lambda report: told[0](report), **pauses)
        follower = Follower(nodes, desk, pace)
        room = ChainRoom(nodes, desk, follower, blocks)
        told.append(room.told)
        tasks = [asyncio.create_task(part.run()) for part in (desk, blocks, follower)]
        try:
            yield room
        finally:
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
