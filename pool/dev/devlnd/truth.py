"""What the simulated payees know: their invoices, the HTLCs they hold, and all that they ever received.

This file is apart from the node's own: a node may be restored from a backup, what a payee received stays received."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import coincurve

from pool.dev.devlnd.bolt11 import REGTEST, Bolt11, encode, payment_hash_of
from pool.dev.devlnd.guard import LABEL

ACCEPTED, SETTLED, CANCELED = "accepted", "settled", "canceled"
_TABLES = """
CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS payee(name TEXT PRIMARY KEY, pubkey BLOB UNIQUE, secret BLOB, keysend INTEGER);
CREATE TABLE IF NOT EXISTS invoice(payment_hash BLOB PRIMARY KEY, payee TEXT, preimage BLOB, amount_msat INTEGER,
    payment_addr BLOB, bolt11 TEXT, state TEXT, conduct TEXT);
CREATE TABLE IF NOT EXISTS htlc(attempt_id INTEGER PRIMARY KEY, payment_hash BLOB, amount_msat INTEGER, state TEXT);
CREATE INDEX IF NOT EXISTS htlc_hash ON htlc(payment_hash);
CREATE TABLE IF NOT EXISTS received(seq INTEGER PRIMARY KEY AUTOINCREMENT, payee TEXT, payment_hash BLOB,
    amount_msat INTEGER, at_ns INTEGER);
"""


@dataclass(frozen=True, slots=True)
class Conduct:
    """How a payee and the way to it behave for one invoice."""

    act: str = "settle"  # "settle" | "hold" (until told) | "reject" (incorrect payment details)
    parts: int = 1  # HTLCs the payment is split into, where the request allows that many
    fail_first: int = 0  # attempts that fail on the way before one arrives
    attempt_ms: int = 0  # how long each of those takes
    greedy: bool = False  # takes a second payment of a hash that it was paid for
    force_close: bool = False  # the channel closes with the HTLC as dust: payee settles, payer books FAILED

    def __post_init__(self) -> None:
        if self.act not in ("settle", "hold", "reject") or self.parts < 1 or self.fail_first < 0:
            raise ValueError(f"no such conduct: {self}")


class Truth:
    """The payees' side, on disk."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.executescript(_TABLES)
        self._db.execute("INSERT OR IGNORE INTO meta VALUES('label', ?)", (LABEL,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def payee(self, name: str, *, keysend: bool = True) -> bytes:
        """Public key of a payee, made at first use."""
        row = self._db.execute("SELECT pubkey FROM payee WHERE name = ?", (name,)).fetchone()
        if row is None:
            key = coincurve.PrivateKey(secrets.token_bytes(32))
            row = (key.public_key.format(),)
            self._db.execute("INSERT INTO payee VALUES(?, ?, ?, ?)", (name, row[0], key.secret, keysend))
        return bytes(row[0])

    def knows(self, pubkey: bytes) -> bool:
        """Is there a payee with that key?"""
        return self._db.execute("SELECT 1 FROM payee WHERE pubkey = ?", (pubkey,)).fetchone() is not None

    def invoice(
        self,
        name: str,
        amount_msat: int,
        conduct: Conduct,
        *,
        expiry_s: int = 3600,
        created_at_s: int = 0,
        network: str = REGTEST,
        description: str = "",
        addr: bool = True,
    ) -> tuple[bytes, str]:
        """A new invoice: payment hash and text."""
        self.payee(name)
        (secret,) = self._db.execute("SELECT secret FROM payee WHERE name = ?", (name,)).fetchone()
        preimage, payment_addr = secrets.token_bytes(32), secrets.token_bytes(32) if addr else b""
        payment_hash = payment_hash_of(preimage)
        text = encode(
            Bolt11(
                network=network,
                amount_msat=amount_msat,
                created_at_s=created_at_s or int(time.time()),
                payment_hash=payment_hash,
                payment_addr=payment_addr,
                description=description or f"{LABEL}: worth nothing",
                expiry_s=expiry_s,
            ),
            secret,
        )
        self._db.execute(
            "INSERT INTO invoice VALUES(?, ?, ?, ?, ?, ?, 'open', ?)",
            (payment_hash, name, preimage, amount_msat, payment_addr, text, json.dumps(asdict(conduct))),
        )
        return payment_hash, text

    def conduct(self, payment_hash: bytes) -> Conduct:
        """How this hash is to be treated; unknown hashes as usual."""
        row = self._db.execute("SELECT conduct FROM invoice WHERE payment_hash = ?", (payment_hash,)).fetchone()
        return Conduct(**json.loads(row[0])) if row else Conduct()

    def accept(self, attempt_id: int, payment_hash: bytes, amount_msat: int) -> None:
        """An HTLC reaches its payee, who takes it, settles the whole set, or turns it away."""
        row = self._db.execute(
            "SELECT payee, amount_msat, state FROM invoice WHERE payment_hash = ?", (payment_hash,)
        ).fetchone()
        conduct = self.conduct(payment_hash)
        payable = row is not None and (row[2] == "open" or (conduct.greedy and row[2] == SETTLED))
        taken = payable and conduct.act != "reject"
        with self._transaction():
            state = ACCEPTED if taken else CANCELED
            self._db.execute("INSERT INTO htlc VALUES(?, ?, ?, ?)", (attempt_id, payment_hash, amount_msat, state))
            if taken and conduct.act == "settle" and self._held_msat(payment_hash) >= max(1, row[1]):
                self._settle(payment_hash)

    def keysend(self, attempt_id: int, dest: bytes, preimage: bytes, amount_msat: int) -> None:
        """A payment that carries its own preimage reaches a payee; each hash is taken once."""
        payment_hash = payment_hash_of(preimage)
        name, willing = self._db.execute("SELECT name, keysend FROM payee WHERE pubkey = ?", (dest,)).fetchone()
        with self._transaction():
            if willing:
                self._db.execute(
                    "INSERT OR IGNORE INTO invoice VALUES(?, ?, ?, ?, ?, '', 'open', ?)",
                    (payment_hash, name, preimage, amount_msat, b"", json.dumps(asdict(Conduct()))),
                )
        self.accept(attempt_id, payment_hash, amount_msat)

    def settle(self, payment_hash: bytes) -> None:
        """The payee of a held payment takes it; ValueError if it holds none. Its invoice may have expired long ago."""
        if not self._held_msat(payment_hash):
            raise ValueError("nothing is held for that hash")
        with self._transaction():
            self._settle(payment_hash)

    def cancel(self, payment_hash: bytes) -> None:
        """The payee gives a held payment back, or its time lock runs out."""
        with self._transaction():
            self._db.execute(
                "UPDATE htlc SET state = ? WHERE payment_hash = ? AND state = ?", (CANCELED, payment_hash, ACCEPTED)
            )
            self._db.execute(
                "UPDATE invoice SET state = ? WHERE payment_hash = ? AND state = 'open'", (CANCELED, payment_hash)
            )

    def htlc(self, attempt_id: int) -> str | None:
        """State of an HTLC at its payee; None if it never arrived."""
        row = self._db.execute("SELECT state FROM htlc WHERE attempt_id = ?", (attempt_id,)).fetchone()
        return row[0] if row else None

    def preimage(self, payment_hash: bytes) -> bytes:
        """The preimage of a settled payment."""
        (preimage,) = self._db.execute(
            "SELECT preimage FROM invoice WHERE payment_hash = ? AND state = ?", (payment_hash, SETTLED)
        ).fetchone()
        return bytes(preimage)

    def received(self, payment_hash: bytes | None = None) -> list[tuple[str, bytes, int]]:
        """(payee, payment hash, msat) of everything received, in order, or of one hash."""
        rows = self._db.execute(
            "SELECT payee, payment_hash, amount_msat FROM received WHERE payment_hash = ? OR ? IS NULL ORDER BY seq",
            (payment_hash, payment_hash),
        )
        return [(payee, bytes(found), amount_msat) for payee, found, amount_msat in rows]

    def _settle(self, payment_hash: bytes) -> None:
        amount_msat = self._held_msat(payment_hash)
        (payee,) = self._db.execute("SELECT payee FROM invoice WHERE payment_hash = ?", (payment_hash,)).fetchone()
        self._db.execute(
            "UPDATE htlc SET state = ? WHERE payment_hash = ? AND state = ?", (SETTLED, payment_hash, ACCEPTED)
        )
        self._db.execute("UPDATE invoice SET state = ? WHERE payment_hash = ?", (SETTLED, payment_hash))
        self._db.execute(
            "INSERT INTO received(payee, payment_hash, amount_msat, at_ns) VALUES(?, ?, ?, ?)",
            (payee, payment_hash, amount_msat, time.time_ns()),
        )

    def _held_msat(self, payment_hash: bytes) -> int:
        (held,) = self._db.execute(
            "SELECT COALESCE(SUM(amount_msat), 0) FROM htlc WHERE payment_hash = ? AND state = ?",
            (payment_hash, ACCEPTED),
        ).fetchone()
        return int(held)

    def _transaction(self) -> Transaction:
        return Transaction(self._db)


class Transaction:
    """`with Transaction(db):` all of it or nothing."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        self._db.execute("ROLLBACK" if kind else "COMMIT")
