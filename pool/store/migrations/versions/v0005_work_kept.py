"""Totals of slices, segments put away, and what hashrates are computed from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pool.store.schema import WideInt

revision = "0005"
down_revision = "0004"


def _number(name: str, *, key: bool = False) -> sa.Column[int]:
    if key:
        return sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False)
    return sa.Column(name, sa.BigInteger, nullable=False)


def upgrade() -> None:
    totals = op.create_table(
        "slice_totals",
        _number("slice_id", key=True),
        _number("nbits", key=True),
        sa.Column("solo", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("work", WideInt, nullable=False),
        _number("shares"),
        sa.PrimaryKeyConstraint("slice_id", "nbits", "solo", name="pk_slice_totals"),
        sa.ForeignKeyConstraint(["slice_id"], ["slices.id"], name="fk_slice_totals_slice_id"),
    )
    _fill(totals)
    op.create_table(
        "log_segments",
        sa.Column("name", sa.Text, primary_key=True),
        *(_number(name) for name in ("epoch", "first_seq", "rows", "last_time_ns")),
        sa.Column("sha256_hex", sa.Text, nullable=False),
        _number("stored_bytes"),
        sa.Column("state", sa.Text, nullable=False),
        _number("at_s"),
        sa.PrimaryKeyConstraint("name", name="pk_log_segments"),
        sa.CheckConstraint("state IN ('compressed', 'dropped')", name=op.f("ck_log_segments_state")),
    )
    op.create_index("ix_log_segments_epoch_first_seq", "log_segments", ["epoch", "first_seq"])
    op.create_table(
        "rate_state",
        sa.Column("lane", sa.Text, primary_key=True),
        *(_number(name) for name in ("epoch", "seq", "time_ns", "workers")),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("lane", name="pk_rate_state"),
    )


def _fill(totals: sa.Table) -> None:
    """From the work that is there already."""
    names = ("slice_id", "nbits", "solo", "shares")
    work = sa.table("slice_work", *(sa.column(name, sa.BigInteger) for name in names), sa.column("work", WideInt))
    sums: dict[tuple[int, int, int], list[int]] = {}
    query = sa.select(work.c.slice_id, work.c.nbits, work.c.solo, work.c.work, work.c.shares)
    for slice_id, nbits, solo, amount, shares in op.get_bind().execute(query):
        total = sums.setdefault((slice_id, nbits, solo), [0, 0])
        total[0] += amount
        total[1] += shares
    rows = [
        {"slice_id": key[0], "nbits": key[1], "solo": key[2], "work": total[0], "shares": total[1]}
        for key, total in sorted(sums.items())
    ]
    if rows:
        op.get_bind().execute(totals.insert(), rows)
