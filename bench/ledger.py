"""What the work side of the ledger costs: rows summed per second, reading a window, splitting a reward.

    ./mmsp bench ledger [--rows 400000] [--workers 5000] [--accounts 100000] [--slices 8] [--postgres]

Summing is measured as it happens in the pool: the log is written first, then read, summed and committed in batches of
one second's shares (20,000), on SQLite with synchronous=FULL and, with --postgres, on the server of the tests. Times
are CPU times of this process and wall times. The window has accounts * slices sums, each standing for 12.5 shares or
as many as `--shares` says: 100,000 * 8 are a window of 10 million rows."""

from __future__ import annotations

import argparse
import contextlib
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from report import finish, table
from sqlalchemy import Connection

from native.sharelog import Segment
from pool.ledger.logreader import LogReader, Position
from pool.ledger.rates import Rates
from pool.ledger.rewards import SCALE, Policy, split
from pool.ledger.slices import Slices
from pool.ledger.window import network_work, window_at
from pool.records import SHARE_ROW, RowKind
from pool.store import Store
from pool.store.work import ledger_accounts, ledger_workers, slice_totals, slice_work, slices
from rig import logfile

START_S = 1_800_000_000
NBITS = 0x1703A30C
A_SECOND = 20_000
TARGET_ROWS_S = 20_000


def write_log(directory: Path, count: int, workers: int) -> int:
    """A log of `count` shares at 20,000 a second; rows in it."""
    rng = np.random.default_rng(7)
    names = [logfile.name(RowKind.ACCOUNT, i + 1, 0, f"bc1q{i:058d}", START_S * 10**9) for i in range(workers // 2)]
    names += [
        logfile.name(RowKind.WORKER, i // 2 + 1, i + 1, f"axe{i % 2}", START_S * 10**9)
        for i in range(workers // 2 * 2)
    ]
    rows = np.zeros(count, SHARE_ROW)
    rows["kind"], rows["nbits"], rows["height"] = RowKind.SHARE, NBITS, 900_000
    rows["worker"] = rng.integers(1, workers // 2 * 2 + 1, count)
    rows["account"] = (rows["worker"] + 1) // 2
    rows["time_ns"] = START_S * 10**9 + np.arange(count, dtype=np.int64) * (10**9 // A_SECOND)
    rows["work_lo"] = rng.integers(1 << 40, 1 << 50, count)
    whole = np.concatenate([*names, rows])
    paths = logfile.write_epoch(directory, 100, whole)
    segment = Segment(str(paths[0]))
    segment.close()
    return len(whole)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def ingest(store: Store, directory: Path) -> dict[str, object]:
    """Read, sum, commit, second by second; the rates too."""
    reader, summing, rates = LogReader(directory), Slices(lambda height: 312_500_000), Rates()
    store.write_now(summing.load)
    parts = dict.fromkeys(("read", "sum", "rates"), 0.0)
    wall, cpu, done, slowest, memory = time.perf_counter(), time.process_time(), 0, 0.0, 0.0
    while True:
        at = time.perf_counter()
        batch = reader.after(summing.position, A_SECOND)
        if batch is None:
            break
        read = time.perf_counter()
        store.write_now(summing.add, batch)
        summed = time.perf_counter()
        shares = batch.rows[batch.rows["kind"] == RowKind.SHARE]
        rates.take(batch.rows, summing.ids_of(shares["worker"]), batch.end)
        end = time.perf_counter()
        parts["read"] += read - at
        parts["sum"] += summed - read
        parts["rates"] += end - summed
        slowest = max(slowest, end - at)
        done += len(batch.rows)
        memory = memory or resident_mib()
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    grown_mib = resident_mib() - memory  # since the first batch
    return {
        "database": "sqlite" if store.sqlite else "postgresql",
        "rows": done,
        "rows_per_s": done / wall_s,
        "rows_per_cpu_s": done / cpu_s,
        "slowest_batch_s": round(slowest, 3),
        **{f"{name}_share": round(value / wall_s, 3) for name, value in parts.items()},
        "grown_mib": round(grown_mib, 1),
    }


def fill_window(connection: Connection, accounts: int, count: int, shares: float) -> None:
    rng = random.Random(3)
    numbers = range(1, accounts + 1)
    connection.execute(ledger_accounts.insert(), [{"id": n, "name": f"a{n}", "epoch": 1, "seq": n} for n in numbers])
    connection.execute(ledger_workers.insert(), [{"id": n, "account_id": n, "name": "w"} for n in numbers])
    most = 2 * network_work(NBITS) // (accounts * count)
    for one in range(1, count + 1):
        row = {"id": one, "start_s": START_S + 600 * one, "span_s": 600, "first_epoch": 1, "first_seq": one}
        connection.execute(slices.insert(), [row | {"last_epoch": 1, "last_seq": one}])
        works = [rng.randrange(1, most) for _ in numbers]
        fixed = {"slice_id": one, "nbits": NBITS, "solo": 0, "shares": int(shares)}
        rows = [
            fixed | {"worker_id": n, "subsidy_sat": 312_500_000, "work": work, "minutes": 1, "active_s": 60}
            for n, work in zip(numbers, works, strict=True)
        ]
        connection.execute(slice_work.insert(), rows)
        connection.execute(slice_totals.insert(), [fixed | {"work": sum(works), "shares": int(shares) * accounts}])


def reward(store: Store, accounts: int, count: int, shares: float) -> Iterator[dict[str, object]]:
    store.write_now(fill_window, accounts, count, shares)
    for name, window in (("window holds all", 9 * SCALE), ("window ends in a slice", SCALE * 7 // 10)):
        policy = Policy(window, 0)
        best_read = best_split = best_cpu = float("inf")
        for _ in range(5):
            start, cpu = time.perf_counter(), time.process_time()
            held = store.read_now(window_at, count, policy)
            read = time.perf_counter()
            made = split(312_500_000_000, held, policy)
            end = time.perf_counter()
            best_cpu = min(best_cpu, time.process_time() - cpu)
            best_read, best_split = min(best_read, read - start), min(best_split, end - read)
        assert made.total_msat() == 312_500_000_000
        yield {
            "database": "sqlite" if store.sqlite else "postgresql",
            "case": name,
            "accounts": len(held.by_account()),
            "sums": accounts * count,
            "rows": int(accounts * count * shares),
            "read_s": round(best_read, 3),
            "split_s": round(best_split, 3),
            "together_s": round(best_read + best_split, 3),
            "cpu_s": round(best_cpu, 3),
        }


@contextlib.contextmanager
def stores(folder: Path, *, postgres: bool) -> Iterator[list[Store]]:
    """Fresh ones: SQLite twice, or PostgreSQL twice."""
    with contextlib.ExitStack() as stack:
        if postgres:
            from rig.postgres import running

            server = stack.enter_context(running())
            made = [Store(server.database()) for _ in range(2)]
        else:
            made = [Store(f"sqlite:///{folder}/{name}.sqlite") for name in ("ingest", "window")]
        for one in made:
            stack.callback(one.close)
            one.upgrade()
        yield made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--workers", type=int, default=5_000)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--shares", type=float, default=12.5)
    parser.add_argument("--postgres", action="store_true", help="also on the PostgreSQL of the tests")
    args = parser.parse_args()
    summed: list[dict[str, object]] = []
    rewards: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="bench-ledger-") as name:
        folder = Path(name)
        write_log(folder / "log", args.rows, args.workers)
        assert LogReader(folder / "log").after(Position(), 1) is not None
        for postgres in (False, True)[: 1 + args.postgres]:
            with stores(folder, postgres=postgres) as (first, second):
                summed.append(ingest(first, folder / "log"))
                rewards += reward(second, args.accounts, args.slices, args.shares)
    table(f"summing the log, {args.workers} workers, target {TARGET_ROWS_S:,} rows/s", summed)
    table("one block's reward", rewards)
    finish("ledger", {"ingest": summed, "reward": rewards})


if __name__ == "__main__":
    main()
