"""kill -9 at random moments under load: each share answered true is in the log once, each device goes on where it was.

KILLS sets how often in the normal run, KILLS_SOAK in the soak.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from native.sharelog import Segment, segments
from pool.records import SHARE_ROW, RowKind
from rig.daemon import free_port
from rig.miner import Miner, Share
from rig.stratum import ADDRESS

KILLS = int(os.environ.get("KILLS", "3"))
KILLS_SOAK = int(os.environ.get("KILLS_SOAK", "200"))
MINERS = 50
#: Sessions are stored each second; on a loaded machine the write may take another.
STORED_AFTER_S = 3.0
HERE = Path(__file__).parent


@dataclass
class Tally:
    """What the miners saw, over all lives of the server."""

    accepted: list[bytes] = field(default_factory=list)  # hashes answered true
    hoard: list[Share] = field(default_factory=list)
    replays_paid: int = 0
    replays: int = 0
    resumed: int = 0
    lost: list[str] = field(default_factory=list)
    killed_s: float = 0.0
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, count: int) -> None:
        """Wait until so many shares were accepted."""
        async with asyncio.timeout(60):
            while len(self.accepted) < count:
                self.more.clear()
                await self.more.wait()


class Device:
    """A miner that comes back whenever its line breaks, presents its session id, and now and then tries old shares."""

    def __init__(self, number: int, port: int, tally: Tally, rng: random.Random) -> None:
        self.user, self.port, self.tally, self.rng = f"{ADDRESS}.m{number}", port, tally, rng
        self.session_id = ""
        self.extranonce1 = b""
        self.earned_s = float("inf")  # when this session id had its first share accepted

    async def run(self) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, AssertionError):
                async with await Miner.connect(self.port) as miner:
                    await self.enter(miner)
                    while not miner.closed:
                        await self.mine(miner)
                        await asyncio.sleep(self.rng.uniform(0.05, 0.3))
            await asyncio.sleep(0.02)

    async def enter(self, miner: Miner) -> None:
        await miner.subscribe("rig/1.0", self.session_id or None)
        if self.session_id and self.tally.killed_s - self.earned_s > STORED_AFTER_S:
            if (miner.session_id, miner.extranonce1) == (self.session_id, self.extranonce1):
                self.tally.resumed += 1
            else:
                self.tally.lost.append(f"{self.user}: {self.session_id} came back as {miner.session_id}")
        if miner.session_id != self.session_id:
            self.earned_s = float("inf")
        self.session_id, self.extranonce1 = miner.session_id, miner.extranonce1
        await miner.authorize(self.user)
        await miner.job()

    async def mine(self, miner: Miner) -> None:
        share = miner.share(miner.jobs[-1])
        reply = await miner.submit(share)
        if reply.get("result") is True:
            self.tally.accepted.append(share.hash_le)
            self.tally.more.set()
            self.earned_s = min(self.earned_s, time.monotonic())
            if len(self.tally.hoard) < 5000:
                self.tally.hoard.append(share)
        if self.tally.hoard and self.rng.random() < 0.2:
            old = self.rng.choice(self.tally.hoard)
            fields = old.params
            fields[0] = self.user
            self.tally.replays += 1
            again = await miner.ask("mining.submit", list(fields))
            self.tally.replays_paid += again.get("result") is True


async def start(directory: Path, port: int) -> asyncio.subprocess.Process:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rig.stratum_main", str(directory), str(port)),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = await process.stdout.readline()
    assert line == b"ready\n"
    return process


async def mine_and_kill(directory: Path, kills: int, rng: random.Random) -> Tally:
    port, tally = free_port(), Tally()
    process = await start(directory, port)
    devices = [Device(number, port, tally, rng) for number in range(MINERS)]
    mining = [asyncio.create_task(device.run()) for device in devices]
    try:
        for _ in range(kills):
            before = len(tally.accepted)
            await asyncio.sleep(rng.uniform(0.5, 6.0))
            await tally.until(before + 1)
            process.kill()
            tally.killed_s = time.monotonic()
            await process.wait()
            process = await start(directory, port)
        await tally.until(len(tally.accepted) + MINERS)
    finally:
        for task in mining:
            task.cancel()
        ends = await asyncio.gather(*mining, return_exceptions=True)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    for end in ends:
        if isinstance(end, Exception):
            raise end
    return tally


def credited(directory: Path) -> Counter[bytes]:
    """Hash -> how many SHARE rows it has."""
    found: Counter[bytes] = Counter()
    for path in segments(str(directory / "log")):
        segment = Segment(path)
        rows = np.frombuffer(segment.rows(), dtype=SHARE_ROW)
        segment.close()
        found.update(bytes(value) for value in rows["hash_le"][rows["kind"] == RowKind.SHARE])
    return found


async def check(directory: Path, kills: int, rng: random.Random) -> None:
    tally = await mine_and_kill(directory, kills, rng)
    rows = credited(directory)
    assert len(tally.accepted) > 10 * kills
    missing = [value.hex() for value in tally.accepted if rows[value] != 1]
    assert missing == [], "answered true, but not in the log exactly once"
    assert max(rows.values()) == 1
    assert tally.replays > kills
    assert tally.replays_paid == 0
    assert tally.lost == [], "devices that lost session or extranonce1"
    assert tally.resumed > 0


async def test_no_accepted_share_is_lost_or_paid_twice_by_kill_9_and_devices_resume(
    tmp_path: Path, rng: random.Random
) -> None:
    await check(tmp_path, KILLS, rng)


@pytest.mark.soak
@pytest.mark.timeout(14_400)
async def test_kill_9_two_hundred_times(tmp_path: Path, rng: random.Random) -> None:
    await check(tmp_path, KILLS_SOAK, rng)
