"""One JSON-RPC connection to one node: python-bitcoinrpc in a thread of its own, behind an awaitable call. No retry, no
choice of node: that is node.py."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import queue
import socket
import threading
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from bitcoinrpc.authproxy import AuthServiceProxy, JSONRPCException

from pool.chain.types import NodeBusy, NodeError, NodeMisconfigured, NodeRefused
from pool.config import NodeSection

#: The largest honest answer is a template of 4 million weight units: 8 MB of hex and some JSON around it.
MAX_ANSWER_BYTES = 32 << 20
CONNECT_TIMEOUT_S = 3.0

RPC_IN_WARMUP = -28
RPC_METHOD_NOT_FOUND = -32601
RPC_MISC_ERROR = -1


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Where a node is and how to log in: a user and password, or Bitcoin Core's cookie file."""

    url: str  # http://host:port
    user: str = ""
    password: str = field(default="", repr=False)
    cookie_file: Path | None = None
    zmq_hashblock: str = ""  # tcp://host:port, or empty
    name: str = ""  # for people; host:port when empty
    timeout_s: float = 30.0  # of one call

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"node url {self.shown!r} is not http://host:port (for TLS put stunnel or a VPN between)")
        if not self.name:
            object.__setattr__(self, "name", f"{parts.hostname}:{parts.port or 8332}")

    @classmethod
    def from_config(cls, section: NodeSection) -> NodeAddress:
        return cls(
            url=section.url,
            user=section.user,
            password=section.password.reveal() if section.password is not None else "",
            cookie_file=section.cookie_file,
            zmq_hashblock=section.zmq_hashblock,
            timeout_s=section.timeout_s,
        )

    @property
    def shown(self) -> str:
        """The URL without what may be secret in it."""
        parts = urllib.parse.urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def credentials(self) -> str:
        """ "user:password" as of now: the cookie changes at each start of the node."""
        if self.cookie_file is None:
            parts = urllib.parse.urlsplit(self.url)
            user, password = self.user or parts.username or "", self.password or parts.password or ""
            return f"{user}:{password}" if self.user else urllib.parse.unquote(f"{user}:{password}")
        try:
            return self.cookie_file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            raise NodeBusy(
                f"{self.name}: no cookie file {self.cookie_file}: the node is not running, or keeps it elsewhere"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise NodeMisconfigured(f"{self.name}: cookie file {self.cookie_file} cannot be read: {error}") from None


class Garbled(NodeBusy):
    """What came back is not an answer to the question: cut off, too long, or not JSON-RPC. The connection is not used
    again."""


class _Unauthorised(NodeMisconfigured):
    """401. Once more with a fresh cookie, then it is the operator's."""


class Wire(http.client.HTTPConnection):
    """The connection python-bitcoinrpc writes to: adds our login, and what btcd needs, to its requests."""

    def __init__(self, address: NodeAddress) -> None:
        parts = urllib.parse.urlsplit(address.url)
        super().__init__(parts.hostname or "", parts.port or 8332, timeout=CONNECT_TIMEOUT_S)
        self._credentials = address.credentials()
        self.abandoned = False
        self.patience_s = CONNECT_TIMEOUT_S

    def connect(self) -> None:
        super().connect()
        if self.abandoned:  # while connecting there was no socket that `Line.close` could have shut
            raise ConnectionAbortedError("closed while connecting")
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a long-poll may be silent for an hour
        if hasattr(socket, "TCP_KEEPIDLE"):
            for option, seconds in ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3)):
                self.sock.setsockopt(socket.IPPROTO_TCP, option, seconds)

    def request(  # type: ignore[override]
        self, method: str, url: str, body: str, headers: Mapping[str, str], *, encode_chunked: bool = False
    ) -> None:
        # python-bitcoinrpc takes the login out of the URL without unquoting it, so a password with "@" or "/" could not
        # be used.
        login = base64.b64encode(self._credentials.encode()).decode()
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.patience_s)  # sending too: a block is up to 8 MB of hex
        # It sends no "jsonrpc" member; btcd (0.26.2) answers such a request with an empty body.
        login_header = {"Authorization": f"Basic {login}"}
        super().request(method, url or "/", '{"jsonrpc": "1.0", ' + body[1:], {**headers, **login_header})

    def idle_and_open(self) -> bool:
        """False when the node has closed this connection since its last answer (Bitcoin Core does after 30 s), or sent
        something unasked."""
        if self.sock is None:
            return False
        timeout_s = self.sock.gettimeout()
        try:
            self.sock.setblocking(False)
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.sock.settimeout(timeout_s)
        return False


class _Call(AuthServiceProxy):  # type: ignore[misc]
    """One method of one connection. Reads the answer itself: python-bitcoinrpc's reader writes the whole result out
    again for a debug line that nobody reads
    (7 ms for a template of 3,000 transactions, twice the time of parsing it), believes any length, and leaves the
    connection in the middle of an answer."""

    def __init__(self, method: str, wire: Wire, timeout_s: float) -> None:
        # The user and password of this URL are never sent: Wire.request sets its own.
        super().__init__("http://user:password@node/", method, timeout_s, wire)
        self._wire = wire

    def _get_response(self) -> Mapping[str, object]:
        response = self._wire.getresponse()
        body = response.read(MAX_ANSWER_BYTES + 1)
        if len(body) > MAX_ANSWER_BYTES:
            raise Garbled(f"answered more than {MAX_ANSWER_BYTES >> 20} MiB")
        if response.length:
            raise Garbled(f"broke off {response.length} bytes before the end of its answer")
        try:
            # Amounts must not become binary floats. Costs nothing where there are none (a template of 3,000
            # transactions: 3.3 ms either way).
            answer = json.loads(body, parse_float=Decimal)
        except (ValueError, RecursionError):
            raise _http_error(response.status, response.reason, body) from None
        if not isinstance(answer, dict) or ("result" not in answer and not isinstance(answer.get("error"), dict)):
            raise _http_error(response.status, response.reason, body)
        return answer


def _http_error(status: int, reason: str, body: bytes) -> NodeError:
    """What an answer without JSON-RPC in it means."""
    if status == 401:
        return _Unauthorised(
            "refuses our login (HTTP 401): check user and password, or the cookie file, against the node's settings"
        )
    if status == 403:
        return NodeMisconfigured("forbids us to ask (HTTP 403): check rpcallowip and rpcwhitelist of the node")
    if status == 404:
        return NodeMisconfigured("has nothing at this address (HTTP 404): is this the RPC port of a node?")
    if status == 503:
        return NodeBusy("is overloaded (HTTP 503, work queue full): raise rpcworkqueue and rpcthreads of the node")
    if status != 200:
        return NodeBusy(f"answered HTTP {status} {reason}"[:200])
    return Garbled(f"answered {len(body)} bytes that are not JSON-RPC, beginning {body[:40]!r}")


@dataclass(slots=True)
class _Question:
    method: str
    params: Sequence[object]
    timeout_s: float
    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[object]

    def tell(self, value: object, error: BaseException | None) -> None:
        def settle() -> None:
            if self.answer.done():
                return
            if error is None:
                self.answer.set_result(value)
            else:
                self.answer.set_exception(error)

        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile: nobody waits
            self.loop.call_soon_threadsafe(settle)


class Line:
    """A persistent connection and its thread: one question at a time. The thread is a daemon, so a node that hangs
    cannot hold up the end of the process."""

    def __init__(self, address: NodeAddress) -> None:
        self._address = address
        self._wire: Wire | None = None
        self._closed = False
        self._questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=f"rpc {address.name}", daemon=True).start()

    async def ask(self, method: str, params: Sequence[object], timeout_s: float) -> object:
        """The "result" of the answer. NodeError otherwise. After a timeout or a cancellation this line is closed: use
        another."""
        loop = asyncio.get_running_loop()
        question = _Question(method, params, timeout_s, loop, loop.create_future())
        self._questions.put(question)
        try:
            # The socket has time-outs too, but they start anew with each byte: this one is over everything.
            async with asyncio.timeout(timeout_s):
                return await question.answer
        except TimeoutError:
            self.close()
            raise NodeBusy(f"{self._address.name}: no answer to {method} within {timeout_s:g} s") from None
        except asyncio.CancelledError:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """From any thread; wakes the thread out of a socket that hangs."""
        self._closed = True
        self._questions.put(None)
        wire = self._wire
        if wire is None:
            return
        wire.abandoned = True
        if (sock := wire.sock) is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    # --- in the thread

    def _work(self) -> None:
        while (question := self._questions.get()) is not None:
            try:
                value = self._exchange(question)
            except NodeRefused as error:
                question.tell(None, error)
            except BaseException as error:
                self._hang_up()
                question.tell(None, error)
            else:
                question.tell(value, None)
        self._hang_up()

    def _hang_up(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _exchange(self, question: _Question) -> object:
        name = self._address.name
        for last_try in (False, True):
            reused = self._wire is not None and self._wire.idle_and_open()
            try:
                return self._once(question, reused)
            except _Unauthorised as error:
                # A node that was restarted has a new cookie; the one sent may be the old one.
                if last_try or self._address.cookie_file is None:
                    raise NodeMisconfigured(f"{name} {error}") from None
            except NodeRefused:
                raise
            except NodeError as error:
                if str(error).startswith(name):
                    raise
                raise type(error)(f"{name} {error}") from None
            except (ConnectionError, http.client.HTTPException) as error:
                # The node closed a kept connection just as we wrote: that says nothing about the node.
                if last_try or not reused:
                    raise NodeBusy(f"{name} cannot be asked: {_said(error)}") from None
            except OSError as error:
                raise NodeBusy(f"{name} cannot be asked: {_said(error)}") from None
            self._hang_up()
        raise AssertionError("the second try returns or raises")

    def _once(self, question: _Question, reused: bool) -> object:
        if not reused:
            self._hang_up()
            self._wire = Wire(self._address)
            if self._closed:
                raise NodeBusy("the connection was closed")
        assert self._wire is not None
        self._wire.patience_s = question.timeout_s
        try:
            return _Call(question.method, self._wire, question.timeout_s)(*question.params)
        except JSONRPCException as error:
            raise _rpc_error(question.method, error.error) from None


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _rpc_error(method: str, error: Mapping[str, object]) -> NodeError:
    """Sort a JSON-RPC error object by who must act."""
    code, text = error.get("code"), str(error.get("message") or "no message")[:300]
    if not isinstance(code, int):
        return Garbled(f"answered an error without a code: {text}")
    if code == RPC_IN_WARMUP:
        return NodeBusy(f"is starting: {text}")
    if code == RPC_METHOD_NOT_FOUND or (code == RPC_MISC_ERROR and text == "Command unimplemented"):
        return NoSuchMethod(f"does not offer {method}")
    return NodeRefused(code, text)


class NoSuchMethod(NodeMisconfigured):
    """The node does not know this method, or it is switched off."""
