"""The whole database as files of JSON lines, read in one moment while the pool runs, and put into an empty one again.

The same form for SQLite and PostgreSQL: a backup of one can be restored into the other."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Table, func, insert, select, text

from pool.store import tables as all_tables
from pool.store.migrating import StoreError
from pool.store.schema import metadata

assert all_tables
ROWS_AT_ONCE = 2000


def revision(connection: Connection) -> str:
    """Of the migrations; "" of a database without tables."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def dump(connection: Connection, folder: Path) -> dict[str, int]:
    """Each table as <name>.jsonl.gz in `folder`; rows by table. The connection's transaction must see one moment (a
    reader's does)."""
    return {table.name: _dump_table(connection, table, folder / f"{table.name}.jsonl.gz") for table in _tables()}


def _tables() -> list[Table]:
    return list(metadata.sorted_tables)  # those that others refer to first


def _dump_table(connection: Connection, table: Table, path: Path) -> int:
    count = 0
    query = select(table).order_by(*table.primary_key.columns)
    names = [column.name for column in table.columns]
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=4) as file:
        file.write(json.dumps(names) + "\n")
        rows = connection.execute(query, execution_options={"yield_per": ROWS_AT_ONCE})
        for row in rows:
            file.write(json.dumps(list(row), ensure_ascii=False, separators=(",", ":")) + "\n")
            count += 1
    return count


def load(connection: Connection, folder: Path, counts: Mapping[str, int]) -> None:
    """Fill a database that was just migrated. StoreError when it holds anything, or when a file lacks rows: the
    caller's transaction is then undone."""
    for table in _tables():
        if connection.execute(select(func.count()).select_from(table)).scalar_one():
            raise StoreError(f"the database is not empty: {table.name} has rows; nothing was restored")
    for table in _tables():
        count = 0
        for rows in _rows(folder / f"{table.name}.jsonl.gz", table):
            connection.execute(insert(table), rows)
            count += len(rows)
        if count != counts.get(table.name):
            raise StoreError(f"{table.name} has {count} rows in the backup, not {counts.get(table.name)}")
        _go_on_numbering(connection, table)


def _rows(path: Path, table: Table) -> Iterator[list[dict[str, object]]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        names = json.loads(file.readline())
        if sorted(names) != sorted(column.name for column in table.columns):
            raise StoreError(f"{path.name} has other columns than this version of the pool")
        rows: list[dict[str, object]] = []
        for line in file:
            rows.append(dict(zip(names, json.loads(line), strict=True)))
            if len(rows) == ROWS_AT_ONCE:
                yield rows
                rows = []
        if rows:
            yield rows


def _go_on_numbering(connection: Connection, table: Table) -> None:
    """PostgreSQL numbers rows by sequences, which know nothing of rows put in with their numbers."""
    if connection.dialect.name != "postgresql":
        return
    for column in table.primary_key.columns:
        query = text("SELECT pg_get_serial_sequence(:table, :column)")
        sequence = connection.execute(query, {"table": table.name, "column": column.name}).scalar()
        newest = connection.execute(select(func.max(column))).scalar() if sequence else None
        if newest:
            connection.execute(text("SELECT setval(:sequence, :value)"), {"sequence": sequence, "value": newest})


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
