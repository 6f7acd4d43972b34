"""What follows bad behaviour, in stages: work is sent again, then a reconnect is asked for, then the connection
goes and must wait.

Duplicates, stale shares and the pool's own failures never count: good firmware sends some of each.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pool.records import Verdict

#: Refusals that speak of a broken client.
BAD = (
    Verdict.MALFORMED,
    Verdict.JOB_NOT_FOUND,
    Verdict.BAD_EXTRANONCE2,
    Verdict.BAD_VERSION,
    Verdict.BAD_NTIME,
    Verdict.LOW_DIFFICULTY,
)
FIRST_WAIT_S = 10.0
LONGEST_WAIT_S = 600.0
FORGIVEN_AFTER_S = 3600.0
CALM_S = 60.0  # a storm without a bad share for this long is over


def bad_shares(counts: tuple[int, ...]) -> int:
    """Shares that count against a client, of counts by verdict."""
    return sum(counts[verdict] for verdict in BAD)


class Action(enum.Enum):
    """What to do with a connection whose shares are refused."""

    RESEND = "send work again"
    RECONNECT = "ask it to reconnect"
    DROP = "close it"


#: (seconds a storm lasts, bad shares it must have brought, what follows)
STAGES = ((60.0, 6, Action.RESEND), (120.0, 12, Action.RECONNECT), (180.0, 18, Action.DROP))


@dataclass(slots=True)
class Storm:
    """A stretch in which more shares were bad than good."""

    began_s: float
    last_bad_s: float
    bad: int = 0
    good: int = 0
    stage: int = 0


def weather(storm: Storm | None, now_s: float, good: int, bad: int) -> tuple[Storm | None, Action | None]:
    """The storm after `good` and `bad` more shares, and what is due now (each stage once)."""
    if storm is None:
        return (Storm(now_s, now_s, bad, good), None) if bad > good else (None, None)
    storm.good += good
    storm.bad += bad
    if bad:
        storm.last_bad_s = now_s
    if good >= bad and (good or now_s - storm.last_bad_s >= CALM_S):
        return None, None
    if storm.good >= storm.bad:
        return None, None
    if storm.stage < len(STAGES):
        after_s, least, action = STAGES[storm.stage]
        if now_s - storm.began_s >= after_s and storm.bad >= least:
            storm.stage += 1
            return storm, action
    return storm, None


@dataclass(slots=True)
class Penalty:
    """How long an address waits before it may connect again: doubling from 10 s to 600 s, forgotten after a good
    hour.
    """

    wait_s: float = 0.0
    until_s: float = 0.0

    def add(self, now_s: float) -> None:
        self.wait_s = min(LONGEST_WAIT_S, max(FIRST_WAIT_S, 2.0 * self.wait_s))
        self.until_s = now_s + self.wait_s

    def refuses(self, now_s: float) -> bool:
        return now_s < self.until_s

    def forgiven(self, now_s: float) -> bool:
        return now_s >= self.until_s + FORGIVEN_AFTER_S
