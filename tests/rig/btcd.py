"""btcd in regtest as a test node: a second opinion on every block, from other people's code in another language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rig.daemon import NodeDaemon
from rig.go_tools import built

PACKAGE = "github.com/btcsuite/btcd"
#: Where `generate` pays to: btcd picks one at random for each block, so two blocks on one parent differ. Private keys
#: 1, 2 and 3: anyone can spend.
MINING_ADDRESSES = (
    "mrCDrCybB6J1vRfbwM5hemdJz73FwDBC8r",
    "mg8Jz5776UdyiYcBb9Z873NTozEiADRW5H",
    "mrzKXEpXfEDHk7vFS3LBXVXoa4YXFcCkje",
)


class Btcd(NodeDaemon):
    """What it does otherwise than Bitcoin Core, seen by running it: no ZMQ; a connection per call ("Connection:
    close"); getblocktemplate has no `rules` and gives
    default_witness_commitment only when a transaction has a witness; submitblock answers null for a block whose parent
    it does not know, and "rejected: already have
    block ..." for one it holds; getblockchaininfo lacks initialblockdownload; getblockheader lacks mediantime; no
    preciousblock; a request without a "jsonrpc" field is
    answered with an empty body. In regtest it throws its chain away at each start: the rig takes the blocks out before
    an end and gives them back after the start."""

    kind = "btcd"

    def __init__(self, folder: Path, *, extra: Sequence[str] = ()) -> None:
        super().__init__(folder, extra=extra)
        self._program = built(PACKAGE)
        self._blocks: dict[str, str] = {}  # hash -> raw block, in chain order

    def command(self) -> list[str]:
        settings = self.folder / "btcd.conf"
        settings.touch()  # else btcd would write one of its own, or read the operator's
        return [
            str(self._program),
            "--regtest",
            "--notls",
            "--nodnsseed",
            "--noonion",
            "--nobanning",
            f"--configfile={settings}",
            f"--datadir={self.folder / 'data'}",
            f"--logdir={self.folder / 'logs'}",
            f"--rpcuser={self.user}",
            f"--rpcpass={self.password}",
            f"--rpclisten=127.0.0.1:{self.port}",
            "--relaynonstd",
            "--txindex",
            *(f"--miningaddr={address}" for address in MINING_ADDRESSES),
            *(self.extra or ("--nolisten",)),
        ]

    def generate(self, blocks: int = 1) -> list[str]:
        hashes: list[str] = self.rpc("generate", blocks, timeout_s=120.0)
        return hashes

    def start(self, patience_s: float = 30.0) -> None:
        super().start(patience_s)
        for raw in self._blocks.values():
            self.rpc("submitblock", raw)

    def stop(self) -> None:
        self._keep_blocks()
        super().stop()

    def kill(self) -> None:
        self._keep_blocks()
        super().kill()

    def _keep_blocks(self) -> None:
        if not self.running or self.frozen:
            return
        fresh: dict[str, str] = {}
        hash_hex = self.best
        while hash_hex not in self._blocks and (header := self.rpc("getblockheader", hash_hex))["height"] > 0:
            fresh[hash_hex] = self.rpc("getblock", hash_hex, 0)
            hash_hex = header["previousblockhash"]
        known = list(self._blocks.items())
        kept = known[: next((i + 1 for i, (known_hash, _) in enumerate(known) if known_hash == hash_hex), 0)]
        self._blocks = dict(kept + list(reversed(fresh.items())))
