"""Signed receipts of counted shares: what a member can hold against the pool if his work is ever gone from the tables.

The pool's signing key (pool.keys, its public half published) signs who, when, how much exact work, how far the share
log was summed, and the head of the books."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select

from pool.keys import Keys, PublicKey, verify
from pool.ledger import books
from pool.ledger.proofs import ProofError, read_fields
from pool.store.work import ledger_accounts, ledger_workers, log_cursor, slice_work, slices

FORMAT = "mmsp-receipt-1"
PURPOSE = "share-receipt"
MAX_FILE_BYTES = 4096
FIELDS = {
    "format": str,
    "account": str,
    "from_s": int,
    "to_s": int,
    "work": str,  # exact, decimal: sum of 2^256 // (target + 1)
    "shares": int,
    "epoch": int,
    "seq": int,
    "entry_id": int,
    "journal_head_hex": str,
    "made_at_s": int,
    "key_id": str,
    "public_hex": str,
    "signature_hex": str,
}


def make(connection: Connection, keys: Keys, account: str, from_s: int, to_s: int, now_s: int) -> dict[str, Any]:
    """A receipt for the slices that begin in from_s..to_s (unix time, to_s excluded). KeyError when nobody of that name
    mined here."""
    number = connection.execute(select(ledger_accounts.c.id).where(ledger_accounts.c.name == account)).scalar()
    if number is None:
        raise KeyError(f"{account} has not mined here")
    counted = select(slice_work.c.work, slice_work.c.shares).select_from(slice_work).join(ledger_workers).join(slices)
    counted = counted.where(
        ledger_workers.c.account_id == number, slices.c.start_s >= from_s, slices.c.start_s < to_s
    )
    work = shares = 0
    for row in connection.execute(counted):  # work is wider than 64 bits: SQLite cannot add it
        work, shares = work + row.work, shares + row.shares
    newest = select(log_cursor.c.epoch, log_cursor.c.seq).order_by(func.coalesce(log_cursor.c.epoch, 0).desc())
    at = connection.execute(newest.limit(1)).one()
    entry_id, head = books.head(connection)
    body: dict[str, Any] = {
        "format": FORMAT,
        "account": account,
        "from_s": from_s,
        "to_s": to_s,
        "work": str(work),
        "shares": shares,
        "epoch": at.epoch,
        "seq": at.seq,
        "entry_id": entry_id,
        "journal_head_hex": head.hex(),
        "made_at_s": now_s,
        "key_id": keys.current.id,
        "public_hex": keys.current.public_hex,
    }
    return {**body, "signature_hex": keys.sign(PURPOSE, _payload(body)).hex()}


def _payload(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def verify_receipt(text: str, published: Sequence[PublicKey] | None = None) -> dict[str, Any]:
    """The receipt's content when its signature is good; ProofError otherwise. With the pool's `published` keys, only
    one of these is accepted; without, the member compares `public_hex` with what the pool publishes."""
    data = read_fields(text, FIELDS, FORMAT, MAX_FILE_BYTES)
    body = {name: value for name, value in data.items() if name != "signature_hex"}
    if published is not None and data["public_hex"] not in {key.public_hex for key in published}:
        raise ProofError(f"signed by {data['key_id']}, which is no key of this pool")
    try:
        good = verify(data["public_hex"], PURPOSE, _payload(body), bytes.fromhex(data["signature_hex"]))
    except ValueError:
        good = False
    if not good:
        raise ProofError("the signature is not of this receipt by this key")
    return data
