"""A small scripted Stratum server whose judge is the oracle: well behaved unless a test tells it not to be.

    async with MockPool() as pool:
        ...                       # devices connect to pool.port
        pool.notify(clean=True)   # to every connection

`say` replaces the reply to a method: pool.say["mining.subscribe"] = lambda connection, request: b"\\n".
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from pool.records import Verdict
from rig.reference import RefJob
from rig.reference_judge import RefConnection, RefPool, read_submit

Reply = Callable[["MockConnection", dict[str, Any]], bytes | None]

EASY_NBITS = 0x1D00FFFF
COINB1 = bytes.fromhex("0200000001" + "00" * 32 + "ffffffff" + "1a" + "0341d10c")
COINB2 = bytes.fromhex("092f6578616d706c652f" + "ff" * 4 + "01" + "00f2052a01000000" + "160014" + "11" * 20 + "00" * 4)
CAPACITY = 4096
#: Assigned unless a test says otherwise: one hash in 16,384.
DIFFICULTY = 2.0**-18


@dataclass
class MockConnection:
    """One client: every line it sent, what the oracle thinks of it, and its socket."""

    pool: MockPool
    writer: asyncio.StreamWriter
    ref: RefConnection
    lines: list[bytes] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    authorised: bool = False
    difficulty_sent: float = 0.0
    ended: bool = False

    def send(self, data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)

    def send_job(self, job: RefJob, difficulty: float, *, clean: bool) -> None:
        """set_difficulty (when it changed) and notify in one write."""
        head = b""
        if difficulty != self.difficulty_sent:
            head = f'{{"id":null,"method":"mining.set_difficulty","params":[{difficulty!r}]}}\n'.encode()
            self.difficulty_sent = difficulty
        self.ref.send_job(job, difficulty)
        self.send(head + job.notify(clean))

    def methods(self) -> list[str]:
        return [str(request.get("method")) for request in self.requests]

    def of(self, method: str) -> list[dict[str, Any]]:
        """All requests of one method."""
        return [request for request in self.requests if request.get("method") == method]

    def close(self) -> None:
        self.writer.close()


class MockPool:
    """Listens on loopback, any free port."""

    def __init__(self, *, difficulty: float = DIFFICULTY, extranonce2_size: int = 8, mask: int = 0x1FFFE000) -> None:
        self.difficulty = difficulty
        self.extranonce2_size = extranonce2_size
        self.mask = mask
        self.ref = RefPool()
        self.say: dict[str, Reply] = {}
        self.connections: list[MockConnection] = []
        self.port = 0
        self.version = 0x20000000
        self.coinb1, self.coinb2 = COINB1, COINB2
        self.branches: tuple[bytes, ...] = (b"\x22" * 32, b"\x33" * 32)
        self.authorises = True
        self.notify_on_authorize = True
        self._job_number = 0x10
        self._next_extranonce1 = 0xA0000001
        self._changed = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self.job = self.new_job(b"\x01" * 32)
        self.ref.set_tip(self.job.prevhash)

    async def __aenter__(self) -> MockPool:
        await self.open()
        return self

    async def open(self) -> None:
        """Listen; on the same port again after a close."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.shut()

    async def shut(self) -> None:
        """Stop listening and hang up on everybody."""
        if self._server is not None:
            self._server.close()
            for connection in self.connections:
                connection.writer.transport.abort()
            await self.until(lambda: all(connection.ended for connection in self.connections))
            await self._server.wait_closed()
            self._server = None

    # --- work

    def new_job(self, prevhash: bytes | None = None, **changes: Any) -> RefJob:
        """A job of its own: fresh id, and the id in its coinbase."""
        self._job_number += 1
        number = self._job_number
        job = RefJob(
            job_id=number,
            coinb1=self.coinb1[:-4] + number.to_bytes(4, "big"),
            coinb2=self.coinb2,
            branches=self.branches,
            prevhash=self.job.prevhash if prevhash is None else prevhash,
            version=self.version,
            nbits=EASY_NBITS,
            ntime=1_790_000_000,
            ntime_min=1_790_000_000 - 600,
            ntime_max=1_790_000_000 + 7200,
            height=840_001,
        )
        self.job = replace(job, **changes) if changes else job
        self.ref.publish(self.job, CAPACITY)
        return self.job

    def notify(self, *, difficulty: float | None = None, clean: bool = False, **changes: Any) -> RefJob:
        """A new job to every authorised connection; `clean`: on a new previous block."""
        prevhash = self._job_number.to_bytes(32, "little") if clean else None
        job = self.new_job(prevhash, **changes)
        if clean:
            self.ref.set_tip(job.prevhash)
        if difficulty is not None:
            self.difficulty = difficulty
        for connection in self.connections:
            if connection.authorised and not connection.ended:
                connection.send_job(job, self.difficulty, clean=clean)
        return job

    # --- serving

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        extranonce1 = self._next_extranonce1.to_bytes(4, "big")
        self._next_extranonce1 += 1
        connection = MockConnection(self, writer, RefConnection(self.ref, extranonce1))
        self.connections.append(connection)
        try:
            while True:
                line = await reader.readuntil(b"\n")
                connection.lines.append(line)
                self._hear(connection, line)
                await self._tell()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            connection.ended = True
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _hear(self, connection: MockConnection, line: bytes) -> None:
        submit = read_submit(line)
        request = json.loads(line)
        connection.requests.append(request)
        method = str(request.get("method"))
        if method in self.say:
            reply = self.say[method](connection, request)
            if reply is not None:
                connection.send(reply)
            return
        if submit is not None:
            verdict, answer = connection.ref.hear(submit, 1)
            connection.verdicts.append(verdict)
            connection.send(answer)
            return
        answer = self._reply(connection, method, request)
        if request.get("id") is not None:
            connection.send(answer)
        if method == "mining.authorize" and self.authorises:
            connection.authorised = True
            connection.ref.users[request["params"][0].encode()] = (1, 1)
            if self.notify_on_authorize:
                connection.send_job(self.job, self.difficulty, clean=True)

    def _reply(self, connection: MockConnection, method: str, request: dict[str, Any]) -> bytes:
        number = json.dumps(request.get("id"))
        if method == "mining.subscribe":
            result = subscribe_result(connection.ref.extranonce1, self.extranonce2_size)
        elif method == "mining.configure":
            result = f'{{"version-rolling":true,"version-rolling.mask":"{self.mask:08x}"}}'
        elif method in ("mining.authorize", "mining.suggest_difficulty", "mining.extranonce.subscribe"):
            if method == "mining.authorize" and not self.authorises:
                return f'{{"id":{number},"result":false,"error":[24,"Unauthorized worker",null]}}\n'.encode()
            result = "true"
        elif "method" not in request:
            return b""
        else:
            return f'{{"id":{number},"result":null,"error":[20,"Unknown method",null]}}\n'.encode()
        return f'{{"id":{number},"result":{result},"error":null}}\n'.encode()

    # --- waiting

    async def until(self, true: Callable[[], object], wait_s: float = 10.0, what: str = "") -> None:
        """Wait until something that came in makes `true()` so. AssertionError after `wait_s`."""
        try:
            async with asyncio.timeout(wait_s), self._changed:
                await self._changed.wait_for(lambda: bool(true()))
        except TimeoutError:
            heard = [connection.lines[-3:] for connection in self.connections]
            raise AssertionError(f"waited {wait_s} s for {what or 'something'}; heard {heard}") from None

    async def connection(self, count: int = 1, wait_s: float = 10.0) -> MockConnection:
        """The newest connection, once there were `count`."""
        await self.until(lambda: len(self.connections) >= count, wait_s, f"connection {count}")
        return self.connections[-1]


def subscribe_result(extranonce1: bytes, size: int) -> str:
    pairs = '[["mining.set_difficulty","0102030405060708"],["mining.notify","0102030405060708"]]'
    return f'[{pairs},"{extranonce1.hex()}",{size}]'
