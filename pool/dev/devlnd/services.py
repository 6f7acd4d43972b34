"""The RPCs of LND that the pool uses, over the engine: each method answers as LND's does, also when it refuses."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

from pool.dev.devlnd.bolt11 import NoInvoice, decode
from pool.dev.devlnd.engine import Engine, Order, Refusal, keysend_hash, read_invoice
from pool.dev.devlnd.faults import Fault
from pool.dev.devlnd.messages import balance_messages, info_message, payment_message
from pool.dev.devlnd.store import IN_FLIGHT, Payment
from pool.dev.devlnd.stubs import lightning_pb2 as ln
from pool.dev.devlnd.stubs import router_pb2 as router

KEYSEND_RECORD = 5482373484


class NoSuchPayment(Exception):
    """TrackPaymentV2 of an unknown hash: NOT_FOUND."""


class Services:
    """Requests in, messages out; errors are Refusal or NoSuchPayment."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.store = engine.store

    def order(self, request: Any, fault: Fault | None) -> Order:
        """Check a SendPaymentV2 request in LND's order; Refusal leaves no record of it."""
        if request.timeout_seconds <= 0:
            raise Refusal("timeout_seconds must be specified")
        if request.amt and request.amt_msat:
            raise Refusal("sat and msat arguments are mutually exclusive")
        amount_msat = request.amt_msat or request.amt * 1000
        if request.amp:
            raise Refusal("AMP is not offered by this development node")
        if request.payment_request:
            payment_hash, dest, amount_msat, preimage = self._invoice(request, amount_msat)
        else:
            payment_hash, dest, preimage = self._keysend(request)
        if amount_msat <= 0:
            raise Refusal("amount must be specified")
        stuck, die_at = (fault.kind == "stuck", fault.point) if fault else (False, "")
        return Order(
            payment_hash=payment_hash,
            dest=dest,
            amount_msat=amount_msat,
            fee_limit_msat=request.fee_limit_msat or request.fee_limit_sat * 1000,
            timeout_s=request.timeout_seconds,
            max_parts=request.max_parts or 1,
            bolt11=request.payment_request,
            keysend_preimage=preimage,
            die_at=die_at,
            stuck=stuck,
        )

    def _invoice(self, request: Any, amount_msat: int) -> tuple[bytes, bytes, int, bytes]:
        for name in ("dest", "payment_hash", "final_cltv_delta", "payment_addr"):
            if getattr(request, name):
                raise Refusal(f"{name} and payment_request cannot appear together")
        payment_hash, dest, named_msat = read_invoice(request.payment_request, time.time())
        if named_msat and amount_msat:
            raise Refusal("amount must not be specified when paying a non-zero amount invoice")
        if not named_msat and not amount_msat:
            raise Refusal("amount must be specified when paying a zero amount invoice")
        return payment_hash, dest, named_msat or amount_msat, b""

    def _keysend(self, request: Any) -> tuple[bytes, bytes, bytes]:
        preimage = request.dest_custom_records.get(KEYSEND_RECORD, b"")
        if len(request.dest) != 33:
            raise Refusal("invalid vertex length of " + str(len(request.dest)) + ", want 33")
        if len(request.payment_hash) != 32:
            raise Refusal("invalid payment hash length")
        if not preimage:
            raise Refusal("payment address must be specified")
        if keysend_hash(preimage) != request.payment_hash:
            raise Refusal("hash doesn't match keysend preimage")
        return request.payment_hash, request.dest, preimage

    async def send(self, request: Any, order: Order) -> AsyncIterator[Any]:
        """SendPaymentV2 from Init on."""
        with self.engine.watching(order.payment_hash) as queue:
            self.engine.send(order)
            async for message in self._stream(order.payment_hash, queue, bool(request.no_inflight_updates)):
                yield message

    async def track(self, request: Any) -> AsyncIterator[Any]:
        """TrackPaymentV2."""
        if self.store.get(request.payment_hash) is None:
            raise NoSuchPayment
        with self.engine.watching(request.payment_hash) as queue:
            async for message in self._stream(request.payment_hash, queue, bool(request.no_inflight_updates)):
                yield message

    async def _stream(self, payment_hash: bytes, queue: Any, quiet: bool) -> AsyncIterator[Any]:
        """The current state at once, then each change; ends after the final one."""
        payment: Payment | None = self.store.get(payment_hash)
        while payment is not None:
            if payment.status != IN_FLIGHT or not quiet:
                yield payment_message(payment, self.store)
            if payment.status != IN_FLIGHT:
                return
            payment = await queue.get()

    def estimate_fee(self, request: Any) -> Any:
        """EstimateRouteFee."""
        if not self.engine.truth.knows(request.dest):
            raise Refusal("unable to find a path to destination")
        return router.RouteFeeResponse(
            routing_fee_msat=self.engine.fee_msat(request.amt_sat * 1000), time_lock_delay=144
        )

    def decode(self, request: Any) -> Any:
        """DecodePayReq."""
        try:
            invoice = decode(request.pay_req)
        except NoInvoice as error:
            raise Refusal(str(error)) from error
        if invoice.network != "bcrt":
            raise Refusal("invoice not for current active network 'regtest'")
        return ln.PayReq(
            destination=invoice.dest.hex(),
            payment_hash=invoice.payment_hash.hex(),
            num_satoshis=invoice.amount_msat // 1000,
            num_msat=invoice.amount_msat,
            timestamp=invoice.created_at_s,
            expiry=invoice.expiry_s,
            description=invoice.description,
            description_hash=invoice.description_hash.hex(),
            cltv_expiry=invoice.min_final_cltv,
            payment_addr=invoice.payment_addr,
        )

    def list_payments(self, request: Any) -> Any:
        """ListPayments."""
        found = self.store.page(
            request.index_offset, request.max_payments or 1 << 40, request.include_incomplete, request.reversed
        )
        found.sort(key=lambda payment: payment.payment_index)
        return ln.ListPaymentsResponse(
            payments=[payment_message(payment, self.store) for payment in found],
            first_index_offset=found[0].payment_index if found else 0,
            last_index_offset=found[-1].payment_index if found else 0,
            total_num_payments=self.store.count() if request.count_total_payments else 0,
        )

    def delete_payment(self, request: Any) -> Any:
        """DeletePayment: makes a paid invoice payable again, which is why the pool's macaroon cannot."""
        try:
            self.store.delete(request.payment_hash)
        except ValueError as error:
            raise Refusal(str(error)) from error
        return ln.DeletePaymentResponse()

    def wallet_balance(self, _: Any) -> Any:
        """WalletBalance."""
        return balance_messages(self.store)[0]

    def channel_balance(self, _: Any) -> Any:
        """ChannelBalance."""
        return balance_messages(self.store)[1]

    def pending_channels(self, _: Any) -> Any:
        """PendingChannels: none ever."""
        return ln.PendingChannelsResponse()

    def info(self, _: Any) -> Any:
        """GetInfo."""
        return info_message(self.engine.pubkey, int(time.time()))
