"""JSON shapes of headers, blocks and transactions as Bitcoin Core writes them."""

from __future__ import annotations

from pool.dev.devchain import addresses
from pool.dev.devchain.chain import Chain
from pool.dev.devchain.index import Node
from pool.dev.devchain.rpcbase import sat_to_btc
from pool.dev.devchain.rules import difficulty_of_nbits, target_of_nbits
from pool.dev.devchain.template import Json
from pool.dev.devchain.wire import Block, Tx, display


def header_json(chain: Chain, node: Node, confirmations: int) -> dict[str, Json]:
    """`getblockheader`, verbose."""
    header = node.header
    shape: dict[str, Json] = {
        "hash": display(node.hash),
        "confirmations": confirmations,
        "height": node.height,
        "version": header.version,
        "versionHex": f"{header.version & 0xFFFFFFFF:08x}",
        "merkleroot": display(header.merkle),
        "time": header.time_s,
        "mediantime": node.median_time_s(),
        "nonce": header.nonce,
        "bits": f"{header.nbits:08x}",
        "target": f"{target_of_nbits(header.nbits):064x}",
        "difficulty": difficulty_of_nbits(header.nbits),
        "chainwork": f"{node.work:064x}",
        "nTx": node.tx_count,
    }
    if node.parent is not None:
        shape["previousblockhash"] = display(node.parent.hash)
    if confirmations > 1:
        shape["nextblockhash"] = display(chain.index.active[node.height + 1].hash)
    return shape


def block_json(chain: Chain, node: Node, block: Block, confirmations: int, *, full: bool) -> dict[str, Json]:
    """`getblock` with verbosity 1, or 2 when `full`."""
    shape = header_json(chain, node, confirmations)
    shape["strippedsize"] = block.stripped_size
    shape["size"] = len(block.raw)
    shape["weight"] = block.weight
    shape["coinbase_tx"] = _coinbase_json(block.txs[0])
    shape["tx"] = [tx_json(tx) if full else display(tx.txid) for tx in block.txs]
    return shape


def _coinbase_json(tx: Tx) -> dict[str, Json]:
    shape: dict[str, Json] = {
        "version": tx.version,
        "locktime": tx.locktime,
        "sequence": tx.vin[0].sequence,
        "coinbase": tx.vin[0].script.hex(),
    }
    if tx.witness:
        shape["witness"] = tx.witness[0][0].hex()
    return shape


def script_json(script: bytes) -> dict[str, Json]:
    """`scriptPubKey`."""
    shape: dict[str, Json] = {"hex": script.hex(), "type": addresses.kind_of(script)}
    address = addresses.address_of(script)
    if address is not None:
        shape["address"] = address
    return shape


def tx_json(tx: Tx) -> dict[str, Json]:
    """A decoded transaction."""
    vin: list[Json] = []
    for index, txin in enumerate(tx.vin):
        entry: dict[str, Json] = {"sequence": txin.sequence}
        if tx.is_coinbase:
            entry["coinbase"] = txin.script.hex()
        else:
            entry["txid"] = display(txin.outpoint[:32])
            entry["vout"] = int.from_bytes(txin.outpoint[32:], "little")
            entry["scriptSig"] = {"hex": txin.script.hex()}
        if tx.witness and tx.witness[index]:
            entry["txinwitness"] = [item.hex() for item in tx.witness[index]]
        vin.append(entry)
    vout: list[Json] = [
        {"value": sat_to_btc(out.value_sat), "n": n, "scriptPubKey": script_json(out.script)}
        for n, out in enumerate(tx.vout)
    ]
    return {
        "txid": display(tx.txid),
        "hash": display(tx.wtxid),
        "version": tx.version,
        "size": tx.size,
        "vsize": (tx.weight + 3) // 4,
        "weight": tx.weight,
        "locktime": tx.locktime,
        "vin": vin,
        "vout": vout,
        "hex": tx.raw.hex(),
    }
