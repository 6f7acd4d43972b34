"""What becomes of summed segments of the share log: compressed, hashed, noted, kept or dropped by policy.

Only a segment whose every row is summed is touched, a day after its last row (a restart reads the last hours for
duplicates), and it leaves its plain form only when the compressed one was read back whole. A segment that ends in
torn rows is evidence and stays as it is."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import Connection, Row, select, update

from native.sharelog import HEAD_SIZE, Segment
from pool.ledger.logreader import Position, files
from pool.records import SHARE_ROW
from pool.store.engine import Store
from pool.store.schema import insert_into
from pool.store.work import log_segments

log = logging.getLogger(__name__)

DAY_S = 86_400
COMPRESS_AFTER_S = DAY_S  # longer than what a restart looks back for duplicates
LEVEL = 6
ROWS_A_READ = 65_536


@dataclass(frozen=True, slots=True)
class Kept:
    """A segment in its compressed form."""

    name: str
    epoch: int
    first_seq: int
    rows: int
    last_time_ns: int
    sha256_hex: str
    stored_bytes: int


class Retention:
    """`step` once in a while; each does one segment at most."""

    def __init__(self, directory: Path, keep_days: int = 0) -> None:
        """`keep_days` after its last row a compressed segment is dropped; 0: never."""
        self._directory, self._keep_days = directory, keep_days
        self._not_before_s: dict[str, float] = {}

    async def step(self, store: Store, position: Position, now_s: float) -> bool:
        """False when there is nothing to do now. OSError when the disk refuses; nothing is lost then."""
        kept = await asyncio.to_thread(self._compress_next, position, now_s)
        if kept is not None:
            await store.write(_note, kept, int(now_s))
            await asyncio.to_thread(self._remove, kept.name)
            return True
        return await self._drop_next(store, now_s)

    # --- compressing

    def _compress_next(self, position: Position, now_s: float) -> Kept | None:
        for path in summed(self._directory, position):
            if self._not_before_s.get(path, 0.0) > now_s:
                continue
            try:
                kept = self._compress(path, now_s)
            except ValueError as error:
                self._not_before_s[path] = float("inf")
                log.error("not a segment, left as it is: %s", error)
                continue
            if kept is not None:
                self._not_before_s.pop(path, None)
                return kept
        return None

    def _compress(self, path: str, now_s: float) -> Kept | None:
        segment = Segment(path)
        try:
            first = np.frombuffer(segment.rows(0, 1), SHARE_ROW)
            if len(first) and int(first["time_ns"][0]) // 10**9 + COMPRESS_AFTER_S > now_s:
                self._not_before_s[path] = int(first["time_ns"][0]) / 10**9 + COMPRESS_AFTER_S
                return None
            if not len(first) or segment.torn() is not None:
                self._not_before_s[path] = float("inf")
                return None
            times = [int(np.frombuffer(rows, SHARE_ROW)["time_ns"].max()) for rows in _chunks(segment)]
            last_time_ns = max(times)
            if last_time_ns // 10**9 + COMPRESS_AFTER_S > now_s:
                self._not_before_s[path] = last_time_ns / 10**9 + COMPRESS_AFTER_S
                return None
            count, digest = _pack(segment, path)
            return Kept(
                os.path.basename(path),
                segment.epoch,
                segment.first_seq,
                count,
                last_time_ns,
                digest,
                os.path.getsize(path + ".gz"),
            )
        finally:
            segment.close()

    def _remove(self, name: str) -> None:
        (self._directory / name).unlink(missing_ok=True)

    # --- dropping

    async def _drop_next(self, store: Store, now_s: float) -> bool:
        if not self._keep_days:
            return False
        packed = await asyncio.to_thread(lambda: {path.name for path in self._directory.glob("*.log.gz")})
        rows = await store.read(_older_than, int((now_s - self._keep_days * DAY_S) * 10**9))
        for row in rows:
            if row.name + ".gz" not in packed or (self._directory / row.name).exists():
                continue
            if row.state != "dropped":
                await store.write(_note_dropped, row.name, int(now_s))
                log.info("share log segment %s dropped after %d days", row.name, self._keep_days)
            await asyncio.to_thread(self._remove, row.name + ".gz")
            return True
        return False


def summed(directory: Path, position: Position) -> list[str]:
    """Plain segments of which every row lies at or before the position, and which nobody writes any more."""
    found = []
    for epoch, paths in files(directory).items():
        for path in paths:
            if path.endswith(".gz") or epoch > position.epoch:
                continue
            if epoch < position.epoch or _is_full_before(path, position.seq):
                found.append(path)
    return found


def _is_full_before(path: str, seq: int) -> bool:
    try:
        segment = Segment(path)
    except ValueError:
        return False  # readers name it
    try:
        return segment.first_seq + segment.capacity - 1 <= seq
    finally:
        segment.close()


def _chunks(segment: Segment) -> Iterator[bytes]:
    at = 0
    while rows := segment.rows(at, ROWS_A_READ):
        yield rows
        at += len(rows) // SHARE_ROW.itemsize


def _pack(segment: Segment, path: str) -> tuple[int, str]:
    """Head and rows into path.gz, on the disk and read back; (rows, SHA-256 of what was packed)."""
    digest, count, part = hashlib.sha256(), 0, path + ".gz.part"
    with open(part, "wb") as raw:
        # No name and no time inside: the same segment always makes the same file.
        with gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) as packed:
            with open(path, "rb") as plain:
                head = plain.read(HEAD_SIZE)
            digest.update(head)
            packed.write(head)
            for rows in _chunks(segment):
                count += len(rows) // SHARE_ROW.itemsize
                digest.update(rows)
                packed.write(rows)
        raw.flush()
        os.fsync(raw.fileno())
    back = sha256_of_packed(part)
    if back != digest.hexdigest():
        os.unlink(part)
        raise OSError(f"{part} was not written as it should be: the disk or memory is damaged")
    os.rename(part, path + ".gz")
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return count, back


def sha256_of_packed(path: str) -> str:
    """Of what a compressed segment holds: `gunzip -c FILE | sha256sum` says the same."""
    digest = hashlib.sha256()
    with gzip.open(path) as packed:
        while data := packed.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def _note(connection: Connection, kept: Kept, at_s: int) -> None:
    row = {name: getattr(kept, name) for name in Kept.__slots__}
    row |= {"state": "compressed", "at_s": at_s}
    insert = insert_into(connection, log_segments)
    changed = {name: insert.excluded[name] for name in row if name != "name"}
    connection.execute(insert.on_conflict_do_update(index_elements=["name"], set_=changed), [row])


def _older_than(connection: Connection, time_ns: int) -> list[Row[tuple[object, ...]]]:
    query = select(log_segments).where(log_segments.c.last_time_ns < time_ns)
    return list(connection.execute(query.order_by(log_segments.c.epoch, log_segments.c.first_seq)))


def _note_dropped(connection: Connection, name: str, at_s: int) -> None:
    changed = {"state": "dropped", "stored_bytes": 0, "at_s": at_s}
    connection.execute(update(log_segments).where(log_segments.c.name == name).values(changed))
