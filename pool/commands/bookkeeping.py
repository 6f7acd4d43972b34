"""How the ledger hangs in the pool: fed by the share log and the chain, answering with what coinbases carry."""

from __future__ import annotations

import logging
import time

from native.sharelog import LogFull, ShareLog
from pool.address import address_of_script
from pool.chain.blocks import BlockReport, BlockState
from pool.chain.paid import outputs_of_block
from pool.chain.types import Network
from pool.config import Config
from pool.keys import Keys
from pool.ledger.income import Coinbase
from pool.ledger.keeper import ChainNews, Keeper, Publisher
from pool.ledger.rewards import SCALE, Policy
from pool.records import BlockFound
from pool.store import Store

log = logging.getLogger(__name__)

_NEWS = {
    BlockState.HELD: "held",
    BlockState.CONFIRMED: "confirmed",
    BlockState.ORPHANED: "orphaned",
    BlockState.MATURE: "mature",
}


def policy_of(config: Config) -> Policy:
    """The configuration's share of the ledger. ValueError when its parts do not go together."""
    fees, ledger = config.fees, config.ledger
    return Policy(
        window=round(ledger.window_blocks * SCALE),
        kappa=round(ledger.kappa_blocks * SCALE),
        fee_bp=fees.fee_bp,
        reserve_bp=fees.reserve_bp,
        projects_bp=fees.projects_bp,
        raffle_bp=fees.raffle_bp,
        finder_bp=ledger.finder_bp,
        weight_subsidy=ledger.weight_subsidy,
        donation_bp=fees.donation_bp,
        release_months=ledger.release_months,
    )


def coinbase_of(found: BlockFound, network: Network, pool_script: bytes) -> Coinbase:
    """What the block's own coinbase paid, read from the block itself. Outputs to addresses count as paid to members
    only where the port's mode pays members (`direct`, `solo`), and never the pool's own output."""
    outputs = outputs_of_block(found.block)
    direct: dict[str, int] = {}
    for script, value_sat in outputs if found.mode != "ledger" else ():
        name = address_of_script(script, network.address_network) if value_sat and script != pool_script else None
        if name is not None:
            direct[name] = direct.get(name, 0) + value_sat
    value_sat = sum(value for _, value in outputs)
    return Coinbase(value_sat, network.subsidy_sat(found.height), direct, solo=found.mode == "solo")


def news_of(report: BlockReport, network: Network, pool_script: bytes) -> ChainNews | None:
    """What a report of the chain side means to the books; None while no node holds the block."""
    state = _NEWS.get(report.state)
    if state is None:
        return None
    return ChainNews(report.hash_hex, state, coinbase_of(report.found, network, pool_script))


def make_keeper(config: Config, store: Store, keys: Keys, share_log: ShareLog, network: Network) -> Keeper:
    """The ledger's clock over this pool's store and share log."""

    def on_policy(version: int, digest: bytes) -> None:
        try:
            share_log.policy(version, digest, time.time_ns())
        except LogFull:
            log.error("the share log is full: no POLICY row for version %d", version)

    publisher = Publisher(keys.secret("proof of liabilities"), config.ledger.proof_every_s)
    return Keeper(
        store,
        config.sharelog.directory,
        network.subsidy_sat,
        policy_of(config),
        on_policy=on_policy,
        publisher=publisher,
        keep_days=config.sharelog.keep_days,
    )
