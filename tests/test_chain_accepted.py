"""Blocks built by us, judged by nodes of other people: accepted from height 1 on, over reorgs, restarts and hangs."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from pathlib import Path

import pytest

from native.work import Job
from pool.chain.blocks import Blocks, BlockState
from pool.chain.coinbase import Style, build, pay_pool
from pool.chain.jobs import JobTag, make_job, prepare, tag_of
from pool.chain.node import Node, Nodes
from pool.chain.rpc import NodeAddress
from pool.chain.types import NETWORKS, Outcome, Template
from pool.records import BlockFound
from rig.blocknode import BlockNode, client
from rig.chain_room import chain_room, solve
from rig.daemon import NodeDaemon
from rig.devnode import DevNode
from rig.nodes import node, node_kind  # noqa: F401 - fixtures
from rig.reference import sha256d
from rig.reference_tx import transactions_of
from rig.sink import QUICK
from rig.true_coins import LEGACY_TRUE, WITNESS_TRUE, fan_out
from test_chain_jobs import mainnet_job

REGTEST = NETWORKS["regtest"]


def address(of: NodeDaemon) -> NodeAddress:
    return NodeAddress(of.url, of.user, of.password, zmq_hashblock=of.zmq_url or "")


class Builder:
    """Builds on whatever the node's template says, and submits: no follower, no waiting."""

    def __init__(self, one: Node, rng: random.Random) -> None:
        self.one, self.rng, self.next_id = one, rng, 0

    async def template(self, rows: list[dict[str, object]] | None = None) -> Template:
        """The node's template, with `rows` for transactions if given."""
        if not rows:
            return await self.one.block_template()
        answer = await self.one.call("getblocktemplate", {"rules": ["segwit"]})
        assert isinstance(answer, dict)
        assert not answer["transactions"]
        answer = answer | {"transactions": rows}
        answer.pop("default_witness_commitment", None)
        return Template.from_rpc(answer, REGTEST, 0)

    def job(self, template: Template, script: bytes) -> Job:
        self.next_id += 1
        prepared = prepare(template)
        outputs = pay_pool(template.coinbase_value_sat, script)
        coinbase = build(template, outputs, Style(), prepared.commitment)
        return make_job(self.next_id, JobTag(prepared, coinbase, "ledger", "", 0))

    async def mine(self, script: bytes, rows: list[dict[str, object]] | None = None) -> tuple[str, bytes]:
        """One block: its hash and its coinbase's txid (internal order). The node must call it its best."""
        found = solve(self.job(await self.template(rows), script), self.rng)
        answer = await self.one.submit_block(found.block.hex())
        assert answer.outcome is Outcome.ACCEPTED, answer
        assert await self.one.best_block_hash() == found.hash_hex
        return found.hash_hex, transactions_of(found.block)[0].txid


async def test_blocks_are_accepted_from_height_1_with_0_1_2_and_3000_transactions_segwit_and_not(
    node: NodeDaemon, rng: random.Random  # noqa: F811
) -> None:
    async with Nodes([address(node)], REGTEST) as nodes:
        builder = Builder(nodes.nodes[0], rng)
        coins = {
            script: [await builder.mine(script) for _ in range(4)] for script in (WITNESS_TRUE, LEGACY_TRUE)
        }
        for _ in range(120):  # over 16 -> 17 and 127 -> 128, where the height's push changes its form
            await builder.mine(WITNESS_TRUE)
        assert node.height == 128
        for script, witness in ((WITNESS_TRUE, True), (LEGACY_TRUE, False)):
            for count in (1, 2, 3000):
                _, coinbase_txid = coins[script].pop()
                rows = fan_out(coinbase_txid, 50 * 100_000_000, count, witness=witness)
                assert len(rows) == count
                hash_hex, _ = await builder.mine(WITNESS_TRUE, rows)
                assert len(node.rpc("getblock", hash_hex)["tx"]) == count + 1
        for _ in range(20):  # over the halving at 150
            await builder.mine(WITNESS_TRUE)
        assert node.height == 154


async def test_a_block_whose_share_was_stale_is_taken_as_a_side_chain_and_can_still_win(
    node: NodeDaemon, tmp_path: Path, rng: random.Random  # noqa: F811
) -> None:
    node.generate(3)
    async with chain_room([address(node)], REGTEST, tmp_path / "blocks", WITNESS_TRUE) as room:
        job = await room.job_on(node.best)
        [theirs] = await asyncio.to_thread(node.generate, 1)
        await room.job_on(theirs)
        assert room.desk.jobs.is_stale(job)
        found = solve(job, rng, stale=True)
        room.blocks.submit(found)
        await room.until(lambda: room.reports.get(found.hash_hex) and room.reports[found.hash_hex].held_by)
        states = (BlockState.ORPHANED, BlockState.CONFIRMED)  # Core and the devchain know preciousblock, btcd does not
        await room.until(lambda: room.reports[found.hash_hex].state in states)
        if node.best == found.hash_hex:
            await room.until(lambda: room.reports[found.hash_hex].state is BlockState.CONFIRMED)
        else:
            assert node.best == theirs
            await asyncio.to_thread(node.invalidate, theirs)
            await room.until(lambda: room.reports[found.hash_hex].state is BlockState.CONFIRMED)
        assert (await room.job_on(found.hash_hex)).height == 5


async def test_a_found_block_is_followed_to_maturity_over_a_reorg_and_back(
    node: NodeDaemon, tmp_path: Path, rng: random.Random  # noqa: F811
) -> None:
    async with chain_room([address(node)], REGTEST, tmp_path / "blocks", WITNESS_TRUE) as room:
        found = solve(await room.job_on(node.best), rng)
        room.blocks.submit(found)
        await room.job_on(found.hash_hex)
        await room.until(lambda: room.reports[found.hash_hex].state is BlockState.CONFIRMED)
        await asyncio.to_thread(node.generate, 2)
        await asyncio.to_thread(node.invalidate, found.hash_hex)
        await room.until(lambda: room.reports[found.hash_hex].state is BlockState.ORPHANED)
        await asyncio.to_thread(node.reconsider, found.hash_hex)
        await room.until(lambda: room.reports[found.hash_hex].state is BlockState.CONFIRMED)
        await asyncio.to_thread(node.generate, 96)
        await room.until(lambda: room.reports[found.hash_hex].confirmations == 99)
        assert room.reports[found.hash_hex].state is BlockState.CONFIRMED
        await asyncio.to_thread(node.generate, 1)
        await room.until(lambda: room.reports[found.hash_hex].state is BlockState.MATURE)
        assert room.reports[found.hash_hex].confirmations == 100


async def test_a_block_on_an_empty_first_job_is_accepted_over_the_halving_too(
    tmp_path: Path, rng: random.Random
) -> None:
    with DevNode(tmp_path / "node") as dev:
        dev.generate(147)
        dev.rpc("dev_mempool", 20, 7, 50, False, True)
        pace = dataclasses.replace(QUICK, answer_s=5.0)
        async with chain_room([address(dev)], REGTEST, tmp_path / "blocks", WITNESS_TRUE, pace=pace) as room:
            await room.job_on(dev.best)
            deliver, held = room.desk.on_template, list[Template]()
            room.desk.on_template = held.append  # type: ignore[method-assign]
            [tip] = await asyncio.to_thread(dev.generate, 1)
            for height, subsidy_sat in ((149, 5_000_000_000), (150, 2_500_000_000), (151, 2_500_000_000)):
                job = await room.job_on(tip, transactions=0)
                assert (job.height, tag_of(job).prepared.template.complete) == (height, False)
                found = solve(job, rng)
                assert found.coinbase_value_sat == subsidy_sat
                room.blocks.submit(found)
                tip = found.hash_hex
                await room.until(lambda: tip in room.reports)  # noqa: B023
                await room.until(lambda: room.reports[tip].state is BlockState.CONFIRMED)  # noqa: B023
                assert dev.best == tip
            await room.until(lambda: held and held[-1].prevhash_hex == tip and held[-1].transactions.count == 20)
            deliver(held[-1])
            assert (await room.job_on(tip)).tx_count == 20


async def test_a_node_killed_and_restarted_in_the_middle_loses_no_block(tmp_path: Path, rng: random.Random) -> None:
    with DevNode(tmp_path / "node") as dev:
        async with chain_room([address(dev)], REGTEST, tmp_path / "blocks", WITNESS_TRUE) as room:
            best = dev.best
            for _ in range(3):
                job = await room.job_on(best)
                await asyncio.to_thread(dev.kill)
                found = solve(job, rng)
                room.blocks.submit(found)  # nobody is there to take it
                await room.until(lambda: not room.desk.state.ok)
                assert room.desk.state.reason
                assert room.desk.job_for("ledger", "") is None, "no dead work"
                await asyncio.to_thread(dev.start)
                await room.until(lambda: room.reports[found.hash_hex].state is BlockState.CONFIRMED)  # noqa: B023
                best = found.hash_hex
            assert dev.height == 3
            assert dev.best == best


async def test_a_pool_restarted_with_the_block_still_on_disk_delivers_it(tmp_path: Path, rng: random.Random) -> None:
    with DevNode(tmp_path / "node") as dev:
        async with chain_room([address(dev)], REGTEST, tmp_path / "blocks", WITNESS_TRUE) as room:
            job = await room.job_on(dev.best)
            await asyncio.to_thread(dev.kill)
            found = solve(job, rng)
            room.blocks.submit(found)
        await asyncio.to_thread(dev.start)
        async with chain_room([address(dev)], REGTEST, tmp_path / "blocks", WITNESS_TRUE) as room:
            await room.job_on(found.hash_hex)
            await room.until(lambda: room.reports[found.hash_hex].state is BlockState.CONFIRMED)


async def test_with_one_of_two_nodes_hanging_blocks_are_found_and_taken(tmp_path: Path, rng: random.Random) -> None:
    with DevNode(tmp_path / "one") as one, DevNode(tmp_path / "two") as two:
        both = [address(one), address(two)]
        async with chain_room(both, REGTEST, tmp_path / "blocks", WITNESS_TRUE) as room:
            first = solve(await room.job_on(one.best), rng)
            room.blocks.submit(first)
            await room.until(lambda: len(room.reports[first.hash_hex].held_by if room.reports else ()) == 2)
            assert one.best == two.best == first.hash_hex
            one.freeze()
            await room.until(lambda: room.follower.following == room.nodes.nodes[1].name)
            second = solve(await room.job_on(first.hash_hex), rng)
            room.blocks.submit(second)
            await room.job_on(second.hash_hex)
            assert two.best == second.hash_hex
            one.thaw()
            await room.until(lambda: len(room.reports[second.hash_hex].held_by) == 2)
            assert one.best == second.hash_hex


async def test_mainnet_block_951658_reaches_the_node_byte_for_byte(tmp_path: Path, rng: random.Random) -> None:
    job, extranonce1, extranonce2, known = mainnet_job()
    bits = int(str(known["version"])) & 0x1FFFE000
    header = job.header(extranonce1, extranonce2, int(str(known["time"])), int(str(known["nonce"])), bits)
    block = job.block(extranonce1, extranonce2, header)
    hash_hex, prevhash_hex = sha256d(header)[::-1].hex(), job.prevhash[::-1].hex()
    found = BlockFound(block, hash_hex, prevhash_hex, job.height, 0, "them", "", False, 0, 0, 0)
    async with BlockNode(chain="main") as fake, client(NETWORKS["mainnet"], fake) as nodes:
        keeper = Blocks(tmp_path, nodes, NETWORKS["mainnet"], lambda report: None)
        task = asyncio.create_task(keeper.run())
        keeper.submit(found)
        await fake.received(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert fake.submitted[0] == known["block"]


@pytest.mark.parametrize("witness", [True, False], ids=["segwit", "legacy"])
async def test_a_commitment_that_left_out_a_transaction_would_be_refused_by_the_node(
    witness: bool, tmp_path: Path, rng: random.Random
) -> None:
    """The judge of the tests above is awake: the same block with one byte of the commitment wrong is not taken."""
    with DevNode(tmp_path / "node") as dev:
        async with Nodes([address(dev)], REGTEST) as nodes:
            builder = Builder(nodes.nodes[0], rng)
            _, txid = await builder.mine(WITNESS_TRUE if witness else LEGACY_TRUE)
            for _ in range(100):
                await builder.mine(WITNESS_TRUE)
            rows = fan_out(txid, 50 * 100_000_000, 2, witness=witness)
            found = solve(builder.job(await builder.template(rows), WITNESS_TRUE), rng)
            wrong = found.block[:-20] + bytes([found.block[-20] ^ 1]) + found.block[-19:]
            assert (await nodes.nodes[0].submit_block(wrong.hex())).outcome is Outcome.REJECTED
            assert (await nodes.nodes[0].submit_block(found.block.hex())).outcome is Outcome.ACCEPTED
