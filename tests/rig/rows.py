"""Share-log rows read back: checked with the oracle's own CRC, and put beside what the oracle expects to be booked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from native.sharelog import ROW_SIZE, Segment, segments
from pool.records import BEST_ROW, SHARE_ROW, RowKind
from rig import reference
from rig.reference_judge import BestBooked, Booked, ShareBooked


def rows_of(directory: Path) -> list[bytes]:
    """All rows of the log, in order, each 128 bytes; their checks recomputed by the oracle."""
    rows = []
    for path in segments(str(directory)):
        segment = Segment(path)
        data = segment.rows()
        assert segment.torn() is None
        segment.close()
        salt = int.from_bytes(Path(path).read_bytes()[40:44], "little")
        for at in range(0, len(data), ROW_SIZE):
            row = data[at : at + ROW_SIZE]
            assert int.from_bytes(row[:4], "little") == reference.crc32c(row[4:], salt)
            rows.append(row)
    return rows


def booked_of(rows: list[bytes]) -> list[tuple[object, ...]]:
    """SHARE and BEST rows as tuples of what the oracle knows."""
    out: list[tuple[object, ...]] = []
    for raw in rows:
        if raw[4] == RowKind.SHARE:
            row = np.frombuffer(raw, SHARE_ROW)[0]
            work = int(row["work_hi"]) << 64 | int(row["work_lo"])
            place = (int(row["job_id"]), int(row["nbits"]), int(row["height"]), bytes(row["extranonce1"]))
            ids = (int(row["account"]), int(row["worker"]), int(row["time_ns"]))
            fact = (bytes(row["hash_le"]), work, float(row["difficulty"]))
            out.append((*fact, *place, bytes(row["prevhash_head"]), *ids))
        elif raw[4] == RowKind.BEST:
            row = np.frombuffer(raw, BEST_ROW)[0]
            out.append((bytes(row["header"]), float(row["difficulty"]), int(row["account"]), int(row["worker"])))
    return out


def expected_of(booked: list[Booked]) -> list[tuple[object, ...]]:
    out: list[tuple[object, ...]] = []
    for row in booked:
        if isinstance(row, ShareBooked):
            place = (row.job_id, row.nbits, row.height, row.extranonce1, row.prevhash[:8])
            out.append((row.hash_le, row.work, row.difficulty, *place, row.account, row.worker, row.time_ns))
        else:
            assert isinstance(row, BestBooked)
            out.append((row.header, row.difficulty, row.account, row.worker))
    return out


def check_sequence(rows: list[bytes]) -> None:
    """seq counts 1, 2, 3...; a BEST row names the SHARE row before it."""
    for number, raw in enumerate(rows, start=1):
        row = np.frombuffer(raw, SHARE_ROW)[0]
        assert int(row["seq"]) == number
        if raw[4] == RowKind.BEST:
            assert int(np.frombuffer(raw, BEST_ROW)[0]["share_seq"]) == number - 1
            assert rows[number - 2][4] == RowKind.SHARE
