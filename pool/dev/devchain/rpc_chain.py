"""RPC methods that read the chain, its coins and its transactions."""

from __future__ import annotations

from pool.dev.devchain import addresses, shapes
from pool.dev.devchain.rpcbase import (
    DESERIALIZATION_ERROR,
    INVALID_ADDRESS_OR_KEY,
    INVALID_PARAMETER,
    VERIFY_REJECTED,
    Methods,
    RpcFault,
    sat_to_btc,
    want,
    want_hash,
    want_hex,
)
from pool.dev.devchain.rules import WARNING, RejectError, difficulty_of_nbits, target_of_nbits
from pool.dev.devchain.template import Json, label
from pool.dev.devchain.wire import Block, WireError, display, parse_tx


class ChainMethods(Methods):
    """getblock and its kin."""

    names = (
        "getbestblockhash", "getblock", "getblockchaininfo", "getblockcount", "getblockhash", "getblockheader",
        "getchaintips",
        "getdifficulty", "getmempoolinfo", "getrawmempool", "getrawtransaction", "gettxout", "gettxoutsetinfo",
        "sendrawtransaction", "validateaddress",
    )  # fmt: skip

    async def getbestblockhash(self) -> Json:
        """Hash of the tip."""
        return display(self.chain.tip.hash)

    async def getblockcount(self) -> Json:
        """Height of the tip."""
        return self.chain.tip.height

    async def getblockhash(self, height: object) -> Json:
        """Hash of the active block at a height."""
        number = want(height, int)
        if not 0 <= number < len(self.chain.index.active):
            raise RpcFault(INVALID_PARAMETER, "Block height out of range")
        return display(self.chain.index.active[number].hash)

    async def getblockheader(self, blockhash: object, verbose: object = None) -> Json:
        """A header, decoded or as hex."""
        node = self.find(blockhash)
        if not want(verbose, bool, default=True):
            return node.header.raw.hex()
        return shapes.header_json(self.chain, node, self.confirmations(node))

    async def getblock(self, blockhash: object, verbosity: object = None) -> Json:
        """A block: 0 hex, 1 with txids, 2 with transactions."""
        node = self.find(blockhash)
        level = int(verbosity) if isinstance(verbosity, bool) else want(verbosity, int, default=1)
        block = self.chain.block(node)
        if level <= 0:
            return block.raw.hex()
        shape = shapes.block_json(self.chain, node, block, self.confirmations(node), full=level >= 2)
        if level >= 2:
            self._add_fees(shape, block)
        return shape

    def _add_fees(self, shape: dict[str, Json], block: Block) -> None:
        node = self.chain.index.nodes[block.hash]
        if not self.chain.index.is_active(node) or node.height == 0:
            return
        values = {coin.outpoint: coin.value_sat for coin in self.chain.store.undo(block.hash)}
        for tx in block.txs:
            values.update((tx.txid + n.to_bytes(4, "little"), out.value_sat) for n, out in enumerate(tx.vout))
        listed = shape["tx"]
        assert isinstance(listed, list)
        for tx, entry in zip(block.txs[1:], listed[1:], strict=True):
            assert isinstance(entry, dict)
            fee_sat = sum(values[txin.outpoint] for txin in tx.vin) - sum(out.value_sat for out in tx.vout)
            entry["fee"] = sat_to_btc(fee_sat)

    async def getblockchaininfo(self) -> Json:
        """State of the chain, with the development label."""
        tip, conditions = self.chain.tip, self.node.conditions
        ahead = conditions.headers_ahead
        return {
            "chain": self.chain.network.chain,
            "blocks": tip.height,
            "headers": tip.height + ahead,
            "bestblockhash": display(tip.hash),
            "bits": f"{tip.header.nbits:08x}",
            "target": f"{target_of_nbits(tip.header.nbits):064x}",
            "difficulty": difficulty_of_nbits(tip.header.nbits),
            "time": tip.header.time_s,
            "mediantime": tip.median_time_s(),
            "verificationprogress": (tip.height + 1) / (tip.height + 1 + ahead),
            "initialblockdownload": conditions.initial_download,
            "chainwork": f"{tip.work:064x}",
            "size_on_disk": self.node.store.path.stat().st_size,
            "pruned": False,
            "warnings": [WARNING],
            "devchain": label(self.chain, tip),
        }

    async def getdifficulty(self) -> Json:
        """Difficulty of the tip."""
        return difficulty_of_nbits(self.chain.tip.header.nbits)

    async def getchaintips(self) -> Json:
        """Every branch: the active one, those whose blocks are all good, those that hold a failed block."""
        found: list[Json] = []
        index = self.chain.index
        leaves = {*index.leaves.values(), index.tip}
        for leaf in sorted(leaves, key=lambda node: (-node.height, node.order)):
            fork = index.fork(leaf)
            sound = index.sound(leaf) is leaf
            status = "active" if leaf is index.tip else "valid-fork" if sound else "invalid"
            entry: dict[str, Json] = {"height": leaf.height, "hash": display(leaf.hash)}
            entry |= {"branchlen": leaf.height - fork.height, "status": status}
            found.append(entry)
        return found

    async def getmempoolinfo(self) -> Json:
        """Size of the mempool."""
        entries = self.node.mempool.entries.values()
        fees = sum(entry.fee_sat for entry in entries)
        return {
            "loaded": True,
            "size": len(entries),
            "bytes": sum((entry.tx.weight + 3) // 4 for entry in entries),
            "total_fee": sat_to_btc(fees),
        }

    async def getrawmempool(self, verbose: object = None) -> Json:
        """Waiting transactions."""
        entries = self.node.mempool.entries
        if not want(verbose, bool, default=False):
            return [display(txid) for txid in entries]
        return {
            display(txid): {
                "vsize": (entry.tx.weight + 3) // 4, "weight": entry.tx.weight, "time": entry.arrived_s,
                "wtxid": display(entry.tx.wtxid), "fees": {"base": sat_to_btc(entry.fee_sat)},
            }
            for txid, entry in entries.items()
        }  # fmt: skip

    async def getrawtransaction(self, txid: object, verbose: object = None, blockhash: object = None) -> Json:
        """A transaction of the mempool or of the active chain (or of the named block)."""
        wanted = want_hash(txid, "parameter 1")
        level = int(verbose) if isinstance(verbose, bool) else want(verbose, int, default=0)
        entry = self.node.mempool.entries.get(wanted)
        where = want_hash(blockhash, "parameter 3") if blockhash is not None else self.chain.store.block_of_tx(wanted)
        node = self.chain.index.nodes.get(where) if where is not None else None
        tx = entry.tx if entry is not None and blockhash is None else None
        if tx is None and node is not None:
            tx = next((tx for tx in self.chain.block(node).txs if tx.txid == wanted), None)
        if tx is None:
            raise RpcFault(
                INVALID_ADDRESS_OR_KEY,
                "No such mempool or blockchain transaction. Use gettransaction for wallet transactions.",
            )
        if level <= 0:
            return tx.raw.hex()
        shape = shapes.tx_json(tx)
        if node is not None:
            shape["blockhash"] = display(node.hash)
            shape["confirmations"] = self.confirmations(node)
            shape["time"] = shape["blocktime"] = node.header.time_s
        return shape

    async def gettxout(self, txid: object, n: object, include_mempool: object = None) -> Json:
        """An unspent output, or null."""
        wanted = want_hash(txid, "txid")
        outpoint = wanted + (want(n, int) & 0xFFFFFFFF).to_bytes(4, "little")
        coin = (
            self.node.mempool.find(outpoint)
            if want(include_mempool, bool, default=True)
            else self.chain.store.coin(outpoint)
        )
        if coin is None:
            return None
        unconfirmed = wanted in self.node.mempool.entries
        return {
            "bestblock": display(self.chain.tip.hash),
            "confirmations": 0 if unconfirmed else self.chain.tip.height - coin.height + 1,
            "value": sat_to_btc(coin.value_sat),
            "scriptPubKey": shapes.script_json(coin.script),
            "coinbase": coin.coinbase,
        }

    async def gettxoutsetinfo(self) -> Json:
        """Count and value of all unspent outputs, minted ones included."""
        count, total_sat = self.chain.store.totals()
        tip = self.chain.tip
        shape: dict[str, Json] = {"height": tip.height, "bestblock": display(tip.hash), "txouts": count}
        shape["total_amount"] = sat_to_btc(total_sat)
        return shape

    async def sendrawtransaction(self, hexstring: object, maxfeerate: object = None) -> Json:
        """Put a transaction into the mempool. Inputs, amounts and maturity are checked; signatures are not."""
        del maxfeerate
        failure = "TX decode failed. Make sure the tx has at least one input."
        try:
            tx = parse_tx(want_hex(hexstring, failure))
            self.node.mempool.accept(tx)
        except WireError:
            raise RpcFault(DESERIALIZATION_ERROR, failure) from None
        except RejectError as error:
            raise RpcFault(VERIFY_REJECTED, error.reason) from None
        self.node.wake()
        return display(tx.txid)

    async def validateaddress(self, address: object) -> Json:
        """Whether this is an address of the development networks."""
        text = want(address, str)
        try:
            script = addresses.script_of(text)
        except addresses.AddressError as error:
            return {"isvalid": False, "error_locations": [], "error": str(error)}
        kind = addresses.kind_of(script)
        shape: dict[str, Json] = {"isvalid": True, "address": text, "scriptPubKey": script.hex()}
        shape["isscript"] = kind in ("scripthash", "witness_v0_scripthash")
        shape["iswitness"] = kind.startswith("witness")
        if kind.startswith("witness"):
            shape["witness_version"] = script[0] - 0x50 if script[0] else 0
            shape["witness_program"] = script[2:].hex()
        return shape
