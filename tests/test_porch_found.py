"""A winning share on its way to the log and the nodes: once, and never lost to a full share log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from native.channel import Channel
from native.difficulty import target_of_difficulty
from native.hashing import header_hash, search
from native.sharelog import Segment, ShareLog, segments
from native.work import Job, JobTable
from pool.chain.coinbase import Style, build, pay_pool
from pool.chain.jobs import JobTag, make_job, prepare
from pool.commands.found import FoundBlocks
from pool.records import BlockFound, RowKind, Verdict
from rig.chain_parts import POOL_SCRIPT, template

EN1 = b"\x01\x02\x03\x04"
NOW_NS = 1_780_112_440_000_000_000
EASY_NBITS = "207fffff"
EASIEST = 2.0**-20


class Bench:
    """A channel whose every share is a block, over a real share log of few rows."""

    def __init__(self, directory: Path) -> None:
        self.log = ShareLog(str(directory), segment_bytes=8192)
        self.jobs = JobTable()
        self.sent: list[BlockFound] = []
        self.found = FoundBlocks(self.log, self.sent.append, lambda hash_hex: hash_hex in self.known)
        self.channel = Channel(self.jobs, self.log, EN1, self.found)
        account = self.log.account("bc1qexample", NOW_NS)
        self.channel.authorize(b"bc1qexample", account, self.log.worker(account, "", NOW_NS))
        self.job = self.send(EASY_NBITS)

    @property
    def known(self) -> set[str]:
        return {one.hash_hex for one in self.sent}

    def send(self, nbits: str) -> Job:
        prepared = prepare(template(network="regtest", height=7, bits=nbits))
        of = prepared.template
        coinbase = build(of, pay_pool(of.coinbase_value_sat, POOL_SCRIPT), Style(), prepared.commitment)
        job = make_job(self.jobs.next_id(), JobTag(prepared, coinbase, "ledger", "", 0))
        self.jobs.publish(job)
        self.jobs.set_tip(job.prevhash)
        self.channel.send_job(job, EASIEST, True)
        self.channel.take()
        return job

    def win(self, number: int) -> bytes:
        """Submit a share that is a block; its header's hash."""
        extranonce2 = number.to_bytes(8, "little")
        header = self.job.header(EN1, extranonce2, self.job.ntime, 0, 0)
        nonce = search(header, target_of_difficulty(EASIEST), 0, 1 << 20)
        assert nonce is not None
        fields = (self.job.job_id_hex, extranonce2.hex(), f"{self.job.ntime:08x}", f"{nonce:08x}")
        self.channel.submit(b"1", "bc1qexample", *fields, None, NOW_NS)
        return header_hash(self.job.header(EN1, extranonce2, self.job.ntime, nonce, 0))

    def block_rows(self) -> list[bytes]:
        """Header hashes of all BLOCK rows."""
        out = []
        for path in segments(self.log.directory):
            segment = Segment(path)
            try:
                data = segment.rows()
            finally:
                segment.close()
            rows = [data[i : i + 128] for i in range(0, len(data), 128)]
            out += [header_hash(row[32:112]) for row in rows if row[4] == RowKind.BLOCK]
        return out


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "log")
    yield bench
    bench.log.close()


def test_a_winning_share_sent_twice_is_one_block_and_one_row(bench: Bench) -> None:
    won = bench.win(1)
    again = bench.win(1)
    assert won == again
    assert [one.hash_hex for one in bench.sent] == [won[::-1].hex()]
    assert bench.block_rows() == [won]
    assert bench.channel.counts[Verdict.DUPLICATE] == 1


def test_a_block_found_while_the_log_is_full_goes_out_at_once_and_into_the_log_when_it_has_room(bench: Bench) -> None:
    number = 0
    while not bench.log.full:
        number += 1
        bench.win(number)
    in_time = bench.block_rows()
    lost = [bench.win(number + i) for i in range(1, 4)]
    assert [one.hash_hex for one in bench.sent][-3:] == [hash_le[::-1].hex() for hash_le in lost]
    assert bench.channel.counts[Verdict.NOT_RECORDED] >= 3
    bench.found.write_late()
    assert bench.block_rows() == in_time, "nothing can be written yet"
    bench.log.prepare()
    bench.found.write_late()
    rows = bench.block_rows()
    assert rows[: len(in_time)] == in_time
    assert rows[-3:] == lost
    assert sorted(rows) == sorted(bytes.fromhex(one.hash_hex)[::-1] for one in bench.sent)
    assert len(set(rows)) == len(rows)
