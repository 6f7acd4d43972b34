"""LNURL-auth (LUD-04): a wallet proves its key over a fresh k1, a link makes it stand for an account."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.identity import Challenge, ProofRefused
from pool.identity.lnurlauth import answer, auth_url, encode_lnurl, verify_answer
from rig.identity import ADDRESS, CALLBACK, HOST, NEW, OTHER, PHONE, THIEF, Desk, open_desk
from rig.wallet import Wallet, high

KEY = PHONE.public.hex()
K1 = "e2af6254a8df433264fa23f67eb8188635d15ce883e8fc020989d5f82ae6f11e"


def refusal(k1: str, sig: str, key: str) -> str:
    with pytest.raises(ProofRefused) as caught:
        verify_answer(k1, sig, key)
    return caught.value.code


def test_the_link_is_the_one_of_lud_01() -> None:
    url = "https://service.com/api?q=3fc3645b439ce8e7f2553a69e5267081d96dcd340693afabe04be7b0ccd178df"
    assert encode_lnurl(url) == (
        "LNURL1DP68GURN8GHJ7UM9WFMXJCM99E3K7MF0V9CXJ0M385EKVCENXC6R2C35XVUKXEFCV5MKVV34X5EKZD3EV56NYD3HXQURZEPEXEJXXEPNXSCRV"
        "WFNV9NXZCN9XQ6XYEFHVGCXXCMYXYMNSERXFQ5FNS"
    )


def test_the_url_holds_tag_k1_and_an_action_of_lud_04() -> None:
    assert auth_url(CALLBACK, K1, "login") == f"{CALLBACK}?tag=login&k1={K1}&action=login"
    assert auth_url(CALLBACK, K1, "wallet.link").endswith("&action=link")
    assert auth_url("http://abc.onion/a", K1, "destination.change").endswith("&action=auth")
    for wrong in ("http://club.example/a", "https:///a", "https://club.example/a?b=c", "ftp://club.example/a"):
        with pytest.raises(ValueError, match="callback"):
            auth_url(wrong, K1, "login")


@given(st.integers(1, 2**250), st.binary(min_size=32, max_size=32))
def test_a_wallet_proves_its_own_key_over_its_own_k1_only(number: int, k1: bytes) -> None:
    wallet = Wallet.of(number)
    sig, key = wallet.sign_k1(k1.hex()), wallet.public.hex()
    assert verify_answer(k1.hex().upper(), sig.upper(), key.upper()) == key
    assert refusal(bytes([k1[0] ^ 1, *k1[1:]]).hex(), sig, key) == "wrong_signature"
    assert refusal(k1.hex(), sig, Wallet.of(number + 1).public.hex()) == "wrong_signature"
    assert refusal(k1.hex(), high(bytes.fromhex(sig)).hex(), key) == "high_s"


@given(st.text(max_size=140), st.text(max_size=80))
def test_garbage_from_the_network_is_refused_with_words(sig: str, key: str) -> None:
    for attempt in ((K1, sig, KEY), (K1, PHONE.sign_k1(K1), key), (sig, PHONE.sign_k1(K1), KEY)):
        if attempt[0] == K1 and attempt[2] == KEY and sig == PHONE.sign_k1(K1):
            continue
        assert refusal(*attempt)
    assert refusal(K1, PHONE.sign_k1(K1), "02" + "ff" * 32) == "unreadable"


def test_the_wallet_is_told_in_the_form_of_lud_04() -> None:
    assert answer() == {"status": "OK"}
    told = answer(ProofRefused("expired"))
    assert told["status"] == "ERROR"
    assert "caducado" in told["reason"]
    assert "expired" in told["reason"]


# --- over the store
async def answered(desk: Desk, asked: Challenge, wallet: Wallet = PHONE) -> str:
    """"ok", or the code of the refusal."""
    try:
        await desk.room.wallet_answered(asked.nonce_hex, wallet.sign_k1(asked.nonce_hex), wallet.public.hex())
    except ProofRefused as refused:
        return refused.code
    return "ok"


async def request(desk: Desk, account: str, action: str, value: str = "") -> Challenge:
    return (await desk.room.ask_wallet(account, action, value, callback=CALLBACK))[0]


async def link(desk: Desk, wallet: Wallet = PHONE) -> None:
    """The wallet shows its key, then the address signs for it."""
    assert await answered(desk, await request(desk, ADDRESS, "wallet.link"), wallet) == "ok"
    await desk.prove(await desk.room.ask(ADDRESS, "wallet.link", wallet.public.hex()))


async def test_a_linked_wallet_logs_in_and_any_other_does_not(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        asked, url = await desk.room.ask_wallet(ADDRESS, "login", callback=CALLBACK)
        assert asked.nonce_hex in url
        assert len(asked.nonce_hex) == 64
        assert await desk.room.wallet_key(asked.nonce_hex) is None
        assert await answered(desk, asked) == "not_linked"
        await link(desk)
        assert await answered(desk, asked) == "used"
        fresh = await request(desk, ADDRESS, "login")
        assert await answered(desk, fresh) == "ok"
        assert await desk.room.wallet_key(fresh.nonce_hex) == KEY
        assert await answered(desk, fresh) == "used"
        assert await answered(desk, await request(desk, OTHER, "login")) == "not_linked"
        assert await answered(desk, await request(desk, ADDRESS, "login"), THIEF) == "not_linked"
        late = await request(desk, ADDRESS, "login")
        desk.now_s += 15 * 60
        assert await answered(desk, late) == "expired"


async def test_a_link_needs_both_the_wallets_answer_and_the_addresss_signature(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        unshown = await desk.room.ask(ADDRESS, "wallet.link", KEY)
        assert await desk.refused(unshown) == "not_linked"
        for_other = await request(desk, OTHER, "wallet.link")
        assert await answered(desk, for_other) == "ok"
        assert await desk.refused(unshown) == "not_linked"  # it was shown for another account
        assert await answered(desk, await request(desk, OTHER, "login")) == "not_linked"  # shown is not linked
        await link(desk)
        await link(desk)  # twice is once
        assert (await desk.kinds()).count("wallet.linked") == 1
        second = await desk.room.ask(OTHER, "wallet.link", KEY)
        assert await desk.refused(second, THIEF.sign("p2wpkh", second.text)) == "linked"


async def test_a_link_holds_at_its_host_only(tmp_path: Path) -> None:
    async with open_desk(f"sqlite:///{tmp_path}/store.db") as desk:
        await link(desk)
        asked = await request(desk, ADDRESS, "login")
        desk.room = desk.another(host="moved.example")
        assert await answered(desk, asked) == "other_host"
        moved, _ = await desk.room.ask_wallet(ADDRESS, "login", callback=CALLBACK.replace(HOST, "moved.example"))
        assert await answered(desk, moved) == "not_linked"


async def test_a_wallet_does_not_move_the_money_of_an_address(tmp_path: Path) -> None:
    async with open_desk(f"sqlite:///{tmp_path}/store.db") as desk:
        await link(desk)
        assert await answered(desk, await request(desk, ADDRESS, "destination.change", NEW)) == "proof_kind"
        assert (await desk.room.standing(ADDRESS)).destination == ""
        assert await answered(desk, await request(desk, ADDRESS, "settings.change", "threshold_sat=1000")) == "ok"
        assert "settings.proven" in await desk.kinds()


async def test_a_signed_message_is_no_k1_and_a_k1_no_message(tmp_path: Path) -> None:
    async with open_desk(f"sqlite:///{tmp_path}/store.db") as desk:
        await link(desk)
        message, wallet = await desk.room.ask(ADDRESS, "login"), await request(desk, ADDRESS, "login")
        assert await desk.refused(wallet) == "unknown"
        assert await answered(desk, Challenge(message.nonce_hex * 2, "lnurl", *[""] * 6, 0, 0)) == "unknown"
        assert await answered(desk, Challenge(secrets.token_hex(32), "lnurl", *[""] * 6, 0, 0)) == "unknown"
