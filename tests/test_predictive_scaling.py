"""The system's own acceptance story, as its document tells it: train on every kind of curve, predict, allocate, draw.

Runs under pytest, and alone: python tests/test_predictive_scaling.py
"""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pytest

import scaling
from scaling import PredictiveModel, PredictiveScalingEngine, ScalingInitializer, TranscendentalDatabase
from scaling.families import Family
from scaling.plots import Picture, save_model_plot
from scaling.synthetic import TrueCurve, demo_records, observe

_CURVES = {
    "linear": TrueCurve(Family.LINEAR, (-0.5, 0.95, 0.0), 100_000.0),
    "polynomial": TrueCurve(Family.POLYNOMIAL, (-0.7, 0.3, 0.8), 100_000.0),
    "exponential": TrueCurve(Family.EXPONENTIAL, (0.7, 4.0, 0.2), 100_000.0),
    "sqrt": TrueCurve(Family.SQRT, (1.0, 0.6, 0.0), 100_000.0),
}


def _records(kind: str, count: int = 60, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(sorted(_CURVES).index(kind))
    capital = 100_000.0 * rng.uniform(0.02, 1.0, count)
    return capital, observe(_CURVES[kind], capital, rng, noise, 0.05)


async def _engine() -> PredictiveScalingEngine:
    engine = PredictiveScalingEngine()
    for r in demo_records():
        await engine.add_efficiency_record(
            r.symbol, r.capital, r.efficiency, r.metrics, ts=r.ts_us / 1e6, source=r.source
        )
    return engine


# 1. training on different kinds of curves


@pytest.mark.parametrize("kind", list(_CURVES))
def test_each_model_learns_its_own_kind_of_curve(kind: str) -> None:
    capital, efficiency = _records(kind)
    model = PredictiveModel(kind).fit(capital, efficiency)
    at = np.linspace(5_000, 95_000, 19)
    assert np.abs(model.predict(at) - _CURVES[kind].efficiency(at)).max() < 0.03
    assert 0.5 < model.r2 <= 1
    assert 0 < model.mean_error < 0.06
    assert model.max_error >= model.mean_error


def test_the_default_model_is_the_documents() -> None:
    assert PredictiveModel().model_type == "polynomial"


def test_a_polynomial_finds_the_capital_of_most_efficiency_and_the_saturation_beyond() -> None:
    capital, efficiency = _records("polynomial", 120)
    model = PredictiveModel("polynomial").fit(capital, efficiency)
    a, b = model.params["a"], model.params["b"]
    assert -b / (2 * a) == pytest.approx(100_000 * 0.3 / 1.4, rel=0.25)
    assert model.saturation_point == pytest.approx(77_577, rel=0.05)  # root of -2.1 x^2 + 0.6 x + 0.8


# 2. predictions in several scenarios


async def test_predictions_inside_at_the_edge_and_beyond() -> None:
    engine = await _engine()
    inside = await engine.predict_efficiency("BTC/USDT", 50_000.0)
    assert inside.status == "full"
    assert not inside.extrapolated
    assert inside.lower < inside.efficiency < inside.upper
    assert inside.confidence > 0.8
    beyond = await engine.predict_efficiency("BTC/USDT", 800_000.0)
    assert beyond.extrapolated
    assert beyond.efficiency < inside.efficiency
    assert beyond.confidence < 0.1
    nothing = await engine.predict_efficiency("DOGE/USDT", 1_000.0)
    assert math.isnan(nothing.efficiency)
    assert nothing.confidence == 0.0


# 3. optimisation under different constraints


async def test_allocation_under_budget_caps_tickets_and_thresholds() -> None:
    engine = await _engine()
    symbols = ["BTC/USDT", "ETH/USDT", "SOL/USDT"]
    small = await engine.optimize_allocation(symbols, 30_000.0)
    assert sum(small.values()) == pytest.approx(30_000.0)
    assert small.shadow_price > 0
    large = await engine.optimize_allocation(symbols, 5_000_000.0)
    assert large.unallocated > 0
    capped = await engine.optimize_allocation(symbols, 200_000.0, caps={"BTC/USDT": 10_000.0}, min_ticket=5_000.0)
    assert capped["BTC/USDT"] <= 10_000.0 * (1 + 1e-9)
    assert all(c == 0 or c >= 5_000.0 for c in capped.values())
    strict = await engine.optimize_allocation(symbols, 500_000.0, min_efficiency=0.8)
    assert all(strict.efficiency[s] >= 0.8 for s, c in strict.items() if c > 0)
    assert sum(strict.values()) < sum(large.values())
    for plan in (small, large, capped, strict):
        assert plan.gap <= 1e-6
        assert set(plan.explain("es")) == set(symbols)


# 4. visualisations


@pytest.mark.parametrize("suffix", ["png", "svg"])
async def test_pictures_show_history_curve_confidence_and_saturation(tmp_path: Path, suffix: str) -> None:
    engine = await _engine()
    capital, efficiency = engine.records("SOL/USDT")
    points = await engine.saturation("SOL/USDT")
    picture = Picture("SOL/USDT", await engine.curve("SOL/USDT"), capital, efficiency, points, 0.90)
    path = save_model_plot(picture, tmp_path / f"sol.{suffix}")
    assert path.stat().st_size > 10_000
    assert points.saturation_point.capital is not None


# the document's own code and names


async def test_the_documents_code_runs_as_written() -> None:
    """On the demo history and on an engine that has seen nothing else."""
    for engine in (await _engine(), PredictiveScalingEngine()):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            await engine.add_efficiency_record(
                symbol="BTC/USDT",
                capital=10000.0,
                efficiency=0.92,
                metrics={"roi": 0.15, "sharpe": 1.8}
            )  # fmt: skip

            prediction = await engine.predict_efficiency("BTC/USDT", 50000.0)
            print(f"Eficiencia esperada: {prediction.efficiency}")
            print(f"Confianza: {prediction.confidence}")

            symbols = ["BTC/USDT", "ETH/USDT", "SOL/USDT"]
            total_capital = 500000.0
            allocation = await engine.optimize_allocation(symbols, total_capital)
        assert "Eficiencia esperada: " in said.getvalue()
        assert "Confianza: " in said.getvalue()
        assert set(allocation) == set(symbols)
        assert all(isinstance(amount, float) for amount in allocation.values())
        assert sum(allocation.values()) <= total_capital * (1 + 1e-12)


async def test_every_name_of_the_document_exists_and_works(tmp_path: Path) -> None:
    for name in (
        "PredictiveScalingEngine", "PredictiveModel", "ScalingInitializer", "TranscendentalDatabase", "BalanceManager",
        "RiskManager", "StrategyOrchestrator", "AnalyticsManager",
    ):  # fmt: skip
        assert name in scaling.__all__
        assert inspect.isclass(getattr(scaling, name))
    for call in ("add_efficiency_record", "predict_efficiency", "optimize_allocation"):
        assert inspect.iscoroutinefunction(getattr(PredictiveScalingEngine, call))
    engine = await ScalingInitializer(str(tmp_path / "genesis.sqlite")).initialize()
    assert isinstance(engine.db, TranscendentalDatabase)
    async with engine:
        for r in demo_records()[:72]:
            await engine.add_efficiency_record(r.symbol, r.capital, r.efficiency, r.metrics, ts=r.ts_us / 1e6)
        metrics = await engine.model_metrics("BTC/USDT")
        assert min(metrics.r2, metrics.mean_error, metrics.max_error) > 0
        await engine.optimize_allocation(["BTC/USDT"], 50_000.0)
        assert engine.db.load_models("BTC/USDT")
        assert engine.db.load_saturation_points("BTC/USDT")
        assert engine.db.load_allocations()
        assert len(engine.db.load_records()) == 72
        assert engine.db.load_config() == {}


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__, "-q", *sys.argv[1:]]))
