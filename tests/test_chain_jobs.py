"""From template to Job to block: Merkle branches, versions, times, empty-first jobs, a mainnet block byte for byte."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native.hashing import merkle_branches, merkle_root
from native.work import VERSION_MASK, Job
from pool.chain.coinbase import Coinbase, Style, build, checked_commitment, pay_pool
from pool.chain.jobs import JobTag, Prepared, empty_first, make_job, prepare, tag_of
from pool.chain.types import NETWORKS, Output, Template, TemplateError
from rig import reference
from rig.chain_parts import POOL_SCRIPT, block_hash, gbt, template, tip, transaction_rows
from rig.coinbase_views import read_coinbase
from rig.reference_tx import transactions_of

VECTORS = Path(__file__).parent / "vectors"
EN1, EN2 = bytes.fromhex("a1a2a3a4"), bytes.fromhex("b1b2b3b4b5b6b7b8")
JOB_ID = 0x0102030405FE


def tagged(prepared: Prepared) -> JobTag:
    of = prepared.template
    coinbase = build(of, pay_pool(of.coinbase_value_sat, POOL_SCRIPT), Style(), prepared.commitment)
    return JobTag(prepared, coinbase, "ledger", "", 0)


def job_of(of: Template, elapsed_s: int = 0) -> Job:
    return make_job(JOB_ID, tagged(prepare(of)), elapsed_s)


# --- blocks


@pytest.mark.parametrize("witness", [False, True], ids=["legacy", "segwit"])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 374])
def test_a_block_holds_its_template_and_its_header_commits_to_it(
    count: int, witness: bool, rng: random.Random
) -> None:
    rows = transaction_rows(rng, count, witness=witness)
    of = template(rows)
    job = job_of(of)
    header = job.header(EN1, EN2, job.ntime + 1, 0x12345678, 0x00C2A000)
    coinbase = job.coinbase(EN1, EN2)
    txids = [reference.sha256d(coinbase), *(bytes.fromhex(str(row["txid"]))[::-1] for row in rows)]
    root = reference.merkle_tree_root(txids)
    expected = reference.header(0x20C2A000, of.prevhash, root, job.ntime + 1, 0x1702068F, 0x12345678)
    assert header == expected
    block = job.block(EN1, EN2, header)
    body = b"".join(bytes.fromhex(str(row["data"])) for row in rows)
    assert block.startswith(header)
    assert block.endswith(body)
    read = read_coinbase(coinbase)
    assert sum(value for value, _ in read.outputs) == of.coinbase_value_sat
    with_witness = coinbase[:4] + b"\x00\x01" + coinbase[4:-4] + b"\x01\x20" + bytes(32) + coinbase[-4:]
    count_bytes = bytes([count + 1]) if count < 252 else b"\xfd" + (count + 1).to_bytes(2, "little")
    assert block == header + count_bytes + with_witness + body


def _mainnet_template(known: dict[str, object], transactions: list[tuple[bytes, bytes, bytes]], value: int) -> Template:
    """What the node's getblocktemplate said before block 951658 was found, put together from the block."""
    rows: list[dict[str, object]] = [
        {"data": raw.hex(), "txid": txid[::-1].hex(), "hash": wtxid[::-1].hex(), "fee": 0, "weight": 4 * len(raw)}
        for raw, txid, wtxid in transactions
    ]
    version = int(str(known["version"]))
    answer = gbt(
        rows,
        height=int(str(known["height"])),
        version=version & ~VERSION_MASK,
        previousblockhash=str(known["previousblockhash"]),
        bits=str(known["bits"]),
        curtime=int(str(known["time"])),
        mintime=int(str(known["mediantime"])) + 1,
        coinbasevalue=value,
    )
    return Template.from_rpc(answer, NETWORKS["mainnet"], 0)


def mainnet_job() -> tuple[Job, bytes, bytes, dict[str, object]]:
    """Block 951658 through template and job: the job, extranonce1, extranonce2, and the block's own record.

    Its miners put other things into scriptSig than we do, so its own coinbase is cut where our counter and extranonces
    would stand: the 6 and 12 bytes before its end.
    """
    known: dict[str, object] = json.loads((VECTORS / "bitcoin_mainnet_951658.json").read_text())
    block = bytes.fromhex(str(known["block"]))
    transactions = transactions_of(block)
    raw = transactions[0].raw
    coinbase = raw[:4] + raw[6:-38] + raw[-4:]  # without marker, flag and the witness item
    read = read_coinbase(coinbase)
    end = 42 + len(read.script_sig)
    counter, extranonces = coinbase[end - 18 : end - 12], coinbase[end - 12 : end]
    value = sum(sat for sat, _ in read.outputs)
    of = _mainnet_template(known, [(tx.raw, tx.txid, tx.wtxid) for tx in transactions[1:]], value)
    prepared = prepare(of)
    assert prepared.commitment == read.outputs[1][1]
    outputs = (Output(read.outputs[0][1], value),)
    theirs = Coinbase(coinbase[: end - 18], coinbase[end:], outputs, has_witness=True)
    job = make_job(int.from_bytes(counter, "big"), JobTag(prepared, theirs, "ledger", "", 0))
    return job, extranonces[:4], extranonces[4:], known


def test_mainnet_block_951658_comes_out_byte_for_byte() -> None:
    job, extranonce1, extranonce2, known = mainnet_job()
    version_bits = int(str(known["version"])) & VERSION_MASK
    assert version_bits, "the block was found by rolling its version"
    header = job.header(extranonce1, extranonce2, int(str(known["time"])), int(str(known["nonce"])), version_bits)
    assert reference.sha256d(header)[::-1].hex() == known["hash"]
    assert int.from_bytes(reference.sha256d(header), "little") <= job.network_target
    assert job.block(extranonce1, extranonce2, header).hex() == known["block"]


def test_the_worked_merkle_vectors_fold_to_their_roots() -> None:
    for vector in json.loads((VECTORS / "stratum_worked.json").read_text())["merkle"]:
        leaf = reference.sha256d(bytes.fromhex(vector["coinbase"]))
        branches = b"".join(bytes.fromhex(branch) for branch in vector["branches"])
        assert merkle_root(leaf, branches).hex() == vector["root"]


@given(txids=st.lists(st.binary(min_size=32, max_size=32), max_size=70), leaf=st.binary(min_size=32, max_size=32))
def test_branches_lead_any_coinbase_to_the_root_of_the_whole_tree(txids: list[bytes], leaf: bytes) -> None:
    branches = merkle_branches(b"".join(txids))
    assert merkle_root(leaf, branches) == reference.merkle_tree_root([leaf, *txids])


# --- what shares and what differs


def test_a_variant_shares_transactions_and_branches_and_differs_in_its_counter(rng: random.Random) -> None:
    tag = tagged(prepare(template(transaction_rows(rng, 5, witness=True))))
    one, two = make_job(1, tag), make_job(2, tag)
    assert one.tag is two.tag is tag
    assert tag_of(one).prepared.template.transactions.data is tag_of(two).prepared.template.transactions.data
    assert one.coinb2 is two.coinb2
    assert one.branches == two.branches
    assert one.coinb1[:-6] == two.coinb1[:-6]
    assert (one.coinb1[-6:], two.coinb1[-6:]) == (b"\x00\x00\x00\x00\x00\x01", b"\x00\x00\x00\x00\x00\x02")


def test_a_job_that_we_did_not_make_has_no_tag_to_read() -> None:
    job = job_of(template())
    other = Job(
        job_id=1, coinb1=job.coinb1, coinb2=job.coinb2, branches=[], prevhash=job.prevhash, version=job.version,
        nbits=job.nbits, ntime=job.ntime, ntime_min=job.ntime_min, ntime_max=job.ntime_max, height=job.height,
    )  # fmt: skip
    with pytest.raises(TypeError, match="was not made by"):
        tag_of(other)


# --- version and time


def test_version_bits_that_miners_roll_are_cleared() -> None:
    job = job_of(template(version=0x30000000))  # regtest signals TESTDUMMY, bit 28
    assert job.version == 0x20000000
    assert job_of(template(version=0x20000004)).version == 0x20000004


def test_required_version_bits_that_miners_roll_stop_the_mining() -> None:
    with pytest.raises(TemplateError, match="requires version bits 10000000, which miners roll"):
        prepare(template(vbrequired=0x10000000, version=0x30000000))
    assert prepare(template(vbrequired=0x4, version=0x20000004)).version == 0x20000004


def test_a_job_lets_time_roll_from_the_median_to_short_of_what_nodes_refuse() -> None:
    of = template(curtime=2_000, mintime=1_000)
    job = job_of(of)
    assert (job.ntime_min, job.ntime, job.ntime_max) == (1_000, 2_000, 9_000)
    assert job.ntime_max < 2_000 + 7_200
    assert job_of(of, elapsed_s=30).ntime == 2_030
    assert job_of(of, elapsed_s=10**6).ntime == 9_000
    assert job_of(template(curtime=2_000, mintime=2_500)).ntime == 2_500
    with pytest.raises(TemplateError, match="clock is 8000 s behind"):
        prepare(template(curtime=2_000, mintime=10_000))


# --- what the node says


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"rules": ["!segwit", "!blackmagic"]}, "!blackmagic"),
        ({"rules": "segwit"}, "not a list"),
        ({"height": "7"}, "'height' is '7'"),
        ({"height": True}, "'height' is True"),
        ({"curtime": -1}, "'curtime' is -1"),
        ({"bits": "1702068"}, "'bits' is '1702068'"),
        ({"bits": None}, "'bits'"),
        ({"previousblockhash": "00"}, "'previousblockhash'"),
        ({"coinbasevalue": 1.5}, "'coinbasevalue'"),
        ({"transactions": None}, "without its list of transactions"),
        ({"transactions": [{"data": "00"}]}, "without 'txid'"),
        ({"transactions": [{"data": "0", "txid": "00", "hash": "00"}]}, "cannot be read"),
        ({"transactions": [{"data": "00", "txid": "00", "hash": "00", "fee": 1, "weight": 4}]}, "not 32 bytes"),
        ({"default_witness_commitment": "xyz"}, "not hex"),
        ({"signet_challenge": "5121"}, "signers"),
    ],
)
def test_a_template_that_cannot_be_mined_names_what_is_wrong(changes: dict[str, object], word: str) -> None:
    with pytest.raises(TemplateError, match=word):
        Template.from_rpc(gbt() | changes, NETWORKS["mainnet"], 0)


def test_known_forced_rules_and_missing_extras_are_fine() -> None:
    answer = gbt(rules=["csv", "!segwit", "taproot", "!signet"], signet_challenge="51")
    for key in ("rules", "longpollid", "mintime", "weightlimit", "sigoplimit", "vbrequired"):
        assert Template.from_rpc({k: v for k, v in answer.items() if k != key}, NETWORKS["signet"], 0).height == 951_658


# --- empty-first


@pytest.mark.parametrize(
    ("network", "height", "value"),
    [
        ("mainnet", 839_999, 625_000_000),
        ("mainnet", 840_001, 312_500_000),
        ("signet", 209_999, 5_000_000_000),
        ("signet", 210_001, 2_500_000_000),
        ("regtest", 149, 5_000_000_000),
        ("regtest", 150, 2_500_000_000),
        ("regtest", 299, 2_500_000_000),
        ("regtest", 300, 1_250_000_000),
        ("mainnet", 64 * 210_000 + 1, 0),
    ],
)
def test_an_empty_first_job_pays_exactly_the_subsidy_over_halvings(network: str, height: int, value: int) -> None:
    bridge = empty_first(tip(network=network, height=height - 1), 0x20000000, 1_780_112_500)
    assert bridge is not None
    job = job_of(bridge)
    assert [sat for sat, _ in read_coinbase(job.coinbase(EN1, EN2)).outputs] == [value]
    assert (job.height, job.tx_count, job.branches, job.nbits) == (height, 0, (), 0x1702068F)
    header = job.header(EN1, EN2, job.ntime, 0, 0)
    assert job.block(EN1, EN2, header) == header + b"\x01" + job.coinbase(EN1, EN2), "no commitment, so no witness"
    assert bridge.complete is False


@pytest.mark.parametrize(
    ("network", "height", "foretold"),
    [
        ("mainnet", 4032, False),
        ("mainnet", 4033, True),
        ("mainnet", 6047, True),
        ("mainnet", 6048, False),
        ("signet", 2016, False),
        ("testnet3", 4033, False),
        ("testnet4", 4033, False),
        ("demo", 4033, False),
        ("regtest", 2016, True),
    ],
)
def test_no_empty_first_job_where_the_difficulty_may_change(network: str, height: int, foretold: bool) -> None:
    assert (empty_first(tip(network=network, height=height - 1), 0x20000000, 1_780_112_500) is not None) == foretold


def test_an_empty_first_job_needs_the_tips_median_time_and_never_goes_below_it() -> None:
    late = empty_first(tip(), 0x20000000, 1_000)
    assert late is not None
    assert (late.curtime_s, late.mintime_s) == (1_780_110_800, 1_780_110_800)
    assert late.prevhash == block_hash("previous")
    unknown = tip()
    object.__setattr__(unknown, "mediantime_s", 0)  # btcd does not tell it
    assert empty_first(unknown, 0x20000000, 1_780_112_500) is None


def test_the_commitment_of_a_job_comes_from_its_own_transactions(rng: random.Random) -> None:
    rows = transaction_rows(rng, 3, witness=True)
    assert prepare(template(rows)).commitment == checked_commitment(template(rows))
    assert prepare(template(rows)).commitment != prepare(template(rows[:2])).commitment
