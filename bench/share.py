"""What one share costs: parse + judge + book + answer, against the pure hashing in the same run and against the pure-
Python oracle.

    ./mmsp bench share [--stock 20000] [--rounds 9]

Each figure is the median of `rounds` runs; CPU time of the thread;
runs of the things compared alternate, so that a noisy neighbour meets all of them.
A stock of real shares at difficulty 2^-20 is mined once and sent again on a fresh job table, log and connection each
round."""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable

from report import finish, table

from native import hashing
from native.channel import Channel
from native.difficulty import target_of_difficulty, target_of_nbits
from native.sharelog import ShareLog
from native.work import Job, JobTable
from rig.reference import RefJob
from rig.reference_judge import RefConnection, RefPool, read_submit

USER = b"bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq.axe"
EN1 = bytes.fromhex("1a2b3c4d")
PREV = bytes(range(32))
NBITS = 0x17034219
BOOT_S = 1_800_000_000
EASIEST = 2.0**-20
NTIME = 0x65F1A2B3


def job_fields(job_id: int) -> dict[str, object]:
    """A 250-byte coinbase (its extranonces where ours lie) and 12 branches."""
    return {
        "job_id": job_id,
        "coinb1": bytes(i & 255 for i in range(66)),
        "coinb2": bytes(i * 3 & 255 for i in range(250 - 66 - 12)),
        "branches": tuple(hashing.sha256(bytes([i])) for i in range(12)),
        "prevhash": PREV,
        "version": 0x20000000,
        "nbits": NBITS,
        "ntime": NTIME,
        "ntime_min": NTIME - 600,
        "ntime_max": NTIME + 7000,
        "height": 900_000,
    }


class World:
    """One round's pool: same ids and extranonce every time, so the stock of shares is good in each."""

    def __init__(self, difficulty: float) -> None:
        self.directory = tempfile.mkdtemp(prefix="bench-share-")
        self.log = ShareLog(self.directory, segment_bytes=256 << 20)
        self.jobs = JobTable(boot_s=BOOT_S)
        self.jobs.set_tip(PREV)
        self.job = Job(**job_fields(self.jobs.next_id()))  # type: ignore[arg-type]
        self.jobs.publish(self.job)
        self.channel = Channel(self.jobs, self.log, EN1, self._found)
        account = self.log.account("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", 0)
        self.channel.authorize(USER, account, self.log.worker(account, "axe", 0))
        self.channel.send_job(self.job, difficulty, True)
        self.channel.take()

    def _found(self, found: object) -> None:
        raise AssertionError("a block at this difficulty cannot be")

    def close(self) -> None:
        self.log.close()
        shutil.rmtree(self.directory)


def mine(count: int) -> list[bytes]:
    """`count` submit lines whose hash meets 2^-20."""
    world = World(EASIEST)
    target, lines = target_of_difficulty(EASIEST), []
    for n in range(count):
        extranonce2, bits = n.to_bytes(8, "little"), (n % 4096) << 13
        nonce = hashing.search(world.job.header(EN1, extranonce2, NTIME, 0, bits), target, 0, 1 << 32)
        assert nonce is not None
        lines.append(
            b'{"id":%d,"method":"mining.submit","params":["%s","%x","%s","%08x","%08x","%08x"]}\n'
            % (n + 5, USER, world.job.job_id, extranonce2.hex().encode(), NTIME, nonce, bits)
        )
    world.close()
    return lines


def packets(lines: list[bytes], per: int) -> list[bytes]:
    return [b"".join(lines[i : i + per]) for i in range(0, len(lines), per)]


def judge_us(stock: list[bytes], shares: int, difficulty: float, verdict: int) -> float:
    """Microseconds a share through feed + take."""
    world = World(difficulty)
    feed, take = world.channel.feed, world.channel.take
    begin = time.thread_time()
    for packet in stock:
        feed(packet, 1)
        take()
    spent = time.thread_time() - begin
    assert world.channel.counts[verdict] == shares, world.channel.counts
    world.close()
    return spent / shares * 1e6


def oracle_us(lines: list[bytes]) -> float:
    jobs = JobTable(boot_s=BOOT_S)
    fields = job_fields(jobs.next_id())
    assert target_of_nbits(NBITS) > 0
    pool = RefPool()
    pool.set_tip(PREV)
    job = RefJob(**fields)  # type: ignore[arg-type]
    pool.publish(job, 4096)
    connection = RefConnection(pool, EN1)
    connection.users[USER] = (1, 1)
    connection.send_job(job, EASIEST)
    begin = time.thread_time()
    for line in lines:
        submit = read_submit(line)
        assert submit is not None
        connection.hear(submit, 1)
    spent = time.thread_time() - begin
    assert connection.counts[0] == len(lines), connection.counts
    return spent / len(lines) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stock", type=int, default=20_000, help="shares mined once and sent in every round")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    lines = mine(args.stock)
    single, batched = packets(lines, 1), packets(lines, 16)
    few = lines[:300]
    kinds: dict[str, Callable[[], float]] = {
        "pure hashing (same kernel)": lambda: hashing.bench("share12", args.stock) / args.stock * 1e6,
        "pure hashing, coinbase midstate": lambda: hashing.bench("share12mid", args.stock) / args.stock * 1e6,
        "accepted, 1 a packet": lambda: judge_us(single, args.stock, EASIEST, 0),
        "accepted, 16 a packet": lambda: judge_us(batched, args.stock, EASIEST, 0),
        "refused as low (difficulty 1000), 1 a packet": lambda: judge_us(single, args.stock, 1000.0, 8),
        "refused as low (difficulty 0.3), 16 a packet": lambda: judge_us(batched, args.stock, 0.3, 8),
        "pure-Python oracle, accepted": lambda: oracle_us(few),
    }
    runs: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(args.rounds):
        for name, measure in kinds.items():
            runs[name].append(measure())
    base = statistics.median(runs["pure hashing (same kernel)"])
    rows = [
        {
            "what": name,
            "us/share": statistics.median(us),
            "best": min(us),
            "x pure hashing": statistics.median(us) / base,
        }
        for name, us in runs.items()
    ]
    table(f"One share, 12 branches, 250-byte coinbase, kernel {hashing.kernel()}, median of {args.rounds}", rows)
    finish("share", {"kernel": hashing.kernel(), "stock": args.stock, "rounds": args.rounds, "rows": rows})


if __name__ == "__main__":
    main()
