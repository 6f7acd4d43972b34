"""A scripted Bitcoin node on a real socket: says what a node would, or misbehaves as told. It checks no block; for the
truth there are the devchain and btcd."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

Writer = asyncio.StreamWriter
Fault = Callable[["FakeNode", Writer], Awaitable[None]]


class RpcFault(Exception):
    def __init__(self, code: int, text: str, status: int = 500) -> None:
        super().__init__(text)
        self.code, self.text, self.status = code, text, status


# --- ways to misbehave: each gets the connection instead of an answer


def status(code: int, body: str = "", content_type: str = "text/html") -> Fault:
    async def say(node: FakeNode, writer: Writer) -> None:
        writer.write(http(code, body.encode(), content_type))

    return say


def rpc_error(code: int, text: str, http_status: int = 500) -> Fault:
    body = json.dumps({"result": None, "error": {"code": code, "message": text}, "id": 1})
    return status(http_status, body, "application/json")


def raw(data: bytes) -> Fault:
    """These bytes, then the end of the connection."""

    async def say(node: FakeNode, writer: Writer) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return say


async def reset(node: FakeNode, writer: Writer) -> None:
    """RST in the middle of nothing."""
    writer.transport.abort()


async def hang(node: FakeNode, writer: Writer) -> None:
    """No answer until the node is told to go on."""
    node.hanging += 1
    node.noticed.set()
    await node.unhang.wait()
    writer.close()


def after(seconds: float, method: str) -> Fault:
    """The honest answer to `method` (one without parameters), late."""

    async def say(node: FakeNode, writer: Writer) -> None:
        await asyncio.sleep(seconds)
        await node.answer(method, [], 1, writer)

    return say


def drip(data: bytes, each_s: float) -> Fault:
    """One byte at a time: every time-out that starts anew with each byte is fooled."""

    async def say(node: FakeNode, writer: Writer) -> None:
        with contextlib.suppress(ConnectionError):
            for byte in data:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(each_s)

    return say


def http(code: int, body: bytes, content_type: str = "application/json", claimed: int | None = None) -> bytes:
    length = len(body) if claimed is None else claimed
    head = f"HTTP/1.1 {code} Words\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
    return head.encode() + body


def block_hash(name: str) -> str:
    """A made-up hash that looks like one."""
    return "00" + hashlib.sha256(name.encode()).hexdigest()[2:]


@dataclass
class FakeNode:
    """Everything it says is a field; change one and, where it matters, `tell()` those that wait in a long-poll."""

    chain: str = "regtest"
    branch: list[str] = field(default_factory=lambda: [block_hash("genesis")])
    headers_ahead: int = 0
    ibd: bool = False
    peer_heights: list[int] = field(default_factory=lambda: [0])
    uptime_s: int = 1000
    bits: str = "207fffff"
    template: dict[str, Any] = field(default_factory=dict)  # laid over the honest one
    login: str = "rig:rig-password"
    port: int = 0

    def __post_init__(self) -> None:
        self.asked: list[tuple[str, list[Any]]] = []
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)  # once each; "*" is for any method
        self.always: dict[str, Fault] = {}
        self.connections = 0
        self.hanging = 0
        self.noticed = asyncio.Event()
        self.unhang = asyncio.Event()
        self._news = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[Writer] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def height(self) -> int:
        return len(self.branch) - 1

    async def __aenter__(self) -> FakeNode:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As if the process had ended: nobody listens, connections are reset."""
        assert self._server
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def mine(self, name: str, *, drop: int = 0) -> str:
        """A new best block, after taking `drop` blocks off."""
        self.branch[len(self.branch) - drop :] = [block_hash(name)]
        await self.tell()
        return self.branch[-1]

    async def tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    # --- the socket

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self._writers.add(writer)
        self.connections += 1
        try:
            while not writer.is_closing() and await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _one(self, reader: asyncio.StreamReader, writer: Writer) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
        question = json.loads(await reader.readexactly(int(lines["Content-Length"])))
        method, params = question["method"], question["params"]
        self.asked.append((method, params))
        if lines.get("Authorization") != "Basic " + base64.b64encode(self.login.encode()).decode():
            writer.write(http(401, b"", "text/html"))
        elif fault := self._fault(method):
            await fault(self, writer)
        else:
            await self.answer(method, params, question["id"], writer)
        await writer.drain()
        return True

    def _fault(self, method: str) -> Fault | None:
        for key in (method, "*"):
            if self.faults[key]:
                return self.faults[key].popleft()
            if key in self.always:
                return self.always[key]
        return None

    async def answer(self, method: str, params: list[Any], number: object, writer: Writer) -> None:
        try:
            handler = getattr(self, "rpc_" + method, None)
            if handler is None:
                raise RpcFault(-32601, "Method not found", 404)
            result, error, code = await handler(*params), None, 200
        except RpcFault as fault:
            result, error, code = None, {"code": fault.code, "message": fault.text}, fault.status
        writer.write(http(code, json.dumps({"result": result, "error": error, "id": number}).encode()))

    # --- what it says

    async def rpc_getbestblockhash(self) -> str:
        return self.branch[-1]

    async def rpc_getblockheader(self, hash_hex: str) -> dict[str, Any]:
        if hash_hex not in self.branch:
            raise RpcFault(-5, "Block not found")
        height = self.branch.index(hash_hex)
        return {
            "hash": hash_hex,
            "height": height,
            "confirmations": self.height - height + 1,
            "bits": self.bits,
            "mediantime": 1_700_000_000 + height,
            "time": 1_700_000_600 + height,
            "previousblockhash": self.branch[height - 1] if height else "",
            "difficulty": 4.656542373906925e-10,
        }

    async def rpc_getblockchaininfo(self) -> dict[str, Any]:
        return {
            "chain": self.chain,
            "blocks": self.height,
            "headers": self.height + self.headers_ahead,
            "bestblockhash": self.branch[-1],
            "mediantime": 1_700_000_000 + self.height,
            "initialblockdownload": self.ibd,
            "chainwork": f"{2 * (self.height + 1):064x}",
        }

    async def rpc_getpeerinfo(self) -> list[dict[str, Any]]:
        return [{"synced_headers": height, "startingheight": height} for height in self.peer_heights]

    async def rpc_uptime(self) -> int:
        return self.uptime_s

    async def rpc_getblocktemplate(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.chain == "signet" and "signet" not in request.get("rules", []):
            raise RpcFault(-8, "getblocktemplate must be called with the signet rule set")
        if "longpollid" in request:
            async with self._news:
                await self._news.wait_for(lambda: request["longpollid"] != self.branch[-1] + "0")
        return {
            "version": 0x20000000,
            "rules": ["csv", "!segwit", "taproot"],
            "previousblockhash": self.branch[-1],
            "transactions": [],
            "coinbasevalue": 5_000_000_000,
            "longpollid": self.branch[-1] + "0",
            "mintime": 1_700_000_001 + self.height,
            "curtime": 1_700_001_000 + self.height,
            "bits": self.bits,
            "height": self.height + 1,
            "sigoplimit": 80_000,
            "weightlimit": 4_000_000,
            "vbrequired": 0,
            **self.template,
        }

    async def rpc_submitblock(self, block_hex: str) -> str | None:
        return None
