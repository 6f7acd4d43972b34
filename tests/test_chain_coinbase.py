"""Coinbases: heights, witness commitment, exact sums, firmware's sizes and views, and what refuses to be mined."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.address import dust_sat, parse_address
from pool.chain.coinbase import (
    FIRMWARE,
    Coinbase,
    CoinbaseError,
    Member,
    Style,
    build,
    checked_commitment,
    coinbase_weight_left,
    height_push,
    output_size,
    pay_direct,
    pay_pool,
    pay_solo,
    proof_script,
    room,
)
from pool.chain.types import Output, Template, TemplateError
from rig.chain_parts import (
    MINER_ADDRESS,
    MINER_SCRIPT,
    POOL_ADDRESS,
    POOL_SCRIPT,
    commitment_of,
    template,
    transaction_rows,
)
from rig.coinbase_views import AxeOsView, axeos_view, nerdqaxe_refuses, pushes_of, read_coinbase

VECTORS = Path(__file__).parent / "vectors"
COUNTER = 0x0102030405FE
EXTRANONCES = bytes.fromhex("a1a2a3a4b1b2b3b4b5b6b7b8")
STYLE = Style(b"/MMSP/")
NAMES = {POOL_SCRIPT: POOL_ADDRESS, MINER_SCRIPT: MINER_ADDRESS}


def ledger_coinbase(of: Template, style: Style = STYLE, proof: bytes | None = None) -> Coinbase:
    return build(of, pay_pool(of.coinbase_value_sat, POOL_SCRIPT), style, checked_commitment(of), proof)


def whole(coinbase: Coinbase) -> bytes:
    return coinbase.coinb1(COUNTER) + EXTRANONCES + coinbase.coinb2


# --- bytes


@pytest.mark.parametrize(
    ("height", "push"),
    [
        (0, "00"),
        *((n, f"{0x50 + n:02x}") for n in range(1, 17)),
        *((n, f"01{n:02x}") for n in range(17, 21)),
        *((127, "017f"), (128, "028000"), (129, "028100"), (255, "02ff00"), (256, "020001"), (32767, "02ff7f")),
        *((32768, "03008000"), (65535, "03ffff00"), (8_388_607, "03ffff7f"), (8_388_608, "0400008000")),
        (500_000_000, "040065cd1d"),
    ],
)
def test_the_height_is_pushed_as_bip34_wants_it(height: int, push: str) -> None:
    assert height_push(height).hex() == push
    coinbase = whole(ledger_coinbase(template(height=height)))
    assert read_coinbase(coinbase).script_sig.startswith(bytes.fromhex(push))


def test_a_coinbase_holds_height_tag_counter_and_extranonces_and_nothing_that_counts_as_an_operation() -> None:
    coinbase = ledger_coinbase(template())
    read = read_coinbase(whole(coinbase))
    height, tag, unique = pushes_of(read.script_sig)
    assert int.from_bytes(height, "little") == 951_658
    assert tag == b"/MMSP/"
    assert unique == COUNTER.to_bytes(6, "big") + EXTRANONCES
    assert coinbase.coinb1(COUNTER).endswith(COUNTER.to_bytes(6, "big")), "extranonces must follow coinb1 at once"
    assert read.version == 2
    assert len(whole(coinbase)) == coinbase.size


def test_two_jobs_never_share_a_coinbase() -> None:
    coinbase = ledger_coinbase(template())
    assert len({coinbase.coinb1(counter) for counter in range(1, 2**48, 2**39)}) == 512


def test_bip54_locktime_and_sequence_are_set_unless_switched_off() -> None:
    read = read_coinbase(whole(ledger_coinbase(template())))
    assert (read.locktime, read.sequence) == (951_657, 0xFFFFFFFE)
    assert read_coinbase(whole(ledger_coinbase(template(height=1)))).locktime == 0
    plain = read_coinbase(whole(ledger_coinbase(template(), Style(b"/MMSP/", bip54=False))))
    assert (plain.locktime, plain.sequence) == (0, 0xFFFFFFFF)


def test_a_tag_too_long_for_the_script_is_refused_at_the_start() -> None:
    with pytest.raises(CoinbaseError, match="tag of 41"):
        Style(b"x" * 41)
    longest = read_coinbase(whole(ledger_coinbase(template(height=8_388_608), Style(b"x" * 40))))
    assert len(longest.script_sig) <= 100


def test_the_proof_of_liabilities_rides_along_in_48_bytes() -> None:
    root = bytes(range(32))
    plain, proven = ledger_coinbase(template()), ledger_coinbase(template(), proof=proof_script(root))
    assert proven.size - plain.size == 48
    outputs = read_coinbase(whole(proven)).outputs
    assert outputs[1] == (0, bytes.fromhex("6a25") + b"POL1\x01" + root)
    assert outputs[-1][1].startswith(bytes.fromhex("6a24aa21a9ed")), "BIP141 reads the last commitment of a block"
    assert proven.outputs == plain.outputs


# --- witness commitment


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 374])
def test_the_witness_commitment_is_recomputed_and_equals_the_oracles(count: int, rng: random.Random) -> None:
    rows = transaction_rows(rng, count, witness=True)
    assert checked_commitment(template(rows)) == commitment_of(rows)


def test_a_template_whose_commitment_does_not_fit_its_transactions_is_not_mined(rng: random.Random) -> None:
    rows = transaction_rows(rng, 5, witness=True)
    wrong = template(rows, default_witness_commitment=commitment_of(rows[:4]).hex())
    with pytest.raises(TemplateError, match="witness commitment of the template at height 951658"):
        checked_commitment(wrong)


def test_a_node_that_gives_no_commitment_gets_one_only_when_a_transaction_has_a_witness(rng: random.Random) -> None:
    without = template(transaction_rows(rng, 3, witness=False), default_witness_commitment=None)
    assert checked_commitment(without) is None
    coinbase = ledger_coinbase(without)
    assert not coinbase.has_witness
    assert [value for value, _ in read_coinbase(whole(coinbase)).outputs] == [without.coinbase_value_sat]
    rows = transaction_rows(rng, 3, witness=True)
    assert checked_commitment(template(rows, default_witness_commitment=None)) == commitment_of(rows)


# --- outputs


def test_outputs_that_do_not_sum_to_the_template_are_refused() -> None:
    of = template()
    for value in (of.coinbase_value_sat - 1, of.coinbase_value_sat + 1):
        with pytest.raises(CoinbaseError, match="outputs pay"):
            build(of, [Output(POOL_SCRIPT, value)], STYLE, None)
    with pytest.raises(CoinbaseError, match=r"-1 sat for pool"):
        build(of, [Output(MINER_SCRIPT, of.coinbase_value_sat + 1), Output(POOL_SCRIPT, -1, "pool")], STYLE, None)


def test_an_empty_script_is_never_paid() -> None:
    of = template()
    with pytest.raises(CoinbaseError, match="empty script for alice"):
        build(of, [Output(b"", of.coinbase_value_sat, "alice")], STYLE, None)


@given(value=st.integers(0, 50 * 10**8 * 2), fee_bp=st.integers(0, 500))
def test_a_solo_block_pays_the_finder_first_and_at_least_95_percent(value: int, fee_bp: int) -> None:
    outputs = pay_solo(value, Output(MINER_SCRIPT, 0, "m"), POOL_SCRIPT, fee_bp)
    assert sum(output.value_sat for output in outputs) == value
    assert outputs[0].script == MINER_SCRIPT
    assert outputs[0].value_sat * 100 >= value * 95
    for fee in outputs[1:]:
        assert fee.value_sat == value * fee_bp // 10_000
        assert fee.value_sat >= dust_sat(POOL_SCRIPT)


def test_a_solo_fee_above_5_percent_is_refused() -> None:
    with pytest.raises(CoinbaseError, match="solo fee of"):
        pay_solo(10**8, Output(MINER_SCRIPT, 0), POOL_SCRIPT, 501)


def script_of(number: int) -> bytes:
    """All standard kinds in turn."""
    payload = number.to_bytes(20, "big")
    kinds = (b"\x00\x14", b"\x51\x20" + bytes(12), b"\x76\xa9\x14", b"\xa9\x14", b"\x00\x20" + bytes(12))
    tails = (b"", b"", b"\x88\xac", b"\x87", b"")
    return kinds[number % 5] + payload + tails[number % 5]


members_lists = st.lists(st.integers(0, 10**15), max_size=60).map(
    lambda scores: [Member(script_of(place), score, f"m{place}") for place, score in enumerate(scores)]
)


@given(
    members=members_lists,
    beyond=st.integers(0, 10**15),
    value=st.integers(0, 400 * 10**8),
    firmware=st.sampled_from(sorted(FIRMWARE)),
    coinb2_bytes=st.integers(64, 20_000),
    smallest=st.integers(0, 100_000),
    limit=st.sampled_from([4_000_000, 3_000, 1_200]),
    proven=st.booleans(),
)
def test_direct_outputs_sum_exactly_fit_their_budget_and_favour_no_smaller_member(
    members: list[Member],
    beyond: int,
    value: int,
    firmware: str,
    coinb2_bytes: int,
    smallest: int,
    limit: int,
    proven: bool,
) -> None:
    of = template(coinbasevalue=value, weightlimit=limit)
    proof = proof_script(bytes(32)) if proven else None
    commitment = checked_commitment(of)
    assert commitment is not None
    unpaid = [commitment] if proof is None else [proof, commitment]
    space = room(of, STYLE, unpaid, FIRMWARE[firmware], coinb2_bytes)
    total = sum(member.score for member in members) + beyond
    outputs = pay_direct(value, members, total, POOL_SCRIPT, space, smallest)
    assert sum(output.value_sat for output in outputs) == value
    paid = {output.label: output.value_sat for output in outputs if output.label != "pool"}
    coinbase = build(dataclasses.replace(of, weight_limit=4_000_000), outputs, STYLE, commitment, proof)
    if paid:
        halves = len(coinbase.coinb1(1)), len(coinbase.coinb2)
        assert FIRMWARE[firmware].takes(*halves)
        assert halves[1] <= coinb2_bytes
        assert coinbase.weight <= coinbase_weight_left(of)
    exact = {member.label: value * member.score // total for member in members if total}
    order = list(paid.values())
    assert order[1:] == sorted(order[1:], reverse=True)
    for place, (label, sat) in enumerate(paid.items()):
        over = sat - exact[label]
        assert over == 0 or (place == 0 and 0 < over < dust_sat(POOL_SCRIPT)), "only a dust remainder, to the largest"
        assert sat >= smallest
        assert sat >= dust_sat(next(member.script for member in members if member.label == label))
    left_out = [
        sat
        for member in members
        if (sat := exact.get(member.label, 0)) >= max(smallest, dust_sat(member.script)) and member.label not in paid
    ]
    if paid and left_out:
        assert max(left_out) <= min(exact[label] for label in paid)


def test_direct_pays_a_member_with_two_devices_once() -> None:
    of = template()
    space = room(of, STYLE, [], FIRMWARE["axeos"], 384)
    twice = [Member(MINER_SCRIPT, 30, "a"), Member(MINER_SCRIPT, 20, "a")]
    outputs = pay_direct(of.coinbase_value_sat, twice, 100, POOL_SCRIPT, space, 10_000)
    half = of.coinbase_value_sat // 2
    assert [(output.script, output.value_sat) for output in outputs] == [(MINER_SCRIPT, half), (POOL_SCRIPT, half)]


def test_direct_pays_no_dust_and_nothing_below_the_smallest_amount() -> None:
    space = room(template(), STYLE, [], FIRMWARE["axeos"], 384)
    p2pkh, p2wpkh = script_of(2), script_of(0)
    for smallest, amounts, paid in ((0, (545, 293), 0), (0, (546, 294), 2), (0, (545, 294), 1), (600, (599, 600), 1)):
        members = [Member(p2pkh, amounts[0]), Member(p2wpkh, amounts[1])]
        outputs = pay_direct(10**8, members, 10**8, POOL_SCRIPT, space, smallest)
        assert len(outputs) == paid + 1
        assert outputs[-1].value_sat == 10**8 - sum(output.value_sat for output in outputs[:-1])


def test_direct_scores_that_promise_more_than_the_block_are_refused() -> None:
    space = room(template(), STYLE, [], FIRMWARE["axeos"], 384)
    with pytest.raises(CoinbaseError, match="exceed the total"):
        pay_direct(10**8, [Member(MINER_SCRIPT, 101)], 100, POOL_SCRIPT, space, 0)


def test_direct_leaves_signature_operations_to_the_template(rng: random.Random) -> None:
    p2pkh = [Member(script_of(5 * place + 2), 1000 - place) for place in range(9)]
    of = dataclasses.replace(template(), sigop_limit=80_000)
    full = dataclasses.replace(of, transactions=dataclasses.replace(of.transactions, sigops=80_000 - 4 * 3))
    space = room(full, STYLE, [], FIRMWARE["whatsminer"], 6000)
    outputs = pay_direct(full.coinbase_value_sat, p2pkh, 9000, POOL_SCRIPT, space, 0)
    assert len(outputs) == 4  # three P2PKH, then the pool
    build(full, outputs, STYLE, None)
    too_many = [*(Output(member.script, 0) for member in p2pkh[:4]), *pay_pool(full.coinbase_value_sat, POOL_SCRIPT)]
    with pytest.raises(CoinbaseError, match="4 signature operations, the template leaves 3"):
        build(full, too_many, STYLE, None)


def test_a_block_too_heavy_for_its_coinbase_names_the_nodes_setting(rng: random.Random) -> None:
    of = template()
    tight = dataclasses.replace(of, transactions=dataclasses.replace(of.transactions, weight=4_000_000 - 324 - 600))
    with pytest.raises(CoinbaseError, match="blockreservedweight"):
        ledger_coinbase(tight)
    weight = ledger_coinbase(of).weight
    fits = dataclasses.replace(of, transactions=dataclasses.replace(of.transactions, weight=4_000_000 - 324 - weight))
    assert ledger_coinbase(fits).weight == coinbase_weight_left(fits)


# --- firmware


def test_four_members_and_a_tag_of_nine_fit_into_what_a_nerdminer_takes() -> None:
    """The budget of the clients' page: 255 bytes with a 9-character tag and a commitment leave 131 for outputs less our
    counter's 6 and its push: 4 P2WPKH outputs to the byte."""
    of, style = template(), Style(b"/mmsp.io/")
    commitment = checked_commitment(of)
    assert commitment is not None
    space = room(of, style, [commitment], FIRMWARE["nerdminer"], 384)
    members = [Member(script_of(5 * place), 100 - place) for place in range(9)]
    outputs = pay_direct(of.coinbase_value_sat, members, 1000, POOL_SCRIPT, space, 0)
    coinbase = build(of, outputs, style, commitment)
    assert (len(outputs), coinbase.size) == (4, 255)
    assert coinbase.suits() >= {"nerdminer", "axeos", "nicehash", "antminer-s19", "antminer-s21", "whatsminer"}


def test_which_firmware_a_coinbase_suits_follows_its_size() -> None:
    of = template()
    lost = []
    for outputs in range(1, 230):
        parts = [Output(script_of(5 * place), 1000) for place in range(outputs - 1)]
        rest = of.coinbase_value_sat - sum(part.value_sat for part in parts)
        coinbase = build(of, [*parts, Output(POOL_SCRIPT, rest)], STYLE, checked_commitment(of))
        lost += [(name, coinbase.size) for name in set(FIRMWARE) - coinbase.suits() - {name for name, _ in lost}]
    assert [name for name, _ in lost][:2] == ["sparkminer", "nerdminer"]
    limits = {"nerdminer": 255, "nicehash": 500, "antminer-s19": 730, "antminer-s21": 2250, "whatsminer": 6500}
    for name, size in lost:
        if name in limits:
            assert limits[name] < size <= limits[name] + output_size(script_of(0))
    assert {name for name, _ in lost} == set(FIRMWARE)


def test_the_model_of_axeos_reads_the_worked_vector_as_axeos_does() -> None:
    share = json.loads((VECTORS / "stratum_worked.json").read_text())["share"]
    params = share["notify"]["params"]
    view = axeos_view(bytes.fromhex(params[2]), bytes.fromhex(params[3]), share["submit"]["params"][0], NAMES)
    assert (view.height, view.scriptsig) == (840_001, "./example/")
    assert (view.total_sat, view.user_sat) == (312_500_000, 306_250_000)
    assert (view.share, view.banner) == ("Fee 2.0 %", "")


def view_of(coinbase: Coinbase, user: str) -> AxeOsView:
    return axeos_view(coinbase.coinb1(COUNTER), coinbase.coinb2, user, NAMES)


def test_axeos_and_nerdqaxe_show_a_solo_coinbase_as_the_miners_own() -> None:
    of = template()
    user = f"{MINER_ADDRESS}.axe1"
    miner = Output(parse_address(MINER_ADDRESS, "mainnet").script, 0)
    outputs = pay_solo(of.coinbase_value_sat, miner, POOL_SCRIPT, 200)
    view = view_of(build(of, outputs, STYLE, checked_commitment(of)), user)
    assert view.scriptsig == "./MMSP/......."
    assert view.height == 951_658
    assert view.outputs[:2] == [f"{MINER_ADDRESS} 306250000", f"{POOL_ADDRESS} 6250000"]
    assert view.outputs[2].startswith("OP_RETURN: .!..")
    assert (view.share, view.banner, view.bip54) == ("Fee 2.0 %", "", True)
    assert nerdqaxe_refuses(view, extended=True) == ""
    free = view_of(build(of, pay_solo(of.coinbase_value_sat, miner, POOL_SCRIPT, 0), STYLE, None), user)
    assert (free.share, free.banner) == ("Fee 0.0 %", "")


def test_axeos_and_nerdqaxe_say_of_a_ledger_coinbase_that_the_miner_has_no_share() -> None:
    """What a member of a ledger pool sees: the manual must say so beforehand."""
    view = view_of(ledger_coinbase(template()), f"{MINER_ADDRESS}.axe1")
    assert view.banner == "You don't have a share in the mining reward"
    assert view.outputs[0] == f"{POOL_ADDRESS} 312500000"
    assert nerdqaxe_refuses(view, extended=False) == "address_not_found"


def test_axeos_shows_a_direct_members_part() -> None:
    of = template()
    space = room(of, STYLE, [], FIRMWARE["axeos"], 384)
    outputs = pay_direct(of.coinbase_value_sat, [Member(MINER_SCRIPT, 250)], 1000, POOL_SCRIPT, space, 10_000)
    view = view_of(build(of, outputs, STYLE, checked_commitment(of)), MINER_ADDRESS)
    assert (view.share, view.banner) == ("Share 25.0 %", "Your share of the mining reward is only 25.0%")
    assert nerdqaxe_refuses(view, extended=False) == ""
    assert nerdqaxe_refuses(view, extended=True) == "fee_exceeded"


def test_a_development_chain_below_height_17_is_mined_although_axeos_cannot_show_it() -> None:
    low, high = ledger_coinbase(template(height=16)), ledger_coinbase(template(height=17))
    with pytest.raises(ValueError, match="Failed to process"):
        view_of(low, MINER_ADDRESS)
    assert view_of(high, MINER_ADDRESS).height == 17
