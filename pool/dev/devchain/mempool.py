"""Unconfirmed transactions: what waits, in an order a block can hold, and the random ones made on demand."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from pool.dev.devchain.chain import Chain
from pool.dev.devchain.check import check_tx, is_final
from pool.dev.devchain.coins import fee_of, outputs
from pool.dev.devchain.rules import RejectError
from pool.dev.devchain.scripts import sigop_cost
from pool.dev.devchain.store import Coin
from pool.dev.devchain.txgen import Generator, Made
from pool.dev.devchain.wire import Block, Tx


@dataclass(frozen=True, slots=True)
class Entry:
    """One waiting transaction."""

    tx: Tx
    fee_sat: int
    sigop_cost: int
    arrived_s: int


class Mempool:
    """Entries by txid in order of arrival, parents before children; `version` counts every change."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.entries: dict[bytes, Entry] = {}
        self._spenders: dict[bytes, bytes] = {}  # outpoint -> txid
        self._fresh: dict[bytes, Coin] = {}  # outputs of waiting transactions
        self.version = 0
        self._returned: list[Tx] = []
        self._generator: Generator | None = None

    # -- single transactions -------------------------------------------------------------------------------------------

    def find(self, outpoint: bytes) -> Coin | None:
        """A coin that a new transaction could spend now."""
        if outpoint in self._spenders:
            return None
        return self._fresh.get(outpoint) or self._chain.store.coin(outpoint)

    def accept(self, tx: Tx) -> Entry:
        """Check and add one; RejectError with Bitcoin Core's words."""
        if tx.is_coinbase:
            raise RejectError("coinbase")
        if tx.txid in self.entries:
            raise RejectError("txn-already-in-mempool")
        check_tx(tx)
        tip = self._chain.tip
        if not is_final(tx, tip.height + 1, tip.median_time_s()):
            raise RejectError("non-final")
        if any(txin.outpoint in self._spenders for txin in tx.vin):
            raise RejectError("txn-mempool-conflict")
        fee, spent = fee_of(tx, tip.height + 1, self.find, self._chain.network)
        return self._add(tx, fee, spent)

    def _add(self, tx: Tx, fee_sat: int, spent: Iterable[Coin]) -> Entry:
        scripts = {coin.outpoint: coin.script for coin in spent}
        entry = Entry(tx, fee_sat, sigop_cost(tx, scripts.__getitem__), self._chain.now_s())
        self.entries[tx.txid] = entry
        self._spenders.update((txin.outpoint, tx.txid) for txin in tx.vin)
        self._fresh.update((coin.outpoint, coin) for coin in outputs(tx, self._chain.tip.height + 1))
        self.version += 1
        return entry

    def _remove(self, txid: bytes) -> None:
        entry = self.entries.pop(txid)
        for txin in entry.tx.vin:
            self._spenders.pop(txin.outpoint, None)
        for index in range(len(entry.tx.vout)):
            self._fresh.pop(txid + index.to_bytes(4, "little"), None)
        self.version += 1

    def _remove_with_children(self, txid: bytes) -> None:
        stack = [txid]
        while stack:
            current = stack.pop()
            entry = self.entries.get(current)
            if entry is None:
                continue
            for index in range(len(entry.tx.vout)):
                child = self._spenders.get(current + index.to_bytes(4, "little"))
                if child is not None:
                    stack.append(child)
            self._remove(current)

    # -- the chain moves -----------------------------------------------------------------------------------------------

    def connected(self, block: Block) -> None:
        """Drop what a block confirmed and what it made impossible."""
        for tx in block.txs[1:]:
            if tx.txid in self.entries:
                self._remove(tx.txid)
            for txin in tx.vin:
                rival = self._spenders.get(txin.outpoint)
                if rival is not None:
                    self._remove_with_children(rival)

    def disconnected(self, block: Block) -> None:
        """Keep a disconnected block's transactions for `settle`."""
        self._returned[:0] = block.txs[1:]

    def settle(self) -> None:
        """After the tip moved: take back transactions of disconnected blocks, drop what no longer holds (their
        coinbase is gone)."""
        if not self._returned:
            return
        waiting = [*self._returned, *(entry.tx for entry in self.entries.values())]
        self._returned = []
        self.clear()
        for tx in waiting:
            try:
                self.accept(tx)
            except RejectError:
                continue  # confirmed on the new branch, or spends what is not there any more

    def clear(self) -> int:
        """Forget everything; how many there were."""
        count = len(self.entries)
        self.entries.clear()
        self._spenders.clear()
        self._fresh.clear()
        self.version += 1
        return count

    # -- random ones ---------------------------------------------------------------------------------------------------

    def fill(self, count: int, *, seed: int | None = None, segwit_percent: int | None = None) -> int:
        """Make random transactions until `count` wait; how many were made. A seed or percentage starts a new
        generator."""
        if self._generator is None or seed is not None or segwit_percent is not None:
            fresh_seed = secrets.randbits(64) if seed is None else seed
            self._generator = Generator(fresh_seed, 90 if segwit_percent is None else segwit_percent)
        made: list[Made] = []
        spendable: set[bytes] = set()
        for _ in range(max(0, count - len(self.entries))):
            one = self._generator.make(lambda point: point in spendable or self.find(point) is not None)
            spendable.difference_update(txin.outpoint for txin in one.tx.vin)
            spendable.add(one.tx.txid + bytes(4))
            made.append(one)
        self._chain.mint([coin for one in made for coin in one.minted])
        for one in made:
            spent = [self.find(txin.outpoint) for txin in one.tx.vin]
            self._add(one.tx, one.fee_sat, [coin for coin in spent if coin is not None])
        return len(made)
