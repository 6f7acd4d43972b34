"""Any history of valid records, however strange: finite answers, no warnings (they are errors here), promises kept."""

from __future__ import annotations

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling import NotEnoughData, PredictiveModel, PredictiveScalingEngine

_CAPITALS = st.one_of(
    st.floats(1e-12, 1e18), st.sampled_from([1.0, 2.0, 3.0, 1e-12, 1e18, 1000.0]), st.floats(1.0, 1e6)
)
_EFFICIENCIES = st.one_of(
    st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, -1e6, 1e6, 0.5, 5e-324]), st.floats(0.0, 1.0)
)
_HISTORY = st.lists(st.tuples(_CAPITALS, _EFFICIENCIES), min_size=1, max_size=40)
_BOOKS = st.lists(_HISTORY, min_size=1, max_size=4)


async def _ask(books: list[list[tuple[float, float]]], capital: float, total: float, floor: float, model: str) -> None:
    engine = PredictiveScalingEngine(min_efficiency=floor, model=model)
    for k, rows in enumerate(books):
        await engine.add_efficiency_records(
            {"symbol": f"S{k}", "capital": c, "efficiency": e, "ts": float(i)} for i, (c, e) in enumerate(rows)
        )
    for p in await engine.predict_many(engine.symbols, capital):
        if p.status == "insufficient":
            assert (math.isnan(p.efficiency), p.confidence) == (True, 0.0)
            continue
        figures = (p.efficiency, p.lower, p.upper, p.marginal, p.observation_lower, p.observation_upper)
        assert all(math.isfinite(figure) for figure in figures), p
        assert 0 <= p.confidence <= 1
        assert p.observation_lower <= p.lower <= p.efficiency <= p.upper <= p.observation_upper
        await engine.model_metrics(p.symbol)
        await engine.saturation(p.symbol)
    half = total / 2
    plan = await engine.optimize_allocation(engine.symbols, total, caps=half, min_ticket=total / 100)
    assert sum(plan.values()) <= total * (1 + 1e-9)
    for amount in plan.values():
        assert amount == 0 or total / 100 * (1 - 1e-9) <= amount <= half * (1 + 1e-9)
    assert plan.gap <= 1e-6 or plan.value == plan.bound
    assert len(plan.explain("es")) == len(books)


_MODELS = st.sampled_from(["auto", "linear", "polynomial", "exponential", "sqrt"])


@settings(max_examples=80)
@given(books=_BOOKS, capital=_CAPITALS, total=st.floats(1e-6, 1e18), floor=st.floats(-2.0, 2.0), model=_MODELS)
def test_any_records_give_finite_answers(
    books: list[list[tuple[float, float]]], capital: float, total: float, floor: float, model: str
) -> None:
    asyncio.run(_ask(books, capital, total, floor, model))


@pytest.mark.soak
@pytest.mark.timeout(1800)
@settings(max_examples=1000)
@given(books=_BOOKS, capital=_CAPITALS, total=st.floats(1e-6, 1e18), floor=st.floats(-2.0, 2.0), model=_MODELS)
def test_a_thousand_strange_sets_of_histories_give_finite_answers(
    books: list[list[tuple[float, float]]], capital: float, total: float, floor: float, model: str
) -> None:
    asyncio.run(_ask(books, capital, total, floor, model))


@settings(max_examples=80)
@given(history=_HISTORY, capital=_CAPITALS, model=_MODELS)
def test_a_model_learns_or_says_why_not(history: list[tuple[float, float]], capital: float, model: str) -> None:
    try:
        fitted = PredictiveModel(model).fit([c for c, _ in history], [e for _, e in history])
    except NotEnoughData:
        return
    assert all(math.isfinite(p) for p in fitted.params.values())
    assert math.isfinite(fitted.predict(capital))
    assert fitted.max_error >= fitted.mean_error * (1 - 1e-9)
    assert fitted.saturation_point is None or fitted.saturation_point > 0
