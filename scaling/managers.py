"""The four neighbours of the engine as protocols, each with a default: balances, risk limits, strategies, analytics.

The treasury brings its own; these defaults make the engine useful alone.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from scaling import checks
from scaling.errors import InvalidQuery
from scaling.results import Allocation, EfficiencyPrediction


@dataclass(frozen=True)
class RiskLimits:
    """What a risk manager allows. Everything is optional; the tighter of these and the caller's limits holds."""

    max_total: float | None = None
    caps: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)  # an instrument belongs to one group at most
    group_caps: Mapping[str, float] = field(default_factory=dict)
    risk_weights: Mapping[str, float] = field(default_factory=dict)  # risk per unit of capital, for example volatility
    risk_budget: float | None = None


@dataclass(frozen=True)
class Move:
    """Capital to move for one instrument: positive in, negative out."""

    symbol: str
    amount: float
    target: float


@dataclass(frozen=True)
class StrategyAdvice:
    """How a strategy should behave at its capital."""

    symbol: str
    mode: str  # normal | sliced | reduce | pause
    slices: int  # orders to split a full turn into
    reason: str


@runtime_checkable
class BalanceManager(Protocol):
    """Turns an allocation into movements of money."""

    def moves(self, allocation: Allocation, balances: Mapping[str, float]) -> list[Move]:
        """The transfers from what is held to what is allocated, withdrawals first."""


@runtime_checkable
class RiskManager(Protocol):
    """Limits that the optimisation must keep."""

    def limits(self, symbols: Sequence[str], total_capital: float) -> RiskLimits:
        """The limits for this question."""


@runtime_checkable
class StrategyOrchestrator(Protocol):
    """Adapts a strategy to the capital it runs with."""

    def advise(self, prediction: EfficiencyPrediction, min_efficiency: float) -> StrategyAdvice:
        """What the strategy should do at the predicted efficiency."""


@runtime_checkable
class AnalyticsManager(Protocol):
    """Turns results into efficiency records that feed the models."""

    async def observe(self, symbol: str, capital: float, profit: float, expected_profit: float) -> bool:
        """Report one finished episode; True when it became a record."""


class DefaultBalanceManager:
    """Moves only what matters: amounts under `min_move`, or under `min_share` of the target, stay where they are."""

    def __init__(self, min_move: float = 0.0, min_share: float = 0.02) -> None:
        self._min_move = checks.fraction("min_move", min_move, 0.0, checks.MAX_CAPITAL)
        self._min_share = checks.fraction("min_share", min_share, 0.0, 1.0)

    def moves(self, allocation: Allocation, balances: Mapping[str, float]) -> list[Move]:
        """Withdrawals first, so that deposits are always covered. What is held but not allocated is withdrawn whole."""
        found = []
        for symbol in [*allocation, *(s for s in balances if s not in allocation)]:
            target, held = allocation.get(symbol, 0.0), float(balances.get(symbol, 0.0))
            amount = target - held
            small = abs(amount) < max(self._min_move, self._min_share * target)
            if amount and not (small and target > 0):
                found.append(Move(symbol, amount, target))
        return sorted(found, key=lambda move: move.amount)


class DefaultRiskManager:
    """No instrument above `max_share` of the total; optional groups, volatility budget and drawdown brake.

    `drawdown` is how far equity stands under its peak (0 to 1). From `brake_start` on, the total shrinks in a
    straight line,
    to nothing at `brake_end`.
    """

    def __init__(
        self, max_share: float = 0.5, groups: Mapping[str, str] | None = None, max_group_share: float = 1.0,
        volatility: Mapping[str, float] | None = None, max_volatility: float | None = None,
        brake_start: float = 0.10, brake_end: float = 0.30,
    ) -> None:  # fmt: skip
        self._max_share = checks.fraction("max_share", max_share, 0.0, 1.0)
        self._groups = dict(groups or {})
        self._group_share = checks.fraction("max_group_share", max_group_share, 0.0, 1.0)
        self._volatility = {
            s: checks.fraction(f"volatility[{s!r}]", v, 0.0, 1e6) for s, v in (volatility or {}).items()
        }
        self._max_volatility = (
            None if max_volatility is None else checks.fraction("max_volatility", max_volatility, 0.0, 1e6)
        )
        self._brake = (
            checks.fraction("brake_start", brake_start, 0.0, 1.0),
            checks.fraction("brake_end", brake_end, 0.0, 1.0),
        )
        if self._brake[0] >= self._brake[1]:
            raise InvalidQuery("brake_start must be below brake_end")
        self.drawdown = 0.0

    def limits(self, symbols: Sequence[str], total_capital: float) -> RiskLimits:
        """Shares of what the drawdown brake leaves of the total."""
        start, end = self._brake
        total = total_capital * min(max((end - self.drawdown) / (end - start), 0.0), 1.0)
        groups = {s: g for s, g in self._groups.items() if s in symbols}
        return RiskLimits(
            max_total=total,
            caps=dict.fromkeys(symbols, self._max_share * total),
            groups=groups,
            group_caps=dict.fromkeys(groups.values(), self._group_share * total),
            risk_weights={s: self._volatility.get(s, 0.0) for s in symbols} if self._max_volatility is not None else {},
            risk_budget=None if self._max_volatility is None else self._max_volatility * total,
        )


class DefaultStrategyOrchestrator:
    """Pauses what is not worth running, reduces what lost its regime, slices orders where capital costs efficiency."""

    def __init__(self, max_slices: int = 20) -> None:
        if max_slices < 1:
            raise InvalidQuery(f"max_slices must be at least 1, not {max_slices}")
        self._max_slices = max_slices

    def advise(self, prediction: EfficiencyPrediction, min_efficiency: float) -> StrategyAdvice:
        """Slices grow with the share of efficiency that the last unit loses to its own size: 1 - marginal / efficiency.

        Under the square-root law n equal slices, each left to decay, cost 1/sqrt(n) of one block's impact.
        """
        p = prediction
        if not math.isfinite(p.efficiency):
            return StrategyAdvice(p.symbol, "pause", 1, p.note or "no curve yet")
        if p.upper < min_efficiency:
            return StrategyAdvice(
                p.symbol, "pause", 1, f"even its upper band {p.upper:.4g} is under the minimum {min_efficiency:.4g}"
            )
        if p.drifted or p.efficiency < min_efficiency or p.marginal < 0:
            why = (
                "the regime changed"
                if p.drifted
                else "more capital earns less"
                if p.marginal < 0
                else "below the minimum efficiency"
            )
            return StrategyAdvice(p.symbol, "reduce", 1, why)
        lost = min(max(1 - p.marginal / p.efficiency, 0.0), 1.0)
        slices = max(1, min(self._max_slices, round((1 + 3 * lost) ** 2)))
        return StrategyAdvice(
            p.symbol, "sliced" if slices > 1 else "normal", slices, f"{lost:.0%} of the edge is lost at the margin"
        )


class DefaultAnalyticsManager:
    """Feeds an engine: efficiency = profit / expected profit of one finished episode at one capital."""

    def __init__(self, add_record: Callable[..., Awaitable[bool]]) -> None:
        self._add = add_record

    async def observe(self, symbol: str, capital: float, profit: float, expected_profit: float) -> bool:
        """`expected_profit` is what the strategy earns on that capital without its own market impact; above zero."""
        earned = checks.real("profit", profit)
        expected = checks.capital("expected_profit", expected_profit)
        return await self._add(symbol, capital, earned / expected, {"profit": earned, "expected_profit": expected})
