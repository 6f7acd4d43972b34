"""The inbox: typed requests that web, treasury and the command line put, applied once by the room that owns the matter.

A request is a frozen dataclass registered under a kind. Its room applies it with `apply_next`, where its effect on the
store and the outcome are one transaction (exactly once); or, when the effect is outside the store, with `claim` and
`finish`: a lease keeps others off, who outlived it can no longer finish, and the effect must bear being repeated.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Index,
    Integer,
    Row,
    Table,
    Text,
    UniqueConstraint,
    and_,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from pool.store.schema import RowId, metadata, storable

MAX_ATTEMPTS = 5
MAX_BODY_BYTES = 65_536

inbox = Table(
    "inbox",
    metadata,
    Column("id", RowId, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False),  # JSON of the dataclass's fields, keys sorted
    Column("sender", Text, nullable=False),  # "web", "treasury", "cli"
    Column("idempotency_key", Text, nullable=False),
    Column("put_at_s", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease", Text),  # who holds the claim: a random text, new at each claim
    Column("lease_until_s", BigInteger),
    Column("outcome", Text, nullable=False),  # what was done, or why not
    Column("finished_at_s", BigInteger),
    UniqueConstraint("sender", "idempotency_key"),
    CheckConstraint("state IN ('new', 'claimed', 'done', 'refused', 'failed')", name="state"),
    Index(None, "state", "kind", "id"),
)


class RefusedError(Exception):
    """The room will not do it; the text says why. Raised by a handler, recorded as the outcome, nothing else kept."""


class KeyUsedError(Exception):
    """This idempotency key was used by this sender for another request."""


class LeaseLostError(Exception):
    """The claim outlived its lease and somebody else holds the request now."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a request stands."""

    id: int
    state: str  # "new" | "claimed" | "done" | "refused" | "failed"
    text: str
    finished_at_s: int | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A request in the hands of its room."""

    id: int
    request: object
    sender: str
    put_at_s: int
    attempts: int
    lease: str


T = typing.TypeVar("T")
_CLASSES: dict[str, type] = {}
_KINDS: dict[type, str] = {}


def request(kind: str) -> Callable[[type[T]], type[T]]:
    """Class decorator: `@request("payouts.pause") @dataclass(frozen=True) class PausePayouts: reason: str`.

    Fields may be str, int, bool, float, any of these or None, and tuple[str, ...]."""

    def register(made: type[T]) -> type[T]:
        if kind in _CLASSES:
            raise ValueError(f"the kind {kind} is registered twice")
        _field_types(made)
        _CLASSES[kind] = made
        _KINDS[made] = kind
        return made

    return register


_PLAIN = (str, int, bool, float, type(None))


def _field_types(made: type) -> dict[str, tuple[object, ...]]:
    """Field -> the types it may have. TypeError when JSON could not give the same value back."""
    if not dataclasses.is_dataclass(made):
        raise TypeError(f"{made.__name__} is not a dataclass")
    hints = typing.get_type_hints(made)
    found: dict[str, tuple[object, ...]] = {}
    for field in dataclasses.fields(made):
        hint = hints[field.name]
        allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        if not all(one in _PLAIN or one == tuple[str, ...] for one in allowed):
            raise TypeError(f"{made.__name__}.{field.name}: {hint} cannot be put in the inbox")
        found[field.name] = allowed
    return found


def _fits(value: object, allowed: tuple[object, ...]) -> bool:
    """Exactly one of the types: a bool is no int here, an int no float."""
    if isinstance(value, tuple):
        return tuple[str, ...] in allowed and all(isinstance(part, str) for part in value)
    return type(value) in allowed


def _body(made: object) -> str:
    kinds = _field_types(type(made))
    values = {name: getattr(made, name) for name in kinds}
    wrong = [name for name, value in values.items() if not _fits(value, kinds[name])]
    if wrong:
        raise TypeError(f"{type(made).__name__}: wrong type of {', '.join(wrong)}")
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    if len(text) > MAX_BODY_BYTES:
        raise ValueError(f"a request holds at most {MAX_BODY_BYTES} bytes")
    return text


def _request_of(kind: str, body: str) -> object:
    """The dataclass again. RefusedError when this version of the pool does not know the kind or the fields."""
    made = _CLASSES.get(kind)
    if made is None:
        raise RefusedError(f"no room knows the kind {kind}")
    kinds = _field_types(made)
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in json.loads(body).items()}
    if values.keys() != kinds.keys() or not all(_fits(value, kinds[name]) for name, value in values.items()):
        raise RefusedError(f"the fields do not fit the kind {kind}")
    return made(**values)


# --- the sender's side
def put(connection: Connection, made: object, *, sender: str, idempotency_key: str, now_s: int) -> int:
    """Put a request; its id. The same key again with the same request gives the same id: asking twice asks once.

    KeyUsedError when the key stands for another request; TypeError, ValueError when the request cannot be kept."""
    kind = _KINDS.get(type(made))
    if kind is None:
        raise TypeError(f"{type(made).__name__} is not registered with @request")
    row = {
        "kind": kind,
        "body": _body(made),
        "sender": storable(sender),
        "idempotency_key": storable(idempotency_key),
        "put_at_s": now_s,
        "state": "new",
        "attempts": 0,
        "outcome": "",
    }
    try:
        with connection.begin_nested():
            number: int = connection.execute(inbox.insert().returning(inbox.c.id), row).scalar_one()
            return number
    except IntegrityError:
        same = and_(inbox.c.sender == row["sender"], inbox.c.idempotency_key == row["idempotency_key"])
        old = connection.execute(select(inbox.c.id, inbox.c.kind, inbox.c.body).where(same)).one()
        if (old.kind, old.body) != (row["kind"], row["body"]):
            raise KeyUsedError(f"the key {idempotency_key} was used for another request") from None
        return int(old.id)


def outcome(connection: Connection, number: int) -> Outcome | None:
    """Where a request stands; None when there is none of that id."""
    query = select(inbox.c.id, inbox.c.state, inbox.c.outcome, inbox.c.finished_at_s).where(inbox.c.id == number)
    row = connection.execute(query).one_or_none()
    return None if row is None else Outcome(*row)


# --- the owning room's side
def apply_next(
    connection: Connection, kinds: Sequence[str], handler: Callable[[Connection, object], str], *, now_s: int
) -> Outcome | None:
    """Take the oldest waiting request of these kinds and apply it in this transaction; None when there is none.

    `handler(connection, request)` gives the outcome in words. RefusedError undoes what it wrote and records why. Any
    other exception undoes what it wrote and is recorded; later calls try the request again, MAX_ATTEMPTS times."""
    row = _oldest(connection, kinds, now_s)
    if row is None:
        return None
    attempts = row.attempts + 1
    try:
        with connection.begin_nested():
            text, state = handler(connection, _request_of(row.kind, row.body)), "done"
    except RefusedError as error:
        text, state = str(error), "refused"
    except Exception as error:
        if not connection.in_transaction() or connection.invalidated:
            raise  # the database went away: nothing can be recorded, nothing was applied
        text, state = f"{type(error).__name__}: {error}", "failed" if attempts >= MAX_ATTEMPTS else "new"
    finished = now_s if state != "new" else None
    values = {"state": state, "outcome": storable(text), "attempts": attempts, "finished_at_s": finished}
    connection.execute(update(inbox).where(inbox.c.id == row.id).values(**values, lease=None, lease_until_s=None))
    return Outcome(row.id, state, values["outcome"], finished)


def claim(connection: Connection, kinds: Sequence[str], *, now_s: int, lease_s: int) -> Claim | None:
    """Hold the oldest request of these kinds that waits or whose lease ran out, for `lease_s`; None: there is none.

    A request that cannot be read, or was claimed MAX_ATTEMPTS times and never finished, is closed on the way."""
    while (row := _oldest(connection, kinds, now_s)) is not None:
        chosen = update(inbox).where(inbox.c.id == row.id)
        try:
            if row.attempts >= MAX_ATTEMPTS:
                closed = {"state": "failed", "outcome": f"claimed {row.attempts} times, never finished"}
            else:
                made = _request_of(row.kind, row.body)
                lease = secrets.token_hex(8)
                held = {"state": "claimed", "lease": lease, "lease_until_s": now_s + lease_s}
                connection.execute(chosen.values(**held, attempts=row.attempts + 1))
                return Claim(row.id, made, row.sender, row.put_at_s, row.attempts + 1, lease)
        except RefusedError as error:
            closed = {"state": "refused", "outcome": storable(str(error))}
        connection.execute(chosen.values(**closed, finished_at_s=now_s, lease=None, lease_until_s=None))
    return None


def finish(connection: Connection, held: Claim, text: str, *, refused: bool = False, now_s: int) -> None:
    """Record what became of a claimed request. LeaseLostError when the claim is no longer ours."""
    ours = and_(inbox.c.id == held.id, inbox.c.lease == held.lease, inbox.c.state == "claimed")
    state = "refused" if refused else "done"
    values = {"state": state, "outcome": storable(text), "finished_at_s": now_s, "lease": None, "lease_until_s": None}
    if connection.execute(update(inbox).where(ours).values(**values)).rowcount != 1:
        raise LeaseLostError(f"request {held.id} is in other hands")


def _oldest(connection: Connection, kinds: Sequence[str], now_s: int) -> Row[typing.Any] | None:  # columns of inbox
    """The oldest request to work on, locked until the transaction ends (SQLite: the whole file is)."""
    waiting = or_(inbox.c.state == "new", and_(inbox.c.state == "claimed", inbox.c.lease_until_s <= now_s))
    query = select(inbox).where(inbox.c.kind.in_(kinds), waiting).order_by(inbox.c.id).limit(1)
    return connection.execute(query.with_for_update(skip_locked=True)).one_or_none()
