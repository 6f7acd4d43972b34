"""Cold start: what market data alone say of an instrument, as a few pseudo-records that real ones push out.

E0(c) = edge - tau*(fee + half_spread) - tau*Y*sigma*sqrt(tau*c / ADV): the square-root law of market impact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scaling import checks
from scaling.families import Floats

#: The pseudo-records fade linearly and are gone at this many real records.
GONE_AT = 12
_CAPITALS = (0.02, 0.25, 1.0)  # of the capital of most profit under the prior


@dataclass(frozen=True)
class ImpactPrior:
    """Market data of one instrument, per review period. Everything but `adv` is a fraction of the capital or price."""

    edge: float  # expected return before costs
    turnover: float  # times the capital is traded per period (tau)
    fee: float  # per unit traded
    half_spread: float  # per unit traded
    sigma: float  # volatility of the price over a day
    adv: float  # average daily volume, in the account's currency
    y: float = 0.7  # constant of the law; 0.5 to 1 in the literature (arXiv:1412.4503, arXiv:2411.13965)
    spread_of_belief: float = 0.25  # how far the truth may lie from this, as a share of the edge

    def __post_init__(self) -> None:
        for name in ("edge", "fee", "half_spread"):
            checks.real(name, getattr(self, name))
        for name in ("turnover", "sigma", "adv", "y", "spread_of_belief"):
            checks.capital(name, getattr(self, name))

    @property
    def net_edge(self) -> float:
        """Efficiency of the first unit of capital."""
        return self.edge - self.turnover * (self.fee + self.half_spread)

    @property
    def impact(self) -> float:
        """b of E0 = net_edge - b sqrt(c)."""
        return self.turnover * self.y * self.sigma * math.sqrt(self.turnover / self.adv)

    def efficiency(self, capital: Floats) -> Floats:
        """E0(c)."""
        return np.asarray(self.net_edge - self.impact * np.sqrt(capital), dtype=np.float64)

    def pseudo_records(self, real_records: int) -> tuple[Floats, Floats, Floats]:
        """(capital, efficiency, weight) of six pseudo-records, one above and one below the law at three capitals.

        Their distance from the law is the belief's spread, so the fitted noise and bands are honest about it.
        """
        best = (abs(self.net_edge) / (1.5 * self.impact)) ** 2 if self.net_edge else self.adv * 1e-4
        best = min(max(best, 1e-9), checks.MAX_CAPITAL / 10)
        c = np.repeat(np.array(_CAPITALS) * best, 2)
        spread = self.spread_of_belief * max(abs(self.edge), 1e-9)
        e = self.efficiency(c) + spread * np.tile((1.0, -1.0), len(_CAPITALS))
        weight = max(0.0, 1 - real_records / GONE_AT)
        return c, e, np.full(len(c), weight)
