"""Bitcoin Core (or Knots) in regtest as a test node, where the environment's BITCOIND names its program."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from rig.daemon import NodeDaemon, free_port
from rig.go_tools import ToolMissing

#: Private key 1, regtest, native segwit.
MINING_ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


class Bitcoind(NodeDaemon):
    kind = "bitcoind"

    def __init__(self, folder: Path, *, extra: Sequence[str] = ()) -> None:
        super().__init__(folder, extra=extra)
        program = shutil.which(os.environ.get("BITCOIND", ""))
        if program is None:
            raise ToolMissing("set BITCOIND to the path of a bitcoind (25 or newer)")
        self._program = program
        self._zmq_port = free_port()
        self.zmq_url = f"tcp://127.0.0.1:{self._zmq_port}"

    def command(self) -> list[str]:
        return [
            self._program,
            "-regtest",
            "-server",
            "-listen=0",
            "-dnsseed=0",
            "-txindex",
            "-acceptnonstdtxn",
            "-minrelaytxfee=0",
            f"-datadir={self.folder}",
            f"-conf={self.folder / 'none.conf'}",
            f"-rpcuser={self.user}",
            f"-rpcpassword={self.password}",
            f"-rpcport={self.port}",
            "-rpcbind=127.0.0.1",
            "-rpcallowip=127.0.0.1",
            f"-zmqpubhashblock={self.zmq_url}",
            *self.extra,
        ]

    def start(self, patience_s: float = 60.0) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "none.conf").touch()
        super().start(patience_s)

    def generate(self, blocks: int = 1) -> list[str]:
        hashes: list[str] = self.rpc("generatetoaddress", blocks, MINING_ADDRESS, timeout_s=120.0)
        return hashes
