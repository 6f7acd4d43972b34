"""Prices: the Lagrangian dual of an allocation under a budget, group caps and a risk budget; its bound and two
bracketing plans.

D(prices) = sum of price * limit + sum over instruments of max_c (g(c) - price_of_the_instrument * c) bounds the
optimum from
above for any curves and any prices >= 0. The price of an instrument is the budget's, plus its group's, plus its risk
weight
times the risk price. Demand falls as each price rises, so each is found by bracketing: the groups' inside the
budget's inside
the risk's.
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
    group_price: Floats
    risk_price: float
    under: Floats  # plan at slightly higher prices: keeps every limit
    over: Floats  # plan at slightly lower prices: breaks one, unless the limits do not bind
    prices: Floats  # per instrument


@dataclass
class _Point:
    c: Floats
    dual: float
    group_price: Floats
    prices: Floats


class PriceSearch:
    """Finds the prices for one Profit and one Limits."""

    def __init__(
        self, profit: Profit, limits: Limits, stop: Callable[[Floats, Floats, float], bool] | None = None,
        near: tuple[Profit, float, float] | None = None, precision: float = 1e-11,
    ) -> None:  # fmt: skip
        self.limits = limits
        self._profit = profit
        self._precision = precision  # relative, of the dual, at which a search ends
        self._stop = stop  # asked now and then with (under, over, bound): good enough?
        self._near = near  # (the same profit narrowed to a price range, low, high) of an earlier search
        self._top = max(profit.price_scale(), limits.floor)

    def run(self) -> Priced:
        """Search the risk price outside, the budget's inside."""
        if self.limits.risk is None or not np.isfinite(self.limits.risk_budget):
            return self._budget_search(0.0)
        risk, limit = self.limits.risk, self.limits.risk_budget
        free = self._budget_search(0.0)
        if float(risk @ free.over) <= limit:
            return free
        if float(risk @ free.under) <= limit:
            return free
        scale = float(risk[risk > 0].min())
        low, high = 0.0, self._top / scale
        best, over = free, free.over
        found = self._budget_search(high)
        while float(risk @ found.under) > limit:  # pieces that may not be empty can need a higher price
            low, high = high, high * 4
            found = self._budget_search(high)
            if high > 1e30 * self._top:
                break
        under = found
        for _ in range(80):
            if high - low <= 1e-14 * high:
                break
            middle = 0.5 * (low + high)
            trial = self._budget_search(middle)
            best = trial if trial.bound < best.bound else best
            if float(risk @ trial.under) > limit:
                low, over = middle, trial.under
            else:
                high, under = middle, trial
        best = under if under.bound < best.bound else best
        return Priced(
            best.bound, under.price, under.group_price, high, under.under, np.maximum(over, under.over), under.prices
        )

    def _point(self, profit: Profit, price: float, risk_price: float) -> _Point:
        limits = self.limits
        prices = np.full(profit.n, price)
        dual = price * limits.budget
        if limits.risk is not None and np.isfinite(limits.risk_budget):
            prices = prices + risk_price * limits.risk
            dual += risk_price * limits.risk_budget
        if limits.group is None or limits.group_cap is None:
            c, gain = profit.best(prices)
            return _Point(c, dual + float(gain.sum()), np.empty(0), prices)
        return self._grouped(profit, prices, dual)

    def _grouped(self, profit: Profit, prices: Floats, dual: float) -> _Point:
        """Bisect all group prices at once; the returned plan keeps every group cap."""
        group, cap = self.limits.group, self.limits.group_cap
        assert group is not None
        assert cap is not None
        member = group >= 0
        safe = np.where(member, group, 0)

        def demand(group_price: Floats) -> tuple[Floats, Floats, Floats]:
            full = prices + np.where(member, group_price[safe], 0.0)
            c, gain = profit.best(full)
            return c, gain, np.bincount(group[member], weights=c[member], minlength=len(cap)).astype(np.float64)

        low = np.zeros(len(cap))
        c, gain, used = demand(low)
        if (used <= cap).all():
            return _Point(c, dual + float(gain.sum()), low, prices)
        high = np.where(used > cap, 2 * self._top, 0.0)
        for _ in range(60):
            _, _, used = demand(high)
            if (used <= cap).all():
                break
            high = np.where(used > cap, high * 4, high)
        for _ in range(52):
            middle = 0.5 * (low + high)
            _, _, used = demand(middle)
            low, high = np.where(used > cap, middle, low), np.where(used > cap, high, middle)
            if (high - low <= 1e-15 * np.maximum(high, self._top)).all():
                break
        c, gain, _ = demand(high)
        full = prices + np.where(member, high[safe], 0.0)
        return _Point(c, dual + float(high @ cap + gain.sum()), high, full)

    def _budget_search(self, risk_price: float) -> Priced:
        """Bracket the budget's price until the dual is known to the precision asked for."""
        limits = self.limits
        bracket = self._known_bracket(risk_price)
        if bracket is None:
            profit = self._profit
            low, over = limits.floor, self._point(profit, limits.floor, risk_price)
            if float(over.c.sum()) <= limits.budget:
                return self._priced(over.dual, low, risk_price, over, over)
            high = max(self._top, limits.floor * 2)
            under = self._point(profit, high, risk_price)
            while float(under.c.sum()) > limits.budget and high <= 1e30 * self._top:
                low, over = high, under
                high *= 4
                under = self._point(profit, high, risk_price)
        else:
            profit, low, over, high, under = bracket
        bound = min(over.dual, under.dual)
        wide = high - low
        for step in range(120):
            lowest, meet = _tangents(low, over, high, under, limits.budget)
            if bound - lowest <= self._precision * abs(bound) or high - low <= _ULP * max(high, self._top * 1e-3):
                break
            trial = self._trial(step, low, over, high, under, meet)
            point = self._point(profit, trial, risk_price)
            bound = min(bound, point.dual)
            if float(point.c.sum()) > limits.budget:
                low, over = trial, point
            else:
                high, under = trial, point
            if high - low < 0.1 * wide:
                wide = high - low
                if limits.group is None:
                    profit = profit.narrowed(over.prices, under.prices)
                if self._stop is not None and self._stop(under.c, over.c, bound):
                    break
        return self._priced(bound, high, risk_price, under, over)

    def _known_bracket(self, risk_price: float) -> tuple[Profit, float, _Point, float, _Point] | None:
        """The bracket of an earlier, similar search, if it still encloses the price."""
        if self._near is None:
            return None
        profit, low, high = self._near
        over, under = self._point(profit, low, risk_price), self._point(profit, high, risk_price)
        budget = self.limits.budget
        if float(over.c.sum()) > budget >= float(under.c.sum()):
            return profit, low, over, high, under
        return None

    def _trial(self, step: int, low: float, over: _Point, high: float, under: _Point, meet: float) -> float:
        """In turn: where the dual's two tangents meet (finite on jumps), where demand's chord crosses (fast where
        smooth), half."""
        width = high - low
        if step % 3 == 0:
            trial = meet
        elif step % 3 == 1:
            f_low, f_high = float(over.c.sum()) - self.limits.budget, float(under.c.sum()) - self.limits.budget
            trial = high - f_high * width / (f_high - f_low)
        else:
            return 0.5 * (low + high)
        return min(max(trial, low + 1e-3 * width), high - 1e-3 * width)

    def _priced(self, bound: float, price: float, risk_price: float, under: _Point, over: _Point) -> Priced:
        return Priced(bound, price, under.group_price, risk_price, under.c, over.c, under.prices)


def _tangents(low: float, over: _Point, high: float, under: _Point, budget: float) -> tuple[float, float]:
    """(least value the convex dual can have between two points, price where their tangents meet)."""
    slope_low, slope_high = budget - float(over.c.sum()), budget - float(under.c.sum())
    if slope_high - slope_low <= 0:
        return -np.inf, 0.5 * (low + high)
    meet = (over.dual - under.dual + slope_high * high - slope_low * low) / (slope_high - slope_low)
    meet = min(max(meet, low), high)
    return max(over.dual + slope_low * (meet - low), under.dual + slope_high * (meet - high)), meet
