"""`db upgrade`: bring the database to this version's form, as every start does."""

from __future__ import annotations

import argparse

from pool.commands.common import add_config_argument, load_config

HELP = "upgrade the database"


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    add_config_argument(actions.add_parser("upgrade", help="run the migrations that are missing"))


def run(args: argparse.Namespace) -> int:
    from pool.store import Store

    config = load_config(args)
    store = Store(config.store.url.reveal())
    try:
        done = store.upgrade()
    finally:
        store.close()
    print(f"{config.store.url}: {'ran ' + ', '.join(done) if done else 'nothing to do'}")
    return 0
