"""What one connection or address may cost, and what follows bad behaviour."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.records import Verdict
from pool.stratum import limits
from pool.stratum.bans import Action, Storm, bad_shares, weather
from pool.stratum.limits import Bucket, Door, address_key


def run_storm(shares: list[tuple[int, int]], every_s: float = 5.0) -> list[tuple[float, Action]]:
    storm: Storm | None = None
    actions = []
    for step, (good, bad) in enumerate(shares):
        storm, action = weather(storm, step * every_s, good, bad)
        if action is not None:
            actions.append((step * every_s, action))
    return actions


def test_a_reject_storm_is_answered_in_stages_at_one_two_and_three_minutes() -> None:
    assert run_storm([(0, 2)] * 60) == [(60.0, Action.RESEND), (120.0, Action.RECONNECT), (180.0, Action.DROP)]


def test_a_device_that_recovers_after_new_work_is_left_alone() -> None:
    assert run_storm([(0, 2)] * 14 + [(3, 0)] * 60) == [(60.0, Action.RESEND)]


def test_a_tenth_of_bad_shares_is_no_storm() -> None:
    assert run_storm([(9, 1)] * 200) == []


def test_a_few_bad_shares_after_a_reconnect_are_no_storm() -> None:
    assert run_storm([(0, 5)] + [(0, 0)] * 60) == []


def test_duplicates_stale_shares_and_our_own_failures_never_count() -> None:
    counts = [0] * len(Verdict)
    for verdict in (Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.STALE, Verdict.NOT_RECORDED, Verdict.UNAUTHORISED):
        counts[verdict] = 1000
    assert bad_shares(tuple(counts)) == 0
    counts[Verdict.LOW_DIFFICULTY] = 3
    counts[Verdict.MALFORMED] = 4
    assert bad_shares(tuple(counts)) == 7


def test_back_off_doubles_to_ten_minutes_and_is_forgiven_after_an_hour() -> None:
    door = Door(10, 100)
    now_s, waits = 0.0, []
    for _ in range(9):
        visitor = door.enter("192.0.2.7", now_s)
        assert visitor is not None
        door.punish(visitor, now_s)
        door.leave(visitor, now_s)
        assert door.enter("192.0.2.7", now_s + 1) is None
        assert visitor.penalty is not None
        waits.append(visitor.penalty.wait_s)
        now_s = visitor.penalty.until_s
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    visitor = door.enter("192.0.2.7", now_s + 3600)
    assert visitor is not None
    door.punish(visitor, now_s + 3600)
    assert visitor.penalty is not None
    assert visitor.penalty.wait_s == 10


def test_one_broken_device_does_not_lock_out_its_earning_neighbours() -> None:
    door = Door(10, 100)
    broken, good = door.enter("192.0.2.7", 0.0), door.enter("192.0.2.7", 0.0)
    assert broken is good
    assert broken is not None
    broken.earning += 1
    door.punish(broken, 0.0)
    assert door.enter("192.0.2.7", 1.0) is not None
    broken.earning -= 1
    assert door.enter("192.0.2.7", 1.0) is None


def test_connections_per_address_are_counted_and_given_back() -> None:
    door = Door(2, 100)
    first = door.enter("2001:db8::1", 0.0)
    assert door.enter("2001:db8::2", 0.0) is first, "one /64 is one address"
    assert door.enter("2001:db8::3", 0.0) is None
    assert door.enter("2001:db8:0:1::3", 0.0) is not None
    assert first is not None
    door.leave(first, 0.0)
    assert door.enter("2001:db8::3", 0.0) is first


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(host: str, key: str) -> None:
    assert address_key(host) == key


def test_memory_of_penalties_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENALTIES_AT_MOST", 50)
    door = Door(1, 100)
    for number in range(500):
        visitor = door.enter(f"192.0.{number // 250}.{number % 250}", 0.0)
        assert visitor is not None
        door.punish(visitor, 0.0)
        door.leave(visitor, 0.0)
    assert len(door) == 50
    door.sweep(1e6)
    assert len(door) == 0


def test_addresses_that_did_nothing_leave_nothing_behind() -> None:
    door = Door(1, 100)
    for number in range(200):
        visitor = door.enter(f"198.51.100.{number}", 0.0)
        assert visitor is not None
        door.leave(visitor, 0.0)
    assert len(door) == 0


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 50)), max_size=60))
def test_a_bucket_never_gives_more_than_its_rate_and_depth(takes: list[tuple[float, int]]) -> None:
    bucket, now_s, served = Bucket(10.0, 20.0, 0.0), 0.0, 0
    for pause_s, count in takes:
        now_s += pause_s
        wait_s = bucket.take(now_s, count)
        served += count
        assert served <= 20 + 10 * (now_s + wait_s) + 1e-6, "waiting as told is enough"
        now_s += wait_s
