"""Bitcoin addresses of every type and network: text in, canonical text and output script out; bitcoinlib's start-up.

bitcoinlib decodes and encodes; this module adds what it leaves out (checksums it does not check, its wrong regtest
prefixes, witness programs of unusual length) and checks each result by the way back.
Sources: BIP13, BIP16, BIP141, BIP173, BIP341, BIP350.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BECH32_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
LONGEST_ADDRESS = 90  # BIP173
#: Spending costs that Core's dust rule adds to an output's own size, in vbytes, and its rate of 3 sat/vB.
DUST_SPEND_LEGACY, DUST_SPEND_WITNESS, DUST_RATE = 148, 67, 3


class AddressError(ValueError):
    """Not an address that can be paid here; the text says what is wrong. Whoever typed it must act."""


@dataclass(frozen=True, slots=True)
class AddressNetwork:
    """How addresses of one network are written."""

    name: str
    hrp: str  # of bech32 addresses
    p2pkh: int
    p2sh: int


_TEST = ("tb", 0x6F, 0xC4)
#: testnet3, testnet4 and signet write addresses alike. bitcoinlib gives regtest mainnet's base58 prefixes; Core and
#: btcd use testnet's.
NETWORKS: dict[str, AddressNetwork] = {
    "mainnet": AddressNetwork("mainnet", "bc", 0x00, 0x05),
    "testnet": AddressNetwork("testnet", *_TEST),
    "testnet4": AddressNetwork("testnet4", *_TEST),
    "signet": AddressNetwork("signet", *_TEST),
    "regtest": AddressNetwork("regtest", "bcrt", 0x6F, 0xC4),
}


@dataclass(frozen=True, slots=True)
class Address:
    """An address that was checked to the last bit."""

    text: str  # canonical: bech32 in lower case
    network: str
    kind: str  # p2pkh p2sh p2wpkh p2wsh p2tr, or "witness_v<n>" for a program nobody can lock yet
    script: bytes  # scriptPubKey, never empty

    @property
    def future(self) -> bool:
        """True for a witness program without rules yet: anyone may take coins sent to it today."""
        return self.kind.startswith("witness_v")

    @property
    def dust_sat(self) -> int:
        return dust_sat(self.script)


# --- bitcoinlib's start-up


def load_bitcoinlib(data_dir: Path | None = None) -> None:
    """Import bitcoinlib so that it leaves the home directory alone. Call before any other import of it.

    It copies its network tables into a data directory at import and reads them there: `data_dir`, else a temporary one
    that goes away with the process. Its log file is switched off. Takes about 0.3 s, so nothing imports it before the
    first address is looked at.
    """
    if "bitcoinlib" in sys.modules:
        return
    given = str(data_dir) if data_dir is not None else os.environ.get("BCL_DATA_DIR")
    folder = Path(given) if given else Path(tempfile.mkdtemp(prefix="bitcoinlib-"))
    if not given:
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "config.ini"
    if not settings.exists():
        settings.write_text("[logs]\nenable_bitcoinlib_logging = False\n", encoding="ascii")
        # Without this mark it would copy its own config.ini over ours.
        (folder / "install.log").write_text("made by pool.address\n", encoding="ascii")
        _copy_network_table(folder)
    os.environ["BCL_DATA_DIR"] = str(folder)
    with warnings.catch_warnings():
        # It leaves a file to the garbage collector and uses SQLAlchemy's old declarative_base; neither is ours to mend.
        warnings.simplefilter("ignore")
        import bitcoinlib.keys
        import bitcoinlib.transactions  # noqa: F401 - loaded here so that nobody needs the folder later


def _copy_network_table(folder: Path) -> None:
    from importlib.util import find_spec

    spec = find_spec("bitcoinlib")  # finds the package without running it
    if spec is None or spec.origin is None:
        raise ImportError("bitcoinlib is not installed")
    for table in (Path(spec.origin).parent / "data").glob("*.json"):
        shutil.copyfile(table, folder / table.name)


def bitcoinlib_encoding() -> BitcoinlibEncoding:
    """The few functions of bitcoinlib.encoding used here, typed."""
    load_bitcoinlib()
    from bitcoinlib import encoding

    return BitcoinlibEncoding(
        encoding.change_base,
        encoding.addr_bech32_to_pubkeyhash,
        encoding.convertbits,
        encoding.pubkeyhash_to_addr_base58,
        encoding.EncodingError,
    )


@dataclass(frozen=True, slots=True)
class BitcoinlibEncoding:
    change_base: Callable[[str, int, int], bytes]
    decode_bech32: Callable[..., bytes]
    convertbits: Callable[..., list[int]]
    encode_base58: Callable[[bytes, bytes], str]
    error: type[Exception]


# --- reading


def parse_address(text: str, network: str, *, allow_future: bool = False) -> Address:
    """Read an address of `network` (a key of NETWORKS). AddressError names what is wrong with it.

    Bech32 may come in one case or the other, never mixed. Witness programs without rules yet (versions 2 to 16, version
    1 not 32 bytes long) are checked by BIP350 like all others, but refused unless `allow_future`: whoever sees coins on
    them can take them.
    """
    address = _parse(text, network)
    if address.future and not allow_future:
        version = address.kind.removeprefix("witness_v")
        raise AddressError(f"witness program of version {version} has no rules yet: anyone could take coins sent there")
    return address


@functools.lru_cache(maxsize=65536)  # a device re-authorizes with the same text; decoding takes some 50 us
def _parse(text: str, network: str) -> Address:
    target = NETWORKS.get(network)
    if target is None:
        raise AddressError(f"unknown network {network!r}")
    if not text:
        raise AddressError("empty address")
    if len(text) > LONGEST_ADDRESS:
        raise AddressError(f"{len(text)} characters are too many for a bitcoin address (at most {LONGEST_ADDRESS})")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise AddressError("a bitcoin address holds only ASCII letters and digits")
    if "@" in text:
        raise AddressError("a Lightning address, not a bitcoin address")
    lowered = text.lower()
    hrp = next((hrp for hrp in ("bcrt", "bc", "tb") if lowered.startswith(hrp + "1")), None)
    if hrp is not None:
        return _parse_bech32(text, hrp, target)
    return _parse_base58(text, target)


def _parse_bech32(text: str, hrp: str, target: AddressNetwork) -> Address:
    if text not in (text.lower(), text.upper()):
        raise AddressError("bech32 address in mixed upper and lower case")
    canonical = text.lower()
    lib = bitcoinlib_encoding()
    symbols = [BECH32_CHARSET.find(letter) for letter in canonical[len(hrp) + 1 :]]
    if -1 in symbols:
        raise AddressError(f"{canonical[len(hrp) + 1 + symbols.index(-1)]!r} cannot stand in a bech32 address")
    if len(symbols) < 8:
        raise AddressError("bech32 address is cut short")
    try:
        raw = lib.decode_bech32(canonical, include_witver=True)
        back = lib.convertbits(raw[2:], 8, 5)
    except (lib.error, IndexError, TypeError, ValueError) as error:
        raise AddressError(f"bech32 address with {_bech32_fault(str(error))}") from None
    version, program = symbols[0], raw[2:]
    if symbols[1:-6] != back or raw[0] != (0x50 + version if version else 0) or raw[1] != len(program):
        raise AddressError("bech32 address does not survive the way there and back")
    if hrp != target.hrp:
        raise AddressError(f"{_networks_of_hrp(hrp)} address, but this pool is on {target.name}")
    return Address(canonical, target.name, _witness_kind(version, len(program)), bytes(raw))


def _bech32_fault(library_words: str) -> str:
    """What bitcoinlib's EncodingError means, for people."""
    for word, meaning in (
        ("polymod", "a wrong checksum (mistyped?)"),
        ("checksum", "the checksum kind of another witness version (BIP350)"),
        ("witness version", "a witness version above 16"),
        ("padding", "padding bits that are not zero"),
        ("length", "a wrong length"),
    ):
        if word in library_words.lower():
            return meaning
    return f"a fault: {library_words}"


def _witness_kind(version: int, size: int) -> str:
    if version == 0:
        return "p2wpkh" if size == 20 else "p2wsh"
    return "p2tr" if (version, size) == (1, 32) else f"witness_v{version}"


def _networks_of_hrp(hrp: str) -> str:
    return {"bc": "mainnet", "tb": "testnet or signet", "bcrt": "regtest"}[hrp]


def _parse_base58(text: str, target: AddressNetwork) -> Address:
    lib = bitcoinlib_encoding()
    if any(letter in "0OIl" or not letter.isalnum() for letter in text):
        raise AddressError("neither a bech32 address (bc1...) nor base58 (digits and letters without 0, O, I, l)")
    try:
        raw = bytes(lib.change_base(text, 58, 256))
    except (lib.error, ValueError, TypeError) as error:
        raise AddressError(f"not a base58 address: {error}") from None
    if len(raw) != 25:
        raise AddressError(f"not a bitcoin address: {len(raw)} bytes of base58, not 25")
    version, payload = raw[0], raw[1:21]
    if hashlib.sha256(hashlib.sha256(raw[:21]).digest()).digest()[:4] != raw[21:]:
        raise AddressError("base58 address with a wrong checksum (mistyped?)")
    if lib.encode_base58(payload, bytes([version])) != text:
        raise AddressError("base58 address does not survive the way there and back")
    if version == target.p2pkh:
        return Address(text, target.name, "p2pkh", b"\x76\xa9\x14" + payload + b"\x88\xac")
    if version == target.p2sh:
        return Address(text, target.name, "p2sh", b"\xa9\x14" + payload + b"\x87")
    if version in (0x00, 0x05):
        raise AddressError(f"mainnet address, but this pool is on {target.name}")
    if version in (0x6F, 0xC4):
        raise AddressError(f"testnet, signet or regtest address, but this pool is on {target.name}")
    raise AddressError(f"base58 address of another coin or purpose (version byte {version})")


# --- scripts


def address_of_script(script: bytes, network: str) -> str | None:
    """The address that pays to this output script; None when no address does (OP_RETURN, bare keys)."""
    target = NETWORKS[network]
    lib = bitcoinlib_encoding()
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return lib.encode_base58(script[3:23], bytes([target.p2pkh]))
    if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        return lib.encode_base58(script[2:22], bytes([target.p2sh]))
    if 4 <= len(script) <= 42 and (script[0] == 0 or 0x51 <= script[0] <= 0x60) and script[1] == len(script) - 2:
        version = script[0] - 0x50 if script[0] else 0
        if version == 0 and script[1] not in (20, 32):
            return None
        return _encode_bech32(target.hrp, version, script[2:], lib)
    return None


def _encode_bech32(hrp: str, version: int, program: bytes, lib: BitcoinlibEncoding) -> str:
    # bitcoinlib's own encoder takes programs of 18, 30 and 38 bytes for something else: only its bit shuffling is used.
    symbols = [version, *lib.convertbits(program, 8, 5)]
    check = 1
    for value in [*(ord(c) >> 5 for c in hrp), 0, *(ord(c) & 31 for c in hrp), *symbols, 0, 0, 0, 0, 0, 0]:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= term if top >> bit & 1 else 0
    check ^= 0x2BC830A3 if version else 1
    symbols += [check >> 5 * (5 - place) & 31 for place in range(6)]
    return hrp + "1" + "".join(BECH32_CHARSET[symbol] for symbol in symbols)


def dust_sat(script: bytes) -> int:
    """Core's default dust limit of an output with this script: below it, spending costs more than it brings."""
    witness = 4 <= len(script) <= 42 and (script[0] == 0 or 0x51 <= script[0] <= 0x60) and script[1] == len(script) - 2
    size = 8 + (1 if len(script) < 253 else 3) + len(script)
    return (size + (DUST_SPEND_WITNESS if witness else DUST_SPEND_LEGACY)) * DUST_RATE
