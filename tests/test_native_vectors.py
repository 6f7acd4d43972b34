"""Real blocks and worked vectors, reproduced by the oracle and by native; then the two against each other at random."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import difficulty, hashing
from native.channel import Channel
from native.sharelog import ShareLog
from native.work import Job, JobTable
from pool.records import Verdict
from rig import reference
from rig.arithmetic import Arithmetic, JobFace, Native, Oracle
from rig.reference_tx import transactions_of

VECTORS = Path(__file__).parent / "vectors"
WORKED = json.loads((VECTORS / "stratum_worked.json").read_text())
MAINNET = json.loads((VECTORS / "bitcoin_mainnet_951658.json").read_text())


def named(vector: dict[str, Any]) -> str:
    return str(vector["name"])


@pytest.fixture(params=["oracle", "native"])
def arithmetic(request: pytest.FixtureRequest) -> Arithmetic:
    return Oracle() if request.param == "oracle" else Native()


def header_of(vector: dict[str, Any]) -> bytes:
    """The header by the oracle, from the fields as a miner is sent them."""
    prevhash = reference.swap_words(bytes.fromhex(vector["prevhash_wire"]))
    numbers = [int(vector[key], 16) for key in ("version", "ntime", "nbits")]
    root = bytes.fromhex(vector["merkle_root"])
    nonce = int(vector.get("nonce", "0"), 16)
    return reference.header(numbers[0], prevhash, root, numbers[1], numbers[2], nonce)


@pytest.mark.parametrize("vector", WORKED["headers"], ids=named)
def test_a_known_header_hashes_to_its_known_difficulty(vector: dict[str, Any], arithmetic: Arithmetic) -> None:
    header = bytes.fromhex(vector["header"])
    assert header_of(vector) == header
    hash_le = arithmetic.sha256d(header)
    assert hash_le[::-1].hex() == vector["hash_display"]
    assert arithmetic.difficulty_of_hash(hash_le) == vector["difficulty"]


@pytest.mark.parametrize("vector", WORKED["merkle"], ids=named)
def test_a_coinbase_and_its_branches_give_the_known_root(vector: dict[str, Any], arithmetic: Arithmetic) -> None:
    txid = arithmetic.sha256d(bytes.fromhex(vector["coinbase"]))
    assert txid.hex() == vector.get("txid", txid.hex())
    branches = [bytes.fromhex(branch) for branch in vector["branches"]]
    assert arithmetic.merkle_root(txid, branches).hex() == vector["root"]


def test_the_260_byte_coinbase_of_t2_as_a_job_gives_its_header(arithmetic: Arithmetic) -> None:
    merkle, share = WORKED["merkle"][0], WORKED["headers"][1]
    coinbase = bytes.fromhex(merkle["coinbase"])
    cut = coinbase.index(bytes.fromhex("12905085617eff8e")) + 4  # its pool gave 8 bytes of extranonce1: ours are 4
    assert len(coinbase) == 260
    job = arithmetic.job(
        job_id=1,
        coinb1=coinbase[:cut],
        coinb2=coinbase[cut + 12 :],
        branches=[bytes.fromhex(branch) for branch in merkle["branches"]],
        prevhash=reference.swap_words(bytes.fromhex(share["prevhash_wire"])),
        version=int(share["version"], 16),
        nbits=int(share["nbits"], 16),
        ntime=int(share["ntime"], 16),
        ntime_min=0,
        ntime_max=2**32 - 1,
        height=791433,
    )
    nonces = (bytes.fromhex("617eff8e"), bytes.fromhex("0100000000000000"))
    assert job.coinbase(*nonces) == coinbase
    assert job.header(*nonces, int(share["ntime"], 16), int(share["nonce"], 16), 0).hex() == share["header"]


def test_the_midstate_of_a_header_is_the_one_an_asic_is_given() -> None:
    first64 = header_of(WORKED["midstate"])[:64]
    assert hashing.midstate(first64).hex() == WORKED["midstate"]["midstate"]


def test_network_difficulty_of_nbits(arithmetic: Arithmetic) -> None:
    target = arithmetic.target_of_nbits(int(WORKED["network_difficulty"]["nbits"], 16))
    assert arithmetic.difficulty_of_target(target) == WORKED["network_difficulty"]["difficulty"]


@pytest.mark.parametrize("vector", WORKED["targets"], ids=lambda vector: f"D={vector['difficulty']}")
def test_the_target_of_a_difficulty_is_exact_to_the_last_digit(vector: dict[str, Any], arithmetic: Arithmetic) -> None:
    target = arithmetic.target_of_difficulty(vector["difficulty"])
    assert f"{target:064x}".startswith(vector["target_prefix"])
    numerator, denominator = vector["difficulty"].as_integer_ratio()
    exact = reference.DIFFICULTY_1_TARGET * denominator
    assert target * numerator <= exact < (target + 1) * numerator


def synthetic_job(arithmetic: Arithmetic) -> JobFace:
    """The job of T9, built from its notify line's own fields."""
    job_id, wire, coinb1, coinb2, branches, version, nbits, ntime, _ = WORKED["share"]["notify"]["params"]
    return arithmetic.job(
        job_id=int(job_id, 16),
        coinb1=bytes.fromhex(coinb1),
        coinb2=bytes.fromhex(coinb2),
        branches=tuple(bytes.fromhex(branch) for branch in branches),
        prevhash=reference.swap_words(bytes.fromhex(wire)),
        version=int(version, 16),
        nbits=int(nbits, 16),
        ntime=int(ntime, 16),
        ntime_min=int(ntime, 16),
        ntime_max=int(ntime, 16) + 7200,
        height=840001,
    )


def test_the_synthetic_notify_line_is_written_byte_for_byte(arithmetic: Arithmetic) -> None:
    expected = json.dumps(WORKED["share"]["notify"], separators=(",", ":")).encode() + b"\n"
    assert synthetic_job(arithmetic).notify(True) == expected


def test_the_synthetic_share_has_its_known_hash_only_with_its_version_bits(arithmetic: Arithmetic) -> None:
    share = WORKED["share"]
    job = synthetic_job(arithmetic)
    _, _, extranonce2_hex, ntime, nonce, bits = share["submit"]["params"]
    nonces = (bytes.fromhex(share["extranonce1"]), bytes.fromhex(extranonce2_hex))
    coinbase = job.coinbase(*nonces)
    assert len(coinbase) == share["coinbase_bytes"]
    assert arithmetic.sha256d(coinbase).hex() == share["txid"]
    header = job.header(*nonces, int(ntime, 16), int(nonce, 16), int(bits, 16))
    assert header.hex() == share["header"]
    assert header[36:68].hex() == share["merkle_root"]
    assert header[:4][::-1].hex() == share["version"]
    assert arithmetic.sha256d(header)[::-1].hex() == share["hash_display"]
    assert arithmetic.difficulty_of_hash(arithmetic.sha256d(header)) == share["difficulty"]
    plain = job.header(*nonces, int(ntime, 16), int(nonce, 16), 0)
    assert arithmetic.difficulty_of_hash(arithmetic.sha256d(plain)) == share["difficulty_without_version_bits"]


def test_mainnet_block_951658_is_rebuilt_byte_for_byte_from_a_job(arithmetic: Arithmetic) -> None:
    raw = bytes.fromhex(MAINNET["block"])
    transactions = transactions_of(raw)
    assert [tx.txid[::-1].hex() for tx in transactions] == MAINNET["tx"]
    txids = [tx.txid for tx in transactions]
    assert arithmetic.merkle_tree_root(txids)[::-1].hex() == MAINNET["merkleroot"]
    coinbase = transactions[0].raw
    stripped = coinbase[:4] + coinbase[6:-38] + coinbase[-4:]
    script = bytes.fromhex(MAINNET["coinbase_tx"]["coinbase"])
    cut = stripped.index(script) + len(script) - 12  # its last 12 bytes stand for our extranonces
    version = MAINNET["version"]
    job = arithmetic.job(
        job_id=0x1234,
        coinb1=stripped[:cut],
        coinb2=stripped[cut + 12 :],
        branches=tuple(arithmetic.merkle_branches(txids[1:])),
        prevhash=bytes.fromhex(MAINNET["previousblockhash"])[::-1],
        version=version & ~reference.VERSION_MASK,
        nbits=int(MAINNET["bits"], 16),
        ntime=MAINNET["time"],
        ntime_min=MAINNET["mediantime"] + 1,
        ntime_max=MAINNET["time"] + 7200,
        height=MAINNET["height"],
        transactions=b"".join(tx.raw for tx in transactions[1:]),
        tx_count=len(transactions) - 1,
    )
    extranonces = (stripped[cut : cut + 4], stripped[cut + 4 : cut + 12])
    header = job.header(*extranonces, MAINNET["time"], MAINNET["nonce"], version & reference.VERSION_MASK)
    assert arithmetic.sha256d(header)[::-1].hex() == MAINNET["hash"]
    assert job.block(*extranonces, header) == raw


def test_the_witness_commitment_of_block_951658_is_recomputed(arithmetic: Arithmetic) -> None:
    transactions = transactions_of(bytes.fromhex(MAINNET["block"]))
    root = arithmetic.merkle_tree_root([bytes(32), *(tx.wtxid for tx in transactions[1:])])
    commitment = arithmetic.sha256d(root + bytes(32))
    assert bytes.fromhex("6a24aa21a9ed") + commitment in transactions[0].raw


@pytest.mark.parametrize("count", range(40))
def test_branches_fold_to_the_root_of_the_whole_tree(count: int, arithmetic: Arithmetic) -> None:
    txids = [hashlib.sha256(f"tx {n}".encode()).digest() for n in range(count)]
    coinbase = hashlib.sha256(b"coinbase").digest()
    root = arithmetic.merkle_root(coinbase, arithmetic.merkle_branches(txids))
    assert root == arithmetic.merkle_tree_root([coinbase, *txids]) == reference.merkle_tree_root([coinbase, *txids])


@given(st.floats(min_value=2.0**-20, max_value=1e18))
def test_native_targets_equal_the_exact_rational_for_any_double(difficulty: float) -> None:
    target = reference.target_of_difficulty(difficulty)
    assert Native().target_of_difficulty(difficulty) == target
    assert Native().work_of_target(target) == reference.work_of_target(target)
    assert Native().difficulty_of_target(target) == reference.difficulty_of_target(target)


@given(st.floats())
def test_an_impossible_difficulty_is_refused_by_both(difficulty: float) -> None:
    if math.isfinite(difficulty) and difficulty >= 2.0**-20:
        return
    both: tuple[Arithmetic, ...] = (Oracle(), Native())
    for arithmetic in both:
        with pytest.raises(ValueError, match=r".+"):
            arithmetic.target_of_difficulty(difficulty)


@given(st.integers(min_value=1, max_value=2**256 - 1))
def test_a_target_has_one_difficulty_work_and_compact_form(target: int) -> None:
    native, oracle = Native(), Oracle()
    assert native.difficulty_of_target(target) == oracle.difficulty_of_target(target)
    assert native.work_of_target(target) == oracle.work_of_target(target)
    assert native.nbits_of_target(target) == oracle.nbits_of_target(target)
    hash_le = target.to_bytes(32, "little")
    assert native.difficulty_of_hash(hash_le) == oracle.difficulty_of_hash(hash_le)


near_range = st.tuples(st.integers(0, 36), st.integers(0, 2**24 - 1)).map(lambda pair: pair[0] << 24 | pair[1])


@given(st.integers(min_value=0, max_value=2**32 - 1) | near_range)
def test_every_nbits_reads_alike_or_is_refused_alike(nbits: int) -> None:
    outcomes: list[int | None] = []
    both: tuple[Arithmetic, ...] = (Oracle(), Native())
    for arithmetic in both:
        try:
            outcomes.append(arithmetic.target_of_nbits(nbits))
        except ValueError:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1]


@given(st.integers(0, 2**256 - 1), st.integers(-1, 1))
def test_a_hash_equal_to_the_target_meets_it_and_one_above_does_not(target: int, offset: int) -> None:
    value = min(max(target + offset, 0), 2**256 - 1)
    assert difficulty.meets(value.to_bytes(32, "little"), target) == (value <= target)


@given(st.binary(max_size=400))
def test_native_hashes_any_length_as_hashlib_does(data: bytes) -> None:
    assert hashing.sha256(data) == hashlib.sha256(data).digest()
    assert hashing.sha256d(data) == reference.sha256d(data)


SYNTHETIC = [(0.018, True, 1), (0.0182, True, 0), (0.018, False, 0)]


@pytest.mark.parametrize(("difficulty", "with_bits", "accepted"), SYNTHETIC)
def test_the_synthetic_submit_line_is_judged_by_a_channel(
    difficulty: float, with_bits: bool, accepted: int, tmp_path: Path
) -> None:
    share = WORKED["share"]
    fields = vars(synthetic_job(Oracle()))
    job = Job(**{key: value for key, value in fields.items() if key != "network_target"})
    jobs = JobTable()
    jobs.publish(job)
    jobs.set_tip(job.prevhash)
    submit = dict(share["submit"], params=share["submit"]["params"][: 6 if with_bits else 5])
    with ShareLog(str(tmp_path), segment_bytes=1 << 20) as log:
        channel = Channel(jobs, log, bytes.fromhex(share["extranonce1"]), lambda found: None)
        channel.authorize(submit["params"][0].encode(), 1, 1)
        channel.send_job(job, difficulty, True)
        sent = channel.take().splitlines(keepends=True)
        assert sent[0] == b'{"id":null,"method":"mining.set_difficulty","params":[%r]}\n' % difficulty
        assert json.loads(sent[1]) == share["notify"]
        assert channel.feed(json.dumps(submit).encode() + b"\n", 1) is None
        answer = json.loads(channel.take())
        assert (answer["result"], channel.counts[Verdict.ACCEPTED]) == (bool(accepted), accepted)
        assert answer["error"] == (None if accepted else [23, "Low difficulty share", None])
