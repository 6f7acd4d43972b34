"""PredictiveScalingEngine: remembers observations, keeps a curve per instrument, predicts, and allocates with
caution."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from scaling import checks
from scaling.books import Shelf
from scaling.cache import PredictionCache
from scaling.curves import FAMILIES, CurveSet
from scaling.decision import Caution
from scaling.errors import InvalidQuery, InvalidRecord
from scaling.families import Floats
from scaling.learn import LearnOptions, learn
from scaling.managers import RiskManager
from scaling.model import resolve
from scaling.planning import Request, plan
from scaling.prior import ImpactPrior
from scaling.reports import allocation_row, metrics_of, model_rows, predictions
from scaling.results import Allocation, EfficiencyPrediction, ModelMetrics
from scaling.saturation import SaturationPoints, saturation_points
from scaling.store import Record, TranscendentalDatabase


@dataclass(frozen=True)
class EngineConfig:
    """Settings of an engine; `scaling_config` holds the same names. The defaults protect capital where records are
    thin."""

    model: str = "auto"  # auto (AICc average) | linear | polynomial | exponential | sqrt
    average: bool = True  # under auto: False takes the single best family
    min_efficiency: float = 0.5
    hurdle: float = (
        0.0  # marginal profit idle capital earns elsewhere; saturation is where an instrument falls below it
    )
    trust: float = 2.0  # no capital beyond this times the largest observed
    kappa: float = 1.0  # standard errors taken off before allocating
    ramp: float = 2.0  # at most this times what was held, per review
    level: float = 0.90  # of every band
    half_life: float = 120.0  # records after which a record counts half
    drift: bool = True
    max_records: int = 500  # per symbol
    max_symbols: int = 100_000
    cache_size: int = 10_000
    cache_ttl: float = 300.0  # seconds

    def __post_init__(self) -> None:
        resolve(self.model)
        for name in ("min_efficiency", "hurdle"):
            checks.real(name, getattr(self, name))
        if self.hurdle < 0:
            raise InvalidQuery(f"hurdle must be at least 0, not {self.hurdle:g}: idle capital can always earn nothing")
        checks.fraction("trust", self.trust, 1.0, 100.0)
        checks.fraction("kappa", self.kappa, 0.0, 10.0)
        checks.fraction("ramp", self.ramp, 1.0, 100.0)
        checks.fraction("level", self.level, 0.5, 0.999)
        checks.fraction("half_life", self.half_life, 5.0, 1e12)
        checks.fraction("cache_ttl", self.cache_ttl, 0.0, 1e9)
        for name, low, high in (
            ("max_records", 12, 100_000),
            ("max_symbols", 1, 10_000_000),
            ("cache_size", 0, 10_000_000),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InvalidQuery(f"{name} must be a whole number in [{low}, {high}], not {value!r}")
        for name in ("average", "drift"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidQuery(f"{name} must be true or false, not {getattr(self, name)!r}")


class PredictiveScalingEngine:
    """The brain: one instance per process, used from one event loop. Without `db` it remembers in memory only.

    Settings may be given as an EngineConfig or by name: PredictiveScalingEngine(model="polynomial",
    min_efficiency=0.6).
    """

    def __init__(
        self, db: TranscendentalDatabase | None = None, config: EngineConfig | None = None, *,
        risk_manager: RiskManager | None = None, **settings: object,
    ) -> None:  # fmt: skip
        try:
            self.config = replace(config or EngineConfig(), **settings)  # type: ignore[arg-type]
        except TypeError as unknown:
            raise InvalidQuery(str(unknown).replace("EngineConfig.__init__() got an ", "")) from None
        self.db = db
        self.risk_manager = risk_manager
        families = resolve(self.config.model)
        self._options = LearnOptions(
            families=families, average=self.config.average, half_life=self.config.half_life, drift=self.config.drift
        )
        self._shelf = Shelf(self.config.max_symbols)
        self._cache = PredictionCache(self.config.cache_size, self.config.cache_ttl)
        self._lock = asyncio.Lock()
        self._last_us = 0

    @property
    def learn_options(self) -> LearnOptions:
        """How this engine learns, for bootstraps and back-tests of the same kind."""
        return self._options

    # records

    async def add_efficiency_record(
        self, symbol: str, capital: float, efficiency: float, metrics: Mapping[str, object] | None = None,
        ts: datetime | float | None = None, source: str = "",
    ) -> bool:  # fmt: skip
        """Remember one observation: with `capital` placed in `symbol`, `efficiency` was seen.

        Stored first, then known: a crash or a refused write leaves neither half. Idempotent on (symbol, ts, source):
        the same
        record again returns False; other figures under that key are an InvalidRecord. `ts`: seconds or datetime, now
        if None.
        """
        record = self._record(symbol, capital, efficiency, metrics, ts, source)
        return await self._write([record]) == 1

    async def add_efficiency_records(self, records: Iterable[Mapping[str, object]]) -> int:
        """Remember many (each a mapping of the arguments of `add_efficiency_record`), all or none. Returns how many
        were new."""
        allowed = {"symbol", "capital", "efficiency", "metrics", "ts", "source"}
        made = []
        for k, fields in enumerate(records):
            if (
                not isinstance(fields, Mapping)
                or not set(fields) <= allowed
                or not {"symbol", "capital", "efficiency"} <= set(fields)
            ):
                raise InvalidRecord(f"record {k}: wanted symbol, capital, efficiency and perhaps metrics, ts, source")
            try:
                made.append(self._record(**fields))  # type: ignore[arg-type]
            except InvalidRecord as problem:
                raise InvalidRecord(f"record {k}: {problem}") from None
        return await self._write(made)

    def _record(
        self, symbol: object, capital: object, efficiency: object, metrics: Mapping[str, object] | None = None,
        ts: object = None, source: object = "",
    ) -> Record:  # fmt: skip
        if not isinstance(source, str) or len(source) > checks.MAX_SYMBOL_LENGTH:
            raise InvalidRecord(f"source must be text of at most {checks.MAX_SYMBOL_LENGTH} characters")
        if ts is None:
            ts_us = self._last_us = max(time.time_ns() // 1000, self._last_us + 1)
        else:
            ts_us = checks.timestamp_us(ts)
        return Record(
            checks.symbol(symbol), ts_us, source, checks.capital("capital", capital, InvalidRecord),
            checks.efficiency("efficiency", efficiency), checks.metrics(metrics),
        )  # fmt: skip

    async def _write(self, records: list[Record]) -> int:
        """Database first, memory second, both even if the caller is cancelled between them."""
        return await asyncio.shield(asyncio.ensure_future(self._write_both(records)))

    async def _write_both(self, records: list[Record]) -> int:
        async with self._lock:
            fresh: dict[tuple[str, int, str], Record] = {}
            for r in records:
                book = self._shelf.books.get(r.symbol)
                if book is not None and book.holds((r.ts_us, r.source), r.capital, r.efficiency):
                    continue
                twin = fresh.setdefault((r.symbol, r.ts_us, r.source), r)
                if (twin.capital, twin.efficiency) != (r.capital, r.efficiency):
                    raise InvalidRecord(
                        f"two records of {r.symbol} of source {r.source!r} at one time with different figures"
                    )
            new = list(fresh.values())
            opened = sum(symbol not in self._shelf.books for symbol in {r.symbol for r in new})
            if len(self._shelf.books) + opened > self.config.max_symbols:
                raise InvalidRecord(f"at most {self.config.max_symbols} symbols are kept (max_symbols)")
            count = len(new)
            if self.db is not None and new:
                count = await asyncio.to_thread(self.db.add_records, new)
            self._remember(new)
            return count

    def _remember(self, records: Sequence[Record]) -> None:
        for r in records:
            self._shelf.book(r.symbol).insert((r.ts_us, r.source), r.capital, r.efficiency, self.config.max_records)

    def restore(self, records: Sequence[Record]) -> None:
        """Take over observations that are stored already (ScalingInitializer)."""
        for r in records:
            book = self._shelf.book(r.symbol)
            if not book.holds((r.ts_us, r.source), r.capital, r.efficiency):
                book.insert((r.ts_us, r.source), r.capital, r.efficiency, self.config.max_records)

    async def set_prior(self, symbol: str, prior: ImpactPrior | None) -> None:
        """Market data of an instrument without (enough) records; None forgets them. Stored with the configuration."""
        checks.symbol(symbol)
        async with self._lock:
            if self.db is not None:
                value = None if prior is None else {f: getattr(prior, f) for f in prior.__dataclass_fields__}
                await asyncio.to_thread(self.db.save_config, {f"prior:{symbol}": value})
            self.restore_prior(symbol, prior)

    def restore_prior(self, symbol: str, prior: ImpactPrior | None) -> None:
        """Take over a prior that is stored already."""
        book = self._shelf.book(symbol)
        book.prior = prior
        book.version += 1

    @property
    def symbols(self) -> list[str]:
        """Every symbol with records or a prior."""
        return list(self._shelf.books)

    def records(self, symbol: str) -> tuple[Floats, Floats]:
        """(capital, efficiency) of a symbol's records in time order; empty when there are none."""
        book = self._shelf.books.get(symbol)
        return (np.array(book.capital), np.array(book.efficiency)) if book else (np.empty(0), np.empty(0))

    # models

    async def refit(self, symbols: Sequence[str] | None = None) -> int:
        """Learn anew what has changed since its last fit, in one batch. Returns how many symbols. Called by every
        question."""
        wanted = [s for s in (self.symbols if symbols is None else symbols) if s in self._shelf.books]
        if not self._shelf.stale(wanted):
            return 0
        async with self._lock:
            stale = self._shelf.stale(wanted)
            if not stale:
                return 0
            books = [self._shelf.books[s] for s in stale]
            versions = [b.version for b in books]
            histories = [b.history() for b in books]
            rows = self._shelf.rows(stale)
            warm = self._shelf.curves.take(rows) if all(b.fitted >= 0 for b in books) else None
            learned = await asyncio.to_thread(learn, histories, self._options, warm)
            self._shelf.curves.put(rows, learned)
            for book, version in zip(books, versions, strict=True):
                book.fitted = version
            if self.db is not None:
                models, points = await asyncio.to_thread(
                    model_rows, stale, learned, self.config.hurdle, self.config.level
                )
                await asyncio.to_thread(self.db.save_models, models, points)
            return len(stale)

    async def _curves(self, symbols: list[str]) -> CurveSet:
        """The fresh curves of `symbols` in order; unknown symbols get empty rows."""
        await self.refit(symbols)
        known = [s in self._shelf.books for s in symbols]
        if all(known):
            return self._shelf.curves.take(self._shelf.rows(symbols))
        out = CurveSet.empty(len(symbols))
        have = [s for s, k in zip(symbols, known, strict=True) if k]
        if have:
            out.put(np.flatnonzero(known), self._shelf.curves.take(self._shelf.rows(have)))
        return out

    async def predict_efficiency(self, symbol: str, capital: float) -> EfficiencyPrediction:
        """What efficiency to expect of `symbol` with `capital` placed in it.

        Never invents: without enough records the status is `insufficient`, the efficiency NaN and the confidence 0.
        """
        book = self._shelf.books.get(symbol) if isinstance(symbol, str) else None
        version = book.version if book is not None else -1
        hit = self._cache.get(symbol, capital, version)
        if hit is not None:
            return hit
        checks.symbol(symbol)
        amount = checks.capital("capital", capital)
        curves = await self._curves([symbol])
        answer = predictions([symbol], np.array([amount]), curves, self.config.level)[0]
        self._cache.put(symbol, amount, book.fitted if book is not None else -1, answer)
        return answer

    async def predict_many(
        self, symbols: Sequence[str], capitals: Sequence[float] | Floats | float
    ) -> list[EfficiencyPrediction]:
        """One prediction for each pair; one capital serves all symbols. Vectorised: thousands in one call."""
        names = [checks.symbol(s) for s in symbols]
        amounts = np.asarray(capitals, dtype=np.float64)
        if amounts.ndim > 1 or (amounts.ndim == 1 and len(amounts) != len(names)):
            raise InvalidQuery(f"wanted one capital or {len(names)}, not shape {amounts.shape}")
        amounts = np.broadcast_to(amounts, (len(names),))
        with np.errstate(invalid="ignore"):
            bad = ~((amounts >= checks.MIN_CAPITAL) & (amounts <= checks.MAX_CAPITAL))
        for k in np.flatnonzero(bad)[:1]:
            checks.capital(f"capitals[{k}]", float(amounts[k]))
        return predictions(names, amounts, await self._curves(names), self.config.level)

    async def model_metrics(self, symbol: str) -> ModelMetrics:
        """Quality and parameters of a symbol's model: R2, mean and maximum error, AICc, identifiability, drift."""
        checks.symbol(symbol)
        return metrics_of(
            symbol, await self._curves([symbol]), tuple(f for f in FAMILIES if f in self._options.families)
        )

    async def saturation(self, symbol: str) -> SaturationPoints:
        """Where a symbol saturates, at the engine's hurdle."""
        checks.symbol(symbol)
        return saturation_points(await self._curves([symbol]), self.config.hurdle, self.config.level)[0]

    async def curve(self, symbol: str) -> CurveSet:
        """The symbol's learned curve (one row), for plots and bootstraps."""
        checks.symbol(symbol)
        return await self._curves([symbol])

    # allocation

    async def optimize_allocation(
        self, symbols: Sequence[str], total_capital: float, min_efficiency: float | None = None, *,
        caps: Mapping[str, float] | float | None = None, min_ticket: Mapping[str, float] | float = 0.0,
        previous: Mapping[str, float] | None = None, turnover_cost: float = 0.0,
        groups: Mapping[str, str] | None = None, group_caps: Mapping[str, float] | None = None,
        risk_weights: Mapping[str, float] | None = None, risk_budget: float | None = None,
        hurdle: float | None = None, trust: float | None = None, kappa: float | None = None, ramp: float | None = None,
        store: bool = True,
    ) -> Allocation:  # fmt: skip
        """Share `total_capital` so that the expected profit, the sum of c * E(c), is greatest on the cautious curves.

        The marginal is d(c E)/dc, not dE/dc: on decaying curves the latter is negative everywhere and would stop at
        nothing.
        Unallocated capital is an outcome. `previous` brings the ramp and, with `turnover_cost` (per unit moved),
        inertia.
        A risk manager given to the engine adds its limits; the tighter one holds.
        """
        cfg = self.config
        request = Request.checked(
            symbols, total_capital, cfg.min_efficiency if min_efficiency is None else min_efficiency,
            cfg.hurdle if hurdle is None else hurdle, caps, min_ticket, previous, turnover_cost, groups, group_caps,
            risk_weights, risk_budget,
            Caution(
                cfg.kappa if kappa is None else checks.fraction("kappa", kappa, 0.0, 10.0),
                cfg.trust if trust is None else checks.fraction("trust", trust, 1.0, 100.0),
                cfg.ramp if ramp is None else checks.fraction("ramp", ramp, 1.0, 100.0),
            ),
        )  # fmt: skip
        if self.risk_manager is not None:
            request = request.limited_by(self.risk_manager.limits(request.symbols, request.total))
        curves = await self._curves(request.symbols)
        allocation = await asyncio.to_thread(plan, request, curves, cfg.level)
        if self.db is not None and store:
            await asyncio.to_thread(self.db.save_allocation, allocation_row(allocation))
        return allocation

    async def close(self) -> None:
        """Give the database back; wait for a write under way."""
        async with self._lock:
            if self.db is not None:
                self.db.close()

    async def __aenter__(self) -> PredictiveScalingEngine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
