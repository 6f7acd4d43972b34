"""Walks by at every session on its own clock: vardiff four times a second, storms and time-outs each few seconds,
counts each minute.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pool.records import Verdict
from pool.stratum import messages, vardiff
from pool.stratum.bans import Action, bad_shares, weather

if TYPE_CHECKING:
    from pool.stratum.connection import Connection
    from pool.stratum.hub import Hub
    from pool.stratum.session import Session
    from pool.stratum.supply import Supply

VISIT_S = 0.25  # how long a flood may last before the brake sees it
PARTS = 10  # of the sessions, so that 10,000 looks (2 ms) do not come in one piece
AT_ONCE = 16  # visits between two looks at the sockets: 8 us each, and shares wait meanwhile
CARE_S = 5.0
REJECTS_S = 60.0


class Watch:
    """Visits sessions in a circle. A session that sent nothing costs one comparison of floats."""

    def __init__(self, hub: Hub, supply: Supply) -> None:
        self._hub, self._supply = hub, supply

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            sessions = list(self._hub.sessions)
            size = -(-len(sessions) // PARTS) or 1
            for part in range(PARTS):
                await self.visit_all(sessions[part * size : (part + 1) * size])
                await asyncio.sleep(VISIT_S / PARTS)

    async def visit_all(self, sessions: list[Session]) -> None:
        now_s, visits = self._hub.monotonic(), 0
        for session in sessions:
            if session.channel.credited != session.seen or now_s >= session.look_s:
                self.visit(session, now_s)
                visits += 1
                if visits % AT_ONCE == 0:
                    await asyncio.sleep(0)
                    now_s = self._hub.monotonic()

    def visit(self, session: Session, now_s: float) -> None:
        link: Connection = session.link  # type: ignore[assignment]  # the only Link outside of tests
        if link.closing:
            return
        if now_s >= session.look_s:
            session.look_s = now_s + CARE_S
            if not self._care(session, link, now_s):
                return
        self._difficulty(session, now_s)

    # --- difficulty

    def _difficulty(self, session: Session, now_s: float) -> None:
        pace = session.pace
        if pace is None:
            return
        credited = session.channel.credited
        session.seen = credited
        if session.identity is None:
            # Refused users earn nothing; what they send is still kept to the usual pace.
            credited = pace.seen + self._refused_since(session) * pace.difficulty
        elif not session.earning and credited > 0.0:
            session.earning = True
            session.visitor.earning += 1
            self._hub.dirty[session] = None  # now it has something to lose in a crash
        bounds = session.bounds(self._hub.network_difficulty)
        step = vardiff.tick(pace, now_s, credited, self._hub.rules, bounds)
        if step is None:
            return
        session.wanted = step
        if step[1] in vardiff.AT_ONCE:
            self._supply.deliver(session)

    def _refused_since(self, session: Session) -> int:
        refused = session.channel.counts[Verdict.UNAUTHORISED]
        new, session.counted = refused - session.counted, refused
        return new

    # --- care: false when the session is gone

    def _care(self, session: Session, link: Connection, now_s: float) -> bool:
        settings = self._hub.settings
        if link.blocked and now_s - link.blocked_s >= settings.send_blocked_s:
            self._hub.totals.blocked += 1
            link.abort()
            return False
        if not session.tried and now_s - session.opened_s >= settings.authorize_within_s:
            link.close()
            return False
        if session.channel.fault is not None:
            link.close()
            return False
        if not session.noted and session.identity is not None:
            session.noted = True  # not at authorize: a herd's handshakes come first
            self._hub.dirty[session] = None
        if now_s >= session.flush_s:
            session.flush_s = now_s + REJECTS_S
            session.log_refused()
        if not self._storm(session, link, now_s):
            return False
        if session.ready and now_s - session.notified_s >= 1.5 * settings.refresh_s:
            # The desk refreshes everybody; this is for whoever was left out, so that no line is silent for a minute.
            self._supply.deliver(session)
        return True

    def _storm(self, session: Session, link: Connection, now_s: float) -> bool:
        counts, before = session.channel.counts, session.storm_counts
        if counts == before and session.storm is None:
            return True
        session.storm_counts = counts
        if before is None:
            before = (0,) * len(counts)
        bad = bad_shares(counts) - bad_shares(before)
        good = counts[Verdict.ACCEPTED] - before[Verdict.ACCEPTED]
        if session.identity is None:
            return True
        if bad:
            # Refused shares cost as much as any message.
            wait_s = session.bucket.take(now_s, bad)
            if wait_s > 0.0:
                link.throttle(wait_s)
        session.storm, action = weather(session.storm, now_s, good, bad)
        if action is Action.RESEND:
            self._supply.deliver(session)
        elif action is Action.RECONNECT:
            link.say_now(messages.RECONNECT)
        elif action is Action.DROP:
            self._hub.totals.dropped += 1
            self._hub.door.punish(session.visitor, now_s)
            link.close()
            return False
        return True
