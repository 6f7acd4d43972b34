"""One fixture over every kind of node that the chain room must work with: import `node_kind` and `node` into a test
module and the same cases run on all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.bitcoind import Bitcoind
from rig.btcd import Btcd
from rig.daemon import NodeDaemon
from rig.devnode import DevNode
from rig.go_tools import ToolMissing
from rig.servers import missing_server

KINDS: dict[str, type[NodeDaemon]] = {"devchain": DevNode, "btcd": Btcd}
if os.environ.get("BITCOIND"):
    KINDS["bitcoind"] = Bitcoind


def fresh_node(kind: str, folder: Path) -> NodeDaemon:
    """A node of this kind, not started; ends the test where its program cannot be had."""
    try:
        return KINDS[kind](folder)
    except ToolMissing as why:
        missing_server(kind, str(why))


@pytest.fixture(params=sorted(KINDS))
def node_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def node(node_kind: str, tmp_path: Path) -> Iterator[NodeDaemon]:
    """A running node in regtest at height 0."""
    with fresh_node(node_kind, tmp_path / "node") as running:
        yield running
