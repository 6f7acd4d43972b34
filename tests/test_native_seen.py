"""The set of header hashes credited: the same answers as a Python set, bounded and measured memory."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from native import seen as native_seen
from native.seen import DEFAULT_LIMIT, SeenSet
from native.work import JobTable

EMPTY_BYTES = SeenSet().bytes


def crowded(rng: random.Random, part: int, home: int) -> bytes:
    """A hash of one sub-table (its first byte) whose probing begins at `home`: such hashes crowd each other."""
    return bytes([part, home, 0, 0]) + rng.randbytes(28)


class SeenLikeASet(RuleBasedStateMachine):
    """Few sub-tables and few home slots, so that chains grow, wrap round and are cut in the middle."""

    hashes = Bundle("hashes")

    @initialize()
    def begin(self) -> None:
        self.seen, self.model = SeenSet(), set[bytes]()

    @rule(
        target=hashes,
        part=st.sampled_from([0, 7]),
        home=st.sampled_from([0, 1, 14, 15, 31]),
        tail=st.binary(min_size=12, max_size=12),
    )
    def make(self, part: int, home: int, tail: bytes) -> bytes:
        return bytes([part, home, 0, 0]) + tail + bytes(16)

    @rule(one=hashes)
    def add(self, one: bytes) -> None:
        assert self.seen.add(one) == (one not in self.model)
        self.model.add(one)

    @rule(one=hashes)
    def remove(self, one: bytes) -> None:
        self.seen.remove(one)
        self.model.discard(one)

    @rule(one=hashes)
    def look(self, one: bytes) -> None:
        assert (one in self.seen) == (one in self.model)

    @invariant()
    def the_same_members(self) -> None:
        if hasattr(self, "model"):
            assert len(self.seen) == len(self.model)
            assert all(one in self.seen for one in self.model)


TestSeenLikeASet = SeenLikeASet.TestCase
TestSeenLikeASet.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_a_long_mixed_life_agrees_with_a_python_set(rng: random.Random) -> None:
    seen, model = SeenSet(), set[bytes]()
    known = [rng.randbytes(32) for _ in range(6000)] + [crowded(rng, 3, 255) for _ in range(500)] + [bytes(32)]
    for _ in range(60_000):
        one = rng.choice(known)
        if rng.random() < 0.3:
            seen.remove(one)
            model.discard(one)
        else:
            assert seen.add(one) == (one not in model)
            model.add(one)
    assert len(seen) == len(model)
    assert [one in seen for one in known] == [one in model for one in known]


def test_removing_leaves_the_rest_of_a_crowded_chain_findable(rng: random.Random) -> None:
    for _ in range(50):
        chain = [crowded(rng, 9, home) for home in (13, 14, 15, 15, 15, 0, 0, 1, 2)]  # wraps round the first 16 slots
        seen = SeenSet()
        for one in chain:
            assert seen.add(one)
        rng.shuffle(chain)
        while chain:
            seen.remove(chain.pop())
            assert all(one in seen for one in chain)
            assert len(seen) == len(chain)


def test_the_all_zero_hash_is_a_hash_too() -> None:
    seen = SeenSet()
    assert bytes(32) not in seen
    assert seen.add(bytes(32))
    assert not seen.add(bytes(32))
    seen.remove(bytes(32))
    assert bytes(32) not in seen


def test_memory_grows_in_small_steps_and_stays_under_48_bytes_a_hash(rng: random.Random) -> None:
    seen = SeenSet()
    biggest_step, before = 0, seen.bytes
    assert before < 8192
    for count in range(1, 200_001):
        seen.add(rng.randbytes(16) + bytes(16))
        biggest_step = max(biggest_step, seen.bytes - before)
        before = seen.bytes
        if count >= 20_000 and count % 10_000 == 0:
            assert 16 * count / 0.75 * 0.7 < seen.bytes - EMPTY_BYTES < 48 * count, count
    assert biggest_step <= 64 << 10, "no share waits for more than one sub-table to move"


def test_the_memory_it_reports_is_the_memory_it_takes() -> None:
    """In a process of its own: resident memory before and after half a million hashes."""
    script = """
import os
from native.seen import SeenSet
def resident(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
seen = SeenSet()
for n in range(1000): seen.add(os.urandom(32))
before = resident()
for n in range(500_000): seen.add(os.urandom(32))
print(resident() - before, seen.bytes)
"""
    root = Path(native_seen.__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    taken, reported = map(int, result.stdout.split())
    most = 4 if "asan" in os.environ.get("LD_PRELOAD", "") else 1.5  # red zones and quarantine
    assert 0.7 * reported < taken < most * reported, (taken, reported)
    print(f"{reported / 501_000:.1f} bytes a hash reported, {taken / 500_000:.1f} measured")


def test_at_the_limit_it_refuses_what_is_new_and_knows_what_it_has(rng: random.Random) -> None:
    seen = SeenSet(limit=100)
    held = [rng.randbytes(32) for _ in range(100)]
    assert all(seen.add(one) for one in held)
    size = seen.bytes
    with pytest.raises(MemoryError, match="100 header hashes held, the limit is 100"):
        seen.add(rng.randbytes(32))
    assert seen.bytes == size
    assert not seen.add(held[0]), "a duplicate is a duplicate, full or not"
    seen.remove(held[0])
    assert seen.add(held[0])


def test_the_default_limit_holds_an_hour_of_twenty_thousand_shares_a_second() -> None:
    assert DEFAULT_LIMIT >= 3600 * 20_000


def test_a_table_loads_what_the_log_says_was_credited(rng: random.Random) -> None:
    jobs, prevhash = JobTable(8), rng.randbytes(32)
    jobs.set_tip(prevhash)
    hashes = [rng.randbytes(32) for _ in range(500)]
    assert jobs.seen_load(prevhash, b"".join(hashes + hashes[:20])) == 500
    assert jobs.seen_load(prevhash, b"".join(hashes)) == 0
    assert jobs.seen_stats()[prevhash][0] == 500
    with pytest.raises(ValueError, match="whole 32-byte values"):
        jobs.seen_load(prevhash, bytes(33))
    with pytest.raises(ValueError, match="prevhash must be 32 bytes"):
        jobs.seen_load(bytes(31), bytes(32))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_only_whole_hashes_enter(length: int) -> None:
    seen = SeenSet()
    for act in (seen.add, seen.remove, seen.__contains__):
        with pytest.raises(ValueError, match=f"hash must be 32 bytes, not {length}"):
            act(bytes(length))


def test_a_set_gives_its_memory_back_when_it_goes(rng: random.Random) -> None:
    before = resident_bytes()
    for _ in range(60):
        seen = SeenSet()
        for _ in range(20_000):
            seen.add(rng.randbytes(32))
        del seen
    assert resident_bytes() - before < 20 << 20, "one set takes about 0.6 MB"


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
