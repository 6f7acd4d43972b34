"""The journal as JSON lines that anybody can hash again, and the check of such a file, which needs no database."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection

from pool.ledger import books
from pool.ledger.books import ChainCheck, Recorded

#: An entry of a block with 100,000 members is some 8 MB.
MAX_LINE_BYTES = 32_000_000
_TEXTS = ("kind", "source_type", "source_id", "leg", "memo", "prev_hash_hex", "hash_hex")


class ExportError(ValueError):
    """The file is not an export of whole books; the text says at which line it breaks."""


@dataclass(slots=True)
class Checked:
    """What an export proves: so many entries, this head of their chain, and the balances they lead to."""

    entries: int = 0
    head: bytes = books.GENESIS
    balances_msat: dict[str, int] = field(default_factory=dict)


def export_lines(connection: Connection, after: int = 0) -> Iterator[str]:
    """One JSON object an entry, oldest first: the fields that are hashed (id, at_s, kind, source_type, source_id, leg,
    memo, postings), and both hashes. `hash` = tagged_hash("pool/journal/v1", previous hash || canonical JSON)."""
    while rows := books.walk(connection, after):
        for one in rows:
            body = json.loads(one.canonical())
            both = {"prev_hash_hex": one.prev_hash_hex, "hash_hex": one.hash_hex}
            yield json.dumps({**body, **both}, ensure_ascii=False, separators=(",", ":"))
        after = rows[-1].number


def verify_lines(lines: Iterable[str]) -> Checked:
    """Follow an export from the first entry. ExportError places what is wrong."""
    chain, out = ChainCheck(), Checked()
    for place, line in enumerate(lines, 1):
        if len(line) > MAX_LINE_BYTES:
            raise ExportError(f"line {place}: longer than {MAX_LINE_BYTES} characters")
        try:
            one = _read(line)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ExportError(f"line {place}: no entry of the books: {str(error)[:200]}") from None
        wrong = chain.follow(one)
        if wrong is None and sum(amount for _, amount in one.postings) != 0:
            wrong = f"entry {one.number} does not sum to zero"
        if wrong is not None:
            raise ExportError(f"line {place}: {wrong}")
        for name, amount in one.postings:
            out.balances_msat[name] = out.balances_msat.get(name, 0) + amount
        out.entries, out.head = chain.number, chain.head
    out.balances_msat = {name: msat for name, msat in sorted(out.balances_msat.items()) if msat}
    return out


def _read(line: str) -> Recorded:
    data = json.loads(line)
    numbers, texts = [data["id"], data["at_s"]], [data[name] for name in _TEXTS]
    if not all(type(one) is int for one in numbers) or not all(type(one) is str for one in texts):
        raise TypeError("a field of the wrong type")
    moves = tuple((name, amount) for name, amount in data["postings"])
    if not all(type(name) is str and type(amount) is int for name, amount in moves):
        raise TypeError("a posting of the wrong type")
    kind, source_type, source_id, leg, memo, before, after = texts
    return Recorded(data["id"], data["at_s"], kind, source_type, source_id, leg, memo, moves, before, after)
