"""What to do when a real server that a test wants cannot be had here: say so loudly, and fail where CI is set."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

PREFIX = "missing server: "


def missing_server(name: str, reason: str) -> NoReturn:
    """End this test: skipped and named in the closing summary, or failed when the environment has CI set.

    `reason` says what was tried and what would help ("no Go: apt-get install golang")."""
    text = f"{PREFIX}{name}: {reason}"
    if os.environ.get("CI"):
        pytest.fail(text, pytrace=False)
    pytest.skip(text)
