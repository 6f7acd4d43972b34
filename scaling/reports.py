"""Rows of a CurveSet turned into the engine's answers and into rows of the store."""

from __future__ import annotations

import json
import math
import time

import numpy as np

from scaling import families
from scaling.curves import FAMILIES, CurveSet, Status
from scaling.families import Family, Floats
from scaling.model import PARAMETERS
from scaling.results import Allocation, EfficiencyPrediction, ModelMetrics
from scaling.saturation import saturation_points


def predictions(symbols: list[str], c: Floats, curves: CurveSet, level: float) -> list[EfficiencyPrediction]:
    """One answer per row at its capital."""
    unknown = curves.status == Status.INSUFFICIENT
    safe = curves.take(np.arange(len(curves)))
    safe.c_max[unknown], safe.c_min[unknown] = 1.0, 0.5
    mean, se = safe.cautious(c)
    plain, _ = safe.moments(c)
    z = safe.quantile(level)
    noise = safe.noise(c)
    wide = z * np.sqrt(se**2 + noise**2)
    confidence = safe.confidence(c, mean, se)
    marginal = np.minimum(safe.marginal_mean(c), np.where(c > safe.c_max, mean - safe.tail * c, np.inf))
    outside = (c < safe.c_min) | (c > safe.c_max)
    top = np.maximum(plain, mean)
    family = np.argmax(curves.weight, axis=1)
    columns = zip(
        symbols, c.tolist(), mean.tolist(), confidence.tolist(), (mean - z * se).tolist(), (top + z * se).tolist(),
        (mean - wide).tolist(), (top + wide).tolist(), curves.status.tolist(), family.tolist(), curves.weight.tolist(),
        outside.tolist(), marginal.tolist(), (curves.regime_start > 0).tolist(), curves.n.tolist(),
        curves.can_extrapolate.tolist(), curves.c_max.tolist(), strict=True,
    )  # fmt: skip
    return [_prediction(*row) for row in columns]


def _prediction(
    symbol: str, c: float, mean: float, confidence: float, lower: float, upper: float, seen_low: float,
    seen_high: float,
    status: int, family: int, weight: list[float], outside: bool, marginal: float, drifted: bool, records: int,
    can_extrapolate: bool, c_max: float,
) -> EfficiencyPrediction:  # fmt: skip
    if status == Status.INSUFFICIENT:
        nan = math.nan
        note = f"{records} records; at least 5 at different capitals are needed"
        return EfficiencyPrediction(
            symbol, c, nan, 0.0, nan, nan, nan, nan, "insufficient", "none", {}, True, nan, False, records, note
        )  # fmt: skip
    note = ""
    if outside:
        note = "beyond the records" + (
            "" if can_extrapolate or c <= c_max else ", and the data cannot tell what lies there"
        )
    weights = {f.name.lower(): w for f, w in zip(FAMILIES, weight, strict=True) if w > 0}
    return EfficiencyPrediction(
        symbol, c, mean, confidence, lower, upper, seen_low, seen_high, Status(status).name.lower(),
        Family(family).name.lower(),
        weights, outside, marginal, drifted, records, note,
    )  # fmt: skip


def _parameters(curves: CurveSet, row: int) -> dict[str, dict[str, float]]:
    """Every fitted family's parameters in capital units."""
    found = {}
    for f in FAMILIES:
        if curves.theta[row, f].any() or curves.weight[row, f] > 0:
            theta = families.rescaled(f, curves.theta[row, f], curves.scale[row])
            found[f.name.lower()] = {name: float(v) for name, v in zip(PARAMETERS[f], theta, strict=False)}
    return found


def metrics_of(symbol: str, curves: CurveSet, allowed: tuple[Family, ...]) -> ModelMetrics:
    """The quality figures of a one-row CurveSet."""
    known = curves.status[0] != Status.INSUFFICIENT
    by_name = [(f, f.name.lower()) for f in allowed] if known else []
    return ModelMetrics(
        symbol=symbol,
        status=Status(int(curves.status[0])).name.lower(),
        model=Family(int(np.argmax(curves.weight[0]))).name.lower() if known else "none",
        weights={name: float(curves.weight[0, f]) for f, name in by_name},
        params=_parameters(curves, 0),
        identifiable={name: bool(curves.identifiable[0, f]) for f, name in by_name},
        aicc={name: float(curves.aicc[0, f]) for f, name in by_name if np.isfinite(curves.aicc[0, f])},
        r2=float(curves.r2[0]),
        mean_error=float(curves.mean_error[0]),
        max_error=float(curves.max_error[0]),
        noise=float(curves.sigma[0]),
        records=int(curves.n[0]),
        effective_records=float(curves.n_eff[0]),
        capital_min=float(curves.c_min[0]),
        capital_max=float(curves.c_max[0]),
        drift=float(curves.drift[0]),
        regime_start=int(curves.regime_start[0]),
    )


def _covariance(curves: CurveSet, row: int, f: Family) -> list[list[float]]:
    """In capital units, in the order of the parameters."""
    unit = families.units(f, curves.scale[row : row + 1])[0]
    found: list[list[float]] = (curves.cov[row, f] / np.outer(unit, unit)).tolist()
    return found


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def model_rows(
    symbols: list[str], curves: CurveSet, hurdle: float, level: float
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Rows of model_parameters and saturation_points for every learned curve."""
    now_us = time.time_ns() // 1000
    models: list[dict[str, object]] = []
    points: list[dict[str, object]] = []
    found = saturation_points(curves, hurdle, level)
    for k, symbol in enumerate(symbols):
        if curves.status[k] == Status.INSUFFICIENT:
            continue
        detail = {
            "families": {
                name: {
                    "params": params,
                    "weight": float(curves.weight[k, f]),
                    "aicc": _number(curves.aicc[k, f]),
                    "identifiable": bool(curves.identifiable[k, f]),
                    "covariance": _covariance(curves, k, f),
                }
                for name, params in _parameters(curves, k).items()
                for f in (Family[name.upper()],)
            },
            "noise": float(curves.sigma[k]), "capital_min": float(curves.c_min[k]),
            "capital_max": float(curves.c_max[k]), "regime_start": int(curves.regime_start[k]),
            "status": Status(int(curves.status[k])).name.lower(),
        }  # fmt: skip
        models.append({
            "symbol": symbol, "fitted_us": now_us, "records": int(curves.n[k]),
            "model": Family(int(np.argmax(curves.weight[k]))).name.lower(), "r2": _number(curves.r2[k]),
            "mean_error": _number(curves.mean_error[k]), "max_error": _number(curves.max_error[k]),
            "parameters_json": json.dumps(detail, allow_nan=False),
        })  # fmt: skip
        for kind in ("efficiency", "saturation", "capacity"):
            at = getattr(found[k], f"{kind}_point")
            points.append({
                "symbol": symbol, "detected_us": now_us, "kind": kind, "hurdle": 0.0 if kind == "capacity" else hurdle,
                "capital": at.capital, "low": at.low, "high": at.high, "extrapolated": at.extrapolated,
            })  # fmt: skip
    return models, points


def allocation_row(allocation: Allocation) -> dict[str, object]:
    """The row of allocation_history."""
    assert allocation.created_at is not None
    return {
        "created_us": round(allocation.created_at.timestamp() * 1e6), "total_capital": allocation.total_capital,
        "value": allocation.value, "bound": allocation.bound, "unallocated": allocation.unallocated,
        "detail_json": json.dumps(allocation.as_dict(), allow_nan=False),
    }  # fmt: skip
