"""Proof of a Lightning-only member: two payments of a few sat, whose amounts he reads in his wallet and types.

Pure functions over one frozen state. The pool pays, so an attacker can only guess: two amounts of 97 values are 4,753
pairs (the order does not count), and there are three tries.
WAITING --both payments arrived--> ARRIVED --the amounts typed--> PROVEN, or --a third wrong try--> FAILED
WAITING, ARRIVED --24 h--> EXPIRED
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from pool.identity.messages import same

LEAST_SAT, MOST_SAT = 3, 99
TRIES = 3
LIFETIME_S = 24 * 3600

WAITING, ARRIVED, PROVEN, FAILED, EXPIRED = "waiting", "arrived", "proven", "failed", "expired"
OPEN = (WAITING, ARRIVED)


@dataclass(frozen=True, slots=True)
class Deposit:
    """One proof under way. The amounts are the secret: shown to nobody, logged nowhere."""

    first_sat: int = dataclasses.field(repr=False)
    second_sat: int = dataclasses.field(repr=False)
    expires_at_s: int
    state: str = WAITING
    tries: int = 0


def begin(now_s: int, draw: Callable[[int], int] = secrets.randbelow) -> Deposit:
    """A fresh challenge; `draw(n)` gives 0 .. n - 1 from a secure source."""
    spread = MOST_SAT - LEAST_SAT + 1
    return Deposit(LEAST_SAT + draw(spread), LEAST_SAT + draw(spread), now_s + LIFETIME_S)


def at(deposit: Deposit, now_s: int) -> Deposit:
    """As time leaves it."""
    if deposit.state in OPEN and now_s >= deposit.expires_at_s:
        return dataclasses.replace(deposit, state=EXPIRED)
    return deposit


def arrived(deposit: Deposit, both: bool, now_s: int) -> Deposit:
    """As the payer's report leaves it: `both` payments are settled."""
    deposit = at(deposit, now_s)
    return dataclasses.replace(deposit, state=ARRIVED) if both and deposit.state == WAITING else deposit


def typed(deposit: Deposit, first_sat: int, second_sat: int, now_s: int) -> Deposit:
    """As the typed amounts, in either order, leave it. Before the payments arrived nothing counts as a try."""
    deposit = at(deposit, now_s)
    if deposit.state != ARRIVED:
        return deposit
    if same(_spelt(first_sat, second_sat), _spelt(deposit.first_sat, deposit.second_sat)):
        return dataclasses.replace(deposit, state=PROVEN, tries=deposit.tries + 1)
    tries = deposit.tries + 1
    return dataclasses.replace(deposit, tries=tries, state=FAILED if tries >= TRIES else ARRIVED)


def _spelt(a: int, b: int) -> str:
    low, high = sorted((a, b))
    return f"{low} {high}"
