"""The window of work that an income is split over, read from the slices: newest first, and no further than needed."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, func, select

from native.difficulty import target_of_nbits, work_of_target
from pool.ledger.rewards import Policy, Window, WorkSum, window_of
from pool.store.work import ledger_accounts, ledger_workers, slice_work, slices

SLICES_A_READ = 64


def window_at(connection: Connection, slice_id: int, policy: Policy) -> Window:
    """Score of each account (by its number in ledger_accounts) in the window that ends with slice `slice_id`."""
    return window_of(_slices_back(connection, slice_id, weight=policy.weight_subsidy), policy.window)


def window_now(connection: Connection, policy: Policy) -> Window:
    """The window that ends with the newest slice, as if an income came now."""
    newest = connection.execute(select(func.max(slices.c.id))).scalar()
    return window_at(connection, int(newest or 0), policy)


def _slices_back(connection: Connection, slice_id: int, *, weight: bool) -> Iterator[list[WorkSum]]:
    networks: dict[int, int] = {}
    columns = (
        slice_work.c.slice_id,
        ledger_workers.c.account_id,
        slice_work.c.nbits,
        slice_work.c.subsidy_sat,
        slice_work.c.work,
    )
    newest = slice_id
    while True:
        ids = connection.execute(
            select(slices.c.id).where(slices.c.id <= newest).order_by(slices.c.id.desc()).limit(SLICES_A_READ)
        )
        wanted = [row.id for row in ids]
        if not wanted:
            return
        query = select(*columns).join_from(slice_work, ledger_workers)
        query = query.where(slice_work.c.slice_id >= wanted[-1], slice_work.c.slice_id <= newest)
        query = query.where(slice_work.c.solo == 0)
        sums: dict[int, dict[tuple[int, int, int], int]] = {one: {} for one in wanted}
        for one, account, nbits, subsidy, work in connection.execute(query):
            key = (account, nbits, subsidy if weight else 0)
            mine = sums[one]
            mine[key] = mine.get(key, 0) + work
        for one in wanted:
            entries = []
            for (account, nbits, subsidy), work in sorted(sums[one].items()):
                if nbits not in networks:
                    networks[nbits] = work_of_target(target_of_nbits(nbits))
                entries.append(WorkSum(account, work, networks[nbits], subsidy))
            if entries:
                yield entries
        newest = wanted[-1] - 1


def account_names(connection: Connection, numbers: set[int]) -> dict[int, str]:
    """Names of ledger accounts by number."""
    names: dict[int, str] = {}
    ordered = sorted(numbers)
    for start in range(0, len(ordered), 500):
        query = select(ledger_accounts.c.id, ledger_accounts.c.name)
        query = query.where(ledger_accounts.c.id.in_(ordered[start : start + 500]))
        names.update((row.id, row.name) for row in connection.execute(query))
    return names
