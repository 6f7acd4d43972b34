"""Starts the development chain as a child process, waits until it answers, and takes it down again."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import aiohttp

log = logging.getLogger(__name__)

START_S = 30.0
STOP_S = 5.0
SHORT_LIFE_S, SHORT_LIVES = 5.0, 3
_POLL_S = 0.02


class RpcError(Exception):
    """An error answer of the node."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


class StartError(RuntimeError, OSError):
    """The chain did not start; the child's words say why. The operator acts (an OSError to whoever tells him)."""


class DevChain:
    """`async with DevChain(mode="strict", datadir=...) as chain`: `.url .user .password .zmq` of a running node.

    Without a datadir it lives in a temporary one. The child ends with this process, however this process ends.
    `network` is that of the settings it is started beside: real ones are refused (RuntimeError with the child's
    words, as for every other start that fails).
    """

    def __init__(
        self,
        mode: str = "demo",
        datadir: Path | None = None,
        *,
        rpcport: int = 0,
        zmqport: int = 0,
        mempool: int = 0,
        spacing_s: float = 20.0,
        network: str = "dev",
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="mmsp-devchain-") if datadir is None else None
        self.datadir = datadir if datadir is not None else Path(str(self._temporary and self._temporary.name))
        self.mode = mode
        self._ports = (rpcport, zmqport)
        self._options = ["--mempool", str(mempool), "--spacing", str(spacing_s), "--network", network]
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._log: asyncio.Task[None] | None = None
        self.url = self.user = self.password = self.zmq = ""

    @property
    def pid(self) -> int:
        """Process id of the running child."""
        if self._process is None:
            raise RuntimeError("the development chain is not running")
        return self._process.pid

    @property
    def cookie_file(self) -> Path:
        """File with user and password, as Bitcoin Core writes it."""
        return self.datadir / ".cookie"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the child and wait until it answers."""
        ready = self._prepare()
        command = [sys.executable, "-m", "pool.dev.devchain", "--mode", self.mode, "--datadir", str(self.datadir)]
        command += ["--rpcport", str(self._ports[0]), "--zmqport", str(self._ports[1]), *self._options]
        command += ["--ready-file", str(ready), "--with-parent"]
        pipe = asyncio.subprocess.PIPE
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_import_path())}
        # In a session of its own: Ctrl-C on a terminal is for the pool, which ends the chain when all else has closed.
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stderr=pipe, env=environment, start_new_session=True
        )
        try:
            await asyncio.wait_for(self._await_ready(ready), START_S)
        except BaseException:
            await self.kill()
            raise
        self._read(ready)
        if self._process.stderr is not None:
            self._log = asyncio.create_task(_pass_on(self._process.stderr))

    def _prepare(self) -> Path:
        """Make the data folder; where the child is to say that it is ready."""
        self.datadir.mkdir(parents=True, exist_ok=True)
        ready = self.datadir / "ready.json"
        ready.unlink(missing_ok=True)
        return ready

    def _read(self, ready: Path) -> None:
        """Take over what the child told."""
        told = json.loads(ready.read_text())
        self.url, self.zmq = told["url"], told["zmq"]
        self.user, _, self.password = self.cookie_file.read_text().partition(":")

    async def _await_ready(self, ready: Path) -> None:
        process = self._process
        assert process is not None
        while not _there(ready):
            if process.returncode is not None:
                words = await process.stderr.read() if process.stderr is not None else b""
                raise StartError(words.decode(errors="replace").strip() or f"devchain ended with {process.returncode}")
            await asyncio.sleep(_POLL_S)

    async def wait(self) -> int:
        """Exit code of the child, when it ends by itself or is ended; for whoever must not go on without it."""
        if self._process is None:
            raise RuntimeError("the development chain is not running")
        return await self._process.wait()

    async def keep(self) -> None:
        """Until cancelled: start the child again, on the same ports, whenever it ended by itself. RuntimeError when it
        does not start, or ends again within seconds of each start: whoever needs it must not go on without it.
        """
        loop, short_lives = asyncio.get_running_loop(), 0
        while True:
            began_s, child = loop.time(), self._process
            code = await self.wait()
            if self._process is not child:
                await asyncio.Event().wait()  # it was stopped on purpose
            short_lives = short_lives + 1 if loop.time() - began_s < SHORT_LIFE_S else 0
            if short_lives >= SHORT_LIVES:
                raise RuntimeError(f"the development chain ended {short_lives} times just after its start ({code})")
            log.warning("the development chain ended (%d): starting it again", code)
            if child is not None:
                await self._let_go(child)
            self._ports = (urlsplit(self.url).port or 0, urlsplit(self.zmq).port or 0)
            await self.start()

    async def kill(self) -> None:
        """kill -9, as a power cut would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Stop the child in order; kill it if it does not listen."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: int) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
        await self._let_go(process)

    async def _let_go(self, process: asyncio.subprocess.Process) -> None:
        """Give back what belonged to a child that has ended."""
        if self._log is not None:
            await self._log
            self._log = None
        if process.stdin is not None:
            process.stdin.close()

    async def close(self) -> None:
        """Stop, and remove a temporary data folder."""
        await self.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    async def call(self, method: str, *params: object, timeout_s: float = 30.0) -> object:
        """One RPC; the result, or RpcError."""
        if self._session is None:
            self._session = aiohttp.ClientSession()
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()  # each start has a new one
        body = {"jsonrpc": "1.0", "id": 0, "method": method, "params": list(params)}
        headers, timeout = {"Authorization": f"Basic {token}"}, aiohttp.ClientTimeout(timeout_s)
        async with self._session.post(self.url, json=body, headers=headers, timeout=timeout) as response:
            answer = await response.json(content_type=None)
        if answer["error"] is not None:
            raise RpcError(answer["error"]["code"], answer["error"]["message"])
        result: object = answer["result"]
        return result


async def _pass_on(words: asyncio.StreamReader) -> None:
    """Put the child's words into our log, so that its pipe never fills."""
    async for line in words:
        log.warning("%s", line.decode(errors="replace").rstrip())


def _there(path: Path) -> bool:
    return path.exists()


def _import_path() -> Sequence[str]:
    """Where the child finds `pool`: where we found it, before what is set already."""
    root = str(Path(__file__).resolve().parents[3])
    return [root, *filter(None, [os.environ.get("PYTHONPATH")])]
