"""Difficulty <-> 256-bit target <-> nBits <-> work, exactly."""

from fractions import Fraction

cdef extern from *:
    const char *NATIVE_BUILD

__build__ = NATIVE_BUILD.decode()

DIFFICULTY_1_TARGET = 0xFFFF << 208
MIN_DIFFICULTY = 2.0**-20


cdef object int_of_u256(const u256 *v):
    return v.w[0] | (<object>v.w[1] << 64) | (<object>v.w[2] << 128) | (<object>v.w[3] << 192)


cdef double nearest_difficulty(const u256 *v) except? -1:
    """Through exact rationals: for records, which are rare and which anybody may recompute."""
    value = int_of_u256(v)
    return float(Fraction(DIFFICULTY_1_TARGET, value)) if value else float("inf")


cdef u256 u256_of_int(object value) except *:
    cdef u256 out
    cdef int i
    if not 0 <= value < 1 << 256:
        raise ValueError(f"a target must be from 0 to 2^256 - 1, got {value:#x}")
    for i in range(4):
        out.w[i] = (value >> (64 * i)) & 0xFFFFFFFFFFFFFFFF
    return out


def target_of_difficulty(double difficulty):
    cdef u256 target
    if not u256_of_difficulty(difficulty, &target):
        raise ValueError(f"difficulty must be a finite number of at least 2^-20, got {difficulty!r}")
    return int_of_u256(&target)


def difficulty_of_target(target):
    if not 0 < target < 1 << 256:
        raise ValueError(f"a target must be from 1 to 2^256 - 1, got {target:#x}")
    return float(Fraction(DIFFICULTY_1_TARGET, target))


def target_of_nbits(nbits):
    if not 0 <= nbits <= 0xFFFFFFFF:
        raise ValueError(f"nBits must be a 32-bit number, got {nbits:#x}")
    size, word = nbits >> 24, nbits & 0x007FFFFF
    target = word >> 8 * (3 - size) if size <= 3 else word << 8 * (size - 3)
    if word and nbits & 0x00800000:
        raise ValueError(f"nBits {nbits:08x} is negative")
    if target >> 256:
        raise ValueError(f"nBits {nbits:08x} overflows 256 bits")
    if not target:
        raise ValueError(f"nBits {nbits:08x} is a target of zero")
    return target


def nbits_of_target(target):
    if not 0 < target < 1 << 256:
        raise ValueError(f"a target must be from 1 to 2^256 - 1, got {target:#x}")
    size = (target.bit_length() + 7) // 8
    word = target << 8 * (3 - size) if size <= 3 else target >> 8 * (size - 3)
    if word & 0x00800000:  # the sign bit: take one byte less of mantissa
        word >>= 8
        size += 1
    return size << 24 | word


def difficulty_of_hash(bytes hash_le not None):
    if len(hash_le) != 32:
        raise ValueError(f"hash must be 32 bytes, not {len(hash_le)}")
    cdef u256 value = u256_of_le(hash_le)
    return nearest_difficulty(&value)


def work_of_target(target):
    if not 0 <= target < 1 << 256:
        raise ValueError(f"a target must be from 0 to 2^256 - 1, got {target:#x}")
    return (1 << 256) // (target + 1)


def meets(bytes hash_le not None, target):
    if len(hash_le) != 32:
        raise ValueError(f"hash must be 32 bytes, not {len(hash_le)}")
    cdef u256 limit = u256_of_int(target), value = u256_of_le(hash_le)
    return bool(u256_le(&value, &limit))


def work_in_c(target):
    """work_of_target as the judge computes it (two words, saturating at 2^128 - 1): for tests that compare the two."""
    cdef u256 value = u256_of_int(target)
    cdef uint64_t lo, hi
    u256_work(&value, &lo, &hi)
    return <object>hi << 64 | lo


assert target_of_nbits(0x1D00FFFF) == DIFFICULTY_1_TARGET == target_of_difficulty(1.0)
assert nbits_of_target(DIFFICULTY_1_TARGET) == 0x1D00FFFF
assert work_in_c(DIFFICULTY_1_TARGET) == work_of_target(DIFFICULTY_1_TARGET) == 0x100010001
