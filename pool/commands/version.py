"""`version`: what is installed and what it runs on."""

from __future__ import annotations

import argparse
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version

HELP = "print the version and what it runs on"


def arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(args: argparse.Namespace) -> int:
    from native.hashing import kernel

    try:
        number = version("micromining-social-pool")
    except PackageNotFoundError:
        number = "(not installed: running from a folder)"
    print(f"MicroMiningSocialPool {number}")
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, SHA-256 by {kernel()}")
    return 0
