"""Engines that have seen synthetic records."""

from __future__ import annotations

from rig.scaling_worlds import world
from scaling import (
    PredictiveScalingEngine,
)


async def fed(seed: int = 1, size: int = 3, records: int = 40, **settings: object) -> PredictiveScalingEngine:
    """Symbols S0, S1, ... with `records` each, one second apart."""
    engine = PredictiveScalingEngine(**settings)  # type: ignore[arg-type]
    w = world(seed, size, records)
    await engine.add_efficiency_records(
        {"symbol": f"S{k}", "capital": float(c), "efficiency": float(e), "ts": float(1000 + i)}
        for k, h in enumerate(w.histories)
        for i, (c, e) in enumerate(zip(h.capital, h.efficiency, strict=True))
    )
    return engine
