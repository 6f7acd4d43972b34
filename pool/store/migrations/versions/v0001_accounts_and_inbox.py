"""Accounts, workers, sessions and the inbox."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_row_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", _row_id, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("created_at_s", sa.BigInteger, nullable=False),
        sa.Column("last_seen_s", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("name", name="uq_accounts_name"),
        sa.CheckConstraint("kind IN ('address', 'lightning')", name=op.f("ck_accounts_kind")),
    )
    op.create_table(
        "workers",
        sa.Column("id", _row_id, primary_key=True),
        sa.Column("account_id", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("user_agent", sa.Text, nullable=False),
        sa.Column("difficulty", sa.Double, nullable=False),
        sa.Column("best_difficulty", sa.Double, nullable=False),
        sa.Column("hashrate_hs", sa.Double, nullable=False),
        sa.Column("created_at_s", sa.BigInteger, nullable=False),
        sa.Column("last_seen_s", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
        sa.UniqueConstraint("account_id", "name", name="uq_workers_account_id_name"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_workers_account_id"),
    )
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("worker_id", sa.BigInteger, nullable=False),
        sa.Column("user_agent", sa.Text, nullable=False),
        sa.Column("extranonce1_hex", sa.Text, nullable=False),
        sa.Column("difficulty", sa.Double, nullable=False),
        sa.Column("version_mask", sa.BigInteger, nullable=False),
        sa.Column("best_difficulty", sa.Double, nullable=False),
        sa.Column("hashrate_hs", sa.Double, nullable=False),
        sa.Column("saved_at_s", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_sessions"),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"], name="fk_sessions_worker_id"),
    )
    op.create_index(
        "ix_sessions_worker_id_user_agent_saved_at_s", "sessions", ["worker_id", "user_agent", "saved_at_s"]
    )
    op.create_index("ix_sessions_saved_at_s", "sessions", ["saved_at_s"])
    op.create_table(
        "inbox",
        sa.Column("id", _row_id, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("idempotency_key", sa.Text, nullable=False),
        sa.Column("put_at_s", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("lease", sa.Text),
        sa.Column("lease_until_s", sa.BigInteger),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("finished_at_s", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_inbox"),
        sa.UniqueConstraint("sender", "idempotency_key", name="uq_inbox_sender_idempotency_key"),
        sa.CheckConstraint("state IN ('new', 'claimed', 'done', 'refused', 'failed')", name=op.f("ck_inbox_state")),
    )
    op.create_index("ix_inbox_state_kind_id", "inbox", ["state", "kind", "id"])
