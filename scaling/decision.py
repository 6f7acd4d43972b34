"""From learned curves to the curves that money follows: a lower band, a trust region, a pessimistic tail, a ramp.

Where records are thin the extrapolation loses the money, not the optimiser (docs/scaling.md): so allocation never
sees the
best guess. It sees E - kappa standard errors, cut at `trust` times the largest observed capital, never better beyond
the
records than the tail rule allows, as a piecewise linear curve through KNOTS capitals. The optimum is certified for
that curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from scaling.curves import CurveSet, Status
from scaling.families import Floats

KNOTS = 49
_SHAPE = (np.arange(KNOTS - 3) / (KNOTS - 4)) ** 1.5  # denser where fast decays bend
_ROWS = 512  # rows per pass


@dataclass(frozen=True)
class Caution:
    """How far below the best guess, and how far beyond the records, allocation may go."""

    kappa: float = 1.0  # standard errors taken off
    trust: float = 2.0  # times the largest observed capital
    ramp: float = 2.0  # times the capital held before, per review


@dataclass(frozen=True)
class Decision:
    """Piecewise linear lower curves of n instruments and what bounds their domain."""

    knots: Floats  # (n, KNOTS) rising capitals, the first 0
    efficiency: Floats  # (n, KNOTS) cautious E
    reach: Floats  # (n,) the last knot
    bound_by: np.ndarray  # (n,) index into BOUNDS


BOUNDS = ("cap", "trust", "ramp", "no_extrapolation", "first_ticket", "no_data")


def decide(curves: CurveSet, cap: Floats, caution: Caution, previous: Floats | None = None) -> Decision:
    """The curves allocation maximises. `cap` (n,) are the caller's limits per instrument, `previous` what is held
    now."""
    n = len(curves)
    reach, bound_by = _reach(curves, cap, caution, previous)
    knots, low = np.zeros((n, KNOTS)), np.zeros((n, KNOTS))
    for at in range(0, n, _ROWS):
        rows = np.arange(at, min(at + _ROWS, n))
        part = curves.take(rows)
        held = previous[rows] if previous is not None else np.zeros(len(rows))
        knots[rows] = _knots(part, reach[rows], held)
        low[rows] = _lower(part, knots[rows], caution.kappa)
    return Decision(knots, low, reach, bound_by)


def _reach(curves: CurveSet, cap: Floats, caution: Caution, previous: Floats | None) -> tuple[Floats, np.ndarray]:
    known = curves.status != Status.INSUFFICIENT
    c_max = np.where(known, np.nan_to_num(curves.c_max), 0.0)
    trust = np.where(curves.can_extrapolate, caution.trust * c_max, c_max)
    reach = np.where(curves.status == Status.PRIOR, np.nan_to_num(curves.c_min), trust)
    by = np.where(curves.can_extrapolate, 1, 3)
    by = np.where(curves.status == Status.PRIOR, 4, by)
    if previous is not None:
        start = np.nan_to_num(curves.c_min)  # what is not held yet may start at the smallest capital ever observed
        ramp = np.maximum(caution.ramp * previous, start)
        by = np.where(ramp < reach, 2, by)
        reach = np.minimum(reach, ramp)
    by = np.where(cap <= reach, 0, by)
    reach = np.minimum(reach, cap)
    by = np.where(known, by, 5)
    return np.where(known, np.maximum(reach, 0.0), 0.0), by


def _knots(curves: CurveSet, reach: Floats, held: Floats) -> Floats:
    extra = np.stack(
        (
            np.minimum(np.nan_to_num(curves.c_min), reach),
            np.minimum(np.nan_to_num(curves.c_max), reach),
            np.minimum(held, reach),
        ),
        axis=1,
    )
    return np.sort(np.concatenate((reach[:, None] * _SHAPE, extra), axis=1), axis=1)


def _lower(curves: CurveSet, knots: Floats, kappa: float) -> Floats:
    """E - kappa se with Student's widening for few records, the tail rule beyond, nothing above the best seen below."""
    safe = curves.take(np.arange(len(curves)))
    unknown = curves.status == Status.INSUFFICIENT
    safe.c_max[unknown] = 1.0
    safe.c_min[unknown] = 0.5
    factor = kappa if kappa == 0 else stdtrit(np.maximum(safe.df, 1.0), ndtr(kappa))
    mean, var = safe.moments(knots)
    low = mean - np.broadcast_to(factor, (len(safe),))[:, None] * np.sqrt(np.maximum(var, 0.0))
    top_mean, top_var = safe.moments(safe.c_max)
    top = top_mean - factor * np.sqrt(np.maximum(top_var, 0.0))
    beyond = knots > safe.c_max[:, None]
    line = top[:, None] - safe.tail[:, None] * (knots - safe.c_max[:, None])
    tail = np.minimum.accumulate(np.where(beyond, np.minimum(low, line), np.inf), axis=1)
    low = np.where(beyond, tail, low)
    inside = (knots >= safe.c_min[:, None]) & ~beyond
    best_seen = np.where(inside, mean, -np.inf).max(axis=1)
    first = safe.moments(safe.c_min)[0]
    ceiling = np.maximum(best_seen, first)
    low = np.where(knots < safe.c_min[:, None], np.minimum(low, ceiling[:, None]), low)
    return np.where(unknown[:, None], -1e6, low)
