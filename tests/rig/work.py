"""A source of work in the test's hand: real jobs in a real JobTable, refreshed and moved to new blocks on command."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from native.difficulty import nbits_of_target, target_of_difficulty
from native.work import Job, JobTable

CLEAN_VERSION = 0x20000000


@dataclass(frozen=True, slots=True)
class RigWorkState:
    ok: bool = True
    reason: str = ""
    since_s: float = 0.0


class RigWork:
    """`Work` of docs/architecture.md. One shared job in "ledger" and "direct", one per account in "solo"."""

    def __init__(self, network_difficulty: float = 1.0, slots: int = 4096, branches: int = 2) -> None:
        self.jobs = JobTable(slots)
        self.state = RigWorkState()
        self.height = 800_000
        self._nbits = nbits_of_target(target_of_difficulty(network_difficulty))
        self._branches = [hashlib.sha256(b"branch %d" % number).digest() for number in range(branches)]
        self._prevhash = self._new_prevhash()
        self._generation: dict[tuple[str, str], Job] = {}
        self._listeners: list[Callable[[bool], None]] = []
        self.made: list[Job] = []  # every job ever published
        self.jobs.set_tip(self._prevhash)

    def _new_prevhash(self) -> bytes:
        return hashlib.sha256(b"tip %d" % self.height).digest()[:28] + bytes(4)

    # --- what stratum asks

    def job_for(self, mode: str, account: str) -> Job | None:
        if not self.state.ok:
            return None
        key = (mode, account if mode == "solo" else "")
        if key not in self._generation:
            self._generation[key] = self._make(key)
        return self._generation[key]

    def variant(self, job: Job) -> Job:
        key = job.tag
        assert isinstance(key, tuple)
        return self._make((str(key[0]), str(key[1])))

    def listen(self, callback: Callable[[bool], None]) -> None:
        self._listeners.append(callback)

    # --- what a test commands

    def refresh(self) -> None:
        """New jobs on the same block."""
        self._generation.clear()
        self._tell(False)

    def new_block(self) -> bytes:
        """Everything so far is stale; returns the new previous block."""
        self.height += 1
        self._prevhash = self._new_prevhash()
        self.jobs.set_tip(self._prevhash)
        self._generation.clear()
        self._tell(True)
        return self._prevhash

    def reorg_to(self, prevhash: bytes, height: int) -> None:
        self.height, self._prevhash = height, prevhash
        self.jobs.set_tip(prevhash)
        self._generation.clear()
        self._tell(True)

    def lose(self, reason: str = "the node does not answer") -> None:
        self.state = RigWorkState(False, reason, time.time())

    def find(self) -> None:
        self.state = RigWorkState(True, "", time.time())
        self.refresh()

    def network(self, difficulty: float) -> None:
        """Jobs from now on have this network difficulty."""
        self._nbits = nbits_of_target(target_of_difficulty(difficulty))

    def _tell(self, new_block: bool) -> None:
        self.job_for("ledger", "")
        for callback in self._listeners:
            callback(new_block)

    def _make(self, key: tuple[str, str]) -> Job:
        job_id, now_s = self.jobs.next_id(), int(time.time())
        counter = job_id.to_bytes(8, "little")
        payee = hashlib.sha256(repr(key).encode()).digest()[:20]
        coinb1 = bytes.fromhex("0100000001" + "00" * 32 + "ffffffff") + bytes([4 + 9 + 12, 3])
        coinb1 += self.height.to_bytes(3, "little") + b"\x08" + counter
        coinb2 = bytes.fromhex("ffffffff0140be402500000000160014") + payee + bytes(4)
        job = Job(
            job_id=job_id,
            coinb1=coinb1,
            coinb2=coinb2,
            branches=self._branches,
            prevhash=self._prevhash,
            version=CLEAN_VERSION,
            nbits=self._nbits,
            ntime=now_s,
            ntime_min=now_s - 3600,
            ntime_max=now_s + 7200,
            height=self.height,
            tag=key,
        )
        self.jobs.publish(job)
        self.made.append(job)
        return job
