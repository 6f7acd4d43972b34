"""Tables of the identity room: one-time challenges, linked wallets, deposits, destinations, an append-only journal."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, Table, Text

from pool.store.schema import RowId, metadata

identity_challenges = Table(
    "identity_challenges",
    metadata,
    Column("nonce_hex", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # "message" | "lnurl"
    Column("pool_name", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("old_value", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("issued_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False, index=True),
    Column("client", Text, nullable=False),  # who asked, as the web names him (a salted hash); "" unknown
    Column("attempts", Integer, nullable=False),  # signatures that were wrong
    Column("consumed_at_s", BigInteger),
    Column("key_hex", Text, nullable=False),  # of the wallet that answered an "lnurl"; else ""
    CheckConstraint("kind IN ('message', 'lnurl')", name="kind"),
    Index(None, "account", "issued_at_s"),
    Index(None, "client", "issued_at_s"),
)
#: LNURL-auth keys differ by host, so a link holds at one host only.
identity_links = Table(
    "identity_links",
    metadata,
    Column("host", Text, primary_key=True),
    Column("key_hex", Text, primary_key=True),
    Column("account", Text, nullable=False, index=True),
    Column("linked_at_s", BigInteger, nullable=False),
)
identity_deposits = Table(
    "identity_deposits",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("account", Text, nullable=False),
    Column("action", Text, nullable=False),  # what the proof is for
    Column("value", Text, nullable=False),
    Column("first_sat", Integer, nullable=False),
    Column("second_sat", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("issued_at_s", BigInteger, nullable=False, index=True),
    Column("expires_at_s", BigInteger, nullable=False),
    CheckConstraint("state IN ('waiting', 'arrived', 'proven', 'failed', 'expired')", name="state"),
    Index(None, "account", "issued_at_s"),
)
destination_changes = Table(
    "destination_changes",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("account", Text, nullable=False),
    Column("old_destination", Text, nullable=False),
    Column("destination", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("requested_at_s", BigInteger, nullable=False),
    Column("due_at_s", BigInteger, nullable=False),
    Column("settled_at_s", BigInteger),  # when it became active, cancelled or superseded
    CheckConstraint("state IN ('pending', 'active', 'cancelled', 'superseded')", name="state"),
    Index(None, "account", "id"),
    Index(None, "state", "due_at_s"),
)
#: Every step with its evidence, for ever; also what members are to be told ("notice" in both languages).
identity_events = Table(
    "identity_events",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("at_s", BigInteger, nullable=False),
    Column("account", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("change_id", BigInteger),
    Column("evidence", Text, nullable=False),  # the text that was signed, or what stands for it
    Column("signature", Text, nullable=False),
    Column("notice_es", Text, nullable=False),  # "" when nobody needs to be told
    Column("notice_en", Text, nullable=False),
    Index(None, "account", "id"),
)


def identity_guard_ddl(dialect: str) -> Sequence[str]:
    """Statements that make the database itself refuse any change of the journal."""
    words = "the identity journal is append-only"
    if dialect == "postgresql":
        return (
            "CREATE OR REPLACE FUNCTION refuse_identity_change() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION '{words}'; END $$",
            "CREATE TRIGGER identity_events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON identity_events "
            "EXECUTE FUNCTION refuse_identity_change()",
        )
    make = "CREATE TRIGGER identity_events_no_{0} BEFORE {0} ON identity_events BEGIN SELECT RAISE(ABORT, '{1}'); END"
    # INSERT OR REPLACE deletes without firing the trigger on DELETE.
    replaced = (
        "CREATE TRIGGER identity_events_no_REPLACE BEFORE INSERT ON identity_events "
        "WHEN EXISTS (SELECT 1 FROM identity_events WHERE id = NEW.id) BEGIN SELECT RAISE(ABORT, '{0}'); END"
    )
    return make.format("UPDATE", words), make.format("DELETE", words), replaced.format(words)
