"""Transactions that need no signature: they spend outputs anyone may spend (P2WSH and P2SH of OP_TRUE)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from rig.minepool import P2SH_TRUE, P2WSH_TRUE


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def compact(number: int) -> bytes:
    return bytes([number]) if number < 0xFD else b"\xfd" + number.to_bytes(2, "little")


def spend(txid: bytes, index: int, script: bytes, outputs: Sequence[tuple[int, bytes]]) -> tuple[bytes, bytes]:
    """(raw transaction, its txid in internal order) spending output `index` of `txid`, which pays `script`."""
    witness = script == P2WSH_TRUE
    unlock = b"" if witness else b"\x01\x51"  # P2SH: push the redeem script OP_TRUE
    assert witness or script == P2SH_TRUE
    vin = b"\x01" + txid + index.to_bytes(4, "little") + compact(len(unlock)) + unlock + b"\xff\xff\xff\xff"
    vout = compact(len(outputs)) + b"".join(
        value.to_bytes(8, "little") + compact(len(pay)) + pay for value, pay in outputs
    )
    version, locktime = b"\2\0\0\0", bytes(4)
    bare = version + vin + vout + locktime
    raw = version + b"\0\1" + vin + vout + b"\1\1\x51" + locktime if witness else bare
    return raw, sha256d(bare)


def coinbase_txid(block: bytes) -> bytes:
    """Internal-order txid of the first transaction of a block made by `native.work` (with or without witness)."""
    at = 80 + (1 if block[80] < 0xFD else 3)
    body = block[at:]
    marked = body[4:6] == b"\0\1"
    rest = body[6:] if marked else body[4:]
    script_length = rest[37]  # input count, 36 bytes of outpoint, then the length (at most 100)
    end = 38 + script_length + 4
    outputs, end = rest[end], end + 1
    for _ in range(outputs):
        end += 8 + 1 + rest[end + 8]
    locktime_at = end + (34 if marked else 0)  # one witness item of 32 bytes: 01 20 ...
    return sha256d(body[:4] + rest[:end] + rest[locktime_at : locktime_at + 4])
