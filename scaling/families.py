"""The curve families E(c) with their profit g(c) = c*E(c): values, derivatives, Jacobians, closed-form saturation
points.

Parameters are rows of three numbers (unused ones zero), in the order the models are written:

| family      | E(c)                 | g'(c)                     | g'(c) = h at                                  |
|-------------|----------------------|---------------------------|-----------------------------------------------|
| linear      | a c + b              | 2 a c + b                 | (h-b)/(2a)                                    |
| polynomial  | a c^2 + b c + d      | 3 a c^2 + 2 b c + d       | (-b - sqrt(b^2 - 3a(d-h)))/(3a)               |
| exponential | a e^(-b c) + d       | a (1-b c) e^(-b c) + d    | (1 - W0(e (h-d)/a))/b; none below -a e^-2 + d |
| sqrt        | a - b sqrt(c)        | a - 1.5 b sqrt(c)         | ((a-h)/(1.5 b))^2                             |

The square-root law of market impact: Donier and Bonart, arXiv:1412.4503; Almgren et al. 2005 find an exponent of 3/5.
Every function broadcasts: `theta` has shape (..., 3), `c` the shape (...) or one that broadcasts with it.
"""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import NDArray
from scipy.special import lambertw

Floats = NDArray[np.float64]


class Family(enum.IntEnum):
    """The four curve families; the number is the index in every per-family array."""

    LINEAR = 0
    POLYNOMIAL = 1
    EXPONENTIAL = 2
    SQRT = 3


#: Free parameters of each family.
SIZE = (2, 3, 3, 2)

#: Names accepted for each family, the English one first.
NAMES: dict[Family, tuple[str, ...]] = {
    Family.LINEAR: ("linear", "lineal"),
    Family.POLYNOMIAL: ("polynomial", "polinomial", "quadratic", "polynomial2"),
    Family.EXPONENTIAL: ("exponential", "exponencial"),
    Family.SQRT: ("sqrt", "raiz", "square-root", "impact"),
}


def family_named(name: str) -> Family:
    """The family of an English or Spanish name; KeyError with the accepted names otherwise."""
    for family, names in NAMES.items():
        if name.lower() in names:
            return family
    raise KeyError(f"unknown model {name!r}; known: auto, " + ", ".join(names[0] for names in NAMES.values()))


def efficiency(family: Family, theta: Floats, c: Floats) -> Floats:
    """E(c)."""
    p0, p1, p2 = theta[..., 0], theta[..., 1], theta[..., 2]
    match family:
        case Family.LINEAR:
            value = p0 * c + p1
        case Family.POLYNOMIAL:
            value = (p0 * c + p1) * c + p2
        case Family.EXPONENTIAL:
            value = p0 * np.exp(-np.minimum(p1 * c, 700.0)) + p2
        case Family.SQRT:
            value = p0 - p1 * np.sqrt(c)
    return np.asarray(value, dtype=np.float64)


def marginal(family: Family, theta: Floats, c: Floats) -> Floats:
    """g'(c) = E + c E': what one more unit of capital earns."""
    p0, p1, p2 = theta[..., 0], theta[..., 1], theta[..., 2]
    match family:
        case Family.LINEAR:
            value = 2 * p0 * c + p1
        case Family.POLYNOMIAL:
            value = (3 * p0 * c + 2 * p1) * c + p2
        case Family.EXPONENTIAL:
            bc = np.minimum(p1 * c, 700.0)
            value = p0 * (1 - bc) * np.exp(-bc) + p2
        case Family.SQRT:
            value = p0 - 1.5 * p1 * np.sqrt(c)
    return np.asarray(value, dtype=np.float64)


def jacobian(family: Family, theta: Floats, c: Floats) -> Floats:
    """dE/dtheta, shape (..., SIZE[family])."""
    one = np.ones_like(c)
    columns: tuple[Floats, ...]
    match family:
        case Family.LINEAR:
            columns = (c, one)
        case Family.POLYNOMIAL:
            columns = (c * c, c, one)
        case Family.EXPONENTIAL:
            z = np.exp(-np.minimum(theta[..., 1] * c, 700.0))
            columns = (z, -theta[..., 0] * c * z, one)
        case Family.SQRT:
            columns = (one, -np.sqrt(c))
    return np.stack(columns, axis=-1)


def marginal_jacobian(family: Family, theta: Floats, c: Floats) -> Floats:
    """d g'(c) / dtheta, shape (..., SIZE[family])."""
    one = np.ones_like(c)
    columns: tuple[Floats, ...]
    match family:
        case Family.LINEAR:
            columns = (2 * c, one)
        case Family.POLYNOMIAL:
            columns = (3 * c * c, 2 * c, one)
        case Family.EXPONENTIAL:
            bc = np.minimum(theta[..., 1] * c, 700.0)
            z = np.exp(-bc)
            columns = ((1 - bc) * z, theta[..., 0] * c * (bc - 2) * z, one)
        case Family.SQRT:
            columns = (one, -1.5 * np.sqrt(c))
    return np.stack(columns, axis=-1)


def marginal_slope(family: Family, theta: Floats, c: Floats) -> Floats:
    """g''(c): negative where profit is concave."""
    p0, p1 = theta[..., 0], theta[..., 1]
    match family:
        case Family.LINEAR:
            value = 2 * p0 + 0 * c
        case Family.POLYNOMIAL:
            value = 6 * p0 * c + 2 * p1
        case Family.EXPONENTIAL:
            bc = np.minimum(p1 * c, 700.0)
            value = p0 * p1 * (bc - 2) * np.exp(-bc)
        case Family.SQRT:
            value = -0.75 * p1 / np.sqrt(np.maximum(c, 1e-300))
    return np.asarray(value, dtype=np.float64)


def saturation(family: Family, theta: Floats, hurdle: Floats | float) -> Floats:
    """The capital where the marginal profit falls through `hurdle` (local maximum of g(c) - hurdle*c), else NaN.

    NaN means that the marginal never falls through it: the curve does not decay, or its floor lies above the hurdle,
    or it starts below it.
    """
    h = np.asarray(hurdle, dtype=np.float64)
    p0, p1, p2 = theta[..., 0], theta[..., 1], theta[..., 2]
    with np.errstate(all="ignore"):
        match family:
            case Family.LINEAR:
                value = np.where(p0 < 0, (h - p1) / (2 * p0), np.nan)
            case Family.POLYNOMIAL:
                value = _cubic_peak(p0, p1, p2 - h)
            case Family.EXPONENTIAL:
                level = (h - p2) / p0
                value = (1 - lambert(np.e * np.maximum(level, -np.exp(-2)))) / p1
                value = np.where((p0 > 0) & (p1 > 0) & (level > -np.exp(-2)), value, np.nan)
            case Family.SQRT:
                value = np.where((p1 > 0) & (p0 > h), ((p0 - h) / (1.5 * p1)) ** 2, np.nan)
        return np.where(value > 0, value, np.nan)


def _cubic_peak(a: Floats, b: Floats, d: Floats) -> Floats:
    """The local maximum of a c^3 + b c^2 + d c. Both forms of the root, each where it does not cancel (a may be 0)."""
    root = np.sqrt(b * b - 3 * a * d)
    return np.where(b <= 0, d / (root - b), (-b - root) / (3 * a))


def lambert(z: Floats) -> Floats:
    """W0 on z >= -1/e, real. scipy's complex routine is exact near the branch point, where series lose digits."""
    return np.asarray(lambertw(np.maximum(z, -np.exp(-1.0)))).real.astype(np.float64)


def rescaled(family: Family, theta: Floats, scale: Floats | float) -> Floats:
    """Parameters of the same curve in c, given those in x = c / scale."""
    return theta / units(family, np.asarray(scale, dtype=np.float64))


def units(family: Family, scale: Floats) -> Floats:
    """What each parameter is divided by when x = c / scale becomes c; shape (..., 3)."""
    one = np.ones_like(scale)
    match family:
        case Family.LINEAR:
            columns = (scale, one, one)
        case Family.POLYNOMIAL:
            columns = (scale * scale, scale, one)
        case Family.EXPONENTIAL:
            columns = (one, scale, one)
        case Family.SQRT:
            columns = (one, np.sqrt(scale), one)
    return np.stack(columns, axis=-1)
