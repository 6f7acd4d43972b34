"""The node's gRPC face: who may call, in which phase, which fault strikes, and the status code of each refusal."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio

from pool.dev.devlnd.control import Control, forever
from pool.dev.devlnd.engine import Refusal
from pool.dev.devlnd.faults import Fault, Faults
from pool.dev.devlnd.services import NoSuchPayment, Services
from pool.dev.devlnd.stubs import lightning_pb2 as ln
from pool.dev.devlnd.stubs import router_pb2 as router

_PHASES = {
    "starting": "the RPC server is in the process of starting up, but not yet ready to accept calls",
    "locked": "wallet locked, unlock it to enable full RPC access",
    "stopping": "routerrpc server shutting down",
}
#: What the pool's own macaroon may do: nothing that makes LND forget a payment.
PAYOUT_URIS = frozenset(
    [f"/routerrpc.Router/{name}" for name in ("SendPaymentV2", "TrackPaymentV2", "EstimateRouteFee")]
    + [
        f"/lnrpc.Lightning/{name}"
        for name in ("DecodePayReq", "GetInfo", "ChannelBalance", "WalletBalance", "ListPayments", "PendingChannels")
    ]
)
_CONTROL = "/mmsp.devlnd.Control/Call"
Unary = Callable[[Any], Any]


class LndServer:
    """Serves; `macaroons` are hex -> the URIs it opens, None for all. `stop` ends every stream."""

    def __init__(
        self, services: Services, control: Control, faults: Faults, macaroons: dict[str, frozenset[str] | None]
    ) -> None:
        self._services, self._control, self._faults, self._macaroons = services, control, faults, macaroons
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 4 << 20)])
        self.server.add_generic_rpc_handlers(tuple(self._handlers()))
        self._ending = asyncio.Event()

    async def stop(self) -> None:
        """End every stream with LND's words for it, then stop."""
        self._control.phase = "stopping"
        self._ending.set()
        await self.server.stop(0.5)

    def _handlers(self) -> list[Any]:
        one, two = self._services, ln
        lightning: dict[str, tuple[Unary, Any, Any]] = {
            "GetInfo": (one.info, two.GetInfoRequest, two.GetInfoResponse),
            "DecodePayReq": (one.decode, two.PayReqString, two.PayReq),
            "ListPayments": (one.list_payments, two.ListPaymentsRequest, two.ListPaymentsResponse),
            "WalletBalance": (one.wallet_balance, two.WalletBalanceRequest, two.WalletBalanceResponse),
            "ChannelBalance": (one.channel_balance, two.ChannelBalanceRequest, two.ChannelBalanceResponse),
            "PendingChannels": (one.pending_channels, two.PendingChannelsRequest, two.PendingChannelsResponse),
            "DeletePayment": (one.delete_payment, two.DeletePaymentRequest, two.DeletePaymentResponse),
        }
        methods = {name: self._unary("/lnrpc.Lightning/" + name, *parts) for name, parts in lightning.items()}
        estimate = self._unary(
            "/routerrpc.Router/EstimateRouteFee", one.estimate_fee, router.RouteFeeRequest, router.RouteFeeResponse
        )
        routes = {
            "EstimateRouteFee": estimate,
            "SendPaymentV2": self._stream(self._send, router.SendPaymentRequest),
            "TrackPaymentV2": self._stream(self._track, router.TrackPaymentRequest),
        }
        call = grpc.unary_unary_rpc_method_handler(self._control_call)
        return [
            grpc.method_handlers_generic_handler("lnrpc.Lightning", methods),
            grpc.method_handlers_generic_handler("routerrpc.Router", routes),
            grpc.method_handlers_generic_handler("mmsp.devlnd.Control", {"Call": call}),
        ]

    def _unary(self, uri: str, method: Unary, request: Any, response: Any) -> Any:
        async def handle(message: Any, context: Any) -> Any:
            await self._admit(uri, context)
            await self._before(self._faults.strike(uri.rpartition("/")[2]), context)
            try:
                return method(message)
            except Refusal as refusal:
                await context.abort(grpc.StatusCode.UNKNOWN, str(refusal))

        return grpc.unary_unary_rpc_method_handler(
            handle, request_deserializer=request.FromString, response_serializer=response.SerializeToString
        )

    def _stream(self, method: Callable[[Any, Any], AsyncIterator[Any]], request: Any) -> Any:
        return grpc.unary_stream_rpc_method_handler(
            method, request_deserializer=request.FromString, response_serializer=ln.Payment.SerializeToString
        )

    async def _control_call(self, body: bytes, context: Any) -> bytes:
        await self._admit(_CONTROL, context)
        return self._control.call(body)

    async def _send(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._admit("/routerrpc.Router/SendPaymentV2", context)
        fault = self._faults.strike("SendPaymentV2")
        if fault is not None and fault.kind in ("park", "copy"):
            self._control.parked.append(request)
        if fault is not None and fault.kind == "park":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        await self._before(fault, context)
        try:
            messages = self._services.send(request, self._services.order(request, fault))
            async for message in self._delivered(messages, fault, context):
                yield message
        except Refusal as refusal:
            code = grpc.StatusCode.ALREADY_EXISTS if refusal.exists else grpc.StatusCode.UNKNOWN
            await context.abort(code, str(refusal))

    async def _track(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._admit("/routerrpc.Router/TrackPaymentV2", context)
        fault = self._faults.strike("TrackPaymentV2")
        await self._before(fault, context)
        try:
            async for message in self._delivered(self._services.track(request), fault, context):
                yield message
        except NoSuchPayment:
            await context.abort(grpc.StatusCode.NOT_FOUND, "payment isn't initiated")

    async def _delivered(self, messages: AsyncIterator[Any], fault: Fault | None, context: Any) -> AsyncIterator[Any]:
        """Messages to the client until the end, the shutdown, or the fault."""
        cutting = fault is not None and fault.kind in ("cut", "eof")
        told = 0
        try:
            while True:
                if cutting and fault is not None and told >= fault.after:
                    if fault.kind == "cut":
                        await context.abort(grpc.StatusCode[fault.code], fault.text)
                    return
                try:
                    message = await self._next(messages)
                except StopAsyncIteration:
                    return
                if message is None:
                    await context.abort(grpc.StatusCode.UNKNOWN, _PHASES["stopping"])
                yield message
                told += 1
        finally:
            with contextlib.suppress(RuntimeError):
                await messages.aclose()  # type: ignore[attr-defined]

    async def _next(self, messages: AsyncIterator[Any]) -> Any | None:
        """The next message; None at a shutdown; StopAsyncIteration at the end."""
        sentinel = object()

        async def read() -> Any:  # a task may not end with StopAsyncIteration
            return await anext(messages, sentinel)

        reading, ending = asyncio.ensure_future(read()), asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return None
            message = reading.result()
        finally:
            for task in (reading, ending):
                task.cancel()
            await asyncio.gather(reading, ending, return_exceptions=True)
        if message is sentinel:
            raise StopAsyncIteration
        return message

    async def _admit(self, uri: str, context: Any) -> None:
        """LND's order: the phase first, then the macaroon; every refusal has the code UNKNOWN."""
        if uri != _CONTROL and self._control.phase != "ready":
            await context.abort(grpc.StatusCode.UNKNOWN, _PHASES[self._control.phase])
        shown = [str(value) for key, value in context.invocation_metadata() or () if key == "macaroon"]
        if len(shown) != 1:
            await context.abort(grpc.StatusCode.UNKNOWN, f"expected 1 macaroon, got {len(shown)}")
        for macaroon, uris in self._macaroons.items():
            if hmac.compare_digest(macaroon.encode(), shown[0].encode()):
                if uris is None or uri in uris:
                    return
                await context.abort(grpc.StatusCode.UNKNOWN, "permission denied")
        await context.abort(
            grpc.StatusCode.UNKNOWN, "verification failed: signature mismatch after caveat verification"
        )

    async def _before(self, fault: Fault | None, context: Any) -> None:
        """What strikes before anything is done."""
        if fault is not None and fault.kind == "error":
            await context.abort(grpc.StatusCode[fault.code], fault.text)
        if fault is not None and fault.kind == "silence":
            await forever()
