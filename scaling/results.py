"""What the engine answers: predictions, quality figures and allocations that explain each of their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from scaling.texts import reason_text


@dataclass(frozen=True, slots=True)
class EfficiencyPrediction:
    """E at one capital. `status`: full, provisional (5 to 11 records), prior (market data only), insufficient (no
    curve: NaN)."""

    symbol: str
    capital: float
    efficiency: float  # NaN where the records allow no answer
    confidence: float  # probability that an observation lies within 10 % of `efficiency`
    lower: float  # band of the mean at the engine's level
    upper: float
    observation_lower: float  # band of one new observation
    observation_upper: float
    status: str
    model: str  # the family with most weight
    weights: Mapping[str, float]  # Akaike weight of each family
    extrapolated: bool  # outside the capitals observed in the current regime
    marginal: float  # d(c E)/dc: what one more unit of capital earns
    drifted: bool  # the regime changed within the records kept
    records: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """Quality of one instrument's model over its own records."""

    symbol: str
    status: str
    model: str
    weights: Mapping[str, float]
    params: Mapping[str, Mapping[str, float]]  # per family, in capital units
    identifiable: Mapping[str, bool]
    aicc: Mapping[str, float]
    r2: float  # NaN when the efficiencies do not vary
    mean_error: float
    max_error: float
    noise: float  # standard deviation of one record at the middle of the range
    records: int
    effective_records: float
    capital_min: float
    capital_max: float
    drift: float  # statistic of the regime test (limit 2.0)
    regime_start: int  # index of the first record of the current regime


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one instrument got its capital: a code and its figures, worded by `text`."""

    code: str
    figures: Mapping[str, float] = field(default_factory=dict)

    def text(self, language: str = "en") -> str:
        """One sentence in `es` or `en`."""
        return reason_text(self.code, self.figures, language)

    def __str__(self) -> str:
        return self.text()


class Allocation(dict[str, float]):
    """{symbol: capital}, with its proof and its reasons.

    `value` is the sum of c*E(c) on the cautious curves and no plan under the same limits is worth more than `bound`.
    `unallocated` is an outcome, not an error: no instrument is pushed below its threshold or past its saturation to
    place it.
    """

    def __init__(self, amounts: Mapping[str, float]) -> None:
        super().__init__(amounts)
        self.total_capital: float = 0.0
        self.value: float = 0.0
        self.expected_value: float = 0.0  # the same plan at the best guess instead of the cautious curve
        self.bound: float = 0.0
        self.gap: float = 0.0
        self.shadow_price: float = 0.0
        self.unallocated: float = 0.0
        self.hurdle: float = 0.0
        self.min_efficiency: float = 0.0
        self.marginal: dict[str, float] = {}
        self.efficiency: dict[str, float] = {}
        self.lower: dict[str, float] = {}
        self.upper: dict[str, float] = {}
        self.reasons: dict[str, Reason] = {}
        self.group_prices: dict[str, float] = {}
        self.risk_price: float = 0.0
        self.nodes: int = 0
        self.seconds: float = 0.0
        self.created_at: datetime | None = None

    def explain(self, language: str = "en") -> dict[str, str]:
        """One sentence for each instrument."""
        return {symbol: reason.text(language) for symbol, reason in self.reasons.items()}

    def as_dict(self) -> dict[str, object]:
        """Everything, ready for JSON."""
        return {
            "allocation": dict(self), "total_capital": self.total_capital, "value": self.value,
            "expected_value": self.expected_value, "bound": self.bound,
            "gap": self.gap, "shadow_price": self.shadow_price, "unallocated": self.unallocated, "hurdle": self.hurdle,
            "min_efficiency": self.min_efficiency, "marginal": self.marginal, "efficiency": self.efficiency,
            "lower": self.lower, "upper": self.upper, "group_prices": self.group_prices, "risk_price": self.risk_price,
            "reasons": {s: {"code": r.code, **r.figures, "text": r.text("en")} for s, r in self.reasons.items()},
        }  # fmt: skip
