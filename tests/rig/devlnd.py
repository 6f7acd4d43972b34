"""Lightning nodes for tests: one set of moves over the development node and, where env LND names its binaries, LND."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from pool.dev.devlnd import DevLnd
from pool.payout.backend import NoInformation, NotFound, SendOutcome, SendRequest, State, Status
from pool.payout.lightning import Access, Lnd

DEADLINE_S = 10.0


class Node:
    """A development node, the port to it, and the hand on its payees."""

    def __init__(self, child: DevLnd) -> None:
        self.child = child
        self.lnd = self.connect()

    def connect(self, macaroon: bytes | None = None) -> Lnd:
        """Another port; close it."""
        access = Access.read(self.child.address, self.child.certificate, self.child.payout_macaroon)
        return Lnd(access if macaroon is None else Access(access.address, access.certificate_pem, macaroon))

    async def do(self, what: str, **more: Any) -> Any:
        """One control call."""
        return await self.child.call(what, **more)

    async def invoice(self, amount_msat: int = 500_000, **more: Any) -> tuple[bytes, str]:
        """Payment hash and text of a payee's new invoice; `conduct` says how it behaves."""
        made = await self.do("invoice", payee="bob", amount_msat=amount_msat, **more)
        return bytes.fromhex(made["payment_hash"]), made["bolt11"]

    async def pay(
        self, payment_hash: bytes, bolt11: str, amount_msat: int = 500_000, fee_limit_msat: int = 5_000, **more: Any
    ) -> list[SendOutcome]:
        """Every outcome of one send."""
        request = SendRequest(payment_hash, amount_msat, fee_limit_msat, bolt11, **more)
        return [outcome async for outcome in self.lnd.send(request, DEADLINE_S)]

    async def until(self, payment_hash: bytes, wanted: Callable[[Status], bool]) -> Status:
        """The first tracked status that is as wanted; a send or a node that is still on its way is awaited."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                async with contextlib.aclosing(self.lnd.track(payment_hash, DEADLINE_S)) as outcomes:
                    async for outcome in outcomes:
                        if isinstance(outcome, Status):
                            if wanted(outcome):
                                return outcome
                            assert not outcome.final, f"it ended otherwise: {outcome}"
                await asyncio.sleep(0.02)

    async def answer(self, payment_hash: bytes) -> Status | NotFound:
        """The first look that tells something: the port finds its way back to a restarted node by itself."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                answer = await self.lnd.look(payment_hash)
                if not isinstance(answer, NoInformation):
                    return answer
                await asyncio.sleep(0.02)

    async def held(self, payment_hash: bytes) -> Status:
        """Wait until its payee holds it."""
        return await self.until(payment_hash, lambda status: status.in_flight_msat > 0)

    async def end(self, payment_hash: bytes) -> Status:
        """Wait for its final status."""
        return await self.until(payment_hash, lambda status: status.final)

    async def received_msat(self, payment_hash: bytes) -> list[int]:
        """What its payee received, each time."""
        return [msat for _, _, msat in await self.do("received", payment_hash=payment_hash.hex())]

    async def settle(self, payment_hash: bytes) -> None:
        """The payee takes what it holds."""
        await self.do("settle", payment_hash=payment_hash.hex())

    async def cancel(self, payment_hash: bytes) -> None:
        """The payee gives back what it holds."""
        await self.do("cancel", payment_hash=payment_hash.hex())

    async def kill(self) -> None:
        """kill -9 the node and start it again."""
        await self.child.kill()
        await self.child.start()

    async def rise(self) -> None:
        """Start again a node that ended by itself, once it has."""
        await asyncio.wait_for(self.child.wait(), DEADLINE_S)
        await self.child.kill()
        await self.child.start()


@contextlib.asynccontextmanager
async def node(datadir: Path, **options: Any) -> AsyncIterator[Node]:
    """A running node with its port."""
    async with DevLnd(datadir, **options) as child:
        made = Node(child)
        try:
            yield made
        finally:
            await made.lnd.close()


def play(datadir: Path, story: Callable[[Node], Awaitable[None]], **options: Any) -> None:
    """Run one story with a node of its own."""

    async def told() -> None:
        async with node(datadir, **options) as made:
            await asyncio.wait_for(story(made), 40)

    asyncio.run(told())


def last(outcomes: list[SendOutcome]) -> SendOutcome:
    """The outcome that ended a send; all before it were open statuses."""
    assert all(isinstance(one, Status) and one.state is State.OPEN for one in outcomes[:-1])
    return outcomes[-1]

