"""Difficulty per device: each case of the pools' comparison replayed as an expectation, and what must hold for any
device.
"""

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.stratum import vardiff
from pool.stratum.devices import device_of
from pool.stratum.vardiff import HASHES_PER_DIFFICULTY, Bounds, Known, Pace, Rules, Why

RULES = Rules()
MAINNET = 1.5e14
TICK_S = 0.25
REFRESH_S = 30.0
WIRE_SHARES_PER_TICK = 5_000  # more than this no device gets through a home line in a quarter of a second
SEEDS = range(11)


@dataclass
class Simulation:
    """One device and the loop of the server around `vardiff`: quarter-second visits, refresh every 30 s, brake and
    silence at once.
    """

    hashrate_hs: Callable[[float], float]
    pace: Pace
    bounds: Bounds
    seed: int = 0
    ticket: float = 0.0
    now_s: float = 0.0
    credited: float = 0.0
    shares: int = 0
    sent: list[tuple[float, float, Why]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.wanted: tuple[float, Why] | None = None
        self.next_refresh_s = REFRESH_S

    def run(self, seconds: float) -> Simulation:
        end = self.now_s + seconds
        while self.now_s < end - 1e-9:
            self.now_s += TICK_S
            harder = max(self.pace.difficulty, self.ticket)
            due = self.hashrate_hs(self.now_s) * TICK_S / (harder * HASHES_PER_DIFFICULTY)
            found = min(self._poisson(due), WIRE_SHARES_PER_TICK)
            self.shares += found
            self.credited += found * self.pace.difficulty
            self._visit()
        return self

    def _poisson(self, mean: float) -> int:
        if mean > 50:
            return max(0, round(self.random.gauss(mean, math.sqrt(mean))))
        limit, product, count = math.exp(-mean), self.random.random(), 0
        while product > limit:
            product *= self.random.random()
            count += 1
        return count

    def _visit(self) -> None:
        step = vardiff.tick(self.pace, self.now_s, self.credited, RULES, self.bounds)
        self.wanted = step or self.wanted
        at_once = step is not None and step[1] in vardiff.AT_ONCE
        if at_once or self.now_s >= self.next_refresh_s:
            self.next_refresh_s = self.now_s + REFRESH_S
            if self.wanted is not None:
                self.sent.append((self.now_s, *self.wanted))
                vardiff.applied(self.pace, self.now_s, *self.wanted)
                self.wanted = None

    @property
    def difficulty(self) -> float:
        return self.pace.difficulty


def simulate(
    hashrate: float | Callable[[float], float],
    difficulty: float,
    known: Known = Known.SUGGESTION,
    *,
    seed: int = 0,
    floors: tuple[float, ...] = (),
    peak: float = 0.0,
    fixed: bool = False,
    ticket: float = 0.0,
) -> Simulation:
    rate = hashrate if callable(hashrate) else lambda _: hashrate
    pace = vardiff.start(difficulty, 0.0, known, fixed=fixed, peak=peak)
    return Simulation(rate, pace, Bounds.of(RULES, MAINNET, *floors), seed, ticket)


def right_for(hashrate_hs: float) -> float:
    return vardiff.difficulty_for(hashrate_hs, RULES)


def settled(simulation: Simulation, hashrate_hs: float, factor: float = 2.0) -> bool:
    return 1 / factor < simulation.difficulty / right_for(hashrate_hs) < factor


# --- the comparison of pools, case by case


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bitaxe_started_seven_times_too_hard_is_right_within_four_minutes(seed: int) -> None:
    sim = simulate(1.2e12, 10_000, seed=seed).run(240)
    assert sim.sent, "no change within four minutes"
    assert settled(sim, 1.2e12, 3.0), f"seed {seed}: {sim.difficulty} against {right_for(1.2e12)}"
    assert settled(sim.run(600), 1.2e12), f"seed {seed}: {sim.sent}"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_nerdminer_that_says_nothing_gets_its_difficulty_within_five_minutes(seed: int) -> None:
    sim = simulate(78e3, 512, Known.NOTHING, seed=seed).run(300)
    assert sim.difficulty <= 0.0005
    sim.run(900)
    assert settled(sim, 78e3), f"seed {seed}: {sim.difficulty} against {right_for(78e3)}"


def test_a_nerdminer_that_suggested_sixteen_thousand_comes_down_a_factor_two_a_minute() -> None:
    sim = simulate(78e3, 16_384).run(40 * 60)
    assert settled(sim, 78e3, 4.0)
    times = [when for when, _, why in sim.sent if why is Why.SILENCE]
    steps = [before / after for (_, before, _), (_, after, _) in zip(sim.sent, sim.sent[1:], strict=False)][
        : len(times) - 1
    ]
    assert min(b - a for a, b in itertools.pairwise(times)) >= 60.0
    assert max(steps) < 2.01


@pytest.mark.parametrize("seed", SEEDS)
def test_a_farm_of_100_th_on_difficulty_42_is_braked_within_two_seconds(seed: int) -> None:
    sim = simulate(100e12, 42, seed=seed).run(2)
    assert sim.sent[0][2] is Why.BRAKE
    assert sim.shares < 700, f"seed {seed}"
    assert settled(sim.run(120), 100e12)


@pytest.mark.parametrize("seed", SEEDS)
def test_pp120_an_asic_that_tunes_ten_minutes_before_its_first_share_does_not_flood(seed: int) -> None:
    """An M30S++ at 28 TH/s was lowered to 0.001 while it tuned, then sent millions of shares a second."""
    whatsminer = device_of("whatsminer/v1.1")
    assert whatsminer is not None
    start = vardiff.difficulty_for(whatsminer.hashrate_hs, RULES)
    sim = simulate(lambda t: 0.0 if t < 600 else 28e12, start, Known.AGENT, seed=seed, peak=start * RULES.goal).run(600)
    assert sim.difficulty >= start / 256 * 0.99
    sim.run(60)
    assert sim.shares < 400, f"seed {seed}: {sim.shares} shares in the first minute"
    assert settled(sim, 28e12, 4.0), f"seed {seed}"
    assert settled(sim.run(300), 28e12), f"seed {seed}"


@pytest.mark.parametrize("seed", SEEDS)
def test_pp120_with_an_unknown_user_agent_the_flood_lasts_seconds(seed: int) -> None:
    sim = simulate(lambda t: 0.0 if t <= 600 else 28e12, 1024, Known.NOTHING, seed=seed).run(600)
    assert sim.difficulty <= 0.0005
    sim.run(15)
    assert sim.shares < 10 * WIRE_SHARES_PER_TICK, f"seed {seed}: {sim.shares}"
    assert settled(sim.run(120), 28e12), f"seed {seed}"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_miner_that_halves_its_speed_is_followed_within_twelve_minutes(seed: int) -> None:
    sim = simulate(lambda t: 1e12 if t < 3600 else 0.45e12, right_for(1e12), seed=seed).run(3600)
    assert settled(sim, 1e12), f"seed {seed}"
    sim.run(720)
    assert settled(sim, 0.45e12, 1.7), f"seed {seed}: {sim.difficulty} against {right_for(0.45e12)}"


def test_a_miner_that_stops_falls_a_factor_two_a_minute_and_no_further_than_a_256th_of_its_best() -> None:
    sim = simulate(lambda t: 1e12 if t < 1800 else 0.0, right_for(1e12)).run(1800)
    before = sim.difficulty
    sim.run(5 * 60)
    assert before / 64 < sim.difficulty < before / 8
    sim.run(2 * 3600)
    assert sim.difficulty >= sim.pace.peak / RULES.goal / 256.0 - 1
    assert sim.pace.peak == pytest.approx(right_for(1e12) * RULES.goal, rel=0.6)


def test_the_hashrate_shown_over_five_minutes_is_off_by_about_thirteen_percent() -> None:
    errors = []
    for seed in range(60):
        sim = simulate(1e12, right_for(1e12), seed=seed).run(300)
        errors.append(sim.credited * HASHES_PER_DIFFICULTY / 300 / 1e12 - 1)
    assert 0.09 < statistics.pstdev(errors) < 0.18


# --- what must hold


def test_a_steady_miner_is_rarely_disturbed() -> None:
    changes = sum(len(simulate(1e12, right_for(1e12), seed=seed).run(3600).sent) for seed in SEEDS)
    assert changes <= 1 * len(SEEDS), f"{changes} changes in {len(SEEDS)} hours of steady mining"


@pytest.mark.parametrize("hashrate", [260e3, 434e9, 1.07e12, 4.9e12, 11.4e12, 100e12, 1e15])
def test_every_device_comes_to_about_twelve_shares_a_minute(hashrate: float) -> None:
    sim = simulate(hashrate, 512, Known.NOTHING, seed=3).run(1800)
    before = sim.shares
    sim.run(3600)
    assert 7.5 < (sim.shares - before) / 60 < 20


@pytest.mark.parametrize(
    "agent", ["NerdAxe/BM1370/v1", "NerdQAxe+/BM1368/v1", "NerdQAxe++/BM1370/v1.0.38", "NerdOCTAXE-γ/BM1370/v1"]
)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_nerdqaxe_gets_a_share_each_hour_whatever_it_suggested(agent: str, seed: int) -> None:
    """Its watchdog reboots it when no answer to a submit came for an hour."""
    device = device_of(agent)
    assert device is not None
    sim = simulate(device.hashrate_hs, 65_535, seed=seed, ticket=device.ticket, floors=(device.ticket,))
    for hour in range(3):
        before = sim.shares
        sim.run(3600)
        assert sim.shares > before, f"seed {seed}, hour {hour}"


def test_a_bitaxe_never_goes_below_its_chips_ticket() -> None:
    """At half its clock a BM1397 sends 7 shares a minute at 256 and not one more below it: going down only loses
    credit.
    """
    sim = simulate(130e9, 512, Known.AGENT, ticket=256, floors=(256.0,), peak=300 * RULES.goal).run(7200)
    assert sim.difficulty == 256


def test_a_burst_after_a_stalled_line_is_not_taken_for_speed() -> None:
    pace = vardiff.start(1000, 0.0, Known.HISTORY)
    bounds = Bounds.of(RULES, MAINNET)
    credited = 0.0
    for second in range(5, 600, 5):  # one share each five seconds
        credited += 1000
        assert vardiff.tick(pace, float(second), credited, RULES, bounds) is None
    credited += 11 * 1000  # the line stood still for 55 s, then all came at once
    assert vardiff.tick(pace, 650.0, credited, RULES, bounds) is None


def test_the_first_share_after_an_absence_says_that_it_is_back_not_how_fast_it_is() -> None:
    """An ASIC that restarts sends its first share late; taking that for its speed would lower it far too much."""
    pace = vardiff.start(1024, 0.0, Known.HISTORY)
    bounds = Bounds.of(RULES, MAINNET)
    step = vardiff.tick(pace, 60.0, 0.0, RULES, bounds)
    assert step == (512.0, Why.SILENCE)
    vardiff.applied(pace, 60.0, *step)
    assert vardiff.tick(pace, 118.0, 0.0, RULES, bounds) is None
    assert vardiff.tick(pace, 118.25, 512.0, RULES, bounds) is None, "one share in 58 s, the first"
    credited = 512.0
    for quarter in range(1, 40):
        credited += 512.0 if quarter % 20 == 0 else 0.0
        assert vardiff.tick(pace, 118.25 + quarter / 4, credited, RULES, bounds) is None, "then at its usual pace"


def test_a_fixed_difficulty_moves_only_for_the_brake_and_comes_back() -> None:
    sim = simulate(lambda t: 1e12 if t < 60 else 1e9, 1.0, Known.SUGGESTION, fixed=True, floors=(1.0,)).run(60)
    assert sim.sent
    assert all(why is Why.BRAKE for _, _, why in sim.sent)
    assert sim.difficulty > 100
    sim.run(3600)
    assert 1.0 <= sim.difficulty <= 10
    slow = simulate(1e6, 5000.0, fixed=True, floors=(5000.0,)).run(3600)
    assert slow.sent == [], "a fixed difficulty must not fall in silence"


def test_shares_of_an_older_difficulty_weigh_what_they_prove() -> None:
    """After a brake the old jobs' shares still arrive: they must not trigger it again."""
    pace = vardiff.start(1.0, 0.0, Known.NOTHING)
    bounds = Bounds.of(RULES, MAINNET)
    step = vardiff.tick(pace, 1.0, 500.0, RULES, bounds)
    assert step is not None
    assert step[1] is Why.BRAKE
    vardiff.applied(pace, 1.0, *step)
    assert 2300 < pace.difficulty < 2500
    assert vardiff.tick(pace, 1.5, 500.0 + 250 * 1.0, RULES, bounds) is None


def test_whole_numbers_from_one_up() -> None:
    bounds = Bounds.of(RULES, MAINNET)
    assert bounds.clamp(1234.56) == 1234.0
    assert bounds.clamp(1.99) == 1.0
    assert bounds.clamp(0.000150049) == 0.00015
    assert bounds.clamp(3000.7) == 3000.0, "no rounding to powers of two"


def test_bounds_keep_the_networks_difficulty_above_every_floor() -> None:
    assert Bounds.of(RULES, 0.01, 256.0) == Bounds(0.01, 0.01)
    assert Bounds.of(RULES, 4.6e-10, 256.0) == Bounds(vardiff.LOWEST, vardiff.LOWEST)
    assert Bounds.of(RULES, MAINNET, cap=5000.0) == Bounds(vardiff.LOWEST, 5000.0)


visits = st.lists(
    st.tuples(st.floats(0.05, 400), st.floats(0, 1e9, allow_subnormal=False), st.booleans()), min_size=1, max_size=60
)


@settings(max_examples=300, deadline=None)
@given(
    visits=visits,
    begin=st.floats(vardiff.LOWEST, 1e15),
    floor=st.floats(0, 1e6),
    network=st.floats(1e-10, 1e15),
    known=st.sampled_from(Known),
    fixed=st.booleans(),
    peak=st.floats(0, 1e9),
)
def test_difficulty_is_always_in_range(
    visits: list[tuple[float, float, bool]],
    begin: float,
    floor: float,
    network: float,
    known: Known,
    fixed: bool,
    peak: float,
) -> None:
    bounds = Bounds.of(RULES, network, floor)
    pace = vardiff.start(bounds.clamp(begin), 0.0, known, fixed=fixed, peak=peak)
    now_s = credited = 0.0
    for seconds, shares, send in visits:
        now_s += seconds
        credited += shares * pace.difficulty
        step = vardiff.tick(pace, now_s, credited, RULES, bounds)
        if step is None or not send:
            continue
        difficulty = step[0]
        assert math.floor(bounds.low) <= difficulty <= bounds.high
        assert difficulty >= vardiff.LOWEST
        assert difficulty < 1 or difficulty == int(difficulty)
        vardiff.applied(pace, now_s, *step)


@pytest.mark.parametrize(
    ("agent", "rate"),
    [
        ("bitaxe/BM1370/v2.15.0", 1.07e12),
        ("bitaxe/BM1366 (v2.1.8)", 434e9),
        ("bitaxe BM1366", 434e9),
        ("bitaxe/BM1372/BM1373/v2.15.0", 2.2e12),
        ("NerdQAxe++/BM1370/v1.0.38", 4.9e12),
        ("NerdOCTAXE-γ/BM1370/v1.0", 11.4e12),
        ("NerdMinerV2/V1.8.3", 150e3),
        ("HAN_SOLOminer/V1.8.3", 150e3),
        ("cpuminer/2.5.1", 6.5e6),
        ("Antminer S21/Mon", 100e12),
        ("xx-bosminer-plus-tuner 1", 50e12),
    ],
)
def test_known_agents_start_near_their_rate(agent: str, rate: float) -> None:
    device = device_of(agent)
    assert device is not None
    assert device.hashrate_hs == pytest.approx(rate)


def test_cgminer_and_silence_tell_nothing() -> None:
    assert device_of("cgminer/4.13.6") is None
    assert device_of("") is None
