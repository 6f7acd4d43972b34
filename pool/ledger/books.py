"""Double entry in integer msat: entries are added, never changed, and each one's hash covers the one before.

A posting above zero is a debit, below zero a credit; each entry sums to zero. An entry has a key (source type, source
id, leg): posting it again with the same content does nothing, with other content it is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, func, select

from pool.ledger.merkle import tagged_hash
from pool.store.books import balances, book_accounts, entries, postings
from pool.store.schema import insert_into

GENESIS = bytes(32)
MAX_MSAT = 2_100_000_000_000_000_000
ASSETS = (
    "onchain_immature",
    "onchain_hot",
    "onchain_cold",
    "onchain_pending_out",
    "ln_channels",
    "ln_pending_close",
    "treasury_assets",
)
EQUITY = (
    "pool_fee",
    "ln_routing_cost",
    "onchain_fee_cost",
    "channel_cost",
    "dust_loss",
    "donation_income",
    "suspense",
    "operator_external",
    "surplus",
    "treasury_result",
)
LIABILITIES = ("raffle", "reserve", "projects")
LIABILITY_PREFIXES = ("miner:", "unallocated:", "payout_inflight:", "project:")


class UnbalancedError(ValueError):
    """The entry does not sum to zero, or is otherwise no entry."""


class ConflictError(ValueError):
    """The key is taken by an entry with other content: two rooms, or two versions, disagree about one event."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of money. `postings` are (book account, amount in msat); zero amounts are left out."""

    kind: str
    source_type: str
    source_id: str
    leg: str
    postings: tuple[tuple[str, int], ...]
    memo: str = ""

    def __post_init__(self) -> None:
        wrong = [f"posting to {name} of {amount!r}" for name, amount in self.postings if type(amount) is not int]
        wrong += [f"{name}: {amount} msat" for name, amount in self.postings if abs(amount) > MAX_MSAT]
        total = sum(amount for _, amount in self.postings)
        if wrong or total or not any(amount for _, amount in self.postings):
            raise UnbalancedError(f"{self.kind} {self.source_id}: {'; '.join(wrong) or f'sums to {total} msat'}")
        for name, _ in self.postings:
            kind_of(name)

    def merged(self) -> tuple[tuple[str, int], ...]:
        """One posting an account, by name, without zeros."""
        sums: dict[str, int] = {}
        for name, amount in self.postings:
            sums[name] = sums.get(name, 0) + amount
        return tuple(sorted((name, amount) for name, amount in sums.items() if amount))


def kind_of(name: str) -> str:
    """Asset, liability or equity. ValueError for a name outside the chart of accounts."""
    if name in ASSETS:
        return "asset"
    if name in EQUITY:
        return "equity"
    if name in LIABILITIES or name.startswith(LIABILITY_PREFIXES):
        return "liability"
    raise ValueError(f"there is no book account {name!r}")


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry as it stands in the books, whole or not: what stands there is not trusted before it is checked."""

    number: int
    at_s: int
    kind: str
    source_type: str
    source_id: str
    leg: str
    memo: str
    postings: tuple[tuple[str, int], ...]  # in the order of the books
    prev_hash_hex: str
    hash_hex: str

    def canonical(self) -> bytes:
        """What is hashed: JSON with sorted keys and no spaces, so that anybody can write it again from an export."""
        body = {
            "at_s": self.at_s,
            "id": self.number,
            "kind": self.kind,
            "leg": self.leg,
            "memo": self.memo,
            "postings": [list(posting) for posting in self.postings],
            "source_id": self.source_id,
            "source_type": self.source_type,
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    def link(self, previous: bytes) -> bytes:
        """The head of the books after this entry."""
        return tagged_hash("pool/journal/v1", previous + self.canonical())

    def as_entry(self) -> Entry:
        """UnbalancedError, ValueError when it is none."""
        return Entry(self.kind, self.source_type, self.source_id, self.leg, self.postings, self.memo)


def link(previous: bytes, number: int, entry: Entry, at_s: int) -> bytes:
    """The head of the books after this entry."""
    parts = (entry.kind, entry.source_type, entry.source_id, entry.leg, entry.memo, entry.merged())
    return Recorded(number, at_s, *parts, "", "").link(previous)


def head(connection: Connection) -> tuple[int, bytes]:
    """Number and hash of the newest entry; (0, 32 zero bytes) of empty books."""
    row = connection.execute(select(entries.c.id, entries.c.hash_hex).order_by(entries.c.id.desc()).limit(1)).first()
    return (0, GENESIS) if row is None else (row.id, bytes.fromhex(row.hash_hex))


def post(connection: Connection, entry: Entry, at_s: int) -> bool:
    """Add an entry, in the caller's transaction. False when it was there already. ConflictError."""
    known = find(connection, entry.source_type, entry.source_id, entry.leg)
    if known is not None:
        if known.merged() != entry.merged() or known.kind != entry.kind:
            raise ConflictError(f"{entry.source_type} {entry.source_id} {entry.leg} is booked with other content")
        return False
    number, previous = head(connection)
    number += 1
    digest = link(previous, number, entry, at_s)
    connection.execute(
        entries.insert().values(
            id=number,
            kind=entry.kind,
            source_type=entry.source_type,
            source_id=entry.source_id,
            leg=entry.leg,
            at_s=at_s,
            memo=entry.memo,
            prev_hash_hex=previous.hex(),
            hash_hex=digest.hex(),
        )
    )
    merged = entry.merged()
    ids = _account_ids(connection, [name for name, _ in merged])
    rows = [
        {"entry_id": number, "n": n, "account_id": ids[name], "amount_msat": amount}
        for n, (name, amount) in enumerate(merged)
    ]
    connection.execute(postings.insert(), rows)
    _move_balances(connection, [(ids[name], amount) for name, amount in merged])
    return True


def _move_balances(connection: Connection, moves: Iterable[tuple[int, int]]) -> None:
    insert = insert_into(connection, balances)
    statement = insert.on_conflict_do_update(
        index_elements=["account_id"],
        set_={"msat": balances.c.msat + insert.excluded.msat, "version": balances.c.version + 1},
    )
    connection.execute(statement, [{"account_id": one, "msat": amount, "version": 1} for one, amount in moves])


def _account_ids(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """Ids of book accounts, made if new, in the order given: a replay makes the same ones."""
    known: dict[str, int] = {}
    for start in range(0, len(names), 500):
        part = names[start : start + 500]
        query = select(book_accounts.c.name, book_accounts.c.id).where(book_accounts.c.name.in_(part))
        known.update((row.name, row.id) for row in connection.execute(query))
    missing = [name for name in names if name not in known]
    if missing:
        newest = int(connection.execute(select(func.max(book_accounts.c.id))).scalar() or 0)
        made = [
            {"id": newest + i, "name": name, "kind": kind_of(name)} for i, name in enumerate(dict.fromkeys(missing), 1)
        ]
        connection.execute(book_accounts.insert(), made)
        known.update((str(row["name"]), int(str(row["id"]))) for row in made)
    return known


def find(connection: Connection, source_type: str, source_id: str, leg: str) -> Entry | None:
    """The entry of that key."""
    row = connection.execute(
        select(entries).where(
            entries.c.source_type == source_type, entries.c.source_id == source_id, entries.c.leg == leg
        )
    ).one_or_none()
    return None if row is None else _recorded(row, _postings(connection, row.id)).as_entry()


def is_booked(connection: Connection, source_type: str, source_id: str, leg: str) -> bool:
    """Is there an entry of that key, whatever it says?"""
    query = select(entries.c.id).where(
        entries.c.source_type == source_type, entries.c.source_id == source_id, entries.c.leg == leg
    )
    return connection.execute(query).first() is not None


def _postings(connection: Connection, number: int) -> tuple[tuple[str, int], ...]:
    query = select(book_accounts.c.name, postings.c.amount_msat).join_from(postings, book_accounts)
    rows = connection.execute(query.where(postings.c.entry_id == number).order_by(postings.c.n))
    return tuple((row.name, row.amount_msat) for row in rows)


def credits_of(connection: Connection, source_type: str, source_id: str, leg: str) -> dict[str, int]:
    """What an entry credited to liabilities and equity, net, by account; empty when there is none of that key."""
    query = select(book_accounts.c.name, postings.c.amount_msat).select_from(entries).join(postings).join(book_accounts)
    query = query.where(
        entries.c.source_type == source_type, entries.c.source_id == source_id, entries.c.leg == leg
    )
    rows = connection.execute(query).all()
    return {row.name: -row.amount_msat for row in rows if kind_of(row.name) != "asset"}


def _recorded(row: Row[tuple[object, ...]], parts: tuple[tuple[str, int], ...]) -> Recorded:
    words = (row.kind, row.source_type, row.source_id, row.leg, row.memo)
    return Recorded(row.id, row.at_s, *words, parts, row.prev_hash_hex, row.hash_hex)


def reversal(entry: Entry, leg: str, memo: str = "") -> Entry:
    """The exact opposite of an entry, under another leg."""
    opposite = tuple((name, -amount) for name, amount in entry.postings)
    return Entry(f"{entry.kind}_reversed", entry.source_type, entry.source_id, leg, opposite, memo)


def balance_msat(connection: Connection, name: str) -> int:
    """Of one book account: debits above zero. What a liability owes is the negative of this."""
    query = select(balances.c.msat).join(book_accounts).where(book_accounts.c.name == name)
    return int(connection.execute(query).scalar() or 0)


def totals_msat(connection: Connection) -> tuple[int, int]:
    """(assets, liabilities), both as positive numbers."""
    sums = dict.fromkeys(("asset", "liability", "equity"), 0)
    query = select(book_accounts.c.kind, func.sum(balances.c.msat)).join_from(balances, book_accounts)
    for kind, msat in connection.execute(query.group_by(book_accounts.c.kind)):
        sums[kind] = int(msat)
    return sums["asset"], -sums["liability"]


def owed_msat(connection: Connection, prefix: str = "miner:") -> dict[str, int]:
    """What is owed, by the name behind the prefix; accounts at zero left out."""
    query = select(book_accounts.c.name, balances.c.msat).join_from(balances, book_accounts)
    query = query.where(book_accounts.c.name.startswith(prefix, autoescape=True), balances.c.msat != 0)
    return {row.name[len(prefix) :]: -row.msat for row in connection.execute(query.order_by(book_accounts.c.name))}


def walk(connection: Connection, after: int = 0, limit: int = 1000) -> list[Recorded]:
    """Entries after number `after`, in order, as they stand: for verification and export."""
    query = select(entries).where(entries.c.id > after).order_by(entries.c.id).limit(limit)
    rows = connection.execute(query).all()
    if not rows:
        return []
    parts: dict[int, list[tuple[str, int]]] = {row.id: [] for row in rows}
    joined = select(postings.c.entry_id, book_accounts.c.name, postings.c.amount_msat).join_from(
        postings, book_accounts
    )
    joined = joined.where(postings.c.entry_id > after, postings.c.entry_id <= rows[-1].id)
    for one in connection.execute(joined.order_by(postings.c.entry_id, postings.c.n)):
        parts.setdefault(one.entry_id, []).append((one.name, one.amount_msat))
    return [_recorded(row, tuple(parts[row.id])) for row in rows]


class ChainCheck:
    """The hash chain of the entries, followed one by one from the genesis: a member with an export does the same."""

    def __init__(self) -> None:
        self.number = 0
        self.head = GENESIS

    def follow(self, one: Recorded) -> str | None:
        """Take the next entry; words that place what is wrong with it, or None."""
        self.number += 1
        if one.number != self.number:
            return f"entry {self.number} is missing: {one.number} follows {self.number - 1}"
        if one.prev_hash_hex != self.head.hex():
            return f"entry {self.number} does not follow from entry {self.number - 1}: one of the two was changed"
        if one.link(self.head).hex() != one.hash_hex:  # so it is 32 bytes of hex, too
            return f"entry {self.number} was changed: its hash does not follow from what it says"
        self.head = bytes.fromhex(one.hash_hex)
        return None
