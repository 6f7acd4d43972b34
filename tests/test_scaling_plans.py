"""Allocation through the engine: every limit holds, every number is explained, thin records stay cheap."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rig.scaling_engines import fed
from scaling import (
    DefaultRiskManager,
    ImpactPrior,
    InvalidQuery,
    PredictiveScalingEngine,
)


async def test_an_allocation_keeps_every_limit_and_explains_every_number() -> None:
    engine = await fed(seed=21, size=12, min_efficiency=0.3)
    caps = {"S0": 500.0, "S1": 0.0}
    plan = await engine.optimize_allocation(engine.symbols, 5e5, caps=caps, min_ticket={"S2": 2000.0}, hurdle=0.05)
    assert sum(plan.values()) <= 5e5 * (1 + 1e-9)
    assert plan.unallocated == pytest.approx(5e5 - sum(plan.values()))
    assert plan["S0"] <= 500.0
    assert plan["S1"] == 0.0
    assert plan.reasons["S1"].code == "at_cap"
    assert plan["S2"] == 0.0 or plan["S2"] >= 2000.0
    assert plan.gap <= 1e-6
    assert plan.value <= plan.bound * (1 + 1e-9)
    for symbol, amount in plan.items():
        top = float(engine.records(symbol)[0].max())
        assert amount <= engine.config.trust * top * (1 + 1e-9), "the trust region"
        for language in ("es", "en"):
            assert plan.reasons[symbol].text(language)
        if amount > 0:
            assert plan.efficiency[symbol] >= 0.3, "E minus one standard error keeps the minimum, so E does"
            assert plan.lower[symbol] <= plan.efficiency[symbol] <= plan.upper[symbol]


async def test_equal_marginals_are_said_to_be_equal() -> None:
    engine = await fed(seed=33, size=30, min_efficiency=0.0)
    plan = await engine.optimize_allocation(engine.symbols, 2e6)
    inner = [s for s in plan if plan.reasons[s].code == "price"]
    assert len(inner) >= 3
    for symbol in inner:
        assert plan.marginal[symbol] == pytest.approx(plan.shadow_price, rel=1e-3)
    for symbol in (s for s in plan if plan.reasons[s].code == "not_worth"):
        assert plan.reasons[symbol].figures["best"] <= plan.shadow_price * (1 + 1e-6)


async def test_no_capital_goes_past_saturation_however_much_there_is() -> None:
    engine = await fed(seed=21, size=12, min_efficiency=0.0, hurdle=0.1)
    plan = await engine.optimize_allocation(engine.symbols, 1e12)
    assert plan.unallocated > 0
    checked = 0
    for symbol, amount in plan.items():
        point = (await engine.saturation(symbol)).saturation_point
        if point.capital is None:
            continue
        curve = await engine.curve(symbol)
        after = curve.marginal_mean(np.linspace(point.capital * 1.001, 4 * curve.c_max[0], 400)[None, :])
        if (after < 0.1).all():  # no second rise beyond the valley
            checked += 1
            assert amount <= point.capital * 1.02, (
                "the cautious curve saturates no later than the best guess (2 %: knots)"
            )
    assert checked >= 2


async def test_the_ramp_limits_what_one_review_may_add() -> None:
    engine = await fed(seed=21, size=3, min_efficiency=0.0)
    first = float(engine.records("S0")[0].min())
    plan = await engine.optimize_allocation(["S0", "S1"], 1e9, previous={"S1": first})
    assert plan["S0"] <= first * (1 + 1e-9), "what is not held starts at the smallest capital ever observed"
    assert plan["S1"] <= 2 * max(first, float(engine.records("S1")[0].min())) * (1 + 1e-9)
    assert plan.reasons["S0"].code == "at_ramp"


async def test_turnover_costs_keep_small_changes_from_happening() -> None:
    engine = await fed(seed=21, size=6, min_efficiency=0.0, ramp=100.0)
    free = await engine.optimize_allocation(engine.symbols, 1e5)
    held = {s: c * 1.05 for s, c in free.items()}
    moved = await engine.optimize_allocation(engine.symbols, 2e5, previous=held)
    kept = await engine.optimize_allocation(engine.symbols, 2e5, previous=held, turnover_cost=0.5)
    assert sum(abs(kept[s] - held[s]) for s in held) < sum(abs(moved[s] - held[s]) for s in held)
    assert kept.gap <= 1e-6


async def test_groups_and_risk_budgets_hold_through_the_engine() -> None:
    engine = await fed(seed=21, size=8, min_efficiency=0.0)
    names = engine.symbols
    groups = dict.fromkeys(names[:4], "x")
    risk = {s: 0.1 + 0.05 * k for k, s in enumerate(names)}
    plan = await engine.optimize_allocation(
        names, 3e5, groups=groups, group_caps={"x": 5e4}, risk_weights=risk, risk_budget=2e4
    )
    assert sum(plan[s] for s in groups) <= 5e4 * (1 + 1e-9)
    assert sum(plan[s] * risk[s] for s in names) <= 2e4 * (1 + 1e-9)
    assert plan.gap <= 1e-6
    assert {"group", "risk"} & {r.code for r in plan.reasons.values()}


async def test_the_risk_manager_tightens_every_allocation() -> None:
    manager = DefaultRiskManager(max_share=0.2)
    w = await fed(seed=21, size=6, min_efficiency=0.0, risk_manager=manager)
    plan = await w.optimize_allocation(w.symbols, 1e5)
    assert max(plan.values()) <= 0.2 * 1e5 * (1 + 1e-9)
    manager.drawdown = 0.2
    halved = await w.optimize_allocation(w.symbols, 1e5)
    assert sum(halved.values()) <= 0.5e5 * (1 + 1e-9)
    w.risk_manager = DefaultRiskManager(groups={"S0": "a"})
    with pytest.raises(InvalidQuery, match="groups are given by the caller and"):
        await w.optimize_allocation(w.symbols, 1e5, groups={"S0": "b"}, group_caps={"b": 1.0})


async def test_a_cold_start_gets_a_first_ticket_and_the_prior_fades() -> None:
    engine = PredictiveScalingEngine(min_efficiency=0.1)
    prior = ImpactPrior(edge=0.8, turnover=2.0, fee=0.001, half_spread=0.0005, sigma=0.04, adv=2e7)
    await engine.set_prior("NEW", prior)
    p = await engine.predict_efficiency("NEW", 1000.0)
    assert p.status == "prior"
    assert (p.records, p.drifted) == (0, False), "pseudo-records are no records"
    assert p.efficiency == pytest.approx(float(prior.efficiency(np.array(1000.0))), abs=0.05)
    plan = await engine.optimize_allocation(["NEW"], 1e9)
    assert 0 < plan["NEW"] <= prior.pseudo_records(0)[0].min() * (1 + 1e-9)
    assert plan.reasons["NEW"].code == "at_first_ticket"
    rng = np.random.default_rng(2)
    top = prior.pseudo_records(0)[0].max()
    for k in range(12):
        c = float(top * rng.uniform(0.01, 0.1))
        await engine.add_efficiency_record("NEW", c, 0.3 + 0.01 * float(rng.standard_normal()), ts=float(k))
    after = await engine.predict_efficiency("NEW", top * 0.05)
    assert (after.status, after.records, after.drifted) == ("full", 12, False)
    assert after.efficiency == pytest.approx(0.3, abs=0.05), "records win over the prior"
    await engine.set_prior("NEW", None)
    for bad in ({"adv": -1.0}, {"sigma": 0.0}, {"edge": math.nan}):
        with pytest.raises(InvalidQuery):
            replace(prior, **bad)
