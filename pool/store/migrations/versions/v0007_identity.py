"""Identity: one-time challenges, linked wallets, micro-deposits, changes of destination, their journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from pool.store.identity import identity_guard_ddl

revision = "0007"
down_revision = "0006"

_row_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _times(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.BigInteger, nullable=False) for name in names]


def _small(*names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, sa.Integer, nullable=False) for name in names]


def _index(table: str, *columns: str) -> None:
    op.create_index(f"ix_{table}_{'_'.join(columns)}", table, list(columns))


def _challenges_and_links() -> None:
    op.create_table(
        "identity_challenges",
        *_texts("nonce_hex", "kind", "pool_name", "host", "account", "action", "old_value", "value"),
        *_times("issued_at_s", "expires_at_s"),
        *_texts("client"),
        *_small("attempts"),
        sa.Column("consumed_at_s", sa.BigInteger),
        *_texts("key_hex"),
        sa.PrimaryKeyConstraint("nonce_hex", name="pk_identity_challenges"),
        sa.CheckConstraint("kind IN ('message', 'lnurl')", name=op.f("ck_identity_challenges_kind")),
    )
    _index("identity_challenges", "expires_at_s")
    _index("identity_challenges", "account", "issued_at_s")
    _index("identity_challenges", "client", "issued_at_s")
    op.create_table(
        "identity_links",
        *_texts("host", "key_hex", "account"),
        *_times("linked_at_s"),
        sa.PrimaryKeyConstraint("host", "key_hex", name="pk_identity_links"),
    )
    _index("identity_links", "account")


def _deposits() -> None:
    op.create_table(
        "identity_deposits",
        sa.Column("id", _row_id, nullable=False),
        *_texts("account", "action", "value"),
        *_small("first_sat", "second_sat"),
        *_texts("state"),
        *_small("tries"),
        *_times("issued_at_s", "expires_at_s"),
        sa.PrimaryKeyConstraint("id", name="pk_identity_deposits"),
        sa.CheckConstraint(
            "state IN ('waiting', 'arrived', 'proven', 'failed', 'expired')", name=op.f("ck_identity_deposits_state")
        ),
    )
    _index("identity_deposits", "issued_at_s")
    _index("identity_deposits", "account", "issued_at_s")


def _changes_and_journal() -> None:
    op.create_table(
        "destination_changes",
        sa.Column("id", _row_id, nullable=False),
        *_texts("account", "old_destination", "destination", "state"),
        *_times("requested_at_s", "due_at_s"),
        sa.Column("settled_at_s", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_destination_changes"),
        sa.CheckConstraint(
            "state IN ('pending', 'active', 'cancelled', 'superseded')", name=op.f("ck_destination_changes_state")
        ),
    )
    _index("destination_changes", "account", "id")
    _index("destination_changes", "state", "due_at_s")
    op.create_table(
        "identity_events",
        sa.Column("id", _row_id, nullable=False),
        *_times("at_s"),
        *_texts("account", "kind"),
        sa.Column("change_id", sa.BigInteger),
        *_texts("evidence", "signature", "notice_es", "notice_en"),
        sa.PrimaryKeyConstraint("id", name="pk_identity_events"),
    )
    _index("identity_events", "account", "id")


def upgrade() -> None:
    _challenges_and_links()
    _deposits()
    _changes_and_journal()
    for statement in identity_guard_ddl(op.get_bind().dialect.name):
        op.execute(statement)
