"""Addresses of the development networks (those of regtest) and their scripts, over bitcoinlib."""

from __future__ import annotations

import functools
import os
import tempfile
from types import ModuleType

from pool.dev.devchain.scripts import witness_program

NETWORK = "regtest"
#: bitcoinlib's regtest has no legacy prefixes of its own; Bitcoin's regtest shares testnet's.
LEGACY_PREFIX = {0x6F: "p2pkh", 0xC4: "p2sh"}


class AddressError(ValueError):
    """Not an address of this network; the message says what is wrong."""


@functools.cache
def _encoding() -> ModuleType:
    """bitcoinlib's encoders. Imported at first use: it takes 0.3 s, and writes into its data folder unless that is
    set before."""
    os.environ.setdefault(
        "BCL_DATA_DIR", os.path.join(tempfile.gettempdir(), f"mmsp-devchain-bitcoinlib-{os.getuid()}")
    )
    import bitcoinlib.encoding

    module: ModuleType = bitcoinlib.encoding
    return module


def script_of(address: str) -> bytes:
    """Output script that pays an address of the development networks."""
    lower = address.lower()
    if lower.startswith(("bc1", "tb1")) or address[:1] in ("1", "3"):
        raise AddressError(
            f"{address} is an address of another network; a development chain pays bcrt1..., m..., n... or 2..."
        )
    script = _segwit_script(address) if lower.startswith("bcrt1") else _legacy_script(address)
    if address_of(script) != (lower if lower.startswith("bcrt1") else address):
        raise AddressError(f"{address} does not survive the round trip over its script")
    return script


def _segwit_script(address: str) -> bytes:
    try:
        program = bytes(_encoding().addr_bech32_to_pubkeyhash(address, include_witver=True, prefix="bcrt"))
    except Exception as error:  # bitcoinlib raises several unrelated classes for the same thing
        raise AddressError(f"{address} is not a valid segwit address: {error}") from error
    found = witness_program(program)
    if found is None or not 2 <= len(found[1]) <= 40 or (found[0] == 0 and len(found[1]) not in (20, 32)):
        raise AddressError(f"{address} has a witness program of a wrong length")
    return program


def _legacy_script(address: str) -> bytes:
    try:
        raw = bytes(_encoding().change_base(address, 58, 256, 25))
    except Exception as error:  # as above
        raise AddressError(f"{address} is not base58: {error}") from error
    if len(raw) != 25 or _encoding().double_sha256(raw[:-4])[:4] != raw[-4:]:
        raise AddressError(f"{address} has a wrong checksum")
    kind = LEGACY_PREFIX.get(raw[0])
    if kind is None:
        raise AddressError(f"{address} is not of this network (prefix {raw[0]:02x})")
    body = raw[1:-4]
    return b"\x76\xa9\x14" + body + b"\x88\xac" if kind == "p2pkh" else b"\xa9\x14" + body + b"\x87"


def address_of(script: bytes) -> str | None:
    """Address of a standard output script, or None."""
    encoding = _encoding()
    program = witness_program(script)
    if program is not None:
        witver, body = program
        if witver == 0 and len(body) not in (20, 32):
            return None
        # bitcoinlib takes 20, 32 and 40 bytes for a bare program and anything else for a script; hex, as it would
        # unhex bytes that look like it
        given = body if len(body) in (20, 32, 40) else script
        return str(encoding.pubkeyhash_to_addr_bech32(given.hex(), prefix="bcrt", witver=witver))
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return str(encoding.pubkeyhash_to_addr_base58(script[3:23].hex(), prefix=b"\x6f"))
    if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22] == 0x87:
        return str(encoding.pubkeyhash_to_addr_base58(script[2:22].hex(), prefix=b"\xc4"))
    return None


def kind_of(script: bytes) -> str:
    """Bitcoin Core's name for the type of a script."""
    program = witness_program(script)
    if program is not None:
        names = {(0, 20): "witness_v0_keyhash", (0, 32): "witness_v0_scripthash", (1, 32): "witness_v1_taproot"}
        return names.get((program[0], len(program[1])), "witness_unknown")
    if script[:1] == b"\x6a":
        return "nulldata"
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14":
        return "pubkeyhash"
    return "scripthash" if len(script) == 23 and script[:2] == b"\xa9\x14" else "nonstandard"
