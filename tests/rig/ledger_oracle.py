"""What the share log says, worked out the slow way: row by row, in plain Python, without the ledger's code.

Every table of the work side is predicted from the rows alone, so that the fast, batched, restartable one can be
compared with it to the bit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, Table, select

from pool.records import ACCOUNT_ROW, BEST_ROW, BLOCK_ROW, REJECTS_ROW, RowKind
from pool.store.tables import (
    best_shares,
    found_shares,
    ledger_accounts,
    ledger_workers,
    log_cursor,
    log_names,
    slice_rejects,
    slice_totals,
    slice_work,
    slices,
)

Epochs = Sequence[tuple[int, npt.NDArray[np.void]]]
Row = tuple[object, ...]
TABLES: tuple[Table, ...] = (
    ledger_accounts,
    ledger_workers,
    log_names,
    log_cursor,
    slices,
    slice_work,
    slice_totals,
    slice_rejects,
    best_shares,
    found_shares,
)


def tables_of(connection: Connection) -> dict[str, list[Row]]:
    """All of the work side's tables, sorted."""
    return {
        table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr) for table in TABLES
    }


@dataclass
class _Slice:
    id: int
    start_s: int
    first: tuple[int, int]
    last: tuple[int, int]
    block: str | None = None
    work: dict[tuple[int, int, int, int], list[int]] = field(default_factory=dict)  # work, shares, minutes
    rejects: dict[tuple[int, int], int] = field(default_factory=dict)


class Oracle:
    """`predict(epochs, subsidy)`: rows of each table as `tables_of` gives them. An epoch's rows are numbered from 1."""

    def __init__(self, subsidy: Callable[[int], int]) -> None:
        self._subsidy = subsidy
        self.accounts: dict[str, Row] = {}
        self.workers: dict[tuple[int, str], int] = {}
        self.slices: list[_Slice] = []
        self.open: _Slice | None = None
        self.best: dict[int, Row] = {}
        self.found: dict[str, Row] = {}
        self.names: dict[tuple[str, int], int] = {}
        self.time_ns = 0
        self.rows = 0
        self.epoch = self.seq = 0

    def predict(self, epochs: Epochs) -> dict[str, list[Row]]:
        for epoch, rows in epochs:
            if not len(rows):
                continue
            self.epoch, self.names = epoch, {}
            for at in range(len(rows)):
                self.seq = at + 1
                self._row(rows[at : at + 1], rows[at + 1 : at + 2], rows[at - 1 : at] if at else rows[:0])
        return self._tables()

    def _row(self, row: npt.NDArray[np.void], behind: npt.NDArray[np.void], before: npt.NDArray[np.void]) -> None:
        kind, number = RowKind(int(row["kind"][0])), int(row["worker"][0])
        self.rows += 1
        self.time_ns = max(self.time_ns, int(row["time_ns"][0]))
        start_s = self.time_ns // 10**9 // 600 * 600
        here = (self.epoch, self.seq)
        if kind == RowKind.ACCOUNT or kind == RowKind.WORKER:
            self._name(kind, row.view(ACCOUNT_ROW)[0])
        if self.open is None or self.open.start_s != start_s:
            self.open = _Slice(len(self.slices) + 1, start_s, here, here)
            self.slices.append(self.open)
        self.open.last = here
        if kind == RowKind.SHARE:
            self._share(row[0], start_s)
            if len(before) and before["kind"][0] == RowKind.BLOCK and _hash(before) == bytes(row["hash_le"][0]):
                self._block(before, here, credited=1)
        elif kind == RowKind.REJECTS:
            known = self.names.get(("worker", number))
            for verdict, count in enumerate(row.view(REJECTS_ROW)[0]["counts"].tolist()):
                if known is not None and verdict and count:
                    key = (known, verdict)
                    self.open.rejects[key] = self.open.rejects.get(key, 0) + count
        elif kind == RowKind.BEST:
            self._best(row.view(BEST_ROW)[0], self.names["worker", number])
        elif kind == RowKind.BLOCK:
            won = len(behind) and behind["kind"][0] == RowKind.SHARE and bytes(behind["hash_le"][0]) == _hash(row)
            if not won:
                self._block(row, here, credited=0)

    def _name(self, kind: RowKind, row: np.void) -> None:
        text = bytes(row["text"])[: int(row["length"])].decode().replace("\0", "\ufffd")
        account, worker = int(row["account"]), int(row["worker"])
        if kind == RowKind.ACCOUNT:
            if text not in self.accounts:
                self.accounts[text] = (len(self.accounts) + 1, text, self.epoch, self.seq)
            number = self.accounts[text][0]
            assert isinstance(number, int)
            self.names["account", account] = number
        else:
            owner = self.names["account", account]
            self.names["worker", worker] = self.workers.setdefault((owner, text), len(self.workers) + 1)

    def _share(self, row: np.void, start_s: int) -> None:
        assert self.open is not None
        worker = self.names["worker", int(row["worker"])]
        solo = int(row["flags"]) & 1
        key = (worker, int(row["nbits"]), self._subsidy(int(row["height"])), solo)
        mine = self.open.work.setdefault(key, [0, 0, 0])
        mine[0] += int(row["work_hi"]) * 2**64 + int(row["work_lo"])
        mine[1] += 1
        second = int(row["time_ns"]) // 10**9 - start_s
        mine[2] |= 1 << min(max(second // 60, 0), 9)

    def _best(self, row: np.void, worker: int) -> None:
        old = self.best.get(worker)
        difficulty = float(row["difficulty"])
        if old is None or difficulty > old[1]:  # type: ignore[operator]
            header = bytes(row["header"]).hex()
            self.best[worker] = (worker, difficulty, header, int(row["time_ns"]), self.epoch, int(row["share_seq"]))

    def _block(self, rows: npt.NDArray[np.void], at: tuple[int, int], *, credited: int) -> None:
        row = rows.view(BLOCK_ROW)[0]
        name = _hash(rows)[::-1].hex()
        if name in self.found:
            return
        assert self.open is not None
        worker = self.names.get(("worker", int(row["worker"])))
        stamp = (int(row["time_ns"]), *at, self.open.id)
        self.found[name] = (name, bytes(row["header"]).hex(), int(row["height"]), worker, credited, *stamp)
        self.open.block = name
        self.open = None

    def _tables(self) -> dict[str, list[Row]]:
        work: list[Row] = []
        totals: dict[tuple[int, int, int], list[int]] = {}
        for one in self.slices:
            for key, (amount, shares, minutes) in one.work.items():
                work.append((one.id, *key, amount, shares, minutes, 60 * bin(minutes).count("1")))
                total = totals.setdefault((one.id, key[1], key[3]), [0, 0])
                total[0] += amount
                total[1] += shares
        tables: dict[str, list[Row]] = {
            "ledger_accounts": list(self.accounts.values()),
            "ledger_workers": [(number, owner, name) for (owner, name), number in self.workers.items()],
            "log_names": [(self.epoch, kind, number, known) for (kind, number), known in self.names.items()],
            "log_cursor": [("main", self.epoch, self.seq, self.rows, self.time_ns)] if self.rows else [],
            "slices": [(s.id, s.start_s, 600, *s.first, *s.last, s.block) for s in self.slices],
            "slice_work": work,
            "slice_totals": [(*key, *total) for key, total in totals.items()],
            "slice_rejects": [(s.id, *key, count) for s in self.slices for key, count in s.rejects.items()],
            "best_shares": list(self.best.values()),
            "found_shares": list(self.found.values()),
        }
        return {name: sorted(rows, key=repr) for name, rows in tables.items()}


def _hash(block: npt.NDArray[np.void]) -> bytes:
    header = bytes(block.view(BLOCK_ROW)[0]["header"])
    return hashlib.sha256(hashlib.sha256(header).digest()).digest()
