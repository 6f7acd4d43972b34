"""Share-log segments written row by row without a channel: any history a test or benchmark wants, valid to readers."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from native.sharelog import crc
from pool.records import ACCOUNT_ROW, BEST_ROW, BLOCK_ROW, REJECTS_ROW, SHARE_ROW, SOLO, RowKind

SALT = 0x5A17
HEAD_BYTES = 4096
Row = npt.NDArray[np.void]


def share(
    account: int,
    worker: int,
    time_ns: int,
    work: int,
    *,
    nbits: int = 0x1703A30C,
    height: int = 900_000,
    hash_le: bytes | None = None,
    solo: bool = False,
) -> Row:
    row = np.zeros(1, SHARE_ROW)
    row["kind"], row["account"], row["worker"], row["time_ns"] = RowKind.SHARE, account, worker, time_ns
    row["work_lo"], row["work_hi"] = work & (1 << 64) - 1, work >> 64
    row["flags"] = SOLO if solo else 0
    row["nbits"], row["height"], row["difficulty"] = nbits, height, work / 2**32
    row["hash_le"] = np.void(hash_le or os.urandom(32))
    return row


def name(kind: RowKind, account: int, worker: int, text: str, time_ns: int) -> Row:
    row = np.zeros(1, ACCOUNT_ROW)
    row["kind"], row["account"], row["worker"], row["time_ns"] = kind, account, worker, time_ns
    row["length"], row["text"] = len(text.encode()), np.void(text.encode().ljust(88, b"\0"))
    return row.view(SHARE_ROW)


def rejects(account: int, worker: int, counts: Iterable[int], time_ns: int) -> Row:
    row = np.zeros(1, REJECTS_ROW)
    row["kind"], row["account"], row["worker"], row["time_ns"] = RowKind.REJECTS, account, worker, time_ns
    for i, count in enumerate(counts):
        row["counts"][0][i] = count
    return row.view(SHARE_ROW)


def block(account: int, worker: int, header: bytes, height: int, time_ns: int) -> Row:
    row = np.zeros(1, BLOCK_ROW)
    row["kind"], row["account"], row["worker"], row["time_ns"] = RowKind.BLOCK, account, worker, time_ns
    row["header"], row["height"] = np.void(header), height
    return row.view(SHARE_ROW)


def best(account: int, worker: int, header: bytes, difficulty: float, time_ns: int) -> Row:
    row = np.zeros(1, BEST_ROW)
    row["kind"], row["account"], row["worker"], row["time_ns"] = RowKind.BEST, account, worker, time_ns
    row["header"], row["difficulty"] = np.void(header), difficulty
    return row.view(SHARE_ROW)


def write_epoch(directory: Path, epoch: int, rows: Row, *, segment_rows: int = 1 << 20) -> list[Path]:
    """Number and check the rows, and write them as the segments of one epoch."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = rows.copy()
    rows["seq"] = np.arange(1, len(rows) + 1, dtype=np.uint64)
    raw = rows.view(np.uint8).reshape(len(rows), 128)
    rows["check"] = [crc(raw[i, 4:].tobytes(), SALT) for i in range(len(rows))]
    paths = []
    for number, start in enumerate(range(0, max(len(rows), 1), segment_rows)):
        path = directory / f"{epoch:010d}-{number:06d}.log"
        head = b"MMSPLOG1" + struct.pack("<IIIIQQIq", 1, 128, epoch, number, start + 1, segment_rows, SALT, 0)
        head += struct.pack("<I", crc(head))
        path.write_bytes(head.ljust(HEAD_BYTES, b"\0") + rows[start : start + segment_rows].tobytes())
        paths.append(path)
    return paths
