"""`python -m pool ...` as a process of its own: its words as they come, its port, its figures."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parent.parent.parent
WAIT_S = 60.0  # a loaded machine starts Python, a chain and a database in seconds


class PoolProcess:
    """`async with PoolProcess(cwd, "serve", POOL__STRATUM__PORT="0") as pool:`; killed if still there at the end."""

    def __init__(self, cwd: Path, *arguments: str, **environment: str) -> None:
        self._cwd, self._arguments, self._environment = cwd, arguments, environment
        self.lines: list[str] = []
        self.errors = cwd / f"stderr-{id(self)}.log"
        self._changed = asyncio.Condition()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> PoolProcess:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("POOL_")}
        with self.errors.open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pool", *self._arguments),
                cwd=self._cwd,
                env=clean | {"PYTHONPATH": str(ROOT)} | self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        assert self._reader is not None
        await self._reader
        if kind is not None:
            print(f"--- {self._arguments}\n" + self.words()[-6000:])

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    def words(self) -> str:
        """Standard error so far."""
        return self.errors.read_text(errors="replace")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode())
            async with self._changed:
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    async def until(self, true: Any, what: str, wait_s: float = WAIT_S) -> Any:
        """Wait until a line on standard output makes `true()` truthy; what it gave."""
        async with asyncio.timeout(wait_s), self._changed:
            while not (got := true()):
                assert self.process.returncode is None, f"ended before {what}: {self.words()[-2000:]}"
                await self._changed.wait()
        return got

    async def port(self) -> int:
        """Of the main port, once announced."""
        found = await self.until(lambda: re.search(r"stratum\+tcp://\S+:(\d+)  \(main\)", "".join(self.lines)), "port")
        return int(found[1])

    def figures(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; its exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(WAIT_S):
            return await self.process.wait()
