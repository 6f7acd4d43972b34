"""A scripted node that takes blocks: says the words it is told to, and knows which blocks it holds and where."""

from __future__ import annotations

import asyncio
import random
from collections import deque

from pool.chain.node import Nodes
from pool.chain.rpc import NodeAddress
from pool.chain.types import Network
from pool.records import BlockFound
from rig.fakenode import FakeNode, Fault, RpcFault
from rig.reference import sha256d


class BlockNode(FakeNode):
    """`say` holds the next answers of submitblock; without one it takes the block: as its tip when it builds on the tip
    ("null"), else beside the chain ("inconclusive")."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.say: deque[str | None] = deque()
        self.always_say: str | None = None
        self.beside: dict[str, int] = {}  # blocks off the best chain: height
        self.refused: dict[str, int] = {}  # indexed although refused, as Bitcoin Core does
        self.submitted: list[str] = []
        self.precious: list[str] = []
        self.offers_precious = True
        self.called = asyncio.Event()

    async def rpc_submitblock(self, block_hex: str) -> str | None:
        self.submitted.append(block_hex)
        header = bytes.fromhex(block_hex)[:80]
        hash_hex = sha256d(header)[::-1].hex()
        if self.say:
            word = self.say.popleft()
        elif self.always_say is not None:
            word = self.always_say
        else:
            word = self._take(hash_hex, header)
        if word is not None and (word == "bad-txnmrklroot" or word == "duplicate-invalid"):
            self.refused[hash_hex] = self.height
        return word

    def _take(self, hash_hex: str, header: bytes) -> str | None:
        if hash_hex in self.branch or hash_hex in self.beside:
            return "duplicate"
        if header[4:36][::-1].hex() == self.branch[-1]:
            self.branch.append(hash_hex)
            return None
        self.beside[hash_hex] = self.height
        return "inconclusive"

    async def rpc_getblockheader(self, hash_hex: str) -> dict[str, object]:
        off = self.beside | self.refused
        if hash_hex in off and hash_hex not in self.branch:
            answer = await super().rpc_getblockheader(self.branch[-1])
            return answer | {"hash": hash_hex, "height": off[hash_hex], "confirmations": -1}
        answer = await super().rpc_getblockheader(hash_hex)
        return dict(answer)

    async def rpc_preciousblock(self, hash_hex: str) -> None:
        if not self.offers_precious:
            raise RpcFault(-32601, "Method not found", 404)
        self.precious.append(hash_hex)

    def bury(self, blocks: int) -> None:
        """More blocks on top of the best chain."""
        self.branch += [f"{random.getrandbits(248):064x}" for _ in range(blocks)]

    def forget(self, hash_hex: str) -> None:
        """As after a restore from a backup."""
        self.beside.pop(hash_hex, None)
        if hash_hex in self.branch:
            del self.branch[self.branch.index(hash_hex) :]

    def reorganise(self, hash_hex: str, blocks: int) -> None:
        """A longer branch without that block takes over; the block stays known beside it."""
        place = self.branch.index(hash_hex)
        self.beside[hash_hex] = place
        del self.branch[place:]
        self.bury(blocks)

    def bring_back(self, hash_hex: str, blocks: int) -> None:
        """And back again: the branch with that block is longer now."""
        del self.branch[self.beside.pop(hash_hex) :]
        self.branch.append(hash_hex)
        self.bury(blocks)

    async def calls(self, method: str, count: int) -> None:
        """Until so many calls came, answered or not ("" counts all methods)."""
        async with asyncio.timeout(20):
            while sum(method in ("", asked) for asked, _ in self.asked) < count:
                self.called.clear()
                await self.called.wait()

    async def received(self, count: int) -> None:
        """Until so many submitblock calls came."""
        await self.calls("submitblock", count)

    def _fault(self, method: str) -> Fault | None:
        self.called.set()
        return super()._fault(method)


def client(network: Network, *fakes: FakeNode, timeout_s: float = 5.0) -> Nodes:
    return Nodes([NodeAddress(fake.url, "rig", "rig-password", timeout_s=timeout_s) for fake in fakes], network)


def found_on(prevhash_hex: str, height: int, rng: random.Random, *, size: int = 300) -> BlockFound:
    """A block as the porch hands it on; nobody here checks its work."""
    block = rng.randbytes(4) + bytes.fromhex(prevhash_hex)[::-1] + rng.randbytes(44) + rng.randbytes(size)
    return BlockFound(
        block=block,
        hash_hex=sha256d(block[:80])[::-1].hex(),
        prevhash_hex=prevhash_hex,
        height=height,
        coinbase_value_sat=5_000_000_000,
        account="bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        worker="axe",
        stale=False,
        found_at_ns=1_780_112_431_000_000_000,
        epoch=7,
        seq=42,
    )
