"""A server process for tests: started, killed, started again on the same data; it never outlives the test run."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The shell waits for its standard input to end, which happens when the test process goes, however it goes; then it
# takes the server along.
_LEASH = '"$@" >>"$0" 2>&1 & echo $!; read _; kill -KILL $! 2>/dev/null; wait'


class RpcFailure(Exception):
    """The server answered with an error object."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Leash:
    """One run of one program."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        self._shell = subprocess.Popen(
            ["sh", "-c", _LEASH, str(log), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._shell.stdout is not None
        self.pid = int(self._shell.stdout.readline())

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def alive(self) -> bool:
        """False also for a program that has ended and was not waited for yet."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (OSError, IndexError):
            return False
        return state != "Z"

    def end(self, grace_s: float = 0.0) -> None:
        """Ask (when there is grace), then kill."""
        if grace_s:
            self.signal(signal.SIGTERM)
            deadline = time.monotonic() + grace_s
            while self.alive() and time.monotonic() < deadline:
                time.sleep(0.01)
        self.signal(signal.SIGKILL)
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.close()
        self._shell.wait(timeout=10)
        self._shell.stdout.close()

    def last_words(self) -> str:
        with contextlib.suppress(OSError):
            return self._log.read_text(errors="replace")[-2000:]
        return ""


class NodeDaemon:
    """A Bitcoin node as a child process with a JSON-RPC port; what differs per kind is in the subclasses. `folder`
    keeps its chain over restarts.

    Calls go through http.client, on purpose: the code under test must not be what the tests look through."""

    kind = ""
    network = "regtest"
    user = "rig"
    password = "rig-password"

    def __init__(self, folder: Path, *, extra: Sequence[str] = ()) -> None:
        self.folder = folder
        self.extra = tuple(extra)
        self.port = free_port()
        self.zmq_url: str | None = None
        self._run: Leash | None = None
        self.frozen = False

    @property
    def running(self) -> bool:
        return self._run is not None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        raise NotImplementedError

    # --- life

    def start(self, patience_s: float = 30.0) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._run = Leash(self.command(), self.folder / "output.log")
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self.rpc("getblockcount")
                return
            except (OSError, http.client.HTTPException, RpcFailure, ValueError) as error:
                if not self._run.alive() or time.monotonic() > deadline:
                    words = self._run.last_words()
                    self.stop()
                    raise AssertionError(f"{self.kind} did not start: {error!r}\n{words}") from error
            time.sleep(0.02)  # a child process has no event to wait on

    def kill(self) -> None:
        """As a power cut would: no warning."""
        if self._run:
            self._run.end()
            self._run = None

    def stop(self) -> None:
        if self._run:
            self._run.end(grace_s=10.0)
            self._run = None

    def restart(self) -> None:
        """Again on the same port and data, after an orderly end."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It keeps its sockets and answers nothing."""
        assert self._run
        self._run.signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        assert self._run
        self._run.signal(signal.SIGCONT)
        self.frozen = False

    def __enter__(self) -> NodeDaemon:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.frozen:
            self.thaw()
        self.stop()

    # --- calls

    def rpc(self, method: str, *params: object, timeout_s: float = 30.0) -> Any:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)) as wire:
            body = json.dumps({"jsonrpc": "1.0", "id": 1, "method": method, "params": params})
            login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            wire.request("POST", "/", body, {"Authorization": f"Basic {login}", "Content-Type": "application/json"})
            answer = json.loads(wire.getresponse().read())
        if answer["error"]:
            raise RpcFailure(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def generate(self, blocks: int = 1) -> list[str]:
        raise NotImplementedError

    def invalidate(self, hash_hex: str) -> None:
        self.rpc("invalidateblock", hash_hex)

    def reconsider(self, hash_hex: str) -> None:
        self.rpc("reconsiderblock", hash_hex)

    @property
    def best(self) -> str:
        answer: str = self.rpc("getbestblockhash")
        return answer

    @property
    def height(self) -> int:
        answer: int = self.rpc("getblockcount")
        return answer
