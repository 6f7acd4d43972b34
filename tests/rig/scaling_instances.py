"""Allocation problems as in the acceptance figures: equal thirds linear, polynomial (most with a hump), exponential."""

from __future__ import annotations

import numpy as np

from scaling.families import Family
from scaling.profit import ParametricProfit


def instance(n: int, seed: int, min_efficiency: float = 0.15) -> tuple[ParametricProfit, float]:
    """(profit, budget): scales 3e3 to 1e6, budget 40 % of what the instruments would take unconstrained."""
    rng = np.random.default_rng(seed)
    family = np.arange(n) % 3
    scale = 10 ** rng.uniform(np.log10(3e3), 6, n)
    theta = np.zeros((n, 3))
    for i in range(n):
        s = scale[i]
        if family[i] == Family.LINEAR:
            theta[i] = [-rng.uniform(0.3, 1) / s, rng.uniform(0.5, 1), 0]
        elif family[i] == Family.EXPONENTIAL:
            theta[i] = [rng.uniform(0.4, 0.9), rng.uniform(1, 5) / s, rng.uniform(0, 0.3)]
        elif rng.random() < 0.6:
            peak, top = rng.uniform(0.2, 0.7), rng.uniform(0.5, 1)
            start = rng.uniform(0.1, 0.8) * top
            bend = (top - start) / peak**2
            theta[i] = [-bend / s**2, 2 * bend * peak / s, start]
        else:
            theta[i] = [-rng.uniform(0.3, 1) / s**2, -rng.uniform(0, 0.3) / s, rng.uniform(0.5, 1)]
    profit = ParametricProfit.of(family, theta, 4 * scale, min_efficiency)
    return profit, 0.4 * float(profit.best(np.zeros(n))[0].sum())


def hump_instance(n: int, seed: int) -> tuple[ParametricProfit, float]:
    """Only polynomials with an interior hump that starts under the minimum efficiency: a valley no greedy crosses."""
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.uniform(np.log10(3e3), 6, n)
    theta = np.zeros((n, 3))
    for i in range(n):
        peak, top, start = rng.uniform(0.3, 0.7), rng.uniform(0.5, 1), rng.uniform(0.02, 0.3)
        bend = (top - start) / peak**2
        theta[i] = [-bend / scale[i] ** 2, 2 * bend * peak / scale[i], start]
    profit = ParametricProfit.of(np.full(n, int(Family.POLYNOMIAL)), theta, 4 * scale, 0.05)
    return profit, 0.4 * float(profit.best(np.zeros(n))[0].sum())


def concave_instance(n: int, seed: int) -> tuple[ParametricProfit, float]:
    """Linear efficiencies only: a quadratic program."""
    rng = np.random.default_rng(seed)
    scale = 10 ** rng.uniform(np.log10(3e3), 6, n)
    theta = np.stack((-rng.uniform(0.3, 1, n) / scale, rng.uniform(0.5, 1, n), np.zeros(n)), axis=1)
    profit = ParametricProfit.of(np.zeros(n, np.int64), theta, 2 * scale)
    return profit, 0.4 * float(profit.best(np.zeros(n))[0].sum())
