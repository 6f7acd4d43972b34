"""A bounded, expiring memory of predictions; an entry is dead as soon as its symbol has a newer record."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from scaling.results import EfficiencyPrediction


class PredictionCache:
    """At most `size` answers, each for at most `ttl_s` seconds, the least recently used going first."""

    def __init__(self, size: int, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._ttl_s, self._clock = size, ttl_s, clock
        self._entries: OrderedDict[tuple[str, float], tuple[int, float, EfficiencyPrediction]] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, symbol: object, capital: object, version: int) -> EfficiencyPrediction | None:
        """The answer given before for this version of the symbol's records, if it is still young."""
        if type(capital) not in (int, float) or not isinstance(symbol, str):
            return None
        assert isinstance(capital, (int, float))
        key = (symbol, capital)
        entry = self._entries.get(key)
        if entry is None or entry[0] != version or entry[1] <= self._clock():
            if entry is not None:
                del self._entries[key]
            self.misses += 1
            return None
        self._entries.move_to_end(key)
        self.hits += 1
        return entry[2]

    def put(self, symbol: str, capital: float, version: int, answer: EfficiencyPrediction) -> None:
        """Keep an answer."""
        if not self._size:
            return
        self._entries[(symbol, capital)] = (version, self._clock() + self._ttl_s, answer)
        self._entries.move_to_end((symbol, capital))
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)
