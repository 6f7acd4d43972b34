"""The allocation of most profit: dual bound, a feasible plan beside it, branch and bound until the gap is certified.

With one budget the dual optimum leaves at most one instrument off its curve (Shapley-Folkman; Udell and Boyd,
"Maximizing a
sum of sigmoids"): the one that jumps between two amounts at the shadow price. Branching splits that jump.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from scaling.columns import mix
from scaling.dual import Limits, Priced, PriceSearch
from scaling.errors import Infeasible, InvalidQuery
from scaling.families import Floats
from scaling.profit import Profit, Restricted

#: Relative gap at which the search ends. The promise is 1e-6; the search aims lower.
TARGET_GAP = 1e-7


@dataclass(frozen=True)
class Solution:
    """A plan with its proof: no plan under the same limits earns more than `bound`."""

    capital: Floats  # (n,)
    value: float  # sum of g(c)
    bound: float
    price: float  # shadow price: what one more unit of budget would earn
    group_price: Floats
    risk_price: float
    prices: Floats  # (n,) price each instrument had to beat
    nodes: int
    seconds: float = field(default=0.0, compare=False)

    @property
    def gap(self) -> float:
        """(bound - value) / |bound|, never negative."""
        return max(self.bound - self.value, 0.0) / max(abs(self.bound), 1e-300) if self.bound > self.value else 0.0


@dataclass
class _Node:
    cuts: dict[int, tuple[float, float]]
    bound: float
    split: tuple[int, float] | None  # instrument and amount at which to divide its domain; None: nothing left to divide


def solve(
    profit: Profit, limits: Limits, gap: float = TARGET_GAP, max_nodes: int = 4000, max_seconds: float = 30.0
) -> Solution:
    """Maximise the sum of g(c) under `limits`. The gap reached is in the answer; it may exceed `gap` only if nodes or
    time ran out.

    Hurdle: with limits.floor > 0 the objective is sum g(c) + floor * (budget - sum c); value and bound are reported
    for it
    minus the constant floor * budget, plus floor * sum c, that is as plain sum of g(c) of the plan and a bound with
    the same
    hurdle earned by idle capital.
    """
    started = time.perf_counter()
    if not limits.budget >= 0:
        raise InvalidQuery(f"budget must be at least 0, not {limits.budget}")
    if profit.n == 0 or limits.budget == 0:
        zero = np.zeros(profit.n)
        if limits.budget == 0 and profit.n and profit.smallest().max() > 0:
            raise Infeasible("an instrument requires capital and the budget is 0")
        value = float(profit.value(zero).sum()) if profit.n else 0.0
        return Solution(zero, value, value, limits.floor, np.empty(0), 0.0, np.full(profit.n, limits.floor), 0)
    if not limits.allows(np.nan_to_num(profit.smallest(), posinf=1e300)):
        raise Infeasible(
            "the least amounts the instruments may hold already exceed the budget, a group cap or the risk budget"
        )
    return _Search(profit, limits, gap, max_nodes, started + max_seconds).run(started)


class _Search:
    def __init__(self, profit: Profit, limits: Limits, gap: float, max_nodes: int, deadline: float) -> None:
        self._profit, self._limits, self._gap = profit, limits, gap
        self._max_nodes, self._deadline = max_nodes, deadline
        self._several = limits.group is not None or limits.risk is not None
        self._best = np.zeros(profit.n)
        self._best_score = -np.inf
        self._prices: tuple[float, Floats, float, Floats] | None = (
            None  # the root's: budget, groups, risk, per instrument
        )
        self._near: tuple[Profit, float, float] | None = None  # the root's neighbourhood, for every later search

    def run(self, started: float) -> Solution:
        heap: list[tuple[float, int, _Node]] = []
        ticket = itertools.count()
        root = self._node({})
        assert root is not None
        heapq.heappush(heap, (-root.bound, next(ticket), root))
        nodes, bound = 1, root.bound
        dropped = -np.inf  # the highest bound among nodes that cannot be split further
        while heap:
            bound = max(-heap[0][0], dropped)
            if self._enough(bound) or nodes >= self._max_nodes or time.perf_counter() > self._deadline:
                break
            _, _, node = heapq.heappop(heap)
            children = self._children(node)
            if not children:
                dropped = max(dropped, node.bound)
            for cuts in children:
                nodes += 1
                child = self._node(cuts)
                if child is not None and child.bound > self._best_score:
                    heapq.heappush(heap, (-min(child.bound, node.bound), next(ticket), child))
            bound = max(-heap[0][0] if heap else self._best_score, dropped)
        bound = max(bound, self._best_score)
        floor, limits = self._limits.floor, self._limits
        idle = floor * (limits.budget - float(self._best.sum()))
        value = float(self._profit.value(self._best).sum())
        assert self._prices is not None
        price, group_price, risk_price, prices = self._prices
        seconds = time.perf_counter() - started
        return Solution(self._best, value, bound - idle, price, group_price, risk_price, prices, nodes, seconds)

    def _enough(self, bound: float) -> bool:
        return bound - self._best_score <= self._gap * max(abs(bound), 1e-300)

    def _offer(self, c: Floats) -> None:
        """Keep a plan if it is allowed and the best so far; idle capital earns the hurdle."""
        if self._limits.allows(c):
            score = float(self._profit.value(c).sum()) + self._limits.floor * (self._limits.budget - float(c.sum()))
            if score > self._best_score:
                self._best, self._best_score = c, score

    def _node(self, cuts: dict[int, tuple[float, float]]) -> _Node | None:
        pieces = {row: self._profit.piece(row, low, high) for row, (low, high) in cuts.items()}
        profit: Profit = Restricted(self._profit, pieces) if pieces else self._profit
        if pieces and not self._limits.allows(np.nan_to_num(profit.smallest(), posinf=1e300)):
            return None
        if self._several:
            bound, split = self._mixed(profit)
        else:
            bound, split = self._priced(profit, pieces)
        return _Node(cuts, bound, split)

    # one budget

    def _priced(self, profit: Profit, pieces: dict[int, Profit]) -> tuple[float, tuple[int, float] | None]:
        def good(under: Floats, over: Floats, bound: float) -> bool:
            if bound <= self._best_score:
                return True
            self._recover(profit, under, over)
            return self._enough(bound)

        root = self._prices is None
        found = self._search(profit, pieces, good, 1e-6 if root else np.inf)
        jumper = self._recover(profit, found.under, found.over)
        if root:
            ones = np.ones(profit.n)
            self._prices = (found.price, np.empty(0), 0.0, found.price * ones)
            low, high = found.price * 0.97, found.price * 1.03
            if low > self._limits.floor and not self._enough(found.bound):
                self._near = (self._profit.narrowed(low * ones, high * ones), low, high)
        if jumper is not None and not self._enough(found.bound) and found.bound > self._best_score:
            self._pin(pieces, jumper, found)
        row = int(np.argmax(np.abs(found.over - found.under)))
        low, high = float(found.under[row]), float(found.over[row])
        return found.bound, (row, 0.5 * (low + high)) if abs(high - low) > 1e-12 * self._limits.budget else None

    def _search(
        self,
        profit: Profit,
        pieces: dict[int, Profit],
        stop: Callable[[Floats, Floats, float], bool],
        price_precision: float,
    ) -> Priced:
        near = self._near
        if near is not None:
            near = (Restricted(near[0], pieces), near[1], near[2])
        return PriceSearch(profit, self._limits, stop, near, min(0.01 * self._gap, 1e-9), price_precision).run()

    def _recover(self, profit: Profit, under: Floats, over: Floats) -> int | None:
        """Offer plans between the two bracketing ones; returns the instrument that took the slack in part."""
        self._offer(under)
        rise = np.maximum(over - under, 0.0)
        rows = np.flatnonzero(rise > 0)
        if not len(rows):
            return None
        rows = rows[np.argsort(rise[rows], kind="stable")]
        slack = self._limits.budget - float(under.sum())
        full = rows[np.cumsum(rise[rows]) <= slack]
        c = under.copy()
        c[full] = over[full]
        self._offer(c)
        if len(full) == len(rows):
            return None
        row = int(rows[len(full)])
        room = self._limits.budget - float(c.sum())
        c = c.copy()
        c[row] = self._at_most(profit, row, float(c[row] + max(room, 0.0)))
        self._offer(c)
        return row

    def _at_most(self, profit: Profit, row: int, limit: float) -> float:
        """The best admissible amount up to `limit` when only the hurdle is charged; `limit` itself if there is none."""
        one = profit.piece(row, 0.0, limit)
        if not np.isfinite(one.smallest()[0]):
            return limit
        return float(one.best(np.array([self._limits.floor]))[0][0])

    def _pin(self, pieces: dict[int, Profit], row: int, priced: Priced) -> None:
        """Hold the jumper at its low end, and at the slack it can have, and let the others share the rest anew."""
        slack = self._limits.budget - float(priced.under.sum())
        base = Restricted(self._profit, pieces)
        part = self._at_most(base, row, float(priced.under[row] + slack))
        for amount in {float(priced.under[row]), part}:
            piece = base.piece(row, amount, amount)
            if not np.isfinite(piece.smallest()[0]):
                continue
            held = {**pieces, row: piece}
            profit = Restricted(self._profit, held)
            if self._limits.allows(np.nan_to_num(profit.smallest(), posinf=1e300)):

                def done(under: Floats, over: Floats, bound: float, profit: Profit = profit) -> bool:
                    if bound <= self._best_score:
                        return True
                    self._recover(profit, under, over)
                    return self._enough(priced.bound)

                found = self._search(profit, held, done, np.inf)
                self._recover(profit, found.under, found.over)

    # several limits

    def _mixed(self, profit: Profit) -> tuple[float, tuple[int, float] | None]:
        found = mix(profit, self._limits, min(0.1 * self._gap, 1e-8))
        if self._prices is None:
            self._prices = (found.price, found.group_price, found.risk_price, found.prices)
        plan = found.amount.copy()
        for row in found.mixed:
            plan[row] = self._at_most(profit, int(row), float(found.amount[row]))
        self._offer(plan)
        self._fill(profit, plan)
        if not len(found.mixed):
            return found.bound, None
        share = (found.amount - found.low) / np.where(found.high > found.low, found.high - found.low, 1.0)
        hull = (1 - share) * profit.value(found.low) + share * profit.value(found.high)
        lost = np.where(found.high > found.low, hull - profit.value(plan), -np.inf)
        lost = np.nan_to_num(lost, neginf=-1e300)
        row = int(np.argmax(lost))
        if lost[row] <= 1e-14 * abs(found.bound):
            row = int(np.argmax(found.high - found.low))
        low, high = float(found.low[row]), float(found.high[row])
        return found.bound, (row, 0.5 * (low + high)) if high - low > 1e-10 * self._limits.budget else None

    def _fill(self, profit: Profit, plan: Floats) -> None:
        """Use what rounding left: raise the instruments of best return per unit, each within every limit."""
        c = plan.copy()
        order = np.argsort(-(profit.value(np.maximum(c, 0.0)) / np.maximum(c, 1e-300)), kind="stable")
        for row in order[:50]:
            budget, groups, risk = self._limits.slack(c)
            room = budget
            if self._limits.group is not None and self._limits.group[row] >= 0:
                room = min(room, float(groups[self._limits.group[row]]))
            if self._limits.risk is not None and self._limits.risk[row] > 0:
                room = min(room, risk / float(self._limits.risk[row]))
            if room > 0:
                c[row] = max(c[row], self._at_most(profit, int(row), float(c[row]) + room * (1 - 1e-12)))
        self._offer(c)

    def _children(self, node: _Node) -> list[dict[int, tuple[float, float]]]:
        """Two children that divide one instrument's domain."""
        if node.split is None:
            return []
        row, middle = node.split
        low, high = node.cuts.get(row, (0.0, np.inf))
        if not low < middle < high:
            return []
        return [{**node.cuts, row: (low, middle)}, {**node.cuts, row: (middle, high)}]
