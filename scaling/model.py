"""PredictiveModel: one instrument's curve of a chosen family (or the average of all), trained, judged and asked in
plain calls.

This is the mathematics alone; the engine adds memory, caution and allocation.
"""

from __future__ import annotations

from typing import overload

import numpy as np

from scaling import checks, families
from scaling.curves import FAMILIES, CurveSet, Status
from scaling.errors import InvalidQuery, NotEnoughData
from scaling.families import SIZE, Family, Floats
from scaling.learn import History, LearnOptions, learn
from scaling.saturation import SaturationPoints, saturation_points

#: Names of the parameters, as the formulas are written in `scaling.families`.
PARAMETERS: dict[Family, tuple[str, ...]] = {
    Family.LINEAR: ("a", "b"),
    Family.POLYNOMIAL: ("a", "b", "c"),
    Family.EXPONENTIAL: ("a", "b", "c"),
    Family.SQRT: ("a", "b"),
}


def resolve(model: str) -> tuple[Family, ...]:
    """The families behind a model name: `auto` is all of them."""
    if not isinstance(model, str):
        raise InvalidQuery(f"model must be a name, not {model!r:.60}")
    if model == "auto":
        return FAMILIES
    try:
        return (families.family_named(model),)
    except KeyError as unknown:
        raise InvalidQuery(str(unknown.args[0])) from None


class PredictiveModel:
    """`linear` (a c + b), `polynomial` (a c^2 + b c + c), `exponential` (a e^(-b c) + c), `sqrt` (a - b sqrt(c)) or
    `auto`.

    The default is `polynomial`, the balance the system's document chose; `auto` weighs the four by their evidence
    (AICc).
    Fits are robust: one record in ten may be wild. `identifiable` says whether the data can tell the parameters.
    """

    def __init__(self, model_type: str = "polynomial", *, hurdle: float = 0.0, level: float = 0.90) -> None:
        self.model_type = model_type
        self._families = resolve(model_type)
        self.hurdle = checks.real("hurdle", hurdle)
        self.level = checks.fraction("level", level, 0.5, 0.999)
        self._curves: CurveSet | None = None
        self._points: SaturationPoints | None = None

    def fit(self, capital: object, efficiency: object, weights: object = None) -> PredictiveModel:
        """Learn from equally long lists (time order does not matter here). NotEnoughData when no curve can be told
        from them."""
        c, e = checks.observations(capital, efficiency)
        w = None
        if weights is not None:
            w = np.asarray(weights, dtype=np.float64)
            if w.shape != c.shape or not np.isfinite(w).all() or (w < 0).any() or not (w > 0).any():
                raise InvalidQuery("weights must be one finite number >= 0 per record, not all 0")
            c, e, w = c[w > 0], e[w > 0], w[w > 0]
        least = min(SIZE[f] for f in self._families)
        distinct = len(np.unique(c))
        if len(c) < least + 1:
            raise NotEnoughData(f"{self.model_type} needs at least {least + 1} records, not {len(c)}")
        if distinct < least:
            raise NotEnoughData(
                f"{self.model_type} needs records at {least} different capitals at least, not {distinct}"
            )
        options = LearnOptions(families=self._families, half_life=np.inf, drift=False, min_records=least + 1)
        curves = learn([History(c, e, w)], options)
        if curves.status[0] == Status.INSUFFICIENT:
            raise NotEnoughData(f"{self.model_type} cannot be told from these {len(c)} records")
        self._curves, self._points = curves, None
        return self

    train = fit

    @property
    def curves(self) -> CurveSet:
        """The learned curve (one row); NotEnoughData before `fit`."""
        if self._curves is None:
            raise NotEnoughData("the model has not been trained: call fit(capital, efficiency) first")
        return self._curves

    @property
    def is_trained(self) -> bool:
        """Whether `fit` has succeeded."""
        return self._curves is not None

    @overload
    def predict(self, capital: float) -> float: ...
    @overload
    def predict(self, capital: Floats | list[float]) -> Floats: ...
    def predict(self, capital: float | Floats | list[float]) -> float | Floats:
        """E at one capital or at several. The plain formula, also beyond the records: see `extrapolated`."""
        c = self._capitals(capital)
        value = self.curves.moments(c[None, :])[0][0]
        return float(value[0]) if np.ndim(capital) == 0 else value

    def interval(self, capital: float | Floats | list[float]) -> tuple[Floats, Floats]:
        """(lower, upper) band of the mean efficiency at `level`."""
        c = self._capitals(capital)
        mean, var = self.curves.moments(c[None, :])
        half = self.curves.quantile(self.level)[0] * np.sqrt(np.maximum(var[0], 0.0))
        return mean[0] - half, mean[0] + half

    def confidence(self, capital: float) -> float:
        """Probability that an observation at `capital` lies within 10 % of the prediction."""
        c = self._capitals(capital)
        mean, var = self.curves.moments(c)
        return float(self.curves.confidence(c, mean, np.sqrt(np.maximum(var, 0.0)))[0])

    def extrapolated(self, capital: float) -> bool:
        """Whether `capital` lies outside the records."""
        c = self._capitals(capital)[0]
        return not self.curves.c_min[0] <= c <= self.curves.c_max[0]

    def _capitals(self, capital: float | Floats | list[float]) -> Floats:
        if np.ndim(capital) == 0:
            return np.array([checks.capital("capital", capital)])
        return np.array(
            [checks.capital(f"capital[{k}]", value) for k, value in enumerate(np.asarray(capital).tolist())]
        )

    @property
    def family(self) -> Family:
        """The family, or the one with most weight under `auto`."""
        return Family(int(np.argmax(self.curves.weight[0])))

    @property
    def weights(self) -> dict[str, float]:
        """Akaike weight of each family."""
        return {f.name.lower(): float(self.curves.weight[0, f]) for f in self._families}

    @property
    def params(self) -> dict[str, float]:
        """Parameters of `family` in capital units, named as in its formula."""
        f = self.family
        theta = families.rescaled(f, self.curves.theta[0, f], self.curves.scale[0])
        return {name: float(value) for name, value in zip(PARAMETERS[f], theta, strict=False)}

    @property
    def covariance(self) -> Floats:
        """Covariance of `params` (HC3), in the same order."""
        f = self.family
        unit = families.units(f, self.curves.scale)[0]
        cov = self.curves.cov[0, f] / (unit[:, None] * unit[None, :])
        return np.asarray(cov[: SIZE[f], : SIZE[f]], dtype=np.float64)

    @property
    def identifiable(self) -> bool:
        """Whether the data can tell the parameters of `family`; when not, prediction is fair inside the records
        only."""
        return bool(self.curves.identifiable[0, self.family])

    @property
    def r2(self) -> float:
        """Coefficient of determination over the records; NaN when the efficiencies do not vary."""
        return float(self.curves.r2[0])

    @property
    def mean_error(self) -> float:
        """Mean |observed - fitted|."""
        return float(self.curves.mean_error[0])

    @property
    def max_error(self) -> float:
        """Largest |observed - fitted|."""
        return float(self.curves.max_error[0])

    @property
    def aicc(self) -> dict[str, float]:
        """Corrected Akaike criterion of each family (robust deviance); smaller is better."""
        return {f.name.lower(): float(self.curves.aicc[0, f]) for f in self._families}

    @property
    def saturation(self) -> SaturationPoints:
        """The three points with their intervals."""
        if self._points is None:
            self._points = saturation_points(self.curves, self.hurdle, self.level)[0]
        return self._points

    @property
    def saturation_point(self) -> float | None:
        """Capital where the marginal profit falls through the hurdle; None when it does not within four times the
        records.

        A single family answers in closed form.
        """
        if len(self._families) == 1:
            f = self._families[0]
            theta = families.rescaled(f, self.curves.theta[:1, f], self.curves.scale[:1])
            at = float(families.saturation(f, theta, self.hurdle)[0])
            return at if np.isfinite(at) else None
        return self.saturation.saturation_point.capital
