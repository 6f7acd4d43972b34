"""What the port promises of any Lightning node behind it: one suite for the development node and for real LND."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pool.payout.backend import (
    AlreadyExists,
    Failure,
    FeeEstimate,
    Identity,
    Invoice,
    NoInformation,
    NotFound,
    PaymentPage,
    SendRequest,
    State,
    Status,
    all_payments,
)
from rig.devlnd import DEADLINE_S, Node, last, play

Story = Callable[[Node], Awaitable[None]]
Play = Callable[[Story], None]


@pytest.fixture(params=["devlnd"])
def lnd_kind(request: pytest.FixtureRequest) -> str:
    """Which node stands behind the port. Real LND is added here with the rig that starts it."""
    return str(request.param)


@pytest.fixture
def tell(lnd_kind: str, tmp_path: Path) -> Play:
    assert lnd_kind == "devlnd"
    return lambda story: play(tmp_path / "lnd", story)


def test_a_paid_invoice_reaches_its_payee_and_the_status_proves_it(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice(500_000)
        before = await node.lnd.balances()
        outcomes = await node.pay(payment_hash, bolt11)
        first, end = outcomes[0], last(outcomes)
        assert isinstance(first, Status)
        assert first.preimage is None
        assert isinstance(end, Status)
        assert end.state is State.SUCCEEDED
        assert end.proven
        assert end.settled_msat == 500_000 + end.fee_msat
        assert await node.received_msat(payment_hash) == [500_000]
        assert await node.lnd.look(payment_hash) == end
        after = await node.lnd.balances()
        assert not isinstance(before, NoInformation)
        assert not isinstance(after, NoInformation)
        assert before.channels_msat - after.channels_msat == end.settled_msat

    tell(story)


def test_an_invoice_sent_twice_is_paid_once_and_the_second_send_is_told_that_it_exists(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice()
        await node.pay(payment_hash, bolt11)
        assert await node.pay(payment_hash, bolt11) == [AlreadyExists(payment_hash)]
        held, held11 = await node.invoice(conduct={"act": "hold"})
        sending = asyncio.create_task(node.pay(held, held11))
        await node.held(held)
        assert await node.pay(held, held11) == [AlreadyExists(held)]
        await node.settle(held)
        end = last(await sending)
        assert isinstance(end, Status)
        assert end.proven
        assert await node.received_msat(payment_hash) == await node.received_msat(held) == [500_000]

    tell(story)


def test_a_hash_that_was_never_sent_is_not_found(tell: Play) -> None:
    async def story(node: Node) -> None:
        unknown = secrets.token_bytes(32)
        assert await node.lnd.look(unknown) == NotFound(unknown)

    tell(story)


def test_a_refused_request_is_no_information_and_leaves_no_record(tell: Play) -> None:
    async def story(node: Node) -> None:
        expired = await node.invoice(created_at_s=int(time.time()) - 7200)
        foreign = await node.invoice(network="bc")
        unsafe = await node.invoice(addr=False)
        nameless = await node.invoice(0)
        for payment_hash, bolt11 in (expired, foreign, unsafe, nameless):
            outcomes = await node.pay(payment_hash, bolt11)
            assert len(outcomes) == 1
            assert isinstance(outcomes[0], NoInformation)
            assert await node.lnd.look(payment_hash) == NotFound(payment_hash)
        assert await node.lnd.list_payments(0) == PaymentPage((), 0)

    tell(story)


def test_a_failed_payment_may_be_sent_anew_and_gets_a_new_index(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice()
        first = last(await node.pay(payment_hash, bolt11, fee_limit_msat=0))
        assert isinstance(first, Status)
        assert (first.state, first.failure_code) == (State.FAILED, Failure.NO_ROUTE)
        assert first.settled_msat == 0
        second = last(await node.pay(payment_hash, bolt11))
        assert isinstance(second, Status)
        assert second.proven
        assert second.payment_index > first.payment_index
        page = await node.lnd.list_payments(0)
        assert isinstance(page, PaymentPage)
        assert [one.payment_index for one in page.payments] == [second.payment_index]

    tell(story)


def test_a_held_payment_stays_open_over_a_lost_client_and_a_killed_node_until_its_payee_decides(tell: Play) -> None:
    async def story(node: Node) -> None:
        taken, given_back = await node.invoice(conduct={"act": "hold"}), await node.invoice(conduct={"act": "hold"})
        for payment_hash, bolt11 in (taken, given_back):
            sending = asyncio.create_task(node.pay(payment_hash, bolt11))
            await node.held(payment_hash)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
        await node.kill()
        for payment_hash, _ in (taken, given_back):
            assert (await node.held(payment_hash)).state is State.OPEN
        await node.settle(taken[0])
        await node.cancel(given_back[0])
        assert (await node.end(taken[0])).proven
        assert (await node.end(given_back[0])).state is State.FAILED
        assert await node.received_msat(taken[0]) == [500_000]
        assert await node.received_msat(given_back[0]) == []

    tell(story)


def test_a_hold_outlives_its_invoice_and_its_timeout_and_can_still_succeed(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice(expiry_s=3, conduct={"act": "hold"})
        sending = asyncio.create_task(node.pay(payment_hash, bolt11, timeout_s=1))
        await node.until(payment_hash, lambda status: status.failure_code == Failure.TIMEOUT)
        assert (await node.held(payment_hash)).state is State.OPEN
        await asyncio.sleep(max(0, (await _decoded(node, bolt11)).created_at_s + 3.1 - time.time()))  # it expires
        await node.settle(payment_hash)
        end = last(await sending)
        assert isinstance(end, Status)
        assert end.proven
        assert await node.received_msat(payment_hash) == [500_000]

    tell(story)


async def _decoded(node: Node, bolt11: str) -> Invoice:
    invoice = await node.lnd.decode(bolt11)
    assert isinstance(invoice, Invoice)
    return invoice


def test_an_invoice_is_read_and_a_changed_one_is_not(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice(123_456, expiry_s=900, description="café")
        invoice = await _decoded(node, bolt11)
        assert (invoice.payment_hash, invoice.amount_msat, invoice.expiry_s) == (payment_hash, 123_456, 900)
        assert invoice.description == "café"
        assert len(invoice.payment_addr) == 32
        assert abs(invoice.created_at_s - time.time()) < 60
        changed = bolt11[:-1] + ("q" if bolt11[-1] != "q" else "p")
        assert isinstance(await node.lnd.decode(changed), NoInformation)
        fee = await node.lnd.estimate_fee(invoice.dest, 500)
        assert isinstance(fee, FeeEstimate)
        assert 0 <= fee.fee_msat < 500_000
        assert isinstance(await node.lnd.estimate_fee(bytes([2]) * 33, 500), NoInformation)

    tell(story)


def test_a_keysend_is_paid_once_under_the_hash_that_we_chose(tell: Play) -> None:
    async def story(node: Node) -> None:
        dest = bytes.fromhex(await node.do("payee", name="carol"))
        preimage = secrets.token_bytes(32)
        payment_hash = hashlib.sha256(preimage).digest()
        request = SendRequest(payment_hash, 700_000, 5_000, dest=dest, preimage=preimage, max_parts=1)
        assert preimage.hex() not in repr(request)
        end = last([outcome async for outcome in node.lnd.send(request, DEADLINE_S)])
        assert isinstance(end, Status)
        assert end.proven
        assert end.preimage == preimage
        again = [outcome async for outcome in node.lnd.send(request, DEADLINE_S)]
        assert again == [AlreadyExists(payment_hash)]
        assert await node.received_msat(payment_hash) == [700_000]

    tell(story)


def test_the_list_of_payments_is_whole_in_order_and_holds_open_ones_page_by_page(tell: Play) -> None:
    async def story(node: Node) -> None:
        made = [await node.invoice() for _ in range(5)]
        held = await node.invoice(conduct={"act": "hold"})
        for payment_hash, bolt11 in made:
            await node.pay(payment_hash, bolt11)
        sending = asyncio.create_task(node.pay(*held))
        await node.held(held[0])
        listed = [one async for one in all_payments(node.lnd, page=2)]
        assert [one.payment_hash for one in listed if isinstance(one, Status)] == [h for h, _ in [*made, held]]
        statuses = [one for one in listed if isinstance(one, Status)]
        assert len(statuses) == len(listed)
        assert statuses[-1].state is State.OPEN
        later = [one async for one in all_payments(node.lnd, statuses[3].payment_index)]
        assert later == statuses[4:]
        await node.cancel(held[0])
        await sending

    tell(story)


def test_the_coins_of_an_open_payment_are_counted_until_it_ends(tell: Play) -> None:
    async def story(node: Node) -> None:
        before = await node.lnd.balances()
        payment_hash, bolt11 = await node.invoice(900_000, conduct={"act": "hold"})
        sending = asyncio.create_task(node.pay(payment_hash, bolt11, 900_000))
        status = await node.held(payment_hash)
        during = await node.lnd.balances()
        assert not isinstance(before, NoInformation)
        assert not isinstance(during, NoInformation)
        assert during.unsettled_local_msat == status.in_flight_msat == before.local_msat - during.local_msat
        assert during.channels_msat == before.channels_msat
        await node.cancel(payment_hash)
        await sending
        assert await node.lnd.balances() == before

    tell(story)


def test_the_node_says_who_it_is_and_is_the_same_after_a_restart(tell: Play) -> None:
    async def story(node: Node) -> None:
        before = await node.lnd.identity()
        assert isinstance(before, Identity)
        assert before.network == "regtest"
        assert before.synced_to_chain
        assert len(before.pubkey) == 33
        await node.child.stop()
        assert isinstance(await node.lnd.identity(), NoInformation)
        await node.child.start()
        await node.answer(bytes(32))
        after = await node.lnd.identity()
        assert isinstance(after, Identity)
        assert after.pubkey == before.pubkey

    tell(story)


def test_a_wrong_macaroon_learns_nothing(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice()
        await node.pay(payment_hash, bolt11)
        stranger = node.connect(secrets.token_bytes(48))
        assert isinstance(await stranger.look(payment_hash), NoInformation)
        assert isinstance(await stranger.identity(), NoInformation)
        await stranger.close()

    tell(story)
