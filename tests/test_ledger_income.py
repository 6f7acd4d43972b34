"""Blocks as money: found, mature, orphaned, back again, in any order; to the millisatoshi, by data that still holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from pool.ledger import books, donations, income, latches
from pool.ledger.income import Coinbase, DeterminismError, NotSummedError
from pool.ledger.keeper import ChainNews, Keeper
from pool.ledger.rewards import SCALE, Policy
from pool.store.books import income_blocks
from rig.ledger import NETWORK_WORK, POLICY, SUBSIDY_SAT, T0_S, Won, World, plain, world

VALUE_MSAT = (SUBSIDY_SAT + 2_345_678) * 1000


@pytest.fixture
def ledger(store_url: str, tmp_path: Path) -> Iterator[World]:
    with world(store_url, tmp_path) as made:
        yield made


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    """On SQLite alone: what concerns no database."""
    with world(f"sqlite:///{tmp_path}/pool.sqlite", tmp_path) as made:
        yield made


def balances(made: World) -> dict[str, int]:
    """Every account that is not at zero: what is owed above zero."""
    with made.write() as connection:
        found = books.owed_msat(connection, "")
        return {name: msat for name, msat in found.items() if msat}


def state_of(made: World, won: Won) -> str:
    with made.write() as connection:
        query = select(income_blocks.c.state).where(income_blocks.c.hash_hex == won.hash_hex)
        return str(connection.execute(query).scalar_one())


def test_a_block_is_immature_then_everybodys_to_the_last_millisatoshi(ledger: World) -> None:
    won = ledger.block()
    assert balances(ledger) == {"onchain_immature": -VALUE_MSAT, f"unallocated:{won.hash_hex}": VALUE_MSAT}
    assert ledger.mature(won)
    after = balances(ledger)
    assert after.pop("onchain_cold") == -VALUE_MSAT
    assert sum(after.values()) == VALUE_MSAT
    fee, reserve = VALUE_MSAT * 100 // 10_000, VALUE_MSAT * 500 // 10_000
    pot = VALUE_MSAT - fee - reserve
    work = {"anna": 2**31 + 1000, "bea": 2**30, "carl": 2**29}
    scores = {name: one * SCALE // NETWORK_WORK for name, one in work.items()}
    assert sum(scores.values()) > POLICY.kappa
    assert after.pop("pool_fee") == fee
    assert after.pop("reserve") == reserve
    for name, score in scores.items():
        assert abs(after[f"miner:{name}"] * sum(scores.values()) - pot * score) < sum(scores.values()) + SCALE, name
    assert ledger.broken() == {}


def test_news_of_a_block_whose_share_is_not_summed_waits(small: World) -> None:
    with small.write() as connection, pytest.raises(NotSummedError):
        income.found(connection, "ab" * 32, plain(), T0_S)
    with small.write() as connection, pytest.raises(NotSummedError):
        income.orphaned(connection, "ab" * 32, T0_S)


EVENTS = ("found", "orphaned", "returned", "matured")


@settings(max_examples=12)
@given(events=st.lists(st.sampled_from(EVENTS), min_size=1, max_size=14))
def test_any_order_and_repetition_of_events_ends_where_the_chain_ends(
    tmp_path_factory: pytest.TempPathFactory, events: list[str]
) -> None:
    """P11, P14, I13: a model of three states beside the books, each event delivered twice."""
    folder = tmp_path_factory.mktemp("income")
    with world(f"sqlite:///{folder}/a.sqlite", folder) as made:
        won = made.mine({"anna": 2**31, "bea": 2**30 + 7}, block_by="bea")
        assert won is not None
        state = ""
        for number, event in enumerate([*events, "found", "returned", "matured"]):
            moves = {
                "found": {"": "immature"},
                "orphaned": {"immature": "orphaned"},
                "returned": {"orphaned": "immature"},
                "matured": {"immature": "mature"},
            }[event]
            for again in (False, True):
                with made.write() as connection:
                    if event == "found":
                        did = income.found(connection, won.hash_hex, plain(), T0_S + number)
                    else:
                        did = getattr(income, event)(connection, won.hash_hex, T0_S + number)
                    latched = bool(latches.closed(connection))
                    latches.release(connection, f"reorg:{won.hash_hex}")
                if state == "mature" and event == "orphaned":
                    assert latched
                else:
                    assert not latched
                    assert did == (state in moves and not again) or (state == "mature" and event == "returned")
                if not again:
                    state = moves.get(state, state)
                if state:
                    assert state_of(made, won) == state
                    owed = balances(made).get("onchain_immature", 0)
                    assert owed == (-VALUE_MSAT if state == "immature" else 0)
            assert made.broken() == {}
        straight = world(f"sqlite:///{folder}/b.sqlite", folder / "b")
        with straight as other:
            same = other.mine({"anna": 2**31, "bea": 2**30 + 7}, block_by="bea")
            assert same == won
            assert other.found(won)
            assert other.mature(won)
            assert balances(other) == balances(made)


def test_a_block_that_leaves_and_comes_back_leaves_the_same_balances(ledger: World) -> None:
    won = ledger.block()
    with ledger.write() as connection:
        assert income.orphaned(connection, won.hash_hex, T0_S)
    assert balances(ledger) == {}, "an orphan leaves nothing behind"
    with ledger.write() as connection:
        assert income.returned(connection, won.hash_hex, T0_S)
    assert ledger.mature(won)
    assert sum(msat for name, msat in balances(ledger).items() if not name.startswith("onchain")) == VALUE_MSAT
    assert ledger.broken() == {}


def test_a_mature_block_that_leaves_the_chain_keeps_all_money_in(ledger: World) -> None:
    won = ledger.block()
    assert ledger.mature(won)
    before = balances(ledger)
    with ledger.write() as connection:
        assert income.orphaned(connection, won.hash_hex, T0_S)
    assert balances(ledger) == before
    told = ledger.broken()
    assert list(told) == ["latch"]
    assert f"block {won.hash_hex}" in told["latch"][0]
    with ledger.write() as connection:
        assert income.returned(connection, won.hash_hex, T0_S)
    assert ledger.broken() == {}


def test_outputs_that_paid_members_in_the_block_are_not_owed_again(ledger: World) -> None:
    coinbase = Coinbase(SUBSIDY_SAT, SUBSIDY_SAT, {"anna": 100_000_000, "bea": 50_000_000, "stranger": 7})
    won = ledger.block(coinbase=coinbase)
    received = (SUBSIDY_SAT - 150_000_000) * 1000
    assert balances(ledger)["onchain_immature"] == -received
    assert ledger.mature(won)
    after = balances(ledger)
    assert after.pop("onchain_cold") == -received
    assert sum(after.values()) == received
    with ledger.write() as connection:
        parts = income.frozen_parts(connection, "block", won.hash_hex)
    assert sum(msat for _, _, msat in parts.rows) == SUBSIDY_SAT * 1000
    assert {(a, m) for a, part, m in parts.rows if part == "direct"} == {
        ("miner:anna", 100_000_000_000),
        ("miner:bea", 50_000_000_000),
    }
    assert ledger.broken() == {}


@pytest.mark.parametrize("policy", [POLICY, Policy(window=SCALE, kappa=0)])
def test_who_was_paid_too_much_in_the_block_owes_nothing_and_others_lose_last(tmp_path: Path, policy: Policy) -> None:
    """With nothing reserved and no fee, the other members bear it: the books must not stand still over it."""
    with world(f"sqlite:///{tmp_path}/a.sqlite", tmp_path, policy) as made:
        too_much = SUBSIDY_SAT - 100_000_000
        won = made.block(coinbase=Coinbase(SUBSIDY_SAT, SUBSIDY_SAT, {"anna": too_much}))
        assert made.mature(won)
        after = balances(made)
        assert "miner:anna" not in after
        assert after.pop("onchain_cold") == -100_000_000_000
        assert sum(after.values()) == 100_000_000_000
        assert after["miner:bea"] > after["miner:carl"] > 0
        assert made.broken() == {}


def test_a_solo_block_is_the_finders_and_takes_no_part_of_the_window(ledger: World) -> None:
    won = ledger.block(coinbase=Coinbase(SUBSIDY_SAT, SUBSIDY_SAT, {"anna": SUBSIDY_SAT - 5000}, solo=True))
    assert ledger.mature(won)
    assert balances(ledger) == {"onchain_cold": -5_000_000, "pool_fee": 5_000_000}
    assert ledger.broken() == {}


def test_a_solo_block_that_kept_nothing_needs_no_entry(small: World) -> None:
    won = small.block(coinbase=Coinbase(SUBSIDY_SAT, SUBSIDY_SAT, {"anna": SUBSIDY_SAT}, solo=True))
    assert small.mature(won)
    assert balances(small) == {}
    assert small.broken() == {}


def test_donations_are_as_chosen_when_the_block_was_found(tmp_path: Path) -> None:
    policy = Policy(window=SCALE, kappa=0, donation_bp=1000)
    with world(f"sqlite:///{tmp_path}/a.sqlite", tmp_path, policy) as made:
        made.mine({"anna": 2**30, "bea": 2**30, "carl": 2**30})
        with made.write() as connection:
            donations.choose(connection, "anna", 2500, T0_S)
            donations.choose(connection, "anna", 0, T0_S)
            donations.choose(connection, "bea", 10_000, T0_S)
        won = made.block({"anna": 1}, by="anna", coinbase=Coinbase(300_000_000, SUBSIDY_SAT))
        with made.write() as connection:
            donations.choose(connection, "anna", 10_000, T0_S)
        assert made.mature(won), "a later choice changes nothing of a block that was found"
        after = balances(made)
        assert "miner:bea" not in after, "she gives all"
        assert abs(after["miner:carl"] * 10 - after["miner:anna"] * 9) < 10**6, "he chose nothing: a tenth"
        assert after["projects"] == 300_000_000_000 - after["miner:anna"] - after["miner:carl"]
        with made.write() as connection, pytest.raises(ValueError, match="0 to 10000"):
            donations.choose(connection, "anna", 10_001, T0_S)
        with pytest.raises(IntegrityError), made.write() as connection:
            connection.exec_driver_sql("INSERT INTO donation_settings VALUES (99, 'anna', 10001, 0)")


TAMPERED = {
    "work": "UPDATE slice_work SET work = '0000000000000000000000000000000000000077' WHERE shares = 1",
    "allocation": "UPDATE allocations SET msat = msat + 1 WHERE account = 'miner:bea'",
    "setting": "INSERT INTO donation_settings VALUES (0, 'bea', 700, 0)",
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_data_that_changed_behind_a_split_stops_payouts_and_books_nothing(small: World, what: str) -> None:
    """The determinism check at maturity, through the keeper as the pool runs it."""
    won = small.block()
    before = balances(small)
    small.tamper(TAMPERED[what])
    with pytest.raises(DeterminismError), small.write() as connection:
        income.matured(connection, won.hash_hex, T0_S)
    assert balances(small) == before
    keeper = Keeper(small.store, small.folder, lambda height: SUBSIDY_SAT, POLICY)
    keeper.tell(ChainNews(won.hash_hex, "mature", plain()))
    await keeper.step()
    assert keeper.stopped is not None
    assert won.hash_hex in keeper.stopped
    assert state_of(small, won) == "immature"
    assert balances(small) == before
    assert "splits" in small.broken()


async def test_news_of_one_block_are_booked_in_their_order_however_late_its_share_is_summed(small: World) -> None:
    """An orphan whose share was not summed yet when the news came must not end as income."""
    with small.write() as connection:
        connection.exec_driver_sql("DELETE FROM found_shares")
    folder = small.folder
    away = folder.with_name("away")
    small.folder.mkdir(exist_ok=True)
    won = small.mine({"anna": 2**31}, block_by="anna")
    assert won is not None
    for path in folder.glob("*.log"):
        away.mkdir(exist_ok=True)
        path.rename(away / path.name)
    tables = ("found_shares", "slice_work", "slice_totals", "slices", "log_names", "log_cursor", "ledger_workers")
    with small.write() as connection:
        for table in tables:
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608
    keeper = Keeper(small.store, folder, lambda height: SUBSIDY_SAT, POLICY)
    keeper.tell(ChainNews(won.hash_hex, "held", plain()))
    keeper.tell(ChainNews(won.hash_hex, "orphaned", plain()))
    await keeper.step()
    for path in away.glob("*.log"):
        path.rename(folder / path.name)
    await keeper.step()
    await keeper.step()
    assert state_of(small, won) == "orphaned"
    assert balances(small) == {}
