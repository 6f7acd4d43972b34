"""The window of work that an income is split over, read from the slices: newest first, and no further than needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import BigInteger, Connection, Text, cast, func, literal, select, type_coerce
from sqlalchemy.sql.elements import ColumnElement

from native.difficulty import target_of_nbits, work_of_target
from pool.ledger.rewards import Policy, Walk, Window, WorkSum, make_window
from pool.store.schema import WideInt
from pool.store.work import ledger_accounts, ledger_workers, slice_totals, slice_work, slices

#: SQLite adds up 64-bit integers only: work goes through SUM in parts of ten digits, which 9 * 10^8 rows cannot
#: overflow.
PART_DIGITS = 10
PART = 10**PART_DIGITS


def window_at(connection: Connection, slice_id: int, policy: Policy) -> Window:
    """Score of each account (by its number in ledger_accounts) in the window that ends with slice `slice_id`."""
    walk = Walk(policy.window)
    oldest, edge, most = slice_id + 1, None, 0
    for one, totals in _totals_back(connection, slice_id):
        if walk.room() == 0:
            break
        most += sum(totals.values())
        if not walk.take(totals):
            edge = one
            break
        oldest = one
    accounts = account_of_workers(connection)
    sums = _sums(connection, accounts, oldest, slice_id, most, weight=policy.weight_subsidy)
    if edge is None:
        return make_window(sums, (), 0, walk.slices)
    cut = _sums(connection, accounts, edge, edge, most, weight=policy.weight_subsidy)
    entries = [WorkSum(account, work, network, paid) for (account, network, paid), work in cut.items()]
    return make_window(sums, entries, walk.room(), walk.slices + 1)


def window_now(connection: Connection, policy: Policy) -> Window:
    """The window that ends with the newest slice, as if an income came now."""
    newest = connection.execute(select(func.max(slices.c.id))).scalar()
    return window_at(connection, int(newest or 0), policy)


def oldest_slice_of(connection: Connection, slice_id: int, window: int) -> int | None:
    """Id of the oldest slice that the window touches, its edge included; None when it holds nothing."""
    walk, oldest = Walk(window), None
    for one, totals in _totals_back(connection, slice_id):
        if walk.room() == 0:
            break
        oldest = one
        if not walk.take(totals):
            break
    return oldest


def network_work(nbits: int) -> int:
    """Expected hashes of one block."""
    return work_of_target(target_of_nbits(nbits))


def _totals_back(connection: Connection, slice_id: int) -> Iterator[tuple[int, dict[int, int]]]:
    """(slice, its work for the common window by network work), newest first; slices without such work are left out."""
    networks: dict[int, int] = {}
    table = slice_totals
    query = select(table.c.slice_id, table.c.nbits, table.c.work).where(table.c.slice_id <= slice_id, table.c.solo == 0)
    totals: dict[int, int] = {}
    current: int | None = None
    with connection.execute(query.order_by(table.c.slice_id.desc()), execution_options={"yield_per": 1000}) as rows:
        for one, nbits, work in rows:
            if current is not None and one != current:
                yield current, totals
                totals = {}
            current = one
            if nbits not in networks:
                networks[nbits] = network_work(nbits)
            totals[networks[nbits]] = totals.get(networks[nbits], 0) + work
    if current is not None:
        yield current, totals


def _sums(
    connection: Connection, accounts: Mapping[int, int], oldest: int, newest: int, most: int, *, weight: bool
) -> dict[tuple[int, int, int], int]:
    """Work in slices oldest..newest by (account, network work, subsidy), added up by the database, exactly. `most`: the
    work of all of them, which no sum is above."""
    if oldest > newest:
        return {}
    subsidy = slice_work.c.subsidy_sat if weight else literal(0)
    keys: list[ColumnElement[int]] = [slice_work.c.worker_id, slice_work.c.nbits]
    keys += [slice_work.c.subsidy_sat] if weight else []
    inside = (slice_work.c.slice_id >= oldest, slice_work.c.slice_id <= newest, slice_work.c.solo == 0)
    query = select(slice_work.c.worker_id, slice_work.c.nbits, subsidy, *work_parts(connection, most))
    networks: dict[int, int] = {}
    sums: dict[tuple[int, int, int], int] = {}
    for worker, nbits, subsidy_sat, *parts in connection.execute(query.where(*inside).group_by(*keys)).all():
        network = networks.get(nbits)
        if network is None:
            network = networks[nbits] = network_work(nbits)
        key = (accounts[worker], network, subsidy_sat)
        sums[key] = sums.get(key, 0) + joined(parts)
    return sums


def account_of_workers(connection: Connection) -> dict[int, int]:
    """Account of each worker, by their numbers in the ledger."""
    query = select(ledger_workers.c.id, ledger_workers.c.account_id)
    return {row.id: row.account_id for row in connection.execute(query)}


def work_parts(connection: Connection, most: int = 10**WideInt.DIGITS - 1) -> list[ColumnElement[int]]:
    """SUM of slice_work.work as columns that the connection's database adds up exactly; `joined` makes them one. No
    single work is above `most`: digits that are always zero are not read."""
    if connection.dialect.name == "postgresql":
        return [func.sum(slice_work.c.work)]
    digits = type_coerce(slice_work.c.work, Text)
    parts = max(-(-len(str(most)) // PART_DIGITS), 1)
    starts = range(WideInt.DIGITS - parts * PART_DIGITS + 1, WideInt.DIGITS, PART_DIGITS)
    return [func.sum(cast(func.substr(digits, start, PART_DIGITS), BigInteger)) for start in starts]


def joined(parts: list[int]) -> int:
    """The number that the columns of `work_parts` hold."""
    whole = int(parts[0])
    for part in parts[1:]:
        whole = whole * PART + part
    return whole


def account_names(connection: Connection, numbers: set[int]) -> dict[int, str]:
    """Names of ledger accounts by number."""
    names: dict[int, str] = {}
    ordered = sorted(numbers)
    for start in range(0, len(ordered), 500):
        query = select(ledger_accounts.c.id, ledger_accounts.c.name)
        query = query.where(ledger_accounts.c.id.in_(ordered[start : start + 500]))
        names.update((row.id, row.name) for row in connection.execute(query))
    return names
