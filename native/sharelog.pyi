"""The share log: fixed 128-byte rows in memory-mapped, preallocated, append-only segments. One writer process per
directory.

File `<epoch>-<segment:06d>.log` = a 4096-byte head + rows. Layouts: pool/records.py. A row is in the kernel's hands
when append returns."""

from types import TracebackType

ROW_SIZE: int  # 128
HEAD_SIZE: int  # 4096

class LogFull(Exception):
    """No room and no next segment: nothing was written."""

class ShareLog:
    def __init__(self, directory: str, *, segment_bytes: int = 64 << 20, now_s: int | None = None) -> None:
        """Opens a new epoch (> every epoch found in the directory, normally the unix time), preallocates the first
        segment. OSError if the disk refuses.
        BlockingIOError when another live process holds the directory (lock file)."""

    directory: str
    epoch: int
    seq: int  # rows written in this epoch; the first row is number 1
    full: bool  # a row was refused since the last successful prepare()
    refused: int  # rows refused so far

    def prepare(self) -> None:
        """Off the loop, each second: msync what is new and preallocate the next segment when the current one is half
        full. OSError when the disk refuses."""

    def account(self, name: str, now_ns: int) -> int:
        """Id of an account within this epoch; writes an ACCOUNT row the first time. ValueError: name over 88 UTF-8
        bytes. LogFull."""

    def worker(self, account: int, name: str, now_ns: int) -> int:
        """Id of a worker within this epoch; writes a WORKER row the first time. Name at most 64 UTF-8 bytes."""

    def rejects(self, account: int, worker: int, counts: tuple[int, ...], now_ns: int) -> None:
        """One REJECTS row: counts by Verdict index, since the last such row of that connection."""

    def tip(self, prevhash: bytes, height: int, nbits: int, now_ns: int) -> None: ...
    def block(self, header: bytes, height: int, account: int, worker: int, now_ns: int) -> int:
        """BLOCK row (header of a found block); returns its seq."""

    def policy(self, version: int, digest: bytes, now_ns: int) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> ShareLog: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None: ...

class Segment:
    """Read-only view of one segment file, possibly still being written."""

    epoch: int
    number: int
    first_seq: int

    def __init__(self, path: str) -> None:
        """ValueError naming what is wrong with the head."""

    capacity: int
    path: str
    salt: int

    def rows(self, start: int = 0, limit: int = ...) -> bytes:
        """At most `limit` valid rows from index `start` on: stops before the first row that is unwritten, torn or out
        of sequence."""

    def row_written(self, index: int) -> bool:
        """Is anything but zeros at that row, whether it passes its check or not?"""

    def torn(self) -> int | None:
        """Index of the first row that fails its check though it, or a row behind it, was written; None if none is."""

    def close(self) -> None: ...

def segments(directory: str) -> list[str]:
    """Paths of all segments, by (epoch, number)."""

MAX_ACCOUNT_BYTES: int  # 88
MAX_WORKER_BYTES: int  # 64

def crc(data: bytes, seed: int = 0, by_table: bool = False) -> int:
    """CRC-32C with the register initialised to 0xFFFFFFFF ^ seed: the check word of a row is that of its bytes
    4..127, seeded with the segment's salt."""
