"""Nobody is refused a good share: every device model at the real server, with difficulty, work and tips in motion.

NO_FALSE_REJECTS_S sets how long the normal run goes on (seconds), NO_FALSE_REJECTS_SOAK_S the soak (an hour).
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pool.config import VardiffSection
from pool.dev.fleet.bitaxe import BitAxe
from pool.dev.fleet.device import Device, Endpoint
from pool.dev.fleet.fallback import FallbackDevice, probe
from pool.dev.fleet.firmware import Login
from pool.dev.fleet.fleet import Fleet, Furnace, make_fleet
from pool.dev.fleet.job import MinerJob
from pool.dev.fleet.models import MODELS
from pool.records import SHARE_ROW, RowKind, Verdict
from pool.stratum.hub import Port
from pool.stratum.vardiff import Why
from rig.mockpool import MockPool
from rig.stratum import ADDRESS, ADDRESS_2, RigPool, running

SECONDS = float(os.environ.get("NO_FALSE_REJECTS_S", "8"))
SOAK_SECONDS = float(os.environ.get("NO_FALSE_REJECTS_SOAK_S", "3600"))
EASIEST = 2.0**-19
VARDIFF = VardiffSection(shares_per_minute=120.0, min_difficulty=EASIEST, start_difficulty=2.0**-16)
PACE = 0.05  # devices wait a twentieth of their time, so that what an hour brings comes in minutes


class Stutterer(BitAxe):
    """Sends each share twice."""

    model = "stutterer"

    def submit(self, job: MinerJob, extranonce2: bytes, version: int, nonce: int, hash_le: bytes) -> None:
        super().submit(job, extranonce2, version, nonce, hash_le)
        super().submit(job, extranonce2, version, nonce, hash_le)


def a_fleet(pool: RigPool) -> Fleet:
    """Every model once, and one device that sends each share twice; all of them break the test if they break."""
    endpoint = Endpoint("127.0.0.1", pool.port())
    users = [ADDRESS, ADDRESS_2]
    models = [*MODELS, "bitaxe"]
    fleet = make_fleet(models, endpoint, users, count=len(models), total_hs=3e6, pace=PACE, strict=True)
    stutterer = Stutterer(Login(f"{ADDRESS}.twice", suggest=2.0**-17))
    fleet.devices[-1] = Device(stutterer, endpoint, name="stutterer", pace=PACE, strict=True)
    for device in fleet.devices:
        # A NerdMiner looks at no hash easier than 2^-16: it needs more of them to find anything in seconds.
        device.weight = 3.0 if device.firmware.model == "nerdminer" else 1.0
    fleet.furnace = Furnace(3e6, core_share=0.5)
    return fleet


async def unrest(pool: RigPool, rng: random.Random, *, hang_up: bool) -> None:
    """Everything that moves in a pool's day, many times a second, until cancelled."""
    home = (pool.work._prevhash, pool.work.height)
    while True:
        await asyncio.sleep(0.02)
        for session in rng.sample(list(pool.hub.sessions), min(2, len(pool.hub.sessions))):
            if session.pace is not None:
                session.wanted = (2.0 ** rng.uniform(-19, -15), Why.RATE)
                pool.server.supply.deliver(session)
        chance = rng.random()
        if hang_up and chance < 0.05:
            resumes = [c for c in pool.server.connections if c.session and c.session.agent.startswith("cgminer")]
            for connection in rng.sample(list(pool.server.connections), 1) + resumes[:1]:
                connection.close()  # those that present a session id go on with their extranonce1, at once
        elif chance < 0.06:
            pool.work.refresh()
        elif chance < 0.08:
            home = (pool.work._prevhash, pool.work.height)
            pool.work.new_block()
        elif chance < 0.09:
            pool.work.reorg_to(*home)


async def upkeep(pool: RigPool) -> None:
    """What the porch does each second: the next segment of the share log stands ready."""
    while True:
        await asyncio.to_thread(pool.log.prepare)
        await asyncio.sleep(1.0)


async def mine_for(fleet: Fleet, pool: RigPool, rng: random.Random, seconds: float, *, hang_up: bool) -> None:
    """Run the fleet under unrest; then let every answer arrive."""
    running_fleet = asyncio.create_task(fleet.run())
    troubles = asyncio.create_task(unrest(pool, rng, hang_up=hang_up))
    keeper = asyncio.create_task(upkeep(pool))
    try:
        await watch({running_fleet, troubles, keeper}, seconds)
        for _ in range(120):  # a loaded machine may need longer until everybody has found something
            if all(device.firmware.stats.accepted > 0 for device in fleet.devices):
                break
            await watch({running_fleet, troubles, keeper}, 0.5)
        troubles.cancel()
        fleet.furnace.total_hs = 1e-9  # no new shares
        async with asyncio.timeout(20):
            for device in fleet.devices:
                await heard(device, settled)
            pool.work.refresh()  # settles what was called stale at the very end
            for device in fleet.devices:
                await heard(device, explained)
    finally:
        for task in (running_fleet, troubles, keeper):
            task.cancel()
        await asyncio.gather(running_fleet, troubles, keeper, return_exceptions=True)


def settled(device: Device) -> bool:
    return device.firmware.unanswered == 0


def explained(device: Device) -> bool:
    return not device.firmware.session.doubtful


async def heard(device: Device, true: Callable[[Device], bool]) -> None:
    """Wait until something the device hears makes it true, or it is not connected any more."""
    while device.mining and not true(device):
        device.heard.clear()
        await device.heard.wait()


async def watch(tasks: set[asyncio.Task[None]], seconds: float) -> None:
    """Let them run; whatever one of them raises is raised here."""
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def check(fleet: Fleet, pool: RigPool, *, hang_up: bool) -> None:
    """No refusal without cause, no crash, and the log holds each accepted share once, with the work it was assigned."""
    for device in fleet.devices:
        stats = device.firmware.stats
        print(
            f"{device.name:16} submitted {stats.submitted:6} accepted {stats.accepted:6} repeats {stats.repeats:4} "
            f"notifies {stats.notifies:5} rejected {dict(stats.rejected)} drops {dict(stats.drops)}"
        )
    for device in fleet.devices:
        stats = device.firmware.stats
        assert not stats.pool_faults, (device.name, stats.pool_faults)
        assert not stats.crashes
        assert stats.old_ground == 0, device.name
        assert stats.untracked == 0, device.name
        assert stats.ignored_notifies == 0, device.name
        assert set(stats.drops) <= ({"closed by the pool"} if hang_up else set()), (device.name, stats.drops)
        assert stats.accepted > 0, device.name
        assert stats.notifies > 10, device.name
        if not hang_up:
            assert stats.submitted == stats.accepted + stats.rejected.total() + device.firmware.unanswered
            assert device.firmware.unanswered == 0
    stutterer = fleet.devices[-1].firmware.stats
    assert stutterer.rejected["Duplicate share"] >= stutterer.accepted * 0.8
    raw = pool.rows()
    rows = [raw[i : i + 128] for i in range(0, len(raw), 128)]
    shares = [np.frombuffer(row, SHARE_ROW)[0] for row in rows if row[4] == RowKind.SHARE]
    hashes = Counter(bytes(row["hash_le"]) for row in shares)
    assert max(hashes.values()) == 1
    live = sum(session.channel.counts[Verdict.ACCEPTED] for session in pool.hub.sessions)
    assert len(shares) == live + pool.hub.totals.gone_counts[Verdict.ACCEPTED]
    accepted = fleet.stats().accepted
    if hang_up:
        assert len(shares) >= accepted
    else:
        assert len(shares) == accepted
        assert sum(float(row["difficulty"]) for row in shares) == pytest.approx(fleet.stats().accepted_difficulty)


async def test_no_device_is_refused_a_share_by_the_pools_fault(tmp_path: Path, rng: random.Random) -> None:
    async with running(tmp_path / "log", vardiff=VARDIFF) as pool:
        fleet = a_fleet(pool)
        await mine_for(fleet, pool, rng, SECONDS, hang_up=False)
        check(fleet, pool, hang_up=False)


async def test_nor_when_connections_end_and_devices_come_back(tmp_path: Path, rng: random.Random) -> None:
    async with running(tmp_path / "log", vardiff=VARDIFF) as pool:
        fleet = a_fleet(pool)
        await mine_for(fleet, pool, rng, SECONDS, hang_up=True)
        check(fleet, pool, hang_up=True)


async def test_a_bitaxe_comes_home_from_its_fallback_pool_and_mines_here_again(tmp_path: Path) -> None:
    async with MockPool() as away:
        closed = MockPool()  # only to know a port that nobody listens on
        await closed.open()
        await closed.shut()
        firmware = BitAxe(Login(f"{ADDRESS}.axe", suggest=EASIEST))
        here, there = Endpoint("127.0.0.1", closed.port), Endpoint("127.0.0.1", away.port)
        device = FallbackDevice(firmware, here, there, pace=0.002)
        task = asyncio.create_task(device.run())
        try:
            await away.connection()
            assert device.moves == 1
            async with running(tmp_path / "log", vardiff=VARDIFF, ports=(Port("main", closed.port),)) as pool:
                await pool.until(lambda: device.at_home and device.mining, 10, "the device to come home")
                assert device.probes_answered == 1
                while firmware.stats.accepted == 0:
                    device.mine(8192)
                    await asyncio.sleep(0)
                assert pool.hub.totals.dropped == 0
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_hundred_probes_are_answered_and_none_is_punished(tmp_path: Path) -> None:
    async with running(tmp_path / "log", vardiff=VARDIFF) as pool:
        endpoint = Endpoint("127.0.0.1", pool.port())
        for _ in range(100):
            assert await probe(endpoint, "bitaxe/BM1370/v2.15.0", f"{ADDRESS}.axe", "x")
        miner = await pool.connect()
        await miner.enter(f"{ADDRESS}.axe")
        assert (await miner.submit(miner.share()))["result"] is True
        await miner.close()
        assert pool.hub.totals.refused == pool.hub.totals.dropped == 0


@pytest.mark.soak
@pytest.mark.timeout(4 * 3600)
async def test_nor_in_an_hour_of_it(tmp_path: Path, rng: random.Random) -> None:
    async with running(tmp_path / "log", vardiff=VARDIFF) as pool:
        fleet = a_fleet(pool)
        fleet.furnace.core_share = 0.25
        await mine_for(fleet, pool, rng, SOAK_SECONDS, hang_up=False)
        check(fleet, pool, hang_up=False)
