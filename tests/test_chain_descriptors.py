"""Watch-only descriptors: the BIPs' own addresses come out, and no mistake gets as far as a coinbase."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.chain.descriptors import DescriptorError, checksum, parse_descriptor, pool_scripts

# Account keys of the mnemonic "abandon ... about", which BIP44, BIP49, BIP84 and BIP86 use in their examples.
BIP44 = (
    "xpub6BosfCnifzxcFwrSzQiqu2DBVTshkCXacvNsWGYJVVhhawA7d4R5WSWGFNbi8Aw6ZRc1brxMyWMzG3DSSSSoekkudhUd9yLb6qx39T9nMdj"
)
BIP49 = (
    "xpub6C6nQwHaWbSrzs5tZ1q7m5R9cPK9eYpNMFesiXsYrgc1P8bvLLAet9JfHjYXKjToD8cBRswJXXbbFpXgwsswVPAZzKMa1jUp2kVkGVUaJa7"
)
BIP84 = (
    "xpub6CatWdiZiodmUeTDp8LT5or8nmbKNcuyvz7WyksVFkKB4RHwCD3XyuvPEbvqAQY3rAPshWcMLoP2fMFMKHPJ4ZeZXYVUhLv1VMrjPC7PW6V"
)
BIP86 = (
    "xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ"
)
# BIP32, test vector 1, chain m: public and private.
BIP32_XPUB = (
    "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8"
)
BIP32_XPRV = (
    "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi"
)


def signed(body: str) -> str:
    return f"{body}#{checksum(body)}"


@pytest.mark.parametrize(
    ("body", "index", "address"),
    [
        (f"pkh({BIP44}/0/*)", 0, "1LqBGSKuX5yYUonjxT5qGfpUsXKYYWeabA"),
        (f"sh(wpkh({BIP49}/0/*))", 0, "37VucYSaXLCAsxYyAPfbSi9eh4iEcbShgf"),
        (f"wpkh([73c5da0a/84h/0h/0h]{BIP84}/0/*)", 0, "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"),
        (f"wpkh([73c5da0a/84'/0'/0']{BIP84}/0/*)", 1, "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"),
        (f"wpkh({BIP84}/1/*)", 0, "bc1q8c6fshw2dlwun7ekn9qwf37cu2rn755upcp6el"),
        (f"wpkh({BIP84}/0/1)", 7, "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"),
        (f"tr({BIP86}/0/*)", 0, "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"),
        (f"tr({BIP86}/0/*)", 1, "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh"),
        (f"tr({BIP86}/1/*)", 0, "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7"),
    ],
)
def test_the_bips_example_wallets_give_their_addresses(body: str, index: int, address: str) -> None:
    descriptor = parse_descriptor(signed(body), "mainnet")
    assert descriptor.address(index).text == address
    assert descriptor.ranged == body.rstrip(")").endswith("*")


def test_each_found_block_gets_an_address_of_its_own() -> None:
    script = pool_scripts("", signed(f"wpkh({BIP84}/0/*)"), "mainnet")
    assert len({script(found) for found in range(20)}) == 20
    fixed = pool_scripts("bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu", "", "mainnet")
    assert fixed(0) == fixed(5) == script(0)
    for neither_or_both in (("", ""), ("bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu", signed(f"wpkh({BIP84}/0/*)"))):
        with pytest.raises(DescriptorError, match="either"):
            pool_scripts(*neither_or_both, "mainnet")


def _last_changed(text: str) -> str:
    return text[:-1] + ("9" if text[-1] != "9" else "8")


@pytest.mark.parametrize(
    ("text", "network", "word"),
    [
        (f"wpkh({BIP84}/0/*)", "mainnet", r"no checksum.*add #"),
        (f"wpkh({BIP84}/0/*)#aaaaaaaa", "mainnet", "does not fit"),
        (signed(f"wpkh({_last_changed(BIP84)}/0/*)"), "mainnet", "wrong checksum"),
        (signed(f"wpkh({BIP84}/0/*)"), "regtest", "an xpub, for mainnet"),
        (signed(f"wpkh({BIP32_XPRV}/0/*)"), "mainnet", "PRIVATE"),
        (signed(f"wpkh({BIP84}/0h/*)"), "mainnet", "hardened"),
        (signed(f"wpkh({BIP84}/0/*h)"), "mainnet", "hardened"),
        (signed(f"wpkh({BIP84}/2147483648/*)"), "mainnet", "hardened"),
        (signed(f"wpkh({BIP84}/<0;1>/*)"), "mainnet", "several paths"),
        (signed(f"tr({BIP86}/0/*,pk({BIP84}))"), "mainnet", "script tree"),
        (signed(f"wsh(multi(1,{BIP84}/0/*))"), "mainnet", "'wsh' is not one of"),
        (signed("raw(deadbeef)"), "mainnet", "'raw' is not one of"),
        (signed(BIP84), "mainnet", "bare extended key"),
        (signed(f"wpkh({'02' * 33})"), "mainnet", "the key is not"),
        ("", "mainnet", "checksum"),
        ("wpkh(é)#aaaaaaaa", "mainnet", "cannot stand"),
        ("x" * 1_000_000, "mainnet", "too many"),
        (signed(f"wpkh({BIP84}/0/*)"), "moon", "unknown network"),
    ],
)
def test_a_descriptor_that_cannot_be_used_says_why(text: str, network: str, word: str) -> None:
    with pytest.raises(DescriptorError, match=word):
        parse_descriptor(text, network)


def test_an_extended_key_that_is_no_point_of_the_curve_is_refused() -> None:
    import hashlib

    from pool.address import bitcoinlib_encoding

    lib = bitcoinlib_encoding()
    raw = bytearray(bytes(lib.change_base(BIP32_XPUB, 58, 256))[:78])
    raw[46:78] = (5).to_bytes(32, "big")  # 5^3 + 7 is no square
    raw += hashlib.sha256(hashlib.sha256(raw).digest()).digest()[:4]
    from bitcoinlib.encoding import change_base

    with pytest.raises(DescriptorError, match=r"point of the curve|public key"):
        parse_descriptor(signed(f"wpkh({change_base(bytes(raw), 256, 58)}/0/*)"), "mainnet")


@given(place=st.integers(0, 400), letter=st.sampled_from("0123456789abcdefxyz()/*[]hXYZ"))
def test_one_mistyped_character_is_always_noticed(place: int, letter: str) -> None:
    good = signed(f"wpkh([73c5da0a/84h/0h/0h]{BIP84}/0/*)")
    place %= len(good)
    if good[place] == letter:
        return
    with pytest.raises(DescriptorError):
        parse_descriptor(good[:place] + letter + good[place + 1 :], "mainnet")
