"""What several subcommands share: finding and loading the configuration, printing it for people or as JSON."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pool.config import Check, Config, Mistake, fee_in_words, load

if TYPE_CHECKING:
    from pool.store import Store

DEFAULT_FILE = Path("pool.toml")


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration file (default: POOL_CONFIG in the environment, else ./pool.toml if there is one)",
    )


def config_path(args: argparse.Namespace) -> Path | None:
    """The file to read: --config, POOL_CONFIG, ./pool.toml; None means defaults and environment only."""
    if args.config is not None:
        named: Path = args.config
        return named
    if os.environ.get("POOL_CONFIG"):
        return Path(os.environ["POOL_CONFIG"])
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def check_addresses(config: Config) -> Iterable[Mistake]:
    """The room check of what only pool.address understands."""
    address = config.coinbase.payout_address
    if address:
        from pool.address import AddressError, parse_address

        network = "regtest" if config.pool.network == "dev" else config.pool.network
        try:
            parse_address(address, network)
        except AddressError as error:
            yield Mistake(
                "[coinbase] payout_address", f"is wrong: {error}", config.origin("coinbase.payout_address").where
            )


def existing_store(config: Config) -> Store:
    """The pool's store, for commands that only look. StoreError when the pool was never started on it."""
    from pool.store import Store, StoreError

    store = Store(config.store.url.reveal())
    database = store.url.database
    if store.sqlite and not (database and Path(database).exists()):
        raise StoreError(f"there is no database {database} yet: the pool was never started with this configuration")
    return store


#: Secret texts of the configuration that was loaded: the porch takes them out of whatever it prints of a failure.
secrets_loaded: list[str] = []

#: Checks of rooms that configuration itself must not know. Rooms' own go here.
ROOM_CHECKS: tuple[Check, ...] = (check_addresses,)


def load_config(args: argparse.Namespace) -> Config:
    """The effective configuration. ConfigError names every mistake (the porch prints them and ends with 2)."""
    config = load(config_path(args), checks=ROOM_CHECKS)
    from pool.logs import secrets_of

    secrets_loaded.extend(secrets_of(config))
    return config


def say_fee(config: Config) -> None:
    """The effective fee in words, in both languages (promise P8): at each start, and by `config check`."""
    for language in ("es", "en"):
        print(fee_in_words(config.fees, language), file=sys.stderr)
