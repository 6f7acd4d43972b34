"""Many Stratum clients at once (bench/swarm.c): connected, mining real shares, waiting for new work."""

from __future__ import annotations

import ctypes
import hashlib
import json
import multiprocessing
import os
import resource
import select
import socket
import statistics
import struct
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from loop import LoopResult, closed_loop, library, packed
from report import ROOT

from native import hashing
from native.work import Job

LINE = 16384
USER = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"
AGENT = "bench/1.0"
WINDOW = 128
SPARE_FILES = 200


class _Crowd(ctypes.Structure):
    _fields_ = (
        ("seconds", ctypes.c_double),
        ("difficulty", ctypes.c_double),
        ("notify", ctypes.c_char * LINE),
        ("different", ctypes.c_int),
        ("error", ctypes.c_int),
    )


class _Stream(ctypes.Structure):
    _fields_ = (
        ("seconds", ctypes.c_double),
        ("answered", ctypes.c_uint64),
        ("refused", ctypes.c_uint64),
        ("late", ctypes.c_uint64),
        ("error", ctypes.c_int),
    )


@dataclass(frozen=True, slots=True)
class OpenResult:
    """What came back from shares sent at a fixed rate; latency runs from the moment a share was sent.

    Nothing that the server does holds up the sending, so none of its stalls is left out."""

    answered: int
    refused: int
    late: int  # sent more than 1 ms after they were due: the generator was held up
    seconds: float
    p50_ms: float
    p99_ms: float
    p999_ms: float


def _check(error: int) -> None:
    if error:
        raise RuntimeError("the server closed a connection" if error == -1 else os.strerror(error))


def raise_file_limit(wanted: int) -> None:
    """RuntimeError when the system does not allow so many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted + SPARE_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < wanted + SPARE_FILES:
        raise RuntimeError(f"{wanted} connections need a limit of open files of {wanted + SPARE_FILES}; it is {hard}")


class Swarm:
    """`with Swarm(port, n) as swarm:` opens n connections and has the first job on each."""

    def __init__(self, port: int, n: int, *, sources: int = 1, user: str = USER) -> None:
        raise_file_limit(n)
        self.n = n
        self.fds = (ctypes.c_int * n)()
        extranonces, ready, crowd = ctypes.create_string_buffer(8 * n), (ctypes.c_int64 * n)(), _Crowd()
        library("swarm").assemble(
            *(n, ctypes.c_uint16(port), WINDOW, sources, AGENT.encode(), user.encode(), self.fds),
            *(extranonces, ready, ctypes.byref(crowd)),
        )
        _check(crowd.error)
        self.seconds, self.difficulty = crowd.seconds, crowd.difficulty
        self.handshake_p99_ms = percentile(sorted(ready), 0.99) / 1e6
        self.extranonces = [bytes.fromhex(extranonces.raw[8 * i : 8 * i + 8].decode()) for i in range(n)]
        self.notify = bytes(crowd.notify)
        if crowd.different:
            raise RuntimeError(f"{crowd.different} of {n} connections got another first job")

    def __enter__(self) -> Swarm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, *, reset: bool = False) -> None:
        """End every connection; `reset`: by RST."""
        for fd in self.fds:
            one = socket.socket(fileno=fd)
            if reset:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()

    def closed(self, lines: Sequence[Sequence[bytes]], pipeline: int) -> LoopResult:
        return closed_loop(list(self.fds), lines, pipeline)

    def open(self, lines: Sequence[Sequence[bytes]], rate: float) -> OpenResult:
        """The lines at `rate` a second in all, round and round the connections."""
        texts, starts, _alive = packed(lines)
        each, result = len(lines[0]), _Stream()
        taken = (ctypes.c_int64 * (self.n * each))()
        library("swarm").open_loop(
            *(self.n, self.fds, texts, starts, ctypes.c_uint32(each), ctypes.c_double(rate), taken),
            ctypes.byref(result),
        )
        _check(result.error)
        spans = sorted(taken)
        p50, p99, p999 = (percentile(spans, part) / 1e6 for part in (0.5, 0.99, 0.999))
        return OpenResult(result.answered, result.refused, result.late, result.seconds, p50, p99, p999)

    def hear(self, fire: Callable[[], None]) -> list[int]:
        """Fire, and when each connection had the new work: CLOCK_REALTIME in ns, by the kernel, sorted."""
        heard, line = (ctypes.c_int64 * self.n)(), ctypes.create_string_buffer(LINE)
        call = ctypes.CFUNCTYPE(None)(fire)
        _check(library("swarm").hear_work(self.n, self.fds, call, heard, line))
        self.notify = next(one for one in reversed(line.value.splitlines()) if b'"mining.notify"' in one)
        return sorted(heard)


    def await_transactions(self) -> int:
        """When the first connection was found to have a job with transactions (CLOCK_REALTIME, ns): read by Python, so
        at most that late. RuntimeError after 10 s."""
        text, deadline_s = b"", time.monotonic() + 10.0
        while not json.loads(self.notify)["params"][4]:
            left_s = deadline_s - time.monotonic()
            if left_s < 0 or not select.select([self.fds[0]], [], [], left_s)[0]:
                raise RuntimeError("no job with transactions came")
            text += os.read(self.fds[0], LINE)
            found = [line for line in text.split(b"\n")[:-1] if b'"mining.notify"' in line]
            self.notify = found[-1] if found else self.notify
        return time.time_ns()


def percentile(ordered: Sequence[int], part: float) -> float:
    """Of sorted values."""
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * part))])


# --- shares


def job_of(notify: bytes) -> tuple[str, Job]:
    """The job id and the work of a mining.notify line."""
    job_id, prev, coinb1, coinb2, branches, version, nbits, ntime, _clean = json.loads(notify)["params"]
    words = bytes.fromhex(prev)
    stamp = int(ntime, 16)
    return job_id, Job(
        job_id=1,
        coinb1=bytes.fromhex(coinb1),
        coinb2=bytes.fromhex(coinb2),
        branches=tuple(bytes.fromhex(one) for one in branches),
        prevhash=b"".join(words[i : i + 4][::-1] for i in range(0, 32, 4)),
        version=int(version, 16),
        nbits=int(nbits, 16),
        ntime=stamp,
        ntime_min=stamp,
        ntime_max=stamp,
        height=0,
    )


def bits_of(i: int) -> int:
    """Version bits of a connection's i-th share."""
    return (i % 4096) << 13


def _mine(job: Job, target: int, extranonce1: bytes, count: int) -> array[int]:
    nonces = array("I")
    for i in range(count):
        header = job.header(extranonce1, i.to_bytes(8, "little"), job.ntime, 0, bits_of(i))
        nonce = hashing.search(header, target, 0, 1 << 32)
        assert nonce is not None
        nonces.append(nonce)
    return nonces


class Stock:
    """Nonces by extranonce1, of one job's work. What takes long to find is kept in build/ for the next run."""

    WORTH_KEEPING = 1e-7  # difficulty above which it is

    def __init__(self, notify: bytes, difficulty: float, *, keep: bool = True) -> None:
        self.job_id, self._job = job_of(notify)
        self._target = int(0xFFFF * 2**208 / difficulty)
        self._nonces: dict[bytes, array[int]] = {}
        params = json.loads(notify)["params"][1:8]
        name = hashlib.sha256(repr((params, difficulty)).encode()).hexdigest()[:16]
        self._file = ROOT / "build" / f"bench-stock-{name}.bin" if keep and difficulty > self.WORTH_KEEPING else None
        if self._file is not None and self._file.exists():
            self._read(self._file.read_bytes())

    def _read(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            count = int.from_bytes(data[at + 4 : at + 8], "little")
            self._nonces[data[at : at + 4]] = array("I", data[at + 8 : at + 8 + 4 * count])
            at += 8 + 4 * count

    def fill(self, extranonces: Sequence[bytes], each: int) -> float:
        """Have at least `each` shares for each; the seconds it took. Both cores work when it is much."""
        begin = time.monotonic()
        lacking = [one for one in extranonces if len(self._nonces.get(one, ())) < each]
        if not lacking:
            return 0.0
        if self._file is None:
            for one in lacking:
                self._nonces[one] = _mine(self._job, self._target, one, each)
            return time.monotonic() - begin
        parts = [lacking[i::64] for i in range(64)]
        pinned = os.sched_getaffinity(0)
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
        with multiprocessing.get_context("fork").Pool(os.cpu_count(), self._enter, (self._job, self._target)) as pool:
            for done in pool.imap_unordered(_mine_part, [(part, each) for part in parts if part]):
                self._nonces.update(done)
        os.sched_setaffinity(0, pinned)
        made = self._file.with_suffix(f".{os.getpid()}")
        made.write_bytes(
            b"".join(one + len(found).to_bytes(4, "little") + found.tobytes() for one, found in self._nonces.items())
        )
        made.rename(self._file)
        return time.monotonic() - begin

    @staticmethod
    def _enter(job: Job, target: int) -> None:
        global _WORK
        _WORK = (job, target)

    def lines(self, swarm: Swarm, each: int) -> list[list[bytes]]:
        """`each` submit lines for each connection."""
        self.fill(swarm.extranonces, each)
        ntime = f"{self._job.ntime:08x}"
        tails = [
            f'"{self.job_id}","{i.to_bytes(8, "little").hex()}","{ntime}","%08x","{bits_of(i):08x}"]}}\n'
            for i in range(each)
        ]
        return [
            [
                f'{{"id":{i + 5},"method":"mining.submit","params":["{USER}.w{number}",{tails[i] % nonces[i]}'.encode()
                for i in range(each)
            ]
            for number, nonces in enumerate(self._nonces[one] for one in swarm.extranonces)
        ]


_WORK: tuple[Job, int]


def _mine_part(asked: tuple[list[bytes], int]) -> dict[bytes, array[int]]:
    job, target = _WORK
    return {one: _mine(job, target, one, asked[1]) for one in asked[0]}


# --- what the kernel says of another process


def cpu_s(pid: int) -> float:
    """CPU seconds of all its threads so far (Linux's clock id of another process: clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def resident_kib(pid: int) -> int:
    """Its own memory, without files and shared libraries."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
