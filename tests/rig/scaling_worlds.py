"""Thousands of synthetic instruments with known truth, observed with noise and outliers, in one call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scaling.curves import CurveSet
from scaling.families import Family, Floats, efficiency
from scaling.learn import History, LearnOptions, learn
from scaling.synthetic import TrueCurve, draw_curve, observe

THREE = (Family.LINEAR, Family.POLYNOMIAL, Family.EXPONENTIAL)
FOUR = tuple(Family)
#: A calm world: nothing is forgotten, no regime test.
STILL = LearnOptions(half_life=np.inf, drift=False)


@dataclass
class World:
    """`kinds[i]` is the true family of instrument i, `theta` its parameters in capital units."""

    kinds: np.ndarray
    theta: Floats
    scale: Floats
    curves: list[TrueCurve]
    histories: list[History]

    def truth(self, share: Floats) -> Floats:
        """E at `share` (G,) of each instrument's range: (S, G)."""
        out = np.empty((len(self.kinds), len(share)))
        for f in Family:
            rows = self.kinds == f
            if rows.any():
                out[rows] = efficiency(f, self.theta[rows, None, :], share[None, :] * self.scale[rows, None])
        return out

    def learned(self, options: LearnOptions = STILL) -> CurveSet:
        return learn(self.histories, options)


def in_capital_units(curve: TrueCurve) -> Floats:
    """The parameters of a TrueCurve in c instead of c / scale."""
    from scaling.families import rescaled

    return rescaled(curve.family, np.array(curve.theta), curve.scale)


def world(
    seed: int,
    size: int,
    records: int,
    kinds: tuple[Family, ...] = THREE,
    noise: float = 0.03,
    outliers: float = 0.05,
    growth: float = 0.0,
    decay: float | None = None,
) -> World:
    """`size` instruments of random kinds and scales with `records` each, uniform over 2 % to 100 % of the range.

    `decay` fixes B * c_max of the exponentials instead of drawing it.
    """
    rng = np.random.default_rng(seed)
    curves, histories = [], []
    for _ in range(size):
        curve = draw_curve(rng, kinds[rng.integers(len(kinds))], float(10 ** rng.uniform(3.5, 6)))
        if decay is not None and curve.family is Family.EXPONENTIAL:
            curve = TrueCurve(curve.family, (curve.theta[0], decay, curve.theta[2]), curve.scale)
        c = curve.scale * rng.uniform(0.02, 1.0, records)
        c[rng.integers(records)] = curve.scale  # the range is observed to its end
        histories.append(History(c, observe(curve, c, rng, noise, outliers, growth)))
        curves.append(curve)
    return World(
        np.array([c.family for c in curves]),
        np.array([in_capital_units(c) for c in curves]),
        np.array([c.scale for c in curves]),
        curves,
        histories,
    )
