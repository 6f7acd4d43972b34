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


def library(name: str) -> ctypes.CDLL:
    """bench/NAME.c, compiled."""
    source = ROOT / "bench" / f"{name}.c"
    out = ROOT / "build" / f"bench-{name}-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}.so"
    if not out.exists():
        out.parent.mkdir(exist_ok=True)
        made = out.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", str(made), str(source)], check=True)
        made.rename(out)
    return ctypes.CDLL(str(out))


Packed = tuple[ctypes.Array[ctypes.c_char_p], ctypes.Array[ctypes.c_void_p], list[object]]


def packed(lines: Sequence[Sequence[bytes]]) -> Packed:
    """Each connection's lines in one piece, where each of them begins, and what has to stay alive meanwhile."""
    count = len(lines[0])
    assert all(len(mine) == count for mine in lines)
    blobs = [b"".join(mine) for mine in lines]
    tables = []
    for mine in lines:
        table = (ctypes.c_uint32 * (count + 1))()
        for i, line in enumerate(mine):
            table[i + 1] = table[i] + len(line)
        tables.append(table)
    texts = (ctypes.c_char_p * len(lines))(*blobs)
    starts = (ctypes.c_void_p * len(lines))(*(ctypes.addressof(table) for table in tables))
    return texts, starts, [blobs, tables]


def _percentile_ms(histogram: Sequence[int], share: float) -> float:
    want, seen = sum(histogram) * share, 0
    for at, count in enumerate(histogram):
        seen += count
        if seen >= want and count:
            octave, step = divmod(at, 32)
            return 2.0**octave * (1 + (step + 0.5) / 32) / 1000
    return 0.0


def closed_loop(sockets: Sequence[socket.socket | int], lines: Sequence[Sequence[bytes]], pipeline: int) -> LoopResult:
    """Send each socket its lines (the same number on each), `pipeline` in flight, until all are answered."""
    n, (texts, starts, _alive) = len(sockets), packed(lines)
    result = _Result()
    failed = library("loop").closed_loop(
        n,
        (ctypes.c_int * n)(*(one if isinstance(one, int) else one.fileno() for one in sockets)),
        texts,
        starts,
        ctypes.c_uint32(len(lines[0])),
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
