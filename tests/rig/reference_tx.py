"""Just enough of Bitcoin's transaction format to cut a block into transactions with their ids and witness ids."""

from __future__ import annotations

from dataclasses import dataclass

from rig.reference import sha256d


@dataclass(frozen=True)
class RefTx:
    raw: bytes  # as serialised in the block
    txid: bytes  # internal order, of the form without witness
    wtxid: bytes  # internal order, of `raw`


def transactions_of(block: bytes) -> list[RefTx]:
    """All transactions of a raw block, coinbase first; ValueError if bytes are left over."""
    count, at = _size(block, 80)
    transactions = []
    for _ in range(count):
        transaction, at = _transaction(block, at)
        transactions.append(transaction)
    if at != len(block):
        raise ValueError(f"{len(block) - at} bytes after the last transaction")
    return transactions


def _size(data: bytes, at: int) -> tuple[int, int]:
    """A compact size and where it ends."""
    width = {0xFD: 2, 0xFE: 4, 0xFF: 8}.get(data[at], 0)
    if width == 0:
        return data[at], at + 1
    return int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width


def _transaction(data: bytes, start: int) -> tuple[RefTx, int]:
    witness = data[start + 4] == 0
    body_start = start + (6 if witness else 4)
    inputs, at = _size(data, body_start)
    for _ in range(inputs):
        length, at = _size(data, at + 36)
        at += length + 4
    outputs, at = _size(data, at)
    for _ in range(outputs):
        length, at = _size(data, at + 8)
        at += length
    body_end = at
    for _ in range(inputs if witness else 0):
        items, at = _size(data, at)
        for _ in range(items):
            length, at = _size(data, at)
            at += length
    end = at + 4
    raw = data[start:end]
    stripped = raw[:4] + data[body_start:body_end] + raw[-4:]
    return RefTx(raw, sha256d(stripped), sha256d(raw)), end
