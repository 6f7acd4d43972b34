"""The ledger's clock over a share log: sums, rates over restarts, upkeep, and a replay that finds any change."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, update

from native.sharelog import ShareLog
from pool.ledger import rates
from pool.ledger.keeper import Keeper
from pool.ledger.replay import Replay, differences, standing
from pool.ledger.rewards import Policy
from pool.records import RowKind
from pool.store import Store, StoreUnavailableError
from pool.store.work import best_shares, log_segments, slice_rejects, slice_work, slices
from rig import histories, logfile
from rig.histories import START_S, subsidy, sum_log
from rig.ledger_oracle import Oracle, tables_of

DAY_S = 86_400


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    one = Store(store_url)
    one.upgrade()
    yield one
    one.close()


def keeper_of(store: Store, directory: Path, now_s: float = START_S, **more: int) -> Keeper:
    return Keeper(store, directory, subsidy, Policy(), clock=lambda: now_s, **more)


def history(rng: random.Random, count: int = 400) -> histories.Epochs:
    kinds = [kind for kind in histories.KINDS if kind != "epoch"]
    made = histories.History()
    for _ in range(count):
        made.add((rng.choice(kinds), rng.randrange(5), rng.randrange(30), rng.randrange(12)))
    return made.rows()


async def test_the_keeper_sums_all_there_is_and_goes_on_where_another_ended(
    store: Store, tmp_path: Path, rng: random.Random
) -> None:
    ((epoch, rows),) = history(rng)
    for part in (5, 100, 101, len(rows)):
        logfile.write_epoch(tmp_path / "log", epoch, rows[:part], segment_rows=1 << 12)
        await keeper_of(store, tmp_path / "log").step()
    logfile.write_epoch(tmp_path / "log", epoch + 1, rows[:0])
    await keeper_of(store, tmp_path / "log").step()
    found = await store.read(tables_of)
    assert found == Oracle(subsidy).predict([(epoch, rows)])


async def test_rates_go_on_over_a_restart_with_the_rows_that_came_after_the_last_save(
    store: Store, tmp_path: Path, rng: random.Random
) -> None:
    ((epoch, rows),) = history(rng)
    logfile.write_epoch(tmp_path / "log", epoch, rows[:150], segment_rows=1 << 12)
    first = keeper_of(store, tmp_path / "log")
    await first.step()  # stored: it is the first batch
    logfile.write_epoch(tmp_path / "log", epoch, rows[:300], segment_rows=1 << 12)
    await first.step()
    _, saved = await store.read(rates.stored)
    assert saved.epoch == epoch
    assert 140 <= saved.seq < 290
    second = keeper_of(store, tmp_path / "log")
    await second.step()
    assert np.allclose(second.rates.sums, first.rates.sums, rtol=1e-9)
    assert list(second.rates.since_ns) == list(first.rates.since_ns)
    now_ns = first.rates.time_ns
    assert second.rates.pool(now_ns)[3].hashrate_hs == pytest.approx(first.rates.pool(now_ns)[3].hashrate_hs)
    assert second.rates.pool(now_ns)[3].hashrate_hs > 0


async def test_a_database_that_fails_halfway_costs_neither_work_nor_rates(
    store: Store, tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((epoch, rows),) = history(rng)
    logfile.write_epoch(tmp_path / "log", epoch, rows, segment_rows=1 << 12)
    keeper = keeper_of(store, tmp_path / "log")

    def full(*_: object) -> None:
        raise StoreUnavailableError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(rates.Rates, "save", full)
        with pytest.raises(StoreUnavailableError):
            await keeper.step()
    assert not any((await store.read(tables_of)).values())
    await keeper.step()
    found = await store.read(tables_of)
    assert sum(row[6] for row in found["slice_work"]) == sum(rows["kind"] == RowKind.SHARE)  # type: ignore[misc]
    assert keeper.rates.pool(keeper.rates.time_ns)[6].hashrate_hs > 0


async def test_missing_rows_stop_payouts_and_say_why(store: Store, tmp_path: Path, rng: random.Random) -> None:
    ((epoch, rows),) = history(rng)
    paths = logfile.write_epoch(tmp_path / "log", epoch, rows, segment_rows=64)
    paths[0].unlink()
    keeper = keeper_of(store, tmp_path / "log")
    await keeper.step()
    assert keeper.stopped is not None
    assert "row 1 was never summed" in keeper.stopped


async def test_upkeep_rolls_up_and_puts_away_from_the_keepers_clock(
    store: Store, tmp_path: Path, rng: random.Random
) -> None:
    ((epoch, rows),) = history(rng, 600)
    logfile.write_epoch(tmp_path / "log", epoch, rows, segment_rows=64)
    keeper = keeper_of(store, tmp_path / "log", START_S + 200 * DAY_S, keep_days=3650)
    await keeper.step()
    for _ in range(100):
        await keeper._keep_up()
    spans = await store.read(lambda c: c.execute(select(slices.c.span_s).order_by(slices.c.id)).scalars().all())
    assert 3600 in spans  # the day, and within it the hour, that hold the newest slice wait
    assert spans[-1] == 600
    names = await store.read(lambda c: c.execute(select(log_segments.c.name)).scalars().all())
    assert len(names) == len(rows) // 64
    assert len(list((tmp_path / "log").glob("*.gz"))) == len(names)
    replayed = Store(f"sqlite:///{tmp_path}/again.sqlite")
    replayed.upgrade()
    Replay(replayed, tmp_path / "log", subsidy).run(await store.read(standing))
    with_differences = await store.read(lambda c: replayed.read_now(lambda other: list(differences(c, other))))
    replayed.close()
    assert with_differences == []


@pytest.mark.parametrize("what", ["work", "count", "slice", "best"])
def test_a_replay_of_the_log_finds_any_change_of_the_tables(
    store: Store, tmp_path: Path, rng: random.Random, what: str
) -> None:
    ((epoch, rows),) = history(rng)
    logfile.write_epoch(tmp_path / "log", epoch, rows, segment_rows=64)
    sum_log(store, tmp_path / "log", itertools.repeat(50))
    again = Store(f"sqlite:///{tmp_path}/again.sqlite")
    again.upgrade()
    try:
        Replay(again, tmp_path / "log", subsidy).run(store.read_now(standing))

        def found() -> list[str]:
            return store.read_now(lambda c: again.read_now(lambda other: list(differences(c, other))))

        assert found() == []
        change = {
            "work": update(slice_work).values(work=7),
            "count": update(slice_rejects).values(count=slice_rejects.c.count + 1),
            "slice": update(slices).where(slices.c.id == 1).values(last_seq=slices.c.last_seq - 1),
            "best": update(best_shares).values(difficulty=best_shares.c.difficulty + 1),
        }[what]
        store.write_now(lambda c: c.execute(change))
        assert any(what in one or "best_shares" in one or "slice" in one for one in found())
    finally:
        again.close()


def test_a_replay_stops_exactly_at_any_row_the_store_can_stand_at(tmp_path: Path, rng: random.Random) -> None:
    """Also where a BLOCK row waits for the one behind it."""
    made = history(rng, 60)
    ((epoch, rows),) = made
    logfile.write_epoch(tmp_path / "log", epoch, rows, segment_rows=16)
    for size in (1, 2, 3, 7):
        ours = Store(f"sqlite:///{tmp_path}/ours{size}.sqlite")
        fresh = Store(f"sqlite:///{tmp_path}/fresh{size}.sqlite")
        try:
            ours.upgrade()
            fresh.upgrade()
            sum_log(ours, tmp_path / "log", itertools.repeat(size))
            replay = Replay(fresh, tmp_path / "log", subsidy)
            replay.run(ours.read_now(standing))
            assert replay.position == ours.read_now(standing)
            assert fresh.read_now(tables_of) == ours.read_now(tables_of)
        finally:
            ours.close()
            fresh.close()


async def test_what_the_real_log_writes_is_summed_row_for_row(store: Store, tmp_path: Path) -> None:
    """Rows of the native writer, read while it goes on writing."""
    with ShareLog(str(tmp_path / "log"), segment_bytes=8192, now_s=START_S) as log:
        keeper = keeper_of(store, tmp_path / "log")
        alice = log.account("bc1qalice", START_S * 10**9)
        axe = log.worker(alice, "axe", START_S * 10**9)
        for at in range(100):
            log.prepare()
            log.rejects(alice, axe, (0, 0, 1), (START_S + at) * 10**9)
            if at % 10 == 0:
                await keeper.step()
        await keeper.step()
    rejected = await store.read(lambda c: c.execute(select(slice_rejects.c.verdict, slice_rejects.c.count)).all())
    assert [tuple(row) for row in rejected] == [(2, 100)]
