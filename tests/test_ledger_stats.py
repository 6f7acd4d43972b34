"""Hashrates, best shares, effort and luck as pages show them: right within their error bars, and over restarts."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from native.hashing import header_hash
from pool.ledger import stats
from pool.ledger.logreader import Position
from pool.ledger.rates import WINDOWS_S, Rates
from pool.ledger.rewards import SCALE
from pool.ledger.window import network_work
from pool.records import RowKind, Verdict
from pool.store import Store
from rig import logfile
from rig.histories import START_S, sum_log
from rig.logfile import Row

NOW_NS = START_S * 10**9
NBITS = 0x1703A30C


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    one = Store(store_url)
    one.upgrade()
    yield one
    one.close()


def mining(rng: random.Random, hashrate_hs: float, work: int, seconds: int) -> list[tuple[int, int]]:
    """(time, work) of shares as they come: a Poisson process."""
    out, at_s = [], 0.0
    while (at_s := at_s + rng.expovariate(hashrate_hs / work)) < seconds:
        out.append((NOW_NS + int(at_s * 1e9), work))
    return out


def rows_of(shares: list[tuple[int, int]], worker: int = 1) -> Row:
    rows = np.zeros(len(shares), logfile.SHARE_ROW)
    rows["kind"], rows["worker"] = RowKind.SHARE, worker
    rows["time_ns"] = [at for at, _ in shares]
    rows["work_lo"] = [work & (1 << 64) - 1 for _, work in shares]
    rows["work_hi"] = [work >> 64 for _, work in shares]
    return rows


def fed(rows: Row, size: int = 1000) -> Rates:
    rates = Rates()
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        rates.take(part, part["worker"].astype(np.int64), Position(1, start + len(part)))
    return rates


@pytest.mark.parametrize("hashrate_hs", [5e4, 1.2e12, 2e14, 1e18])
def test_a_steady_device_reads_its_hashrate_within_its_own_error_bars(hashrate_hs: float, rng: random.Random) -> None:
    work = int(hashrate_hs * 10)  # a share each ten seconds
    rates = fed(rows_of(mining(rng, hashrate_hs, work, 40_000)))
    for rate in rates.snapshot.worker(1, NOW_NS + 40_000 * 10**9):
        allowed_hs = 5.5 * max(rate.error_hs, hashrate_hs * math.sqrt(10 / rate.window_s))
        assert abs(rate.hashrate_hs - hashrate_hs) < allowed_hs
    last = rates.snapshot.worker(1, NOW_NS + 40_000 * 10**9)[WINDOWS_S.index(3600)]
    # Poisson: a window of T seconds weighs as 2 T / 10 s shares.
    assert last.error_hs / last.hashrate_hs == pytest.approx(math.sqrt(10 / 7200), rel=0.25)


def test_error_bars_hold_the_truth_as_often_as_they_say(rng: random.Random) -> None:
    inside = 0
    for _ in range(300):
        snapshot = fed(rows_of(mining(rng, 1e9, 2 * 10**10, 4000))).snapshot
        rate = snapshot.worker(1, NOW_NS + 4000 * 10**9)[WINDOWS_S.index(900)]
        inside += abs(rate.hashrate_hs - 1e9) <= rate.error_hs
    assert 0.55 < inside / 300 < 0.80  # one sigma: 68 %


def test_a_hashrate_decays_while_nobody_mines() -> None:
    snapshot = fed(rows_of([(NOW_NS + i * 10**9, 10**12) for i in range(3600)])).snapshot
    end_ns = NOW_NS + 3599 * 10**9
    for i, window_s in enumerate(WINDOWS_S[:4]):
        now, later = (snapshot.worker(1, end_ns + wait * 10**9)[i] for wait in (0, window_s))
        gathered = [1 - math.exp(-age_s / window_s) for age_s in (3599, 3599 + window_s)]
        assert later.hashrate_hs == pytest.approx(now.hashrate_hs / math.e * gathered[0] / gathered[1], rel=1e-9)
        assert later.error_hs < now.error_hs
    assert snapshot.pool(end_ns + 10**9 * 86_400)[0].hashrate_hs == 0.0 or snapshot.pool(end_ns + 86_400 * 10**9)[
        0
    ].hashrate_hs < 1


def test_steps_of_reading_change_no_hashrate(rng: random.Random) -> None:
    rows = np.concatenate([rows_of(mining(rng, 1e9, 10**10, 5000), worker) for worker in (1, 2, 9)])
    rows = rows[np.argsort(rows["time_ns"], kind="stable")]
    one, many = (fed(rows, size).snapshot for size in (10**6, 7))
    assert np.allclose(one.sums, many.sums, rtol=1e-9)
    assert np.allclose(one.squares, many.squares, rtol=1e-9)
    assert list(one.since_ns) == list(many.since_ns)
    together = one.together([1, 2, 9], NOW_NS)
    assert one.pool(NOW_NS) == together
    assert together[0].hashrate_hs == pytest.approx(
        sum(one.worker(worker, NOW_NS)[0].hashrate_hs for worker in (1, 2, 9)), rel=0.1
    )


def test_a_clock_that_steps_back_makes_no_hashrate_from_nothing() -> None:
    shares = [(NOW_NS + i * 10**9, 10**12) for i in range(600)] + [(NOW_NS, 10**12)] * 3
    rate = fed(rows_of(shares)).snapshot.worker(1, NOW_NS + 600 * 10**9)[1]
    assert rate.hashrate_hs == pytest.approx(1e12, rel=0.05)


def test_nobody_known_has_no_hashrate() -> None:
    snapshot = Rates().snapshot
    for rates in (snapshot.pool(NOW_NS), snapshot.worker(5, NOW_NS), snapshot.together([], NOW_NS)):
        assert [rate.window_s for rate in rates] == list(WINDOWS_S)
        assert all(rate.hashrate_hs == 0.0 for rate in rates)


def test_a_snapshot_that_somebody_holds_never_changes() -> None:
    rates = fed(rows_of([(NOW_NS, 10**12)]))
    held = rates.snapshot
    before = held.sums.copy()
    rates.take(rows_of([(NOW_NS + 10**9, 10**12)], 4), np.array([4]), Position(1, 2))
    assert (held.sums == before).all()
    assert rates.snapshot is not held


def test_what_was_stored_goes_on_as_if_nothing_had_happened(store: Store, rng: random.Random) -> None:
    rows = rows_of(mining(rng, 1e9, 10**10, 3000))
    half = len(rows) // 2
    whole, before = fed(rows, half), fed(rows[:half], half)
    store.write_now(before.save)
    after = Rates()
    store.write_now(after.load)
    assert after.position == before.position
    for start in range(half, len(rows), half):
        part = rows[start : start + half]
        after.take(part, part["worker"].astype(np.int64), Position(1, start + len(part)))
    assert (after.snapshot.sums == whole.snapshot.sums).all()
    assert (after.snapshot.squares == whole.snapshot.squares).all()
    assert after.position == whole.position


# --- from the store


@pytest.fixture
def told(store: Store, tmp_path: Path) -> Store:
    """Two accounts, three workers, two blocks: after 3 and 2 thousandths of a block's work."""
    unit = network_work(NBITS) // 1000
    rows = [logfile.name(RowKind.ACCOUNT, n, 0, name, NOW_NS) for n, name in ((1, "alice"), (2, "bob"))]
    owners = ((1, 1, "axe"), (1, 2, "nerd"), (2, 3, "s21"))
    rows += [logfile.name(RowKind.WORKER, account, n, name, NOW_NS) for account, n, name in owners]
    made = ((1, 1, 0), (2, 3, 1), (1, 2, 700), (2, 3, 701), (1, 1, 1300), (2, 3, 1301))
    for at, (account, worker, second) in enumerate(made):
        now_ns, header = NOW_NS + second * 10**9, bytes([at]) * 80
        is_block = at in (2, 4)
        if is_block:
            rows.append(logfile.block(account, worker, header, 900_000 + at, now_ns))
        won = header_hash(header) if is_block else None
        rows.append(logfile.share(account, worker, now_ns, unit, nbits=NBITS, hash_le=won, solo=at == 3))
    rows.append(logfile.best(1, 2, b"\7" * 80, 77.0, NOW_NS))
    rows.append(logfile.best(2, 3, b"\x08" * 80, 99.5, NOW_NS))
    rows.append(logfile.rejects(1, 1, (5, 0, 3, 0, 0, 0, 2), NOW_NS + 1301 * 10**9))
    logfile.write_epoch(tmp_path / "log", 100, np.concatenate(rows))
    sum_log(store, tmp_path / "log", itertools.repeat(65_536))
    return store


def test_effort_counts_from_the_last_block_and_solo_work_too(told: Store) -> None:
    effort = told.write_now(stats.effort_now)
    assert effort.since_hash_hex == header_hash(b"\4" * 80)[::-1].hex()
    assert effort.fraction == pytest.approx(0.001, rel=1e-9)
    efforts = told.write_now(stats.block_efforts, 10)
    assert [one.height for one in efforts] == [900_004, 900_002]
    assert [one.attoblocks / SCALE for one in efforts] == pytest.approx([0.002, 0.003], rel=1e-9)
    assert stats.luck(efforts) == pytest.approx(400, rel=1e-9)
    assert told.write_now(stats.block_efforts, 1) == efforts[:1]
    assert stats.luck([]) is None


def test_the_best_share_of_pool_and_account(told: Store) -> None:
    best = told.write_now(stats.best)
    assert best is not None
    assert (best.account, best.worker, best.difficulty, best.header_hex) == ("bob", "s21", 99.5, "08" * 80)
    own = told.write_now(stats.best, "alice")
    assert own is not None
    assert (own.worker, own.difficulty) == ("nerd", 77.0)
    assert told.write_now(stats.best, "nobody") is None


def test_workers_of_an_account_with_their_refusals(told: Store) -> None:
    axe, nerd = told.write_now(stats.workers_of, "alice")
    unit = network_work(NBITS) // 1000
    assert (axe.name, axe.work, axe.shares, axe.best_difficulty) == ("axe", 2 * unit, 2, None)
    assert (nerd.name, nerd.work, nerd.active_s, nerd.best_difficulty) == ("nerd", unit, 60, 77.0)
    assert axe.rejects == {Verdict.JOB_NOT_FOUND: 3, Verdict.STALE: 2}
    assert told.write_now(stats.workers_of, "nobody") == []


def test_the_chart_holds_all_work(told: Store) -> None:
    unit = network_work(NBITS) // 1000
    points = told.write_now(stats.history, START_S)
    assert [(one.start_s - START_S, one.work) for one in points] == [(0, 2 * unit), (600, 2 * unit), (1200, 2 * unit)]
    assert points[0].hashrate_hs == pytest.approx(2 * unit / 600)
    assert sum(one.shares for one in told.write_now(stats.history, START_S, "bob")) == 3
    assert [one.start_s for one in told.write_now(stats.history, START_S + 1200)] == [START_S + 1200]


def test_rates_of_an_account_are_those_of_its_workers(told: Store) -> None:
    snapshot = fed(np.concatenate([rows_of([(NOW_NS, 10**12)], n) for n in (1, 2, 3)])).snapshot
    alice = told.write_now(stats.rates_of_account, snapshot, "alice", NOW_NS)
    assert alice == snapshot.together([1, 2], NOW_NS)
    assert told.write_now(stats.rates_of_account, snapshot, "nobody", NOW_NS)[0].hashrate_hs == 0.0
