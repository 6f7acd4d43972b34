"""`run`: everything on this machine at once: development chain, pool, simulated devices, a live line."""

from __future__ import annotations

import argparse
import sys

from pool.commands.common import add_config_argument, load_config, say_fee

HELP = "try it: the pool with an embedded development chain and simulated devices"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument("--devices", type=int, metavar="N", help="simulated devices (default: [dev] fleet_devices)")
    parser.add_argument("--every", type=float, default=5.0, metavar="S", help="time between JSON lines (default 5)")


def run(args: argparse.Namespace) -> int:
    from pool.commands.live import announce, figures
    from pool.commands.rooms import open_pool
    from pool.dev.fleet.device import Endpoint
    from pool.dev.fleet.fleet import make_fleet
    from pool.dev.fleet.models import CLUB
    from pool.dev.fleet.users import dev_users
    from pool.lifecycle import House
    from pool.lifecycle import run as run_house
    from pool.logs import secrets_of, writing

    config = load_config(args)
    if config.pool.network != "dev":
        print(f"run is for trying the pool; network is {config.pool.network}: use `pool serve`", file=sys.stderr)
        return 2
    say_fee(config)
    devices = config.dev.fleet_devices if args.devices is None else args.devices

    async def opening(house: House) -> None:
        pool = await open_pool(house, config)
        announce(pool)
        if devices:
            endpoint = Endpoint("127.0.0.1", pool.port())
            fleet = make_fleet(CLUB, endpoint, dev_users(3), count=devices, total_hs=config.dev.fleet_hashrate_hs)
            house.background("fleet", fleet.run())
        house.background("figures", figures(pool, args.every, live=sys.stdout.isatty()))

    with writing(config.log, secrets_of(config)):
        return run_house(opening)
