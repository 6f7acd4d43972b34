"""Profit curves g(c) of many instruments with their exact maximisers of g(c) - price*c: closed forms, and piecewise
quadratics.

An instrument may hold nothing or an amount of its admissible set, which folds caps, minimum tickets and minimum
efficiency:
{0} or [l, u] for the closed forms, {0} or a union of intervals for the piecewise ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scaling import families
from scaling.checks import MAX_CAPITAL
from scaling.families import Family, Floats

_STEEP = -1e200  # stands for "convex: take an end" in the clipped stationary point


class Profit(Protocol):
    """What the allocator needs of n instruments. Prices are per unit of capital, one per instrument."""

    n: int

    def best(self, price: Floats) -> tuple[Floats, Floats]:
        """(c, g(c) - price*c) at the maximiser over the admissible set, per instrument."""

    def value(self, c: Floats) -> Floats:
        """g(c) at admissible amounts."""

    def smallest(self) -> Floats:
        """The least admissible amount of each instrument (0 unless it may not hold nothing); inf when there is none."""

    def piece(self, row: int, low: float, high: float) -> Profit:
        """Instrument `row` alone, restricted to amounts in [low, high]."""

    def narrowed(self, low: Floats, high: Floats) -> Profit:
        """The same instruments, valid for prices in [low, high] only, and cheaper."""

    def price_scale(self) -> float:
        """A price of the order of the largest marginal."""


@dataclass
class ParametricProfit:
    """Instruments whose efficiency is one of the closed families; capital units as given."""

    family: np.ndarray  # (n,) Family
    theta: Floats  # (n, 3)
    low: Floats  # (n,) l
    high: Floats  # (n,) u < l: nothing but 0
    zero: np.ndarray  # (n,) bool: may hold nothing

    def __post_init__(self) -> None:
        self.n = len(self.family)
        self._rows = {f: np.flatnonzero(self.family == f) for f in Family}
        self._rows = {f: rows for f, rows in self._rows.items() if len(rows)}
        self._empty = self.high < self.low
        low = np.where(self._empty, 0.0, self.low)
        high = np.where(self._empty, 0.0, self.high)
        self._ends = (low, high, self.value(low), self.value(high))  # a price search asks for them dozens of times

    @classmethod
    def of(
        cls,
        family: np.ndarray,
        theta: Floats,
        cap: Floats,
        min_efficiency: float | Floats = -np.inf,
        ticket: float | Floats = 0.0,
    ) -> ParametricProfit:
        """Fold caps, minimum tickets and E >= min_efficiency into [l, u].

        A polynomial that opens upwards is used on its falling branch only: no fit is trusted to rise again.
        """
        n = len(family)
        floor = np.broadcast_to(np.asarray(min_efficiency, dtype=np.float64), (n,))
        low = np.broadcast_to(np.asarray(ticket, dtype=np.float64), (n,)).copy()
        high = np.broadcast_to(np.minimum(np.asarray(cap, dtype=np.float64), MAX_CAPITAL), (n,)).copy()
        for f in Family:
            rows = np.flatnonzero(family == f)
            if len(rows):
                a, b = _admissible(f, theta[rows], floor[rows])
                low[rows], high[rows] = np.maximum(low[rows], a), np.minimum(high[rows], b)
        return cls(family, theta, low, high, np.ones(n, bool))

    def value(self, c: Floats) -> Floats:
        out = np.zeros(self.n)
        for f, rows in self._rows.items():
            held = c[rows]
            out[rows] = np.where(held > 0, held * families.efficiency(f, self.theta[rows], held), 0.0)
        return out

    def best(self, price: Floats) -> tuple[Floats, Floats]:
        stationary = np.full(self.n, np.nan)
        for f, rows in self._rows.items():
            stationary[rows] = families.saturation(f, self.theta[rows], price[rows])
        low, high, at_low, at_high = self._ends
        inner = np.clip(np.where(np.isnan(stationary), low, stationary), low, high)
        c, gain = inner, self.value(inner) - price * inner
        for end, value in ((low, at_low), (high, at_high)):
            at_end = value - price * end
            better = at_end > gain
            c, gain = np.where(better, end, c), np.where(better, at_end, gain)
        c, gain = np.where(self._empty, 0.0, c), np.where(self._empty, -np.inf, gain)
        none = self.zero & (gain <= 0)
        return np.where(none, 0.0, c), np.where(none, 0.0, gain)

    def smallest(self) -> Floats:
        least = np.where(self.high >= self.low, self.low, np.inf)
        return np.where(self.zero, 0.0, least)

    def piece(self, row: int, low: float, high: float) -> ParametricProfit:
        one = slice(row, row + 1)
        return ParametricProfit(
            self.family[one], self.theta[one], np.maximum(self.low[one], low), np.minimum(self.high[one], high),
            self.zero[one] & (low <= 0),
        )  # fmt: skip

    def narrowed(self, low: Floats, high: Floats) -> Profit:
        """An instrument that answers the same at both ends of a price range answers so at every price between."""
        c, _ = self.best(low)
        settled = c == self.best(high)[0]
        if settled.mean() < 0.2:
            return self
        rows = np.flatnonzero(~settled)
        loose = ParametricProfit(self.family[rows], self.theta[rows], self.low[rows], self.high[rows], self.zero[rows])
        return _Settled(self, c, rows, loose)

    def price_scale(self) -> float:
        return float(np.abs(self.theta[:, 1]).max(initial=0.0) + np.abs(self.theta).max(initial=1e-12))


def _admissible(f: Family, theta: Floats, floor: Floats) -> tuple[Floats, Floats]:
    """[a, b] of capitals with E >= floor (b < a: none)."""
    p0, p1, p2 = theta[:, 0], theta[:, 1], theta[:, 2]
    zero, inf = np.zeros(len(theta)), np.full(len(theta), np.inf)
    with np.errstate(all="ignore"):
        match f:
            case Family.LINEAR:
                cross = (floor - p1) / p0
                a = np.where(p0 > 0, np.maximum(cross, 0.0), 0.0)
                b = np.where(p0 < 0, cross, np.where((p0 == 0) & (p1 < floor), -1.0, inf))
            case Family.SQRT:
                edge = (p0 - floor) / p1
                a = zero
                b = np.where(p1 > 0, np.where(edge >= 0, edge**2, -1.0), np.where(p0 >= floor, inf, -1.0))
            case Family.EXPONENTIAL:
                level = (floor - p2) / p0
                b = np.where(level <= 0, inf, np.where(level > 1, -1.0, -np.log(np.maximum(level, 1e-300)) / p1))
                a = zero
            case Family.POLYNOMIAL:
                disc = p1 * p1 - 4 * p0 * (p2 - floor)
                root = np.sqrt(np.maximum(disc, 0.0))
                line = p0 == 0
                small = np.where(line, 1.0, p0)
                r1, r2 = (-p1 + root) / (2 * small), (-p1 - root) / (2 * small)  # a < 0: r1 <= r2
                a = np.where(p0 < 0, np.maximum(r1, 0.0), 0.0)
                turn = np.where(p0 > 0, np.maximum(-p1 / (2 * small), 0.0), inf)
                b = np.where(p0 < 0, r2, np.minimum(turn, np.where(disc > 0, r2, inf)))
                b = np.where((p0 < 0) & (disc < 0), -1.0, b)
                b = np.where((p0 > 0) & (p2 < floor), -1.0, b)
                a1, b1 = _admissible(Family.LINEAR, np.stack((p1, p2, zero), axis=1), floor)
                a, b = np.where(line, a1, a), np.where(line, b1, b)
    # an unbounded floor makes inf - inf above; it means: no bound
    unbounded = floor == -np.inf
    return np.where(unbounded, 0.0, np.nan_to_num(a)), np.where(
        unbounded & ~(b >= 0), inf, np.where(np.isnan(b), inf, b)
    )


@dataclass
class SegmentProfit:
    """Instruments given by segments: g(c) = q0 + q1 c + q2 c^2 on [low, high], segments in rising order of c."""

    low: Floats  # (n, K)
    high: Floats
    q0: Floats  # -inf: the segment does not exist
    q1: Floats
    q2: Floats
    nothing: Floats  # (n,) value of holding nothing; -inf: not allowed

    def __post_init__(self) -> None:
        self.n = len(self.nothing)
        concave = self.q2 < -1 / -_STEEP  # flatter than that is straight
        self._inverse = np.where(concave, 0.5 / np.where(concave, self.q2, -1.0), _STEEP)
        self._pivot = np.where(concave, self.q1, self.q1 + self.q2 * (self.low + self.high))

    @classmethod
    def of(
        cls, knots: Floats, efficiency: Floats, floor: float | Floats = -np.inf, ticket: float | Floats = 0.0,
        previous: Floats | None = None, turnover: float = 0.0,
    ) -> SegmentProfit:  # fmt: skip
        """Piecewise linear E through (knots, efficiency), both (n, K), knots rising.

        `turnover` is charged on |c - previous|; `previous` should be among the knots. The minimum efficiency cuts each
        segment exactly where E crosses it.
        """
        n = len(knots)
        a, b = knots[:, :-1], knots[:, 1:]
        ea, eb = efficiency[:, :-1], efficiency[:, 1:]
        width = b - a
        beta = np.where(width > 0, (eb - ea) / np.where(width > 0, width, 1.0), 0.0)
        alpha = ea - beta * a
        least = np.broadcast_to(np.asarray(floor, dtype=np.float64), (n,))[:, None]
        with np.errstate(all="ignore"):
            cross = np.clip(np.nan_to_num((least - alpha) / beta, posinf=0, neginf=0), a, b)
        low = np.where((ea < least) & (eb >= least), cross, a)
        high = np.where((eb < least) & (ea >= least), cross, b)
        low = np.maximum(low, np.broadcast_to(np.asarray(ticket, dtype=np.float64), (n,))[:, None])
        gone = ((ea < least) & (eb < least)) | (low > high) | (width <= 0)
        q0, q1, nothing = np.zeros_like(a), alpha, np.zeros(n)
        if previous is not None and turnover > 0:
            side = np.where(0.5 * (a + b) >= previous[:, None], 1.0, -1.0)
            q0, q1 = side * turnover * previous[:, None], alpha - side * turnover
            nothing = -turnover * previous
        q0 = np.where(gone, -np.inf, q0)
        zero = np.zeros_like(a)
        return cls(np.where(gone, zero, low), np.where(gone, zero, high), q0, q1, np.where(gone, zero, beta), nothing)

    def value(self, c: Floats) -> Floats:
        held = c[:, None]
        slack = 1e-12 * held
        inside = (self.low <= held + slack) & (held - slack <= self.high) & (self.q0 > -np.inf)
        gains = np.where(inside, self.q0 + (self.q1 + self.q2 * held) * held, -np.inf)
        return np.where(c > 0, gains.max(axis=1, initial=-np.inf), self.nothing)

    def _options(self, price: Floats) -> tuple[Floats, Floats]:
        p = price[:, None]
        c = (p - self._pivot) * self._inverse
        np.clip(c, self.low, self.high, out=c)
        gain = self.q2 * c
        gain += self.q1
        gain -= p
        gain *= c
        gain += self.q0
        return c, gain

    def best(self, price: Floats) -> tuple[Floats, Floats]:
        if not self.low.shape[1]:
            return np.zeros(self.n), self.nothing.copy()
        c, gain = self._options(price)
        pick = np.argmax(gain, axis=1)[:, None]
        chosen = np.take_along_axis(c, pick, axis=1)[:, 0]
        top = np.take_along_axis(gain, pick, axis=1)[:, 0]
        none = self.nothing >= top
        return np.where(none, 0.0, chosen), np.where(none, self.nothing, top)

    def smallest(self) -> Floats:
        least = np.where(self.q0 > -np.inf, self.low, np.inf).min(axis=1, initial=np.inf)
        return np.where(self.nothing > -np.inf, 0.0, least)

    def piece(self, row: int, low: float, high: float) -> SegmentProfit:
        a, b = np.maximum(self.low[row], low), np.minimum(self.high[row], high)
        keep = (a <= b) & (self.q0[row] > -np.inf)
        nothing = self.nothing[row] if low <= 0 else -np.inf
        return SegmentProfit(
            a[None, keep], b[None, keep], self.q0[None, row, keep], self.q1[None, row, keep], self.q2[None, row, keep],
            np.array([nothing]),
        )  # fmt: skip

    def narrowed(self, low: Floats, high: Floats) -> Profit:
        """Maximisers fall as prices rise, so only the segments between the two extreme maximisers can be chosen."""
        width = self.low.shape[1]
        if width <= _NARROW:
            return self
        first = np.argmax(self._options(high)[1], axis=1)
        last = np.argmax(self._options(low)[1], axis=1)
        first, last = np.minimum(first, last), np.maximum(first, last)
        slim = last - first < _NARROW
        if slim.mean() < 0.5:
            return self
        rows, wide = np.flatnonzero(slim), np.flatnonzero(~slim)
        window = np.minimum(first[rows], width - _NARROW)[:, None] + np.arange(_NARROW)
        return _Split(self, rows, self._window(rows, window), wide, self._window(wide, None))

    def _window(self, rows: np.ndarray, columns: np.ndarray | None) -> SegmentProfit:
        at = (rows,) if columns is None else (rows[:, None], columns)
        return SegmentProfit(self.low[at], self.high[at], self.q0[at], self.q1[at], self.q2[at], self.nothing[rows])

    def price_scale(self) -> float:
        live = self.q0 > -np.inf
        return float(np.abs(np.where(live, self.q1, 0.0)).max(initial=0.0) + 1e-12)


_NARROW = 4  # columns kept per instrument once the price is known well


class _Split:
    """Most rows narrowed to a few segments, the others whole; anything but `best` is answered by the original."""

    def __init__(
        self, whole: SegmentProfit, rows: np.ndarray, slim: SegmentProfit, wide: np.ndarray, rest: SegmentProfit
    ) -> None:
        self.n = whole.n
        self._whole, self._rows, self._slim, self._wide, self._rest = whole, rows, slim, wide, rest
        self.value, self.smallest, self.piece, self.price_scale = (
            whole.value,
            whole.smallest,
            whole.piece,
            whole.price_scale,
        )

    def best(self, price: Floats) -> tuple[Floats, Floats]:
        c, gain = np.empty(self.n), np.empty(self.n)
        c[self._rows], gain[self._rows] = self._slim.best(price[self._rows])
        if len(self._wide):
            c[self._wide], gain[self._wide] = self._rest.best(price[self._wide])
        return c, gain

    def narrowed(self, low: Floats, high: Floats) -> Profit:
        if len(self._wide) <= 0.02 * self.n:
            return self
        return self._whole.narrowed(low, high)


class _Settled:
    """A ParametricProfit within a price range where most amounts are settled; only the loose ones are maximised
    anew."""

    def __init__(self, whole: ParametricProfit, c: Floats, rows: np.ndarray, loose: ParametricProfit) -> None:
        self.n = whole.n
        self._whole, self._c, self._rows, self._loose = whole, c, rows, loose
        self._gain = whole.value(c)
        self.value, self.smallest, self.piece, self.price_scale = (
            whole.value,
            whole.smallest,
            whole.piece,
            whole.price_scale,
        )

    def best(self, price: Floats) -> tuple[Floats, Floats]:
        c = self._c.copy()
        gain = self._gain - price * c
        c[self._rows], gain[self._rows] = self._loose.best(price[self._rows])
        return c, gain

    def narrowed(self, low: Floats, high: Floats) -> Profit:
        return self if len(self._rows) < 0.3 * self.n else self._whole.narrowed(low, high)


class Restricted:
    """A Profit with a few instruments replaced by their restricted selves (a node of the branch and bound)."""

    def __init__(self, base: Profit, pieces: dict[int, Profit]) -> None:
        self.n = base.n
        self._base, self._pieces = base, pieces

    def best(self, price: Floats) -> tuple[Floats, Floats]:
        c, gain = self._base.best(price)
        for row, one in self._pieces.items():
            own_c, own_gain = one.best(price[row : row + 1])
            c[row], gain[row] = own_c[0], own_gain[0]
        return c, gain

    def value(self, c: Floats) -> Floats:
        return self._base.value(c)

    def smallest(self) -> Floats:
        least = self._base.smallest()
        for row, one in self._pieces.items():
            least[row] = one.smallest()[0]
        return least

    def piece(self, row: int, low: float, high: float) -> Profit:
        return self._pieces[row].piece(0, low, high) if row in self._pieces else self._base.piece(row, low, high)

    def narrowed(self, low: Floats, high: Floats) -> Restricted:
        return Restricted(self._base.narrowed(low, high), self._pieces)

    def price_scale(self) -> float:
        return self._base.price_scale()
