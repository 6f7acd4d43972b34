"""The four neighbours: exported as protocols, each with a default that works alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from scaling import (
    Allocation,
    AnalyticsManager,
    BalanceManager,
    DefaultAnalyticsManager,
    DefaultBalanceManager,
    DefaultRiskManager,
    DefaultStrategyOrchestrator,
    EfficiencyPrediction,
    InvalidQuery,
    PredictiveScalingEngine,
    RiskManager,
    StrategyOrchestrator,
)

_PREDICTION = EfficiencyPrediction(
    "A", 1000.0, 0.8, 0.9, 0.75, 0.85, 0.7, 0.9, "full", "sqrt", {"sqrt": 1.0}, False, 0.5, False, 40
)


def test_every_default_keeps_its_protocol() -> None:
    engine = PredictiveScalingEngine()
    assert isinstance(DefaultBalanceManager(), BalanceManager)
    assert isinstance(DefaultRiskManager(), RiskManager)
    assert isinstance(DefaultStrategyOrchestrator(), StrategyOrchestrator)
    assert isinstance(DefaultAnalyticsManager(engine.add_efficiency_record), AnalyticsManager)


def test_balances_move_from_what_is_held_to_what_is_allocated_withdrawals_first() -> None:
    moves = DefaultBalanceManager(min_move=10.0).moves(
        Allocation({"A": 100.0, "B": 500.0, "C": 0.0, "D": 205.0}), {"A": 300.0, "C": 50.0, "D": 200.0, "OLD": 7.0}
    )
    assert [(m.symbol, m.amount) for m in moves] == [("A", -200.0), ("C", -50.0), ("OLD", -7.0), ("B", 500.0)]
    running = 0.0
    for move in moves:
        running -= move.amount
    assert running == pytest.approx(200 + 50 + 7 - 500)


def test_the_drawdown_brake_shrinks_the_total_to_nothing() -> None:
    manager = DefaultRiskManager(
        max_share=0.5, volatility={"A": 0.4}, max_volatility=0.2, brake_start=0.1, brake_end=0.3
    )
    totals = []
    for drawdown in (0.0, 0.1, 0.2, 0.3, 0.9):
        manager.drawdown = drawdown
        limits = manager.limits(["A", "B"], 1000.0)
        totals.append(limits.max_total)
        assert limits.caps == {"A": 0.5 * limits.max_total, "B": 0.5 * limits.max_total}  # type: ignore[operator]
        assert limits.risk_weights == {"A": 0.4, "B": 0.0}
    assert totals == pytest.approx([1000.0, 1000.0, 500.0, 0.0, 0.0])
    with pytest.raises(InvalidQuery, match="brake_start"):
        DefaultRiskManager(brake_start=0.5, brake_end=0.2)
    with pytest.raises(InvalidQuery, match="max_share"):
        DefaultRiskManager(max_share=math.nan)


async def test_a_full_brake_allocates_nothing_instead_of_failing() -> None:
    manager = DefaultRiskManager()
    manager.drawdown = 1.0
    engine = PredictiveScalingEngine(risk_manager=manager)
    for k in range(12):
        await engine.add_efficiency_record("A", 100.0 + k, 0.9)
    plan = await engine.optimize_allocation(["A"], 1000.0)
    assert plan == {"A": 0.0}


@pytest.mark.parametrize(
    ("change", "mode"),
    [
        ({}, "sliced"),
        ({"marginal": 0.8}, "normal"),
        ({"marginal": -0.1}, "reduce"),
        ({"drifted": True}, "reduce"),
        ({"efficiency": 0.4, "upper": 0.6}, "reduce"),
        ({"efficiency": 0.3, "upper": 0.4}, "pause"),
        ({"efficiency": math.nan}, "pause"),
    ],
)
def test_a_strategy_is_advised_by_what_its_capital_costs(change: dict[str, object], mode: str) -> None:
    advice = DefaultStrategyOrchestrator().advise(replace(_PREDICTION, **change), 0.5)  # type: ignore[arg-type]
    assert advice.mode == mode
    assert advice.slices >= 1
    assert advice.reason


def test_more_impact_means_more_slices_up_to_the_limit() -> None:
    orchestrator = DefaultStrategyOrchestrator(max_slices=8)
    slices = [orchestrator.advise(replace(_PREDICTION, marginal=m), 0.5).slices for m in (0.8, 0.6, 0.4, 0.2, 0.0)]
    assert slices == sorted(slices)
    assert slices[-1] == 8


async def test_finished_episodes_become_records() -> None:
    engine = PredictiveScalingEngine()
    analytics = DefaultAnalyticsManager(engine.add_efficiency_record)
    assert await analytics.observe("A", 1000.0, 45.0, 50.0)
    capital, efficiency = engine.records("A")
    assert (capital.tolist(), efficiency.tolist()) == ([1000.0], [0.9])
    for profit, expected in ((math.nan, 1.0), (1.0, 0.0), (1.0, -2.0)):
        with pytest.raises(InvalidQuery):
            await analytics.observe("A", 1000.0, profit, expected)
