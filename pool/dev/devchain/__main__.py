"""`python -m pool.dev.devchain`: runs the development chain as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from pool.dev.devchain.guard import Refused, check_datadir, check_ports, check_settings
from pool.dev.devchain.node import DevNode
from pool.dev.devchain.publish import Publisher
from pool.dev.devchain.rules import NETWORKS, WARNING
from pool.dev.devchain.server import IDLE_S, RpcServer

PARENT_POLL_S = 1.0
PASSWORD_VARIABLE = "MMSP_DEVCHAIN_PASSWORD"  # noqa: S105 - the name of a variable


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pool.dev.devchain", description=WARNING)
    parser.add_argument("--mode", choices=sorted(NETWORKS), required=True)
    parser.add_argument("--datadir", type=Path, required=True)
    parser.add_argument("--rpcport", type=int, default=0, help="0: any free port")
    parser.add_argument("--zmqport", type=int, default=0, help="0: any free port")
    parser.add_argument("--rpcuser", help=f"besides the cookie; its password comes from {PASSWORD_VARIABLE}")
    parser.add_argument(
        "--network", default="dev", help="network of the settings it is started beside: real ones are refused"
    )
    parser.add_argument("--spacing", type=float, default=20.0, help="demo: seconds between blocks to aim at")
    parser.add_argument("--mempool", type=int, default=0, help="random transactions to keep waiting")
    parser.add_argument(
        "--ready-file", type=Path, help="written when the chain answers: JSON with url, zmq, cookie, pid"
    )
    parser.add_argument(
        "--with-parent", action="store_true", help="end when standard input closes or the parent process is gone"
    )
    return parser.parse_args(arguments)


def take_lock(datadir: Path) -> int:
    """Keep the data folder for this process; Refused if another one has it."""
    descriptor = os.open(datadir / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Refused(f"{datadir} is in use by another development chain") from None
    return descriptor


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    temporary = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


async def _watch_parent(node: DevNode) -> None:
    """Stop the node when the parent process ends, however it ends."""
    parent = os.getppid()
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()

    def readable() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            closed.set()

    loop.add_reader(0, readable)
    while os.getppid() == parent:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closed.wait(), PARENT_POLL_S)
            break
    node.stop()


async def _until_stopped(node: DevNode, watcher: asyncio.Task[None] | None) -> None:
    """Wait for the stop; whoever watches the parent must not die unnoticed."""
    stopped = asyncio.create_task(node.stopping.wait())
    try:
        await asyncio.wait({stopped, *filter(None, [watcher])}, return_when=asyncio.FIRST_COMPLETED)
        if watcher is not None and watcher.done():
            watcher.result()
    finally:
        stopped.cancel()


async def serve(options: argparse.Namespace) -> None:
    """Open everything, say so in the ready file, and run until told to stop."""
    datadir: Path = options.datadir
    cookie = f"__cookie__:{secrets.token_hex(32)}"
    credentials = dict([cookie.split(":", 1)])
    if options.rpcuser:
        password = os.environ.get(PASSWORD_VARIABLE)
        if not password:
            raise Refused(f"--rpcuser needs a password in the environment variable {PASSWORD_VARIABLE}")
        credentials[options.rpcuser] = password
    network = NETWORKS[options.mode]
    if network.retargets:
        network = dataclasses.replace(network, spacing_ms=int(options.spacing * 1000))
    node = DevNode(network, datadir, Publisher(options.zmqport))
    node.conditions.refill_count = options.mempool
    node.mempool.fill(options.mempool)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, node.stop)
    runner = web.AppRunner(RpcServer(node, credentials).app(), access_log=None, keepalive_timeout=IDLE_S)
    await runner.setup()
    watcher = asyncio.create_task(_watch_parent(node)) if options.with_parent else None
    try:
        site = web.TCPSite(runner, "127.0.0.1", options.rpcport, shutdown_timeout=0.5)
        await site.start()
        port = runner.addresses[0][1]
        write_private(datadir / ".cookie", cookie)
        if options.ready_file:
            ready = {
                "url": f"http://127.0.0.1:{port}",
                "zmq": node.publisher.address,
                "cookie": str(datadir / ".cookie"),
            }
            write_private(options.ready_file, json.dumps({**ready, "mode": options.mode, "pid": os.getpid()}))
        print(
            f"{WARNING}. {options.mode} mode, RPC on 127.0.0.1:{port}, ZMQ on {node.publisher.address}", file=sys.stderr
        )
        await _until_stopped(node, watcher)
        if node.failure is not None:
            raise OSError(f"stopped: {node.failure}") from node.failure
    finally:
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait({watcher})
        await runner.cleanup()
        (datadir / ".cookie").unlink(missing_ok=True)
        node.close()


def main(arguments: Sequence[str]) -> int:
    """Run; exit code 2 when refused, with the reason on standard error."""
    options = parse(arguments)
    try:
        check_settings(options.network)
        check_ports(options.rpcport, options.zmqport)
        if not 0.1 <= options.spacing <= 3600:
            raise Refused(f"--spacing {options.spacing} is not within 0.1..3600 seconds")
        options.datadir.mkdir(parents=True, exist_ok=True)
        check_datadir(options.datadir, options.mode)
        lock = take_lock(options.datadir)
    except Refused as refused:
        print(f"devchain refuses to start: {refused}", file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(options))
    except (Refused, OSError) as error:
        print(f"devchain cannot start: {error}", file=sys.stderr)
        return 2
    finally:
        os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
