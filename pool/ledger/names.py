"""Numbers that the ledger gives accounts and workers for ever, in the order in which the share log first names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from sqlalchemy import Connection, func, select

from pool.store.work import ledger_accounts, ledger_workers

T = TypeVar("T")
NAMES_A_QUERY = 500  # SQLite takes a limited number of parameters in one statement


def account_ids(connection: Connection, named: Mapping[int, tuple[str, int]], epoch: int) -> dict[int, int]:
    """Number in the log -> id, new ids in the order of the log. `named`: number -> (name, seq of its row)."""
    table = ledger_accounts
    known: dict[str, int] = {}
    for names in _chunks(sorted({name for name, _ in named.values()})):
        query = select(table.c.name, table.c.id).where(table.c.name.in_(names))
        known.update((row.name, row.id) for row in connection.execute(query))
    newest = int(connection.execute(select(func.max(table.c.id))).scalar() or 0) if named else 0
    made: list[dict[str, object]] = []
    for name, seq in sorted(named.values(), key=lambda one: one[1]):
        if name not in known:
            newest += 1
            known[name] = newest
            made.append({"id": newest, "name": name, "epoch": epoch, "seq": seq})
    if made:
        connection.execute(table.insert(), made)
    return {number: known[name] for number, (name, _) in named.items()}


def worker_ids(connection: Connection, owned: Mapping[int, tuple[int, str]]) -> dict[int, int]:
    """As `account_ids`; `owned`: number -> (account id, name), in the order of the log."""
    table = ledger_workers
    known: dict[tuple[int, str], int] = {}
    for accounts in _chunks(sorted({account for account, _ in owned.values()})):
        query = select(table.c.account_id, table.c.name, table.c.id).where(table.c.account_id.in_(accounts))
        known.update(((row.account_id, row.name), row.id) for row in connection.execute(query))
    newest = int(connection.execute(select(func.max(table.c.id))).scalar() or 0) if owned else 0
    made: list[dict[str, object]] = []
    for account, name in owned.values():
        if (account, name) not in known:
            newest += 1
            known[account, name] = newest
            made.append({"id": newest, "account_id": account, "name": name})
    if made:
        connection.execute(table.insert(), made)
    return {number: known[key] for number, key in owned.items()}


def _chunks(items: list[T]) -> Iterator[list[T]]:
    for start in range(0, len(items), NAMES_A_QUERY):
        yield items[start : start + NAMES_A_QUERY]
