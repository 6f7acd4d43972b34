"""Keeps the development chain away from real money: refuses to run beside mainnet settings, ports, addresses or
data."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

#: Default ports of Bitcoin Core's RPC and P2P on mainnet: something there is, or could be taken for, a real node.
MAINNET_PORTS = (8332, 8333)
CORE_FILES = ("chainstate", "bitcoin.conf", "bitcoind.pid", "wallets", "wallet.dat")
#: Networks of the settings beside which it may run: its own, and that whose addresses it shares.
NETWORKS = ("dev", "regtest")


class Refused(Exception):
    """The development chain must not run like this; the message says why and what to change."""


def check_settings(network: str, addresses: Iterable[str] = ()) -> None:
    """Refuse settings for another network, or payout addresses that are mainnet's."""
    if network not in NETWORKS:
        raise Refused(
            f"the settings are for network {network!r}; a development chain goes only with {' or '.join(NETWORKS)}"
        )
    for address in addresses:
        if address.lower().startswith("bc1") or address[:1] in ("1", "3"):
            raise Refused(f"{address} is a mainnet address; a development chain never runs beside one")


def check_ports(*ports: int) -> None:
    """Refuse ports on which clients expect a mainnet node."""
    for port in ports:
        if port in MAINNET_PORTS:
            raise Refused(f"port {port} is Bitcoin Core's on mainnet; choose another, or 0 for any free one")


def check_datadir(datadir: Path, mode: str) -> None:
    """Refuse a folder of Bitcoin Core, or a chain of the other mode."""
    for name in CORE_FILES:
        if (datadir / name).exists():
            raise Refused(f"{datadir} holds {name}: it belongs to a real node; choose an empty folder")
    path = datadir / "chain.sqlite"
    if not path.exists():
        return
    with sqlite3.connect(path) as database:
        try:
            row = database.execute("SELECT value FROM meta WHERE key = 'mode'").fetchone()
        except sqlite3.OperationalError:
            row = None
        except sqlite3.DatabaseError as error:
            raise Refused(f"{path} is not a development chain's file: {error}") from error
    database.close()
    if row is not None and row[0] != mode:
        raise Refused(f"{datadir} holds a chain of mode {row[0]}, not {mode}; choose another folder")
