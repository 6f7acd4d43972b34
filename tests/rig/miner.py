"""A scripted miner on a real socket: says what it is told, keeps every line it hears, finds shares of a wished quality.

    miner = await Miner.connect(port)
    await miner.enter("bc1q....axe")              # subscribe, configure, authorize, first job
    reply = await miner.submit(miner.share())     # {"id": 4, "result": True, "error": None}
    await miner.close()
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl as tls
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from native.hashing import search
from pool.dev.fleet.job import MinerJob, parse_job
from rig.reference import difficulty_of_target, hash_int, sha256d, target_of_difficulty, target_of_nbits

WAIT_S = 5.0


@dataclass(frozen=True)
class Share:
    """The fields of one submit, as numbers; `params` writes them the usual way."""

    user: str
    job: MinerJob
    extranonce2: bytes
    ntime: int
    nonce: int
    bits: int | None = None  # None: five parameters

    @property
    def params(self) -> list[str]:
        five = [self.user, self.job.job_id, self.extranonce2.hex(), f"{self.ntime:08x}", f"{self.nonce:08x}"]
        return five if self.bits is None else [*five, f"{self.bits:08x}"]

    @property
    def header(self) -> bytes:
        front = self.job.front(self.extranonce2, self.job.version ^ (self.bits or 0), self.ntime)
        return front + self.nonce.to_bytes(4, "little")

    @property
    def hash_le(self) -> bytes:
        return sha256d(self.header)

    @property
    def difficulty(self) -> float:
        return difficulty_of_target(hash_int(self.hash_le))


@dataclass
class Miner:
    """One connection. Everything heard is kept in `lines` (raw) and `messages` (parsed), in order."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    user: str = ""
    lines: list[bytes] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    jobs: list[MinerJob] = field(default_factory=list)
    difficulties: list[float] = field(default_factory=list)
    extranonce1: bytes = b""
    extranonce2_size: int = 0
    session_id: str = ""
    closed: bool = False  # the pool hung up
    next_id: int = 1
    _extranonce2: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _task: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, port: int, host: str = "127.0.0.1", *, ssl: tls.SSLContext | None = None) -> Miner:
        async with asyncio.timeout(WAIT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=ssl, limit=1 << 20)
        miner = cls(reader, writer)
        miner._task = asyncio.create_task(miner._listen())
        return miner

    async def __aenter__(self) -> Miner:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(WAIT_S):
                await self.writer.wait_closed()

    # --- hearing

    async def _listen(self) -> None:
        try:
            while True:
                line = await self.reader.readuntil(b"\n")
                self._hear(line)
                async with self._changed:
                    self._changed.notify_all()
        except (asyncio.IncompleteReadError, ConnectionError, tls.SSLError):
            self.closed = True
            async with self._changed:
                self._changed.notify_all()

    def _hear(self, line: bytes) -> None:
        self.lines.append(line)
        message = json.loads(line)
        self.messages.append(message)
        method, params = message.get("method"), message.get("params")
        if method == "mining.set_difficulty":
            self.difficulties.append(float(params[0]))
        elif method == "mining.set_extranonce":
            self.extranonce1, self.extranonce2_size = bytes.fromhex(params[0]), params[1]
        elif method == "mining.notify":
            assigned = self.difficulties[-1] if self.difficulties else 0.0
            self.jobs.append(parse_job(params, len(self.jobs) + 1, self.extranonce1, assigned))

    async def until(self, true: Callable[[], object], wait_s: float = WAIT_S, what: str = "") -> None:
        """Wait until something heard makes `true()` so. AssertionError after `wait_s`."""
        try:
            async with asyncio.timeout(wait_s), self._changed:
                await self._changed.wait_for(lambda: bool(true()))
        except TimeoutError:
            tail = [line.decode("utf-8", "replace")[:200] for line in self.lines[-5:]]
            raise AssertionError(f"waited {wait_s} s for {what or 'something'}; last heard {tail}") from None

    def replies(self, id_value: object) -> list[dict[str, Any]]:
        """Everything answered under this id (1, 1.0 and True are different ids)."""
        return [m for m in self.messages if "method" not in m and repr(m.get("id")) == repr(id_value)]

    async def reply(self, id_value: object, nth: int = 1, wait_s: float = WAIT_S) -> dict[str, Any]:
        """The nth answer under this id."""
        await self.until(lambda: len(self.replies(id_value)) >= nth, wait_s, f"answer {nth} to id {id_value!r}")
        return self.replies(id_value)[nth - 1]

    async def job(self, count: int = 1, wait_s: float = WAIT_S) -> MinerJob:
        """The newest job, once at least `count` came."""
        await self.until(lambda: len(self.jobs) >= count, wait_s, f"job {count}")
        return self.jobs[-1]

    async def hung_up(self, wait_s: float = WAIT_S) -> None:
        """Wait until the pool has closed this connection."""
        await self.until(lambda: self.closed, wait_s, "the pool to hang up")

    async def answered(self, wait_s: float = WAIT_S) -> None:
        """Wait until the pool has dealt with all that was sent so far: a question of our own comes back."""
        await self.ask("mining.suggest_difficulty", [0], wait_s=wait_s)

    # --- saying

    async def send(self, data: bytes) -> None:
        """Raw bytes, as they are."""
        self.writer.write(data)
        await self.writer.drain()

    def new_id(self) -> int:
        self.next_id += 1
        return self.next_id - 1

    async def ask(
        self, method: str, params: list[Any], *, id_value: Any = None, wait_s: float = WAIT_S
    ) -> dict[str, Any]:
        """One request and its answer."""
        id_value = self.new_id() if id_value is None else id_value
        nth = len(self.replies(id_value)) + 1
        await self.send(json.dumps({"id": id_value, "method": method, "params": params}).encode() + b"\n")
        return await self.reply(id_value, nth, wait_s)

    async def subscribe(self, agent: str = "rig/1.0", session_id: str | None = None) -> dict[str, Any]:
        params = [agent] if session_id is None else [agent, session_id]
        reply = await self.ask("mining.subscribe", params)
        subscriptions, extranonce1, self.extranonce2_size = reply["result"]
        self.extranonce1 = bytes.fromhex(extranonce1)
        self.session_id = next((pair[1] for pair in subscriptions if pair[0] == "mining.notify"), "")
        return reply

    async def configure(self, mask: str = "ffffffff") -> dict[str, Any]:
        return await self.ask("mining.configure", [["version-rolling"], {"version-rolling.mask": mask}])

    async def authorize(self, user: str, password: str = "x") -> dict[str, Any]:  # noqa: S107
        reply = await self.ask("mining.authorize", [user, password])
        if reply.get("result") is True and not self.user:
            self.user = user
        return reply

    async def enter(
        self, user: str, password: str = "x", agent: str = "rig/1.0", *, suggest: float | None = None  # noqa: S107
    ) -> MinerJob:
        """Subscribe, configure, (suggest,) authorize; the first job."""
        await self.subscribe(agent)
        await self.configure()
        if suggest is not None:
            await self.ask("mining.suggest_difficulty", [suggest])
        reply = await self.authorize(user, password)
        assert reply["result"] is True, reply
        return await self.job()

    # --- shares

    def share(
        self,
        job: MinerJob | None = None,
        *,
        difficulty: float | None = None,
        below: float | None = None,
        bits: int | None = 0,
        extranonce2: bytes | None = None,
        ntime: int | None = None,
        block: bool = False,
        user: str | None = None,
    ) -> Share:
        """A new share of `job` (the newest) that meets `difficulty` (the assigned one), or of a `block`.

        `below`: it must not meet this difficulty. Real hashing: keep difficulties near 2^-16.
        """
        job = job or self.jobs[-1]
        goal = job.assigned if difficulty is None else difficulty
        target = target_of_nbits(job.nbits) if block else target_of_difficulty(goal)
        if extranonce2 is None:
            self._extranonce2 += 1
            extranonce2 = self._extranonce2.to_bytes(self.extranonce2_size, "big")
        share = Share(user or self.user, job, extranonce2, ntime or job.ntime, 0, bits)
        start = 0
        while (nonce := search(share.header, target, start, (1 << 32) - start)) is not None:
            share = replace(share, nonce=nonce)
            if below is None or hash_int(share.hash_le) > target_of_difficulty(below):
                return share
            start = nonce + 1
        raise AssertionError(f"no nonce of {(1 << 32)} meets difficulty {goal}")

    def low_share(self, job: MinerJob | None = None, **fields: Any) -> Share:
        """A share that misses the assigned difficulty."""
        job = job or self.jobs[-1]
        return self.share(job, difficulty=2.0**-20, below=job.assigned, **fields)

    async def submit(self, share: Share, *, id_value: Any = None, wait_s: float = WAIT_S) -> dict[str, Any]:
        return await self.ask("mining.submit", list(share.params), id_value=id_value, wait_s=wait_s)
