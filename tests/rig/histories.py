"""Random but valid share-log histories, and the ledger driven over them in any steps, with crashes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from sqlalchemy import Connection

from native.hashing import header_hash
from pool.ledger.logreader import LogReader
from pool.ledger.slices import Slices
from pool.records import RowKind
from pool.store import Store
from pool.store.schema import metadata
from pool.store.tables import log_segments, rate_state
from rig import logfile
from rig.ledger_oracle import TABLES, Epochs
from rig.logfile import Row

START_S = 1_800_000_000
NBITS = (0x1703A30C, 0x17034219, 0x207FFFFF)
#: The smallest difficulty of the pool, a NerdMiner, an S21, and the largest work that fits a row.
WORKS = (4096, 2**32 // 100, 2**32 * 65_536, 2**128 - 1)
KINDS = ("share", "share", "share", "share", "solo", "rejects", "best", "tip", "won", "block", "again", "name", "epoch")
Event = tuple[str, int, int, int]


def events(longest: int = 50) -> st.SearchStrategy[list[Event]]:
    """(kind, who, seconds since the row before, choice): seconds may be negative, as clocks are."""
    seconds = st.one_of(st.integers(0, 90), st.integers(-700, 1500))
    return st.lists(
        st.tuples(st.sampled_from(KINDS), st.integers(0, 4), seconds, st.integers(0, 11)), min_size=1, max_size=longest
    )


def subsidy(height: int) -> int:
    return int(312_500_000 >> height // 900_002)


class History:
    """Events -> rows by epoch. Each epoch names who it speaks of before it does."""

    def __init__(self) -> None:
        self.epochs: list[tuple[int, list[Row]]] = [(100, [])]
        self.time_ns = START_S * 10**9
        self._accounts: dict[int, int] = {}
        self._workers: dict[int, int] = {}
        self._headers: list[bytes] = []
        self._made = 0

    def add(self, event: Event) -> None:
        kind, who, seconds, choice = event
        self.time_ns += seconds * 10**9
        rows = self.epochs[-1][1]
        if kind == "epoch":
            self.epochs.append((self.epochs[-1][0] + 1 + choice, []))
            self._accounts, self._workers = {}, {}
            return
        account, worker = self._named(who + 10 * (kind == "name"))
        work, nbits, height = WORKS[choice % 4] - choice, NBITS[choice % 3], 900_000 + choice // 3
        if kind in ("share", "solo"):
            solo = kind == "solo"
            rows.append(
                logfile.share(
                    account, worker, self.time_ns, work, nbits=nbits, height=height, hash_le=self._hash(), solo=solo
                )
            )
        elif kind == "rejects":
            counts = [(choice * i) % 7 for i in range(16)]
            rows.append(logfile.rejects(account, worker if choice % 4 else 0, counts, self.time_ns))
        elif kind == "best":
            rows.append(logfile.best(account, worker, self._header(), 1.5 * choice, self.time_ns))
        elif kind == "tip":
            row = np.zeros(1, logfile.SHARE_ROW)
            row["kind"], row["time_ns"] = RowKind.TIP, self.time_ns
            rows.append(row)
        elif kind in ("won", "block", "again"):
            again = kind == "again" and self._headers
            header = self._headers[choice % len(self._headers)] if again else self._header()
            self._headers.append(header)
            rows.append(logfile.block(account, worker if choice % 5 else 0, header, height, self.time_ns))
            if kind == "won":
                late_ns = choice % 2 * 400 * 10**9  # the winning share may fall into the next ten minutes
                won = logfile.share(account, worker, self.time_ns + late_ns, work, hash_le=header_hash(header))
                rows.append(won)

    def _named(self, who: int) -> tuple[int, int]:
        rows = self.epochs[-1][1]
        owner = who // 2
        if owner not in self._accounts:
            self._accounts[owner] = len(self._accounts) + 1
            rows.append(logfile.name(RowKind.ACCOUNT, self._accounts[owner], 0, f"bc1q{owner}", self.time_ns))
        if who not in self._workers:
            self._workers[who] = len(self._workers) + 1
            text = f"axe\0{who}" if who % 3 == 0 else "axe"
            row = logfile.name(RowKind.WORKER, self._accounts[owner], self._workers[who], text, self.time_ns)
            rows.append(row)
        return self._accounts[owner], self._workers[who]

    def _header(self) -> bytes:
        return (self._hash() * 3)[:80]

    def _hash(self) -> bytes:
        self._made += 1
        return hashlib.sha256(self._made.to_bytes(8, "little")).digest()

    def rows(self) -> Epochs:
        return [(epoch, np.concatenate(rows)) for epoch, rows in self.epochs if rows]


def history_of(made: list[Event]) -> Epochs:
    history = History()
    for event in made:
        history.add(event)
    return history.rows()


def write(directory: Path, epochs: Epochs, *, segment_rows: int = 7) -> None:
    for epoch, rows in epochs:
        logfile.write_epoch(directory, epoch, rows, segment_rows=segment_rows)


class Killed(Exception):
    """The process ended here."""


def sum_log(
    store: Store,
    directory: Path,
    sizes: Iterator[int],
    killed: Iterator[bool] | None = None,
    subsidy_sat: Callable[[int], int] = subsidy,
) -> Slices:
    """Sum all there is, in batches of `sizes`; where `killed` says so the transaction fails at its end, and another
    process goes on."""
    reader, slices = LogReader(directory), Slices(subsidy_sat)
    store.write_now(slices.load)
    while True:
        size = next(sizes)
        batch = reader.after(slices.position, size)
        if batch is None:
            return slices
        before = slices.position

        def add(connection: Connection, batch: object = batch, slices: Slices = slices) -> None:
            slices.add(connection, batch)  # type: ignore[arg-type]
            if killed is not None and next(killed):
                raise Killed

        try:
            store.write_now(add)
        except Killed:
            reader, slices = LogReader(directory), Slices(subsidy_sat)
            store.write_now(slices.load)
            continue
        if slices.position == before:  # a BLOCK row alone: it waits for the row behind it
            batch = reader.after(slices.position, size + 1)
            if batch is None or len(batch.rows) == 1:
                return slices
            store.write_now(slices.add, batch)


def empty(connection: Connection) -> None:
    """The work side as after the migrations, for the next example on the same database."""
    own = {table.name for table in (*TABLES, log_segments, rate_state)}
    for table in reversed(metadata.sorted_tables):
        if table.name in own:
            connection.execute(table.delete())
