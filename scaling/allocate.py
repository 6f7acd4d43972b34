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
    priced: Priced
    profit: Profit


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
        self._best = np.zeros(profit.n)
        self._best_score = -np.inf
        self._near: tuple[Profit, float, float] | None = None  # the root's neighbourhood, for every later search

    def run(self, started: float) -> Solution:
        heap: list[tuple[float, int, _Node]] = []
        ticket = itertools.count()
        root = self._node({})
        assert root is not None
        heapq.heappush(heap, (-root.priced.bound, next(ticket), root))
        nodes, bound = 1, root.priced.bound
        dropped = -np.inf  # the highest bound among nodes that cannot be split further
        while heap:
            bound = max(-heap[0][0], dropped)
            if self._enough(bound) or nodes >= self._max_nodes or time.perf_counter() > self._deadline:
                break
            _, _, node = heapq.heappop(heap)
            children = self._split(node)
            if not children:
                dropped = max(dropped, node.priced.bound)
            for cuts in children:
                nodes += 1
                child = self._node(cuts)
                if child is not None and child.priced.bound > self._best_score:
                    heapq.heappush(heap, (-child.priced.bound, next(ticket), child))
            bound = max(-heap[0][0] if heap else self._best_score, dropped)
        bound = max(bound, self._best_score)
        floor, limits = self._limits.floor, self._limits
        idle = floor * (limits.budget - float(self._best.sum()))
        value = float(self._profit.value(self._best).sum())
        p = root.priced
        return Solution(
            self._best,
            value,
            bound - idle,
            p.price,
            p.group_price,
            p.risk_price,
            p.prices,
            nodes,
            time.perf_counter() - started,
        )

    def _enough(self, bound: float) -> bool:
        return bound - self._best_score <= self._gap * max(abs(bound), 1e-300)

    def _score(self, c: Floats) -> float:
        """The objective with idle capital earning the hurdle."""
        total = float(self._profit.value(c).sum())
        return total + self._limits.floor * (self._limits.budget - float(c.sum()))

    def _offer(self, c: Floats) -> None:
        if self._limits.allows(c):
            score = self._score(c)
            if score > self._best_score:
                self._best, self._best_score = c, score

    def _node(self, cuts: dict[int, tuple[float, float]]) -> _Node | None:
        pieces = {row: self._profit.piece(row, low, high) for row, (low, high) in cuts.items()}
        profit: Profit = Restricted(self._profit, pieces) if pieces else self._profit
        if pieces and not self._limits.allows(np.nan_to_num(profit.smallest(), posinf=1e300)):
            return None
        budget_only = self._limits.group is None and self._limits.risk is None

        def good(under: Floats, over: Floats, bound: float) -> bool:
            if bound <= self._best_score:
                return True
            self._recover(profit, under, over)
            return self._enough(bound)

        priced = self._search(profit, pieces, good if budget_only else None)
        if budget_only and self._near is None and not self._enough(priced.bound):
            low, high = priced.price * 0.97, priced.price * 1.03
            if low > self._limits.floor:
                ones = np.ones(profit.n)
                self._near = (self._profit.narrowed(low * ones, high * ones), low, high)
        jump = self._recover(profit, priced.under, priced.over)
        if not self._enough(priced.bound) and jump is not None and budget_only:
            self._pin(pieces, jump, priced)
        return _Node(cuts, priced, profit)

    def _search(
        self, profit: Profit, pieces: dict[int, Profit], stop: Callable[[Floats, Floats, float], bool] | None
    ) -> Priced:
        near = self._near
        if near is not None:
            near = (Restricted(near[0], pieces), near[1], near[2])
        return PriceSearch(profit, self._limits, stop, near, precision=min(0.01 * self._gap, 1e-9)).run()

    def _recover(self, profit: Profit, under: Floats, over: Floats) -> int | None:
        """Offer plans between the two bracketing ones; returns the instrument that took the slack in part."""
        self._offer(under)
        rise = np.maximum(over - under, 0.0)
        rows = np.flatnonzero(rise > 0)
        if not len(rows):
            return None
        rows = rows[np.argsort(rise[rows], kind="stable")]
        if self._limits.group is not None or self._limits.risk is not None:
            return self._fill(profit, under, rise, rows)
        slack = self._limits.budget - float(under.sum())
        total = np.cumsum(rise[rows])
        full = rows[total <= slack]
        c = under.copy()
        c[full] = over[full]
        self._offer(c)
        if len(full) == len(rows):
            return None
        row = int(rows[len(full)])
        room = self._limits.budget - float(c.sum())
        c = c.copy()
        c[row] = self._at_most(profit, row, float(c[row] + max(room, 0.0)), self._limits.floor)
        self._offer(c)
        return row

    def _fill(self, profit: Profit, under: Floats, rise: Floats, rows: np.ndarray) -> int | None:
        """The same under several limits: raise one instrument after the other by what every limit still leaves."""
        c = under.copy()
        partial = None
        for row in rows:
            budget, groups, risk = self._limits.slack(c)
            room = budget
            if self._limits.group is not None and self._limits.group[row] >= 0:
                room = min(room, float(groups[self._limits.group[row]]))
            if self._limits.risk is not None and self._limits.risk[row] > 0:
                room = min(room, risk / float(self._limits.risk[row]))
            if room <= 0:
                partial = int(row) if partial is None else partial
                continue
            if rise[row] > room:
                partial = int(row)
            limit = c[row] + min(rise[row], room)
            c[row] = self._at_most(profit, int(row), float(limit), self._limits.floor)
        self._offer(c)
        return partial

    def _at_most(self, profit: Profit, row: int, limit: float, price: float) -> float:
        """The best admissible amount up to `limit` when only the hurdle is charged."""
        one = profit.piece(row, 0.0, limit)
        if not np.isfinite(one.smallest()[0]):
            return limit
        return float(one.best(np.array([price]))[0][0])

    def _pin(self, pieces: dict[int, Profit], row: int, priced: Priced) -> None:
        """Hold the jumper at its low end, and at the slack it can have, and let the others share the rest anew."""
        slack = self._limits.budget - float(priced.under.sum())
        base = Restricted(self._profit, pieces)
        part = self._at_most(base, row, float(priced.under[row] + slack), self._limits.floor)
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

                found = self._search(profit, held, done)
                self._recover(profit, found.under, found.over)

    def _split(self, node: _Node) -> list[dict[int, tuple[float, float]]]:
        """Two children that halve the widest jump of the node."""
        under, over = node.priced.under, node.priced.over
        jump = np.abs(over - under)
        row = int(np.argmax(jump))
        if jump[row] <= 1e-12 * max(self._limits.budget, 1e-300):
            return []
        middle = 0.5 * (float(under[row]) + float(over[row]))
        low, high = node.cuts.get(row, (0.0, np.inf))
        if not low < middle < high:
            return []
        return [{**node.cuts, row: (low, middle)}, {**node.cuts, row: (middle, high)}]
