"""Income beyond blocks, members' donations, latches that keep money in; a stricter guard of the books on SQLite."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pool.store.books import APPEND_ONLY, append_only_ddl, no_replace_ddl

revision = "0006"
down_revision = "0005"


def _numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def upgrade() -> None:
    op.add_column("income_blocks", sa.Column("donations_upto", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "income_events",
        *_texts("kind", "source_id"),
        *_numbers("amount_msat", "height", "epoch", "seq", "slice_id", "policy_version", "at_s"),
        sa.PrimaryKeyConstraint("kind", "source_id", name="pk_income_events"),
        sa.CheckConstraint("amount_msat > 0", name=op.f("ck_income_events_amount")),
    )
    op.create_table(
        "donation_settings",
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        *_texts("account"),
        sa.Column("donation_bp", sa.Integer, nullable=False),
        *_numbers("at_s"),
        sa.PrimaryKeyConstraint("id", name="pk_donation_settings"),
        sa.CheckConstraint(
            "donation_bp >= 0 AND donation_bp <= 10000", name=op.f("ck_donation_settings_donation_bp")
        ),
    )
    op.create_index("ix_donation_settings_account_id", "donation_settings", ["account", "id"])
    op.create_table(
        "latches",
        *_texts("name", "reason"),
        *_numbers("set_at_s"),
        sa.PrimaryKeyConstraint("name", name="pk_latches"),
    )
    dialect = op.get_bind().dialect.name
    tables = (*APPEND_ONLY, "donation_settings")
    statements = append_only_ddl(dialect, ("donation_settings",))
    for statement in statements if dialect == "postgresql" else statements + no_replace_ddl(tables):
        op.execute(statement)
