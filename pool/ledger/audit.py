"""The invariants of the books as functions: run each minute, by `pool ledger verify`, and by the tests. Reads only.

Numbers are those of the study (payouts I1-I14). I5, I6-I9, I12 and I14 speak of payouts and wallets: their figures are
handed in by the rooms that measure them, and they are checked as soon as these do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, case, func, select

from pool.ledger import books, income
from pool.ledger.policy import digest_of, of_version
from pool.store.books import allocations, balances, book_accounts, entries, income_blocks, policies, postings
from pool.store.work import found_shares, log_cursor, slices


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
    sums = dict.fromkeys(("asset", "liability", "equity"), 0)
    query = select(book_accounts.c.kind, func.sum(balances.c.msat)).join_from(balances, book_accounts)
    for kind, msat in connection.execute(query.group_by(book_accounts.c.kind)):
        sums[kind] = int(msat)
    if -sums["liability"] > sums["asset"]:
        yield f"liabilities of {-sums['liability']} msat stand against assets of {sums['asset']} msat"


def _i10_blocks_agree_with_their_entries(connection: Connection) -> Iterator[str]:
    """The state of a block is what its entries leave on its own account."""
    for row in connection.execute(select(income_blocks)):
        received = row.coinbase_msat - row.direct_msat
        expected = {"immature": received, "mature": 0, "orphaned": 0}[row.state]
        stands = -books.balance_msat(connection, f"unallocated:{row.hash_hex}")
        if stands != expected:
            yield f"block {row.hash_hex} is {row.state}, but {stands} msat of it wait to be allocated, not {expected}"
        is_booked = books.find(connection, "block", row.hash_hex, f"mature:{row.turns}") is not None
        if is_booked != (row.state == "mature" and received > 0):
            yield f"block {row.hash_hex} is {row.state}, its entries say otherwise"


def _i11_the_chain_of_entries_holds(connection: Connection) -> Iterator[str]:
    previous, number = books.GENESIS, 0
    while True:
        rows = books.walk(connection, number)
        if not rows:
            return
        for found, at_s, prev_hex, hash_hex, entry in rows:
            number += 1
            if found != number:
                yield f"entry {number} is missing: {found} follows {number - 1}"
                return
            if prev_hex != previous.hex() or books.link(previous, number, entry, at_s).hex() != hash_hex:
                yield f"entry {number} was changed: its hash does not follow from what it says"
                return
            previous = bytes.fromhex(hash_hex)


def _i13_allocations_sum_to_the_coinbase(connection: Connection) -> Iterator[str]:
    total = func.sum(allocations.c.msat)
    direct = func.sum(case((allocations.c.part == "direct", allocations.c.msat), else_=0))
    query = select(allocations.c.source_id, total.label("total"), direct.label("direct"))
    sums = {
        row.source_id: (int(row.total), int(row.direct))
        for row in connection.execute(
            query.where(allocations.c.source_type == "block").group_by(allocations.c.source_id)
        )
    }
    for row in connection.execute(select(income_blocks)):
        if sums.get(row.hash_hex) != (row.coinbase_msat, row.direct_msat):
            yield f"block {row.hash_hex} of {row.coinbase_msat} msat is allocated as {sums.get(row.hash_hex)}"


def _policies_are_what_they_were(connection: Connection) -> Iterator[str]:
    for row in connection.execute(select(policies)):
        if digest_of(of_version(connection, row.version)).hex() != row.digest_hex:
            yield f"policy {row.version} was changed"


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
    "policy": _policies_are_what_they_were,
    "splits": _frozen_splits_can_be_derived_again,
    "work": _work_is_summed_without_gaps,
}


def verify(connection: Connection) -> list[Broken]:
    """All invariants, in one reading transaction; empty when all hold."""
    return [Broken(name, what) for name, check in INVARIANTS.items() for what in check(connection)]
