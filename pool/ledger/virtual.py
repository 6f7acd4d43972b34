"""Income beyond blocks: the smoothing reserve's monthly virtual block, upstream income, donations from outside.

Each is a `records.IncomeEvent`, booked once under its (kind, source id) and split through the same window as a block
would be, so that there is nothing to gain by coming for it. Its window ends with the newest slice that is closed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Row, func, select

from pool.ledger import books, donations, income
from pool.ledger import policy as policies
from pool.ledger.books import Entry, post
from pool.ledger.rewards import Policy, split
from pool.ledger.window import account_names, window_at
from pool.records import IncomeEvent
from pool.store.books import income_events
from pool.store.work import slices

#: Where money from outside may come in.
RECEIVING = ("onchain_hot", "onchain_cold", "ln_channels")


class NoWorkError(Exception):
    """No slice is closed yet: there is nothing to split an income by. Ask again later."""


@dataclass(frozen=True, slots=True)
class At:
    """A position of the log that an income is split as of."""

    slice_id: int
    epoch: int
    seq: int


def newest_closed(connection: Connection) -> At:
    """The newest slice that no row is added to any more. NoWorkError."""
    open_id = connection.execute(select(func.max(slices.c.id))).scalar()
    done = (slices.c.id < (open_id or 0)) | slices.c.block_hash.is_not(None)
    row = connection.execute(select(slices).where(done).order_by(slices.c.id.desc()).limit(1)).one_or_none()
    if row is None:
        raise NoWorkError
    return At(row.id, row.last_epoch, row.last_seq)


def month_of(at_s: int) -> str:
    """UTC, "2026-11"."""
    return time.strftime("%Y-%m", time.gmtime(at_s))


def release_msat(connection: Connection, height: int, at_s: int) -> int:
    """Of this month's virtual block, by the policy of that height; 0 when it is made already, or there is none to make:
    release is off, the reserve is empty, no work is counted yet."""
    chosen = policies.current(connection, height)
    if chosen is None or not chosen[1].release_months or _event(connection, "virtual", month_of(at_s)) is not None:
        return 0
    try:
        newest_closed(connection)
    except NoWorkError:
        return 0
    return max(-books.balance_msat(connection, "reserve") // chosen[1].release_months, 0)


def release(connection: Connection, height: int, at_s: int) -> int:
    """Make this month's virtual block: 1/release_months of the reserve, in msat; 0 when there is none to make. Never
    more than the reserve holds; what kappa keeps back stays in it."""
    amount = release_msat(connection, height, at_s)
    if not amount:
        return 0
    at = newest_closed(connection)
    event = IncomeEvent("virtual", month_of(at_s), amount, at.epoch, at.seq, height)
    book(connection, event, "reserve", at_s, slice_id=at.slice_id)
    return amount


def book(connection: Connection, event: IncomeEvent, came_from: str, at_s: int, *, slice_id: int) -> bool:
    """Split an income among members and post it; False when it is booked already. `came_from` is debited: the asset
    account it arrived in, or "reserve" for a virtual block. Of a virtual block and of a donation to the members nothing
    is taken; an upstream's income is split as a block is. ValueError for another account or amount; ConflictError for
    the same event with another amount."""
    _check(event, came_from)
    known = _event(connection, event.kind, event.source_id)
    if known is not None:
        if known.amount_msat != event.amount_msat:
            raise books.ConflictError(f"{event.kind} {event.source_id} is booked with {known.amount_msat} msat")
        return False
    chosen = policies.current(connection, event.height)
    if chosen is None:
        raise ValueError(f"there is no policy for height {event.height}")
    version, rules = chosen
    _note(connection, event, version, slice_id, at_s)
    parts = _divided(connection, event, slice_id, rules)
    income.freeze(connection, event.kind, event.source_id, parts)
    moves = {came_from: event.amount_msat}
    for account, msat in parts.credits().items():
        moves[account] = moves.get(account, 0) - msat
    _post(connection, event, moves, at_s)
    return True


def give(connection: Connection, event: IncomeEvent, came_from: str, goes_to: str, at_s: int) -> bool:
    """A donation to one account: the projects, one project, the reserve, the raffle or the pool itself. False when it
    is booked already."""
    _check(event, came_from)
    if goes_to not in ("projects", "reserve", "raffle", "donation_income") and not goes_to.startswith("project:"):
        raise ValueError(f"a donation cannot go to {goes_to}")
    moves = {came_from: event.amount_msat, goes_to: -event.amount_msat}
    known = _event(connection, event.kind, event.source_id)
    if known is None:
        _note(connection, event, 0, 0, at_s)
        parts = income.Parts(((goes_to, "donation", event.amount_msat),))
        income.freeze(connection, event.kind, event.source_id, parts)
    return _post(connection, event, moves, at_s)


def _check(event: IncomeEvent, came_from: str) -> None:
    allowed = {"virtual": ("reserve",), "upstream": RECEIVING, "donation": RECEIVING}.get(event.kind)
    if allowed is None:
        raise ValueError(f"{event.kind!r} is no kind of income that is booked here")
    if came_from not in allowed:
        raise ValueError(f"{event.kind} income cannot come from {came_from}: {', '.join(allowed)}")
    if event.amount_msat <= 0:
        raise ValueError(f"an income must be above zero, got {event.amount_msat} msat")


def _divided(connection: Connection, event: IncomeEvent, slice_id: int, rules: Policy) -> income.Parts:
    if event.kind != "upstream":  # nothing is taken of what was taken before, or given for the members
        rules = replace(rules, fee_bp=0, reserve_bp=0, projects_bp=0, raffle_bp=0, finder_bp=0, weight_subsidy=False)
    window = window_at(connection, slice_id, rules)
    members = set(window.by_account())
    given = donations.of_accounts(connection, members, rules, donations.newest(connection))
    rules = replace(rules, finder_bp=0, weight_subsidy=False)
    divided = split(event.amount_msat, window, rules, donation_bp=given)
    return income.parts_of(divided, account_names(connection, members))


def _note(connection: Connection, event: IncomeEvent, version: int, slice_id: int, at_s: int) -> None:
    connection.execute(
        income_events.insert().values(
            kind=event.kind,
            source_id=event.source_id,
            amount_msat=event.amount_msat,
            height=event.height,
            epoch=event.epoch,
            seq=event.seq,
            slice_id=slice_id,
            policy_version=version,
            at_s=at_s,
        )
    )


def _post(connection: Connection, event: IncomeEvent, moves: Mapping[str, int], at_s: int) -> bool:
    if not any(moves.values()):
        return False  # all of a virtual block stayed in the reserve
    return post(connection, Entry(event.kind, event.kind, event.source_id, "booked", tuple(moves.items())), at_s)


def _event(connection: Connection, kind: str, source_id: str) -> Row[tuple[object, ...]] | None:
    query = select(income_events).where(income_events.c.kind == kind, income_events.c.source_id == source_id)
    return connection.execute(query).one_or_none()
