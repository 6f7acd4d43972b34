"""Independent allocators to judge ours by: dynamic programming, brute force, SLSQP, the document's greedy, cvxpy."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import numpy as np

from scaling.families import Family, Floats, efficiency, marginal
from scaling.profit import ParametricProfit


def by_dynamic_programming(gains: Floats) -> float:
    """Most total gain with at most K steps, gains (n, K+1) on a grid of equal steps; -inf where not admissible."""
    width = gains.shape[1]
    best = np.full(width, -np.inf)
    best[0] = 0.0
    for row in gains:
        total = np.full(width, -np.inf)
        for k in range(width):
            if row[k] > -np.inf:
                total[k:] = np.maximum(total[k:], best[: width - k] + row[k])
        best = total
    return float(best.max())


def by_brute_force(gains: Floats) -> float:
    """The same by trying every combination; for 3 or 4 instruments."""
    steps = gains.shape[1]
    best = -np.inf
    for plan in itertools.product(range(steps), repeat=len(gains) - 1):
        left = steps - 1 - sum(plan)
        if left >= 0:
            head = sum(gains[i, k] for i, k in enumerate(plan))
            best = max(best, head + gains[-1, : left + 1].max())
    return float(best)


def grid_gains(profit: ParametricProfit, budget: float, steps: int) -> Floats:
    """g on a grid of `steps` equal parts of the budget, -inf outside {0} or [l, u]."""
    c = np.linspace(0.0, budget, steps + 1)
    gains = np.empty((profit.n, steps + 1))
    for i in range(profit.n):
        f = Family(int(profit.family[i]))
        g = c * efficiency(f, profit.theta[i], c)
        ok = (c >= profit.low[i]) & (c <= profit.high[i])
        gains[i] = np.where(ok, g, -np.inf)
        gains[i, 0] = 0.0
    return gains


def by_greedy(profit: ParametricProfit, budget: float, steps: int, gain: Callable[[Floats, int], float]) -> Floats:
    """The document's algorithm: equal steps, each to the instrument of most `gain`, while the gain is positive.

    `gain(c, i)` values one more step. The corrected version gains c*E, the literal one E.
    """
    step = budget / steps
    c = np.zeros(profit.n)
    heap = [(-(gain(np.array([0.0, step]), i)), i) for i in range(profit.n)]
    heapq.heapify(heap)
    left = steps
    while heap and left:
        worth, i = heapq.heappop(heap)
        if -worth <= 0 or c[i] + step > profit.high[i]:
            continue
        c[i] += step
        left -= 1
        heapq.heappush(heap, (-(gain(np.array([c[i], c[i] + step]), i)), i))
    return np.where(c >= profit.low, c, 0.0)


def profit_step(profit: ParametricProfit) -> Callable[[Floats, int], float]:
    """What the next step earns."""

    def gain(ends: Floats, i: int) -> float:
        f = Family(int(profit.family[i]))
        g = ends * efficiency(f, profit.theta[i], ends)
        return float(g[1] - g[0])

    return gain


def efficiency_step(profit: ParametricProfit) -> Callable[[Floats, int], float]:
    """The document's marginal: efficiency gained by the next step, taken literally (first step: E itself)."""

    def gain(ends: Floats, i: int) -> float:
        f = Family(int(profit.family[i]))
        e = efficiency(f, profit.theta[i], ends)
        return float(e[1]) if ends[0] == 0 else float(e[1] - e[0])

    return gain


def by_slsqp(profit: ParametricProfit, budget: float, starts: int, seed: int) -> float:
    """Scaled SLSQP from several starts: the best it finds (box [0, u], E floors already in u; needs l = 0)."""
    from scipy.optimize import minimize

    rng = np.random.default_rng(seed)
    scale = np.where(np.isfinite(profit.high), np.maximum(profit.high, 1e-9), 1.0)

    def negative(x: Floats) -> float:
        return -float(profit.value(x * scale).sum()) / budget

    def slope(x: Floats) -> Floats:
        out = np.empty(profit.n)
        for f in Family:
            rows = profit.family == f
            if rows.any():
                out[rows] = marginal(f, profit.theta[rows], x[rows] * scale[rows])
        return -out * scale / budget

    limit = {"type": "ineq", "fun": lambda x: 1 - (x * scale).sum() / budget, "jac": lambda x: -scale / budget}
    best = 0.0
    for _ in range(starts):
        x0 = rng.random(profit.n)
        x0 *= min(1.0, budget / (x0 * scale).sum())
        found = minimize(negative, x0, jac=slope, bounds=[(0, 1)] * profit.n, constraints=[limit], method="SLSQP",
                         options={"maxiter": 500, "ftol": 1e-13})  # fmt: skip
        c = np.clip(found.x, 0, 1) * scale
        c *= min(1.0, budget / max(c.sum(), 1e-300))
        best = max(best, float(profit.value(c).sum()))
    return best


def by_cvxpy(slope: Floats, start: Floats, cap: Floats, budget: float) -> float:
    """Linear efficiencies E = start + slope*c (slope < 0): a concave quadratic program, solved by Clarabel."""
    import cvxpy as cp

    unit = budget / len(slope)
    x = cp.Variable(len(slope), nonneg=True)
    value = start * unit @ x + slope * unit**2 @ cp.square(x)  # type: ignore[attr-defined]
    limits = [cp.sum(x) <= budget / unit, x <= cap / unit]  # type: ignore[attr-defined]
    problem = cp.Problem(cp.Maximize(value / budget), limits)
    tight = {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12}
    problem.solve(solver=cp.CLARABEL, **tight)  # type: ignore[no-untyped-call]
    return float(problem.value) * budget
