"""Predictions, allocations and models laid out as plain rows of text, in Spanish or English, for whatever prints
them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from scaling.results import Allocation, EfficiencyPrediction, ModelMetrics
from scaling.saturation import SaturationPoints
from scaling.texts import MODEL_ES, STATUS_ES, cli_text


@dataclass
class Sheet:
    """A titled table and the lines under it. Columns in `words` hold text, the others numbers."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    after: list[str] = field(default_factory=list)
    words: frozenset[int] = frozenset({0})


def money(value: float | None) -> str:
    """Thousands and two decimals; a dash for what is unknown."""
    return "-" if value is None or not math.isfinite(value) else f"{value:,.2f}"


def figure(value: float | None) -> str:
    """Four decimals; a dash for what is unknown."""
    return "-" if value is None or not math.isfinite(value) else f"{value:.4f}"


def model_name(name: str, language: str) -> str:
    """A family as a reader calls it."""
    return MODEL_ES[name] if language == "es" else name


def _columns(language: str, *keys: str) -> list[str]:
    return [cli_text(key, language) for key in keys]


def prediction_sheet(symbol: str, found: list[EfficiencyPrediction], language: str) -> Sheet:
    """One row per capital."""
    rows, after = [], []
    for p in found:
        band = f"[{figure(p.lower)}, {figure(p.upper)}]"
        rows.append([money(p.capital), figure(p.efficiency), band, f"{p.confidence:.1%}", figure(p.marginal)])
        if p.extrapolated:
            after.append(f"{money(p.capital)}: {cli_text('extrapolated', language)}")
    first = found[0]
    notes = [] if first.status == "full" else [cli_text("status_" + first.status, language)]
    notes += [cli_text("drifted", language)] if first.drifted else []
    words = "; ".join([f"{cli_text('model', language)}: {model_name(first.model, language)}", *notes])
    columns = _columns(language, "capital", "efficiency", "band", "confidence", "marginal")
    title = cli_text("predict_title", language, symbol=symbol)
    return Sheet(title, columns, rows, [words, *after], frozenset())


def allocation_sheet(found: Allocation, language: str) -> Sheet:
    """One row per instrument; under it the reasons, the totals and the proof."""
    rows = []
    for symbol, capital in found.items():
        band = f"[{figure(found.lower[symbol])}, {figure(found.upper[symbol])}]" if symbol in found.lower else "-"
        share = f"{capital / found.total_capital:.1%}" if found.total_capital else "-"
        marginal = figure(found.marginal.get(symbol))
        rows.append([symbol, money(capital), figure(found.efficiency.get(symbol)), band, marginal, share])
    after = [f"{cli_text('reason', language)}:"]
    after += [f"  {symbol}: {text}" for symbol, text in found.explain(language).items()]
    placed = sum(found.values())
    after += [
        cli_text("total", language, total=found.total_capital, placed=placed, unallocated=found.unallocated),
        cli_text("value", language, value=found.value, expected=found.expected_value, price=found.shadow_price),
        cli_text("proof", language, bound=found.bound, gap=found.gap),
    ]
    columns = _columns(language, "symbol", "capital", "efficiency", "band", "marginal", "share")
    return Sheet(cli_text("optimize_title", language), columns, rows, after)


def model_sheets(metrics: ModelMetrics, points: SaturationPoints, language: str) -> list[Sheet]:
    """Quality, the families compared, the saturation points."""
    status = STATUS_ES[metrics.status] if language == "es" else metrics.status
    regime = cli_text("steady", language)
    if metrics.regime_start:
        regime = cli_text("changed", language, record=metrics.regime_start)
    span = f"{metrics.records} ({money(metrics.capital_min)} - {money(metrics.capital_max)})"
    quality = [
        [cli_text("model", language), model_name(metrics.model, language)],
        [cli_text("status", language), status],
        [cli_text("records", language), span],
        ["R²", figure(metrics.r2)],
        [cli_text("mean_error", language), figure(metrics.mean_error)],
        [cli_text("max_error", language), figure(metrics.max_error)],
        [cli_text("noise", language), figure(metrics.noise)],
        [cli_text("regime", language), regime],
    ]
    families = [
        [
            model_name(m, language),
            f"{weight:.1%}",
            figure(metrics.aicc.get(m)),
            cli_text("yes" if metrics.identifiable[m] else "no", language),
            ", ".join(f"{name}={value:.6g}" for name, value in metrics.params.get(m, {}).items()),
        ]
        for m, weight in metrics.weights.items()
    ]
    return [
        Sheet(
            cli_text("analyze_title", language, symbol=metrics.symbol), _columns(language, "figure", "result"), quality
        ),
        Sheet(
            cli_text("models_title", language),
            _columns(language, "model", "weight", "aicc", "identifiable", "parameters"),
            families,
            words=frozenset({0, 3, 4}),
        ),
        _points_sheet(points, language),
    ]


def _points_sheet(points: SaturationPoints, language: str) -> Sheet:
    rows = []
    for kind in ("efficiency", "saturation", "capacity"):
        at = getattr(points, f"{kind}_point")
        note = ""
        if at.capital is None:
            note = cli_text("not_reached", language)
        elif at.extrapolated:
            note = cli_text("extrapolated", language)
        rows.append(
            [cli_text("point_" + kind, language), money(at.capital), f"[{money(at.low)}, {money(at.high)}]", note]
        )
    columns = _columns(language, "point", "capital", "band", "notes")
    return Sheet(cli_text("points_title", language), columns, rows, words=frozenset({0, 3}))
