"""Keeps the development Lightning node away from real money and from a real node's files."""

from __future__ import annotations

import sqlite3
from pathlib import Path

LABEL = "MMSP-devlnd"
WARNING = "DEVELOPMENT LIGHTNING NODE: it pays simulated payees with coins that are worth nothing"
#: Networks of the settings beside which it may run.
NETWORKS = ("dev", "regtest")
LND_FILES = ("lnd.conf", "data/graph", "data/chain/bitcoin/mainnet", "data/chain/bitcoin/regtest/wallet.db", "v3_onion")


class Refused(Exception):
    """The node must not run like this; the message says why and what to change."""


def check_settings(network: str) -> None:
    """Refuse settings for another network."""
    if network not in NETWORKS:
        raise Refused(
            f"the settings are for network {network!r}; a development Lightning node goes only with "
            + " or ".join(NETWORKS)
        )


def check_datadir(datadir: Path) -> None:
    """Refuse a folder of a real LND, or files that are not ours."""
    for name in LND_FILES:
        if (datadir / name).exists():
            raise Refused(f"{datadir} holds {name}: it belongs to a real LND; choose an empty folder")
    for name in ("lnd.sqlite", "truth.sqlite"):
        path = datadir / name
        if not path.exists():
            continue
        database = sqlite3.connect(path)
        try:
            row = database.execute("SELECT value FROM meta WHERE key = 'label'").fetchone()
        except sqlite3.DatabaseError as error:
            raise Refused(f"{path} is not a development Lightning node's file: {error}") from error
        finally:
            database.close()
        if row is None or row[0] != LABEL:
            raise Refused(f"{path} is not a development Lightning node's file")
