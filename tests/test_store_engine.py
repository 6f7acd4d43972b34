"""The store's engine on both databases: migrated at start, one writer in order, whole transactions, clear errors."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, select, text

import pool.store.tables
from pool.store import Store, StoreError, StoreUnavailableError, store_url
from pool.store.migrating import SCRIPTS, migrate
from pool.store.schema import metadata
from pool.store.sessions import accounts


def add_account(connection: Connection, name: str) -> None:
    connection.execute(accounts.insert().values(name=name, kind="address", created_at_s=1, last_seen_s=1))


def names(connection: Connection) -> list[str]:
    return list(connection.scalars(select(accounts.c.name).order_by(accounts.c.id)))


async def test_a_new_database_is_migrated_at_start_and_a_second_start_finds_nothing_to_do(store_url: str) -> None:
    async with Store(store_url) as store:
        assert await store.read(names) == []
    again = Store(store_url)
    assert again.upgrade() == []
    again.close()


async def test_the_migrations_make_exactly_the_tables_that_the_code_describes(store_url: str) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, metadata))

    def constraint_names(connection: Connection) -> dict[str, set[str | None]]:
        seen = inspect(connection)
        return {
            table: {u["name"] for u in seen.get_unique_constraints(table)}
            | {c["name"] for c in seen.get_check_constraints(table)}
            | {f["name"] for f in seen.get_foreign_keys(table)}
            for table in metadata.tables
        }

    assert pool.store.tables.__all__
    async with Store(store_url) as store:
        assert await store.read(differences) == []
        named = await store.read(constraint_names)
        described = {
            name: {str(c.name) for c in table.constraints if c.name and not str(c.name).startswith("pk_")}
            for name, table in metadata.tables.items()
        }
        assert {t: {str(n) for n in ns} for t, ns in named.items()} == described


async def test_two_processes_that_start_at_once_migrate_once(store_url: str) -> None:
    code = f"from pool.store import Store; s = Store({store_url!r}); print(len(s.upgrade())); s.close()"
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE) for _ in range(3)
    ]
    outputs = [(await asyncio.wait_for(process.communicate(), 60))[0] for process in processes]
    migrations = len(list((SCRIPTS / "versions").glob("v*.py")))
    assert sorted(int(output) for output in outputs) == [0, 0, migrations]


async def test_who_starts_while_another_migrates_waits_and_finds_nothing_to_do(store_url: str) -> None:
    first, second = Store(store_url), Store(store_url)
    migrated, go_on = threading.Event(), threading.Event()

    def slowly(connection: Connection) -> list[str]:
        done = migrate(connection)
        migrated.set()
        assert go_on.wait(30)
        return done

    migrating = asyncio.create_task(first.write(slowly))
    assert await asyncio.to_thread(migrated.wait, 30)
    other = asyncio.create_task(asyncio.to_thread(second.upgrade))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(other), 0.3)  # it waits, it does not fail
    go_on.set()
    assert await migrating != []
    assert await other == []
    first.close()
    second.close()


async def test_a_database_of_a_newer_version_is_refused(store_url: str) -> None:
    async with Store(store_url) as store:
        await store.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(StoreError, match="newer version"):
        async with Store(store_url):
            raise AssertionError("it opened")


async def test_a_migration_that_fails_leaves_nothing_behind(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(store_url)

    def half(connection: Connection) -> None:
        migrate(connection)
        raise ValueError("halfway")

    monkeypatch.setattr("pool.store.engine.migrate", half)
    with pytest.raises(ValueError, match="halfway"):
        store.upgrade()
    monkeypatch.undo()
    assert store.upgrade() != []  # all of them again: none had stayed
    store.close()


async def test_a_write_that_raises_leaves_nothing_behind_and_reads_see_only_what_was_committed(store_url: str) -> None:
    written, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        add_account(connection, "half")
        written.set()
        assert go_on.wait(30)
        raise ValueError("changed my mind")

    async with Store(store_url) as store:
        await store.write(add_account, "first")
        failing = asyncio.create_task(store.write(slow))
        await asyncio.to_thread(written.wait, 30)
        assert await store.read(names) == ["first"]  # a reader neither waits for the writer nor sees its half
        go_on.set()
        with pytest.raises(ValueError, match="changed my mind"):
            await failing
        assert await store.read(names) == ["first"]


async def test_writes_happen_one_by_one_in_the_order_they_were_handed_in(store_url: str) -> None:
    running = threading.Lock()

    def alone(connection: Connection, name: str) -> None:
        assert running.acquire(blocking=False)
        add_account(connection, name)
        running.release()

    async with Store(store_url) as store:
        await asyncio.gather(*(store.write(alone, f"a{number:03d}") for number in range(100)))
        assert await store.read(names) == [f"a{number:03d}" for number in range(100)]


async def test_what_was_handed_in_before_the_end_is_written(store_url: str) -> None:
    async with Store(store_url) as store:
        tasks = [asyncio.create_task(store.write(add_account, f"a{number}")) for number in range(20)]
        await asyncio.sleep(0)  # let them hand in
    await asyncio.gather(*tasks)
    async with Store(store_url) as store:
        assert len(await store.read(names)) == 20


async def test_a_reader_cannot_write(store_url: str) -> None:
    async with Store(store_url) as store:
        with pytest.raises((StoreUnavailableError, Exception), match=r"readonly|read-only"):
            await store.read(add_account, "x")


async def test_sqlite_waits_for_another_process_and_keeps_money_safe(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/pool.sqlite"
    async with Store(url) as store, Store(url) as other:
        held, let_go = threading.Event(), threading.Event()

        def hold(connection: Connection) -> None:
            add_account(connection, "other")
            held.set()
            assert let_go.wait(30)

        holding = asyncio.create_task(other.write(hold))
        await asyncio.to_thread(held.wait, 30)
        waiting = asyncio.create_task(store.write(add_account, "mine"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        let_go.set()
        await asyncio.gather(holding, waiting)
        pragmas = ("journal_mode", "synchronous", "foreign_keys")
        values = await store.write(lambda c: [c.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas])
        assert values == ["wal", 2, 1]
    assert (tmp_path / "pool.sqlite").stat().st_mode & 0o777 == 0o600


async def test_a_locked_sqlite_file_is_unavailable_not_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pool.store.engine.BUSY_TIMEOUT_MS", 50)
    url = f"sqlite:///{tmp_path}/pool.sqlite"
    async with Store(url) as store, Store(url) as other:
        held, let_go = threading.Event(), threading.Event()

        def hold(connection: Connection) -> None:
            held.set()
            assert let_go.wait(30)

        holding = asyncio.create_task(other.write(hold))
        await asyncio.to_thread(held.wait, 30)
        with pytest.raises(StoreUnavailableError, match="locked"):
            await store.write(add_account, "mine")
        let_go.set()
        await holding
        await store.write(add_account, "mine")
        assert await store.read(names) == ["mine"]


async def test_postgresql_that_drops_every_connection_costs_no_write(postgres_url: str) -> None:
    drop = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with Store(postgres_url) as store, Store(postgres_url) as other:
        await store.write(add_account, "before")
        await other.write(lambda c: c.execute(drop).all())
        await store.write(add_account, "after")
        assert await store.read(names) == ["before", "after"]


async def test_postgresql_that_goes_away_in_the_middle_is_unavailable_and_nothing_is_written(postgres_url: str) -> None:
    def cut(connection: Connection) -> None:
        add_account(connection, "lost")
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    async with Store(postgres_url) as store:
        with pytest.raises(StoreUnavailableError):
            await store.write(cut)
        assert await store.read(names) == []


async def test_a_server_that_is_not_there_is_unavailable_within_the_time_limit(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError):
        async with Store(f"postgresql://u@/db?host={tmp_path}"):
            raise AssertionError("it opened")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:hunter2@h/d", "not mysql"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
        ("nonsense hunter2", "cannot be read"),
    ],
)
def test_a_wrong_url_is_named_without_its_password(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words) as caught:
        Store(url)
    assert "hunter2" not in str(caught.value)


def test_every_spelling_of_postgresql_gets_the_driver_that_is_installed() -> None:
    for spelling in ("postgres://u@h/d", "postgresql://u@h/d", "postgresql+psycopg://u@h/d"):
        assert store_url(spelling).drivername == "postgresql+psycopg"
