"""Python's handle on bench/loop.c: builds it once into build/, and runs a closed loop over sockets it is given."""

from __future__ import annotations

import ctypes
import hashlib
import os
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from report import ROOT

BUCKETS = 2048


class _Result(ctypes.Structure):
    _fields_ = (
        ("answered", ctypes.c_uint64),
        ("accepted", ctypes.c_uint64),
        ("refused", ctypes.c_uint64),
        ("other", ctypes.c_uint64),
        ("seconds", ctypes.c_double),
        ("histogram", ctypes.c_uint64 * BUCKETS),
        ("error", ctypes.c_int),
    )


@dataclass(frozen=True, slots=True)
class LoopResult:
    """What came back."""

    answered: int
    accepted: int
    refused: int
    seconds: float
    p50_ms: float
    p99_ms: float


def _library() -> ctypes.CDLL:
    source = ROOT / "bench" / "loop.c"
    out = ROOT / "build" / f"bench-loop-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}.so"
    if not out.exists():
        out.parent.mkdir(exist_ok=True)
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", str(out), str(source)], check=True)
    return ctypes.CDLL(str(out))


def _percentile_ms(histogram: Sequence[int], share: float) -> float:
    want, seen = sum(histogram) * share, 0
    for at, count in enumerate(histogram):
        seen += count
        if seen >= want and count:
            octave, step = divmod(at, 32)
            return 2.0**octave * (1 + (step + 0.5) / 32) / 1000
    return 0.0


def closed_loop(sockets: Sequence[socket.socket], lines: Sequence[Sequence[bytes]], pipeline: int) -> LoopResult:
    """Send each socket its lines (the same number on each), `pipeline` in flight, until all are answered."""
    count = len(lines[0])
    assert all(len(mine) == count for mine in lines)
    n = len(sockets)
    blobs = [b"".join(mine) for mine in lines]
    offsets = []
    for mine in lines:
        table = (ctypes.c_uint32 * (count + 1))()
        for i, line in enumerate(mine):
            table[i + 1] = table[i] + len(line)
        offsets.append(table)
    result = _Result()
    failed = _library().closed_loop(
        n,
        (ctypes.c_int * n)(*(s.fileno() for s in sockets)),
        (ctypes.c_char_p * n)(*blobs),
        (ctypes.c_void_p * n)(*(ctypes.addressof(table) for table in offsets)),
        ctypes.c_uint32(count),
        ctypes.c_uint32(pipeline),
        ctypes.byref(result),
    )
    if failed:
        raise RuntimeError("a peer closed the connection" if result.error == -1 else os.strerror(result.error))
    return LoopResult(
        result.answered,
        result.accepted,
        result.refused,
        result.seconds,
        _percentile_ms(result.histogram, 0.5),
        _percentile_ms(result.histogram, 0.99),
    )
