"""Watching one node: which block it holds for the best, and whether its word can be mined on. Which node is followed is
templates.py."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import zmq
import zmq.asyncio

from pool.chain.node import ChainInfo, Node, Peers
from pool.chain.rpc import NoSuchMethod
from pool.chain.types import HeaderInfo, Network, NodeError, TemplateError, Tip

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are asked, and how long a trouble may last before it counts."""

    poll_s: float = 1.0  # getbestblockhash
    answer_s: float = 5.0  # time-out of that and of the health questions
    template_s: float = 15.0  # time-out of a template that is not waited for by long-poll
    health_s: float = 10.0  # getblockchaininfo, getpeerinfo, uptime
    refresh_s: float = 30.0  # a fresh template on the same tip
    down_s: float = 10.0  # no answer for this long: the node is down (a restart may take a moment)
    lag_s: float = 30.0  # behind for this long: a block's header always arrives before the block
    template_loss_s: float = 60.0  # no template for this long
    failover_s: float = 3.0  # any trouble this old is enough to leave a node for one that has none
    return_s: float = 10.0  # the preferred node must have been well for this long before we go back to it


#: Kinds of trouble, the one that explains most first.
KINDS = ("down", "new", "chain", "ibd", "lag", "behind", "peers", "template")


@dataclass(frozen=True, slots=True)
class _Fault:
    text: str
    since_s: float
    grace_s: float


class NodeWatch:
    """One node's best block and troubles, kept fresh. `heard` is called on the loop whenever something here changed."""

    def __init__(self, node: Node, network: Network, pace: Pace, heard: Callable[[], None]) -> None:
        self.node = node
        self.network = network
        self.pace = pace
        self.best_hash_hex = ""  # "" until the node has answered
        self.info: ChainInfo | None = None
        self.comebacks = 0  # times it was restarted or came back: templates from before are stale
        self.asked = False
        self._heard = heard
        self._faults: dict[str, _Fault] = {kind: _Fault("has not answered yet", 0.0, 0.0) for kind in ("down", "new")}
        self._well_since_s = time.monotonic()
        self._uptime: tuple[int, float] | None = None
        self._look = asyncio.Event()
        self._check = asyncio.Event()

    @property
    def name(self) -> str:
        return self.node.name

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._poll())
            tasks.create_task(self._examine_now_and_then())
            if self.node.address.zmq_hashblock:
                tasks.create_task(self._listen())

    def look(self) -> None:
        """Ask for the best block now, not at the next poll."""
        self._look.set()

    def saw(self, hash_hex: str) -> None:
        """The node named this its best block."""
        if hash_hex != self.best_hash_hex:
            self.best_hash_hex = hash_hex
            self._check.set()
            self._heard()

    # --- troubles

    def trouble(self, *, but: str = "") -> str:
        """Why this node cannot be mined on, in words; "" when it can. `but` names a kind to leave out."""
        now_s = time.monotonic()
        for kind in KINDS:
            fault = self._faults.get(kind)
            if fault is not None and kind != but and now_s - fault.since_s >= fault.grace_s:
                return f"{self.name} {fault.text}"
        return ""

    def worry(self) -> str:
        """What speaks against this node, even if it does not count yet; "" when nothing does."""
        return next((fault.text for kind in KINDS if (fault := self._faults.get(kind))), "")

    def shaky(self) -> bool:
        """Some trouble, perhaps too young to count, and old enough to prefer another node."""
        now_s = time.monotonic()
        return any(now_s - fault.since_s >= self.pace.failover_s for fault in self._faults.values())

    def well_for_s(self) -> float:
        return 0.0 if self._faults else time.monotonic() - self._well_since_s

    @property
    def undecided(self) -> bool:
        """Not heard out yet since the start: it may be well, it may be not."""
        return not self.asked or set(self._faults) == {"new"}

    def set_fault(self, kind: str, text: str, grace_s: float = 0.0) -> None:
        """Told again: the text may change, its age stays."""
        old = self._faults.get(kind)
        self._faults[kind] = _Fault(text, old.since_s if old else time.monotonic(), grace_s)
        if old is None or old.text != text:
            self._heard()

    def clear_fault(self, kind: str) -> None:
        if self._faults.pop(kind, None) is not None:
            if not self._faults:
                self._well_since_s = time.monotonic()
            self._heard()

    def _fault_if(self, kind: str, text: str, grace_s: float = 0.0) -> None:
        if text:
            self.set_fault(kind, text, grace_s)
        else:
            self.clear_fault(kind)

    # --- asking

    async def _poll(self) -> None:
        while True:
            self._look.clear()
            try:
                hash_hex = await self.node.best_block_hash(self.pace.answer_s)
            except NodeError as error:
                self._failed(error)
            else:
                self._answered()
                self.saw(hash_hex)
            await _wait(self._look, self.pace.poll_s)

    def _failed(self, error: NodeError) -> None:
        self.asked = True
        self.set_fault("down", self.words(error), self.pace.down_s if self.best_hash_hex else 0.0)

    def words(self, error: NodeError) -> str:
        """Without the node's name, which is put in front of every fault."""
        return str(error).removeprefix(self.name).lstrip(": ")

    def _answered(self) -> None:
        self.asked = True
        if "down" in self._faults:
            if self.best_hash_hex:
                self.comebacks += 1
            self._check.set()
            self.clear_fault("down")

    async def _examine_now_and_then(self) -> None:
        while True:
            self._check.clear()
            try:
                await self._examine()
            except NodeError as error:  # a node that is down is told, and timed, by the poll beside
                if "new" in self._faults:
                    self.set_fault("new", f"does not tell its state: {self.words(error)}")
            else:
                self.clear_fault("new")
            await _wait(self._check, self.pace.health_s)

    async def _examine(self) -> None:
        info = await self.node.chain_info(self.pace.answer_s)
        self.info = info
        network = self.network
        wrong = info.chain not in network.rpc_names
        self._fault_if("chain", f"is on chain {info.chain!r}, the pool is set to {network.name}" if wrong else "")
        private = alone(network)
        downloading = info.ibd and not private
        self._fault_if("ibd", "is still downloading the chain (initial block download)" if downloading else "")
        peers: Peers | None = None
        with contextlib.suppress(NoSuchMethod):
            peers = await self.node.peers(self.pace.answer_s)
        self._fault_if("lag", lag(info, peers), self.pace.lag_s)
        lonely = peers is not None and peers.count == 0 and not private
        self._fault_if("peers", "has no peers: a block found now could not leave it" if lonely else "", self.pace.lag_s)
        await self._notice_restart()
        if "template" in self._faults:
            await self._try_template()

    async def _notice_restart(self) -> None:
        uptime_s, now_s = await self.node.uptime_s(self.pace.answer_s), time.monotonic()
        if uptime_s is None:
            return
        if self._uptime is not None and uptime_s + 2 < self._uptime[0] + (now_s - self._uptime[1]):
            log.warning("node %s was restarted %d s ago", self.name, uptime_s)
            self.comebacks += 1
            self._heard()
        self._uptime = (uptime_s, now_s)

    async def _try_template(self) -> None:
        """A node that gave no template is not asked for one while another is followed: so it is tried here."""
        with contextlib.suppress(TemplateError):
            if (await self.node.block_template(timeout_s=self.pace.template_s)).prevhash_hex == self.best_hash_hex:
                self.clear_fault("template")

    async def _listen(self) -> None:
        """ZMQ only wakes the poll: its messages may come late, twice or not at all, the answer of getbestblockhash is
        the truth."""
        context = zmq.asyncio.Context()
        socket = context.socket(zmq.SUB)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVHWM, 16)
            socket.setsockopt(zmq.HEARTBEAT_IVL, 30_000)  # a publisher that vanished without a word is dialled again
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 90_000)
            socket.setsockopt(zmq.MAXMSGSIZE, 4096)
            socket.setsockopt(zmq.SUBSCRIBE, b"hashblock")
            socket.connect(self.node.address.zmq_hashblock)
            while True:
                await socket.recv_multipart()
                self.look()
        finally:
            socket.close()
            context.term()

    # --- what its best block is

    async def tip(self, hash_hex: str) -> Tip | None:
        """The block as a tip; None when the node has another best block by now."""
        header = await self.node.block_header(hash_hex, self.pace.answer_s)
        if header is None or header.confirmations != 1:
            return None
        mediantime_s = header.mediantime_s or await self._mediantime_s(header)
        if mediantime_s is None:
            return None
        return Tip(
            network=self.network,
            hash=bytes.fromhex(hash_hex)[::-1],
            hash_hex=hash_hex,
            height=header.height,
            nbits=header.nbits,
            mediantime_s=mediantime_s,
            received_at_ns=time.time_ns(),
        )

    async def _mediantime_s(self, header: HeaderInfo) -> int | None:
        """btcd does not tell it in the header, only for the best block."""
        info = await self.node.chain_info(self.pace.answer_s)
        return info.mediantime_s if info.best_hash_hex == header.hash_hex else None


def lag(info: ChainInfo, peers: Peers | None) -> str:
    """How far a node is behind what it has heard of, in words; "" when it is not."""
    if info.headers > info.blocks:
        return "is behind: it knows newer headers and does not have their blocks"
    if peers is not None and peers.height > info.headers + 1:
        return "is behind: most of its peers know a longer chain"
    return ""


def alone(network: Network) -> bool:
    """Chains that one machine may have to itself: no peers, and a first block after months, are normal there."""
    return "regtest" in network.rpc_names or "demo" in network.rpc_names


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
