"""The price of capital: the Lagrangian dual of an allocation under one budget, its bound and two bracketing plans.

D(price) = price * budget + sum over instruments of max_c (g(c) - price * c) bounds the optimum from above for any
curves and
any price >= 0. Demand falls as the price rises, so the price is found by bracketing. Several limits: `scaling.columns`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scaling.families import Floats
from scaling.profit import Profit

_ULP = 4e-16


@dataclass(frozen=True)
class Limits:
    """What couples the instruments. `group` is -1 where none; `risk` are weights >= 0 per unit of capital."""

    budget: float
    floor: float = 0.0  # least price: the marginal that idle capital earns elsewhere (hurdle)
    group: np.ndarray | None = None
    group_cap: Floats | None = None
    risk: Floats | None = None
    risk_budget: float = np.inf

    def slack(self, c: Floats) -> tuple[float, Floats, float]:
        """(budget, groups, risk) left by a plan."""
        groups = np.empty(0)
        if self.group is not None and self.group_cap is not None:
            inside = self.group >= 0
            used = np.bincount(self.group[inside], weights=c[inside], minlength=len(self.group_cap))
            groups = self.group_cap - used
        risk = self.risk_budget - float(self.risk @ c) if self.risk is not None else np.inf
        return self.budget - float(c.sum()), groups, risk

    def allows(self, c: Floats) -> bool:
        """Whether a plan keeps every limit (to 1e-12 of the limit, the rounding of the sums)."""
        budget, groups, risk = self.slack(c)
        tight = 1e-12
        if budget < -tight * self.budget or (np.isfinite(risk) and risk < -tight * self.risk_budget):
            return False
        return self.group_cap is None or bool((groups >= -tight * self.group_cap).all())


@dataclass
class Priced:
    """The dual at its minimiser: a valid upper bound and the plans on both sides of it."""

    bound: float
    price: float  # of the budget: the shadow price of one more unit of capital
    under: Floats  # plan at slightly higher prices: within the budget
    over: Floats  # plan at slightly lower prices: beyond it, unless it does not bind


@dataclass
class _Point:
    c: Floats
    total: float
    dual: float


class PriceSearch:
    """Finds the budget's price for one Profit. Groups and risk of `limits` are not looked at."""

    def __init__(
        self, profit: Profit, limits: Limits, stop: Callable[[Floats, Floats, float], bool] | None = None,
        near: tuple[Profit, float, float] | None = None, precision: float = 1e-11, price_precision: float = np.inf,
    ) -> None:  # fmt: skip
        self.limits = limits
        self._profit = profit
        self._stop = stop  # asked now and then with (under, over, bound): good enough?
        self._near = near  # (the same profit narrowed to a price range, low, high) of an earlier search
        self._precision = precision  # relative, of the dual, at which a search ends
        self._price_precision = price_precision  # relative: the price must be known as well as this too
        self._top = max(profit.price_scale(), limits.floor)

    def _point(self, profit: Profit, price: float) -> _Point:
        c, gain = profit.best(np.full(profit.n, price))
        return _Point(c, float(c.sum()), price * self.limits.budget + float(gain.sum()))

    def run(self) -> Priced:
        """Bracket the budget's price until the dual is known to the precision asked for."""
        budget = self.limits.budget
        bracket = self._known_bracket()
        if bracket is None:
            profit = self._profit
            low, over = self.limits.floor, self._point(profit, self.limits.floor)
            if over.total <= budget:
                return Priced(over.dual, low, over.c, over.c)
            high = max(self._top, self.limits.floor * 2)
            under = self._point(profit, high)
            while under.total > budget and high <= 1e30 * self._top:
                low, over = high, under
                high *= 4
                under = self._point(profit, high)
        else:
            profit, low, over, high, under = bracket
        bound = min(over.dual, under.dual)
        wide, done = high - low, False
        for step in range(120):
            lowest, meet = _tangents(low, over, high, under, budget)
            done = done or bound - lowest <= self._precision * abs(bound)
            if (done and high - low <= self._price_precision * high) or high - low <= _ULP * max(
                high, self._top * 1e-3
            ):
                break
            trial = self._trial(step, low, over, high, under, meet)
            point = self._point(profit, trial)
            bound = min(bound, point.dual)
            if point.total > budget:
                low, over = trial, point
            else:
                high, under = trial, point
            if high - low < 0.1 * wide:
                wide = high - low
                profit = profit.narrowed(np.full(profit.n, low), np.full(profit.n, high))
                done = done or (self._stop is not None and self._stop(under.c, over.c, bound))
        price = (
            high
            if over.total <= under.total
            else high - (high - low) * (budget - under.total) / (over.total - under.total)
        )
        return Priced(bound, price, under.c, over.c)

    def _known_bracket(self) -> tuple[Profit, float, _Point, float, _Point] | None:
        """The bracket of an earlier, similar search, if it still encloses the price."""
        if self._near is None:
            return None
        profit, low, high = self._near
        over, under = self._point(profit, low), self._point(profit, high)
        if over.total > self.limits.budget >= under.total:
            return profit, low, over, high, under
        return None

    def _trial(self, step: int, low: float, over: _Point, high: float, under: _Point, meet: float) -> float:
        """In turn: where the dual's tangents meet (finite on jumps), where demand's chord crosses (fast where
        smooth), half."""
        width = high - low
        if step % 3 == 0:
            trial = meet
        elif step % 3 == 1:
            trial = high - (self.limits.budget - under.total) * width / (over.total - under.total)
        else:
            return 0.5 * (low + high)
        return min(max(trial, low + 1e-3 * width), high - 1e-3 * width)


def _tangents(low: float, over: _Point, high: float, under: _Point, budget: float) -> tuple[float, float]:
    """(least value the convex dual can have between two points, price where their tangents meet)."""
    slope_low, slope_high = budget - over.total, budget - under.total
    if slope_high - slope_low <= 0:
        return -np.inf, 0.5 * (low + high)
    meet = (over.dual - under.dual + slope_high * high - slope_low * low) / (slope_high - slope_low)
    meet = min(max(meet, low), high)
    return max(over.dual + slope_low * (meet - low), under.dual + slope_high * (meet - high)), meet
