"""Blocks made by us, judged by other people's nodes: the whole way from template to job to block to submitblock, from
height 1 on.

The same cases on btcd, on Bitcoin Core where BITCOIND names one, and on the development chain."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from pool.chain.blocks import BlockState
from pool.chain.node import Nodes
from pool.chain.rpc import NodeAddress
from pool.chain.types import NETWORKS, Outcome
from rig.daemon import NodeDaemon
from rig.minepool import P2SH_TRUE, P2WSH_TRUE, MinePool, mining
from rig.nodes import fresh_node, node, node_kind  # noqa: F401 - fixtures
from rig.spend import coinbase_txid, spend

REGTEST = NETWORKS["regtest"]
MATURITY = 100


def alternating() -> Callable[[], bytes]:
    """P2WSH for odd heights, P2SH for even ones: both kinds of input to spend later."""
    scripts = itertools.cycle([P2WSH_TRUE, P2SH_TRUE])
    return lambda: next(scripts)


def output_script(node: NodeDaemon, block: bytes) -> bytes:  # noqa: F811
    """What the first output of a block's coinbase pays, in the words of the node."""
    txid = coinbase_txid(block)[::-1].hex()
    return bytes.fromhex(node.rpc("getrawtransaction", txid, 1)["vout"][0]["scriptPubKey"]["hex"])


async def grow(pool: MinePool, node: NodeDaemon, blocks: int) -> list[bytes]:  # noqa: F811
    """So many blocks of ours from height 1 on; their bodies."""
    return [(await pool.mine(height)).block for height in range(1, blocks + 1)]


async def test_every_block_from_height_1_on_is_accepted(node: NodeDaemon, tmp_path: Path) -> None:  # noqa: F811
    """Heights 1 to 16 are OP_1 to OP_16 in the coinbase (BIP34), 17 is the first that is not."""
    async with mining([node], tmp_path / "found") as pool:
        await grow(pool, node, 20)
        assert await asyncio.to_thread(lambda: node.height) == 20
        assert all(report.state is BlockState.CONFIRMED for report in pool.reports.values())
        assert pool.desk.state.ok


async def test_a_height_whose_push_needs_a_sign_byte_is_accepted(node: NodeDaemon, tmp_path: Path) -> None:  # noqa: F811
    await asyncio.to_thread(node.generate, 126)
    async with mining([node], tmp_path / "found") as pool:
        for height in (127, 128, 129):
            await pool.mine(height)


async def test_the_halving_is_ours_too(node: NodeDaemon, tmp_path: Path) -> None:  # noqa: F811
    await asyncio.to_thread(node.generate, 148)
    async with mining([node], tmp_path / "found") as pool:
        for height in (149, 150, 151):
            found = await pool.mine(height)
        txid = coinbase_txid(found.block)[::-1].hex()
        outputs = (await asyncio.to_thread(node.rpc, "getrawtransaction", txid, 1))["vout"]
        assert round(float(outputs[0]["value"]) * 100_000_000) == REGTEST.subsidy_sat(151) == 2_500_000_000


async def test_blocks_with_0_1_and_2_transactions_with_witness_and_without(node: NodeDaemon, tmp_path: Path) -> None:  # noqa: F811
    async with mining([node], tmp_path / "found", script=alternating()) as pool:
        bodies = await grow(pool, node, 6)
        await asyncio.to_thread(node.generate, MATURITY)
        height = MATURITY + 6
        spendable = [(coinbase_txid(body), output_script(node, body)) for body in bodies[:6]]
        for kinds in ([P2SH_TRUE], [P2WSH_TRUE], [P2SH_TRUE, P2WSH_TRUE]):
            rows = []
            for kind in kinds:
                txid, script = next(coin for coin in spendable if coin[1] == kind)
                spendable.remove((txid, script))
                rows.append(spend(txid, 0, script, [(4_999_000_000, P2WSH_TRUE)])[0])
            height = await give_to_next_block(pool, node, height, rows)
            found = await pool.mine(height, len(kinds))
            told = await asyncio.to_thread(node.rpc, "getblock", found.hash_hex)
            assert len(told["tx"]) == len(kinds) + 1
            assert await asyncio.to_thread(lambda: node.best) == found.hash_hex
        fees = await asyncio.to_thread(node.rpc, "getrawtransaction", coinbase_txid(found.block)[::-1].hex(), 1)
        assert round(float(fees["vout"][0]["value"]) * 100_000_000) == REGTEST.subsidy_sat(height) + 2_000_000


async def test_a_block_of_a_stale_share_is_taken_as_a_side_chain_and_can_still_win(
    node: NodeDaemon,  # noqa: F811
    tmp_path: Path,
) -> None:
    async with mining([node], tmp_path / "found") as pool:
        await grow(pool, node, 2)
        job = await pool.job_at(3)
        first = await pool.mine(3)
        await pool.job_at(4)
        assert pool.desk.jobs.is_stale(job)
        late = pool.solve(job, stale=True)
        pool.blocks.submit(late)
        await pool.until(lambda: pool.state_of(late) in (BlockState.ORPHANED, BlockState.CONFIRMED))
        # preciousblock may have made it the best already; where that is not offered, the chain decides otherwise.
        await asyncio.to_thread(node.invalidate, first.hash_hex)
        await pool.until(lambda: pool.state_of(late) is BlockState.CONFIRMED)
        await pool.until(lambda: pool.state_of(first) is BlockState.ORPHANED)
        assert (await pool.job_at(4)).prevhash == bytes.fromhex(late.hash_hex)[::-1]


async def test_a_block_found_while_the_node_is_dead_is_taken_when_it_is_back(
    node: NodeDaemon,  # noqa: F811
    tmp_path: Path,
) -> None:
    async with mining([node], tmp_path / "found") as pool:
        await grow(pool, node, 3)
        job = await pool.job_at(4)
        await asyncio.to_thread(node.kill)
        found = pool.solve(job)
        pool.blocks.submit(found)
        await pool.until(lambda: not pool.desk.state.ok)
        assert "cannot be asked" in pool.desk.state.reason
        assert pool.desk.job_for("ledger", "") is None  # nobody hashes dead work
        await asyncio.to_thread(node.start)
        await pool.until(lambda: pool.state_of(found) is BlockState.CONFIRMED)
        await pool.job_at(5)
        await pool.mine(5)


async def test_a_block_reaches_the_living_node_while_the_other_is_frozen(
    node: NodeDaemon,  # noqa: F811
    node_kind: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    with fresh_node(node_kind, tmp_path / "second") as other:
        async with mining([node, other], tmp_path / "found", timeout_s=0.5) as pool:
            for height in (1, 2):
                found = await pool.mine(height)
                await pool.until(lambda: len(pool.reports[found.hash_hex].held_by) == 2)  # noqa: B023
            node.freeze()
            found = await pool.mine(3)
            assert list(pool.reports[found.hash_hex].held_by) == [f"127.0.0.1:{other.port}"]
            node.thaw()
            await pool.until(lambda: len(pool.reports[found.hash_hex].held_by) == 2)


async def test_a_bad_block_is_rejected_with_the_nodes_reason(node: NodeDaemon, tmp_path: Path) -> None:  # noqa: F811
    """What we check ourselves is what a node checks: change any one thing, and the same path is refused."""
    async with mining([node], tmp_path / "found") as pool:
        job = await pool.job_at(1)
        good = pool.solve(job)
        address = NodeAddress(node.url, node.user, node.password)
        async with Nodes([address], REGTEST) as nodes:
            for at, what in ((4, "previous block"), (36, "Merkle root"), (72, "nBits"), (-10, "coinbase")):
                block = bytearray(good.block)
                block[at] ^= 1
                answer = await nodes.nodes[0].submit_block(block.hex())
                held = await nodes.nodes[0].block_header(good.hash_hex)
                assert held is None
                if what != "previous block":  # btcd keeps an orphan and says nothing
                    assert answer.outcome is Outcome.REJECTED, what
            assert (await nodes.nodes[0].submit_block(good.block.hex())).outcome is Outcome.ACCEPTED


@pytest.mark.parametrize("count", [3000])
async def test_a_block_with_thousands_of_transactions_is_accepted(
    count: int,
    node: NodeDaemon,  # noqa: F811
    tmp_path: Path,
) -> None:
    """All with a witness: one fan-out is mined first, since mempools limit chains of unconfirmed ones."""
    async with mining([node], tmp_path / "found") as pool:
        bodies = await grow(pool, node, 4)
        await asyncio.to_thread(node.generate, MATURITY)
        height = MATURITY + 4
        coins: list[tuple[bytes, int]] = []
        fans: list[bytes] = []
        for body in bodies[: -(-count // 800)]:
            fan = [(1_000_000, P2WSH_TRUE)] * min(800, count - len(coins))
            raw, txid = spend(coinbase_txid(body), 0, P2WSH_TRUE, fan)
            fans.append(raw)
            coins += [(txid, index) for index in range(len(fan))]
        height = await give_to_next_block(pool, node, height, fans)
        await pool.mine(height, len(fans))
        rows = [spend(txid, index, P2WSH_TRUE, [(999_000, P2WSH_TRUE)])[0] for txid, index in coins]
        height = await give_to_next_block(pool, node, height, rows)
        found = await pool.mine(height, count)
        told = await asyncio.to_thread(node.rpc, "getblock", found.hash_hex)
        assert len(told["tx"]) == count + 1
        assert await asyncio.to_thread(lambda: node.best) == found.hash_hex


async def give_to_next_block(
    pool: MinePool,
    node: NodeDaemon,  # noqa: F811
    height: int,
    transactions: list[bytes],
) -> int:
    """Put these into the node's mempool and mine one more block without them: btcd renews the template of one and the
    same tip for new transactions only after a minute. The height of the block that will hold them."""
    job = await pool.job_at(height + 1, 0)
    await asyncio.to_thread(send_all, node, transactions)
    pool.blocks.submit(pool.solve(job))
    await pool.job_at(height + 2, len(transactions))
    return height + 2


def send_all(node: NodeDaemon, transactions: list[bytes]) -> None:  # noqa: F811
    # The fan-outs give all but nothing as a fee: each kind of node has its own word for "that is meant".
    unlimited: dict[str, list[object]] = {"btcd": [True], "bitcoind": [0]}
    for raw in transactions:
        node.rpc("sendrawtransaction", raw.hex(), *unlimited.get(node.kind, []))
