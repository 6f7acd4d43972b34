"""Where an instrument saturates: three points, each with its own interval and a word on whether records reach that far.

- `efficiency_point`: E has fallen to 80 % of its best observed level;
- `saturation_point`: the marginal profit g'(c) = E + c E' falls through the hurdle (what idle capital earns elsewhere);
- `capacity_point`: g' falls through zero; beyond it more capital earns less money in all.

Intervals invert the band of the marginal (Fieller's idea): the low end is where its lower band crosses, the high end
where
the upper one does. A delta-method interval is symmetric, and wrong, whenever the curve is nearly straight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.curves import CurveSet, Status
from scaling.families import Floats

#: Points are searched up to this many times the largest observed capital.
REACH = 4.0
#: Share of the best observed efficiency at `efficiency_point`.
WORN = 0.80
_GRID = np.concatenate((np.geomspace(1e-3, 0.1, 24, endpoint=False), np.linspace(0.1, REACH, 118)))


@dataclass(frozen=True)
class SaturationPoint:
    """One point on the capital axis. `capital` is None when the curve does not get there within four times the
    records."""

    capital: float | None
    low: float | None  # interval at the level asked for; None: below every capital searched or unknown
    high: float | None  # None: not bounded within the search
    extrapolated: bool  # the point lies beyond the largest observed capital


@dataclass(frozen=True)
class SaturationPoints:
    """The three points of one instrument."""

    efficiency_point: SaturationPoint
    saturation_point: SaturationPoint
    capacity_point: SaturationPoint
    hurdle: float
    level: float


_UNKNOWN = SaturationPoint(None, None, None, False)


def saturation_points(curves: CurveSet, hurdle: float, level: float = 0.90) -> list[SaturationPoints]:
    """The points of every row."""
    z = curves.quantile(level)

    def marginal(c: Floats) -> tuple[Floats, Floats]:
        mean, var = curves.marginal_moments(c)
        return mean, (z if c.ndim == 1 else z[:, None]) * np.sqrt(np.maximum(var, 0.0))

    def level_of(c: Floats) -> tuple[Floats, Floats]:
        mean, var = curves.moments(c)
        return mean, (z if c.ndim == 1 else z[:, None]) * np.sqrt(np.maximum(var, 0.0))

    known = curves.status != Status.INSUFFICIENT
    scale = np.where(known, curves.c_max, 1.0)
    seen = (
        np.where(known, curves.c_min, 0.5)[:, None]
        + np.linspace(0, 1, 65) * (scale - np.where(known, curves.c_min, 0.5))[:, None]
    )
    values = curves.moments(seen)[0]
    peak_at = seen[np.arange(len(curves)), np.argmax(values, axis=1)]
    worn = WORN * values.max(axis=1)
    columns = [
        _crossings(level_of, worn, scale, peak_at),
        _crossings(marginal, np.full(len(curves), hurdle), scale, np.zeros(len(curves))),
        _crossings(marginal, np.zeros(len(curves)), scale, np.zeros(len(curves))),
    ]
    result = []
    for row in range(len(curves)):
        points = [
            _point(at[row], low[row], high[row], scale[row]) if known[row] else _UNKNOWN for at, low, high in columns
        ]
        if worn[row] <= 0:
            points[0] = _UNKNOWN  # 80 % of nothing is no level
        result.append(SaturationPoints(points[0], points[1], points[2], hurdle, level))
    return result


def _point(at: float, low: float, high: float, c_max: float) -> SaturationPoint:
    def known(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return SaturationPoint(known(at), known(low), known(high), bool(np.isfinite(at) and at > c_max))


def _crossings(
    f: Callable[[Floats], tuple[Floats, Floats]], target: Floats, scale: Floats, start: Floats
) -> tuple[Floats, Floats, Floats]:
    """First capital above `start` where f falls through `target`, and the same for its lower and upper band; NaN: none.

    A curve already below the target at the first point searched has no crossing (NaN), but its upper band may have one.
    """
    grid = np.maximum(_GRID[None, :] * scale[:, None], start[:, None])
    mean, half = f(grid)
    found = []
    for sign in (0.0, -1.0, 1.0):
        value = mean + sign * half - target[:, None]
        falls = (value[:, :-1] >= 0) & (value[:, 1:] < 0) & (grid[:, 1:] > start[:, None])
        any_fall = falls.any(axis=1)
        k = np.argmax(falls, axis=1)
        rows = np.arange(len(grid))
        low, high = grid[rows, k], grid[rows, k + 1]
        for _ in range(54):
            middle = 0.5 * (low + high)
            m, h = f(middle)
            above = m + sign * h - target >= 0
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        at = np.where(any_fall, 0.5 * (low + high), np.nan)
        if sign < 0:  # the lower band is below the target from the start: the interval reaches down to nothing
            at = np.where(~any_fall & (value[:, 0] < 0), 0.0, at)
        found.append(at)
    return found[0], found[1], found[2]
