"""From records to a CurveSet: batches of equal length, forgetting, regime changes, model averaging, what the data
cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scaling import fit as fitting
from scaling.curves import FAMILIES, QUANTILES, CurveSet, Status
from scaling.families import SIZE, Family, Floats, efficiency

#: Brownian-bridge statistic of the cumulated residuals above which the regime has changed. The textbook 1 % point is
#: 1.63;
#: at 2.0 no more than 1 % of calm histories of 40 to 200 records with outliers are split (docs/scaling.md).
DRIFT_LIMIT = 2.0
_SIDE_MIN = 5  # records needed on each side of a change
_OLD_SHARE = 0.2  # say of a record of an earlier regime, falling to 0 when the new one has _OLD_GONE records
_OLD_GONE = 24
_SAME = 1e-9  # capitals closer than this share of the largest are one capital


@dataclass(frozen=True)
class History:
    """One instrument's records in time order. `weight` is None or the weight of each record (prior pseudo-records <
    1)."""

    capital: Floats
    efficiency: Floats
    weight: Floats | None = None
    prior_records: int = 0  # the first ones are pseudo-records of a market prior


@dataclass(frozen=True)
class LearnOptions:
    """How curves are learned."""

    families: tuple[Family, ...] = FAMILIES  # one family: that model; several: AICc over them
    average: bool = True  # Akaike average; False: the single best family
    half_life: float = 120.0  # records after which a record counts half; inf: never forgotten
    drift: bool = True
    min_records: int = 5
    full_records: int = 12  # below: linear and sqrt only


def learn(histories: Sequence[History], options: LearnOptions, warm: CurveSet | None = None) -> CurveSet:
    """A curve for each history (status INSUFFICIENT where the data hold none). `warm`: the rows' earlier curves, same
    order."""
    result = CurveSet.empty(len(histories))
    needed = max(options.min_records, min(SIZE[f] for f in options.families) + 1)
    usable = [k for k, h in enumerate(histories) if len(h.capital) >= needed and _distinct(h.capital) >= 2]
    for k, h in enumerate(histories):
        result.n[k] = len(h.capital)
        if len(h.capital):
            result.c_min[k], result.c_max[k] = h.capital.min(), h.capital.max()
    usable.sort(key=lambda k: len(histories[k].capital))
    at = 0
    while at < len(usable):
        size = len(histories[usable[at]].capital)
        rows = [k for k in usable[at : at + fitting.CHUNK] if len(histories[k].capital) <= 1.5 * size]
        at += len(rows)
        index = np.array(rows)
        known = warm is not None and bool((warm.status[index] >= Status.PROVISIONAL).all())
        result.put(
            index, _learn_chunk([histories[k] for k in rows], options, warm.take(index) if warm and known else None)
        )
    return result


def _distinct(capital: Floats) -> int:
    ordered = np.sort(capital)
    return 1 + int((np.diff(ordered) > _SAME * ordered[-1]).sum())


def _learn_chunk(histories: list[History], options: LearnOptions, warm: CurveSet | None) -> CurveSet:
    rows, width = len(histories), max(len(h.capital) for h in histories)
    c, y, w = np.ones((rows, width)), np.zeros((rows, width)), np.zeros((rows, width))
    start = np.zeros(rows, np.int64)
    for k, h in enumerate(histories):
        n = len(h.capital)
        c[k, :n], y[k, :n] = h.capital, h.efficiency
        age = np.arange(n - 1, -1, -1.0)
        w[k, :n] = 0.5 ** (age / options.half_life)
        if h.weight is not None:
            w[k, :n] *= h.weight
        start[k] = h.prior_records
    curves, residual = _fit(c, y, w, start, options, warm)
    if options.drift:
        for _ in range(2):
            moved = _split_regimes(curves, residual, c, y, w, start)
            if not len(moved):
                break
            again, r = _fit(c[moved], y[moved], w[moved], start[moved], options, None)
            again.drift = curves.drift[moved]
            curves.put(moved, again)
            residual[moved] = r
    prior = np.array([h.prior_records for h in histories])  # pseudo-records are no records to whoever asks
    curves.regime_start = np.maximum(start - prior, 0)
    curves.n = ((w > 0) & (np.arange(width) >= prior[:, None])).sum(axis=1)
    return curves


def _split_regimes(curves: CurveSet, t: Floats, c: Floats, y: Floats, w: Floats, start: np.ndarray) -> np.ndarray:
    """Find rows whose residuals changed level; move the old records to the new level and cut their weight. Returns
    the rows.

    The test: S_k = sum of clipped residuals in time order; max |S_k - k/n S_n| / (s sqrt n) against DRIFT_LIMIT.
    """
    width = t.shape[1]
    index = np.arange(width)
    live = (w > 0) & (index >= start[:, None])
    z = np.where(live, np.clip(t, -3.0, 3.0), 0.0)
    n = np.maximum(live.sum(axis=1), 1)
    k = np.cumsum(live, axis=1)
    bridge = np.cumsum(z, axis=1) - k / n[:, None] * z.sum(axis=1, keepdims=True)
    # successive differences estimate the noise whether or not the level moved; a robust floor of 0.5 keeps ties
    # harmless
    steps = np.where(live[:, 1:] & live[:, :-1], np.diff(z, axis=1), 0.0)
    sd = np.maximum(np.sqrt((steps**2).sum(axis=1) / (2 * np.maximum(n - 1, 1))), 0.5)
    inside = live & (k >= _SIDE_MIN) & (k <= (n - _SIDE_MIN)[:, None])
    size = np.where(inside, np.abs(bridge), 0.0) / (sd * np.sqrt(n))[:, None]
    at = np.argmax(size, axis=1)
    curves.drift = np.maximum(curves.drift, size.max(axis=1))
    moved = np.flatnonzero((size.max(axis=1) > DRIFT_LIMIT) & (curves.status != Status.INSUFFICIENT))
    for row in moved:
        new, old = live[row] & (index > at[row]), live[row] & (index <= at[row])
        raw = y[row] - _fitted(curves, int(row), c[row])
        y[row, index <= at[row]] += float(np.median(raw[new]) - np.median(raw[old]))
        share = _OLD_SHARE * max(0.0, 1 - int(new.sum()) / _OLD_GONE)
        w[row, index <= at[row]] *= share
        start[row] = at[row] + 1
    return moved


def _fitted(curves: CurveSet, row: int, c: Floats) -> Floats:
    x = c / curves.scale[row]
    total: Floats = np.zeros_like(x)
    for f in FAMILIES:
        total += curves.weight[row, f] * efficiency(f, curves.theta[row, f], x)
    return total


def _fit(
    c: Floats, y: Floats, w: Floats, start: np.ndarray, options: LearnOptions, warm: CurveSet | None
) -> tuple[CurveSet, Floats]:
    """Fit a padded chunk. Returns the curves and the studentised leave-one-out residuals in time order."""
    on = w > 0
    scale = np.where(on, c, 0.0).max(axis=1)
    x = np.where(on, c / scale[:, None], 0.5)
    warm_theta = _warm_start(warm, scale, options.families) if warm is not None else None
    fits, s, slope, centre = fitting.fit_families(x, y, w, options.families, warm_theta)
    rows = len(c)
    out = CurveSet.empty(rows)
    out.scale, out.vslope, out.vcentre = scale, slope, centre
    out.n = on.sum(axis=1)
    out.n_eff = w.sum(axis=1) ** 2 / (w * w).sum(axis=1)
    out.regime_start = start.copy()
    current: np.ndarray = on & (np.arange(c.shape[1]) >= start[:, None])
    prior_only: np.ndarray = ~np.asarray(current.any(axis=1))  # nothing but the pseudo-records that come first
    current = np.where(prior_only[:, None], on, current)
    out.c_min = np.where(current, c, np.inf).min(axis=1)
    out.c_max = np.where(current, c, 0.0).max(axis=1)
    for f, family_fit in fits.items():
        out.theta[:, f], out.cov[:, f] = family_fit.theta, family_fit.cov
        out.aicc[:, f] = fitting.aicc(family_fit.deviance, out.n_eff, SIZE[f])
    spans = out.c_max - out.c_min > 0.05 * out.c_max
    _judge(out, fits, x, on, spans, prior_only, options)
    _weigh(out, options)
    v = np.exp(slope[:, None] * (x - centre[:, None]))
    t = _residuals(out, fits, s, v, y, on, w)
    _extrapolate(out, fits)
    return out, t


def _warm_start(warm: CurveSet, scale: Floats, families: tuple[Family, ...]) -> dict[Family, Floats]:
    from scaling.families import units

    start: dict[Family, Floats] = {}
    for f in families:
        theta = warm.theta[:, f] / units(f, warm.scale) * units(f, scale)
        if f is Family.EXPONENTIAL:
            theta[:, 1] = np.clip(theta[:, 1], fitting.DECAY_LOW, fitting.DECAY_HIGH)
        start[f] = theta
    return start


def _judge(
    out: CurveSet,
    fits: dict[Family, fitting.FamilyFit],
    x: Floats,
    on: np.ndarray,
    spans: np.ndarray,
    prior_only: np.ndarray,
    options: LearnOptions,
) -> None:
    """Which families the data can tell apart from nothing, and the status of each row."""
    ordered = np.sort(np.where(on, x, np.inf), axis=1)
    with np.errstate(invalid="ignore"):
        distinct = 1 + (np.diff(ordered, axis=1) > _SAME).astype(np.int64)[:, :].sum(axis=1) - (~on).any(axis=1)
    for f, family_fit in fits.items():
        told = (distinct >= SIZE[f]) & spans & np.isfinite(family_fit.theta).all(axis=1)
        if f is Family.EXPONENTIAL:
            told &= (family_fit.decay_se <= fitting.DECAY_SE_LIMIT) & ~family_fit.at_low & ~family_fit.at_high
        out.identifiable[:, f] = told
        out.aicc[distinct < SIZE[f], f] = np.inf
    thin = out.n_eff < options.full_records - 0.5
    if len(options.families) > 1:
        small = [f for f in (Family.POLYNOMIAL, Family.EXPONENTIAL) if f in fits]
        if any(f in fits for f in (Family.LINEAR, Family.SQRT)):
            for f in small:
                out.aicc[thin, f] = np.inf
        if Family.EXPONENTIAL in fits:
            # an untold decay at the low end is a line in disguise; at the high end it is a real plateau and keeps its
            # say
            vague = ~out.identifiable[:, Family.EXPONENTIAL] & ~fits[Family.EXPONENTIAL].at_high
            others = np.isfinite(np.delete(out.aicc, Family.EXPONENTIAL, axis=1)).any(axis=1)
            fast = fits[Family.EXPONENTIAL].theta[:, 1] > 20.0
            out.aicc[vague & others & ~fast, Family.EXPONENTIAL] = np.inf
    out.status[:] = np.where(thin, Status.PROVISIONAL, Status.FULL)
    out.status[prior_only] = Status.PRIOR
    if Family.SQRT in fits:  # a prior is the square-root law, whatever its few points would allow too
        for f in fits:
            if f is not Family.SQRT:
                out.aicc[prior_only, f] = np.inf
    if len(options.families) == 1:
        f = options.families[0]
        out.aicc[:, f] = np.where(
            distinct >= SIZE[f], np.where(np.isfinite(out.aicc[:, f]), out.aicc[:, f], 0.0), np.inf
        )


def _weigh(out: CurveSet, options: LearnOptions) -> None:
    best = out.aicc.min(axis=1, keepdims=True)
    none = ~np.isfinite(best[:, 0])
    gap = np.where(np.isfinite(out.aicc), out.aicc - np.where(np.isfinite(best), best, 0.0), np.inf)
    weight = np.exp(-0.5 * gap) if options.average else (gap == 0).astype(np.float64)
    if not options.average:
        weight[np.arange(len(weight)), np.argmin(gap, axis=1)] += 0.5  # a tie goes to the first family
        weight = (weight > 1).astype(np.float64)
    out.weight = np.where(none[:, None], 0.0, weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300))
    out.status[none] = Status.INSUFFICIENT


def _residuals(
    out: CurveSet, fits: dict[Family, fitting.FamilyFit], s: Floats, v: Floats, y: Floats, on: np.ndarray, w: Floats
) -> Floats:
    """Fill the noise, quality and residual law of each row; returns the studentised leave-one-out residuals."""
    r, h = np.zeros_like(y), np.zeros_like(y)
    parameters = np.zeros(len(y))
    for f, family_fit in fits.items():
        r += out.weight[:, f, None] * family_fit.residual
        h += out.weight[:, f, None] * family_fit.leverage
        parameters += out.weight[:, f] * SIZE[f]
    out.df = np.maximum(out.n_eff - parameters, 1.0)
    clipped = np.minimum((r / v / s[:, None]) ** 2, fitting.HUBER_K**2)
    mean = (w * clipped).sum(axis=1) / w.sum(axis=1) * out.n_eff / out.df
    floor = 1e-9 * np.maximum(np.abs(y * on).max(axis=1), 1e-6)
    out.sigma = np.maximum(s * np.sqrt(mean / fitting.PROPOSAL2), floor)
    t = np.where(on, r / ((1 - h) * out.sigma[:, None] * v), 0.0)
    recent = on & (w > 0.15 * w.max(axis=1, keepdims=True))
    out.quantiles = _quantiles(np.abs(t), recent)
    out.inflate = _autocorrelation(t, recent)
    n = np.maximum(recent.sum(axis=1), 1)
    size = np.abs(np.where(recent, r, 0.0))
    out.mean_error, out.max_error = size.sum(axis=1) / n, size.max(axis=1)
    centre = np.where(recent, y, 0.0).sum(axis=1) / n
    total = np.where(recent, (y - centre[:, None]) ** 2, 0.0).sum(axis=1)
    flat = total <= 1e-18 * n * np.maximum(centre**2, 1e-300)
    with np.errstate(divide="ignore", invalid="ignore"):
        out.r2 = np.where(flat, np.nan, 1 - (size**2).sum(axis=1) / total)
    return t


def _quantiles(t: Floats, on: np.ndarray) -> Floats:
    """QUANTILES evenly spaced quantiles of each row over `on`."""
    ordered = np.sort(np.where(on, t, np.inf), axis=1)
    n = on.sum(axis=1)
    place = np.linspace(0, 1, QUANTILES)[None, :] * np.maximum(n - 1, 0)[:, None]
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(n - 1, 0)[:, None])
    a = np.take_along_axis(ordered, low, axis=1)
    b = np.take_along_axis(ordered, high, axis=1)
    return np.asarray(a + (place - low) * (b - a), dtype=np.float64)


def _autocorrelation(t: Floats, on: np.ndarray) -> Floats:
    """Variance factor (1 + rho) / (1 - rho) of first-order dependent records where rho is beyond its noise, else 1."""
    z = np.where(on, np.clip(t, -2.5, 2.5), 0.0)
    n = np.maximum(on.sum(axis=1), 2)
    top = (z[:, 1:] * z[:, :-1]).sum(axis=1)
    rho = top / np.maximum((z * z).sum(axis=1), 1e-300) + 1 / n
    seen = rho > 2 / np.sqrt(n)
    rho = np.clip(rho, 0.0, 0.9)
    return np.asarray(np.where(seen, (1 + rho) / (1 - rho), 1.0), dtype=np.float64)


def _extrapolate(out: CurveSet, fits: dict[Family, fitting.FamilyFit]) -> None:
    """The slope of the pessimistic tail, the swing below, and whether going beyond the records may be allowed at
    all."""
    with np.errstate(all="ignore"):
        middle = 0.5 * (out.c_min + out.c_max)
        upper, _ = out.moments(out.c_max)
        half, _ = out.moments(middle)
        out.tail = np.nan_to_num(np.maximum((half - upper) / (out.c_max - middle), 0.0), posinf=0.0)
    seen = out.c_min[:, None] + np.linspace(0, 1, 17) * (out.c_max - out.c_min)[:, None]
    values, _ = out.moments(seen)
    out.swing = np.nan_to_num(values.max(axis=1) - values.min(axis=1))
    vague = np.zeros(len(out), bool)
    for f in fits:
        vague |= (out.weight[:, f] > 0.5) & ~out.identifiable[:, f]
    out.can_extrapolate = ~vague & (out.status != Status.INSUFFICIENT)


def only(options: LearnOptions, family: Family) -> LearnOptions:
    """The same options with a single family."""
    return replace(options, families=(family,))
