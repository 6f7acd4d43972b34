"""Block templates (BIP22, BIP23, BIP145): what the next block should hold, as `getblocktemplate` says it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TypeAlias

from pool.dev.devchain.chain import Chain
from pool.dev.devchain.index import Node
from pool.dev.devchain.mempool import Entry, Mempool
from pool.dev.devchain.rules import (
    LABEL,
    MAX_BLOCK_SIGOPS_COST,
    MAX_BLOCK_WEIGHT,
    RESERVED_WEIGHT,
    WARNING,
    target_of_nbits,
)
from pool.dev.devchain.scripts import commitment_script
from pool.dev.devchain.wire import display, merkle_root

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
VERSION_TOP = 0x20000000
RESERVED_SIGOPS = 400
STEPS = 1000  # long-poll numbers are mempool version * STEPS + difficulty step


@dataclass(slots=True)
class Overrides:
    """What `dev_template` changes in every template, so that clients' caution can be tested."""

    version: int = VERSION_TOP
    vbrequired: int = 0
    extra_rules: list[str] = field(default_factory=list)
    vbavailable: dict[str, int] = field(default_factory=dict)
    coinbase_aux: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Selection:
    """Transactions chosen for one tip and mempool state, with everything that follows from them."""

    tip: bytes
    version: int
    entries: tuple[Entry, ...]
    fees_sat: int
    commitment: bytes
    json: str


class Templates:
    """Makes templates; the transaction part is made once per tip and mempool state."""

    def __init__(self, chain: Chain, mempool: Mempool) -> None:
        self._chain = chain
        self._mempool = mempool
        self._selection: Selection | None = None
        self.overrides = Overrides()

    def select(self) -> Selection:
        """Transactions in arrival order (parents first) within weight and sigops; a child of one left out is left out
        too."""
        tip, version = self._chain.tip.hash, self._mempool.version
        kept = self._selection
        if kept is not None and kept.tip == tip and kept.version == version:
            return kept
        weight, cost = RESERVED_WEIGHT, RESERVED_SIGOPS
        chosen: dict[bytes, Entry] = {}
        left_out: set[bytes] = set()
        for txid, entry in self._mempool.entries.items():
            fits = weight + entry.tx.weight <= MAX_BLOCK_WEIGHT and cost + entry.sigop_cost <= MAX_BLOCK_SIGOPS_COST
            if not fits or any(txin.outpoint[:32] in left_out for txin in entry.tx.vin):
                left_out.add(txid)
                continue
            chosen[txid] = entry
            weight += entry.tx.weight
            cost += entry.sigop_cost
        entries = tuple(chosen.values())
        commitment = commitment_script(merkle_root([bytes(32), *(entry.tx.wtxid for entry in entries)]))
        text = json.dumps(_transactions(entries), separators=(",", ":"))
        self._selection = Selection(tip, version, entries, sum(e.fee_sat for e in entries), commitment, text)
        return self._selection

    def long_poll_id(self) -> str:
        """Names tip, mempool state and difficulty step of the newest template; as Bitcoin Core's, a tip hash and a
        number."""
        return f"{display(self._chain.tip.hash)}{self._mempool.version * STEPS + self._chain.step(self._chain.tip)}"

    def text(self) -> str:
        """The template as JSON text: 3,000 transactions are encoded once, not per caller."""
        selection = self.select()
        head = json.dumps(self._fields(selection), separators=(",", ":"))
        return f'{{"transactions":{selection.json},{head[1:]}'

    def _fields(self, selection: Selection) -> dict[str, Json]:
        chain, tip, over = self._chain, self._chain.tip, self.overrides
        nbits = chain.allowed_nbits(tip)[-1]
        mintime = tip.median_time_s() + 1
        return {
            "capabilities": ["proposal"],
            "version": over.version,
            "rules": ["csv", "!segwit", "taproot", *over.extra_rules],
            "vbavailable": dict(over.vbavailable),
            "vbrequired": over.vbrequired,
            "previousblockhash": display(tip.hash),
            "coinbaseaux": dict(over.coinbase_aux),
            "coinbasevalue": chain.network.subsidy_sat(tip.height + 1) + selection.fees_sat,
            "longpollid": self.long_poll_id(),
            "target": f"{target_of_nbits(nbits):064x}",
            "mintime": mintime,
            "mutable": ["time", "transactions", "prevblock"],
            "noncerange": "00000000ffffffff",
            "sigoplimit": MAX_BLOCK_SIGOPS_COST,
            "sizelimit": MAX_BLOCK_WEIGHT,
            "weightlimit": MAX_BLOCK_WEIGHT,
            "curtime": max(mintime, chain.now_s()),
            "bits": f"{nbits:08x}",
            "height": tip.height + 1,
            "default_witness_commitment": selection.commitment.hex(),
            "devchain": label(chain, tip),
        }


def label(chain: Chain, tip: Node) -> dict[str, Json]:
    """Says what this is, and the rules in which it differs from Bitcoin."""
    network = chain.network
    return {
        "label": LABEL,
        "warning": WARNING,
        "mode": network.mode,
        "subsidy_sat": network.subsidy_sat(tip.height + 1),
        "halving_blocks": network.halving_blocks,
        "maturity_blocks": network.maturity_blocks,
        "spacing_s": network.spacing_ms / 1000,
        "retargets_each_block": network.retargets,
    }


def _transactions(entries: tuple[Entry, ...]) -> list[Json]:
    place = {entry.tx.txid: number for number, entry in enumerate(entries, 1)}
    found: list[Json] = []
    for entry in entries:
        depends: list[Json] = [
            place[txid] for txid in dict.fromkeys(i.outpoint[:32] for i in entry.tx.vin) if txid in place
        ]
        found.append(
            {
                "data": entry.tx.raw.hex(),
                "txid": display(entry.tx.txid),
                "hash": display(entry.tx.wtxid),
                "depends": depends,
                "fee": entry.fee_sat,
                "sigops": entry.sigop_cost,
                "weight": entry.tx.weight,
            }
        )
    return found
