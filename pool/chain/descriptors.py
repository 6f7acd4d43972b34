"""Watch-only output descriptors (BIP380-386): a fresh script per found block, without a private key on this machine.

Understood: pkh(KEY), wpkh(KEY), sh(wpkh(KEY)) and tr(KEY) over one extended public key with an unhardened path that may
end in /*, and a checksum. Key derivation is bitcoinlib's; base58 checksums, which it does not check, are checked here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pool.address import (
    NETWORKS,
    Address,
    AddressError,
    address_of_script,
    bitcoinlib_encoding,
    load_bitcoinlib,
    parse_address,
)

_INPUT = "0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ "
_CHECKSUM = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0xF5DEE51989, 0xA9FDCA3312, 0x1BAB10E32D, 0x3706B1677A, 0x644D626FFD)
_KEY = re.compile(
    r"^(?:\[(?P<fingerprint>[0-9a-fA-F]{8})(?P<origin>(?:/\d+['hH]?)*)\])?(?P<xpub>[1-9A-HJ-NP-Za-km-z]{80,120})"
    r"(?P<path>(?:/\d+)*)(?P<wild>/\*)?$"
)
_XPUB, _TPUB = bytes.fromhex("0488b21e"), bytes.fromhex("043587cf")
_PRIVATE = {bytes.fromhex("0488ade4"), bytes.fromhex("04358394")}
HARDENED = 0x80000000


class DescriptorError(ValueError):
    """A descriptor that cannot be used; the text names what is wrong. The operator must act."""


class _Key(Protocol):
    """What is used of bitcoinlib.keys.HDKey."""

    public_byte: bytes

    def child_public(self, index: int) -> _Key: ...


def checksum(descriptor: str) -> str:
    """The 8 characters after "#" (BIP380)."""
    state, group, groups = 1, 0, 0

    def step(state: int, value: int) -> int:
        top = state >> 35
        state = (state & 0x7FFFFFFFF) << 5 ^ value
        for bit, term in enumerate(_GENERATOR):
            state ^= term if top >> bit & 1 else 0
        return state

    for letter in descriptor:
        place = _INPUT.find(letter)
        if place < 0:
            raise DescriptorError(f"{letter!r} cannot stand in a descriptor")
        state = step(state, place & 31)
        group = group * 3 + (place >> 5)
        groups += 1
        if groups == 3:
            state, group, groups = step(state, group), 0, 0
    if groups:
        state = step(state, group)
    for _ in range(8):
        state = step(state, 0)
    state ^= 1
    return "".join(_CHECKSUM[state >> 5 * (7 - place) & 31] for place in range(8))


assert checksum("raw(deadbeef)") == "89f8spxm"  # BIP380


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A checked descriptor of one network."""

    text: str  # with checksum
    network: str
    ranged: bool
    _script: Callable[[int], bytes]

    def script(self, index: int) -> bytes:
        """Output script of that child (of the one key there is when not ranged)."""
        if not 0 <= index < HARDENED:
            raise DescriptorError(f"index {index} is not within 0..{HARDENED - 1}")
        return self._script(index if self.ranged else 0)

    def address(self, index: int) -> Address:
        text = address_of_script(self.script(index), self.network)
        assert text is not None, "every script made here has an address"
        return parse_address(text, self.network)


def parse_descriptor(text: str, network: str) -> Descriptor:
    """Read a descriptor of `network` (a key of pool.address.NETWORKS). DescriptorError names what is wrong."""
    if network not in NETWORKS:
        raise DescriptorError(f"unknown network {network!r}")
    text = text.strip()
    if len(text) > 400:
        raise DescriptorError(f"{len(text)} characters are too many for a descriptor of one key")
    body, mark, given = text.partition("#")
    right = checksum(body)
    if not mark:
        raise DescriptorError(f"no checksum: if the descriptor is what your wallet shows, add #{right}")
    if given != right:
        raise DescriptorError(f"checksum #{given} does not fit the descriptor (mistyped?)")
    kind, key_text = _unwrap(body)
    key, path, ranged = _key(key_text, network)
    for index in path:
        key = key.child_public(index)
    make = _SCRIPTS[kind]

    def script(index: int) -> bytes:
        return make(key.child_public(index).public_byte if ranged else key.public_byte)

    script(0)  # a key that is no point of the curve fails here, at the start of the pool
    return Descriptor(f"{body}#{right}", network, ranged, script)


def _unwrap(body: str) -> tuple[str, str]:
    for kind, opening in (("sh(wpkh", "sh(wpkh("), ("pkh", "pkh("), ("wpkh", "wpkh("), ("tr", "tr(")):
        closing = ")" * opening.count("(")
        if body.startswith(opening) and body.endswith(closing):
            inner = body[len(opening) : -len(closing)]
            if kind == "tr" and "," in inner:
                raise DescriptorError("tr() with a script tree is not supported, only tr(KEY)")
            return kind, inner
    name = body.partition("(")[0]
    if name[1:4] in ("pub", "prv"):
        raise DescriptorError("a bare extended key does not say which addresses: write wpkh(xpub.../0/*)#checksum")
    raise DescriptorError(f"{name[:20]!r} is not one of pkh(), wpkh(), sh(wpkh()), tr() over one key")


def _key(text: str, network: str) -> tuple[_Key, list[int], bool]:
    """The extended public key, its unhardened path and whether /* follows."""
    match = _KEY.match(text)
    if match is None:
        if "<" in text:
            raise DescriptorError("several paths (<0;1>) in one descriptor: give the receiving one, /0/*")
        if re.search(r"(?:\d|\*)['hH]", text.partition("]")[2] or text):
            raise DescriptorError("a hardened step after the extended key needs the private key")
        raise DescriptorError("the key is not [fingerprint/path]xpub.../path/*")
    xpub = match["xpub"]
    lib = bitcoinlib_encoding()
    try:
        raw = bytes(lib.change_base(xpub, 58, 256))
    except (lib.error, ValueError) as error:
        raise DescriptorError(f"extended key cannot be read: {error}") from None
    if len(raw) != 82 or hashlib.sha256(hashlib.sha256(raw[:78]).digest()).digest()[:4] != raw[78:]:
        raise DescriptorError("extended key with a wrong checksum (mistyped?)")
    if raw[:4] in _PRIVATE:
        raise DescriptorError("an extended PRIVATE key: take it off this machine, give the public one (xpub, tpub)")
    expected = _XPUB if network == "mainnet" else _TPUB
    if raw[:4] != expected:
        known = {_XPUB: "an xpub, for mainnet", _TPUB: "a tpub, for test networks"}
        raise DescriptorError(f"the key is {known.get(raw[:4], 'of another kind')}, but this pool is on {network}")
    path = [int(step) for step in match["path"].split("/")[1:]]
    if any(step >= HARDENED for step in path):
        raise DescriptorError("a path step of 2^31 or more is hardened: it needs the private key")
    return _hd_key(raw), path, match["wild"] is not None


def _hd_key(raw: bytes) -> _Key:
    if raw[45] not in (2, 3):
        raise DescriptorError("the extended key does not hold a public key")
    load_bitcoinlib()
    from bitcoinlib.keys import BKeyError, HDKey

    try:
        key: _Key = HDKey(key=raw[45:78], chain=raw[13:45], depth=raw[4], is_private=False, network="bitcoin")
    except (BKeyError, ValueError) as error:
        raise DescriptorError(f"the extended key does not hold a public key: {error}") from None
    x, y = int.from_bytes(raw[46:78], "big"), int(getattr(key, "y", 0) or 0)
    if (y * y - x * x * x - 7) % _P:
        raise DescriptorError("the extended key is not a point of the curve")
    return key


# --- scripts over a compressed public key

_P = 2**256 - 2**32 - 977


def _hash160(data: bytes) -> bytes:
    load_bitcoinlib()
    from bitcoinlib.encoding import hash160

    digest: bytes = hash160(data)
    return digest


def _pkh(public: bytes) -> bytes:
    return b"\x76\xa9\x14" + _hash160(public) + b"\x88\xac"


def _wpkh(public: bytes) -> bytes:
    return b"\x00\x14" + _hash160(public)


def _sh_wpkh(public: bytes) -> bytes:
    return b"\xa9\x14" + _hash160(_wpkh(public)) + b"\x87"


def _tr(public: bytes) -> bytes:
    """BIP341/BIP386: key path only, the output key is the internal key tweaked by its own tagged hash."""
    load_bitcoinlib()
    from bitcoinlib.keys import Key, ec_point, ec_point_multiplication

    x_only = public[1:]
    tag = hashlib.sha256(b"TapTweak").digest()
    tweak = int.from_bytes(hashlib.sha256(tag + tag + x_only).digest(), "big")
    internal = Key(b"\x02" + x_only, is_private=False)  # BIP340: the point with even y
    point = ec_point_multiplication((int(internal.x), int(internal.y)), 1, return_point=True) + ec_point(tweak)
    x = point.x() if callable(point.x) else point.x  # bitcoinlib works over fastecdsa or ecdsa, whichever is there
    return b"\x51\x20" + int(x).to_bytes(32, "big")


_SCRIPTS: dict[str, Callable[[bytes], bytes]] = {"pkh": _pkh, "wpkh": _wpkh, "sh(wpkh": _sh_wpkh, "tr": _tr}


# --- the pool's own output


def pool_scripts(address: str, descriptor: str, network: str) -> Callable[[int], bytes]:
    """Script of the pool's output by the number of blocks found before: fresh ones of `descriptor`, or ever `address`.

    DescriptorError or AddressError name what is wrong; one of both must be given.
    """
    if bool(address) == bool(descriptor):
        raise DescriptorError("give either coinbase.payout_address or coinbase.payout_descriptor")
    if descriptor:
        return parse_descriptor(descriptor, network).script
    script = parse_address(address, network).script
    return lambda found_before: script


__all__ = ["AddressError", "Descriptor", "DescriptorError", "checksum", "parse_descriptor", "pool_scripts"]
