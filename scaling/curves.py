"""CurveSet: the learned curves of many instruments as one structure of arrays, and what they say at any capital.

One row per instrument. A curve is an average of the four families (Akaike weights; a single family is the weight vector
with one 1). The variance of the average holds both each family's own and their disagreement (Buckland et al. 1997):
var = sum_k w_k (se_k^2 + (mu_k - mu)^2).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields

import numpy as np
from scipy.special import ndtr, stdtrit

from scaling.families import SIZE, Family, Floats, efficiency, jacobian, marginal, marginal_jacobian, marginal_slope

FAMILIES = tuple(Family)
#: Points of the stored distribution of |studentised leave-one-out residual|.
QUANTILES = 33
#: Relative error that `confidence` is the probability of staying within.
TOLERANCE = 0.10
#: Weight of the normal law against n own residuals in the confidence: with 5 residuals the own law alone is a
#: staircase.
_NORMAL_RECORDS = 4.0


class Status(enum.IntEnum):
    """How much a row may be trusted."""

    INSUFFICIENT = 0  # fewer than 5 records, or all at one capital: no curve
    PROVISIONAL = 1  # 5 to 11 effective records: linear and sqrt only, wide bands
    PRIOR = 2  # market data only: pseudo-records of the impact law
    FULL = 3


@dataclass
class CurveSet:
    """S learned curves. Parameters are in x = capital / scale."""

    theta: Floats  # (S, 4, 3)
    cov: Floats  # (S, 4, 3, 3)
    weight: Floats  # (S, 4) sums to 1 where a curve exists
    aicc: Floats  # (S, 4) inf where a family was not allowed
    scale: Floats  # (S,)
    sigma: Floats  # (S,) noise of one record at vx
    vslope: Floats  # (S,) of log sigma over x
    vcentre: Floats  # (S,)
    quantiles: Floats  # (S, QUANTILES) of |studentised leave-one-out residual|
    c_min: Floats  # (S,) smallest capital observed in the current regime
    c_max: Floats  # (S,) largest
    n: np.ndarray  # (S,) own records used (int)
    n_eff: Floats  # (S,) after forgetting
    df: Floats  # (S,) degrees of freedom of the bands
    inflate: Floats  # (S,) variance factor for autocorrelated records, >= 1
    status: np.ndarray  # (S,) Status
    identifiable: np.ndarray  # (S, 4) bool
    can_extrapolate: np.ndarray  # (S,) bool: the families in the average agree on what lies beyond
    tail: Floats  # (S,) least loss of efficiency per unit of capital beyond c_max
    swing: Floats  # (S,) how far the fitted curve moves over the observed range
    r2: Floats  # (S,) NaN when the efficiencies do not vary
    mean_error: Floats  # (S,) mean |E - fitted|
    max_error: Floats  # (S,)
    drift: Floats  # (S,) statistic of the last regime test
    regime_start: np.ndarray  # (S,) index of the first record of the current regime (int)

    def __len__(self) -> int:
        return len(self.scale)

    @classmethod
    def empty(cls, size: int) -> CurveSet:
        """`size` rows without data."""
        f = len(FAMILIES)

        def full(value: float, *shape: int) -> Floats:
            return np.full((size, *shape), value, dtype=np.float64)

        return cls(
            theta=full(0, f, 3), cov=full(0, f, 3, 3), weight=full(0, f), aicc=full(np.inf, f), scale=full(1),
            sigma=full(0),
            vslope=full(0), vcentre=full(0), quantiles=full(0, QUANTILES), c_min=full(np.nan), c_max=full(np.nan),
            n=np.zeros(size, np.int64), n_eff=full(0), df=full(1), inflate=full(1),
            status=np.zeros(size, np.int64), identifiable=np.zeros((size, f), bool),
            can_extrapolate=np.zeros(size, bool),
            tail=full(0), swing=full(0),
            r2=full(np.nan), mean_error=full(np.nan), max_error=full(np.nan), drift=full(0),
            regime_start=np.zeros(size, np.int64),
        )  # fmt: skip

    def put(self, rows: np.ndarray, other: CurveSet) -> None:
        """Write `other` into `rows`."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)

    def take(self, rows: np.ndarray) -> CurveSet:
        """A copy of `rows`."""
        return CurveSet(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def moments(self, c: Floats) -> tuple[Floats, Floats]:
        """(mean, variance) of E at `c`, shape (S,) or (S, K), from the model alone (no tail rule)."""
        grid = c if c.ndim == 2 else c[:, None]
        x = grid / self.scale[:, None]
        values, variances = [], []
        for f in FAMILIES:
            theta = self.theta[:, f, None, :]
            values.append(efficiency(f, theta, x))
            j = jacobian(f, theta, x)
            p = SIZE[f]
            variances.append(((j @ self.cov[:, f, :p, :p]) * j).sum(axis=-1))
        return self._average(np.stack(values), np.stack(variances), c)

    def marginal_moments(self, c: Floats) -> tuple[Floats, Floats]:
        """(mean, variance) of the marginal profit g'(c) = E + c E'."""
        grid = c if c.ndim == 2 else c[:, None]
        x = grid / self.scale[:, None]
        values, variances = [], []
        for f in FAMILIES:
            theta = self.theta[:, f, None, :]
            values.append(marginal(f, theta, x))
            j = marginal_jacobian(f, theta, x)
            p = SIZE[f]
            variances.append(((j @ self.cov[:, f, :p, :p]) * j).sum(axis=-1))
        return self._average(np.stack(values), np.stack(variances), c)

    def _average(self, values: Floats, variances: Floats, c: Floats) -> tuple[Floats, Floats]:
        w = self.weight.T[:, :, None]
        mean = (w * values).sum(axis=0)
        spread = (w * (variances * self.inflate[:, None] + (values - mean) ** 2)).sum(axis=0)
        return (mean, spread) if c.ndim == 2 else (mean[:, 0], spread[:, 0])

    def marginal_mean(self, c: Floats) -> Floats:
        """g'(c) of the averaged model."""
        grid = c if c.ndim == 2 else c[:, None]
        x = grid / self.scale[:, None]
        mean = sum(self.weight[:, f, None] * marginal(f, self.theta[:, f, None, :], x) for f in FAMILIES)
        assert isinstance(mean, np.ndarray)
        return mean if c.ndim == 2 else mean[:, 0]

    def curvature(self, c: Floats) -> Floats:
        """g''(c) of the averaged model, per unit of capital squared."""
        x = c / self.scale
        mean = sum(self.weight[:, f] * marginal_slope(f, self.theta[:, f], x) for f in FAMILIES)
        assert isinstance(mean, np.ndarray)
        return mean / self.scale

    def noise(self, c: Floats) -> Floats:
        """Standard deviation of one observation at `c` (beyond the observed range: as at its edge)."""
        grid = c if c.ndim == 2 else c[:, None]
        x = np.clip(grid, self.c_min[:, None], self.c_max[:, None]) / self.scale[:, None]
        value = self.sigma[:, None] * np.exp(self.vslope[:, None] * (x - self.vcentre[:, None]))
        return np.asarray(value if c.ndim == 2 else value[:, 0], dtype=np.float64)

    def quantile(self, level: float) -> Floats:
        """Two-sided Student quantile of the bands of `level`, per row."""
        return np.asarray(stdtrit(np.maximum(self.df, 1.0), 0.5 + level / 2), dtype=np.float64)

    def cautious(self, c: Floats) -> tuple[Floats, Floats]:
        """(mean, standard error) of E with the rules for what no record has seen.

        Beyond the largest observed capital: never above the model, never rising, and falling at least as steeply as
        over
        the upper half of the data. Below the smallest: no further from the value there than the curve moves over all
        records (an exponential that is over before the first record may start anywhere).
        """
        mean, var = self.moments(c)
        grid = c if c.ndim == 2 else c[:, None]
        beyond = grid > self.c_max[:, None]
        if beyond.any():
            top, _ = self.moments(self.c_max)
            line = top[:, None] - self.tail[:, None] * (grid - self.c_max[:, None])
            capped = np.where(beyond, np.minimum(mean.reshape(grid.shape), line), mean.reshape(grid.shape))
            mean = capped.reshape(mean.shape)
        below = grid < self.c_min[:, None]
        if below.any():
            first, _ = self.moments(self.c_min)
            low, high = (first - self.swing)[:, None], (first + self.swing)[:, None]
            wide = mean.reshape(grid.shape)
            mean = np.where(below, np.clip(wide, low, high), wide).reshape(mean.shape)
        return mean, np.sqrt(np.maximum(var, 0.0))

    def confidence(self, c: Floats, mean: Floats, se: Floats) -> Floats:
        """Probability that an observation at `c` lies within 10 % of the prediction, from leave-one-out residuals.

        Beyond the largest observed capital it is multiplied by exp(1 - c / c_max). All arguments have shape (S,).
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            reach = TOLERANCE * np.abs(mean) / np.sqrt(self.noise(c) ** 2 + se**2)
        reach = np.nan_to_num(reach, nan=0.0, posinf=1e9)
        own = self._own_law(reach)
        normal = 2 * ndtr(reach) - 1
        mixed = (self.n_eff * own + _NORMAL_RECORDS * normal) / (self.n_eff + _NORMAL_RECORDS)
        beyond = np.maximum(c / self.c_max - 1, 0.0)
        return np.asarray(np.where(self.status == Status.INSUFFICIENT, 0.0, mixed * np.exp(-beyond)), dtype=np.float64)

    def _own_law(self, reach: Floats) -> Floats:
        """Share of the row's own |residuals| at most `reach`, interpolated between the stored quantiles.

        n residuals cut the law into n + 1 parts of equal chance: one lies below the smallest, one above the largest.
        """
        q = self.quantiles
        below = (q <= reach[:, None]).sum(axis=1)
        k = np.clip(below, 1, QUANTILES - 1)
        rows = np.arange(len(q))
        low, high = q[rows, k - 1], q[rows, k]
        part = np.clip((reach - low) / np.maximum(high - low, 1e-300), 0.0, 1.0)
        n = np.maximum(self.n_eff, 1.0)
        inside = 1 + (k - 1 + part) / (QUANTILES - 1) * (n - 1)
        first = reach / np.maximum(q[:, 0], 1e-300)
        share = np.where(below == 0, np.minimum(first, 1.0), np.where(below == QUANTILES, n, inside)) / (n + 1)
        return np.asarray(share, dtype=np.float64)
