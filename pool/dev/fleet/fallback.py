"""BitAxe's second pool: three failures and it moves over, from there it probes the first one and comes home."""

from __future__ import annotations

import asyncio
import logging

from pool.dev.fleet.bitaxe import BitAxe
from pool.dev.fleet.device import CONNECT_S, Device, Endpoint

log = logging.getLogger(__name__)

FAILURES = 3  # attempts before the other pool is tried
PROBE_S = 60.0  # while on the fallback
DEAD_PROBE_S = 30.0  # while no pool answers: the chip is off
PROBE_BYTES = 1023  # one read, no more
PROBE_READ_S = 5.0


class FallbackDevice(Device):
    """A BitAxe with two pools. `at_home` tells which one it is on."""

    def __init__(
        self, firmware: BitAxe, pool: Endpoint, fallback: Endpoint, *, name: str = "", pace: float = 1.0
    ) -> None:
        super().__init__(firmware, pool, name=name, pace=pace)
        self.fallback = fallback
        self.at_home = True
        self.probes = 0
        self.probes_answered = 0
        self.moves = 0

    async def run(self) -> None:
        """Mine at home; move over when home is dead, and back when a probe finds it alive."""
        while True:
            await self._until_dead(self.pool)
            self._move(at_home=False)
            home_again = asyncio.create_task(self._probe_home(PROBE_S))
            away = asyncio.create_task(self._until_dead(self.fallback))
            try:
                await asyncio.wait({home_again, away}, return_when=asyncio.FIRST_COMPLETED)
                if home_again.done():
                    home_again.result()
                elif away.done():
                    away.result()
                    home_again.cancel()
                    await asyncio.gather(home_again, return_exceptions=True)
                    await self._probe_home(DEAD_PROBE_S)
            finally:
                for task in (home_again, away):
                    task.cancel()
                await asyncio.gather(home_again, away, return_exceptions=True)
            self._move(at_home=True)

    def _move(self, *, at_home: bool) -> None:
        self.at_home = at_home
        self.moves += 1

    async def _until_dead(self, pool: Endpoint) -> None:
        """Sessions on one pool until three dials in a row got nowhere."""
        failures = 0
        while failures < FAILURES:
            before = self.firmware.stats.connects
            wait_s = await self.once(pool)
            failures = 0 if self.firmware.stats.connects > before else failures + 1
            if failures < FAILURES:
                await asyncio.sleep(wait_s * self.pace)

    async def _probe_home(self, every_s: float) -> None:
        """Returns when the first pool answers a probe."""
        while True:
            await asyncio.sleep(every_s * self.pace)
            self.probes += 1
            if await probe(self.pool, self.firmware.user_agent, self.firmware.login.user, self.firmware.login.password):
                self.probes_answered += 1
                return


async def probe(pool: Endpoint, agent: str, user: str, password: str) -> bool:
    """Subscribe and authorize, one read: alive only if that very chunk speaks of mining.notify."""
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(pool.host, pool.port)
    except (OSError, TimeoutError):
        return False
    try:
        writer.write(f'{{"id":1,"method":"mining.subscribe","params":["{agent}"]}}\n'.encode())
        writer.write(f'{{"id":2,"method":"mining.authorize","params":["{user}","{password}"]}}\n'.encode())
        async with asyncio.timeout(PROBE_READ_S):
            return b"mining.notify" in await reader.read(PROBE_BYTES)
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()
