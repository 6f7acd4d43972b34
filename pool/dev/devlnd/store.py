"""The node's own table of payments and its channel balance, on disk: what survives `kill -9` and what a backup brings
back."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from pool.dev.devlnd.guard import LABEL
from pool.dev.devlnd.truth import Transaction

# As lnrpc numbers them.
IN_FLIGHT, SUCCEEDED, FAILED, INITIATED = 1, 2, 3, 4
HTLC_IN_FLIGHT, HTLC_SUCCEEDED, HTLC_FAILED = 0, 1, 2
_TABLES = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS payment(payment_hash BLOB PRIMARY KEY, payment_index INTEGER UNIQUE, value_msat INTEGER,
    bolt11 TEXT, status INTEGER, failure_reason INTEGER, preimage BLOB, created_ns INTEGER);
CREATE TABLE IF NOT EXISTS htlc(attempt_id INTEGER PRIMARY KEY, payment_hash BLOB, amount_msat INTEGER,
    fee_msat INTEGER, status INTEGER, created_ns INTEGER, resolved_ns INTEGER);
CREATE INDEX IF NOT EXISTS htlc_hash ON htlc(payment_hash);
"""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator of the fake may turn, kept over restarts."""

    sql_texts: bool = False  # error texts of LND's SQL backend instead of its key-value one
    use_initiated: bool = False  # routerrpc.usestatusinitiated
    base_fee_msat: int = 1000
    fee_ppm: int = 100
    route_max_msat: int = 2_000_000_000  # no route carries more in one HTLC
    wallet_sat: int = 0


@dataclass(frozen=True, slots=True)
class Htlc:
    """One attempt."""

    attempt_id: int
    amount_msat: int
    fee_msat: int
    status: int
    created_ns: int
    resolved_ns: int


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment with its attempts."""

    payment_hash: bytes
    payment_index: int
    value_msat: int
    bolt11: str
    status: int
    failure_reason: int
    preimage: bytes
    created_ns: int
    htlcs: tuple[Htlc, ...] = field(default=())

    def msat_in(self, status: int) -> int:
        """Sum of the amounts of its HTLCs of one status, without fees."""
        return sum(htlc.amount_msat for htlc in self.htlcs if htlc.status == status)


class Store:
    """The node's database."""

    def __init__(self, path: Path, local_msat: int) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(_TABLES)
        first = {"label": LABEL, "secret": secrets.token_hex(32), "index": "0", "settings": "{}"}
        first |= {"local_msat": str(local_msat), "unsettled_msat": "0", "remote_msat": "0"}
        self._db.executemany("INSERT OR IGNORE INTO meta VALUES(?, ?)", first.items())
        self.settings = Settings(**json.loads(self.meta("settings")))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def meta(self, key: str) -> str:
        """A stored word."""
        (value,) = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(value)

    def balance(self, name: str) -> int:
        """`local_msat`, `unsettled_msat` or `remote_msat`."""
        return int(self.meta(name))

    def set_balance(self, local_msat: int) -> None:
        """Give the channel another local balance."""
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'local_msat'", (str(local_msat),))

    def change(self, settings: dict[str, int]) -> None:
        """Turn settings; ValueError names the unknown ones."""
        unknown = set(settings) - {one.name for one in fields(Settings)}
        if unknown:
            raise ValueError(f"no such settings: {', '.join(sorted(unknown))}")
        self.settings = Settings(**{**asdict(self.settings), **settings})
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'settings'", (json.dumps(asdict(self.settings)),))

    def init(self, payment_hash: bytes, value_msat: int, bolt11: str) -> None:
        """A new record under a new index; a FAILED one of the same hash goes."""
        with Transaction(self._db):
            self._delete(payment_hash)
            index = int(self.meta("index")) + 1
            self._db.execute("UPDATE meta SET value = ? WHERE key = 'index'", (str(index),))
            self._db.execute(
                "INSERT INTO payment VALUES(?, ?, ?, ?, ?, 0, ?, ?)",
                (payment_hash, index, value_msat, bolt11, IN_FLIGHT, bytes(32), time.time_ns()),
            )

    def get(self, payment_hash: bytes) -> Payment | None:
        """One payment."""
        row = self._db.execute("SELECT * FROM payment WHERE payment_hash = ?", (payment_hash,)).fetchone()
        return self._payment(row) if row else None

    def page(self, after: int, most: int, incomplete: bool, backwards: bool) -> list[Payment]:
        """Payments beyond an index, nearest first; backwards from 0 starts at the newest."""
        order, beyond = ("DESC", "<") if backwards else ("ASC", ">")
        after = after if after or not backwards else 1 << 62
        rows = self._db.execute(
            f"SELECT * FROM payment WHERE payment_index {beyond} ? AND (? OR status = ?) "  # noqa: S608 - constants
            f"ORDER BY payment_index {order} LIMIT ?",
            (after, incomplete, SUCCEEDED, most),
        ).fetchall()
        return [self._payment(row) for row in rows]

    def count(self) -> int:
        """Payments of any status."""
        (count,) = self._db.execute("SELECT COUNT(*) FROM payment").fetchone()
        return int(count)

    def unfinished(self) -> list[Payment]:
        """Payments to take up again after a start."""
        return [self._payment(r) for r in self._db.execute("SELECT * FROM payment WHERE status = ?", (IN_FLIGHT,))]

    def add_htlc(self, payment_hash: bytes, amount_msat: int, fee_msat: int) -> int:
        """Register an attempt and take its coins; the attempt's id."""
        attempt_id = secrets.randbits(62)
        with Transaction(self._db):
            row = (attempt_id, payment_hash, amount_msat, fee_msat, HTLC_IN_FLIGHT, time.time_ns(), 0)
            self._db.execute("INSERT INTO htlc VALUES(?, ?, ?, ?, ?, ?, ?)", row)
            self._move("local_msat", "unsettled_msat", amount_msat + fee_msat)
        return attempt_id

    def resolve(self, htlc: Htlc, status: int, *, burnt: bool = False) -> None:
        """An HTLC settled or failed; `burnt`: failed, and its coins went to the miners of a force close."""
        total_msat = htlc.amount_msat + htlc.fee_msat
        with Transaction(self._db):
            changed = self._db.execute(
                "UPDATE htlc SET status = ?, resolved_ns = ? WHERE attempt_id = ? AND status = ?",
                (status, time.time_ns(), htlc.attempt_id, HTLC_IN_FLIGHT),
            ).rowcount
            if changed and burnt:
                self._move("unsettled_msat", "", total_msat)
            elif changed:
                self._move("unsettled_msat", "remote_msat" if status == HTLC_SUCCEEDED else "local_msat", total_msat)

    def give_up(self, payment_hash: bytes, reason: int) -> None:
        """Note a reason to fail; HTLCs under way still decide."""
        self._db.execute(
            "UPDATE payment SET failure_reason = ? WHERE payment_hash = ? AND failure_reason = 0",
            (reason, payment_hash),
        )

    def finish(self, payment_hash: bytes, status: int, preimage: bytes = bytes(32)) -> None:
        """The final status."""
        self._db.execute(
            "UPDATE payment SET status = ?, preimage = ? WHERE payment_hash = ?", (status, preimage, payment_hash)
        )

    def delete(self, payment_hash: bytes) -> None:
        """Forget a payment; ValueError while it is in flight or if there is none."""
        payment = self.get(payment_hash)
        if payment is None:
            raise ValueError("non bucket element in payments bucket")
        if payment.status == IN_FLIGHT:
            raise ValueError("cannot delete payment: payment has inflight HTLCs")
        with Transaction(self._db):
            self._delete(payment_hash)

    def _delete(self, payment_hash: bytes) -> None:
        self._db.execute("DELETE FROM payment WHERE payment_hash = ?", (payment_hash,))
        self._db.execute("DELETE FROM htlc WHERE payment_hash = ?", (payment_hash,))

    def _move(self, source: str, target: str, msat: int) -> None:
        for name, change in ((source, -msat), (target, msat)):
            if name:
                self._db.execute("UPDATE meta SET value = ? WHERE key = ?", (str(self.balance(name) + change), name))

    def _payment(self, row: tuple[bytes, int, int, str, int, int, bytes, int]) -> Payment:
        found = self._db.execute(
            "SELECT attempt_id, amount_msat, fee_msat, status, created_ns, resolved_ns FROM htlc "
            "WHERE payment_hash = ? ORDER BY created_ns, attempt_id",
            (row[0],),
        )
        return Payment(*row, htlcs=tuple(Htlc(*one) for one in found))
