"""Whether a member's address signed a message: BIP-322 simple (P2WPKH, P2TR key path), signmessage by key recovery.

Curve arithmetic is libsecp256k1's, through coincurve. Sources: BIP322, BIP137, Bitcoin Core's `signmessage`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from coincurve import PublicKey, PublicKeyXOnly
from coincurve.utils import GROUP_ORDER_INT
from Crypto.Hash import RIPEMD160

from pool.address import Address, AddressError, parse_address
from pool.identity.bip322 import (
    SIGHASH_ALL,
    SIGHASH_DEFAULT,
    p2tr_digest,
    p2wpkh_digest,
    read_witness,
    sha256d,
)
from pool.identity.refusals import ProofRefused

LONGEST_SIGNATURE = 400  # characters of base64; the longest good one has some 150
MAGIC = b"\x18Bitcoin Signed Message:\n"
RECOVERABLE_SIZE = 65


def verify_signature(account: str, network: str, message: str, signature: str) -> str:
    """The method ("bip322" or "signmessage") by which `account`, an address of `network`, signed `message`.

    ProofRefused says why not: other address or message, other network, high S, SIGHASH, items too many."""
    try:
        address = parse_address(account, network)
    except AddressError as error:
        raise ProofRefused("account", str(error)) from None
    raw = _decode(signature)
    if len(raw) == RECOVERABLE_SIZE and 27 <= raw[0] <= 42:
        _check_recoverable(address, message, raw)
        return "signmessage"
    _check_bip322(address, message, raw)
    return "bip322"


def _decode(signature: str) -> bytes:
    text = signature.strip()
    if len(text) > LONGEST_SIGNATURE:
        raise ProofRefused("unreadable", f"{len(text)} characters")
    for code in ("ful", "pof"):
        if text.startswith(code):
            raise ProofRefused("unreadable", "only the simple form of BIP-322 is taken")
    try:
        return base64.b64decode(text.removeprefix("smp"), validate=True)
    except (binascii.Error, ValueError):
        raise ProofRefused("unreadable", "not base64") from None


# --- BIP-322, simple
def _check_bip322(address: Address, message: str, raw: bytes) -> None:
    if address.kind in ("p2pkh", "p2sh"):
        raise ProofRefused("unreadable", f"{address.kind} addresses sign by signmessage: 65 bytes of base64")
    if address.kind not in ("p2wpkh", "p2tr"):
        raise ProofRefused("cannot_sign", address.kind)
    items = read_witness(raw)
    if items is None:
        raise ProofRefused("unreadable", "not a witness stack")
    if address.kind == "p2tr":
        _check_p2tr(address.script, message, items)
    else:
        _check_p2wpkh(address.script, message, items)


def _check_p2wpkh(script: bytes, message: str, items: list[bytes]) -> None:
    if len(items) != 2 or not items[0]:
        raise ProofRefused("witness", f"{len(items)} items, not a signature and a key")
    (der, sighash), key = (items[0][:-1], items[0][-1]), items[1]
    if sighash != SIGHASH_ALL:
        raise ProofRefused("sighash", f"0x{sighash:02x}")
    if len(key) != 33 or not hmac.compare_digest(_hash160(key), script[2:]):
        raise ProofRefused("wrong_signature", "the key is not this address's")
    check_der(key, p2wpkh_digest(script, message), der)


def check_der(key: bytes, digest: bytes, der: bytes) -> None:
    """A DER signature with low S of `digest` (32 bytes) by the compressed public key, or ProofRefused."""
    s = _strict_der_s(der)
    if s > GROUP_ORDER_INT // 2:
        raise ProofRefused("high_s")
    try:
        good = PublicKey(key).verify(der, digest, hasher=None)
    except ValueError:
        raise ProofRefused("unreadable", "no such point or signature") from None
    if not good:
        raise ProofRefused("wrong_signature")


def _strict_der_s(der: bytes) -> int:
    """S of a strictly encoded DER signature (BIP66)."""
    broken = ProofRefused("unreadable", "not strict DER")
    if not 8 <= len(der) <= 72 or der[0] != 0x30 or der[1] != len(der) - 2 or der[2] != 2:
        raise broken
    r_end = 4 + der[3]
    if r_end + 2 > len(der) or der[r_end] != 2 or r_end + 2 + der[r_end + 1] != len(der):
        raise broken
    for number in (der[4:r_end], der[r_end + 2 :]):
        if not number or number[0] & 0x80 or (len(number) > 1 and number[0] == 0 and not number[1] & 0x80):
            raise broken
    return int.from_bytes(der[r_end + 2 :], "big")


def _check_p2tr(script: bytes, message: str, items: list[bytes]) -> None:
    if len(items) != 1 or len(items[0]) not in (64, 65):
        raise ProofRefused("witness", "a taproot key path has one item of 64 or 65 bytes")
    sighash = items[0][64] if len(items[0]) == 65 else SIGHASH_DEFAULT
    if len(items[0]) == 65 and sighash != SIGHASH_ALL:
        raise ProofRefused("sighash", f"0x{sighash:02x}")
    digest = p2tr_digest(script, message, sighash)
    try:
        good = PublicKeyXOnly(script[2:]).verify(items[0][:64], digest)
    except ValueError:
        raise ProofRefused("wrong_signature", "the address is no point of the curve") from None
    if not good:
        raise ProofRefused("wrong_signature")


# --- signmessage
def signed_digest(message: str) -> bytes:
    """What Bitcoin Core's `signmessage` signs: double SHA-256 of the magic and the message, each with its length."""
    body = message.encode()
    size = bytes([len(body)]) if len(body) < 253 else b"\xfd" + len(body).to_bytes(2, "little")
    return sha256d(MAGIC + size + body)


def _check_recoverable(address: Address, message: str, raw: bytes) -> None:
    """Headers 27-30 P2PKH of an uncompressed key, 31-34 compressed, 35-38 P2SH-P2WPKH, 39-42 P2WPKH (BIP137).

    Electrum and others write 31-34 for every address kind: the key decides, not the header; only a header that names
    another kind than the address's is refused."""
    header = raw[0]
    if int.from_bytes(raw[33:], "big") > GROUP_ORDER_INT // 2:
        raise ProofRefused("high_s")
    named = {0: "p2pkh", 1: None, 2: "p2sh", 3: "p2wpkh"}[(header - 27) // 4]
    if address.kind not in ("p2pkh", "p2sh", "p2wpkh"):
        raise ProofRefused("cannot_sign", f"{address.kind} has no signmessage, only BIP-322")
    if named is not None and named != address.kind:
        raise ProofRefused("wrong_signature", f"the signature says {named}, the address is {address.kind}")
    try:
        key = PublicKey.from_signature_and_message(
            raw[1:] + bytes([(header - 27) & 3]), signed_digest(message), hasher=None
        )
    except ValueError:
        raise ProofRefused("wrong_signature", "no key fits it") from None
    if not hmac.compare_digest(_payload(address.kind, key, compressed=header >= 31), _payload_of(address)):
        raise ProofRefused("wrong_signature")


def _payload(kind: str, key: PublicKey, *, compressed: bool) -> bytes:
    hashed = _hash160(key.format(compressed=compressed))
    return _hash160(b"\x00\x14" + hashed) if kind == "p2sh" else hashed


def _payload_of(address: Address) -> bytes:
    """The 20 bytes of hash in the script."""
    return address.script[{"p2pkh": 3, "p2sh": 2, "p2wpkh": 2}[address.kind] :][:20]


def _hash160(data: bytes) -> bytes:
    return RIPEMD160.new(hashlib.sha256(data).digest()).digest()
