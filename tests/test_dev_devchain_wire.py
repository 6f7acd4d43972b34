"""The development chain's own parser and block checks, held against a mainnet block and against bitcoinlib."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pool.address import load_bitcoinlib
from pool.dev.devchain import check
from pool.dev.devchain.rules import STRICT, RejectError, nbits_of_target, target_of_nbits, work_of_target
from pool.dev.devchain.scripts import commitment_script, operations, push_number
from pool.dev.devchain.txgen import Generator
from pool.dev.devchain.wire import (
    Block,
    TxIn,
    TxOut,
    WireError,
    display,
    merkle_root,
    pack_block,
    pack_tx,
    parse_block,
    parse_header,
    parse_tx,
)

VECTOR = Path(__file__).parent / "vectors" / "bitcoin_mainnet_951658.json"
HEIGHT = 951_658


@pytest.fixture(scope="module")
def vector() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(VECTOR.read_text())
    return loaded


@pytest.fixture(scope="module")
def mainnet(vector: dict[str, Any]) -> Block:
    return parse_block(bytes.fromhex(vector["block"]))


@pytest.fixture(scope="module")
def bitcoinlib_transactions() -> ModuleType:
    load_bitcoinlib()
    import bitcoinlib.transactions as module

    found: ModuleType = module
    return found


def test_a_mainnet_block_reads_as_the_network_saw_it(mainnet: Block, vector: dict[str, Any]) -> None:
    assert display(mainnet.hash) == vector["hash"]
    assert [display(tx.txid) for tx in mainnet.txs] == vector["tx"]
    assert (len(mainnet.raw), mainnet.stripped_size, mainnet.weight) == (
        vector["size"],
        vector["strippedsize"],
        vector["weight"],
    )
    assert display(merkle_root([tx.txid for tx in mainnet.txs])) == vector["merkleroot"]
    header = mainnet.header
    assert (header.version, header.time_s, header.nonce) == (vector["version"], vector["time"], vector["nonce"])
    assert f"{target_of_nbits(header.nbits):064x}" == vector["target"]
    assert nbits_of_target(target_of_nbits(header.nbits)) == header.nbits
    assert pack_block(header.raw, [tx.raw for tx in mainnet.txs]) == mainnet.raw


def test_a_mainnet_block_passes_every_check_that_needs_no_coins(mainnet: Block, vector: dict[str, Any]) -> None:
    check.check_block(mainnet, STRICT)
    check.check_block_in_context(mainnet, height=HEIGHT, median_time_s=vector["mediantime"])
    check.check_header_in_context(
        mainnet.header,
        median_time_s=vector["mediantime"] - 1,
        now_s=vector["time"],
        allowed_nbits=[mainnet.header.nbits],
    )
    commitment = commitment_script(check.witness_root(mainnet.txs))
    assert any(out.script == commitment for out in mainnet.txs[0].vout)


@pytest.mark.parametrize(("height", "reason"), [(HEIGHT - 1, "bad-txns-nonfinal"), (HEIGHT + 1, "bad-cb-height")])
def test_a_mainnet_block_at_another_height_is_refused(
    mainnet: Block, vector: dict[str, Any], height: int, reason: str
) -> None:
    with pytest.raises(RejectError, match=reason):  # some of its transactions are locked to its height
        check.check_block_in_context(mainnet, height=height, median_time_s=vector["mediantime"])


def test_a_mainnet_block_with_one_changed_witness_byte_is_refused(mainnet: Block, vector: dict[str, Any]) -> None:
    index = next(i for i, tx in enumerate(mainnet.txs) if i and tx.witness)
    tx = mainnet.txs[index]
    stacks = [[bytes(item) for item in stack] for stack in tx.witness]
    where = next(i for i, stack in enumerate(stacks) if stack and stack[0])
    stacks[where][0] = bytes([stacks[where][0][0] ^ 1]) + stacks[where][0][1:]
    changed = parse_tx(pack_tx(tx.version, tx.vin, tx.vout, stacks, tx.locktime))
    assert changed.txid == tx.txid
    body = [changed.raw if i == index else one.raw for i, one in enumerate(mainnet.txs)]
    block = parse_block(pack_block(mainnet.header.raw, body))
    check.check_block(block, STRICT)  # the header cannot tell
    with pytest.raises(RejectError, match="bad-witness-merkle-match"):
        check.check_block_in_context(block, height=HEIGHT, median_time_s=vector["mediantime"])


def test_bitcoinlib_reads_the_same_transactions_in_a_mainnet_block(
    mainnet: Block, bitcoinlib_transactions: ModuleType
) -> None:
    for tx in mainnet.txs:
        _same(tx.raw, bitcoinlib_transactions)


@given(seed=st.integers(0, 2**32), segwit_percent=st.sampled_from([0, 50, 100]))
def test_bitcoinlib_reads_the_same_in_the_random_transactions(
    bitcoinlib_transactions: ModuleType, seed: int, segwit_percent: int
) -> None:
    generator = Generator(seed, segwit_percent)
    for _ in range(4):
        made = generator.make()
        _same(made.tx.raw, bitcoinlib_transactions)
        assert bool(made.tx.witness) == (made.tx.txid != made.tx.wtxid)
        if segwit_percent == 0:
            assert not made.tx.witness


def _same(raw: bytes, bitcoinlib_transactions: ModuleType) -> None:
    """Our parser and bitcoinlib's agree on everything block rules look at."""
    ours = parse_tx(raw)
    theirs = bitcoinlib_transactions.Transaction.parse(raw, strict=False)
    assert theirs.txid == display(ours.txid)
    assert theirs.locktime == ours.locktime
    assert theirs.version_int == ours.version
    assert [(i.prev_txid[::-1] + i.output_n[::-1], i.sequence) for i in theirs.inputs] == [
        (txin.outpoint, txin.sequence) for txin in ours.vin
    ]
    assert [(out.value, out.lock_script) for out in theirs.outputs] == [(o.value_sat, o.script) for o in ours.vout]


scripts = st.binary(max_size=300)
transactions = st.builds(
    lambda version, ins, outs, stacks, locktime: pack_tx(
        version, ins, outs, (stacks * len(ins))[: len(ins)] if any(stacks) else (), locktime
    ),
    st.integers(-(2**31), 2**31 - 1),
    st.lists(
        st.builds(TxIn, st.binary(min_size=36, max_size=36), scripts, st.integers(0, 2**32 - 1)), min_size=1, max_size=4
    ),
    st.lists(st.builds(TxOut, st.integers(-(2**63), 2**63 - 1), scripts), min_size=1, max_size=4),
    st.lists(st.lists(scripts, max_size=3), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)


@given(transactions)
def test_any_transaction_survives_the_round_trip(raw: bytes) -> None:
    tx = parse_tx(raw)
    assert pack_tx(tx.version, tx.vin, tx.vout, tx.witness, tx.locktime) == raw
    assert parse_tx(tx.stripped).txid == tx.txid
    assert len(tx.stripped) == tx.stripped_size


@given(transactions, st.data())
def test_broken_bytes_are_refused_or_read_as_exactly_what_they_say(raw: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(raw)))
    noise = data.draw(st.binary(max_size=8))
    broken = raw[:cut] + noise + raw[cut + data.draw(st.integers(0, 8)) :]
    try:
        tx = parse_tx(broken)
    except WireError:
        return
    assert pack_tx(tx.version, tx.vin, tx.vout, tx.witness, tx.locktime) == broken


@given(st.binary(max_size=400))
@example(bytes(80) + b"\xfe\xff\xff\xff\x7f")  # claims two billion transactions
@example(bytes(80) + b"\xff" + b"\xff" * 8)
@example(bytes(80) + b"\x01" + bytes(4) + b"\xfd\x01\x00")  # a length not in its shortest form
def test_random_bytes_never_do_more_than_raise_a_wire_error(raw: bytes) -> None:
    try:
        block = parse_block(raw)
    except WireError:
        return
    assert pack_block(block.header.raw, [tx.raw for tx in block.txs]) == raw


@pytest.mark.parametrize(
    ("height", "script_hex"),
    [(0, "00"), (1, "51"), (16, "60"), (17, "0111"), (127, "017f"), (128, "028000"), (255, "02ff00"), (256, "020001"),
     (32_767, "02ff7f"), (32_768, "03008000"), (951_658, "036a850e"), (8_388_607, "03ffff7f"),
     (8_388_608, "0400008000")],
)  # fmt: skip
def test_heights_are_pushed_in_the_shortest_form(height: int, script_hex: str) -> None:
    assert push_number(height).hex() == script_hex


@given(st.integers(17, 2**31))
def test_a_pushed_height_reads_back(height: int) -> None:
    (opcode, pushed), *rest = operations(push_number(height))
    assert (opcode, rest) == (len(pushed), [])
    assert int.from_bytes(pushed, "little", signed=True) == height


@given(st.integers(1, 2**256 - 1))
def test_compact_targets_never_round_up(target: int) -> None:
    nbits = nbits_of_target(target)
    back = target_of_nbits(nbits)
    assert back <= target
    assert nbits_of_target(back) == nbits
    assert target - back < max(1, target >> 15)


@pytest.mark.parametrize("nbits", [0, 0x01003456, 0x04923456, 0xFF123456, 0x20800000, 0x2101FFFF, 0x22010000])
def test_compact_forms_that_are_no_target_are_refused(nbits: int) -> None:
    with pytest.raises(ValueError, match="is no target"):
        target_of_nbits(nbits)


def test_work_adds_up_as_bitcoin_core_counts_it(vector: dict[str, Any]) -> None:
    assert work_of_target(target_of_nbits(0x207FFFFF)) == 2
    assert work_of_target(target_of_nbits(0x1D00FFFF)) == 4_295_032_833
    assert work_of_target(int(vector["target"], 16)) == pytest.approx(vector["difficulty"] * 2**32, rel=1e-4)


def test_merkle_roots_of_small_trees_are_those_done_by_hand() -> None:
    from hashlib import sha256

    def pair(left: bytes, right: bytes) -> bytes:
        return sha256(sha256(left + right).digest()).digest()

    a, b, c = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
    assert merkle_root([a]) == a
    assert merkle_root([a, b]) == pair(a, b)
    assert merkle_root([a, b, c]) == pair(pair(a, b), pair(c, c))


def test_a_header_of_another_length_is_refused() -> None:
    with pytest.raises(WireError, match="80 bytes, not 79"):
        parse_header(bytes(79))
