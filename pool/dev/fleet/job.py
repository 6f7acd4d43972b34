"""One mining.notify as a miner sees it, and the search for nonces on it."""

from __future__ import annotations

from dataclasses import dataclass

from native import hashing
from native.difficulty import target_of_difficulty


@dataclass(frozen=True, slots=True)
class MinerJob:
    """A job and what the pool had assigned to it when it arrived. Numbers are plain, prevhash and branches internal."""

    job_id: str
    prevhash: bytes
    coinb1: bytes
    coinb2: bytes
    branches: tuple[bytes, ...]
    version: int
    nbits: int
    ntime_hex: str
    clean: bool
    number: int  # counts the notifies of this session
    extranonce1: bytes
    assigned: float  # the last set_difficulty before this notify: what the pool must judge its shares by

    @property
    def ntime(self) -> int:
        return int(self.ntime_hex, 16)

    def coinbase(self, extranonce2: bytes) -> bytes:
        return self.coinb1 + self.extranonce1 + extranonce2 + self.coinb2

    def front(self, extranonce2: bytes, version: int, ntime: int) -> bytes:
        """The header's first 76 bytes: all but the nonce."""
        txid = hashing.sha256d(self.coinbase(extranonce2))
        root = hashing.merkle_root(txid, b"".join(self.branches))
        head = version.to_bytes(4, "little") + self.prevhash + root
        return head + ntime.to_bytes(4, "little") + self.nbits.to_bytes(4, "little")


def parse_job(params: list[object], number: int, extranonce1: bytes, assigned: float) -> MinerJob:
    """The job of a notify's params, already known to be of the right types. ValueError when a field is not hex."""
    job_id, prevhash, coinb1, coinb2, branches, version, nbits, ntime = params[:8]
    assert isinstance(branches, list)
    wire = bytes.fromhex(str(prevhash))
    if len(wire) != 32:
        raise ValueError("prevhash is not 32 bytes")
    return MinerJob(
        job_id=str(job_id),
        prevhash=b"".join(wire[i : i + 4][::-1] for i in range(0, 32, 4)),
        coinb1=bytes.fromhex(str(coinb1)),
        coinb2=bytes.fromhex(str(coinb2)),
        branches=tuple(bytes.fromhex(str(branch)) for branch in branches),
        version=int(str(version), 16),
        nbits=int(str(nbits), 16),
        ntime_hex=str(ntime),
        clean=params[-1] is True,
        number=number,
        extranonce1=extranonce1,
        assigned=assigned,
    )


def search(front: bytes, start: int, count: int, target: int) -> list[tuple[int, bytes]]:
    """(nonce, hash_le) of every nonce in start .. start+count-1 (modulo 2^32) whose hash meets `target`."""
    hits: list[tuple[int, bytes]] = []
    at, left, header = start & 0xFFFFFFFF, count, front + bytes(4)
    while left > 0 and (nonce := hashing.search(header, target, at, left)) is not None:
        hits.append((nonce, hashing.header_hash(front + nonce.to_bytes(4, "little"))))
        left -= ((nonce - at) & 0xFFFFFFFF) + 1
        at = (nonce + 1) & 0xFFFFFFFF
    return hits


def meets(hash_le: bytes, difficulty: float) -> bool:
    """Whether a hash is worth this difficulty."""
    return int.from_bytes(hash_le, "little") <= target_of_difficulty(difficulty)
