"""One allocation question from checked request to explained answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np

from scaling import checks
from scaling.allocate import Solution, solve
from scaling.curves import CurveSet, Status
from scaling.decision import BOUNDS, Caution, Decision, decide
from scaling.dual import Limits
from scaling.errors import InvalidQuery
from scaling.families import Floats
from scaling.managers import RiskLimits
from scaling.profit import SegmentProfit
from scaling.results import Allocation, Reason

_NEAR = 1e-9
_MIN_RECORDS = 5.0


@dataclass(frozen=True)
class Request:
    """A checked allocation question, everything in the order of `symbols`."""

    symbols: list[str]
    total: float
    floor: float
    hurdle: float
    cap: Floats
    ticket: Floats
    previous: Floats | None
    turnover: float
    group: np.ndarray | None
    group_names: list[str]
    group_cap: Floats | None
    risk: Floats | None
    risk_budget: float
    caution: Caution

    @classmethod
    def checked(
        cls, symbols: Sequence[str], total: object, floor: object, hurdle: object,
        caps: Mapping[str, float] | float | None,
        tickets: Mapping[str, float] | float, previous: Mapping[str, float] | None, turnover: object,
        groups: Mapping[str, str] | None, group_caps: Mapping[str, float] | None,
        risk_weights: Mapping[str, float] | None, risk_budget: object, caution: Caution,
    ) -> Request:  # fmt: skip
        """Refuse by name whatever cannot be meant."""
        if isinstance(symbols, str):
            raise InvalidQuery("symbols must be a list of names, not one string")
        names = [checks.symbol(s) for s in symbols]
        if not names:
            raise InvalidQuery("at least one symbol is needed")
        if len(set(names)) != len(names):
            twice = next(s for s in names if names.count(s) > 1)
            raise InvalidQuery(f"{twice} is named twice")
        known = set(names)
        group, group_names, group_cap = _groups(names, groups or {}, group_caps or {})
        risk = _per_symbol("risk_weights", names, risk_weights, 0.0) if risk_weights else None
        if (risk is None) != (risk_budget is None):
            raise InvalidQuery("risk_weights and risk_budget go together")
        held = None
        if previous is not None:
            held = _per_symbol("previous", names, {s: c for s, c in previous.items() if s in known}, 0.0)
        rate = checks.fraction("turnover_cost", turnover, 0.0, checks.MAX_EFFICIENCY)
        if rate > 0 and held is None:
            raise InvalidQuery("turnover_cost needs `previous`: what is held now")
        return cls(
            names, checks.capital("total_capital", total), checks.real("min_efficiency", floor),
            checks.fraction("hurdle", hurdle, 0.0, checks.MAX_EFFICIENCY),
            _per_symbol("caps", names, caps, np.inf), _per_symbol("min_ticket", names, tickets, 0.0),
            held, rate, group, group_names, group_cap, risk,
            np.inf if risk_budget is None else checks.fraction("risk_budget", risk_budget, 0.0, 1e30), caution,
        )  # fmt: skip

    def limited_by(self, limits: RiskLimits) -> Request:
        """The same question within a risk manager's limits too."""
        cap = np.minimum(self.cap, _per_symbol("risk caps", self.symbols, limits.caps, np.inf))
        changed = replace(self, cap=cap)
        if limits.max_total is not None:
            changed = replace(
                changed,
                total=min(self.total, checks.fraction("risk max_total", limits.max_total, 0.0, checks.MAX_CAPITAL)),
            )
        if limits.group_caps:
            if self.group is not None:
                raise InvalidQuery(
                    "groups are given by the caller and by the risk manager; an instrument can be in one group only"
                )
            group, names, group_cap = _groups(self.symbols, limits.groups, limits.group_caps)
            changed = replace(changed, group=group, group_names=names, group_cap=group_cap)
        if limits.risk_budget is not None:
            if self.risk is not None:
                raise InvalidQuery("a risk budget is given by the caller and by the risk manager; only one can hold")
            risk = _per_symbol("risk weights", self.symbols, limits.risk_weights, 0.0)
            changed = replace(
                changed, risk=risk, risk_budget=checks.fraction("risk budget", limits.risk_budget, 0.0, 1e30)
            )
        return changed


def _per_symbol(name: str, symbols: list[str], given: Mapping[str, float] | float | None, default: float) -> Floats:
    """One number >= 0 per symbol; unknown symbols in a mapping are refused."""
    if given is None:
        return np.full(len(symbols), default)
    if not isinstance(given, Mapping):
        return np.full(len(symbols), checks.fraction(name, given, 0.0, 1e30))
    strange = set(given) - set(symbols)
    if strange:
        raise InvalidQuery(f"{name} names {sorted(strange)[0]!r}, which is not among the symbols")
    return np.array(
        [checks.fraction(f"{name}[{s!r}]", given[s], 0.0, 1e30) if s in given else default for s in symbols]
    )


def _groups(
    symbols: list[str], groups: Mapping[str, str], caps: Mapping[str, float]
) -> tuple[np.ndarray | None, list[str], Floats | None]:
    if not groups and not caps:
        return None, [], None
    strange = set(groups) - set(symbols)
    if strange:
        raise InvalidQuery(f"groups names {sorted(strange)[0]!r}, which is not among the symbols")
    missing = set(groups.values()) - set(caps)
    if missing:
        raise InvalidQuery(f"group {sorted(missing)[0]!r} has no cap in group_caps")
    names = sorted(caps)
    index = {g: k for k, g in enumerate(names)}
    member = np.array([index[groups[s]] if s in groups else -1 for s in symbols])
    return member, names, np.array([checks.fraction(f"group_caps[{g!r}]", caps[g], 0.0, 1e30) for g in names])


def plan(request: Request, curves: CurveSet, level: float) -> Allocation:
    """Solve and explain."""
    decision = decide(curves, request.cap, request.caution, request.previous)
    profit = SegmentProfit.of(
        decision.knots, decision.efficiency, request.floor, request.ticket, request.previous, request.turnover
    )
    limits = Limits(request.total, request.hurdle, request.group, request.group_cap, request.risk, request.risk_budget)
    solution = solve(profit, limits)
    c = np.where(solution.capital > 0, solution.capital, 0.0)
    out = Allocation({s: float(amount) for s, amount in zip(request.symbols, c, strict=True)})
    out.total_capital, out.min_efficiency, out.hurdle = request.total, request.floor, request.hurdle
    out.value, out.bound, out.gap, out.shadow_price = solution.value, solution.bound, solution.gap, solution.price
    out.unallocated = max(request.total - float(c.sum()), 0.0)
    out.group_prices = {g: float(p) for g, p in zip(request.group_names, solution.group_price, strict=False)}
    out.risk_price, out.nodes, out.seconds = solution.risk_price, solution.nodes, solution.seconds
    out.created_at = datetime.now(UTC)
    _judge(out, request, curves, level, c)
    left, right = _marginals(decision, c)
    marginal = np.clip(solution.prices, right, left)
    known = curves.status != Status.INSUFFICIENT
    out.marginal = {s: float(m) for s, m, k in zip(request.symbols, marginal, known, strict=True) if k}
    for k, s in enumerate(request.symbols):
        out.reasons[s] = _reason(k, float(c[k]), request, decision, profit, solution, curves, float(marginal[k]))
    return out


def _judge(out: Allocation, request: Request, curves: CurveSet, level: float, c: Floats) -> None:
    """Expected efficiency and band at each held amount."""
    held = np.flatnonzero((c > 0) & (curves.status != Status.INSUFFICIENT))
    if not len(held):
        return
    part = curves.take(held)
    mean, se = part.cautious(c[held])
    half = part.quantile(level) * se
    for k, row in enumerate(held):
        s = request.symbols[row]
        out.efficiency[s], out.lower[s], out.upper[s] = (
            float(mean[k]),
            float(mean[k] - half[k]),
            float(mean[k] + half[k]),
        )
    out.expected_value = float((c[held] * mean).sum())


def _marginals(decision: Decision, c: Floats) -> tuple[Floats, Floats]:
    """Marginal of the cautious curve just below and just above each amount (they differ at knots)."""
    knots, e = decision.knots, decision.efficiency
    width = np.diff(knots, axis=1)
    slope = np.where(width > 0, np.diff(e, axis=1) / np.where(width > 0, width, 1.0), 0.0)
    alpha = e[:, :-1] - slope * knots[:, :-1]
    rows = np.arange(len(c))

    def at(k: np.ndarray) -> Floats:
        return np.asarray(alpha[rows, k] + 2 * slope[rows, k] * c, dtype=np.float64)

    real = width > 0
    slack = _NEAR * np.maximum(c, 1e-300)[:, None]
    below = real & (knots[:, :-1] < c[:, None] - slack)
    above = real & (knots[:, 1:] > c[:, None] + slack)
    k_left = np.where(below.any(axis=1), below.shape[1] - 1 - np.argmax(below[:, ::-1], axis=1), 0)
    k_right = np.where(above.any(axis=1), np.argmax(above, axis=1), k_left)
    k_left = np.where(c > 0, k_left, k_right)
    left, right = at(k_left), at(k_right)
    return np.maximum(left, right), np.minimum(left, right)


def _reason(
    k: int, c: float, request: Request, decision: Decision, profit: SegmentProfit, solution: Solution, curves: CurveSet,
    marginal: float,
) -> Reason:  # fmt: skip
    if decision.bound_by[k] == BOUNDS.index("no_data"):
        return Reason("no_data", {"records": float(curves.n[k]), "needed": _MIN_RECORDS})
    return (
        _reason_held(k, c, request, decision, solution, curves, marginal)
        if c > 0
        else _reason_none(k, request, decision, profit, solution, curves)
    )


def _at_bound(k: int, request: Request, decision: Decision, curves: CurveSet) -> Reason:
    held = float(request.previous[k]) if request.previous is not None else 0.0
    figures = {
        "limit": float(decision.reach[k]),
        "times": request.caution.trust,
        "c_max": float(curves.c_max[k]),
        "previous": held,
    }
    return Reason(f"at_{BOUNDS[int(decision.bound_by[k])]}", figures)


def _reason_none(
    k: int, request: Request, decision: Decision, profit: SegmentProfit, solution: Solution, curves: CurveSet
) -> Reason:
    live = profit.q0[k] > -np.inf
    useful = decision.knots[k] > 0
    best_any = (
        float(decision.efficiency[k][useful].max(initial=-np.inf)) if useful.any() else float(decision.efficiency[k][0])
    )
    if decision.reach[k] <= 0:
        return _at_bound(k, request, decision, curves)
    if not live.any():
        if best_any < request.floor:
            return Reason("below_minimum", {"floor": request.floor, "best": best_any})
        able = useful & (decision.efficiency[k] >= request.floor)
        limit = float(decision.knots[k][able].max()) if able.any() else float(decision.reach[k])
        return Reason("ticket_too_large", {"ticket": float(request.ticket[k]), "limit": limit})
    ends = np.concatenate((profit.low[k][live], profit.high[k][live]))
    e = np.tile(profit.q1[k][live], 2) + np.tile(profit.q2[k][live], 2) * ends
    best, price = float(e.max()), float(solution.prices[k])
    if best > price * (1 + 1e-6):
        return Reason("no_room", {"least": float(ends[ends > 0].min(initial=np.inf))})
    return Reason("not_worth", {"best": best, "price": price})


def _reason_held(
    k: int, c: float, request: Request, decision: Decision, solution: Solution, curves: CurveSet, marginal: float
) -> Reason:
    reach, price = float(decision.reach[k]), float(solution.prices[k])
    if c >= reach * (1 - _NEAR):
        return _at_bound(k, request, decision, curves)
    if request.ticket[k] > 0 and c <= float(request.ticket[k]) * (1 + _NEAR):
        return Reason("at_ticket", {"limit": float(request.ticket[k])})
    low = float(np.interp(c, decision.knots[k], decision.efficiency[k]))
    if low <= request.floor + 1e-9 * max(abs(request.floor), 1e-3):
        return Reason("at_min_efficiency", {"floor": request.floor})
    if (
        request.group is not None
        and request.group[k] >= 0
        and solution.group_price[request.group[k]] > 1e-9 * max(price, 1e-12)
    ):
        return Reason("group", {"group_price": float(solution.group_price[request.group[k]])})
    if request.risk is not None and request.risk[k] > 0 and solution.risk_price > 0:
        return Reason("risk", {"risk_price": solution.risk_price})
    if solution.price <= request.hurdle * (1 + _NEAR):
        return Reason("saturated", {"hurdle": request.hurdle})
    code = "price" if abs(marginal - price) <= 1e-4 * max(abs(price), 1e-12) else "jump"
    return Reason(code, {"marginal": marginal, "price": price})
