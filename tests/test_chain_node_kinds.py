"""The same cases on every kind of node: the development chain, btcd, and Bitcoin Core where BITCOIND names one."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pool.chain.node import Nodes
from pool.chain.rpc import NodeAddress
from pool.chain.types import NETWORKS, NodeMisconfigured, NodeRefused, Outcome
from rig.daemon import NodeDaemon
from rig.nodes import fresh_node, node, node_kind  # noqa: F401 - fixtures
from rig.sink import CALM, Sink, following

REGTEST = NETWORKS["regtest"]


def address(node: NodeDaemon, *, zmq: bool = True) -> NodeAddress:  # noqa: F811
    return NodeAddress(node.url, node.user, node.password, zmq_hashblock=(zmq and node.zmq_url) or "")


def well(sink: Sink) -> bool:
    return sink.state.ok


async def later(call: Callable[..., object], *arguments: object) -> None:
    """The rig's calls wait; the follower goes on meanwhile."""
    await asyncio.to_thread(call, *arguments)


# --- calls


async def test_what_a_node_says_of_itself_is_understood(node: NodeDaemon) -> None:  # noqa: F811
    hashes = node.generate(3)
    async with Nodes([address(node)], REGTEST) as nodes:
        one = nodes.nodes[0]
        info = await one.chain_info()
        assert (info.chain, info.blocks, info.headers, info.best_hash_hex) == ("regtest", 3, 3, hashes[-1])
        assert info.mediantime_s > 1_600_000_000
        assert await one.best_block_hash() == hashes[-1]
        header = await one.block_header(hashes[1])
        assert header
        assert (header.height, header.confirmations, header.nbits) == (2, 2, 0x207FFFFF)
        assert header.previous_hash_hex == hashes[0]
        assert await one.block_header("00" * 31 + "01") is None
        assert await one.uptime_s() is not None
        assert (await one.peers()).height == 0
        assert await one.precious_block(hashes[-1]) in (True, False)


async def test_a_template_is_read_from_height_1_on(node: NodeDaemon) -> None:  # noqa: F811
    async with Nodes([address(node)], REGTEST) as nodes:
        one = nodes.nodes[0]
        genesis = await one.best_block_hash()
        template = await one.block_template()
        assert (template.height, template.prevhash_hex, template.nbits) == (1, genesis, 0x207FFFFF)
        assert template.coinbase_value_sat == 50 * 100_000_000 == REGTEST.subsidy_sat(1)
        assert template.longpoll_id
        node.generate(150)
        template = await one.block_template()
        assert (template.height, template.coinbase_value_sat) == (151, REGTEST.subsidy_sat(151))
        assert template.mintime_s == (await one.chain_info()).mediantime_s + 1


async def test_long_poll_answers_at_the_next_block_and_not_before(node: NodeDaemon) -> None:  # noqa: F811
    async with Nodes([address(node)], REGTEST) as nodes:
        one = nodes.nodes[0]
        first = await one.block_template()
        waiting = asyncio.create_task(one.block_template(first.longpoll_id))
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        [new] = await asyncio.to_thread(node.generate, 1)
        assert (await asyncio.wait_for(waiting, 10)).prevhash_hex == new


async def test_a_block_it_holds_is_a_duplicate_and_junk_is_rejected(node: NodeDaemon) -> None:  # noqa: F811
    [hash_hex] = node.generate(1)
    block_hex = node.rpc("getblock", hash_hex, 0)
    async with Nodes([address(node)], REGTEST) as nodes:
        assert (await nodes.nodes[0].submit_block(block_hex)).outcome is Outcome.DUPLICATE
        assert (await nodes.nodes[0].submit_block(block_hex[:100])).outcome is Outcome.REJECTED
        bad = block_hex[:72] + "ff" * 32 + block_hex[136:]  # another Merkle root
        assert (await nodes.nodes[0].submit_block(bad)).outcome is Outcome.REJECTED


async def test_blocks_off_the_best_chain_are_known_with_their_height(node: NodeDaemon) -> None:  # noqa: F811
    first, second, third = node.generate(3)
    async with Nodes([address(node)], REGTEST) as nodes:
        node.invalidate(second)
        assert await nodes.nodes[0].best_block_hash() == first
        for height, hash_hex, previous in ((2, second, first), (3, third, second)):
            header = await nodes.nodes[0].block_header(hash_hex)
            assert header
            assert (header.height, header.confirmations) == (height, -1)
            assert (header.nbits, header.previous_hash_hex) == (0x207FFFFF, previous)


async def test_wrong_words_are_refused_by_kind(node: NodeDaemon) -> None:  # noqa: F811
    stranger = dataclasses.replace(address(node), password="wrong", name="")
    async with Nodes([stranger], REGTEST) as nodes:
        with pytest.raises(NodeMisconfigured, match="401"):
            await nodes.nodes[0].best_block_hash()
    async with Nodes([address(node)], REGTEST) as nodes:
        with pytest.raises(NodeRefused):
            await nodes.nodes[0].call("getblocktemplate", {"mode": "nonsense", "rules": ["segwit"]})
        with pytest.raises(NodeMisconfigured, match="does not offer"):
            await nodes.nodes[0].call("makecoffee")


# --- following


async def test_every_new_block_is_announced_once_and_followed_by_its_template(node: NodeDaemon) -> None:  # noqa: F811
    async with following([address(node)], REGTEST, CALM) as (_, sink):
        await sink.until(well)
        hashes = []
        for _ in range(5):
            [new] = await asyncio.to_thread(node.generate, 1)
            hashes.append(new)
            assert (await sink.until_on(new)).height == len(hashes) + 1
        assert sink.tips[1:] == hashes
        await sink.until(well)


async def test_zmq_or_long_poll_brings_a_block_without_any_poll(node: NodeDaemon) -> None:  # noqa: F811
    lazy = dataclasses.replace(CALM, poll_s=60.0, health_s=60.0)
    async with following([address(node)], REGTEST, lazy) as (_, sink):
        await sink.until(well)
        await asyncio.sleep(0.2)  # the long-poll and ZMQ subscriptions cannot be seen from here
        started = time.monotonic()
        [new] = await asyncio.to_thread(node.generate, 1)
        await sink.until_on(new)
        assert time.monotonic() - started < 2


async def test_a_reorg_of_equal_height_by_invalidateblock(node: NodeDaemon) -> None:  # noqa: F811
    async with following([address(node)], REGTEST, CALM) as (_, sink):
        await sink.until(well)
        _, first = await asyncio.to_thread(node.generate, 2)
        await sink.until_on(first)
        await later(node.invalidate, first)
        await sink.until(lambda sink: sink.tips[-1] != first)
        second = first
        while second == first:  # within one second a node may find the very same block again
            try:
                [second] = await asyncio.to_thread(node.generate, 1)
            except Exception:
                await asyncio.sleep(0.3)
        template = await sink.until_on(second)
        assert template.height == 3
        await sink.until(well)


async def test_a_reorg_back_after_two_blocks(node: NodeDaemon) -> None:  # noqa: F811
    async with following([address(node)], REGTEST, CALM) as (_, sink):
        await sink.until(well)
        one, _, three = await asyncio.to_thread(node.generate, 3)
        await sink.until_on(three)
        await later(node.invalidate, one)
        await sink.until(lambda sink: sink.templates[-1].height == 1)
        await later(node.reconsider, one)
        assert (await sink.until_on(three)).height == 4


async def test_a_node_killed_and_started_again_in_the_middle(node: NodeDaemon) -> None:  # noqa: F811
    async with following([address(node)], REGTEST, CALM) as (_, sink):
        await sink.until(well)
        await asyncio.to_thread(node.generate, 2)
        await sink.until(lambda sink: sink.templates[-1].height == 3)
        await later(node.kill)
        await sink.until(lambda sink: not sink.state.ok)
        assert "cannot be asked" in sink.state.reason
        await later(node.start)
        await sink.until(well, 20)
        [new] = await asyncio.to_thread(node.generate, 1)
        await sink.until_on(new)
        await sink.until(well)


async def test_a_frozen_node_is_told_and_its_thaw_too(node: NodeDaemon) -> None:  # noqa: F811
    async with following([address(node)], REGTEST, CALM) as (_, sink):
        await sink.until(well)
        node.freeze()
        await sink.until(lambda sink: not sink.state.ok)
        assert "no answer" in sink.state.reason
        node.thaw()
        await sink.until(well)


async def test_of_two_nodes_with_one_frozen_the_other_gives_work_and_the_end_is_quick(
    node: NodeDaemon,  # noqa: F811
    node_kind: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    with fresh_node(node_kind, tmp_path / "second") as other:
        async with following([address(node), address(other)], REGTEST, CALM) as (follower, sink):
            await sink.until(well)
            node.freeze()
            [new] = await asyncio.to_thread(other.generate, 1)
            await sink.until_on(new)
            assert follower.following == follower.watches[1].name
            await sink.until(well)
            started = time.monotonic()
        assert time.monotonic() - started < 1.0  # nobody waits for the frozen one
        node.thaw()


ASK = """
import asyncio, sys
from pool.chain.node import Nodes
from pool.chain.rpc import NodeAddress
from pool.chain.types import NETWORKS

nodes = Nodes([NodeAddress(*sys.argv[1:4])], NETWORKS["regtest"])

async def main():
    task = asyncio.create_task(nodes.nodes[0].best_block_hash(timeout_s=600))
    await asyncio.wait([task], timeout=float(sys.argv[4]))
    print("answered", task.done(), flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("frozen", [True, False])
def test_a_process_that_never_closed_its_nodes_ends_when_told(node: NodeDaemon, frozen: bool) -> None:  # noqa: F811
    """asyncio's own threads are joined at exit; ours must not be, whether they wait for a node or for work."""
    if frozen:
        node.freeze()
    arguments = [node.url, node.user, node.password, "0.3" if frozen else "20"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [sys.executable, "-c", ASK, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=40)
    assert done.stdout == f"answered {not frozen}\n"
    assert done.returncode == 0, done.stderr


ORPHAN = """
import os, signal, sys
from pathlib import Path
from rig.nodes import fresh_node

node = fresh_node(sys.argv[1], Path(sys.argv[2]))
node.start()
print(node._run.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_test_node_never_outlives_a_test_run_that_was_killed(node_kind: str, tmp_path: Path) -> None:  # noqa: F811
    fresh_node(node_kind, tmp_path)  # ends the test here where the program is missing
    tests = Path(__file__).resolve().parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    command = [sys.executable, "-c", ORPHAN, node_kind, str(tmp_path / "node")]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == -signal.SIGKILL
    left = Path(f"/proc/{int(done.stdout)}")
    deadline = time.monotonic() + 10
    while left.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left.exists()
