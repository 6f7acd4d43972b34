"""The configuration as text: the commented pool.toml of `pool init`, the README's reference, effective values."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping

from pool.config.checks import sections_of
from pool.config.keys import KeyInfo, keys_of, toml_value, words_for_kind
from pool.config.sections import REPEATED, SECTIONS, Config


def _default_text(info: KeyInfo) -> str:
    if info.limits.default_text:
        return toml_value(info.limits.default_text)
    return '""' if info.default is None else toml_value(info.default)


def _heading(name: str) -> str:
    return f"[[{name}]]" if name in REPEATED else f"[{name}]"


def _range_text(info: KeyInfo) -> str:
    parts = list(words_for_kind(info))
    if info.limits.choices:
        return parts[0]
    return " ".join(parts[1:])


def commented_toml(values: Mapping[str, object] | None = None) -> str:
    """A pool.toml with each key explained, commented out at its default; `values` (by path: "pool.network") are set."""
    given = dict(values or {})
    lines = [
        "# Configuration of the pool. Every key is optional; what is commented out shows the default.",
        "# Environment variables win over this file: POOL__SECTION__KEY, for example POOL__STRATUM__PORT=3334",
        '# (lists: POOL__NODE__0__URL). A secret may stand in a file of its own: password_file = "path".',
    ]
    for name, section in SECTIONS.items():
        infos = keys_of(section, name)
        live = name not in REPEATED or any(info.path in given for info in infos)
        lines += ["", f"# {inspect.getdoc(section)}", _heading(name) if live else f"# {_heading(name)}"]
        for info in infos:
            bounds = _range_text(info)
            lines.append(f"# {info.limits.doc}" + (f" ({bounds})" if bounds else ""))
            if info.path in given:
                lines.append(f"{info.name} = {toml_value(given.pop(info.path))}")
            else:
                lines.append(f"# {info.name} = {_default_text(info)}")
    if given:
        raise KeyError(f"no such keys: {', '.join(given)}")
    return "\n".join(lines) + "\n"


def reference_markdown() -> str:
    """The config reference as README.md holds it (a test keeps them equal)."""
    lines: list[str] = []
    for name, section in SECTIONS.items():
        lines += [f"#### `{_heading(name)}`", "", f"{inspect.getdoc(section)}", ""]
        lines += ["| key | default | meaning |", "|---|---|---|"]
        for info in keys_of(section, name):
            bounds = _range_text(info)
            shown = f"`{info.name}`" + (f" or `{info.name}_file`" if info.secret else "")
            meaning = info.limits.doc + (f" ({bounds})" if bounds else "")
            lines.append(f"| {shown} | `{_default_text(info)}` | {meaning.replace('|', chr(92) + '|')} |")
        lines.append("")
    return "\n".join(lines)


def effective(config: Config) -> Iterator[tuple[str, str, str]]:
    """(path, value as TOML with secrets masked, origin in words) of every key."""
    for path, _, section in sections_of(config):
        for info in keys_of(type(section), path):
            value = getattr(section, info.name)
            origin = config.origin(info.path)
            shown = '""' if value is None else toml_value(value)
            yield info.path, shown, f"{origin.kind} {origin.where}".strip()
