"""The share log: rows as pool.records reads them, not lost by kill -9 or a full disk, one writer, epochs once."""

from __future__ import annotations

import os
import random
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from native import sharelog as native_sharelog
from native.sharelog import (
    HEAD_SIZE,
    MAX_ACCOUNT_BYTES,
    MAX_WORKER_BYTES,
    ROW_SIZE,
    LogFull,
    Segment,
    ShareLog,
    crc,
    segments,
)
from pool.records import ACCOUNT_ROW, BLOCK_ROW, POLICY_ROW, REJECTS_ROW, TIP_ROW, WORKER_ROW, RowKind

ROOT = Path(native_sharelog.__file__).parent.parent
NOW_S, NOW_NS = 1_750_000_000, 1_750_000_000_000_000_000
SMALL = 8192  # the smallest segment
ROOM = (SMALL - HEAD_SIZE) // ROW_SIZE


def opened(directory: Path, segment_bytes: int = SMALL, now_s: int | None = NOW_S) -> ShareLog:
    return ShareLog(str(directory), segment_bytes=segment_bytes, now_s=now_s)


def write(log: ShareLog, number: int) -> None:
    """A row that tells its number."""
    log.tip(number.to_bytes(32, "little"), number & 0xFFFFFFFF, 0x1D00FFFF, NOW_NS + number)


def rows_of(directory: Path, epoch: int | None = None) -> np.ndarray:
    """All valid rows as TIP rows, in order."""
    data = b""
    for path in segments(str(directory)):
        segment = Segment(path)
        if epoch in (None, segment.epoch):
            data += segment.rows()
        segment.close()
    return np.frombuffer(data, TIP_ROW)


def heights(directory: Path) -> list[int]:
    return [int(n) for n in rows_of(directory)["height"]]


def followed(directory: Path) -> list[int]:
    """Heights as a follower reads them: not past a segment that was not full when it was read, for the writer may have
    filled it and begun the next one meanwhile."""
    out: list[int] = []
    for path in segments(str(directory)):
        segment = Segment(path)
        try:
            rows = np.frombuffer(segment.rows(), TIP_ROW)
            full = len(rows) == segment.capacity
        finally:
            segment.close()
        out += [int(n) for n in rows["height"]]
        if not full:
            break
    return out


def raw(directory: Path, number: int = 0) -> Path:
    return Path(segments(str(directory))[number])


# --- layouts
def test_every_row_reads_back_as_records_says(tmp_path: Path) -> None:
    with opened(tmp_path, 65536) as log:
        assert log.account("bc1qminer", 11) == 1
        assert log.worker(1, "garage", 12) == 1
        log.rejects(1, 1, (5, 0, 1 << 40, 7), 13)
        log.tip(bytes(range(32)), 800_000, 0x1702068F, 14)
        assert log.block(bytes(range(80)), 800_001, 1, 1, 15) == 5
        log.policy(3, bytes(range(32, 64)), 16)
        assert (log.seq, log.epoch, log.full, log.refused) == (6, NOW_S, False, 0)
    segment = Segment(str(raw(tmp_path)))
    data = segment.rows()
    assert (segment.epoch, segment.number, segment.first_seq) == (NOW_S, 0, 1)
    assert segment.capacity == (65536 - HEAD_SIZE) // ROW_SIZE
    account, worker, rejects, tip, block, policy = (
        np.frombuffer(data[at * ROW_SIZE : (at + 1) * ROW_SIZE], dtype)[0]
        for at, dtype in enumerate((ACCOUNT_ROW, WORKER_ROW, REJECTS_ROW, TIP_ROW, BLOCK_ROW, POLICY_ROW))
    )
    all_rows = (account, worker, rejects, tip, block, policy)
    kinds = [RowKind.ACCOUNT, RowKind.WORKER, RowKind.REJECTS, RowKind.TIP, RowKind.BLOCK, RowKind.POLICY]
    assert [row["kind"] for row in all_rows] == kinds
    assert [int(row["seq"]) for row in all_rows] == [1, 2, 3, 4, 5, 6]
    assert [int(row["time_ns"]) for row in all_rows] == [11, 12, 13, 14, 15, 16]
    assert [(int(row["account"]), int(row["worker"])) for row in all_rows] == [
        (1, 0),
        (1, 1),
        (1, 1),
        (0, 0),
        (1, 1),
        (0, 0),
    ]
    assert all(row["flags"] == 0 and row["reserved"] == 0 for row in all_rows)
    assert bytes(account["text"])[: account["length"]] == b"bc1qminer"
    assert bytes(worker["text"])[: worker["length"]] == b"garage"
    assert rejects["counts"].tolist() == [5, 0, 0xFFFFFFFF, 7] + [0] * 12
    assert (bytes(tip["prevhash"]), tip["height"], tip["nbits"]) == (bytes(range(32)), 800_000, 0x1702068F)
    assert (bytes(block["header"]), block["height"]) == (bytes(range(80)), 800_001)
    assert (bytes(policy["digest"]), policy["version"]) == (bytes(range(32, 64)), 3)
    for at in range(6):
        row = data[at * ROW_SIZE : (at + 1) * ROW_SIZE]
        assert int.from_bytes(row[:4], "little") == crc(row[4:], segment.salt) == crc(row[4:], segment.salt, True)
    segment.close()


def test_accounts_and_workers_are_numbered_once(tmp_path: Path) -> None:
    with opened(tmp_path, 65536) as log:
        assert [log.account(name, 1) for name in ("a", "b", "a", "ñandú", "b")] == [1, 2, 1, 3, 2]
        assert [log.worker(1, "w", 1), log.worker(2, "w", 1), log.worker(1, "w", 1), log.worker(1, "", 1)] == [
            1,
            2,
            1,
            3,
        ]
        assert log.seq == 6
        with pytest.raises(ValueError, match="no account number 4"):
            log.worker(4, "w", 1)
        with pytest.raises(ValueError, match="no account number 0"):
            log.worker(0, "w", 1)


def test_names_are_bounded_in_bytes(tmp_path: Path) -> None:
    with opened(tmp_path, 65536) as log:
        assert log.account("a" * MAX_ACCOUNT_BYTES, 1) == 1
        assert log.worker(1, "é" * (MAX_WORKER_BYTES // 2), 1) == 1
        with pytest.raises(ValueError, match="account name is 90 bytes long, the limit is 88"):
            log.account("é" * 45, 1)
        with pytest.raises(ValueError, match="worker name is 65 bytes long, the limit is 64"):
            log.worker(1, "w" * 65, 1)
        with pytest.raises(UnicodeEncodeError):
            log.account("\ud800", 1)
        assert log.seq == 2


def test_wrong_values_are_named_and_write_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        wrong: list[tuple[Callable[[], object], str]] = [
            (lambda: log.tip(bytes(31), 1, 1, 1), "prevhash must be 32 bytes, not 31"),
            (lambda: log.block(bytes(81), 1, 1, 1, 1), "header must be 80 bytes, not 81"),
            (lambda: log.policy(1, bytes(33), 1), "digest must be 32 bytes, not 33"),
            (lambda: log.rejects(1, 1, (0,) * 17, 1), "at most 16 counts, got 17"),
        ]
        for act, words in wrong:
            with pytest.raises(ValueError, match=words):
                act()
        assert log.seq == 0
    for size in (0, 4096, 8191, 12_000):
        with pytest.raises(ValueError, match=f"segment_bytes must be a multiple of 4096 of at least 8192, got {size}"):
            opened(tmp_path / "other", size)


def test_the_check_word_is_crc32c(rng: random.Random) -> None:
    assert crc(b"123456789") == 0xE3069283  # RFC 3720 appendix B.4 and every catalogue
    assert crc(bytes(32)) == 0x8A9136AA
    assert crc(b"\xff" * 32) == 0x62A8AB43
    for length in range(130):
        data, seed = rng.randbytes(length), rng.getrandbits(32)
        assert crc(data, seed) == crc(data, seed, True)
        if length:
            assert crc(data) == crc(data[1:], crc(data[:1])), "a seed is the check so far"


# --- segments in a row
def test_rows_go_on_over_many_segments_while_prepare_makes_the_next(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        for number in range(1, 10 * ROOM + 1):
            write(log, number)
            if number % 8 == 0:
                log.prepare()
        assert log.refused == 0
        assert len(segments(str(tmp_path))) == 11, "ten full ones and the next, made ahead"
    assert heights(tmp_path) == list(range(1, 10 * ROOM + 1))
    assert [int(n) for n in rows_of(tmp_path)["seq"]] == list(range(1, 10 * ROOM + 1))
    firsts = []
    for number, path in enumerate(segments(str(tmp_path))):
        segment = Segment(path)
        assert segment.number == number
        assert segment.torn() is None
        firsts.append(segment.first_seq)
        segment.close()
    assert firsts == [1 + ROOM * n for n in range(10)]


def test_without_a_next_segment_a_row_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        for number in range(1, ROOM + 1):
            write(log, number)
        assert not log.full
        for refused in range(1, 4):
            with pytest.raises(LogFull, match="no room for another row"):
                write(log, 999)
            assert (log.full, log.refused, log.seq) == (True, refused, ROOM)
        with pytest.raises(LogFull):
            log.account("late", 1)
        log.prepare()
        assert (log.full, log.refused) == (False, 4)
        assert log.account("late", 1) == 1, "a refused name is not remembered"
        write(log, ROOM + 2)
    assert heights(tmp_path)[:ROOM] == list(range(1, ROOM + 1))
    assert [int(n) for n in rows_of(tmp_path)["seq"]] == list(range(1, ROOM + 3))


def test_a_closed_log_takes_no_row(tmp_path: Path) -> None:
    log = opened(tmp_path)
    write(log, 1)
    log.close()
    log.close()
    log.prepare()
    with pytest.raises(LogFull, match="the share log is closed"):
        write(log, 2)
    assert heights(tmp_path) == [1]


def test_prepare_in_a_thread_never_holds_up_or_loses_a_row(tmp_path: Path) -> None:
    """The real arrangement: msync and preallocation off the loop, rows on it."""
    log = opened(tmp_path, 4096 * 8)
    stop, failures = threading.Event(), []

    def keep() -> None:
        while not stop.is_set():
            try:
                log.prepare()
            except BaseException as error:
                failures.append(error)
                return

    thread = threading.Thread(target=keep)
    thread.start()
    deadline, number = time.monotonic() + 20, 0
    while number < 20_000 and time.monotonic() < deadline:
        try:
            write(log, number + 1)
            number += 1
        except LogFull:
            time.sleep(0)  # the thread makes room
    stop.set()
    thread.join(30)
    assert not failures
    assert number > 2_000
    log.close()
    assert heights(tmp_path) == list(range(1, number + 1))


# --- kill -9
WRITER = """
import os, sys
from native.sharelog import LogFull, ShareLog
log = ShareLog(sys.argv[1], segment_bytes=16384)
number = int(sys.argv[2])
os.write(1, b"%d\\n" % log.epoch)
while True:
    try:
        log.tip(number.to_bytes(32, "little"), number, 7, number)
    except LogFull:
        log.prepare()
        continue
    os.write(1, b"%d\\n" % number)  # only after the append has returned
    number += 1
    if number % 40 == 0:
        log.prepare()
"""


def writer(directory: Path, first: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", WRITER, str(directory), str(first)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )


def killed_after(process: subprocess.Popen[bytes], rows: int, delay_s: float) -> tuple[int, list[int]]:
    """Its epoch and the numbers it reported, killed a moment after it had reported so many."""
    assert process.stdout is not None
    said, deadline = b"", time.monotonic() + 60
    while said.count(b"\n") <= rows:
        assert time.monotonic() < deadline
        assert select.select([process.stdout], [], [], 60)[0]
        chunk = os.read(process.stdout.fileno(), 1 << 16)
        assert chunk, "the writer died by itself"
        said += chunk
    end = time.perf_counter() + delay_s
    while time.perf_counter() < end:
        pass  # a moment at random within a row, not a wait for something
    process.send_signal(signal.SIGKILL)
    said += process.stdout.read()
    process.wait(30)
    process.stdout.close()
    whole = said[: said.rindex(b"\n")].split(b"\n")
    return int(whole[0]), [int(line) for line in whole[1:]]


def kill_again_and_again(directory: Path, rng: random.Random, times: int) -> int:
    """Each time: every reported row is there, in order, once. Returns how many rows were reported."""
    first, epochs, reported = 1, [], 0
    for _ in range(times):
        epoch, numbers = killed_after(writer(directory, first), rng.randrange(1, 400), rng.random() * 0.002)
        epochs.append(epoch)
        reported += len(numbers)
        there = rows_of(directory, epoch)
        assert [int(n) for n in there["height"][: len(numbers)]] == numbers
        assert len(there) - len(numbers) in (0, 1), "at most the row whose report was cut off"
        assert [int(n) for n in there["seq"]] == list(range(1, len(there) + 1))
        first += len(there)
    assert epochs == sorted(set(epochs))
    assert heights(directory) == list(range(1, first)), "and all epochs together, once each"
    return reported


def test_every_row_whose_append_returned_survives_kill_9(tmp_path: Path, rng: random.Random) -> None:
    print(f"{kill_again_and_again(tmp_path, rng, 12)} rows reported over 12 kills")


@pytest.mark.soak
def test_every_row_survives_five_hundred_kills(tmp_path: Path, rng: random.Random) -> None:
    print(f"{kill_again_and_again(tmp_path, rng, 500)} rows reported over 500 kills")


# --- torn rows
@pytest.fixture
def twenty(tmp_path: Path) -> Path:
    with opened(tmp_path) as log:
        for number in range(1, 21):
            write(log, number)
    return raw(tmp_path)


def spoil(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize("index", [0, 7, 19])
@pytest.mark.parametrize("byte", [0, 3, 4, 8, 31, 32, 64, 127])
def test_any_changed_byte_of_a_row_is_torn_and_ends_the_reading(twenty: Path, index: int, byte: int) -> None:
    at = HEAD_SIZE + index * ROW_SIZE + byte
    before = twenty.read_bytes()[at]
    spoil(twenty, at, bytes([before ^ 1]))
    segment = Segment(str(twenty))
    assert segment.torn() == index
    assert len(segment.rows()) == index * ROW_SIZE
    segment.close()


def test_a_row_of_another_place_or_segment_is_torn(twenty: Path, tmp_path: Path) -> None:
    data = twenty.read_bytes()
    spoil(twenty, HEAD_SIZE + 5 * ROW_SIZE, data[HEAD_SIZE + 6 * ROW_SIZE : HEAD_SIZE + 7 * ROW_SIZE])
    segment = Segment(str(twenty))
    assert segment.torn() == 5, "valid, but out of sequence"
    segment.close()
    with opened(tmp_path / "other") as log:
        for number in range(1, 21):
            write(log, number)
    other = raw(tmp_path / "other")
    spoil(other, HEAD_SIZE + 5 * ROW_SIZE, data[HEAD_SIZE + 5 * ROW_SIZE : HEAD_SIZE + 6 * ROW_SIZE])
    segment = Segment(str(other))
    assert segment.torn() == 5, "each segment has its own salt"
    segment.close()


def test_a_hole_before_written_rows_is_torn(twenty: Path) -> None:
    """Pages reach the disk in any order: after a power cut an early page may be missing."""
    spoil(twenty, HEAD_SIZE + 5 * ROW_SIZE, bytes(3 * ROW_SIZE))
    segment = Segment(str(twenty))
    assert segment.torn() == 5
    assert len(segment.rows()) == 5 * ROW_SIZE
    segment.close()


def test_a_half_written_row_at_the_end_is_torn_and_kept_as_evidence(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        for number in range(1, 6):
            write(log, number)
    path = raw(tmp_path)
    os.truncate(path, SMALL)
    spoil(path, HEAD_SIZE + 5 * ROW_SIZE + 40, b"half a row")
    with opened(tmp_path, now_s=NOW_S + 1):
        pass
    assert path.stat().st_size == SMALL
    segment = Segment(str(path))
    assert segment.torn() == 5
    segment.close()
    assert heights(tmp_path) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("at", "data", "words"),
    [
        (0, b"X", "is not a share log segment"),
        (9, b"\x07", "damaged head"),
        (20, b"\x07", "damaged head"),
        (52, b"\x00\x00\x00\x00", "damaged head"),
    ],
)
def test_a_damaged_head_is_told(twenty: Path, at: int, data: bytes, words: str) -> None:
    spoil(twenty, at, data)
    with pytest.raises(ValueError, match=words):
        Segment(str(twenty))


def test_heads_that_no_program_of_ours_wrote_are_refused(twenty: Path) -> None:
    head = twenty.read_bytes()[:52]
    for changed, words in (
        (head[:8] + b"\x02" + head[9:], "of a version this program does not know"),
        (head[:12] + b"\x40" + head[13:], "of a version this program does not know"),
        (head[:38] + b"\x01" + head[39:], "claims more rows than any disk holds"),
    ):
        spoil(twenty, 0, changed + crc(changed).to_bytes(4, "little"))
        with pytest.raises(ValueError, match=words):
            Segment(str(twenty))
    os.truncate(twenty, 55)
    with pytest.raises(ValueError, match="shorter than a segment's head"):
        Segment(str(twenty))
    with pytest.raises(FileNotFoundError):
        Segment(str(twenty) + ".none")


# --- readers
def test_a_reader_follows_from_another_process_and_never_sees_half_a_row(tmp_path: Path) -> None:
    process = writer(tmp_path, 1)
    seen, deadline = 0, time.monotonic() + 60
    try:
        assert process.stdout is not None
        reported = 0
        said = b""
        while seen < 1500:
            assert time.monotonic() < deadline
            ready = select.select([process.stdout], [], [], 10)[0]
            assert ready
            said += os.read(process.stdout.fileno(), 1 << 16)
            lines = said.split(b"\n")[:-1]
            if len(lines) < 2:
                continue
            reported = int(lines[-1])
            there = followed(tmp_path)
            assert there == list(range(1, len(there) + 1))
            assert len(there) >= reported, "what the writer reported is there to read"
            seen = len(there)
    finally:
        process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()


def test_rows_are_read_from_any_place_in_any_number(twenty: Path) -> None:
    segment = Segment(str(twenty))
    everything = segment.rows()
    assert len(everything) == 20 * ROW_SIZE
    for start in (0, 1, 19, 20, 21, ROOM, 10**12):
        for limit in (0, 1, 5, 1000):
            assert segment.rows(start, limit) == everything[start * ROW_SIZE : (start + limit) * ROW_SIZE]
    for wrong in (-1, 1 << 64):
        with pytest.raises(OverflowError):
            segment.rows(wrong)
    segment.close()
    segment.close()
    with pytest.raises(ValueError, match="is closed"):
        segment.rows()


def test_segments_are_listed_in_order_and_strangers_left_out(tmp_path: Path) -> None:
    for name in (
        "0000000009-000001.log",
        "0000000010-000000.log",
        "0000000009-000000.log",
        "lock",
        "x.log",
        "0000000009-000002.log.part",
    ):
        (tmp_path / name).touch()
    names = [Path(path).name for path in segments(str(tmp_path))]
    assert names == ["0000000009-000000.log", "0000000009-000001.log", "0000000010-000000.log"]


# --- epochs, lock, tails
def test_an_epoch_is_used_once_whatever_the_clock_says(tmp_path: Path) -> None:
    epochs = []
    for now_s in (NOW_S, NOW_S, NOW_S - 10**6, 0, NOW_S + 50, NOW_S):
        with opened(tmp_path, now_s=now_s) as log:
            write(log, 1)
            epochs.append(log.epoch)
    assert epochs == [NOW_S, NOW_S + 1, NOW_S + 2, NOW_S + 3, NOW_S + 50, NOW_S + 51]


def test_an_epoch_is_not_reused_after_its_segments_were_archived(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        write(log, 1)
    for path in segments(str(tmp_path)):
        os.unlink(path)
    with opened(tmp_path, now_s=NOW_S - 5) as log:
        assert log.epoch == NOW_S + 1


def test_names_are_numbered_anew_in_each_epoch(tmp_path: Path) -> None:
    for first in ("a", "b"):
        with opened(tmp_path) as log:
            assert log.account(first, 1) == 1
            assert log.worker(1, "w", 1) == 1


def test_a_second_writer_is_refused_until_the_first_has_gone(tmp_path: Path) -> None:
    log = opened(tmp_path)
    with pytest.raises(BlockingIOError, match="another process is writing this share log"):
        opened(tmp_path)
    process = writer(tmp_path, 1)
    process.communicate(timeout=60)
    assert process.returncode == 1
    log.close()
    with opened(tmp_path):
        pass


def test_a_killed_writer_leaves_no_lock_behind(tmp_path: Path) -> None:
    killed_after(writer(tmp_path, 1), 3, 0)
    with opened(tmp_path) as log:
        write(log, 1)


def test_closing_gives_back_what_was_preallocated(tmp_path: Path) -> None:
    with opened(tmp_path, 1 << 20) as log:
        for number in range(1, 6000):
            write(log, number)
        log.prepare()
        assert [Path(p).stat().st_size for p in segments(str(tmp_path))] == [1 << 20] * 2
    assert [Path(p).stat().st_size for p in segments(str(tmp_path))] == [HEAD_SIZE + 5999 * ROW_SIZE]


def test_opening_tidies_what_a_killed_writer_left(tmp_path: Path) -> None:
    epoch, numbers = killed_after(writer(tmp_path, 1), 70, 0)
    (tmp_path / "0000000001-000000.log.part").write_bytes(b"half made")
    there = len(rows_of(tmp_path))
    assert there >= len(numbers)
    with opened(tmp_path, now_s=epoch):
        sizes = [Path(path).stat().st_size for path in segments(str(tmp_path)) if Segment(path).epoch == epoch]
        assert sum((size - HEAD_SIZE) // ROW_SIZE for size in sizes) == there
    assert not list(tmp_path.glob("*.part"))
    assert len(rows_of(tmp_path)) == there


def test_a_start_does_not_read_the_full_segments_of_history(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        for number in range(1, 3 * ROOM + 1):
            write(log, number)
            if number % 8 == 0:
                log.prepare()
    full = raw(tmp_path)
    spoil(full, HEAD_SIZE + 3 * ROW_SIZE, b"\xff" * 8)  # a reader would stop here, and take the rest for a tail
    before = full.read_bytes()
    with opened(tmp_path):
        pass
    assert full.read_bytes() == before


def test_files_that_are_no_segments_are_left_alone(tmp_path: Path) -> None:
    stranger = tmp_path / "1111111111-000000.log"
    stranger.write_bytes(b"not ours")
    with opened(tmp_path):
        pass
    assert stranger.read_bytes() == b"not ours"


# --- full disks
@pytest.fixture
def file_limit() -> Iterator[Callable[[int], None]]:
    """Sets the largest size a file may grow to: posix_fallocate then fails as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, old_handler)


def test_a_full_disk_refuses_rows_loses_none_and_goes_on_when_there_is_space(
    tmp_path: Path, file_limit: Callable[[int], None]
) -> None:
    log = opened(tmp_path)
    written = 0
    for number in range(1, ROOM - 2):
        write(log, number)
        written = number
    file_limit(4096)
    for _ in range(3):
        with pytest.raises(OSError, match="File too large"):
            log.prepare()
    assert not list(tmp_path.glob("*.part")), "nothing half made stays"
    refused = 0
    for _ in range(20):
        try:
            write(log, written + 1)
            written += 1
        except LogFull:
            refused += 1
    assert (written, refused, log.full, log.refused) == (ROOM, 17, True, 17)
    with pytest.raises(OSError, match="File too large"):
        log.prepare()
    assert (log.full, log.refused) == (True, 17)
    file_limit(resource.RLIM_INFINITY)
    log.prepare()
    assert (log.full, log.refused) == (False, 17)
    for _ in range(5):
        write(log, written + 1)
        written += 1
    log.close()
    assert heights(tmp_path) == list(range(1, written + 1))


def test_a_disk_too_full_for_the_first_segment_stops_the_start(
    tmp_path: Path, file_limit: Callable[[int], None]
) -> None:
    file_limit(4096)
    with pytest.raises(OSError, match="File too large"):
        opened(tmp_path)
    file_limit(resource.RLIM_INFINITY)
    with opened(tmp_path) as log:
        write(log, 1)
    assert heights(tmp_path) == [1]


def test_a_really_full_file_system_is_a_refusal_and_never_sigbus(tmp_path: Path) -> None:
    """A tmpfs of 256 KiB in a mount namespace of its own, filled by others to the last block while the log writes."""
    script = f"""
import os, subprocess, sys
mount = sys.argv[1]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount], check=True)
sys.path.insert(0, {str(ROOT)!r})
from native.sharelog import LogFull, Segment, ShareLog, segments
log = ShareLog(mount + "/log", segment_bytes=65536)
room, number, refused = (65536 - 4096) // 128, 0, 0
def fill():
    with open(mount + "/filler", "ab", buffering=0) as file:
        try:
            while True: file.write(bytes(4096))
        except OSError as error:
            assert error.errno == 28, error
def put():
    global number, refused
    try:
        log.tip((number + 1).to_bytes(32, "little"), number + 1, 7, 1)
        number += 1
    except LogFull:
        refused += 1
for _ in range(room // 2 + 10): put()
fill()
failures = 0
for _ in range(3):
    try: log.prepare()
    except OSError as error:
        assert error.errno == 28, error
        failures += 1
for _ in range(room): put()
assert (number, failures, log.full) == (room, 3, True), (number, failures, log.full)
assert refused == log.refused == room // 2 + 10
os.unlink(mount + "/filler")
log.prepare()
assert not log.full
fill()
for _ in range(room): put()
assert number == 2 * room, number
log.close()
rows = b"".join(Segment(path).rows() for path in segments(mount + "/log"))
heights = [int.from_bytes(rows[at + 64 : at + 68], "little") for at in range(0, len(rows), 128)]
assert heights == list(range(1, number + 1))
print("held", number, "refused", refused)
"""
    tmp_path.joinpath("mount").mkdir()
    probe = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "mount")],
        capture_output=True,
        timeout=30,
        check=False,
    )
    prefix = ["unshare", "-rm"]
    if probe.returncode != 0:
        pytest.skip("no mount namespace of one's own here: " + probe.stderr.decode().strip())
    result = subprocess.run(
        [*prefix, sys.executable, "-P", "-c", script, str(tmp_path / "mount")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("held 960 refused")
