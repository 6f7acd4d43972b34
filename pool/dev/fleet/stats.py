"""What a device counts, and whose fault a rejected share was."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pool.dev.fleet.job import MinerJob, meets


@dataclass(frozen=True, slots=True)
class Sent:
    """One submit on its way: what is needed to judge the answer."""

    job: MinerJob
    hash_le: bytes
    repeated: bool  # this device had sent the same header before, for the same notify
    broken: bool  # the firmware knows no better: the pool is right to refuse it


@dataclass(slots=True)
class Stats:
    """Counts of one device over all its sessions."""

    connects: int = 0
    failed_connects: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    crashes: Counter[str] = field(default_factory=Counter)
    notifies: int = 0
    ignored_notifies: int = 0
    hashes: int = 0
    submitted: int = 0
    repeats: int = 0  # headers that this device sent more than once for one notify
    old_ground: int = 0  # headers sent before under another notify: the pool gave the same work out twice
    accepted: int = 0
    accepted_difficulty: float = 0.0  # sum of assigned difficulty
    rejected: Counter[str] = field(default_factory=Counter)
    pool_faults: Counter[str] = field(default_factory=Counter)  # refusals that no client did anything to earn
    untracked: int = 0  # results that answer nothing this device asked
    best_difficulty: float = 0.0

    def add(self, other: Stats) -> None:
        """Add the counts of another device."""
        for name in ("connects", "failed_connects", "notifies", "ignored_notifies", "hashes", "submitted", "repeats"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.old_ground += other.old_ground
        self.accepted += other.accepted
        self.accepted_difficulty += other.accepted_difficulty
        self.untracked += other.untracked
        self.best_difficulty = max(self.best_difficulty, other.best_difficulty)
        for name in ("drops", "crashes", "rejected", "pool_faults"):
            getattr(self, name).update(getattr(other, name))


def own_fault(sent: Sent, code: int, tip: bytes | None, known_jobs: int, newest: int) -> bool | None:
    """Whether the client earned this refusal, or nobody did; None: the next notify will tell.

    `tip` is the prevhash of the newest notify that arrived, `newest` its number, `known_jobs` how many notifies back a
    pool must remember at least.
    """
    if sent.broken:
        return True
    if code == 22:
        return sent.repeated
    if code == 23:
        return not meets(sent.hash_le, sent.job.assigned)
    if code != 21:
        return False
    if sent.job.prevhash != tip or newest - sent.job.number >= known_jobs:
        return True
    return None  # a block may have come while the share was under way: then its notify is right behind this answer
