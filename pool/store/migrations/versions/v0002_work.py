"""Work summed from the share log: slices, names, best and found shares."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pool.store.schema import WideInt

revision = "0002"
down_revision = "0001"


def _number(name: str, *, key: bool = False, null: bool = False) -> sa.Column[int]:
    if key:
        return sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False)
    return sa.Column(name, sa.BigInteger, nullable=null)


def upgrade() -> None:
    op.create_table(
        "ledger_accounts",
        _number("id", key=True),
        sa.Column("name", sa.Text, nullable=False),
        _number("epoch"),
        _number("seq"),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_accounts"),
        sa.UniqueConstraint("name", name="uq_ledger_accounts_name"),
    )
    op.create_table(
        "ledger_workers",
        _number("id", key=True),
        _number("account_id"),
        sa.Column("name", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_workers"),
        sa.UniqueConstraint("account_id", "name", name="uq_ledger_workers_account_id_name"),
        sa.ForeignKeyConstraint(["account_id"], ["ledger_accounts.id"], name="fk_ledger_workers_account_id"),
    )
    op.create_table(
        "log_names",
        _number("epoch", key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        _number("number", key=True),
        _number("id"),
        sa.PrimaryKeyConstraint("epoch", "kind", "number", name="pk_log_names"),
    )
    op.create_table(
        "log_cursor",
        sa.Column("lane", sa.Text, primary_key=True),
        _number("epoch"),
        _number("seq"),
        _number("rows"),
        _number("time_ns"),
        sa.PrimaryKeyConstraint("lane", name="pk_log_cursor"),
    )
    _slices()
    op.create_table(
        "best_shares",
        _number("worker_id", key=True),
        sa.Column("difficulty", sa.Double, nullable=False),
        sa.Column("header_hex", sa.Text, nullable=False),
        _number("time_ns"),
        _number("epoch"),
        _number("seq"),
        sa.PrimaryKeyConstraint("worker_id", name="pk_best_shares"),
        sa.ForeignKeyConstraint(["worker_id"], ["ledger_workers.id"], name="fk_best_shares_worker_id"),
    )
    op.create_table(
        "found_shares",
        sa.Column("hash_hex", sa.Text, primary_key=True),
        sa.Column("header_hex", sa.Text, nullable=False),
        _number("height"),
        _number("worker_id", null=True),
        sa.Column("credited", sa.Integer, nullable=False),
        _number("time_ns"),
        _number("epoch"),
        _number("seq"),
        _number("slice_id"),
        sa.PrimaryKeyConstraint("hash_hex", name="pk_found_shares"),
        sa.ForeignKeyConstraint(["worker_id"], ["ledger_workers.id"], name="fk_found_shares_worker_id"),
    )


def _slices() -> None:
    op.create_table(
        "slices",
        _number("id", key=True),
        _number("start_s"),
        sa.Column("span_s", sa.Integer, nullable=False),
        _number("first_epoch"),
        _number("first_seq"),
        _number("last_epoch"),
        _number("last_seq"),
        sa.Column("block_hash", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_slices"),
    )
    op.create_index("ix_slices_start_s", "slices", ["start_s"])
    op.create_table(
        "slice_work",
        _number("slice_id", key=True),
        _number("worker_id", key=True),
        _number("nbits", key=True),
        _number("subsidy_sat", key=True),
        sa.Column("solo", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("work", WideInt, nullable=False),
        _number("shares"),
        _number("minutes"),
        _number("active_s"),
        sa.PrimaryKeyConstraint("slice_id", "worker_id", "nbits", "subsidy_sat", "solo", name="pk_slice_work"),
        sa.ForeignKeyConstraint(["slice_id"], ["slices.id"], name="fk_slice_work_slice_id"),
        sa.ForeignKeyConstraint(["worker_id"], ["ledger_workers.id"], name="fk_slice_work_worker_id"),
    )
    op.create_index("ix_slice_work_worker_id_slice_id", "slice_work", ["worker_id", "slice_id"])
    op.create_table(
        "slice_rejects",
        _number("slice_id", key=True),
        _number("worker_id", key=True),
        sa.Column("verdict", sa.Integer, primary_key=True, autoincrement=False),
        _number("count"),
        sa.PrimaryKeyConstraint("slice_id", "worker_id", "verdict", name="pk_slice_rejects"),
        sa.ForeignKeyConstraint(["slice_id"], ["slices.id"], name="fk_slice_rejects_slice_id"),
        sa.ForeignKeyConstraint(["worker_id"], ["ledger_workers.id"], name="fk_slice_rejects_worker_id"),
    )
