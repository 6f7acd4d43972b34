"""Old slices become coarser without a hash of work being lost, and without moving what a block was split as of."""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from native.hashing import header_hash
from pool.ledger import income, rollup
from pool.ledger import policy as policies
from pool.ledger.rewards import SCALE, Policy, score_of
from pool.ledger.stats import block_efforts, effort_now, workers_of
from pool.ledger.window import account_of_workers, network_work, oldest_slice_of, window_at
from pool.records import RowKind
from pool.store import Store
from pool.store.work import found_shares, slice_rejects, slice_totals, slice_work, slices
from rig import histories, logfile
from rig.histories import START_S, Event, sum_log
from rig.ledger_oracle import tables_of
from rig.logfile import Row

DAY_S = 86_400
NBITS = 0x1703A30C


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    one = Store(store_url)
    one.upgrade()
    yield one
    one.close()


def roll(store: Store, now_s: int) -> int:
    for steps in itertools.count():
        if not store.write_now(rollup.step, now_s):
            return steps
    raise AssertionError


def sums(connection: Connection) -> dict[str, dict[tuple[int, ...], list[int]]]:
    """Everything that roll-ups must conserve, over all slices."""
    out: dict[str, dict[tuple[int, ...], list[int]]] = {}
    for table, names in ((slice_work, ("work", "shares", "active_s")), (slice_totals, ("work", "shares"))):
        keys = [c.name for c in table.primary_key if c.name != "slice_id"]
        for row in connection.execute(select(table)).mappings():
            total = out.setdefault(table.name, {}).setdefault(tuple(row[key] for key in keys), [0] * len(names))
            for i, name in enumerate(names):
                total[i] += row[name]
    for row in connection.execute(select(slice_rejects)):
        mine = out.setdefault("rejects", {}).setdefault((row.worker_id, row.verdict), [0])
        mine[0] += row._mapping["count"]
    return out


def windows(connection: Connection, policy: Policy) -> dict[int, dict[int, int]]:
    ids = connection.execute(select(found_shares.c.slice_id)).scalars()
    return {one: window_at(connection, one, policy).by_account() for one in ids}


def write_days(directory: Path, rng: random.Random, days: int, blocks: int, *, nbits: int = NBITS) -> None:
    """Two accounts with shares here and there over some days; some of them blocks."""
    rows: list[Row] = []
    for account in (1, 2):
        rows.append(logfile.name(RowKind.ACCOUNT, account, 0, f"bc1q{account}", START_S * 10**9))
        rows.append(logfile.name(RowKind.WORKER, account, account, "axe", START_S * 10**9))
    moments = sorted(rng.randrange(days * DAY_S) for _ in range(days * 4))
    wins = set(rng.sample(range(len(moments)), blocks))
    for at, second in enumerate(moments):
        who, now_ns = rng.choice((1, 2)), (START_S + second) * 10**9
        work = rng.randrange(1, network_work(nbits) // (days * 2))
        found = bytes([at % 251, at // 251]) * 40
        if at in wins:
            rows.append(logfile.block(who, who, found, 900_000, now_ns))
        rows.append(
            logfile.share(who, who, now_ns, work, nbits=nbits, hash_le=header_hash(found) if at in wins else None)
        )
        if at % 9 == 0:
            rows.append(logfile.rejects(who, who, (0, 0, at % 3), now_ns))
    logfile.write_epoch(directory, 100, np.concatenate(rows))


old_events = st.lists(
    st.tuples(
        st.sampled_from(histories.KINDS),
        st.integers(0, 4),
        st.one_of(st.integers(0, 900), st.integers(0, 9000), st.integers(0, 5 * DAY_S)),
        st.integers(0, 11),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=15)
@given(made=old_events, stops=st.lists(st.integers(1, 200), max_size=4))
def test_roll_ups_conserve_every_sum_and_do_not_depend_on_when_they_ran(
    store: Store, made: list[Event], stops: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        histories.write(Path(folder), histories.history_of(made))
        last_s = 0
        for now_days in ([], sorted(stops)):
            store.write_now(histories.empty)
            sum_log(store, Path(folder), itertools.repeat(1000))
            before, whole = store.write_now(sums), store.write_now(windows, Policy(9 * SCALE))
            last_s = max([START_S, *(row[1] for row in store.write_now(tables_of)["slices"])]) + 200 * DAY_S
            for days in now_days:
                roll(store, last_s - days * DAY_S)
            roll(store, last_s)
            assert store.write_now(sums) == before
            assert store.write_now(windows, Policy(9 * SCALE)).keys() == whole.keys()
            if not now_days:
                expected = store.write_now(tables_of)
        assert store.write_now(tables_of) == expected
        assert roll(store, last_s) == 0


def test_slices_are_hours_after_a_week_and_days_after_ninety(store: Store, tmp_path: Path, rng: random.Random) -> None:
    write_days(tmp_path, rng, 120, 3)
    sum_log(store, tmp_path, itertools.repeat(65_536))
    now_s = START_S + 120 * DAY_S
    roll(store, now_s)
    rows = store.write_now(lambda c: c.execute(select(slices).order_by(slices.c.id)).all())
    assert {row.span_s for row in rows} == {600, 3600, DAY_S}
    for row in rows[:-1]:
        age_s = now_s - row.start_s
        assert row.start_s % row.span_s == 0
        assert row.span_s == (DAY_S if age_s >= 91 * DAY_S else row.span_s)
        assert row.span_s >= (3600 if age_s >= 7 * DAY_S + 3600 else 600)
        assert row.span_s == 600 or age_s >= 7 * DAY_S + row.span_s
    for before, after in itertools.pairwise(rows):
        assert (before.last_epoch, before.last_seq + 1) == (after.first_epoch, after.first_seq)


def test_no_roll_up_reaches_over_a_found_block(store: Store, tmp_path: Path, rng: random.Random) -> None:
    """What is split as of a block with a window that holds all is the same to the last attoblock."""
    write_days(tmp_path, rng, 100, 9)
    sum_log(store, tmp_path, itertools.repeat(65_536))
    before = store.write_now(windows, Policy(9 * SCALE))
    efforts, now = store.write_now(block_efforts, 100), store.write_now(effort_now)
    workers = store.write_now(workers_of, "bc1q1")
    assert roll(store, START_S + 400 * DAY_S) > 0
    assert store.write_now(windows, Policy(9 * SCALE)) == before
    assert (store.write_now(block_efforts, 100), store.write_now(effort_now)) == (efforts, now)
    assert store.write_now(workers_of, "bc1q1") == workers
    assert len(efforts) == 9


def test_p9_a_cut_window_moves_by_no_more_than_the_slice_on_its_edge(
    store: Store, tmp_path: Path, rng: random.Random
) -> None:
    write_days(tmp_path, rng, 100, 1)
    sum_log(store, tmp_path, itertools.repeat(65_536))
    policy = Policy(SCALE // 3, 0)
    (block,) = store.write_now(windows, policy)
    before = store.write_now(window_at, block, policy).by_account()
    roll(store, START_S + 400 * DAY_S)
    edge = store.write_now(oldest_slice_of, block, policy.window)
    assert edge is not None
    own = select(slice_work.c.worker_id, slice_work.c.work).where(slice_work.c.slice_id == edge)
    most = sum(score_of(row.work, network_work(NBITS)) for row in store.write_now(lambda c: c.execute(own).all()))
    after = store.write_now(window_at, block, policy).by_account()
    assert sum(abs(after.get(who, 0) - before.get(who, 0)) for who in {*before, *after}) <= 2 * most + 4


def test_a_block_that_can_still_mature_keeps_the_edge_of_its_window(
    store: Store, tmp_path: Path, rng: random.Random
) -> None:
    """Its split is derived again at maturity: merging slices across the edge would look like changed data and stop the
    payouts. Once it is mature the slices there are merged too."""
    write_days(tmp_path, rng, 100, 1)
    sum_log(store, tmp_path, itertools.repeat(65_536))
    policy = Policy(SCALE // 10, 0)
    with_block = store.write_now(lambda c: c.execute(select(found_shares)).one())
    store.write_now(policies.adopt, policy, 0, START_S)
    coinbase = income.Coinbase(312_500_000, 312_500_000)
    store.write_now(income.found, with_block.hash_hex, coinbase, START_S)
    before = store.write_now(window_at, with_block.slice_id, policy)
    assert roll(store, START_S + 400 * DAY_S) > 0
    assert store.write_now(window_at, with_block.slice_id, policy).scores == before.scores
    assert store.write_now(income.can_be_derived, with_block.hash_hex)
    assert store.write_now(income.matured, with_block.hash_hex, START_S)
    assert roll(store, START_S + 400 * DAY_S) >= 1
    rows = store.write_now(lambda c: c.execute(select(slices).order_by(slices.c.id)).all())
    fine = {row.start_s // DAY_S for row in rows if row.span_s < DAY_S}
    assert fine == {rows[-1].start_s // DAY_S}  # only the day of the newest slice, which may still grow


def test_the_window_read_from_the_database_is_the_one_walked_slice_by_slice(
    store: Store, tmp_path: Path, rng: random.Random
) -> None:
    from pool.ledger.rewards import WorkSum, window_of

    write_days(tmp_path, rng, 30, 4)
    sum_log(store, tmp_path, itertools.repeat(65_536))

    def walked(connection: Connection, slice_id: int, policy: Policy) -> dict[tuple[int, int], int]:
        owner = account_of_workers(connection)
        by_slice: dict[int, list[WorkSum]] = {}
        query = select(slice_work).where(slice_work.c.slice_id <= slice_id, slice_work.c.solo == 0)
        for row in connection.execute(query.order_by(slice_work.c.slice_id.desc())):
            subsidy = row.subsidy_sat if policy.weight_subsidy else 0
            entry = WorkSum(owner[row.worker_id], row.work, network_work(row.nbits), subsidy)
            by_slice.setdefault(row.slice_id, []).append(entry)
        return window_of(by_slice.values(), policy.window).scores

    newest = store.write_now(lambda c: max(c.execute(select(slices.c.id)).scalars()))
    for part in (1, 7, 100, 10**6, 10**9):
        for weight in (False, True):
            policy = Policy(9 * SCALE // part, 0, weight_subsidy=weight)
            for one in (newest, newest // 2, 3):
                assert store.write_now(window_at, one, policy).scores == store.write_now(walked, one, policy)
