"""Difficulty <-> 256-bit target <-> nBits <-> work, exactly. Targets and hashes are Python ints (256-bit) here."""

DIFFICULTY_1_TARGET: int  # 0xFFFF * 2^208, "pdiff 1"
MIN_DIFFICULTY: float  # 2^-20

def target_of_difficulty(difficulty: float) -> int:
    """floor(0xFFFF * 2^208 / difficulty) with the double taken as an exact rational, at most 2^256 - 1. ValueError
    unless finite and >= 2^-20."""

def difficulty_of_target(target: int) -> float:
    """Nearest double of 0xFFFF * 2^208 / target. ValueError unless 0 < target < 2^256."""

def target_of_nbits(nbits: int) -> int:
    """Bitcoin Core's SetCompact; ValueError on negative, overflow or zero."""

def nbits_of_target(target: int) -> int:
    """Bitcoin Core's GetCompact."""

def difficulty_of_hash(hash_le: bytes) -> float: ...
def work_of_target(target: int) -> int:
    """2^256 // (target + 1): expected hashes, an exact integer."""

def meets(hash_le: bytes, target: int) -> bool:
    """True iff hash <= target, both 256-bit; equal meets."""

def work_in_c(target: int) -> int:
    """work_of_target as the judge computes it (two words, saturating at 2^128 - 1): for tests that compare the two."""
