"""mmsp on machines that lack things, played by stand-ins on the PATH that write down what they are asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: What any system has; no compiler and no Python among them.
TOOLS = ["sh", "cat", "cksum", "cut", "dirname", "env", "grep", "head", "ls", "mkdir", "printf", "readlink", "rm"]
TOOLS += ["sed", "sort", "touch", "tr", "uname"]


class Machine:
    """A clone on a machine with chosen programs. `log` holds the calls of apt-get."""

    def __init__(
        self, folder: Path, *, root: bool, apt: bool = True, compiler: bool = False, python: bool = False
    ) -> None:
        self.clone, self.bin, self._log = folder / "clone", folder / "bin", folder / "log"
        self.clone.mkdir()
        self.bin.mkdir()
        shutil.copy2(ROOT / "mmsp", self.clone)
        for tool in TOOLS:
            path = shutil.which(tool)
            if path:
                (self.bin / tool).symlink_to(path)
        self.program("id", f"echo {0 if root else 1000}")
        if apt:
            self.program("apt-get", f'echo "$@" >>{self._log}')
            self.program("apt-cache", 'echo "  Candidate: 3.11.2-1+b1"')
        if compiler:
            self.program("gcc", "exit 0")
            self.program("aarch64-linux-gnu-gcc", "exit 0")
            self.program("qemu-aarch64", "exit 0")
        if python:
            self.program("python3", "cat >/dev/null; exit 0")

    def program(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def mmsp(self, *args: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(self.bin), "HOME": str(self.clone)}
        return subprocess.run(
            ["/bin/sh", str(self.clone / "mmsp"), *args],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    @property
    def log(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


def test_an_ordinary_user_is_told_the_one_exact_line(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=False)
    done = machine.mmsp("run")
    assert done.returncode == 1
    assert done.stdout == (
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends"
        " gcc libc6-dev python3 python3-venv python3-dev\n"
    )
    assert machine.log == []


def test_root_installs_what_is_missing_after_an_update(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=True)
    done = machine.mmsp("run")
    assert done.returncode == 1  # the stand-in installs nothing, so there is still no Python
    assert machine.log == [
        "update -qq",
        "install -y -qq --no-install-recommends gcc libc6-dev python3 python3-venv python3-dev",
    ]
    assert "no Python >= 3.11" in done.stderr


def test_an_older_debian_gets_the_newest_python_it_offers(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=False)
    machine.program(
        "apt-cache",
        'case "$1 $2" in "policy python3") echo "  Candidate: 3.10.6-1";; "show python3.11") exit 0;; *) exit 1;; esac',
    )
    assert machine.mmsp("run").stdout.endswith("gcc libc6-dev python3.11 python3.11-venv python3.11-dev\n")


def test_a_python_that_is_too_old_or_lacks_headers_does_not_count(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=False, compiler=True)
    machine.program("python3", "cat >/dev/null; exit 1")
    assert machine.mmsp("run").stdout.endswith(" python3 python3-venv python3-dev\n")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the emulated ARM tests are for x86-64 machines")
def test_what_only_some_tests_need_stops_nobody_but_is_told(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=False, compiler=True, python=True)
    (machine.bin / "qemu-aarch64").unlink()
    done = machine.mmsp("test")
    assert "qemu-user" in done.stderr
    assert "making .venv" in done.stderr  # it went on
    assert done.stdout == ""


def test_a_system_without_apt_says_what_it_needs(tmp_path: Path) -> None:
    done = Machine(tmp_path, root=True, apt=False).mmsp("run")
    assert done.returncode == 1
    assert "needs a C compiler and Python >= 3.11" in done.stderr


def test_help_and_unknown_commands_touch_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=True)
    assert "./mmsp run" in machine.mmsp("help").stdout
    assert "./mmsp test" in machine.mmsp().stdout
    done = machine.mmsp("frobnicate")
    assert done.returncode == 1
    assert "./mmsp help" in done.stderr
    assert machine.log == []
    assert sorted(path.name for path in machine.clone.iterdir()) == ["mmsp"]


def test_it_works_from_any_folder_and_through_a_link(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=False)
    link = tmp_path / "link"
    link.symlink_to(machine.clone / "mmsp")
    env = {"PATH": str(machine.bin)}
    done = subprocess.run(
        ["/bin/sh", str(link), "bench"], env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
    assert "bench NAME" in done.stderr


def test_a_second_run_on_an_unchanged_clone_installs_and_compiles_nothing(tmp_path: Path) -> None:
    """With a stand-in Python in .venv that records what it is asked."""
    machine = Machine(tmp_path, root=False, compiler=True, python=True)
    calls = tmp_path / "calls"
    (machine.clone / ".venv" / "bin").mkdir(parents=True)
    (machine.clone / "native").mkdir()
    for name in ("setup.py", "pyproject.toml", "native/a.pyx"):
        (machine.clone / name).write_text("x")
    (machine.clone / "native" / "a.so").write_text("")
    python = machine.clone / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{calls}\n')
    python.chmod(0o755)

    def asked(*args: str) -> list[str]:
        calls.write_text("")
        assert machine.mmsp(*args).returncode == 0
        lines = [line.split()[:3] for line in calls.read_text().splitlines()]
        return [" ".join(line) for line in lines if line[:1] in (["-m"], ["setup.py"])]

    first = asked("run")
    assert first == ["-m pip install", "-m pip install", "setup.py -q build_ext", "-m pool run"]
    assert asked("run") == ["-m pool run"]
    (machine.clone / "native" / "a.pyx").write_text("y")
    assert asked("run") == ["setup.py -q build_ext", "-m pool run"]
    (machine.clone / "pyproject.toml").write_text("y")
    assert asked("run") == ["-m pip install", "-m pip install", "-m pool run"]


def test_every_extra_that_mmsp_may_ask_for_is_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"postgres", "test", "go"} <= set(declared)


def test_arguments_of_test_go_to_pytest_whole(tmp_path: Path) -> None:
    machine = Machine(tmp_path, root=False, compiler=True, python=True)
    (machine.clone / ".venv" / "bin").mkdir(parents=True)
    (machine.clone / "native").mkdir()
    (machine.clone / "native" / "a.so").write_text("")
    calls = tmp_path / "calls"
    python = machine.clone / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nfor one in "$@"; do printf "<%s>" "$one"; done >>{calls}\necho >>{calls}\n')
    python.chmod(0o755)
    machine.mmsp("test", "-k", "a or b", "tests/x y.py")
    assert calls.read_text().splitlines()[-1] == "<-m><pytest><-k><a or b><tests/x y.py>"
    machine.mmsp("soak", "-x")
    assert calls.read_text().splitlines()[-1] == "<-m><pytest><-m><soak><-x>"
