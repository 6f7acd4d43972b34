"""Pictures of a model: history, prediction curve, confidence region, saturation points; PNG or SVG, the same bytes each
time.

matplotlib comes with the extra `plots` and is imported only here, when a picture is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scaling.curves import CurveSet
from scaling.errors import InvalidQuery, ScalingError
from scaling.families import Floats
from scaling.saturation import SaturationPoint, SaturationPoints

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WORDS = {
    "es": ("Registros", "Régimen anterior", "Predicción", "Confianza", "Extrapolación", "Capital", "Eficiencia",
           ("eficiencia al 80 %", "saturación", "capacidad")),
    "en": ("Records", "Earlier regime", "Prediction", "Confidence", "Extrapolation", "Capital", "Efficiency",
           ("efficiency at 80 %", "saturation", "capacity")),
}  # fmt: skip
_BLUE, _GREY, _COLOURS = "#1f5fa8", "#8a8f98", ("#b8860b", "#c0392b", "#5b2c6f")


@dataclass(frozen=True)
class Picture:
    """What to draw."""

    symbol: str
    curves: CurveSet  # one row
    capital: Floats  # records in time order
    efficiency: Floats
    points: SaturationPoints
    level: float
    language: str = "es"


def save_model_plot(picture: Picture, path: str | Path) -> Path:
    """Write the picture; the suffix says PNG or SVG."""
    target = Path(path)
    kind = target.suffix.lower().lstrip(".")
    if kind not in ("png", "svg"):
        raise InvalidQuery(f"pictures are .png or .svg, not {target.name!r}")
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ScalingError("pictures need matplotlib: pip install 'micromining-social-pool[plots]'") from None
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with mpl.rc_context({"svg.hashsalt": picture.symbol}):
        figure = Figure(figsize=(8, 4.5), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        _draw(figure, picture)
        figure.savefig(target, format=kind, metadata=metadata)
    return target


def _draw(figure: Figure, picture: Picture) -> None:
    records, earlier, curve, band, beyond, x_name, y_name, point_names = _WORDS[
        "en" if picture.language == "en" else "es"
    ]
    axes = figure.add_subplot()
    curves = picture.curves
    c_max = float(curves.c_max[0])
    found = [picture.points.efficiency_point, picture.points.saturation_point, picture.points.capacity_point]
    marks = [p.capital for p in found if p.capital is not None]
    right = min(max([1.35 * c_max, *[1.08 * m for m in marks]]), 4 * c_max)
    grid = np.linspace(min(float(curves.c_min[0]), right / 400), right, 401)
    mean, se = curves.cautious(grid[None, :])
    half = float(curves.quantile(picture.level)[0]) * se[0]
    upper = np.maximum(mean[0], curves.moments(grid[None, :])[0][0]) + half  # beyond the records the model may be right
    name = f"{band} {picture.level:.0%}"
    axes.fill_between(grid, mean[0] - half, upper, color=_BLUE, alpha=0.15, lw=0, label=name)
    inside = grid <= c_max
    axes.plot(grid[inside], mean[0][inside], color=_BLUE, lw=2, label=curve)
    axes.plot(grid[~inside], mean[0][~inside], color=_BLUE, lw=1.5, ls="--", label=beyond)
    start = int(curves.regime_start[0])
    if start and start < len(picture.capital):
        axes.plot(picture.capital[:start], picture.efficiency[:start], "x", color=_GREY, ms=5, label=earlier)
    else:
        start = 0
    axes.plot(picture.capital[start:], picture.efficiency[start:], "o", color="#222222", ms=4, alpha=0.7, label=records)
    _mark(axes, found, point_names, right)
    axes.set(xlabel=x_name, ylabel=y_name, title=f"{picture.symbol}", xlim=(0, right))
    seen = np.concatenate((picture.efficiency, mean[0]))
    low, high = float(np.quantile(seen, 0.01)), float(np.quantile(seen, 0.99))
    room = 0.25 * max(high - low, 1e-3 * max(abs(high), 1e-9))
    axes.set_ylim(low - room, high + room)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, loc="best")


def _mark(axes: Axes, found: list[SaturationPoint], names: tuple[str, str, str], right: float) -> None:
    """Vertical lines with their intervals; one line when two points fall together."""
    drawn: list[float] = []
    for point, name, colour in zip(found, names, _COLOURS, strict=True):
        if (
            point.capital is None
            or point.capital > right
            or any(math.isclose(point.capital, d, rel_tol=1e-6) for d in drawn)
        ):
            continue
        drawn.append(point.capital)
        axes.axvline(point.capital, color=colour, lw=1.3, ls=":", label=f"{name}: {point.capital:,.0f}")
        if point.low is not None:
            high = right if point.high is None else min(point.high, right)
            axes.axvspan(point.low, high, color=colour, alpha=0.06, lw=0)
