"""The books: double entry in integer msat, append-only and hash-chained. Written by `pool.ledger` alone; a trigger on
both databases refuses to change or delete an entry or a posting."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint

from pool.store.schema import metadata

book_accounts = Table(
    "book_accounts",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),  # "onchain_hot", "miner:bc1q...", "project:7"
    Column("kind", Text, nullable=False),
    CheckConstraint("kind IN ('asset', 'liability', 'equity')", name="kind"),
)
entries = Table(
    "entries",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # 1, 2, 3, ... without gaps
    Column("kind", Text, nullable=False),
    Column("source_type", Text, nullable=False),
    Column("source_id", Text, nullable=False),
    Column("leg", Text, nullable=False),
    Column("at_s", BigInteger, nullable=False),
    Column("memo", Text, nullable=False),
    Column("prev_hash_hex", Text, nullable=False),
    Column("hash_hex", Text, nullable=False, unique=True),
    UniqueConstraint("source_type", "source_id", "leg"),  # whatever happens twice is booked once
)
postings = Table(
    "postings",
    metadata,
    Column("entry_id", BigInteger, ForeignKey("entries.id"), primary_key=True, autoincrement=False),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, ForeignKey("book_accounts.id"), nullable=False),
    Column("amount_msat", BigInteger, nullable=False),  # debit above 0, credit below
    CheckConstraint("amount_msat <> 0", name="amount"),
    Index(None, "account_id", "entry_id"),
)
#: Kept in the transaction of each entry; I3 compares it with the sums of postings.
balances = Table(
    "balances",
    metadata,
    Column("account_id", BigInteger, ForeignKey("book_accounts.id"), primary_key=True, autoincrement=False),
    Column("msat", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
)
policies = Table(
    "policies",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("from_height", BigInteger, nullable=False),
    Column("body", Text, nullable=False),  # JSON of pool.ledger.rewards.Policy, keys sorted
    Column("digest_hex", Text, nullable=False),
    Column("at_s", BigInteger, nullable=False),
)
income_blocks = Table(
    "income_blocks",
    metadata,
    Column("hash_hex", Text, primary_key=True),
    Column("height", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("coinbase_msat", BigInteger, nullable=False),  # of the block's own coinbase
    Column("direct_msat", BigInteger, nullable=False),  # of it: outputs that paid members in the block itself
    Column("fees_sat", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),  # the split is as of this row of the share log
    Column("seq", BigInteger, nullable=False),
    Column("slice_id", BigInteger, nullable=False),
    Column("finder", Text, nullable=False),
    Column("solo", Integer, nullable=False),  # 1: its coinbase paid the finder; nothing of it is split
    Column("policy_version", BigInteger, nullable=False),
    Column("donations_upto", BigInteger, nullable=False, server_default="0"),  # newest donation setting it knows of
    Column("turns", Integer, nullable=False),  # times it left and came back: part of each entry's key
    Column("found_at_s", BigInteger, nullable=False),
    Column("matured_at_s", BigInteger),
    CheckConstraint("state IN ('immature', 'mature', 'orphaned')", name="state"),
)
#: Income beyond blocks: booked at once, for what it brings is there already.
income_events = Table(
    "income_events",
    metadata,
    Column("kind", Text, primary_key=True),  # "virtual" | "upstream" | "donation"
    Column("source_id", Text, primary_key=True),
    Column("amount_msat", BigInteger, nullable=False),
    Column("height", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),  # the split is as of this row of the share log
    Column("seq", BigInteger, nullable=False),
    Column("slice_id", BigInteger, nullable=False),
    Column("policy_version", BigInteger, nullable=False),
    Column("at_s", BigInteger, nullable=False),
    CheckConstraint("amount_msat > 0", name="amount"),
)
#: What part of his earnings a member gives to projects, each choice a row: the newest one that an income knew counts.
donation_settings = Table(
    "donation_settings",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # 1, 2, 3, ...
    Column("account", Text, nullable=False),
    Column("donation_bp", Integer, nullable=False),
    Column("at_s", BigInteger, nullable=False),
    CheckConstraint("donation_bp >= 0 AND donation_bp <= 10000", name="donation_bp"),
    Index(None, "account", "id"),
)
#: While one stands, no money leaves. Set by the ledger and by a restore, lifted by the operator.
latches = Table(
    "latches",
    metadata,
    Column("name", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("set_at_s", BigInteger, nullable=False),
)
#: What each account gets of a block: frozen when found, derived again and compared when mature.
allocations = Table(
    "allocations",
    metadata,
    Column("source_type", Text, primary_key=True),  # "block" | "virtual" | "upstream" | "donation"
    Column("source_id", Text, primary_key=True),
    Column("account", Text, primary_key=True),  # name of the book account credited
    Column("part", Text, primary_key=True),  # "share", "donation", "direct", "fee", "reserve", ...
    Column("msat", BigInteger, nullable=False),
    CheckConstraint("msat > 0", name="msat"),
)

APPEND_ONLY = ("entries", "postings", "policies")
#: The column that numbers an append-only table's rows, for the guard against INSERT OR REPLACE.
_KEYS = {"entries": "id", "postings": "entry_id", "policies": "version", "donation_settings": "id"}


def append_only_ddl(dialect: str, tables: Sequence[str] = APPEND_ONLY) -> list[str]:
    """Statements that make the database itself refuse UPDATE and DELETE on the books."""
    if dialect == "postgresql":
        function = (
            "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the books are append-only'; END $$"
        )
        make = (
            "CREATE TRIGGER {0}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {0} EXECUTE FUNCTION refuse_change()"
        )
        return [function, *(make.format(table) for table in tables)]
    make = "CREATE TRIGGER {0}_no_{1} BEFORE {1} ON {0} BEGIN SELECT RAISE(ABORT, 'the books are append-only'); END"
    return [make.format(table, verb) for table in tables for verb in ("UPDATE", "DELETE")]


def no_replace_ddl(tables: Sequence[str]) -> list[str]:
    """SQLite alone: its INSERT OR REPLACE deletes a row without firing the trigger on DELETE."""
    make = (
        "CREATE TRIGGER {0}_no_REPLACE BEFORE INSERT ON {0} WHEN EXISTS (SELECT 1 FROM {0} WHERE {1}) "
        "BEGIN SELECT RAISE(ABORT, 'the books are append-only'); END"
    )
    same = {table: f"{key} = NEW.{key}" for table, key in _KEYS.items()}
    same["postings"] += " AND n = NEW.n"
    return [make.format(table, same[table]) for table in tables]


def guards(dialect: str) -> set[str]:
    """Names of the triggers that must be there."""
    tables = (*APPEND_ONLY, "donation_settings")
    if dialect == "postgresql":
        return {f"{table}_append_only" for table in tables}
    return {f"{table}_no_{verb}" for table in tables for verb in ("UPDATE", "DELETE", "REPLACE")}
