"""A member's wallet: keys whose addresses of every kind sign messages, written apart from the pool's verifier."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from coincurve import PrivateKey
from coincurve.utils import GROUP_ORDER_INT
from Crypto.Hash import RIPEMD160

from pool.address import address_of_script
from pool.identity.bip322 import p2tr_digest, p2wpkh_digest, tagged_hash
from pool.identity.signatures import signed_digest


def hash160(data: bytes) -> bytes:
    return RIPEMD160.new(hashlib.sha256(data).digest()).digest()


def der_of(r: int, s: int) -> bytes:
    """Strict DER, whatever the height of S."""
    parts = b""
    for number in (r, s):
        raw = number.to_bytes((number.bit_length() + 8) // 8, "big")
        parts += b"\x02" + bytes([len(raw)]) + raw
    return b"\x30" + bytes([len(parts)]) + parts


def numbers_of(der: bytes) -> tuple[int, int]:
    cut = 4 + der[3]
    return int.from_bytes(der[4:cut], "big"), int.from_bytes(der[cut + 2 :], "big")


def high(der: bytes) -> bytes:
    """The same signature with the other S."""
    r, s = numbers_of(der)
    return der_of(r, GROUP_ORDER_INT - s)


def stack(*items: bytes) -> str:
    raw = bytes([len(items)]) + b"".join(bytes([len(item)]) + item for item in items)
    return base64.b64encode(raw).decode()


@dataclass
class Wallet:
    key: PrivateKey
    network: str = "mainnet"

    @classmethod
    def of(cls, number: int, network: str = "mainnet") -> Wallet:
        return cls(PrivateKey.from_int(number), network)

    @property
    def public(self) -> bytes:
        return self.key.public_key.format()

    def _tweaked(self) -> PrivateKey:
        """The key behind a taproot output without scripts (BIP86)."""
        odd = self.public[0] == 3
        inner = GROUP_ORDER_INT - self.key.to_int() if odd else self.key.to_int()
        tweak = int.from_bytes(tagged_hash("TapTweak", self.public[1:]), "big")
        return PrivateKey.from_int((inner + tweak) % GROUP_ORDER_INT)

    def script(self, kind: str, *, compressed: bool = True) -> bytes:
        hashed = hash160(self.key.public_key.format(compressed=compressed))
        return {
            "p2pkh": b"\x76\xa9\x14" + hashed + b"\x88\xac",
            "p2sh": b"\xa9\x14" + hash160(b"\x00\x14" + hashed) + b"\x87",
            "p2wpkh": b"\x00\x14" + hashed,
            "p2tr": b"\x51\x20" + self._tweaked().public_key.format()[1:],
        }[kind]

    def address(self, kind: str, *, compressed: bool = True) -> str:
        text = address_of_script(self.script(kind, compressed=compressed), self.network)
        assert text is not None
        return text

    # --- BIP-322
    def der(self, message: str) -> bytes:
        return self.key.sign(p2wpkh_digest(self.script("p2wpkh"), message), hasher=None)

    def schnorr(self, message: str, sighash: int = 0) -> bytes:
        return self._tweaked().sign_schnorr(p2tr_digest(self.script("p2tr"), message, sighash))

    def sign(self, kind: str, message: str) -> str:
        """As a wallet signs for an address of that kind."""
        if kind == "p2wpkh":
            return stack(self.der(message) + b"\x01", self.public)
        if kind == "p2tr":
            return stack(self.schnorr(message))
        return self.signmessage(message, 31)

    # --- signmessage
    def signmessage(self, message: str, header: int) -> str:
        """`header`: 27 uncompressed, 31 compressed, 35 P2SH-P2WPKH, 39 P2WPKH; the recovery id is added."""
        made = self.key.sign_recoverable(signed_digest(message), hasher=None)
        return base64.b64encode(bytes([header + made[64]]) + made[:64]).decode()

    # --- LNURL-auth
    def sign_k1(self, k1_hex: str) -> str:
        return self.key.sign(bytes.fromhex(k1_hex), hasher=None).hex()
