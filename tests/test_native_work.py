"""Jobs, their table and the blocks made from them: what is refused, how ids live, when a set of hashes is dropped."""

from __future__ import annotations

import gc
import json
import random
import re
import weakref
from typing import Any

import pytest

from native.channel import Channel
from native.difficulty import difficulty_of_target, target_of_nbits, work_of_target
from native.hashing import merkle_root, sha256d
from native.sharelog import ShareLog
from native.work import EXTRANONCE1_SIZE, EXTRANONCE2_SIZE, VERSION_MASK, Job, JobTable

BOOT_S = 1_750_000_000
TIP, OTHER = b"\x11" * 32, b"\x22" * 32


def fields(**changes: Any) -> dict[str, Any]:
    return {
        "job_id": 7,
        "coinb1": b"\x01" * 70,
        "coinb2": b"\x02" * 60,
        "branches": [b"\x03" * 32] * 2,
        "prevhash": TIP,
        "version": 0x20000000,
        "nbits": 0x1D00FFFF,
        "ntime": 1000,
        "ntime_min": 900,
        "ntime_max": 8200,
        "height": 800_000,
        **changes,
    }


def make(table: JobTable, prevhash: bytes = TIP) -> Job:
    job = Job(**fields(job_id=table.next_id(), prevhash=prevhash))
    table.publish(job)
    return job


# --- Job
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"job_id": 0}, "job_id must be from 1 to 2^63 - 1, got 0"),
        ({"job_id": -4}, "job_id must be from 1"),
        ({"job_id": 1 << 63}, "job_id must be from 1"),
        ({"prevhash": bytes(31)}, "prevhash must be 32 bytes, not 31"),
        ({"branches": [bytes(32)] * 33}, "branches must be at most 32, got 33"),
        ({"branches": [bytes(32), bytes(31)]}, "branches[1] must be 32 bytes"),
        ({"branches": [bytearray(32)]}, "branches[0] must be 32 bytes"),
        ({"coinb1": bytes(41)}, "coinb1 and coinb2 are 41 and 60 bytes"),
        ({"coinb2": bytes(17_000)}, "coinb1 and coinb2 are 70 and 17000 bytes"),
        ({"version": 0x20002000}, "version 20002000 has bits inside 1fffe000"),
        ({"version": 1 << 32}, "version must be a 32-bit number"),
        ({"version": -1}, "version must be a 32-bit number"),
        ({"version": 1.5}, "version must be a 32-bit number"),
        ({"nbits": 0}, "nBits 00000000 is a target of zero"),
        ({"nbits": 0x1D80FFFF}, "nBits 1d80ffff is negative"),
        ({"nbits": 0xFF123456}, "nBits ff123456 overflows"),
        ({"nbits": 1 << 32}, "nbits must be a 32-bit number"),
        ({"ntime": 899}, "ntime 899 is not within 900..8200"),
        ({"ntime": 8201}, "ntime 8201 is not within 900..8200"),
        ({"ntime_min": 9000}, "ntime 1000 is not within 9000..8200"),
        ({"ntime_max": 1 << 32}, "ntime_max must be a 32-bit number"),
        ({"height": -1}, "height must be a 32-bit number"),
        ({"tx_count": 1 << 32}, "tx_count must be a 32-bit number"),
    ],
)
def test_a_wrong_field_is_refused_by_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Job(**fields(**changes))


@pytest.mark.parametrize("name", ["coinb1", "coinb2", "prevhash", "transactions"])
@pytest.mark.parametrize("value", [None, "text", bytearray(70)])
def test_a_field_of_the_wrong_type_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=name):
        Job(**fields(**{name: value}))


def test_a_job_never_changes_after_it_is_made() -> None:
    job = Job(**fields())
    before = job.notify(True)
    for name in ("job_id", "coinb1", "prevhash", "nbits", "ntime", "tag", "seen"):
        with pytest.raises(AttributeError):
            setattr(job, name, 5)
    with pytest.raises(TypeError):
        Job.__new__(Job)  # nothing half-made can be published
    assert job.notify(True) == before


def test_a_job_says_what_it_was_made_of() -> None:
    marker = object()
    job = Job(**fields(tag=marker, tx_count=3, witness_commitment=False, branches=(b"\x04" * 32, b"\x05" * 32)))
    assert (job.job_id, job.job_id_hex, job.height, job.tx_count) == (7, "7", 800_000, 3)
    assert job.branches == (b"\x04" * 32, b"\x05" * 32)
    assert job.tag is marker
    assert job.network_target == target_of_nbits(0x1D00FFFF)
    assert job.network_difficulty == difficulty_of_target(job.network_target) == 1.0
    assert job.network_work == work_of_target(job.network_target)


@pytest.mark.parametrize("length", [42, 63, 64, 65, 127, 128, 200])
@pytest.mark.parametrize("branches", [0, 1, 12, 32])
def test_the_judges_header_is_the_slow_one(length: int, branches: int, rng: random.Random, tmp_path: Any) -> None:
    """Through the midstate, whatever its length; `header` and the judge share one function."""
    nodes = [rng.randbytes(32) for _ in range(branches)]
    job = Job(**fields(coinb1=rng.randbytes(length), coinb2=rng.randbytes(rng.randrange(300)), branches=nodes))
    en1, en2 = rng.randbytes(4), rng.randbytes(8)
    root = merkle_root(sha256d(job.coinb1 + en1 + en2 + job.coinb2), b"".join(nodes))
    bits, ntime, nonce = 0x1FFFE000, 0xFFFFFFFF, 0x01020304
    numbers = [n.to_bytes(4, "little") for n in (0x20000000 ^ bits, ntime, 0x1D00FFFF, nonce)]
    assert job.header(en1, en2, ntime, nonce, bits) == numbers[0] + TIP + root + numbers[1] + numbers[2] + numbers[3]
    assert job.coinbase(en1, en2) == job.coinb1 + en1 + en2 + job.coinb2


def test_header_and_block_want_whole_extranonces_and_headers() -> None:
    job = Job(**fields())
    for en1, en2 in ((bytes(3), bytes(8)), (bytes(4), bytes(7)), (bytes(5), bytes(8)), (b"", b"")):
        with pytest.raises(ValueError, match="extranonce1 and extranonce2 must be 4 and 8 bytes"):
            job.header(en1, en2, 1000, 0, 0)
    with pytest.raises(ValueError, match="header must be 80 bytes, not 79"):
        job.block(bytes(4), bytes(8), bytes(79))
    for name, at in (("ntime", 0), ("nonce", 1), ("version_bits", 2)):
        numbers = [1000, 0, 0]
        numbers[at] = 1 << 32
        with pytest.raises(ValueError, match=f"{name} must be a 32-bit number"):
            job.header(bytes(4), bytes(8), *numbers)


@pytest.mark.parametrize(
    ("count", "prefix"),
    [(0, "01"), (251, "fc"), (252, "fdfd00"), (65534, "fdffff"), (65535, "fe00000100")],
)
def test_a_block_counts_its_transactions_as_the_wire_format_does(count: int, prefix: str) -> None:
    job = Job(**fields(tx_count=count, transactions=b"TXS", witness_commitment=False))
    block = job.block(bytes(4), bytes(8), bytes(80))
    assert block == bytes(80) + bytes.fromhex(prefix) + job.coinbase(bytes(4), bytes(8)) + b"TXS"


def test_a_witness_block_carries_marker_flag_and_the_reserved_value() -> None:
    job = Job(**fields(transactions=b"TXS", tx_count=1))
    coinbase = job.coinbase(bytes(4), bytes(8))
    witness = coinbase[:4] + b"\x00\x01" + coinbase[4:-4] + b"\x01\x20" + bytes(32) + coinbase[-4:]
    assert job.block(bytes(4), bytes(8), bytes(80)) == bytes(80) + b"\x02" + witness + b"TXS"


def test_notify_is_plain_json_with_the_clean_flag_last() -> None:
    prevhash = bytes(range(32))
    job = Job(**fields(job_id=0xABCDEF, prevhash=prevhash))
    for clean in (True, False):
        message = json.loads(job.notify(clean))
        assert job.notify(clean).endswith(b"]}\n")
        words = b"".join(prevhash[at : at + 4][::-1] for at in range(0, 32, 4))
        expected = [
            "abcdef",
            words.hex(),
            "01" * 70,
            "02" * 60,
            ["03" * 32] * 2,
            "20000000",
            "1d00ffff",
            "000003e8",
            clean,
        ]
        assert message == {"id": None, "method": "mining.notify", "params": expected}


def test_the_sizes_every_miner_is_told() -> None:
    assert (EXTRANONCE1_SIZE, EXTRANONCE2_SIZE, VERSION_MASK) == (4, 8, 0x1FFFE000)


# --- JobTable: ids
def test_ids_begin_at_the_boot_second_and_are_short_lower_case_hex() -> None:
    table = JobTable(8, boot_s=BOOT_S)
    ids = [table.next_id() for _ in range(1000)]
    assert ids == list(range(((BOOT_S - 1_700_000_000) << 12) + 1, ((BOOT_S - 1_700_000_000) << 12) + 1001))
    assert all(re.fullmatch("[0-9a-f]{1,12}", Job(**fields(job_id=n)).job_id_hex) for n in ids)


def test_no_id_comes_back_over_a_restart() -> None:
    first = JobTable(8, boot_s=BOOT_S)
    used = {first.next_id() for _ in range(4095)}  # as many jobs as a second may have
    again = JobTable(8, boot_s=BOOT_S + 1)
    assert used.isdisjoint(again.next_id() for _ in range(4095))


def test_a_clock_before_the_origin_still_gives_ids() -> None:
    assert JobTable(8, boot_s=0).next_id() == (1 << 12) + 1


def test_ids_fit_48_bits_for_a_century() -> None:
    assert JobTable(8, boot_s=6_100_000_000).next_id() < 1 << 48
    assert JobTable(8, boot_s=1_700_000_000 + (1 << 36) - 1).next_id() < 1 << 48


def test_an_id_is_published_once_even_after_it_was_retired() -> None:
    table = JobTable(4, boot_s=BOOT_S)
    job = make(table)
    with pytest.raises(ValueError, match="is published already"):
        table.publish(job)
    twin = Job(**fields(job_id=job.job_id))
    with pytest.raises(ValueError, match="an id is used once"):
        table.publish(twin)
    assert table.get(job.job_id) is job
    table.retire_before(1 << 62)
    with pytest.raises(ValueError, match="an id is used once"):
        table.publish(twin)
    with pytest.raises(ValueError, match="is published already"):
        table.publish(job)
    assert len(table) == 0


def test_an_older_generation_never_takes_a_slot_back() -> None:
    table = JobTable(4, boot_s=BOOT_S)
    early = table.next_id()
    for _ in range(3):
        table.next_id()
    late = make(table)
    assert early % 4 == late.job_id % 4
    with pytest.raises(ValueError, match="an id is used once"):
        table.publish(Job(**fields(job_id=early)))
    assert table.get(late.job_id) is late


def test_an_id_that_was_not_given_out_is_refused() -> None:
    table = JobTable(4, boot_s=BOOT_S)
    with pytest.raises(ValueError, match="was not given out by next_id"):
        table.publish(Job(**fields(job_id=table.next_id() + 1)))


def test_a_slot_knows_only_its_last_generation() -> None:
    table = JobTable(4, boot_s=BOOT_S)
    jobs = [make(table) for _ in range(6)]
    assert [table.get(job.job_id) for job in jobs] == [None, None, *jobs[2:]]
    assert len(table) == 4
    assert table.get(jobs[5].job_id + 4) is None


@pytest.mark.parametrize("capacity", [-4, 0, 1, 3, 6, 4095])
def test_a_capacity_must_be_a_power_of_two(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"capacity must be a power of two of at least 2, got {capacity}"):
        JobTable(capacity)


# --- JobTable: tips, retirement, seen
def test_jobs_are_stale_on_another_tip_and_not_stale_after_a_reorg_back() -> None:
    table = JobTable(8, boot_s=BOOT_S)
    job = make(table)
    assert table.is_stale(job), "before any tip is known"
    table.set_tip(TIP)
    assert table.tip == TIP
    assert not table.is_stale(job)
    table.set_tip(OTHER)
    assert table.is_stale(job)
    table.set_tip(TIP)
    assert not table.is_stale(job)
    with pytest.raises(ValueError, match="prevhash must be 32 bytes, not 31"):
        table.set_tip(bytes(31))


def test_retiring_forgets_older_jobs_but_those_on_a_kept_block() -> None:
    table = JobTable(8, boot_s=BOOT_S)
    table.set_tip(TIP)
    old = [make(table), make(table, OTHER), make(table)]
    newest = make(table)
    assert table.retire_before(newest.job_id, keep_prevhash=OTHER) == 2
    assert [table.get(job.job_id) for job in [*old, newest]] == [None, old[1], None, newest]
    assert table.live_prevhashes() == sorted([TIP, OTHER])
    assert table.retire_before(newest.job_id) == 1
    assert table.live_prevhashes() == [TIP]
    assert len(table) == 1


def test_hashes_seen_go_when_no_job_on_their_block_can_be_credited(rng: random.Random) -> None:
    table = JobTable(8, boot_s=BOOT_S)
    table.set_tip(TIP)
    job = make(table)
    table.seen_load(TIP, rng.randbytes(320))
    table.set_tip(OTHER)
    assert set(table.seen_stats()) == {TIP, OTHER}, "a job on it is live: a reorg back would credit it again"
    table.retire_before(job.job_id + 1)
    assert set(table.seen_stats()) == {OTHER}
    assert table.seen_stats()[OTHER][0] == 0


def test_the_tips_set_stays_without_jobs(rng: random.Random) -> None:
    table = JobTable(8, boot_s=BOOT_S)
    table.set_tip(TIP)
    table.seen_load(TIP, rng.randbytes(64))
    job = make(table)
    table.retire_before(job.job_id + 1)
    assert table.seen_stats()[TIP][0] == 2


def test_a_reorg_there_and_back_keeps_what_was_seen(rng: random.Random) -> None:
    table = JobTable(8, boot_s=BOOT_S)
    table.set_tip(TIP)
    make(table)
    table.seen_load(TIP, rng.randbytes(96))
    table.set_tip(OTHER)
    make(table, OTHER)
    table.set_tip(TIP)
    assert table.seen_stats()[TIP][0] == 3
    assert set(table.seen_stats()) == {TIP, OTHER}


def test_sets_loaded_for_blocks_that_are_never_worked_on_go_with_the_next_retirement(rng: random.Random) -> None:
    table = JobTable(8, boot_s=BOOT_S)
    table.set_tip(TIP)
    for _ in range(5):
        table.seen_load(rng.randbytes(32), rng.randbytes(32))
    assert len(table.seen_stats()) == 6
    table.retire_before(make(table).job_id)
    assert set(table.seen_stats()) == {TIP}


def test_a_slot_taken_by_a_newer_job_lets_go_of_the_old_one_and_its_set() -> None:
    table = JobTable(2, boot_s=BOOT_S)
    table.set_tip(OTHER)
    make(table, TIP)
    assert set(table.seen_stats()) == {TIP, OTHER}
    make(table, OTHER)
    make(table, OTHER)
    assert set(table.seen_stats()) == {OTHER}
    assert len(table) == 2


def test_a_retired_job_is_freed(tmp_path: Any) -> None:
    class Tag:
        pass

    table = JobTable(2, boot_s=BOOT_S)
    table.set_tip(TIP)
    tag = Tag()
    watch = weakref.ref(tag)
    job = Job(**fields(job_id=table.next_id(), tag=tag))
    table.publish(job)
    with ShareLog(str(tmp_path), segment_bytes=8192) as log:
        channel = Channel(table, log, bytes(4), print)
        channel.send_job(job, 1.0, True)
        del job, tag
        table.retire_before(1 << 62)
        gc.collect()
        assert watch() is None, "neither table nor channel keeps a retired job"
