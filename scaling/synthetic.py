"""Invented instruments with a known truth: for the demo data, for rehearsals of the adaptation, and for measuring the
fits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scaling.families import Family, Floats, efficiency
from scaling.store import Record

#: First instant of the demo records, 2026-01-01T00:00Z, one record a day.
DEMO_START_US = 1_767_225_600_000_000
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class TrueCurve:
    """A family with its parameters in units of `scale`: E(c) = family(theta, c / scale)."""

    family: Family
    theta: tuple[float, float, float]
    scale: float

    def efficiency(self, capital: Floats) -> Floats:
        """The truth, without noise."""
        return efficiency(self.family, np.array(self.theta), np.asarray(capital, dtype=np.float64) / self.scale)

    def damped(self, factor: float) -> TrueCurve:
        """The same shape after a regime change that multiplies efficiency by `factor`."""
        p0, p1, p2 = self.theta
        if self.family is Family.EXPONENTIAL:
            return replace(self, theta=(p0 * factor, p1, p2 * factor))
        return replace(self, theta=(p0 * factor, p1 * factor, p2 * factor))


def draw_curve(rng: np.random.Generator, family: Family, scale: float = 1.0) -> TrueCurve:
    """A decaying curve whose useful range is about `scale`; six polynomials in ten have their peak inside it."""
    match family:
        case Family.LINEAR:
            theta = (-rng.uniform(0.2, 0.6), rng.uniform(0.7, 1.0), 0.0)
        case Family.POLYNOMIAL:
            if rng.random() < 0.6:
                peak, top = rng.uniform(0.2, 0.6), rng.uniform(0.6, 1.0)
                bend = rng.uniform(0.2, 0.8) * top / max(peak, 1 - peak) ** 2
                theta = (-bend, 2 * bend * peak, top - bend * peak * peak)
            else:
                theta = (-rng.uniform(0.2, 0.5), -rng.uniform(0.0, 0.15), rng.uniform(0.7, 1.0))
        case Family.EXPONENTIAL:
            theta = (rng.uniform(0.4, 0.9), rng.uniform(2.0, 8.0), rng.uniform(0.05, 0.4))
        case Family.SQRT:
            theta = (rng.uniform(0.8, 1.1), rng.uniform(0.3, 0.7), 0.0)
    return TrueCurve(family, theta, scale)


def observe(
    curve: TrueCurve,
    capital: Floats,
    rng: np.random.Generator,
    noise: float = 0.03,
    outliers: float = 0.05,
    growth: float = 0.0,
) -> Floats:
    """Noisy efficiencies: normal noise of `noise` * (1 + growth * c / scale), and a share of wild records 0.2 to 0.6
    away."""
    truth = curve.efficiency(capital)
    sd = noise * (1 + growth * np.asarray(capital) / curve.scale)
    seen = truth + sd * rng.standard_normal(len(truth))
    wild = rng.random(len(truth)) < outliers
    seen[wild] += rng.choice((-1.0, 1.0), int(wild.sum())) * rng.uniform(0.2, 0.6, int(wild.sum()))
    return np.asarray(seen, dtype=np.float64)


#: Symbol, truth, largest capital observed, records: what `demo` imports.
DEMO = (
    ("BTC/USDT", TrueCurve(Family.EXPONENTIAL, (0.88, 1.7, 0.06), 250_000.0), 210_000.0, 72),
    ("ETH/USDT", TrueCurve(Family.SQRT, (1.02, 0.42, 0.0), 150_000.0), 110_000.0, 60),
    ("SOL/USDT", TrueCurve(Family.POLYNOMIAL, (-0.55, 0.22, 0.86), 60_000.0), 45_000.0, 48),
)


def demo_records(seed: int = 2026) -> list[Record]:
    """The demo history: three markets, one record a day, capital growing with ups and downs. Same records for the
    same seed."""
    rng = np.random.default_rng(seed)
    found = []
    for symbol, curve, largest, count in DEMO:
        trend = np.geomspace(0.03, 1.0, count)
        capital = np.round(largest * np.clip(trend * np.exp(0.45 * rng.standard_normal(count)), 0.01, 1.0), 2)
        seen = observe(curve, capital, rng, noise=0.02, outliers=0.04)
        for k, (c, e) in enumerate(zip(capital.tolist(), seen.tolist(), strict=True)):
            roi = round(0.16 * e, 6)
            metrics = {"roi": roi, "sharpe": round(2.0 * e, 4)}
            found.append(Record(symbol, DEMO_START_US + k * _DAY_US, "demo", c, round(e, 6), metrics))
    return found
