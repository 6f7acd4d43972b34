"""Fuzz target: one connection's bytes, cut in two ways into packets, through native.channel with jobs that can be won.

An input is 8 bytes of split points and the stream. Lines that are no plain submit are echoed; those that begin with "!"
change the connection (users, jobs, tip, mask), so that the fuzzer reaches every state. Run by scripts/fuzz.sh under
libFuzzer, ASan and UBSan; tests replay its seeds in any build."""

from __future__ import annotations

import atexit
import importlib
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from native.channel import N_VERDICTS, Channel, Found, broadcast
from native.hashing import search
from native.sharelog import Segment, ShareLog, segments
from native.work import Job, JobTable
from pool.records import SHARE_ROW, RowKind, Verdict

BOOT_S = 1_750_000_000
FIRST_ID = ((BOOT_S - 1_700_000_000) << 12) + 1
NTIME = 1_750_000_100
TIP, OLD_TIP = bytes(range(32)), bytes(range(32, 64))
EXTRANONCE1 = b"\x01\x02\x03\x04"
USERS = (b"miner", b"bc1q.rig")
DIFFICULTY = 2.0**-20
NOW_NS = 1_750_000_100_000_000_000
SEGMENT_BYTES = 4 << 20
SPLITS = 8
#: Job number -> (previous block, nBits): regtest's target is met by every second hash, so `found` is reached.
JOBS = ((TIP, 0x207FFFFF), (TIP, 0x1D00FFFF), (OLD_TIP, 0x207FFFFF), (TIP, 0x1E0FFFFF))
KNOWN_TEXTS = {
    "Malformed submit",
    "Job not found",
    "Wrong extranonce2 length",
    "Unauthorized worker",
    "Invalid version mask",
    "Stale",
    "Time out of range",
    "Low difficulty share",
    "Duplicate share",
    "Pool cannot record shares now",
}


def make_job(number: int, job_id: int) -> Job:
    """The same job for the same number and id, in every process."""
    prevhash, nbits = JOBS[number % len(JOBS)]
    return Job(
        job_id=job_id,
        coinb1=b"\x01" * 70,
        coinb2=b"\x02" * 60,
        branches=[bytes([n]) * 32 for n in range(number)],
        prevhash=prevhash,
        version=0x20000000,
        nbits=nbits,
        ntime=NTIME,
        ntime_min=NTIME - 50,
        ntime_max=NTIME + 7000,
        height=800_000,
    )


class Totals:
    """What all executions of this process reached."""

    def __init__(self) -> None:
        self.executions = self.bytes = self.found = self.handed_up = self.faults = 0
        self.verdicts = [0] * N_VERDICTS

    def as_dict(self) -> dict[str, object]:
        return {
            "executions": self.executions,
            "bytes": self.bytes,
            "found": self.found,
            "handed_up": self.handed_up,
            "faults": self.faults,
            "verdicts": {Verdict(n).name: count for n, count in enumerate(self.verdicts)},
            "must_reach": {
                "accepted": self.verdicts[Verdict.ACCEPTED],
                "duplicate": self.verdicts[Verdict.DUPLICATE],
                "found": self.found,
                "handed_up": self.handed_up,
                "faults": self.faults,
            },
        }


class Book:
    """One share log for the whole process; old segments go as they fill."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="fuzz-log-")
        atexit.register(shutil.rmtree, self.directory, ignore_errors=True)
        self.log = ShareLog(self.directory, segment_bytes=SEGMENT_BYTES, now_s=BOOT_S)
        self._segment: Segment | None = None
        atexit.register(self.close)

    def rows(self, after: int) -> bytes:
        """Every row later than that sequence number."""
        out = b""
        while after < self.log.seq:
            if (
                self._segment is None
                or not self._segment.first_seq <= after + 1 < self._segment.first_seq + self._segment.capacity
            ):
                self._open(after + 1)
                assert self._segment is not None
            chunk = self._segment.rows(after + 1 - self._segment.first_seq, self.log.seq - after)
            assert chunk, f"row {after + 1} cannot be read back"
            out += chunk
            after += len(chunk) // 128
        return out

    def _open(self, seq: int) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None
        for path in segments(self.directory):
            segment = Segment(path)
            if segment.first_seq <= seq < segment.first_seq + segment.capacity:
                self._segment = segment
                return
            segment.close()
            if segment.first_seq + segment.capacity <= seq:
                Path(path).unlink()  # read and checked before
        raise AssertionError(f"no segment holds row {seq}")

    def close(self) -> None:
        if self._segment is not None:
            self._segment.close()
        self.log.close()


class Rig:
    """One connection of one execution, and the session that hears its odd lines."""

    def __init__(self, book: Book, line_limit: int) -> None:
        self.book, self.line_limit = book, line_limit
        self.jobs = JobTable(8, boot_s=BOOT_S)
        self.jobs.set_tip(TIP)
        self.channel = Channel(self.jobs, book.log, EXTRANONCE1, self.found, line_limit=line_limit, session=7)
        self.made = [make_job(number, self.jobs.next_id()) for number in range(len(JOBS))]
        for job in self.made:
            self.jobs.publish(job)
        for job in self.made[:3]:
            self.channel.send_job(job, DIFFICULTY, False)
        self.channel.take()
        self.channel.authorize(USERS[0], 1, 1)
        self.won: list[Found] = []
        self.heard = 0
        self.out = b""

    def found(self, found: Found) -> None:
        """Does what a porch might: looks at the block, tells the club, and sometimes changes this very connection."""
        assert len(found.header) == 80
        assert found.block().startswith(found.header)
        self.won.append(found)
        try:
            self.channel.feed(b"{}\n", NOW_NS)
        except RuntimeError:
            pass
        else:
            raise AssertionError("feed within feed was not refused")
        if len(self.won) % 3 == 1:
            broadcast([self.channel], found.job, False)
        if len(self.won) % 7 == 3:
            self.channel.deauthorize(USERS[0])
            self.channel.authorize(b"second", 2, 2)
            self.channel.authorize(USERS[0], 3, 3)
        if len(self.won) % 11 == 5:
            self.jobs.set_tip(OLD_TIP if self.jobs.tip == TIP else TIP)

    def packet(self, data: bytes, turn: int) -> None:
        """What server.py does with a packet; every second one comes as another kind of buffer."""
        line = self.channel.feed(data if turn % 2 else bytearray(data), NOW_NS)
        while line is not None:
            self.hear(line)
            line = self.channel.feed(b"", NOW_NS)
        self.out += self.channel.take()
        assert self.channel.pending_in <= self.line_limit
        assert sys.getsizeof(self.channel) < 40_000, sys.getsizeof(self.channel)

    def hear(self, line: bytes) -> None:
        self.heard += 1
        assert b"\n" not in line
        if line[:1] == b"!" and self.command(line[1:2], line[2:18]):
            return
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict) and message.get("method") == "mining.submit":
            params = message.get("params")
            if isinstance(params, list) and len(params) >= 5 and all(isinstance(p, str) for p in params[:6]):
                texts = [str(p) for p in params[:6]]
                bits = texts[5] if len(texts) > 5 else None
                self.channel.submit(b"77", texts[0], texts[1], texts[2], texts[3], texts[4], bits, NOW_NS)
                return
        self.channel.say(b"heard " + line + b"\n")

    def command(self, what: bytes, text: bytes) -> bool:
        """False when it is none, so that it is echoed."""
        number = text[0] if text else 0
        if what == b"a":
            try:
                self.channel.authorize(text, 4, 4)
            except ValueError:
                assert len(self.channel.users) == 16
        elif what == b"d":
            self.channel.deauthorize(text)
        elif what == b"j":
            self.channel.send_job(self.made[number % len(self.made)], DIFFICULTY * (1 + number // 64), bool(number & 1))
        elif what == b"n":
            job = make_job(number % len(JOBS), self.jobs.next_id())
            self.jobs.publish(job)
            self.made[number % len(JOBS)] = job
            self.channel.send_job(job, DIFFICULTY, False)
        elif what == b"t":
            self.jobs.set_tip(OLD_TIP if number & 1 else TIP)
        elif what == b"r":
            self.jobs.retire_before(self.made[number % len(JOBS)].job_id)
        elif what == b"e":
            self.channel.set_extranonce1((text + bytes(4))[:4])
        elif what == b"m":
            self.channel.version_mask = 0x1FFFE000 if number & 1 else 0
        else:
            return False
        return True


def run(book: Book, stream: bytes, cuts: list[int], line_limit: int) -> Rig:
    """One execution with that cutting, and everything that must hold after it."""
    before = book.log.seq
    rig = Rig(book, line_limit)
    errors: list[str] = []
    sys.unraisablehook = lambda args: errors.append(f"{args.exc_type.__name__}: {args.exc_value}")
    edges = [0, *cuts, len(stream)]
    for turn, (begin, end) in enumerate(itertools.pairwise(edges)):
        rig.packet(stream[begin:end], turn)
    sys.unraisablehook = sys.__unraisablehook__
    assert not errors, errors
    check_answers(rig)
    check_rows(rig, book.rows(before))
    if book.log.seq % 20_000 > 16_000:
        book.log.prepare()
    return rig


def check_answers(rig: Rig) -> None:
    assert rig.out == b"" or rig.out.endswith(b"\n")
    answered = 0
    for line in rig.out.split(b"\n")[:-1]:
        if line.startswith(b"heard "):
            continue
        message = json.loads(line)
        if "method" in message:
            assert message["method"] in ("mining.notify", "mining.set_difficulty"), line
            continue
        answered += 1
        assert set(message) == {"id", "result", "error"}, line
        if message["result"] is True:
            assert message["error"] is None, line
        else:
            code, text, data = message["error"]
            assert message["result"] is False, line
            assert text in KNOWN_TEXTS, line
            assert code in (20, 21, 22, 23, 24), line
            assert data is None, line
    assert answered <= sum(rig.channel.counts)
    assert rig.channel.drain_counts() == rig.channel.counts
    assert len(rig.channel.users) <= 16


def check_rows(rig: Rig, data: bytes) -> None:
    rows = np.frombuffer(data, SHARE_ROW)
    shares = rows[rows["kind"] == RowKind.SHARE]
    accepted = rig.channel.counts[Verdict.ACCEPTED]
    assert len(shares) == accepted
    assert set(rows["kind"].tolist()) <= {RowKind.SHARE, RowKind.BEST}
    assert len({bytes(row["hash_le"]) for row in shares}) == accepted, "a hash was credited twice"
    assert sum(int(row["work_lo"]) + (int(row["work_hi"]) << 64) for row in shares) == rig.channel.credited_work
    held = sum(count for count, _ in rig.jobs.seen_stats().values())
    assert held <= accepted


class Target:
    """What libFuzzer calls; `totals` says what was reached."""

    def __init__(self) -> None:
        self.book = Book()
        self.totals = Totals()
        self.stats_path: Path | None = None
        self._stats_at = 0.0

    def one_input(self, data: bytes) -> None:
        head, stream = data[:SPLITS], data[SPLITS:]
        line_limit = 256 if len(head) and head[0] & 1 else 2048
        first = run(self.book, stream, sorted(byte * len(stream) // 256 for byte in head), line_limit)
        rng = random.Random(data)
        second = run(
            self.book, stream, sorted(rng.randrange(len(stream) + 1) for _ in range(rng.choice((0, 3, 40)))), line_limit
        )
        assert first.out == second.out, "another cutting gave other answers"
        assert first.channel.counts == second.channel.counts
        assert first.channel.fault == second.channel.fault
        totals = self.totals
        totals.executions += 1
        totals.bytes += len(stream)
        totals.found += len(first.won)
        totals.handed_up += first.heard
        totals.faults += first.channel.fault is not None
        for verdict, count in enumerate(first.channel.counts):
            totals.verdicts[verdict] += count
        if self.stats_path is not None and time.monotonic() > self._stats_at + 1:
            self._stats_at = time.monotonic()
            self.stats_path.write_text(json.dumps(totals.as_dict()))


# --- seeds: shares that are valid on the jobs above, since no fuzzer guesses a hash
def mined_lines(count: int) -> list[bytes]:
    """Plain submits that are accepted: jobs 0 and 1 on the tip, job 2 on the old one."""
    lines = []
    for n in range(count):
        job = make_job(n % 3, FIRST_ID + n % 3)
        en2 = n.to_bytes(8, "big")
        bits = 0x2000 * (n % 4)
        header = job.header(EXTRANONCE1, en2, NTIME + n, 0, bits)
        nonce = search(header, (0xFFFF << 208) * 2**20, 0, 1 << 20)
        assert nonce is not None
        params = [USERS[0].decode(), job.job_id_hex, en2.hex(), f"{NTIME + n:08x}", f"{nonce:08x}"]
        if bits or n % 8 == 0:
            params.append(f"{bits:08x}")
        lines.append(json.dumps({"id": n, "method": "mining.submit", "params": params}).encode())
    return lines


ODD_LINES = [
    b'{"id":1,"method":"mining.subscribe","params":["x/1"]}',
    b'{"params":[],"method":"mining.submit","id":"s"}',
    b"",
    b" \t\r",
    b"\x00",
    b"[" * 200,
    b'{"id":null,"method":"mining.submit","params":["a","b","c","d","e"]}',
    b'{"id":9,"method":"mining.submit","params":["a"]}',
    b"x" * 300,
    b'{"id":"' + b"i" * 64 + b'","method":"mining.submit","params":["miner","0","","0","0",""]}',
    b'{"id":1e5,"method":"mining.submit","params":[]}',
    b"!aminer2",
    b"!dminer",
    b"!j\x01",
    b"!n\x00",
    b"!t\x01",
    b"!t\x00",
    b"!r\x02",
    b"!eabcd",
    b"!m\x00",
    b'{"id":1,"method":"mining\\u002esubmit"}',
]
WORDS = [
    '"id":',
    '"method":',
    '"mining.submit"',
    '"params":[',
    "null",
    '"miner"',
    "\\x0a",
    "\\x0d\\x0a",
    "{",
    "}",
    "[",
    "]",
    ",",
    '\\"',
    "\\x00",
    "!a",
    "!d",
    "!j",
    "!n",
    "!t",
    "!r",
    "!e",
    "!m",
    f"{FIRST_ID:x}",
    f"{FIRST_ID + 1:x}",
    f"{FIRST_ID + 2:x}",
    f"{FIRST_ID + 3:x}",
    f"{FIRST_ID + 4:x}",
    f"{NTIME:08x}",
    "00002000",
    "1fffe000",
    "ffffffff",
    "0000000000000000",
    "\\\\u0061",
    "0x",
]


def seeds() -> list[bytes]:
    """Inputs that reach accepted, duplicate, stale and found from the first second."""
    good = mined_lines(48)
    streams = [line + b"\n" for line in good[:12]]
    streams += [b"\n".join(good[n : n + 6] * 2) + b"\n" for n in range(0, 48, 6)]
    streams += [b"\r\n".join([*good[:3], odd, *good[:4], odd]) + b"\r\n" for odd in ODD_LINES]
    streams.append(good[0].upper() + b"\n" + good[0].replace(b" ", b"") + b"\n")
    streams.append(b"x" * 4000)
    return [bytes(range(n % 7, 256, 32)) + stream for n, stream in enumerate(streams)]


def mutator(mutate: Callable[[bytes, int], bytes]) -> Callable[[bytes, int, int], bytes]:
    """Half the mutations are libFuzzer's; half move whole lines, among them mined ones, and bend one field."""
    stock = mined_lines(400) + ODD_LINES

    def mutated(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.5:
            return mutate(data, max_size)
        lines = data[SPLITS:].split(b"\n")
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(lines))
            act = rng.randrange(6)
            if act == 0:
                lines.insert(at, rng.choice(stock))
            elif act == 1:
                lines.insert(rng.randrange(len(lines) + 1), lines[at])
            elif act == 2 and len(lines) > 1:
                del lines[at]
            elif act == 3:
                lines[at] = lines[at].swapcase()
            elif act == 4:
                fields = lines[at].split(b'"')
                fields[rng.randrange(len(fields))] = mutate(rng.choice(fields) or b"0", 64)
                lines[at] = b'"'.join(fields)
            else:
                lines[at] = lines[at].replace(b",", rng.choice((b" , ", b",", b",\t")))
        return (data[:SPLITS].ljust(SPLITS, b"\0") + b"\n".join(lines))[:max_size]

    return mutated


def write_corpus(directory: Path) -> None:
    """Seeds and the dictionary for libFuzzer."""
    corpus = directory / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number:03d}").write_bytes(seed)
    words = [word if "\\" in word else word.replace('"', '\\"') for word in WORDS]
    (directory / "dict").write_text("".join(f'"{word}"\n' for word in words))


def main(arguments: list[str]) -> None:
    if arguments[1:2] == ["--corpus"]:
        write_corpus(Path(arguments[2]))
        return
    target = Target()
    if arguments[1:2] == ["--replay"]:
        for path in arguments[2:]:
            target.one_input(Path(path).read_bytes())
        print(json.dumps(target.totals.as_dict()))
        return
    atheris = importlib.import_module("atheris")
    target.stats_path = Path(arguments.pop(1))
    atheris.Setup(arguments, target.one_input, custom_mutator=mutator(atheris.Mutate))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
