"""The life of a process: rooms open in order, close in reverse; a signal ends it, or a dead room with exit code 1.

async def serve(house: House) -> None:
    store = await house.open("store", Store(url))
    house.background("templates", follower.run())
    await house.open("stratum", server)          # doors open last, close first
sys.exit(run(serve))
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TypeVar

import uvloop

T = TypeVar("T")
log = logging.getLogger(__name__)

#: A room that does not close within this time is left behind, and the exit code says so.
CLOSE_S = 20.0


class House:
    """What `run` hands to the function that opens the rooms."""

    def __init__(self, close_s: float = CLOSE_S) -> None:
        self.stop = asyncio.Event()
        self.failed = False
        self.stuck = False
        self._close_s = close_s
        self._rooms = AsyncExitStack()
        self._hangup: list[Callable[[], None]] = []

    # --- for whoever opens the rooms
    async def open(self, name: str, room: AbstractAsyncContextManager[T]) -> T:
        """Enter a room; it is left when all that was opened or started after it has ended."""
        log.debug("opening %s", name)
        opened = await room.__aenter__()
        self._rooms.push_async_callback(self._leave, name, room)
        return opened

    def background(self, name: str, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run `work` until the house closes. If it ends before that, even by a return, the process ends with 1."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._rooms.push_async_callback(self._cancel, name, task)
        return task

    def on_hangup(self, act: Callable[[], None]) -> None:
        """Call `act` on SIGHUP (read certificates again, say). An exception of it is logged, the process goes on."""
        self._hangup.append(act)

    def fail(self, why: str) -> None:
        """Something that cannot go on: end the process in order, exit code 1."""
        log.error("ending: %s", why)
        self.failed = True
        self.stop.set()

    # --- how it ends
    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            if not self.stop.is_set():
                self.fail(f"{task.get_name()} was cancelled")
            return
        error = task.exception()
        if error is not None:
            log.error("%s died", task.get_name(), exc_info=error)
            self.fail(f"{task.get_name()} died")
        elif not self.stop.is_set():
            self.fail(f"{task.get_name()} ended by itself")

    async def _leave(self, name: str, room: AbstractAsyncContextManager[object]) -> None:
        log.debug("closing %s", name)
        try:
            async with asyncio.timeout(self._close_s):
                await room.__aexit__(None, None, None)
        except TimeoutError:
            log.error("%s did not close within %g s", name, self._close_s)
            self.failed = self.stuck = True
        except Exception:
            log.exception("%s failed while closing", name)
            self.failed = True

    async def _cancel(self, name: str, task: asyncio.Task[None]) -> None:
        task.cancel()
        done, _ = await asyncio.wait((task,), timeout=self._close_s)  # its exception was told by _ended
        if not done:
            log.error("%s did not end within %g s", name, self._close_s)
            self.failed = self.stuck = True

    def hang_up(self) -> None:
        for act in self._hangup:
            try:
                act()
            except Exception:
                log.exception("SIGHUP: %r failed", act)

    async def close(self) -> None:
        """Leave everything, newest first."""
        self.stop.set()
        await self._rooms.aclose()


def run(opening: Callable[[House], Awaitable[None]], *, close_s: float = CLOSE_S) -> int:
    """Open the rooms on a fresh uvloop, wait for SIGTERM, SIGINT or a dead room, close in reverse; the exit code.

    0: asked to stop. 1: a room died or would not close. A room that cannot open raises its own exception here, when all
    others have closed again. A second signal ends the process at once."""
    os.umask(0o077)  # addresses, balances, keys: what the pool writes is for its own user alone
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        house = runner.run(_live(opening, close_s))
        if house.stuck:
            # Something would not end when asked, and the Runner would wait for it and its threads for ever.
            for handler in logging.getLogger().handlers:
                handler.close()
            os._exit(1)
    return 1 if house.failed else 0


async def _live(opening: Callable[[House], Awaitable[None]], close_s: float) -> House:
    house = House(close_s)
    loop = asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        if house.stop.is_set():
            log.warning("second %s: ending at once", number.name)
            os._exit(128 + number)
        log.info("%s: closing", number.name)
        house.stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)
    loop.add_signal_handler(signal.SIGHUP, house.hang_up)
    try:
        await _open_and_wait(house, opening)
    finally:
        await house.close()
    return house


async def _open_and_wait(house: House, opening: Callable[[House], Awaitable[None]]) -> None:
    """Until asked to stop. An exception while opening is raised here, when all that had opened may still be closed."""

    async def open_all() -> None:
        await opening(house)

    opened = asyncio.create_task(open_all(), name="opening")
    stopped = asyncio.create_task(house.stop.wait(), name="stop")
    try:
        await asyncio.wait((opened, stopped), return_when=asyncio.FIRST_COMPLETED)
        if opened.done():
            await opened
            await stopped
    finally:
        opened.cancel()
        stopped.cancel()
        await asyncio.wait((opened, stopped))
