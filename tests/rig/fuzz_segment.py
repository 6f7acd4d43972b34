"""Fuzz target: a share-log segment with anything in it, through the reader and through the writer's tidying at a start.

An input is a list of edits to a good segment: 4 bytes of place, 1 of kind, 1 of length, then the bytes. An odd kind
mends the check of the head or of the row it touched, so that wrong numbers behind a right check are reached as well."""

from __future__ import annotations

import atexit
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from native.sharelog import HEAD_SIZE, ROW_SIZE, Segment, ShareLog, crc, segments

SEGMENT_BYTES = 8192
NOW_S = 1_750_000_000


def good_segment(directory: Path) -> bytes:
    """A segment with twenty rows of every kind and an unwritten tail."""
    with ShareLog(str(directory), segment_bytes=SEGMENT_BYTES, now_s=NOW_S) as log:
        for number in range(5):
            account = log.account(f"bc1q{number}", number)
            log.worker(account, "rig", number)
            log.tip(bytes([number]) * 32, number, 7, number)
            log.block(bytes(80), number, account, 1, number)
    (path,) = segments(str(directory))
    data = Path(path).read_bytes()
    Path(path).unlink()
    return data + bytes(SEGMENT_BYTES - len(data))


class Target:
    """What libFuzzer calls; `totals` says what was reached."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="fuzz-segment-"))
        atexit.register(shutil.rmtree, self.directory, ignore_errors=True)
        self.good = good_segment(self.directory)
        self.path = self.directory / f"{NOW_S:010d}-000000.log"
        self.totals = {"executions": 0, "bytes": 0, "refused": 0, "read": 0, "torn": 0, "rows": 0, "tidied": 0}
        self.stats_path: Path | None = None
        self._stats_at = 0.0

    def edited(self, data: bytes) -> bytes:
        out = bytearray(self.good)
        at = 0
        while at + 6 <= len(data):
            place = int.from_bytes(data[at : at + 4], "little") % (len(out) + 1)
            kind, length = data[at + 4], data[at + 5]
            text = data[at + 6 : at + 6 + length]
            at += 6 + length
            if kind % 8 == 7:
                del out[place:]
            else:
                out[place : place + len(text)] = text
            if kind & 1:
                self.mend(out, place)
        return bytes(out)

    def mend(self, out: bytearray, place: int) -> None:
        """Make the check right again, whatever the numbers say."""
        if place < 52 <= len(out) - 4:
            out[52:56] = crc(bytes(out[:52])).to_bytes(4, "little")
        elif place >= HEAD_SIZE:
            begin = HEAD_SIZE + (place - HEAD_SIZE) // ROW_SIZE * ROW_SIZE
            if begin + ROW_SIZE <= len(out):
                salt = int.from_bytes(out[40:44], "little")
                out[begin : begin + 4] = crc(bytes(out[begin + 4 : begin + ROW_SIZE]), salt).to_bytes(4, "little")

    def one_input(self, data: bytes) -> None:
        content = self.edited(data)
        self.path.write_bytes(content)
        self.totals["executions"] += 1
        self.totals["bytes"] += len(content)
        self.read(content)
        if self.totals["executions"] % 16 == 0:
            self.tidy(content)
        if self.stats_path is not None and time.monotonic() > self._stats_at + 1:
            self._stats_at = time.monotonic()
            must = {key: self.totals[key] for key in ("refused", "read", "torn", "rows", "tidied")}
            self.stats_path.write_text(json.dumps({**self.totals, "must_reach": must}))

    def read(self, content: bytes) -> None:
        """The reader never shows a row whose check, place or sequence is wrong, nor one beyond the file."""
        try:
            segment = Segment(str(self.path))
        except ValueError:
            self.totals["refused"] += 1
            return
        rows = segment.rows()
        count = len(rows) // ROW_SIZE
        assert content[HEAD_SIZE : HEAD_SIZE + len(rows)] == rows
        for number in range(count):
            row = rows[number * ROW_SIZE : (number + 1) * ROW_SIZE]
            assert int.from_bytes(row[:4], "little") == crc(row[4:], segment.salt, True)
            assert int.from_bytes(row[8:16], "little") == (segment.first_seq + number) % 2**64
        for start in (1, count // 2, count, count + 1, 1 << 40, (1 << 64) - 1):
            part = segment.rows(start, 3)
            if start <= count:
                assert part == rows[start * ROW_SIZE : (start + 3) * ROW_SIZE]
        torn = segment.torn()
        behind = content[HEAD_SIZE + count * ROW_SIZE :]
        if count < segment.capacity:
            assert torn == (count if behind.strip(b"\0") else None)
        self.totals["read"] += 1
        self.totals["rows"] += count
        self.totals["torn"] += torn is not None
        segment.close()

    def tidy(self, content: bytes) -> None:
        """A start gives back zeros only: everything else of what was there stays."""
        with ShareLog(str(self.directory), segment_bytes=SEGMENT_BYTES, now_s=NOW_S + 10) as log:
            assert log.epoch > NOW_S
        left = self.path.read_bytes() if self.path.exists() else b""
        assert content.startswith(left)
        if left:
            assert not content[len(left) :].strip(b"\0")
        else:
            assert not content[HEAD_SIZE:].strip(b"\0"), "only a segment without rows is removed"
        self.totals["tidied"] += 1
        for path in segments(str(self.directory)):
            os.unlink(path)


def seeds() -> list[bytes]:
    """One edit of each sort: head fields, row fields, a cut, a hole, appended rubbish."""

    def edit(place: int, kind: int, text: bytes) -> bytes:
        return place.to_bytes(4, "little") + bytes([kind, len(text)]) + text

    head = [
        edit(at, kind, b"\xff\xff\xff\xff") for at in (0, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 52) for kind in (0, 1)
    ]
    rows = [
        edit(HEAD_SIZE + 5 * ROW_SIZE + at, kind, b"\x01\x02\x03\x04")
        for at in (0, 4, 8, 16, 24, 32, 100)
        for kind in (0, 1)
    ]
    cuts = [edit(at, 7, b"") for at in (0, 8, 55, 56, HEAD_SIZE, HEAD_SIZE + 64, HEAD_SIZE + 20 * ROW_SIZE)]
    tails = [
        edit(HEAD_SIZE + 20 * ROW_SIZE + 8, 1, b"\x15"),
        edit(HEAD_SIZE + 3 * ROW_SIZE, 0, bytes(200)),
        b"",
        edit(32, 1, bytes(8)),
    ]
    return [*head, *rows, *cuts, *tails, head[1] + rows[1] + cuts[-1]]


def main(arguments: list[str]) -> None:
    if arguments[1:2] == ["--corpus"]:
        corpus = Path(arguments[2]) / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds()):
            (corpus / f"seed-{number:03d}").write_bytes(seed)
        (Path(arguments[2]) / "dict").write_text('"\\xff\\xff\\xff\\xff"\n"\\x00\\x10\\x00\\x00"\n"MMSPLOG1"\n')
        return
    target = Target()
    if arguments[1:2] == ["--replay"]:
        for path in arguments[2:]:
            target.one_input(Path(path).read_bytes())
        print(json.dumps(target.totals))
        return
    atheris = importlib.import_module("atheris")
    target.stats_path = Path(arguments.pop(1))
    atheris.Setup(arguments, target.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
