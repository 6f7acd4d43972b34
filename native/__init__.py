"""Facts, compiled: hashing, difficulty, jobs, the share log and the judge of shares. No I/O but the share log's memory
map, no clock, no config.

A missing or stale compiled module is an ImportError here: there is no slow fall-back."""

import hashlib
import importlib
from pathlib import Path

MODULES = ("hashing", "difficulty", "seen", "work", "sharelog", "channel")
_HOW = "build it: ./mmsp build (or: python setup.py build_ext --inplace)"


def _check_build() -> None:
    """Every module must carry the same build digest; where the sources lie beside them (a clone, not an installed
    wheel), that of these sources."""
    builds = {}
    for name in MODULES:
        try:
            builds[name] = importlib.import_module(f"native.{name}").__build__
        except ModuleNotFoundError as error:
            raise ImportError(f"native.{name} is not compiled; {_HOW}") from error
    here = Path(__file__).parent
    sources = sorted(p for p in here.iterdir() if p.suffix in {".pyx", ".pxd", ".c", ".h"})
    if sources:
        digest = hashlib.sha256()
        for path in sources:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        expected = digest.hexdigest()[:16]
    else:
        expected = builds["hashing"]
    stale = sorted(name for name, build in builds.items() if build != expected)
    if stale:
        raise ImportError(
            f"stale compiled module: {', '.join(f'native.{name}' for name in stale)} built from other sources; {_HOW}"
        )


_check_build()
