"""What the engine refuses: every kind of garbage is named, and nothing of it is kept."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from rig.scaling_engines import fed
from scaling import (
    InvalidQuery,
    InvalidRecord,
    NotEnoughData,
    PredictiveModel,
    PredictiveScalingEngine,
    ScalingInitializer,
)


@pytest.mark.parametrize(
    ("capital", "efficiency", "words"),
    [
        (math.nan, 0.9, "capital must be finite"),
        (math.inf, 0.9, "capital must be finite"),
        (-1.0, 0.9, "capital must be above zero"),
        (0.0, 0.9, "capital must be above zero"),
        (1e300, 0.9, "capital must lie in"),
        ("10000", 0.9, "capital must be a number, not str"),
        (True, 0.9, "capital must be a number, not bool"),
        (None, 0.9, "capital must be a number"),
        (10**400, 0.9, "too large"),
        (1000.0, math.nan, "efficiency must be finite"),
        (1000.0, 1e300, "efficiency must lie in"),
        (1000.0, [0.9], "efficiency must be a number, not list"),
    ],
)
async def test_garbage_records_are_refused_by_name_and_leave_nothing(
    tmp_path: Path, capital: object, efficiency: object, words: str
) -> None:
    async with await ScalingInitializer(str(tmp_path / "s.sqlite")).initialize() as engine:
        with pytest.raises(InvalidRecord, match=words):
            await engine.add_efficiency_record("BTC/USDT", capital, efficiency)  # type: ignore[arg-type]
        assert engine.symbols == []
        assert engine.db is not None
        assert engine.db.symbols() == {}


@pytest.mark.parametrize("symbol", ["", " BTC", "x" * 65, "a\nb", 7, None])
async def test_garbage_symbols_are_refused(symbol: object) -> None:
    engine = PredictiveScalingEngine()
    with pytest.raises(InvalidRecord, match="symbol must be"):
        await engine.add_efficiency_record(symbol, 1.0, 0.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidRecord, match="symbol must be"):
        await engine.predict_efficiency(symbol, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"roi": math.nan}, "roi"),
        ({"roi": "x"}, "roi"),
        ({3: 1.0}, "metric names"),
        ([1], "mapping"),
        ({str(k): 1 for k in range(65)}, "64"),
    ],
)
async def test_garbage_metrics_are_refused(metrics: object, words: str) -> None:
    with pytest.raises(InvalidRecord, match=words):
        await PredictiveScalingEngine().add_efficiency_record("A", 1.0, 0.5, metrics)  # type: ignore[arg-type]


@pytest.mark.parametrize("ts", [-1.0, 1e18, math.nan, "yesterday"])
async def test_garbage_times_are_refused(ts: object) -> None:
    with pytest.raises(InvalidRecord, match="ts must be"):
        await PredictiveScalingEngine().add_efficiency_record("A", 1.0, 0.5, ts=ts)  # type: ignore[arg-type]


async def test_a_batch_with_one_bad_record_leaves_none_of_it(tmp_path: Path) -> None:
    async with await ScalingInitializer(str(tmp_path / "s.sqlite")).initialize() as engine:
        batch = [{"symbol": "A", "capital": 1.0 + k, "efficiency": 0.5, "ts": float(k)} for k in range(10)]
        with pytest.raises(InvalidRecord, match="record 7: efficiency must be finite"):
            await engine.add_efficiency_records(
                [{**r, "efficiency": math.nan} if k == 7 else r for k, r in enumerate(batch)]
            )
        with pytest.raises(InvalidRecord, match="record 0: wanted symbol"):
            await engine.add_efficiency_records([{"symbol": "A", "capital": 1.0}])
        with pytest.raises(InvalidRecord, match="at one time with different figures"):
            await engine.add_efficiency_records([*batch, {**batch[3], "efficiency": 0.6}])
        assert engine.symbols == []
        assert engine.db is not None
        assert engine.db.symbols() == {}
        assert await engine.add_efficiency_records(batch) == 10


@pytest.mark.parametrize("capital", [0.0, -5.0, math.nan, math.inf, 1e300, "a", None])
async def test_garbage_questions_are_refused(capital: object) -> None:
    engine = await fed()
    with pytest.raises(InvalidQuery, match="capital"):
        await engine.predict_efficiency("S0", capital)  # type: ignore[arg-type]
    with pytest.raises(InvalidQuery, match="total_capital"):
        await engine.optimize_allocation(["S0"], capital)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"caps": {"S9": 1.0}}, "'S9', which is not among the symbols"),
        ({"caps": {"S0": -1.0}}, "caps"),
        ({"caps": math.nan}, "caps"),
        ({"min_ticket": -1.0}, "min_ticket"),
        ({"min_efficiency": math.nan}, "min_efficiency"),
        ({"hurdle": -0.1}, "hurdle"),
        ({"trust": 0.5}, "trust"),
        ({"kappa": -1.0}, "kappa"),
        ({"turnover_cost": 0.1}, "previous"),
        ({"groups": {"S0": "x"}}, "has no cap"),
        ({"risk_weights": {"S0": 1.0}}, "go together"),
    ],
)
async def test_garbage_constraints_are_refused(options: dict[str, object], words: str) -> None:
    engine = await fed()
    with pytest.raises(InvalidQuery, match=words):
        await engine.optimize_allocation(["S0", "S1"], 1e5, **options)  # type: ignore[arg-type]


async def test_symbols_given_twice_none_or_as_one_string_are_refused() -> None:
    engine = await fed()
    for symbols, words in ((["S0", "S0"], "twice"), ([], "at least one"), ("S0", "not one string")):
        with pytest.raises(InvalidQuery, match=words):
            await engine.optimize_allocation(symbols, 1e5)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": "cubic"},
        {"model": 5},
        {"trust": 0.0},
        {"hurdle": -1.0},
        {"kappa": math.nan},
        {"max_records": 3},
        {"drift": 1},
        {"speed": 9},
        {"cache_size": 1.5},
    ],
)
def test_garbage_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidQuery):
        PredictiveScalingEngine(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("capital", "efficiency", "words"),
    [
        ([1.0], [0.5], "at least 4 records, not 1"),
        ([], [], "at least 4 records, not 0"),
        ([5.0] * 20, [0.5] * 20, "at 3 different capitals at least, not 1"),
        ([1.0, 2.0] * 9, [0.5, 0.4] * 9, "at 3 different capitals at least, not 2"),
        ([1.0, math.nan, 3.0, 4.0], [0.5] * 4, r"capital\[1\] must be finite"),
        ([1.0, 2.0, 3.0, 4.0], [0.5, 0.5, 1e300, 0.5], r"efficiency\[2\] must lie in"),
        ([1.0, 2.0, 0.0, 4.0], [0.5] * 4, r"capital\[2\] must be above zero"),
        ([1.0, 2.0], [0.5], "equally long"),
        (["x"], [0.5], "must be numbers"),
    ],
)
def test_a_model_says_why_it_cannot_learn(capital: list[float], efficiency: list[float], words: str) -> None:
    with pytest.raises((NotEnoughData, InvalidRecord), match=words):
        PredictiveModel("polynomial").fit(capital, efficiency)
    with pytest.raises(NotEnoughData, match="not been trained"):
        PredictiveModel().predict(1.0)


def test_constant_efficiency_is_a_flat_curve_without_r2_and_without_saturation() -> None:
    model = PredictiveModel("linear").fit(np.linspace(1, 100, 30), np.full(30, 0.8))
    assert math.isnan(model.r2)
    assert model.predict(50.0) == pytest.approx(0.8)
    assert model.saturation_point is None
    assert model.max_error < 1e-9
