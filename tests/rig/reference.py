"""The slow, readable oracle of mining arithmetic: hash, header, target, nBits, work, CRC-32C. Imports nothing of ours.

Byte order: `_le` and "internal" mean as hashed, "display" means reversed, as people read it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

DIFFICULTY_1_TARGET = 0xFFFF << 208
MAX_256 = (1 << 256) - 1
MIN_DIFFICULTY = Fraction(1, 1 << 20)
VERSION_MASK = 0x1FFFE000


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def merkle_root(leaf: bytes, branches: Sequence[bytes]) -> bytes:
    """Fold leaf 0 with its branches, internal order throughout."""
    root = leaf
    for branch in branches:
        root = sha256d(root + branch)
    return root


def merkle_levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Every level of Bitcoin's tree, leaves first; an odd level repeats its last node."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        row = levels[-1] + levels[-1][-1:] * (len(levels[-1]) % 2)
        levels.append([sha256d(row[i] + row[i + 1]) for i in range(0, len(row), 2)])
    return levels


def merkle_tree_root(leaves: Sequence[bytes]) -> bytes:
    return merkle_levels(leaves)[-1][0]


def merkle_branches(txids: Sequence[bytes]) -> list[bytes]:
    """Siblings on the path of leaf 0 (the coinbase, unknown yet) over coinbase + txids."""
    levels = merkle_levels([bytes(32), *txids])
    return [level[1] if len(level) > 1 else level[0] for level in levels[:-1]]


def swap_words(data: bytes) -> bytes:
    """Reverse the bytes of each 4-byte word: header order of a prevhash <-> its order in mining.notify."""
    return b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))


def header(version: int, prevhash: bytes, root: bytes, ntime: int, nbits: int, nonce: int) -> bytes:
    """80 bytes as hashed; prevhash and root internal."""
    ints = [n.to_bytes(4, "little") for n in (version, ntime, nbits, nonce)]
    return ints[0] + prevhash + root + ints[1] + ints[2] + ints[3]


def hash_int(hash_le: bytes) -> int:
    """The number that is compared with a target."""
    return int.from_bytes(hash_le, "little")


def target_of_difficulty(difficulty: float | Fraction) -> int:
    """floor(0xFFFF * 2^208 / D), D taken as the exact rational that the double is."""
    if isinstance(difficulty, float) and not math.isfinite(difficulty):
        raise ValueError("difficulty is not finite")
    exact = Fraction(difficulty)
    if exact < MIN_DIFFICULTY:
        raise ValueError("difficulty below 2^-20")
    return min(math.floor(DIFFICULTY_1_TARGET / exact), MAX_256)


def difficulty_of_target(target: int) -> float:
    """Nearest double of 0xFFFF * 2^208 / target (Fraction to float rounds correctly)."""
    if not 0 < target <= MAX_256:
        raise ValueError("target out of range")
    return float(Fraction(DIFFICULTY_1_TARGET, target))


def target_of_nbits(nbits: int) -> int:
    """Compact form: one byte of size, a sign bit, 23 bits of mantissa."""
    size, mantissa = nbits >> 24, nbits & 0x7FFFFF
    target = mantissa >> (8 * (3 - size)) if size <= 3 else mantissa << (8 * (size - 3))
    if target == 0:
        raise ValueError("zero target")
    if nbits & 0x800000:
        raise ValueError("negative target")
    if target > MAX_256:
        raise ValueError("target overflows 256 bits")
    return target


def nbits_of_target(target: int) -> int:
    size = (target.bit_length() + 7) // 8
    mantissa = target << (8 * (3 - size)) if size <= 3 else target >> (8 * (size - 3))
    if mantissa & 0x800000:  # would read as a sign
        mantissa, size = mantissa >> 8, size + 1
    return size << 24 | mantissa


def work_of_target(target: int) -> int:
    """Expected hashes to meet the target."""
    return (1 << 256) // (target + 1)


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_CRC32C = _crc_table()


def crc32c(data: bytes, seed: int = 0) -> int:
    """CRC-32C (Castagnoli, RFC 3720), continued from `seed`: crc32c(b, crc32c(a)) == crc32c(a + b)."""
    crc = seed ^ 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283
assert target_of_nbits(0x1D00FFFF) == DIFFICULTY_1_TARGET
assert nbits_of_target(DIFFICULTY_1_TARGET) == 0x1D00FFFF


@dataclass(frozen=True)
class RefJob:
    """One template as a miner hashes it, in the field names of `native.work.Job`."""

    job_id: int
    coinb1: bytes
    coinb2: bytes
    branches: tuple[bytes, ...]
    prevhash: bytes
    version: int
    nbits: int
    ntime: int
    ntime_min: int
    ntime_max: int
    height: int
    transactions: bytes = b""
    tx_count: int = 0
    witness_commitment: bool = True
    network_target: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "network_target", target_of_nbits(self.nbits))

    def notify(self, clean: bool) -> bytes:
        """The mining.notify line: prevhash with its words swapped, the numbers as 8 hex digits."""
        branches = ",".join(f'"{branch.hex()}"' for branch in self.branches)
        numbers = f'"{self.version:08x}","{self.nbits:08x}","{self.ntime:08x}"'
        parts = f'"{self.job_id:x}","{swap_words(self.prevhash).hex()}","{self.coinb1.hex()}","{self.coinb2.hex()}"'
        flag = "true" if clean else "false"
        return f'{{"id":null,"method":"mining.notify","params":[{parts},[{branches}],{numbers},{flag}]}}\n'.encode()

    def coinbase(self, extranonce1: bytes, extranonce2: bytes) -> bytes:
        return self.coinb1 + extranonce1 + extranonce2 + self.coinb2

    def header(self, extranonce1: bytes, extranonce2: bytes, ntime: int, nonce: int, version_bits: int) -> bytes:
        root = merkle_root(sha256d(self.coinbase(extranonce1, extranonce2)), self.branches)
        return header(self.version ^ version_bits, self.prevhash, root, ntime, self.nbits, nonce)

    def block(self, extranonce1: bytes, extranonce2: bytes, header80: bytes) -> bytes:
        """Witness form: marker and flag after the version, one 32-byte zero item before the lock time."""
        coinbase = self.coinbase(extranonce1, extranonce2)
        if self.witness_commitment:
            coinbase = coinbase[:4] + b"\x00\x01" + coinbase[4:-4] + b"\x01\x20" + bytes(32) + coinbase[-4:]
        return header80 + compact_size(self.tx_count + 1) + coinbase + self.transactions


def compact_size(number: int) -> bytes:
    if number < 0xFD:
        return bytes([number])
    if number <= 0xFFFF:
        return b"\xfd" + number.to_bytes(2, "little")
    return b"\xfe" + number.to_bytes(4, "little")
