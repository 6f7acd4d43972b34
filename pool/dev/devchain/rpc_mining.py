"""RPC methods of mining: templates, submissions, and steering the chain by hand."""

from __future__ import annotations

import secrets

from pool.dev.devchain import addresses
from pool.dev.devchain.generate import make_block
from pool.dev.devchain.index import FAILED
from pool.dev.devchain.rpcbase import (
    CLIENT_IN_INITIAL_DOWNLOAD,
    CLIENT_NOT_CONNECTED,
    DESERIALIZATION_ERROR,
    INVALID_ADDRESS_OR_KEY,
    INVALID_PARAMETER,
    TYPE_ERROR,
    VERIFY_ERROR,
    Methods,
    RawJson,
    RpcFault,
    want,
    want_hash,
    want_hex,
)
from pool.dev.devchain.rules import LABEL, WARNING, difficulty_of_nbits, target_of_nbits
from pool.dev.devchain.template import Json
from pool.dev.devchain.wire import WireError, display

HASHRATE_WINDOW = 120


class MiningMethods(Methods):
    """getblocktemplate, submitblock and what moves the tip."""

    names = (
        "generatetoaddress", "getblocktemplate", "getmininginfo", "getnetworkhashps", "invalidateblock",
        "preciousblock",
        "reconsiderblock", "submitblock",
    )  # fmt: skip

    async def getblocktemplate(self, template_request: object = None) -> Json | RawJson:
        """A template, or the verdict on a proposal (BIP22, BIP23, BIP145)."""
        request = want(template_request, dict, default={})
        mode = request.get("mode", "template")
        if mode == "proposal":
            return self._proposal(request.get("data"))
        if mode not in ("template", None):
            raise RpcFault(INVALID_PARAMETER, "Invalid mode")
        conditions = self.node.conditions
        if conditions.peers == 0:
            raise RpcFault(CLIENT_NOT_CONNECTED, f"{LABEL} is not connected!")
        if conditions.initial_download:
            raise RpcFault(CLIENT_IN_INITIAL_DOWNLOAD, f"{LABEL} is in initial sync and waiting for blocks...")
        rules = want(request.get("rules"), list, default=[])
        if "segwit" not in rules:
            text = 'getblocktemplate must be called with the segwit rule set (call with {"rules": ["segwit"]})'
            raise RpcFault(INVALID_PARAMETER, text)
        if request.get("longpollid") is not None:
            await self._wait(want(request["longpollid"], str))
        return RawJson(self.node.templates.text())

    async def _wait(self, long_poll_id: str) -> None:
        tip = want_hash(long_poll_id[:64], "longpollid")
        digits = long_poll_id[64:]
        await self.node.long_poll(tip, int(digits) if digits.isdecimal() and len(digits) < 20 else -1)
        if self.node.stopping.is_set():
            raise RpcFault(CLIENT_NOT_CONNECTED, "Shutting down")

    def _proposal(self, data: object) -> Json:
        if not isinstance(data, str):
            raise RpcFault(TYPE_ERROR, "Missing data String key for proposal")
        try:
            return self.chain.test(want_hex(data, "Block decode failed"))
        except WireError:
            raise RpcFault(DESERIALIZATION_ERROR, "Block decode failed") from None

    async def submitblock(self, hexdata: object, dummy: object = None) -> Json:
        """Take a block: null, or BIP22's word. Unlike Bitcoin Core this adds no missing coinbase witness: other nodes
        would not."""
        del dummy
        try:
            return self.chain.submit(want_hex(hexdata, "Block decode failed"))
        except WireError:
            raise RpcFault(DESERIALIZATION_ERROR, "Block decode failed") from None

    async def generatetoaddress(self, nblocks: object, address: object, maxtries: object = None) -> Json:
        """Mine blocks that hold the mempool and pay `address`; the hashes of those found within `maxtries` hashes."""
        count, tries = want(nblocks, int), want(maxtries, int, default=1_000_000)
        try:
            script = addresses.script_of(want(address, str))
        except addresses.AddressError as error:
            raise RpcFault(INVALID_ADDRESS_OR_KEY, f"Error: Invalid address ({error})") from None
        found: list[Json] = []
        while len(found) < count and tries > 0:
            parent = self.chain.tip
            selection = self.node.templates.select()
            txs = [entry.tx for entry in selection.entries]
            raw, tries = await make_block(
                self.chain, parent, script, txs, selection.fees_sat, tries=tries, extra=secrets.token_bytes(8)
            )
            if raw is None:
                break
            verdict = self.chain.submit(raw)
            if verdict == "inconclusive":
                continue  # another block came first
            if verdict is not None:
                raise RpcFault(VERIFY_ERROR, f"own block refused: {verdict}")
            found.append(display(self.chain.tip.hash))
        return found

    async def getmininginfo(self) -> Json:
        """State of mining, with the next block's difficulty."""
        tip = self.chain.tip
        nbits = self.chain.allowed_nbits(tip)[-1]
        after: dict[str, Json] = {
            "height": tip.height + 1,
            "bits": f"{nbits:08x}",
            "difficulty": difficulty_of_nbits(nbits),
            "target": f"{target_of_nbits(nbits):064x}",
        }
        return {
            "blocks": tip.height,
            "bits": f"{tip.header.nbits:08x}",
            "difficulty": difficulty_of_nbits(tip.header.nbits),
            "target": f"{target_of_nbits(tip.header.nbits):064x}",
            "networkhashps": await self.getnetworkhashps(),
            "pooledtx": len(self.node.mempool.entries),
            "chain": self.chain.network.chain,
            "next": after,
            "warnings": [WARNING],
        }

    async def getnetworkhashps(self, nblocks: object = None, height: object = None) -> Json:
        """Work per second of the last blocks, by header times as Bitcoin Core reckons it."""
        number = want(height, int, default=-1)
        active = self.chain.index.active
        top = active[number] if 0 <= number < len(active) else active[-1]
        span = min(top.height, max(1, want(nblocks, int, default=HASHRATE_WINDOW)))
        if span == 0:
            return 0
        path = active[top.height - span : top.height + 1]
        times = [node.header.time_s for node in path]
        return (top.work - path[0].work) / (max(times) - min(times)) if max(times) > min(times) else 0

    async def invalidateblock(self, blockhash: object) -> Json:
        """Treat a block and all on top of it as broken."""
        node = self.find(blockhash)
        if node.height == 0:
            raise RpcFault(INVALID_PARAMETER, "the genesis block cannot be invalidated")
        self.chain.invalidate(node)
        return None

    async def reconsiderblock(self, blockhash: object) -> Json:
        """Undo `invalidateblock`."""
        self.chain.reconsider(self.find(blockhash))
        return None

    async def preciousblock(self, blockhash: object) -> Json:
        """Prefer a block among those of equal work."""
        node = self.find(blockhash)
        if node.status == FAILED:
            raise RpcFault(VERIFY_ERROR, "bad-prevblk")
        self.chain.precious(node)
        return None
