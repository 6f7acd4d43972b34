"""ScalingInitializer: from a database to a working engine: tables, configuration, history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import fields

from scaling.engine import EngineConfig, PredictiveScalingEngine
from scaling.errors import InvalidQuery, StoreError
from scaling.managers import RiskManager
from scaling.prior import ImpactPrior
from scaling.store import TranscendentalDatabase

DEFAULT_URL = "scaling.sqlite"


class ScalingInitializer:
    """`await ScalingInitializer(url, config).initialize()` gives an engine; the caller closes it.

    Settings come from the defaults, then the database, then `config` (which is not written back: `save_config` does
    that).
    """

    def __init__(
        self, db_url: str = DEFAULT_URL, config: Mapping[str, object] | None = None, *,
        symbols: list[str] | None = None, risk_manager: RiskManager | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self.db = TranscendentalDatabase(db_url)
        self._config = dict(config or {})
        self._symbols = symbols
        self._risk_manager = risk_manager
        self._progress = progress or (lambda _: None)
        _known_settings(self._config)

    async def initialize(self) -> PredictiveScalingEngine:
        """Create missing tables, load the configuration, restore the history. `symbols` limits what is restored."""
        try:
            self._progress("tables")
            await asyncio.to_thread(self.db.create_tables)
            self._progress("configuration")
            stored = await asyncio.to_thread(self.db.load_config)
            settings = {name: value for name, value in stored.items() if not name.startswith("prior:")}
            engine = PredictiveScalingEngine(
                self.db, _from_store(settings, self._config), risk_manager=self._risk_manager
            )
            self._progress("history")
            engine.restore(await asyncio.to_thread(self.db.load_records, self._symbols, engine.config.max_records))
            for name, value in stored.items():
                symbol = name.removeprefix("prior:")
                if symbol != name and isinstance(value, dict) and (self._symbols is None or symbol in self._symbols):
                    engine.restore_prior(symbol, ImpactPrior(**value))
        except BaseException:
            self.db.close()
            raise
        return engine

    async def save_config(self, settings: Mapping[str, object]) -> None:
        """Check settings and write them to the database."""
        _known_settings(settings)
        EngineConfig(**settings)  # type: ignore[arg-type]
        await asyncio.to_thread(self.db.create_tables)
        await asyncio.to_thread(self.db.save_config, dict(settings))


def _known_settings(settings: Mapping[str, object]) -> None:
    names = {field.name for field in fields(EngineConfig)}
    for name in settings:
        if name not in names:
            raise InvalidQuery(f"unknown setting {name!r}; known: {', '.join(sorted(names))}")


def _from_store(stored: Mapping[str, object], given: Mapping[str, object]) -> EngineConfig:
    names = {field.name for field in fields(EngineConfig)}
    strange = sorted(set(stored) - names)
    if strange:
        raise StoreError(f"the database holds an unknown setting {strange[0]!r}; it may belong to a newer version")
    return EngineConfig(**{**stored, **given})  # type: ignore[arg-type]
