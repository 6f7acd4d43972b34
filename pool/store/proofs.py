"""What was published: epochs of the proofs of liabilities and of work, with the leaves they stand on."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, Table, Text

from pool.store.schema import metadata

proof_epochs = Table(
    "proof_epochs",
    metadata,
    Column("kind", Text, primary_key=True),  # "balance" (msat) | "work" (attoblocks in the window)
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("at_s", BigInteger, nullable=False),
    Column("tree_height", Integer, nullable=False),
    Column("root_hex", Text, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("tip_hash_hex", Text, nullable=False),  # as hashed
    Column("entry_id", BigInteger, nullable=False),
    Column("journal_head_hex", Text, nullable=False),
    Column("commitment_hex", Text, nullable=False),
    Column("other_hex", Text, nullable=False),  # commitment of the other kind in this epoch; zeros when there is none
    Column("carried_hex", Text, nullable=False),  # what coinbases carry: both commitments in one hash
    CheckConstraint("kind IN ('balance', 'work')", name="kind"),
)
proof_leaves = Table(
    "proof_leaves",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf", BigInteger, primary_key=True, autoincrement=False),  # its place in the tree
    Column("account", Text, nullable=False),
    Column("value", BigInteger, nullable=False),
    Index(None, "account", "kind", "epoch"),
)
