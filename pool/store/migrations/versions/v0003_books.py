"""The books: double entry, policies, blocks and what they gave to whom."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pool.store.books import append_only_ddl

revision = "0003"
down_revision = "0002"


def _number(name: str, *, key: bool = False, null: bool = False) -> sa.Column[int]:
    if key:
        return sa.Column(name, sa.BigInteger, primary_key=True, autoincrement=False)
    return sa.Column(name, sa.BigInteger, nullable=null)


def _text(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "book_accounts",
        _number("id", key=True),
        *_text("name", "kind"),
        sa.PrimaryKeyConstraint("id", name="pk_book_accounts"),
        sa.UniqueConstraint("name", name="uq_book_accounts_name"),
        sa.CheckConstraint("kind IN ('asset', 'liability', 'equity')", name=op.f("ck_book_accounts_kind")),
    )
    op.create_table(
        "entries",
        _number("id", key=True),
        *_text("kind", "source_type", "source_id", "leg"),
        _number("at_s"),
        *_text("memo", "prev_hash_hex", "hash_hex"),
        sa.PrimaryKeyConstraint("id", name="pk_entries"),
        sa.UniqueConstraint("hash_hex", name="uq_entries_hash_hex"),
        sa.UniqueConstraint("source_type", "source_id", "leg", name="uq_entries_source_type_source_id_leg"),
    )
    op.create_table(
        "postings",
        _number("entry_id", key=True),
        sa.Column("n", sa.Integer, primary_key=True, autoincrement=False),
        _number("account_id"),
        _number("amount_msat"),
        sa.PrimaryKeyConstraint("entry_id", "n", name="pk_postings"),
        sa.ForeignKeyConstraint(["entry_id"], ["entries.id"], name="fk_postings_entry_id"),
        sa.ForeignKeyConstraint(["account_id"], ["book_accounts.id"], name="fk_postings_account_id"),
        sa.CheckConstraint("amount_msat <> 0", name=op.f("ck_postings_amount")),
    )
    op.create_index("ix_postings_account_id_entry_id", "postings", ["account_id", "entry_id"])
    op.create_table(
        "balances",
        _number("account_id", key=True),
        _number("msat"),
        _number("version"),
        sa.PrimaryKeyConstraint("account_id", name="pk_balances"),
        sa.ForeignKeyConstraint(["account_id"], ["book_accounts.id"], name="fk_balances_account_id"),
    )
    op.create_table(
        "policies",
        _number("version", key=True),
        _number("from_height"),
        *_text("body", "digest_hex"),
        _number("at_s"),
        sa.PrimaryKeyConstraint("version", name="pk_policies"),
    )
    _income()
    for statement in append_only_ddl(op.get_bind().dialect.name):
        op.execute(statement)


def _income() -> None:
    op.create_table(
        "income_blocks",
        sa.Column("hash_hex", sa.Text, primary_key=True),
        _number("height"),
        *_text("state"),
        *(_number(name) for name in ("coinbase_msat", "direct_msat", "fees_sat", "epoch", "seq", "slice_id")),
        *_text("finder"),
        sa.Column("solo", sa.Integer, nullable=False),
        _number("policy_version"),
        sa.Column("turns", sa.Integer, nullable=False),
        _number("found_at_s"),
        _number("matured_at_s", null=True),
        sa.PrimaryKeyConstraint("hash_hex", name="pk_income_blocks"),
        sa.CheckConstraint("state IN ('immature', 'mature', 'orphaned')", name=op.f("ck_income_blocks_state")),
    )
    op.create_table(
        "allocations",
        *(sa.Column(name, sa.Text, primary_key=True) for name in ("source_type", "source_id", "account", "part")),
        _number("msat"),
        sa.PrimaryKeyConstraint("source_type", "source_id", "account", "part", name="pk_allocations"),
        sa.CheckConstraint("msat > 0", name=op.f("ck_allocations_msat")),
    )
