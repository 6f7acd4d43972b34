"""The engine's memory of observations: a bounded, time-ordered book for each symbol, and rows of one CurveSet."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field

import numpy as np

from scaling.curves import CurveSet
from scaling.errors import InvalidRecord
from scaling.learn import History
from scaling.prior import ImpactPrior

_GROW = 64


@dataclass
class Book:
    """The newest observations of one symbol, sorted by time. `version` counts its changes."""

    row: int
    keys: list[tuple[int, str]] = field(default_factory=list)  # (ts_us, source)
    capital: list[float] = field(default_factory=list)
    efficiency: list[float] = field(default_factory=list)
    prior: ImpactPrior | None = None
    version: int = 0
    fitted: int = -1  # the version the curve was learned from

    def holds(self, key: tuple[int, str], capital: float, efficiency: float) -> bool:
        """Whether the observation is here already; InvalidRecord when its key is here with other figures."""
        at = bisect.bisect_left(self.keys, key)
        if at == len(self.keys) or self.keys[at] != key:
            return False
        if (self.capital[at], self.efficiency[at]) != (capital, efficiency):
            raise InvalidRecord(
                f"a record of source {key[1]!r} at that time is known with other figures (capital {self.capital[at]:g})"
            )
        return True

    def insert(self, key: tuple[int, str], capital: float, efficiency: float, limit: int) -> None:
        """Put an observation in its place in time; the oldest beyond `limit` goes."""
        at = bisect.bisect_right(self.keys, key)
        self.keys.insert(at, key)
        self.capital.insert(at, capital)
        self.efficiency.insert(at, efficiency)
        if len(self.keys) > limit:
            del self.keys[0], self.capital[0], self.efficiency[0]
        self.version += 1

    def history(self) -> History:
        """The records as `learn` wants them, pseudo-records of the prior first."""
        c, e = np.array(self.capital), np.array(self.efficiency)
        if self.prior is None:
            return History(c, e)
        pc, pe, pw = self.prior.pseudo_records(len(c))
        if not pw.any():
            return History(c, e)
        weight = np.concatenate((pw, np.ones(len(c))))
        return History(np.concatenate((pc, c)), np.concatenate((pe, e)), weight, len(pc))


class Shelf:
    """All books and their curves. Rows of the CurveSet are handed out once and kept."""

    def __init__(self, max_symbols: int) -> None:
        self._max = max_symbols
        self.books: dict[str, Book] = {}
        self.curves = CurveSet.empty(_GROW)

    def book(self, symbol: str) -> Book:
        """The book of a symbol, opened when it is new."""
        found = self.books.get(symbol)
        if found is None:
            if len(self.books) >= self._max:
                raise InvalidRecord(f"at most {self._max} symbols are kept (max_symbols)")
            found = self.books[symbol] = Book(row=len(self.books))
            if found.row >= len(self.curves):
                grown = CurveSet.empty(2 * len(self.curves))
                grown.put(np.arange(len(self.curves)), self.curves)
                self.curves = grown
        return found

    def rows(self, symbols: list[str]) -> np.ndarray:
        """CurveSet rows of known symbols."""
        return np.array([self.books[s].row for s in symbols], dtype=np.int64)

    def stale(self, symbols: list[str]) -> list[str]:
        """Those whose curve is older than their records."""
        return [s for s in symbols if self.books[s].fitted != self.books[s].version]
