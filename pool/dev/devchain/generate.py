"""Blocks made by the node itself: `generatetoaddress`, `dev_reorg` and the tests mine here, in plain Python (about 1
MH/s)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

from pool.dev.devchain.chain import Chain
from pool.dev.devchain.index import Node
from pool.dev.devchain.rules import LABEL, target_of_nbits
from pool.dev.devchain.scripts import commitment_script, push_number
from pool.dev.devchain.wire import (
    NULL_OUTPOINT,
    Tx,
    TxIn,
    TxOut,
    merkle_root,
    pack_block,
    pack_header,
    pack_tx,
    parse_tx,
    var_bytes,
)

SLICE = 20_000
_NONCES = 1 << 32


def coinbase(height: int, value_sat: int, script: bytes, commitment: bytes | None, extra: bytes) -> bytes:
    """A coinbase: BIP34 height, our label and `extra` (what makes it unique), one paid output, the commitment if
    there is one."""
    words = push_number(height) + var_bytes(LABEL.encode()) + var_bytes(extra)
    outs = [TxOut(value_sat, script)]
    if commitment is not None:
        outs.append(TxOut(0, commitment))
    # BIP54: lock time height - 1 and a sequence that keeps it in force
    return pack_tx(2, [TxIn(NULL_OUTPOINT, words, 0xFFFFFFFE)], outs, [[bytes(32)]] if commitment else [], height - 1)


async def solve(header: bytes, target: int, tries: int) -> tuple[bytes | None, int]:
    """Search nonces, giving way to the event loop between slices; the solved header or None, and the tries left."""
    first, tail = hashlib.sha256(header[:64]), header[64:76]
    limit = target.to_bytes(32, "big")
    for start in range(0, min(tries, _NONCES), SLICE):
        for nonce in range(start, min(start + SLICE, tries, _NONCES)):
            inner = first.copy()
            inner.update(tail + nonce.to_bytes(4, "little"))
            if hashlib.sha256(inner.digest()).digest()[::-1] <= limit:
                return header[:76] + nonce.to_bytes(4, "little"), tries - (nonce - start) - start - 1
        await asyncio.sleep(0)
    return None, 0


async def make_block(
    chain: Chain, parent: Node, script: bytes, txs: Sequence[Tx], fees_sat: int, *, tries: int, extra: bytes
) -> tuple[bytes | None, int]:
    """A solved block on `parent` holding `txs`, or None when `tries` ran out; and the tries left."""
    height = parent.height + 1
    commitment = commitment_script(merkle_root([bytes(32), *(tx.wtxid for tx in txs)]))
    reward = parse_tx(coinbase(height, chain.network.subsidy_sat(height) + fees_sat, script, commitment, extra))
    root = merkle_root([reward.txid, *(tx.txid for tx in txs)])
    time_s = max(parent.median_time_s() + 1, chain.now_s())
    nbits = chain.allowed_nbits(parent)[-1]
    header = pack_header(0x20000000, parent.hash, root, time_s, nbits, 0)
    solved, left = await solve(header, target_of_nbits(nbits), tries)
    return (None if solved is None else pack_block(solved, [reward.raw, *(tx.raw for tx in txs)])), left
