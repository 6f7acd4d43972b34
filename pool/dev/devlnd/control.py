"""The hand of the test or the demo on the node: payees, invoices, held payments, faults, settings, the truth.

One RPC, `mmsp.devlnd.Control/Call`: JSON {"do": name, ...} in, JSON out. It takes the admin macaroon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from pool.dev.devlnd.engine import Engine, Refusal
from pool.dev.devlnd.faults import Fault, Faults
from pool.dev.devlnd.services import Services
from pool.dev.devlnd.truth import Conduct

PHASES = ("ready", "starting", "locked", "stopping")


class Control:
    """What can be done to the node from outside LND's own RPCs. ValueError for what cannot."""

    def __init__(self, services: Services, faults: Faults) -> None:
        self._services, self._faults = services, faults
        self._engine: Engine = services.engine
        self.phase = "ready"
        self.parked: list[Any] = []
        self._calls: dict[str, Callable[..., object]] = {
            "payee": lambda name, keysend=True: self._engine.truth.payee(name, keysend=keysend).hex(),
            "invoice": self._invoice,
            "settle": self._settle,
            "cancel": self._cancel,
            "received": self._received,
            "fault": lambda **what: self._faults.waiting.append(Fault(**what)),
            "deliver": self._deliver,
            "settings": lambda **what: self._engine.store.change(what),
            "balance": lambda local_msat: self._engine.store.set_balance(local_msat),
            "phase": self._phase,
        }

    def call(self, body: bytes) -> bytes:
        """One JSON call."""
        try:
            request = json.loads(body)
            return json.dumps({"result": self._calls[request.pop("do")](**request)}).encode()
        except (KeyError, TypeError, ValueError) as error:
            return json.dumps({"error": f"{type(error).__name__}: {error}"}).encode()

    def _invoice(
        self, payee: str, amount_msat: int, conduct: dict[str, Any] | None = None, **more: Any
    ) -> dict[str, str]:
        if payee == "self":
            raise ValueError("the node itself is no payee")
        payment_hash, text = self._engine.truth.invoice(payee, amount_msat, Conduct(**(conduct or {})), **more)
        return {"payment_hash": payment_hash.hex(), "bolt11": text}

    def _settle(self, payment_hash: str) -> None:
        self._engine.truth.settle(bytes.fromhex(payment_hash))
        self._engine.wake(bytes.fromhex(payment_hash))

    def _cancel(self, payment_hash: str) -> None:
        self._engine.truth.cancel(bytes.fromhex(payment_hash))
        self._engine.wake(bytes.fromhex(payment_hash))

    def _received(self, payment_hash: str | None = None) -> list[list[object]]:
        rows = self._engine.truth.received(bytes.fromhex(payment_hash) if payment_hash else None)
        return [[payee, found.hex(), amount_msat] for payee, found, amount_msat in rows]

    def _deliver(self) -> list[str]:
        """Process each parked request now, as if it had only just come out of a socket; what became of each."""
        requests, self.parked = self.parked, []
        ends = []
        for request in requests:
            try:
                self._engine.send(self._services.order(request, None))
                ends.append("taken")
            except Refusal as refusal:
                ends.append(str(refusal))
        return ends

    def _phase(self, name: str) -> None:
        if name not in PHASES:
            raise ValueError(f"no such phase: {name}")
        self.phase = name


async def forever() -> None:
    """Wait until cancelled."""
    await asyncio.Event().wait()
