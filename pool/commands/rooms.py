"""How the rooms of a mining pool hang together: opened in order, each given what it needs as a plain object or
callable.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from native.sharelog import LogFull, ShareLog
from pool.chain.blocks import BlockReport, Blocks, BlockState
from pool.chain.descriptors import pool_scripts
from pool.chain.node import Nodes
from pool.chain.rpc import NodeAddress
from pool.chain.templates import Follower
from pool.chain.types import NETWORKS, Network
from pool.chain.work import Payees, WorkDesk
from pool.commands.bookkeeping import make_keeper, news_of
from pool.commands.found import FoundBlocks
from pool.commands.replay import credited_on
from pool.config import Config, NodeSection
from pool.dev.devchain import DevChain
from pool.dev.fleet.users import dev_users
from pool.keys import Keys
from pool.ledger.keeper import ChainNews, Keeper
from pool.lifecycle import House
from pool.store import Sessions, Store
from pool.stratum import takeover
from pool.stratum.accounts import ANY_NETWORK
from pool.stratum.hub import Hub, make_hub, ports_of
from pool.stratum.resume import REMEMBERED_AT_MOST
from pool.stratum.server import StratumServer

log = logging.getLogger(__name__)

FORGET_SESSIONS_S = 90 * 86_400
NODE_ANSWER_S = 30.0
LET_GO_S = 60.0
PREPARE_S = 1.0
COMPLAIN_S = 60.0


@dataclass(slots=True)
class Pool:
    """The open rooms, as the live line and tests look at them."""

    config: Config
    network: Network
    store: Store
    keys: Keys
    nodes: Nodes
    follower: Follower
    desk: WorkDesk
    blocks: Blocks
    share_log: ShareLog
    hub: Hub
    server: StratumServer
    keeper: Keeper

    def port(self, name: str = "main") -> int:
        return next(one.number for one in self.server.listeners if one.port.name == name)


async def open_pool(house: House, config: Config, *, take_over: bool = False) -> Pool:
    """Keys, store, nodes, share log, found blocks, templates, stratum. Closed in reverse by the house.

    `take_over`: a pool that runs on this data folder hands over its ports and ends; without it that is an OSError.
    """
    keys = Keys.open(config.keys.directory, int(time.time()))
    store = await house.open("store", Store(config.store.url.reveal()))
    network, sections = await _chain(house, config)
    nodes = await house.open("nodes", Nodes([NodeAddress.from_config(one) for one in sections], network))
    # Only the share log and the found blocks' journal are missing now: one process at a time may have them.
    handover_path = config.pool.data_dir / "stratum.sock"
    heir = await _ask_old_process(nodes, handover_path) if take_over else None
    last_step = await house.open("handover", _last_step())
    share_log = await house.open("share log", _share_log(config, heir))
    house.background("share log upkeep", _prepare(share_log))
    keeper = make_keeper(config, store, keys, share_log, network)
    blocks, desk, follower = _work(house, config, nodes, network, keeper, share_log)
    hub = await _hub(house, config, network, desk, share_log, blocks, store)
    _note_tips(house, desk, share_log, config.sharelog.directory)
    server = StratumServer(
        hub,
        ports_of(config.stratum, config.coinbase.mode),
        save_sessions=Sessions(store).save_sessions,
        handover_path=handover_path,
        language=config.pool.language,
    )
    server.inherit(heir)
    last_step.append(server.let_go)
    await house.open("stratum", server)
    house.background("stratum clock", server.run())
    house.background("handover watch", _stop_when_taken_over(house, server))
    house.on_hangup(server.reload_tls)
    _calm_collector()
    return Pool(config, network, store, keys, nodes, follower, desk, blocks, share_log, hub, server, keeper)


def _calm_collector() -> None:
    """What is loaded now stays out of every collection, and full ones become rare: with 10,000 connections they took up
    to a second (p99 of a herd's handshakes 1,057 ms, so 209 ms). Under churn a
    full collection still found 500 to 1,000 cyclic objects, so whether memory stays flat for hours is not shown yet."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 1_000)
    # The store works in threads: at the usual 5 ms a share that comes meanwhile waits that long for the interpreter.
    sys.setswitchinterval(0.0005)


def _work(
    house: House, config: Config, nodes: Nodes, network: Network, keeper: Keeper, share_log: ShareLog
) -> tuple[Blocks, WorkDesk, Follower]:
    """Found blocks, jobs, what follows the node, and the ledger that hears of blocks and answers with proofs."""
    reports = _Reports()
    blocks = Blocks(config.pool.data_dir / "blocks", nodes, network, reports)
    pool_script = payout_script(config, network, blocks)
    payees = Payees(pool_script=pool_script, proof_root=lambda: keeper.carried)
    reports.tell = lambda report: _tell(keeper, news_of(report, network, pool_script()))
    desk = WorkDesk.from_config(network, payees, config.coinbase, config.stratum, boot_s=share_log.epoch)
    follower = Follower(nodes, desk)
    reports.look = follower.look
    house.background("blocks", blocks.run())
    house.background("templates", follower.run())
    house.background("work", desk.run())
    keeper.follow_tip(lambda: desk.jobs.tip)
    house.background("ledger", keeper.run())
    return blocks, desk, follower


async def _hub(
    house: House, config: Config, network: Network, desk: WorkDesk, share_log: ShareLog, blocks: Blocks, store: Store
) -> Hub:
    """What connections share, with the sessions that earlier processes stored."""
    sessions = Sessions(store)
    found = FoundBlocks(share_log, blocks.submit, blocks.knows)
    house.background("late block rows", found.keep())
    hub = make_hub(
        config.stratum,
        config.vardiff,
        ANY_NETWORK if config.pool.network == "dev" and not config.node else network.address_network,
        desk,
        share_log,
        found,
        load_session=sessions.load_session,
    )
    found.names = hub.names
    await sessions.forget_sessions(int(time.time()) - FORGET_SESSIONS_S)
    recent = await sessions.recent_sessions(REMEMBERED_AT_MOST)
    hub.memory.learn(recent, complete=len(recent) < REMEMBERED_AT_MOST)
    return hub


# --- chain


async def _chain(house: House, config: Config) -> tuple[Network, Sequence[NodeSection]]:
    """The network, and the nodes to follow: the configured ones, else the embedded development chain."""
    if config.pool.network != "dev":
        return NETWORKS[config.pool.network], config.node
    if config.node:
        return NETWORKS["regtest"], config.node
    dev = config.dev
    chain = await house.open(
        "development chain",
        DevChain(
            dev.chain_mode,
            config.pool.data_dir / "devchain",
            rpcport=dev.rpc_port,
            zmqport=dev.zmq_port,
            spacing_s=dev.block_interval_s,
        ),
    )
    house.background("development chain's keeper", chain.keep())
    network = NETWORKS["demo" if dev.chain_mode == "demo" else "regtest"]
    node = NodeSection(url=chain.url, cookie_file=chain.cookie_file, zmq_hashblock=chain.zmq)
    return network, (node,)


def payout_script(config: Config, network: Network, blocks: Blocks) -> Callable[[], bytes]:
    """Where the pool's part of a block goes: a fixed address, a fresh one per found block, or on the development chain
    one that nobody has a key to."""
    coinbase = config.coinbase
    address = coinbase.payout_address
    if not address and not coinbase.payout_descriptor:
        address = dev_users(1)[0]
    scripts = pool_scripts(address, coinbase.payout_descriptor, network.address_network)
    return lambda: scripts(blocks.found_ever)


class _Reports:
    """Hears of each change of a found block. When a node took one of ours, the tip is looked at: our miners move on at
    once."""

    def __init__(self) -> None:
        self.look: Callable[[], None] = lambda: None
        self.tell: Callable[[BlockReport], None] = lambda report: None

    def __call__(self, report: BlockReport) -> None:
        self.tell(report)
        if report.state is BlockState.HELD:
            self.look()


def _tell(keeper: Keeper, news: ChainNews | None) -> None:
    if news is not None:
        keeper.tell(news)


# --- share log


@asynccontextmanager
async def _share_log(config: Config, heir: takeover.Inheritance | None) -> AsyncIterator[ShareLog]:
    """The share log, once an old process has let go of it. OSError when another one writes it or the disk refuses."""
    if heir is not None:
        await asyncio.to_thread(heir.wait, LET_GO_S)
    directory = config.sharelog.directory
    directory.mkdir(parents=True, exist_ok=True)
    try:
        share_log = ShareLog(str(directory), segment_bytes=config.sharelog.segment_mib << 20)
    except BlockingIOError:
        words = "is being written by another pool process (`pool serve --take-over` replaces it)"
        raise OSError(f"the share log {directory} {words}") from None
    with share_log:
        yield share_log


async def _prepare(share_log: ShareLog) -> None:
    """Each second: what is new to the disk, and room for what comes. A disk that refuses is told once a minute."""
    told_s = float("-inf")
    while True:
        await asyncio.sleep(PREPARE_S)
        try:
            await asyncio.to_thread(share_log.prepare)
        except OSError as error:
            if time.monotonic() - told_s >= COMPLAIN_S:
                told_s = time.monotonic()
                log.error("the share log cannot be kept: %s; shares are refused when it is full", error)


def _note_tips(house: House, desk: WorkDesk, share_log: ShareLog, directory: Path) -> None:
    """A TIP row whenever the previous block changes; at the first one, what earlier processes credited on it."""
    remembered = False

    def on_work(new_block: bool) -> None:
        nonlocal remembered
        job = desk.job_for("ledger", "") if new_block and not house.stop.is_set() else None
        if job is None:
            return
        if not remembered:
            remembered = True
            count = desk.jobs.seen_load(job.prevhash, credited_on(directory, job.prevhash, share_log.epoch))
            log.info("%d shares of the present block are remembered", count)
        try:
            share_log.tip(job.prevhash, job.height, job.nbits, time.time_ns())
        except LogFull:
            log.error("the share log is full: no TIP row for height %d", job.height)

    desk.listen(on_work)
    on_work(True)


# --- hand-over


async def _ask_old_process(nodes: Nodes, path: Path) -> takeover.Inheritance | None:
    """Take the sockets of the pool that runs here. Not before a node answers: the old one would have gone in vain."""
    await nodes.call("getbestblockhash", patience_s=NODE_ANSWER_S)
    heir = await asyncio.to_thread(takeover.ask, path)
    if heir is None:
        log.info("no pool runs here: nothing to take over")
    else:
        log.info("taking over from the running pool: %s", ", ".join(heir.sockets))
    return heir


@asynccontextmanager
async def _last_step() -> AsyncIterator[list[Callable[[], None]]]:
    """What has to happen after the share log was closed."""
    steps: list[Callable[[], None]] = []
    try:
        yield steps
    finally:
        for step in steps:
            step()


async def _stop_when_taken_over(house: House, server: StratumServer) -> None:
    await server.taken_over.wait()
    house.stop.set()
    await asyncio.Event().wait()  # until the house cancels us: ending by itself would count as a failure
