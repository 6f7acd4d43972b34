"""The port by itself: what a request must be, what answers that contradict the question become, invoices' codec."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.dev.devlnd.bolt11 import Bolt11, NoInvoice, decode, encode
from pool.payout.backend import Cause, NoInformation, PaymentPage, SendRequest, State, Status, all_payments
from pool.payout.lightning import Access, Lnd, status_of
from pool.payout.stubs import lightning_pb2, router_pb2

HASH = hashlib.sha256(bytes(32)).digest()
# BOLT 11, "Please send $3 for a cup of coffee to the same peer, within one minute"; its key is the BOLT's own.
COFFEE = (
    "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5"
    "rqwzqfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfe"
    "gext0eh0ymjpf39tuven09sam30g4vgpfna3rh"
)
COFFEE_KEY = "03e7156ae33b0a208d0744199163177e909e80176e55d97a2f221ede0f934dd9ad"


def payment(**fields: Any) -> Any:
    return lightning_pb2.Payment(**{"payment_hash": HASH.hex(), "payment_preimage": bytes(32).hex(), **fields})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"payment_hash": b"short"}, "5 bytes"),
        ({"amount_msat": 0}, "above 0"),
        ({"fee_limit_msat": -1}, "above 0"),
        ({"bolt11": ""}, "either"),
        ({"dest": bytes(33)}, "either"),
        ({"bolt11": "", "dest": bytes(33)}, "max_parts = 1"),
        ({"bolt11": "", "dest": bytes(32), "max_parts": 1}, "33 bytes"),
        ({"bolt11": "", "dest": bytes(33), "max_parts": 1, "preimage": b"other"}, "does not hash"),
    ],
)
def test_a_request_that_is_no_payment_is_refused_before_it_is_sent(fields: dict[str, Any], words: str) -> None:
    right: dict[str, Any] = {"payment_hash": HASH, "amount_msat": 1000, "fee_limit_msat": 0, "bolt11": "lnbcrt1"}
    with pytest.raises(ValueError, match=words):
        SendRequest(**{**right, **fields})


@given(code=st.integers(0, 2**31 - 1), reason=st.integers(0, 100))
def test_only_the_two_known_ends_are_final_whatever_the_reason(code: int, reason: int) -> None:
    status = status_of(payment(status=code, failure_reason=reason))
    assert status.final is (code in (2, 3))
    assert status.state is {2: State.SUCCEEDED, 3: State.FAILED}.get(code, State.OPEN)
    assert status.failure_code == reason


def test_a_success_is_proven_by_the_preimage_alone() -> None:
    assert not status_of(payment(status=2)).proven
    assert not status_of(payment(status=2, payment_preimage=(b"\1" * 32).hex())).proven
    other = b"\1" * 32
    proven = payment(status=2, payment_hash=hashlib.sha256(other).hexdigest(), payment_preimage=other.hex())
    assert status_of(proven).proven
    proven.status = 1
    assert not status_of(proven).proven


def test_what_is_booked_is_the_sum_of_settled_parts_with_their_fees() -> None:
    message = payment(status=2, value_msat=9, fee_msat=9)
    for state, msat in ((1, 700), (1, 301), (2, 5_000), (0, 40)):
        message.htlcs.add(status=state, route=lightning_pb2.Route(total_amt_msat=msat))
    status = status_of(message)
    assert (status.settled_msat, status.in_flight_msat) == (1_001, 40)


def test_an_answer_about_another_payment_or_with_no_hash_is_nonsense() -> None:
    answers = [payment(payment_hash="11" * 32, status=2), payment(payment_hash="zz"), payment(payment_preimage="00")]

    async def told() -> None:
        async def track(_: Any, __: Any) -> AsyncGenerator[Any, None]:
            yield answers[0]

        handler = grpc.unary_stream_rpc_method_handler(
            track,
            request_deserializer=router_pb2.TrackPaymentRequest.FromString,
            response_serializer=lightning_pb2.Payment.SerializeToString,
        )
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("routerrpc.Router", {"TrackPaymentV2": handler}),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        lnd = Lnd(Access(f"127.0.0.1:{port}"))
        while answers:
            outcome = await lnd.look(HASH)
            assert isinstance(outcome, NoInformation)
            assert outcome.cause is Cause.NONSENSE
            answers.pop(0)
        await lnd.close()
        await server.stop(0)
        gone = Lnd(Access(f"127.0.0.1:{port}"))
        nobody = await gone.look(HASH, 2)
        assert isinstance(nobody, NoInformation)
        assert nobody.cause is Cause.UNAVAILABLE
        with pytest.raises(ValueError, match="3 bytes"):
            await gone.look(b"abc")
        await gone.close()

    asyncio.run(told())


def test_a_list_that_fails_or_turns_in_circles_says_that_it_is_incomplete() -> None:
    one = status_of(payment(payment_index=1))
    lost = NoInformation(Cause.DEADLINE, "")

    class Pages(Lnd):
        def __init__(self, *pages: PaymentPage | NoInformation) -> None:
            self.pages = list(pages)

        async def list_payments(self, after_index: int, most: int = 500) -> PaymentPage | NoInformation:
            return self.pages.pop(0)

    async def listed(*pages: PaymentPage | NoInformation) -> list[Status | NoInformation]:
        return [item async for item in all_payments(Pages(*pages))]

    full, empty = PaymentPage((one,), 1), PaymentPage((), 0)
    assert asyncio.run(listed(full, empty)) == [one]
    assert asyncio.run(listed(full, lost)) == [one, lost]
    circle = asyncio.run(listed(full, full))
    assert circle[:2] == [one, one]
    assert isinstance(circle[2], NoInformation)


def test_importing_the_stubs_changes_no_ciphers_and_costs_little() -> None:
    code = (
        "import os, sys, time\nbegan = time.process_time()\nimport pool.payout.stubs\n"
        "assert time.process_time() - began < 2\nprint(os.environ.get('GRPC_SSL_CIPHER_SUITES'))\n"
        "assert not {'ptpython', 'jedi', 'click'} & set(sys.modules)\n"
    )
    for given_value in (None, "HIGH"):
        environment = {key: value for key, value in os.environ.items() if key != "GRPC_SSL_CIPHER_SUITES"}
        environment |= {"PYTHONPATH": str(Path(__file__).parent.parent)}
        environment |= {} if given_value is None else {"GRPC_SSL_CIPHER_SUITES": given_value}
        command = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(given_value)


def test_the_bolts_own_example_is_read() -> None:
    invoice = decode(COFFEE)
    assert decode(COFFEE.upper()) == invoice
    assert (invoice.network, invoice.amount_msat, invoice.expiry_s) == ("bc", 250_000_000, 60)
    assert invoice.description == "1 cup coffee"
    assert invoice.dest.hex() == COFFEE_KEY
    assert invoice.payment_addr == b"\x11" * 32
    assert invoice.payment_hash.hex() == "0001020304050607080900010203040506070809000102030405060708090102"


@settings(max_examples=40, deadline=None)
@given(
    amount_msat=st.integers(0, 2**50),
    created_at_s=st.integers(0, 2**35 - 1),
    expiry_s=st.integers(0, 2**31),
    payment_hash=st.binary(min_size=32, max_size=32),
    description=st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
    network=st.sampled_from(["bcrt", "bc", "tb", "tbs"]),
    at=st.integers(0, 10_000),
)
def test_an_invoice_is_read_as_written_and_no_changed_letter_passes(
    amount_msat: int,
    created_at_s: int,
    expiry_s: int,
    payment_hash: bytes,
    description: str,
    network: str,
    at: int,
) -> None:
    written = Bolt11(network, amount_msat, created_at_s, payment_hash, b"\7" * 32, description, expiry_s=expiry_s)
    text = encode(written, bytes(31) + b"\1")
    read = decode(text)
    assert read.dest.hex() == "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    assert Bolt11(**{name: getattr(read, name) for name in Bolt11.__slots__ if name != "dest"}) == written
    at = len(text) - 1 - at % (len(text) - text.rindex("1") - 1)
    with pytest.raises(NoInvoice):
        decode(text[:at] + ("q" if text[at] != "q" else "p") + text[at + 1 :])


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    for candidate in (text, f"lnbcrt1{text}", COFFEE + text):
        if candidate != COFFEE:
            with pytest.raises(NoInvoice):
                decode(candidate)
