"""The development Lightning node is wrong in the ways LND can be, and its payees know what they received."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import grpc.aio
import pytest

from pool.dev.devlnd import DevLnd
from pool.dev.devlnd.faults import POINTS
from pool.payout.backend import (
    AlreadyExists,
    Cause,
    Failure,
    Identity,
    NoInformation,
    NotFound,
    PaymentPage,
    SendRequest,
    State,
    Status,
)
from pool.payout.lightning import Access, Lnd
from pool.payout.stubs import lightning_pb2, lightning_pb2_grpc, router_pb2, router_pb2_grpc
from rig.devlnd import DEADLINE_S, Node, last, play

Story = Callable[[Node], Awaitable[None]]
Play = Callable[[Story], None]


@pytest.fixture
def tell(tmp_path: Path) -> Play:
    return lambda story: play(tmp_path / "lnd", story)


async def status(node: Node, payment_hash: bytes) -> Status:
    found = await node.lnd.look(payment_hash)
    assert isinstance(found, Status)
    return found


@pytest.mark.parametrize("sql", [False, True])
def test_already_exists_is_told_by_its_code_whatever_the_backends_text(tell: Play, sql: bool) -> None:
    async def story(node: Node) -> None:
        await node.do("settings", sql_texts=sql)
        payment_hash, bolt11 = await node.invoice()
        await node.pay(payment_hash, bolt11)
        channel, router, metadata = raw(node)
        request = router_pb2.SendPaymentRequest(payment_request=bolt11, timeout_seconds=5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in router.SendPaymentV2(request, timeout=5, metadata=metadata):
                pass
        assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
        assert (caught.value.details() == "invoice is already paid") is not sql
        await channel.close()
        assert await node.pay(payment_hash, bolt11) == [AlreadyExists(payment_hash)]

    tell(story)


def raw(node: Node) -> tuple[grpc.aio.Channel, router_pb2_grpc.RouterStub, tuple[tuple[str, str], ...]]:
    """A channel beside the port, with the admin's macaroon; close it."""
    assert node.child.certificate is not None
    credentials = grpc.ssl_channel_credentials(node.child.certificate.read_bytes())
    channel = grpc.aio.secure_channel(node.child.address, credentials)
    return channel, router_pb2_grpc.RouterStub(channel), (("macaroon", node.child.admin_macaroon.read_bytes().hex()),)


def test_rules_of_amounts_and_fields_refuse_with_unknown_and_leave_no_record(tell: Play) -> None:
    async def story(node: Node) -> None:
        _, bolt11 = await node.invoice()
        dest = bytes.fromhex(await node.do("payee", name="bob"))
        channel, router, metadata = raw(node)
        base = {"timeout_seconds": 5}
        wrong = [
            ({**base, "payment_request": bolt11, "amt_msat": 1}, "amount must not be specified"),
            ({**base, "payment_request": bolt11, "dest": dest}, "cannot appear together"),
            ({"payment_request": bolt11}, "timeout_seconds must be specified"),
            ({**base, "dest": dest, "payment_hash": bytes(32), "amt": 5}, "payment address must be specified"),
            ({**base, "payment_request": bolt11, "amt": 1, "amt_msat": 1}, "mutually exclusive"),
        ]
        for fields, words in wrong:
            with pytest.raises(grpc.aio.AioRpcError, match=words) as caught:
                async for _ in router.SendPaymentV2(
                    router_pb2.SendPaymentRequest(**fields), timeout=5, metadata=metadata
                ):
                    pass
            assert caught.value.code() is grpc.StatusCode.UNKNOWN
        await channel.close()
        assert await node.lnd.list_payments(0) == PaymentPage((), 0)

    tell(story)


def test_the_stream_tells_each_attempt_and_quiet_mode_tells_only_the_end(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice(conduct={"parts": 2, "fail_first": 1})
        outcomes = await node.pay(payment_hash, bolt11, fee_limit_msat=10_000)
        end = last(outcomes)
        assert isinstance(end, Status)
        assert end.proven
        assert end.settled_msat == 500_000 + end.fee_msat
        channel, router, metadata = raw(node)
        request = router_pb2.TrackPaymentRequest(payment_hash=payment_hash, no_inflight_updates=True)
        told = [one async for one in router.TrackPaymentV2(request, timeout=5, metadata=metadata)]
        assert [one.status for one in told] == [2]
        assert sorted(htlc.status for htlc in told[0].htlcs) == [1, 1, 2]
        held, held11 = await node.invoice(conduct={"act": "hold"})
        sending = asyncio.create_task(node.pay(held, held11))
        assert not any((await node.held(held)).preimage or b"")
        quiet = router.TrackPaymentV2(
            router_pb2.TrackPaymentRequest(payment_hash=held, no_inflight_updates=True), timeout=0.3, metadata=metadata
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await quiet.read()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await node.cancel(held)
        await sending
        await channel.close()

    tell(story)


def test_a_request_that_lay_in_a_socket_is_paid_later_and_pays_again_after_failed(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice()
        await node.do("fault", rpc="SendPaymentV2", kind="park")
        [lost] = await node.pay(payment_hash, bolt11)
        assert isinstance(lost, NoInformation)
        assert lost.cause is Cause.UNAVAILABLE
        assert await node.lnd.look(payment_hash) == NotFound(payment_hash)
        failed = last(await node.pay(payment_hash, bolt11, fee_limit_msat=0))
        assert isinstance(failed, Status)
        assert failed.state is State.FAILED
        assert await node.do("deliver") == ["taken"]
        assert (await node.until(payment_hash, lambda one: one.payment_index == 2 and one.final)).proven
        assert await node.received_msat(payment_hash) == [500_000]

    tell(story)


def test_many_sends_of_one_invoice_at_once_pay_it_once(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice()
        ends = list(map(last, await asyncio.gather(*(node.pay(payment_hash, bolt11) for _ in range(20)))))
        assert sum(isinstance(end, Status) and end.proven for end in ends) == 1
        assert ends.count(AlreadyExists(payment_hash)) == 19
        assert await node.received_msat(payment_hash) == [500_000]

    tell(story)


def test_a_request_delivered_twice_is_paid_once(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice()
        await node.do("fault", rpc="SendPaymentV2", kind="copy")
        await node.pay(payment_hash, bolt11)
        assert await node.do("deliver") == ["invoice is already paid"]
        assert await node.received_msat(payment_hash) == [500_000]

    tell(story)


CUTS: list[tuple[dict[str, object], Cause]] = [
    ({"kind": "cut", "after": 1, "code": "UNKNOWN", "text": "Stream removed"}, Cause.ERROR),
    ({"kind": "cut", "after": 1}, Cause.UNAVAILABLE),
    ({"kind": "cut", "after": 1, "code": "NOT_FOUND"}, Cause.ERROR),
    ({"kind": "cut", "after": 1, "code": "ALREADY_EXISTS"}, Cause.ERROR),
    ({"kind": "eof", "after": 1}, Cause.ENDED),
    ({"kind": "eof", "after": 0}, Cause.ENDED),
    ({"kind": "error", "code": "NOT_FOUND"}, Cause.NONSENSE),
    ({"kind": "error", "code": "INTERNAL"}, Cause.ERROR),
    ({"kind": "error", "code": "PERMISSION_DENIED"}, Cause.ERROR),
]


def test_no_error_and_no_end_of_a_send_is_news_about_the_payment(tell: Play) -> None:
    async def story(node: Node) -> None:
        for fault, cause in CUTS:
            payment_hash, bolt11 = await node.invoice(conduct={"act": "hold"})
            await node.do("fault", rpc="SendPaymentV2", **fault)
            end = last(await node.pay(payment_hash, bolt11))
            assert isinstance(end, NoInformation), fault
            assert end.cause is cause, fault
            if fault.get("after") == 1:  # the payment goes on without its stream
                await node.held(payment_hash)
                await node.settle(payment_hash)
                assert (await node.end(payment_hash)).proven

    tell(story)


def test_no_error_of_a_look_is_news_about_the_payment(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice()
        await node.pay(payment_hash, bolt11)
        for code in ("UNKNOWN", "UNAVAILABLE", "ALREADY_EXISTS", "DEADLINE_EXCEEDED"):
            await node.do("fault", rpc="TrackPaymentV2", kind="error", code=code)
            assert isinstance(await node.lnd.look(payment_hash), NoInformation), code
        assert (await status(node, payment_hash)).proven

    tell(story)


def test_a_node_that_is_silent_is_left_at_the_deadline(tell: Play) -> None:
    async def story(node: Node) -> None:
        await node.do("fault", rpc="TrackPaymentV2", kind="silence")
        answer = await node.lnd.look(bytes(32), 0.3)
        assert isinstance(answer, NoInformation)
        assert answer.cause is Cause.DEADLINE
        await node.do("fault", rpc="SendPaymentV2", kind="silence")
        payment_hash, bolt11 = await node.invoice()
        request = SendRequest(payment_hash, 500_000, 5_000, bolt11)
        [outcome] = [one async for one in node.lnd.send(request, 0.3)]
        assert isinstance(outcome, NoInformation)
        assert outcome.cause is Cause.DEADLINE

    tell(story)


def test_a_not_found_window_ends_and_the_payment_was_there_all_along(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice()
        await node.pay(payment_hash, bolt11)
        await node.do("fault", rpc="TrackPaymentV2", kind="error", code="NOT_FOUND", times=2)
        assert [await node.lnd.look(payment_hash) for _ in range(2)] == [NotFound(payment_hash)] * 2
        assert (await status(node, payment_hash)).proven

    tell(story)


def test_status_initiated_is_open_and_a_stuck_payment_is_cleared_by_a_restart_only(tell: Play) -> None:
    async def story(node: Node) -> None:
        await node.do("settings", use_initiated=True)
        await node.do("fault", rpc="SendPaymentV2", kind="stuck")
        payment_hash, bolt11 = await node.invoice()
        sending = asyncio.create_task(node.pay(payment_hash, bolt11))
        stuck = await node.until(payment_hash, lambda one: one.status_code == 4)
        assert stuck.state is State.OPEN
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        assert await node.pay(payment_hash, bolt11) == [AlreadyExists(payment_hash)]
        await node.kill()
        end = await node.end(payment_hash)
        assert (end.state, end.failure_code) == (State.FAILED, Failure.NO_ROUTE)
        assert await node.received_msat(payment_hash) == []

    tell(story)


def test_a_timeout_stops_attempts_that_fail_on_the_way(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice(conduct={"fail_first": 1000, "attempt_ms": 100})
        end = last(await node.pay(payment_hash, bolt11, timeout_s=1))
        assert isinstance(end, Status)
        assert (end.state, end.failure_code) == (State.FAILED, Failure.TIMEOUT)
        assert end.in_flight_msat == end.settled_msat == 0

    tell(story)


@pytest.mark.parametrize("point", POINTS)
def test_a_death_at_every_point_of_a_payment_leaves_what_lnd_would_find(tell: Play, point: str) -> None:
    async def story(node: Node) -> None:
        before = await node.lnd.balances()
        await node.do("fault", rpc="SendPaymentV2", kind="die", point=point)
        payment_hash, bolt11 = await node.invoice()
        assert isinstance(last(await node.pay(payment_hash, bolt11)), NoInformation)
        await node.rise()
        if point == "before_init":
            assert await node.answer(payment_hash) == NotFound(payment_hash)
            received = []
        elif point in ("after_init", "after_register"):
            end = await node.end(payment_hash)
            assert (end.state, end.failure_code) == (State.FAILED, Failure.NO_ROUTE)
            assert await node.lnd.balances() == before
            received = []
        else:
            assert (await node.end(payment_hash)).proven
            received = [500_000]
        assert await node.received_msat(payment_hash) == received

    tell(story)


def test_a_node_that_starts_is_locked_or_stops_answers_unknown_and_that_says_nothing(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice()
        await node.pay(payment_hash, bolt11)
        for phase in ("starting", "locked", "stopping"):
            await node.do("phase", name=phase)
            for answer in (await node.lnd.look(payment_hash), last(await node.pay(payment_hash, bolt11))):
                assert isinstance(answer, NoInformation)
                assert answer.cause is Cause.ERROR
                assert answer.detail.startswith("UNKNOWN: ")
        await node.do("phase", name="ready")
        assert (await status(node, payment_hash)).proven

    tell(story)


def test_a_shutdown_ends_streams_with_unknown_and_the_payment_goes_on_after(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice(conduct={"act": "hold"})
        sending = asyncio.create_task(node.pay(payment_hash, bolt11))
        await node.held(payment_hash)
        await node.child.stop()
        end = last(await sending)
        assert isinstance(end, NoInformation)
        assert "routerrpc server shutting down" in end.detail
        await node.child.start()
        await node.held(payment_hash)
        await node.settle(payment_hash)
        assert (await node.end(payment_hash)).proven

    tell(story)


def test_a_deleted_payment_is_not_found_and_payable_again_and_the_pools_macaroon_cannot_do_that(tell: Play) -> None:
    async def story(node: Node) -> None:
        payment_hash, bolt11 = await node.invoice(conduct={"greedy": True})
        held, held11 = await node.invoice(conduct={"act": "hold"})
        await node.pay(payment_hash, bolt11)
        sending = asyncio.create_task(node.pay(held, held11))
        await node.held(held)
        channel, _, admin = raw(node)
        lightning = lightning_pb2_grpc.LightningStub(channel)
        pools = (("macaroon", node.child.payout_macaroon.read_bytes().hex()),)
        for one, metadata, words in ((payment_hash, pools, "permission denied"), (held, admin, "inflight")):
            with pytest.raises(grpc.aio.AioRpcError, match=words):
                await lightning.DeletePayment(
                    lightning_pb2.DeletePaymentRequest(payment_hash=one), timeout=5, metadata=metadata
                )
        request = lightning_pb2.DeletePaymentRequest(payment_hash=payment_hash)
        await lightning.DeletePayment(request, timeout=5, metadata=admin)
        await channel.close()
        assert await node.lnd.look(payment_hash) == NotFound(payment_hash)
        again = last(await node.pay(payment_hash, bolt11))
        assert isinstance(again, Status)
        assert again.proven
        assert await node.received_msat(payment_hash) == [500_000, 500_000]  # the truth sees the double payment
        await node.cancel(held)
        await sending

    tell(story)


def test_dust_in_a_force_close_is_failed_for_the_payer_and_settled_for_the_payee(tell: Play) -> None:
    async def story(node: Node) -> None:
        before = await node.lnd.balances()
        payment_hash, bolt11 = await node.invoice(300_000, conduct={"force_close": True})
        end = last(await node.pay(payment_hash, bolt11, 300_000))
        assert isinstance(end, Status)
        assert end.state is State.FAILED
        assert await node.received_msat(payment_hash) == [300_000]
        after = await node.lnd.balances()
        assert not isinstance(before, NoInformation)
        assert not isinstance(after, NoInformation)
        assert after.unsettled_local_msat == 0
        assert after.channels_msat < before.channels_msat - 300_000

    tell(story)


def test_liquidity_and_payees_decide_the_reason_of_a_failure(tell: Play) -> None:
    async def story(node: Node) -> None:
        rejected = await node.invoice(conduct={"act": "reject"})
        end = last(await node.pay(*rejected))
        assert isinstance(end, Status)
        assert end.failure_code == Failure.INCORRECT_PAYMENT_DETAILS
        await node.do("settings", route_max_msat=400_000)
        whole, halves = await node.invoice(), await node.invoice(conduct={"parts": 2})
        end = last(await node.pay(*whole))
        assert isinstance(end, Status)
        assert (end.state, end.failure_code) == (State.FAILED, Failure.NO_ROUTE)
        end = last(await node.pay(*halves))
        assert isinstance(end, Status)
        assert end.proven
        await node.do("balance", local_msat=100_000)
        end = last(await node.pay(*whole))
        assert isinstance(end, Status)
        assert (end.state, end.failure_code) == (State.FAILED, Failure.INSUFFICIENT_BALANCE)

    tell(story)


def test_a_restored_node_forgets_what_it_paid_and_the_payees_do_not(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        await node.child.stop()
        shutil.copy(tmp_path / "lnd" / "lnd.sqlite", tmp_path / "old.sqlite")
        await node.child.start()
        payment_hash, bolt11 = await node.invoice()
        await node.answer(payment_hash)
        await node.pay(payment_hash, bolt11)
        await node.child.stop()
        shutil.copy(tmp_path / "old.sqlite", tmp_path / "lnd" / "lnd.sqlite")
        await node.child.start()
        assert await node.answer(payment_hash) == NotFound(payment_hash)
        assert await node.received_msat(payment_hash) == [500_000]
        assert await node.lnd.list_payments(0) == PaymentPage((), 0)

    play(tmp_path / "lnd", story)


def test_plain_text_goes_to_loopback_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="loopback"):
        Access("10.0.0.7:10009")
    with pytest.raises(ValueError, match="loopback"):
        Access("localhost:10009")
    with pytest.raises(ValueError, match="host:port"):
        Access("127.0.0.1")

    async def story(node: Node) -> None:
        assert node.child.certificate is None
        assert isinstance(await node.lnd.identity(), Identity)

    play(tmp_path / "lnd", story, plaintext=True)


def test_another_nodes_certificate_is_not_trusted(tmp_path: Path) -> None:
    async def story(node: Node) -> None:
        async with DevLnd(tmp_path / "other") as other:
            assert other.certificate is not None
            access = Access.read(node.child.address, other.certificate, node.child.payout_macaroon)
            fooled = Lnd(access)
            assert isinstance(await fooled.identity(), NoInformation)
            await fooled.close()
            assert access.macaroon.hex() not in repr(access)

    play(tmp_path / "lnd", story)


@pytest.mark.parametrize("network", ["main", "mainnet", "testnet4", "signet"])
def test_beside_a_real_network_it_refuses_to_start(tmp_path: Path, network: str) -> None:
    async def start() -> None:
        async with DevLnd(tmp_path / "lnd", network=network):
            raise AssertionError("it started")

    with pytest.raises(RuntimeError, match=f"refuses to start: the settings are for network '{network}'"):
        asyncio.run(start())


@pytest.mark.parametrize("name", ["lnd.conf", "data/chain/bitcoin/mainnet/wallet.db", "lnd.sqlite"])
def test_it_touches_no_folder_of_a_real_node(tmp_path: Path, name: str) -> None:
    path = tmp_path / "lnd" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something of somebody else")

    async def start() -> None:
        async with DevLnd(tmp_path / "lnd"):
            raise AssertionError("it started")

    with pytest.raises(RuntimeError, match="refuses to start"):
        asyncio.run(start())
    assert path.read_bytes() == b"something of somebody else"


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom pool.dev.devlnd import DevLnd\n"
        "async def main():\n    lnd = DevLnd(Path(sys.argv[1]))\n    await lnd.start()\n"
        "    print(lnd.datadir, flush=True)\n    await asyncio.Event().wait()\nasyncio.run(main())\n"
    )

    async def refused() -> bool:
        """Is the folder still in use?"""
        try:
            async with DevLnd(tmp_path / "lnd"):
                return False
        except RuntimeError as error:
            if "in use" in str(error):
                return True
            raise

    async def told() -> None:
        root = str(Path(__file__).parent.parent)
        pipe = asyncio.subprocess.PIPE
        parent = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, str(tmp_path / "lnd"), stdout=pipe, env={**os.environ, "PYTHONPATH": root}
        )
        assert parent.stdout is not None
        await asyncio.wait_for(parent.stdout.readline(), 30)
        parent.send_signal(signal.SIGKILL)
        await parent.wait()
        async with asyncio.timeout(DEADLINE_S):  # its lock is free again as soon as it is gone
            while await refused():
                pass

    asyncio.run(told())
