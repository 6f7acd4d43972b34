"""What the tables of all rooms share: one MetaData with fixed constraint names, types that fit both databases."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Connection, Dialect, Integer, MetaData, Numeric, Table, Text, TypeDecorator
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine

#: Fixed names, so that a migration can name a constraint on either database.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: 64-bit row number; SQLite numbers rows by itself only when the type is spelt INTEGER.
RowId = BigInteger().with_variant(Integer, "sqlite")


class WideInt(TypeDecorator[int]):
    """A whole number from 0 to 10^40 - 1 (work: 2^256 // (target + 1), summed): NUMERIC on PostgreSQL, 40 digits of
    text on SQLite, whose integers end at 64 bits. Text of one length sorts as the numbers do."""

    impl = Text
    cache_ok = True
    DIGITS = 40

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Numeric(self.DIGITS, 0))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: int | None, dialect: Dialect) -> object:
        if value is None:
            return None
        if not 0 <= value < 10**self.DIGITS:
            raise ValueError(f"{value} does not fit {self.DIGITS} digits")
        return value if dialect.name == "postgresql" else f"{value:0{self.DIGITS}d}"

    def process_result_value(self, value: object, dialect: Dialect) -> int | None:
        return None if value is None else int(value)  # type: ignore[call-overload]


def insert_into(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """INSERT of the connection's database, which knows ON CONFLICT."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def storable(text: str, longest: int | None = None) -> str:
    """`text` as both databases take it: PostgreSQL holds no NUL, neither holds half a surrogate pair."""
    clean = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return clean if longest is None else clean[:longest]
