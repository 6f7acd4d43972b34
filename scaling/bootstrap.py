"""Wild bootstrap of one instrument: bands and saturation with the choice of model repeated in every replicate.

Dearer than the online bands (about 200 fits) and 1 to 2 points nearer to their nominal coverage; for `analizar` only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from scaling.curves import Status
from scaling.errors import InvalidQuery, NotEnoughData
from scaling.families import Floats
from scaling.learn import History, LearnOptions, learn
from scaling.saturation import saturation_points

_BATCH = 50


@dataclass(frozen=True)
class Bootstrap:
    """Quantiles over the replicates."""

    grid: Floats
    lower: Floats
    upper: Floats
    saturation: tuple[float | None, float | None]  # interval; None: not reached in that tail of the replicates
    reached: float  # share of replicates that saturate within the search range
    replicates: int


def wild_bootstrap(
    capital: Floats, efficiency: Floats, options: LearnOptions, grid: Floats, hurdle: float, level: float = 0.90,
    replicates: int = 200, seed: int = 0, progress: Callable[[int], None] | None = None,
) -> Bootstrap:  # fmt: skip
    """Residuals keep their place and change their sign at random (Rademacher), inflated for the degrees of freedom
    spent."""
    if not 20 <= replicates <= 100_000:
        raise InvalidQuery(f"replicates must lie in [20, 100000], not {replicates}")
    calm = replace(options, drift=False)
    base = learn([History(capital, efficiency)], options)
    if base.status[0] == Status.INSUFFICIENT:
        raise NotEnoughData("the records tell no curve")
    start = int(base.regime_start[0])
    c, e = capital[start:], efficiency[start:]
    base = learn([History(c, e)], calm)
    if base.status[0] == Status.INSUFFICIENT:
        raise NotEnoughData("the records of the current regime tell no curve yet")
    fitted = base.moments(c[None, :])[0][0]
    residual = (e - fitted) * np.sqrt(base.n_eff[0] / base.df[0])
    rng = np.random.default_rng(seed)
    curves_at: list[Floats] = []
    points: list[float] = []
    for at in range(0, replicates, _BATCH):
        size = min(_BATCH, replicates - at)
        signs = rng.choice((-1.0, 1.0), (size, len(c)))
        fits = learn([History(c, fitted + residual * sign) for sign in signs], calm)
        curves_at.append(fits.moments(np.broadcast_to(grid, (size, len(grid))))[0])
        found = [p.saturation_point.capital for p in saturation_points(fits, hurdle, level)]
        points.extend(np.inf if p is None else p for p in found)
        if progress is not None:
            progress(at + size)
    values = np.concatenate(curves_at)
    tail = (1 - level) / 2
    lower, upper = np.quantile(values, (tail, 1 - tail), axis=0)
    ordered = np.sort(np.array(points))
    ends = [ordered[round(q * (len(ordered) - 1))] for q in (tail, 1 - tail)]
    low, high = (float(x) if np.isfinite(x) else None for x in ends)
    return Bootstrap(grid, lower, upper, (low, high), float(np.isfinite(ordered).mean()), replicates)
