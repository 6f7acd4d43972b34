"""The digest that a BIP-322 simple signature signs, and the reading of its witness stack.

Nothing here touches a curve: `signatures.py` hands these digests to libsecp256k1. Written out because the one Python
package for it (bip322 0.3.0) refuses DER signatures shorter than 70 bytes, which 18 of 5,000 honest ones were,
and takes witness stacks with items too many on taproot; it is the second opinion of the tests.
Sources: BIP322, BIP143, BIP341.
"""

from __future__ import annotations

import hashlib
import struct

SIGHASH_DEFAULT = 0x00
SIGHASH_ALL = 0x01
#: A stack of a key spend has one or two items; no item of ours is longer than a signature of 73 bytes.
LONGEST_WITNESS = 256

_OP_RETURN_OUTPUT = struct.pack("<q", 0) + b"\x01\x6a"
_SEQUENCE = struct.pack("<I", 0)


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def tagged_hash(tag: str, data: bytes) -> bytes:
    """BIP340's hash in the domain `tag`."""
    prefix = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(prefix + prefix + data).digest()


def message_hash(message: str) -> bytes:
    return tagged_hash("BIP0322-signed-message", message.encode())


def to_spend_txid(script: bytes, message: str) -> bytes:
    """Id (as hashed) of the virtual transaction that binds `message` to the output script of the signing address."""
    script_sig = b"\x00\x20" + message_hash(message)
    coin = bytes(32) + b"\xff\xff\xff\xff" + bytes([len(script_sig)]) + script_sig + _SEQUENCE
    paid = struct.pack("<q", 0) + bytes([len(script)]) + script
    return sha256d(struct.pack("<i", 0) + b"\x01" + coin + b"\x01" + paid + struct.pack("<I", 0))


def to_sign_txid(script: bytes, message: str) -> bytes:
    """Id (as hashed) of the virtual transaction that is signed, without its witness."""
    coin = to_spend_txid(script, message) + struct.pack("<I", 0) + b"\x00" + _SEQUENCE
    return sha256d(struct.pack("<i", 0) + b"\x01" + coin + b"\x01" + _OP_RETURN_OUTPUT + struct.pack("<I", 0))


def p2wpkh_digest(script: bytes, message: str) -> bytes:
    """What ECDSA signs for a P2WPKH output script with SIGHASH_ALL (BIP143)."""
    outpoint = to_spend_txid(script, message) + struct.pack("<I", 0)
    script_code = b"\x19\x76\xa9\x14" + script[2:22] + b"\x88\xac"
    return sha256d(
        struct.pack("<i", 0)
        + sha256d(outpoint)
        + sha256d(_SEQUENCE)
        + outpoint
        + script_code
        + struct.pack("<q", 0)
        + _SEQUENCE
        + sha256d(_OP_RETURN_OUTPUT)
        + struct.pack("<II", 0, SIGHASH_ALL)
    )


def p2tr_digest(script: bytes, message: str, sighash: int) -> bytes:
    """What BIP340 signs for the key path of a P2TR output script; `sighash` is DEFAULT or ALL (BIP341)."""
    outpoint = to_spend_txid(script, message) + struct.pack("<I", 0)

    def once(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()

    return tagged_hash(
        "TapSighash",
        bytes([0, sighash])  # epoch, kind
        + struct.pack("<iI", 0, 0)
        + once(outpoint)
        + once(struct.pack("<q", 0))
        + once(bytes([len(script)]) + script)
        + once(_SEQUENCE)
        + once(_OP_RETURN_OUTPUT)
        + b"\x00"  # key path, no annex
        + struct.pack("<I", 0),
    )


def read_witness(raw: bytes) -> list[bytes] | None:
    """The items of a serialized witness stack; None when it is cut short, goes on after its end, or is too long.

    Lengths above 252 need a longer form, which no stack of a key spend has."""
    if not raw or len(raw) > LONGEST_WITNESS:
        return None
    items: list[bytes] = []
    place = 1
    for _ in range(raw[0]):
        if place >= len(raw) or raw[place] > 252:
            return None
        end = place + 1 + raw[place]
        if end > len(raw):
            return None
        items.append(raw[place + 1 : end])
        place = end
    return items if place == len(raw) else None
