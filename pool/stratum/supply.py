"""Which job goes to which session and when: the first one, new work for everybody in slices, refreshes, unique work
on demand.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from native.work import Job
from pool.stratum import vardiff
from pool.stratum.vardiff import Bounds, Why

if TYPE_CHECKING:
    from pool.stratum.hub import Hub
    from pool.stratum.session import Session

SLICE = 128  # sessions told between two looks at the sockets: about a millisecond
FIRST_SLICE = 16
Shelf = dict[str, Job | None]  # newest job by account in solo, else by mode, for the length of one round


class Supply:
    """Sends jobs. A session never gets a job id that is not newer than its last one, so no header space comes twice."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._variants: dict[int, Job] = {}  # newest variant by base job id
        self._round: list[Session] = []
        self._shelf: Shelf = {}
        self._wanted = asyncio.Event()
        self._nbits = -1  # of the job that hub.network_difficulty was read from
        self.rounds = 0  # finished, for tests and the live line

    # --- one session

    def send(self, session: Session, shelf: Shelf | None = None) -> bool:
        """Queue the newest job with the difficulty due, in the session's output. False when there is no work (or no
        use).
        """
        job = self._fresh(session, shelf)
        if job is None:
            return False
        hub, pace = self._hub, session.pace
        now_s = hub.monotonic()
        if job.nbits != self._nbits:  # an exact division: half of what a notify costs, if done for each session
            self._nbits, hub.network_difficulty = job.nbits, job.network_difficulty
        network_difficulty = hub.network_difficulty
        if pace is None:
            pace = session.begin(network_difficulty)
        if session.wanted is not None or pace.difficulty > network_difficulty:
            difficulty, why = session.wanted or (pace.difficulty, Why.BOUNDS)
            difficulty = session.bounds(network_difficulty).clamp(difficulty)
            vardiff.applied(pace, now_s, difficulty, why)
            session.wanted = None
            if pace.proved:
                hub.dirty[session] = None
        # First job of a session, or another previous block: only then is clean_jobs true (it flushes an
        # ASIC's pipeline).
        session.channel.send_job(job, pace.difficulty, job.prevhash != session.prevhash)
        session.prevhash, session.last_job_id, session.notified_s = job.prevhash, job.job_id, now_s
        hub.totals.notifies += 1
        return True

    def _fresh(self, session: Session, shelf: Shelf | None) -> Job | None:
        """The newest job of the session's mode and account, as a variant if the session had that one already."""
        # Whoever cannot be paid works for the pool until the address is right: each share is refused in words.
        mode = session.port.mode if session.identity is not None else "ledger"
        account = session.account if mode == "solo" else ""
        if shelf is None:
            job = self._hub.work.job_for(mode, account)
        else:
            shared = account or mode
            if shared not in shelf:
                shelf[shared] = self._hub.work.job_for(mode, account)
            job = shelf[shared]
        if job is None or job.job_id > session.last_job_id:
            return job
        variant = self._variants.get(job.job_id)
        if variant is None or variant.job_id <= session.last_job_id:
            # One variant serves every session that needs one: extranonce1 keeps their header spaces apart.
            variant = self._hub.work.variant(job)
            self._variants[job.job_id] = variant
        return variant

    # --- everybody

    def on_work(self, _new_block: bool) -> None:
        """New work was published: begin a round, and let one that runs begin again with the newer work."""
        self._variants.clear()
        sessions = list(self._hub.sessions)
        # A random start, so that nobody is always last; taken from the end below.
        turn = random.randrange(len(sessions)) if sessions else 0
        self._round = sessions[turn:] + sessions[:turn]
        self._shelf = {}
        self._wanted.set()

    async def run(self) -> None:
        """Rounds, in slices, so that shares are answered meanwhile. Until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            size = FIRST_SLICE  # what is written in a slice leaves at its end: the first ones shall not wait for 128
            while self._round:
                part = self._round[-size:]
                del self._round[-size:]
                size = SLICE
                for session in part:
                    self.deliver(session, self._shelf)
                await asyncio.sleep(0)
            self.rounds += 1

    def deliver(self, session: Session, shelf: Shelf | None = None) -> None:
        """Send the newest work now, in one write; a peer whose buffer is blocked gets it when it reads again."""
        if not session.ready:
            return
        if session.link.blocked:
            session.owed = True
        elif self.send(session, shelf):
            session.owed = False
            session.link.flush()


def network_bounds(hub: Hub, network_difficulty: float, *floors: float) -> Bounds:
    """What a session's difficulty may be on a network of this difficulty."""
    return Bounds.of(hub.rules, network_difficulty or float("inf"), *floors, cap=hub.max_difficulty)
