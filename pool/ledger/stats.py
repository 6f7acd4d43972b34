"""What the pages show of work, read from the store and from a snapshot of the rates: reads only, no hot path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from pool.ledger.rates import Rate, Snapshot, stored
from pool.ledger.rewards import SCALE, score_of
from pool.ledger.window import joined, network_work, work_parts
from pool.records import Verdict
from pool.store.work import (
    best_shares,
    found_shares,
    ledger_accounts,
    ledger_workers,
    slice_rejects,
    slice_totals,
    slice_work,
    slices,
)

__all__ = ["Best", "BlockEffort", "Effort", "Point", "Rate", "Snapshot", "WorkerRow", "best", "block_efforts"]
__all__ += ["effort_now", "history", "luck", "rates_of_account", "stored", "workers_of"]


@dataclass(frozen=True, slots=True)
class Best:
    """The best share for ever, with the header that anybody can hash again."""

    account: str
    worker: str
    difficulty: float
    header_hex: str
    time_ns: int


@dataclass(frozen=True, slots=True)
class Effort:
    """Work since a block was found, in attoblocks: 10^18 is what a block takes on average."""

    attoblocks: int
    since_hash_hex: str | None  # None: since ever

    @property
    def fraction(self) -> float:
        return self.attoblocks / SCALE


@dataclass(frozen=True, slots=True)
class BlockEffort:
    """A found block and what it took."""

    hash_hex: str
    height: int
    time_ns: int
    attoblocks: int


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A worker's work ever, its refusals by reason, and its best share."""

    worker_id: int
    name: str
    work: int
    shares: int
    active_s: int
    rejects: dict[Verdict, int]
    best_difficulty: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """Of a chart: mean hashrate over one slice."""

    start_s: int
    span_s: int
    work: int
    shares: int

    @property
    def hashrate_hs(self) -> float:
        return self.work / self.span_s


def best(connection: Connection, account: str | None = None) -> Best | None:
    """Of the pool, or of one account; None before its first share."""
    query = (
        select(ledger_accounts.c.name.label("account"), ledger_workers.c.name.label("worker"), best_shares)
        .select_from(best_shares)
        .join(ledger_workers)
        .join(ledger_accounts)
    )
    if account is not None:
        query = query.where(ledger_accounts.c.name == account)
    ordered = query.order_by(best_shares.c.difficulty.desc(), best_shares.c.worker_id).limit(1)
    row = connection.execute(ordered).one_or_none()
    return None if row is None else Best(row.account, row.worker, row.difficulty, row.header_hex, row.time_ns)


def _work_between(connection: Connection, after: int, to: int | None) -> int:
    """Attoblocks of all work, solo too, in the slices behind `after` up to `to`."""
    table = slice_totals
    query = select(table.c.nbits, table.c.work).where(table.c.slice_id > after)
    if to is not None:
        query = query.where(table.c.slice_id <= to)
    sums: dict[int, int] = {}
    for nbits, work in connection.execute(query):
        sums[nbits] = sums.get(nbits, 0) + work
    return sum(score_of(work, network_work(nbits)) for nbits, work in sums.items())


def effort_now(connection: Connection) -> Effort:
    """Since the last found block. 1.0 is the average that the next one takes."""
    query = select(found_shares.c.hash_hex, found_shares.c.slice_id)
    last = connection.execute(query.order_by(found_shares.c.slice_id.desc()).limit(1)).one_or_none()
    if last is None:
        return Effort(_work_between(connection, 0, None), None)
    return Effort(_work_between(connection, last.slice_id, None), last.hash_hex)


def block_efforts(connection: Connection, count: int) -> list[BlockEffort]:
    """Of the newest `count` blocks, newest first."""
    newest = connection.execute(select(found_shares).order_by(found_shares.c.slice_id.desc()).limit(count + 1)).all()
    before = [row.slice_id for row in newest[1:]] + [0]
    return [
        BlockEffort(row.hash_hex, row.height, row.time_ns, _work_between(connection, after, row.slice_id))
        for row, after in zip(newest[:count], before, strict=False)
    ]


def luck(efforts: Sequence[BlockEffort]) -> float | None:
    """Blocks found over blocks expected: above 1 is lucky. None when there is nothing to judge by."""
    expected = sum(one.attoblocks for one in efforts)
    return len(efforts) * SCALE / expected if expected else None


def rates_of_account(connection: Connection, snapshot: Snapshot, account: str, now_ns: int) -> tuple[Rate, ...]:
    """All workers of an account together; zero for an account that nobody knows."""
    query = select(ledger_workers.c.id).join_from(ledger_workers, ledger_accounts)
    ids = connection.execute(query.where(ledger_accounts.c.name == account)).scalars()
    return snapshot.together(list(ids), now_ns)


def workers_of(connection: Connection, account: str) -> list[WorkerRow]:
    """By name; empty for an account that nobody knows."""
    ids = select(ledger_workers.c.id).join_from(ledger_workers, ledger_accounts)
    ids = ids.where(ledger_accounts.c.name == account)
    counts = [func.sum(slice_work.c.shares), func.sum(slice_work.c.active_s)]
    query = select(slice_work.c.worker_id, *counts, *work_parts(connection))
    query = query.where(slice_work.c.worker_id.in_(ids)).group_by(slice_work.c.worker_id)
    work = {
        worker: (joined(parts), int(shares), int(active))
        for worker, shares, active, *parts in connection.execute(query)
    }
    refused: dict[int, dict[Verdict, int]] = {}
    table = slice_rejects
    rejects = select(table.c.worker_id, table.c.verdict, func.sum(table.c.count)).where(table.c.worker_id.in_(ids))
    for worker, verdict, count in connection.execute(rejects.group_by(table.c.worker_id, table.c.verdict)):
        refused.setdefault(worker, {})[Verdict(verdict)] = int(count)
    named = select(ledger_workers.c.id, ledger_workers.c.name, best_shares.c.difficulty).outerjoin(best_shares)
    rows = []
    for row in connection.execute(named.where(ledger_workers.c.id.in_(ids)).order_by(ledger_workers.c.name)):
        amount, shares, active = work.get(row.id, (0, 0, 0))
        rows.append(WorkerRow(row.id, row.name, amount, shares, active, refused.get(row.id, {}), row.difficulty))
    return rows


def history(connection: Connection, since_s: int, account: str | None = None) -> list[Point]:
    """Of the pool, or of one account, oldest first. Pieces of one span, cut by a block, are one point."""
    if account is None:
        query = select(slices.c.start_s, slices.c.span_s, slice_totals.c.work, slice_totals.c.shares)
        query = query.join_from(slices, slice_totals)
    else:
        query = select(slices.c.start_s, slices.c.span_s, slice_work.c.work, slice_work.c.shares)
        query = query.select_from(slices).join(slice_work).join(ledger_workers).join(ledger_accounts)
        query = query.where(ledger_accounts.c.name == account)
    sums: dict[tuple[int, int], list[int]] = {}
    for start_s, span_s, work, shares in connection.execute(query.where(slices.c.start_s + slices.c.span_s > since_s)):
        total = sums.setdefault((start_s, span_s), [0, 0])
        total[0] += work
        total[1] += shares
    return [Point(start_s, span_s, *total) for (start_s, span_s), total in sorted(sums.items())]
