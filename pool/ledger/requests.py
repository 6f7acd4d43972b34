"""Requests of other rooms that move money in the books: checked and applied by the ledger's clock, through the inbox.

The treasury may only ask for moves among surplus and treasury accounts, and none of them may leave the treasury with
more than the surplus it stands on: members' money is out of its reach whatever it asks for."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from pool.ledger import books, donations, virtual
from pool.ledger.books import ConflictError, Entry
from pool.records import IncomeEvent
from pool.store import inbox
from pool.store.inbox import RefusedError
from pool.store.work import ledger_accounts

#: Equity that the treasury answers for; beside them stands the asset `treasury_assets`.
TREASURY = ("surplus", "treasury_result")
WALLETS = ("onchain_hot", "onchain_cold", "ln_channels")
LONGEST = 200


@inbox.request("ledger.treasury_posting")
@dataclass(frozen=True, slots=True)
class TreasuryPosting:
    """Move within the treasury: a result (treasury_assets, treasury_result) or its way back (treasury_result,
    surplus). The debited account grows if it is an asset; `reference` makes it once."""

    reference: str
    debit: str
    credit: str
    amount_msat: int
    reason: str


@inbox.request("ledger.treasury_transfer")
@dataclass(frozen=True, slots=True)
class TreasuryTransfer:
    """Coins that went from a wallet of the pool to the treasury (amount above zero) or came back (below)."""

    reference: str
    wallet: str
    amount_msat: int
    reason: str


@inbox.request("ledger.earmark_surplus")
@dataclass(frozen=True, slots=True)
class EarmarkSurplus:
    """Declare part of what the pool earned (its fees less its costs) surplus, for the treasury to work with."""

    reference: str
    amount_msat: int
    reason: str


@inbox.request("ledger.donation")
@dataclass(frozen=True, slots=True)
class Donation:
    """Money given from outside that arrived in a wallet. `reference`: its payment hash or txid:output. `goes_to`:
    projects, project:<id>, reserve, raffle, donation_income, or members (split as a virtual block)."""

    reference: str
    amount_msat: int
    received_in: str
    goes_to: str


@inbox.request("ledger.upstream_income")
@dataclass(frozen=True, slots=True)
class UpstreamIncome:
    """What another pool paid for work of ours: split as a block is."""

    reference: str
    amount_msat: int
    received_in: str


@inbox.request("ledger.donation_choice")
@dataclass(frozen=True, slots=True)
class DonationChoice:
    """A member's own choice of what part of his earnings goes to projects. Who puts it has seen his signature."""

    account: str
    donation_bp: int


KINDS = (
    "ledger.treasury_posting",
    "ledger.treasury_transfer",
    "ledger.earmark_surplus",
    "ledger.donation",
    "ledger.upstream_income",
    "ledger.donation_choice",
)


def waiting(connection: Connection) -> bool:
    """Is there a request to look at?"""
    query = select(inbox.inbox.c.id).where(inbox.inbox.c.kind.in_(KINDS), inbox.inbox.c.state == "new").limit(1)
    return connection.execute(query).first() is not None


def apply_next(connection: Connection, height: int, at_s: int) -> inbox.Outcome | None:
    """Check and apply the oldest request in this transaction; None when none waits. `height` of the next block: by its
    policy incomes are split."""

    def handler(inner: Connection, request: object) -> str:
        try:
            return _apply(inner, request, height, at_s)
        except (ConflictError, books.UnbalancedError, virtual.NoWorkError, ValueError) as error:
            raise RefusedError(str(error) or "no work is counted yet to split it by") from None

    return inbox.apply_next(connection, KINDS, handler, now_s=at_s)


def _apply(connection: Connection, request: object, height: int, at_s: int) -> str:
    match request:
        case TreasuryPosting():
            return _treasury_posting(connection, request, at_s)
        case TreasuryTransfer():
            return _treasury_transfer(connection, request, at_s)
        case EarmarkSurplus():
            return _earmark(connection, request, at_s)
        case Donation():
            return _donation(connection, request, height, at_s)
        case UpstreamIncome():
            event = _event(connection, "upstream", request.reference, request.amount_msat, height)
            at = virtual.newest_closed(connection)
            done = virtual.book(connection, event, request.received_in, at_s, slice_id=at.slice_id)
            return "split among the members" if done else "was booked already"
        case DonationChoice():
            known = select(ledger_accounts.c.id).where(ledger_accounts.c.name == request.account)
            if connection.execute(known).first() is None:
                raise RefusedError(f"{request.account} has not mined here")
            donations.choose(connection, request.account, request.donation_bp, at_s)
            return f"{request.donation_bp} basis points from the next income on"
    raise RefusedError(f"{type(request).__name__} is no request of the ledger")


def _treasury_posting(connection: Connection, request: TreasuryPosting, at_s: int) -> str:
    allowed = ("treasury_assets", *TREASURY)
    if request.debit not in allowed or request.credit not in allowed or request.debit == request.credit:
        raise RefusedError(f"only moves between two of {', '.join(allowed)}")
    _amount(request.amount_msat)
    moves = ((request.debit, request.amount_msat), (request.credit, -request.amount_msat))
    return _post(connection, "treasury_posting", request.reference, moves, request.reason, at_s)


def _treasury_transfer(connection: Connection, request: TreasuryTransfer, at_s: int) -> str:
    if request.wallet not in WALLETS:
        raise RefusedError(f"the wallet is one of {', '.join(WALLETS)}")
    _amount(abs(request.amount_msat))
    moves = (("treasury_assets", request.amount_msat), (request.wallet, -request.amount_msat))
    return _post(connection, "treasury_transfer", request.reference, moves, request.reason, at_s)


def _earmark(connection: Connection, request: EarmarkSurplus, at_s: int) -> str:
    _amount(request.amount_msat)
    moves = (("pool_fee", request.amount_msat), ("surplus", -request.amount_msat))
    words = _post(connection, "earmark_surplus", request.reference, moves, request.reason, at_s)
    earned = -sum(books.balance_msat(connection, name) for name in books.EQUITY if name not in TREASURY)
    if earned < 0:  # fees less costs: routing, channels, losses
        raise RefusedError(f"the pool earned {earned + request.amount_msat} msat after its costs, not more")
    return words


def _donation(connection: Connection, request: Donation, height: int, at_s: int) -> str:
    event = _event(connection, "donation", request.reference, request.amount_msat, height)
    if request.goes_to == "members":
        at = virtual.newest_closed(connection)
        done = virtual.book(connection, event, request.received_in, at_s, slice_id=at.slice_id)
    else:
        done = virtual.give(connection, event, request.received_in, request.goes_to, at_s)
    return f"{request.amount_msat} msat for {request.goes_to}" if done else "was booked already"


def _event(connection: Connection, kind: str, reference: str, amount_msat: int, height: int) -> IncomeEvent:
    _amount(amount_msat)
    _reference(reference)
    try:
        at = virtual.newest_closed(connection)
    except virtual.NoWorkError:
        at = virtual.At(0, 0, 0)
    return IncomeEvent(kind, reference, amount_msat, at.epoch, at.seq, height)


def _post(
    connection: Connection, kind: str, reference: str, moves: tuple[tuple[str, int], ...], reason: str, at_s: int
) -> str:
    """Post it and look at what it leaves: the transaction is undone by a refusal."""
    _reference(reference)
    if len(reason) > LONGEST:
        raise RefusedError(f"a reason has at most {LONGEST} characters")
    if not books.post(connection, Entry(kind, "request", reference, kind, moves, reason), at_s):
        return "was booked already"
    for name, _ in moves:
        stands = books.balance_msat(connection, name)
        below = stands < 0 if books.kind_of(name) == "asset" else stands > 0 and name != "treasury_result"
        if below:
            raise RefusedError(f"{name} would stand {abs(stands)} msat below zero")
    assets = books.balance_msat(connection, "treasury_assets")
    own = -sum(books.balance_msat(connection, name) for name in TREASURY)
    if assets > own:
        raise RefusedError(f"the treasury would hold {assets} msat on a surplus of {own} msat")
    _covered(connection)
    return "booked"


def _covered(connection: Connection) -> None:
    """Equity must not fall below zero: then members' money would be what is spent."""
    assets, liabilities = books.totals_msat(connection)
    if liabilities > assets:
        raise RefusedError(f"liabilities of {liabilities} msat would stand against assets of {assets} msat")


def _amount(amount_msat: int) -> None:
    if not 0 < amount_msat <= books.MAX_MSAT:
        raise RefusedError(f"an amount must be above zero and below all bitcoin, got {amount_msat} msat")


def _reference(reference: str) -> None:
    if not 0 < len(reference) <= LONGEST:
        raise RefusedError(f"a reference has 1 to {LONGEST} characters")
