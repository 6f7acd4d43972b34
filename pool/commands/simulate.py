"""`simulate`: a fleet of simulated devices against a pool, with what became of their shares."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import signal
import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from pool.dev.fleet.fleet import Fleet

HELP = "let simulated BitAxes, NerdMiners and others mine at a pool, with real hashing at tiny rates"
DEFAULT_PORT = 3333


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pool", nargs="?", default=f"127.0.0.1:{DEFAULT_PORT}", metavar="HOST:PORT")
    parser.add_argument("--devices", type=int, default=6, metavar="N", help="how many (default 6)")
    parser.add_argument("--models", metavar="A,B", help="device models, taken in turn (default: a club's mix)")
    parser.add_argument("--list-models", action="store_true", help="name the models and end")
    parser.add_argument("--user", action="append", metavar="ADDRESS", help="account to mine for; may be repeated")
    parser.add_argument("--password", default="x", help='what devices send as password (for example "d=0.001")')
    parser.add_argument("--hashrate", type=float, default=200_000.0, metavar="H/S", help="of the whole fleet")
    parser.add_argument("--core-share", type=float, default=0.25, metavar="PART", help="most of a core (default 0.25)")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after this long (default: at Ctrl-C)")
    parser.add_argument("--every", type=float, default=5.0, metavar="S", help="time between JSON lines (default 5)")
    parser.add_argument("--json", action="store_true", help="JSON lines also on a terminal")
    parser.add_argument("--strict", action="store_true", help="exit code 1 after a crash or a refusal without cause")
    parser.add_argument("--allow-remote", action="store_true", help="mine at a pool that is not on this machine")


def run(args: argparse.Namespace) -> int:
    from pool.dev.fleet.device import Endpoint
    from pool.dev.fleet.fleet import make_fleet
    from pool.dev.fleet.models import CLUB, MODELS
    from pool.dev.fleet.users import dev_users

    if args.list_models:
        for name, cls in MODELS.items():
            print(f"{name:<14} {cls.agent:<32} {(cls.__doc__ or '').splitlines()[0]}")
        return 0
    try:
        host, port = parse_endpoint(args.pool)
        require_loopback(host, args.allow_remote)
        fleet = make_fleet(
            args.models.split(",") if args.models else CLUB,
            Endpoint(host, port),
            args.user or dev_users(3),
            count=args.devices,
            total_hs=args.hashrate,
            password=args.password,
            core_share=args.core_share,
        )
    except ValueError as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    live = sys.stdout.isatty() and not args.json
    asyncio.run(_watch(fleet, args.seconds, args.every, live))
    summary = fleet.summary()
    return 1 if args.strict and (summary.crashes or summary.pool_faults) else 0


def parse_endpoint(text: str) -> tuple[str, int]:
    """("127.0.0.1", 3333) of "127.0.0.1:3333", "[::1]:3333", "localhost", or with a stratum+tcp:// in front."""
    rest = text.removeprefix("stratum+tcp://").rstrip("/")
    host, colon, port = rest.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = rest, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is no HOST:PORT")
    return host, int(port)


def require_loopback(host: str, allow_remote: bool) -> None:
    """Simulated shares are for one's own pool: another machine only on request. ValueError otherwise."""
    if allow_remote:
        return
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    except OSError as error:
        raise ValueError(f"{host!r} cannot be found: {error}") from None
    remote = sorted(address for address in found if not ipaddress.ip_address(address.partition("%")[0]).is_loopback)
    if remote:
        raise ValueError(f"{host} is not this machine ({remote[0]}); --allow-remote if it is a pool of yours")


async def _watch(fleet: Fleet, seconds: float | None, every_s: float, live: bool) -> None:
    """Run the fleet until the time is up or a signal comes, and show how it does."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    running = asyncio.create_task(fleet.run())
    running.add_done_callback(lambda _: stop.set())
    show = asyncio.create_task(_table(fleet) if live else _lines(fleet, every_s))
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
    finally:
        for task in (show, running):
            task.cancel()
        ends = await asyncio.gather(show, running, return_exceptions=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    for end in ends:
        if isinstance(end, Exception):
            raise end
    if not live:
        _line(fleet)


def _line(fleet: Fleet) -> None:
    print(json.dumps(fleet.summary().as_dict(), sort_keys=True), flush=True)


async def _lines(fleet: Fleet, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        _line(fleet)


async def _table(fleet: Fleet) -> None:
    from rich.live import Live

    with Live(table(fleet), refresh_per_second=2) as screen:
        try:
            while True:
                await asyncio.sleep(0.5)
                screen.update(table(fleet))
        finally:
            screen.update(table(fleet))


def table(fleet: Fleet) -> Table:
    """One row a device and the sums."""
    from rich.table import Table

    summary = fleet.summary()
    out = Table(title=f"{summary.mining} of {summary.devices} devices mining, {summary.hashrate_hs / 1000:.0f} kH/s")
    for column in ("device", "user agent", "difficulty", "accepted", "rejected", "pool's fault", "crashes", "drops"):
        out.add_column(column, justify="left" if column in ("device", "user agent") else "right")
    for device in fleet.devices:
        stats = device.firmware.stats
        difficulty = device.firmware.session.pool_difficulty
        out.add_row(
            device.name,
            device.firmware.user_agent,
            "-" if difficulty is None else f"{difficulty:.6g}",
            str(stats.accepted),
            str(stats.rejected.total()),
            str(stats.pool_faults.total()),
            str(stats.crashes.total()),
            str(stats.drops.total()),
        )
    sums = (summary.accepted, sum(summary.rejected.values()), sum(summary.pool_faults.values()))
    ends = (sum(summary.crashes.values()), sum(summary.drops.values()))
    out.add_section()
    out.add_row("all", "", "", *(str(value) for value in (*sums, *ends)))
    return out
