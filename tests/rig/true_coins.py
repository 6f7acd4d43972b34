"""Transactions that need no signature: coins locked by OP_TRUE behind P2WSH or P2SH, valid on every node."""

from __future__ import annotations

import hashlib

from rig.reference import sha256d

TRUE = b"\x51"


def _hash160(data: bytes) -> bytes:
    from pool.address import load_bitcoinlib

    load_bitcoinlib()
    from bitcoinlib.encoding import hash160

    digest: bytes = hash160(data)
    return digest


#: Output scripts, and what unlocks them: scriptSig and witness items.
WITNESS_TRUE = b"\x00\x20" + hashlib.sha256(TRUE).digest()
LEGACY_TRUE = b"\xa9\x14" + _hash160(TRUE) + b"\x87"


def _size(number: int) -> bytes:
    return bytes([number]) if number < 0xFD else b"\xfd" + number.to_bytes(2, "little")


def spend(txid: bytes, index: int, outputs: list[tuple[int, bytes]], *, witness: bool) -> dict[str, object]:
    """A transaction that spends one such coin, as a row of getblocktemplate; it pays no fee."""
    unlock = b"" if witness else b"\x01" + TRUE
    inputs = b"\x01" + txid + index.to_bytes(4, "little") + _size(len(unlock)) + unlock + b"\xff" * 4
    paid = _size(len(outputs)) + b"".join(
        sat.to_bytes(8, "little") + _size(len(script)) + script for sat, script in outputs
    )
    version, locktime = (2).to_bytes(4, "little"), bytes(4)
    stripped = version + inputs + paid + locktime
    whole = version + b"\x00\x01" + inputs + paid + b"\x01\x01" + TRUE + locktime if witness else stripped
    return {
        "data": whole.hex(),
        "txid": sha256d(stripped)[::-1].hex(),
        "hash": sha256d(whole)[::-1].hex(),
        "fee": 0,
        "weight": 3 * len(stripped) + len(whole),
        "sigops": 0,
        "depends": [],
    }


def fan_out(coin_txid: bytes, coin_sat: int, count: int, *, witness: bool) -> list[dict[str, object]]:
    """`count` transactions: one that splits a matured coin, the others spend its outputs."""
    if count == 0:
        return []
    script = WITNESS_TRUE if witness else LEGACY_TRUE
    each = coin_sat // max(count - 1, 1)
    first = spend(coin_txid, 0, [(each, script)] * max(count - 1, 1), witness=witness)
    txid = bytes.fromhex(str(first["txid"]))[::-1]
    return [first, *(spend(txid, index, [(each, script)], witness=witness) for index in range(count - 1))]
