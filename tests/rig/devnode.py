"""The embedded development chain in strict mode as a test node, with the same surface as btcd and Bitcoin Core."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rig.daemon import NodeDaemon, free_port

ROOT = Path(__file__).resolve().parents[2]
#: Private key 1, regtest, native segwit.
MINING_ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


class DevNode(NodeDaemon):
    kind = "devchain"

    def __init__(self, folder: Path, *, extra: Sequence[str] = ()) -> None:
        super().__init__(folder, extra=extra)
        self._zmq_port = free_port()
        self.zmq_url = f"tcp://127.0.0.1:{self._zmq_port}"

    def command(self) -> list[str]:
        data = self.folder / "data"
        return [
            "env",
            f"PYTHONPATH={os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])])}",
            f"MMSP_DEVCHAIN_PASSWORD={self.password}",
            sys.executable,
            "-m",
            "pool.dev.devchain",
            "--mode=strict",
            f"--datadir={data}",
            f"--rpcport={self.port}",
            f"--zmqport={self._zmq_port}",
            f"--rpcuser={self.user}",
            *self.extra,
        ]

    def generate(self, blocks: int = 1) -> list[str]:
        hashes: list[str] = self.rpc("generatetoaddress", blocks, MINING_ADDRESS, timeout_s=120.0)
        return hashes
