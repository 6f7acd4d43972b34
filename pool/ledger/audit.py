"""The invariants of the books as functions: run each minute, by `pool ledger verify`, and by the tests. Reads only.

Numbers are those of the study (payouts I1-I14). I5, I6-I9, I12 and I14 speak of payouts and wallets: their figures are
handed in by the rooms that measure them, and they are checked as soon as these do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, Row, case, func, select, text
from sqlalchemy.exc import InterfaceError, OperationalError

from pool.ledger import books, income, latches
from pool.ledger.policy import of_version
from pool.ledger.requests import TREASURY
from pool.store.books import (
    allocations,
    balances,
    book_accounts,
    entries,
    guards,
    income_blocks,
    income_events,
    policies,
    postings,
)
from pool.store.proofs import proof_epochs
from pool.store.work import found_shares, log_cursor, slices

#: Of one invariant: books that are wrong everywhere must not fill the memory with words.
MOST_TOLD = 100


@dataclass(frozen=True, slots=True)
class Broken:
    """An invariant that does not hold, and where."""

    invariant: str
    what: str


def _i1_every_entry_sums_to_zero(connection: Connection) -> Iterator[str]:
    total = func.sum(postings.c.amount_msat)
    query = select(postings.c.entry_id, total.label("total")).group_by(postings.c.entry_id).having(total != 0)
    for row in connection.execute(query):
        yield f"entry {row.entry_id} sums to {row.total} msat"
    empty = select(entries.c.id).outerjoin(postings).where(postings.c.entry_id.is_(None))
    for row in connection.execute(empty):
        yield f"entry {row.id} has no postings"


def _i2_everything_sums_to_zero(connection: Connection) -> Iterator[str]:
    total = connection.execute(select(func.coalesce(func.sum(postings.c.amount_msat), 0))).scalar_one()
    if total:
        yield f"all postings sum to {total} msat"


def _i3_balances_are_sums_of_postings(connection: Connection) -> Iterator[str]:
    sums = select(postings.c.account_id, func.sum(postings.c.amount_msat).label("msat"), func.count().label("n"))
    summed = sums.group_by(postings.c.account_id).subquery()
    query = (
        select(book_accounts.c.name, balances.c.msat, balances.c.version, summed.c.msat.label("really"), summed.c.n)
        .select_from(book_accounts)
        .outerjoin(balances, balances.c.account_id == book_accounts.c.id)
        .outerjoin(summed, summed.c.account_id == book_accounts.c.id)
    )
    for row in connection.execute(query):
        if (row.msat or 0) != (row.really or 0) or (row.version or 0) != (row.n or 0):
            yield f"{row.name} stands at {row.msat} msat after {row.version} moves, its postings say {row.really}"


def _i4_no_liability_below_zero(connection: Connection) -> Iterator[str]:
    query = select(book_accounts.c.name, balances.c.msat).join_from(balances, book_accounts)
    for row in connection.execute(query.where(book_accounts.c.kind == "liability", balances.c.msat > 0)):
        yield f"{row.name} is owed {-row.msat} msat"


def _i5_liabilities_are_covered(connection: Connection) -> Iterator[str]:
    """By the assets of the books; measured assets are compared by whoever measures them (payout)."""
    assets, liabilities = books.totals_msat(connection)
    if liabilities > assets:
        yield f"liabilities of {liabilities} msat stand against assets of {assets} msat"


def _i10_blocks_agree_with_their_entries(connection: Connection) -> Iterator[str]:
    """The state of a block is what its entries leave on its own account."""
    for row in connection.execute(select(income_blocks)):
        received = row.coinbase_msat - row.direct_msat
        expected = {"immature": received, "mature": 0, "orphaned": 0}[row.state]
        stands = -books.balance_msat(connection, f"unallocated:{row.hash_hex}")
        if stands != expected:
            yield f"block {row.hash_hex} is {row.state}, but {stands} msat of it wait to be allocated, not {expected}"
        is_booked = books.is_booked(connection, "block", row.hash_hex, f"mature:{row.turns}")
        if is_booked != (row.state == "mature" and received > 0):
            yield f"block {row.hash_hex} is {row.state}, its entries say otherwise"


def _i11_the_chain_of_entries_holds(connection: Connection) -> Iterator[str]:
    """Each entry follows from the one before it, and each head that was published is still in the chain: members hold
    these, so the newest entries cannot be taken away either."""
    published: dict[int, set[str]] = {}
    for row in connection.execute(select(proof_epochs.c.entry_id, proof_epochs.c.journal_head_hex).distinct()):
        published.setdefault(row.entry_id, set()).add(row.journal_head_hex)
    check = books.ChainCheck()
    while rows := books.walk(connection, check.number):
        for one in rows:
            wrong = check.follow(one)
            if wrong is not None:
                yield wrong
                return
            if published.pop(one.number, {one.hash_hex}) != {one.hash_hex}:
                yield f"entry {one.number} is not the one whose hash was published"
    if published.pop(0, {books.GENESIS.hex()}) != {books.GENESIS.hex()}:
        yield "a proof was published over empty books with another head than theirs"
    if published:
        yield f"entries up to {max(published)} were published, but the books end with entry {check.number}"


def _i13_allocations_sum_to_the_coinbase(connection: Connection) -> Iterator[str]:
    """And those of any other income to its amount; none stands for an income that is not booked."""
    total = func.sum(allocations.c.msat)
    direct = func.sum(case((allocations.c.part == "direct", allocations.c.msat), else_=0))
    query = select(
        allocations.c.source_type, allocations.c.source_id, total.label("total"), direct.label("direct")
    ).group_by(allocations.c.source_type, allocations.c.source_id)
    sums = {
        (row.source_type, row.source_id): (int(row.total), int(row.direct)) for row in connection.execute(query)
    }
    incomes = {
        ("block", row.hash_hex): (row.coinbase_msat, row.direct_msat)
        for row in connection.execute(select(income_blocks))
    }
    for row in connection.execute(select(income_events)):
        incomes[row.kind, row.source_id] = (row.amount_msat, 0)
    for key in sorted(incomes.keys() | sums.keys()):
        if sums.get(key) != incomes.get(key):
            kind, source = key
            yield f"{kind} {source} of {incomes.get(key)} msat (in all, direct) is allocated as {sums.get(key)}"


def _credits_are_those_allocated(connection: Connection) -> Iterator[str]:
    """What the entry of an income moved to each account is what was allocated to it."""
    legs = {("block", row.hash_hex): f"mature:{row.turns}" for row in _mature(connection)}
    for row in connection.execute(select(income_events)):
        legs[row.kind, row.source_id] = "booked"
    for (kind, source), leg in legs.items():
        credits = income.frozen_parts(connection, kind, source).credits()
        if kind == "virtual":  # what kappa kept stays where it came from
            credits.pop("reserve", None)
        booked = books.credits_of(connection, kind, source, leg)
        if kind == "virtual":
            booked.pop("reserve", None)
        booked.pop(f"unallocated:{source}", None)
        if credits != booked:
            yield f"{kind} {source} gave its members other amounts than were allocated to them"


def _mature(connection: Connection) -> list[Row[tuple[object, ...]]]:
    return list(connection.execute(select(income_blocks).where(income_blocks.c.state == "mature")).all())


def _treasury_stands_on_surplus(connection: Connection) -> Iterator[str]:
    """What the treasury works with is surplus and what it made of it, never members' money."""
    assets, *own = (books.balance_msat(connection, name) for name in ("treasury_assets", *TREASURY))
    if assets > -sum(own) or assets < 0:
        yield f"the treasury holds {assets} msat, surplus and its own result are {-sum(own)} msat"


def _policies_are_what_they_were(connection: Connection) -> Iterator[str]:
    for row in connection.execute(select(policies)):
        of_version(connection, row.version)
        if hashlib.sha256(row.body.encode()).hexdigest() != row.digest_hex:
            yield f"policy {row.version} was changed"


def _the_database_refuses_changes(connection: Connection) -> Iterator[str]:
    """The triggers that make the books append-only are there, and on."""
    if connection.dialect.name == "postgresql":
        query = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled IN ('O', 'A')"
    else:
        query = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
    there = {row[0].lower() for row in connection.execute(text(query))}
    for name in sorted(guards(connection.dialect.name)):
        if name.lower() not in there:
            yield f"the trigger {name} is missing: the books can be changed"


def _no_latch_is_closed(connection: Connection) -> Iterator[str]:
    for name, reason in latches.closed(connection).items():
        yield f"{name}: {reason}"


def _frozen_splits_can_be_derived_again(connection: Connection) -> Iterator[str]:
    for row in connection.execute(select(income_blocks).where(income_blocks.c.state == "immature")):
        if not income.can_be_derived(connection, row.hash_hex):
            yield f"block {row.hash_hex} splits differently now than when it was found"


def _work_is_summed_without_gaps(connection: Connection) -> Iterator[str]:
    """Each slice begins where the one before it ended, up to the position in the log."""
    before = None
    query = select(slices).order_by(slices.c.id)
    for row in connection.execute(query):
        if before is not None:
            follows = (row.first_epoch, row.first_seq) > (before.last_epoch, before.last_seq)
            adjoins = row.first_epoch != before.last_epoch or row.first_seq == before.last_seq + 1
            if not follows or not adjoins:
                yield f"slice {row.id} does not begin where slice {before.id} ends"
        before = row
    cursor = connection.execute(select(log_cursor)).one_or_none()
    if before is not None and (cursor is None or (before.last_epoch, before.last_seq) > (cursor.epoch, cursor.seq)):
        yield f"slice {before.id} reaches beyond the position in the log"
    for one in connection.execute(
        select(found_shares.c.hash_hex)
        .outerjoin(slices, slices.c.id == found_shares.c.slice_id)
        .where(slices.c.id.is_(None))
    ):
        yield f"the slice of block {one.hash_hex} is gone"


INVARIANTS: dict[str, Callable[[Connection], Iterator[str]]] = {
    "I1": _i1_every_entry_sums_to_zero,
    "I2": _i2_everything_sums_to_zero,
    "I3": _i3_balances_are_sums_of_postings,
    "I4": _i4_no_liability_below_zero,
    "I5": _i5_liabilities_are_covered,
    "I10": _i10_blocks_agree_with_their_entries,
    "I11": _i11_the_chain_of_entries_holds,
    "I13": _i13_allocations_sum_to_the_coinbase,
    "credits": _credits_are_those_allocated,
    "treasury": _treasury_stands_on_surplus,
    "policy": _policies_are_what_they_were,
    "splits": _frozen_splits_can_be_derived_again,
    "work": _work_is_summed_without_gaps,
    "append-only": _the_database_refuses_changes,
    "latch": _no_latch_is_closed,
}


def verify(connection: Connection) -> list[Broken]:
    """All invariants, in one reading transaction; empty when all hold. Data so damaged that a check cannot read it
    breaks that invariant too; a database that goes away is its own error."""
    return [Broken(name, what) for name, check in INVARIANTS.items() for what in _checked(check, connection)]


def _checked(check: Callable[[Connection], Iterator[str]], connection: Connection) -> list[str]:
    found: list[str] = []
    try:
        for what in check(connection):
            found.append(what)
            if len(found) == MOST_TOLD:
                break
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        found.append(f"cannot be checked: {type(error).__name__}: {error}")
    return found
