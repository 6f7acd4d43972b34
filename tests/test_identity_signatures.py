"""Signatures of members' addresses: the official BIP-322 vectors, signmessage, and everything that must be refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import bip322
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.address import parse_address
from pool.identity.bip322 import message_hash, read_witness, to_sign_txid, to_spend_txid
from pool.identity.refusals import WORDS, ProofRefused
from pool.identity.signatures import verify_signature
from rig.wallet import Wallet, der_of, high, numbers_of, stack

VECTORS = Path(__file__).parent / "vectors"  # both files: github.com/bitcoin/bips, bip-0322, CC0
BASIC = json.loads((VECTORS / "bip322_basic.json").read_text(encoding="utf-8"))
GENERATED = json.loads((VECTORS / "bip322_generated.json").read_text(encoding="utf-8"))
MINE = ("p2wpkh", "p2tr")
TEXT = "Bolsa / Pool: Club\nNuevo / New: me@wallet.example"
WALLET = Wallet.of(0xB0B)


def refusal(account: str, message: str, signature: str, network: str = "mainnet") -> str:
    with pytest.raises(ProofRefused) as caught:
        verify_signature(account, network, message, signature)
    assert caught.value.es
    assert caught.value.en
    assert caught.value.code in WORDS
    return caught.value.code


# --- official vectors
@pytest.mark.parametrize("vector", BASIC["tx_hashes"], ids=lambda v: v["message"][:12] or "empty")
def test_the_virtual_transactions_are_those_of_bip322(vector: dict[str, str]) -> None:
    script = parse_address(vector["address"], "mainnet").script
    assert message_hash(vector["message"]).hex() == vector["message_hash"]
    assert to_spend_txid(script, vector["message"])[::-1].hex() == vector["to_spend_tx_hash"]
    assert to_sign_txid(script, vector["message"])[::-1].hex() == vector["to_sign_tx_hash"]


def test_official_simple_signatures_of_our_kinds_are_good_and_of_others_refused() -> None:
    good = 0
    for vector in BASIC["simple"] + GENERATED["simple"]:
        for signature in vector["bip322_signatures"]:
            if vector["type"] in MINE:
                assert verify_signature(vector["address"], "mainnet", vector["message"], signature) == "bip322"
                assert refusal(vector["address"], vector["message"] + "!", signature) == "wrong_signature"
                good += 1
            else:
                assert refusal(vector["address"], vector["message"], signature) in ("cannot_sign", "unreadable")
    assert good >= 7


def test_official_bad_and_full_signatures_are_refused() -> None:
    for vector in BASIC["error"] + GENERATED["error"]:
        assert refusal(vector["address"], vector["message"], vector["signature"])
    for vector in GENERATED["full"]:
        for signature in vector["bip322_signatures"]:
            assert refusal(vector["address"], vector["message"], signature)


# --- every kind
@pytest.mark.parametrize("network", ["mainnet", "signet", "regtest"])
@pytest.mark.parametrize("kind", ["p2wpkh", "p2tr", "p2pkh", "p2sh"])
def test_an_address_of_each_kind_signs_for_itself_and_for_no_other(kind: str, network: str) -> None:
    wallet, other = Wallet.of(0xB0B, network), Wallet.of(0xA11CE, network)
    signature = wallet.sign(kind, TEXT)
    method = "bip322" if kind in MINE else "signmessage"
    assert verify_signature(wallet.address(kind), network, TEXT, signature) == method
    assert refusal(other.address(kind), TEXT, signature, network) == "wrong_signature"
    assert refusal(wallet.address(kind), TEXT + " ", signature, network) == "wrong_signature"
    elsewhere = "mainnet" if network != "mainnet" else "signet"
    assert refusal(wallet.address(kind), TEXT, signature, elsewhere) == "account"


@settings(max_examples=100)
@given(st.integers(1, 2**200), st.text(max_size=80), st.sampled_from(MINE))
def test_what_we_take_a_second_implementation_takes_too(number: int, message: str, kind: str) -> None:
    wallet = Wallet.of(number)
    address, signature = wallet.address(kind), wallet.sign(kind, message)
    assert verify_signature(address, "mainnet", message, signature) == "bip322"
    if kind == "p2tr" or len(wallet.der(message)) >= 70:  # bip322 0.3.0 refuses shorter ones
        assert bip322.verify_simple_encoded(address, message, signature) is None


def test_a_short_signature_as_one_in_300_is_counts_too() -> None:
    message = next(f"{n}" for n in range(5000) if len(WALLET.der(f"{n}")) < 70)
    assert verify_signature(WALLET.address("p2wpkh"), "mainnet", message, WALLET.sign("p2wpkh", message)) == "bip322"


@settings(max_examples=100)
@given(st.sampled_from(MINE), st.integers(0, 10_000), st.integers(1, 255))
def test_a_signature_changed_in_any_byte_is_refused(kind: str, place: int, flip: int) -> None:
    raw = bytearray(base64.b64decode(WALLET.sign(kind, TEXT)))
    raw[place % len(raw)] ^= flip
    assert refusal(WALLET.address(kind), TEXT, base64.b64encode(raw).decode())


@settings(max_examples=120)
@given(st.one_of(st.text(max_size=450), st.binary(max_size=300).map(lambda raw: base64.b64encode(raw).decode())))
def test_garbage_is_refused_with_words_and_never_an_accident(signature: str) -> None:
    for kind in ("p2wpkh", "p2tr", "p2pkh", "p2sh"):
        refusal(WALLET.address(kind), TEXT, signature)


# --- BIP-322's edges
def test_high_s_is_refused() -> None:
    tall = stack(high(WALLET.der(TEXT)) + b"\x01", WALLET.public)
    assert refusal(WALLET.address("p2wpkh"), TEXT, tall) == "high_s"
    raw = base64.b64decode(WALLET.signmessage(TEXT, 31))
    r, s = numbers_of(high(der_of(int.from_bytes(raw[1:33], "big"), int.from_bytes(raw[33:], "big"))))
    twin = bytes([31 + (raw[0] - 31 ^ 1)]) + r.to_bytes(32, "big") + s.to_bytes(32, "big")
    assert refusal(WALLET.address("p2pkh"), TEXT, base64.b64encode(twin).decode()) == "high_s"


@pytest.mark.parametrize("sighash", [0x00, 0x02, 0x03, 0x81, 0x82, 0x83, 0x41])
def test_another_sighash_than_all_is_refused(sighash: int) -> None:
    signed = stack(WALLET.der(TEXT) + bytes([sighash]), WALLET.public)
    assert refusal(WALLET.address("p2wpkh"), TEXT, signed) == "sighash"
    rooted = stack(WALLET.schnorr(TEXT, sighash) + bytes([sighash]))
    assert refusal(WALLET.address("p2tr"), TEXT, rooted) == "sighash"


def test_taproot_takes_sighash_all_written_out() -> None:
    signed = stack(WALLET.schnorr(TEXT, 1) + b"\x01")
    assert verify_signature(WALLET.address("p2tr"), "mainnet", TEXT, signed) == "bip322"
    assert refusal(WALLET.address("p2tr"), TEXT, stack(WALLET.schnorr(TEXT, 0) + b"\x01")) == "wrong_signature"


def test_witness_items_too_many_or_too_few_are_refused() -> None:
    der, key, root = WALLET.der(TEXT) + b"\x01", WALLET.public, WALLET.schnorr(TEXT)
    for items in ((der,), (der, key, b""), (der, key, key), (b"", der, key), (b"", key), ()):
        assert refusal(WALLET.address("p2wpkh"), TEXT, stack(*items)) == "witness"
    # The second implementation takes this one: only the first item counts there.
    assert bip322.verify_simple_encoded(WALLET.address("p2tr"), TEXT, stack(root, b"abc")) is None
    for items in ((root, b"abc"), (root, b"\x50annex"), (b"", root), ()):
        assert refusal(WALLET.address("p2tr"), TEXT, stack(*items)) == "witness"


def test_an_uncompressed_or_foreign_key_does_not_open_a_witness_address() -> None:
    long_key = WALLET.key.public_key.format(compressed=False)
    assert refusal(WALLET.address("p2wpkh"), TEXT, stack(WALLET.der(TEXT) + b"\x01", long_key)) == "wrong_signature"
    thief = Wallet.of(666)
    forged = thief.key.sign(b"\x01" * 32, hasher=None) + b"\x01"
    assert refusal(WALLET.address("p2wpkh"), TEXT, stack(forged, thief.public)) == "wrong_signature"


def test_loose_der_is_refused() -> None:
    der = WALLET.der(TEXT)
    r, s = numbers_of(der)
    padded = b"\x02\x22\x00\x00" + r.to_bytes(32, "big") + b"\x02\x20" + s.to_bytes(32, "big")
    for loose in (der + b"\x00", b"\x30" + bytes([len(padded)]) + padded, der[:-1], b"\x31" + der[1:]):
        assert refusal(WALLET.address("p2wpkh"), TEXT, stack(loose + b"\x01", WALLET.public)) == "unreadable"


@given(st.lists(st.binary(max_size=80), max_size=3))
def test_a_witness_stack_is_read_back_whole_and_never_with_bytes_after_it(items: list[bytes]) -> None:
    raw = base64.b64decode(stack(*items))
    assert read_witness(raw) == items
    assert read_witness(raw + b"\x00") is None
    assert read_witness(raw[:-1]) is None


# --- signmessage
@pytest.mark.parametrize(
    ("kind", "headers"), [("p2pkh", (31,)), ("p2sh", (31, 35)), ("p2wpkh", (31, 39))], ids=lambda value: str(value)
)
def test_signmessage_is_taken_as_core_electrum_and_devices_write_it(kind: str, headers: tuple[int, ...]) -> None:
    address = WALLET.address(kind)
    for header in headers:
        assert verify_signature(address, "mainnet", TEXT, WALLET.signmessage(TEXT, header)) == "signmessage"
    for header in {27, 35, 39} - set(headers):
        assert refusal(address, TEXT, WALLET.signmessage(TEXT, header)) == "wrong_signature"


def test_an_uncompressed_key_signs_for_its_own_old_address_only() -> None:
    old = WALLET.address("p2pkh", compressed=False)
    assert verify_signature(old, "mainnet", TEXT, WALLET.signmessage(TEXT, 27)) == "signmessage"
    assert refusal(old, TEXT, WALLET.signmessage(TEXT, 31)) == "wrong_signature"
    assert refusal(WALLET.address("p2tr"), TEXT, WALLET.signmessage(TEXT, 31)) == "cannot_sign"


def test_a_signmessage_made_by_bitcoin_core_is_good() -> None:
    # From the functional tests of Bitcoin Core (rpc_signmessagewithprivkey.py): key, message and what it answers.
    address, message = "mpLQjfK79b7CCV4VMJWEWAj5Mpx8Up5zxB", "This is just a test message"
    signed = "INbVnW4e6PeRmsv2Qgu8NuopvrVjkcxob+sX8OcZG0SALhWybUjzMLPdAsXI46YZGb0KQTRii+wWIQzRpG/U+S0="
    assert verify_signature(address, "regtest", message, signed) == "signmessage"
    assert refusal(address, message + ".", signed, "regtest") == "wrong_signature"
