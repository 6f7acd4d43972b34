"""The share log summed again from its first row, and the store's tables compared with what comes out, to the bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Connection, Table, select

from pool.ledger.logreader import BATCH, LogReader, Position
from pool.ledger.slices import LANE, Slices
from pool.store.engine import Store
from pool.store.work import (
    best_shares,
    found_shares,
    ledger_accounts,
    ledger_workers,
    log_cursor,
    slice_rejects,
    slice_totals,
    slice_work,
    slices,
)

#: Rows that a roll-up leaves alone: they must be the same, each column.
SAME = (ledger_accounts, ledger_workers, best_shares, found_shares, log_cursor)
#: Sums over slices; a rolled-up slice must hold what the slices it was made from hold.
SUMMED: tuple[tuple[Table, tuple[str, ...]], ...] = (
    (slice_work, ("work", "shares", "active_s")),
    (slice_totals, ("work", "shares")),
    (slice_rejects, ("count",)),
)


class Replay:
    """Sums a log directory into a store of its own, which was empty."""

    def __init__(self, store: Store, directory: Path, subsidy_sat: Callable[[int], int]) -> None:
        self._store, self._reader, self._slices = store, LogReader(directory), Slices(subsidy_sat)
        store.write_now(self._slices.load)

    @property
    def position(self) -> Position:
        return self._slices.position

    def run(self, upto: Position | None = None) -> None:
        """To the end of the log, or to a position in it. LogGapError when rows are missing."""
        more = 0
        while upto is None or self.position != upto:
            at = self.position
            inside = upto is not None and upto.epoch == at.epoch
            limit = min(BATCH, upto.seq - at.seq) if inside and upto is not None else BATCH
            batch = self._reader.after(at, limit + more)
            if batch is None:
                return
            if upto is not None and batch.epoch == upto.epoch and batch.epoch != at.epoch:
                batch = self._reader.after(at, min(BATCH, upto.seq) + more)
                assert batch is not None
            self._store.write_now(self._slices.add, batch)
            if self.position == at and more:
                return
            more = int(self.position == at)  # a BLOCK row at the end is taken with the row behind it


def differences(ours: Connection, fresh: Connection) -> Iterator[str]:
    """What the store holds that the log does not say, and the other way round. Both stand at the same row."""
    for table in SAME:
        yield from _compare(table.name, _all(ours, table), _all(fresh, table))
    ids = [row.id for row in ours.execute(select(slices.c.id).order_by(slices.c.id))]
    made = {row.id: row for row in fresh.execute(select(slices))}
    before = 0
    for one in ids:
        yield from _slice(ours, fresh, before, one)
        before = one
    if made and (not ids or max(made) != ids[-1]):
        yield f"slices end with number {ids[-1] if ids else 0}, by the log with {max(made)}"


def _slice(ours: Connection, fresh: Connection, before: int, one: int) -> Iterator[str]:
    mine = ours.execute(select(slices).where(slices.c.id == one)).one()
    parts = fresh.execute(select(slices).where(slices.c.id > before, slices.c.id <= one).order_by(slices.c.id)).all()
    if not parts:
        yield f"slice {one}: the log has no such work"
        return
    stands = (mine.first_epoch, mine.first_seq, mine.last_epoch, mine.last_seq, mine.block_hash)
    first, last = parts[0], parts[-1]
    says = (first.first_epoch, first.first_seq, last.last_epoch, last.last_seq, last.block_hash)
    if stands != says:
        yield f"slice {one} covers {stands}, by the log {says}"
    for table, names in SUMMED:
        yield from _compare(
            f"{table.name} of slice {one}",
            _summed(ours, table, names, one - 1, one),
            _summed(fresh, table, names, before, one),
        )


def _all(connection: Connection, table: Table) -> dict[tuple[object, ...], tuple[object, ...]]:
    keys = [column.name for column in table.primary_key]
    rows = connection.execute(select(table)).mappings()
    return {tuple(row[key] for key in keys): tuple(row.values()) for row in rows}


def _summed(
    connection: Connection, table: Table, names: tuple[str, ...], after: int, to: int
) -> dict[tuple[object, ...], tuple[object, ...]]:
    keys = [column.name for column in table.primary_key if column.name != "slice_id"]
    sums: dict[tuple[object, ...], list[int]] = {}
    query = select(table).where(table.c.slice_id > after, table.c.slice_id <= to)
    for row in connection.execute(query).mappings():
        total = sums.setdefault(tuple(row[key] for key in keys), [0] * len(names))
        for i, name in enumerate(names):
            total[i] += row[name]
    return {key: tuple(total) for key, total in sums.items()}


def _compare(
    what: str, ours: dict[tuple[object, ...], tuple[object, ...]], fresh: dict[tuple[object, ...], tuple[object, ...]]
) -> Iterator[str]:
    for key in sorted({*ours, *fresh}, key=repr):
        if ours.get(key) != fresh.get(key):
            yield f"{what}, {key}: {ours.get(key)}, by the log {fresh.get(key)}"


def standing(connection: Connection) -> Position:
    """How far the store has summed the log; for all of this transaction."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    row = connection.execute(select(log_cursor).where(log_cursor.c.lane == LANE)).one_or_none()
    return Position() if row is None else Position(row.epoch, row.seq)
