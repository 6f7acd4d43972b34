"""Listening sockets handed from an old process to a new one over a unix socket: no connection is refused in between.

SO_REUSEPORT would not do: closing one of two sockets on a port resets the connections that wait in its own queue.
Here both processes
hold the same socket, so its queue outlives the old one. The new process asks when it is ready for all but the share
log (one writer
only); the old one stops accepting, drains, lets go of the log and exits, which closes the line: the new one goes on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)
ASK = b"listeners\n"
ANSWER_S = 10.0
MOST_SOCKETS = 16


class TakeoverError(Exception):
    """The old process did not answer, or did not let go in time. The operator acts."""


class Handover:
    """The old process's side: waits for somebody who asks."""

    def __init__(
        self, path: Path, listeners: Callable[[], dict[str, socket.socket]], asked: Callable[[], None]
    ) -> None:
        self._path, self._listeners, self._asked = path, listeners, asked
        self._server: socket.socket | None = None
        self._heir: socket.socket | None = None  # kept open until this process is done

    def open(self) -> None:
        """Listen at the path (mode 0600). Must be called on the loop."""
        self._path.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o177)
        try:
            server.bind(str(self._path))
        finally:
            os.umask(before)
        server.listen(1)
        self._server = server
        asyncio.get_running_loop().add_reader(server.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._server is not None
        try:
            heir, _ = self._server.accept()
        except OSError:
            return
        if self._heir is not None:
            heir.close()
            return
        heir.setblocking(True)
        heir.settimeout(1.0)  # a local process that has asked already: it answers at once or not at all
        sockets = self._listeners()
        try:
            if heir.recv(len(ASK)) != ASK:
                raise OSError("no such request")
            socket.send_fds(
                heir, [json.dumps(list(sockets)).encode() + b"\n"], [one.fileno() for one in sockets.values()]
            )
        except OSError as error:
            log.warning("a take-over was begun and broken off: %s", error)
            heir.close()
            return
        self._heir = heir
        self._close_door()
        self._asked()

    def _close_door(self) -> None:
        if self._server is not None:
            asyncio.get_running_loop().remove_reader(self._server.fileno())
            self._server.close()
            self._server = None

    @property
    def handed_over(self) -> bool:
        return self._heir is not None

    def close(self) -> None:
        """Done: whoever waits for us may go on."""
        if self._server is not None:
            self._close_door()
            self._path.unlink(missing_ok=True)
        if self._heir is not None:
            self._heir.close()
            self._heir = None


class Inheritance:
    """The new process's side: sockets by port name, and the line that tells when the old process is done."""

    def __init__(self, sockets: dict[str, socket.socket], line: socket.socket) -> None:
        self.sockets, self._line = sockets, line

    def wait(self, timeout_s: float) -> None:
        """Block until the old process has let go. TakeoverError."""
        self._line.settimeout(timeout_s)
        try:
            if self._line.recv(1):
                raise TakeoverError("the old process said something unexpected")
        except TimeoutError:
            raise TakeoverError(f"the old process did not let go within {timeout_s:g} s") from None
        finally:
            self._line.close()

    def close(self) -> None:
        self._line.close()
        for one in self.sockets.values():
            one.close()


def ask(path: Path) -> Inheritance | None:
    """Ask the process that listens at `path` for its sockets; None when there is none. Blocks up to 10 s.
    TakeoverError.
    """
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    line.settimeout(ANSWER_S)
    try:
        line.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        line.close()
        return None
    try:
        line.sendall(ASK)
        names, numbers, _, _ = socket.recv_fds(line, 4096, MOST_SOCKETS)
        sockets = [socket.socket(fileno=number) for number in numbers]
        wanted = json.loads(names)
        if not isinstance(wanted, list) or len(wanted) != len(sockets):
            raise TakeoverError("the old process sent names that do not fit its sockets")
    except (OSError, ValueError) as error:
        line.close()
        raise TakeoverError(f"the old process did not hand over: {error}") from None
    return Inheritance(dict(zip(wanted, sockets, strict=True)), line)
