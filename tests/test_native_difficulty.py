"""Difficulty, targets, nBits and work in native/: exact, against rationals and Bitcoin Core's rules written out."""

from __future__ import annotations

import hashlib
import math
import random
import re
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from native import difficulty as nd
from native.hashing import sha256d

MAX = (1 << 256) - 1
targets = st.one_of(
    st.integers(1, MAX),
    st.integers(0, 255).map(lambda bit: 1 << bit),
    st.integers(1, 256).map(lambda bits: (1 << bits) - 1),
    st.builds(lambda word, shift: max(word << shift >> 24, 1), st.integers(1, (1 << 24) - 1), st.integers(0, 256)),
)
difficulties = st.one_of(
    st.floats(min_value=2.0**-20, allow_infinity=False, allow_nan=False),
    st.floats(min_value=2.0**-20, max_value=1e6),
    st.integers(1, 1 << 53).map(float),
    st.integers(-20, 1000).map(lambda exponent: 2.0**exponent),
)


# --- difficulty -> target
@given(difficulties)
@example(2.0**-20)
@example(0.1)
@example(math.nextafter(1, 2))
@example(1.7976931348623157e308)
@example(2.0**224)
@example(2.0**208 * 65535)
def test_the_target_is_the_floor_of_the_exact_quotient(difficulty: float) -> None:
    assert nd.target_of_difficulty(difficulty) == min(math.floor(Fraction(0xFFFF << 208) / Fraction(difficulty)), MAX)


@pytest.mark.parametrize("bad", [0.0, -1.0, -0.0, math.nextafter(2.0**-20, 0), math.inf, -math.inf, math.nan, 5e-324])
def test_what_is_no_difficulty_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="at least 2\\^-20"):
        nd.target_of_difficulty(bad)


def test_the_known_ends() -> None:
    assert nd.target_of_difficulty(1) == nd.DIFFICULTY_1_TARGET == 0xFFFF << 208
    assert nd.target_of_difficulty(nd.MIN_DIFFICULTY) == 0xFFFF << 228
    assert nd.difficulty_of_target(nd.DIFFICULTY_1_TARGET) == 1.0
    assert nd.difficulty_of_target(1) == float(0xFFFF << 208)


@given(targets)
def test_difficulty_of_a_target_is_the_nearest_double(target: int) -> None:
    found = nd.difficulty_of_target(target)
    exact = Fraction(0xFFFF << 208, target)
    for neighbour in (math.nextafter(found, 0), math.nextafter(found, math.inf)):
        assert abs(Fraction(found) - exact) <= abs(Fraction(neighbour) - exact)


@given(difficulties, difficulties)
def test_a_higher_difficulty_never_has_an_easier_target(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert nd.target_of_difficulty(low) >= nd.target_of_difficulty(high)


# --- nBits, as Bitcoin Core's arith_uint256::SetCompact and GetCompact
def core_set_compact(nbits: int) -> tuple[int, bool, bool]:
    size, word = nbits >> 24, nbits & 0x007FFFFF
    if size <= 3:
        word >>= 8 * (3 - size)
        value = word
    else:
        value = (word << 8 * (size - 3)) & MAX
    negative = word != 0 and nbits & 0x00800000 != 0
    overflow = word != 0 and (size > 34 or (word > 0xFF and size > 33) or (word > 0xFFFF and size > 32))
    return value, negative, overflow


def core_get_compact(value: int) -> int:
    size = (value.bit_length() + 7) // 8
    compact = (value << 8 * (3 - size) if size <= 3 else value >> 8 * (size - 3)) & 0xFFFFFFFF
    if compact & 0x00800000:
        compact >>= 8
        size += 1
    return compact | size << 24


@given(
    st.one_of(
        st.integers(0, 0xFFFFFFFF),
        st.builds(lambda size, word: size << 24 | word, st.integers(0, 36), st.integers(0, 0xFFFFFF)),
        st.builds(lambda size, word: size << 24 | word, st.integers(30, 36), st.integers(0, 0x1FFFF)),
    )
)
@example(0x2100FFFF)
@example(0x22000001)
@example(0x220000FF)
@example(0x21010000)
@example(0x01003456)
@example(0x01803456)
@example(0x04923456)
@example(0x00000000)
@example(0x20123456)
def test_nbits_to_target_is_cores(nbits: int) -> None:
    value, negative, overflow = core_set_compact(nbits)
    if negative or overflow or value == 0:
        with pytest.raises(ValueError, match=f"nBits {nbits:08x}"):
            nd.target_of_nbits(nbits)
    else:
        assert nd.target_of_nbits(nbits) == value


@given(targets)
@example(0x80)
@example(0x7FFFFF)
@example(0x800000)
@example(MAX)
def test_target_to_nbits_is_cores_and_comes_back(target: int) -> None:
    nbits = nd.nbits_of_target(target)
    assert nbits == core_get_compact(target)
    back = nd.target_of_nbits(nbits)
    assert back <= target, "the mantissa is cut, never rounded up"
    assert nd.nbits_of_target(back) == nbits


# --- work
@given(st.one_of(st.just(0), targets))
@example(MAX)
@example(MAX - 1)
@example((1 << 255) - 1)
@example(1 << 255)
@example((1 << 128) - 1)
@example(1 << 128)
@example((1 << 128) + 1)
@example((1 << 128) - 2)
def test_work_is_the_exact_integer_quotient(target: int) -> None:
    exact = (1 << 256) // (target + 1)
    assert nd.work_of_target(target) == exact
    assert nd.work_in_c(target) == min(exact, (1 << 128) - 1)


# --- hashes against targets
@given(targets, st.integers(-2, 2))
def test_equal_meets_and_one_more_does_not(target: int, off: int) -> None:
    value = min(max(target + off, 0), MAX)
    assert nd.meets(value.to_bytes(32, "little"), target) == (value <= target)


@given(st.integers(0, MAX), st.integers(0, MAX))
def test_the_comparison_is_of_256_bits(value: int, target: int) -> None:
    assert nd.meets(value.to_bytes(32, "little"), target) == (value <= target)


def test_a_difference_in_any_single_byte_decides(rng: random.Random) -> None:
    for at in range(32):
        base = bytearray(rng.randbytes(32))
        base[at] = 100
        target = int.from_bytes(base, "little")
        for byte, met in ((99, True), (100, True), (101, False)):
            base[at] = byte
            assert nd.meets(bytes(base), target) is met


def test_the_difficulty_of_a_hash_is_that_of_its_number(rng: random.Random) -> None:
    for _ in range(200):
        hash_le = sha256d(rng.randbytes(8))[: rng.randrange(20, 33)].ljust(32, b"\0")
        assert nd.difficulty_of_hash(hash_le) == float(Fraction(0xFFFF << 208, int.from_bytes(hash_le, "little")))
    assert nd.difficulty_of_hash(bytes(32)) == math.inf
    genesis = bytes.fromhex("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f")[::-1]
    assert nd.difficulty_of_hash(genesis) == pytest.approx(2536.4, abs=0.1)


def test_what_is_out_of_range_is_named() -> None:
    digest = hashlib.sha256(b"").digest()
    for act, words in (
        (lambda: nd.difficulty_of_target(0), "from 1 to 2^256 - 1, got 0x0"),
        (lambda: nd.difficulty_of_target(1 << 256), "from 1 to 2^256 - 1"),
        (lambda: nd.nbits_of_target(0), "from 1 to 2^256 - 1"),
        (lambda: nd.nbits_of_target(-5), "from 1 to 2^256 - 1"),
        (lambda: nd.work_of_target(-1), "from 0 to 2^256 - 1"),
        (lambda: nd.work_in_c(1 << 256), "from 0 to 2^256 - 1"),
        (lambda: nd.meets(digest, -1), "from 0 to 2^256 - 1"),
        (lambda: nd.meets(digest[:31], 5), "hash must be 32 bytes, not 31"),
        (lambda: nd.difficulty_of_hash(digest + b"x"), "hash must be 32 bytes, not 33"),
        (lambda: nd.target_of_nbits(1 << 32), "nBits must be a 32-bit number"),
        (lambda: nd.target_of_nbits(-1), "nBits must be a 32-bit number"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            act()
