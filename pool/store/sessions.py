"""Accounts, workers, sessions: what a device is given back after a restart (promise P9), and worker statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    Select,
    Table,
    Text,
    UniqueConstraint,
    case,
    delete,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite

from pool.records import SavedSession
from pool.store.engine import Store
from pool.store.schema import RowId, metadata, storable

T = TypeVar("T")
USER_AGENT_LENGTH = 128
BATCH = 500  # rows per IN list: SQLite takes at most 32,766 parameters, PostgreSQL 65,535

accounts = Table(
    "accounts",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("name", Text, nullable=False, unique=True),  # canonical: an address or a Lightning address
    Column("kind", Text, nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("last_seen_s", BigInteger, nullable=False),
    CheckConstraint("kind IN ('address', 'lightning')", name="kind"),
)
workers = Table(
    "workers",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("account_id", BigInteger, ForeignKey("accounts.id"), nullable=False),
    Column("name", Text, nullable=False),  # "" when the device gave none
    Column("user_agent", Text, nullable=False),
    Column("difficulty", Double, nullable=False),
    Column("best_difficulty", Double, nullable=False),  # for ever
    Column("hashrate_hs", Double, nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("last_seen_s", BigInteger, nullable=False),
    UniqueConstraint("account_id", "name"),
)
sessions = Table(
    "sessions",
    metadata,
    Column("session_id", Text, primary_key=True),
    Column("worker_id", BigInteger, ForeignKey("workers.id"), nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("extranonce1_hex", Text, nullable=False),
    Column("difficulty", Double, nullable=False),
    Column("version_mask", BigInteger, nullable=False),
    Column("best_difficulty", Double, nullable=False),
    Column("hashrate_hs", Double, nullable=False),
    Column("saved_at_s", BigInteger, nullable=False, index=True),
    Index(None, "worker_id", "user_agent", "saved_at_s"),
)


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """One worker as of its last saved session."""

    account: str
    worker: str
    user_agent: str
    difficulty: float
    best_difficulty: float
    hashrate_hs: float
    created_at_s: int
    last_seen_s: int


#: By session id, or by (account, worker, user agent).
SessionKey = str | tuple[str, str, str]


class Sessions:
    """What the porch hands to stratum: plain async callables over the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def load_session(self, key: SessionKey) -> SavedSession | None:
        """The session of that id, or the newest of that device. StoreUnavailableError."""
        return await self._store.read(load_session, key)

    async def recent_sessions(self, limit: int) -> list[SavedSession]:
        """The newest `limit` sessions, oldest first: what a starting pool keeps in memory. StoreUnavailableError."""
        return await self._store.read(recent_sessions, limit)

    async def save_sessions(self, saved: Sequence[SavedSession]) -> None:
        """Keep them, with accounts and workers; an older save never overwrites a newer one. StoreUnavailableError."""
        if saved:
            await self._store.write(save_sessions, saved)

    async def forget_sessions(self, before_s: int) -> int:
        """Drop sessions saved before that time; how many. Their workers and accounts stay."""
        return await self._store.write(forget_sessions, before_s)

    async def worker_statistics(self, account: str) -> list[WorkerStatistics]:
        """Every worker of an account, by name."""
        return await self._store.read(worker_statistics, account)


def load_session(connection: Connection, key: SessionKey) -> SavedSession | None:
    query = _saved_sessions()
    if isinstance(key, str):
        query = query.where(sessions.c.session_id == storable(key))
    else:
        account, worker, user_agent = key
        query = query.where(
            accounts.c.name == storable(account),
            workers.c.name == storable(worker),
            sessions.c.user_agent == storable(user_agent, USER_AGENT_LENGTH),
        )
        query = query.order_by(sessions.c.saved_at_s.desc(), sessions.c.session_id).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else SavedSession(**row._asdict())


def recent_sessions(connection: Connection, limit: int) -> list[SavedSession]:
    query = _saved_sessions().order_by(sessions.c.saved_at_s.desc(), sessions.c.session_id).limit(limit)
    return [SavedSession(**row._asdict()) for row in connection.execute(query)][::-1]


def _saved_sessions() -> Select[tuple[str, str, str, str, str, float, int, float, float, int]]:
    columns = (
        sessions.c.session_id,
        accounts.c.name.label("account"),
        workers.c.name.label("worker"),
        sessions.c.user_agent,
        sessions.c.extranonce1_hex,
        sessions.c.difficulty,
        sessions.c.version_mask,
        sessions.c.best_difficulty,
        sessions.c.hashrate_hs,
        sessions.c.saved_at_s,
    )
    source = sessions.join(workers, sessions.c.worker_id == workers.c.id).join(accounts)
    return select(*columns).select_from(source)


def save_sessions(connection: Connection, saved: Sequence[SavedSession]) -> None:
    # Oldest first, so that of two saves of one session or worker in a batch the newer one stays.
    ordered = sorted((_storable_session(one) for one in saved), key=lambda one: one.saved_at_s)
    if not ordered:
        return
    account_ids = _save_accounts(connection, ordered)
    worker_ids = _save_workers(connection, ordered, account_ids)
    rows = [
        {
            "session_id": one.session_id,
            "worker_id": worker_ids[account_ids[one.account], one.worker],
            "user_agent": one.user_agent,
            "extranonce1_hex": one.extranonce1_hex,
            "difficulty": one.difficulty,
            "version_mask": one.version_mask,
            "best_difficulty": one.best_difficulty,
            "hashrate_hs": one.hashrate_hs,
            "saved_at_s": one.saved_at_s,
        }
        for one in ordered
    ]
    insert = _insert(connection, sessions)
    new = insert.excluded
    names = [column.name for column in sessions.c if column.name != "session_id"]
    statement = insert.on_conflict_do_update(
        index_elements=["session_id"],
        set_={name: new[name] for name in names},
        where=new.saved_at_s >= sessions.c.saved_at_s,
    )
    connection.execute(statement, rows)


def forget_sessions(connection: Connection, before_s: int) -> int:
    return connection.execute(delete(sessions).where(sessions.c.saved_at_s < before_s)).rowcount


def worker_statistics(connection: Connection, account: str) -> list[WorkerStatistics]:
    columns = (
        accounts.c.name,
        workers.c.name,
        workers.c.user_agent,
        workers.c.difficulty,
        workers.c.best_difficulty,
        workers.c.hashrate_hs,
        workers.c.created_at_s,
        workers.c.last_seen_s,
    )
    query = select(*columns).select_from(workers.join(accounts)).where(accounts.c.name == storable(account))
    return [WorkerStatistics(*row) for row in connection.execute(query.order_by(workers.c.name))]


def _storable_session(one: SavedSession) -> SavedSession:
    return SavedSession(
        storable(one.session_id),
        storable(one.account),
        storable(one.worker),
        storable(one.user_agent, USER_AGENT_LENGTH),
        storable(one.extranonce1_hex),
        one.difficulty,
        one.version_mask,
        one.best_difficulty,
        one.hashrate_hs,
        one.saved_at_s,
    )


def _insert(connection: Connection, table: Table) -> postgresql.Insert:
    """INSERT that may carry ON CONFLICT: the two databases write it alike, SQLAlchemy has one class for each."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)  # type: ignore[return-value]  # same methods


def _save_accounts(connection: Connection, ordered: Sequence[SavedSession]) -> dict[str, int]:
    """Accounts seen, made if new; name -> id."""
    rows = {
        one.account: {
            "name": one.account,
            "kind": "lightning" if "@" in one.account else "address",
            "created_at_s": one.saved_at_s,
            "last_seen_s": one.saved_at_s,
        }
        for one in ordered
    }
    insert = _insert(connection, accounts)
    new = insert.excluded
    statement = insert.on_conflict_do_update(
        index_elements=["name"],
        set_={"last_seen_s": new.last_seen_s},
        where=new.last_seen_s > accounts.c.last_seen_s,
    )
    # Sorted: two processes that save the same rows lock them in the same order.
    connection.execute(statement, [rows[name] for name in sorted(rows)])
    ids: dict[str, int] = {}
    for names in _batches(sorted(rows)):
        query = select(accounts.c.name, accounts.c.id).where(accounts.c.name.in_(names))
        ids.update((name, number) for name, number in connection.execute(query))
    return ids


def _save_workers(
    connection: Connection, ordered: Sequence[SavedSession], account_ids: dict[str, int]
) -> dict[tuple[int, str], int]:
    """Workers seen, made if new, statistics brought up to date; (account id, name) -> id."""
    rows: dict[tuple[int, str], dict[str, object]] = {}
    best: dict[tuple[int, str], float] = {}
    for one in ordered:
        key = (account_ids[one.account], one.worker)
        best[key] = max(best.get(key, 0.0), one.best_difficulty)
        rows[key] = {
            "account_id": key[0],
            "name": one.worker,
            "user_agent": one.user_agent,
            "difficulty": one.difficulty,
            "best_difficulty": best[key],
            "hashrate_hs": one.hashrate_hs,
            "created_at_s": one.saved_at_s,
            "last_seen_s": one.saved_at_s,
        }
    insert = _insert(connection, workers)
    new = insert.excluded
    later = new.last_seen_s >= workers.c.last_seen_s
    newest = ("user_agent", "difficulty", "hashrate_hs", "last_seen_s")
    higher = case(
        (new.best_difficulty > workers.c.best_difficulty, new.best_difficulty), else_=workers.c.best_difficulty
    )
    statement = insert.on_conflict_do_update(
        index_elements=["account_id", "name"],
        set_={name: case((later, new[name]), else_=workers.c[name]) for name in newest} | {"best_difficulty": higher},
    )
    connection.execute(statement, [rows[key] for key in sorted(rows)])
    ids: dict[tuple[int, str], int] = {}
    for keys in _batches(sorted(rows)):
        query = select(workers.c.account_id, workers.c.name, workers.c.id)
        query = query.where(tuple_(workers.c.account_id, workers.c.name).in_(keys))
        ids.update({(account, name): number for account, name, number in connection.execute(query)})
    return ids


def _batches(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))
