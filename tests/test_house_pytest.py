"""The test house itself: loop errors are red, missing servers named, soak waits to be asked, seeds repeat."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(folder: Path, tests: str, *args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """pytest in a process of its own, with this house's conftest and settings, on these tests."""
    (folder / "test_inner.py").write_text(tests)
    settings = (
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(folder),
        "-p",
        "conftest",
        "-p",
        "no:cacheprovider",
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("CI", "SEED")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *settings, *args, str(folder)],
        cwd=folder,
        env=clean | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests"} | (env or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


LOOP_ERRORS = """
import asyncio
async def test_task_nobody_awaited():
    async def bad():
        raise ValueError("nobody heard")
    asyncio.create_task(bad())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
async def test_callback():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)
async def test_fine():
    await asyncio.sleep(0)
async def test_expected(expected_loop_errors):
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)
    assert "ZeroDivisionError" in expected_loop_errors.pop()
"""


def test_an_error_that_only_the_event_loop_saw_is_red(tmp_path: Path) -> None:
    done = run(tmp_path, LOOP_ERRORS)
    assert "2 failed, 2 passed" in done.stdout, done.stdout
    assert "nobody heard" in done.stdout
    assert "ZeroDivisionError" in done.stdout


MISSING = """
from rig.servers import missing_server
def test_one():
    missing_server("btcd", "no Go here")
def test_two():
    missing_server("btcd", "no Go here")
def test_three():
    missing_server("LND", "not built")
"""


def test_a_missing_server_is_named_once_with_its_reason_and_how_many_tests_it_cost(tmp_path: Path) -> None:
    done = run(tmp_path, MISSING)
    assert done.returncode == 0
    closing = done.stdout.split("servers missing here")[1]
    assert re.search(r"^btcd: no Go here  \[2 tests not run\]$", closing, re.M)
    assert re.search(r"^LND: not built  \[1 tests not run\]$", closing, re.M)


def test_with_ci_set_a_missing_server_is_a_failure(tmp_path: Path) -> None:
    done = run(tmp_path, MISSING, env={"CI": "1"})
    assert done.returncode == 1
    assert "3 failed" in done.stdout
    assert "btcd: no Go here  [2 tests not run]" in done.stdout


SOAK = """
import pytest
@pytest.mark.soak
def test_long():
    pass
def test_short():
    pass
"""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "1 passed, 1 deselected"),
        (("-m", "soak"), "1 passed, 1 deselected"),
        (("-m", "soak or not soak"), "2 passed"),
    ],
)
def test_soak_waits_to_be_asked(args: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = run(tmp_path, SOAK, "-v", *args)
    assert words in done.stdout
    assert ("test_long" in done.stdout) == bool(args)


SEEDS = """
def test_random(rng, seed):
    print("drew", rng.random())
    assert False
def test_other(rng):
    print("drew", rng.random())
    assert False
"""


def test_a_failing_random_test_prints_the_seed_that_repeats_it(tmp_path: Path) -> None:
    first = run(tmp_path, SEEDS)
    (seed,) = set(re.findall(r"SEED=(\d+)", first.stdout))
    drawn = re.findall(r"drew (\S+)", first.stdout)
    assert len(set(drawn)) == 2
    assert re.findall(r"drew (\S+)", run(tmp_path, SEEDS, env={"SEED": seed}).stdout) == drawn
    assert re.findall(r"drew (\S+)", run(tmp_path, SEEDS).stdout) != drawn


def test_a_warning_is_red(tmp_path: Path) -> None:
    done = run(tmp_path, "import warnings\ndef test_it():\n    warnings.warn('careful')\n")
    assert "1 failed" in done.stdout
