"""TLS for a connection whose first byte asks for it, over ssl.MemoryBIO: the plain path pays one comparison, once.

asyncio's start_tls cannot be given bytes that were read already, and peeking at each accepted socket would cost the
plain path a
system call and a poll.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pool.stratum.connection import Connection

TLS_HANDSHAKE = 0x16  # record type of a ClientHello; no JSON begins so
CHUNK = 65_536


def load_context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """A server context of PEM files. OSError or ssl.SSLError when they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # mbedTLS in the firmware speaks 1.2 and 1.3
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0  # a miner connects once a day: tickets would only cost memory and a write
    context.load_cert_chain(cert_file, key_file)
    return context


class TlsTransport(asyncio.Protocol):
    """Protocol of the real transport below, transport of the Connection above."""

    __slots__ = ("_closed", "_connection", "_incoming", "_outgoing", "_paused", "_ready", "_tls", "_transport")

    def __init__(self, transport: asyncio.Transport, context: ssl.SSLContext, connection: Connection) -> None:
        self._transport, self._connection = transport, connection
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._ready = self._paused = self._closed = False

    # --- below: the socket's transport calls

    def data_received(self, data: bytes) -> None:
        self._incoming.write(data)
        self._pump()

    def _pump(self) -> None:
        try:
            if not self._ready:
                self._tls.do_handshake()
                self._ready = True
            while not self._paused and not self._closed:
                data = self._tls.read(CHUNK)
                if not data:
                    self.close()
                    return
                self._connection.data_received(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.close()
            return
        except ssl.SSLError:
            self._flush()  # the alert that says what was wrong
            self.abort()
            return
        self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._transport.write(data)

    def eof_received(self) -> bool:
        return self._connection.eof_received()

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        self._connection.connection_lost(error)

    # --- above: what a Connection uses of a transport

    def write(self, data: bytes) -> None:
        if not self._closed:
            self._tls.write(data)
            self._flush()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._ready:
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()  # sends our close_notify; theirs is not waited for
            self._flush()
        self._transport.close()

    def abort(self) -> None:
        self._closed = True
        self._transport.abort()

    def pause_reading(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._paused = False
        self._transport.resume_reading()
        if self._ready:
            # Bytes decrypted by nobody yet may wait inside: the socket would not tell of them again.
            asyncio.get_running_loop().call_soon(self._pump_waiting)

    def _pump_waiting(self) -> None:
        if not self._closed and not self._paused:
            self._pump()
