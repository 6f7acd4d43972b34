"""Random transactions that look like mainnet's: several script types, segwit and not, some spending others of the
same batch."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from pool.dev.devchain.store import Coin
from pool.dev.devchain.wire import Tx, TxIn, TxOut, pack_tx, parse_tx

#: Of the transactions, roughly as on mainnet in 2026: kind and share in percent.
SEGWIT_KINDS = (("p2wpkh", 55), ("p2tr", 33), ("p2wsh", 12))
MAX_CHAIN = 20


@dataclass(frozen=True, slots=True)
class Made:
    """A random transaction, its fee, and the coins minted for it to spend."""

    tx: Tx
    fee_sat: int
    minted: tuple[Coin, ...]


def _script(rng: random.Random, kind: str) -> bytes:
    if kind == "p2pkh":
        return b"\x76\xa9\x14" + rng.randbytes(20) + b"\x88\xac"
    if kind == "p2wpkh":
        return b"\x00\x14" + rng.randbytes(20)
    return (b"\x00\x20" if kind == "p2wsh" else b"\x51\x20") + rng.randbytes(32)


def _signature(rng: random.Random) -> bytes:
    """71 bytes shaped as a DER signature with SIGHASH_ALL; it signs nothing."""
    r, s = (bytes([rng.randrange(1, 0x80)]) + rng.randbytes(31) for _ in range(2))
    return b"\x30\x44\x02\x20" + r + b"\x02\x20" + s + b"\x01"


def _public_key(rng: random.Random) -> bytes:
    return bytes([rng.choice((2, 3))]) + rng.randbytes(32)


def _unlock(rng: random.Random, kind: str) -> tuple[bytes, tuple[bytes, ...]]:
    """(scriptSig, witness stack) of the shape that spends such an output."""
    if kind == "p2pkh":
        signature, key = _signature(rng), _public_key(rng)
        return bytes([len(signature)]) + signature + bytes([len(key)]) + key, ()
    if kind == "p2wpkh":
        return b"", (_signature(rng), _public_key(rng))
    if kind == "p2tr":
        return b"", (rng.randbytes(64),)
    keys = b"".join(b"\x21" + _public_key(rng) for _ in range(3))
    return b"", (b"", _signature(rng), _signature(rng), b"\x52" + keys + b"\x53\xae")


def _kind_of(script: bytes) -> str:
    return {22: "p2wpkh", 25: "p2pkh"}.get(len(script), "p2wsh" if script[:1] == b"\x00" else "p2tr")


class Generator:
    """Makes transactions from a seed: the same seed gives the same bytes."""

    def __init__(self, seed: int, segwit_percent: int = 90) -> None:
        if not 0 <= segwit_percent <= 100:
            raise ValueError(f"segwit_percent {segwit_percent} is not within 0..100")
        self._rng = random.Random(seed)
        self._segwit_percent = segwit_percent
        self._open: list[Coin] = []  # outputs of recent ones, for children
        self._depth: dict[bytes, int] = {}

    def make(self, usable: Callable[[bytes], bool] = lambda outpoint: True) -> Made:
        """One transaction: usually of minted coins, one in eight also of an output of an earlier one that is still
        `usable`."""
        rng = self._rng
        segwit = rng.randrange(100) < self._segwit_percent
        coins, minted = self._coins(segwit, usable)
        total = sum(coin.value_sat for coin in coins)
        parts = [_unlock(rng, _kind_of(coin.script)) for coin in coins]
        vin = [
            TxIn(coin.outpoint, script, rng.choice((0xFFFFFFFD, 0xFFFFFFFE, 0xFFFFFFFF)))
            for coin, (script, _) in zip(coins, parts, strict=True)
        ]
        count = rng.choices((1, 2, 3, 8), (20, 65, 10, 5))[0]
        size = 40 * len(vin) + 34 * count + 110
        fee = min(total // 4, max(200, size * rng.randrange(1, 12)))
        share = (total - fee) // count
        values = [share] * (count - 1) + [total - fee - share * (count - 1)]
        vout = [TxOut(value, _script(rng, self._kind(rng.random() < 0.85))) for value in values]
        tx = parse_tx(pack_tx(2, vin, vout, [stack for _, stack in parts]))
        self._remember(tx, coins)
        return Made(tx, fee, minted)

    def _kind(self, segwit: bool) -> str:
        if not segwit or not self._segwit_percent:
            return "p2pkh"
        return self._rng.choices([name for name, _ in SEGWIT_KINDS], [share for _, share in SEGWIT_KINDS])[0]

    def _coins(self, segwit: bool, usable: Callable[[bytes], bool]) -> tuple[list[Coin], tuple[Coin, ...]]:
        rng = self._rng
        minted = tuple(
            Coin(rng.randbytes(32) + rng.randrange(4).to_bytes(4, "little"), rng.randrange(20_000, 50_000_000),
                 _script(rng, self._kind(segwit)), 0, coinbase=False)
            for _ in range(rng.choices((1, 2, 3, 6), (70, 18, 8, 4))[0])
        )  # fmt: skip
        coins = list(minted)
        if self._open and rng.random() < 0.125:
            coin = self._open.pop(rng.randrange(len(self._open)))
            if usable(coin.outpoint) and (segwit or _kind_of(coin.script) == "p2pkh"):
                coins.append(coin)
        return coins, minted

    def _remember(self, tx: Tx, coins: list[Coin]) -> None:
        depth = 1 + max(self._depth.get(coin.outpoint, 0) for coin in coins)
        for coin in coins:
            self._depth.pop(coin.outpoint, None)
        if depth < MAX_CHAIN and tx.vout[0].value_sat > 20_000:
            outpoint = tx.txid + bytes(4)
            self._open.append(Coin(outpoint, tx.vout[0].value_sat, tx.vout[0].script, 0, coinbase=False))
            self._depth[outpoint] = depth
        if len(self._open) > 64:
            self._depth.pop(self._open.pop(0).outpoint, None)
