"""The words of the chain room: networks, templates, tips, what a node answers, and the doors between its parts.

Byte orders: `*_hex` of a hash is display order (as RPC writes it); a bare `prevhash`, `txids`, `wtxids` is internal
order (as hashed).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

SUBSIDY_START_SAT = 50 * 100_000_000
#: BIP22/23 rules this code follows. A template rule that starts with "!" and is not here means: do not mine (BIP9).
KNOWN_RULES = frozenset({"csv", "segwit", "taproot", "testdummy", "signet"})


@dataclass(frozen=True, slots=True)
class Network:
    """What consensus fixes per chain, as far as a pool needs it."""

    name: str
    address_network: str  # key of pool.address.NETWORKS
    rpc_names: tuple[str, ...]  # what getblockchaininfo calls it ("chain"), on Core, Knots and btcd
    halving_blocks: int  # 0: never halves
    maturity: int  # confirmations until a coinbase can be spent
    retarget_blocks: int  # nBits may change at heights that are multiples; 0: never (regtest), 1: at every block
    min_difficulty_blocks: bool  # testnets: nBits may drop when a block took 20 minutes, so it cannot be foretold
    signet: bool = False

    def subsidy_sat(self, height: int) -> int:
        """New coins of the block at this height, without fees."""
        return SUBSIDY_START_SAT >> (height // self.halving_blocks if self.halving_blocks else 0)

    def nbits_foretold(self, height: int) -> bool:
        """True when the block at `height` must carry its parent's nBits, so that work can start before a template."""
        if self.min_difficulty_blocks:
            return False
        return self.retarget_blocks == 0 or height % self.retarget_blocks != 0


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network("mainnet", "mainnet", ("main", "mainnet"), 210_000, 100, 2016, False),
        Network("testnet3", "testnet", ("test", "testnet3"), 210_000, 100, 2016, True),
        Network("testnet4", "testnet", ("testnet4",), 210_000, 100, 2016, True),
        Network("signet", "signet", ("signet",), 210_000, 100, 2016, False, signet=True),
        Network("regtest", "regtest", ("regtest",), 150, 100, 0, False),
        # The embedded development chain in demo mode: retargets at each block, never halves, matures after 6.
        Network("demo", "regtest", ("demo",), 0, 6, 1, False),
    )
}
assert NETWORKS["mainnet"].subsidy_sat(840_000) == 312_500_000
assert not NETWORKS["mainnet"].nbits_foretold(4032)
assert NETWORKS["mainnet"].nbits_foretold(4033)


class TemplateError(ValueError):
    """A block template that must not be mined; the text names what is wrong. The operator (or the node) must act."""


@dataclass(frozen=True, slots=True)
class Transactions:
    """A template's transactions but the coinbase, joined once: 3,000 small objects cost more than the Merkle tree."""

    count: int = 0
    data: bytes = b""  # serialised with witness, in block order
    txids: bytes = b""  # 32 bytes each, internal order
    wtxids: bytes = b""  # the same for witness hashes
    fees_sat: int = 0
    weight: int = 0
    sigops: int = 0
    has_witness: bool = False  # some wtxid differs from its txid: the block needs a witness commitment

    @classmethod
    def from_rpc(cls, rows: Sequence[Mapping[str, object]]) -> Transactions:
        """Read getblocktemplate's "transactions". TemplateError names the field that cannot be read."""
        if not rows:
            return cls()
        try:
            data = bytes.fromhex("".join([row["data"] for row in rows]))  # type: ignore[misc]
            # All hashes are reversed in one go: join them last to first, then turn the whole round.
            txids = bytes.fromhex("".join([row["txid"] for row in reversed(rows)]))[::-1]  # type: ignore[misc]
            wtxids = bytes.fromhex("".join([row["hash"] for row in reversed(rows)]))[::-1]  # type: ignore[misc]
            fees_sat: int = sum([row["fee"] for row in rows])  # type: ignore[misc]
            weight: int = sum([row["weight"] for row in rows])  # type: ignore[misc]
            sigops: int = sum([row.get("sigops", 0) for row in rows])  # type: ignore[misc]
        except KeyError as error:
            raise TemplateError(f"template transaction without {error.args[0]!r}") from None
        except (TypeError, ValueError) as error:
            raise TemplateError(f"template transaction cannot be read: {error}") from None
        if len(txids) != 32 * len(rows) or len(wtxids) != 32 * len(rows):
            raise TemplateError("template transaction with a txid or hash that is not 32 bytes")
        return cls(len(rows), data, txids, wtxids, fees_sat, weight, sigops, txids != wtxids)


def _integer(gbt: Mapping[str, object], key: str, default: int | None = None) -> int:
    value = gbt.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TemplateError(f"template field {key!r} is {value!r}, not a whole number")
    return value


def _hex(gbt: Mapping[str, object], key: str, size: int) -> bytes:
    value = gbt.get(key)
    try:
        raw = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != size:
        raise TemplateError(f"template field {key!r} is {value!r}, not {size} bytes of hex")
    return raw


def _checked_rules(gbt: Mapping[str, object]) -> tuple[str, ...]:
    """R21: a "!" rule that is not known means that blocks built without it may be invalid."""
    rules = gbt.get("rules", [])
    if not isinstance(rules, list | tuple) or not all(isinstance(rule, str) for rule in rules):
        raise TemplateError(f"template field 'rules' is {rules!r}, not a list of names")
    unknown = sorted(rule for rule in rules if rule.startswith("!") and rule[1:] not in KNOWN_RULES)
    if unknown:
        raise TemplateError(f"the node asks for rules this pool does not know: {', '.join(unknown)}")
    challenge = gbt.get("signet_challenge", "51")
    if challenge != "51":
        # BIP325: anything but OP_TRUE asks for a signature of the network's block signers in each block.
        raise TemplateError("blocks of this signet need its signers' signature (signet_challenge is not OP_TRUE)")
    return tuple(rules)


@dataclass(frozen=True, slots=True)
class Template:
    """What to mine on: an answer of getblocktemplate, or a subsidy-only stand-in for a new tip (`complete` False)."""

    network: Network
    height: int
    prevhash: bytes  # internal order
    prevhash_hex: str  # display order
    version: int
    nbits: int
    curtime_s: int  # the node's clock
    mintime_s: int
    coinbase_value_sat: int  # subsidy + fees
    transactions: Transactions
    witness_commitment: bytes | None  # default_witness_commitment, the whole output script; None: none given
    weight_limit: int  # whole block, coinbase included
    sigop_limit: int
    rules: tuple[str, ...]
    vbrequired: int
    received_at_ns: int
    complete: bool = True
    longpoll_id: str = ""

    @classmethod
    def from_rpc(cls, gbt: Mapping[str, object], network: Network, received_at_ns: int) -> Template:
        """Read a getblocktemplate answer (BIP22/23/9/145). TemplateError names what is missing or odd, or the rule."""
        rules = _checked_rules(gbt)
        rows = gbt.get("transactions")
        if not isinstance(rows, Sequence) or isinstance(rows, str):
            raise TemplateError("template without its list of transactions")
        prevhash_shown = _hex(gbt, "previousblockhash", 32)
        commitment_hex = gbt.get("default_witness_commitment")
        try:
            commitment = bytes.fromhex(commitment_hex) if isinstance(commitment_hex, str) else None
        except ValueError:
            raise TemplateError("template field 'default_witness_commitment' is not hex") from None
        # btcd (0.26.2) gives the hash alone, not its output script
        if commitment is not None and len(commitment) == 32:
            commitment = bytes.fromhex("6a24aa21a9ed") + commitment
        longpoll_id = gbt.get("longpollid", "")
        return cls(
            network=network,
            height=_integer(gbt, "height"),
            prevhash=prevhash_shown[::-1],
            prevhash_hex=prevhash_shown.hex(),
            version=_integer(gbt, "version"),
            nbits=int.from_bytes(_hex(gbt, "bits", 4), "big"),
            curtime_s=_integer(gbt, "curtime"),
            mintime_s=_integer(gbt, "mintime", 0),
            coinbase_value_sat=_integer(gbt, "coinbasevalue"),
            transactions=Transactions.from_rpc(rows),
            witness_commitment=commitment,
            weight_limit=_integer(gbt, "weightlimit", 4_000_000),
            sigop_limit=_integer(gbt, "sigoplimit", 80_000),
            rules=rules,
            vbrequired=_integer(gbt, "vbrequired", 0),
            received_at_ns=received_at_ns,
            longpoll_id=longpoll_id if isinstance(longpoll_id, str) else "",
        )


@dataclass(frozen=True, slots=True)
class Tip:
    """The best block of the node we follow: known by hash, never by height alone."""

    network: Network
    hash: bytes  # internal order: the prevhash of what is mined next
    hash_hex: str
    height: int  # of the tip itself; the next block has height + 1
    nbits: int
    mediantime_s: int  # median of the last 11: the next block's time must be above it
    received_at_ns: int
    version: int = 0x20000000


@dataclass(frozen=True, slots=True)
class NodeState:
    """Whether the node side can be mined on, in words that operators and miners may read (P10)."""

    ok: bool
    reason: str  # "" when ok
    since_s: float  # wall clock
    node: str = ""  # name of the node in use
    height: int = 0
    headers: int = 0  # best header its peers told it
    ibd: bool = False


# --- errors of the node side, by who must act


class NodeError(Exception):
    """Any failure of a node. Caught where the caller can go on without an answer."""


class NodeBusy(NodeError):
    """No answer now: connection, timeout, HTTP 5xx, warm-up (-28), work queue full. The next retry acts."""


class NodeRefused(NodeError):
    """The node understood and said no. The caller acts."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code
        self.text = text


class NodeMisconfigured(NodeError):
    """Wrong password, wrong network, a method that is missing or switched off. The operator acts."""


class Outcome(enum.Enum):
    """What submitblock's answer means (BIP22)."""

    ACCEPTED = "accepted"  # null
    DUPLICATE = "duplicate"  # it holds the block already, valid
    SIDE_CHAIN = "inconclusive"  # it holds the block, not on its best chain (yet)
    UNDECIDED = "duplicate-inconclusive"  # it has seen the block and has not said what it thinks
    REJECTED = "rejected"

    @property
    def held(self) -> bool:
        """True when that node now holds the block."""
        return self in (Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.SIDE_CHAIN)


@dataclass(frozen=True, slots=True)
class SubmitAnswer:
    outcome: Outcome
    reason: str = ""  # the node's own word, when it said one

    @classmethod
    def of(cls, reply: object) -> SubmitAnswer:
        """Read submitblock's result: null, or a word. btcd says "rejected: already have block" for a duplicate."""
        if reply is None or reply == "":
            return cls(Outcome.ACCEPTED)
        if not isinstance(reply, str):
            return cls(Outcome.UNDECIDED, f"unreadable answer {reply!r}"[:200])
        word = reply.strip().lower()
        for outcome in (Outcome.DUPLICATE, Outcome.SIDE_CHAIN, Outcome.UNDECIDED):
            if word == outcome.value:
                return cls(outcome, reply)
        if "already have block" in word:
            return cls(Outcome.DUPLICATE, reply[:200])
        return cls(Outcome.REJECTED, reply[:200])


@dataclass(frozen=True, slots=True)
class HeaderInfo:
    """getblockheader, as far as a block keeper needs it."""

    hash_hex: str
    height: int
    confirmations: int  # 1: the tip; -1: not on the best chain
    nbits: int = 0
    mediantime_s: int = 0
    previous_hash_hex: str = ""


class BlockNode(Protocol):
    """One node, as blocks.py uses it. Each call owns its time-out; failures are NodeError."""

    @property
    def name(self) -> str: ...
    async def submit_block(self, block_hex: str) -> SubmitAnswer: ...
    async def precious_block(self, hash_hex: str) -> bool:
        """False when the node does not offer it."""

    async def block_header(self, hash_hex: str) -> HeaderInfo | None:
        """None when the node does not know the block."""

    async def best_block_hash(self) -> str: ...


class BlockNodes(Protocol):
    """All nodes of the pool, in order of preference."""

    @property
    def nodes(self) -> Sequence[BlockNode]: ...


class WorkSink(Protocol):
    """What the follower (templates.py) tells the WorkDesk (work.py): plain calls on the loop that return at once."""

    def on_tip(self, tip: Tip) -> None:
        """A new best block was seen: before its template was asked for."""

    def on_template(self, template: Template) -> None:
        """A fresh template: after a new tip, every 30 s, or when long-poll answers."""

    def on_node_state(self, state: NodeState) -> None:
        """Whenever `ok` or `reason` changes."""


@dataclass(frozen=True, slots=True)
class Output:
    """One coinbase output."""

    script: bytes
    value_sat: int
    label: str = field(default="", compare=False)  # whose it is, for people and logs
