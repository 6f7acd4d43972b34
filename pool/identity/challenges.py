"""Challenges in the store: issued within limits, read, redeemed exactly once, swept. Functions over one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, update

from pool.identity.messages import K1_BYTES, LIFETIME_S, NONCE_BYTES, Challenge
from pool.identity.refusals import ProofRefused
from pool.store.identity import identity_challenges as table

KEPT_S = 7 * 86_400  # after its end, to answer "used" instead of "unknown"
HOUR_S = 3600
CANCEL = "destination.cancel"


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may be asked for."""

    account_per_hour: int = 30
    client_per_hour: int = 10  # a client that the web named; without a name only the account's limit holds
    open_at_once: int = 10_000  # in the whole pool: bounds the table
    wrong_signatures: int = 5  # for each challenge
    deposits_per_account_per_day: int = 2
    deposits_per_day: int = 50  # in the whole pool: at most 198 sat each


def _count(connection: Connection, condition: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one())


def issue(
    connection: Connection,
    *,
    kind: str,
    pool_name: str,
    host: str,
    account: str,
    action: str,
    old_value: str,
    value: str,
    client: str,
    limits: Limits,
    now_s: int,
) -> Challenge:
    """A fresh challenge, stored; ProofRefused "rate" or "full" when there are too many.

    A cancellation does not count towards its account's limit: whoever fills that limit must not keep the owner from
    stopping a change."""
    lately = table.c.issued_at_s > now_s - HOUR_S
    if action != CANCEL:
        asked = and_(table.c.account == account, lately, table.c.action != CANCEL)
        if _count(connection, asked) >= limits.account_per_hour:
            raise ProofRefused("rate", "for this account")
    if client and _count(connection, and_(table.c.client == client, lately)) >= limits.client_per_hour:
        raise ProofRefused("rate", "from this client")
    still_open = and_(table.c.expires_at_s > now_s, table.c.consumed_at_s.is_(None))
    if _count(connection, still_open) >= limits.open_at_once:
        raise ProofRefused("full")
    challenge = Challenge(
        nonce_hex=secrets.token_hex(K1_BYTES if kind == "lnurl" else NONCE_BYTES),
        kind=kind,
        pool_name=pool_name,
        host=host,
        account=account,
        action=action,
        old_value=old_value,
        value=value,
        issued_at_s=now_s,
        expires_at_s=now_s + LIFETIME_S,
    )
    connection.execute(table.insert().values(**asdict(challenge), client=client, attempts=0, key_hex=""))
    return challenge


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A challenge that was just consumed, or the reason why not: recorded, so it is returned and not raised."""

    challenge: Challenge | None
    method: str
    key_hex: str
    refused: ProofRefused | None


def redeem(
    connection: Connection,
    nonce_hex: str,
    kind: str,
    bound: Callable[[Challenge], None],
    verify: Callable[[Challenge], tuple[str, str]],
    *,
    limits: Limits,
    now_s: int,
) -> Redeemed:
    """Consume a challenge once. `bound(challenge)` raises ProofRefused when it was made for something else;
    `verify(challenge)` gives (method, key) or raises, which costs one of the challenge's tries."""
    columns = [table.c[field.name] for field in fields(Challenge)]
    row = connection.execute(
        select(*columns, table.c.attempts, table.c.consumed_at_s)
        .where(table.c.nonce_hex == nonce_hex, table.c.kind == kind)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise ProofRefused("unknown")
    challenge = Challenge(*row[: len(columns)])
    if row.consumed_at_s is not None:
        raise ProofRefused("used")
    if row.attempts >= limits.wrong_signatures:
        raise ProofRefused("attempts")
    bound(challenge)
    mine = update(table).where(table.c.nonce_hex == nonce_hex, table.c.consumed_at_s.is_(None))
    try:
        method, key_hex = verify(challenge)
    except ProofRefused as refused:
        connection.execute(mine.values(attempts=table.c.attempts + 1))
        return Redeemed(None, "", "", refused)
    if connection.execute(mine.values(consumed_at_s=now_s, key_hex=key_hex)).rowcount != 1:
        raise ProofRefused("used")
    return Redeemed(challenge, method, key_hex, None)


def known(connection: Connection, nonce_hex: str, kind: str) -> bool:
    """Whether there is such a challenge: asked on a reader, so that made-up ones cost the writer nothing."""
    return _count(connection, and_(table.c.nonce_hex == nonce_hex, table.c.kind == kind)) > 0


def wallet_key(connection: Connection, k1_hex: str) -> str | None:
    """The linking key that answered this k1; None: nobody yet, or no such k1."""
    answered = and_(table.c.nonce_hex == k1_hex, table.c.kind == "lnurl", table.c.consumed_at_s.is_not(None))
    return connection.execute(select(table.c.key_hex).where(answered)).scalar_one_or_none()


def wallet_shown(connection: Connection, host: str, account: str, key_hex: str, now_s: int) -> bool:
    """Whether the wallet of that key answered a request to be linked to that account lately."""
    shown = and_(
        table.c.kind == "lnurl",
        table.c.host == host,
        table.c.account == account,
        table.c.action == "wallet.link",
        table.c.key_hex == key_hex,
        # Twice a message's life: the wallet's answer first, then the member signs; a day for a deposit is given too.
        table.c.consumed_at_s > now_s - 2 * 86_400,
    )
    return _count(connection, shown) > 0


def sweep(connection: Connection, now_s: int) -> int:
    """Drop challenges that ended long ago, and at once those that expired unused; how many."""
    ended = or_(
        and_(table.c.consumed_at_s.is_(None), table.c.expires_at_s <= now_s - HOUR_S),
        table.c.expires_at_s <= now_s - KEPT_S,
    )
    return connection.execute(delete(table).where(ended)).rowcount
