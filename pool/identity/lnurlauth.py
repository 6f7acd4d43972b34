"""LNURL-auth as functions: the link that a wallet scans, the check of its answer, the JSON it is told. Source: LUD-01,
LUD-04. The HTTP page is the web's."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from pool.address import BECH32_CHARSET
from pool.identity.messages import K1_BYTES
from pool.identity.refusals import ProofRefused
from pool.identity.signatures import check_der

#: What LUD-04 lets a wallet show, by our action.
WALLET_WORDS = {"wallet.link": "link", "login": "login"}  # all others: "auth"
_HEX = re.compile(r"[0-9a-fA-F]+")


def auth_host(callback: str) -> str:
    """The host that wallets derive their key from. ValueError when the callback cannot be one."""
    parts = urlsplit(callback)
    host = parts.hostname or ""
    schemes = ("https", "http") if host.endswith(".onion") else ("https",)
    if not host or parts.query or parts.fragment or parts.scheme not in schemes:
        raise ValueError("a callback is https://host/path (http for .onion) without a query")
    return host


def auth_url(callback: str, k1_hex: str, action: str) -> str:
    """The URL behind the QR code. `callback` stands at the host that linking keys are derived from, which must never
    change. ValueError when it cannot be one."""
    auth_host(callback)
    return f"{callback}?tag=login&k1={quote(k1_hex)}&action={WALLET_WORDS.get(action, 'auth')}"


def encode_lnurl(url: str) -> str:
    """`url` as LUD-01 writes it: bech32 without its limit of length, in upper case (smaller QR codes)."""
    data, symbols, held, bits = url.encode(), [], 0, 0
    for byte in data:
        held, bits = (held << 8 | byte) & 0xFFFFF, bits + 8
        while bits >= 5:
            bits -= 5
            symbols.append(held >> bits & 31)
    if bits:
        symbols.append(held << (5 - bits) & 31)
    expanded = [*(ord(c) >> 5 for c in "lnurl"), 0, *(ord(c) & 31 for c in "lnurl")]
    check = 1
    for value in [*expanded, *symbols, 0, 0, 0, 0, 0, 0]:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= term if top >> bit & 1 else 0
    check ^= 1
    symbols += [check >> 5 * (5 - place) & 31 for place in range(6)]
    return "LNURL1" + "".join(BECH32_CHARSET[symbol] for symbol in symbols).upper()


def read_k1(text: str) -> str:
    """k1 in lower case, 64 hex digits; ProofRefused else."""
    if len(text) != 2 * K1_BYTES or not _HEX.fullmatch(text):
        raise ProofRefused("unreadable", "k1 is 64 hex digits")
    return text.lower()


def verify_answer(k1_hex: str, sig_hex: str, key_hex: str) -> str:
    """The linking key (compressed, lower-case hex) if it signed k1, which is the digest; else ProofRefused."""
    if len(key_hex) != 66 or key_hex[:2] not in ("02", "03") or not _HEX.fullmatch(key_hex):
        raise ProofRefused("unreadable", "key is a compressed public key, 66 hex digits")
    if not 16 <= len(sig_hex) <= 144 or len(sig_hex) % 2 or not _HEX.fullmatch(sig_hex):
        raise ProofRefused("unreadable", "sig is a DER signature in hex")
    check_der(bytes.fromhex(key_hex), bytes.fromhex(read_k1(k1_hex)), bytes.fromhex(sig_hex))
    return key_hex.lower()


def answer(refused: ProofRefused | None = None) -> dict[str, str]:
    """What LUD-04 lets the service say to the wallet."""
    if refused is None:
        return {"status": "OK"}
    return {"status": "ERROR", "reason": f"{refused.es} / {refused.en}"}
