"""What earlier processes credited on the present previous block, read back from the share log at start (P2)."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from native.sharelog import Segment, segments
from pool.records import SHARE_ROW, RowKind

#: Shares of an older previous block than this could only be replayed on jobs that are long gone.
LOOK_BACK_S = 6 * 3600


def credited_on(directory: Path, prevhash: bytes, own_epoch: int) -> bytes:
    """Hashes (32 bytes each, joined) of the shares credited on that previous block before this epoch."""
    found: list[bytes] = []
    oldest_ns = time.time_ns() - LOOK_BACK_S * 10**9
    for path in reversed(segments(str(directory))):
        segment = Segment(path)
        try:
            if segment.epoch == own_epoch:
                continue
            rows = np.frombuffer(segment.rows(), dtype=SHARE_ROW)
        finally:
            segment.close()
        if not len(rows):
            continue
        shares = rows[rows["kind"] == RowKind.SHARE]
        # Compared as numbers: numpy compares raw bytes element by element in Python.
        tails = np.ascontiguousarray(shares["prevhash_head"]).view("<u8")
        on_tip = shares["hash_le"][tails == int.from_bytes(prevhash[:8], "little")]
        found.append(on_tip.tobytes())
        if int(rows["time_ns"][0]) < oldest_ns:
            break
    return b"".join(found)
