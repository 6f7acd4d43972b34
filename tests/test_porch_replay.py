"""A share credited before a restart is not credited after it, even if its very job came back (P2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from native.channel import Channel
from native.hashing import search
from native.sharelog import ShareLog
from native.work import Job, JobTable
from pool.commands.replay import credited_on
from pool.records import Verdict
from rig.reference import target_of_difficulty
from rig.work import RigWork

EXTRANONCE1 = b"\1\2\3\4"
DIFFICULTY = 2.0**-18


def submit(jobs: JobTable, log: ShareLog, job: Job, nonce: int) -> int:
    channel = Channel(jobs, log, EXTRANONCE1, lambda found: None)
    account = log.account("a", 1)
    channel.authorize(b"u", account, log.worker(account, "", 1))
    channel.send_job(job, DIFFICULTY, True)
    return channel.submit(b"1", "u", job.job_id_hex, "00" * 8, f"{job.ntime:08x}", f"{nonce:08x}", None, 1)


def same(job: Job) -> Job:
    """The job as another process would have made it."""
    fields = ("job_id", "coinb1", "coinb2", "branches", "prevhash", "version", "nbits")
    times = ("ntime", "ntime_min", "ntime_max", "height")
    return Job(**{name: getattr(job, name) for name in fields + times})


@pytest.mark.parametrize("remembered", [True, False])
def test_shares_of_the_present_block_are_remembered_over_a_restart(tmp_path: Path, remembered: bool) -> None:
    work = RigWork()
    job = work.job_for("ledger", "")
    assert job is not None
    target = target_of_difficulty(DIFFICULTY)
    nonces: list[int] = []
    while len(nonces) < 3:
        start = nonces[-1] + 1 if nonces else 0
        header = job.header(EXTRANONCE1, bytes(8), job.ntime, 0, 0)
        nonce = search(header, target, start, 1 << 31)
        assert nonce is not None
        nonces.append(nonce)
    with ShareLog(str(tmp_path), segment_bytes=1 << 20) as log:
        for nonce in nonces[:2]:
            assert submit(work.jobs, log, job, nonce) == Verdict.ACCEPTED
    with ShareLog(str(tmp_path), segment_bytes=1 << 20) as log:
        again = JobTable(boot_s=(job.job_id >> 12) + 1_700_000_000)  # the clock stood still
        assert again.next_id() == job.job_id
        again.set_tip(job.prevhash)
        job = same(job)
        again.publish(job)
        hashes = credited_on(tmp_path, job.prevhash, log.epoch)
        assert len(hashes) == 2 * 32
        assert credited_on(tmp_path, bytes(32), log.epoch) == b""
        if remembered:
            assert again.seen_load(job.prevhash, hashes) == 2
        expected = Verdict.DUPLICATE if remembered else Verdict.ACCEPTED
        assert [submit(again, log, job, nonce) for nonce in nonces[:2]] == [expected] * 2
        assert submit(again, log, job, nonces[2]) == Verdict.ACCEPTED


def test_an_empty_or_missing_log_has_nothing_to_remember(tmp_path: Path) -> None:
    assert credited_on(tmp_path, bytes(32), 1) == b""
    with ShareLog(str(tmp_path), segment_bytes=1 << 20):
        pass
    assert credited_on(tmp_path, bytes(32), 1) == b""
