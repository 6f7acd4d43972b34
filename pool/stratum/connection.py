"""One socket: bytes from the transport to the Channel and back, one write per packet. Decides nothing about miners."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Protocol, cast

from native.channel import Channel
from pool.stratum import messages
from pool.stratum.extranonce import ExtranonceExhausted
from pool.stratum.limits import Visitor
from pool.stratum.methods import hear
from pool.stratum.session import Session
from pool.stratum.tls import TLS_HANDSHAKE, TlsTransport

if TYPE_CHECKING:
    from pool.stratum.hub import Hub, Port
    from pool.stratum.server import StratumServer

log = logging.getLogger(__name__)
SEND_BUFFER_BYTES = 65_536  # above it the peer counts as blocked: nothing more is read from it or sent to it


class Wire(Protocol):
    """What is used of a transport, plain or TLS."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Connection(asyncio.Protocol):
    """From accept to close. The session (and its 4 bytes of extranonce1) begins with the first byte that comes."""

    __slots__ = (
        "_held",
        "_hub",
        "_port",
        "_server",
        "_waiting",
        "blocked",
        "blocked_s",
        "channel",
        "closing",
        "opened_s",
        "session",
        "visitor",
        "wire",
    )

    def __init__(self, server: StratumServer, hub: Hub, port: Port) -> None:
        self._server, self._hub, self._port = server, hub, port
        self.wire: Wire | None = None
        self.visitor: Visitor | None = None
        self.session: Session | None = None
        self.channel: Channel | None = None
        self.blocked = False
        self.blocked_s = 0.0
        self.opened_s = 0.0
        self.closing = False
        self._waiting: asyncio.Task[None] | asyncio.TimerHandle | None = None
        self._held: list[bytes] = []

    # --- the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        wire = cast(asyncio.Transport, transport)
        wire.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        self.wire = wire
        self.opened_s = self._hub.monotonic()
        peer = wire.get_extra_info("peername")
        self.visitor = self._server.arrived(self, peer[0] if peer else "")
        if self.visitor is None:
            self.closing = True
            wire.abort()  # refused before any answer: firmware goes on to its fallback

    def data_received(self, data: bytes) -> None:
        # The whole way of a share through Python: one call in, one out, nothing decided.
        channel = self.channel
        if channel is None or self._waiting is not None:
            self._rarely(channel, data)
            return
        now_ns = self._hub.time_ns()  # stamped once, here
        line = channel.feed(data, now_ns)
        if line is not None:
            self._hear(channel, line, now_ns)
        out = channel.take()
        if out:
            self.wire.write(out)  # type: ignore[union-attr]  # data comes from a wire
        elif channel.fault is not None:
            self._fault(channel.fault)

    def _rarely(self, channel: Channel | None, data: bytes) -> None:
        if channel is None:
            self._first(data)
        else:
            self._held.append(data)  # at most what was on its way when reading was paused

    def _first(self, data: bytes) -> None:
        if self.closing or self.wire is None or self.visitor is None:
            return
        context = self._server.tls_context
        if data[0] == TLS_HANDSHAKE and context is not None and not isinstance(self.wire, TlsTransport):
            transport = cast(asyncio.Transport, self.wire)
            tls = TlsTransport(transport, context, self)
            self.wire = tls
            transport.set_protocol(tls)
            tls.data_received(data)
            return
        if data[0] == TLS_HANDSHAKE or (self._port.tls_only and not isinstance(self.wire, TlsTransport)):
            self.abort()
            return
        try:
            self.session = Session(
                self._hub, self._server.supply, self._port, self.visitor, self, self._hub.monotonic()
            )
        except ExtranonceExhausted as error:
            self._server.complain(str(error))
            self.abort()
            return
        self.channel = self.session.channel
        self._server.began(self, self.session)
        self.data_received(data)

    def _hear(self, channel: Channel, line: bytes | None, now_ns: int) -> None:
        """Lines that are not plain shares, in their turn, until the stream is used up or has to wait."""
        session, monotonic = self.session, self._hub.monotonic
        assert session is not None
        while line is not None:
            hear(session, line)
            if self.closing or self._waiting is not None:
                return
            now_s = monotonic()
            wait_s = max(session.bucket.take(now_s), session.visitor.messages.take(now_s))
            if wait_s > 0.0:
                self._pause_for(wait_s)
                return
            line = channel.feed(b"", now_ns)

    def _fault(self, why: str) -> None:
        if not self.closing:
            self.say_now(messages.error(messages.Unreadable(why), messages.OTHER, why))
            self.close()

    def pause_writing(self) -> None:
        # Reading stops too: whoever does not read answers shall not make us gather more of them.
        self.blocked = True
        self.blocked_s = self._hub.monotonic()
        if self.wire is not None:
            self.wire.pause_reading()

    def resume_writing(self) -> None:
        self.blocked = False
        if self.wire is not None and self._waiting is None and not self.closing:
            self.wire.resume_reading()
        if self.session is not None and self.session.owed:
            self._server.supply.deliver(self.session)

    def eof_received(self) -> bool:
        return False  # the transport closes; nobody half-closes and goes on mining

    def connection_lost(self, error: Exception | None) -> None:
        self.closing = True
        self._stop_waiting()
        self._server.left(self)
        # Session and connection know each other: apart, both are gone now and not at some collection's pause.
        self.wire = self.session = self.channel = self.visitor = None

    # --- waiting

    def throttle(self, wait_s: float) -> None:
        """Read nothing more for a while: more was asked than one connection may."""
        if self._waiting is None and not self.closing:
            self._pause_for(wait_s)

    def _pause_for(self, wait_s: float) -> None:
        if self.wire is not None:
            self.wire.pause_reading()
        self._waiting = asyncio.get_running_loop().call_later(min(wait_s, 60.0), self._go_on)

    def wait_for(self, work: Coroutine[object, object, None]) -> None:
        if self.wire is not None:
            self.wire.pause_reading()
        self._waiting = asyncio.get_running_loop().create_task(self._look_up(work))

    async def _look_up(self, work: Coroutine[object, object, None]) -> None:
        await work  # has its own time-out, and answers in any case
        self._go_on()

    def _go_on(self) -> None:
        self._waiting = None
        held, self._held = self._held, []
        if self.channel is None or self.closing:
            return
        self.data_received(b"")  # what waits in the channel
        while held and not self._stopped():
            self.data_received(held.pop(0))
        if self._waiting is None and self.wire is not None and not self.blocked and not self.closing:
            self.wire.resume_reading()
        self._held = held + self._held

    def _stopped(self) -> bool:
        return self._waiting is not None or self.closing

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._held.clear()

    # --- the session's end (session.Link)

    def flush(self) -> None:
        if self.channel is not None and self.wire is not None and not self.closing:
            out = self.channel.take()
            if out:
                self.wire.write(out)

    def say_now(self, line: bytes) -> None:
        if self.channel is not None:
            self.channel.say(line)
            self.flush()

    def close(self) -> None:
        self.flush()
        self.closing = True
        if self.wire is not None:
            self.wire.close()

    def abort(self) -> None:
        self.closing = True
        if self.wire is not None:
            self.wire.abort()

    def evict(self) -> None:
        self._server.left(self)
        self.abort()
