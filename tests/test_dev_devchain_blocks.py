"""What the development chain says to bad blocks, in Bitcoin Core's words, over its socket; and that good ones pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pool.dev.devchain import coins
from pool.dev.devchain.process import RpcError
from pool.dev.devchain.rules import STRICT, RejectError
from pool.dev.devchain.scripts import commitment_script, push_number
from pool.dev.devchain.store import Coin, Store
from pool.dev.devchain.wire import (
    NULL_OUTPOINT,
    TxIn,
    TxOut,
    merkle_root,
    pack_tx,
    parse_block,
    parse_tx,
    sha256d,
)
from rig.devchain import ADDRESS, SCRIPT, Draft, RunningChain, block_hash, build, devchain


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningChain]:
    """A chain of 102 blocks whose first two coinbases are spendable, and 8 waiting transactions of each kind."""
    with devchain(tmp_path_factory.mktemp("devchain")) as running:
        running.rpc("generatetoaddress", 102, ADDRESS)
        running.rpc("dev_mempool", 8, 1, 100)
        yield running


Spoil = Callable[[RunningChain, dict[str, Any]], bytes]


def draft(**parts: Any) -> Spoil:
    """A solved block with these parts changed."""
    return lambda node, template: build(template, **parts)


def changed(**change: Callable[[dict[str, Any]], Any]) -> Spoil:
    """As `draft`, the parts computed from the template."""
    return lambda node, template: build(template, **{name: make(template) for name, make in change.items()})


def with_tx(make: Callable[[RunningChain, dict[str, Any]], bytes], first: bool = False) -> Spoil:
    """A block that also holds the transaction that `make` returns."""

    def spoil(node: RunningChain, template: dict[str, Any]) -> bytes:
        txs = Draft(template).txs
        extra = make(node, template)
        return build(template, txs=[extra, *txs] if first else [*txs, extra])

    return spoil


def coinbase_outpoint(node: RunningChain, height: int) -> bytes:
    block = node.rpc("getblock", node.rpc("getblockhash", height))
    return bytes.fromhex(block["tx"][0])[::-1] + bytes(4)


def spend(outpoint: bytes, value_sat: int, *, locktime: int = 0, sequence: int = 0xFFFFFFFE) -> bytes:
    return pack_tx(2, [TxIn(outpoint, b"", sequence)], [TxOut(value_sat, SCRIPT)], (), locktime)


def of_mature(value_sat: int, **more: int) -> Callable[[RunningChain, dict[str, Any]], bytes]:
    """A spend of block 1's coinbase (50 BTC)."""
    return lambda node, template: spend(coinbase_outpoint(node, 1), value_sat, **more)


def hidden_sigops(script: bytes, script_sig: bytes, witness: list[bytes]) -> Spoil:
    """Two transactions: the first pays to `script`, the second spends it; the operations are in what it reveals."""

    def spoil(node: RunningChain, template: dict[str, Any]) -> bytes:
        paying = pack_tx(2, [TxIn(coinbase_outpoint(node, 1), b"", 0)], [TxOut(1_000_000, script)])
        coin = TxIn(parse_tx(paying).txid + bytes(4), script_sig, 0)
        return build(template, txs=[paying, pack_tx(2, [coin], [TxOut(1, SCRIPT)], [witness])], value_sat=0)

    return spoil


def duplicated_end(node: RunningChain, template: dict[str, Any]) -> bytes:
    """CVE-2012-2459: the last transactions twice, the same Merkle root as without."""
    txs = Draft(template).txs[:2]
    honest = Draft(template, txs=txs, value_sat=0)
    return build(template, txs=[*txs, txs[1]], value_sat=0, commitment=honest.coinbase().vout[1].script)


def other_order(node: RunningChain, template: dict[str, Any]) -> bytes:
    """The right transactions, two of them swapped."""
    honest = Draft(template)
    body = [honest.coinbase().raw, *honest.txs]
    root = merkle_root([parse_tx(raw).txid for raw in body])
    return build(template, root=root, body=[body[0], body[2], body[1], *body[3:]])


def with_nbits(raw: bytes, nbits: int) -> bytes:
    return raw[:72] + nbits.to_bytes(4, "little") + raw[76:]


def huge_witness(node: RunningChain, template: dict[str, Any]) -> bytes:
    """Over the weight limit by witness alone."""
    txs = Draft(template).txs
    index = next(i for i, raw in enumerate(txs) if parse_tx(raw).witness)
    tx = parse_tx(txs[index])
    stacks = [[b"\x00" * 1_000_000] * 4 for _ in tx.vin]
    txs[index] = pack_tx(tx.version, tx.vin, tx.vout, stacks, tx.locktime)
    return build(template, txs=txs)


def second_coinbase(node: RunningChain, template: dict[str, Any]) -> bytes:
    return pack_tx(1, [TxIn(NULL_OUTPOINT, b"\x01\x02\x03", 0)], [TxOut(0, SCRIPT)])


def twice_the_same_input(node: RunningChain, template: dict[str, Any]) -> bytes:
    outpoint = coinbase_outpoint(node, 1)
    return pack_tx(2, [TxIn(outpoint, b"", 0), TxIn(outpoint, b"", 0)], [TxOut(1, SCRIPT)])


def double_spend(node: RunningChain, template: dict[str, Any]) -> bytes:
    outpoint = coinbase_outpoint(node, 1)
    return build(template, txs=[spend(outpoint, 1), spend(outpoint, 2)], value_sat=0)


def on_a_failed_parent(node: RunningChain, template: dict[str, Any]) -> bytes:
    """A child of a block that paid itself too much."""
    bad = build(template, value_sat=template["coinbasevalue"] + 1, extra=b"rig/parent")
    assert node.rpc("submitblock", bad.hex()) == "bad-cb-amount"
    child = {**template, "transactions": [], "height": template["height"] + 1}
    return build(child, prev=sha256d(bad[:80]))


MUTATED: dict[str, list[Spoil]] = {
    "high-hash": [
        lambda node, template: Draft(template).solve(good=False),
        lambda node, template: with_nbits(build(template), 0),
        lambda node, template: with_nbits(build(template), 0x20800000),  # negative
        lambda node, template: with_nbits(build(template), 0x217FFFFF),  # easier than the limit
    ],
    "bad-txnmrklroot": [draft(root=bytes(32)), other_order],
    "bad-txns-duplicate": [duplicated_end],
    "bad-blk-length": [
        lambda node, template: build(template, body=[], root=bytes(32)),
        draft(script=b"\x6a" * 1_000_001),
    ],
    "bad-cb-missing": [lambda node, template: build(template, body=Draft(template).txs)],
    "bad-cb-multiple": [with_tx(second_coinbase)],
    "bad-cb-length": [draft(extra=bytes(98)), draft(height_push=b"\x51", extra=b"")],
    "bad-cb-height": [
        changed(height_push=lambda t: push_number(t["height"] + 1)),
        changed(height_push=lambda t: push_number(t["height"] - 1)),
        changed(height_push=lambda t: b"\x02" + t["height"].to_bytes(2, "little")),  # not the shortest push
    ],
    "bad-cb-amount": [changed(value_sat=lambda t: t["coinbasevalue"] + 1)],
    "bad-witness-merkle-match": [
        draft(commitment=commitment_script(bytes(32), bytes(32))),
        draft(witness=(b"\x01" * 32,)),
    ],
    "bad-witness-nonce-size": [draft(witness=None), draft(witness=(bytes(31),)), draft(witness=(bytes(32), bytes(32)))],
    "unexpected-witness": [draft(commitment=b"")],
    "bad-blk-weight": [huge_witness],
    "bad-diffbits": [draft(nbits=0x207FFFFE), draft(nbits=0x200FFFFF)],
    "time-too-old": [changed(time_s=lambda t: t["mintime"] - 1)],
    "time-too-new": [changed(time_s=lambda t: t["curtime"] + 7200 + 60)],
    "bad-version(0x00000003)": [draft(version=3)],
    "prev-blk-not-found": [draft(prev=b"\x07" * 32)],
    "bad-prevblk": [on_a_failed_parent],
    "bad-txns-vout-negative": [with_tx(of_mature(-1))],
    "bad-txns-vout-toolarge": [with_tx(of_mature(21_000_000 * 100_000_000 + 1))],
    "bad-txns-txouttotal-toolarge": [
        with_tx(
            lambda node, t: pack_tx(
                2, [TxIn(coinbase_outpoint(node, 1), b"", 0)], [TxOut(2_000_000_000_000_000, SCRIPT)] * 2
            )
        )
    ],
    "bad-txns-inputs-duplicate": [with_tx(twice_the_same_input)],
    "bad-txns-prevout-null": [
        with_tx(
            lambda node, t: pack_tx(
                2, [TxIn(coinbase_outpoint(node, 1), b"", 0), TxIn(NULL_OUTPOINT, b"", 0)], [TxOut(1, SCRIPT)]
            )
        )
    ],
    "bad-txns-vout-empty": [with_tx(lambda node, t: pack_tx(2, [TxIn(coinbase_outpoint(node, 1), b"", 0)], []))],
    "bad-txns-nonfinal": [
        with_tx(lambda node, t: spend(coinbase_outpoint(node, 1), 1, locktime=t["height"])),
        with_tx(lambda node, t: spend(coinbase_outpoint(node, 1), 1, locktime=t["mintime"] - 1)),
        lambda node, t: build(t, locktime=t["height"]),
    ],
    "bad-txns-inputs-missingorspent": [
        with_tx(lambda node, t: spend(b"\x09" * 36, 1)),
        with_tx(lambda node, t: spend(coinbase_outpoint(node, 1)[:32] + b"\x01\x00\x00\x00", 0)),
        double_spend,
        with_tx(
            lambda node, t: spend(parse_tx(Draft(t).txs[-1]).txid + bytes(4), 1), first=True
        ),  # child before parent
    ],
    "bad-txns-premature-spend-of-coinbase": [with_tx(lambda node, t: spend(coinbase_outpoint(node, 4), 1))],
    "bad-txns-in-belowout": [with_tx(of_mature(50 * 100_000_000 + 1))],
    "bad-blk-sigops": [
        draft(script=b"\xac" * 20_001),
        draft(script=b"\xae" * 1_001),
        hidden_sigops(b"\x00\x20" + bytes(32), b"", [b"\xac" * 80_001]),  # P2WSH: 1 each
        hidden_sigops(b"\xa9\x14" + bytes(20) + b"\x87", b"\x4d\x21\x4e" + b"\xac" * 20_001, []),  # P2SH: 4 each
    ],
}
CASES = [(reason, number, spoil) for reason, spoils in MUTATED.items() for number, spoil in enumerate(spoils)]


@pytest.mark.parametrize(("reason", "number", "spoil"), CASES, ids=[f"{reason}-{n}" for reason, n, _ in CASES])
def test_a_bad_block_is_refused_with_the_word_bitcoin_core_uses(
    node: RunningChain, reason: str, number: int, spoil: Spoil
) -> None:
    node.rpc("dev_mempool", 8)
    template = node.template()
    assert any(entry["txid"] != entry["hash"] for entry in template["transactions"])
    raw = spoil(node, template)
    assert node.rpc("submitblock", raw.hex()) == reason
    assert node.rpc("getbestblockhash") == template["previousblockhash"]
    again = node.rpc("submitblock", raw.hex())
    assert again in (reason, "duplicate-invalid")
    later = node.template()
    assert later["transactions"] == template["transactions"]
    # all but the proof of work is judged in a proposal too, whose block must stand on the tip
    if reason not in ("high-hash", "bad-prevblk", "prev-blk-not-found"):
        proposed = node.rpc("getblocktemplate", {"mode": "proposal", "data": raw.hex()})
        assert proposed in (reason, "duplicate-invalid")


def test_what_can_never_become_good_is_remembered_and_what_was_only_damaged_is_not(node: RunningChain) -> None:
    template = node.template()
    wrong_height = build(template, height_push=push_number(template["height"] + 5))
    assert node.rpc("submitblock", wrong_height.hex()) == "bad-cb-height"
    assert node.rpc("submitblock", wrong_height.hex()) == "duplicate-invalid"
    good = build(template, extra=b"rig/damage")
    block = parse_block(good)
    coinbase = block.txs[0]
    damaged = good.replace(coinbase.raw, coinbase.stripped)  # the same header, its coinbase witness lost on the way
    assert node.rpc("submitblock", damaged.hex()) == "bad-witness-nonce-size"
    assert node.rpc("submitblock", good.hex()) is None
    node.rpc("invalidateblock", block_hash(good))
    assert node.rpc("submitblock", good.hex()) == "duplicate-invalid"
    node.rpc("reconsiderblock", block_hash(good))
    assert node.rpc("submitblock", good.hex()) == "duplicate"
    assert node.rpc("getbestblockhash") == block_hash(good)
    node.rpc("invalidateblock", block_hash(good))
    assert node.rpc("getbestblockhash") == template["previousblockhash"]


@pytest.mark.parametrize("hexdata", ["", "00", "zz", "00" * 80, "00" * 81 + "01"])
def test_bytes_that_are_no_block_are_a_decode_error(node: RunningChain, hexdata: str) -> None:
    with pytest.raises(RpcError, match="Block decode failed") as caught:
        node.rpc("submitblock", hexdata)
    assert caught.value.code == -22


def test_a_block_with_bytes_after_it_is_a_decode_error(node: RunningChain) -> None:
    with pytest.raises(RpcError, match="Block decode failed"):
        node.rpc("submitblock", build(node.template()).hex() + "00")


def test_a_block_on_the_side_is_inconclusive_and_kept(node: RunningChain) -> None:
    tip = node.rpc("getblock", node.rpc("getbestblockhash"))
    template = node.template()
    rival = _without_transactions(template, tip)
    assert node.rpc("submitblock", rival.hex()) == "inconclusive"
    assert node.rpc("submitblock", rival.hex()) == "duplicate"
    assert node.rpc("getblocktemplate", {"mode": "proposal", "data": rival.hex()}) == "duplicate-inconclusive"
    assert node.rpc("getbestblockhash") == tip["hash"]
    assert node.rpc("getblockheader", block_hash(rival))["confirmations"] == -1
    tips = {entry["hash"]: entry["status"] for entry in node.rpc("getchaintips")}
    assert tips[tip["hash"]] == "active"
    assert tips[block_hash(rival)] == "valid-fork"


def _without_transactions(template: dict[str, Any], sibling: dict[str, Any]) -> bytes:
    """A block beside `sibling`, empty."""
    empty = {**template, "transactions": [], "height": sibling["height"], "coinbasevalue": 0}
    return build(empty, prev=bytes.fromhex(sibling["previousblockhash"])[::-1], extra=b"rig/rival")


def test_a_block_on_the_side_may_hold_what_its_own_branch_only_can_refuse(node: RunningChain) -> None:
    """Spends are judged when a branch becomes the best, as Bitcoin Core does: then the branch is dropped."""
    best = node.rpc("getbestblockhash")
    tip = node.rpc("getblock", best)
    template = node.template()
    greedy = {**template, "transactions": [], "height": tip["height"], "coinbasevalue": 10**12}
    side = build(greedy, prev=bytes.fromhex(tip["previousblockhash"])[::-1], extra=b"rig/greedy")
    assert node.rpc("submitblock", side.hex()) == "inconclusive"
    child = build({**template, "transactions": [], "coinbasevalue": 0}, prev=sha256d(side[:80]))
    assert node.rpc("submitblock", child.hex()) == "inconclusive"
    assert node.rpc("getbestblockhash") == best
    tips = {entry["hash"]: entry["status"] for entry in node.rpc("getchaintips")}
    assert tips[block_hash(child)] == "invalid"
    assert node.rpc("submitblock", side.hex()) == "duplicate-invalid"


def test_a_proposal_off_the_tip_is_not_judged(node: RunningChain) -> None:
    template = node.template()
    raw = build(template, prev=b"\x07" * 32)
    proposal = {"mode": "proposal", "data": raw.hex()}
    assert node.rpc("getblocktemplate", proposal) == "inconclusive-not-best-prevblk"


def test_a_proposal_needs_no_proof_of_work_and_changes_nothing(node: RunningChain) -> None:
    template = node.template()
    raw = Draft(template).solve(good=False)
    assert node.rpc("getblocktemplate", {"mode": "proposal", "data": raw.hex()}) is None
    assert node.rpc("getbestblockhash") == template["previousblockhash"]
    assert node.rpc("submitblock", raw.hex()) == "high-hash"


def test_a_transaction_larger_than_a_block_never_waits(node: RunningChain) -> None:
    raw = pack_tx(2, [TxIn(coinbase_outpoint(node, 1), b"", 0)], [TxOut(1, b"\x6a" * 1_000_000)])
    with pytest.raises(RpcError, match="bad-txns-oversize"):
        node.rpc("sendrawtransaction", raw.hex())


@pytest.mark.parametrize(
    ("raw_of", "reason"),
    [
        (lambda node: second_coinbase(node, {}), "coinbase"),
        (lambda node: spend(coinbase_outpoint(node, 1), 1, locktime=10_000), "non-final"),
        (lambda node: spend(b"\x09" * 36, 1), "bad-txns-inputs-missingorspent"),
        (lambda node: spend(coinbase_outpoint(node, 1), -1), "bad-txns-vout-negative"),
    ],
)
def test_a_transaction_no_block_could_hold_never_waits(
    node: RunningChain, raw_of: Callable[[RunningChain], bytes], reason: str
) -> None:
    waiting = node.rpc("getmempoolinfo")["size"]
    with pytest.raises(RpcError, match=reason) as caught:
        node.rpc("sendrawtransaction", raw_of(node).hex())
    assert caught.value.code == -26
    assert node.rpc("getmempoolinfo")["size"] == waiting


def test_too_many_signature_operations_are_seen_on_a_side_branch_too(node: RunningChain) -> None:
    """Before any spend is looked at."""
    tip = node.rpc("getblock", node.rpc("getbestblockhash"))
    empty = {**node.template(), "transactions": [], "height": tip["height"], "coinbasevalue": 0}
    prev = bytes.fromhex(tip["previousblockhash"])[::-1]
    assert node.rpc("submitblock", build(empty, prev=prev, script=b"\xac" * 20_001).hex()) == "bad-blk-sigops"
    assert node.rpc("submitblock", build(empty, prev=prev, script=b"\xac" * 19_900).hex()) == "inconclusive"


@pytest.mark.parametrize("count", [79_000, 80_002])
def test_operations_in_a_witness_script_cost_one_each(node: RunningChain, count: int) -> None:
    template = node.template()
    raw = hidden_sigops(b"\x00\x20" + bytes(32), b"", [b"\xac" * count])(node, template)
    wanted = None if count < 80_000 else "bad-blk-sigops"
    assert node.rpc("getblocktemplate", {"mode": "proposal", "data": raw.hex()}) == wanted


@pytest.mark.parametrize(("count", "segwit_percent"), [(0, 0), (1, 0), (1, 100), (2, 100), (3, 50), (300, 60)])
def test_a_block_made_from_the_template_is_accepted_from_height_one(
    tmp_path: Path, count: int, segwit_percent: int
) -> None:
    with devchain(tmp_path) as fresh:
        for height in range(1, 4):
            fresh.rpc("dev_mempool", count, 7 + height, segwit_percent)
            template = fresh.template()
            assert (template["height"], len(template["transactions"])) == (height, count)
            segwit = sum(entry["txid"] != entry["hash"] for entry in template["transactions"])
            assert (segwit == 0) if segwit_percent == 0 else (segwit == count or segwit_percent < 100)
            raw = build(template)
            proposal = {"mode": "proposal", "data": raw.hex()}
            assert fresh.rpc("getblocktemplate", proposal) is None
            assert fresh.rpc("submitblock", raw.hex()) is None
            assert fresh.rpc("getblocktemplate", proposal) == "duplicate"
            assert fresh.rpc("getblock", block_hash(raw), 0) == raw.hex()


def test_a_block_without_commitment_is_good_when_nothing_in_it_is_segwit(tmp_path: Path) -> None:
    with devchain(tmp_path) as fresh:
        fresh.rpc("dev_mempool", 2, 3, 0)
        assert fresh.rpc("submitblock", build(fresh.template(), commitment=b"", witness=None).hex()) is None


def test_a_full_template_of_3000_transactions_becomes_a_block(tmp_path: Path) -> None:
    with devchain(tmp_path) as fresh:
        assert fresh.rpc("dev_mempool", 3000, 5) == {"waiting": 3000, "made": 3000, "dropped": 0}
        template = fresh.template()
        entries = template["transactions"]
        assert len(entries) == 3000
        place = {entry["txid"]: number for number, entry in enumerate(entries, 1)}
        for number, entry in enumerate(entries, 1):
            tx = parse_tx(bytes.fromhex(entry["data"]))
            parents = {place[i.outpoint[:32][::-1].hex()] for i in tx.vin if i.outpoint[:32][::-1].hex() in place}
            assert set(entry["depends"]) == parents
            assert all(parent < number for parent in parents)
            assert (entry["txid"], entry["hash"], entry["weight"]) == (
                tx.txid[::-1].hex(),
                tx.wtxid[::-1].hex(),
                tx.weight,
            )
        assert any(entry["depends"] for entry in entries)
        assert 0.5 < sum(entry["txid"] != entry["hash"] for entry in entries) / 3000 < 1
        fees = sum(entry["fee"] for entry in entries)
        assert template["coinbasevalue"] == 50 * 100_000_000 + fees
        leaves = [bytes(32), *(bytes.fromhex(entry["hash"])[::-1] for entry in entries)]
        assert template["default_witness_commitment"] == commitment_script(merkle_root(leaves)).hex()
        raw = build(template)
        assert fresh.rpc("submitblock", raw.hex()) is None
        assert fresh.rpc("getblock", block_hash(raw))["nTx"] == 3001
        assert fresh.template()["transactions"] == []


def test_a_template_never_holds_more_than_a_block_may(tmp_path: Path) -> None:
    with devchain(tmp_path) as fresh:
        fresh.rpc("dev_mempool", 6000, 5)
        template = fresh.template()
        assert 3000 < len(template["transactions"]) < 6000
        assert sum(entry["weight"] for entry in template["transactions"]) <= 4_000_000 - 8_000
        assert sum(entry["sigops"] for entry in template["transactions"]) <= 80_000
        assert fresh.rpc("submitblock", build(template).hex()) is None
        assert fresh.template()["transactions"] != []


def test_an_unspent_coinbase_is_never_overwritten(tmp_path: Path) -> None:
    """BIP30; BIP34 heights make it impossible on this chain, so it is asked of the spending rules themselves."""
    block = parse_block(
        build({"transactions": [], "coinbasevalue": 1, "height": 1, "version": 4, "curtime": 1, "bits": "207fffff",
               "previousblockhash": "00" * 32})
    )  # fmt: skip
    store = Store(tmp_path / "coins.sqlite")
    try:
        coins.plan(block, 1, store, STRICT)
        with store.atomic():
            store.add_coins([Coin(block.txs[0].txid + bytes(4), 1, SCRIPT, 0, coinbase=True)])
        with pytest.raises(RejectError, match="bad-txns-BIP30"):
            coins.plan(block, 1, store, STRICT)
    finally:
        store.close()
