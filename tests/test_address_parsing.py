"""Addresses: every type on every network, the BIP173 and BIP350 vectors, and words for each mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.address import NETWORKS, AddressError, address_of_script, dust_sat, parse_address

# BIP350, "Test vectors": valid addresses and their output scripts.
VALID_WITNESS = [
    ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", "mainnet", "p2wpkh", "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
    (
        "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
        "testnet",
        "p2wsh",
        "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
    ),
    (
        "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
        "mainnet",
        "witness_v1",
        "5128751e76e8199196d454941c45d1b3a323f1433bd6751e76e8199196d454941c45d1b3a323f1433bd6",
    ),
    ("BC1SW50QGDZ25J", "mainnet", "witness_v16", "6002751e"),
    ("bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", "mainnet", "witness_v2", "5210751e76e8199196d454941c45d1b3a323"),
    (
        "tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy",
        "signet",
        "p2wsh",
        "0020000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
    ),
    (
        "tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c",
        "testnet4",
        "p2tr",
        "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
    ),
    (
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
        "mainnet",
        "p2tr",
        "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
    ),
]
# BIP173 and BIP350: invalid addresses, each with a word our answer must hold.
INVALID_WITNESS = [
    ("tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut", "neither"),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd", "BIP350"),
    ("tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf", "BIP350"),
    ("BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL", "BIP350"),
    ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh", "BIP350"),
    ("tb1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq24jc47", "BIP350"),
    ("bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4", "'o' cannot stand"),
    ("BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R", "witness version"),
    ("bc1pw5dgrnzv", "length"),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav", "length"),
    ("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P", "length"),
    ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq", "mixed"),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf", "padding"),
    ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j", "padding"),
    ("bc1gmk9yu", "cut short"),
    ("tc1qw508d6qejxtdg4y5r3zarvary0c5xw7kg3g4ty", "neither"),
    ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "mistyped"),
    ("BC13W508D6QEJXTDG4Y5R3ZARVARY0C5XW7KN40WF2", "BIP350"),
    ("bc1rw5uspcuh", "BIP350"),
    ("bc10w508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kw5rljs90", "BIP350"),
    ("tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sL5k7", "mixed"),
    ("bc1zw508d6qejxtdg4y5r3zarvaryvqyzf3du", "BIP350"),
    ("tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3pjxtptv", "padding"),
]
BASE58 = [
    ("1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "mainnet", "p2pkh", "76a9147680adec8eabcabac676be9e83854ade0bd22cdb88ac"),
    ("1111111111111111111114oLvT2", "mainnet", "p2pkh", "76a914" + "00" * 20 + "88ac"),
    ("3P14159f73E4gFr7JterCCQh9QjiTjiZrG", "mainnet", "p2sh", "a914e9c3dd0c07aac76179ebc76a6c78d4d67c6c160a87"),
    ("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", "testnet", "p2pkh", "76a914243f1394f44554f4ce3fd68649c19adc483ce92488ac"),
    ("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", "regtest", "p2pkh", "76a914243f1394f44554f4ce3fd68649c19adc483ce92488ac"),
    ("2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc", "testnet", "p2sh", "a9144e9f39ca4688ff102128ea4ccda34105324305b087"),
]


@pytest.mark.parametrize(("text", "network", "kind", "script_hex"), VALID_WITNESS + BASE58)
def test_every_type_of_address_gives_its_script_and_comes_back(
    text: str, network: str, kind: str, script_hex: str
) -> None:
    address = parse_address(text, network, allow_future=True)
    assert (address.kind, address.script.hex()) == (kind, script_hex)
    assert address_of_script(address.script, network) == address.text
    assert address.text == (text if kind in ("p2pkh", "p2sh") else text.lower())


@pytest.mark.parametrize(("text", "word"), INVALID_WITNESS)
@pytest.mark.parametrize("network", ["mainnet", "testnet"])
def test_the_bips_invalid_addresses_are_refused_with_the_reason(text: str, word: str, network: str) -> None:
    with pytest.raises(AddressError, match=word):
        parse_address(text, network, allow_future=True)


@pytest.mark.parametrize(
    ("text", "network", "word"),
    [
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "regtest", "mainnet address, but this pool is on regtest"),
        ("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx", "mainnet", "testnet or signet address, but this pool"),
        ("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "signet", "regtest address, but this pool is on signet"),
        ("1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "testnet4", "mainnet address, but this pool is on testnet4"),
        ("2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc", "mainnet", "testnet, signet or regtest address"),
        ("LM2WMpR1Rp6j3Sa59cMXMs1SPzj9eXpGc1", "mainnet", "another coin or purpose"),
        ("5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ", "mainnet", "37 bytes"),
    ],
)
def test_an_address_of_another_network_is_named(text: str, network: str, word: str) -> None:
    with pytest.raises(AddressError, match=word):
        parse_address(text, network)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("1" * 91, "too many"),
        ("b" * 10_000_000, "too many"),
        ("satoshi@example.org", "Lightning address"),
        ("1BoatSLRHtKNngkdXEeobR76b53LETtpyU", "checksum"),
        ("1BoatSLRHtKNngkdXEeobR76b53LETtpy", "checksum|bytes of base58"),
        ("bc1", "cut short"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4 ", "only ASCII"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\n", "only ASCII"),
        ("вс1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "only ASCII"),  # Cyrillic letters
        ("0x52908400098527886E0F7030069857D2E4169EE7", "neither"),
    ],
)
def test_what_is_no_address_is_refused_in_words(text: str, word: str) -> None:
    with pytest.raises(AddressError, match=word):
        parse_address(text, "mainnet")


@pytest.mark.parametrize("text", [row[0] for row in VALID_WITNESS if row[2].startswith("witness_v")])
def test_a_witness_version_without_rules_is_not_paid_unless_asked_for(text: str) -> None:
    with pytest.raises(AddressError, match="anyone could take"):
        parse_address(text, "mainnet")
    assert parse_address(text, "mainnet", allow_future=True).future


def test_an_unknown_network_is_an_error_not_mainnet() -> None:
    with pytest.raises(AddressError, match="unknown network"):
        parse_address("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "dogecoin")


@given(
    network=st.sampled_from(sorted(NETWORKS)),
    version=st.integers(0, 16),
    program=st.binary(min_size=2, max_size=40),
    upper=st.booleans(),
)
def test_every_witness_program_survives_the_way_there_and_back(
    network: str, version: int, program: bytes, upper: bool
) -> None:
    script = bytes([0x50 + version if version else 0, len(program)]) + program
    text = address_of_script(script, network)
    if version == 0 and len(program) not in (20, 32):
        assert text is None
        return
    assert text is not None
    address = parse_address(text.upper() if upper else text, network, allow_future=True)
    assert (address.script, address.text) == (script, text)


@given(network=st.sampled_from(sorted(NETWORKS)), payload=st.binary(min_size=20, max_size=20), p2sh=st.booleans())
def test_every_base58_address_survives_the_way_there_and_back(network: str, payload: bytes, p2sh: bool) -> None:
    script = b"\xa9\x14" + payload + b"\x87" if p2sh else b"\x76\xa9\x14" + payload + b"\x88\xac"
    text = address_of_script(script, network)
    assert text is not None
    assert parse_address(text, network).script == script


@given(
    text=st.sampled_from([row[0] for row in VALID_WITNESS + BASE58]), place=st.integers(0, 200), letter=st.characters()
)
def test_one_changed_character_never_gives_another_script(text: str, place: int, letter: str) -> None:
    place %= len(text)
    changed = text[:place] + letter + text[place + 1 :]
    for network in NETWORKS:
        try:
            address = parse_address(changed, network, allow_future=True)
        except AddressError:
            continue
        assert address.text.lower() == text.lower()


@given(junk=st.one_of(st.text(max_size=100), st.from_regex(r"(bc|tb|bcrt)1[a-z0-9]{0,80}", fullmatch=True)))
def test_junk_is_refused_and_never_crashes(junk: str) -> None:
    for network in ("mainnet", "regtest"):
        try:
            script = parse_address(junk, network, allow_future=True).script
        except AddressError:
            continue
        assert script


def test_dust_limits_are_cores() -> None:
    assert dust_sat(bytes.fromhex("76a914" + "00" * 20 + "88ac")) == 546
    assert dust_sat(bytes.fromhex("a914" + "00" * 20 + "87")) == 540
    assert dust_sat(bytes.fromhex("0014" + "00" * 20)) == 294
    assert dust_sat(bytes.fromhex("0020" + "00" * 32)) == 330
    assert dust_sat(bytes.fromhex("5120" + "00" * 32)) == 330


def test_bitcoinlib_leaves_the_home_directory_alone_and_is_not_loaded_before_it_is_needed(tmp_path: Path) -> None:
    program = (
        "import sys, pool.address as a\n"
        "assert 'bitcoinlib' not in sys.modules\n"
        "print(a.parse_address('bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4', 'mainnet').kind)\n"
    )
    environment = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": ":".join(sys.path)}
    (tmp_path / "home").mkdir()
    (tmp_path / "tmp").mkdir()
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert (run.stdout, run.returncode) == ("p2wpkh\n", 0), run.stderr
    assert list((tmp_path / "home").iterdir()) == []
    assert list((tmp_path / "tmp").iterdir()) == []
