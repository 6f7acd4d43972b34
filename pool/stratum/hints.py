"""What clients say about difficulty: suggestions, password options, minimum-difficulty. Hints and floors, never a
ceiling.
"""

from __future__ import annotations

from native.difficulty import difficulty_of_target
from pool.stratum import messages
from pool.stratum.accounts import Options
from pool.stratum.messages import Request
from pool.stratum.session import Session
from pool.stratum.vardiff import Known, Why

GET_VERSION_ID = 1_000_001  # far from what clients count; a number, because some firmware reads no other ids
FAR_OFF = 4.0  # a first suggestion this many times off the present difficulty is worth a notify of its own


def suggest_difficulty(session: Session, request: Request) -> None:
    """[difficulty]: number or numeric string; 0 and nonsense below it mean nothing. Repeated every 30 s by
    NerdMiners.
    """
    value = messages.number(request.param(0))
    if value is None:
        session.say(messages.error(request, messages.OTHER, "Difficulty must be a number"))
        return
    session.say(messages.result(request, b"true"))
    _suggest(session, value)


def suggest_target(session: Session, request: Request) -> None:
    """[target as up to 64 hex digits]."""
    text = request.param(0)
    try:
        target = int(text, 16) if isinstance(text, str) and 0 < len(text) <= 64 else 0
    except ValueError:
        target = 0
    if target <= 0:
        session.say(messages.error(request, messages.OTHER, "Target must be 64 hex digits"))
        return
    session.say(messages.result(request, b"true"))
    _suggest(session, difficulty_of_target(target))


def _suggest(session: Session, value: float) -> None:
    if value <= 0:
        return
    session.suggested = value
    pace = session.pace
    # Once, and only before the first share: repeating it must not reset what was learnt since.
    if pace is None or pace.proved or pace.fixed or pace.known >= Known.SUGGESTION:
        return
    pace.known, pace.peak = Known.SUGGESTION, 0.0
    wanted = session.bounds(session.hub.network_difficulty).clamp(value)
    if wanted == pace.difficulty:
        return
    session.wanted = (wanted, Why.HINT)
    if session.ready and not 1 / FAR_OFF < wanted / pace.difficulty < FAR_OFF:
        session.supply.send(session)


def minimum(session: Session, value: object) -> bool:
    """BIP310 minimum-difficulty: the client's own floor. False when it cannot be read."""
    wished = messages.number(value)
    if wished is None or wished < 0:
        return False
    session.minimum = wished  # the next look of vardiff moves the session above it
    return True


def options(session: Session, given: Options) -> None:
    """Password options of the session's own user: `d=` fixes the difficulty (the brake still holds)."""
    if given.difficulty == session.options.difficulty:
        return
    session.options = given
    pace = session.pace
    if pace is None:
        return
    pace.fixed = given.difficulty is not None
    if given.difficulty is not None:
        session.wanted = (session.bounds(session.hub.network_difficulty).clamp(given.difficulty), Why.HINT)
