"""The house as others get it: sdist -> wheel -> install -> import; a missing or stale compiled module fails loudly."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
#: What an sdist is made from. The tree itself is left alone: a build there would meet the one in use.
PARTS = ("pool", "native", "treasury", "scaling", "web", "docs", "LICENSE", "MANIFEST.in", "README.md", "mmsp")
PARTS += ("pyproject.toml", "setup.py")
QUICK = {"NATIVE_CFLAGS": "-O0"}  # this test is about packing, not about speed


def run(*command: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "NATIVE_SHA256")}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | (env or {}),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources as they are now, in a folder of their own."""
    clone = tmp_path_factory.mktemp("clone")
    leave = shutil.ignore_patterns("__pycache__", "*.so")
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, clone / part, ignore=leave)
        else:
            shutil.copy2(source, clone / part)
    return clone


@pytest.fixture(scope="module")
def modules(clone: Path) -> list[Path]:
    """Every Python module of the listed packages, relative to the clone."""
    folders = (clone / package.replace(".", "/") for package in PACKAGES)
    return sorted(path.relative_to(clone) for folder in folders for path in folder.glob("*.py"))


@pytest.fixture(scope="module")
def sdist(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", out, cwd=clone)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made from the unpacked sdist and nothing else."""
    folder = tmp_path_factory.mktemp("unpacked")
    run("tar", "-xzf", sdist, cwd=folder)  # Debian 12's Python has no filter for extractall yet
    (project,) = folder.iterdir()
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, cwd=project, env=QUICK)
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a fresh environment with the wheel; its dependencies are this environment's, by a .pth file."""
    home = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=home)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_the_wheel_holds_what_runs_and_no_c_source(wheel: Path, clone: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.endswith((".c", ".h", ".pyx", ".pxd"))]
    assert not [name for name in names if name.startswith(("tests/", "bench/", "build/", "scripts/"))]
    for name in ("hashing", "difficulty", "work", "sharelog", "channel"):
        assert f"native/{name}.pyi" in names
        assert [one for one in names if one.startswith(f"native/{name}.") and one.endswith(".so")]
    assert "native/py.typed" in names
    assert "pool/store/migrations/env.py" in names
    migrations = [path.name for path in (clone / "pool/store/migrations/versions").glob("v*.py")]
    assert migrations
    for migration in migrations:
        assert f"pool/store/migrations/versions/{migration}" in names


def test_every_package_of_the_tree_is_listed_and_every_listed_one_exists() -> None:
    tops = ("pool", "native", "treasury", "scaling", "web")
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in tops
        for path in ROOT.glob(f"{top}/**/__init__.py")
        if "__pycache__" not in path.parts
    }
    assert set(PACKAGES) == there


def test_every_module_is_in_the_wheel(wheel: Path, modules: list[Path]) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {path.as_posix() for path in modules} - names == set()


def test_the_sdist_can_build_itself(sdist: Path, clone: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("setup.py", "LICENSE", "README.md", "mmsp", "docs/architecture.md", "native/py.typed"):
        assert name in names
    kinds = (".pyx", ".pxd", ".c", ".h", ".pyi")
    sources = {f"native/{path.name}" for path in (clone / "native").iterdir() if path.suffix in kinds}
    assert sources - names == set()
    assert not [name for name in names if name.startswith("build/")]


def test_installed_it_runs_from_anywhere(installed: Path, tmp_path: Path) -> None:
    code = "import native, native.channel, pool.config, scaling, treasury, web; print(native.__file__)"
    where = run(installed, "-c", code, cwd=tmp_path).strip()
    assert Path(where).is_relative_to(installed.parent.parent)
    assert "0.1.0" in run(installed, "-m", "pool", "version", cwd=tmp_path)
    assert "0.1.0" in run(installed.parent / "mmsp-pool", "version", cwd=tmp_path)
    assert "ran 0001" in run(installed, "-m", "pool", "db", "upgrade", cwd=tmp_path)


def test_each_module_can_be_the_first_one_imported(installed: Path, modules: list[Path], tmp_path: Path) -> None:
    """Alone in a fresh interpreter: no hidden order of imports. Forked from one that has only the big libraries."""
    skip = ("pool.__main__", "pool.store.migrations.env")  # they act when imported
    names = (".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in modules)
    code = """
import importlib, os, sys
import numpy, sqlalchemy, cryptography, uvloop
failed = []
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        failed.append(name)
sys.exit(bool(failed))
"""
    run(installed, "-c", code, *(name for name in names if name not in skip), cwd=tmp_path)


# --- a compiled module that is missing or stale
def _native_copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "native", tmp_path / "native", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "native"


def _import_native(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import native.work"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_a_whole_native_imports(tmp_path: Path) -> None:
    _native_copy(tmp_path)
    assert _import_native(tmp_path).returncode == 0


@pytest.mark.parametrize("name", ["hashing", "difficulty", "seen", "work", "sharelog", "channel"])
def test_a_missing_compiled_module_fails_loudly(name: str, tmp_path: Path) -> None:
    folder = _native_copy(tmp_path)
    gone = list(folder.glob(f"{name}.*.so"))
    assert gone
    for path in gone:
        path.unlink()
    done = _import_native(tmp_path)
    assert done.returncode != 0
    assert f"native.{name} is not compiled" in done.stderr
    assert "./mmsp build" in done.stderr


@pytest.mark.parametrize("source", ["sha256.c", "channel.pyx", "hashing.pxd"])
def test_a_stale_compiled_module_fails_loudly(source: str, tmp_path: Path) -> None:
    folder = _native_copy(tmp_path)
    with (folder / source).open("a") as file:
        file.write("\n")
    done = _import_native(tmp_path)
    assert done.returncode != 0
    assert "stale compiled module" in done.stderr
    assert "./mmsp build" in done.stderr
