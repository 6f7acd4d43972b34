"""One connection in native/: framing, order, bounded memory, what a share is booked on, no object per share."""

from __future__ import annotations

import gc
import json
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import channel as native_channel
from native.channel import Channel, Found, broadcast
from native.difficulty import difficulty_of_hash, target_of_difficulty, work_of_target
from native.hashing import header_hash, search
from native.sharelog import HEAD_SIZE, ROW_SIZE, Segment, ShareLog, segments
from native.work import Job, JobTable
from pool.records import BEST_ROW, ERRORS, SHARE_ROW, SOLO, RowKind, Verdict
from rig import fuzz_channel

BOOT_S, NTIME, NOW_NS = 1_750_000_000, 1_750_000_100, 1_750_000_100_000_000_000
TIP, OTHER = bytes(range(32)), bytes(range(32, 64))
EXTRANONCE1 = b"\xaa\xbb\xcc\xdd"
EASY, HARD = 0x207FFFFF, 0x1D00FFFF  # regtest's target: every second hash is a block; difficulty 1
LOWEST = 2.0**-20


def make_job(job_id: int, nbits: int = HARD, prevhash: bytes = TIP) -> Job:
    return Job(
        job_id=job_id,
        coinb1=b"\x01" * 62 + job_id.to_bytes(8, "little"),  # the counter that makes every job's header space its own
        coinb2=b"\x02" * 60,
        branches=[b"\x03" * 32] * 3,
        prevhash=prevhash,
        version=0x20000000,
        nbits=nbits,
        ntime=NTIME,
        ntime_min=NTIME - 100,
        ntime_max=NTIME + 7200,
        height=800_000,
    )


class World:
    """A table, a log and one connection. Job ids begin at the same number in every world."""

    def __init__(
        self,
        directory: Path,
        found: Callable[[Found], None] | None = None,
        line_limit: int = 8192,
        segment_bytes: int = 1 << 20,
    ) -> None:
        self.jobs = JobTable(128, boot_s=BOOT_S)
        self.jobs.set_tip(TIP)
        self.log = ShareLog(str(directory), segment_bytes=segment_bytes, now_s=BOOT_S)
        self.won: list[Found] = []
        self.channel = Channel(
            self.jobs, self.log, EXTRANONCE1, found or self.won.append, line_limit=line_limit, session=99
        )
        self.channel.authorize(b"miner", 1, 2)

    def job(self, nbits: int = HARD, difficulty: float = LOWEST, prevhash: bytes = TIP) -> Job:
        job = make_job(self.jobs.next_id(), nbits, prevhash)
        self.jobs.publish(job)
        self.channel.send_job(job, difficulty, False)
        self.channel.take()
        return job

    def feed(self, data: bytes) -> list[dict[str, object]]:
        """All answers; lines for the session are answered with themselves, as text."""
        line = self.channel.feed(data, NOW_NS)
        while line is not None:
            self.channel.say(json.dumps({"heard": line.decode("latin-1")}).encode() + b"\n")
            line = self.channel.feed(b"", NOW_NS)
        return [json.loads(answer) for answer in self.channel.take().splitlines()]

    def verdict(self, line: bytes) -> Verdict:
        before = self.channel.counts
        self.feed(line + b"\n")
        (verdict,) = [n for n, (old, new) in enumerate(zip(before, self.channel.counts, strict=True)) if new != old]
        return Verdict(verdict)

    def rows(self) -> np.ndarray:
        data = b""
        for path in segments(self.log.directory):
            segment = Segment(path)
            data += segment.rows()
            segment.close()
        return np.frombuffer(data, SHARE_ROW)


@pytest.fixture(name="world")
def given_world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.log.close()


def mine(job: Job, number: int = 0, difficulty: float = LOWEST, bits: int = 0, ntime: int = NTIME) -> dict[str, str]:
    """A share's parameters, valid at that difficulty."""
    en2 = number.to_bytes(8, "big")
    nonce = search(job.header(EXTRANONCE1, en2, ntime, 0, bits), target_of_difficulty(difficulty), 0, 1 << 24)
    assert nonce is not None
    return {
        "job": job.job_id_hex,
        "en2": en2.hex(),
        "ntime": f"{ntime:08x}",
        "nonce": f"{nonce:08x}",
        "bits": f"{bits:08x}",
    }


def submit(share: dict[str, str], user: str = "miner", ident: object = 1, bits: bool = False, **changes: str) -> bytes:
    share = {**share, **changes}
    params = [user, share["job"], share["en2"], share["ntime"], share["nonce"], *([share["bits"]] if bits else [])]
    return json.dumps({"id": ident, "method": "mining.submit", "params": params}).encode()


def header_of(job: Job, share: dict[str, str]) -> bytes:
    return job.header(
        EXTRANONCE1,
        bytes.fromhex(share["en2"]),
        int(share["ntime"], 16),
        int(share["nonce"], 16),
        int(share["bits"], 16),
    )


# --- numbers and texts are those of pool.records
def test_verdict_numbers_are_those_of_records() -> None:
    assert len(Verdict) == native_channel.N_VERDICTS
    assert int(Verdict.ACCEPTED) == native_channel.ACCEPTED


def one_of_each(world: World) -> dict[Verdict, bytes]:
    job, stale = world.job(), world.job(prevhash=OTHER)
    share, second = mine(job), mine(job, 1)
    low = next(n for n in range(1 << 20) if header_hash(header_of(job, {**share, "nonce": f"{n:08x}"}))[31] > 5)
    world.channel.version_mask = 0x00006000
    return {
        Verdict.ACCEPTED: submit(share),
        Verdict.MALFORMED: submit(share, nonce="xyz"),
        Verdict.JOB_NOT_FOUND: submit(share, job="ffff"),
        Verdict.BAD_EXTRANONCE2: submit(share, en2="00"),
        Verdict.UNAUTHORISED: submit(second, user="stranger"),
        Verdict.BAD_VERSION: submit({**second, "bits": "10000000"}, bits=True),
        Verdict.STALE: submit(mine(stale)),
        Verdict.BAD_NTIME: submit(second, ntime=f"{NTIME + 7201:08x}"),
        Verdict.LOW_DIFFICULTY: submit(share, nonce=f"{low:08x}"),
        Verdict.DUPLICATE: submit(share),
    }


def test_every_refusal_has_the_code_and_text_of_records(world: World) -> None:
    for verdict, line in one_of_each(world).items():
        (answer,) = world.feed(line + b"\n")
        assert answer["id"] == 1
        if verdict is Verdict.ACCEPTED:
            assert answer == {"id": 1, "result": True, "error": None}
        else:
            assert answer == {"id": 1, "result": False, "error": [*ERRORS[verdict], None]}, verdict
    assert world.channel.counts == (1,) * 10 + (0,)


def test_a_log_without_room_refuses_with_the_text_of_records(tmp_path: Path) -> None:
    world = World(tmp_path, segment_bytes=8192)
    world.channel.best_difficulty = 1e9
    job = world.job()
    shares = [mine(job, n) for n in range(33)]
    answers = world.feed(b"".join(submit(share, ident=n) + b"\n" for n, share in enumerate(shares)))
    assert [answer["result"] for answer in answers] == [True] * 32 + [False]
    assert answers[32]["error"] == [*ERRORS[Verdict.NOT_RECORDED], None]
    assert world.jobs.seen_stats()[TIP][0] == 32, "not credited, so not seen"
    world.log.prepare()
    (answer,) = world.feed(submit(shares[32]) + b"\n")
    assert answer["result"] is True, "the same share once there is room"
    world.log.close()


# --- framing
def stream(world: World, count: int = 12) -> bytes:
    job = world.job()
    lines = [submit(mine(job, n), ident=n) for n in range(count)]
    lines[3:3] = [b'{"id":"s","method":"mining.subscribe","params":[]}', b"", b"  \t", b"[[[[", b"\x00\x00", b'{"id":1']
    lines.append(lines[0])
    return b"\r\n".join(lines[:8]) + b"\r\n" + b"\n".join(lines[8:]) + b"\n"


def test_the_same_answers_however_the_stream_is_cut(tmp_path: Path, rng: random.Random) -> None:
    expected: bytes | None = None
    for attempt in range(25):
        world = World(tmp_path / str(attempt))
        data = stream(world)
        cuts = sorted(rng.randrange(len(data)) for _ in range(0 if attempt == 0 else rng.choice((1, 3, 30, len(data)))))
        if attempt == 1:
            cuts = list(range(1, len(data)))
        out = b""
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            packet: bytes | bytearray | memoryview = data[begin:end]
            packet = [packet, bytearray(packet), memoryview(packet)][rng.randrange(3)]
            line = world.channel.feed(packet, NOW_NS)
            while line is not None:
                world.channel.say(b"%r\n" % line)
                line = world.channel.feed(b"", NOW_NS)
            out += world.channel.take()
        world.log.close()
        expected = expected or out
        assert out == expected, (attempt, cuts)
    assert expected is not None
    assert expected.count(b"true") == 12
    assert expected.count(b"Duplicate") == 1


def test_answers_keep_their_order_among_the_sessions_lines(world: World) -> None:
    job = world.job()
    odd = b'{"id":50,"method":"mining.extranonce.subscribe"}'
    lines = [
        submit(mine(job, 0), ident=0),
        odd,
        submit(mine(job, 1), ident=1),
        submit(mine(job, 1), ident=2),
        odd,
        submit(mine(job, 3), ident=3),
    ]
    answers = world.feed(b"\n".join(lines) + b"\n")
    assert [answer.get("id", "heard") for answer in answers] == [0, "heard", 1, 2, "heard", 3]


def test_a_line_for_the_session_comes_without_its_end_and_holds_the_rest_back(world: World) -> None:
    job = world.job()
    data = b'{"odd":1}\r\n' + submit(mine(job)) + b"\n" + b'{"half'
    assert world.channel.feed(data, NOW_NS) == b'{"odd":1}'
    assert sum(world.channel.counts) == 0
    assert world.channel.pending_in == len(data) - len(b'{"odd":1}\r\n')
    assert world.channel.feed(b"", NOW_NS) is None
    assert world.channel.counts[Verdict.ACCEPTED] == 1
    assert world.channel.pending_in == len(b'{"half')
    assert world.channel.feed(b'":2}\n', NOW_NS) == b'{"half":2}'
    assert world.channel.pending_in == 0


@pytest.mark.parametrize("empty", [b"\n", b"\r\n", b"  \n", b"\t\r\n", b"\n" * 1000])
def test_empty_lines_are_nothing(world: World, empty: bytes) -> None:
    assert world.feed(empty) == []
    assert world.channel.fault is None
    assert world.channel.counts == (0,) * 11


@pytest.mark.parametrize("data", [b"", bytearray(), memoryview(b"")])
def test_an_empty_packet_is_nothing_even_as_the_first(world: World, data: bytes) -> None:
    assert world.channel.feed(data, NOW_NS) is None
    assert world.channel.take() == b""


def test_what_is_no_buffer_is_refused(world: World) -> None:
    for wrong in (None, 5, "text", [1]):
        with pytest.raises(TypeError):
            world.channel.feed(wrong, NOW_NS)  # type: ignore[arg-type]


# --- junk: bounded memory, a clear end
def test_a_line_of_exactly_the_limit_passes_and_one_byte_more_ends_the_stream(tmp_path: Path) -> None:
    world = World(tmp_path, line_limit=100)
    assert world.feed(b"x" * 100 + b"\n") == [{"heard": "x" * 100}]
    assert world.feed(b"x" * 100) == []
    assert world.channel.pending_in == 100
    assert world.feed(b"x") == []
    assert world.channel.fault == "line too long (more than 100 bytes)"
    assert world.channel.pending_in == 0
    world.log.close()


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_an_endless_line_ends_the_stream_within_its_limit(world: World, size: int) -> None:
    most = 0
    for _ in range((1 << 20) // size):
        assert world.channel.feed(b"a" * size, NOW_NS) is None
        most = max(most, world.channel.pending_in)
        if world.channel.fault:
            break
    assert world.channel.fault == "line too long (more than 8192 bytes)"
    assert most <= 8192
    assert sys.getsizeof(world.channel) < 4096


def test_after_a_fault_nothing_is_judged_and_what_was_answered_before_goes_out(world: World) -> None:
    job = world.job()
    data = submit(mine(job, 0)) + b"\n" + b"x" * 9000 + b"\n" + submit(mine(job, 1)) + b"\n"
    assert world.channel.feed(data, NOW_NS) is None
    assert json.loads(world.channel.take())["result"] is True
    assert world.channel.feed(submit(mine(job, 2)) + b"\n", NOW_NS) is None
    assert world.channel.counts[Verdict.ACCEPTED] == 1
    assert world.channel.take() == b""
    assert world.channel.pending_in == 0


JUNK = [
    b"[" * 8000,
    b'{"a":' * 1500,
    b'{"id":' + b"9" * 8000 + b',"method":"mining.submit","params":["a","b","c","d","e"]}',
    b'{"id":"' + b"i" * 8000 + b'","method":"mining.submit","params":["a","b","c","d","e"]}',
    b"\x00" * 8000,
    b'{"id":1,"method":"mining.submit","params":["a\x00","b","c","d","e"]}',
    b'{"id":1,"method":"mining.submit","params":["' + b"u" * 8000 + b'","b","c","d","e"]}',
    b'{"id":1,"method":"mining.submit","params":[' + b'"",' * 2600 + b'""]}',
    b'{"id":1,"method":"mining.submit","params":["m","1","' + b"0" * 7900 + b'","0","0"]}',
    b'{"id":1,"method":"mining.submit","params":["m","1","0","0","0"],"params":[]}',
    b'{"id":1,"id":2,"method":"mining.submit","params":[]}',
    b'{"id":01,"method":"mining.submit","params":[]}',
    b'{"id":1.5,"method":"mining.submit","params":[]}',
    b'{"id":1e3,"method":"mining.submit","params":[]}',
    b'{"id":-,"method":"mining.submit","params":[]}',
    b'{"id":tru,"method":"mining.submit","params":[]}',
    b'{"id":nul,"method":"mining.submit","params":[]}',
    b'{"id":1,"method":"mining.submit","params":[],}',
    b'{"id":1,"method":"mining.submit","params":[]}}',
    b'{"id":1,"method":"mining.submit","params":["a",]}',
    b'{"id":1,"method":"mining.submit"}',
    b'{"id":1,"params":["a","b","c","d","e"]}',
    b'{"id":1,"method":"mining.submi\xc3\xa9","params":[]}',
    b'{"id":1,"method":"mining.submit","params":["\xff","b","c","d","e"]}',
    b'{"id":1,"method":"mining.submit","params":["a\\"","b","c","d","e"]}',
    b'{"id":1,"method":"mining.submit","params":"abcde"}',
    b'{"id":1,"method":"mining.submit","params":["a","b","c","d",5]}',
    b'{"id":1,"method":"mining.submit","params":["a","b","c","d","e',
    b"{",
    b"}",
    b'"',
    b"null",
    b"\xff\xfe\xfd",
    b"\r",
    b"\x0b",
]


@pytest.mark.parametrize("number", range(len(JUNK)))
def test_junk_costs_bounded_memory_and_harms_no_share_after_it(world: World, number: int) -> None:
    job = world.job()
    answers = world.feed(JUNK[number] + b"\n" + submit(mine(job), ident="after") + b"\n")
    assert answers[-1] == {"id": "after", "result": True, "error": None}
    assert len(answers) <= 2
    assert world.channel.fault is None
    assert sys.getsizeof(world.channel) < 4096
    assert sum(world.channel.counts) == 1 + (len(answers) == 2 and "heard" not in answers[0])


def test_only_what_json_calls_valid_is_taken_on_the_fast_path(world: World) -> None:
    """Whatever is answered without the session is a submit to Python's JSON reader too, with the same id."""
    for line in [*JUNK, *(submit(mine(world.job(), n), ident=n) for n in range(2))]:
        for answer in world.feed(line + b"\n"):
            if "heard" not in answer:
                assert json.loads(line)["id"] == answer["id"]
                assert json.loads(line)["method"] == "mining.submit"


@pytest.mark.parametrize("ident", [0, -1, 9223372036854775807, "x", "a" * 64, "", "with space", "{}[],:"])
def test_an_id_comes_back_as_it_was_sent(world: World, ident: object) -> None:
    (answer,) = world.feed(submit(mine(world.job()), ident=ident) + b"\n")
    assert answer == {"id": ident, "result": True, "error": None}


@pytest.mark.parametrize("text", ['{"id":null,', "{"])
def test_a_submit_without_an_id_is_judged_and_not_answered(world: World, text: str) -> None:
    share = json.dumps(json.loads(submit(mine(world.job())))["params"])
    assert world.feed(f'{text}"method":"mining.submit","params":{share}}}\n'.encode()) == []
    assert world.channel.counts[Verdict.ACCEPTED] == 1


def test_a_connection_gives_back_the_packet_that_left_a_partial_line(world: World) -> None:
    """Otherwise ten thousand idle connections would keep the 256 KiB of their last read each."""
    empty = sys.getsizeof(world.channel)
    world.feed(b"{")
    world.feed(b"}\n" + b"\n" * 250_000 + b'{"id":')
    assert world.channel.pending_in == 6
    assert sys.getsizeof(world.channel) < empty + 1024
    assert world.feed(b"1}\n") == [{"heard": '{"id":1}'}]


def test_ten_thousand_connections_stay_small(tmp_path: Path) -> None:
    world = World(tmp_path)
    job = world.job()
    channels = [Channel(world.jobs, world.log, EXTRANONCE1, print) for _ in range(1000)]
    for channel in channels:
        channel.authorize(b"bc1qexampleexampleexampleexample.rig01", 1, 1)
        channel.send_job(job, LOWEST, True)
        channel.take()
        channel.feed(b'{"id":1,"method":"min', NOW_NS)
    assert max(map(sys.getsizeof, channels)) < 2048
    world.log.close()


def test_a_big_burst_of_answers_is_given_back_once_taken(world: World) -> None:
    line = b'{"id":"' + b"i" * 60 + b'","method":"mining.submit","params":[]}\n'
    assert world.channel.feed(line * 2000, NOW_NS) is None
    assert world.channel.pending_out == len(world.channel.take()) > 200_000
    assert world.channel.pending_out == 0
    assert sys.getsizeof(world.channel) < 4096


# --- say, take
def test_say_and_take_keep_order_and_empty_the_buffer(world: World) -> None:
    assert world.channel.take() == b""
    world.channel.say(b"one\n")
    world.channel.feed(b'{"id":1,"method":"mining.submit","params":[]}\n', NOW_NS)
    world.channel.say(b"three\n")
    assert world.channel.pending_out > 8
    first, second, third = world.channel.take().splitlines()
    assert (first, third) == (b"one", b"three")
    assert json.loads(second)["error"][1] == "Malformed submit"
    assert (world.channel.take(), world.channel.pending_out) == (b"", 0)


def test_output_of_any_size_is_kept_whole_up_to_the_last_byte(world: World) -> None:
    """Every fill of the buffer and one byte more: the sanitizers watch its edges."""
    for size in range(1100):
        world.channel.say(b"a" * size)
        world.channel.say(b"b")
        world.channel.say(b"c" * (size % 3))
        assert world.channel.take() == b"a" * size + b"b" + b"c" * (size % 3)


# --- users
def test_shares_are_booked_on_whom_they_name(world: World) -> None:
    job = world.job()
    world.channel.authorize(b"second.rig", 5, 6)
    world.channel.best_difficulty = 1e9
    world.feed(
        b"\n".join([submit(mine(job, 0)), submit(mine(job, 1), user="second.rig"), submit(mine(job, 2))]) + b"\n"
    )
    assert [(int(row["account"]), int(row["worker"])) for row in world.rows()] == [(1, 2), (5, 6), (1, 2)]
    world.channel.authorize(b"miner", 7, 8)  # again, with another place in the books
    world.feed(submit(mine(job, 3)) + b"\n")
    assert int(world.rows()[3]["account"]) == 7
    world.channel.deauthorize(b"miner")
    world.channel.deauthorize(b"never seen")
    assert world.verdict(submit(mine(job, 4))) is Verdict.UNAUTHORISED
    assert world.verdict(submit(mine(job, 4), user="second.rig")) is Verdict.ACCEPTED


def test_sixteen_users_and_no_more(world: World) -> None:
    names = [b"miner"] + [b"user%d" % n for n in range(15)]
    for name in names[1:]:
        world.channel.authorize(name, 3, 4)
    assert world.channel.users == names
    with pytest.raises(ValueError, match="at most 16 users on one connection"):
        world.channel.authorize(b"one more", 1, 1)
    world.channel.authorize(b"user3", 9, 9)  # a known one may come again
    world.channel.deauthorize(b"user3")
    world.channel.authorize(b"one more", 1, 1)
    assert sorted(world.channel.users) == sorted([name for name in names if name != b"user3"] + [b"one more"])
    job = world.job()
    for n, name in enumerate(world.channel.users):
        assert world.verdict(submit(mine(job, n), user=name.decode())) is Verdict.ACCEPTED
    assert world.verdict(submit(mine(job, 50), user="user3")) is Verdict.UNAUTHORISED


def test_names_are_compared_whole(world: World) -> None:
    share = mine(world.job())
    for user in ("", "mine", "minerr", "Miner", "miner ", "x" * 200):
        assert world.verdict(submit(share, user=user)) is Verdict.UNAUTHORISED
    world.channel.authorize(b"", 1, 1)
    assert world.verdict(submit(share, user="")) is Verdict.ACCEPTED


def test_the_text_for_strangers_can_say_what_to_do(world: World) -> None:
    assert world.channel.unauthorised_text == "Unauthorized worker"
    text = "Use your bitcoin address as user name: bc1q....worker (see /)"
    world.channel.unauthorised_text = text
    assert world.channel.unauthorised_text == text
    (answer,) = world.feed(submit(mine(world.job()), user="nobody") + b"\n")
    assert answer["error"] == [24, text, None]
    for wrong in ("x" * 64, "ñ", 'a"b', "a\\b", "a\nb", "\x7f"):
        with pytest.raises(ValueError, match="at most 63 printable ASCII"):
            world.channel.unauthorised_text = wrong
    assert world.channel.unauthorised_text == text
    world.channel.unauthorised_text = "x" * 63


# --- found
def test_a_callback_that_raises_is_reported_and_the_share_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: reported.append(str(args.exc_value)))

    def found(_: Found) -> None:
        raise OSError("the disk is gone")

    world = World(tmp_path, found)
    job = world.job(EASY)
    assert world.verdict(submit(mine(job))) is Verdict.ACCEPTED
    assert reported == ["the disk is gone"]
    assert world.verdict(submit(mine(job, 1))) is Verdict.ACCEPTED, "and the connection goes on"
    world.log.close()


def test_a_callback_may_send_work_to_the_very_connection_that_found(tmp_path: Path) -> None:
    def found(won: Found) -> None:
        fresh = make_job(world.jobs.next_id(), EASY)
        world.jobs.publish(fresh)
        broadcast([world.channel, other], fresh, False)
        won.job.block(won.extranonce1, won.extranonce2, won.header)

    world = World(tmp_path, found)
    other = Channel(world.jobs, world.log, b"\0\0\0\1", print)
    job = world.job(EASY)
    other.send_job(job, 4.0, False)
    other.take()
    world.feed(b"")
    shares = [mine(job, n) for n in range(100)]
    answers = world.feed(b"".join(submit(share, ident=n) + b"\n" for n, share in enumerate(shares)))
    results = [answer for answer in answers if "result" in answer]
    assert [answer["id"] for answer in results] == list(range(100))
    assert [answer["result"] for answer in results] == [True] * 64 + [False] * 36, (
        "its own job was the 65th newest then"
    )
    notified = [answer for answer in answers if answer.get("method") == "mining.notify"]
    assert len(notified) == 64
    assert other.take().count(b"mining.notify") == 64
    world.log.close()


def test_a_callback_that_changes_users_and_tip_does_not_change_this_shares_lot(tmp_path: Path) -> None:
    """The user's record moves in memory while its share is being judged: the sanitizers watch this one."""

    def found(_: Found) -> None:
        world.channel.deauthorize(b"miner")
        for n in range(12):
            world.channel.authorize(b"new%d" % n, 50 + n, 60 + n)
        world.jobs.set_tip(OTHER)
        world.jobs.retire_before(1 << 62)
        gc.collect()

    world = World(tmp_path, found)
    world.channel.best_difficulty = 1e9
    share = mine(world.job(EASY))
    assert world.verdict(submit(share)) is Verdict.ACCEPTED
    (row,) = world.rows()
    assert (int(row["account"]), int(row["worker"])) == (1, 2)
    assert bytes(row["prevhash_head"]) == TIP[:8]
    assert world.verdict(submit(share)) is Verdict.JOB_NOT_FOUND
    world.log.close()


@pytest.mark.parametrize("act", ["feed", "submit"])
def test_judging_from_within_found_is_refused(tmp_path: Path, act: str) -> None:
    refused: list[str] = []

    def found(_: Found) -> None:
        channel = world.channel
        again: dict[str, Callable[[], object]] = {
            "feed": lambda: channel.feed(b"{}\n", 1),
            "submit": lambda: channel.submit(b"1", "", "", "", "", "", None, 1),
        }
        with pytest.raises(RuntimeError, match=f"{act} was called from within feed") as caught:
            again[act]()
        refused.append(str(caught.value))

    world = World(tmp_path, found)
    assert world.verdict(submit(mine(world.job(EASY)))) is Verdict.ACCEPTED
    assert len(refused) == 1
    world.log.close()


def test_found_holds_what_the_block_is_made_of(world: World) -> None:
    job = world.job(EASY)
    share = mine(job, bits=0x2000)
    world.feed(submit(share, bits=True) + b"\n")
    (won,) = world.won
    header = header_of(job, share)
    assert won.job is job
    assert (won.header, won.hash_le) == (header, header_hash(header))
    assert (won.extranonce1, won.extranonce2, won.user) == (EXTRANONCE1, bytes(8), b"miner")
    assert (won.account, won.worker, won.stale, won.now_ns) == (1, 2, False, NOW_NS)
    assert won.block() == job.block(EXTRANONCE1, bytes(8), header)


# --- jobs of a connection
def test_sixty_four_jobs_stay_known_and_retired_ones_give_up_their_places(world: World) -> None:
    jobs = [world.job() for _ in range(64)]
    for at in (0, 31, 63):
        assert world.verdict(submit(mine(jobs[at]))) is Verdict.ACCEPTED
    newest = world.job()
    assert world.verdict(submit(mine(jobs[0], 1))) is Verdict.JOB_NOT_FOUND
    assert world.verdict(submit(mine(jobs[1], 1))) is Verdict.ACCEPTED
    assert world.verdict(submit(mine(newest))) is Verdict.ACCEPTED
    assert sys.getsizeof(world.channel) < 4096


def test_a_connection_that_gets_one_job_after_another_keeps_few_places(world: World) -> None:
    for _ in range(500):
        job = world.job()
        world.jobs.retire_before(job.job_id)
        assert world.verdict(submit(mine(job))) is Verdict.ACCEPTED
    assert sys.getsizeof(world.channel) < 1200, "four places, not 64"


def test_places_given_up_in_the_middle_leave_the_others_right(world: World, rng: random.Random) -> None:
    """Against a plain list: the newest 64 sent are known at their difficulty, if the table still has them."""
    sent: list[tuple[Job, float]] = []
    number = 0
    for step in range(300):
        difficulty = LOWEST * rng.choice((1, 2, 4))
        prevhash = rng.choice((TIP, OTHER))
        sent.append((world.job(difficulty=difficulty, prevhash=prevhash), difficulty))
        if rng.random() < 0.1:
            world.jobs.retire_before(
                sent[max(0, len(sent) - rng.randrange(1, 20))][0].job_id, keep_prevhash=rng.choice((TIP, OTHER))
            )
        if step % 10 == 0:
            known = [(job, at) for job, at in sent[-64:] if world.jobs.get(job.job_id) is job]
            job, at = rng.choice(known)
            number += 1
            verdict = world.verdict(submit(mine(job, number, at)))
            assert verdict is (Verdict.ACCEPTED if job.prevhash == TIP else Verdict.STALE)
            if verdict is Verdict.ACCEPTED:
                shares = [row for row in world.rows() if row["kind"] == RowKind.SHARE]
                assert float(shares[-1]["difficulty"]) == at
            gone = [job for job, _ in sent if world.jobs.get(job.job_id) is None]
            if gone:
                assert (
                    world.verdict(submit({**mine(sent[-1][0]), "job": rng.choice(gone).job_id_hex}))
                    is Verdict.JOB_NOT_FOUND
                )


# --- set_difficulty
@pytest.mark.parametrize(
    ("difficulty", "text"),
    [
        (1.0, "1"),
        (1000.0, "1000"),
        (0.5, "0.5"),
        (LOWEST, "0.00000095367431640625"),
        (1e15, "1000000000000000"),
        (1e22, "1" + "0" * 22),
        (0.1, "0.1"),
        (1234.5678, "1234.5678"),
        (1e-5, "0.00001"),
    ],
)
def test_difficulty_is_a_number_without_exponent(world: World, difficulty: float, text: str) -> None:
    job = make_job(world.jobs.next_id())
    world.channel.send_job(job, difficulty, True)
    first, second = world.channel.take().splitlines()
    assert first == b'{"id":null,"method":"mining.set_difficulty","params":[%s]}' % text.encode()
    assert second + b"\n" == job.notify(True)
    world.channel.send_job(job, difficulty, False)
    assert world.channel.take() == job.notify(False), "told once"
    assert world.channel.difficulty == difficulty


def test_a_client_reads_back_the_very_same_double(world: World) -> None:
    @given(st.floats(min_value=LOWEST, max_value=1e300))
    def check(difficulty: float) -> None:
        channel = Channel(world.jobs, world.log, bytes(4), print)
        channel.send_job(make_job(5), difficulty, True)
        line = channel.take().splitlines()[0]
        text = line[line.index(b"[") + 1 : line.index(b"]")].decode()
        assert float(text) == difficulty
        assert set(text) <= set("0123456789.")
        (value,) = json.loads(line)["params"]
        assert isinstance(value, int) == difficulty.is_integer()

    check()


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), LOWEST / 2])
def test_a_job_is_not_sent_at_what_is_no_difficulty(world: World, bad: float) -> None:
    with pytest.raises(ValueError, match="difficulty must be a finite number of at least 2\\^-20"):
        world.channel.send_job(make_job(5), bad, True)
    assert world.channel.take() == b""
    assert world.channel.difficulty == 0.0


def test_a_broadcast_leaves_out_who_has_had_no_job_yet(tmp_path: Path) -> None:
    world = World(tmp_path)
    job = world.job(difficulty=2.0)
    fresh = Channel(world.jobs, world.log, EXTRANONCE1, print)
    broadcast([fresh, world.channel], job, True)
    assert fresh.take() == b""
    assert world.channel.take() == job.notify(True)
    world.log.close()


# --- books
def test_a_row_holds_the_share_and_sums_agree(world: World) -> None:
    job = world.job(difficulty=LOWEST * 3)
    shares = [mine(job, n, LOWEST * 3) for n in range(5)]
    world.channel.best_difficulty = 1e9
    world.feed(b"\n".join(map(submit, shares)) + b"\n")
    rows = world.rows()
    work = work_of_target(target_of_difficulty(LOWEST * 3))
    for share, row in zip(shares, rows, strict=True):
        assert bytes(row["hash_le"]) == header_hash(header_of(job, share))
        assert (int(row["work_lo"]), int(row["work_hi"])) == (work, 0)
        assert float(row["difficulty"]) == LOWEST * 3
        numbers = (int(row["job_id"]), int(row["nbits"]), int(row["height"]), int(row["session"]), int(row["time_ns"]))
        assert numbers == (job.job_id, HARD, 800_000, 99, NOW_NS)
        assert (bytes(row["extranonce1"]), bytes(row["prevhash_head"]), bytes(row["pad"])) == (
            EXTRANONCE1,
            TIP[:8],
            bytes(8),
        )
    assert world.channel.credited_work == 5 * work
    assert world.channel.credited == 5 * LOWEST * 3
    assert (world.channel.last_accepted_ns, world.channel.last_submit_ns) == (NOW_NS, NOW_NS)


def test_a_record_is_logged_after_its_share_with_the_header(world: World) -> None:
    job = world.job()
    shares = [mine(job, n) for n in range(40)]
    headers = [header_of(job, share) for share in shares]
    world.feed(b"\n".join(map(submit, shares)) + b"\n")
    rows = world.rows()
    best, expected = 0.0, []
    for header in headers:
        if difficulty_of_hash(header_hash(header)) > best:
            best = difficulty_of_hash(header_hash(header))
            expected.append((header, best))
    records = rows.view(BEST_ROW)[rows["kind"] == RowKind.BEST]
    assert [(bytes(row["header"]), float(row["difficulty"])) for row in records] == expected
    by_seq = {int(row["seq"]): bytes(row["hash_le"]) for row in rows if row["kind"] == RowKind.SHARE}
    assert [by_seq[int(row["share_seq"])] for row in records] == [header_hash(header) for header, _ in expected]
    assert world.channel.best_difficulty == best
    assert world.channel.best_header == expected[-1][0]


def test_rows_of_a_solo_connection_are_flagged_and_no_others(world: World) -> None:
    solo = Channel(world.jobs, world.log, EXTRANONCE1, print, flags=SOLO)
    solo.authorize(b"miner", 1, 2)
    job = world.job()
    solo.send_job(job, LOWEST, True)
    solo.feed(submit(mine(job, 0)) + b"\n", NOW_NS)
    world.feed(submit(mine(job, 1)) + b"\n")
    rows = world.rows()
    assert [int(row["kind"]) for row in rows] == [RowKind.SHARE, RowKind.BEST] * 2
    assert [int(row["flags"]) for row in rows] == [SOLO, SOLO, 0, 0]


def test_history_raises_the_bar_of_records(world: World) -> None:
    world.channel.best_difficulty = 1e6
    assert world.channel.best_difficulty == pytest.approx(1e6, rel=1e-12)
    world.feed(submit(mine(world.job())) + b"\n")
    assert [int(row["kind"]) for row in world.rows()] == [RowKind.SHARE]
    assert world.channel.best_header is None
    world.channel.best_difficulty = 0.0
    assert world.channel.best_difficulty == 0.0


def test_counts_are_drained_in_steps_and_kept_in_whole(world: World) -> None:
    for step in range(1, 4):
        for _ in range(step):
            world.feed(b'{"id":1,"method":"mining.submit","params":[]}\n')
        assert world.channel.drain_counts() == (0, step, *(0,) * 9)
    assert world.channel.drain_counts() == (0,) * 11
    assert world.channel.counts == (0, 6, *(0,) * 9)


def test_a_submit_parsed_by_the_session_is_judged_by_the_same_judge(world: World) -> None:
    job = world.job()
    share = mine(job)
    fields = ("miner", share["job"], share["en2"], share["ntime"], share["nonce"])
    assert world.channel.submit(b'"x\\u00e9"', *fields, None, NOW_NS) == Verdict.ACCEPTED
    assert world.channel.submit(b"null", *fields, "00000000", NOW_NS) == Verdict.DUPLICATE
    assert world.channel.submit(b"3", *fields, "", NOW_NS) == Verdict.MALFORMED
    assert world.channel.submit(b"4", "mi\x00ner\ud800", *fields[1:], None, NOW_NS) == Verdict.UNAUTHORISED
    answers = [json.loads(line) for line in world.channel.take().splitlines()]
    assert [answer["id"] for answer in answers] == ["xé", 3, 4]
    assert world.channel.counts[:2] == (1, 1)


def test_sizes_of_arguments_are_checked(tmp_path: Path) -> None:
    world = World(tmp_path)
    for wrong in (b"", b"abc", b"abcde"):
        with pytest.raises(ValueError, match="extranonce1 must be 4 bytes"):
            Channel(world.jobs, world.log, wrong, print)
        with pytest.raises(ValueError, match="extranonce1 must be 4 bytes"):
            world.channel.set_extranonce1(wrong)
    assert world.channel.extranonce1 == EXTRANONCE1
    world.channel.set_extranonce1(b"wxyz")
    assert world.channel.extranonce1 == b"wxyz"
    world.log.close()


# --- no Python object per accepted share
def cost_of(world: World, packets: list[bytes], shares: int) -> tuple[int, int]:
    """Blocks that stayed allocated and the peak of bytes Python allocated, over those packets; all are accepted."""
    feed = world.channel.feed
    gc.collect()  # empties the free lists too: a float or tuple made from now on is a visible allocation
    gc.disable()
    tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        size, blocks = tracemalloc.get_traced_memory()[0], sys.getallocatedblocks()
        for packet in packets:
            feed(packet, 5)
        blocks_after = sys.getallocatedblocks()
        peak = tracemalloc.get_traced_memory()[1] - size
    finally:
        tracemalloc.stop()
        gc.enable()
    assert world.channel.counts == (shares, *(0,) * 10)
    return blocks_after - blocks, peak


def replay(directory: Path, stock: int, times: int) -> int:
    """The same mined shares on fresh tables and logs, whose job ids come out the same."""
    lines: list[bytes] = []
    baseline: tuple[int, int] | None = None
    for turn in range(times):
        world = World(directory / str(turn), segment_bytes=HEAD_SIZE + (stock * ROW_SIZE // 4096 + 1) * 4096)
        world.channel.best_difficulty = 1e9  # a record keeps its header: once in n shares, on purpose
        job = world.job()
        if turn == 0:
            lines = [submit(mine(job, n), ident=n, bits=n % 2 == 0) + b"\n" for n in range(stock)]
            warm = World(directory / "warm")
            warm.channel.best_difficulty = 1e9
            warm.job()
            baseline = cost_of(warm, [], 0)
            warm.log.close()
        packets = [b"".join(lines[at : at + 16]) for at in range(0, stock, 16)]
        blocks, peak = cost_of(world, packets, stock)
        assert baseline is not None
        assert blocks <= baseline[0] + 1, f"{blocks} objects stayed after {stock} shares"
        assert peak <= baseline[1] + 64, f"{peak} bytes of objects were made for {stock} shares"
        assert len(world.rows()) == stock
        world.log.close()
    return stock * times


def test_an_accepted_share_creates_no_python_object(tmp_path: Path) -> None:
    print(f"{replay(tmp_path, 1000, 20)} accepted shares")


def test_the_proof_of_no_objects_sees_a_single_float(tmp_path: Path) -> None:
    """The measurement is worth something: one short-lived object shows."""
    world = World(tmp_path)
    idle = cost_of(world, [], 0)
    gc.collect()
    tracemalloc.start()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    float("1.25")
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak >= 24
    assert idle[0] <= 3
    world.log.close()


@pytest.mark.soak
def test_a_million_accepted_shares_create_no_python_object(tmp_path: Path) -> None:
    assert replay(tmp_path, 5000, 200) == 1_000_000


# --- the fuzzer's seeds, in this build too
def test_the_fuzzers_seeds_hold_every_invariant_and_reach_every_path() -> None:
    target = fuzz_channel.Target()
    for seed in fuzz_channel.seeds():
        target.one_input(seed)
    reached = target.totals
    assert (
        min(
            reached.verdicts[Verdict.ACCEPTED],
            reached.verdicts[Verdict.DUPLICATE],
            reached.found,
            reached.handed_up,
            reached.faults,
        )
        > 0
    )
    target.book.close()


def test_random_changes_of_the_seeds_hold_every_invariant(rng: random.Random) -> None:
    target = fuzz_channel.Target()

    def scramble(data: bytes, size: int) -> bytes:
        spoiled = bytearray(data[:size])
        for _ in range(rng.randrange(1, 8)):
            if spoiled:
                spoiled[rng.randrange(len(spoiled))] = rng.randrange(256)
        return bytes(spoiled)

    mutate = fuzz_channel.mutator(scramble)
    stock = fuzz_channel.seeds()
    for _ in range(1500):
        stock.append(mutate(rng.choice(stock), 4096, rng.getrandbits(32)))
        target.one_input(stock[-1])
    target.book.close()
