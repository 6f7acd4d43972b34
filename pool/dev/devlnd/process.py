"""Starts the development Lightning node as a child process, waits until it answers, and takes it down again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio

START_S = 30.0
STOP_S = 5.0
_POLL_S = 0.02
_ROOT = str(Path(__file__).resolve().parents[3])  # where the child finds `pool`: where we found it


class DevLnd:
    """`async with DevLnd(datadir) as lnd`: `.address .certificate .payout_macaroon` of a running node.

    Without a datadir it lives in a temporary one. The child ends with this process, however this process ends.
    RuntimeError with the child's words for a start that fails; beside a real network it always does.
    """

    def __init__(
        self,
        datadir: Path | None = None,
        *,
        rpcport: int = 0,
        plaintext: bool = False,
        local_msat: int = 10_000_000_000,
        network: str = "dev",
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="mmsp-devlnd-") if datadir is None else None
        self.datadir = datadir if datadir is not None else Path(str(self._temporary and self._temporary.name))
        self._port = rpcport
        self._options = ["--local-msat", str(local_msat), "--network", network, *(["--plaintext"] if plaintext else [])]
        self._process: asyncio.subprocess.Process | None = None
        self._log: asyncio.Task[None] | None = None
        self._channel: Any = None
        self.address = ""
        self.certificate: Path | None = None
        self.admin_macaroon = self.payout_macaroon = Path()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Start the child, on the same port as before if it ran before, and wait until it answers."""
        self.datadir.mkdir(parents=True, exist_ok=True)
        ready = self.datadir / "ready.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pool.dev.devlnd", "--datadir", str(self.datadir), *self._options]
        command += ["--rpcport", str(self._port), "--ready-file", str(ready), "--with-parent"]
        path = os.pathsep.join([_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stderr=pipe, env={**os.environ, "PYTHONPATH": path}, start_new_session=True
        )
        try:
            await asyncio.wait_for(self._await_ready(ready), START_S)
        except BaseException:
            await self.kill()
            raise
        told = json.loads(ready.read_text())
        self.address = told["address"]
        self._port = int(self.address.rpartition(":")[2])
        self.certificate = Path(told["certificate"]) if told["certificate"] else None
        self.admin_macaroon, self.payout_macaroon = Path(told["admin"]), Path(told["payout"])
        if self._process.stderr is not None:
            self._log = asyncio.create_task(_pass_on(self._process.stderr))

    async def _await_ready(self, ready: Path) -> None:
        process = self._process
        assert process is not None
        while not _there(ready):
            if process.returncode is not None:
                words = await process.stderr.read() if process.stderr is not None else b""
                raise RuntimeError(words.decode(errors="replace").strip() or f"devlnd ended with {process.returncode}")
            await asyncio.sleep(_POLL_S)

    async def wait(self) -> int:
        """Exit code of the child, when it ends."""
        if self._process is None:
            raise RuntimeError("the development Lightning node is not running")
        return await self._process.wait()

    async def kill(self) -> None:
        """kill -9."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Stop the child in order; kill it if it does not listen."""
        await self._end(signal.SIGTERM)

    async def close(self) -> None:
        """Stop, and remove a temporary data folder."""
        await self.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    async def call(self, do: str, **what: Any) -> Any:
        """One call of the control RPC; ValueError with its words if it cannot be done."""
        if self._channel is None:
            if self.certificate is None:
                self._channel = grpc.aio.insecure_channel(self.address)
            else:
                credentials = grpc.ssl_channel_credentials(self.certificate.read_bytes())
                self._channel = grpc.aio.secure_channel(self.address, credentials)
        method = self._channel.unary_unary("/mmsp.devlnd.Control/Call")
        metadata = (("macaroon", self.admin_macaroon.read_bytes().hex()),)
        answer = json.loads(await method(json.dumps({"do": do, **what}).encode(), timeout=10, metadata=metadata))
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["result"]

    async def _end(self, number: int) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
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
        if self._log is not None:
            await self._log
            self._log = None
        if process.stdin is not None:
            process.stdin.close()


async def _pass_on(words: asyncio.StreamReader) -> None:
    """Put the child's words on our standard error, so that its pipe never fills."""
    async for line in words:
        sys.stderr.write(line.decode(errors="replace"))


def _there(path: Path) -> bool:
    return path.exists()
