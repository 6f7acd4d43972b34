"""The chain on disk: one SQLite file that survives `kill -9` at any moment; every accepted block is one transaction
of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pool.dev.devchain.wire import Reader, var_bytes

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (
    seq INTEGER PRIMARY KEY,            -- order of arrival
    hash BLOB NOT NULL UNIQUE,          -- internal order
    header BLOB NOT NULL,
    height INTEGER NOT NULL,
    tx_count INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,       -- this node's clock
    pace INTEGER NOT NULL,              -- demo retarget: time per hash, fixed point (retarget.py)
    status INTEGER NOT NULL,
    raw BLOB NOT NULL,
    undo BLOB                           -- coins it spent, once connected
);
CREATE TABLE IF NOT EXISTS coins (
    outpoint BLOB PRIMARY KEY, value_sat INTEGER NOT NULL, script BLOB NOT NULL, height INTEGER NOT NULL,
    coinbase INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS txs (txid BLOB PRIMARY KEY, block BLOB NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Coin:
    """An unspent output; height 0 marks money the development chain minted for its random transactions."""

    outpoint: bytes
    value_sat: int
    script: bytes
    height: int
    coinbase: bool


@dataclass(frozen=True, slots=True)
class BlockRow:
    """What the index needs of a stored block."""

    seq: int
    hash: bytes
    header: bytes
    height: int
    tx_count: int
    received_ms: int
    pace: int
    status: int


class Store:
    """All access to the file. Writes happen inside `atomic()` only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None)
        # WAL + NORMAL: a killed process loses nothing that was committed; a power cut may lose the last commits,
        # never tear the file
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """One transaction: all of it or, on any exception, nothing. Nested uses join the outer one."""
        if self._db.in_transaction:
            yield
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def meta(self, key: str) -> str | None:
        """A setting, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Write a setting."""
        self._db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value)
        )

    def blocks(self) -> Iterator[BlockRow]:
        """Every stored block in order of arrival, without its body."""
        query = "SELECT seq, hash, header, height, tx_count, received_ms, pace, status FROM blocks ORDER BY seq"
        for row in self._db.execute(query):
            yield BlockRow(*row)

    def put_block(self, row: BlockRow, raw: bytes) -> None:
        """Add a block that is not connected yet."""
        self._db.execute(
            "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (row.seq, row.hash, row.header, row.height, row.tx_count, row.received_ms, row.pace, row.status, raw),
        )

    def set_status(self, block_hash: bytes, status: int) -> None:
        """Remember what became of a block."""
        self._db.execute("UPDATE blocks SET status = ? WHERE hash = ?", (status, block_hash))

    def raw_block(self, block_hash: bytes) -> bytes | None:
        """A block's bytes."""
        row = self._db.execute("SELECT raw FROM blocks WHERE hash = ?", (block_hash,)).fetchone()
        return None if row is None else bytes(row[0])

    def set_undo(self, block_hash: bytes, spent: Iterable[Coin]) -> None:
        """Keep the coins a block spent, for the day it is disconnected."""
        undo = b"".join(
            coin.outpoint + coin.value_sat.to_bytes(8, "little") + coin.height.to_bytes(4, "little")
            + bytes([coin.coinbase]) + var_bytes(coin.script)
            for coin in spent
        )  # fmt: skip
        self._db.execute("UPDATE blocks SET undo = ? WHERE hash = ?", (undo, block_hash))

    def was_connected(self, block_hash: bytes) -> bool:
        """Whether the block's spends were ever checked, so that it once was on the active chain."""
        row = self._db.execute("SELECT undo IS NOT NULL FROM blocks WHERE hash = ?", (block_hash,)).fetchone()
        return row is not None and bool(row[0])

    def undo(self, block_hash: bytes) -> list[Coin]:
        """The coins a connected block spent."""
        row = self._db.execute("SELECT undo FROM blocks WHERE hash = ?", (block_hash,)).fetchone()
        reader = Reader(bytes(row[0]))
        coins = []
        while reader.pos < len(reader.data):
            outpoint, value, height = reader.take(36), reader.number(8), reader.number(4)
            coinbase = reader.take(1) == b"\x01"
            coins.append(Coin(outpoint, value, reader.piece(), height, coinbase))
        return coins

    def coin(self, outpoint: bytes) -> Coin | None:
        """An unspent output, or None."""
        query = "SELECT value_sat, script, height, coinbase FROM coins WHERE outpoint = ?"
        row = self._db.execute(query, (outpoint,)).fetchone()
        return None if row is None else Coin(outpoint, row[0], row[1], row[2], bool(row[3]))

    def add_coins(self, coins: Iterable[Coin]) -> None:
        """Add unspent outputs."""
        self._db.executemany(
            "INSERT INTO coins VALUES (?, ?, ?, ?, ?)",
            [(coin.outpoint, coin.value_sat, coin.script, coin.height, int(coin.coinbase)) for coin in coins],
        )

    def remove_coins(self, outpoints: Iterable[bytes]) -> None:
        """Remove outputs (spent, or created by a block that is disconnected)."""
        self._db.executemany("DELETE FROM coins WHERE outpoint = ?", [(outpoint,) for outpoint in outpoints])

    def totals(self) -> tuple[int, int]:
        """(number of unspent outputs, their value in sat)."""
        row = self._db.execute("SELECT COUNT(*), COALESCE(SUM(value_sat), 0) FROM coins").fetchone()
        return int(row[0]), int(row[1])

    def index_txs(self, txids: Iterable[bytes], block_hash: bytes) -> None:
        """Say which block of the active chain holds these transactions."""
        self._db.executemany("INSERT OR REPLACE INTO txs VALUES (?, ?)", [(txid, block_hash) for txid in txids])

    def unindex_txs(self, txids: Iterable[bytes]) -> None:
        """Forget transactions of a disconnected block."""
        self._db.executemany("DELETE FROM txs WHERE txid = ?", [(txid,) for txid in txids])

    def block_of_tx(self, txid: bytes) -> bytes | None:
        """Hash of the active block that holds a transaction."""
        row = self._db.execute("SELECT block FROM txs WHERE txid = ?", (txid,)).fetchone()
        return None if row is None else bytes(row[0])
