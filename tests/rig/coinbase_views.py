"""What firmware makes of a coinbase: AxeOS's page and NerdQAxe's check, modelled from reading their decoders.

Also the oracle's reader of a coinbase transaction; it imports nothing that the pool builds coinbases with.
"""

from __future__ import annotations

from dataclasses import dataclass

from rig.reference_tx import _size


@dataclass(frozen=True)
class ReadCoinbase:
    """A coinbase transaction without witness, field by field."""

    version: int
    script_sig: bytes
    sequence: int
    outputs: list[tuple[int, bytes]]  # sat, script
    locktime: int


def read_coinbase(raw: bytes) -> ReadCoinbase:
    """ValueError unless every byte belongs to one input and its outputs."""
    if raw[4] != 1 or raw[5:41] != bytes(32) + b"\xff" * 4:
        raise ValueError("not a coinbase without witness")
    length, at = _size(raw, 41)
    script_sig, at = raw[at : at + length], at + length
    sequence, at = int.from_bytes(raw[at : at + 4], "little"), at + 4
    count, at = _size(raw, at)
    outputs = []
    for _ in range(count):
        value = int.from_bytes(raw[at : at + 8], "little")
        length, at = _size(raw, at + 8)
        outputs.append((value, raw[at : at + length]))
        at += length
    if at + 4 != len(raw):
        raise ValueError(f"{len(raw) - at - 4} bytes too many")
    return ReadCoinbase(
        int.from_bytes(raw[:4], "little"), script_sig, sequence, outputs, int.from_bytes(raw[at:], "little")
    )


def pushes_of(script: bytes) -> list[bytes]:
    """The pushes a script is made of; ValueError at any other operation or a push past its end."""
    pushes, at = [], 0
    while at < len(script):
        code = script[at]
        if code == 0 or 0x51 <= code <= 0x60:
            pushes.append(b"" if code == 0 else bytes([code - 0x50]))
            at += 1
            continue
        if not 1 <= code <= 75 or at + 1 + code > len(script):
            raise ValueError(f"no push at {at}: {script.hex()}")
        pushes.append(script[at + 1 : at + 1 + code])
        at += 1 + code
    return pushes


@dataclass(frozen=True)
class AxeOsView:
    """AxeOS v2.15, coinbase_decoder.c and the page's messages."""

    height: int
    scriptsig: str
    total_sat: int
    user_sat: int
    outputs: list[str]  # the first six, as the page lists them
    bip54: bool

    @property
    def share(self) -> str:
        percentage = 100 * self.user_sat / self.total_sat
        return f"Fee {100 - percentage:.1f} %" if percentage >= 95 else f"Share {percentage:.1f} %"

    @property
    def banner(self) -> str:
        percentage = 100 * self.user_sat / self.total_sat
        if percentage == 0:
            return "You don't have a share in the mining reward"
        return f"Your share of the mining reward is only {percentage:.1f}%" if percentage < 95 else ""


def axeos_view(coinb1: bytes, coinb2: bytes, user: str, names: dict[bytes, str], extranonces: int = 12) -> AxeOsView:
    """`names`: script -> the address AxeOS would write. ValueError where the firmware says it failed to process."""
    script_length, height_length = coinb1[41], coinb1[42]
    if not 1 <= height_length <= 4:
        raise ValueError("Failed to process mining notification")
    at = 43 + height_length
    height = int.from_bytes(coinb1[43:at], "little")
    rest = script_length - 1 - height_length
    tag_length = rest - extranonces if len(coinb1) - at < rest else rest
    tag = coinb1[at : at + tag_length]
    in_second = tag_length - len(tag)
    tag += coinb2[:in_second]
    shown = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in tag)
    at = max(rest - (len(coinb1) - at) - extranonces, 0)
    sequence, at = int.from_bytes(coinb2[at : at + 4], "little"), at + 4
    count, at = _size(coinb2, at)
    total, mine, lines = 0, 0, []
    for place in range(count):
        value = int.from_bytes(coinb2[at : at + 8], "little")
        length, at = _size(coinb2, at + 8)
        script, at = coinb2[at : at + length], at + length
        total += value
        if script[0] == 0x6A:
            data = script[2:] if script[1] == len(script) - 2 <= 0x4B else script[1:]
            name = "OP_RETURN: " + "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data)
        else:
            name = names[script]
        if value and user.startswith(name):
            mine += value
        if place < 6:
            lines.append(f"{name} {value}" if value else name)
    locktime = int.from_bytes(coinb2[at : at + 4], "little")
    return AxeOsView(height, shown, total, mine, lines, locktime == height - 1 and sequence != 0xFFFFFFFF)


def nerdqaxe_refuses(view: AxeOsView, *, extended: bool, max_fee_percent: float = 3.0) -> str:
    """NerdQAxe's reason to block the pool, "" when it stays (stratum_manager.cpp, runVerification)."""
    if view.user_sat == 0:
        return "address_not_found"
    fee_hundredths = (view.total_sat - view.user_sat) * 10_000 // view.total_sat
    return "fee_exceeded" if extended and fee_hundredths > max_fee_percent * 100 else ""
