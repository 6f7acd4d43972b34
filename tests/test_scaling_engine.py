"""What the engine remembers and what it answers."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from rig.scaling_engines import fed
from rig.scaling_worlds import world
from scaling import (
    ImpactPrior,
    InvalidQuery,
    InvalidRecord,
    PredictiveModel,
    PredictiveScalingEngine,
    ScalingInitializer,
    TranscendentalDatabase,
)
from scaling.cache import PredictionCache
from scaling.families import Family
from scaling.store import Record

# what it remembers


async def test_the_same_record_again_changes_nothing_and_other_figures_are_refused(tmp_path: Path) -> None:
    async with await ScalingInitializer(str(tmp_path / "s.sqlite")).initialize() as engine:
        moment = datetime(2026, 5, 1, tzinfo=UTC)
        assert await engine.add_efficiency_record("A", 10.0, 0.5, ts=moment, source="bot")
        assert not await engine.add_efficiency_record("A", 10.0, 0.5, ts=moment.timestamp(), source="bot")
        assert await engine.add_efficiency_record("A", 10.0, 0.5, ts=moment, source="other")
        with pytest.raises(InvalidRecord, match="other figures"):
            await engine.add_efficiency_record("A", 11.0, 0.5, ts=moment, source="bot")
        assert engine.db is not None
        assert engine.db.symbols() == {"A": 2}
        assert len(engine.records("A")[0]) == 2


async def test_records_may_arrive_out_of_order_and_the_oldest_are_let_go() -> None:
    engine = PredictiveScalingEngine(max_records=12)
    for k in (5, 1, 9, 3, *range(10, 30)):
        await engine.add_efficiency_record("A", float(k), 0.5, ts=float(k))
    assert engine.records("A")[0].tolist() == [float(k) for k in range(18, 30)]


async def test_symbols_are_bounded() -> None:
    engine = PredictiveScalingEngine(max_symbols=2)
    for name in ("A", "B"):
        await engine.add_efficiency_record(name, 1.0, 0.5)
    with pytest.raises(InvalidRecord, match="at most 2 symbols"):
        await engine.add_efficiency_record("C", 1.0, 0.5)
    assert engine.symbols == ["A", "B"]


async def test_a_refused_write_leaves_neither_half(tmp_path: Path) -> None:
    """The database fails: the record is not in memory either."""

    class Broken(TranscendentalDatabase):
        def add_records(self, records: object) -> int:
            raise OSError("disk full")

    db = Broken(str(tmp_path / "s.sqlite"))
    db.create_tables()
    async with PredictiveScalingEngine(db) as engine:
        with pytest.raises(OSError, match="disk full"):
            await engine.add_efficiency_record("A", 1.0, 0.5)
        assert engine.symbols == []


async def test_a_caller_cancelled_in_the_middle_of_a_write_leaves_both_halves_or_none(tmp_path: Path) -> None:
    import threading

    entered, go_on = threading.Event(), threading.Event()

    class Slow(TranscendentalDatabase):
        def add_records(self, records: list[Record]) -> int:  # type: ignore[override]
            entered.set()
            assert go_on.wait(10)
            return super().add_records(records)

    db = Slow(str(tmp_path / "s.sqlite"))
    db.create_tables()
    async with PredictiveScalingEngine(db) as engine:
        task = asyncio.ensure_future(engine.add_efficiency_record("A", 1.0, 0.5, ts=1.0))
        assert await asyncio.to_thread(entered.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        assert not await engine.add_efficiency_record("A", 1.0, 0.5, ts=1.0), (
            "it was remembered, although nobody waited"
        )
        assert db.symbols() == {"A": 1}
        assert len(engine.records("A")[0]) == 1


async def test_a_restart_restores_history_configuration_and_the_same_answers(store_url: str) -> None:
    first = ScalingInitializer(store_url)
    await first.save_config({"min_efficiency": 0.3, "kappa": 0.5})
    w = world(4, 3, 40)
    async with await first.initialize() as engine:
        assert engine.config.min_efficiency == 0.3
        for k, h in enumerate(w.histories):
            for i, (c, e) in enumerate(zip(h.capital, h.efficiency, strict=True)):
                await engine.add_efficiency_record(f"S{k}", float(c), float(e), {"roi": 0.1}, ts=float(i))
        await engine.set_prior("NEW", ImpactPrior(0.9, 1.0, 0.001, 0.0005, 0.03, 5e7))
        before = [await engine.predict_efficiency(s, 2000.0) for s in engine.symbols]
        plan = await engine.optimize_allocation(engine.symbols, 1e5)
    seen: list[str] = []
    async with await ScalingInitializer(store_url, {"kappa": 0.7}, progress=seen.append).initialize() as engine:
        assert seen == ["tables", "configuration", "history"]
        assert (engine.config.min_efficiency, engine.config.kappa) == (0.3, 0.7), "given settings win over stored ones"
        after = [await engine.predict_efficiency(p.symbol, 2000.0) for p in before]
        assert [replace(a, efficiency=0) for a in after] == [replace(b, efficiency=0) for b in before]
        assert [a.efficiency for a in after] == pytest.approx([b.efficiency for b in before], rel=1e-12)
        assert await engine.optimize_allocation(engine.symbols, 1e5, kappa=0.5) == pytest.approx(dict(plan))
        assert engine.db is not None
        assert len(engine.db.load_allocations()) == 2
        assert engine.db.load_models("S0")[0]["records"] == 40
        assert {p["kind"] for p in engine.db.load_saturation_points("S0")} == {"efficiency", "saturation", "capacity"}


async def test_an_initializer_refuses_unknown_settings_and_a_database_from_the_future(tmp_path: Path) -> None:
    from scaling import StoreError

    url = str(tmp_path / "s.sqlite")
    with pytest.raises(InvalidQuery, match="unknown setting 'kapa'"):
        ScalingInitializer(url, {"kapa": 1.0})
    await (await ScalingInitializer(url).initialize()).close()
    db = TranscendentalDatabase(url)
    db.save_config({"schema_version": 99})
    db.close()
    with pytest.raises(StoreError, match="schema version 99"):
        await ScalingInitializer(url).initialize()


# what it answers


async def test_without_records_it_invents_nothing() -> None:
    engine = PredictiveScalingEngine()
    unknown = await engine.predict_efficiency("NONE", 1000.0)
    assert (unknown.status, unknown.confidence) == ("insufficient", 0.0)
    assert math.isnan(unknown.efficiency)
    for k in range(4):
        await engine.add_efficiency_record("A", 100.0 * (k + 1), 0.9)
    assert (await engine.predict_efficiency("A", 100.0)).status == "insufficient"
    await engine.add_efficiency_record("A", 700.0, 0.8)
    assert (await engine.predict_efficiency("A", 100.0)).status == "provisional"
    plan = await engine.optimize_allocation(["NONE", "A"], 1000.0)
    assert plan["NONE"] == 0.0
    assert plan.reasons["NONE"].code == "no_data"


async def test_many_records_at_one_capital_tell_no_curve() -> None:
    engine = PredictiveScalingEngine()
    for k in range(30):
        await engine.add_efficiency_record("A", 100.0, 0.9 + 0.01 * (k % 3))
    assert (await engine.predict_efficiency("A", 100.0)).status == "insufficient"
    assert (await engine.model_metrics("A")).status == "insufficient"


async def test_extrapolation_is_flagged_pessimistic_and_less_confident() -> None:
    engine = await fed(seed=12, size=20)
    for symbol in engine.symbols:
        top = float(engine.records(symbol)[0].max())
        edge, beyond, far = [await engine.predict_efficiency(symbol, top * k) for k in (1.0, 1.5, 3.0)]
        assert not edge.extrapolated
        assert beyond.extrapolated
        assert far.extrapolated
        assert edge.efficiency >= beyond.efficiency >= far.efficiency, "never rising beyond the records"
        assert beyond.confidence < math.exp(-0.5) + 1e-9
        assert far.confidence < math.exp(-2) + 1e-9
        low = await engine.predict_efficiency(symbol, float(engine.records(symbol)[0].min()) / 50)
        assert low.extrapolated


async def test_predict_many_equals_asking_one_by_one() -> None:
    engine = await fed(seed=3, size=12)
    capitals = np.geomspace(500, 5e5, 12)
    many = await engine.predict_many(engine.symbols, capitals)
    one = [await engine.predict_efficiency(s, float(c)) for s, c in zip(engine.symbols, capitals, strict=True)]
    assert many == one
    same = await engine.predict_many(engine.symbols, 1000.0)
    assert [p.capital for p in same] == [1000.0] * 12
    with pytest.raises(InvalidQuery, match="capitals"):
        await engine.predict_many(engine.symbols, [1.0] * 11 + [-1.0])
    with pytest.raises(InvalidQuery, match="wanted one capital or 12"):
        await engine.predict_many(engine.symbols, [1.0, 2.0])


async def test_a_new_record_moves_the_prediction_and_kills_the_cached_one() -> None:
    engine = await fed()
    first = await engine.predict_efficiency("S0", 1500.0)
    assert await engine.predict_efficiency("S0", 1500.0) is first, "cached"
    await engine.add_efficiency_record("S0", 1500.0, first.efficiency - 0.2)
    second = await engine.predict_efficiency("S0", 1500.0)
    assert second.efficiency != first.efficiency
    assert second.records == first.records + 1
    untouched = await engine.predict_efficiency("S1", 1500.0)
    await engine.add_efficiency_record("S0", 1600.0, 0.5)
    assert await engine.predict_efficiency("S1", 1500.0) is untouched, "another symbol's record does not matter"


async def test_only_what_changed_is_learned_again() -> None:
    engine = await fed(size=20)
    assert await engine.refit() == 20
    assert await engine.refit() == 0
    await engine.add_efficiency_record("S4", 1000.0, 0.5)
    assert await engine.refit() == 1


async def test_an_incremental_refit_ends_where_a_fresh_one_does() -> None:
    """Warm starts save steps, they do not change the answer (beyond the noise of stopping early)."""
    w = world(31, 40, 60)
    grown, fresh = PredictiveScalingEngine(), PredictiveScalingEngine()
    for k, h in enumerate(w.histories):
        rows = [
            {"symbol": f"S{k}", "capital": float(c), "efficiency": float(e), "ts": float(i)}
            for i, (c, e) in enumerate(zip(h.capital, h.efficiency, strict=True))
        ]
        for at in range(0, 60, 12):
            await grown.add_efficiency_records(rows[at : at + 12])
            await grown.refit([f"S{k}"])
        await fresh.add_efficiency_records(rows)
    half = w.scale / 2
    a = [p.efficiency for p in await grown.predict_many(grown.symbols, half)]
    b = await fresh.predict_many(fresh.symbols, half)
    band = np.array([p.upper - p.lower for p in b])
    assert (np.abs(np.array(a) - np.array([p.efficiency for p in b])) < 0.1 * band).mean() > 0.95


def test_the_cache_is_bounded_expires_and_knows_versions() -> None:
    now = [0.0]
    cache = PredictionCache(2, 10.0, lambda: now[0])
    answer = object()
    for k in range(3):
        cache.put("A", float(k), 1, answer)  # type: ignore[arg-type]
    assert len(cache) == 2
    assert cache.get("A", 0.0, 1) is None, "the least recently used went"
    assert cache.get("A", 2.0, 1) is answer
    assert cache.get("A", 2.0, 2) is None, "a newer version of the records"
    assert cache.get("A", 1.0, 1) is answer
    now[0] = 10.0
    assert cache.get("A", 1.0, 1) is None, "too old"


async def test_answers_are_quick() -> None:
    """Figure 23: add <= 200 us without the commit, cached prediction <= 100 us (medians; a busy machine gets a factor
    5)."""
    engine = await fed(size=3)
    await engine.refit()
    added, asked = [], []
    for k in range(300):
        begin = time.perf_counter()
        await engine.add_efficiency_record("S1", 1000.0 + k, 0.5)
        added.append(time.perf_counter() - begin)
    await engine.predict_efficiency("S0", 1000.0)
    for _ in range(300):
        begin = time.perf_counter()
        await engine.predict_efficiency("S0", 1000.0)
        asked.append(time.perf_counter() - begin)
    print(f"add {np.median(added) * 1e6:.0f} us, cached prediction {np.median(asked) * 1e6:.0f} us")
    assert np.median(added) <= 5 * 200e-6
    assert np.median(asked) <= 5 * 100e-6


@pytest.mark.parametrize("model", ["linear", "polinomial", "exponencial", "sqrt"])
async def test_each_single_model_can_be_asked_for(model: str) -> None:
    engine = await fed(seed=8, size=3, records=50, model=model)
    metrics = await engine.model_metrics("S0")
    names = {"linear": "linear", "polinomial": "polynomial", "exponencial": "exponential", "sqrt": "sqrt"}
    assert metrics.model == names[model]
    assert metrics.weights == {names[model]: 1.0}
    assert math.isfinite((await engine.predict_efficiency("S0", 1000.0)).efficiency)


async def test_without_average_the_single_best_family_answers() -> None:
    engine = await fed(seed=8, size=10, average=False)
    for symbol in engine.symbols:
        metrics = await engine.model_metrics(symbol)
        assert sorted(metrics.weights.values())[-1] == 1.0
        assert metrics.aicc[metrics.model] == min(metrics.aicc.values())


async def test_thousands_of_symbols_are_answered_in_one_call() -> None:
    engine = await fed(seed=77, size=2000, records=20)
    begin = time.process_time()
    found = await engine.predict_many(engine.symbols, 3000.0)
    plan = await engine.optimize_allocation(engine.symbols, 1e7)
    print(f"2,000 symbols learned, predicted and allocated in {time.process_time() - begin:.2f} s of CPU")
    assert len(found) == len(plan) == 2000
    assert plan.gap <= 1e-6
    assert time.process_time() - begin < 10


def test_a_predictive_model_tells_its_parameters_covariance_and_quality() -> None:
    w = world(50, 1, 80, kinds=(Family.EXPONENTIAL,))
    model = PredictiveModel("exponential").fit(w.histories[0].capital, w.histories[0].efficiency)
    assert list(model.params) == ["a", "b", "c"]
    assert model.covariance.shape == (3, 3)
    assert np.allclose(model.covariance, model.covariance.T)
    assert (np.linalg.eigvalsh(model.covariance) >= -1e-18).all()
    assert abs(model.params["b"] - w.theta[0, 1]) < 4 * math.sqrt(model.covariance[1, 1])
    assert 0.5 < model.r2 <= 1
    assert 0 < model.mean_error < model.max_error
    assert model.identifiable
    at = float(w.scale[0] / 2)
    low, high = model.interval(at)
    assert low[0] < model.predict(at) < high[0]
    assert 0 < model.confidence(at) <= 1
    assert not model.extrapolated(at)
    assert model.extrapolated(at * 3)
    several = model.predict([at, at * 2])
    assert several.shape == (2,)
    auto = PredictiveModel("auto").fit(w.histories[0].capital, w.histories[0].efficiency)
    assert sum(auto.weights.values()) == pytest.approx(1.0)
    assert auto.aicc["exponential"] < auto.aicc["linear"]
    with pytest.raises(InvalidQuery, match="weights must be"):
        PredictiveModel().fit([1.0, 2, 3, 4], [0.5] * 4, weights=[0, 0, 0, 0])
    with pytest.raises(InvalidQuery, match="unknown model 'cubic'"):
        PredictiveModel("cubic")
