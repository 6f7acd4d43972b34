"""One-time messages: bound to one pool, host, account, action and value; redeemed once; few, and bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from pool.identity import ACTIONS, Challenge, Limits, ProofRefused
from pool.identity.messages import LIFETIME_S, check_binding, one_line
from pool.store.identity import identity_challenges
from rig.identity import ADDRESS, CALLBACK, HOST, LIGHTNING, MEMBER, NEW, NEWER, OTHER, THIEF, open_desk

SAMPLE = Challenge("ab" * 16, "message", "Club", HOST, ADDRESS, "destination.change", "", NEW, 0, 1_800_000_900)


def test_the_message_says_in_both_languages_what_is_signed() -> None:
    lines = SAMPLE.text.split("\n")
    assert lines == [
        "Bolsa / Pool: Club",
        f"Sitio / Host: {HOST}",
        f"Cuenta / Account: {ADDRESS}",
        "Cambiar el destino de los pagos / Change the payout destination",
        "Antes / Before: -",
        f"Nuevo / New: {NEW}",
        "Clave / Nonce: " + "ab" * 16,
        "Caduca / Expires: 2027-01-15 08:15:00 UTC",
    ]
    assert all(f"{es}{en}".isascii() for es, en in ACTIONS.values())


PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
FIELDS = st.tuples(PRINTABLE, PRINTABLE, PRINTABLE, st.sampled_from(sorted(ACTIONS)), PRINTABLE, PRINTABLE)


@given(FIELDS, FIELDS)
def test_two_different_requests_never_read_the_same(
    a: tuple[str, str, str, str, str, str], b: tuple[str, str, str, str, str, str]
) -> None:
    one, two = (Challenge("00" * 16, "message", *fields, 0, 900) for fields in (a, b))
    assert (one.text == two.text) == (a == b)


@given(st.text(max_size=40))
def test_no_value_can_pretend_to_be_another_line(text: str) -> None:
    if text.isprintable() and text == text.strip():
        assert one_line(text, "value").splitlines() in ([], [text])
    else:
        with pytest.raises(ProofRefused) as caught:
            one_line(text, "value")
        assert caught.value.code == "value"


@pytest.mark.parametrize(
    ("claim", "code"),
    [
        ({"host": "evil.example"}, "other_host"),
        ({"pool_name": "Other"}, "other_host"),
        ({"account": OTHER}, "other_account"),
        ({"action": "login"}, "other_action"),
        ({"value": NEWER}, "other_value"),
        ({"now_s": 1_800_000_900}, "expired"),
    ],
)
def test_a_message_is_good_for_what_it_was_made_for_and_nothing_else(claim: dict[str, object], code: str) -> None:
    honest: dict[str, object] = {
        "pool_name": "Club",
        "host": HOST,
        "account": ADDRESS,
        "action": "destination.change",
        "value": NEW,
        "now_s": 1_800_000_899,
    }
    check_binding(SAMPLE, **honest)  # type: ignore[arg-type]
    with pytest.raises(ProofRefused) as caught:
        check_binding(SAMPLE, **{**honest, **claim})  # type: ignore[arg-type]
    assert caught.value.code == code


async def test_a_message_is_redeemed_once_and_only_for_what_it_says(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        asked = await desk.room.ask(ADDRESS.upper(), "destination.change", NEW.upper())
        assert asked.account == ADDRESS
        assert asked.value == NEW
        assert await desk.refused(asked, account=OTHER) == "other_account"
        assert await desk.refused(asked, action="login") == "other_action"
        assert await desk.refused(asked, value=NEWER) == "other_value"
        assert await desk.refused(asked, THIEF.sign("p2wpkh", asked.text)) == "wrong_signature"
        for stranger in (desk.another(host="evil.example"), desk.another(pool_name="Other")):
            with pytest.raises(ProofRefused) as caught:
                await stranger.prove(
                    asked.nonce_hex,
                    account=ADDRESS,
                    action=asked.action,
                    value=NEW,
                    signature=MEMBER.sign("p2wpkh", asked.text),
                )
            assert caught.value.code == "other_host"
        assert (await desk.room.standing(ADDRESS)).destination == ""
        proof = await desk.prove(asked)
        assert (proof.account, proof.action, proof.value, proof.method) == (ADDRESS, asked.action, NEW, "bip322")
        assert await desk.refused(asked) == "used"
        fresh = await desk.room.ask(ADDRESS, "destination.change", NEWER)
        assert await desk.refused(fresh, MEMBER.sign("p2wpkh", asked.text)) == "wrong_signature"
        unknown = Challenge("00" * 16, "message", "Club", HOST, ADDRESS, "login", "", "", 0, desk.now_s + 9)
        assert await desk.refused(unknown) == "unknown"


async def test_the_same_signature_sent_twenty_times_at_once_counts_once(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        asked = await desk.room.ask(ADDRESS, "destination.change", NEW)
        ends = await asyncio.gather(*(desk.prove(asked) for _ in range(20)), return_exceptions=True)
        assert sum(not isinstance(end, BaseException) for end in ends) == 1
        assert {end.code for end in ends if isinstance(end, ProofRefused)} == {"used"}
        assert await desk.kinds() == ["change.requested", "change.active"]


async def test_made_up_claims_are_refused_without_a_write(store_url: str) -> None:
    async with open_desk(store_url) as desk:

        async def no_write(*args: object) -> None:
            raise AssertionError("the writer was asked")

        desk.store.write = no_write  # type: ignore[method-assign,assignment]
        for nonce in ("", "00" * 16, "AB" * 16, "\0" * 32, "\ud800", "0" * 100_000, "zz" * 16, "٠" * 32):
            with pytest.raises(ProofRefused) as caught:
                await desk.room.prove(nonce, account=ADDRESS, action="login", value="", signature="")
            assert caught.value.code == "unknown"
            with pytest.raises(ProofRefused):
                await desk.room.wallet_answered(nonce * 2, "", "")
        for number in (-1, 0, 1, 2**63, 2**200):
            claim = {"account": LIGHTNING, "action": "login", "value": ""}
            with pytest.raises(ProofRefused) as caught:
                await desk.room.prove_deposit(number, first_sat=1, second_sat=2, **claim)
            assert caught.value.code == "unknown"


async def test_an_expired_message_is_refused_and_swept(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        late = await desk.room.ask(ADDRESS, "login")
        in_time = await desk.room.ask(ADDRESS, "login")
        desk.now_s += LIFETIME_S - 1
        assert (await desk.prove(in_time)).action == "login"
        desk.now_s += 1
        assert await desk.refused(late) == "expired"
        assert await desk.room.sweep() == 0
        desk.now_s += 3600
        assert await desk.room.sweep() == 1
        assert await desk.refused(late) == "unknown"
        assert await desk.refused(in_time) == "used"
        desk.now_s += 8 * 86_400
        assert await desk.room.sweep() == 1


async def test_wrong_signatures_use_a_message_up(tmp_path: Path) -> None:
    async with open_desk(f"sqlite:///{tmp_path}/store.db") as desk:
        asked = await desk.room.ask(ADDRESS, "login")
        for _ in range(Limits().wrong_signatures):
            assert await desk.refused(asked, THIEF.sign("p2wpkh", asked.text)) == "wrong_signature"
        assert await desk.refused(asked) == "attempts"
        assert (await desk.prove(await desk.room.ask(ADDRESS, "login"))).method == "bip322"


@pytest.mark.parametrize("spelling", range(4))
async def test_a_wallet_may_end_lines_its_own_way(spelling: int, tmp_path: Path) -> None:
    async with open_desk(f"sqlite:///{tmp_path}/store.db") as desk:
        asked = await desk.room.ask(ADDRESS, "login")
        signed = MEMBER.sign("p2wpkh", asked.spellings[spelling])
        assert (await desk.prove(asked, signed)).account == ADDRESS


async def test_requests_are_limited_by_account_by_client_and_in_all(store_url: str) -> None:
    async def refusal(account: str, client: str = "", action: str = "login") -> str:
        with pytest.raises(ProofRefused) as caught:
            await room.ask(account, action, client=client)
        return caught.value.code

    async with open_desk(store_url) as desk:
        desk.balances_msat[ADDRESS] = 1
        await desk.change(NEW)
        desk.now_s += 3600
        room = desk.another(limits=Limits(account_per_hour=4, client_per_hour=2, open_at_once=6))
        for _ in range(2):
            await room.ask(ADDRESS, "login", client="a")
        assert await refusal(ADDRESS, "a") == "rate"
        for _ in range(2):
            await room.ask(ADDRESS, "login", client="b")
        assert await refusal(ADDRESS, "c") == "rate"
        # Whoever fills an account's limit does not keep its owner from stopping a change.
        assert (await room.ask(ADDRESS, "destination.cancel", client="c")).value == NEW
        await room.ask(OTHER, "login")
        assert await refusal(OTHER) == "full"
        desk.now_s += 3600
        assert (await room.ask(ADDRESS, "login", client="a")).account == ADDRESS


async def test_who_never_mined_here_adds_no_row(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        for account, action, value, code in (
            (MEMBER.address("p2tr"), "login", "", "stranger"),
            ("nobody@wallet.example", "login", "", "stranger"),
            ("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "login", "", "account"),
            ("nonsense", "login", "", "account"),
            (ADDRESS, "rob", "", "other_action"),
            (ADDRESS, "settings.change", "a\nb", "value"),
            (ADDRESS, "settings.change", "a" * 257, "value"),
            (ADDRESS, "destination.change", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "destination"),
            (ADDRESS, "destination.cancel", "", "nothing_pending"),
        ):
            with pytest.raises(ProofRefused) as caught:
                await desk.room.ask(account, action, value)
            assert caught.value.code == code, account
        with pytest.raises(ValueError, match="callback"):
            await desk.room.ask_wallet(LIGHTNING, "login", callback=CALLBACK.replace(HOST, "evil.example"))
        count = select(func.count()).select_from(identity_challenges)
        assert await desk.store.read(lambda connection: connection.execute(count).scalar()) == 0
