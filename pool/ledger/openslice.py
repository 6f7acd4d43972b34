"""The slice that rows are added to, in memory as it will stand in the database, and how what changed gets there."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import Connection

from pool.ledger.logreader import Position
from pool.store.schema import insert_into
from pool.store.work import slice_rejects, slice_totals, slice_work

SPAN_S = 600
WorkKey = tuple[int, int, int, int]  # worker id, nBits, subsidy, solo


@dataclass(slots=True)
class Sum:
    """Of one worker, nBits and subsidy in the open slice."""

    work: int = 0
    shares: int = 0
    minutes: int = 0


@dataclass(slots=True)
class OpenSlice:
    """The slice that rows are added to, as it will stand in the database."""

    id: int
    start_s: int
    first: Position
    last: Position
    sums: dict[WorkKey, Sum] = field(default_factory=dict)
    totals: dict[tuple[int, int], Sum] = field(default_factory=dict)  # by nBits and solo
    rejects: dict[tuple[int, int], int] = field(default_factory=dict)
    changed_sums: set[WorkKey] = field(default_factory=set)
    changed_rejects: set[tuple[int, int]] = field(default_factory=set)


def upsert_work(connection: Connection, opened: OpenSlice) -> None:
    insert = insert_into(connection, slice_work)
    names = ("work", "shares", "minutes", "active_s")
    statement = insert.on_conflict_do_update(
        index_elements=["slice_id", "worker_id", "nbits", "subsidy_sat", "solo"],
        set_={name: insert.excluded[name] for name in names},
    )
    rows = []
    for key in sorted(opened.changed_sums):
        total = opened.sums[key]
        rows.append(
            {
                "slice_id": opened.id,
                "worker_id": key[0],
                "nbits": key[1],
                "subsidy_sat": key[2],
                "solo": key[3],
                "work": total.work,
                "shares": total.shares,
                "minutes": total.minutes,
                "active_s": 60 * total.minutes.bit_count(),
            }
        )
    connection.execute(statement, rows)
    opened.changed_sums.clear()


def upsert_totals(connection: Connection, opened: OpenSlice) -> None:
    insert = insert_into(connection, slice_totals)
    statement = insert.on_conflict_do_update(
        index_elements=["slice_id", "nbits", "solo"],
        set_={name: insert.excluded[name] for name in ("work", "shares")},
    )
    rows = [
        {"slice_id": opened.id, "nbits": nbits, "solo": solo, "work": total.work, "shares": total.shares}
        for (nbits, solo), total in sorted(opened.totals.items())
    ]
    connection.execute(statement, rows)


def upsert_rejects(connection: Connection, opened: OpenSlice) -> None:
    insert = insert_into(connection, slice_rejects)
    statement = insert.on_conflict_do_update(
        index_elements=["slice_id", "worker_id", "verdict"], set_={"count": insert.excluded["count"]}
    )
    rows = [
        {"slice_id": opened.id, "worker_id": worker, "verdict": verdict, "count": opened.rejects[worker, verdict]}
        for worker, verdict in sorted(opened.changed_rejects)
    ]
    connection.execute(statement, rows)
    opened.changed_rejects.clear()
