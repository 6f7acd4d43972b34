"""What the tables of all rooms share: one MetaData with fixed constraint names, types that fit both databases."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData

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


def storable(text: str, longest: int | None = None) -> str:
    """`text` as both databases take it: PostgreSQL holds no NUL, neither holds half a surrogate pair."""
    clean = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return clean if longest is None else clean[:longest]
