"""Rows of the share log after a position, in order, over segments and epochs. Reads only, and no database."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from native.sharelog import Segment, segments
from pool.records import SHARE_ROW

log = logging.getLogger(__name__)

Rows = npt.NDArray[np.void]  # of SHARE_ROW; other kinds are viewed through their own layouts
BATCH = 65_536


class LogGapError(Exception):
    """Rows that were not summed yet are gone from the directory. Nobody may go on silently: shares would be lost."""


@dataclass(frozen=True, slots=True)
class Position:
    """The last row that was taken; (0, 0) before any."""

    epoch: int = 0
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one epoch, numbered first_seq, first_seq + 1, ..."""

    epoch: int
    first_seq: int
    rows: Rows
    last_of_epoch: bool = False  # a newer epoch exists, and nothing follows in this one

    @property
    def end(self) -> Position:
        return Position(self.epoch, self.first_seq + len(self.rows) - 1)


class LogReader:
    """Follows a share log directory. An epoch is over when a newer one exists: the log has one writer at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._told_torn: set[str] = set()

    def after(self, at: Position, limit: int = BATCH) -> Batch | None:
        """At most `limit` rows after `at`, of one epoch; None when there are none yet. LogGapError."""
        by_epoch: dict[int, list[str]] = {}
        for path in segments(str(self._directory)):
            epoch = int(os.path.basename(path)[:10])
            if epoch >= at.epoch:
                by_epoch.setdefault(epoch, []).append(path)
        for epoch in sorted(by_epoch):
            seq = at.seq if epoch == at.epoch else 0
            batch = self._in_epoch(by_epoch[epoch], epoch, seq, limit)
            if batch is not None:
                over = epoch != max(by_epoch) and self._in_epoch(by_epoch[epoch], epoch, batch.end.seq, 1) is None
                return replace(batch, last_of_epoch=over)
            if epoch != max(by_epoch):
                self._tell_torn(by_epoch[epoch])
        return None

    def _in_epoch(self, paths: list[str], epoch: int, seq: int, limit: int) -> Batch | None:
        for path in paths:
            try:
                segment = Segment(path)
            except FileNotFoundError:
                continue  # an unused one, tidied away since the directory was read
            try:
                if segment.first_seq > seq + 1:
                    raise LogGapError(f"{path} begins with row {segment.first_seq}, but row {seq + 1} was never summed")
                start = seq + 1 - segment.first_seq
                if start >= segment.capacity:
                    continue
                data = segment.rows(start, limit)
            finally:
                segment.close()
            return Batch(epoch, seq + 1, np.frombuffer(data, dtype=SHARE_ROW)) if data else None
        return None

    def _tell_torn(self, paths: list[str]) -> None:
        """A finished epoch may end in a torn row only after a power cut: rows behind it were never promised."""
        path = paths[-1]
        if path in self._told_torn:
            return
        self._told_torn.add(path)
        segment = Segment(path)
        try:
            torn = segment.torn()
        finally:
            segment.close()
        if torn is not None:
            log.warning("%s: row %d is torn; it and what lies behind it never reached the disk whole", path, torn)
