"""From TOML text and environment variables to a checked `Config`, with every mistake told at once."""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from pool.config.checks import Check, Mistake, mistakes_in, out_of_bounds
from pool.config.keys import KeyInfo, Secret, keys_of, toml_value, words_for_kind
from pool.config.sections import REPEATED, SECTIONS, Config, Origin, all_keys

ENV_PREFIX = "POOL__"
FILE_SUFFIX = "_file"
FALSE_WORDS, TRUE_WORDS = ("false", "no", "off", "0"), ("true", "yes", "on", "1")


_SECRET_NAMES = frozenset(info.name for info in all_keys() if info.secret)


class ConfigError(Exception):
    """The configuration is wrong; `mistakes` are all there are."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def load(path: Path | str | None = None, env: Mapping[str, str] | None = None, checks: Iterable[Check] = ()) -> Config:
    """The effective configuration: defaults, then the TOML file, then POOL__SECTION__KEY of `env` (os.environ).

    `checks` are further rules of rooms this one must not know. ConfigError names every mistake."""
    reader = _Reader()
    if path is not None:
        reader.read_file(Path(path))
    reader.read_env(os.environ if env is None else env)
    config = reader.config()
    mistakes = reader.mistakes + [m for m in mistakes_in(config, checks) if m.where not in reader.told]
    if mistakes:
        raise ConfigError(mistakes)
    return config


class _WrongValueError(Exception):
    """One value cannot be used; the text says why."""


class _Reader:
    """Collects values by (section path, key), later sources over earlier ones, and mistakes on the way."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self.told: set[str] = set()  # places already complained about: their default stands in and is not judged again
        self.values: dict[str, dict[str, object]] = {name: {} for name in SECTIONS if name not in REPEATED}
        self.origins: dict[str, Origin] = {}

    def complain(self, where: str, what: str, origin: str) -> None:
        self.mistakes.append(Mistake(where, what, origin))
        self.told.add(where)

    # --- the file
    def read_file(self, path: Path) -> None:
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            self.complain(str(path), f"cannot be read: {error.strerror}", "")
            return
        except ValueError as error:  # TOML's own error, wrong UTF-8, a number of thousands of digits
            self.complain(str(path), f"is not TOML: {error}", "")
            return
        for name, section in table.items():
            self._file_section(name, section, path)

    def _file_section(self, name: str, section: object, path: Path) -> None:
        if name not in SECTIONS:
            self.complain(f"[{name}]", f"unknown section{_hint(name, SECTIONS)}", path.name)
        elif name in REPEATED:
            if not isinstance(section, list):
                self.complain(f"[{name}]", f"must be written [[{name}]], with double brackets", path.name)
                return
            for index, one in enumerate(section):
                self._file_table(name, f"{name}.{index}", one, path)
        else:
            self._file_table(name, name, section, path)

    def _file_table(self, name: str, at: str, section: object, path: Path) -> None:
        if not isinstance(section, dict):
            self.complain(_title(at), "must be a section, not a single value", path.name)
            return
        self.values.setdefault(at, {})
        known = {info.name: info for info in keys_of(SECTIONS[name], at)}
        origin = Origin("file", path.name)
        both = [key for key in section if f"{key}{FILE_SUFFIX}" in section and key in known and known[key].secret]
        for key, value in section.items():
            if key in both:
                self.complain(f"{_title(at)} {key}", f"and {key}{FILE_SUFFIX} exclude each other: keep one", path.name)
            elif key.removesuffix(FILE_SUFFIX) not in both:
                self._take(known, at, key, value, origin, path.parent)

    # --- the environment
    def read_env(self, env: Mapping[str, str]) -> None:
        """Sorted, numbers as numbers: node 0 comes before node 1 and node 10, whatever the environment's order."""
        ours = [variable for variable in env if variable.upper().startswith(ENV_PREFIX)]
        both = {name for name in ours if f"{name}{FILE_SUFFIX.upper()}" in ours}
        for variable in sorted(ours, key=lambda name: [(part.isdecimal(), part.zfill(9)) for part in name.split("__")]):
            if variable in both and variable.rpartition("__")[2].lower() in _SECRET_NAMES:
                self.complain(
                    variable, f"and {variable}{FILE_SUFFIX.upper()} exclude each other: keep one", "environment"
                )
            else:
                self._env_variable(variable, env[variable])

    def _env_variable(self, variable: str, text: str) -> None:
        name, *rest = variable[len(ENV_PREFIX) :].lower().split("__")
        if name not in SECTIONS:
            names = [_variable(info) for info in all_keys()]
            hint = _hint(variable.upper(), names) or _hint(name, SECTIONS)
            self.complain(variable, f"names no section{hint}", "environment")
            return
        at = name
        if name in REPEATED:
            count = sum(1 for key in self.values if key.startswith(f"{name}."))
            if len(rest) != 2 or not rest[0].isdecimal() or int(rest[0]) > count:
                form = f"{ENV_PREFIX}{name.upper()}__<number>__<KEY>"
                self.complain(variable, f"must be {form} with numbers from 0 without gaps", "environment")
                return
            at = f"{name}.{int(rest.pop(0))}"
            self.values.setdefault(at, {})
        if len(rest) != 1:
            self.complain(variable, f"must be {ENV_PREFIX}SECTION__KEY", "environment")
            return
        known = {info.name: info for info in keys_of(SECTIONS[name], at)}
        self._take(known, at, rest[0], text, Origin("env", variable), Path())

    # --- one value
    def _take(self, known: Mapping[str, KeyInfo], at: str, key: str, value: object, origin: Origin, base: Path) -> None:
        where = f"{_title(at)} {key}"
        info = known.get(key)
        from_file = info is None and key.endswith(FILE_SUFFIX)
        if info is None and from_file:
            info = known.get(key.removesuffix(FILE_SUFFIX))
        if info is None or (from_file and not info.secret):
            self.mistakes.append(Mistake(_title(at), f"unknown key '{key}'{_key_hint(key, known, at)}", origin.where))
            return
        try:
            if from_file:
                parsed: object = _from_secret_file(info, value, base)
            else:
                parsed = _from_env(info, str(value)) if origin.kind == "env" else _from_toml(info, value, base)
            problem = out_of_bounds(info, parsed)
        except _WrongValueError as error:
            problem = str(error)
        if problem:
            self.complain(where, problem, origin.where)
            return
        self.values[at][info.name] = parsed
        self.origins[info.path] = origin

    # --- the whole
    def config(self) -> Config:
        made: dict[str, object] = {}
        for name, section in SECTIONS.items():
            if name in REPEATED:
                count = sum(1 for key in self.values if key.startswith(f"{name}."))
                made[name] = tuple(section(**self.values[f"{name}.{index}"]) for index in range(count))
            else:
                made[name] = section(**self.values[name])
        return Config(**made, origins=MappingProxyType(self.origins))  # type: ignore[arg-type]  # each value has its section's class


TOML_TYPES: dict[type, type] = {bool: bool, int: int, float: float, tuple: list}  # all others are written as text


def _from_toml(info: KeyInfo, value: object, base: Path) -> object:
    if info.kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 10**300 else math.inf  # the bounds refuse it
    wanted_type = TOML_TYPES.get(info.kind, str)
    if not isinstance(value, wanted_type) or (isinstance(value, bool) and info.kind is not bool):
        raise _WrongValueError(f"must be {' '.join(words_for_kind(info))}, not {_shown(info, value)}")
    if isinstance(value, list):
        if not all(isinstance(part, str) for part in value):
            raise _WrongValueError("must be a list of texts")
        return tuple(value)
    return _from_text(info, value, base) if isinstance(value, str) else value


def _from_env(info: KeyInfo, text: str) -> object:
    plain = text.strip()
    try:
        if info.kind is bool:
            if plain.lower() not in TRUE_WORDS + FALSE_WORDS:
                raise ValueError
            return plain.lower() in TRUE_WORDS
        if info.kind is int:
            return int(plain, 10)
        if info.kind is float:
            return float(plain)
    except ValueError:
        raise _WrongValueError(f"must be {' '.join(words_for_kind(info))}, not {_shown(info, text)}") from None
    if info.kind is tuple:
        return tuple(part.strip() for part in plain.split(",") if part.strip())
    return _from_text(info, text, Path())


def _from_text(info: KeyInfo, text: str, base: Path) -> object:
    if info.optional and not text:
        return None
    if info.kind is Path:
        if not text:
            raise _WrongValueError("must not be empty")
        if "\0" in text:
            raise _WrongValueError("must be a path, without NUL")
        return base / Path(text).expanduser()
    return info.kind(text)


def _from_secret_file(info: KeyInfo, value: object, base: Path) -> Secret:
    if not isinstance(value, str) or not value:
        raise _WrongValueError("must be a path")
    path = base / Path(value).expanduser()
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise _WrongValueError(f"cannot be read: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise _WrongValueError(f"is not text: {path}") from None
    if not text:
        raise _WrongValueError(f"is empty: {path}")
    made: Secret = info.kind(text)
    return made


def _shown(info: KeyInfo, value: object) -> str:
    if info.secret:
        return "the value given"
    return toml_value(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"


def _title(at: str) -> str:
    name, _, index = at.partition(".")
    return f"[[{name}]] number {int(index) + 1}" if index else f"[{name}]"


def _variable(info: KeyInfo) -> str:
    number = "0__" if info.section in REPEATED else ""
    return f"{ENV_PREFIX}{info.section}__{number}{info.name}".upper()


def _hint(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _key_hint(key: str, known: Mapping[str, KeyInfo], at: str) -> str:
    """Nearest key here; the same key elsewhere; nearest elsewhere."""
    here = [*known, *(f"{name}{FILE_SUFFIX}" for name, info in known.items() if info.secret)]
    if hint := _hint(key, here):
        return hint
    others = {info.name: info.section for info in reversed(all_keys()) if info.section != at.partition(".")[0]}
    close = difflib.get_close_matches(key, others, n=1)
    return f"; did you mean {_title(others[close[0]])} {close[0]}?" if close else ""
