"""Guards at the door: finite, positive, bounded numbers and sane names, or an error that says which one is wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from scaling.errors import InvalidQuery, InvalidRecord, ScalingError

Floats = NDArray[np.float64]

#: Bounds far beyond any real use, close enough that no square or product of two of them can overflow a double.
MAX_CAPITAL = 1e18
MIN_CAPITAL = 1e-12
MAX_EFFICIENCY = 1e6
MAX_SYMBOL_LENGTH = 64
MAX_METRICS = 64


def real(name: str, value: object, error: type[ScalingError] = InvalidQuery) -> float:
    """`value` as a finite float; bools, strings, NaN and infinities are refused by name."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise error(f"{name} must be a number, not {type(value).__name__} {value!r:.60}")
    try:
        number = float(value)
    except OverflowError:
        raise error(f"{name} is too large for a double") from None
    if not math.isfinite(number):
        raise error(f"{name} must be finite, not {number}")
    return number


def capital(name: str, value: object, error: type[ScalingError] = InvalidQuery) -> float:
    """A capital above zero, in the account's currency."""
    number = real(name, value, error)
    if number <= 0:
        raise error(f"{name} must be above zero, not {number:g}")
    if not MIN_CAPITAL <= number <= MAX_CAPITAL:
        raise error(f"{name} must lie in [{MIN_CAPITAL:g}, {MAX_CAPITAL:g}], not {number:g}")
    return number


def efficiency(name: str, value: object, error: type[ScalingError] = InvalidRecord) -> float:
    """An efficiency: profit per unit of capital in the user's unit; may be negative (a loss)."""
    number = real(name, value, error)
    if abs(number) > MAX_EFFICIENCY:
        raise error(f"{name} must lie in [-{MAX_EFFICIENCY:g}, {MAX_EFFICIENCY:g}], not {number:g}")
    return number


def symbol(value: object) -> str:
    """A name of 1 to 64 printable characters without surrounding space."""
    if not isinstance(value, str):
        raise InvalidRecord(f"symbol must be text, not {type(value).__name__}")
    if not value or value != value.strip() or len(value) > MAX_SYMBOL_LENGTH or not value.isprintable():
        raise InvalidRecord(f"symbol must be 1 to {MAX_SYMBOL_LENGTH} printable characters, not {value!r:.80}")
    return value


def metrics(value: Mapping[str, object] | None) -> dict[str, float]:
    """Further figures of one record (roi, sharpe, ...): at most 64 names, each a finite number."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRecord(f"metrics must be a mapping of name to number, not {type(value).__name__}")
    if len(value) > MAX_METRICS:
        raise InvalidRecord(f"at most {MAX_METRICS} metrics per record, not {len(value)}")
    found: dict[str, float] = {}
    for name, figure in value.items():
        if not isinstance(name, str) or not 0 < len(name) <= MAX_SYMBOL_LENGTH:
            raise InvalidRecord(f"metric names must be 1 to {MAX_SYMBOL_LENGTH} characters, not {name!r:.80}")
        found[name] = real(f"metrics[{name!r}]", figure, InvalidRecord)
    json.dumps(found)
    return found


def timestamp_us(value: object) -> int:
    """Microseconds since 1970 UTC of a datetime (naive means UTC) or of a number of seconds."""
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1e6)
    seconds = real("ts", value, InvalidRecord)
    if not 0 <= seconds < 253402300800:  # year 10000
        raise InvalidRecord(f"ts must be seconds since 1970 before the year 10000, not {seconds:g}")
    return round(seconds * 1e6)


def fraction(name: str, value: object, low: float, high: float) -> float:
    """A number in [low, high]."""
    number = real(name, value)
    if not low <= number <= high:
        raise InvalidQuery(f"{name} must lie in [{low:g}, {high:g}], not {number:g}")
    return number


def observations(capitals: object, efficiencies: object) -> tuple[Floats, Floats]:
    """Two equally long one-dimensional arrays of valid observations; the first bad one is named by position."""
    try:
        c = np.asarray(capitals, dtype=np.float64)
        e = np.asarray(efficiencies, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as problem:
        raise InvalidRecord(f"capital and efficiency must be numbers: {problem}") from None
    if c.ndim != 1 or c.shape != e.shape:
        raise InvalidRecord(f"capital and efficiency must be equally long lists, not shapes {c.shape} and {e.shape}")
    with np.errstate(invalid="ignore"):
        bad = ~(np.isfinite(c) & (c >= MIN_CAPITAL) & (c <= MAX_CAPITAL))
        bad_e = ~(np.isfinite(e) & (np.abs(e) <= MAX_EFFICIENCY))
    for k in np.flatnonzero(bad | bad_e)[:1]:
        capital(f"capital[{k}]", float(c[k]), InvalidRecord)
        efficiency(f"efficiency[{k}]", float(e[k]))
    return c, e
