"""The identity room over a store, with a clock, balances and arrived deposits that a test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from sqlalchemy import Connection

from pool.identity import Challenge, Identity, Limits, Proof, ProofRefused
from pool.store import Store
from pool.store.sessions import accounts
from rig.wallet import Wallet

HOST, NETWORK = "club.example", "regtest"
CALLBACK = f"https://{HOST}/auth/lnurl"
START_S = 1_800_000_000
MEMBER, THIEF, PHONE = Wallet.of(0xB0B, NETWORK), Wallet.of(0xBAD, NETWORK), Wallet.of(0xF0)
ADDRESS, OTHER = MEMBER.address("p2wpkh"), THIEF.address("p2wpkh")
LIGHTNING = "ana@wallet.example"
NEW, NEWER = "ana@coins.example", "ana@newer.example"


@dataclass
class Desk:
    """`room` is the thing under test; the rest is the world around it."""

    store: Store
    now_s: int = START_S
    balances_msat: dict[str, int] = field(default_factory=dict)
    arrived: set[int] = field(default_factory=set)
    room: Identity = field(init=False)

    def __post_init__(self) -> None:
        self.room = self.another()

    def another(self, *, pool_name: str = "Club", host: str = HOST, limits: Limits | None = None) -> Identity:
        """Another room over the same tables."""
        return Identity(
            self.store,
            pool_name=pool_name,
            host=host,
            network=NETWORK,
            clock=lambda: self.now_s,
            balance_msat=lambda connection, account: self.balances_msat.get(account, 0),
            deposits_arrived=lambda connection, number: number in self.arrived,
            limits=limits,
        )

    async def prove(self, challenge: Challenge, signature: str | None = None, **other: str) -> Proof:
        """Redeem as the honest page does; `other` changes what is claimed."""
        claimed = {"account": challenge.account, "action": challenge.action, "value": challenge.value, **other}
        signature = MEMBER.sign("p2wpkh", challenge.text) if signature is None else signature
        return await self.room.prove(challenge.nonce_hex, signature=signature, **claimed)

    async def change(self, destination: str) -> Proof:
        return await self.prove(await self.room.ask(ADDRESS, "destination.change", destination))

    async def refused(self, challenge: Challenge, signature: str | None = None, **other: str) -> str:
        with pytest.raises(ProofRefused) as caught:
            await self.prove(challenge, signature, **other)
        return caught.value.code

    async def kinds(self) -> list[str]:
        return [event.kind for event in await self.room.events()]


def know(connection: Connection, names: list[str]) -> None:
    """As the session store does when they mine."""
    rows = [
        {
            "name": name,
            "kind": "lightning" if "@" in name else "address",
            "created_at_s": START_S,
            "last_seen_s": START_S,
        }
        for name in names
    ]
    connection.execute(accounts.insert(), rows)


@asynccontextmanager
async def open_desk(url: str) -> AsyncIterator[Desk]:
    async with Store(url) as store:
        await store.write(know, [ADDRESS, OTHER, LIGHTNING])
        yield Desk(store)
