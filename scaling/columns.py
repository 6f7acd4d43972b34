"""The dual under several limits at once: column generation (Dantzig and Wolfe) over the amounts each instrument would
choose.

A linear programme mixes the amounts seen so far; its prices ask every instrument for its best amount; those become new
columns until no price can promise more. The mixture keeps every limit, so rounding its few mixed instruments down
gives a
plan, and the prices give the bound.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, vstack

from scaling.dual import Limits
from scaling.families import Floats
from scaling.profit import Profit

_ROUNDS = 60
_LADDER = np.concatenate(([0.0], np.geomspace(1e-3, 1.0, 14)))  # of the price scale: where the first columns come from


@dataclass
class Mixture:
    """The dual at its minimiser, and the primal mixture beside it."""

    bound: float
    price: float
    group_price: Floats
    risk_price: float
    prices: Floats  # per instrument, with the hurdle
    amount: Floats  # the mixture's amount per instrument: keeps every limit
    mixed: np.ndarray  # rows whose amount mixes two or more columns
    low: Floats  # least and greatest column in the mixture, per instrument
    high: Floats


@dataclass
class _Columns:
    row: list[np.ndarray] = field(default_factory=list)
    amount: list[Floats] = field(default_factory=list)

    def add(self, amount: Floats) -> None:
        self.row.append(np.arange(len(amount)))
        self.amount.append(amount)

    def unique(self) -> tuple[np.ndarray, Floats]:
        pairs = np.unique(
            np.stack((np.concatenate(self.row).astype(np.float64), np.concatenate(self.amount)), axis=1), axis=0
        )
        return pairs[:, 0].astype(np.int64), pairs[:, 1]


def mix(profit: Profit, limits: Limits, precision: float) -> Mixture:
    """Column generation to `precision` (relative, of the bound)."""
    seen = _Columns()
    seen.add(profit.smallest())
    top = max(profit.price_scale(), limits.floor)
    for step in _LADDER:
        seen.add(profit.best(np.full(profit.n, limits.floor + step * top))[0])
    bound, best = np.inf, None
    for _ in range(_ROUNDS):
        row, amount = seen.unique()
        weight, duals, value = _master(profit, limits, row, amount)
        price, group_price, risk_price, prices, constant = _prices(limits, duals, profit.n)
        c, gain = profit.best(prices)
        promised = constant + float(gain.sum())
        bound = min(bound, promised)
        best = (row, amount, weight, price, group_price, risk_price, prices)
        if bound - value <= precision * abs(bound):
            break
        seen.add(c)
    assert best is not None
    return _mixture(profit.n, bound, *best)


def _rows(limits: Limits) -> tuple[list[np.ndarray | None], list[Floats], Floats]:
    """(members, weights, limits) of the coupling rows: budget, groups, risk."""
    members: list[np.ndarray | None] = [None]
    weights: list[Floats] = [np.ones(1)]
    right = [limits.budget]
    if limits.group is not None and limits.group_cap is not None:
        for g, cap in enumerate(limits.group_cap):
            members.append(limits.group == g)
            weights.append(np.ones(1))
            right.append(float(cap))
    if limits.risk is not None and np.isfinite(limits.risk_budget):
        members.append(None)
        weights.append(limits.risk)
        right.append(limits.risk_budget)
    return members, weights, np.array(right)


def _master(profit: Profit, limits: Limits, row: np.ndarray, amount: Floats) -> tuple[Floats, Floats, float]:
    """Solve the linear programme: (column weights, prices >= 0 of the coupling rows, objective with idle capital at
    the hurdle)."""
    n = profit.n
    unit = limits.budget
    gain = _values(profit, row, amount) - limits.floor * amount
    members, weights, right = _rows(limits)
    blocks = []
    for member, weight in zip(members, weights, strict=True):
        use = np.ones(n) if member is None else member.astype(np.float64)
        per_unit = use * (weight if len(weight) == n else weight[0])
        blocks.append(csr_array((per_unit[row] * amount / unit)[None, :]))
    one = coo_array((np.ones(len(row)), (row, np.arange(len(row)))), shape=(n, len(row))).tocsr()
    found = linprog(
        -gain / unit, A_ub=vstack(blocks, format="csr"), b_ub=right / unit, A_eq=one, b_eq=np.ones(n),
        bounds=(0, None), method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )  # fmt: skip
    assert found.status == 0, (
        found.message
    )  # the smallest amounts keep every limit: it is feasible, and bounded by the simplex rows
    value = -float(found.fun) * unit + limits.floor * limits.budget
    return np.asarray(found.x), np.maximum(-found.ineqlin.marginals, 0.0), value


def _values(profit: Profit, row: np.ndarray, amount: Floats) -> Floats:
    """g of every column, asked for in plans of one column per instrument."""
    out = np.empty(len(row))
    order = np.argsort(row, kind="stable")
    place = np.arange(len(row)) - np.searchsorted(row[order], row[order], side="left")
    fill = profit.smallest()
    for k in range(int(place.max()) + 1):
        at = order[place == k]
        plan = fill.copy()
        plan[row[at]] = amount[at]
        out[at] = profit.value(plan)[row[at]]
    return out


def _prices(limits: Limits, duals: Floats, n: int) -> tuple[float, Floats, float, Floats, float]:
    """Prices per instrument and the constant part of the dual."""
    members, weights, right = _rows(limits)
    prices = np.full(n, limits.floor)
    for member, weight, dual in zip(members, weights, duals, strict=True):
        use = np.ones(n) if member is None else member.astype(np.float64)
        prices = prices + dual * use * (weight if len(weight) == n else weight[0])
    groups = 0 if limits.group_cap is None else len(limits.group_cap)
    risk = float(duals[-1]) if limits.risk is not None and np.isfinite(limits.risk_budget) else 0.0
    constant = limits.floor * limits.budget + float(duals @ right)
    return limits.floor + float(duals[0]), duals[1 : 1 + groups], risk, prices, constant


def _mixture(
    n: int, bound: float, row: np.ndarray, amount: Floats, weight: Floats, price: float, group_price: Floats,
    risk_price: float, prices: Floats,
) -> Mixture:  # fmt: skip
    used = weight > 1e-9
    mixed_amount = np.bincount(row, weights=weight * amount, minlength=n)
    low, high = np.full(n, np.inf), np.zeros(n)
    np.minimum.at(low, row[used], amount[used])
    np.maximum.at(high, row[used], amount[used])
    low = np.where(np.isfinite(low), low, mixed_amount)
    high = np.maximum(high, low)
    mixed = np.flatnonzero(high - low > 0)
    exact = np.where(high > low, mixed_amount, low)
    return Mixture(bound, price, group_price, risk_price, prices, exact, mixed, low, high)
