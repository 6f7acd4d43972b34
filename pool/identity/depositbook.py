"""Micro-deposit proofs in the store, by the rules of `deposits.py`. Functions over one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, func, select, update

from pool.identity import deposits
from pool.identity.challenges import CANCEL, KEPT_S, Limits
from pool.identity.deposits import Deposit
from pool.identity.messages import same
from pool.identity.refusals import ProofRefused
from pool.store.identity import identity_deposits as table

DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Wanted:
    """Two payments that the payer is to make to the account's address. Not for members' or operators' eyes."""

    id: int
    account: str
    first_sat: int
    second_sat: int
    expires_at_s: int

    def __repr__(self) -> str:
        return f"Wanted(id={self.id})"


@dataclass(frozen=True, slots=True)
class Stored:
    """A deposit with what it is to prove."""

    id: int
    account: str
    action: str
    value: str
    deposit: Deposit


def _count(connection: Connection, condition: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one())


def begin(connection: Connection, account: str, action: str, value: str, *, limits: Limits, now_s: int) -> int:
    """Start a proof; its id. ProofRefused "rate": one open per account, some a day per account and pool."""
    lately = table.c.issued_at_s > now_s - DAY_S
    # Cancellations are counted apart: what others began in this account's name must not keep it from stopping a change.
    same_class = table.c.action == CANCEL if action == CANCEL else table.c.action != CANCEL
    mine = and_(table.c.account == account, same_class)
    alive = and_(mine, table.c.state.in_(deposits.OPEN), table.c.expires_at_s > now_s)
    if _count(connection, alive) or _count(connection, and_(mine, lately)) >= limits.deposits_per_account_per_day:
        raise ProofRefused("rate", "for this account")
    if _count(connection, lately) >= limits.deposits_per_day:
        raise ProofRefused("full")
    fresh = deposits.begin(now_s)
    number: int = connection.execute(
        table.insert()
        .values(
            account=account,
            action=action,
            value=value,
            first_sat=fresh.first_sat,
            second_sat=fresh.second_sat,
            state=fresh.state,
            tries=0,
            issued_at_s=now_s,
            expires_at_s=fresh.expires_at_s,
        )
        .returning(table.c.id)
    ).scalar_one()
    return number


def wanted(connection: Connection, now_s: int, limit: int = 100) -> list[Wanted]:
    """What is to be paid, oldest first."""
    columns = (table.c.id, table.c.account, table.c.first_sat, table.c.second_sat, table.c.expires_at_s)
    query = select(*columns).where(table.c.state == deposits.WAITING, table.c.expires_at_s > now_s)
    return [Wanted(*row) for row in connection.execute(query.order_by(table.c.id).limit(limit))]


def load(connection: Connection, number: int, *, lock: bool) -> Stored | None:
    """The proof of that id; `lock` holds it until the transaction ends."""
    if not 0 < number < 2**63:
        return None
    query = select(table).where(table.c.id == number)
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        return None
    kept = Deposit(row.first_sat, row.second_sat, row.expires_at_s, row.state, row.tries)
    return Stored(row.id, row.account, row.action, row.value, kept)


def save(connection: Connection, number: int, deposit: Deposit) -> None:
    connection.execute(update(table).where(table.c.id == number).values(state=deposit.state, tries=deposit.tries))


def answer(
    connection: Connection, stored: Stored, first_sat: int, second_sat: int, both_arrived: bool, now_s: int
) -> ProofRefused | None:
    """Apply what was typed; None when it proves the account. The new state is stored either way."""
    before = stored.deposit
    if before.state in (deposits.PROVEN, deposits.FAILED, deposits.EXPIRED):
        return ProofRefused({deposits.PROVEN: "used", deposits.FAILED: "attempts"}.get(before.state, "expired"))
    after = deposits.typed(deposits.arrived(before, both_arrived, now_s), first_sat, second_sat, now_s)
    save(connection, stored.id, after)
    if after.state == deposits.PROVEN:
        return None
    if after.state == deposits.EXPIRED:
        return ProofRefused("expired")
    return ProofRefused("not_arrived" if after.state == deposits.WAITING else "wrong_amounts")


def check_binding(stored: Stored | None, account: str, action: str, value: str) -> Stored:
    """That the deposit was begun for exactly this; ProofRefused names the first difference."""
    if stored is None:
        raise ProofRefused("unknown")
    for ours, theirs, code in (
        (stored.account, account, "other_account"),
        (stored.action, action, "other_action"),
        (stored.value, value, "other_value"),
    ):
        if not same(ours, theirs):
            raise ProofRefused(code)
    return stored


def sweep(connection: Connection, now_s: int) -> int:
    """Drop proofs that ended long ago; how many."""
    return connection.execute(delete(table).where(table.c.expires_at_s <= now_s - KEPT_S)).rowcount
