"""A process's way to the database, SQLite or PostgreSQL by URL: one writer thread, a few readers, migrated at start."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from pool.store.migrating import StoreError, migrate

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

READERS = 4
#: How long SQLite waits for another process's write; PostgreSQL queues by itself.
BUSY_TIMEOUT_MS = 30_000
CONNECT_TIMEOUT_S = 10


class StoreUnavailableError(Exception):
    """The database cannot be reached, is locked, or its disk is full: nothing was written; try again later."""


def store_url(text: str) -> URL:
    """The URL as SQLAlchemy wants it, with the driver that is installed. StoreError says what is wrong."""
    try:
        url = make_url(text)
    except ArgumentError:
        raise StoreError("the store's URL cannot be read") from None  # the text may hold a password
    kind = url.get_backend_name()
    if kind in ("postgresql", "postgres"):
        try:
            import psycopg  # noqa: F401
        except ImportError:
            raise StoreError("PostgreSQL needs psycopg: pip install 'psycopg[binary]'") from None
        return url.set(drivername="postgresql+psycopg")
    if kind != "sqlite":
        raise StoreError(f"the store is SQLite or PostgreSQL, not {kind}")
    if not url.database or url.database == ":memory:":
        raise StoreError("the store needs a file: sqlite:///path")
    return url


def _make_private_file(path: Path) -> None:
    """An SQLite file that only its owner reads: it holds members' addresses and balances."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _sqlite_engine(url: URL, *, writer: bool) -> Engine:
    engine = create_engine(url, pool_size=1 if writer else READERS, max_overflow=0)

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # sqlite3 must not begin transactions by itself
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")  # money: a commit is on the disk when it returns
        connection.execute("PRAGMA foreign_keys = ON")
        if not writer:
            connection.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE: a write that began as a read could not wait for another process, it would fail at once.
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


def _postgres_engine(url: URL, *, writer: bool) -> Engine:
    options = f"-c synchronous_commit=on -c default_transaction_read_only={'off' if writer else 'on'}"
    return create_engine(
        url,
        pool_size=1 if writer else READERS,
        max_overflow=0,
        pool_pre_ping=True,  # a restarted server costs one ping, not one failed write
        # All statements of a reader see one moment, as on SQLite: sums read one after the other must agree.
        isolation_level="READ COMMITTED" if writer else "REPEATABLE READ",
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "mmsp", "options": options},
    )


class Store:
    """`async with Store(url) as store:` migrates, then `await store.write(function, ...)` and `await store.read(...)`.

    The functions get a Connection inside one transaction; a write that raises leaves nothing behind. Writes of this
    process run one after another, in order, on one thread. Cancelling an `await` does not stop a write that has begun.
    """

    def __init__(self, url: str) -> None:
        """Opens nothing yet. StoreError when the URL is wrong."""
        self.url = store_url(url)
        make = _sqlite_engine if self.sqlite else _postgres_engine
        self._writer_engine, self._reader_engine = make(self.url, writer=True), make(self.url, writer=False)
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._readers = ThreadPoolExecutor(READERS, "store-reader")

    @property
    def sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    def upgrade(self) -> list[str]:
        """Bring the tables to this version's form (at start, `db upgrade`); names of the migrations run. Blocking."""
        if self.sqlite and self.url.database is not None:
            _make_private_file(Path(self.url.database))
        done = self.write_now(migrate)
        if done:
            log.info("database upgraded", extra={"migrations": done})
        return done

    def write_now(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `write`, blocking, on the calling thread (start, command line)."""
        return _run(self._writer_engine, function, *args, **kwargs)

    def read_now(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As `read`, blocking, on the calling thread (command line)."""
        return _run(self._reader_engine, function, *args, **kwargs)

    async def write(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(connection, ...)` in a write transaction on the writer thread.

        StoreUnavailableError: nothing was written, later may work. Other exceptions are the function's own."""
        return await self._on(self._writer, self._writer_engine, function, *args, **kwargs)

    async def read(self, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function(connection, ...)` in a transaction that may only read, beside others and beside the writer."""
        return await self._on(self._readers, self._reader_engine, function, *args, **kwargs)

    async def _on(
        self,
        threads: ThreadPoolExecutor,
        engine: Engine,
        function: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, lambda: _run(engine, function, *args, **kwargs))

    async def __aenter__(self) -> Store:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._writer, self.upgrade)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        # Off the loop: writes that were handed in are still done, and may take their time.
        await asyncio.get_running_loop().run_in_executor(None, self.close)

    def close(self) -> None:
        """Finish what was handed in, then let go of all connections."""
        self._writer.shutdown()
        self._readers.shutdown()
        self._writer_engine.dispose()
        self._reader_engine.dispose()


def _run(engine: Engine, function: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        with engine.begin() as connection:
            return function(connection, *args, **kwargs)
    except (OperationalError, InterfaceError) as error:
        raise StoreUnavailableError(str(error.orig)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailableError(str(error.orig)) from error
        raise
