"""native/*.pyi are the contract: every name is compiled, nothing else public is, and arguments agree."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import native
from native import MODULES

HERE = Path(native.__file__).parent
Arguments = tuple[tuple[str, ...], tuple[str, ...], frozenset[str]]  # positional, keyword-only, those with a default
ALWAYS = {"__init__", "__enter__", "__exit__", "__len__", "__contains__"}


def stub(name: str) -> ast.Module:
    return ast.parse((HERE / f"{name}.pyi").read_text())


def names_in(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Public names a module or class of a stub declares."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return found


def is_own(module: ModuleType, name: str, value: object) -> bool:
    """Public and made in this module: neither imported nor private."""
    if name.startswith("_") or isinstance(value, ModuleType) or name in {"annotations"}:
        return False
    return getattr(value, "__module__", module.__name__) == module.__name__ or not callable(value)


def arguments_of(function: ast.FunctionDef) -> Arguments:
    given = function.args
    positional = [a.arg for a in (*given.posonlyargs, *given.args) if a.arg != "self"]
    optional = set(positional[len(positional) - len(given.defaults) :] if given.defaults else [])
    optional |= {a.arg for a, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is not None}
    return tuple(positional), tuple(a.arg for a in given.kwonlyargs), frozenset(optional)


def compiled_arguments(text: str) -> Arguments:
    """The arguments of a def in a .pyx, whose types come before the names."""
    positional: list[str] = []
    keyword: list[str] = []
    optional: set[str] = set()
    into = positional
    for part in filter(None, (part.strip() for part in re.sub(r"\[[^\]]*\]", "", text).split(","))):
        if part == "*":
            into = keyword
            continue
        name = re.split(r"=|\bnot None\b", part)[0].split()[-1].lstrip("*")
        if name != "self":
            into.append(name)
            if "=" in part:
                optional.add(name)
    return tuple(positional), tuple(keyword), frozenset(optional)


def definitions(name: str) -> Iterator[tuple[str, str, Arguments]]:
    """(class or "", function, arguments) of every def in a .pyx; setters are left out."""
    source = (HERE / f"{name}.pyx").read_text()
    where = ""
    for match in re.finditer(
        r"^(?:cdef class (\w+)|( *)(@\w+\.setter\n +)?(?:def|cpdef \w+) (\w+)\((.*?)\)(?::| noexcept| except))",
        source,
        re.M | re.S,
    ):
        class_name, indent, setter, function, arguments = match.groups()
        if class_name:
            where = class_name
        elif not setter:
            where = where if indent else ""
            yield where, "__init__" if function == "__cinit__" else function, compiled_arguments(arguments)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_holds_exactly_what_its_stub_names(name: str) -> None:
    module = importlib.import_module(f"native.{name}")
    promised = {found for found in names_in(stub(name).body) if not found.startswith("_")}
    compiled = {key for key, value in vars(module).items() if is_own(module, key, value)}
    assert compiled == promised


@pytest.mark.parametrize("name", MODULES)
def test_a_class_holds_exactly_what_its_stub_names(name: str) -> None:
    module = importlib.import_module(f"native.{name}")
    for class_name, node in names_in(stub(name).body).items():
        if not isinstance(node, ast.ClassDef) or any(
            isinstance(base, ast.Name) and base.id == "Exception" for base in node.bases
        ):
            continue
        promised = names_in(node.body)
        compiled = vars(getattr(module, class_name))
        assert {key for key in compiled if not key.startswith("_")} == {
            key for key in promised if not key.startswith("_")
        }, class_name
        assert {key for key in promised if key.startswith("_")} <= ALWAYS
        for key, member in promised.items():
            is_method = isinstance(member, ast.FunctionDef) and not member.decorator_list
            if not key.startswith("_"):
                assert (
                    inspect.isgetsetdescriptor(compiled[key]) or inspect.ismemberdescriptor(compiled[key]) or is_method
                ), key
                assert callable(compiled[key]) == is_method, f"{class_name}.{key}"


@pytest.mark.parametrize("name", MODULES)
def test_arguments_have_the_stubs_names_order_and_defaults(name: str) -> None:
    compiled = {(where, function): arguments for where, function, arguments in definitions(name)}
    promised: dict[tuple[str, str], Arguments] = {}
    for key, node in names_in(stub(name).body).items():
        if isinstance(node, ast.FunctionDef):
            promised["", key] = arguments_of(node)
        elif isinstance(node, ast.ClassDef):
            for inner, member in names_in(node.body).items():
                if isinstance(member, ast.FunctionDef) and not member.decorator_list:
                    promised[key, inner] = arguments_of(member)
    assert promised, name
    for place, arguments in promised.items():
        if place[1] in {"__enter__", "__len__", "__contains__", "__exit__"}:
            continue  # Python calls these itself
        assert compiled[place] == arguments, place


@pytest.mark.parametrize("name", MODULES)
def test_wrong_numbers_of_arguments_are_refused_as_the_stub_says(name: str) -> None:
    """The compiled functions themselves, not their source."""
    module = importlib.import_module(f"native.{name}")
    for key, node in names_in(stub(name).body).items():
        if isinstance(node, ast.FunctionDef):
            positional, _, optional = arguments_of(node)
            with pytest.raises(TypeError, match=r"argument"):
                getattr(module, key)(*[None] * (len(positional) + 1))
            if len(positional) > len(optional):
                with pytest.raises(TypeError, match=r"argument"):
                    getattr(module, key)(*[None] * (len(positional) - len(optional) - 1))


def test_every_module_was_built_from_the_sources_beside_it() -> None:
    builds = {importlib.import_module(f"native.{name}").__build__ for name in MODULES}
    assert len(builds) == 1
    assert re.fullmatch("[0-9a-f]{16}", builds.pop())
