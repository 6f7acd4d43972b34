"""The port through which payouts speak to a Lightning node: requests, typed outcomes, and what each outcome proves.

Only a `Status` is news about a payment. No exception, error code, timeout or end of a stream ever is: those are
`NoInformation`, and after one the only thing to do is to look again.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Protocol

HASH_BYTES = 32
PUBKEY_BYTES = 33


class State(enum.Enum):
    """Where a payment stands. Whatever number a node sends that is not a known end is OPEN."""

    OPEN = "open"  # initiated, in flight, or a status this version does not know
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # of *these* HTLCs: final for a payout only behind its fence (a late resend may start it anew)


class Failure(enum.IntEnum):
    """Why the node gave a payment up, as lnrpc.PaymentFailureReason numbers it. For back-off, never for money."""

    NONE = 0
    TIMEOUT = 1
    NO_ROUTE = 2
    ERROR = 3
    INCORRECT_PAYMENT_DETAILS = 4
    INSUFFICIENT_BALANCE = 5
    CANCELED = 6


class Cause(enum.Enum):
    """What kept an answer from us."""

    UNAVAILABLE = "unavailable"  # no connection, or it was lost
    DEADLINE = "deadline"
    ENDED = "ended"  # the stream ended before a final status
    ERROR = "error"  # any error of the node or of gRPC itself: says nothing about whether a payment exists
    NONSENSE = "nonsense"  # an answer that contradicts the question


@dataclass(frozen=True, slots=True)
class Status:
    """What the node's payment table says of one payment: the only outcome that may move money."""

    payment_hash: bytes
    state: State
    status_code: int  # the node's own number
    failure_code: int  # `Failure` or a newer number; may be set on an open or a succeeded payment
    payment_index: int  # grows with each payment the node takes on; a re-initialised payment gets a new one
    value_msat: int
    fee_msat: int  # of settled parts, as the node says it
    settled_msat: int  # sum over settled HTLCs of what left us, fees included: what the books book
    in_flight_msat: int  # sum over unresolved HTLCs, fees included
    preimage: bytes | None  # None until known
    created_at_ns: int

    @property
    def final(self) -> bool:
        """The node will say nothing else of this payment unless it is sent anew."""
        return self.state is not State.OPEN

    @property
    def proven(self) -> bool:
        """Succeeded, and the preimage hashes to the payment hash."""
        if self.state is not State.SUCCEEDED or self.preimage is None:
            return False
        return hashlib.sha256(self.preimage).digest() == self.payment_hash


@dataclass(frozen=True, slots=True)
class NotFound:
    """The node answered that its table holds no such payment. Not a failure: a request may still be on its way."""

    payment_hash: bytes


@dataclass(frozen=True, slots=True)
class AlreadyExists:
    """The node took note of a send and refused it: this hash is under way or was paid. By whom, only a look tells."""

    payment_hash: bytes


@dataclass(frozen=True, slots=True)
class NoInformation:
    """Nothing is known. `detail` is for people, never for a decision."""

    cause: Cause
    detail: str


SendOutcome = Status | AlreadyExists | NoInformation
TrackOutcome = Status | NotFound | NoInformation


@dataclass(frozen=True, slots=True)
class SendRequest:
    """One payment to hand to the node: an invoice that names its amount, or a keysend. ValueError if it is neither.

    `timeout_s` only stops new attempts: a payment may succeed long after. `cltv_limit` in blocks bounds how long a
    payee can hold it. AMP does not exist here: its hash is chosen inside the node and could not be tracked.
    """

    payment_hash: bytes
    amount_msat: int
    fee_limit_msat: int  # 0 allows only routes without a fee
    bolt11: str = ""
    dest: bytes = b""  # keysend: the payee's public key ...
    preimage: bytes = b""  # ... and the preimage that was stored before
    timeout_s: int = 60
    cltv_limit: int = 600
    max_parts: int = 16

    def __post_init__(self) -> None:
        if len(self.payment_hash) != HASH_BYTES:
            raise ValueError(f"payment_hash has {len(self.payment_hash)} bytes, not {HASH_BYTES}")
        if self.amount_msat <= 0 or self.fee_limit_msat < 0 or self.timeout_s <= 0 or self.max_parts < 1:
            raise ValueError("amount, time and parts must be above 0, the fee limit not below")
        if bool(self.bolt11) == bool(self.dest):
            raise ValueError("a payment goes either to a bolt11 invoice or by keysend to a public key")
        if self.dest and (len(self.dest) != PUBKEY_BYTES or self.max_parts != 1):
            raise ValueError(f"keysend wants a public key of {PUBKEY_BYTES} bytes and max_parts = 1")
        if self.dest and hashlib.sha256(self.preimage).digest() != self.payment_hash:
            raise ValueError("the keysend preimage does not hash to payment_hash")

    def __repr__(self) -> str:  # never the preimage
        return f"SendRequest({self.payment_hash.hex()}, {self.amount_msat} msat)"


@dataclass(frozen=True, slots=True)
class Invoice:
    """A BOLT11 invoice as the node decodes it."""

    payment_hash: bytes
    dest: bytes
    amount_msat: int  # 0: the invoice names none
    created_at_s: int
    expiry_s: int
    description: str
    description_hash: bytes  # b"" if none
    min_final_cltv: int
    payment_addr: bytes  # b"" if none: LND refuses to pay it


@dataclass(frozen=True, slots=True)
class FeeEstimate:
    """A lower bound of what a payment to that node costs now."""

    fee_msat: int
    time_lock_blocks: int


@dataclass(frozen=True, slots=True)
class Balances:
    """All that the node holds, measured."""

    onchain_confirmed_sat: int
    onchain_unconfirmed_sat: int
    onchain_locked_sat: int
    local_msat: int
    unsettled_local_msat: int  # in HTLCs under way
    remote_msat: int
    pending_open_local_msat: int
    limbo_sat: int  # in channels that are closing

    @property
    def channels_msat(self) -> int:
        """Ours in open channels, under way included."""
        return self.local_msat + self.unsettled_local_msat


@dataclass(frozen=True, slots=True)
class Identity:
    """Which node answers, and how far it is."""

    pubkey: bytes
    version: str
    network: str  # "mainnet" | "testnet" | "signet" | "regtest" | "simnet"
    block_height: int
    best_header_time_s: int
    synced_to_chain: bool
    active_channels: int


@dataclass(frozen=True, slots=True)
class PaymentPage:
    """Payments of any status in the order of their index; empty: there are no more."""

    payments: tuple[Status, ...]
    last_index: int


class LightningBackend(Protocol):
    """A Lightning node. No method raises for anything the node or the network does; cancelling is passed on and does
    not stop a payment."""

    def send(self, request: SendRequest, deadline_s: float) -> AsyncGenerator[SendOutcome, None]:
        """Hand a payment over and follow it: statuses until a final one, or until one outcome that is no status, which
        is always the last. It is atomic on the payment hash: sending again while it is open or paid is AlreadyExists;
        after FAILED it starts anew."""
        ...

    def track(self, payment_hash: bytes, deadline_s: float) -> AsyncGenerator[TrackOutcome, None]:
        """Follow a payment from its current status on; ends like `send`."""
        ...

    async def look(self, payment_hash: bytes, deadline_s: float = 10.0) -> TrackOutcome:
        """The current status, once."""
        ...

    async def decode(self, bolt11: str) -> Invoice | NoInformation:
        """What an invoice says; NoInformation with the node's words if it cannot be read."""
        ...

    async def estimate_fee(self, dest: bytes, amount_sat: int) -> FeeEstimate | NoInformation:
        """A lower bound of the routing fee."""
        ...

    async def list_payments(self, after_index: int, most: int = 500) -> PaymentPage | NoInformation:
        """Up to `most` payments with an index above `after_index`, unfinished ones too."""
        ...

    async def balances(self) -> Balances | NoInformation:
        """What the node holds on chain and in channels."""
        ...

    async def identity(self) -> Identity | NoInformation:
        """Who answers."""
        ...

    async def close(self) -> None:
        """Give the connection back."""
        ...


async def all_payments(
    backend: LightningBackend, after_index: int = 0, page: int = 500
) -> AsyncIterator[Status | NoInformation]:
    """Every payment above an index, page by page; a NoInformation is the last item: the list is then incomplete."""
    while True:
        answer = await backend.list_payments(after_index, page)
        if isinstance(answer, NoInformation):
            yield answer
            return
        for payment in answer.payments:
            yield payment
        if not answer.payments:
            return
        if answer.last_index <= after_index:
            yield NoInformation(Cause.NONSENSE, f"the list of payments does not go on after index {after_index}")
            return
        after_index = answer.last_index
