"""Hashrates over 1 m, 5 m, 15 m, 1 h, 6 h, 1 d and 7 d: sums of work that decay with those times, per worker.

Each share adds its work; between shares every sum shrinks by e^(-t/T), also while nobody mines. A hashrate is the sum
over T, over what a worker can have gathered since it was first seen; its error is that of a Poisson process, from the
decaying sum of squares. Floats: nothing here is paid by."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from pool.ledger.logreader import Position, Rows
from pool.records import RowKind
from pool.store.schema import insert_into
from pool.store.work import rate_state

WINDOWS_S = (60, 300, 900, 3600, 21_600, 86_400, 604_800)
_TAU_S = np.array(WINDOWS_S, dtype=np.float64)
#: A hashrate needs a minute: over the few seconds since a first share it would be any number.
LEAST_AGE_S = 60.0
NOTHING = 1e-6  # of a hash: smaller sums are nothing, and numbers near the end of the floats are slow
LANE = "main"
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rate:
    """A hashrate and its standard error (1 sigma), in hashes per second."""

    window_s: int
    hashrate_hs: float
    error_hs: float


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Sums as of a moment; never changed after it was made, so any thread may keep and read one. Row n belongs to the
    worker with ledger number n."""

    time_ns: int
    sums: Floats  # hashes, one column per window
    squares: Floats
    since_ns: npt.NDArray[np.int64]  # first share; 0: none yet

    def worker(self, worker_id: int, now_ns: int) -> tuple[Rate, ...]:
        return self.together([worker_id], now_ns)

    def together(self, worker_ids: Sequence[int] | npt.NDArray[np.int64], now_ns: int) -> tuple[Rate, ...]:
        """Of some workers as one: an account's, for example. Workers without a share count as nothing."""
        ids = np.asarray(worker_ids, dtype=np.int64)
        ids = ids[(ids >= 0) & (ids < len(self.since_ns))]
        ids = ids[self.since_ns[ids] > 0]
        if not len(ids):
            return tuple(Rate(window_s, 0.0, 0.0) for window_s in WINDOWS_S)
        now_ns = max(now_ns, self.time_ns)
        since = np.exp(-(now_ns - self.time_ns) / 1e9 / _TAU_S)
        age_s = np.maximum((now_ns - int(self.since_ns[ids].min())) / 1e9, LEAST_AGE_S)
        gathered_s = _TAU_S * -np.expm1(-age_s / _TAU_S)
        rates = self.sums[ids].sum(axis=0) * since / gathered_s
        errors = np.sqrt(self.squares[ids].sum(axis=0)) * since / gathered_s
        return tuple(
            Rate(window_s, float(rate), float(error))
            for window_s, rate, error in zip(WINDOWS_S, rates, errors, strict=True)
        )

    def pool(self, now_ns: int) -> tuple[Rate, ...]:
        return self.together(np.flatnonzero(self.since_ns), now_ns)


def _empty(workers: int = 0) -> Snapshot:
    shape = (workers, len(WINDOWS_S))
    return Snapshot(0, np.zeros(shape), np.zeros(shape), np.zeros(workers, np.int64))


class Rates:
    """Fed with every batch that the slices summed. `snapshot` is a new object after each."""

    def __init__(self) -> None:
        self.snapshot = _empty()
        self.position = Position()

    def take(self, rows: Rows, worker_ids: npt.NDArray[np.int64], end: Position) -> None:
        """`worker_ids` of the SHARE rows in `rows`, in their order; `end` of the rows. Time never goes back here."""
        before = self.snapshot
        times = np.maximum.accumulate(np.maximum(rows["time_ns"], before.time_ns))
        now_ns = int(times[-1]) if len(times) else before.time_ns
        size = max(len(before.since_ns), int(worker_ids.max()) + 1 if len(worker_ids) else 0)
        fade = np.exp(-(now_ns - before.time_ns) / 1e9 / _TAU_S) if before.time_ns else np.ones(len(WINDOWS_S))
        after = _empty(size)
        np.multiply(before.sums, fade, out=after.sums[: len(before.since_ns)])
        np.multiply(before.squares, fade * fade, out=after.squares[: len(before.since_ns)])
        after.sums[after.sums < NOTHING] = 0.0
        after.squares[after.squares < NOTHING] = 0.0
        after.since_ns[: len(before.since_ns)] = before.since_ns
        at = rows["kind"] == RowKind.SHARE
        if len(worker_ids):
            shares = rows[at]
            work = shares["work_lo"].astype(np.float64) + shares["work_hi"].astype(np.float64) * 2.0**64
            age_s = (now_ns - times[at]) / 1e9
            for column, tau_s in enumerate(WINDOWS_S):
                faded = work * np.exp(-age_s / tau_s)
                after.sums[:, column] += np.bincount(worker_ids, faded, size)
                after.squares[:, column] += np.bincount(worker_ids, faded * faded, size)
            ids, first = np.unique(worker_ids, return_index=True)
            new = after.since_ns[ids] == 0
            after.since_ns[ids[new]] = times[at][first[new]]
        self.snapshot = Snapshot(now_ns, after.sums, after.squares, after.since_ns)
        self.position = end

    # --- over restarts

    def save(self, connection: Connection) -> None:
        """In the transaction that moves the log's position, so that both tell of the same rows."""
        now = self.snapshot
        body = io.BytesIO()
        np.savez_compressed(body, sums=now.sums, squares=now.squares, since_ns=now.since_ns)
        row = {
            "lane": LANE,
            "epoch": self.position.epoch,
            "seq": self.position.seq,
            "time_ns": now.time_ns,
            "workers": len(now.since_ns),
            "body": body.getvalue(),
        }
        insert = insert_into(connection, rate_state)
        changed = {name: insert.excluded[name] for name in row if name != "lane"}
        connection.execute(insert.on_conflict_do_update(index_elements=["lane"], set_=changed), [row])

    def load(self, connection: Connection) -> None:
        self.snapshot, self.position = stored(connection)


def stored(connection: Connection) -> tuple[Snapshot, Position]:
    """As of the last save, for a process that does not sum the log itself."""
    row = connection.execute(select(rate_state).where(rate_state.c.lane == LANE)).one_or_none()
    if row is None:
        return _empty(), Position()
    with np.load(io.BytesIO(row.body), allow_pickle=False) as arrays:
        parts = {name: arrays[name] for name in ("sums", "squares", "since_ns")}
    return Snapshot(row.time_ns, **parts), Position(row.epoch, row.seq)
