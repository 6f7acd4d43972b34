"""Addresses of the development networks, those of regtest, over `pool.address`; and Core's names for kinds of
scripts."""

from __future__ import annotations

from pool.address import AddressError, address_of_script, parse_address
from pool.dev.devchain.scripts import witness_program

NETWORK = "regtest"

__all__ = ["AddressError", "address_of", "kind_of", "script_of"]


def script_of(address: str) -> bytes:
    """Output script that pays an address of the development networks; AddressError says what is wrong with another."""
    return parse_address(address, NETWORK, allow_future=True).script


def address_of(script: bytes) -> str | None:
    """Address of a standard output script, or None."""
    return address_of_script(script, NETWORK)


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
