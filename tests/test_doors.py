"""The doors of the house: who may import whom (docs/architecture.md). Every import of every package is walked."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("native", "scaling", "pool", "treasury", "web")
PORCH = ("pool.__main__", "pool.cli", "pool.commands", "pool.lifecycle", "pool.logs")
BASE = ("pool.config", "pool.records", "pool.address", "pool.keys")

#: Room -> what it may import beside itself. The longest matching prefix is a module's room.
DOORS: dict[str, tuple[str, ...]] = {
    "native": (),
    "scaling": (),
    "pool": (),  # pool/__init__.py itself
    "pool.config": ("native",),
    "pool.records": ("native",),
    "pool.address": ("native",),
    "pool.keys": ("native",),
    "pool.store": ("pool.records",),
    "pool.chain": ("native", "pool.config", "pool.records", "pool.address"),
    "pool.stratum": ("native", "pool.config", "pool.records", "pool.address"),
    "pool.ledger": ("native", "pool.store", "pool.records", "pool.address", "pool.keys"),
    "pool.identity": ("native", "pool.store", "pool.records", "pool.address", "pool.keys"),
    "pool.payout": ("pool.ledger", "pool.identity", "pool.store", "pool.records", "pool.address", "pool.keys"),
    "pool.club": ("pool.ledger", "pool.identity", "pool.store", "pool.records", "pool.address", "pool.keys"),
    "pool.dev": ("native", "pool.config", "pool.records", "pool.address"),
    "pool.cluster": ("native", "pool.config", "pool.records"),
    "treasury": ("scaling", "pool.config", "pool.records", "pool.store.inbox"),
    # The reading side of every room; that it writes through the inbox only is the web's own test.
    "web": (
        *("native", "scaling", "treasury", *BASE),
        *("pool.store", "pool.chain", "pool.stratum", "pool.ledger"),
        *("pool.identity", "pool.payout", "pool.club", "pool.cluster"),
    ),
    **dict.fromkeys(PORCH, PACKAGES),
}


def sources() -> list[Path]:
    """Every Python and Cython file of the packages."""
    found = [
        path
        for package in PACKAGES
        for kind in ("py", "pyi", "pyx", "pxd")
        for path in ROOT.glob(f"{package}/**/*.{kind}")
    ]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


_CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([.\w]+)\s+c?import\s+(.+)|c?import\s+(.+))$")


def imports_of(path: Path) -> Iterator[str]:
    """Full names of all that a file imports anywhere in it, types only included; `from a import b` gives a.b."""
    module, text = module_name(path), path.read_text(encoding="utf-8")
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    if path.suffix in (".py", ".pyi"):
        yield from _python_imports(ast.parse(text), package)
        return
    text = re.sub(r"#.*", "", text)
    for line in re.sub(r"\(([^()]*)\)", lambda m: " ".join(m.group(1).split()), text).splitlines():
        if match := _CYTHON_IMPORT.match(line.rstrip()):
            source, names, plain = match.groups()
            for name in (names or plain).split(","):
                bare = name.strip().split(" ")[0]
                if bare:
                    yield f"{_absolute(source, package)}.{bare}" if source else bare


def _python_imports(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _absolute("." * node.level + (node.module or ""), package)
            yield from (f"{source}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            for argument in node.args[:1]:
                yield ast.literal_eval(argument) if isinstance(argument, ast.Constant) else f"{package}.*"


def _absolute(source: str, package: str) -> str:
    dots = len(source) - len(source.lstrip("."))
    if not dots:
        return source
    base = package.split(".")[: len(package.split(".")) - (dots - 1)]
    return ".".join([*base, *filter(None, [source.lstrip(".")])])


def within(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def room_of(module: str) -> str | None:
    rooms = [room for room in DOORS if within(module, room) and (room != "pool" or module == "pool")]
    return max(rooms, key=len, default=None)


def forbidden(module: str, imported: str) -> str | None:
    """What is wrong with this import, or None."""
    if imported.split(".")[0] not in PACKAGES:
        return None
    room = room_of(module)
    if room is None:
        return f"{module} belongs to no room of the table"
    if room not in PORCH and any(within(imported, one) for one in PORCH):
        return f"{module} imports {imported}: nobody imports the porch"
    if within(imported, room) or any(within(imported, door) for door in DOORS[room]):
        return None
    # `from pool import records` names pool.records; `import pool` alone names nothing.
    return None if imported == "pool" else f"{module} imports {imported}: no such door from {room}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_goes_only_through_its_rooms_doors(path: Path) -> None:
    module = module_name(path)
    assert room_of(module) is not None, f"{module} belongs to no room: add it to DOORS and docs/architecture.md"
    wrong = [words for imported in imports_of(path) if (words := forbidden(module, imported))]
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "imported", "right"),
    [
        ("pool.stratum.server", "pool.store.engine", False),
        ("pool.stratum.server", "pool.config.Config", True),
        ("pool.store.engine", "pool.config", False),
        ("pool.chain.node", "pool.stratum.server", False),
        ("pool.chain.node", "pool.cli", False),
        ("pool.chain.node", "pool.lifecycle.House", False),
        ("pool.chain.node", "pool.recordsy", False),
        ("pool.chain.node", "aiohttp", True),
        ("pool.cli", "web.app", True),
        ("treasury.policy", "pool.store.inbox.put", True),
        ("treasury.policy", "pool.store.engine", False),
        ("treasury.policy", "pool.ledger", False),
        ("scaling.models", "pool.records", False),
        ("native.channel", "pool.records", False),
        ("web.app", "pool.dev.fleet", False),
        ("pool.newroom.thing", "pool.records", False),
    ],
)
def test_the_guard_sees_what_it_must(module: str, imported: str, right: bool) -> None:
    assert (forbidden(module, imported) is None) == right


def test_the_walk_reads_every_form_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    folder = tmp_path / "pool" / "chain"
    folder.mkdir(parents=True)
    python = folder / "a.py"
    python.write_text(
        "import pool.store, os\nfrom pool import ledger\nfrom . import b\nfrom ..stratum.server import x\n"
        "def f():\n    if 1:\n        from web import app\n    import importlib; importlib.import_module('pool.club')\n"
    )
    assert set(imports_of(python)) == {
        "pool.store",
        "os",
        "pool.ledger",
        "pool.chain.b",
        "pool.stratum.server.x",
        "web.app",
        "importlib",
        "pool.club",
    }
    cython = folder / "c.pyx"
    cython.write_text(
        "cimport cython\nfrom libc.string cimport memcpy, memset\n"
        "from native.work cimport (\n    Job,  # why\n    Table,\n)\n"
        "from .d cimport y\nimport pool.store as s\n    cimport web.z\n"
    )
    assert set(imports_of(cython)) == {
        "cython",
        "libc.string.memcpy",
        "libc.string.memset",
        "native.work.Job",
        "native.work.Table",
        "pool.chain.d.y",
        "pool.store",
        "web.z",
    }
