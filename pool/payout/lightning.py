"""LND behind the `LightningBackend` port: compiled stubs on grpc.aio, every answer turned into a typed outcome."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import grpc.aio

from pool.payout.backend import (
    HASH_BYTES,
    PUBKEY_BYTES,
    AlreadyExists,
    Balances,
    Cause,
    FeeEstimate,
    Identity,
    Invoice,
    NoInformation,
    NotFound,
    PaymentPage,
    SendOutcome,
    SendRequest,
    State,
    Status,
    TrackOutcome,
)
from pool.payout.stubs import lightning_pb2, lightning_pb2_grpc, router_pb2, router_pb2_grpc

T = TypeVar("T")
_Heard = Status | NotFound | AlreadyExists | NoInformation
READ_S = 10.0
LIST_S = 60.0
KEYSEND_RECORD = 5482373484  # TLV type of the preimage, in use by every implementation; no BOLT names it
_ENDS = {2: State.SUCCEEDED, 3: State.FAILED}  # lnrpc.Payment.PaymentStatus; newer LND adds numbers: compare integers
_HTLC_IN_FLIGHT, _HTLC_SETTLED = 0, 1
_OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 60_000),  # LND allows a ping every 5 s
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 0),  # a resend is the payout machine's decision, and it counts them
]
_CAUSES = {grpc.StatusCode.UNAVAILABLE: Cause.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED: Cause.DEADLINE}


@dataclass(frozen=True, slots=True)
class Access:
    """Where LND listens and what opens it. ValueError for plain text to anything but a loopback address."""

    address: str  # host:port
    certificate_pem: bytes = field(default=b"", repr=False)  # b"": plain text
    macaroon: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        host, colon, port = self.address.rpartition(":")
        if not colon or not host or not port.isdigit():
            raise ValueError(f"{self.address!r} is not host:port")
        if not self.certificate_pem and not _loopback(host.strip("[]")):
            raise ValueError(f"no certificate for {self.address}: plain text goes to a loopback address only")

    @classmethod
    def read(cls, address: str, certificate: Path | None, macaroon: Path) -> Self:
        """From LND's own files; OSError if one cannot be read."""
        return cls(address, certificate.read_bytes() if certificate else b"", macaroon.read_bytes())


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, "localhost" too: whatever it resolves to
        return False


class Lnd:
    """One LND. Create it inside the running loop; `await close()` when done."""

    def __init__(self, access: Access) -> None:
        self._metadata = (("macaroon", access.macaroon.hex()),) if access.macaroon else ()
        if access.certificate_pem:
            credentials = grpc.ssl_channel_credentials(access.certificate_pem)
            self._channel = grpc.aio.secure_channel(access.address, credentials, options=_OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(access.address, options=_OPTIONS)
        self._lightning = lightning_pb2_grpc.LightningStub(self._channel)
        self._router = router_pb2_grpc.RouterStub(self._channel)

    async def close(self) -> None:
        """Close the connection; streams that are open end, payments do not."""
        await self._channel.close(None)

    async def send(self, request: SendRequest, deadline_s: float) -> AsyncGenerator[SendOutcome, None]:
        """See `LightningBackend.send`."""
        call = self._router.SendPaymentV2(_send_message(request), timeout=deadline_s, metadata=self._metadata)
        async with contextlib.aclosing(_follow(call, request.payment_hash)) as outcomes:
            async for outcome in outcomes:
                if isinstance(outcome, NotFound):  # no answer that SendPaymentV2 gives
                    yield NoInformation(Cause.NONSENSE, "NOT_FOUND as the answer to a send")
                else:
                    yield outcome

    async def track(self, payment_hash: bytes, deadline_s: float) -> AsyncGenerator[TrackOutcome, None]:
        """See `LightningBackend.track`."""
        # With no_inflight_updates LND stays silent on an open payment: a recovery would hang on one hold invoice.
        message = router_pb2.TrackPaymentRequest(payment_hash=_hash(payment_hash), no_inflight_updates=False)
        call = self._router.TrackPaymentV2(message, timeout=deadline_s, metadata=self._metadata)
        async with contextlib.aclosing(_follow(call, payment_hash)) as outcomes:
            async for outcome in outcomes:
                if isinstance(outcome, AlreadyExists):
                    yield NoInformation(Cause.NONSENSE, "ALREADY_EXISTS as the answer to a track")
                else:
                    yield outcome

    async def look(self, payment_hash: bytes, deadline_s: float = READ_S) -> TrackOutcome:
        """See `LightningBackend.look`."""
        async with contextlib.aclosing(self.track(payment_hash, deadline_s)) as outcomes:
            async for outcome in outcomes:
                return outcome
        raise AssertionError("a tracked payment always has an outcome")

    async def decode(self, bolt11: str) -> Invoice | NoInformation:
        """See `LightningBackend.decode`."""
        answer = await self._read(self._lightning.DecodePayReq, lightning_pb2.PayReqString(pay_req=bolt11))
        return answer if isinstance(answer, NoInformation) else _understood(lambda: _invoice(answer))

    async def estimate_fee(self, dest: bytes, amount_sat: int) -> FeeEstimate | NoInformation:
        """See `LightningBackend.estimate_fee`."""
        message = router_pb2.RouteFeeRequest(dest=dest, amt_sat=amount_sat)
        answer = await self._read(self._router.EstimateRouteFee, message)
        if isinstance(answer, NoInformation):
            return answer
        return FeeEstimate(answer.routing_fee_msat, answer.time_lock_delay)

    async def list_payments(self, after_index: int, most: int = 500) -> PaymentPage | NoInformation:
        """See `LightningBackend.list_payments`."""
        message = lightning_pb2.ListPaymentsRequest(
            include_incomplete=True, index_offset=after_index, max_payments=most
        )
        answer = await self._read(self._lightning.ListPayments, message, LIST_S)
        if isinstance(answer, NoInformation):
            return answer
        return _understood(
            lambda: PaymentPage(tuple(status_of(payment) for payment in answer.payments), answer.last_index_offset)
        )

    async def balances(self) -> Balances | NoInformation:
        """See `LightningBackend.balances`."""
        wallet = await self._read(self._lightning.WalletBalance, lightning_pb2.WalletBalanceRequest())
        if isinstance(wallet, NoInformation):
            return wallet
        channels = await self._read(self._lightning.ChannelBalance, lightning_pb2.ChannelBalanceRequest())
        if isinstance(channels, NoInformation):
            return channels
        pending = await self._read(self._lightning.PendingChannels, lightning_pb2.PendingChannelsRequest())
        if isinstance(pending, NoInformation):
            return pending
        return Balances(
            onchain_confirmed_sat=wallet.confirmed_balance,
            onchain_unconfirmed_sat=wallet.unconfirmed_balance,
            onchain_locked_sat=wallet.locked_balance,
            local_msat=channels.local_balance.msat,
            unsettled_local_msat=channels.unsettled_local_balance.msat,
            remote_msat=channels.remote_balance.msat,
            pending_open_local_msat=channels.pending_open_local_balance.msat,
            limbo_sat=pending.total_limbo_balance,
        )

    async def identity(self) -> Identity | NoInformation:
        """See `LightningBackend.identity`."""
        answer = await self._read(self._lightning.GetInfo, lightning_pb2.GetInfoRequest())
        return answer if isinstance(answer, NoInformation) else _understood(lambda: _identity(answer))

    async def _read(
        self, method: Callable[..., Awaitable[Any]], message: object, deadline_s: float = READ_S
    ) -> Any | NoInformation:
        try:
            return await method(message, timeout=deadline_s, metadata=self._metadata)
        except grpc.RpcError as error:
            return no_information(error)


def _understood(read: Callable[[], T]) -> T | NoInformation:
    """An answer that cannot be read is no answer."""
    try:
        return read()
    except ValueError as error:
        return NoInformation(Cause.NONSENSE, str(error))


def _hash(payment_hash: bytes) -> bytes:
    if len(payment_hash) != HASH_BYTES:
        raise ValueError(f"payment_hash has {len(payment_hash)} bytes, not {HASH_BYTES}")
    return payment_hash


def _send_message(request: SendRequest) -> Any:
    message = router_pb2.SendPaymentRequest(
        fee_limit_msat=request.fee_limit_msat,
        timeout_seconds=request.timeout_s,
        cltv_limit=request.cltv_limit,
        max_parts=request.max_parts,
        no_inflight_updates=False,
    )
    if request.bolt11:
        message.payment_request = request.bolt11  # its own amount: LND refuses a second one beside it
    else:
        message.dest, message.payment_hash = request.dest, request.payment_hash
        message.amt_msat = request.amount_msat
        message.dest_custom_records[KEYSEND_RECORD] = request.preimage
    return message


async def _follow(call: Any, payment_hash: bytes) -> AsyncGenerator[_Heard, None]:
    """Outcomes of a payment stream: statuses until a final one, or one other outcome, which is the last."""
    heard = False
    try:
        async for payment in call:
            try:
                status = status_of(payment)
            except ValueError as error:
                yield NoInformation(Cause.NONSENSE, str(error))
                return
            if status.payment_hash != payment_hash:
                yield NoInformation(Cause.NONSENSE, f"asked for {payment_hash.hex()}, told of {payment.payment_hash}")
                return
            yield status
            heard = True
            if status.final:
                return
        yield NoInformation(Cause.ENDED, "the stream ended before the payment did")
    except grpc.RpcError as error:
        # Both codes are the node's own and only ever its first word: gRPC itself makes neither.
        if not heard and error.code() is grpc.StatusCode.NOT_FOUND:
            yield NotFound(payment_hash)
        elif not heard and error.code() is grpc.StatusCode.ALREADY_EXISTS:
            yield AlreadyExists(payment_hash)
        else:
            yield no_information(error)
    finally:
        call.cancel()


def no_information(error: grpc.RpcError) -> NoInformation:
    """What any gRPC error says about a payment: nothing."""
    code = error.code()
    return NoInformation(_CAUSES.get(code, Cause.ERROR), f"{code.name}: {error.details()}"[:500])


def status_of(payment: Any) -> Status:
    """A lnrpc.Payment as a Status; ValueError if its hash or preimage is no hash."""
    preimage = _bytes_of(payment.payment_preimage, "preimage", HASH_BYTES) if payment.payment_preimage else bytes(32)
    settled = in_flight = 0
    for htlc in payment.htlcs:
        settled += htlc.route.total_amt_msat if htlc.status == _HTLC_SETTLED else 0
        in_flight += htlc.route.total_amt_msat if htlc.status == _HTLC_IN_FLIGHT else 0
    return Status(
        payment_hash=_bytes_of(payment.payment_hash, "payment hash", HASH_BYTES),
        state=_ENDS.get(int(payment.status), State.OPEN),
        status_code=int(payment.status),
        failure_code=int(payment.failure_reason),
        payment_index=payment.payment_index,
        value_msat=payment.value_msat,
        fee_msat=payment.fee_msat,
        settled_msat=settled,
        in_flight_msat=in_flight,
        preimage=preimage if any(preimage) else None,  # zeros until settled
        created_at_ns=payment.creation_time_ns,
    )


def _bytes_of(text: str, what: str, length: int) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"the node's {what} is not hex") from None
    if len(value) != length:
        raise ValueError(f"the node's {what} has {len(value)} bytes, not {length}")
    return value


def _invoice(answer: Any) -> Invoice:
    return Invoice(
        payment_hash=_bytes_of(answer.payment_hash, "payment hash", HASH_BYTES),
        dest=_bytes_of(answer.destination, "destination", PUBKEY_BYTES),
        amount_msat=answer.num_msat,
        created_at_s=answer.timestamp,
        expiry_s=answer.expiry,
        description=answer.description,
        description_hash=bytes.fromhex(answer.description_hash),
        min_final_cltv=answer.cltv_expiry,
        payment_addr=answer.payment_addr,
    )


def _identity(answer: Any) -> Identity:
    chain = answer.chains[0].network if answer.chains else ""
    return Identity(
        pubkey=_bytes_of(answer.identity_pubkey, "public key", PUBKEY_BYTES),
        version=answer.version,
        network=chain,
        block_height=answer.block_height,
        best_header_time_s=answer.best_header_timestamp,
        synced_to_chain=answer.synced_to_chain,
        active_channels=answer.num_active_channels,
    )
