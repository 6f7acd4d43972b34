"""One face for the two arithmetics that must agree: the oracle (`rig.reference`) and `native`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rig import reference


class JobFace(Protocol):
    def coinbase(self, extranonce1: bytes, extranonce2: bytes) -> bytes: ...
    def header(self, extranonce1: bytes, extranonce2: bytes, ntime: int, nonce: int, version_bits: int) -> bytes: ...
    def block(self, extranonce1: bytes, extranonce2: bytes, header: bytes, /) -> bytes: ...
    def notify(self, clean: bool) -> bytes: ...


class Arithmetic(Protocol):
    name: str

    def sha256d(self, data: bytes) -> bytes: ...
    def merkle_root(self, leaf: bytes, branches: Sequence[bytes]) -> bytes: ...
    def merkle_branches(self, txids: Sequence[bytes]) -> list[bytes]: ...
    def merkle_tree_root(self, txids: Sequence[bytes]) -> bytes: ...
    def target_of_difficulty(self, difficulty: float) -> int: ...
    def difficulty_of_target(self, target: int) -> float: ...
    def difficulty_of_hash(self, hash_le: bytes) -> float: ...
    def target_of_nbits(self, nbits: int) -> int: ...
    def nbits_of_target(self, target: int) -> int: ...
    def work_of_target(self, target: int) -> int: ...
    def job(self, **fields: object) -> JobFace: ...


class Oracle:
    name = "oracle"
    sha256d = staticmethod(reference.sha256d)
    merkle_root = staticmethod(reference.merkle_root)
    merkle_branches = staticmethod(reference.merkle_branches)
    merkle_tree_root = staticmethod(reference.merkle_tree_root)
    target_of_difficulty = staticmethod(reference.target_of_difficulty)
    difficulty_of_target = staticmethod(reference.difficulty_of_target)
    target_of_nbits = staticmethod(reference.target_of_nbits)
    nbits_of_target = staticmethod(reference.nbits_of_target)
    work_of_target = staticmethod(reference.work_of_target)
    job = staticmethod(reference.RefJob)

    @staticmethod
    def difficulty_of_hash(hash_le: bytes) -> float:
        return reference.difficulty_of_target(reference.hash_int(hash_le))


class Native:
    name = "native"

    def __init__(self) -> None:
        from native import difficulty, hashing, work  # not at the top: the oracle's own tests run without it

        self.sha256d = hashing.sha256d
        self.merkle_tree_root = lambda leaves: hashing.merkle_tree_root(b"".join(leaves))
        self.merkle_root = lambda leaf, branches: hashing.merkle_root(leaf, b"".join(branches))
        self._branches = hashing.merkle_branches
        self.target_of_difficulty = difficulty.target_of_difficulty
        self.difficulty_of_target = difficulty.difficulty_of_target
        self.difficulty_of_hash = difficulty.difficulty_of_hash
        self.target_of_nbits = difficulty.target_of_nbits
        self.nbits_of_target = difficulty.nbits_of_target
        self.work_of_target = difficulty.work_of_target
        self.job = work.Job

    def merkle_branches(self, txids: Sequence[bytes]) -> list[bytes]:
        joined = self._branches(b"".join(txids))
        return [joined[i : i + 32] for i in range(0, len(joined), 32)]
