"""Lightning-only members: two small payments whose amounts only the wallet's owner can read."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.identity import ProofRefused, deposits
from pool.identity.deposits import LEAST_SAT, LIFETIME_S, MOST_SAT, TRIES, Deposit
from rig.identity import ADDRESS, CALLBACK, LIGHTNING, NEW, NEWER, PHONE, START_S, Desk, open_desk

KNOWN = Deposit(7, 31, START_S + LIFETIME_S)


# --- the pure machine
def test_amounts_are_drawn_from_the_whole_range_and_never_shown() -> None:
    source = random.Random(7)
    drawn = [deposits.begin(0, source.randrange) for _ in range(3000)]
    amounts = {amount for one in drawn for amount in (one.first_sat, one.second_sat)}
    assert amounts == set(range(LEAST_SAT, MOST_SAT + 1))
    assert "first_sat" not in repr(drawn[0])
    assert deposits.begin(0).state == "waiting"


@given(st.integers(-5, 200), st.integers(-5, 200), st.booleans())
def test_only_the_two_amounts_in_either_order_prove(a: int, b: int, both: bool) -> None:
    deposit = deposits.typed(deposits.arrived(KNOWN, both, START_S), a, b, START_S)
    if not both:
        assert deposit == KNOWN
    else:
        assert (deposit.state == "proven") == (sorted((a, b)) == [7, 31])


MOVE = st.one_of(
    st.tuples(st.just("arrived"), st.booleans()),
    st.tuples(st.just("typed"), st.booleans()),
    st.tuples(st.just("wait"), st.sampled_from([1, LIFETIME_S // 2, LIFETIME_S])),
)


@given(st.lists(MOVE, max_size=12))
def test_in_any_order_of_events_a_proof_takes_arrival_time_left_and_tries_left(moves: list[tuple[str, int]]) -> None:
    deposit, now_s, here, wrong = KNOWN, START_S, False, 0
    for what, much in moves:
        before, on_time = deposit, now_s < KNOWN.expires_at_s
        if what == "wait":
            now_s += much
        elif what == "arrived":
            deposit = deposits.arrived(deposit, bool(much), now_s)
            here = here or (bool(much) and on_time)
        else:
            deposit = deposits.typed(deposit, 31 if much else 32, 7, now_s)
            counted = here and on_time and before.state == "arrived"
            wrong += counted and not much
            assert (deposit.state == "proven") == (before.state == "proven" or (counted and bool(much)))
        assert wrong <= TRIES
        assert (deposit.state == "failed") == (wrong == TRIES)
        if before.state in ("proven", "failed", "expired"):
            assert deposit == before


# --- over the store
async def amounts(desk: Desk, number: int) -> tuple[int, int]:
    """As the payer sees them."""
    wanted = {one.id: one for one in await desk.room.deposits_wanted()}[number]
    assert wanted.account == LIGHTNING
    assert str(wanted.first_sat) not in repr(wanted).replace(str(number), "")
    return wanted.first_sat, wanted.second_sat


async def refused(desk: Desk, number: int, first: int, second: int, **other: str) -> str:
    claim = {"account": LIGHTNING, "action": "destination.change", "value": NEW, **other}
    with pytest.raises(ProofRefused) as caught:
        await desk.room.prove_deposit(number, first_sat=first, second_sat=second, **claim)
    return caught.value.code


async def prove(desk: Desk, number: int, pair: tuple[int, int], action: str, value: str) -> str:
    proof = await desk.room.prove_deposit(
        number, account=LIGHTNING, action=action, value=value, first_sat=pair[0], second_sat=pair[1]
    )
    return proof.method


async def test_who_reads_both_amounts_changes_the_destination_once(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        desk.balances_msat[LIGHTNING] = 9
        number = await desk.room.begin_deposit(LIGHTNING.upper(), "destination.change", NEW)
        pair = await amounts(desk, number)
        assert await refused(desk, number, *pair) == "not_arrived"
        desk.arrived.add(number)
        assert await desk.room.deposits_wanted() == []
        assert await refused(desk, number, *pair, value=NEWER) == "other_value"
        assert await refused(desk, number, *pair, action="login") == "other_action"
        assert await refused(desk, number, *pair, account=ADDRESS) == "other_account"
        assert await refused(desk, number + 1, *pair) == "unknown"
        assert await refused(desk, number, 1, 1) == "wrong_amounts"
        assert await prove(desk, number, (pair[1], pair[0]), "destination.change", NEW) == "deposit"
        assert await refused(desk, number, *pair) == "used"
        waiting = (await desk.room.standing(LIGHTNING)).pending
        assert waiting is not None
        assert waiting.due_at_s == desk.now_s + 72 * 3600


async def test_three_wrong_tries_end_a_deposit_for_good(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        number = await desk.room.begin_deposit(LIGHTNING, "destination.change", NEW)
        pair = await amounts(desk, number)
        desk.arrived.add(number)
        for _ in range(TRIES):
            assert await refused(desk, number, 1, 1) == "wrong_amounts"
        assert await refused(desk, number, *pair) == "attempts"
        assert (await desk.room.standing(LIGHTNING)).destination == ""


async def test_deposits_expire_are_few_and_are_swept(store_url: str) -> None:
    async def rate(account: str) -> str:
        with pytest.raises(ProofRefused) as caught:
            await desk.room.begin_deposit(account, "login")
        return caught.value.code

    async with open_desk(store_url) as desk:
        assert await rate(ADDRESS) == "proof_kind"
        assert await rate("nobody@wallet.example") == "stranger"
        number = await desk.room.begin_deposit(LIGHTNING, "destination.change", NEW)
        pair = await amounts(desk, number)
        assert await rate(LIGHTNING) == "rate"  # one at a time
        with pytest.raises(ProofRefused, match="pending"):
            await desk.room.begin_deposit(LIGHTNING, "destination.cancel")
        desk.arrived.add(number)
        desk.now_s += LIFETIME_S
        assert await refused(desk, number, *pair) == "expired"
        assert await desk.room.deposits_wanted() == []
        assert await desk.room.begin_deposit(LIGHTNING, "login") > number
        desk.now_s += 30 * 86_400
        assert await desk.room.sweep() == 2
        assert await refused(desk, number, *pair) == "unknown"


async def test_deposits_that_others_began_do_not_keep_the_owner_from_cancelling(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        desk.balances_msat[LIGHTNING] = 1
        number = await desk.room.begin_deposit(LIGHTNING, "destination.change", NEW)
        pair = await amounts(desk, number)
        desk.arrived.add(number)
        assert await prove(desk, number, pair, "destination.change", NEW) == "deposit"
        await desk.room.begin_deposit(LIGHTNING, "login")
        stop = await desk.room.begin_deposit(LIGHTNING, "destination.cancel")
        pair = await amounts(desk, stop)
        desk.arrived.add(stop)
        assert await prove(desk, stop, pair, "destination.cancel", NEW) == "deposit"
        assert (await desk.room.standing(LIGHTNING)).pending is None


async def test_a_lightning_member_links_a_wallet_by_deposit_and_then_uses_it_alone(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        key = PHONE.public.hex()

        async def scan(action: str, value: str = "") -> None:
            asked, _ = await desk.room.ask_wallet(LIGHTNING, action, value, callback=CALLBACK)
            await desk.room.wallet_answered(asked.nonce_hex, PHONE.sign_k1(asked.nonce_hex), key)

        await scan("wallet.link")
        number = await desk.room.begin_deposit(LIGHTNING, "wallet.link", key)
        pair = await amounts(desk, number)
        desk.arrived.add(number)
        desk.now_s += LIFETIME_S - 1
        assert await prove(desk, number, pair, "wallet.link", key) == "deposit"
        await scan("destination.change", NEW)
        assert (await desk.room.standing(LIGHTNING)).destination == NEW
        desk.balances_msat[LIGHTNING] = 1
        await scan("destination.change", NEWER)
        await scan("destination.cancel")
        assert [c.state for c in await desk.room.history(LIGHTNING)] == ["cancelled", "active"]
