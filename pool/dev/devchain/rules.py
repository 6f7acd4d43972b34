"""The rules of the two development networks and the arithmetic of targets: what is constant, said once."""

from __future__ import annotations

from dataclasses import dataclass

COIN_SAT = 100_000_000
MAX_MONEY_SAT = 21_000_000 * COIN_SAT
MAX_BLOCK_WEIGHT = 4_000_000
MAX_BLOCK_SIGOPS_COST = 80_000
MAX_FUTURE_S = 2 * 60 * 60
#: Weight Bitcoin Core keeps free for header and coinbase in a template (`-blockreservedweight`).
RESERVED_WEIGHT = 8_000

LABEL = "MMSP-devchain"
WARNING = "DEVELOPMENT CHAIN: its coins are worth nothing and it is no part of any public Bitcoin network"


class RejectError(Exception):
    """A block or transaction breaks a rule. `reason` is the word Bitcoin Core answers.

    `mutated` means that the header may still belong to a valid block (another body), so its hash is not remembered as
    bad.
    """

    def __init__(self, reason: str, detail: str = "", *, mutated: bool = False) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.mutated = mutated


@dataclass(frozen=True, slots=True)
class Network:
    """What distinguishes one development network from the other."""

    mode: str  # "strict" | "demo"
    chain: str  # as getblockchaininfo names it
    limit_nbits: int
    halving_blocks: int | None
    maturity_blocks: int
    spacing_ms: int
    retargets: bool
    genesis_time_s: int
    genesis_nonce: int

    def subsidy_sat(self, height: int) -> int:
        """New coins a block of that height may create."""
        if self.halving_blocks is None:
            return 50 * COIN_SAT
        halvings = height // self.halving_blocks
        return 0 if halvings >= 64 else (50 * COIN_SAT) >> halvings

    @property
    def limit_target(self) -> int:
        """Easiest target allowed."""
        return target_of_nbits(self.limit_nbits)


STRICT = Network(
    mode="strict", chain="regtest", limit_nbits=0x207FFFFF, halving_blocks=150, maturity_blocks=100, spacing_ms=600_000,
    retargets=False, genesis_time_s=1_735_689_600, genesis_nonce=0,
)  # fmt: skip
#: The demo's easiest block takes 2^16 hashes: 20 s at 3 kH/s, or 0.1 s of plain Python.
DEMO = Network(
    mode="demo", chain="demo", limit_nbits=0x1F00FFFF, halving_blocks=None, maturity_blocks=6, spacing_ms=20_000,
    retargets=True, genesis_time_s=1_735_689_600, genesis_nonce=0,
)  # fmt: skip
NETWORKS = {network.mode: network for network in (STRICT, DEMO)}


def target_of_nbits(nbits: int) -> int:
    """Compact form to 256-bit target; ValueError on zero, negative or overflow."""
    size, word = nbits >> 24, nbits & 0x007FFFFF
    target = word >> 8 * (3 - size) if size <= 3 else word << 8 * (size - 3)
    if target == 0 or nbits & 0x00800000 or target >> 256:
        raise ValueError(f"nBits {nbits:08x} is no target")
    return target


def nbits_of_target(target: int) -> int:
    """256-bit target to compact form, rounded down as Bitcoin Core does."""
    size = (target.bit_length() + 7) // 8
    word = target << 8 * (3 - size) if size <= 3 else target >> 8 * (size - 3)
    if word & 0x00800000:
        word >>= 8
        size += 1
    return size << 24 | word


def work_of_target(target: int) -> int:
    """Expected hashes for one block: 2^256 // (target + 1)."""
    return (1 << 256) // (target + 1)


def difficulty_of_nbits(nbits: int) -> float:
    """Difficulty as the RPC shows it (a display figure; no rule uses it)."""
    return (0xFFFF << 208) / target_of_nbits(nbits)
