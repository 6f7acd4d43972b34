"""`python -m pool.dev.devlnd`: runs the development Lightning node as a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import coincurve
import grpc

from pool.dev.devlnd.control import Control
from pool.dev.devlnd.credentials import certificate, macaroon, write_private
from pool.dev.devlnd.engine import Engine
from pool.dev.devlnd.faults import Faults
from pool.dev.devlnd.guard import LABEL, WARNING, Refused, check_datadir, check_settings
from pool.dev.devlnd.server import PAYOUT_URIS, LndServer
from pool.dev.devlnd.services import Services
from pool.dev.devlnd.store import Store
from pool.dev.devlnd.truth import Truth

PARENT_POLL_S = 1.0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m pool.dev.devlnd", description=WARNING)
    parser.add_argument("--datadir", type=Path, required=True)
    parser.add_argument("--rpcport", type=int, default=0, help="0: any free port")
    parser.add_argument("--plaintext", action="store_true", help="no TLS; it listens on loopback only, always")
    parser.add_argument("--local-msat", type=int, default=10_000_000_000, help="channel balance of a new node")
    parser.add_argument("--network", default="dev", help="network of the settings it is started beside")
    parser.add_argument("--ready-file", type=Path, help="written when it answers: JSON with address, files, pid")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input closes or the parent ends")
    return parser.parse_args(arguments)


def take_lock(datadir: Path) -> int:
    """Keep the data folder for this process; Refused if another one has it."""
    descriptor = os.open(datadir / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Refused(f"{datadir} is in use by another development Lightning node") from None
    return descriptor


async def _parent_gone() -> None:
    """Return when the parent process ends, however it ends."""
    parent, loop, closed = os.getppid(), asyncio.get_running_loop(), asyncio.Event()

    def readable() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            closed.set()

    loop.add_reader(0, readable)
    while os.getppid() == parent and not closed.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closed.wait(), PARENT_POLL_S)


async def serve(options: argparse.Namespace) -> None:
    """Open everything, say so in the ready file, and run until told to stop."""
    datadir: Path = options.datadir
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()

    def end(error: BaseException | None = None) -> None:
        if not stop.done():
            stop.set_exception(error) if error is not None else stop.set_result(None)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    store, truth, faults = Store(datadir / "lnd.sqlite", options.local_msat), Truth(datadir / "truth.sqlite"), Faults()
    pubkey = coincurve.PrivateKey(bytes.fromhex(store.meta("secret"))).public_key.format()
    engine = Engine(store, truth, pubkey, end)
    services = Services(engine)
    admin, payout = macaroon(datadir, "admin"), macaroon(datadir, "payout")
    macaroons = {admin.read_bytes().hex(): None, payout.read_bytes().hex(): PAYOUT_URIS}
    lnd = LndServer(services, Control(services, faults), faults, macaroons)
    watcher = asyncio.create_task(_parent_gone()) if options.with_parent else None
    try:
        address = f"127.0.0.1:{options.rpcport}"
        if options.plaintext:
            port = lnd.server.add_insecure_port(address)
        else:
            port = lnd.server.add_secure_port(address, grpc.ssl_server_credentials([certificate(datadir)]))
        engine.resume()
        await lnd.server.start()
        ready = {"address": f"127.0.0.1:{port}", "certificate": "" if options.plaintext else str(datadir / "tls.cert")}
        ready |= {"admin": str(admin), "payout": str(payout), "label": LABEL}
        if options.ready_file:
            write_private(options.ready_file, json.dumps({**ready, "pid": os.getpid()}).encode())
        print(f"{WARNING}. gRPC on 127.0.0.1:{port}", file=sys.stderr)
        await asyncio.wait({stop, *filter(None, [watcher])}, return_when=asyncio.FIRST_COMPLETED)
        if stop.done():
            stop.result()
        elif watcher is not None:
            watcher.result()
    finally:
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait({watcher})
        await lnd.stop()
        await engine.close()
        store.close()
        truth.close()


def main(arguments: Sequence[str]) -> int:
    """Run; exit code 2 when refused, with the reason on standard error."""
    options = parse(arguments)
    try:
        check_settings(options.network)
        options.datadir.mkdir(parents=True, exist_ok=True)
        check_datadir(options.datadir)
        lock = take_lock(options.datadir)
    except Refused as refused:
        print(f"devlnd refuses to start: {refused}", file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(options))
    except (OSError, RuntimeError) as error:
        print(f"devlnd cannot go on: {error}", file=sys.stderr)
        return 2
    finally:
        os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
