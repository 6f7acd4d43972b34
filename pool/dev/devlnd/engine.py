"""The life of a payment: the checks before it, attempts, what the payees do with them, its end; resumed at a start."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pool.dev.devlnd.bolt11 import REGTEST, NoInvoice, decode, payment_hash_of
from pool.dev.devlnd.faults import die
from pool.dev.devlnd.store import (
    FAILED,
    HTLC_FAILED,
    HTLC_IN_FLIGHT,
    HTLC_SUCCEEDED,
    IN_FLIGHT,
    SUCCEEDED,
    Payment,
    Store,
)
from pool.dev.devlnd.truth import ACCEPTED, SETTLED, Truth

TIMEOUT, NO_ROUTE, INCORRECT_DETAILS, INSUFFICIENT_BALANCE = 1, 2, 4, 5


class Refusal(Exception):
    """A request that the node turns down; `exists` is ALREADY_EXISTS, all else is UNKNOWN."""

    def __init__(self, text: str, *, exists: bool = False) -> None:
        super().__init__(text)
        self.exists = exists


@dataclass(frozen=True, slots=True)
class Order:
    """A SendPaymentV2 request, checked."""

    payment_hash: bytes
    dest: bytes
    amount_msat: int
    fee_limit_msat: int
    timeout_s: int
    max_parts: int
    bolt11: str = ""
    keysend_preimage: bytes = b""
    die_at: str = ""
    stuck: bool = False


def read_invoice(text: str, now_s: float) -> tuple[bytes, bytes, int]:
    """Payment hash, payee and msat of an invoice that may be paid now; Refusal with LND's words if it may not."""
    try:
        invoice = decode(text)
    except NoInvoice as error:
        raise Refusal(str(error)) from error
    if invoice.network != REGTEST:
        raise Refusal("invoice not for current active network 'regtest'")
    if now_s > invoice.expires_at_s:
        raise Refusal(f"invoice expired. Valid until {invoice.expires_at_s}")
    if not invoice.payment_addr:
        raise Refusal("payment request must contain either a payment address or blinded paths")
    return invoice.payment_hash, invoice.dest, invoice.amount_msat


class Engine:
    """Pays. `failed` is called when a payment's life ends by an error of our own."""

    def __init__(self, store: Store, truth: Truth, pubkey: bytes, failed: Callable[[BaseException], None]) -> None:
        self.store, self.truth, self.pubkey = store, truth, pubkey
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchers: dict[bytes, set[asyncio.Queue[Payment]]] = {}
        self._news: dict[bytes, asyncio.Event] = {}

    def resume(self) -> None:
        """Take up what was unfinished, as LND does: with an empty session, so without any new attempt."""
        for payment in self.store.unfinished():
            self._start(payment.payment_hash, None)

    async def close(self) -> None:
        """Stop where we are: a later start resumes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def send(self, order: Order) -> None:
        """Init and start a payment; Refusal leaves no record."""
        if order.dest == self.pubkey:
            raise Refusal("self-payments not allowed")
        if order.die_at == "before_init":
            die()
        known = self.store.get(order.payment_hash)
        if known is not None and known.status != FAILED:
            text = "payment is in transition" if known.status == IN_FLIGHT else "invoice is already paid"
            if known.status == IN_FLIGHT and not known.htlcs and self.store.settings.use_initiated:
                text = "payment already exists"
            prefix = "failed to initialize payment: payment is not initializable: "
            raise Refusal(f"{prefix if self.store.settings.sql_texts else ''}{text}", exists=True)
        self.store.init(order.payment_hash, order.amount_msat, order.bolt11)
        if order.die_at == "after_init":
            die()
        if not order.stuck:
            self._start(order.payment_hash, order)

    @contextlib.contextmanager
    def watching(self, payment_hash: bytes) -> Iterator[asyncio.Queue[Payment]]:
        """Every later state of a payment."""
        queue: asyncio.Queue[Payment] = asyncio.Queue()
        self._watchers.setdefault(payment_hash, set()).add(queue)
        try:
            yield queue
        finally:
            self._watchers[payment_hash].discard(queue)
            if not self._watchers[payment_hash]:
                del self._watchers[payment_hash]

    def wake(self, payment_hash: bytes) -> None:
        """A payee did something."""
        if payment_hash in self._news:
            self._news[payment_hash].set()

    def fee_msat(self, amount_msat: int) -> int:
        """Routing fee of one HTLC."""
        settings = self.store.settings
        return settings.base_fee_msat + amount_msat * settings.fee_ppm // 1_000_000

    def _start(self, payment_hash: bytes, order: Order | None) -> None:
        self._news[payment_hash] = asyncio.Event()
        task = asyncio.create_task(self._live(payment_hash, order))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    async def _live(self, payment_hash: bytes, order: Order | None) -> None:
        deadline_s = time.monotonic() + (order.timeout_s if order else 0)
        news = self._news[payment_hash]
        while True:
            news.clear()
            self._collect(payment_hash, order)
            payment = self.store.get(payment_hash)
            assert payment is not None
            held = payment.msat_in(HTLC_IN_FLIGHT)
            if not held and (payment.msat_in(HTLC_SUCCEEDED) or payment.failure_reason):
                break
            if held >= payment.value_msat or payment.failure_reason or payment.msat_in(HTLC_SUCCEEDED):
                await self._wait(payment, news, deadline_s, order)
            elif order is None:
                self.store.give_up(payment_hash, NO_ROUTE)
            elif time.monotonic() >= deadline_s:
                self.store.give_up(payment_hash, TIMEOUT)
            else:
                await self._attempt(payment, order)
        self._finish(payment)
        del self._news[payment_hash]

    async def _wait(self, payment: Payment, news: asyncio.Event, deadline_s: float, order: Order | None) -> None:
        """For the payee; when the time for attempts is over meanwhile, note that and go on waiting."""
        left_s = None if order is None or payment.failure_reason else deadline_s - time.monotonic()
        try:
            await asyncio.wait_for(news.wait(), left_s)
        except TimeoutError:
            self.store.give_up(payment.payment_hash, TIMEOUT)
            self._tell(payment.payment_hash)

    def _finish(self, payment: Payment) -> None:
        if payment.msat_in(HTLC_SUCCEEDED):
            self.store.finish(payment.payment_hash, SUCCEEDED, self.truth.preimage(payment.payment_hash))
        else:
            self.store.finish(payment.payment_hash, FAILED)
        self._tell(payment.payment_hash)

    def _collect(self, payment_hash: bytes, order: Order | None) -> None:
        """Book what became of the HTLCs that are under way."""
        payment = self.store.get(payment_hash)
        assert payment is not None
        conduct = self.truth.conduct(payment_hash)
        for htlc in payment.htlcs:
            state = self.truth.htlc(htlc.attempt_id)
            if htlc.status != HTLC_IN_FLIGHT or state == ACCEPTED:
                continue
            if state == SETTLED and order is not None and order.die_at == "after_settle":
                die()
            if state == SETTLED and not conduct.force_close:
                self.store.resolve(htlc, HTLC_SUCCEEDED)
            else:
                self.store.resolve(htlc, HTLC_FAILED, burnt=state == SETTLED)
                if state is not None:  # the payee's own answer, or the closed channel; unsent ones just vanish
                    self.store.give_up(payment_hash, NO_ROUTE if state == SETTLED else INCORRECT_DETAILS)
            self._tell(payment_hash)

    async def _attempt(self, payment: Payment, order: Order) -> None:
        """One HTLC for what is missing, or a reason why there can be none."""
        conduct = self.truth.conduct(payment.payment_hash)
        parts = min(conduct.parts, order.max_parts)
        held_msat = payment.msat_in(HTLC_IN_FLIGHT)
        amount_msat = min(payment.value_msat - held_msat, -(-payment.value_msat // parts))
        fee_msat = self.fee_msat(amount_msat)
        fees_msat = sum(htlc.fee_msat for htlc in payment.htlcs if htlc.status == HTLC_IN_FLIGHT) + fee_msat
        reason = 0
        if amount_msat + fee_msat > self.store.balance("local_msat"):
            reason = INSUFFICIENT_BALANCE
        elif (
            fees_msat > order.fee_limit_msat
            or amount_msat > self.store.settings.route_max_msat
            or not self.truth.knows(order.dest)
        ):
            reason = NO_ROUTE
        if reason:
            self.store.give_up(payment.payment_hash, reason)
            return
        attempt_id = self.store.add_htlc(payment.payment_hash, amount_msat, fee_msat)
        self._tell(payment.payment_hash)
        if order.die_at == "after_register":
            die()
        if sum(htlc.status == HTLC_FAILED for htlc in payment.htlcs) < conduct.fail_first:
            await asyncio.sleep(conduct.attempt_ms / 1000)
            return  # it failed on the way: `_collect` finds that it never arrived
        if order.keysend_preimage:
            self.truth.keysend(attempt_id, order.dest, order.keysend_preimage, amount_msat)
        else:
            self.truth.accept(attempt_id, payment.payment_hash, amount_msat)
        if order.die_at == "after_send_htlc":
            die()

    def _tell(self, payment_hash: bytes) -> None:
        payment = self.store.get(payment_hash)
        assert payment is not None
        for queue in self._watchers.get(payment_hash, ()):
            queue.put_nowait(payment)


def keysend_hash(preimage: bytes) -> bytes:
    """The payment hash that belongs to a keysend preimage."""
    return payment_hash_of(preimage)
