"""The share log summed: any history, in any steps, over any crash, gives the tables that a slow reading of it gives."""

from __future__ import annotations

import itertools
import logging
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select

from native.hashing import header_hash
from pool.ledger.logreader import Batch, LogGapError, LogReader, Position
from pool.ledger.rewards import Policy
from pool.ledger.slices import Slices
from pool.ledger.window import window_at
from pool.records import RowKind
from pool.store import Store
from pool.store.work import best_shares, found_shares, slice_work, slices
from rig import histories, logfile
from rig.histories import START_S, events, history_of, subsidy, sum_log
from rig.ledger_oracle import Epochs, Oracle, tables_of
from rig.logfile import HEAD_BYTES, Row

NOW_NS = START_S * 10**9


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    one = Store(store_url)
    one.upgrade()
    yield one
    one.close()


def named(*, workers: int = 1) -> list[Row]:
    rows = [logfile.name(RowKind.ACCOUNT, 1, 0, "bc1qalice", NOW_NS)]
    return rows + [logfile.name(RowKind.WORKER, 1, i + 1, f"axe{i}", NOW_NS) for i in range(workers)]


def summed(store: Store, directory: Path, rows: list[Row], epoch: int = 100) -> Slices:
    logfile.write_epoch(directory, epoch, np.concatenate(rows))
    return sum_log(store, directory, itertools.repeat(65_536))


def check(store: Store, epochs: Epochs) -> None:
    expected, found = Oracle(subsidy).predict(epochs), store.write_now(tables_of)
    for name, rows in expected.items():
        assert found[name] == rows, name


@settings(max_examples=40)
@given(made=events(), sizes=st.lists(st.integers(1, 9), min_size=1), killed=st.lists(st.booleans(), max_size=40))
def test_any_history_in_any_steps_over_any_crash_gives_the_tables_of_a_slow_reading(
    store: Store, made: list[histories.Event], sizes: list[int], killed: list[bool]
) -> None:
    epochs = history_of(made)
    store.write_now(histories.empty)
    with tempfile.TemporaryDirectory() as folder:
        histories.write(Path(folder), epochs)
        last = sum_log(store, Path(folder), itertools.cycle(sizes), itertools.chain(killed, itertools.repeat(False)))
        # The newest epoch's last BLOCK row waits for what follows; a newer epoch says that nothing does.
        logfile.write_epoch(Path(folder), epochs[-1][0] + 100 if epochs else 1, np.zeros(0, logfile.SHARE_ROW))
        sum_log(store, Path(folder), itertools.repeat(9))
    assert last.position.epoch <= (epochs[-1][0] if epochs else 0)
    check(store, epochs)


@pytest.mark.soak
@settings(max_examples=1000)
@given(made=events(300), size=st.integers(1, 50), killed=st.lists(st.booleans(), max_size=200))
def test_a_thousand_long_histories_with_crashes(
    store: Store, made: list[histories.Event], size: int, killed: list[bool]
) -> None:
    epochs = history_of(made)
    store.write_now(histories.empty)
    with tempfile.TemporaryDirectory() as folder:
        histories.write(Path(folder), [*epochs, (epochs[-1][0] + 100 if epochs else 1, np.zeros(0, logfile.SHARE_ROW))])
        steps = itertools.chain(killed, itertools.repeat(False))
        sum_log(store, Path(folder), itertools.repeat(size), steps)
        sum_log(store, Path(folder), itertools.repeat(size))
    check(store, epochs)


def test_a_batch_that_was_summed_is_refused_the_second_time(store: Store, tmp_path: Path) -> None:
    rows = [*named(), logfile.share(1, 1, NOW_NS, 5000)]
    done = summed(store, tmp_path, rows)
    again = LogReader(tmp_path).after(Position(), 10)
    assert again is not None
    with pytest.raises(ValueError, match="do not follow"):
        store.write_now(done.add, again)
    with pytest.raises(ValueError, match="do not follow"):
        store.write_now(done.add, Batch(99, 1, again.rows))
    check(store, [(100, np.concatenate(rows))])


def test_a_block_closes_the_slice_exactly_at_its_winning_share(store: Store, tmp_path: Path) -> None:
    header = b"\1" * 80
    rows = [*named(workers=2), logfile.share(1, 1, NOW_NS, 1000), logfile.block(1, 2, header, 900_000, NOW_NS)]
    rows += [logfile.share(1, 2, NOW_NS, 70, hash_le=header_hash(header)), logfile.share(1, 1, NOW_NS, 500_000)]
    summed(store, tmp_path, rows)
    with_block = store.write_now(lambda c: c.execute(select(found_shares)).one())
    assert (with_block.hash_hex, with_block.seq, with_block.credited) == (header_hash(header)[::-1].hex(), 6, 1)
    inside = select(func.sum(slice_work.c.shares)).where(slice_work.c.slice_id <= with_block.slice_id)
    assert store.write_now(lambda c: c.execute(inside).scalar_one()) == 2
    window = store.write_now(window_at, with_block.slice_id, Policy())
    assert window.total == 1070 * 10**18 // histories_network()


def histories_network() -> int:
    from native.difficulty import target_of_nbits, work_of_target

    return work_of_target(target_of_nbits(0x1703A30C))


def test_a_block_row_last_in_the_log_waits_until_its_share_is_there(store: Store, tmp_path: Path) -> None:
    header = b"\2" * 80
    rows = [*named(), logfile.block(1, 1, header, 900_000, NOW_NS)]
    done = summed(store, tmp_path, rows)
    assert done.position == Position(100, 2)
    count = select(func.count()).select_from(found_shares)
    assert store.write_now(lambda c: c.execute(count).scalar_one()) == 0
    rows.append(logfile.share(1, 1, NOW_NS, 4096, hash_le=header_hash(header)))
    summed(store, tmp_path, rows)
    check(store, [(100, np.concatenate(rows))])
    assert store.write_now(lambda c: c.execute(select(found_shares.c.credited)).scalar_one()) == 1


def test_a_block_row_last_in_an_epoch_counts_though_its_share_never_came(store: Store, tmp_path: Path) -> None:
    rows = [*named(), logfile.share(1, 1, NOW_NS, 9000), logfile.block(1, 1, b"\3" * 80, 900_000, NOW_NS)]
    logfile.write_epoch(tmp_path, 200, np.concatenate(named()))
    summed(store, tmp_path, rows)
    check(store, [(100, np.concatenate(rows)), (200, np.concatenate(named()))])
    assert store.write_now(lambda c: c.execute(select(found_shares.c.credited)).scalar_one()) == 0


def test_a_block_row_last_in_its_segment_finds_its_share_in_the_next(store: Store, tmp_path: Path) -> None:
    header = b"\6" * 80
    rows = [*named(), logfile.block(1, 1, header, 900_000, NOW_NS)]
    rows.append(logfile.share(1, 1, NOW_NS, 4096, hash_le=header_hash(header)))
    logfile.write_epoch(tmp_path, 100, np.concatenate(rows), segment_rows=3)
    sum_log(store, tmp_path, itertools.repeat(65_536))
    assert store.write_now(lambda c: c.execute(select(found_shares.c.credited)).scalar_one()) == 1
    check(store, [(100, np.concatenate(rows))])


def test_a_header_sent_a_thousand_times_ends_one_slice_only(store: Store, tmp_path: Path) -> None:
    rows = named()
    for _ in range(1000):
        rows += [logfile.block(1, 1, b"\4" * 80, 900_000, NOW_NS), logfile.share(1, 1, NOW_NS, 4096)]
    summed(store, tmp_path, rows)
    assert store.write_now(lambda c: c.execute(select(func.count()).select_from(slices)).scalar_one()) == 2


def test_a_torn_end_of_an_epoch_ends_it_and_is_told_once(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = np.concatenate([*named(), *(logfile.share(1, 1, NOW_NS, 4096) for _ in range(20))])
    paths = logfile.write_epoch(tmp_path, 100, rows, segment_rows=8)
    torn = bytearray(paths[1].read_bytes())
    torn[HEAD_BYTES + 3 * 128 + 60] ^= 1  # row 12, in the middle: rows 13..22 were written, but never promised
    paths[1].write_bytes(torn)
    logfile.write_epoch(tmp_path, 200, np.concatenate(named()))
    caplog.set_level(logging.ERROR)
    sum_log(store, tmp_path, itertools.repeat(5))
    check(store, [(100, rows[:11]), (200, np.concatenate(named()))])
    assert [record.message.count("row 12 is torn") for record in caplog.records if "torn" in record.message] == [1]


def test_a_damaged_row_in_the_epoch_being_written_stops_the_summing_and_says_which(tmp_path: Path) -> None:
    rows = np.concatenate([*named(), *(logfile.share(1, 1, NOW_NS, 4096) for _ in range(20))])
    (path,) = logfile.write_epoch(tmp_path, 100, rows)
    torn = bytearray(path.read_bytes())
    torn[HEAD_BYTES + 3 * 128 + 60] ^= 1
    path.write_bytes(torn)
    reader = LogReader(tmp_path)
    first = reader.after(Position())
    assert first is not None
    assert first.end == Position(100, 3)
    with pytest.raises(LogGapError, match="row 4 is damaged"):
        reader.after(first.end)


def test_rows_that_are_gone_before_they_were_summed_stop_the_summing(tmp_path: Path) -> None:
    rows = np.concatenate([*named(), *(logfile.share(1, 1, NOW_NS, 4096) for _ in range(20))])
    paths = logfile.write_epoch(tmp_path, 100, rows, segment_rows=8)
    paths[1].unlink()
    reader = LogReader(tmp_path)
    assert reader.after(Position(100, 5), 100) is not None
    with pytest.raises(LogGapError, match="row 9 was never summed"):
        reader.after(Position(100, 8))
    paths[2].write_bytes(b"not a segment")
    with pytest.raises(LogGapError, match="cannot be read"):
        LogReader(tmp_path).after(Position(100, 16))


def test_a_clock_that_steps_back_never_opens_an_older_slice(store: Store, tmp_path: Path) -> None:
    rows = named()
    for seconds in (0, 1300, -5000, 20, 700, -3000):
        rows.append(logfile.share(1, 1, NOW_NS + seconds * 10**9, 4096))
    summed(store, tmp_path, rows)
    starts = store.write_now(lambda c: c.execute(select(slices.c.start_s).order_by(slices.c.id)).scalars().all())
    assert list(starts) == [START_S, START_S + 1200]
    check(store, [(100, np.concatenate(rows))])


def test_the_best_share_for_ever_keeps_a_header_that_hashes_to_it(store: Store, tmp_path: Path) -> None:
    rows = named(workers=2)
    rows += [logfile.best(1, 1, bytes([n]) * 80, d, NOW_NS) for n, d in ((1, 5.0), (2, 9.0), (3, 9.0), (4, 8.9))]
    summed(store, tmp_path, rows)
    logfile.write_epoch(tmp_path, 300, np.concatenate([*named(), logfile.best(1, 1, b"\5" * 80, 8.0, NOW_NS)]))
    sum_log(store, tmp_path, itertools.repeat(100))
    row = store.write_now(lambda c: c.execute(select(best_shares)).one())
    assert (row.difficulty, row.header_hex) == (9.0, "02" * 80)


def test_what_failed_halfway_leaves_nothing_and_is_summed_again(store: Store, tmp_path: Path) -> None:
    rows = [*named(), *(logfile.share(1, 1, NOW_NS + i * 10**9, 4096 + i) for i in range(50))]
    logfile.write_epoch(tmp_path, 100, np.concatenate(rows))
    broken = Slices(subsidy)
    batch = LogReader(tmp_path).after(Position())
    assert batch is not None

    def fail(connection: Connection) -> None:
        broken.add(connection, batch)
        raise histories.Killed

    with pytest.raises(histories.Killed):
        store.write_now(fail)
    assert not any(store.write_now(tables_of).values())
    store.write_now(broken.load)
    store.write_now(broken.add, batch)
    check(store, [(100, np.concatenate(rows))])


def test_nerdminer_and_s21_in_one_window_lose_nothing(store: Store, tmp_path: Path, rng: random.Random) -> None:
    """A device of 50 kH/s at the smallest difficulty beside one of 200 TH/s: fourteen orders of magnitude."""
    small, large = 4096, (2**256 - 1) // ((0xFFFF << 208) // 4_000_000)
    rows, exact = named(workers=2), {1: 0, 2: 0}
    for _ in range(400):
        who = rng.choice((1, 2))
        work = small + rng.randrange(3) if who == 1 else large + rng.randrange(3)
        exact[who] += work
        rows.append(logfile.share(1, who, NOW_NS, work))
    summed(store, tmp_path, rows)
    found = store.write_now(lambda c: c.execute(select(slice_work.c.worker_id, slice_work.c.work)).all())
    assert {row.worker_id: row.work for row in found} == exact
