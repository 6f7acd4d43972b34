"""One miner's session: its state, and who hears which line. Shares in plain form never come here; methods live in
their own rooms.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Protocol

from native.channel import Channel
from native.sharelog import LogFull
from pool.records import SOLO, Identity, SavedSession, Verdict
from pool.stratum import vardiff
from pool.stratum.accounts import NO_OPTIONS, Options
from pool.stratum.devices import Device
from pool.stratum.limits import Bucket, Visitor
from pool.stratum.resume import new_session_id
from pool.stratum.supply import Supply, network_bounds
from pool.stratum.vardiff import Bounds, Known, Pace, Why

if TYPE_CHECKING:
    from pool.stratum.bans import Storm
    from pool.stratum.hub import Hub, Port

LONGEST_AGENT = 128


class Link(Protocol):
    """The session's end of its connection."""

    blocked: bool

    def flush(self) -> None:
        """Write what the channel holds."""

    def close(self) -> None:
        """Write what is queued, then close."""

    def evict(self) -> None:
        """Somebody else presented this session's id: end it now, remembered as it stands."""

    def wait_for(self, work: Coroutine[object, object, None]) -> None:
        """Hear nothing more until this is done; what it says is written then."""


class Session:
    """State of one connection beyond its Channel. `Link` and `Channel` are its only ways out."""

    __slots__ = (
        "account",
        "agent",
        "bucket",
        "channel",
        "counted",
        "device",
        "earning",
        "extranonce1",
        "flush_s",
        "history",
        "hub",
        "identity",
        "junk",
        "last_job_id",
        "link",
        "log_ids",
        "look_s",
        "minimum",
        "noted",
        "notified_s",
        "opened_s",
        "options",
        "owed",
        "pace",
        "port",
        "prevhash",
        "refusal",
        "seen",
        "session_id",
        "storm",
        "storm_counts",
        "subscribed",
        "suggested",
        "supply",
        "tried",
        "unlogged",
        "visitor",
        "wanted",
        "xnsub",
    )

    def __init__(self, hub: Hub, supply: Supply, port: Port, visitor: Visitor, link: Link, now_s: float) -> None:
        settings = hub.settings
        self.hub, self.supply, self.port, self.visitor, self.link = hub, supply, port, visitor, link
        self.extranonce1 = hub.extranonces.take(now_s)
        self.channel = Channel(
            hub.work.jobs,
            hub.log,
            self.extranonce1,
            hub.found,
            line_limit=settings.line_limit_bytes,
            session=hub.next_session_number(),
            flags=SOLO if port.mode == "solo" else 0,
        )
        self.bucket = Bucket(settings.messages_per_s, 2.0 * settings.messages_per_s, now_s)
        self.session_id = ""
        self.agent = ""
        self.device: Device | None = None
        self.subscribed = False
        self.tried = False  # some authorize was attempted
        self.identity: Identity | None = None  # of the first user that was authorised
        self.account = ""
        self.log_ids = (0, 0)
        self.refusal = ""  # what a user who cannot be paid is told with each share
        self.options: Options = NO_OPTIONS
        self.suggested = 0.0
        self.minimum = 0.0  # the client's own floor (minimum-difficulty)
        self.xnsub = False
        self.history: SavedSession | None = None
        self.pace: Pace | None = None
        self.wanted: tuple[float, Why] | None = None  # goes out with the next job
        self.prevhash = b""
        self.last_job_id = -1
        self.notified_s = now_s
        self.owed = False  # a job could not be sent: the peer does not read
        self.opened_s = now_s
        self.noted = False  # handed to the store once
        self.look_s = now_s + random.uniform(0.5, 5.0)  # a herd's visits shall not come in one piece for ever
        self.flush_s = now_s + 60.0
        self.seen = 0.0
        self.counted = 0
        self.earning = False
        self.storm: Storm | None = None
        self.storm_counts: tuple[int, ...] | None = None
        self.unlogged: list[int] | None = None
        self.junk = 0

    # --- what it is

    @property
    def ready(self) -> bool:
        """It may be sent work: subscribed, and some user authorised (or told why not)."""
        return self.subscribed and (self.identity is not None or self.refusal != "")

    def bounds(self, network_difficulty: float) -> Bounds:
        floors = [self.port.start_difficulty, self.minimum]
        device, fixed = self.device, self.options.difficulty
        if fixed is not None:
            floors.append(fixed)
        elif device is not None and network_difficulty >= vardiff.difficulty_for(device.hashrate_hs, self.hub.rules):
            # On a toy chain a device that calls itself a BitAxe is a simulation: its ticket means nothing there.
            floors += (device.ticket, device.floor)
        return network_bounds(self.hub, network_difficulty, *floors)

    def begin(self, network_difficulty: float) -> Pace:
        """The first job is about to go out: decide at which difficulty, from the best that is known."""
        rules, bounds = self.hub.rules, self.bounds(network_difficulty)
        known, wish, peak = self._known(network_difficulty)
        fixed = self.options.difficulty
        difficulty = bounds.clamp(fixed if fixed is not None else wish)
        now_s = self.hub.monotonic()
        credited = self.channel.credited
        self.pace = vardiff.start(
            difficulty, now_s, known, fixed=fixed is not None, peak=peak * rules.goal, credited=credited
        )
        self.seen = credited
        return self.pace

    def _known(self, network_difficulty: float) -> tuple[Known, float, float]:
        """(source, difficulty, best rate as a difficulty or 0.0)"""
        if self.history is not None and self.history.difficulty > 0:
            rate = vardiff.difficulty_for(self.history.hashrate_hs, self.hub.rules)
            # A session that was held up by a port's floor says less about the device than its measured rate.
            held = rate > 0 and not 0.25 < self.history.difficulty / rate < 4.0
            return Known.HISTORY, rate if held else self.history.difficulty, rate
        if self.port.start_difficulty:
            return Known.HISTORY, self.port.start_difficulty, 0.0
        if self.suggested > 0:
            return Known.SUGGESTION, self.suggested, 0.0
        if self.device is not None:
            usual = vardiff.difficulty_for(self.device.hashrate_hs, self.hub.rules)
            if usual <= network_difficulty:
                return Known.AGENT, max(usual, self.device.ticket), usual
        # On a toy chain every share at the network's difficulty would be a block.
        return Known.NOTHING, min(self.hub.start_difficulty, network_difficulty / 1024.0), 0.0

    # --- speaking

    def say(self, line: bytes) -> None:
        if line:
            self.channel.say(line)

    # --- leaving

    def as_saved(self) -> SavedSession | None:
        """What survives (P9); None for a session that never had a user."""
        if self.identity is None or not self.session_id or self.pace is None:
            return None
        now_s = self.hub.monotonic()
        difficulty = hashrate = 0.0  # a session without a share has nothing to tell the next one
        if self.history is not None:
            difficulty, hashrate = self.history.difficulty, self.history.hashrate_hs
        if self.pace.proved:
            difficulty = self.pace.difficulty
            hashrate = vardiff.proved_rate(self.pace, now_s) * vardiff.HASHES_PER_DIFFICULTY or hashrate
        return SavedSession(
            session_id=self.session_id,
            account=self.identity.account,
            worker=self.identity.worker,
            user_agent=self.agent,
            extranonce1_hex=self.extranonce1.hex(),
            difficulty=difficulty,
            version_mask=self.channel.version_mask,
            best_difficulty=self.channel.best_difficulty,
            hashrate_hs=hashrate,
            saved_at_s=self.hub.time_ns() // 10**9,
        )

    def log_refused(self) -> None:
        """Write what was refused since the last time as a REJECTS row."""
        counts = list(self.channel.drain_counts())
        if self.unlogged is not None:
            counts = [a + b for a, b in zip(counts, self.unlogged, strict=True)]
            self.unlogged = None
        if self.identity is None or not any(counts[Verdict.MALFORMED :]):
            return
        try:
            self.hub.log.rejects(*self.log_ids, tuple(counts), self.hub.time_ns())
        except LogFull:
            self.unlogged = counts  # written when there is room again


def clean_agent(text: str) -> str:
    """A user agent as it is kept: printable, at most 128 characters."""
    shown = text if text.isprintable() else "".join(letter for letter in text[:512] if letter.isprintable())
    return sys.intern(shown[:LONGEST_AGENT])  # thousands of devices present the same one


def fresh_id(session: Session) -> None:
    """Give the session an id of its own."""
    session.session_id = new_session_id()
    session.hub.by_id[session.session_id] = session
