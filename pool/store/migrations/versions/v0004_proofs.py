"""Published proofs and their leaves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def _numbers(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def upgrade() -> None:
    op.create_table(
        "proof_epochs",
        *_texts("kind"),
        *_numbers("epoch", "at_s"),
        sa.Column("tree_height", sa.Integer, nullable=False),
        *_texts("root_hex"),
        *_numbers("total"),
        *_texts("tip_hash_hex"),
        *_numbers("entry_id"),
        *_texts("journal_head_hex", "commitment_hex", "other_hex", "carried_hex"),
        sa.PrimaryKeyConstraint("kind", "epoch", name="pk_proof_epochs"),
        sa.CheckConstraint("kind IN ('balance', 'work')", name=op.f("ck_proof_epochs_kind")),
    )
    op.create_table(
        "proof_leaves",
        *_texts("kind"),
        *_numbers("epoch", "leaf"),
        *_texts("account"),
        *_numbers("value"),
        sa.PrimaryKeyConstraint("kind", "epoch", "leaf", name="pk_proof_leaves"),
    )
    op.create_index("ix_proof_leaves_account_kind_epoch", "proof_leaves", ["account", "kind", "epoch"])
