"""A ledger to try: shares written as a real log and summed by the real summing, blocks on top, the database by URL."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import Connection, text

from native.hashing import header_hash
from pool.ledger import audit, income
from pool.ledger import policy as policies
from pool.ledger.income import Coinbase
from pool.ledger.logreader import LogReader
from pool.ledger.rewards import SCALE, Policy
from pool.ledger.slices import Slices
from pool.records import RowKind
from pool.store import Store
from rig import logfile

NBITS = 0x1D00FFFF
NETWORK_WORK = 2**32 + 2**16 + 1  # 2^256 // (target + 1) of difficulty 1
SUBSIDY_SAT = 312_500_000
POLICY = Policy(window=SCALE, kappa=SCALE // 20, fee_bp=100, reserve_bp=500)
T0_S = 1_790_000_400


@dataclass(frozen=True, slots=True)
class Won:
    """A block found in this world."""

    hash_hex: str
    height: int


class World:
    """One store, one log; time goes on by itself."""

    def __init__(self, url: str, folder: Path, policy: Policy = POLICY, seed: int = 1) -> None:
        self.store, self.folder, self.random = Store(url), folder / "sharelog", random.Random(seed)
        self.store.upgrade()
        self.now_s = T0_S
        self.epoch = 1000
        self.height = 900_000
        with self.write() as connection:
            policies.adopt(connection, policy, 0, self.now_s)

    def close(self) -> None:
        self.store.close()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction of the writer."""
        with self.store._writer_engine.begin() as connection:
            yield connection

    def mine(
        self, work: Mapping[str, int] | Sequence[tuple[str, int]], *, block_by: str = "", nbits: int = NBITS
    ) -> Won | None:
        """One epoch of the log with a share of so much work each, summed; with `block_by` its last share is a block."""
        shares = list(work.items() if isinstance(work, Mapping) else work)
        self.epoch += 1
        self.now_s += 700
        names = list(dict.fromkeys([name for name, _ in shares] + ([block_by] if block_by else [])))
        at_ns = self.now_s * 10**9
        rows = []
        for number, name in enumerate(names, 1):
            rows.append(logfile.name(RowKind.ACCOUNT, number, 0, name, at_ns))
            rows.append(logfile.name(RowKind.WORKER, number, number, "w", at_ns))
        numbers = {name: number for number, name in enumerate(names, 1)}
        for name, amount in shares:
            rows.append(self._share(numbers[name], amount, at_ns, nbits=nbits))
        won = None
        if block_by:
            self.height += 1
            header = self.random.randbytes(80)
            won = Won(header_hash(header)[::-1].hex(), self.height)
            rows.append(logfile.block(numbers[block_by], numbers[block_by], header, self.height, at_ns))
            rows.append(self._share(numbers[block_by], 1000, at_ns, header_hash(header), nbits=nbits))
        logfile.write_epoch(self.folder, self.epoch, np.concatenate(rows), segment_rows=max(len(rows), 64))
        self.sum()
        return won

    def _share(
        self, number: int, work: int, at_ns: int, hash_le: bytes | None = None, *, nbits: int = NBITS
    ) -> logfile.Row:
        hash_le = hash_le or self.random.randbytes(32)
        return logfile.share(number, number, at_ns, work, nbits=nbits, height=self.height, hash_le=hash_le)

    def sum(self) -> None:
        """All that the log holds."""
        summing, reader = Slices(lambda height: SUBSIDY_SAT), LogReader(self.folder)
        with self.write() as connection:
            summing.load(connection)
        while (batch := reader.after(summing.position)) is not None:
            before = summing.position
            with self.write() as connection:
                summing.add(connection, batch)
            if summing.position == before:
                break

    def block(self, work: Mapping[str, int] | None = None, by: str = "anna", coinbase: Coinbase | None = None) -> Won:
        """Mined, and booked as found."""
        won = self.mine(work or {"anna": 2**31, "bea": 2**30, "carl": 2**29}, block_by=by)
        assert won is not None
        self.found(won, coinbase)
        return won

    def found(self, won: Won, coinbase: Coinbase | None = None) -> bool:
        with self.write() as connection:
            return income.found(connection, won.hash_hex, coinbase or plain(), self.now_s)

    def mature(self, won: Won) -> bool:
        with self.write() as connection:
            return income.matured(connection, won.hash_hex, self.now_s)

    def tamper(self, *statements: str) -> None:
        """What somebody with the database in his hands could do."""
        with self.write() as connection:
            self._tamper(connection, statements)

    def broken(self, *statements: str) -> dict[str, list[str]]:
        """What the audit says, by invariant, after these changes; they are undone again."""
        found: dict[str, list[str]] = {}
        with self.store._writer_engine.connect() as connection, connection.begin() as transaction:
            if statements:
                self._tamper(connection, statements)
            for one in audit.verify(connection):
                found.setdefault(one.invariant, []).append(one.what)
            transaction.rollback()
        return found

    def _tamper(self, connection: Connection, statements: Sequence[str]) -> None:
        """The guards off, the changes made, the guards on again."""
        triggers: list[tuple[str, str]] = []
        if self.store.sqlite:
            query = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
            triggers = [(row[0], row[1]) for row in connection.execute(text(query))]
            for name, _ in triggers:
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
            connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        else:
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        for statement in statements:
            assert connection.exec_driver_sql(statement).rowcount != 0, statement
        for _, sql in triggers:
            connection.exec_driver_sql(sql)


def plain(fees_sat: int = 2_345_678) -> Coinbase:
    """A coinbase that pays the pool alone."""
    return Coinbase(SUBSIDY_SAT + fees_sat, SUBSIDY_SAT)


@contextmanager
def world(url: str, folder: Path, policy: Policy = POLICY, seed: int = 1) -> Iterator[World]:
    made = World(url, folder, policy, seed)
    try:
        yield made
    finally:
        made.close()
