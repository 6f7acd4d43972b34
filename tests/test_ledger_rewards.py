"""How an income is split: the worked example to the digit, and what must hold of every split (P1-P8, P10, P18)."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from native.difficulty import target_of_difficulty, work_of_target
from pool.ledger.rewards import (
    SCALE,
    Policy,
    Window,
    WorkSum,
    largest_remainder,
    score_of,
    split,
    window_of,
)

A, B, C, D = 1, 2, 3, 4
D1, D2 = 145_000_000_000_000, 150_000_000_000_000
#: Oldest first: who, difficulty of his shares together, difficulty of the network.
EXAMPLE = (
    (A, 400_000_000_000, D1),
    (B, 200_000_000_000, D1),
    (A, 300_000_000_000, D2),
    (C, 100_000_000_000, D2),
    (B, 250_000_000_000, D2),
    (D, 1_000_000, D2),
)
INCOME_MSAT = 314_845_678_000
TAKES = Policy(window=SCALE, kappa=0, fee_bp=100, reserve_bp=500)
CASES = (
    (6 * SCALE // 1000, 0, (112825403971, 150245322586, 32883881924, 328839), 0),
    (20 * SCALE // 1000, 0, (166248639927, 106415192224, 23290872260, 232909), 0),
    (20 * SCALE // 1000, 10 * SCALE // 1000, (140833728794, 90147193551, 19730329155, 197303), 45243488517),
)


def example_slices() -> list[list[WorkSum]]:
    return [[WorkSum(who, work, network)] for who, work, network in reversed(EXAMPLE)]


def test_the_scores_of_the_worked_example() -> None:
    scores = [score_of(work, network) for _, work, network in EXAMPLE]
    assert scores[:3] == [2758620689655172, 1379310344827586, 2000000000000000]
    assert scores[3:] == [666666666666666, 1666666666666666, 6666666666]


@pytest.mark.parametrize(("window", "kappa", "members", "kept"), CASES)
def test_the_worked_example_to_the_millisatoshi(
    window: int, kappa: int, members: tuple[int, ...], kept: int
) -> None:
    policy = replace(TAKES, window=window, kappa=kappa)
    held = window_of(example_slices(), window)
    made = split(INCOME_MSAT, held, policy)
    assert (made.fee_msat, made.reserve_msat - made.kappa_msat) == (3148456780, 15742283900)
    assert tuple(made.members_msat[who] for who in (A, B, C, D)) == members
    assert made.kappa_msat == kept
    assert sum(members) + kept == 295954937320
    assert made.total_msat() == INCOME_MSAT


def test_the_first_window_of_the_example_cuts_the_oldest_slice_exactly() -> None:
    held = window_of(example_slices(), 6 * SCALE // 1000)
    # The study floors each share's score; a sum of work is floored once here: attoblocks apart, not millisatoshi.
    assert 0 <= 6 * SCALE // 1000 - held.total <= 4
    assert abs(held.by_account()[A] - (287349655172416 + 2000000000000000)) <= 4


@pytest.mark.parametrize(("window", "kappa", "members", "kept"), CASES)
def test_the_worked_example_in_the_work_of_real_targets(
    window: int, kappa: int, members: tuple[int, ...], kept: int
) -> None:
    """As the log holds it: 2^256 // (target + 1). Targets are whole numbers, so parts move by 1 in 10^12 at most."""
    work = {d: work_of_target(target_of_difficulty(float(d))) for _, *both in EXAMPLE for d in both}
    slices = [[WorkSum(who, work[d], work[network])] for who, d, network in reversed(EXAMPLE)]
    made = split(INCOME_MSAT, window_of(slices, window), replace(TAKES, window=window, kappa=kappa))
    assert made.total_msat() == INCOME_MSAT
    for who, expected in zip((A, B, C, D), members, strict=True):
        assert abs(made.members_msat[who] - expected) <= 1 + expected // 10**9
    assert abs(made.kappa_msat - kept) <= 1 + kept // 10**9


# --- properties

weights = st.integers(0, 10**19)
accounts = st.dictionaries(st.integers(1, 40), weights, min_size=1, max_size=40).filter(lambda d: sum(d.values()) > 0)
amounts = st.integers(0, 2_100_000_000_000_000_000)


def window(scores: dict[int, int]) -> Window:
    return Window({(who, 0): score for who, score in scores.items() if score}, sum(scores.values()), 1)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    parts = [draw(st.integers(0, 2000)) for _ in range(5)]
    size = draw(st.integers(1, 9 * SCALE))
    return Policy(size, draw(st.integers(0, size)), *parts)


@given(amount=amounts, scores=accounts, policy=policies(), finder=st.none() | st.integers(1, 40), data=st.data())
def test_p1_every_split_sums_to_the_income_and_nothing_is_below_zero(
    amount: int, scores: dict[int, int], policy: Policy, finder: int | None, data: st.DataObject
) -> None:
    gives = data.draw(st.dictionaries(st.integers(1, 40), st.integers(0, 10_000)))
    made = split(amount, window(scores), policy, finder=finder, donation_bp=gives)
    assert made.total_msat() == amount
    parts = [*made.members_msat.values(), *made.donations_msat.values(), made.reserve_msat, made.raffle_msat]
    assert all(part >= 0 for part in [*parts, made.fee_msat, made.projects_msat])


@given(amount=amounts, scores=accounts, seed=st.integers())
def test_p2_the_order_of_accounts_changes_nothing(amount: int, scores: dict[int, int], seed: int) -> None:
    shuffled = list(scores.items())
    random.Random(seed).shuffle(shuffled)
    assert split(amount, window(dict(shuffled)), TAKES) == split(amount, window(scores), TAKES)


works = st.integers(1, 10**26)
networks = st.sampled_from((10**23, 6 * 10**23 + 7, 10**26))
entries = st.lists(st.builds(WorkSum, st.integers(1, 5), works, networks), min_size=1, max_size=6)


@given(slices=st.lists(entries, max_size=8), size=st.integers(1, 9 * SCALE), data=st.data())
def test_p2_cutting_a_slice_in_two_that_lies_inside_changes_nothing(
    slices: list[list[WorkSum]], size: int, data: st.DataObject
) -> None:
    held = window_of(slices, size)
    inside = held.slices - 1  # the oldest one may be cut by the edge
    pieces: list[list[WorkSum]] = []
    for at, one in enumerate(slices):
        if at >= inside:
            pieces.append(one)
            continue
        cut = [data.draw(st.integers(0, entry.work)) for entry in one]
        pieces.append([replace(entry, work=part) for entry, part in zip(one, cut, strict=True)])
        pieces.append([replace(entry, work=entry.work - part) for entry, part in zip(one, cut, strict=True)])
    assert window_of(pieces, size).scores == held.scores


@given(amount=amounts, scores=accounts, more=st.integers(1, 10**18), data=st.data())
def test_p3_more_own_score_never_pays_less(
    amount: int, scores: dict[int, int], more: int, data: st.DataObject
) -> None:
    who = data.draw(st.sampled_from(sorted(scores)))
    before = split(amount, window(scores), TAKES).members_msat.get(who, 0)
    grown = scores | {who: scores[who] + more}
    assert split(amount, window(grown), TAKES).members_msat.get(who, 0) >= before


@given(amount=amounts, scores=accounts, kappa=st.integers(0, SCALE))
def test_p4_nobody_is_more_than_a_millisatoshi_from_his_exact_part(
    amount: int, scores: dict[int, int], kappa: int
) -> None:
    held, policy = window(scores), Policy(SCALE, kappa)
    whole = max(held.total, kappa)
    made = split(amount, held, policy)
    for who, score in scores.items():
        assert abs(made.members_msat.get(who, 0) * whole - amount * score) < whole


@given(slices=st.lists(entries, max_size=8), size=st.integers(1, 9 * SCALE))
def test_p5_a_window_holds_what_it_may_and_its_edge_in_proportion(slices: list[list[WorkSum]], size: int) -> None:
    held = window_of(slices, size)
    assert held.total <= size
    assert window_of(slices[: held.slices], size) == held
    if held.slices < len(slices):
        assert size - held.total <= sum(len(one) for one in slices)  # full, but for what was floored
    whole = window_of(slices[: max(held.slices - 1, 0)], 10**40).by_account()
    for who, score in held.by_account().items():
        edge = slices[held.slices - 1]
        own = sum(score_of(entry.work, entry.network_work) for entry in edge if entry.account == who)
        everyone = sum(score_of(entry.work, entry.network_work) for entry in edge)
        part = score - whole.get(who, 0)
        room = held.total - sum(whole.values())
        if everyone:
            assert abs(part * everyone - own * room) <= (2 + len(edge)) * everyone


@given(slices=st.lists(entries, min_size=1, max_size=6), factor=st.integers(2, 10**6), size=st.integers(10**12, SCALE))
def test_p6_easier_shares_on_an_easier_network_pay_the_same(
    slices: list[list[WorkSum]], factor: int, size: int
) -> None:
    scaled = [[replace(e, work=e.work * factor, network_work=e.network_work * factor) for e in one] for one in slices]
    assert window_of(scaled, size) == window_of(slices, size)


@given(amount=amounts, scores=accounts)
def test_p7_twice_the_work_of_all_changes_nothing_above_kappa(amount: int, scores: dict[int, int]) -> None:
    policy = Policy(9 * SCALE, min(sum(scores.values()), 9 * SCALE))
    twice = {who: 2 * score for who, score in scores.items()}
    assert split(amount, window(twice), policy) == split(amount, window(scores), policy)


@given(amount=amounts, scores=accounts, low=st.integers(0, SCALE), high=st.integers(0, SCALE))
def test_p8_a_larger_kappa_pays_no_member_more(amount: int, scores: dict[int, int], low: int, high: int) -> None:
    low, high = sorted((low, high))
    less = split(amount, window(scores), Policy(SCALE, high)).members_msat
    more = split(amount, window(scores), Policy(SCALE, low)).members_msat
    assert all(less.get(who, 0) <= more.get(who, 0) + 1 for who in scores)


@pytest.mark.parametrize("after", [1050, 1500, 700])
def test_p10_every_share_is_worth_its_chance_also_over_a_change_of_difficulty(after: int) -> None:
    """Expectation without randomness: each share is a block with its probability, and is paid by every block in whose
    window it lies. The windows are ours; nothing in them may depend on when the difficulty changed."""
    count, change, before = 900, 450, 100
    networks = [before if i < change else before * after // 1000 for i in range(count)]
    entries = [[WorkSum(i, 1, network)] for i, network in enumerate(networks)]
    expected = np.zeros(count)
    for block in range(count):
        held = window_of(entries[block::-1], SCALE)
        for (who, _), score in held.scores.items():
            expected[who] += score / SCALE / networks[block]
    worth = expected * np.array(networks)
    settled = worth[160 : count - 220]
    assert abs(settled - 1).max() < 0.02  # a share is a hundredth of a window here: edges in steps of shares


@pytest.mark.soak
@pytest.mark.parametrize("after", [1050, 1500])
def test_p10_to_two_and_a_half_in_ten_thousand(after: int) -> None:
    """The same with a window of a thousand shares and more. The window is walked by hand here (exact, in score), and
    compared with ours at some blocks."""
    count, change = 6000, 3000
    networks = np.where(np.arange(count) < change, 1000, after).astype(object)
    scores = [score_of(1, int(network)) for network in networks]
    ends = np.cumsum(np.array(scores, dtype=object))
    begins = ends - np.array(scores, dtype=object)
    expected = np.zeros(count)
    for block in range(count):
        low = ends[block] - SCALE
        inside = np.maximum(ends[: block + 1] - np.maximum(begins[: block + 1], low), 0)
        if block % 500 == 499:
            held = window_of([[WorkSum(i, 1, int(networks[i]))] for i in range(block, -1, -1)], SCALE).by_account()
            assert all(abs(held.get(i, 0) - int(inside[i])) <= 1 for i in range(block + 1))
        expected[: block + 1] += inside.astype(float) / SCALE / float(networks[block])
    worth = (expected * networks.astype(float))[1600:4400]
    assert abs(worth - 1).max() < 2.5e-4


@pytest.mark.soak
def test_p18_blocks_of_a_petahash_come_as_the_study_says(rng: random.Random) -> None:
    """At 1 PH/s on 1.45e14: 19.7 years on average, median 13.7, 95 % 59 years, 22.4 % within five. 20,000 waits."""
    a_year = 1e15 * 31_557_600 / (1.45e14 * 2**32)
    waits = sorted(rng.expovariate(a_year) for _ in range(20_000))
    assert 1 / a_year == pytest.approx(19.73, abs=0.02)
    assert sum(waits) / len(waits) == pytest.approx(19.7, rel=0.03)
    assert waits[10_000] == pytest.approx(13.7, rel=0.04)
    assert waits[19_000] == pytest.approx(59, rel=0.04)
    assert sum(wait < 5 for wait in waits) / len(waits) == pytest.approx(0.224, abs=0.012)
    assert 1 - math.exp(-a_year) == pytest.approx(0.049, abs=0.001)


# --- single rules


@given(total=amounts, parts=st.lists(weights, min_size=1).filter(lambda p: sum(p) > 0))
@settings(max_examples=200)
@example(total=1, parts=[1, 1])
def test_a_remainder_goes_to_the_largest_fractions_and_then_to_whoever_stands_first(
    total: int, parts: list[int]
) -> None:
    made = largest_remainder(total, list(enumerate(parts)))
    whole = sum(parts)
    got = [made[i] - total * part // whole for i, part in enumerate(parts)]
    assert set(got) <= {0, 1}
    rests = [(-(total * part % whole), i) for i, part in enumerate(parts)]
    with_one = [rest for rest, one in zip(rests, got, strict=True) if one]
    without = [rest for rest, one in zip(rests, got, strict=True) if not one]
    assert not with_one or not without or max(with_one) < min(without)


def test_work_of_a_dearer_day_counts_by_its_subsidy() -> None:
    slices = [[WorkSum(A, 10, 1000, 156_250_000)], [WorkSum(B, 10, 1000, 312_500_000)]]
    held = window_of(slices, SCALE)
    made = split(3_000_000, held, Policy(SCALE, 0, weight_subsidy=True), subsidy_sat=156_250_000)
    assert made.members_msat == {A: 1_000_000, B: 2_000_000}
    assert split(3_000_000, held, Policy(SCALE, 0)).members_msat == {A: 1_500_000, B: 1_500_000}


def test_kappa_is_weighed_by_the_subsidy_of_today_where_work_is() -> None:
    held = window_of([[WorkSum(A, 10, 1000, 100)]], SCALE)  # a hundredth of a block
    made = split(1000, held, Policy(SCALE, SCALE // 50, weight_subsidy=True), subsidy_sat=100)
    assert (made.members_msat, made.kappa_msat) == ({A: 500}, 500)


def test_the_finder_gets_his_bonus_beside_his_part_and_without_one_it_is_the_pots() -> None:
    held, policy = window({A: 10**17, B: 10**17}), Policy(SCALE, 0, finder_bp=1000)
    assert split(1000, held, policy, finder=A).members_msat == {A: 550, B: 450}
    assert split(1000, held, policy, finder=C).members_msat == {A: 450, B: 450, C: 100}
    assert split(1000, held, policy).members_msat == {A: 500, B: 500}


def test_an_empty_window_leaves_the_pot_to_the_reserve() -> None:
    made = split(1000, Window({}, 0, 0), Policy(SCALE, 0, fee_bp=1000))
    assert (made.fee_msat, made.reserve_msat, made.members_msat) == (100, 900, {})


def test_nerdminer_and_s21_are_paid_to_their_last_millisatoshi() -> None:
    """A device at the smallest difficulty beside a day of 200 TH/s. One of its shares is a hundredth of an attoblock:
    it is the sum that is scored, so none is lost."""
    network, small, large = 6 * 10**23, 4096, 200 * 10**12 * 86_400
    assert score_of(small, network) == 0
    slices = [[WorkSum(A, small, network), WorkSum(B, large, network)], *[[WorkSum(A, small, network)]] * 9_999]
    held = window_of(slices, SCALE)
    assert held.by_account() == {A: 68, B: 28_800_000_000_000}
    made = split(312_500_000_000, held, Policy(SCALE, 0))
    assert abs(made.members_msat[B] * held.total - 312_500_000_000 * held.by_account()[B]) < held.total
    assert sum(made.members_msat.values()) == 312_500_000_000


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"fee_bp": -1}, "fee_bp must be from 0"),
        ({"fee_bp": 6000, "reserve_bp": 6000}, "more than the whole income"),
        ({"window": 0}, "window must be above 0"),
        ({"kappa": SCALE + 1}, "kappa from 0 to it"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_in_words(wrong: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Policy(**wrong)  # type: ignore[arg-type]


def test_an_income_below_zero_and_a_donation_of_more_than_all_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        split(-1, window({A: 1}), Policy())
    with pytest.raises(ValueError, match="donation of account 1"):
        split(1000, window({A: SCALE}), Policy(), donation_bp={A: 10_001})
