"""What the ledger does by its own clock beside summing and booking: requests of other rooms, the virtual block."""

from __future__ import annotations

import logging

from sqlalchemy import Connection

from pool.ledger import income, requests, virtual
from pool.store.engine import Store

log = logging.getLogger(__name__)


async def do(store: Store, at_s: int) -> None:
    """Whatever is due. Writes nothing when nothing is."""
    while await store.read(requests.waiting):
        outcome = await store.write(_apply, at_s)
        if outcome is None:
            break
        log.info("request %s", outcome)
    if await store.read(_release_msat, at_s):
        amount = await store.write(_release, at_s)
        if amount:
            log.info("%d msat of the reserve go back to members", amount)


def _apply(connection: Connection, at_s: int) -> str | None:
    found = requests.apply_next(connection, income.highest_found(connection) + 1, at_s)
    return None if found is None else f"{found.id} {found.state}: {found.text}"


def _release_msat(connection: Connection, at_s: int) -> int:
    return virtual.release_msat(connection, income.highest_found(connection) + 1, at_s)


def _release(connection: Connection, at_s: int) -> int:
    return virtual.release(connection, income.highest_found(connection) + 1, at_s)
