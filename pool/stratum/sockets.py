"""Listening sockets: made, paused, refused, inherited; and the file limit that thousands of connections need."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import socket
from collections.abc import Callable

from pool.stratum.hub import Port

SPARE_FILES = 128  # database, share log, nodes, logs
KEEP_IDLE_S, KEEP_EVERY_S, KEEP_TRIES = 45, 30, 4  # a BitAxe behind NAT says nothing for minutes at a high difficulty


def raise_file_limit(wanted: int) -> int:
    """Open files allowed now: `wanted` and some spare if the hard limit lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = wanted + SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        goal = min(goal, hard)
    if soft != resource.RLIM_INFINITY and soft < goal:
        resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
        soft = goal
    return goal if soft == resource.RLIM_INFINITY else soft


def make_room(files: int) -> None:
    """Let the kernel's table of open files grow now: each doubling while connections come waits for all cores (10 ms
    and more in a process with threads)."""
    low = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.close(fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, files - 1))
    except OSError:
        pass  # the very last one is taken, or the limit moved: the table grows as connections come
    finally:
        os.close(low)


def listen(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket whose accepted ones need no further call: Linux lets them inherit every option set here."""
    if ":" in host:
        both = host == "::" and socket.has_dualstack_ipv6()
        made = socket.create_server((host, port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=both)
    else:
        made = socket.create_server((host, port), backlog=backlog)
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_IDLE_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_EVERY_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEP_TRIES)
    return made


class Listener:
    """One port: accepting, paused (the kernel queues connections) or refusing (nobody listens: a client goes to its
    fallback).
    """

    def __init__(self, port: Port, host: str, backlog: int, factory: Callable[[], asyncio.Protocol]) -> None:
        self.port = port
        self._host, self._backlog, self._factory = host, backlog, factory
        self._number = port.number
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None

    @property
    def number(self) -> int:
        """The real port number, once bound."""
        return self._number

    @property
    def accepting(self) -> bool:
        return self._server is not None

    @property
    def bound(self) -> socket.socket | None:
        return self._socket

    def inherit(self, given: socket.socket) -> None:
        """Use a listening socket of another process."""
        given.setblocking(False)
        self._socket, self._number = given, given.getsockname()[1]

    def bind(self) -> None:
        """Take the port. OSError names what stands in the way."""
        if self._socket is None:
            self._socket = listen(self._host, self._number, self._backlog)
            self._number = self._socket.getsockname()[1]

    async def accept(self) -> None:
        if self._server is not None:
            return
        self.bind()
        assert self._socket is not None
        # The loop's server closes the socket it was given; ours stays, and with it the port and its queue.
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._factory, sock=self._socket.dup(), backlog=self._backlog)

    def pause(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def refuse(self) -> None:
        self.pause()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
