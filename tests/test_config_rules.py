"""Promise P8, the rules half: what keys may not say together, and the effective fee in words."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.config import (
    CoinbaseSection,
    Config,
    ConfigError,
    DevSection,
    FeesSection,
    Mistake,
    NodeSection,
    PoolSection,
    Secret,
    StratumSection,
    VardiffSection,
    fee_in_words,
    kept_fraction,
    load,
    mistakes_in,
)

MAINNET = PoolSection(network="mainnet")
PAID = CoinbaseSection(payout_address="bc1qexample")
NODE = (NodeSection(user="u", password=Secret("p")),)


def told(config: Config) -> list[str]:
    return [str(mistake) for mistake in mistakes_in(config)]


def test_a_plain_mainnet_configuration_is_right() -> None:
    assert told(Config(pool=MAINNET, node=NODE, coinbase=PAID)) == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(pool=MAINNET, coinbase=PAID), "needs at least one node"),
        (Config(pool=MAINNET, node=NODE), "payout_address is missing"),
        (Config(coinbase=CoinbaseSection(payout_address="a", payout_descriptor="b")), "exclude each other"),
        (Config(coinbase=CoinbaseSection(tag="x" * 31)), "at most 30"),
        (Config(coinbase=CoinbaseSection(tag="ñ")), "ASCII"),
        (Config(node=(NodeSection(url="localhost:8332"),)), "must be http://host:port"),
        (Config(node=(NodeSection(url="http://u:p@h"),)), "must hold no user or password"),
        (Config(node=(NodeSection(url="http://h:99999"),)), "must be http://host:port"),
        (Config(node=(NodeSection(user="u", password=Secret("p"), cookie_file=Path("c")),)), "one or the other"),
        (Config(node=(NodeSection(password=Secret("p")),)), "user is missing"),
        (Config(node=(NodeSection(user="u"),)), "password is missing"),
        (Config(node=(NodeSection(zmq_hashblock="localhost:28332"),)), "must be tcp://host:port"),
        (Config(stratum=StratumSection(port=3333, high_difficulty_port=3333)), "taken by port"),
        (Config(stratum=StratumSection(tls_port=4333)), "tls_cert_file is missing"),
        (Config(stratum=StratumSection(tls_cert_file=Path(__file__))), "tls_key_file is missing"),
        (
            Config(stratum=StratumSection(tls_cert_file=Path("/nowhere"), tls_key_file=Path(__file__))),
            "tls_cert_file does not exist",
        ),
        (Config(stratum=StratumSection(extranonce1_first=5, extranonce1_last=4)), "must not be above"),
        (Config(stratum=StratumSection(extranonce1_last=99)), "fewer values than max_connections"),
        (Config(stratum=StratumSection(max_connections=10)), "must not be above max_connections"),
        (Config(stratum=StratumSection(job_lifetime_s=599)), "at least 600"),
        (Config(vardiff=VardiffSection(start_difficulty=0.5, min_difficulty=1)), "must not be below min_difficulty"),
        (Config(vardiff=VardiffSection(max_difficulty=5)), "must not be below start_difficulty"),
        (Config(vardiff=VardiffSection(min_difficulty=2.0**-17)), "min_difficulty must be"),
        (Config(pool=PoolSection(name=" ")), "must not be empty"),
        (Config(fees=FeesSection(fee_bp=6000, raffle_bp=5000)), "more than a whole block"),
    ],
)
def test_keys_that_contradict_each_other_are_named(config: Config, words: str) -> None:
    assert any(words in line for line in told(config)), told(config)
    assert len(told(config)) == 1


@pytest.mark.parametrize("network", ["mainnet", "testnet4", "signet"])
def test_development_settings_are_refused_beside_a_real_network(network: str) -> None:
    config = Config(pool=PoolSection(network=network), node=NODE, coinbase=PAID, dev=DevSection(fleet_devices=3))
    assert told(config) == [
        f"[dev] fleet_devices belongs to the development chain and is refused beside network = {network}"
    ]


def test_a_development_setting_is_refused_on_mainnet_even_at_its_default_value(tmp_path: Path) -> None:
    path = tmp_path / "pool.toml"
    path.write_text(
        '[pool]\nnetwork="mainnet"\n[coinbase]\npayout_address="x"\n[[node]]\ncookie_file="c"\n[dev]\nrpc_port=0\n'
    )
    with pytest.raises(ConfigError, match="rpc_port belongs to the development chain"):
        load(path, {})


def test_rooms_add_their_own_checks_and_all_are_told_together() -> None:
    def room(config: Config) -> list[Mistake]:
        return [Mistake("[coinbase] payout_address", f"is not an address of {config.pool.network}")]

    with pytest.raises(ConfigError) as caught:
        load(None, {"POOL__FEES__FEE_BP": "2000"}, [room])
    assert [str(mistake).split()[0] for mistake in caught.value.mistakes] == ["[fees]", "[coinbase]"]


def test_the_effective_fee_is_said_in_words_in_both_languages() -> None:
    fees = FeesSection(fee_bp=50, reserve_bp=100)
    assert fee_in_words(fees, "en") == (
        "Effective fee 1.5 %: you keep 98.5 % of each block. Operator 0.5 %, reserve 1 %."
    )
    assert fee_in_words(fees, "es") == (
        "Comisión efectiva 1,5 %: recibes el 98,5 % de cada bloque. Operador 0,5 %, reserva 1 %."
    )
    nothing = FeesSection(fee_bp=0, reserve_bp=0)
    assert fee_in_words(nothing, "en") == "Effective fee 0 %: you keep 100 % of each block."


def test_a_donation_by_default_counts_as_a_fee() -> None:
    fees = FeesSection(fee_bp=100, reserve_bp=0, donation_bp=150)
    assert fee_in_words(fees, "en") == (
        "Effective fee 2.485 %: you keep 97.515 % of each block. Operator 1 %, donation to projects 1.485 %."
    )


@given(st.lists(st.integers(0, 2500), min_size=5, max_size=5))
def test_the_words_add_up_exactly(parts: list[int]) -> None:
    fees = FeesSection(*parts[:4], donation_bp=parts[4])
    words = fee_in_words(fees, "en")
    numbers = [Fraction(word) for word in words.replace("%", " ").replace(",", " ").split() if word[0].isdigit()]
    taken, kept, *shares = numbers
    assert taken + kept == 100
    assert sum(shares) == taken
    assert kept == kept_fraction(fees) * 100


def test_more_than_ten_percent_is_refused_unless_meant() -> None:
    greedy = FeesSection(fee_bp=900, reserve_bp=101)
    assert "10.01 %" in told(Config(fees=greedy))[0]
    assert told(Config(fees=FeesSection(fee_bp=900, reserve_bp=101, i_know=True))) == []
    assert told(Config(fees=FeesSection(fee_bp=900, reserve_bp=100))) == []
    assert told(Config(fees=FeesSection(donation_bp=1000)))  # a donation nobody chose is a fee
