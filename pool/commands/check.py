"""`check`: is this machine, its node and its configuration ready to mine? A table of pass, warn and fail with a hint
each."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import resource
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pool.commands.common import add_config_argument, config_path, load_config
from pool.config import Config, ConfigError, NodeSection, fee_in_words

if TYPE_CHECKING:
    from pool.chain.node import Node
    from pool.chain.types import Network, Template

HELP = "check configuration, nodes, ports, clock, disk and limits before mining"

#: A node that does not answer within this time is told as such, whatever its own time-out.
PATIENCE_S = 10.0
CLOCK_WARN_S, CLOCK_FAIL_S = 10, 300
GIB = 1 << 30
DISK_WARN_BYTES = 5 * GIB
DISK_SPARE_BYTES = GIB // 4
#: What Bitcoin Core keeps free for the coinbase unless told: 4,000 weight units, 8,000 since version 29.
CORE_RESERVE_WEIGHT = 4000
TEMPLATE_FULL_WEIGHT = 200_000  # a template with less room than this is called full
#: Everything in a coinbase but its outputs, in bytes (input with a full scriptSig, counts, version, locktime).
COINBASE_FIXED_BYTES = 4 + 1 + 36 + 1 + 100 + 4 + 3 + 4
POOL_OUTPUT_BYTES, COMMITMENT_BYTES, PROOF_BYTES = 43, 47, 47


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    verdict: str  # "pass" | "warn" | "fail"
    words: str
    hint: str = ""  # what to do; empty when it passed


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")


def run(args: argparse.Namespace) -> int:
    """Exit code: 0 when nothing failed (warnings may stand), 1 otherwise."""
    rows = list(rows_of(args))
    failed = any(row.verdict == "fail" for row in rows)
    if args.json:
        print(json.dumps({"ok": not failed, "checks": [dataclasses.asdict(row) for row in rows]}, indent=1))
    else:
        print_table(rows)
    return 1 if failed else 0


def rows_of(args: argparse.Namespace) -> Iterator[Row]:
    """Every check there is, in the order of a start."""
    where = config_path(args) or "no file: defaults and environment"
    try:
        config = load_config(args)
    except ConfigError as error:
        for mistake in error.mistakes:
            yield Row("configuration", "fail", str(mistake), f"correct it ({where})")
        return
    yield Row("configuration", "pass", str(where))
    yield Row("fee", "pass", fee_in_words(config.fees, "en"))
    yield from asyncio.run(_gathered(check_nodes(config)))
    yield from check_ports(config)
    yield from check_share_log(config)
    yield check_file_limit(config)


def print_table(rows: list[Row]) -> None:
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.verdict.upper():4}  {row.name:{width}}  {row.words}")
        if row.hint and row.verdict != "pass":
            print(f"      {'':{width}}  -> {row.hint}")
    count = {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("pass", "warn", "fail")}
    print(f"\n{count['pass']} passed, {count['warn']} warnings, {count['fail']} failed")


async def _gathered(rows: AsyncIterator[Row]) -> list[Row]:
    return [row async for row in rows]


# --- nodes


async def check_nodes(config: Config) -> AsyncIterator[Row]:
    """Each configured node: reached, on the right chain, synced, with a template that can be mined, its clock, its
    ZMQ."""
    from pool.chain.node import Nodes
    from pool.chain.rpc import NodeAddress
    from pool.chain.types import NETWORKS

    if config.pool.network == "dev" and not config.node:
        yield Row("node", "pass", "embedded development chain: starts with the pool, its coins are worth nothing")
        return
    network = NETWORKS["regtest" if config.pool.network == "dev" else config.pool.network]
    for number, section in enumerate(config.node, 1):
        title = f"node {number}" if len(config.node) > 1 else "node"
        address = dataclasses.replace(NodeAddress.from_config(section), timeout_s=min(section.timeout_s, PATIENCE_S))
        async with Nodes([address], network) as nodes:
            async for row in check_node(title, nodes.nodes[0], network, config):
                yield row
        if section.zmq_hashblock:
            yield await check_zmq(title, section)


async def check_node(title: str, node: Node, network: Network, config: Config) -> AsyncIterator[Row]:
    from pool.chain.types import NodeError, NodeMisconfigured

    try:
        info = await node.chain_info()
    except NodeMisconfigured as error:
        yield Row(title, "fail", str(error), "see [[node]] in the configuration, and the node's own")
        return
    except NodeError as error:
        yield Row(title, "fail", str(error), "is it running, and is [[node]] url right?")
        return
    yield Row(title, "pass", f"{node.name} answers: chain {info.chain}, block {info.blocks}")
    if info.chain not in network.rpc_names:
        words = f"the node is on {info.chain}, the pool on {network.name}"
        yield Row(f"{title} chain", "fail", words, "set [pool] network, or point [[node]] at another node")
        return
    try:
        yield await check_sync(title, node, network)
        template = await node.block_template()
    except (NodeError, ValueError) as error:  # TemplateError is a ValueError
        hint = "a node gives templates once it is synced and has peers; a rule it names needs a newer pool"
        yield Row(f"{title} template", "fail", str(error), hint)
        return
    count = template.transactions.count
    yield Row(f"{title} template", "pass", f"height {template.height}, {count} transactions")
    yield check_weight(title, template, config)
    yield check_clock(title, template)


async def check_sync(title: str, node: Node, network: Network) -> Row:
    """Not downloading, not behind what it knows of, and not alone."""
    from pool.chain.rpc import NoSuchMethod
    from pool.chain.watch import alone, lag

    name, info, peers = f"{title} sync", await node.chain_info(), None
    with contextlib.suppress(NoSuchMethod):
        peers = await node.peers()
    if info.ibd and not alone(network):
        words = f"initial block download: {info.blocks} of {info.headers} blocks"
        return Row(name, "fail", words, "wait until the node has the whole chain")
    if behind := lag(info, peers):
        words = f"{behind} ({info.blocks} blocks, {info.headers} headers)"
        return Row(name, "fail", words, "wait; if it stays, look at the node's log")
    if peers is not None and peers.count == 0 and not alone(network):
        return Row(name, "fail", "the node has no peers: a block could not leave it", "check its network connection")
    return Row(name, "pass", f"synced at block {info.blocks}" + (f", {peers.count} peers" if peers else ""))


def coinbase_weight(config: Config) -> int:
    """The heaviest coinbase this configuration can make."""
    outputs = POOL_OUTPUT_BYTES + COMMITMENT_BYTES + PROOF_BYTES
    if config.coinbase.mode == "direct":
        outputs += config.coinbase.direct_max_bytes
    return 4 * (COINBASE_FIXED_BYTES + outputs) + 36


def check_weight(title: str, template: Template, config: Config) -> Row:
    """Whether the node leaves our coinbase enough of the block. Seen for certain only when its template is full."""
    from pool.chain.coinbase import coinbase_weight_left

    name, left, needed = f"{title} weight reserve", coinbase_weight_left(template), coinbase_weight(config)
    setting = f"set blockreservedweight={-(-needed // 1000) * 1000} in the node (before version 29: blockmaxweight)"
    words = f"the template leaves {left} weight units, our coinbase needs at most {needed}"
    if left < needed:
        return Row(name, "fail", words, setting)
    if left > TEMPLATE_FULL_WEIGHT and needed > CORE_RESERVE_WEIGHT:
        return Row(name, "warn", f"{words}; it is not full, so what the node reserves cannot be seen", setting)
    return Row(name, "pass", words)


def check_clock(title: str, template: Template) -> Row:
    """Our clock against the node's: shares' times are judged by the node's, receipts carry ours."""
    name = f"{title} clock"
    if template.curtime_s <= template.mintime_s:
        # Blocks in quick succession (regtest) push the time of the next beyond any clock: nothing is learned.
        return Row(name, "pass", "not comparable: the chain's own time is ahead of the node's clock")
    off_s = round(template.received_at_ns / 1e9 - template.curtime_s)
    words = f"ours is {abs(off_s)} s {'ahead of' if off_s >= 0 else 'behind'} the node's"
    verdict = "fail" if abs(off_s) > CLOCK_FAIL_S else "warn" if abs(off_s) > CLOCK_WARN_S else "pass"
    return Row(name, verdict, words, "run an NTP client on both machines")


async def check_zmq(title: str, section: NodeSection) -> Row:
    """Somebody listens there; whether it publishes hashblock shows with the next block only."""
    name, parts = f"{title} ZMQ", urlsplit(section.zmq_hashblock)
    if parts.scheme != "tcp":
        return Row(name, "pass", f"{section.zmq_hashblock} (not tried)")
    try:
        async with asyncio.timeout(2.0):
            _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except (OSError, TimeoutError) as error:
        words = f"{section.zmq_hashblock} cannot be reached: {error or 'no answer'}"
        return Row(
            name, "warn", words, f"start the node with zmqpubhashblock={section.zmq_hashblock}; polling works too"
        )
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return Row(name, "pass", f"{section.zmq_hashblock} listens")


# --- this machine


def check_ports(config: Config) -> Iterator[Row]:
    """Every port that miners will use can be bound."""
    from pool.stratum.sockets import listen

    stratum = config.stratum
    ports = {
        "stratum port": stratum.port,
        "high difficulty port": stratum.high_difficulty_port,
        "nerdminer port": stratum.nerdminer_port,
        "TLS port": stratum.tls_port,
    }
    running = pool_is_running(config.sharelog.directory)
    for name, port in ports.items():
        if port == 0:
            continue
        where = f"{stratum.host}:{port}"
        try:
            listen(stratum.host, port, 1).close()
        except (OSError, socket.gaierror) as error:
            yield _unbound(name, where, error, running)
        else:
            yield Row(name, "pass", f"{where} is free")


def _unbound(name: str, where: str, error: OSError, running: bool) -> Row:
    if error.errno == errno.EADDRINUSE and running:
        return Row(name, "warn", f"{where} is in use", "by the pool itself, it seems: one is running on this share log")
    hints = {
        errno.EADDRINUSE: "another program has it (a pool that runs already?): stop it, or choose another port",
        errno.EACCES: "ports below 1024 need a privilege: choose a higher one",
        errno.EADDRNOTAVAIL: "[stratum] host is no address of this machine",
    }
    return Row(name, "fail", f"{where} cannot be bound: {error.strerror}", hints.get(error.errno or 0, "see [stratum]"))


def pool_is_running(directory: Path) -> bool:
    """Whether some process writes this share log."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def check_share_log(config: Config) -> Iterator[Row]:
    """Its folder can be written, and the disk has room for more than the next segments."""
    directory = config.sharelog.directory
    folder = next(parent for parent in (directory, *directory.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        hint = "give the user that runs the pool the right to write there, or set [sharelog] directory"
        yield Row("share log", "fail", f"{folder} cannot be written: {error.strerror or error}", hint)
        return
    made = "" if folder == directory else " (made at the start)"
    yield Row("share log", "pass", f"{directory} can be written{made}")
    free, least = shutil.disk_usage(folder).free, 2 * (config.sharelog.segment_mib << 20) + DISK_SPARE_BYTES
    words = f"{free / GIB:.1f} GiB free"
    hint = "128 bytes a share: a device at 12 shares a minute fills 0.8 GiB in a year, the database a part of that"
    verdict = "fail" if free < least else "warn" if free < DISK_WARN_BYTES else "pass"
    yield Row("disk", verdict, words, hint)


def check_file_limit(config: Config) -> Row:
    """The pool raises its soft limit to the hard one: that must hold all connections."""
    from pool.stratum.sockets import SPARE_FILES

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = config.stratum.max_connections + SPARE_FILES
    if hard == resource.RLIM_INFINITY or hard >= needed:
        return Row("open files", "pass", f"{needed} needed, {hard if hard > 0 else 'any number'} allowed")
    words = f"{needed} needed for [stratum] max_connections, {hard} allowed"
    verdict = "fail" if hard < 2 * SPARE_FILES else "warn"
    return Row(
        "open files", verdict, words, f"LimitNOFILE={needed} in systemd, or ulimit -Hn; or fewer max_connections"
    )
