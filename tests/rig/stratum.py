"""A whole stratum server on a free loopback port, over work and a clock that the test holds."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from native.channel import Found
from native.sharelog import Segment, ShareLog, segments
from pool.config import StratumSection, VardiffSection
from pool.records import SavedSession
from pool.stratum.hub import Hub, Port, make_hub
from pool.stratum.methods import hear
from pool.stratum.resume import LoadSession
from pool.stratum.server import StratumServer
from pool.stratum.session import Session
from pool.stratum.supply import Supply
from pool.stratum.takeover import Inheritance
from rig.miner import Miner
from rig.work import RigWork

ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
ADDRESS_2 = "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry"
TINY = 2.0**-16
SETTINGS = StratumSection(host="127.0.0.1", port=0, high_difficulty_port=0, nerdminer_port=0)
VARDIFF = VardiffSection(start_difficulty=TINY)


@dataclass
class Clock:
    """Monotonic time that a test may move on."""

    skipped_s: float = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.skipped_s

    def skip(self, seconds: float) -> None:
        self.skipped_s += seconds


@dataclass
class StoredSessions:
    """A store of sessions that outlives a server."""

    by_id: dict[str, SavedSession] = field(default_factory=dict)
    saves: int = 0
    failing: bool = False

    async def save(self, saved: list[SavedSession]) -> None:
        if self.failing:
            raise OSError("the database is down")
        self.saves += 1
        for one in saved:
            self.by_id[one.session_id] = one


@dataclass
class RigPool:
    """A running server and all that it uses."""

    server: StratumServer
    hub: Hub
    work: RigWork
    log: ShareLog
    clock: Clock
    found: list[Found]
    directory: Path
    stored: StoredSessions

    def port(self, name: str = "main") -> int:
        return next(one.number for one in self.server.listeners if one.port.name == name)

    async def connect(self, name: str = "main") -> Miner:
        return await Miner.connect(self.port(name))

    async def until(self, true: object, wait_s: float = 5.0, what: str = "") -> None:
        """Wait until the callable says yes; the server changes state by itself, so this looks often."""
        assert callable(true)
        deadline_s = time.monotonic() + wait_s
        while not true():
            assert time.monotonic() < deadline_s, f"waited {wait_s} s for {what or 'something'}"
            await asyncio.sleep(0.005)

    def rows(self) -> bytes:
        """All rows of the share log so far."""
        rows = b""
        for path in segments(str(self.directory)):
            segment = Segment(path)
            rows += segment.rows()
            segment.close()
        return rows


@contextlib.asynccontextmanager
async def running(
    directory: Path,
    *,
    work: RigWork | None = None,
    ports: tuple[Port, ...] = (Port("main", 0),),
    settings: StratumSection = SETTINGS,
    vardiff: VardiffSection = VARDIFF,
    clock: Clock | None = None,
    stored: StoredSessions | None = None,
    load_session: LoadSession | None = None,
    handover_path: Path | None = None,
    inherited: Inheritance | None = None,
    **changes: object,
) -> AsyncIterator[RigPool]:
    """`changes` are keys of [stratum]."""
    settings = replace(settings, **changes)  # type: ignore[arg-type]
    work, clock, stored = work or RigWork(), clock or Clock(), stored or StoredSessions()
    directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - a test may wait for its own disk
    found: list[Found] = []
    with ShareLog(str(directory), segment_bytes=1 << 20) as log:
        hub = make_hub(
            settings, vardiff, "regtest", work, log, found.append, load_session=load_session, monotonic=clock
        )
        hub.memory.learn(stored.by_id.values(), complete=load_session is None)
        server = StratumServer(hub, ports, save_sessions=stored.save, handover_path=handover_path)
        server.inherit(inherited)
        async with server:
            task = asyncio.create_task(server.run())
            try:
                yield RigPool(server, hub, work, log, clock, found, directory, stored)
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
    server.let_go()


class _NoLink:
    """A session's link without a socket: what it would do is noted."""

    def __init__(self) -> None:
        self.blocked = False
        self.closed = False

    def flush(self) -> None: ...
    def close(self) -> None:
        self.closed = True

    def evict(self) -> None:
        self.closed = True

    def wait_for(self, work: Coroutine[object, object, None]) -> None:
        raise AssertionError("nothing is loaded here")


class LoneSession:
    """A session over real work and a real log, without server or socket."""

    def __init__(self, log: ShareLog) -> None:
        clock = Clock()
        hub = make_hub(SETTINGS, VARDIFF, "regtest", RigWork(), log, lambda found: None, monotonic=clock)
        visitor = hub.door.enter("192.0.2.1", clock())
        assert visitor is not None
        self.link = _NoLink()
        self.session = Session(hub, Supply(hub), Port("main", 0), visitor, self.link, clock())
        self.channel = self.session.channel

    def hear(self, line: bytes) -> None:
        hear(self.session, line)


@contextlib.contextmanager
def lone_session() -> Iterator[LoneSession]:
    with tempfile.TemporaryDirectory() as directory, ShareLog(directory, segment_bytes=1 << 20) as log:
        yield LoneSession(log)
