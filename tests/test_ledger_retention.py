"""Summed segments are compressed, hashed, noted, kept or dropped; what is not summed is never touched."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from pool.commands.replay import LOOK_BACK_S
from pool.ledger import retention
from pool.ledger.logreader import LogReader, Position, files
from pool.ledger.retention import COMPRESS_AFTER_S, Retention, sha256_of_packed
from pool.records import RowKind
from pool.store import Store
from pool.store.work import log_segments
from rig import histories, logfile
from rig.histories import START_S, sum_log
from rig.ledger_oracle import Oracle, tables_of
from rig.logfile import Row

NOW_S = START_S + 10 * 86_400


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    one = Store(store_url)
    one.upgrade()
    yield one
    one.close()


def rows(count: int, start_s: int = START_S) -> Row:
    out = [
        logfile.name(RowKind.ACCOUNT, 1, 0, "bc1qalice", start_s * 10**9),
        logfile.name(RowKind.WORKER, 1, 1, "axe", start_s * 10**9),
    ]
    out += [logfile.share(1, 1, (start_s + i) * 10**9, 4096 + i) for i in range(count - 2)]
    return np.concatenate(out)


async def all_steps(keeper: Retention, store: Store, position: Position, now_s: float = NOW_S) -> int:
    for steps in itertools.count():
        if not await keeper.step(store, position, now_s):
            return steps
    raise AssertionError


def names(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if ".log" in name)


async def test_only_full_segments_with_every_row_summed_are_put_away(store: Store, tmp_path: Path) -> None:
    logfile.write_epoch(tmp_path, 100, rows(25), segment_rows=8)  # the last one is not full: it may be written still
    assert await all_steps(Retention(tmp_path), store, Position(100, 15)) == 1
    assert names(tmp_path)[0].endswith("000.log.gz")
    assert [name.endswith(".gz") for name in names(tmp_path)] == [True, False, False, False]
    assert await all_steps(Retention(tmp_path), store, Position(100, 25)) == 2
    assert [name.endswith(".gz") for name in names(tmp_path)] == [True, True, True, False]
    assert await all_steps(Retention(tmp_path), store, Position(101, 0)) == 1  # a newer epoch: nobody writes this one


async def test_the_hash_is_that_of_head_and_rows_and_the_table_says_so(store: Store, tmp_path: Path) -> None:
    (path,) = logfile.write_epoch(tmp_path, 100, rows(8), segment_rows=8)
    plain = path.read_bytes()
    await all_steps(Retention(tmp_path), store, Position(100, 8))
    row = await store.read(lambda c: c.execute(select(log_segments)).one())
    packed = tmp_path / (row.name + ".gz")
    assert row.sha256_hex == hashlib.sha256(plain).hexdigest() == sha256_of_packed(str(packed))
    assert gzip.decompress(packed.read_bytes()) == plain
    assert (row.epoch, row.first_seq, row.rows, row.state) == (100, 1, 8, "compressed")
    assert row.stored_bytes == packed.stat().st_size


async def test_replay_reads_compressed_and_plain_segments_alike(store: Store, tmp_path: Path) -> None:
    made = [(100, rows(30)), (200, rows(11, START_S + 5000))]
    histories.write(tmp_path, made, segment_rows=8)
    before = await store.read(tables_of)
    await all_steps(Retention(tmp_path), store, Position(200, 8))
    assert sum(name.endswith(".gz") for name in names(tmp_path)) == 5
    sum_log(store, tmp_path, itertools.repeat(13))
    found, expected = await store.read(tables_of), Oracle(histories.subsidy).predict(made)
    assert found == expected != before


async def test_a_restart_still_finds_the_hours_it_looks_back_for_duplicates(store: Store, tmp_path: Path) -> None:
    assert COMPRESS_AFTER_S > 2 * LOOK_BACK_S
    logfile.write_epoch(tmp_path, 100, rows(8), segment_rows=8)
    keeper = Retention(tmp_path)
    assert await all_steps(keeper, store, Position(200, 0), START_S + COMPRESS_AFTER_S) == 0
    assert await all_steps(keeper, store, Position(200, 0), START_S + COMPRESS_AFTER_S + 8) == 1


async def test_a_segment_with_torn_rows_is_evidence_and_stays(store: Store, tmp_path: Path) -> None:
    (path,) = logfile.write_epoch(tmp_path, 100, rows(8), segment_rows=8)
    torn = bytearray(path.read_bytes())
    torn[logfile.HEAD_BYTES + 5 * 128 + 70] ^= 1
    path.write_bytes(torn)
    (tmp_path / "0000000099-000000.log").write_bytes(b"nonsense")
    assert await all_steps(Retention(tmp_path), store, Position(200, 0)) == 0
    assert path.read_bytes() == torn


async def test_a_kill_between_any_two_steps_loses_no_row(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the file is packed, and after it was noted: the next process finishes, and reading works at each moment."""
    logfile.write_epoch(tmp_path, 100, rows(8), segment_rows=8)

    def killed(*_: object) -> None:
        raise histories.Killed

    for place in ("_note", "_remove"):
        with monkeypatch.context() as patch:
            patch.setattr(retention if place == "_note" else Retention, place, killed)
            with pytest.raises(histories.Killed):
                await Retention(tmp_path).step(store, Position(100, 8), NOW_S)
        assert names(tmp_path) == ["0000000100-000000.log", "0000000100-000000.log.gz"]
        batch = LogReader(tmp_path).after(Position())
        assert batch is not None
        assert len(batch.rows) == 8
    assert await all_steps(Retention(tmp_path), store, Position(100, 8)) == 1
    assert names(tmp_path) == ["0000000100-000000.log.gz"]


async def test_segments_are_dropped_after_their_days_and_never_without_being_asked(
    store: Store, tmp_path: Path
) -> None:
    logfile.write_epoch(tmp_path, 100, rows(16), segment_rows=8)
    logfile.write_epoch(tmp_path, 300, rows(4, START_S + 9 * 86_400))
    at = Position(300, 4)
    assert await all_steps(Retention(tmp_path), store, at) == 2
    assert await all_steps(Retention(tmp_path), store, at, NOW_S + 10**9) == 0
    assert await all_steps(Retention(tmp_path, 30), store, at) == 0
    assert await all_steps(Retention(tmp_path, 9), store, at) == 2
    assert names(tmp_path) == ["0000000300-000000.log"]
    states = await store.read(lambda c: c.execute(select(log_segments.c.state, log_segments.c.stored_bytes)).all())
    assert [tuple(row) for row in states] == [("dropped", 0)] * 2


async def test_a_compressed_file_that_nobody_noted_is_not_dropped(store: Store, tmp_path: Path) -> None:
    (tmp_path / "0000000050-000000.log.gz").write_bytes(gzip.compress(b"x"))
    assert await all_steps(Retention(tmp_path, 1), store, Position(300, 0)) == 0
    assert files(tmp_path) == {50: [str(tmp_path / "0000000050-000000.log.gz")]}


async def test_damage_on_the_way_to_the_disk_keeps_the_plain_segment(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logfile.write_epoch(tmp_path, 100, rows(8), segment_rows=8)
    monkeypatch.setattr(retention, "sha256_of_packed", lambda path: "0" * 64)
    with pytest.raises(OSError, match="damaged"):
        await Retention(tmp_path).step(store, Position(100, 8), NOW_S)
    assert names(tmp_path) == ["0000000100-000000.log"]
