"""Native judges, answers, counts and books every share as the slow oracle does: random traffic and chosen stories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.channel import Channel
from native.sharelog import HEAD_SIZE, ROW_SIZE, ShareLog
from native.work import Job, JobTable
from pool.records import ACCOUNT_ROW, SHARE_ROW, RowKind, Verdict
from rig import reference
from rig.rows import booked_of, check_sequence, expected_of, rows_of
from rig.traffic import EASIEST, USERS, Share, grind
from rig.twins import Session, Twin, Twins, vars_of

SHARES = int(os.environ.get("VERDICT_SHARES", "20000"))
SOAK_SHARES = int(os.environ.get("VERDICT_SOAK_SHARES", "1000000"))


def run_traffic(seed: int, directory: Path, shares: int) -> Twins:
    """Random traffic through both until `shares` submits were judged; everything compared on the way and at the end."""
    with ShareLog(str(directory), segment_bytes=4 << 20) as log:
        twins = Twins(seed, log, capacity=(32, 256)[seed % 2])
        while twins.submits < shares:
            twins.step()
            if log.seq % 16 == 0:
                log.prepare()
        for twin in twins.twins:
            twin.compare()
        assert log.refused == 0
    rows = rows_of(directory)
    check_sequence(rows)
    assert booked_of(rows) == expected_of(twins.pool.booked)
    return twins


def total(twins: Twins) -> dict[Verdict, int]:
    return {verdict: sum(twin.ref.counts[verdict] for twin in twins.twins) for verdict in Verdict}


def test_native_and_the_oracle_agree_on_random_traffic(seed: int, tmp_path: Path) -> None:
    twins = run_traffic(seed, tmp_path, SHARES)
    counts = total(twins)
    print({verdict.name: count for verdict, count in counts.items()})
    # The story must hold every kind: a generator that stops making one would let native forget it.
    missing = [verdict.name for verdict, count in counts.items() if count == 0 and verdict is not Verdict.NOT_RECORDED]
    assert not missing


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_native_and_the_oracle_agree_on_a_million_random_shares(seed: int, tmp_path: Path) -> None:
    done = 0
    while done < SOAK_SHARES:
        directory = tmp_path / str(seed)
        directory.mkdir()
        twins = run_traffic(seed, directory, min(100_000, SOAK_SHARES - done))
        done += twins.submits
        print(f"seed {seed}: {twins.submits} shares", {v.name: n for v, n in total(twins).items()}, flush=True)
        seed += 1
    assert done >= SOAK_SHARES


# --- any split of the stream


class Recording:
    """A fixed story: one connection, its job, and a stream of lines of every kind."""

    def __init__(self, directory: Path) -> None:
        self.log = ShareLog(str(directory), segment_bytes=1 << 20)
        self.twins = Twins(20_260_530, self.log, connections=1, tries=60_000)
        twin = self.twins.twins[0]
        for user in USERS[:2]:
            twin.session.channel.authorize(user, 1, 2)
        for ref in self.twins.refs:
            if ref.job_id not in twin.ref.sent:
                self.twins.send(twin, ref, EASIEST, clean=True)
        self.channel = twin.session.channel
        self.stream = self.twins.lines(twin, 60)


def answers(directory: Path, cuts: list[int]) -> tuple[bytes, tuple[int, ...]]:
    """What a fresh connection answers to the recorded stream cut at `cuts`."""
    recording = Recording(directory)
    session = Session(recording.channel)
    stream, said, at = recording.stream, b"", 0
    for cut in [*sorted(cut % len(stream) for cut in cuts), len(stream)]:
        said += session.feed(stream[at:cut], 1_800_000_000_000_000_000)
        at = cut
    recording.log.close()
    return said, recording.channel.counts


@settings(deadline=None, max_examples=40)
@given(cuts=st.lists(st.integers(0, 1_000_000), max_size=200))
def test_any_split_of_the_stream_gives_the_same_answers(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    whole = answers(tmp_path_factory.mktemp("whole"), [])
    assert answers(tmp_path_factory.mktemp("cut"), cuts) == whole
    assert whole[1][Verdict.ACCEPTED] > 0


def test_a_stream_sent_byte_by_byte_gives_the_same_answers(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert answers(tmp_path / "a", []) == answers(tmp_path / "b", list(range(20_000)))


# --- chosen stories


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Twins]:
    """Twins with two connections that are authorised and know one job at the easiest target."""
    with ShareLog(str(tmp_path), segment_bytes=1 << 20) as log:
        twins = Twins(7, log, connections=2, capacity=256)
        for twin in twins.twins:
            give(twins, twin)
        yield twins


def give(twins: Twins, twin: Twin) -> None:
    """Authorise USERS[0] and send the newest job at the easiest target."""
    twin.session.channel.authorize(USERS[0], 1, 2)
    twin.ref.users[USERS[0]] = (1, 2)
    twin.ref.extranonce1 = twins.extranonce1s[0]
    twin.session.channel.set_extranonce1(twins.extranonce1s[0])
    twins.send(twin, twins.refs[-1], EASIEST, clean=True)


def true_share(twins: Twins) -> Share:
    """A share of the newest job that meets the easiest target, with six parameters."""
    hits: list[Share] = []
    while not hits:
        hits = grind(twins.refs[-1], twins.extranonce1s[0], twins.rng, 8192, USERS[0].decode())
    return replace(hits[0], bits=hits[0].bits or 0)


def submit(twins: Twins, twin: Twin, share: Share) -> Verdict:
    twin.feed(twins.writer.line(share, oddity=0, breakage=0), twins.now_ns)
    return twin.verdicts[-1]


def test_a_share_sent_twice_is_paid_once_whatever_its_spelling(world: Twins) -> None:
    twin, other = world.twins
    share = true_share(world)
    assert submit(world, twin, share) is Verdict.ACCEPTED
    for _ in range(50):  # case, padding, spaces, key order: all of them the same header
        twin.feed(world.writer.line(share, oddity=1, breakage=0), world.now_ns)
    assert submit(world, other, share) is Verdict.DUPLICATE
    assert set(twin.verdicts[1:]) == {Verdict.DUPLICATE}
    assert twin.session.channel.credited == EASIEST
    assert other.session.channel.credited == 0


def test_the_same_header_under_two_job_ids_is_paid_once(world: Twins) -> None:
    twin, share = world.twins[0], true_share(world)
    again = world.another()
    world.send(twin, again, EASIEST)
    assert submit(world, twin, share) is Verdict.ACCEPTED
    assert submit(world, twin, replace(share, job_id=again.job_id)) is Verdict.DUPLICATE


def test_a_reorg_there_and_back_pays_no_share_twice(world: Twins) -> None:
    twin, share = world.twins[0], true_share(world)
    home = world.refs[-1].prevhash
    world.set_tip(home)
    assert submit(world, twin, share) is Verdict.ACCEPTED
    world.set_tip(bytes(32))
    assert submit(world, twin, share) is Verdict.STALE
    world.set_tip(home)
    assert submit(world, twin, share) is Verdict.DUPLICATE


def test_a_replay_after_a_restart_earns_nothing(world: Twins, tmp_path: Path) -> None:
    """The log's hashes go back into a new process's job table; the same share, on the same job, is a duplicate."""
    share, ref = true_share(world), world.refs[-1]
    assert submit(world, world.twins[0], share) is Verdict.ACCEPTED
    rows = [np.frombuffer(raw, SHARE_ROW)[0] for raw in rows_of(tmp_path) if raw[4] == RowKind.SHARE]
    hashes = b"".join(bytes(row["hash_le"]) for row in rows)
    (tmp_path / "later").mkdir()
    with ShareLog(str(tmp_path / "later"), segment_bytes=1 << 20) as log:
        jobs = JobTable(capacity=256, boot_s=1_750_000_000)
        while jobs.next_id() < ref.job_id:
            pass
        jobs.set_tip(ref.prevhash)
        jobs.publish(Job(**vars_of(ref)))
        assert jobs.seen_load(ref.prevhash, hashes) == 1
        assert jobs.seen_load(ref.prevhash, hashes) == 0
        channel = Channel(jobs, log, world.extranonce1s[0], lambda found: None)
        channel.authorize(USERS[0], 1, 2)
        job = jobs.get(ref.job_id)
        assert job is not None
        channel.send_job(job, EASIEST, True)
        assert channel.feed(world.writer.line(share, oddity=0, breakage=0), 1) is None
        assert channel.counts[Verdict.DUPLICATE] == 1
        assert log.seq == 0


def test_a_job_sent_to_another_connection_only_is_not_known_here(world: Twins) -> None:
    share = true_share(world)
    stranger = world.connect()
    stranger.session.channel.authorize(USERS[0], 1, 2)
    stranger.ref.users[USERS[0]] = (1, 2)
    assert submit(world, stranger, share) is Verdict.JOB_NOT_FOUND
    assert submit(world, world.twins[0], share) is Verdict.ACCEPTED


def test_a_share_keeps_the_extranonce1_and_difficulty_of_when_its_job_was_sent(world: Twins) -> None:
    twin, share = world.twins[0], true_share(world)
    channel = twin.session.channel
    channel.set_extranonce1(b"\xff\xfe\xfd\xfc")
    twin.ref.extranonce1 = b"\xff\xfe\xfd\xfc"
    world.send(twin, world.another(ntime=world.refs[-1].ntime), 1e9)
    assert submit(world, twin, share) is Verdict.ACCEPTED
    assert channel.credited == EASIEST
    assert channel.difficulty == 1e9


REFUSALS_AFTER_HASHING = ["STALE", "UNAUTHORISED", "BAD_VERSION", "BAD_NTIME", "LOW_DIFFICULTY", "DUPLICATE"]


@pytest.mark.parametrize("refusal", REFUSALS_AFTER_HASHING)
def test_a_block_is_told_before_its_share_is_refused(refusal: str, world: Twins) -> None:
    """P3: on a network where half of all hashes are blocks, each refusal still calls `found`, once per line."""
    twin = world.twins[0]
    ref = world.another(nbits=0x207FFFFF, prevhash=world.pool.tip)
    world.send(twin, ref, EASIEST)
    share = true_share(world)
    if refusal == "DUPLICATE":
        assert submit(world, twin, share) is Verdict.ACCEPTED
    elif refusal == "STALE":
        world.set_tip(bytes(32))
    elif refusal == "UNAUTHORISED":
        twin.session.channel.deauthorize(USERS[0])
        del twin.ref.users[USERS[0]]
    elif refusal == "BAD_VERSION":
        share = block_like(world, share, bits=1 << 31)
    elif refusal == "BAD_NTIME":
        share = block_like(world, share, ntime=ref.ntime_max + 1)
    else:
        share = block_like(world, share, low=True)
    world.native_found.clear()
    world.pool.found.clear()
    assert submit(world, twin, share) is Verdict[refusal]
    assert len(world.native_found) == 1
    assert world.native_found == world.pool.found
    assert world.native_found[0].stale == (refusal == "STALE")


def block_like(world: Twins, share: Share, *, low: bool = False, **changes: Any) -> Share:
    """`share` changed so, with a nonce that still meets regtest's network target (and, `low`, not the assigned one)."""
    ref, extranonce1 = world.refs[-1], world.extranonce1s[0]
    share = replace(share, **changes)
    while True:
        share = replace(share, nonce=world.rng.getrandbits(32))
        header = ref.header(extranonce1, share.extranonce2, share.ntime, share.nonce, share.bits or 0)
        value = reference.hash_int(reference.sha256d(header))
        if value <= ref.network_target and (not low or value > reference.target_of_difficulty(EASIEST)):
            return share


def test_a_found_block_is_whole_and_ready_for_the_node(world: Twins) -> None:
    blocks: list[bytes] = []
    ref = world.another(nbits=0x207FFFFF, transactions=b"\x01" * 500, tx_count=3)
    extranonce1 = world.extranonce1s[0]
    channel = Channel(world.jobs, world.log, extranonce1, lambda found: blocks.append(found.block()))
    channel.authorize(USERS[0], 1, 2)
    job = world.jobs.get(ref.job_id)
    assert job is not None
    channel.send_job(job, EASIEST, True)
    share = block_like(world, true_share(world))
    assert channel.feed(world.writer.line(share, oddity=0, breakage=0), 1) is None
    header = ref.header(extranonce1, share.extranonce2, share.ntime, share.nonce, share.bits or 0)
    assert blocks == [ref.block(extranonce1, share.extranonce2, header)]


def test_work_credited_is_never_more_than_the_networks(world: Twins) -> None:
    """Assigned 4,096 hashes on a network of two: only the network's work may be booked."""
    twin = world.twins[0]
    ref = world.another(nbits=0x207FFFFF, prevhash=world.pool.tip)
    world.send(twin, ref, EASIEST)
    assert submit(world, twin, true_share(world)) is Verdict.ACCEPTED
    assert twin.session.channel.credited_work == reference.work_of_target(ref.network_target) == 2


def test_the_65th_job_pushes_the_oldest_out_of_a_connections_memory(world: Twins) -> None:
    twin = world.connect()
    give(world, twin)
    share = true_share(world)
    for _ in range(63):
        world.send(twin, world.another(), EASIEST)
    low = replace(share, nonce=share.nonce ^ 1)
    assert submit(world, twin, low) is Verdict.LOW_DIFFICULTY
    world.send(twin, world.another(), EASIEST)
    assert submit(world, twin, share) is Verdict.JOB_NOT_FOUND


def test_a_full_log_answers_no_share_true_and_takes_it_once_there_is_room(tmp_path: Path) -> None:
    room = 64
    with ShareLog(str(tmp_path), segment_bytes=HEAD_SIZE + room * ROW_SIZE) as log:
        twins = Twins(9, log, connections=1)
        twin = twins.twins[0]
        give(twins, twin)
        twins.pool.room = room - log.seq
        shares: list[Share] = []
        while len(shares) < room + 5:
            shares += grind(twins.refs[-1], twins.extranonce1s[0], twins.rng, 50_000, USERS[0].decode())
        verdicts = [submit(twins, twin, share) for share in shares]
        refused = [s for s, verdict in zip(shares, verdicts, strict=True) if verdict is Verdict.NOT_RECORDED]
        assert refused
        assert log.full
        assert log.refused >= len(refused)
        log.prepare()
        twins.pool.room = None
        assert submit(twins, twin, refused[0]) is Verdict.ACCEPTED
        assert submit(twins, twin, refused[0]) is Verdict.DUPLICATE
        twin.compare()
    assert booked_of(rows_of(tmp_path)) == expected_of(twins.pool.booked)


@given(st.binary(max_size=600), st.integers(0, 2**32 - 1))
def test_the_oracles_crc_continues_over_any_cut(data: bytes, cut: int) -> None:
    middle = cut % (len(data) + 1)
    assert reference.crc32c(data[middle:], reference.crc32c(data[:middle])) == reference.crc32c(data)


def test_rows_hold_account_and_worker_names(tmp_path: Path) -> None:
    with ShareLog(str(tmp_path), segment_bytes=1 << 20) as log:
        account = log.account("bc1qexample", 5)
        worker = log.worker(account, "niño", 6)
        assert log.account("bc1qexample", 7) == account
        assert log.worker(account, "niño", 8) == worker
        assert log.seq == 2
    first, second = (np.frombuffer(raw, ACCOUNT_ROW)[0] for raw in rows_of(tmp_path))
    assert (first["kind"], second["kind"]) == (RowKind.ACCOUNT, RowKind.WORKER)
    assert bytes(first["text"])[: int(first["length"])] == b"bc1qexample"
    assert bytes(second["text"])[: int(second["length"])] == "niño".encode()
    assert int(second["account"]) == account
