"""One simulated device on a real socket: dials, speaks as its firmware does, mines when told to, comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from pool.dev.fleet.firmware import Firmware, FirmwareCrash, LinkDropped

log = logging.getLogger(__name__)

CONNECT_S = 5.0
LINE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A pool as the device's owner typed it in."""

    host: str
    port: int


class Device:
    """`firmware` on a socket. `pace` stretches or shrinks all of the device's waits (tests: 0.01)."""

    def __init__(
        self,
        firmware: Firmware,
        pool: Endpoint,
        *,
        name: str = "",
        pace: float = 1.0,
        strict: bool = False,
        weight: float = 1.0,
        limit_hs: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.firmware = firmware
        self.pool = pool
        self.name = name or firmware.model
        self.pace = pace
        self.strict = strict
        self.weight = weight
        self.limit_hs = limit_hs
        self.up = asyncio.Event()  # set while authorised with a job
        self.dialled = asyncio.Event()  # set at each dial that got nowhere; whoever waits clears it
        self.heard = asyncio.Event()  # set at each line; whoever waits clears it
        self._clock = clock
        self._writer: asyncio.StreamWriter | None = None
        self._wake = asyncio.Event()
        self._ended: Exception | None = None

    # --- life

    async def run(self) -> None:
        """Connect and mine until cancelled. Raises FirmwareCrash if `strict`."""
        while True:
            wait_s = await self.once(self.pool)
            await asyncio.sleep(wait_s * self.pace)

    async def once(self, pool: Endpoint) -> float:
        """One connection, from dial to end; seconds that the firmware waits before the next."""
        firmware, stats = self.firmware, self.firmware.stats
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(pool.host, pool.port, limit=LINE_LIMIT)
        except (OSError, TimeoutError):
            stats.failed_connects += 1
            self.dialled.set()
            return firmware.retry_wait()
        try:
            await self._converse(reader, writer)
        except LinkDropped as end:
            stats.drops[end.why] += 1
            return end.back_off_s
        except FirmwareCrash as crash:
            stats.crashes[crash.what] += 1
            if self.strict:
                raise
            log.warning("simulated device %s crashed: %s", self.name, crash)
            firmware.reboot()
            return firmware.reboot_s
        except (ConnectionError, asyncio.IncompleteReadError):
            stats.drops["closed by the pool"] += 1
            return firmware.lost_back_off_s
        finally:
            self.up.clear()
            self._writer = None
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):  # what is queued may never be read
                    await writer.wait_closed()
        raise AssertionError("a conversation ends by exception")

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer, self._ended = writer, None
        self._wake.clear()
        self.firmware.connected()
        self._heard_at = self._clock()
        tasks = [asyncio.create_task(self._write(writer)), asyncio.create_task(self._tick(writer))]
        try:
            self._wake.set()
            wait_s = self.firmware.reply_wait_s
            while True:
                line = await self._line(reader, wait_s)
                wait_s = None
                self._heard_at = self._clock()
                self.firmware.hear(line[:-1])
                self._after()
        except (ConnectionError, asyncio.IncompleteReadError):
            if self._ended is not None:
                raise self._ended from None
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _line(self, reader: asyncio.StreamReader, wait_s: float | None) -> bytes:
        """The next line; the first must come within the firmware's patience."""
        try:
            async with asyncio.timeout(wait_s):  # real time: the pool does not run at our pace
                return await reader.readuntil(b"\n")
        except TimeoutError:
            raise LinkDropped("no reply in time", self.firmware.lost_back_off_s) from None
        except asyncio.LimitOverrunError:
            raise LinkDropped("an endless line", self.firmware.lost_back_off_s) from None

    def _after(self) -> None:
        self.heard.set()
        if self.firmware.out:
            self._wake.set()
        if self.firmware.working:
            self.up.set()

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        """Everything the firmware says, in order, one write each, after the pauses it makes."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self.firmware.out:
                    say = self.firmware.out.popleft()
                    if say.after_s:
                        await asyncio.sleep(say.after_s * self.pace)
                    writer.write(say.data)
                await writer.drain()
        except ConnectionError:
            writer.close()

    async def _tick(self, writer: asyncio.StreamWriter) -> None:
        """Once a second of the device's time: has the pool been silent for too long?"""
        while True:
            await asyncio.sleep(self.pace)
            try:
                self.firmware.idle((self._clock() - self._heard_at) / self.pace)
            except (LinkDropped, FirmwareCrash) as end:
                self._end(end, writer)
                return
            self._after()

    def _end(self, why: Exception, writer: asyncio.StreamWriter) -> None:
        """Hang up from within; the reader then raises `why`."""
        self._ended = why
        writer.transport.abort()

    # --- work

    @property
    def mining(self) -> bool:
        return self._writer is not None and self.firmware.working

    def mine(self, hashes: int) -> None:
        """Hash now, on the caller's time; shares are written by the connection's own task."""
        if not self.mining:
            return
        self.firmware.mine(hashes)
        self._after()
