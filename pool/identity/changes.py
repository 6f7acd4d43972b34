"""Changes of destination, linked wallets and the journal in the store. Functions over one transaction."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from sqlalchemy import Connection, select, update

from pool.identity.destinations import ACTIVE, CANCELLED, PENDING, SUPERSEDED, Change, due_at_s, notice
from pool.identity.refusals import ProofRefused
from pool.store.identity import destination_changes, identity_events, identity_links
from pool.store.schema import storable

_COLUMNS = [destination_changes.c[field.name] for field in fields(Change)]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What stands for a step in the journal."""

    text: str  # what was signed, or what happened
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the journal; notices are "" when nobody needs to be told."""

    id: int
    at_s: int
    account: str
    kind: str
    change_id: int | None
    evidence: str
    signature: str
    notice_es: str
    notice_en: str


def note(
    connection: Connection,
    account: str,
    kind: str,
    evidence: Evidence,
    now_s: int,
    *,
    change: Change | None = None,
    words: tuple[str, str] = ("", ""),
) -> None:
    """Add to the journal."""
    connection.execute(
        identity_events.insert().values(
            at_s=now_s,
            account=account,
            kind=kind,
            change_id=None if change is None else change.id,
            evidence=storable(evidence.text),
            signature=storable(evidence.signature),
            notice_es=words[0],
            notice_en=words[1],
        )
    )


def events(connection: Connection, *, after_id: int = 0, account: str | None = None, limit: int = 100) -> list[Event]:
    """The journal after a line, oldest first."""
    query = select(identity_events).where(identity_events.c.id > after_id)
    if account is not None:
        query = query.where(identity_events.c.account == account)
    return [Event(*row) for row in connection.execute(query.order_by(identity_events.c.id).limit(limit))]


# --- destinations
def current(connection: Connection, account: str) -> str:
    """Where the account is paid by its own choice; "" when it made none."""
    chosen = (
        select(destination_changes.c.destination)
        .where(destination_changes.c.account == account, destination_changes.c.state == ACTIVE)
        .order_by(destination_changes.c.id.desc())
        .limit(1)
    )
    return connection.execute(chosen).scalar_one_or_none() or ""


def waiting(connection: Connection, account: str) -> Change | None:
    """The account's pending change."""
    query = select(*_COLUMNS).where(destination_changes.c.account == account, destination_changes.c.state == PENDING)
    row = connection.execute(query).one_or_none()
    return None if row is None else Change(*row)


def history(connection: Connection, account: str, limit: int = 50) -> list[Change]:
    """The account's changes, newest first."""
    query = select(*_COLUMNS).where(destination_changes.c.account == account)
    rows = connection.execute(query.order_by(destination_changes.c.id.desc()).limit(limit))
    return [Change(*row) for row in rows]


def _settle(connection: Connection, change: Change, state: str, evidence: Evidence, now_s: int) -> Change:
    mine = (destination_changes.c.id == change.id, destination_changes.c.state == PENDING)
    done = update(destination_changes).where(*mine).values(state=state, settled_at_s=now_s)
    if connection.execute(done).rowcount != 1:
        raise ProofRefused("nothing_pending")
    settled = replace(change, state=state, settled_at_s=now_s)
    note(connection, change.account, f"change.{state}", evidence, now_s, change=settled, words=notice(settled, state))
    return settled


def request_change(
    connection: Connection,
    account: str,
    old: str,
    destination: str,
    evidence: Evidence,
    *,
    balance_msat: int,
    now_s: int,
) -> Change:
    """Record a proven change: active at once without a balance, else pending for 72 h; a pending one is superseded.

    ProofRefused "changed" when the destination is no longer the `old` one that the member saw."""
    if current(connection, account) != old:
        raise ProofRefused("changed")
    if old == destination:
        raise ProofRefused("same")
    before = waiting(connection, account)
    if before is not None:
        _settle(connection, before, SUPERSEDED, Evidence("a newer change was requested"), now_s)
    due = due_at_s(now_s, balance_msat)
    number = connection.execute(
        destination_changes.insert()
        .values(
            account=account,
            old_destination=old,
            destination=destination,
            state=PENDING,
            requested_at_s=now_s,
            due_at_s=due,
        )
        .returning(destination_changes.c.id)
    ).scalar_one()
    change = Change(number, account, old, destination, PENDING, now_s, due, None)
    words = notice(change, PENDING) if due > now_s else ("", "")  # else the notice of "active" says it all
    note(connection, account, "change.requested", evidence, now_s, change=change, words=words)
    return change if due > now_s else _settle(connection, change, ACTIVE, Evidence("nothing was owed"), now_s)


def cancel(connection: Connection, account: str, destination: str, evidence: Evidence, now_s: int) -> Change:
    """Cancel the pending change to `destination`; ProofRefused when there is none or it is due already."""
    before = waiting(connection, account)
    if before is None or before.destination != destination or now_s >= before.due_at_s:
        raise ProofRefused("nothing_pending")
    return _settle(connection, before, CANCELLED, evidence, now_s)


def activate_due(connection: Connection, now_s: int, limit: int = 500) -> list[Change]:
    """Make changes active whose delay is over, oldest first."""
    due = (
        select(*_COLUMNS)
        .where(destination_changes.c.state == PENDING, destination_changes.c.due_at_s <= now_s)
        .order_by(destination_changes.c.id)
        .limit(limit)
        .with_for_update()
    )
    found = [Change(*row) for row in connection.execute(due)]
    return [_settle(connection, change, ACTIVE, Evidence("the delay is over"), now_s) for change in found]


# --- wallets
def linked_account(connection: Connection, host: str, key_hex: str) -> str | None:
    """The account that the wallet is linked to at this host."""
    same_key = (identity_links.c.host == host, identity_links.c.key_hex == key_hex)
    return connection.execute(select(identity_links.c.account).where(*same_key)).scalar_one_or_none()


def link(connection: Connection, host: str, key_hex: str, account: str, evidence: Evidence, now_s: int) -> None:
    """Link a wallet; twice to one account is once, to another one is refused."""
    owner = linked_account(connection, host, key_hex)
    if owner is not None and owner != account:
        raise ProofRefused("linked")
    if owner is None:
        connection.execute(
            identity_links.insert().values(host=host, key_hex=key_hex, account=account, linked_at_s=now_s)
        )
        words = ("Se enlazó una cartera a tu cuenta.", "A wallet was linked to your account.")
        note(connection, account, "wallet.linked", evidence, now_s, words=words)
