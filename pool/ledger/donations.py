"""What part of his earnings each member gives to the club's projects: his own choice, else the policy's default.

Choices are only ever added. An income remembers the newest one it knew, so that its split can be derived again."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, func, select

from pool.ledger.rewards import BASIS_POINTS, Policy
from pool.ledger.window import account_names
from pool.store.books import donation_settings


def newest(connection: Connection) -> int:
    """Number of the newest choice of anybody; 0 before the first."""
    return int(connection.execute(select(func.max(donation_settings.c.id))).scalar() or 0)


def choose(connection: Connection, account: str, donation_bp: int, at_s: int) -> None:
    """A member's choice, for incomes from now on. ValueError outside 0..10,000 basis points."""
    if not 0 <= donation_bp <= BASIS_POINTS:
        raise ValueError(f"a donation must be from 0 to {BASIS_POINTS} basis points, got {donation_bp}")
    row = {"id": newest(connection) + 1, "account": account, "donation_bp": donation_bp, "at_s": at_s}
    connection.execute(donation_settings.insert().values(**row))


def of_accounts(connection: Connection, numbers: Iterable[int], policy: Policy, upto: int) -> dict[int, int]:
    """Basis points by account number, as chosen up to choice `upto`; accounts that give nothing are left out."""
    names = account_names(connection, set(numbers))
    table = donation_settings
    last = select(func.max(table.c.id)).where(table.c.id <= upto).group_by(table.c.account)
    chosen = {
        row.account: int(row.donation_bp)
        for row in connection.execute(select(table.c.account, table.c.donation_bp).where(table.c.id.in_(last)))
    }
    given = {number: chosen.get(name, policy.donation_bp) for number, name in names.items()}
    return {number: bp for number, bp in given.items() if bp}
