"""Whether a block is good: the checks that need no coins, in Bitcoin Core's order and with its words."""

from __future__ import annotations

from collections.abc import Sequence

from pool.dev.devchain.rules import (
    MAX_BLOCK_SIGOPS_COST,
    MAX_BLOCK_WEIGHT,
    MAX_FUTURE_S,
    MAX_MONEY_SAT,
    Network,
    RejectError,
    target_of_nbits,
)
from pool.dev.devchain.scripts import commitment_index, legacy_sigop_cost, push_number
from pool.dev.devchain.wire import NULL_OUTPOINT, Block, Header, Tx, merkle_root, merkle_root_mutated, sha256d

LOCKTIME_IS_TIME = 500_000_000


def check_pow(header: Header, limit_target: int) -> None:
    """The hash meets the target that the header itself names, and that target is one of this network."""
    try:
        target = target_of_nbits(header.nbits)
    except ValueError as error:
        raise RejectError("high-hash", str(error)) from error
    if target > limit_target or int.from_bytes(header.hash, "little") > target:
        raise RejectError("high-hash", "proof of work failed")


def check_block(block: Block, network: Network, *, pow_too: bool = True) -> None:
    """Everything that holds for a block whatever stands before it."""
    if pow_too:
        check_pow(block.header, network.limit_target)
    check_merkle(block)
    txs = block.txs
    count = len(txs)
    if count == 0 or count * 4 > MAX_BLOCK_WEIGHT or block.stripped_size * 4 > MAX_BLOCK_WEIGHT:
        raise RejectError("bad-blk-length", "size limits failed")
    if not txs[0].is_coinbase:
        raise RejectError("bad-cb-missing", "first tx is not coinbase")
    if any(tx.is_coinbase for tx in txs[1:]):
        raise RejectError("bad-cb-multiple", "more than one coinbase")
    for tx in txs:
        check_tx(tx)
    if sum(legacy_sigop_cost(tx) for tx in txs) > MAX_BLOCK_SIGOPS_COST:
        raise RejectError("bad-blk-sigops", "out-of-bounds SigOpCount")


def check_merkle(block: Block) -> None:
    """The header commits to exactly these transactions."""
    root, mutated = merkle_root_mutated([tx.txid for tx in block.txs])
    if root != block.header.merkle:
        raise RejectError("bad-txnmrklroot", "hashMerkleRoot mismatch", mutated=True)
    if mutated:
        raise RejectError("bad-txns-duplicate", "duplicate transaction", mutated=True)


def check_tx(tx: Tx) -> None:
    """Rules of one transaction that need no context (one without inputs is not even read: `wire.read_tx`)."""
    if not tx.vout:
        raise RejectError("bad-txns-vout-empty")
    if tx.stripped_size * 4 > MAX_BLOCK_WEIGHT:
        raise RejectError("bad-txns-oversize")
    total = 0
    for out in tx.vout:
        if out.value_sat < 0:
            raise RejectError("bad-txns-vout-negative")
        if out.value_sat > MAX_MONEY_SAT:
            raise RejectError("bad-txns-vout-toolarge")
        total += out.value_sat
    if total > MAX_MONEY_SAT:
        raise RejectError("bad-txns-txouttotal-toolarge")
    if len({txin.outpoint for txin in tx.vin}) != len(tx.vin):
        raise RejectError("bad-txns-inputs-duplicate")
    if tx.is_coinbase:
        if not 2 <= len(tx.vin[0].script) <= 100:
            raise RejectError("bad-cb-length", f"{len(tx.vin[0].script)} bytes")
    elif any(txin.outpoint == NULL_OUTPOINT for txin in tx.vin):
        raise RejectError("bad-txns-prevout-null")


def check_header_in_context(header: Header, *, median_time_s: int, now_s: int, allowed_nbits: Sequence[int]) -> None:
    """nBits, timestamp and version against the blocks before; `allowed_nbits` are those open for a block on this
    parent."""
    if header.nbits not in allowed_nbits:
        wanted = "/".join(f"{nbits:08x}" for nbits in allowed_nbits)
        raise RejectError("bad-diffbits", f"incorrect proof of work: {header.nbits:08x}, not {wanted}")
    if header.time_s <= median_time_s:
        raise RejectError("time-too-old", "block's timestamp is too early")
    if header.time_s > now_s + MAX_FUTURE_S:
        raise RejectError("time-too-new", "block timestamp too far in the future")
    if header.version < 4:
        raise RejectError(f"bad-version(0x{header.version & 0xFFFFFFFF:08x})", "rejected block version")


def check_block_in_context(block: Block, *, height: int, median_time_s: int) -> None:
    """Finality, BIP34, witness commitment and weight of a block at its height."""
    for tx in block.txs:
        if not is_final(tx, height, median_time_s):
            raise RejectError("bad-txns-nonfinal", "non-final transaction")
    coinbase = block.txs[0]
    if not coinbase.vin[0].script.startswith(push_number(height)):
        raise RejectError("bad-cb-height", "block height mismatch in coinbase")
    check_witness(block)
    if block.weight > MAX_BLOCK_WEIGHT:
        raise RejectError("bad-blk-weight", f"weight limit failed: {block.weight}")


def check_witness(block: Block) -> None:
    """BIP141: a commitment is there when any witness is, and it is the right one."""
    coinbase = block.txs[0]
    index = commitment_index(coinbase)
    if index is None:
        if any(tx.witness for tx in block.txs):
            raise RejectError("unexpected-witness", "unexpected witness data found", mutated=True)
        return
    stack = coinbase.witness[0] if coinbase.witness else ()
    if len(stack) != 1 or len(stack[0]) != 32:
        raise RejectError("bad-witness-nonce-size", "invalid witness reserved value size", mutated=True)
    if coinbase.vout[index].script[6:38] != sha256d(witness_root(block.txs) + stack[0]):
        raise RejectError("bad-witness-merkle-match", "witness merkle commitment mismatch", mutated=True)


def witness_root(txs: Sequence[Tx]) -> bytes:
    """Merkle root over wtxids, the coinbase's counted as zero (BIP141)."""
    return merkle_root([bytes(32), *(tx.wtxid for tx in txs[1:])])


def is_final(tx: Tx, height: int, median_time_s: int) -> bool:
    """Whether the lock time (BIP113: against the median time past) is over or switched off by the sequences."""
    limit = height if tx.locktime < LOCKTIME_IS_TIME else median_time_s
    return tx.locktime < limit or tx.locktime == 0 or all(txin.sequence == 0xFFFFFFFF for txin in tx.vin)
