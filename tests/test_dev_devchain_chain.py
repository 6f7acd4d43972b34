"""The development chain over time: it survives kill -9, follows the most work, and undoes exactly what it did."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.dev.devchain.chain import Chain, genesis_block
from pool.dev.devchain.coins import outputs
from pool.dev.devchain.index import Node
from pool.dev.devchain.mempool import Mempool
from pool.dev.devchain.process import RpcError
from pool.dev.devchain.rules import STRICT, work_of_target
from pool.dev.devchain.store import Store
from pool.dev.devchain.wire import TxIn, TxOut, pack_tx, parse_block
from rig.devchain import ADDRESS, SCRIPT, Rpc, RunningChain, block_hash, build, devchain


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningChain]:
    with devchain(tmp_path / "chain") as running:
        yield running


def side_block(node: RunningChain, parent_hex: str, **parts: Any) -> bytes:
    """An empty block on any known block."""
    parent = node.rpc("getblockheader", parent_hex)
    template = node.template()
    height = parent["height"] + 1
    empty = {**template, "transactions": [], "height": height, "coinbasevalue": 50 * 100_000_000 >> height // 150}
    return build(empty, prev=bytes.fromhex(parent_hex)[::-1], **{"extra": random.randbytes(8), **parts})


# -- kill -9
# ------------------------------------------------------------------------------------------------------------


def test_a_killed_chain_comes_back_with_every_block_it_ever_accepted(node: RunningChain) -> None:
    accepted = []
    for round_number in range(4):
        node.rpc("dev_mempool", 30)
        template = node.template()
        raw = build(template)
        assert node.rpc("submitblock", raw.hex()) is None
        accepted.append(raw)
        before = node.rpc("gettxoutsetinfo")
        node.kill()
        node.start()
        assert node.rpc("getblockcount") == round_number + 1
        assert node.rpc("gettxoutsetinfo") == before
        for height, block in enumerate(accepted, 1):
            assert node.rpc("getblockhash", height) == block_hash(block)
            assert node.rpc("getblock", block_hash(block), 0) == block.hex()


def test_a_block_on_a_template_from_before_the_kill_is_accepted_after_it(node: RunningChain) -> None:
    node.rpc("dev_mempool", 50)
    raw = build(node.template())
    node.kill()
    node.start()
    assert node.rpc("submitblock", raw.hex()) is None
    assert node.rpc("getbestblockhash") == block_hash(raw)


def test_kills_at_random_moments_lose_no_answered_block(node: RunningChain) -> None:
    """A client submits as fast as it can while the process is killed under it, again and again."""
    seed = random.randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    answered: list[str] = []
    for _ in range(5):
        stop = threading.Event()

        def mine(client: Rpc, halt: threading.Event, answered: list[str]) -> None:
            try:
                while not halt.is_set():
                    template = client("getblocktemplate", {"rules": ["segwit"]})
                    raw = build(template, extra=rng.randbytes(8))
                    if client("submitblock", raw.hex()) is None:
                        answered.append(block_hash(raw))
            except (OSError, http.client.HTTPException):
                pass  # killed in the middle
            finally:
                client.close()

        client = node.client()
        worker = threading.Thread(target=mine, args=(client, stop, answered))
        reached = len(answered) + rng.randrange(2, 12)
        worker.start()
        deadline = time.monotonic() + 20
        while len(answered) < reached and time.monotonic() < deadline:
            stop.wait(0.001)
        node.kill()
        stop.set()
        worker.join(10)
        assert not worker.is_alive()
        node.start()
        height = node.rpc("getblockcount")
        chain = [node.rpc("getblockhash", number) for number in range(1, height + 1)]
        assert chain[: len(answered)] == answered
        assert len(chain) - len(answered) in (0, 1)  # the last block may be on disk with its answer lost
        answered = chain


def test_the_branch_that_was_active_among_equals_stays_so_over_a_restart(node: RunningChain) -> None:
    first, second = node.rpc("generatetoaddress", 2, ADDRESS)
    rival = side_block(node, first)
    assert node.rpc("submitblock", rival.hex()) == "inconclusive"
    node.rpc("preciousblock", block_hash(rival))
    assert node.rpc("getbestblockhash") == block_hash(rival)
    node.kill()
    node.start()
    assert node.rpc("getbestblockhash") == block_hash(rival)
    assert {tip["hash"] for tip in node.rpc("getchaintips")} == {second, block_hash(rival)}


def test_a_data_folder_has_one_process(node: RunningChain) -> None:
    with pytest.raises(RuntimeError, match="in use by another development chain"):
        RunningChain(node.datadir).start()
    assert node.rpc("getblockcount") == 0


# -- reorgs
# -------------------------------------------------------------------------------------------------------------


def test_more_work_wins_and_is_announced_and_first_seen_wins_a_tie(node: RunningChain) -> None:
    with node.subscribed() as subscription:
        first, second = node.rpc("generatetoaddress", 2, ADDRESS)
        assert [subscription.next(), subscription.next()] == [(first, 0), (second, 1)]
        rival = side_block(node, first)
        assert node.rpc("submitblock", rival.hex()) == "inconclusive"
        assert node.rpc("getbestblockhash") == second
        assert subscription.next(0.2) is None
        child = side_block(node, block_hash(rival))
        assert node.rpc("submitblock", child.hex()) is None
        assert node.rpc("getbestblockhash") == block_hash(child)
        assert subscription.next() == (block_hash(child), 2)
        assert node.rpc("getblockheader", second)["confirmations"] == -1
        assert node.rpc("getblockheader", block_hash(rival))["confirmations"] == 2
        assert node.rpc("getblockheader", first)["nextblockhash"] == block_hash(rival)


def test_a_reorg_of_equal_height_goes_there_and_back(node: RunningChain) -> None:
    node.rpc("generatetoaddress", 3, ADDRESS)
    here = node.rpc("getbestblockhash")
    with node.subscribed() as subscription:
        there = node.rpc("dev_reorg", 1)
        assert there["height"] == 3
        assert there["tip"] != here
        assert node.template()["previousblockhash"] == there["tip"]
        assert node.rpc("dev_reorg", None, None, here) == {"tip": here, "height": 3}
        assert node.template()["previousblockhash"] == here
        assert node.rpc("dev_reorg", None, None, there["tip"]) == {"tip": there["tip"], "height": 3}
        assert [subscription.next(), subscription.next(), subscription.next()] == [
            (there["tip"], 3),
            (here, 4),
            (there["tip"], 5),
        ]


def test_a_deep_reorg_returns_what_it_unconfirmed_to_the_template(node: RunningChain) -> None:
    node.rpc("dev_mempool", 40, 4)
    txids = [entry["txid"] for entry in node.template()["transactions"]]
    node.rpc("generatetoaddress", 1, ADDRESS)
    assert node.template()["transactions"] == []
    assert node.rpc("getrawtransaction", txids[0], True)["confirmations"] == 1
    node.rpc("generatetoaddress", 2, ADDRESS)
    moved = node.rpc("dev_reorg", 3, 4)
    assert moved["height"] == 4
    assert sorted(entry["txid"] for entry in node.template()["transactions"]) == sorted(txids)
    assert node.rpc("submitblock", build(node.template()).hex()) is None


def test_an_invalidated_block_takes_its_branch_with_it_and_comes_back_reconsidered(node: RunningChain) -> None:
    hashes = node.rpc("generatetoaddress", 5, ADDRESS)
    coins_before = node.rpc("gettxoutsetinfo")
    with node.subscribed() as subscription:
        node.rpc("invalidateblock", hashes[2])
        assert node.rpc("getbestblockhash") == hashes[1]
        assert subscription.next() == (hashes[1], 5)
        assert node.rpc("submitblock", side_block(node, hashes[4]).hex()) == "bad-prevblk"
        node.rpc("reconsiderblock", hashes[4])
        assert node.rpc("getbestblockhash") == hashes[4]
        assert subscription.next() == (hashes[4], 6)
    assert node.rpc("gettxoutsetinfo") == coins_before
    with pytest.raises(RpcError, match="genesis"):
        node.rpc("invalidateblock", node.rpc("getblockhash", 0))


def test_a_coinbase_can_be_spent_after_its_maturity_and_not_before(node: RunningChain) -> None:
    node.rpc("generatetoaddress", 99, ADDRESS)
    first = node.rpc("getblock", node.rpc("getblockhash", 1), 2)["tx"][0]
    assert node.rpc("gettxout", first["txid"], 0)["coinbase"] is True
    raw = pack_tx(
        2, [TxIn(bytes.fromhex(first["txid"])[::-1] + bytes(4), b"", 0)], [TxOut(49 * 100_000_000, SCRIPT)], [[b"x"]]
    )
    with pytest.raises(RpcError, match="bad-txns-premature-spend-of-coinbase") as caught:
        node.rpc("sendrawtransaction", raw.hex())
    assert caught.value.code == -26
    node.rpc("generatetoaddress", 1, ADDRESS)
    txid = node.rpc("sendrawtransaction", raw.hex())
    assert node.rpc("gettxout", first["txid"], 0) is None
    assert node.rpc("gettxout", first["txid"], 0, False)["value"] == 50
    assert node.rpc("gettxout", txid, 0)["confirmations"] == 0
    with pytest.raises(RpcError, match="txn-already-in-mempool"):
        node.rpc("sendrawtransaction", raw.hex())
    template = node.template()
    assert [(entry["txid"], entry["fee"]) for entry in template["transactions"]] == [(txid, 100_000_000)]
    assert node.rpc("submitblock", build(template).hex()) is None
    assert node.rpc("gettxout", txid, 0)["confirmations"] == 1
    with pytest.raises(RpcError, match="bad-txns-inputs-missingorspent"):
        node.rpc("sendrawtransaction", raw.hex())
    assert node.rpc("getblock", node.rpc("getbestblockhash"), 2)["tx"][1]["fee"] == 1


def test_a_rival_spend_in_a_block_drops_the_waiting_one_and_its_children(node: RunningChain) -> None:
    node.rpc("generatetoaddress", 101, ADDRESS)
    first = node.rpc("getblock", node.rpc("getblockhash", 1))["tx"][0]
    coin = TxIn(bytes.fromhex(first)[::-1] + bytes(4), b"", 0)
    waiting = pack_tx(2, [coin], [TxOut(4_000_000_000, SCRIPT)])
    rival = pack_tx(2, [coin], [TxOut(3_000_000_000, SCRIPT)])
    parent = node.rpc("sendrawtransaction", waiting.hex())
    child = pack_tx(2, [TxIn(bytes.fromhex(parent)[::-1] + bytes(4), b"", 0)], [TxOut(1_000, SCRIPT)])
    node.rpc("sendrawtransaction", child.hex())
    with pytest.raises(RpcError, match="txn-mempool-conflict"):
        node.rpc("sendrawtransaction", rival.hex())
    assert node.rpc("getmempoolinfo")["size"] == 2
    assert node.rpc("submitblock", build(node.template(), txs=[rival], value_sat=0).hex()) is None
    assert node.rpc("getrawmempool") == []


def test_the_subsidy_halves_every_150_blocks(node: RunningChain) -> None:
    node.rpc("generatetoaddress", 148, ADDRESS)
    assert node.template()["coinbasevalue"] == 5_000_000_000
    node.rpc("generatetoaddress", 1, ADDRESS)
    template = node.template()
    assert (template["height"], template["coinbasevalue"]) == (150, 2_500_000_000)
    assert node.rpc("submitblock", build(template, value_sat=2_500_000_001).hex()) == "bad-cb-amount"
    assert node.rpc("submitblock", build(template).hex()) is None


def test_the_least_time_follows_the_median_of_eleven(node: RunningChain) -> None:
    start = node.template()["curtime"]
    for number in range(11):
        time_s = start + 10 * number
        assert node.rpc("submitblock", build(node.template(), time_s=time_s).hex()) is None
    template = node.template()
    assert template["mintime"] == start + 50 + 1
    assert node.rpc("submitblock", build(template, time_s=start + 50).hex()) == "time-too-old"
    assert node.rpc("submitblock", build(template, time_s=start + 51).hex()) is None


def test_the_clock_of_a_strict_chain_can_be_set(node: RunningChain) -> None:
    now = node.template()["curtime"] + 100_000
    node.rpc("setmocktime", now)
    template = node.template()
    assert template["curtime"] == now
    assert node.rpc("submitblock", build(template, time_s=now + 7201).hex()) == "time-too-new"
    assert node.rpc("submitblock", build(template, time_s=now + 7200).hex()) is None


# -- the model
# ----------------------------------------------------------------------------------------------------------


def _grow(chain: Chain, parent: Node, extra: bytes, txs: list[bytes]) -> bytes:
    height = parent.height + 1
    template = {
        "transactions": [], "coinbasevalue": STRICT.subsidy_sat(height), "height": height, "version": 4,
        "curtime": parent.median_time_s() + 1, "bits": "207fffff", "previousblockhash": parent.hash[::-1].hex(),
    }  # fmt: skip
    return build(template, extra=extra, txs=txs)


def _coins_by_replay(chain: Chain) -> dict[bytes, int]:
    """The unspent outputs as a second, dumb implementation finds them: by going through the active chain."""
    coins: dict[bytes, int] = {}
    for node in chain.index.active[1:]:
        block = chain.block(node)
        for tx in block.txs:
            for txin in tx.vin:
                coins.pop(txin.outpoint, None)
            coins.update((coin.outpoint, coin.value_sat) for coin in outputs(tx, node.height))
    return coins


steps = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), st.integers(0, 30), st.booleans()),
        st.tuples(st.sampled_from(["invalidate", "reconsider", "precious"]), st.integers(0, 30), st.booleans()),
        st.tuples(st.just("reload"), st.just(0), st.just(False)),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_whatever_happens_the_best_sound_branch_is_active_and_the_coins_are_its_coins(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[str, int, bool]]
) -> None:
    path = tmp_path_factory.mktemp("model") / "chain.sqlite"
    store = Store(path)
    chain = Chain(STRICT, store, lambda: 1_900_000_000.0)
    mempool = Mempool(chain)
    failed: set[bytes] = set()
    try:
        for number, (action, which, spends) in enumerate(script):
            nodes = sorted(chain.index.nodes.values(), key=lambda node: (node.height, node.hash))
            node = nodes[which % len(nodes)]
            if action == "grow":
                if spends and node is chain.tip:
                    mempool.clear()
                    mempool.fill(3, seed=number)
                    txs = [entry.tx.raw for entry in mempool.entries.values()]
                else:
                    txs = []
                raw = _grow(chain, node, number.to_bytes(4, "little"), txs)
                under = any(step.hash in failed for step in node.back())
                assert (chain.submit(raw) == "bad-prevblk") == under
            elif action == "reload":
                store.close()
                tip = chain.tip.hash
                store = Store(path)
                chain = Chain(STRICT, store, lambda: 1_900_000_000.0)
                mempool = Mempool(chain)
                assert chain.tip.hash == tip
            elif action == "invalidate" and node.height:
                chain.invalidate(node)
                failed.add(node.hash)
            elif action == "reconsider":
                chain.reconsider(node)
                failed -= {step.hash for step in [*node.back(), *chain.index.descendants(node)]}
            elif action == "precious" and not any(step.hash in failed for step in node.back()):
                wins = node.work >= max(n.work for n in nodes if not any(s.hash in failed for s in n.back()))
                chain.precious(node)
                assert (chain.tip is node) == wins
            sound = [n for n in chain.index.nodes.values() if not any(step.hash in failed for step in n.back())]
            assert chain.tip in sound
            assert chain.tip.work == max(n.work for n in sound)
            assert chain.index.active == list(chain.tip.back())[::-1]
            assert all(node.work == node.height * 2 + work_of_target(STRICT.limit_target) for node in sound)
            kept = {point: coin.value_sat for point in _coins_by_replay(chain) if (coin := store.coin(point))}
            assert kept == _coins_by_replay(chain)
            minted = store.totals()[1] - sum(kept.values())
            assert minted >= 0
    finally:
        store.close()


def test_the_first_block_says_what_it_is() -> None:
    block = parse_block(genesis_block(STRICT))
    assert b"development chain, its coins are worth nothing" in block.txs[0].vin[0].script
