"""Bitcoin nodes: every call the pool makes to one, with its time-outs, retries, fail-over and log lines in one
place."""

from __future__ import annotations

import asyncio
import logging
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from pool.chain.rpc import Line, NodeAddress, NoSuchMethod
from pool.chain.types import (
    HeaderInfo,
    Network,
    NodeBusy,
    NodeError,
    NodeMisconfigured,
    NodeRefused,
    Outcome,
    SubmitAnswer,
    Template,
)

log = logging.getLogger(__name__)

#: More unanswered calls than this to one node are refused here: Bitcoin Core queues 16 (now 64) and answers 503 beyond.
MAX_CALLS_WAITING = 12
#: Unused connections kept per node.
KEPT_LINES = 4
#: A node that failed this recently is asked last.
SHUNNED_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
LOG_EACH_S = 60.0
#: Bitcoin Core keeps one of its (four) RPC threads for a long-poll until it can answer, whether we still listen or not:
#: do not give up early.
LONGPOLL_TIMEOUT_S = 3600.0

RPC_INVALID_ADDRESS_OR_KEY = -5  # "Block not found"
RPC_DESERIALIZATION_ERROR = -22
RPC_INTERNAL_ERROR = -32603


@dataclass(frozen=True, slots=True)
class ChainInfo:
    """getblockchaininfo, as far as a pool asks."""

    chain: str
    blocks: int
    headers: int
    best_hash_hex: str
    ibd: bool  # False where the node does not say (btcd)
    mediantime_s: int
    work: int | None  # total, where the node says


@dataclass(frozen=True, slots=True)
class Peers:
    count: int
    height: int  # median of what they claim; 0 when fewer than three say


class Node:
    """One node. Failures are NodeError, sorted by who must act (pool.chain.types); a call is tried once unless the
    caller has `patience_s`."""

    def __init__(self, address: NodeAddress, network: Network) -> None:
        self.address = address
        self.network = network
        self.timeout_s = address.timeout_s
        self._idle: list[Line] = []
        self._busy: set[Line] = set()
        self._record = _Record(address.name)

    @property
    def name(self) -> str:
        return self.address.name

    def close(self) -> None:
        """Calls under way end with NodeBusy at once."""
        for line in (*self._idle, *self._busy):
            line.close()
        self._idle.clear()

    async def call(
        self, method: str, *params: object, timeout_s: float | None = None, patience_s: float = 0.0
    ) -> object:
        """The result of any method; floats come as Decimal."""
        return await _send([self], method, params, timeout_s, patience_s)

    # --- what the pool asks

    async def best_block_hash(self, timeout_s: float | None = None) -> str:
        return _hash(await self.call("getbestblockhash", timeout_s=timeout_s))

    async def block_header(self, hash_hex: str, timeout_s: float | None = None) -> HeaderInfo | None:
        """None when the node does not know the block. `mediantime_s` is 0 on btcd, which does not tell it."""
        try:
            reply = _mapping(await self.call("getblockheader", hash_hex, timeout_s=timeout_s))
        except NodeRefused as error:
            if error.code == RPC_INVALID_ADDRESS_OR_KEY:
                return None
            if error.code == RPC_INTERNAL_ERROR and "not in the main chain" in error.text:
                return await self._side_header(hash_hex, timeout_s)
            raise
        return HeaderInfo(
            hash_hex=_hash(reply.get("hash")),
            height=_whole(reply, "height"),
            confirmations=_whole(reply, "confirmations"),
            nbits=int(_text(reply, "bits"), 16),
            mediantime_s=_whole(reply, "mediantime", 0),
            previous_hash_hex=_text(reply, "previousblockhash", ""),
        )

    async def _side_header(self, hash_hex: str, timeout_s: float | None) -> HeaderInfo | None:
        """btcd tells no more than the 80 bytes of a block that is not on its best chain: its height is its parent's and
        one."""
        reply = await self.call("getblockheader", hash_hex, False, timeout_s=timeout_s)
        if not isinstance(reply, str) or len(reply) != 160:
            raise _odd("block header", reply)
        previous_hash_hex = bytes.fromhex(reply[8:72])[::-1].hex()
        parent = await self.block_header(previous_hash_hex, timeout_s)
        if parent is None:
            return None
        nbits = int.from_bytes(bytes.fromhex(reply[144:152]), "little")
        return HeaderInfo(hash_hex, parent.height + 1, -1, nbits, 0, previous_hash_hex)

    async def chain_info(self, timeout_s: float | None = None) -> ChainInfo:
        reply = _mapping(await self.call("getblockchaininfo", timeout_s=timeout_s))
        work = reply.get("chainwork")
        return ChainInfo(
            chain=_text(reply, "chain"),
            blocks=_whole(reply, "blocks"),
            headers=_whole(reply, "headers"),
            best_hash_hex=_hash(reply.get("bestblockhash")),
            ibd=reply.get("initialblockdownload") is True,
            mediantime_s=_whole(reply, "mediantime", 0),
            work=int(work, 16) if isinstance(work, str) else None,
        )

    async def peers(self, timeout_s: float | None = None) -> Peers:
        """How many, and which height they say the chain has: a claim, so the median of at least three."""
        reply = await self.call("getpeerinfo", timeout_s=timeout_s)
        rows = [row for row in reply if isinstance(row, Mapping)] if isinstance(reply, list) else []
        keys = ("synced_headers", "currentheight", "startingheight")
        claims = [max(h for h in (row.get(key, 0) for key in keys) if isinstance(h, int)) for row in rows]
        heights = [height for height in claims if height > 0]
        return Peers(len(rows), int(statistics.median_low(heights)) if len(heights) >= 3 else 0)

    async def uptime_s(self, timeout_s: float | None = None) -> int | None:
        """Seconds since the node was started; None where it does not say."""
        try:
            reply = await self.call("uptime", timeout_s=timeout_s)
        except NoSuchMethod:
            return None
        return reply if isinstance(reply, int) else None

    async def block_template(self, longpoll_id: str = "", timeout_s: float | None = None) -> Template:
        """A fresh template; with `longpoll_id` the answer comes when that one is worth replacing. TemplateError when it
        must not be mined."""
        request: dict[str, object] = {"capabilities": ["coinbasevalue", "longpoll"], "rules": ["segwit"]}
        # Bitcoin Core refuses the call without it on a signet, and knows no such rule elsewhere
        if self.network.signet:
            request["rules"] = ["segwit", "signet"]
        if longpoll_id:
            request["longpollid"] = longpoll_id
        patience_s = LONGPOLL_TIMEOUT_S if longpoll_id else timeout_s
        reply = await self.call("getblocktemplate", request, timeout_s=patience_s)
        return Template.from_rpc(_mapping(reply), self.network, time.time_ns())

    async def submit_block(self, block_hex: str) -> SubmitAnswer:
        """What the node thinks of a block. Note that btcd answers null also for a block whose parent it lacks: look for
        it by `block_header`."""
        try:
            return SubmitAnswer.of(await self.call("submitblock", block_hex))
        except NodeRefused as error:
            if error.code == RPC_DESERIALIZATION_ERROR:
                return SubmitAnswer(Outcome.REJECTED, error.text[:200])
            raise

    async def precious_block(self, hash_hex: str) -> bool:
        """Prefer this block among equals. False when the node does not offer that."""
        try:
            await self.call("preciousblock", hash_hex)
        except NoSuchMethod:
            return False
        return True

    # --- for _send

    @property
    def shunned(self) -> bool:
        return self._record.failed_within(SHUNNED_S)

    async def ask_once(self, method: str, params: Sequence[object], timeout_s: float) -> object:
        """One try on one connection of its own: calls do not wait for each other here, and a long-poll holds up
        nothing."""
        if len(self._busy) >= MAX_CALLS_WAITING and method != "submitblock":
            raise NodeBusy(f"{self.name}: {len(self._busy)} calls wait for this node already")
        line = self._idle.pop() if self._idle else Line(self.address)
        self._busy.add(line)
        try:
            answer = await line.ask(method, params, timeout_s)
        except NodeRefused:
            self._record.answered()
            raise
        except NodeError as error:
            self._record.failed(error)
            raise
        else:
            self._record.answered()
            return answer
        finally:
            self._busy.discard(line)
            if line.closed or len(self._idle) >= KEPT_LINES:
                line.close()
            else:
                self._idle.append(line)


class Nodes:
    """All nodes of the pool, in order of preference."""

    def __init__(self, addresses: Sequence[NodeAddress], network: Network) -> None:
        if not addresses:
            raise ValueError("no node is configured")
        self.network = network
        self._nodes = tuple(Node(address, network) for address in addresses)

    @property
    def nodes(self) -> Sequence[Node]:
        return self._nodes

    async def call(
        self, method: str, *params: object, timeout_s: float | None = None, patience_s: float = 10.0
    ) -> object:
        """From the first node that answers; tried again with growing pauses until `patience_s` has passed."""
        return await _send(self._nodes, method, params, timeout_s, patience_s)

    def close(self) -> None:
        for node in self._nodes:
            node.close()

    async def __aenter__(self) -> Nodes:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


async def _send(
    nodes: Sequence[Node], method: str, params: Sequence[object], timeout_s: float | None, patience_s: float
) -> object:
    """Ask in order of preference, those that failed lately last. A refusal (NodeRefused) is an answer; everything else
    is the next node's turn, then the next round's."""
    deadline_s = time.monotonic() + patience_s
    pause_s = FIRST_PAUSE_S
    while True:
        failures: list[NodeError] = []
        for node in sorted(nodes, key=lambda node: node.shunned):
            try:
                return await node.ask_once(method, params, node.timeout_s if timeout_s is None else timeout_s)
            except NodeRefused:
                raise
            except NodeError as error:
                failures.append(error)
        if time.monotonic() + pause_s > deadline_s:
            # One that the operator can mend says more than one that is merely away.
            raise next((error for error in failures if isinstance(error, NodeMisconfigured)), failures[0])
        await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


class _Record:
    """How a node has been answering, and the log lines about it: at the first failure, then once a minute, then when it
    is back."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._since_s = 0.0
        self._last_s = float("-inf")
        self._logged_s = float("-inf")
        self._failures = 0

    def failed_within(self, seconds: float) -> bool:
        return self._failures > 0 and time.monotonic() - self._last_s < seconds

    def failed(self, error: NodeError) -> None:
        if isinstance(error, NoSuchMethod):
            return
        now_s = time.monotonic()
        if self._failures == 0:
            self._since_s = now_s
        self._failures += 1
        self._last_s = now_s
        if now_s - self._logged_s >= LOG_EACH_S:
            self._logged_s = now_s
            log.warning("node %s (%d failed calls in %.0f s)", error, self._failures, now_s - self._since_s)

    def answered(self) -> None:
        if self._failures:
            log.info(
                "node %s answers again after %d failed calls in %.0f s",
                self._name,
                self._failures,
                time.monotonic() - self._since_s,
            )
            self._failures = 0
            self._logged_s = float("-inf")


# --- shapes of answers


def _odd(what: str, value: object) -> NodeBusy:
    return NodeBusy(f"the node's answer has no usable {what}: {value!r}"[:200])


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _odd("object", value)
    return value


def _hash(value: object) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise _odd("block hash", value)
    return value


def _text(reply: Mapping[str, object], key: str, default: str | None = None) -> str:
    value = reply.get(key, default)
    if not isinstance(value, str):
        raise _odd(key, value)
    return value


def _whole(reply: Mapping[str, object], key: str, default: int | None = None) -> int:
    value = reply.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _odd(key, value)
    return value
