"""Extranonce1 values of this process: unique among live connections, and not given out again while jobs of the last
owner live.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict

SIZE = 4
RESTING_AT_MOST = 131_072  # about 20 MB; only a storm of 145 connections a second for 15 minutes gets there


class ExtranonceExhausted(Exception):
    """No value is free: the range is too small for the connections of the last quarter of an hour."""


class Extranonces:
    """Hands out the values of [first, last] in a circle from a random start; released ones rest for `rest_s` (as
    long as jobs live).

    Ranges of several processes must not overlap. When more than RESTING_AT_MOST values rest, the oldest are
    forgotten: the
    circle itself then keeps them away (2^32 values at 145 a second last a year).
    """

    def __init__(self, first: int, last: int, rest_s: float = 900.0) -> None:
        if not 0 <= first <= last < 1 << 8 * SIZE:
            raise ValueError(f"extranonce1 range {first:#x}..{last:#x} is not within {SIZE} bytes")
        self._first, self._size, self._rest_s = first, last - first + 1, rest_s
        self._next = secrets.randbelow(self._size)
        self._live: set[int] = set()
        self._resting: OrderedDict[int, float] = OrderedDict()  # value -> when it was released

    def take(self, now_s: float) -> bytes:
        """A value that no live connection has and that rested long enough. ExtranonceExhausted when there is none."""
        self._wake(now_s)
        for _ in range(min(self._size, len(self._live) + len(self._resting) + 1)):
            value = self._first + self._next
            self._next = (self._next + 1) % self._size
            if value not in self._live and value not in self._resting:
                self._live.add(value)
                return value.to_bytes(SIZE, "big")
        raise ExtranonceExhausted("extranonce1: every value of the range is in use or was until a moment ago")

    def claim(self, extranonce1: bytes) -> bool:
        """Take back the value of an earlier session of the same device. False when it is in use or of another range."""
        value = int.from_bytes(extranonce1, "big")
        if len(extranonce1) != SIZE or value in self._live or not 0 <= value - self._first < self._size:
            return False
        self._resting.pop(value, None)
        self._live.add(value)
        return True

    def release(self, extranonce1: bytes, now_s: float) -> None:
        value = int.from_bytes(extranonce1, "big")
        if value in self._live:
            self._live.discard(value)
            self._resting[value] = now_s
            if len(self._resting) > RESTING_AT_MOST:
                self._resting.popitem(last=False)

    def _wake(self, now_s: float) -> None:
        while self._resting:
            value, released_s = next(iter(self._resting.items()))
            if now_s - released_s < self._rest_s:
                return
            del self._resting[value]

    def __len__(self) -> int:
        return len(self._live)
