"""Back-tests of the adaptation: one-step-ahead on recorded history, and whole learning loops in invented worlds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from scaling.allocate import solve
from scaling.curves import CurveSet, Status
from scaling.decision import Caution, decide
from scaling.dual import Limits
from scaling.errors import NotEnoughData
from scaling.families import Floats
from scaling.learn import History, LearnOptions, learn
from scaling.profit import SegmentProfit
from scaling.synthetic import TrueCurve, observe


@dataclass(frozen=True)
class WalkForward:
    """How the model would have predicted each record before seeing it."""

    predicted: Floats
    seen: Floats
    inside: np.ndarray  # bool: the record fell inside its observation band
    level: float

    @property
    def mean_error(self) -> float:
        """Mean |seen - predicted|."""
        return float(np.abs(self.seen - self.predicted).mean())

    @property
    def median_error(self) -> float:
        """Median |seen - predicted|: what wild records do not move."""
        return float(np.median(np.abs(self.seen - self.predicted)))

    @property
    def coverage(self) -> float:
        """Share of records inside their band; should be near `level`."""
        return float(self.inside.mean())


def walk_forward(
    capital: Floats, efficiency: Floats, options: LearnOptions, level: float = 0.90, start: int = 12
) -> WalkForward:
    """Predict every record from `start` on, from the earlier ones alone. All prefixes are fitted in one batch."""
    if len(capital) <= start:
        raise NotEnoughData(f"a walk forward needs more than {start} records, not {len(capital)}")
    prefixes = [History(capital[:k], efficiency[:k]) for k in range(start, len(capital))]
    curves = learn(prefixes, options)
    known = np.flatnonzero(curves.status != Status.INSUFFICIENT)
    if not len(known):
        raise NotEnoughData("no prefix of the history tells a curve")
    part, c, e = curves.take(known), capital[start:][known], efficiency[start:][known]
    mean, se = part.cautious(c)
    half = part.quantile(level) * np.sqrt(se**2 + part.noise(c) ** 2)
    return WalkForward(mean, e, np.abs(e - mean) <= half, level)


@dataclass(frozen=True)
class Loop:
    """Rules of a learning loop: each round allocates, earns by the truth, observes around what was placed, learns."""

    rounds: int = 8
    records_per_round: int = 4
    first_records: int = 12
    first_reach: float = 0.15  # of the useful range, covered by the first records
    min_efficiency: float = 0.15
    caution: Caution = field(default_factory=Caution)
    options: LearnOptions = field(default_factory=LearnOptions)
    change_round: int | None = None  # round before which half the instruments lose efficiency
    change_factor: float = 0.5


def learning_loop(
    worlds: Sequence[TrueCurve], useful: Floats, budget: float, loop: Loop, rng: np.random.Generator,
    oracle: Callable[[Sequence[TrueCurve]], float],
) -> list[float]:  # fmt: skip
    """True profit of each round as a share of what an oracle that knows the curves would earn."""
    truth = list(worlds)
    books: list[tuple[list[float], list[float]]] = []
    for k, curve in enumerate(truth):
        c = useful[k] * loop.first_reach * rng.uniform(0.05, 1.0, loop.first_records)
        books.append((c.tolist(), observe(curve, c, rng).tolist()))
    best = oracle(truth)
    shares = []
    for at in range(loop.rounds):
        if at == loop.change_round:
            truth = [t.damped(loop.change_factor) if k % 2 == 0 else t for k, t in enumerate(truth)]
            best = oracle(truth)
        curves = learn([History(np.array(c), np.array(e)) for c, e in books], loop.options)
        plan = _allocate(curves, budget, loop)
        shares.append(sum(float(p * t.efficiency(p)) for p, t in zip(plan, truth, strict=True)) / best)
        for k, curve in enumerate(truth):
            centre = plan[k] if plan[k] > 0 else min(books[k][0])
            c = centre * rng.uniform(0.6, 1.0, loop.records_per_round)
            c[-1] = centre
            books[k][0].extend(c.tolist())
            books[k][1].extend(observe(curve, c, rng).tolist())
    return shares


def _allocate(curves: CurveSet, budget: float, loop: Loop) -> Floats:
    decision = decide(curves, np.full(len(curves), np.inf), loop.caution)
    profit = SegmentProfit.of(decision.knots, decision.efficiency, loop.min_efficiency)
    return solve(profit, Limits(budget)).capital
