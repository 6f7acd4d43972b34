"""One connection: line framing, the mining.submit fast path, judge, book, answer. No socket, no clock, no config, no
log."""

from collections.abc import Callable, Iterable

from native.sharelog import ShareLog
from native.work import Job, JobTable

# Verdict numbers: see pool.records.Verdict
ACCEPTED: int
N_VERDICTS: int

class Found:
    """A share that meets its job's network target. Handed to `found` before the answer is written."""

    job: Job
    header: bytes
    hash_le: bytes
    extranonce1: bytes
    extranonce2: bytes
    user: bytes
    account: int
    worker: int
    stale: bool
    now_ns: int

    def block(self) -> bytes: ...

class Channel:
    def __init__(
        self,
        jobs: JobTable,
        log: ShareLog,
        extranonce1: bytes,
        found: Callable[[Found], None],
        *,
        line_limit: int = 8192,
        session: int = 0,  # number written into share rows
        flags: int = 0,  # written into share rows: pool.records.SOLO
    ) -> None: ...

    # --- bytes in, bytes out
    def feed(self, data: bytes | bytearray | memoryview, now_ns: int) -> bytes | None:
        """Judge, book and answer every plain mining.submit at the front of the stream. Returns the first line that is
        not one (without its line end)
        for the session to hear, or None when no complete line is left. Call again with b"" after the session has
        answered. Empty lines are skipped."""

    fault: str | None
    """Why the stream cannot go on ("line too long"); feed returns None for ever after."""

    def say(self, line: bytes) -> None:
        """Append an answer of the session ('\\n' ended)."""

    def take(self) -> bytes:
        """All output gathered since the last take; b"" if none."""

    pending_in: int  # bytes of an unfinished line
    pending_out: int

    # --- what the session decides
    version_mask: int  # default 0x1fffe000
    extranonce1: bytes  # read-only
    users: list[bytes]  # read-only
    def authorize(self, user: bytes, account: int, worker: int) -> None:
        """Shares submitted as `user` are booked on (account, worker). At most 16 users a connection (ValueError)."""

    def deauthorize(self, user: bytes) -> None: ...
    unauthorised_text: (
        str  # error text of verdict UNAUTHORISED; default "Unauthorized worker"; at most 63 ASCII characters
    )
    def set_extranonce1(self, extranonce1: bytes) -> None:
        """For jobs sent from now on; jobs sent before keep the old one."""

    def send_job(self, job: Job, difficulty: float, clean: bool) -> None:
        """Append set_difficulty (if it differs from the last one sent) and the job's notify; shares on it are judged
        and credited at `difficulty`.
        The 64 newest jobs of a connection stay known (fewer if the JobTable retires them)."""

    def submit(
        self,
        id_json: bytes,
        user: str,
        job_id: str,
        extranonce2: str,
        ntime: str,
        nonce: str,
        version_bits: str | None,
        now_ns: int,
    ) -> int:
        """A submit that came in an unusual form and was parsed by the session: the same judge, the same answer
        appended. id_json b"null": no answer. Returns the verdict."""

    # --- what vardiff and statistics read
    difficulty: float  # last sent; 0.0 before the first job
    counts: tuple[int, ...]  # by verdict, since the connection began
    credited: float  # sum of assigned difficulty of accepted shares
    credited_work: int  # exact sum of assigned work
    last_accepted_ns: int
    last_submit_ns: int
    best_difficulty: (
        float  # of accepted shares on this connection; settable from history: BEST rows are written only above it
    )
    best_header: bytes | None
    def drain_counts(self) -> tuple[int, ...]:
        """Counts by verdict since the last drain (for a REJECTS row)."""

def broadcast(channels: Iterable[Channel], job: Job, clean: bool) -> None:
    """send_job to each at its present difficulty; one without a job yet is left out (its session sends the first)."""
