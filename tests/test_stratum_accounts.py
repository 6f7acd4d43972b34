"""Who is credited: every way to write a user name, and the words for each mistake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.records import ERRORS, Identity
from pool.stratum.accounts import ANY_NETWORK, Options, UserError, identify, read_password
from pool.stratum.texts import HELP, LONGEST, Reason

BC = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"
TAPROOT = "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"
LEGACY = "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"
TB = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx"
BCRT = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


@pytest.mark.parametrize(
    ("user", "account", "worker"),
    [
        (BC, BC, ""),
        (f"{BC}.axe1", BC, "axe1"),
        (f"{BC}_axe1", BC, "axe1"),
        (f"{BC}/axe1", BC, "axe1"),
        (f"{BC}.wor.ker", BC, "wor.ker"),
        (f"{BC}.salón", BC, "salón"),
        (f"{BC}.", BC, ""),
        (BC.upper() + ".AXE", BC, "AXE"),
        ("Bc1q" + BC[4:].upper() + ".x", BC, "x"),
        (f" {BC}.axe1 ", BC, "axe1"),
        (f"bitcoin:{BC}.axe1", BC, "axe1"),
        (TAPROOT, TAPROOT, ""),
        (f"{LEGACY}.s9", LEGACY, "s9"),
        (f"{BC}.{'w' * 80}", BC, "w" * 64),
        (f"{BC}.{'ñ' * 40}", BC, "ñ" * 32),
        (f"{BC}.a\tb\x00c", BC, "abc"),
    ],
)
def test_an_address_with_or_without_worker(user: str, account: str, worker: str) -> None:
    assert identify(user, "mainnet") == Identity(account, worker, "address")


@pytest.mark.parametrize(
    ("user", "account", "worker"),
    [
        ("Maria@Wallet.example", "maria@wallet.example", ""),
        ("maria@wallet.example/axe1", "maria@wallet.example", "axe1"),
        ("maria@wallet.example_axe.1", "maria@wallet.example", "axe.1"),
        ("m.a-r+ia_2@sub.wallet.example", "m.a-r+ia_2@sub.wallet.example", ""),
        ("lightning:maria@wallet.example", "maria@wallet.example", ""),
    ],
)
def test_a_lightning_address_as_user(user: str, account: str, worker: str) -> None:
    assert identify(user, "mainnet") == Identity(account, worker, "lightning")


def test_the_password_may_name_a_lightning_address_that_is_credited_instead() -> None:
    options = read_password("x, ln=Maria@Wallet.example; d=2048")
    assert options == Options(2048.0, "maria@wallet.example")
    assert identify(f"{BC}.axe1", "mainnet", options.lightning) == Identity("maria@wallet.example", "axe1", "lightning")
    assert identify("axe1", "mainnet", options.lightning) == Identity("maria@wallet.example", "axe1", "lightning")
    assert identify(f"{BC}.axe1", "mainnet") == Identity(BC, "axe1", "address"), "and nothing was remembered"


@pytest.mark.parametrize(
    ("user", "network", "reason"),
    [
        ("", "mainnet", Reason.NO_USER),
        ("   ", "mainnet", Reason.NO_USER),
        ("maria", "mainnet", Reason.BAD_ADDRESS),
        (BC[:-1] + "p", "mainnet", Reason.BAD_ADDRESS),
        (f"{BC}.x" * 10, "mainnet", Reason.TOO_LONG),
        (TB, "mainnet", Reason.TESTNET_ADDRESS),
        (BCRT + ".x", "mainnet", Reason.TESTNET_ADDRESS),
        ("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", "mainnet", Reason.TESTNET_ADDRESS),
        (BC, "regtest", Reason.MAINNET_ADDRESS),
        (BC + ".x", "testnet4", Reason.MAINNET_ADDRESS),
        ("maria@", "mainnet", Reason.BAD_LIGHTNING),
        ("maria@host", "mainnet", Reason.BAD_LIGHTNING),
        ("@host.example", "mainnet", Reason.BAD_LIGHTNING),
        ("a@b@c.example", "mainnet", Reason.BAD_LIGHTNING),
        ("ma ria@host.example", "mainnet", Reason.BAD_LIGHTNING),
        ("maria@" + "h" * 70 + ".example", "mainnet", Reason.BAD_LIGHTNING),
        ("bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", "mainnet", Reason.FUTURE_ADDRESS),
    ],
)
def test_each_mistake_is_named(user: str, network: str, reason: Reason) -> None:
    with pytest.raises(UserError) as caught:
        identify(user, network)
    assert caught.value.reason is reason


@pytest.mark.parametrize("user", [BC, TAPROOT, LEGACY, TB, BCRT])
def test_the_development_chain_credits_a_device_as_it_stands_at_home(user: str) -> None:
    assert identify(f"{user}.axe1", ANY_NETWORK) == Identity(user, "axe1", "address")


def test_not_even_the_development_chain_credits_what_is_no_address() -> None:
    with pytest.raises(UserError) as caught:
        identify(BC[:-1] + "x", ANY_NETWORK)
    assert caught.value.reason is Reason.BAD_ADDRESS


def test_a_wrong_lightning_option_is_an_error_not_ignored() -> None:
    with pytest.raises(UserError) as caught:
        identify(BC, "mainnet", "maria@nowhere")
    assert caught.value.reason is Reason.BAD_LIGHTNING


@pytest.mark.parametrize(
    ("password", "options"),
    [
        ("x", Options()),
        ("", Options()),
        (None, Options()),
        (7, Options()),
        ("d=1000", Options(1000.0)),
        ("diff=0.5", Options(0.5)),
        ("x,D=16", Options(16.0)),
        ("x;d=1e5;ln=a@b.cc", Options(1e5, "a@b.cc")),
        ("d=0", Options()),
        ("d=-5", Options()),
        ("d=nan", Options()),
        ("d=inf", Options()),
        ("d=many", Options()),
        ("id=1000", Options()),
    ],
)
def test_password_options(password: object, options: Options) -> None:
    assert read_password(password) == options


@given(st.text(max_size=300), st.text(max_size=60))
def test_any_text_is_an_identity_that_fits_the_share_log_or_a_user_error(user: str, password: str) -> None:
    try:
        identity = identify(user, "mainnet", read_password(password).lightning)
    except UserError:
        return
    assert 0 < len(identity.account.encode()) <= 88
    assert len(identity.worker.encode()) <= 64
    assert identity.worker.isprintable()


def test_every_text_on_a_device_is_short_and_explained_in_both_languages() -> None:
    shown = {reason.text for reason in Reason} | {text for _, text in ERRORS.values()}
    for text in shown:
        assert len(text) <= LONGEST
        assert text.isascii()
        assert HELP[text].es
        assert HELP[text].en
        assert HELP[text].es != HELP[text].en


def test_axeos_finds_its_tooltip() -> None:
    assert Reason.BAD_ADDRESS.text == "Invalid Bitcoin address"
