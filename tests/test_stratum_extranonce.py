"""Extranonce1: nobody's value is ever somebody else's at the same time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.stratum import extranonce
from pool.stratum.extranonce import ExtranonceExhausted, Extranonces


@given(st.lists(st.one_of(st.just("take"), st.integers(0, 40), st.floats(0, 2000)), max_size=200))
def test_live_values_are_unique_and_released_ones_rest(steps: list[str | int | float]) -> None:
    numbers = Extranonces(100, 131, rest_s=900)
    live: list[bytes] = []
    released: dict[bytes, float] = {}
    now_s = 0.0
    for step in steps:
        if isinstance(step, float):
            now_s += step
        elif step == "take":
            try:
                value = numbers.take(now_s)
            except ExtranonceExhausted:
                busy = set(live) | {value for value, at in released.items() if now_s - at < 900}
                assert len(busy) == 32, "refused although a value was free"
                continue
            assert value not in live
            assert 100 <= int.from_bytes(value, "big") <= 131
            assert now_s - released.get(value, -1e9) >= 900
            live.append(value)
        elif live:
            value = live.pop(int(step) % len(live))
            numbers.release(value, now_s)
            released[value] = now_s
    assert len(numbers) == len(live)


def test_a_released_value_rests_as_long_as_jobs_live() -> None:
    numbers = Extranonces(0, 1, rest_s=900)
    for _ in range(2):
        numbers.release(numbers.take(0.0), 10.0)
    with pytest.raises(ExtranonceExhausted):
        numbers.take(909.0)
    assert numbers.take(910.0)


def test_a_returning_device_gets_its_value_back_unless_somebody_lives_on_it() -> None:
    numbers = Extranonces(0, 0xFFFFFFFF)
    mine = numbers.take(0.0)
    assert not numbers.claim(mine)
    numbers.release(mine, 1.0)
    assert numbers.claim(mine)
    assert not numbers.claim(mine)


def test_a_value_of_another_range_is_not_claimed() -> None:
    assert not Extranonces(10, 20).claim(b"\0\0\0\x15")
    assert not Extranonces(10, 20).claim(b"\0\x0b")
    assert Extranonces(10, 20).claim(b"\0\0\0\x14")


def test_memory_of_resting_values_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extranonce, "RESTING_AT_MOST", 10)
    numbers = Extranonces(0, 999)
    seen = []
    for _ in range(500):
        value = numbers.take(0.0)
        seen.append(value)
        numbers.release(value, 0.0)
    assert len(set(seen)) == 500, "the circle keeps values apart although only ten are remembered"


def test_a_wrong_range_is_named() -> None:
    with pytest.raises(ValueError, match="0x5"):
        Extranonces(5, 4)
    with pytest.raises(ValueError, match="4 bytes"):
        Extranonces(0, 1 << 32)
