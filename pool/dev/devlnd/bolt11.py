"""BOLT 11 invoices of simulated payees: written, signed and read again (bech32 of BIP 173, recoverable ECDSA)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import coincurve

REGTEST = "bcrt"
_CHARS = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_MSAT_OF_UNIT = {"": 10**11, "m": 10**8, "u": 10**5, "n": 10**2}  # "p" is a tenth of a millisatoshi
_SIGNATURE_WORDS = 104
DEFAULT_EXPIRY_S = 3600
DEFAULT_FINAL_CLTV = 18
#: var_onion_optin and payment_secret required, basic_mpp supported.
FEATURE_BITS = (8, 14, 17)


class NoInvoice(ValueError):
    """The text is no invoice that can be paid; the message says why."""


@dataclass(frozen=True, slots=True)
class Bolt11:
    """The fields of an invoice; times in seconds."""

    network: str  # the part of the prefix after "ln": bc, tb, tbs, bcrt
    amount_msat: int  # 0: none named
    created_at_s: int
    payment_hash: bytes
    payment_addr: bytes = b""
    description: str = ""
    description_hash: bytes = b""
    expiry_s: int = DEFAULT_EXPIRY_S
    min_final_cltv: int = DEFAULT_FINAL_CLTV
    dest: bytes = b""  # public key, from the signature
    features: tuple[int, ...] = FEATURE_BITS

    @property
    def expires_at_s(self) -> int:
        """Unix time after which LND refuses to start paying it."""
        return self.created_at_s + self.expiry_s


def encode(invoice: Bolt11, secret: bytes) -> str:
    """The invoice signed with a 32-byte secret key."""
    prefix = f"ln{invoice.network}{_amount_text(invoice.amount_msat)}"
    words = _words_of_int(invoice.created_at_s, 7)
    words += _field("p", _to_words(invoice.payment_hash))
    if invoice.payment_addr:
        words += _field("s", _to_words(invoice.payment_addr))
    if invoice.description_hash:
        words += _field("h", _to_words(invoice.description_hash))
    else:
        words += _field("d", _to_words(invoice.description.encode()))
    words += _field("x", _words_of_int(invoice.expiry_s)) + _field("c", _words_of_int(invoice.min_final_cltv))
    if invoice.features:
        words += _field("9", _words_of_int(sum(1 << bit for bit in invoice.features)))
    signature = coincurve.PrivateKey(secret).sign_recoverable(prefix.encode() + _to_bytes(words, pad=True))
    words += _to_words(signature)
    checksum = _polymod([*_expanded(prefix), *words, 0, 0, 0, 0, 0, 0]) ^ 1
    words += [(checksum >> 5 * (5 - i)) & 31 for i in range(6)]
    return f"{prefix}1" + "".join(_CHARS[word] for word in words)


def decode(text: str) -> Bolt11:
    """What an invoice says; NoInvoice if it does not add up."""
    if text != text.lower() and text != text.upper():
        raise NoInvoice("string not all lowercase or all uppercase")
    text = text.lower()
    prefix, one, data = text.rpartition("1")
    if not one or not prefix.startswith("ln") or len(text) > 7089 or not set(data) <= set(_CHARS):
        raise NoInvoice("invalid bech32 string")
    words = [_CHARS.index(char) for char in data]
    if _polymod([*_expanded(prefix), *words]) != 1:
        raise NoInvoice("checksum failed")
    words = words[:-6]
    if len(words) < 7 + _SIGNATURE_WORDS:
        raise NoInvoice("invoice too short")
    network, amount_msat = _prefix(prefix)
    signed, signature = words[:-_SIGNATURE_WORDS], _to_bytes(words[-_SIGNATURE_WORDS:])
    fields = _fields(signed[7:])
    dest = _recover(signature, prefix.encode() + _to_bytes(signed, pad=True))
    if fields.get("n") is not None and _to_bytes(fields["n"]) != dest:
        raise NoInvoice("the signature is not of the node named")
    if "p" not in fields:
        raise NoInvoice("no payment hash")
    try:
        description = _to_bytes(fields.get("d", [])).decode()
    except UnicodeDecodeError:
        raise NoInvoice("the description is not UTF-8") from None
    return Bolt11(
        network=network,
        amount_msat=amount_msat,
        created_at_s=_int_of(signed[:7]),
        payment_hash=_to_bytes(fields["p"]),
        payment_addr=_to_bytes(fields.get("s", [])),
        description=description,
        description_hash=_to_bytes(fields.get("h", [])),
        expiry_s=_int_of(fields["x"]) if "x" in fields else DEFAULT_EXPIRY_S,
        min_final_cltv=_int_of(fields["c"]) if "c" in fields else DEFAULT_FINAL_CLTV,
        dest=dest,
        features=tuple(bit for bit in range(len(fields.get("9", [])) * 5) if _int_of(fields["9"]) >> bit & 1),
    )


def _recover(signature: bytes, message: bytes) -> bytes:
    try:
        return coincurve.PublicKey.from_signature_and_message(signature, message).format()
    except Exception as error:  # the library names no exception of its own
        raise NoInvoice("the signature does not verify") from error


def _fields(words: Sequence[int]) -> dict[str, list[int]]:
    """First of each tagged field; those with a wrong length are skipped, as the BOLT says."""
    found: dict[str, list[int]] = {}
    at = 0
    while at < len(words):
        if at + 3 > len(words) or at + 3 + (words[at + 1] << 5 | words[at + 2]) > len(words):
            raise NoInvoice("a field is longer than the invoice")
        tag, length = _CHARS[words[at]], words[at + 1] << 5 | words[at + 2]
        if length == {"p": 52, "h": 52, "s": 52, "n": 53}.get(tag, length):
            found.setdefault(tag, list(words[at + 3 : at + 3 + length]))
        at += 3 + length
    return found


def _prefix(prefix: str) -> tuple[str, int]:
    for network in ("bcrt", "tbs", "bc", "tb"):
        if prefix.startswith(f"ln{network}"):
            amount = prefix[2 + len(network) :]
            break
    else:
        raise NoInvoice("unknown network")
    if not amount:
        return network, 0
    unit = amount[-1] if amount[-1].isalpha() else ""
    digits = amount[: len(amount) - len(unit)]
    if not (digits.isascii() and digits.isdigit()) or (unit != "p" and unit not in _MSAT_OF_UNIT):
        raise NoInvoice("unreadable amount")
    if unit == "p":
        if int(digits) % 10:
            raise NoInvoice("an amount below a millisatoshi")
        return network, int(digits) // 10
    return network, int(digits) * _MSAT_OF_UNIT[unit]


def _amount_text(amount_msat: int) -> str:
    if not amount_msat:
        return ""
    for unit, msat in _MSAT_OF_UNIT.items():
        if amount_msat % msat == 0:
            return f"{amount_msat // msat}{unit}"
    return f"{amount_msat * 10}p"


def _field(tag: str, words: list[int]) -> list[int]:
    return [_CHARS.index(tag), len(words) >> 5, len(words) & 31, *words]


def _words_of_int(value: int, length: int = 0) -> list[int]:
    length = length or max(1, -(-value.bit_length() // 5))
    return [(value >> 5 * (length - 1 - i)) & 31 for i in range(length)]


def _int_of(words: Sequence[int]) -> int:
    value = 0
    for word in words:
        value = value << 5 | word
    return value


def _to_words(data: bytes) -> list[int]:
    spare = -len(data) * 8 % 5
    return _words_of_int(int.from_bytes(data, "big") << spare, (len(data) * 8 + spare) // 5) if data else []


def _to_bytes(words: Sequence[int], *, pad: bool = False) -> bytes:
    """Whole bytes of 5-bit words; `pad` fills the last one with zero bits, else the rest is dropped."""
    bits = len(words) * 5
    if pad and bits % 8:
        return (_int_of(words) << 8 - bits % 8).to_bytes(bits // 8 + 1, "big")
    return (_int_of(words) >> bits % 8).to_bytes(bits // 8, "big")


def _expanded(prefix: str) -> list[int]:
    return [ord(char) >> 5 for char in prefix] + [0] + [ord(char) & 31 for char in prefix]


def _polymod(words: Sequence[int]) -> int:
    check = 1
    for word in words:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ word
        for i in range(5):
            check ^= _GENERATOR[i] if top >> i & 1 else 0
    return check


def payment_hash_of(preimage: bytes) -> bytes:
    """SHA-256 of the preimage."""
    return hashlib.sha256(preimage).digest()
