"""What members proved, summed from the share log: the tables of `pool.ledger.slices` (its only writer).

Accounts and workers have numbers of their own here, given in the order in which the log first names them: a replay of
the log gives them the same ones."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from pool.store.schema import WideInt, metadata

ledger_accounts = Table(
    "ledger_accounts",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),
    Column("epoch", BigInteger, nullable=False),  # of the row that named it first
    Column("seq", BigInteger, nullable=False),
)
ledger_workers = Table(
    "ledger_workers",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("account_id", BigInteger, ForeignKey("ledger_accounts.id"), nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("account_id", "name"),
)
#: What the numbers in an epoch's rows mean. Kept for the newest epoch only: older rows are summed.
log_names = Table(
    "log_names",
    metadata,
    Column("epoch", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Text, primary_key=True),  # "account" | "worker"
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("id", BigInteger, nullable=False),  # of ledger_accounts or ledger_workers
)
#: How far the log is summed; one row.
log_cursor = Table(
    "log_cursor",
    metadata,
    Column("lane", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),  # ever
    Column("time_ns", BigInteger, nullable=False),  # of the last row
)
slices = Table(
    "slices",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),  # grows with the log
    Column("start_s", BigInteger, nullable=False),
    Column("span_s", Integer, nullable=False),  # 600, 3,600 or 86,400
    Column("first_epoch", BigInteger, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_epoch", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("block_hash", Text),  # of the block whose winning share is its last one
    Index(None, "start_s"),
)
slice_work = Table(
    "slice_work",
    metadata,
    Column("slice_id", BigInteger, ForeignKey("slices.id"), primary_key=True, autoincrement=False),
    Column("worker_id", BigInteger, ForeignKey("ledger_workers.id"), primary_key=True, autoincrement=False),
    Column("nbits", BigInteger, primary_key=True, autoincrement=False),
    Column("subsidy_sat", BigInteger, primary_key=True, autoincrement=False),  # of the heights worked on
    Column("solo", Integer, primary_key=True, autoincrement=False),  # 1: done for the finder alone, outside the window
    Column("work", WideInt, nullable=False),
    Column("shares", BigInteger, nullable=False),
    Column("minutes", BigInteger, nullable=False),  # bit n: a share in minute n of a ten-minute slice; 0 when rolled up
    Column("active_s", BigInteger, nullable=False),  # 60 for each minute with a share
    Index(None, "worker_id", "slice_id"),
)
#: Of all workers together: where a window ends is found here, without reading any member's work.
slice_totals = Table(
    "slice_totals",
    metadata,
    Column("slice_id", BigInteger, ForeignKey("slices.id"), primary_key=True, autoincrement=False),
    Column("nbits", BigInteger, primary_key=True, autoincrement=False),
    Column("solo", Integer, primary_key=True, autoincrement=False),
    Column("work", WideInt, nullable=False),
    Column("shares", BigInteger, nullable=False),
)
slice_rejects = Table(
    "slice_rejects",
    metadata,
    Column("slice_id", BigInteger, ForeignKey("slices.id"), primary_key=True, autoincrement=False),
    Column("worker_id", BigInteger, ForeignKey("ledger_workers.id"), primary_key=True, autoincrement=False),
    Column("verdict", Integer, primary_key=True, autoincrement=False),  # pool.records.Verdict
    Column("count", BigInteger, nullable=False),
)
best_shares = Table(
    "best_shares",
    metadata,
    Column("worker_id", BigInteger, ForeignKey("ledger_workers.id"), primary_key=True, autoincrement=False),
    Column("difficulty", Double, nullable=False),  # of the hash
    Column("header_hex", Text, nullable=False),  # 80 bytes, as hashed
    Column("time_ns", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
)
found_shares = Table(
    "found_shares",
    metadata,
    Column("hash_hex", Text, primary_key=True),  # display order
    Column("header_hex", Text, nullable=False),
    Column("height", BigInteger, nullable=False),
    Column("worker_id", BigInteger, ForeignKey("ledger_workers.id")),  # NULL: nobody who was authorised
    Column("credited", Integer, nullable=False),  # 1: the share itself earned; 0: it was stale, low or a duplicate
    Column("time_ns", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),  # of the last row inside its window: the split is as of it
    Column("seq", BigInteger, nullable=False),
    Column("slice_id", BigInteger, nullable=False),
)
#: Segments of the share log that were fully summed and put away.
log_segments = Table(
    "log_segments",
    metadata,
    Column("name", Text, primary_key=True),  # of the file before it was compressed
    Column("epoch", BigInteger, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("last_time_ns", BigInteger, nullable=False),  # latest stamp in it
    Column("sha256_hex", Text, nullable=False),  # of head and rows, uncompressed
    Column("stored_bytes", BigInteger, nullable=False),  # on the disk; 0 when dropped
    Column("state", Text, nullable=False),
    Column("at_s", BigInteger, nullable=False),
    CheckConstraint("state IN ('compressed', 'dropped')", name="state"),
    Index(None, "epoch", "first_seq"),
)
#: Decaying sums behind the hashrates, as of a row of the log; one row, rewritten about once a minute.
rate_state = Table(
    "rate_state",
    metadata,
    Column("lane", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("time_ns", BigInteger, nullable=False),
    Column("workers", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),  # pool.ledger.stats.Rates
)
