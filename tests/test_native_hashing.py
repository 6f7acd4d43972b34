"""SHA-256 in native/: every kernel against hashlib and the others, here and on ARM; constants from primes."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from math import isqrt
from pathlib import Path

import pytest

from native import hashing
from rig.servers import missing_server

ROOT = Path(hashing.__file__).parent.parent
SOURCE = ROOT / "native" / "sha256.c"
PLAIN = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}  # no sanitizer in other programs
EDGES = (0, 1, 31, 32, 55, 56, 57, 63, 64, 65, 80, 119, 120, 121, 127, 128, 129, 250, 1000)


@pytest.fixture(params=hashing.kernels())
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    before = hashing.kernel()
    hashing.use_kernel(request.param)
    yield request.param
    hashing.use_kernel(before)


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def slow_fold(node: bytes, branches: bytes) -> bytes:
    for at in range(0, len(branches), 32):
        node = sha256d(node + branches[at : at + 32])
    return node


def slow_tree(leaves: list[bytes]) -> bytes:
    while len(leaves) > 1:
        if len(leaves) % 2:
            leaves = [*leaves, leaves[-1]]
        leaves = [sha256d(leaves[n] + leaves[n + 1]) for n in range(0, len(leaves), 2)]
    return leaves[0]


# --- hashes
def test_every_kernel_agrees_with_hashlib_at_every_padding_edge(kernel: str, rng: random.Random) -> None:
    for length in (*EDGES, *(rng.randrange(5000) for _ in range(200))):
        data = rng.randbytes(length)
        assert hashing.sha256(data) == hashlib.sha256(data).digest(), length
        assert hashing.sha256d(data) == sha256d(data), length


def test_every_length_up_to_three_blocks(kernel: str, rng: random.Random) -> None:
    data = rng.randbytes(200)
    for length in range(200):
        assert hashing.sha256(data[:length]) == hashlib.sha256(data[:length]).digest(), length


def test_headers_and_merkle_steps_of_every_kernel(kernel: str, rng: random.Random) -> None:
    for _ in range(300):
        header, left, right = rng.randbytes(80), rng.randbytes(32), rng.randbytes(32)
        assert hashing.header_hash(header) == sha256d(header)
        assert hashing.merkle_step(left, right) == sha256d(left + right)


def test_folding_any_number_of_branches(kernel: str, rng: random.Random) -> None:
    for count in range(33):
        leaf, branches = rng.randbytes(32), rng.randbytes(32 * count)
        assert hashing.merkle_root(leaf, branches) == slow_fold(leaf, branches), count


def test_trees_of_every_size_and_their_branches(kernel: str, rng: random.Random) -> None:
    for size in (*range(1, 40), 255, 256, 257):
        leaves = [rng.randbytes(32) for _ in range(size)]
        root = slow_tree(leaves)
        assert hashing.merkle_tree_root(b"".join(leaves)) == root, size
        branches = hashing.merkle_branches(b"".join(leaves[1:]))
        assert len(branches) == 32 * (size - 1).bit_length()
        assert hashing.merkle_root(leaves[0], branches) == root, size


def test_a_midstate_is_the_state_after_one_block(kernel: str, rng: random.Random) -> None:
    for _ in range(20):
        block = rng.randbytes(64)
        words = list(primes_root(8, 2))
        expected = compress(words, block)
        assert hashing.midstate(block) == b"".join(word.to_bytes(4, "big") for word in expected)


def test_a_search_finds_the_first_nonce_that_meets_the_target(kernel: str, rng: random.Random) -> None:
    header, target, first = rng.randbytes(80), (1 << 248) - 1, 0xFFFFFFC0
    nonce = hashing.search(header, target, first, 5000)
    slow = next(
        n & 0xFFFFFFFF
        for n in range(first, first + 5000)
        if int.from_bytes(sha256d(header[:76] + (n & 0xFFFFFFFF).to_bytes(4, "little")), "little") <= target
    )
    assert nonce == slow
    assert hashing.search(header, 0, 0, 100) is None
    exact = int.from_bytes(sha256d(header[:76] + slow.to_bytes(4, "little")), "little")
    assert hashing.search(header, exact, slow, 1) == slow, "equal meets"
    assert hashing.search(header, exact - 1, slow, 1) is None


def test_wrong_sizes_are_named() -> None:
    for act, words in (
        (lambda: hashing.header_hash(bytes(79)), "header must be 80 bytes, not 79"),
        (lambda: hashing.merkle_step(bytes(31), bytes(32)), "left node must be 32 bytes"),
        (lambda: hashing.merkle_step(bytes(32), bytes(33)), "right node must be 32 bytes"),
        (lambda: hashing.merkle_root(bytes(32), bytes(33)), "branches must be whole 32-byte nodes"),
        (lambda: hashing.merkle_branches(bytes(31)), "txids must be whole 32-byte ids"),
        (lambda: hashing.merkle_tree_root(b""), "at least one whole 32-byte id"),
        (lambda: hashing.midstate(bytes(63)), "block must be 64 bytes"),
        (lambda: hashing.bench("nothing", 1), "unknown kind 'nothing'"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            act()


def test_the_bench_counts_time_for_every_kind() -> None:
    for kind in ("share12", "share12mid", "merkle", "header"):
        assert 0 < hashing.bench(kind, 500) < 5


# --- constants, from the primes they stand for (FIPS 180-4, 4.2.2 and 5.3.3)
def primes() -> Iterator[int]:
    found: list[int] = []
    number = 2
    while True:
        if all(number % p for p in found):
            found.append(number)
            yield number
        number += 1


def cube_root(number: int) -> int:
    low, high = 0, number + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**3 <= number else (low, middle)
    return low


def primes_root(count: int, degree: int) -> Iterator[int]:
    """The first 32 bits of the fractional parts of the roots of the first primes."""
    for prime, _ in zip(primes(), range(count), strict=False):
        yield (isqrt(prime << 64) if degree == 2 else cube_root(prime << 96)) & 0xFFFFFFFF


def rotate(x: int, n: int) -> int:
    return (x >> n | x << (32 - n)) & 0xFFFFFFFF


def schedule(block: bytes) -> list[int]:
    w = [int.from_bytes(block[at : at + 4], "big") for at in range(0, 64, 4)]
    for i in range(16, 64):
        low = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3
        high = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10
        w.append((w[i - 16] + low + w[i - 7] + high) & 0xFFFFFFFF)
    return w


def compress(state: list[int], block: bytes) -> list[int]:
    a, b, c, d, e, f, g, h = state
    for k, w in zip(primes_root(64, 3), schedule(block), strict=True):
        t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + k + w
        t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))
        a, b, c, d, e, f, g, h = (t1 + t2) & 0xFFFFFFFF, a, b, c, (d + t1) & 0xFFFFFFFF, e, f, g
    return [(x + y) & 0xFFFFFFFF for x, y in zip(state, (a, b, c, d, e, f, g, h), strict=True)]


def table_in_c(name: str) -> list[int]:
    body = re.search(rf"{name}\[\d+\] = \{{(.*?)\}};", SOURCE.read_text(), re.DOTALL)
    assert body, name
    return [int(word, 16) for word in re.findall(r"0x([0-9a-f]{8})", body[1])]


def test_the_constant_tables_are_what_the_primes_say() -> None:
    constants = list(primes_root(64, 3))
    assert table_in_c("SHA256_IV") == list(primes_root(8, 2))
    assert table_in_c("SHA256_K") == constants
    padding = b"\x80" + bytes(61) + b"\x02\x00"  # of a 64-byte message: its bit length is 512
    assert table_in_c("SHA256_PAD64_WK") == [
        (k + w) & 0xFFFFFFFF for k, w in zip(constants, schedule(padding), strict=True)
    ]


# --- the choice of a kernel
def python_with(kernel: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            "from native import hashing; print(hashing.kernel(), hashing.sha256(b'abc').hex())",
        ],
        env={**os.environ, "NATIVE_SHA256": kernel, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", hashing.kernels())
def test_the_environment_chooses_the_kernel(name: str) -> None:
    result = python_with(name)
    assert result.stdout.split() == [name, hashlib.sha256(b"abc").hexdigest()], result.stderr


@pytest.mark.parametrize("name", ["sha-512", "armv8-sha2" if "sha-ni" in hashing.kernels() else "sha-ni"])
def test_a_kernel_this_cpu_lacks_is_a_loud_end(name: str) -> None:
    result = python_with(name)
    assert result.returncode != 0
    assert (
        f"NATIVE_SHA256: SHA-256 kernel '{name}' is not available here; there are: {', '.join(hashing.kernels())}"
        in result.stderr
    )


def test_an_unknown_kernel_is_refused_and_the_old_one_stays() -> None:
    before = hashing.kernel()
    with pytest.raises(ValueError, match="not available here"):
        hashing.use_kernel("vax")
    assert hashing.kernel() == before


def test_the_fastest_kernel_is_chosen_first() -> None:
    assert hashing.kernels()[-1] == "portable"
    wanted = os.environ.get("NATIVE_SHA256")
    assert hashing.kernel() == (wanted or hashing.kernels()[0])


# --- ARM
@pytest.fixture(scope="session")
def arm_hasher(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs native/sha256.c compiled for ARM."""
    compiler = shutil.which("aarch64-linux-gnu-gcc")
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if not compiler:
        missing_server("aarch64-linux-gnu-gcc", "as root: apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross")
    if not emulator:
        missing_server("qemu-aarch64", "as root: apt-get install qemu-user")
    program = tmp_path_factory.mktemp("arm") / "hash_vectors"
    driver = Path(__file__).parent / "rig" / "arm" / "hash_vectors.c"
    subprocess.run(
        [
            compiler,
            "-O2",
            "-std=gnu11",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-static",
            f"-I{SOURCE.parent}",
            str(driver),
            str(SOURCE),
            "-o",
            str(program),
        ],
        env=PLAIN,
        check=True,
        timeout=120,
    )
    return [emulator, "-cpu", "max", str(program)]


def test_the_arm_kernel_and_portable_on_arm_give_the_same_hashes(arm_hasher: list[str], rng: random.Random) -> None:
    asked: list[str] = []
    expected: list[str] = []
    for length in (*EDGES, *(rng.randrange(2000) for _ in range(60))):
        data = rng.randbytes(length)
        asked += [f"any {data.hex()}", f"mid {data.hex()}"]
        expected += [
            f"sha256 {hashlib.sha256(data).hexdigest()}",
            f"sha256d {sha256d(data).hex()}",
            f"mid {sha256d(data).hex()}",
        ]
    for count in (1, 2, 12, 32):
        node, branches = rng.randbytes(32), rng.randbytes(32 * count)
        asked.append(f"fold {(node + branches).hex()}")
        expected += [f"fold {slow_fold(node, branches).hex()}", f"pair {sha256d(node + branches[:32]).hex()}"]
    for _ in range(40):
        header = rng.randbytes(80)
        asked.append(f"header {header.hex()}")
        expected.append(f"header {sha256d(header).hex()}")
    result = subprocess.run(
        arm_hasher, env=PLAIN, input="\n".join(asked) + "\n", capture_output=True, text=True, timeout=120, check=True
    )
    said: dict[str, list[str]] = {}
    for line in result.stdout.splitlines():
        name, answer = line.split(" ", 1)
        said.setdefault(name, []).append(answer)
    assert set(said) == {"armv8-sha2", "portable"}
    assert said["armv8-sha2"] == expected
    assert said["portable"] == expected
