"""Latches: reasons for which no money may leave, kept in the database so that no restart forgets them."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from pool.store.books import latches
from pool.store.schema import insert_into


def close(connection: Connection, name: str, reason: str, at_s: int) -> None:
    """Nothing is paid from now on. The first reason of a name stays."""
    row = {"name": name, "reason": reason, "set_at_s": at_s}
    connection.execute(insert_into(connection, latches).on_conflict_do_nothing(index_elements=["name"]), [row])


def release(connection: Connection, name: str) -> bool:
    """The operator has seen to it. False when there is no such latch."""
    return connection.execute(delete(latches).where(latches.c.name == name)).rowcount > 0


def closed(connection: Connection) -> dict[str, str]:
    """Reasons by name. Whoever is about to pay asks in the same transaction and stops unless this is empty."""
    rows = connection.execute(select(latches.c.name, latches.c.reason).order_by(latches.c.name))
    return {row.name: row.reason for row in rows}
