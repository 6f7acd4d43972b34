"""Share-log rows become sums: per slice of ten minutes, worker, nBits and subsidy, in one transaction with the position
in the log. A crash replays from that position; replaying twice changes nothing.

A slice ends with its ten minutes by the rows' own stamps (which never go back here, even if a clock did) or with a
found block's winning share, so that a block is split exactly as of that share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, delete, func, select, update

from native.hashing import header_hash
from pool.ledger.logreader import Batch, Position, Rows
from pool.ledger.names import account_ids, worker_ids
from pool.ledger.openslice import SPAN_S, OpenSlice, Sum, upsert_rejects, upsert_totals, upsert_work
from pool.records import BEST_ROW, BLOCK_ROW, REJECTS_ROW, SOLO, WORKER_ROW, RowKind
from pool.store.schema import insert_into, storable
from pool.store.work import (
    best_shares,
    found_shares,
    log_cursor,
    log_names,
    slice_rejects,
    slice_totals,
    slice_work,
    slices,
)

LANE = "main"


@dataclass(frozen=True, slots=True)
class Closed:
    """A block's winning share ended a slice: what the income of that block is split as of."""

    hash_hex: str
    height: int
    at: Position
    slice_id: int


class Slices:
    """Sums the log into the database. One at a time; call `load` in the first transaction, then `add` per batch, each
    in a transaction of its own. When a transaction fails, `load` again: memory must not be ahead of the database."""

    def __init__(self, subsidy_sat: Callable[[int], int]) -> None:
        """`subsidy_sat(height)` of the network, exact."""
        self._subsidy_sat = subsidy_sat
        self._subsidies: dict[int, int] = {}
        self.position = Position()
        self._rows = 0
        self._time_ns = 0
        self._open: OpenSlice | None = None
        self._accounts: dict[int, int] = {}  # number in the present epoch -> id
        self._workers: dict[int, int] = {}
        self._names_epoch = 0
        self._awaiting: _Block | None = None

    # --- state

    def load(self, connection: Connection) -> None:
        """Take up where the database stands."""
        self.__init__(self._subsidy_sat)  # type: ignore[misc]
        row = connection.execute(select(log_cursor).where(log_cursor.c.lane == LANE)).one_or_none()
        if row is None:
            return
        self.position, self._rows, self._time_ns = Position(row.epoch, row.seq), row.rows, row.time_ns
        self._names_epoch = row.epoch
        for name in connection.execute(select(log_names).where(log_names.c.epoch == row.epoch)):
            (self._accounts if name.kind == "account" else self._workers)[name.number] = name.id
        last = connection.execute(select(slices).order_by(slices.c.id.desc()).limit(1)).one_or_none()
        if last is not None and last.span_s == SPAN_S and last.block_hash is None:
            self._open = self._load_open(connection, last)

    def _load_open(self, connection: Connection, row: Any) -> OpenSlice:
        first, last = Position(row.first_epoch, row.first_seq), Position(row.last_epoch, row.last_seq)
        opened = OpenSlice(row.id, row.start_s, first, last)
        for one in connection.execute(select(slice_work).where(slice_work.c.slice_id == row.id)):
            opened.sums[one.worker_id, one.nbits, one.subsidy_sat, one.solo] = Sum(one.work, one.shares, one.minutes)
        for one in connection.execute(select(slice_totals).where(slice_totals.c.slice_id == row.id)):
            opened.totals[one.nbits, one.solo] = Sum(one.work, one.shares)
        for one in connection.execute(select(slice_rejects).where(slice_rejects.c.slice_id == row.id)):
            opened.rejects[one.worker_id, one.verdict] = one._mapping["count"]
        return opened

    def ids_of(self, numbers: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
        """Ledger ids of worker numbers of the present epoch."""
        known = self._workers
        return np.fromiter((known[number] for number in numbers.tolist()), np.int64, len(numbers))

    # --- adding

    def add(self, connection: Connection, batch: Batch) -> list[Closed]:
        """Sum one batch, which must follow the position. Returns the blocks whose winning share it held.

        A BLOCK row at the end waits for the row behind it (the winning share) and is left for the next batch, so that
        nothing is in memory alone; at the end of an epoch nothing can come."""
        expected = self.position.seq + 1 if batch.epoch == self.position.epoch else 1
        if batch.epoch < self.position.epoch or batch.first_seq != expected:
            raise ValueError(f"rows from {batch.epoch}/{batch.first_seq} do not follow {self.position}")
        if batch.epoch != self._names_epoch:
            self._begin_epoch(connection, batch.epoch)
        if batch.rows[-1]["kind"] == RowKind.BLOCK and not batch.last_of_epoch:
            batch = replace(batch, rows=batch.rows[:-1])
            if not len(batch.rows):
                return []
        rows = batch.rows
        kinds = rows["kind"]
        self._learn_names(connection, batch, np.flatnonzero((kinds == RowKind.ACCOUNT) | (kinds == RowKind.WORKER)))
        starts = np.maximum.accumulate(np.maximum(rows["time_ns"], self._time_ns)) // (SPAN_S * 10**9) * SPAN_S
        edges = set((np.flatnonzero(np.diff(starts)) + 1).tolist())
        closed: list[Closed] = []
        blocks = np.flatnonzero(kinds == RowKind.BLOCK).tolist()
        cuts = sorted(edges | {0, len(rows)} | {at for b in blocks for at in (b, b + 1, min(b + 2, len(rows)))})
        for begin, end in pairwise(cuts):
            closed += self._part(connection, batch, begin, end, int(starts[begin]))
        if self._awaiting is not None:
            waiting, self._awaiting = self._awaiting, None
            closed += self._close(connection, waiting, waiting.at, credited=False)
        self._time_ns = max(self._time_ns, int(rows["time_ns"].max()))
        self._rows += len(rows)
        self.position = batch.end
        self._write(connection)
        self._save_position(connection)
        return closed

    def _part(self, connection: Connection, batch: Batch, begin: int, end: int, start_s: int) -> list[Closed]:
        """Rows begin..end lie in one slice, and a BLOCK row or the row behind one is alone in its part."""
        rows = batch.rows[begin:end]
        first = Position(batch.epoch, batch.first_seq + begin)
        last = Position(batch.epoch, batch.first_seq + end - 1)
        closed: list[Closed] = []
        if self._awaiting is not None:
            waiting, self._awaiting = self._awaiting, None
            won = rows[0]["kind"] == RowKind.SHARE and bytes(rows[0]["hash_le"]) == waiting.hash_le
            if won:  # the winning share is inside its own window
                self._sum(connection, rows[:1], start_s, first, first)
                closed += self._close(connection, waiting, first, credited=True)
                rows = rows[1:]
                first = Position(first.epoch, first.seq + 1)
            else:
                closed += self._close(connection, waiting, waiting.at, credited=False)
        if len(rows):
            self._sum(connection, rows, start_s, first, last)
            if rows[-1]["kind"] == RowKind.BLOCK:
                self._awaiting = _Block.of(rows[-1:], last, self._workers)
        return closed

    def _sum(self, connection: Connection, rows: Rows, start_s: int, first: Position, last: Position) -> None:
        opened = self._open
        if opened is None or opened.start_s != start_s:
            opened = self._roll(connection, start_s, first)
        opened.last = last
        kinds = rows["kind"]
        shares = rows[kinds == RowKind.SHARE]
        if len(shares):
            self._sum_shares(opened, shares)
        for at in np.flatnonzero(kinds == RowKind.REJECTS).tolist():
            self._sum_rejects(opened, rows[at : at + 1].view(REJECTS_ROW)[0])
        best = np.flatnonzero(kinds == RowKind.BEST)
        if len(best):
            self._keep_best(connection, rows[best].view(BEST_ROW), last.epoch)

    def _sum_shares(self, opened: OpenSlice, shares: Rows) -> None:
        """Groups by (worker, nBits, height, solo); the 128-bit work is added up in four columns of 32 bits, which
        2^32 rows cannot overflow."""
        order = np.lexsort((shares["flags"], shares["height"], shares["nbits"], shares["worker"]))
        shares = shares[order]
        worker, nbits, height, solo = shares["worker"], shares["nbits"], shares["height"], shares["flags"] & SOLO
        new = (np.diff(worker) != 0) | (np.diff(nbits) != 0) | (np.diff(height) != 0) | (np.diff(solo) != 0)
        begins = np.concatenate(([0], np.flatnonzero(new) + 1))
        mask = np.uint64(0xFFFFFFFF)
        low, high = shares["work_lo"], shares["work_hi"]
        columns = [low & mask, low >> np.uint64(32), high & mask, high >> np.uint64(32)]
        sums = [np.add.reduceat(column, begins).tolist() for column in columns]
        minute = np.clip((shares["time_ns"] // 10**9 - opened.start_s) // 60, 0, SPAN_S // 60 - 1)
        minutes = np.bitwise_or.reduceat(np.left_shift(1, minute), begins).tolist()
        counts = np.diff(np.concatenate((begins, [len(shares)]))).tolist()
        for i, at in enumerate(begins.tolist()):
            key = (self._workers[int(worker[at])], int(nbits[at]), self._subsidy(int(height[at])), int(solo[at]))
            work_here = sums[0][i] + (sums[1][i] << 32) + (sums[2][i] << 64) + (sums[3][i] << 96)
            total = opened.sums.get(key)
            if total is None:
                total = opened.sums[key] = Sum()
            total.work += work_here
            total.shares += counts[i]
            total.minutes |= minutes[i]
            of_all = opened.totals.setdefault((key[1], key[3]), Sum())
            of_all.work += work_here
            of_all.shares += counts[i]
            opened.changed_sums.add(key)

    def _sum_rejects(self, opened: OpenSlice, row: Any) -> None:
        worker = self._workers.get(int(row["worker"]))
        if worker is None:
            return  # a connection that never authorised: counted in the server's own totals
        for verdict, count in enumerate(row["counts"].tolist()):
            if count and verdict:  # verdict 0 is ACCEPTED: those rows are counted themselves
                key = (worker, verdict)
                opened.rejects[key] = opened.rejects.get(key, 0) + count
                opened.changed_rejects.add(key)

    def _keep_best(self, connection: Connection, rows: Rows, epoch: int) -> None:
        """The best share of each worker for ever, with its header, so that anybody can hash it again."""
        insert = insert_into(connection, best_shares)
        statement = insert.on_conflict_do_update(
            index_elements=["worker_id"],
            set_={name: insert.excluded[name] for name in ("difficulty", "header_hex", "time_ns", "epoch", "seq")},
            where=insert.excluded.difficulty > best_shares.c.difficulty,
        )
        found = [
            {
                "worker_id": self._workers[int(row["worker"])],
                "difficulty": float(row["difficulty"]),
                "header_hex": bytes(row["header"]).hex(),
                "time_ns": int(row["time_ns"]),
                "epoch": epoch,
                "seq": int(row["share_seq"]),
            }
            for row in rows
        ]
        connection.execute(statement, found)

    def _subsidy(self, height: int) -> int:
        if height not in self._subsidies:
            if len(self._subsidies) > 1000:
                self._subsidies.clear()
            self._subsidies[height] = self._subsidy_sat(height)
        return self._subsidies[height]

    # --- names

    def _begin_epoch(self, connection: Connection, epoch: int) -> None:
        """Numbers of an epoch mean nothing in the next one."""
        self._accounts, self._workers, self._names_epoch = {}, {}, epoch
        connection.execute(delete(log_names))

    def _learn_names(self, connection: Connection, batch: Batch, places: Any) -> None:
        """Accounts first, then workers: a worker's row always lies behind its account's."""
        accounts: dict[int, tuple[str, int]] = {}
        workers: dict[int, tuple[int, str]] = {}
        for at in places.tolist():
            row = batch.rows[at : at + 1].view(WORKER_ROW)[0]
            name = storable(bytes(row["text"])[: int(row["length"])].decode())
            if row["kind"] == RowKind.ACCOUNT:
                accounts[int(row["account"])] = name, batch.first_seq + at
            else:
                workers[int(row["worker"])] = int(row["account"]), name
        learnt: list[dict[str, object]] = []
        for number, identity in account_ids(connection, accounts, batch.epoch).items():
            self._accounts[number] = identity
            learnt.append({"epoch": batch.epoch, "kind": "account", "number": number, "id": identity})
        owned = {number: (self._accounts[account], name) for number, (account, name) in workers.items()}
        for number, identity in worker_ids(connection, owned).items():
            self._workers[number] = identity
            learnt.append({"epoch": batch.epoch, "kind": "worker", "number": number, "id": identity})
        if learnt:
            connection.execute(log_names.insert(), learnt)

    # --- the open slice

    def _roll(self, connection: Connection, start_s: int, first: Position) -> OpenSlice:
        """Write what was open and begin the next one."""
        self._write(connection)
        newest = connection.execute(select(func.max(slices.c.id))).scalar() or 0
        self._open = OpenSlice(newest + 1, start_s, first, first)
        self._write_slice(connection, self._open)
        return self._open

    def _close(self, connection: Connection, block: _Block, at: Position, *, credited: bool) -> list[Closed]:
        """End the open slice at a block, and note the block. One block, one entry: a header that a device sends again
        ends nothing, or whoever found one block could cut the work of all into as many slices as he likes."""
        if connection.execute(select(found_shares.c.slice_id).where(found_shares.c.hash_hex == block.hash_hex)).first():
            return []
        opened = self._open
        assert opened is not None  # the BLOCK row itself lies in it
        self._write(connection)
        row = {
            "hash_hex": block.hash_hex,
            "header_hex": block.header.hex(),
            "height": block.height,
            "worker_id": block.worker_id,
            "credited": int(credited),
            "time_ns": block.time_ns,
            "epoch": at.epoch,
            "seq": at.seq,
            "slice_id": opened.id,
        }
        connection.execute(found_shares.insert(), [row])
        connection.execute(update(slices).where(slices.c.id == opened.id).values(block_hash=block.hash_hex))
        self._open = None
        return [Closed(block.hash_hex, block.height, at, opened.id)]

    def _write_slice(self, connection: Connection, opened: OpenSlice) -> None:
        insert = insert_into(connection, slices)
        row = {
            "id": opened.id,
            "start_s": opened.start_s,
            "span_s": SPAN_S,
            "first_epoch": opened.first.epoch,
            "first_seq": opened.first.seq,
            "last_epoch": opened.last.epoch,
            "last_seq": opened.last.seq,
        }
        new = insert.excluded
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=["id"], set_={"last_epoch": new.last_epoch, "last_seq": new.last_seq}
            ),
            [row],
        )

    def _write(self, connection: Connection) -> None:
        """What changed in the open slice, as absolute values: writing it twice is harmless."""
        opened = self._open
        if opened is None:
            return
        self._write_slice(connection, opened)
        if opened.changed_sums:
            upsert_work(connection, opened)
            upsert_totals(connection, opened)
        if opened.changed_rejects:
            upsert_rejects(connection, opened)

    def _save_position(self, connection: Connection) -> None:
        insert = insert_into(connection, log_cursor)
        row = {
            "lane": LANE,
            "epoch": self.position.epoch,
            "seq": self.position.seq,
            "rows": self._rows,
            "time_ns": self._time_ns,
        }
        names = ("epoch", "seq", "rows", "time_ns")
        statement = insert.on_conflict_do_update(
            index_elements=["lane"], set_={name: insert.excluded[name] for name in names}
        )
        connection.execute(statement, [row])


@dataclass(frozen=True, slots=True)
class _Block:
    """A BLOCK row whose winning share may be the next row."""

    header: bytes
    hash_le: bytes
    height: int
    worker_id: int | None
    time_ns: int
    at: Position

    @classmethod
    def of(cls, rows: Rows, at: Position, workers: dict[int, int]) -> _Block:
        row = rows.view(BLOCK_ROW)[0]
        header = bytes(row["header"])
        worker = workers.get(int(row["worker"]))
        return cls(header, header_hash(header), int(row["height"]), worker, int(row["time_ns"]), at)

    @property
    def hash_hex(self) -> str:
        return self.hash_le[::-1].hex()
