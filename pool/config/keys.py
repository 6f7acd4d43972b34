"""How a configuration key is declared: type, default, bounds, one-line meaning; knows no particular section."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

MASK = "********"
T = TypeVar("T")


class Secret:
    """A text that never shows itself: repr, str and format give a mask. `reveal()` is the only way out (greppable)."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __str__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __bool__(self) -> bool:
        return bool(self._text)


class SecretUrl(Secret):
    """A URL whose password (or, if it cannot be read as a URL, whose whole text) is hidden when shown."""

    __slots__ = ()

    def __str__(self) -> str:
        try:
            parts = urlsplit(self._text)
            password = parts.password
        except ValueError:
            return MASK
        if password is None:
            return self._text
        before, _, host = parts.netloc.rpartition("@")
        user = before.partition(":")[0]
        return urlunsplit(parts._replace(netloc=f"{user}:{MASK}@{host}"))


@dataclass(frozen=True, slots=True)
class Limits:
    """What is said of a key beside its type; kept in the dataclass field's metadata."""

    doc: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    default_text: str = ""  # shown instead of the default when that is worked out at start


def key(
    default: T,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    default_text: str = "",
) -> T:
    """Declare a key: `port: int = key(3333, "Port for miners.", low=0, high=65535)`. Bounds are inclusive."""
    limits = Limits(doc, low, high, choices, default_text)
    field: object = dataclasses.field(default=default, metadata={"limits": limits})
    return typing.cast(T, field)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One key as reader, checks and documents see it."""

    section: str
    name: str
    kind: type  # bool, int, float, str, Path, Secret, SecretUrl, or tuple for a list of texts
    optional: bool  # None is allowed and means "not set"
    default: object
    limits: Limits

    @property
    def path(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def secret(self) -> bool:
        return issubclass(self.kind, Secret)


_KINDS: tuple[type, ...] = (bool, int, float, str, Path, Secret, SecretUrl)


def _kind_of(hint: object) -> tuple[type, bool]:
    optional = False
    if isinstance(hint, types.UnionType):
        inner = [part for part in typing.get_args(hint) if part is not type(None)]
        optional = len(inner) < len(typing.get_args(hint))
        (hint,) = inner
    if typing.get_origin(hint) is tuple:
        if typing.get_args(hint) != (str, ...):
            raise TypeError(f"a list key must be tuple[str, ...], not {hint}")
        return tuple, optional
    if not isinstance(hint, type) or hint not in _KINDS:
        raise TypeError(f"a key cannot have the type {hint}")
    return hint, optional


def keys_of(section_class: type, section: str) -> tuple[KeyInfo, ...]:
    """The keys of a section's dataclass in order of declaration. TypeError when a field was not declared with `key`."""
    return _keys_of(section_class, section)


@cache
def _keys_of(section_class: Hashable, section: str) -> tuple[KeyInfo, ...]:
    assert isinstance(section_class, type)
    hints = typing.get_type_hints(section_class)
    found = []
    for field in dataclasses.fields(section_class):
        limits = field.metadata.get("limits")
        if not isinstance(limits, Limits):
            raise TypeError(f"{section_class.__name__}.{field.name} is not declared with key()")
        kind, optional = _kind_of(hints[field.name])
        found.append(KeyInfo(section, field.name, kind, optional, field.default, limits))
    return tuple(found)


def toml_value(value: object) -> str:
    """`value` as TOML writes it; secrets masked."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= 10**100:
        return "a number of more than 100 digits"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(part) for part in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    escaped = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return f'"{escaped}"'


KIND_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    tuple: "a list of texts",
    Path: "a path",
}


def words_for_kind(info: KeyInfo) -> Iterator[str]:
    """What a right value looks like, in parts: type, choices, bounds."""
    if info.limits.choices:
        yield "one of " + ", ".join(info.limits.choices)
        return
    yield KIND_WORDS.get(info.kind, "a text")
    low, high = info.limits.low, info.limits.high
    if low is not None and high is not None:
        yield f"from {low:.10g} to {high:.10g}"
    elif low is not None:
        yield f"at least {low:.10g}"
    elif high is not None:
        yield f"at most {high:.10g}"
