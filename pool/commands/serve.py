"""`serve`: the pool, all rooms by configuration, until a signal ends it."""

from __future__ import annotations

import argparse

from pool.commands.common import add_config_argument, load_config, say_fee

HELP = "run the pool as configured"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config_argument(parser)
    parser.add_argument(
        "--take-over", action="store_true", help="replace the pool that runs on this data folder; no miner is refused"
    )
    parser.add_argument("--every", type=float, default=60.0, metavar="S", help="time between lines of figures")


def run(args: argparse.Namespace) -> int:
    from pool.commands.live import announce, figures
    from pool.commands.rooms import open_pool
    from pool.lifecycle import House
    from pool.lifecycle import run as run_house
    from pool.logs import secrets_of, writing

    config = load_config(args)
    say_fee(config)

    async def opening(house: House) -> None:
        pool = await open_pool(house, config, take_over=args.take_over)
        announce(pool)
        house.background("figures", figures(pool, args.every, live=False))

    with writing(config.log, secrets_of(config)):
        return run_house(opening)
