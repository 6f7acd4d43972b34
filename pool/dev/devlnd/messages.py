"""What the node knows, as LND's messages."""

from __future__ import annotations

from typing import Any

from pool.dev.devlnd.guard import LABEL
from pool.dev.devlnd.store import HTLC_SUCCEEDED, IN_FLIGHT, INITIATED, Payment, Store
from pool.dev.devlnd.stubs import lightning_pb2 as ln


def payment_message(payment: Payment, store: Store) -> Any:
    """A lnrpc.Payment: fees of settled HTLCs only, a preimage of zeros until settled."""
    fee_msat = sum(htlc.fee_msat for htlc in payment.htlcs if htlc.status == HTLC_SUCCEEDED)
    status = payment.status
    if status == IN_FLIGHT and not payment.htlcs and store.settings.use_initiated:
        status = INITIATED
    message = ln.Payment(
        payment_hash=payment.payment_hash.hex(),
        payment_preimage=payment.preimage.hex(),
        value_sat=payment.value_msat // 1000,
        value_msat=payment.value_msat,
        payment_request=payment.bolt11,
        status=status,
        fee_sat=fee_msat // 1000,
        fee_msat=fee_msat,
        creation_time_ns=payment.created_ns,
        payment_index=payment.payment_index,
        failure_reason=payment.failure_reason,
    )
    for htlc in payment.htlcs:
        message.htlcs.add(
            attempt_id=htlc.attempt_id,
            status=htlc.status,
            route=ln.Route(
                total_fees_msat=htlc.fee_msat,
                total_amt_msat=htlc.amount_msat + htlc.fee_msat,
                hops=[ln.Hop(amt_to_forward_msat=htlc.amount_msat)],
            ),
            attempt_time_ns=htlc.created_ns,
            resolve_time_ns=htlc.resolved_ns,
            preimage=payment.preimage if htlc.status == HTLC_SUCCEEDED else b"",
        )
    return message


def balance_messages(store: Store) -> tuple[Any, Any]:
    """WalletBalanceResponse and ChannelBalanceResponse."""
    wallet = store.settings.wallet_sat

    def amount(name: str) -> Any:
        msat = store.balance(name)
        return ln.Amount(sat=msat // 1000, msat=msat)

    channels = ln.ChannelBalanceResponse(
        local_balance=amount("local_msat"),
        unsettled_local_balance=amount("unsettled_msat"),
        remote_balance=amount("remote_msat"),
    )
    return ln.WalletBalanceResponse(total_balance=wallet, confirmed_balance=wallet), channels


def info_message(pubkey: bytes, now_s: int) -> Any:
    """GetInfoResponse; version and alias say plainly what this is."""
    return ln.GetInfoResponse(
        version=f"0.0.0 {LABEL}",
        identity_pubkey=pubkey.hex(),
        alias=LABEL,
        num_active_channels=1,
        best_header_timestamp=now_s,
        synced_to_chain=True,
        synced_to_graph=True,
        chains=[ln.Chain(chain="bitcoin", network="regtest")],
    )
