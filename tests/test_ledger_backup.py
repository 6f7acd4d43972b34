"""`backup` while the pool runs, `restore` where there is nothing: all comes back, nothing is paid until reconciled."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from pool.cli import main
from pool.keys import Keys
from pool.ledger import books
from pool.store import Store
from pool.store.inbox import inbox
from pool.store.schema import metadata
from rig.ledger import T0_S, World, world


class Place:
    """A pool's folder and database, by environment."""

    def __init__(self, folder: Path, url: str, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.url, self._patch = folder, url, patch
        folder.mkdir(exist_ok=True)

    def use(self) -> None:
        self._patch.chdir(self.folder)
        self._patch.setenv("POOL__STORE__URL", self.url)
        self._patch.setenv("POOL__POOL__DATA_DIR", str(self.folder / "data"))
        self._patch.setenv("POOL__SHARELOG__DIRECTORY", str(self.folder / "sharelog"))


@pytest.fixture
def home(store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[World, Place]]:
    place = Place(tmp_path / "home", store_url, monkeypatch)
    (place.folder / "data" / "blocks").mkdir(parents=True)
    (place.folder / "data" / "blocks" / "found.json").write_text("{}")
    Keys.make(place.folder / "data" / "keys", T0_S)
    with world(store_url, place.folder) as made:
        assert made.mature(made.block())
        made.block()
        place.use()
        yield made, place


def _contents(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    return {
        table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
        for table in metadata.sorted_tables
    }


def contents(url: str) -> dict[str, list[tuple[object, ...]]]:
    store = Store(url)
    try:
        return store.read_now(_contents)
    finally:
        store.close()


def test_all_comes_back_into_either_database_and_pays_nothing_until_reconciled(
    home: tuple[World, Place],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    made, place = home
    backup = tmp_path / "backup"
    assert main(["backup", str(backup)]) == 0
    assert (backup.stat().st_mode & 0o777) == 0o700
    assert main(["backup", str(backup)]) == 1, "never over another one"
    other_kind = request.getfixturevalue("postgres_url") if made.store.sqlite else f"sqlite:///{tmp_path}/new.sqlite"
    new = Place(tmp_path / "new", other_kind, monkeypatch)
    new.use()
    assert main(["restore", str(backup)]) == 0
    assert "unlatch restored" in capsys.readouterr().out
    before, after = contents(place.url), contents(new.url)
    latch = after.pop("latches")
    assert before.pop("latches") == []
    assert [row[0] for row in latch] == ["restored"]
    assert after == before
    assert sum(map(len, after.values())) > 30
    for name in ("data/keys/keys.json", "data/blocks/found.json"):
        assert (new.folder / name).read_bytes() == (place.folder / name).read_bytes()
    logs = sorted(path.name for path in (place.folder / "sharelog").glob("*.log"))
    assert logs == sorted(path.name for path in (new.folder / "sharelog").glob("*.log"))
    assert main(["ledger", "verify"]) == 1
    assert "BROKEN latch: restored: restored from a backup of" in capsys.readouterr().out
    assert main(["ledger", "unlatch", "restored"]) == 0
    assert main(["ledger", "verify"]) == 0
    assert main(["restore", str(backup)]) == 1, "never over what is there"
    with world(new.url, new.folder) as again:
        again.epoch, again.now_s = made.epoch, made.now_s
        again.block()
        assert again.broken() == {}, "the restored pool goes on"


def test_a_backup_taken_while_money_moves_is_one_moment(home: tuple[World, Place], tmp_path: Path) -> None:
    made, _ = home
    stop, failed = threading.Event(), []

    def move() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                entry = books.Entry("t", "t", str(number), "x", (("onchain_hot", 5), ("miner:anna", -5)))
                with made.write() as connection:
                    books.post(connection, entry, T0_S)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        for number in range(2):
            assert main(["backup", str(tmp_path / f"b{number}")]) == 0
    finally:
        stop.set()
        thread.join(30)
    assert not failed
    with made.write() as connection:
        assert books.head(connection)[0] > 10
    from pool.store import dump

    for number in range(2):
        folder = tmp_path / f"b{number}"
        rows = json.loads((folder / "manifest.json").read_text())["rows"]
        store = Store(f"sqlite:///{tmp_path}/check{number}.sqlite")
        try:
            store.upgrade()
            store.write_now(dump.load, folder / "database", rows)
            from pool.ledger import audit

            assert store.read_now(audit.verify) == [], "a torn moment would break a balance or the chain"
        finally:
            store.close()


def test_a_damaged_or_partial_backup_is_refused_and_touches_nothing(
    home: tuple[World, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "backup"
    assert main(["backup", str(backup)]) == 0
    new = Place(tmp_path / "new", f"sqlite:///{tmp_path}/new/pool.sqlite", monkeypatch)
    new.use()

    def refused(words: str) -> None:
        assert main(["restore", str(tmp_path / "bad")]) == 1
        assert words in capsys.readouterr().err
        assert list(new.folder.iterdir()) == []
        shutil.rmtree(tmp_path / "bad")

    shutil.copytree(backup, tmp_path / "bad")
    (tmp_path / "bad" / "manifest.json").unlink()
    refused("is no whole backup")
    shutil.copytree(backup, tmp_path / "bad")
    (tmp_path / "bad" / "database" / "entries.jsonl.gz").write_bytes(b"")
    refused("database/entries.jsonl.gz is damaged")
    shutil.copytree(backup, tmp_path / "bad")
    (tmp_path / "bad" / "keys" / "keys.json").unlink()
    refused("keys/keys.json is missing")


def test_numbering_goes_on_after_a_restore(home: tuple[World, Place], tmp_path: Path, postgres_url: str) -> None:
    """PostgreSQL's sequences know nothing of restored rows."""
    from pool.ledger.requests import DonationChoice
    from pool.store import dump
    from pool.store.inbox import put

    made, _ = home
    with made.write() as connection:
        for number in range(3):
            request = DonationChoice("anna", number)
            put(connection, request, sender="web", idempotency_key=str(number), now_s=T0_S)
    (tmp_path / "dump").mkdir()
    rows = made.store.read_now(dump.dump, tmp_path / "dump")
    url = made.store.url.render_as_string(hide_password=False)
    other = Store(postgres_url if made.store.sqlite or url == postgres_url else url)
    if not made.store.sqlite:
        other.close()
        other = Store(f"sqlite:///{tmp_path}/other.sqlite")
    try:
        other.upgrade()
        other.write_now(dump.load, tmp_path / "dump", rows)
        new = other.write_now(put, DonationChoice("anna", 9), sender="web", idempotency_key="new", now_s=T0_S)
        assert new == 4
        assert other.read_now(lambda c: c.execute(select(func.count()).select_from(inbox)).scalar_one()) == 4
    finally:
        other.close()
