"""pytest plugin of scripts/sanitize.sh: the run is worth nothing unless the sanitized modules are the ones loaded."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest


def pytest_sessionstart() -> None:
    """End the run at once if any module of native comes from elsewhere or was built without the sanitizers."""
    tree = Path(os.environ["SANITIZED_TREE"]).resolve()
    native = importlib.import_module("native")
    for name in native.MODULES:
        path = Path(str(importlib.import_module(f"native.{name}").__file__)).resolve()
        binary = path.read_bytes()
        if tree not in path.parents or b"__asan_init" not in binary or b"__ubsan_handle" not in binary:
            pytest.exit(f"native.{name} is not the sanitized one: {path}", returncode=4)
    if "libasan" not in Path("/proc/self/maps").read_text():
        pytest.exit("the AddressSanitizer runtime is not loaded", returncode=4)


def pytest_report_header() -> str:
    return f"native under AddressSanitizer and UBSan, from {os.environ['SANITIZED_TREE']}"
