"""How hard a device's shares should be: a pure decision over a small state. No clock, no socket; times are given,
in seconds.

The estimator follows ckpool's idea (exponential averages with the bias correction 1 - exp(-t/T)), the brake
DATUM's, the descent
in silence a Poisson argument. It reads credited difficulty, not counts: shares of an older difficulty then weigh
what they prove.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

HASHES_PER_DIFFICULTY = 2**48 / 0xFFFF  # expected hashes of a share of difficulty 1
LOWEST = 2.0**-16  # below it NerdMiners look at nothing, and nothing is credited
#: (time constant in s, deviations from the goal that count as proof). The short window sees a device double, the
#: long one a third.
WINDOWS = ((60.0, 4.0), (300.0, 3.0))
DEAD_BAND = 1.6  # nearer to the goal than this factor either way: leave it
BRAKE_SHARES = 8  # shares ...
BRAKE_FACTOR = 8.0  # ... this many times too fast: raise at once
BRAKE_LEAST_S = 1.0  # time over which the brake measures at least: packets come in clumps
SILENCE_S = 60.0  # a whole minute without a share: halve
SILENCE_EXPECTED = 3.0  # but only where this many shares were due (P(none) = 5 %)
EVIDENCE_S = 60.0  # of averages before their rate counts as known (12 shares: 29 % off)
PEAK_PART = 256.0  # silence never goes below this part of the best rate known
UNKNOWN_S = 90.0  # a device of which nothing at all is known gets this long to prove itself an ASIC ...
UNKNOWN_DIFFICULTY = 0.0005  # ... then it is taken for an ESP32 (350 kH/s: 10 shares a minute)


class Known(enum.IntEnum):
    """Where a start difficulty came from; the higher number wins."""

    NOTHING = 0
    AGENT = 1  # the table of user agents
    SUGGESTION = 2
    HISTORY = 3  # this device's last session


class Why(enum.Enum):
    """What moved a difficulty."""

    BRAKE = "brake"
    RATE = "rate"
    SILENCE = "silence"
    UNKNOWN = "unknown device"
    BOUNDS = "bounds"
    HINT = "hint"  # a suggestion or password option that came after the first job


#: Steps that are worth a notify of their own; the others wait for the next one.
AT_ONCE = frozenset({Why.BRAKE, Why.SILENCE, Why.UNKNOWN})


@dataclass(frozen=True, slots=True)
class Rules:
    """The pool's settings for every device."""

    shares_per_min: float = 12.0
    lowest: float = LOWEST

    @property
    def goal(self) -> float:
        """Shares per second."""
        return self.shares_per_min / 60.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between what a session's difficulty may move. `low` never exceeds `high`; both are positive."""

    low: float
    high: float

    @classmethod
    def of(cls, rules: Rules, network_difficulty: float, *floors: float, cap: float = 0.0) -> Bounds:
        """The highest of the floors, under the network's difficulty (and `cap`, if above 0); never below the pool's
        lowest.
        """
        high = max(rules.lowest, min(network_difficulty, cap) if cap > 0 else network_difficulty)
        return cls(min(high, max(rules.lowest, *floors)) if floors else min(high, rules.lowest), high)

    def clamp(self, difficulty: float) -> float:
        """Within the bounds, and as it is written: a whole number from 1 up (firmware cuts fractions off), else four
        digits.
        """
        inside = min(self.high, max(self.low, difficulty))
        if inside >= 1.0:
            # floor(high) may fall under a fractional `low`; both bounds are met where whole numbers allow it.
            return float(math.floor(inside))
        rounded = float(f"{inside:.4g}")
        return rounded if self.low <= rounded <= self.high else inside


@dataclass(slots=True)
class Pace:
    """What is known of one device's speed. Rates are credited difficulty per second."""

    difficulty: float  # in force: of the newest job sent
    known: Known
    fixed: bool  # the user asked for it (`d=`): only the brake moves it
    peak: float  # best rate proved, or told by history or user agent; 0: none
    seen: float  # credited difficulty read so far
    read_s: float  # when the averages were last brought up to date
    since_s: float  # when they began
    changed_s: float  # when `difficulty` was sent
    share_s: float  # last time that credit grew
    brake_s: float
    brake_seen: float
    short: float = 0.0  # averages as summed, without bias correction
    long: float = 0.0
    proved: bool = False  # some share was credited in this session
    silent: bool = False  # silence lowered the difficulty and no share came since


def start(
    difficulty: float, now_s: float, known: Known, *, fixed: bool = False, peak: float = 0.0, credited: float = 0.0
) -> Pace:
    """The state of a session whose first job goes out now at `difficulty`."""
    return Pace(difficulty, known, fixed, peak, credited, now_s, now_s, now_s, now_s, now_s, credited)


def observe(pace: Pace, now_s: float, credited: float) -> None:
    """Bring the averages up to `now_s`, when the session's credited difficulty stands at `credited`."""
    gained, seconds = credited - pace.seen, now_s - pace.read_s
    if seconds <= 0.0:
        return
    pace.seen, pace.read_s = credited, now_s
    if gained > 0.0:
        pace.proved = True
        pace.share_s = now_s
        if pace.silent:
            # The first share after an absence says that the device is back, not how fast it is: the clock starts here.
            pace.silent = False
            _restart(pace, now_s)
            return
    rate = gained / seconds
    (short_s, _), (long_s, _) = WINDOWS
    keep = math.exp(-seconds / short_s)
    pace.short = pace.short * keep + rate * (1.0 - keep)
    keep = math.exp(-seconds / long_s)
    pace.long = pace.long * keep + rate * (1.0 - keep)


def _restart(pace: Pace, now_s: float) -> None:
    pace.short = pace.long = 0.0
    pace.since_s = pace.read_s = now_s


def rate_of(pace: Pace, now_s: float) -> float:
    """Best estimate of credited difficulty per second over the long window; 0.0 before anything was seen."""
    seconds = now_s - pace.since_s
    return pace.long / (1.0 - math.exp(-seconds / WINDOWS[1][0])) if seconds > 0 else 0.0


def proved_rate(pace: Pace, now_s: float) -> float:
    """rate_of, or 0.0 while it rests on too little to be told to anybody."""
    enough = pace.proved and now_s - pace.since_s >= EVIDENCE_S
    return rate_of(pace, now_s) if enough else 0.0


def decide(pace: Pace, now_s: float, rules: Rules, bounds: Bounds) -> tuple[float, Why] | None:
    """The difficulty that the next job should carry and why, or None to leave it. Call after `observe` of the same
    moment; changes nothing.
    """
    step = _brake(pace, now_s, rules) or _settle(pace, now_s, rules)
    if step is None:
        inside = bounds.clamp(pace.difficulty)
        return (inside, Why.BOUNDS) if inside != pace.difficulty else None
    wanted, why = bounds.clamp(step[0]), step[1]
    if pace.fixed and why is not Why.BRAKE:
        # `d=` is the lower bound of a fixed session: what the brake raised may come down to it again.
        wanted = min(wanted, pace.difficulty)
    return (wanted, why) if wanted != pace.difficulty else None


def _brake(pace: Pace, now_s: float, rules: Rules) -> tuple[float, Why] | None:
    shares = (pace.seen - pace.brake_seen) / pace.difficulty
    if shares < BRAKE_SHARES:
        return None
    too_fast = shares / max(now_s - pace.brake_s, BRAKE_LEAST_S) / rules.goal
    if too_fast < BRAKE_FACTOR:
        return None
    # Less one deviation of the count: the brake looks often, so what makes it act is on the lucky side.
    return pace.difficulty * too_fast * (1.0 - 1.0 / math.sqrt(shares)), Why.BRAKE


def _settle(pace: Pace, now_s: float, rules: Rules) -> tuple[float, Why] | None:
    quiet_s = now_s - max(pace.share_s, pace.changed_s)
    if quiet_s >= SILENCE_S and quiet_s * rules.goal >= SILENCE_EXPECTED:
        return _descend(pace, quiet_s, rules)
    seconds = now_s - pace.since_s
    if seconds <= 0 or pace.share_s <= pace.since_s:
        return None  # nothing seen since the averages began: silence alone speaks then
    for average, (window_s, sigmas) in zip((pace.short, pace.long), WINDOWS, strict=True):
        fade = math.exp(-seconds / window_s)
        rate = average / (1.0 - fade)
        # An average of this age has the noise of a plain count over 2T(1-b)/(1+b) seconds: t when young, 2T when old.
        due = rules.goal * 2.0 * window_s * (1.0 - fade) / (1.0 + fade)
        ratio = rate / (rules.goal * pace.difficulty)
        if (ratio > DEAD_BAND or ratio < 1.0 / DEAD_BAND) and _proof(ratio * due, due) > sigmas:
            return rate / rules.goal, Why.RATE
    return None


def _proof(count: float, due: float) -> float:
    """How many deviations a Poisson count lies from what was due. Upward through square roots: small counts are
    skewed.
    """
    return 2.0 * (math.sqrt(count) - math.sqrt(due)) if count > due else (due - count) / math.sqrt(due)


def _descend(pace: Pace, quiet_s: float, rules: Rules) -> tuple[float, Why] | None:
    """One step down in silence; None at the floor that the best known rate sets."""
    if pace.known is Known.NOTHING and not pace.proved:
        # Nobody told us anything: halving from an ASIC's difficulty would let an ESP32 wait 20 minutes for
        # its first share.
        if quiet_s < UNKNOWN_S:
            return None
        if pace.difficulty > UNKNOWN_DIFFICULTY:
            return UNKNOWN_DIFFICULTY, Why.UNKNOWN
    floor = pace.peak / rules.goal / PEAK_PART
    if pace.difficulty <= floor:
        return None
    return max(pace.difficulty / 2.0, floor), Why.SILENCE


def applied(pace: Pace, now_s: float, difficulty: float, why: Why | None) -> None:
    """Note that jobs carry `difficulty` from now on."""
    pace.difficulty = difficulty
    pace.changed_s = now_s
    pace.brake_s, pace.brake_seen = now_s, pace.seen
    if why in AT_ONCE:
        # The averages hold a past that has just been disproved: begin again.
        _restart(pace, now_s)
    if why in (Why.SILENCE, Why.UNKNOWN):
        pace.silent = True


def tick(pace: Pace, now_s: float, credited: float, rules: Rules, bounds: Bounds) -> tuple[float, Why] | None:
    """observe and decide, with the bookkeeping between: the brake's window moves on, the best rate is remembered."""
    observe(pace, now_s, credited)
    step = decide(pace, now_s, rules, bounds)
    if (pace.seen - pace.brake_seen) / pace.difficulty >= BRAKE_SHARES:
        pace.brake_s, pace.brake_seen = now_s, pace.seen
    pace.peak = max(pace.peak, proved_rate(pace, now_s))
    return step


def difficulty_for(hashrate_hs: float, rules: Rules) -> float:
    """Difficulty at which a device of this speed sends the wished number of shares."""
    return hashrate_hs / rules.goal / HASHES_PER_DIFFICULTY
