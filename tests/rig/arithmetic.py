"""One face for the two arithmetics that must agree: the oracle (`rig.reference`) and `native`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from native import difficulty as native_difficulty
from native import hashing, work
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
    def job(self, **fields: Any) -> JobFace: ...


class Oracle:
    """`rig.reference`."""

    name = "oracle"

    def sha256d(self, data: bytes) -> bytes:
        return reference.sha256d(data)

    def merkle_root(self, leaf: bytes, branches: Sequence[bytes]) -> bytes:
        return reference.merkle_root(leaf, branches)

    def merkle_branches(self, txids: Sequence[bytes]) -> list[bytes]:
        return reference.merkle_branches(txids)

    def merkle_tree_root(self, txids: Sequence[bytes]) -> bytes:
        return reference.merkle_tree_root(txids)

    def target_of_difficulty(self, difficulty: float) -> int:
        return reference.target_of_difficulty(difficulty)

    def difficulty_of_target(self, target: int) -> float:
        return reference.difficulty_of_target(target)

    def difficulty_of_hash(self, hash_le: bytes) -> float:
        return reference.difficulty_of_target(reference.hash_int(hash_le))

    def target_of_nbits(self, nbits: int) -> int:
        return reference.target_of_nbits(nbits)

    def nbits_of_target(self, target: int) -> int:
        return reference.nbits_of_target(target)

    def work_of_target(self, target: int) -> int:
        return reference.work_of_target(target)

    def job(self, **fields: Any) -> JobFace:
        return reference.RefJob(**fields)


class Native:
    """The compiled modules."""

    name = "native"

    def sha256d(self, data: bytes) -> bytes:
        return hashing.sha256d(data)

    def merkle_root(self, leaf: bytes, branches: Sequence[bytes]) -> bytes:
        return hashing.merkle_root(leaf, b"".join(branches))

    def merkle_branches(self, txids: Sequence[bytes]) -> list[bytes]:
        joined = hashing.merkle_branches(b"".join(txids))
        return [joined[i : i + 32] for i in range(0, len(joined), 32)]

    def merkle_tree_root(self, txids: Sequence[bytes]) -> bytes:
        return hashing.merkle_tree_root(b"".join(txids))

    def target_of_difficulty(self, difficulty: float) -> int:
        return native_difficulty.target_of_difficulty(difficulty)

    def difficulty_of_target(self, target: int) -> float:
        return native_difficulty.difficulty_of_target(target)

    def difficulty_of_hash(self, hash_le: bytes) -> float:
        return native_difficulty.difficulty_of_hash(hash_le)

    def target_of_nbits(self, nbits: int) -> int:
        return native_difficulty.target_of_nbits(nbits)

    def nbits_of_target(self, target: int) -> int:
        return native_difficulty.nbits_of_target(target)

    def work_of_target(self, target: int) -> int:
        return native_difficulty.work_of_target(target)

    def job(self, **fields: Any) -> JobFace:
        return work.Job(**fields)
