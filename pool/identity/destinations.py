"""Where a member is paid, and how a change of it becomes active: pure rules over frozen states.

requested --no balance--> active; requested --balance--> pending --72 h--> active; pending --signed cancel--> cancelled;
pending --a newer change--> superseded. Source: the design's section 7 (72 h).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pool.address import AddressError, parse_address
from pool.identity.refusals import ProofRefused

DELAY_S = 72 * 3600
PENDING, ACTIVE, CANCELLED, SUPERSEDED = "pending", "active", "cancelled", "superseded"
STATES = (PENDING, ACTIVE, CANCELLED, SUPERSEDED)
LONGEST_DESTINATION = 256

#: LUD-16, with a host name that has a dot; a host of digits only (an IP address) has no letters at its end.
_LIGHTNING = re.compile(
    r"[a-z0-9_.+-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])"
)
_NODE = re.compile(r"0[23][0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Destination:
    """Somewhere a payout can go. `kind`: "lightning_address" (LUD-16), "node" (keysend to its key), "onchain"."""

    kind: str
    text: str  # canonical


@dataclass(frozen=True, slots=True)
class Change:
    """A change of destination as stored."""

    id: int
    account: str
    old_destination: str  # "" when there was none
    destination: str
    state: str
    requested_at_s: int
    due_at_s: int
    settled_at_s: int | None


def parse_destination(text: str, network: str) -> Destination:
    """Read what a member typed; ProofRefused names what is wrong with it."""
    if not text or len(text) > LONGEST_DESTINATION:
        raise ProofRefused("destination", f"{len(text)} characters")
    lowered = text.lower()
    if "@" in text:
        if len(lowered) > 254 or not _LIGHTNING.fullmatch(lowered):
            raise ProofRefused("destination", "a Lightning address is name@host.example")
        return Destination("lightning_address", lowered)
    if _NODE.fullmatch(lowered):
        return Destination("node", lowered)
    try:
        return Destination("onchain", parse_address(text, network).text)
    except AddressError as error:
        raise ProofRefused("destination", str(error)) from None


def due_at_s(now_s: int, balance_msat: int) -> int:
    """When a change asked for now becomes active: at once only while nothing is owed."""
    return now_s + DELAY_S if balance_msat > 0 else now_s


def notice(change: Change, what: str) -> tuple[str, str]:
    """(Spanish, English) words to the old channels about a change; `what` is a state."""
    old = change.old_destination or "-"
    if what == PENDING:
        hours = (change.due_at_s - change.requested_at_s) // 3600
        return (
            f"Se pidió cambiar el destino de tus pagos de {old} a {change.destination}. Será efectivo en {hours} h; "
            "si no fuiste tú, anúlalo con una firma.",
            f"A change of your payout destination from {old} to {change.destination} was requested. It takes effect in "
            f"{hours} h; if it was not you, cancel it by a signature.",
        )
    es, en = {
        ACTIVE: ("es el destino de tus pagos desde ahora", "is your payout destination from now on"),
        CANCELLED: ("no será el destino de tus pagos: se anuló", "will not be your payout destination: cancelled"),
        SUPERSEDED: ("no será el destino de tus pagos: se pidió otro", "will not be your destination: replaced"),
    }[what]
    return f"{change.destination} {es}.", f"{change.destination} {en}."
