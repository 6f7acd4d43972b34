"""TranscendentalDatabase: the five kinds of data the system remembers, on SQLite or PostgreSQL through SQLAlchemy Core.

Tables: scaling_config, efficiency_records, model_parameters, saturation_points, allocation_history. Every write is one
transaction: a batch with one bad row leaves nothing behind. Methods block; the engine calls them on a thread.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from scaling.errors import InvalidRecord, StoreError

SCHEMA_VERSION = 1
#: Model versions and saturation points kept per symbol.
KEEP_VERSIONS = 20
_SYMBOL = sa.String(64)
_BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")

metadata = sa.MetaData()
scaling_config = sa.Table(
    "scaling_config", metadata,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("value_json", sa.Text, nullable=False),
)  # fmt: skip
efficiency_records = sa.Table(
    "efficiency_records", metadata,
    sa.Column("id", _BIG, primary_key=True, autoincrement=True),
    sa.Column("symbol", _SYMBOL, nullable=False),
    sa.Column("ts_us", sa.BigInteger, nullable=False),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("capital", sa.Double, nullable=False),
    sa.Column("efficiency", sa.Double, nullable=False),
    sa.Column("metrics_json", sa.Text, nullable=False),
    sa.UniqueConstraint("symbol", "ts_us", "source", name="uq_efficiency_records_symbol_ts_source"),
    sa.CheckConstraint("capital > 0", name="ck_efficiency_records_capital"),
)  # fmt: skip
model_parameters = sa.Table(
    "model_parameters", metadata,
    sa.Column("id", _BIG, primary_key=True, autoincrement=True),
    sa.Column("symbol", _SYMBOL, nullable=False, index=True),
    sa.Column("fitted_us", sa.BigInteger, nullable=False),
    sa.Column("records", sa.Integer, nullable=False),
    sa.Column("model", sa.String(32), nullable=False),
    sa.Column("r2", sa.Double, nullable=True),
    sa.Column("mean_error", sa.Double, nullable=True),
    sa.Column("max_error", sa.Double, nullable=True),
    sa.Column("parameters_json", sa.Text, nullable=False),
)  # fmt: skip
saturation_points = sa.Table(
    "saturation_points", metadata,
    sa.Column("id", _BIG, primary_key=True, autoincrement=True),
    sa.Column("symbol", _SYMBOL, nullable=False, index=True),
    sa.Column("detected_us", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("hurdle", sa.Double, nullable=False),
    sa.Column("capital", sa.Double, nullable=True),
    sa.Column("low", sa.Double, nullable=True),
    sa.Column("high", sa.Double, nullable=True),
    sa.Column("extrapolated", sa.Boolean, nullable=False),
)  # fmt: skip
allocation_history = sa.Table(
    "allocation_history", metadata,
    sa.Column("id", _BIG, primary_key=True, autoincrement=True),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("total_capital", sa.Double, nullable=False),
    sa.Column("value", sa.Double, nullable=False),
    sa.Column("bound", sa.Double, nullable=False),
    sa.Column("unallocated", sa.Double, nullable=False),
    sa.Column("detail_json", sa.Text, nullable=False),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Record:
    """One observation. (symbol, ts_us, source) is its identity."""

    symbol: str
    ts_us: int
    source: str
    capital: float
    efficiency: float
    metrics: dict[str, float]


class TranscendentalDatabase:
    """The persistent memory. `url` is any SQLAlchemy URL of SQLite or PostgreSQL (postgresql+psycopg://...), or a
    file path."""

    def __init__(self, url: str) -> None:
        self.url = url if "://" in url else f"sqlite:///{url}"
        try:
            parsed = make_url(self.url)
        except sa.exc.ArgumentError:
            raise StoreError(
                "the database URL cannot be read; examples: scaling.sqlite, postgresql+psycopg://user@host/name"
            ) from None
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise StoreError(f"databases known: sqlite and postgresql, not {parsed.get_backend_name()!r}")
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        memory = parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:")
        pool = {"poolclass": sa.pool.StaticPool, "connect_args": {"check_same_thread": False}} if memory else {}
        self._engine: Engine = sa.create_engine(parsed, **pool)
        if parsed.get_backend_name() == "sqlite":
            sa.event.listen(self._engine, "connect", _tune_sqlite)

    def create_tables(self) -> None:
        """Create what is missing; refuse a database written by a newer version."""
        with self._begin() as connection:
            metadata.create_all(connection)
            found = connection.scalar(
                sa.select(scaling_config.c.value_json).where(scaling_config.c.name == "schema_version")
            )
            if found is None:
                _upsert(connection, "schema_version", str(SCHEMA_VERSION))
            elif int(found) > SCHEMA_VERSION:
                raise StoreError(
                    f"the database has schema version {found}, this program knows {SCHEMA_VERSION}: update the program"
                )

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()

    def _begin(self) -> _Transaction:
        return _Transaction(self._engine)

    # configuration

    def save_config(self, values: dict[str, object]) -> None:
        """Insert or replace settings; values are JSON."""
        with self._begin() as connection:
            for name, value in values.items():
                _upsert(connection, name, json.dumps(value, allow_nan=False))

    def load_config(self) -> dict[str, object]:
        """All settings but the schema version."""
        with self._begin() as connection:
            rows = connection.execute(sa.select(scaling_config.c.name, scaling_config.c.value_json)).all()
        return {name: json.loads(value) for name, value in rows if name != "schema_version"}

    # observed efficiency

    def add_records(self, records: Sequence[Record]) -> int:
        """Insert new observations, all or none. One already stored with the same figures is passed over; with others
        it is
        an InvalidRecord. Returns how many were new."""
        if not records:
            return 0
        with self._begin() as connection:
            fresh = (
                _fresh(connection, records) if len(records) > 1 else [r for r in records if not _known(connection, r)]
            )
            if fresh:
                connection.execute(sa.insert(efficiency_records), [_row(r) for r in fresh])
            return len(fresh)

    def load_records(self, symbols: Iterable[str] | None = None, limit_each: int = 500) -> list[Record]:
        """The newest `limit_each` observations of each symbol, oldest first."""
        t = efficiency_records
        place = (
            sa.func.row_number()
            .over(partition_by=t.c.symbol, order_by=(t.c.ts_us.desc(), t.c.id.desc()))
            .label("place")
        )
        inner = sa.select(t, place)
        if symbols is not None:
            inner = inner.where(t.c.symbol.in_(list(symbols)))
        newest = inner.subquery()
        query = (
            sa.select(newest).where(newest.c.place <= limit_each).order_by(newest.c.symbol, newest.c.ts_us, newest.c.id)
        )
        with self._begin() as connection:
            rows = connection.execute(query).all()
        return [Record(r.symbol, r.ts_us, r.source, r.capital, r.efficiency, json.loads(r.metrics_json)) for r in rows]

    def symbols(self) -> dict[str, int]:
        """{symbol: number of observations}."""
        t = efficiency_records
        with self._begin() as connection:
            rows = connection.execute(
                sa.select(t.c.symbol, sa.func.count()).group_by(t.c.symbol).order_by(t.c.symbol)
            ).all()
        return {symbol: int(count) for symbol, count in rows}

    # what was learned and decided

    def save_models(self, models: Sequence[dict[str, object]], points: Sequence[dict[str, object]]) -> None:
        """Append model versions and their saturation points; the oldest beyond KEEP_VERSIONS per symbol go."""
        if not models:
            return
        symbols = [str(m["symbol"]) for m in models]
        with self._begin() as connection:
            connection.execute(sa.insert(model_parameters), list(models))
            if points:
                connection.execute(sa.insert(saturation_points), list(points))
            for table, keep in ((model_parameters, KEEP_VERSIONS), (saturation_points, 3 * KEEP_VERSIONS)):
                for at in range(0, len(symbols), 500):
                    _prune(connection, table, symbols[at : at + 500], keep)

    def load_models(self, symbol: str) -> list[dict[str, object]]:
        """Model versions of a symbol, newest first."""
        t = model_parameters
        with self._begin() as connection:
            rows = connection.execute(sa.select(t).where(t.c.symbol == symbol).order_by(t.c.id.desc())).mappings().all()
        return [dict(row) for row in rows]

    def load_saturation_points(self, symbol: str) -> list[dict[str, object]]:
        """Saturation points detected for a symbol, newest first."""
        t = saturation_points
        with self._begin() as connection:
            rows = connection.execute(sa.select(t).where(t.c.symbol == symbol).order_by(t.c.id.desc())).mappings().all()
        return [dict(row) for row in rows]

    def save_allocation(self, row: dict[str, object]) -> int:
        """Append one allocation; returns its id."""
        with self._begin() as connection:
            result = connection.execute(sa.insert(allocation_history), row)
            key = result.inserted_primary_key
        assert key is not None
        return int(key[0])

    def load_allocations(self, limit: int = 100) -> list[dict[str, object]]:
        """The newest allocations, newest first."""
        t = allocation_history
        with self._begin() as connection:
            rows = connection.execute(sa.select(t).order_by(t.c.id.desc()).limit(limit)).mappings().all()
        return [dict(row) for row in rows]


def without_password(url: str) -> str:
    """A database URL fit to be shown."""
    if "://" not in url:
        return url
    try:
        return make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "that database"


class _Transaction:
    """`engine.begin()` whose database errors are StoreErrors with the cause, never with the URL or its password."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __enter__(self) -> Connection:
        try:
            self._context = self._engine.begin()
            return self._context.__enter__()
        except SQLAlchemyError as problem:
            raise StoreError(f"database cannot be opened: {_cause(problem)}") from None

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: object) -> None:
        try:
            self._context.__exit__(kind, value, trace)  # type: ignore[arg-type]
        except SQLAlchemyError as problem:
            if value is None or problem is value:
                raise StoreError(f"database refused: {_cause(problem)}") from problem
            raise
        if isinstance(value, IntegrityError):
            raise StoreError(f"database refused: {_cause(value)}") from value
        if isinstance(value, SQLAlchemyError):
            raise StoreError(f"database failed: {_cause(value)}") from value


def _cause(problem: SQLAlchemyError) -> str:
    return str(getattr(problem, "orig", None) or problem).splitlines()[0]


def _tune_sqlite(connection: sqlite3.Connection, _: object) -> None:
    """Readers beside one writer; wait for a busy writer instead of failing."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()


def _upsert(connection: Connection, name: str, value: str) -> None:
    t = scaling_config
    changed = connection.execute(sa.update(t).where(t.c.name == name).values(value_json=value))
    if changed.rowcount == 0:
        connection.execute(sa.insert(t).values(name=name, value_json=value))


def _row(record: Record) -> dict[str, object]:
    return {
        "symbol": record.symbol, "ts_us": record.ts_us, "source": record.source, "capital": record.capital,
        "efficiency": record.efficiency, "metrics_json": json.dumps(record.metrics, allow_nan=False, sort_keys=True),
    }  # fmt: skip


def _known(connection: Connection, record: Record) -> bool:
    t = efficiency_records
    found = connection.execute(
        sa.select(t.c.capital, t.c.efficiency).where(
            t.c.symbol == record.symbol, t.c.ts_us == record.ts_us, t.c.source == record.source
        )
    ).first()
    return found is not None and _same(record, found.capital, found.efficiency)


def _same(record: Record, capital: float, efficiency: float) -> bool:
    if (capital, efficiency) != (record.capital, record.efficiency):
        raise InvalidRecord(
            f"{record.symbol} already has a record of source {record.source!r} at that time with other figures "
            f"(capital {capital:g}, efficiency {efficiency:g})"
        )
    return True


def _fresh(connection: Connection, records: Sequence[Record]) -> list[Record]:
    """The records of a large batch that are not stored yet, asked for symbol by symbol."""
    t = efficiency_records
    known: dict[tuple[str, int, str], tuple[float, float]] = {}
    symbols = sorted({r.symbol for r in records})
    low, high = min(r.ts_us for r in records), max(r.ts_us for r in records)
    for at in range(0, len(symbols), 500):
        query = sa.select(t.c.symbol, t.c.ts_us, t.c.source, t.c.capital, t.c.efficiency).where(
            t.c.symbol.in_(symbols[at : at + 500]), t.c.ts_us.between(low, high)
        )
        known.update({(r.symbol, r.ts_us, r.source): (r.capital, r.efficiency) for r in connection.execute(query)})
    fresh = []
    for record in records:
        key = (record.symbol, record.ts_us, record.source)
        if key in known:
            _same(record, *known[key])
        else:
            known[key] = (record.capital, record.efficiency)
            fresh.append(record)
    return fresh


def _prune(connection: Connection, table: sa.Table, symbols: list[str], keep: int) -> None:
    place = sa.func.row_number().over(partition_by=table.c.symbol, order_by=table.c.id.desc()).label("place")
    ranked = sa.select(table.c.id, place).where(table.c.symbol.in_(symbols)).subquery()
    connection.execute(sa.delete(table).where(table.c.id.in_(sa.select(ranked.c.id).where(ranked.c.place > keep))))


#: The plain name of the same class.
ScalingStore = TranscendentalDatabase
