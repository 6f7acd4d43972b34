"""The five kinds of data it keeps, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from scaling import InvalidRecord, ScalingStore, StoreError, TranscendentalDatabase
from scaling.store import KEEP_VERSIONS, Record, metadata


@pytest.fixture
def db(store_url: str) -> TranscendentalDatabase:
    found = TranscendentalDatabase(store_url)
    found.create_tables()
    return found


def _record(k: int, symbol: str = "A", efficiency: float = 0.5) -> Record:
    return Record(symbol, k, "t", 100.0 + k, efficiency, {"roi": 0.1})


def test_the_five_kinds_of_data_have_their_tables() -> None:
    assert set(metadata.tables) == {
        "scaling_config",
        "saturation_points",
        "allocation_history",
        "efficiency_records",
        "model_parameters",
    }
    assert ScalingStore is TranscendentalDatabase


def test_creating_the_tables_twice_keeps_what_is_there(db: TranscendentalDatabase) -> None:
    db.add_records([_record(1)])
    db.create_tables()
    assert db.load_records() == [_record(1)]
    db.close()


def test_records_come_back_as_they_were_newest_ones_of_each_symbol(db: TranscendentalDatabase) -> None:
    records = [_record(k, s) for s in ("A", "B") for k in range(10)]
    assert db.add_records(records) == 20
    assert db.load_records() == records
    assert db.load_records(limit_each=3) == [_record(k, s) for s in ("A", "B") for k in (7, 8, 9)]
    assert db.load_records(["B"], 2) == [_record(8, "B"), _record(9, "B")]
    assert db.symbols() == {"A": 10, "B": 10}
    db.close()


@pytest.mark.parametrize("count", [1, 500])
def test_a_record_is_stored_once_and_never_overwritten(db: TranscendentalDatabase, count: int) -> None:
    records = [_record(k) for k in range(count)]
    assert db.add_records(records) == count
    assert db.add_records(records) == 0
    with pytest.raises(InvalidRecord, match="other figures"):
        db.add_records([_record(count - 1, efficiency=0.7), *[_record(k) for k in range(1000, 1000 + count)]])
    assert db.load_records(limit_each=10_000) == records, "the refused batch left nothing"
    db.close()


def test_a_batch_the_database_refuses_half_way_leaves_nothing(db: TranscendentalDatabase) -> None:
    """The last row breaks a constraint of the table itself: the 300 before it are not there either."""
    bad = Record("A", 999, "t", -1.0, 0.5, {})
    with pytest.raises(StoreError, match="database refused"):
        db.add_records([*[_record(k) for k in range(300)], bad])
    assert db.load_records() == []
    db.close()


def test_settings_are_replaced_by_name(db: TranscendentalDatabase) -> None:
    db.save_config({"kappa": 1.0, "model": "auto"})
    db.save_config({"kappa": 2.0, "prior:A": None})
    assert db.load_config() == {"kappa": 2.0, "model": "auto", "prior:A": None}
    db.close()


def test_old_model_versions_go_and_the_newest_stay(db: TranscendentalDatabase) -> None:
    for version in range(KEEP_VERSIONS + 7):
        row = {
            "symbol": "A", "fitted_us": version, "records": version, "model": "linear", "r2": None,
            "mean_error": 0.1, "max_error": 0.2, "parameters_json": "{}",
        }  # fmt: skip
        point = {
            "symbol": "A", "detected_us": version, "kind": "capacity", "hurdle": 0.0, "capital": None, "low": 1.0,
            "high": None, "extrapolated": False,
        }  # fmt: skip
        db.save_models([row, {**row, "symbol": "B"}], [point])
    models = db.load_models("A")
    assert [m["fitted_us"] for m in models] == list(range(KEEP_VERSIONS + 6, 6, -1))
    assert len(db.load_models("B")) == KEEP_VERSIONS
    assert db.load_saturation_points("A")[0]["detected_us"] == KEEP_VERSIONS + 6
    db.close()


def test_allocations_are_kept_in_order(db: TranscendentalDatabase) -> None:
    for k in range(3):
        db.save_allocation(
            {"created_us": k, "total_capital": 1.0, "value": 0.5, "bound": 0.5, "unallocated": 0.0, "detail_json": "{}"}
        )
    assert [row["created_us"] for row in db.load_allocations(2)] == [2, 1]
    db.close()


def test_a_url_that_cannot_be_used_is_said_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="sqlite and postgresql, not 'mysql'"):
        TranscendentalDatabase("mysql://root:hunter2@host/db")
    with pytest.raises(StoreError, match="cannot be read"):
        TranscendentalDatabase("://")
    gone = TranscendentalDatabase(str(tmp_path / "no" / "such" / "folder.sqlite"))
    with pytest.raises(StoreError, match="cannot be opened"):
        gone.create_tables()
    gone.close()
    closed = TranscendentalDatabase("postgresql://user:hunter2@127.0.0.1:1/nothing")
    with pytest.raises(StoreError) as problem:
        closed.create_tables()
    assert "hunter2" not in str(problem.value)
    closed.close()


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    path.write_text("this is a shopping list, not a database, and it is long enough to be read as a header " * 20)
    db = TranscendentalDatabase(str(path))
    with pytest.raises(StoreError, match="not a database"):
        db.create_tables()
    db.close()


def test_two_writers_on_one_sqlite_file_wait_for_each_other(tmp_path: Path) -> None:
    one, two = (TranscendentalDatabase(str(tmp_path / "s.sqlite")) for _ in range(2))
    one.create_tables()
    for k in range(20):
        (one if k % 2 else two).add_records([_record(k)])
    assert len(one.load_records()) == 20
    one.close()
    two.close()


def test_a_memory_database_lives_as_long_as_its_object() -> None:
    db = TranscendentalDatabase("sqlite://")
    db.create_tables()
    db.add_records([_record(1)])
    assert db.symbols() == {"A": 1}
    db.close()


def test_sqlite_commits_are_durable(tmp_path: Path) -> None:
    """WAL with synchronous=FULL: an answered write survives a power cut."""
    db = TranscendentalDatabase(str(tmp_path / "s.sqlite"))
    db.create_tables()
    with db._engine.connect() as connection:  # what the product's own connections are set to
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(sa.text("PRAGMA synchronous")).scalar() == 2
    db.close()
    raw = sqlite3.connect(tmp_path / "s.sqlite")
    assert raw.execute("SELECT value_json FROM scaling_config WHERE name='schema_version'").fetchone() == ("1",)
    raw.close()
