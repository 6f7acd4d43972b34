"""Efficiency records from a CSV file: every bad line is named, and nothing is imported while one is bad."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path

from scaling import checks
from scaling.errors import InvalidRecord

_KNOWN = ("symbol", "capital", "efficiency", "ts", "source")
_SHOWN = 20  # bad lines named in one error
MAX_LINES = 5_000_000


def read_csv(path: str | Path) -> list[dict[str, object]]:
    """Records of a CSV with the columns symbol, capital, efficiency and perhaps ts (ISO 8601 or seconds) and source.

    Every further column is a metric. Without ts the lines are dated one microsecond apart from the file's first line at
    1970-01-01, so that importing the same file twice changes nothing.
    """
    try:
        found, problems = _read(path)
    except UnicodeDecodeError:
        raise InvalidRecord(f"{path} is not text in UTF-8") from None
    except csv.Error as problem:
        raise InvalidRecord(f"{path} is no CSV file: {problem}") from None
    if problems:
        raise InvalidRecord("nothing imported; " + "; ".join(problems))
    return found


def _read(path: str | Path) -> tuple[list[dict[str, object]], list[str]]:
    """(records, what is wrong with the bad lines)."""
    with open(path, newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        columns = [name.strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        missing = [name for name in _KNOWN[:3] if name not in columns]
        if missing:
            raise InvalidRecord(
                f"the first line must name the columns symbol, capital, efficiency; missing: {', '.join(missing)}"
            )
        found: list[dict[str, object]] = []
        problems: list[str] = []
        for number, row in enumerate(reader, start=2):
            if number > MAX_LINES:
                raise InvalidRecord(f"at most {MAX_LINES} lines per file")
            try:
                found.append(_record(row, number))
            except InvalidRecord as problem:
                problems.append(f"line {number}: {problem}")
                if len(problems) >= _SHOWN:
                    break
    return found, problems


def _record(row: dict[str | None, str | None], number: int) -> dict[str, object]:
    if None in row or None in row.values():
        raise InvalidRecord("not as many fields as columns")
    cells = {str(name): str(text).strip() for name, text in row.items()}
    metrics = {name: _number(name, text) for name, text in cells.items() if name not in _KNOWN and text}
    stamp: float | datetime = number * 1e-6
    if cells.get("ts"):
        stamp = _moment(cells["ts"])
        checks.timestamp_us(stamp)
    return {
        "symbol": checks.symbol(cells["symbol"]),
        "capital": checks.capital("capital", _number("capital", cells["capital"]), InvalidRecord),
        "efficiency": checks.efficiency("efficiency", _number("efficiency", cells["efficiency"])),
        "metrics": checks.metrics(metrics),
        "ts": stamp,
        "source": cells.get("source", ""),
    }


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidRecord(f"{name} must be a number with a decimal point, not {text!r:.40}") from None


def _moment(text: str) -> float | datetime:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRecord(f"ts must be ISO 8601 or seconds since 1970, not {text!r:.40}") from None
