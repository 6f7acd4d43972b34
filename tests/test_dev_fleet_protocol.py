"""Each simulated device sends the very bytes of its firmware, in its order, and comes back as it would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator

import pytest

from pool.dev.fleet.bitaxe import BitAxe
from pool.dev.fleet.device import Device, Endpoint
from pool.dev.fleet.fallback import FallbackDevice
from pool.dev.fleet.firmware import FirmwareCrash, Login
from pool.dev.fleet.fleet import Furnace, make_fleet
from pool.dev.fleet.models import CLUB, MODELS, make_firmware
from rig.mockpool import MockConnection, MockPool

USER = "bc1qexample.axe1"


@contextlib.asynccontextmanager
async def mining(pool: MockPool, model: str, *, pace: float = 0.01, **login: object) -> AsyncIterator[Device]:
    """A device of that model, running against the pool; strict, and silent about its end."""
    firmware = make_firmware(model, Login(USER, **login))  # type: ignore[arg-type]
    device = Device(firmware, Endpoint("127.0.0.1", pool.port), pace=pace, strict=True)
    task = asyncio.create_task(device.run())
    try:
        yield device
    finally:
        task.cancel()
        (end,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError), end


ROLLING = b'[["version-rolling"], {"version-rolling.mask": "%b"}]'
CONFIGURE = b'{"id": %d, "method": "mining.configure", "params": ' + ROLLING + b"}\n"
HELLOS: dict[str, list[bytes]] = {
    "bitaxe": [
        b'{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}\n',
        b'{"id":2,"method":"mining.subscribe","params":["bitaxe/BM1370/v2.15.0"]}\n',
        b'{"id":3,"method":"mining.authorize","params":["bc1qexample.axe1","x"]}\n',
        b'{"id":4,"method":"mining.suggest_difficulty","params":[1000]}\n',
    ],
    "bitaxe-2.2": [
        b'{"id": 1, "method": "mining.subscribe", "params": ["bitaxe/BM1366/v2.2.2"]}\n',
        CONFIGURE % (2, b"ffffffff"),
        b'{"id": 3, "method": "mining.suggest_difficulty", "params": [1000]}\n',
        b'{"id": 4, "method": "mining.authorize", "params": ["bc1qexample.axe1", "x"]}\n',
    ],
    "luckyminer": [
        b'{"id": 1, "method": "mining.subscribe", "params": ["bitaxe/BM1366 (v2.1.8)"]}\n',
        CONFIGURE % (2, b"ffffffff"),
        b'{"id": 3, "method": "mining.suggest_difficulty", "params": [1000]}\n',
        b'{"id": 4, "method": "mining.authorize", "params": ["bc1qexample.axe1", "x"]}\n',
    ],
    "nerdqaxe": [
        b'{"id": 1, "method": "mining.subscribe", "params": ["NerdQAxe++/BM1370/v1.0.38"]}\n',
        CONFIGURE % (2, b"1fffe000"),
        b'{"id": 3, "method": "mining.authorize", "params": ["bc1qexample.axe1", "x"]}\n',
        b'{"id": 4, "method": "mining.suggest_difficulty", "params": [1000]}\n',
    ],
    "nerdminer": [
        b'{"id": 1, "method": "mining.subscribe", "params": ["NerdMinerV2/V1.8.3"]}\n',
        b'{"params": ["bc1qexample.axe1", "x"], "id": 2, "method": "mining.authorize"}\n',
        b'{"id":3,"method":"mining.suggest_difficulty","params":[0.00015]}\n',
    ],
    "cgminer": [
        b'{"id": 1, "method": "mining.subscribe", "params": ["cgminer/4.13.6"]}\n',
        b'{"id": 2, "method": "mining.authorize", "params": ["bc1qexample.axe1", "x"]}\n',
    ],
    "cgminer-vmask": [
        CONFIGURE % (0, b"ffffffff"),
        b'{"id": 1, "method": "mining.subscribe", "params": ["cgminer/4.13.6"]}\n',
        b'{"id": 2, "method": "mining.authorize", "params": ["bc1qexample.axe1", "x"]}\n',
    ],
    "cpuminer": [
        b'{"id": 1, "method": "mining.subscribe", "params": ["cpuminer/2.5.1"]}\n',
        b'{"id": 2, "method": "mining.authorize", "params": ["bc1qexample.axe1", "x"]}\n',
    ],
    "bfgminer": [
        b'{"id": null, "method": "mining.suggest_target", "params": ["00000000' + b"f" * 56 + b'"]}\n',
        b'{"id": 0, "method": "mining.subscribe", "params": ["bfgminer/5.5.0"]}\n',
        b'{"id": "auth", "method": "mining.authorize", "params": ["bc1qexample.axe1", "x"]}\n',
        b'{"id": "xnsub", "method": "mining.extranonce.subscribe", "params": []}\n',
    ],
}


@pytest.mark.parametrize("model", HELLOS)
async def test_a_device_says_hello_in_its_firmwares_own_bytes(model: str) -> None:
    hello = HELLOS[model]
    async with MockPool() as pool, mining(pool, model):
        connection = await pool.connection()
        await pool.until(lambda: len(connection.lines) >= len(hello), what="the whole hello")
        assert connection.lines[: len(hello)] == hello


async def shares_of(pool: MockPool, device: Device, count: int) -> MockConnection:
    """Mine until the pool has judged `count` shares and the device has heard all answers."""
    connection = await pool.connection()
    await asyncio.wait_for(device.up.wait(), 10)
    while len(connection.verdicts) < count:
        device.mine(4096)
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while device.firmware.unanswered:
            device.heard.clear()
            await device.heard.wait()
    return connection


@pytest.mark.parametrize("model", MODELS)
async def test_every_model_mines_and_every_answer_is_understood(model: str) -> None:
    difficulty = 2.0**-16 if model == "nerdminer" else 2.0**-18
    async with MockPool(difficulty=difficulty) as pool, mining(pool, model) as device:
        for _ in range(3):
            connection = await shares_of(pool, device, len(pool.connections[0].verdicts) + 4 if pool.connections else 4)
            pool.notify()
        stats = device.firmware.stats
        assert stats.accepted >= 10
        assert stats.accepted + stats.rejected.total() == stats.submitted == len(connection.verdicts)
        assert not stats.pool_faults
        assert stats.untracked == 0
        assert len(pool.connections) == 1


SUBMITS: dict[str, bytes] = {
    "bitaxe": rb'\{"id":\d+,"method":"mining.submit","params":\["bc1qexample.axe1","11","[0-9a-f]{2}00000000000000",'
    rb'"[0-9a-f]{8}","[0-9a-f]{8}","[0-9a-f]{8}"\]\}\n',
    "luckyminer": rb'\{"id": \d+, "method": "mining.submit", "params": \["bc1qexample.axe1", "11", '
    rb'"[0-9a-f]{2}00000000000000", "[0-9a-f]{8}", "[0-9a-f]{8}", "[0-9a-f]{8}"\]\}\n',
    "nerdqaxe": rb'\{"id": \d+, "method": "mining.submit", "params": \["bc1qexample.axe1", "11", '
    rb'"00000000000000[0-9a-f]{2}", "[0-9a-f]{8}", "[0-9a-f]{8}", "[0-9a-f]{8}"\]\}\n',
    "nerdminer": rb'\{"id":\d+,"method":"mining.submit","params":\["bc1qexample.axe1","11","0000000000000001",'
    rb'"[0-9a-f]{8}","[1-9a-f][0-9a-f]{0,7}"\]\}\n',
    "cgminer": rb'\{"params": \["bc1qexample.axe1", "11", "[0-9a-f]{2}00000000000000", "[0-9a-f]{8}", "[0-9a-f]{8}"\], '
    rb'"id": \d+, "method": "mining.submit"\}\n',
    "s21": rb'\{"params": \["bc1qexample.axe1", "11", "[0-9a-f]{2}00000000000000", "[0-9a-f]{8}", "[0-9a-f]{8}", '
    rb'"[0-9a-f]{8}"\], "id": \d+, "method": "mining.submit"\}\n',
    "cpuminer": rb'\{"method": "mining.submit", "params": \["bc1qexample.axe1", "11", "[0-9a-f]{2}00000000000000", '
    rb'"[0-9a-f]{8}", "[0-9a-f]{8}"\], "id":4\}\n',
}


@pytest.mark.parametrize("model", SUBMITS)
async def test_a_share_is_written_as_the_firmware_writes_it(model: str) -> None:
    difficulty = 2.0**-16 if model == "nerdminer" else 2.0**-18
    async with MockPool(difficulty=difficulty) as pool, mining(pool, model) as device:
        connection = await shares_of(pool, device, 3)
        submits = [line for line in connection.lines if b"mining.submit" in line]
        assert submits
        for line in submits:
            assert re.fullmatch(SUBMITS[model], line), line


async def test_a_device_comes_back_after_the_pool_hangs_up() -> None:
    async with MockPool() as pool, mining(pool, "bitaxe") as device:
        connection = await pool.connection()
        await asyncio.wait_for(device.up.wait(), 10)
        connection.close()
        again = await pool.connection(2)
        await pool.until(lambda: "mining.authorize" in again.methods())
        assert device.firmware.stats.drops == {"closed by the pool": 1}


async def test_a_device_dials_again_until_the_pool_is_there() -> None:
    pool = MockPool()
    await pool.open()
    await pool.shut()
    async with mining(pool, "cgminer", pace=0.001) as device:
        async with asyncio.timeout(10):
            while device.firmware.stats.failed_connects < 3:
                device.dialled.clear()
                await device.dialled.wait()
        await pool.open()
        await pool.connection()
        await asyncio.wait_for(device.up.wait(), 10)
        await pool.shut()


async def test_cgminer_leaves_a_silent_pool_after_its_ninety_seconds() -> None:
    async with MockPool() as pool, mining(pool, "cgminer", pace=0.002) as device:
        await pool.connection(2, 10)
        assert device.firmware.stats.drops == {"silence": 1}


async def test_nerdminer_suggests_again_when_nothing_happens() -> None:
    async with MockPool() as pool, mining(pool, "nerdminer", pace=0.002):
        connection = await pool.connection()
        await pool.until(lambda: len(connection.of("mining.suggest_difficulty")) >= 3)
        assert len(pool.connections) == 1


async def test_a_crash_is_raised_when_strict_and_counted_with_a_reboot_otherwise() -> None:
    async with MockPool() as pool:
        pool.say["mining.authorize"] = lambda connection, request: b"\n"
        firmware = make_firmware("luckyminer", Login(USER))
        device = Device(firmware, Endpoint("127.0.0.1", pool.port), pace=0.001, strict=True)
        with pytest.raises(FirmwareCrash, match="empty line"):
            await asyncio.wait_for(device.run(), 10)
        firmware = make_firmware("luckyminer", Login(USER))
        device = Device(firmware, Endpoint("127.0.0.1", pool.port), pace=0.001)
        task = asyncio.create_task(device.run())
        await pool.connection(4)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert device.firmware.stats.crashes["an empty line"] >= 2


async def test_a_bitaxe_goes_to_its_fallback_and_comes_home_when_a_probe_hears_of_work() -> None:
    async with MockPool() as away:
        home = MockPool()
        await home.open()
        firmware = BitAxe(Login(USER))
        here, there = Endpoint("127.0.0.1", home.port), Endpoint("127.0.0.1", away.port)
        device = FallbackDevice(firmware, here, there, pace=0.002)
        task = asyncio.create_task(device.run())
        try:
            await home.connection()
            await asyncio.wait_for(device.up.wait(), 10)
            await home.shut()
            await away.connection()
            assert not device.at_home
            # A pool whose subscribe reply lists nothing looks dead to the probe.
            empty = b'{"id":1,"result":[[],"00000001",8],"error":null}\n'
            home.say["mining.subscribe"] = lambda connection, request: empty
            home.say["mining.authorize"] = lambda connection, request: None
            await home.open()
            probe = await home.connection(2)
            await home.until(lambda: probe.ended)
            assert probe.lines == [
                b'{"id":1,"method":"mining.subscribe","params":["bitaxe/BM1370/v2.15.0"]}\n',
                b'{"id":2,"method":"mining.authorize","params":["bc1qexample.axe1","x"]}\n',
            ]
            assert not device.at_home
            home.say.clear()
            await home.until(lambda: home.connections[-1].authorised and device.at_home)
            assert device.probes_answered == 1
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await home.shut()


async def test_a_fleet_shares_its_hashes_out_and_keeps_to_its_part_of_a_core() -> None:
    async with MockPool() as pool:
        endpoint = Endpoint("127.0.0.1", pool.port)
        fleet = make_fleet(CLUB, endpoint, ["bc1qexample"], count=8, total_hs=400_000, pace=0.01, strict=True)
        fleet.devices[0].limit_hs = 5000.0
        task, begun = asyncio.create_task(fleet.run()), time.perf_counter()
        await asyncio.gather(*(asyncio.wait_for(device.up.wait(), 10) for device in fleet.devices))
        hashes, busy_s, start = fleet.stats().hashes, fleet.furnace.busy_s, time.perf_counter()
        await pool.until(lambda: sum(len(c.verdicts) for c in pool.connections) > 60, what="60 shares")
        seconds = time.perf_counter() - start
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert 0 < fleet.devices[0].firmware.stats.hashes <= 5000 * (time.perf_counter() - begun + 0.25)
        assert fleet.stats().hashes - hashes <= 400_000 * (seconds + 0.25)
        assert fleet.furnace.busy_s - busy_s <= 0.25 * seconds + 0.05
        summary = fleet.summary()
        assert summary.accepted > 30
        assert not summary.pool_faults
        assert not summary.crashes
        users = {request["params"][0] for c in pool.connections for request in c.of("mining.authorize")}
        assert len(users) == 8
        assert json.loads(json.dumps(summary.as_dict()))["devices"] == 8


@pytest.mark.parametrize(("total_hs", "share"), [(0, 0.25), (1e5, 0), (1e5, 1.5), (float("nan"), 0.25)])
def test_a_fleet_refuses_an_impossible_budget(total_hs: float, share: float) -> None:
    with pytest.raises(ValueError, match="share of a core"):
        Furnace(total_hs, share)
