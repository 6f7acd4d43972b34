"""How every benchmark here prints: a table for people, then one JSON line for machines."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for _place in (str(ROOT), str(ROOT / "tests")):
    if _place not in sys.path:
        sys.path.insert(0, _place)


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_1m": round(os.getloadavg()[0], 2),
    }


def table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Rows with the same keys, as aligned columns."""
    print(f"\n{title}")
    if not rows:
        return
    heads = list(rows[0])
    cells = [[_text(row.get(head, "")) for head in heads] for row in rows]
    widths = [max(len(head), *(len(row[i]) for row in cells)) for i, head in enumerate(heads)]
    for line in [heads, *cells]:
        print(
            "  "
            + "  ".join(
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
        )


def _text(value: object) -> str:
    return (
        f"{value:.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )


def finish(name: str, figures: Mapping[str, object]) -> None:
    """The JSON line."""
    print(json.dumps({"bench": name, **machine(), **figures}))
