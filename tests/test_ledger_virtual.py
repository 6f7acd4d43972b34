"""Income beyond blocks, and requests of other rooms: once, through the same window, never below zero."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from pool.ledger import books, chores, requests, virtual
from pool.ledger.books import ConflictError, Entry
from pool.ledger.requests import (
    Donation,
    DonationChoice,
    EarmarkSurplus,
    TreasuryPosting,
    TreasuryTransfer,
    UpstreamIncome,
)
from pool.ledger.rewards import SCALE, Policy
from pool.records import IncomeEvent
from pool.store import inbox
from pool.store.books import income_events
from rig.ledger import T0_S, World, world

POLICY = Policy(window=SCALE, kappa=SCALE // 2, fee_bp=200, reserve_bp=2000, release_months=24)
MONTH_S = 31 * 86_400


@pytest.fixture
def ledger(store_url: str, tmp_path: Path) -> Iterator[World]:
    with world(store_url, tmp_path, POLICY) as made:
        assert made.mature(made.block())
        yield made


def owed(made: World, name: str) -> int:
    with made.write() as connection:
        return -books.balance_msat(connection, name)


def ask(made: World, request: object, key: str) -> inbox.Outcome:
    with made.write() as connection:
        number = inbox.put(connection, request, sender="treasury", idempotency_key=key, now_s=T0_S)
    with made.write() as connection:
        requests.apply_next(connection, 900_001, T0_S)
        found = inbox.outcome(connection, number)
    assert found is not None
    assert made.broken() == {}, "whatever is asked, the books hold"
    return found


def test_the_reserve_comes_back_month_by_month_and_once_a_month(ledger: World) -> None:
    reserve, anna, bea = owed(ledger, "reserve"), owed(ledger, "miner:anna"), owed(ledger, "miner:bea")
    for _ in range(3):
        with ledger.write() as connection:
            amount = virtual.release(connection, 900_001, T0_S)
        assert amount in (reserve // 24, 0)
    assert 0 < reserve - owed(ledger, "reserve") <= reserve // 24
    given = owed(ledger, "miner:anna") - anna
    assert given > owed(ledger, "miner:bea") - bea > 0
    with ledger.write() as connection:
        event = connection.execute(select(income_events)).one()
        assert (event.kind, event.source_id, event.amount_msat) == ("virtual", virtual.month_of(T0_S), reserve // 24)
        left = -books.balance_msat(connection, "reserve")
        assert virtual.release(connection, 900_001, T0_S + MONTH_S) == left // 24
    assert ledger.broken() == {}


@settings(max_examples=10)
@given(
    months=st.integers(1, 30),
    steps=st.lists(st.integers(0, 40 * 86_400), min_size=1, max_size=12),
    kappa=st.sampled_from([0, SCALE // 3, SCALE]),
)
def test_releases_never_overdraw_the_reserve(
    tmp_path_factory: pytest.TempPathFactory, months: int, steps: list[int], kappa: int
) -> None:
    """P17."""
    folder = tmp_path_factory.mktemp("reserve")
    policy = Policy(window=SCALE, kappa=kappa, reserve_bp=1000, release_months=months)
    with world(f"sqlite:///{folder}/a.sqlite", folder, policy) as made:
        assert made.mature(made.block())
        now_s, done = T0_S, set()
        for step in steps:
            now_s += step
            before = owed(made, "reserve")
            with made.write() as connection:
                amount = virtual.release(connection, 900_001, now_s)
            month = virtual.month_of(now_s)
            assert amount == (0 if month in done else before // months)
            done |= {month} if amount else set()
            assert before - amount <= owed(made, "reserve") <= before
            if kappa == SCALE and amount > 10:
                assert owed(made, "reserve") > before - amount, "what kappa keeps back stays in the reserve"
        assert made.broken() == {}


def test_nothing_is_released_when_it_is_off_or_there_is_nothing(tmp_path: Path) -> None:
    off = Policy(window=SCALE, kappa=0, reserve_bp=1000)
    with world(f"sqlite:///{tmp_path}/a.sqlite", tmp_path / "a", off) as made:
        assert made.mature(made.block())
        with made.write() as connection:
            assert virtual.release(connection, 900_001, T0_S) == 0
    with world(f"sqlite:///{tmp_path}/b.sqlite", tmp_path / "b", POLICY) as made, made.write() as connection:
        assert virtual.release(connection, 1, T0_S) == 0
        with pytest.raises(virtual.NoWorkError):
            virtual.newest_closed(connection)


def test_an_income_is_booked_once_and_with_one_amount(ledger: World) -> None:
    with ledger.write() as connection:
        at = virtual.newest_closed(connection)
        event = IncomeEvent("upstream", "tx:1", 1_000_003, at.epoch, at.seq, 900_001)
        assert virtual.book(connection, event, "onchain_hot", T0_S, slice_id=at.slice_id)
        assert not virtual.book(connection, event, "onchain_hot", T0_S, slice_id=at.slice_id)
        more = IncomeEvent("upstream", "tx:1", 1_000_004, at.epoch, at.seq, 900_001)
        with pytest.raises(ConflictError):
            virtual.book(connection, more, "onchain_hot", T0_S, slice_id=at.slice_id)
        assert books.balance_msat(connection, "onchain_hot") == 1_000_003
        wrong = (("block", "onchain_hot", 5), ("upstream", "reserve", 5), ("upstream", "ln_channels", 0))
        for kind, source, amount in wrong:
            with pytest.raises(ValueError, match=r"income|above zero"):
                virtual.book(connection, IncomeEvent(kind, "z", amount, 0, 0, 1), source, T0_S, slice_id=1)
    assert owed(ledger, "pool_fee") > 200 * 1_000_003 // 10_000, "an upstream's income is split as a block is"
    assert ledger.broken() == {}


def test_donations_go_where_they_were_meant_for(ledger: World) -> None:
    anna, reserve = owed(ledger, "miner:anna"), owed(ledger, "reserve")
    for number, goes_to in enumerate(("projects", "project:7", "donation_income", "raffle", "reserve", "members")):
        assert ask(ledger, Donation(f"d{number}", 1_000_000, "ln_channels", goes_to), f"d{number}").state == "done"
    with ledger.write() as connection:
        assert books.balance_msat(connection, "ln_channels") == 6_000_000
    assert [owed(ledger, name) for name in ("projects", "project:7", "donation_income", "raffle")] == [1_000_000] * 4
    assert owed(ledger, "miner:anna") > anna
    assert owed(ledger, "reserve") >= reserve + 1_000_000
    again = ask(ledger, Donation("d0", 1_000_000, "ln_channels", "projects"), "another key")
    assert (again.state, again.text) == ("done", "was booked already")
    assert owed(ledger, "projects") == 1_000_000


REFUSED = [
    (Donation("x", 5, "onchain_immature", "projects"), "cannot come from onchain_immature"),
    (Donation("x", 5, "ln_channels", "miner:anna"), "cannot go to miner:anna"),
    (Donation("x", 0, "ln_channels", "projects"), "above zero"),
    (Donation("", 5, "ln_channels", "projects"), "a reference has"),
    (Donation("x" * 201, 5, "ln_channels", "projects"), "a reference has"),
    (UpstreamIncome("x", -5, "ln_channels"), "above zero"),
    (UpstreamIncome("x", 5, "reserve"), "cannot come from reserve"),
    (TreasuryPosting("x", "miner:anna", "treasury_result", 5, ""), "only moves between"),
    (TreasuryPosting("x", "treasury_assets", "reserve", 5, ""), "only moves between"),
    (TreasuryPosting("x", "surplus", "surplus", 5, ""), "only moves between"),
    (TreasuryPosting("x", "treasury_assets", "treasury_result", 0, ""), "above zero"),
    (TreasuryPosting("x", "treasury_assets", "treasury_result", 10**19, ""), "above zero"),
    (TreasuryPosting("x", "treasury_result", "treasury_assets", 5, ""), "below zero"),
    (TreasuryPosting("x", "surplus", "treasury_result", 5, ""), "below zero"),
    (TreasuryPosting("x", "treasury_assets", "treasury_result", 5, "r" * 201), "a reason has at most"),
    (TreasuryTransfer("x", "onchain_cold", 5, ""), "on a surplus of 0 msat"),
    (TreasuryTransfer("x", "onchain_hot", 5, ""), "below zero"),
    (TreasuryTransfer("x", "onchain_cold", -5, ""), "below zero"),
    (TreasuryTransfer("x", "reserve", 5, ""), "the wallet is one of"),
    (EarmarkSurplus("x", 10**15, ""), "below zero"),
    (DonationChoice("stranger", 5), "stranger has not mined here"),
    (DonationChoice("anna", 10_001), "0 to 10000"),
    (DonationChoice("anna", -1), "0 to 10000"),
]


def test_whatever_is_outside_its_accounts_or_below_zero_is_refused_and_leaves_nothing(ledger: World) -> None:
    with ledger.write() as connection:
        before = books.head(connection)
    for number, (request, words) in enumerate(REFUSED):
        found = ask(ledger, request, str(number))
        assert found.state == "refused", (request, found)
        assert words in found.text, (request, found)
    with ledger.write() as connection:
        assert books.head(connection) == before


def test_the_treasury_works_with_surplus_alone(ledger: World) -> None:
    fee = owed(ledger, "pool_fee")
    with ledger.write() as connection:
        costs = Entry("test", "test", "1", "x", (("ln_routing_cost", 1000), ("onchain_cold", -1000)))
        assert books.post(connection, costs, T0_S)
    assert "after its costs" in ask(ledger, EarmarkSurplus("e0", fee, "all"), "e0").text
    assert ask(ledger, EarmarkSurplus("e1", fee - 1000, "quarter"), "e1").state == "done"
    assert "on a surplus of" in ask(ledger, TreasuryTransfer("t0", "onchain_cold", fee, ""), "t0").text
    assert ask(ledger, TreasuryTransfer("t1", "onchain_cold", fee - 1000, "tx"), "t1").state == "done"
    gain = TreasuryPosting("g", "treasury_assets", "treasury_result", 500, "a good day")
    assert ask(ledger, gain, "g").state == "done"
    assert ask(ledger, gain, "g again").text == "was booked already"
    assert "other content" in ask(ledger, TreasuryPosting("g", "treasury_assets", "surplus", 5, ""), "g2").text
    assert ask(ledger, TreasuryPosting("l", "treasury_result", "treasury_assets", 700, "bad"), "l").state == "done"
    assert ask(ledger, TreasuryTransfer("t2", "onchain_cold", -(fee - 1200), "back"), "t2").state == "done"
    with ledger.write() as connection:
        assert books.balance_msat(connection, "treasury_assets") == 0


async def test_the_ledgers_clock_applies_requests_and_releases(ledger: World) -> None:
    with ledger.write() as connection:
        for number in range(3):
            request = Donation(f"d{number}", 10, "ln_channels", "projects")
            inbox.put(connection, request, sender="web", idempotency_key=str(number), now_s=T0_S)
        inbox.put(connection, DonationChoice("anna", 1000), sender="web", idempotency_key="choice", now_s=T0_S)
    reserve = owed(ledger, "reserve")
    await chores.do(ledger.store, T0_S)
    assert owed(ledger, "projects") > 30, "the donations, and a tenth of anna's part of the virtual block"
    assert owed(ledger, "reserve") < reserve
    head = books.head
    with ledger.write() as connection:
        before = head(connection)
    await chores.do(ledger.store, T0_S)
    with ledger.write() as connection:
        assert head(connection) == before
    assert ledger.broken() == {}
