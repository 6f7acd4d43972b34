"""Spending: the checks that need coins, and how a block changes the set of unspent outputs, forth and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pool.dev.devchain.rules import MAX_BLOCK_SIGOPS_COST, Network, RejectError
from pool.dev.devchain.scripts import sigop_cost
from pool.dev.devchain.store import Coin, Store
from pool.dev.devchain.wire import Block, Tx

OP_RETURN = 0x6A


@dataclass(frozen=True, slots=True)
class Change:
    """What connecting a block does: outputs of the set it spends, outputs it leaves, and its fees."""

    spent: list[Coin]
    created: list[Coin]
    fees_sat: int


def outputs(tx: Tx, height: int) -> list[Coin]:
    """The spendable outputs of a transaction as coins."""
    return [
        Coin(tx.txid + index.to_bytes(4, "little"), out.value_sat, out.script, height, tx.is_coinbase)
        for index, out in enumerate(tx.vout)
        if not out.script.startswith(bytes([OP_RETURN]))
    ]


def fee_of(tx: Tx, height: int, find: Callable[[bytes], Coin | None], network: Network) -> tuple[int, list[Coin]]:
    """Fee in sat and the coins spent by a transaction in a block at `height`; RejectError as Bitcoin Core's
    CheckTxInputs."""
    spent = []
    for txin in tx.vin:
        coin = find(txin.outpoint)
        if coin is None:
            raise RejectError("bad-txns-inputs-missingorspent", f"input {txin.outpoint.hex()} of {tx.txid[::-1].hex()}")
        if coin.coinbase and height - coin.height < network.maturity_blocks:
            raise RejectError("bad-txns-premature-spend-of-coinbase", f"coinbase is {height - coin.height} blocks deep")
        spent.append(coin)
    fee = sum(coin.value_sat for coin in spent) - sum(out.value_sat for out in tx.vout)
    if fee < 0:
        raise RejectError("bad-txns-in-belowout", f"{-fee} sat more out than in")
    return fee, spent


def plan(block: Block, height: int, store: Store, network: Network) -> Change:
    """Check every spend of a block against the store; nothing is written. RejectError names the broken rule."""
    fresh: dict[bytes, Coin] = {}
    spent: dict[bytes, Coin] = {}
    fees = 0
    cost = 0

    def find(outpoint: bytes) -> Coin | None:
        if outpoint in spent:
            return None
        return fresh.get(outpoint) or store.coin(outpoint)

    for tx in block.txs:
        used: list[Coin] = []
        if not tx.is_coinbase:
            fee, used = fee_of(tx, height, find, network)
            fees += fee
            spent.update((coin.outpoint, coin) for coin in used)
        scripts = {coin.outpoint: coin.script for coin in used}
        cost += sigop_cost(tx, scripts.__getitem__)
        made = outputs(tx, height)
        # only coinbases can repeat: any other transaction would have to spend the same coins twice
        if tx.is_coinbase and any(store.coin(coin.outpoint) is not None for coin in made):
            raise RejectError("bad-txns-BIP30", "tried to overwrite transaction")
        fresh.update((coin.outpoint, coin) for coin in made)
    if cost > MAX_BLOCK_SIGOPS_COST:
        raise RejectError("bad-blk-sigops", "too many sigops")
    paid = sum(out.value_sat for out in block.txs[0].vout)
    if paid > network.subsidy_sat(height) + fees:
        raise RejectError(
            "bad-cb-amount", f"coinbase pays too much ({paid} vs limit {network.subsidy_sat(height) + fees})"
        )
    return _net(spent, fresh, fees)


def _net(spent: Mapping[bytes, Coin], fresh: Mapping[bytes, Coin], fees_sat: int) -> Change:
    """Leave out what the block both creates and spends."""
    return Change(
        [coin for outpoint, coin in spent.items() if outpoint not in fresh],
        [coin for outpoint, coin in fresh.items() if outpoint not in spent],
        fees_sat,
    )


def connect(block: Block, change: Change, store: Store) -> None:
    """Write what `plan` found."""
    store.remove_coins(coin.outpoint for coin in change.spent)
    store.add_coins(change.created)
    store.set_undo(block.hash, change.spent)
    store.index_txs((tx.txid for tx in block.txs), block.hash)


def disconnect(block: Block, height: int, store: Store) -> None:
    """Take a block's changes back."""
    made: Sequence[Coin] = [coin for tx in block.txs for coin in outputs(tx, height)]
    store.remove_coins(coin.outpoint for coin in made)
    store.add_coins(store.undo(block.hash))
    store.unindex_txs(tx.txid for tx in block.txs)
