"""Many simulated devices against one pool, on a small part of one core: the budget of hashes and the sums."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from pool.dev.fleet.device import Device, Endpoint
from pool.dev.fleet.firmware import Login
from pool.dev.fleet.models import WEIGHTS, make_firmware
from pool.dev.fleet.stats import Stats

#: Part of one core that a fleet may use, whatever rate was asked for.
CORE_SHARE = 0.25
TURN_S = 0.05
HASHES_PER_DIFFICULTY = 2**48 / 0xFFFF
#: Hashes of one device at a stretch: about 1 ms, so that an event loop shared with a pool stays quick.
STRETCH = 8192


class Furnace:
    """Shares `total_hs` hashes a second out among devices by weight, never using more than `core_share` of a core."""

    def __init__(self, total_hs: float, core_share: float = CORE_SHARE) -> None:
        if not total_hs > 0 or not 0 < core_share <= 1:
            raise ValueError(f"need a rate above 0 and a share of a core in (0, 1], got {total_hs} and {core_share}")
        self.total_hs = total_hs
        self.core_share = core_share
        self.busy_s = 0.0
        self._speed_hs = 1e6  # hashes per second of CPU time, as measured

    async def run(self, devices: Sequence[Device]) -> None:
        """Until cancelled."""
        before = time.perf_counter()
        while True:
            now = time.perf_counter()
            # A stall of the machine must not be made good by one long burst.
            elapsed, before = min(now - before, 4 * TURN_S), now
            busy = await self._turn([device for device in devices if device.mining], elapsed)
            self.busy_s += busy
            await asyncio.sleep(max(TURN_S - busy, busy * (1.0 / self.core_share - 1.0)))

    async def _turn(self, mining: list[Device], elapsed_s: float) -> float:
        """Every mining device its part of what the time that passed, and the core's share, allow; CPU seconds used."""
        total = min(self.total_hs, self._speed_hs * self.core_share) * elapsed_s
        weights = sum(device.weight for device in mining)
        busy, hashes = 0.0, 0
        for device in mining:
            left = round(min(total * device.weight / weights, device.limit_hs * elapsed_s))
            while left > 0:
                stretch = min(left, STRETCH)
                start = time.perf_counter()
                device.mine(stretch)
                busy += time.perf_counter() - start
                left, hashes = left - stretch, hashes + stretch
                await asyncio.sleep(0)
        if hashes >= STRETCH:
            self._speed_hs += 0.2 * (hashes / busy - self._speed_hs)
        return busy


@dataclass(frozen=True, slots=True)
class Summary:
    """A fleet at one moment, for people and for JSON."""

    seconds: float
    devices: int
    mining: int
    hashrate_hs: float
    submitted: int
    accepted: int
    accepted_difficulty: float
    repeats: int
    old_ground: int
    rejected: dict[str, int]
    pool_faults: dict[str, int]
    crashes: dict[str, int]
    drops: dict[str, int]
    connects: int
    failed_connects: int
    untracked: int
    best_difficulty: float

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class Fleet:
    """Devices and their furnace."""

    def __init__(self, devices: Iterable[Device], furnace: Furnace) -> None:
        self.devices = list(devices)
        self.furnace = furnace
        self.started = time.monotonic()

    async def run(self) -> None:
        """All devices and the furnace until cancelled; the first one that raises ends them all."""
        self.started = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for device in self.devices:
                tasks.create_task(device.run(), name=f"fleet {device.name}")
            tasks.create_task(self.furnace.run(self.devices), name="fleet furnace")

    def stats(self) -> Stats:
        total = Stats()
        for device in self.devices:
            total.add(device.firmware.stats)
        return total

    def summary(self) -> Summary:
        seconds = max(time.monotonic() - self.started, 1e-9)
        stats = self.stats()
        return Summary(
            seconds=round(seconds, 3),
            devices=len(self.devices),
            mining=sum(device.mining for device in self.devices),
            hashrate_hs=round(stats.hashes / seconds, 1),
            submitted=stats.submitted,
            accepted=stats.accepted,
            accepted_difficulty=stats.accepted_difficulty,
            repeats=stats.repeats,
            old_ground=stats.old_ground,
            rejected=dict(stats.rejected),
            pool_faults=dict(stats.pool_faults),
            crashes=dict(stats.crashes),
            drops=dict(stats.drops),
            connects=stats.connects,
            failed_connects=stats.failed_connects,
            untracked=stats.untracked,
            best_difficulty=stats.best_difficulty,
        )


def make_fleet(
    models: Sequence[str],
    pool: Endpoint,
    users: Sequence[str],
    *,
    count: int,
    total_hs: float,
    password: str = "x",  # noqa: S107 - what every miner sends
    firmware_suggestions: bool = False,
    core_share: float = CORE_SHARE,
    pace: float = 1.0,
    strict: bool = False,
) -> Fleet:
    """`count` devices, models and users in turn, each a worker named after its model. ValueError: unknown model.

    Devices that suggest a difficulty suggest one that suits their simulated rate; with `firmware_suggestions` the
    number that the real device would, at which a simulated one finds nothing for hours.
    """
    if not models or not users or count < 1:
        raise ValueError("a fleet needs at least one device, one model and one user")
    furnace = Furnace(total_hs, core_share)
    chosen = [models[number % len(models)] for number in range(count)]
    weights = [WEIGHTS.get(model, 1.0) for model in chosen]
    devices = []
    for number, (model, weight) in enumerate(zip(chosen, weights, strict=True)):
        name = f"{model.replace('.', '')}-{number + 1}"
        rate_hs = total_hs * weight / sum(weights)
        suggest = None if firmware_suggestions else suggestion(rate_hs)
        login = Login(f"{users[number % len(users)]}.{name}", password, suggest=suggest)
        device = Device(make_firmware(model, login), pool, name=name, pace=pace, strict=strict, weight=weight)
        devices.append(device)
    return Fleet(devices, furnace)


def suggestion(rate_hs: float) -> float:
    """A difficulty at which this rate finds a share about every five seconds, at least 2^-16, in four digits."""
    return float(f"{max(rate_hs * 5.0 / HASHES_PER_DIFFICULTY, 2.0**-16):.4g}")
