"""Old slices become coarser: ten minutes -> an hour after 7 days -> a day after 90. Sums are conserved exactly.

Slices of one hour (or day) become one that has the id of the newest of them. A found block ends such a group, so what
a block was split as of stays the end of a slice; and a group that lies across the far edge of the window of a block
that can still mature waits, because merging it would change that block's split."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection, Row, delete, func, select, update

from pool.ledger import policy as policies
from pool.ledger.window import oldest_slice_of
from pool.store.books import income_blocks
from pool.store.work import slice_rejects, slice_totals, slice_work, slices

HOUR_S, DAY_S = 3600, 86_400
TO_HOURS_AFTER_S = 7 * DAY_S
TO_DAYS_AFTER_S = 90 * DAY_S
SLICES_A_LOOK = 2000
ROWS_A_STEP = 5000


@dataclass(frozen=True, slots=True)
class _Group:
    """Neighbouring slices that become one of `span_s`."""

    span_s: int
    rows: tuple[Row[tuple[int, ...]], ...]

    @property
    def id(self) -> int:
        return int(self.rows[-1].id)


def step(connection: Connection, now_s: int) -> bool:
    """Roll up a few groups: a small transaction. False when there is nothing to do at this time of the clock."""
    newest = connection.execute(select(func.max(slices.c.id))).scalar()
    if newest is None:
        return False
    pinned: set[int] | None = None
    for span_s, age_s in ((HOUR_S, TO_HOURS_AFTER_S), (DAY_S, TO_DAYS_AFTER_S)):
        after, left = 0, ROWS_A_STEP
        while groups := _groups(connection, span_s, now_s - age_s, after, newest):
            if pinned is None:
                pinned = _edges(connection)
            for group in groups:
                if len(group.rows) == 1 or pinned.isdisjoint(row.id for row in group.rows):
                    left -= _merge(connection, group)
                    if left <= 0:
                        return True
            after = groups[-1].id
        if left < ROWS_A_STEP:
            return True
    return False


def _groups(connection: Connection, span_s: int, before_s: int, after: int, newest: int) -> list[_Group]:
    """Groups behind slice `after` whose whole span lies before `before_s`. A span that holds the newest slice, to which
    rows may still be added, is not over."""
    query = select(slices).where(slices.c.span_s < span_s, slices.c.start_s < before_s // span_s * span_s)
    query = query.where(slices.c.id > after).order_by(slices.c.id).limit(SLICES_A_LOOK)
    found = connection.execute(query).all()
    last = connection.execute(select(slices.c.start_s).where(slices.c.id == newest)).scalar_one()
    groups = []
    spans = [(start, list(rows)) for start, rows in groupby(found, key=lambda row: row.start_s // span_s)]
    if len(found) == SLICES_A_LOOK and len(spans) > 1:
        spans.pop()  # its rest may lie behind the limit
    for start, rows in spans:
        if start == last // span_s:
            continue
        begin = 0
        for end, row in enumerate(rows, start=1):
            if row.block_hash is not None or end == len(rows):
                groups.append(_Group(span_s, tuple(rows[begin:end])))
                begin = end
    return groups


def _edges(connection: Connection) -> set[int]:
    """The oldest slice inside the window of each block whose split may still have to be derived again."""
    edges = set()
    query = select(income_blocks.c.slice_id, income_blocks.c.policy_version, income_blocks.c.solo)
    for block in connection.execute(query.where(income_blocks.c.state != "mature")):
        window = policies.of_version(connection, block.policy_version).window
        edges.add(oldest_slice_of(connection, block.slice_id, window))
    return {edge for edge in edges if edge is not None}


def _merge(connection: Connection, group: _Group) -> int:
    """Rows that were read for it, and one."""
    first, last = group.rows[0], group.rows[-1]
    read = _merge_rows(connection, group)
    connection.execute(delete(slices).where(slices.c.id >= first.id, slices.c.id < last.id))
    connection.execute(
        update(slices)
        .where(slices.c.id == last.id)
        .values(
            start_s=first.start_s // group.span_s * group.span_s,
            span_s=group.span_s,
            first_epoch=first.first_epoch,
            first_seq=first.first_seq,
        )
    )
    return read + 1


def _merge_rows(connection: Connection, group: _Group) -> int:
    """Work, totals and rejects of all slices of the group, as rows of its newest one."""
    low, high = group.rows[0].id, group.rows[-1].id
    read = 0
    for table, summed in (
        (slice_work, ("work", "shares", "minutes", "active_s")),
        (slice_totals, ("work", "shares")),
        (slice_rejects, ("count",)),
    ):
        inside = (table.c.slice_id >= low, table.c.slice_id <= high)
        keys = [column.name for column in table.primary_key if column.name != "slice_id"]
        sums: dict[tuple[int, ...], dict[str, int]] = {}
        for row in connection.execute(select(table).where(*inside)).mappings():
            mine = sums.setdefault(tuple(row[key] for key in keys), dict.fromkeys(summed, 0))
            read += 1
            for name in summed:
                mine[name] += row[name]
        rows: list[dict[str, int]] = []
        for key, mine in sorted(sums.items()):
            if "minutes" in mine:
                mine["minutes"] = 0  # they were of one slice of ten minutes
            rows.append({"slice_id": high, **dict(zip(keys, key, strict=True)), **mine})
        connection.execute(delete(table).where(*inside))
        if rows:
            connection.execute(table.insert(), rows)
    return read
