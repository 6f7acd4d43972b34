"""What all connections of the process share: settings, work, log, memory, numbers. Holds things; decides nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from native.channel import Found
from native.sharelog import ShareLog
from native.work import Job, JobTable
from pool.config import StratumSection, VardiffSection
from pool.records import Identity
from pool.stratum.extranonce import Extranonces
from pool.stratum.limits import Door
from pool.stratum.resume import LoadSession, Memory
from pool.stratum.vardiff import Rules

if TYPE_CHECKING:
    from pool.stratum.session import Session

log = logging.getLogger(__name__)


class WorkState(Protocol):
    """Whether there is work, in words for miners."""

    @property
    def ok(self) -> bool: ...
    @property
    def reason(self) -> str: ...
    @property
    def since_s(self) -> float: ...


class Work(Protocol):
    """Where jobs come from (architecture: Work). Stratum does not know more of it."""

    @property
    def jobs(self) -> JobTable: ...
    @property
    def state(self) -> WorkState: ...
    def job_for(self, mode: str, account: str) -> Job | None: ...
    def variant(self, job: Job) -> Job: ...
    def listen(self, callback: Callable[[bool], None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Port:
    """One listening port and what is different there."""

    name: str
    number: int  # 0: any free one
    mode: str = "ledger"
    start_difficulty: float = 0.0  # above 0: start and floor of every session here
    tls_only: bool = False


@dataclass(slots=True)
class Totals:
    """Counts since the process began."""

    connections: int = 0
    refused: int = 0  # at the door: too many, or a penalty
    dropped: int = 0  # by a staged response
    blocked: int = 0  # read nothing for too long
    lines: int = 0  # that were not plain submits
    notifies: int = 0
    gone_counts: list[int] = field(default_factory=lambda: [0] * 16)  # by verdict, of connections that ended


@dataclass(slots=True)
class Hub:
    """Made once by the server; handed to each connection."""

    settings: StratumSection
    network: str  # key of pool.address.NETWORKS
    work: Work
    log: ShareLog
    found: Callable[[Found], None]
    rules: Rules
    start_difficulty: float
    max_difficulty: float
    extranonces: Extranonces
    door: Door
    memory: Memory
    load_session: LoadSession | None = None
    monotonic: Callable[[], float] = time.monotonic
    time_ns: Callable[[], int] = time.time_ns
    sessions: dict[Session, None] = field(default_factory=dict)  # in order of arrival
    by_id: dict[str, Session] = field(default_factory=dict)  # live owner of each session id
    dirty: dict[Session, None] = field(default_factory=dict)  # changed since they were last stored
    names: dict[tuple[int, int], Identity] = field(default_factory=dict)  # by the share log's account and worker ids
    network_difficulty: float = 0.0  # of the newest job; 0.0 before there was one
    totals: Totals = field(default_factory=Totals)
    session_number: int = 0

    def next_session_number(self) -> int:
        """Goes into share rows: 32 bits, in a circle."""
        self.session_number = (self.session_number + 1) & 0xFFFFFFFF
        return self.session_number


def make_hub(
    settings: StratumSection,
    vardiff: VardiffSection,
    network: str,
    work: Work,
    share_log: ShareLog,
    found: Callable[[Found], None],
    *,
    load_session: LoadSession | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    time_ns: Callable[[], int] = time.time_ns,
) -> Hub:
    """A hub from the configuration's two sections."""
    # A value rests as long as jobs of its last owner can be credited, and half as long again.
    rest_s = 1.5 * settings.job_lifetime_s
    return Hub(
        settings=settings,
        network=network,
        work=work,
        log=share_log,
        found=found,
        rules=Rules(vardiff.shares_per_minute, vardiff.min_difficulty),
        start_difficulty=vardiff.start_difficulty,
        max_difficulty=vardiff.max_difficulty,
        extranonces=Extranonces(settings.extranonce1_first, settings.extranonce1_last, rest_s),
        door=Door(settings.max_connections_per_address, settings.messages_per_s_per_address),
        memory=Memory(),
        load_session=load_session,
        monotonic=monotonic,
        time_ns=time_ns,
    )


def ports_of(settings: StratumSection, mode: str) -> list[Port]:
    """The listening ports of a configuration; `mode` is whom their coinbases pay."""
    ports = [Port("main", settings.port, mode)]
    if settings.high_difficulty_port:
        ports.append(Port("high", settings.high_difficulty_port, mode, settings.high_difficulty_start))
    if settings.nerdminer_port:
        ports.append(Port("nerdminer", settings.nerdminer_port, mode))
    if settings.tls_port:
        ports.append(Port("tls", settings.tls_port, mode, tls_only=True))
    return ports
