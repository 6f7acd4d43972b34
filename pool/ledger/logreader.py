"""Rows of the share log after a position, in order, over segments and epochs. Reads only, and no database."""

from __future__ import annotations

import gzip
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from native.sharelog import ROW_SIZE, Segment
from pool.records import SHARE_ROW

log = logging.getLogger(__name__)

Rows = npt.NDArray[np.void]  # of SHARE_ROW; other kinds are viewed through their own layouts
BATCH = 65_536
_NAME = re.compile(r"(\d{10})-(\d{6})\.log(\.gz)?")


class LogGapError(Exception):
    """Rows that were not summed yet are gone or damaged. Nobody may go on silently: shares would be lost."""


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


def files(directory: Path) -> dict[int, list[str]]:
    """Paths of all segments by epoch, in order. Where one lies there both plain and compressed, the plain one."""
    found: dict[int, dict[int, str]] = {}
    for name in sorted(os.listdir(directory), reverse=True):  # "x.log" comes after "x.log.gz", and so replaces it
        match = _NAME.fullmatch(name)
        if match is not None:
            found.setdefault(int(match[1]), {})[int(match[2])] = os.path.join(directory, name)
    return {epoch: [one[number] for number in sorted(one)] for epoch, one in sorted(found.items())}


class LogReader:
    """Follows a share log directory. An epoch is over when a newer one exists: the log has one writer at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._told: set[tuple[int, int]] = set()
        self._extents: dict[str, tuple[int, int]] = {}

    def after(self, at: Position, limit: int = BATCH) -> Batch | None:
        """At most `limit` rows after `at`, of one epoch; None when there are none yet. LogGapError."""
        by_epoch = {epoch: paths for epoch, paths in files(self._directory).items() if epoch >= at.epoch}
        for epoch, paths in by_epoch.items():
            newest = epoch == max(by_epoch)
            seq = at.seq if epoch == at.epoch else 0
            batch = self._in_epoch(paths, epoch, seq, limit, newest=newest)
            if batch is not None:
                over = not newest and self._in_epoch(paths, epoch, batch.end.seq, 1, newest=False) is None
                return replace(batch, last_of_epoch=over)
        return None

    def _in_epoch(self, paths: list[str], epoch: int, seq: int, limit: int, *, newest: bool) -> Batch | None:
        """Over the ends of segments: a BLOCK row may be the last of one, its winning share the first of the next."""
        read: list[bytes] = []
        have = 0
        for path in paths:
            try:
                first_seq, capacity = self._extent(path)
                if first_seq > seq + have + 1:
                    if have:
                        break  # what is whole is taken first
                    raise LogGapError(f"{path} begins with row {first_seq}, but row {seq + 1} was never summed")
                start = seq + have + 1 - first_seq
                if start >= capacity:
                    continue
                with opened(path) as segment:
                    data = segment.rows(start, limit - have)
                    if not data and not have:
                        self._look_behind(segment, start, newest=newest)
            except ValueError as error:
                if have:
                    break
                raise LogGapError(f"a segment cannot be read: {error}") from error
            except FileNotFoundError:
                continue  # an unused one, tidied away since the directory was read
            read.append(data)
            have += len(data) // ROW_SIZE
            if have == limit or first_seq + capacity > seq + have + 1:
                break  # enough, or the segment ends here
        return Batch(epoch, seq + 1, np.frombuffer(b"".join(read), dtype=SHARE_ROW)) if have else None

    def _extent(self, path: str) -> tuple[int, int]:
        """(first_seq, capacity): a segment's head never changes, and an epoch may have thousands of them."""
        extent = self._extents.get(path)
        if extent is None:
            with opened(path) as segment:
                extent = self._extents[path] = segment.first_seq, segment.capacity
        return extent

    def _look_behind(self, segment: Segment, start: int, *, newest: bool) -> None:
        """Why does reading end at this row? In an epoch that is over, a power cut may have torn it: neither it nor what
        lies behind was promised. In the epoch being written, a whole row behind a broken one means a damaged disk."""
        key = (segment.epoch, segment.first_seq + start)
        if newest:
            # Asked in this order: rows are written one after another, so the first is whole before the second is.
            if segment.rows(start + 1, 1) and not segment.rows(start, 1):
                raise LogGapError(f"{segment.path}: row {key[1]} is damaged, though there are rows behind it")
            return
        if key not in self._told:
            self._told.add(key)
            if segment.torn() is not None:
                words = "is torn; it and what lies behind it never reached the disk whole"
                log.error("%s: row %d %s", segment.path, key[1], words)


@contextmanager
def opened(path: str) -> Iterator[Segment]:
    """A segment, plain or compressed (then unpacked into a temporary file). A plain one that was compressed a moment
    ago is found all the same. FileNotFoundError; ValueError when it is none."""
    if not path.endswith(".gz"):
        try:
            segment = Segment(path)
        except FileNotFoundError:
            if not os.path.exists(path + ".gz"):
                raise
        else:
            try:
                yield segment
            finally:
                segment.close()
            return
        path += ".gz"
    with tempfile.NamedTemporaryFile(prefix="sharelog-", suffix=".log") as unpacked:
        with gzip.open(path) as packed:
            shutil.copyfileobj(packed, unpacked, 1 << 20)
        unpacked.flush()
        segment = Segment(unpacked.name)
        try:
            yield segment
        finally:
            segment.close()
