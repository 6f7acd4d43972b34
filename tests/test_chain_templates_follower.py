"""The follower against a scripted node: each kind of trouble is told in words, no new block is missed, no dead work is
given out."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable

import pytest
import zmq
import zmq.asyncio

from pool.chain.node import Nodes
from pool.chain.rpc import NodeAddress
from pool.chain.templates import Follower
from pool.chain.types import NETWORKS, NodeState, Template, Tip
from rig.fakenode import FakeNode, after, block_hash, hang, http, raw, rpc_error, status
from rig.sink import QUICK, Sink, following

REGTEST, MAINNET, SIGNET = NETWORKS["regtest"], NETWORKS["mainnet"], NETWORKS["signet"]
#: No poll for as long as a test lasts: what is seen came by another way.
NO_POLL = dataclasses.replace(QUICK, poll_s=60.0, health_s=60.0)


def address(fake: FakeNode, zmq_hashblock: str = "") -> NodeAddress:
    return NodeAddress(fake.url, "rig", "rig-password", zmq_hashblock=zmq_hashblock)


def well(sink: Sink) -> bool:
    return sink.state.ok


def trouble(*words: str) -> Callable[[Sink], bool]:
    return lambda sink: not sink.state.ok and all(word in sink.state.reason for word in words)


# --- new blocks


async def test_at_the_start_the_tip_comes_first_then_its_template_then_the_good_state() -> None:
    async with FakeNode() as fake, following([address(fake)], REGTEST) as (_, sink):
        await sink.until(well)
        assert [item for item in sink.heard if not (isinstance(item, NodeState) and not item.ok)] == [
            *[item for item in sink.heard if isinstance(item, Tip)],
            *sink.templates,
            sink.state,
        ]
        assert not sink.states[0].ok
        assert sink.tips == [fake.branch[0]]
        tip = next(item for item in sink.heard if isinstance(item, Tip))
        assert (tip.height, tip.nbits, tip.mediantime_s) == (0, 0x207FFFFF, 1_700_000_000)
        assert tip.hash == bytes.fromhex(fake.branch[0])[::-1]
        asked = [
            method for method, params in fake.asked if method == "getblocktemplate" and "longpollid" not in params[0]
        ]
        assert len(asked) == 1  # the first template is asked for once


async def test_a_new_block_is_announced_before_its_template_even_when_that_takes_long() -> None:
    async with FakeNode() as fake, following([address(fake)], REGTEST) as (_, sink):
        await sink.until(well)
        fake.always["getblocktemplate"] = hang
        new = await fake.mine("a1")
        await sink.until(lambda sink: sink.tips[-1] == new)
        assert sink.templates[-1].prevhash_hex != new
        assert sink.state.ok  # a slow template is no trouble yet
        fake.always.clear()
        fake.unhang.set()
        await sink.until_on(new)


async def test_long_poll_alone_brings_a_new_block() -> None:
    async with FakeNode() as fake, following([address(fake)], REGTEST, NO_POLL) as (_, sink):
        await sink.until(well)
        await until_longpolled(fake)
        started = time.monotonic()
        new = await fake.mine("a1")
        await sink.until_on(new)
        assert time.monotonic() - started < 5
        assert sink.tips[-1] == new
        assert sink.story()[-2:] == [f"tip 1 {new[:8]}", f"template 2 {new[:8]}"]


async def test_zmq_alone_brings_a_new_block_and_junk_on_it_does_no_harm() -> None:
    context = zmq.asyncio.Context()
    publisher = context.socket(zmq.XPUB)
    try:
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        async with FakeNode() as fake:
            fake.template = {"longpollid": ""}  # a node without long-poll
            where = address(fake, zmq_hashblock=f"tcp://127.0.0.1:{port}")
            async with following([where], REGTEST, NO_POLL) as (_, sink):
                await sink.until(well)
                assert await asyncio.wait_for(publisher.recv(), 5) == b"\x01hashblock"
                new = await fake.mine("a1")
                await publisher.send_multipart([b"hashblock", b"junk"])
                await publisher.send_multipart([b"hashblock", bytes.fromhex(block_hash("never existed")), b"\0\0\0\0"])
                await publisher.send_multipart([b"hashblock"])
                await sink.until_on(new)
                assert sink.tips == [fake.branch[0], new]
    finally:
        publisher.close(linger=0)
        context.term()


async def test_polling_alone_brings_a_new_block() -> None:
    async with FakeNode() as fake:
        fake.template = {"longpollid": ""}
        async with following([address(fake)], REGTEST) as (_, sink):
            await sink.until(well)
            await sink.until_on(await fake.mine("a1"))


async def test_look_asks_at_once() -> None:
    async with FakeNode() as fake:
        fake.template = {"longpollid": ""}
        async with following([address(fake)], REGTEST, NO_POLL) as (follower, sink):
            await sink.until(well)
            new = await fake.mine("a1")
            follower.look()
            await sink.until_on(new)


async def test_a_reorg_of_equal_height_is_seen_and_one_back_again() -> None:
    async with FakeNode() as fake, following([address(fake)], REGTEST) as (_, sink):
        await sink.until(well)
        first = await fake.mine("a1")
        await sink.until_on(first)
        second = await fake.mine("b1", drop=1)
        assert (await sink.until_on(second)).height == 2
        await fake.mine("a1", drop=1)
        assert (await sink.until_on(first)).height == 2
        assert sink.tips == [fake.branch[0], first, second, first]
        assert sink.state.ok


async def test_a_late_word_of_an_old_block_is_not_announced() -> None:
    async with FakeNode() as fake, following([address(fake)], REGTEST) as (_, sink):
        await sink.until(well)
        for name in ("a1", "a2"):
            await sink.until_on(await fake.mine(name))
        told = list(sink.tips)
        old = f'{{"result": "{fake.branch[1]}", "error": null}}'.encode()
        fake.faults["getbestblockhash"].append(raw(http(200, old)))
        await wait_until(lambda: not fake.faults["getbestblockhash"])
        await sink.until_on(await fake.mine("a3"))
        assert sink.tips == [*told, fake.branch[-1]]


async def test_a_reorg_to_a_shorter_branch_is_followed() -> None:
    async with FakeNode() as fake, following([address(fake)], REGTEST) as (_, sink):
        for name in ("a1", "a2", "a3"):
            await sink.until_on(await fake.mine(name))
        shorter = await fake.mine("b1", drop=3)
        assert (await sink.until_on(shorter)).height == 2


async def test_templates_never_come_for_another_block_than_the_last_announced(seed: int) -> None:
    async with FakeNode() as fake, following([address(fake)], REGTEST) as (_, sink):
        await sink.until(well)
        for i in range(40):
            await fake.mine(f"{seed}/{i}", drop=min(fake.height, i % 3))
            await asyncio.sleep(0.005 * (i % 4))  # blocks come when they come
        await sink.until_on(fake.branch[-1])
        tip = ""
        for item in sink.heard:
            if isinstance(item, Tip):
                assert item.hash_hex != tip  # never the same twice in a row
                tip = item.hash_hex
            elif isinstance(item, Template):
                assert item.prevhash_hex == tip


async def test_a_template_for_another_block_than_the_best_is_not_passed_on() -> None:
    async with FakeNode() as fake, following([address(fake)], REGTEST) as (_, sink):
        await sink.until(well)
        fake.template = {"previousblockhash": block_hash("elsewhere"), "longpollid": ""}
        await fake.mine("a1")
        await sink.until(trouble("another block than its best"))
        assert len(sink.templates) == 1
        asked = len(fake.asked)
        await asyncio.sleep(0.3)
        assert len(fake.asked) - asked < 40  # it is asked again, but not in a frenzy
        fake.template = {}
        await sink.until_on(fake.branch[-1])
        await sink.until(well)


async def test_the_template_is_refreshed_in_time() -> None:
    pace = dataclasses.replace(QUICK, refresh_s=0.1)
    async with FakeNode() as fake, following([address(fake)], REGTEST, pace) as (_, sink):
        await sink.until(lambda sink: len(sink.templates) >= 4)
        assert len(sink.tips) == 1
        assert len({template.received_at_ns for template in sink.templates}) == len(sink.templates)


async def test_a_long_poll_that_answers_at_once_each_time_does_not_spin() -> None:
    async with FakeNode() as fake:
        count = 0

        async def busy(node: FakeNode, writer: asyncio.StreamWriter) -> None:
            nonlocal count
            count += 1
            fake.always.pop("getblocktemplate")
            fake.template = {"longpollid": f"new{count}"}
            await fake.answer("getblocktemplate", [{"rules": ["segwit"]}], 1, writer)
            fake.always["getblocktemplate"] = busy

        fake.always["getblocktemplate"] = busy
        async with following([address(fake)], REGTEST) as (_, sink):
            await sink.until(well)
            count = 0
            await asyncio.sleep(0.5)
            assert count <= 0.5 / QUICK.poll_s + 2
            assert len(sink.templates) <= 2  # and miners are not flooded with new work


# --- trouble


async def test_a_node_that_stops_is_told_after_the_grace_time_and_its_return_too() -> None:
    async with FakeNode() as fake, following([address(fake)], REGTEST) as (_, sink):
        await sink.until(well)
        await fake.stop()
        await sink.until(trouble("ConnectionRefusedError"))
        told = len(sink.heard)
        await fake.start()
        await sink.until(well)
        kinds = [type(item) for item in sink.heard[told:]]
        assert kinds.index(Template) < len(kinds) - 1  # fresh work came before the good word
        assert len(sink.tips) == 1  # the same block is not announced again


async def test_a_quick_restart_costs_fresh_work_and_no_alarm() -> None:
    patient = dataclasses.replace(QUICK, down_s=20.0)
    async with FakeNode() as fake, following([address(fake)], REGTEST, patient) as (follower, sink):
        await sink.until(well)
        templates, told = len(sink.templates), len(sink.states)
        await fake.stop()
        await wait_until(lambda: bool(follower.watches[0]._faults))
        await fake.start()
        await sink.until(lambda sink: len(sink.templates) > templates)
        assert [state for state in sink.states[told:] if not state.ok] == []


async def test_a_restart_between_two_polls_is_noticed_by_the_uptime() -> None:
    async with FakeNode() as fake, following([address(fake)], REGTEST) as (_, sink):
        await sink.until(well)
        await wait_until(lambda: any(method == "uptime" for method, _ in fake.asked))
        templates = len(sink.templates)
        fake.uptime_s = 0
        await sink.until(lambda sink: len(sink.templates) > templates)
        assert sink.state.ok


async def test_a_node_that_was_never_there_is_told_at_once() -> None:
    async with FakeNode() as fake:
        await fake.stop()
        async with following([address(fake)], REGTEST) as (_, sink):
            await sink.until(trouble("cannot be asked"))
            assert sink.heard == sink.states
            await fake.start()
            await sink.until(well)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (hang, "no answer to getbestblockhash"),
        (status(401), "refuses our login"),
        (rpc_error(-28, "Loading block index..."), "is starting: Loading block index"),
        (status(503), "rpcworkqueue"),
        (status(200, "<html>"), "not JSON-RPC"),
    ],
)
async def test_each_way_of_not_answering_is_told_in_its_own_words(fault: object, words: str) -> None:
    async with FakeNode() as fake, following([address(fake)], REGTEST) as (_, sink):
        await sink.until(well)
        fake.always["*"] = fault  # type: ignore[assignment]
        await sink.until(trouble(words))
        fake.always.clear()
        fake.unhang.set()
        await sink.until(well)


async def test_a_node_on_another_chain_is_not_mined_on() -> None:
    async with FakeNode(chain="test") as fake, following([address(fake)], MAINNET) as (_, sink):
        await sink.until(trouble("chain 'test'", "mainnet"))
        assert sink.templates == []


async def test_initial_block_download_is_told_and_no_work_is_made_of_it() -> None:
    fake = FakeNode(chain="main", ibd=True)
    fake.faults["getblockchaininfo"].append(after(0.3, "getblockchaininfo"))  # the best block is known sooner
    async with fake, following([address(fake)], MAINNET) as (_, sink):
        await sink.until(trouble("initial block download"))
        for i in range(3):
            await fake.mine(f"old{i}")
        await wait_until(lambda: sum(method == "getblockchaininfo" for method, _ in fake.asked) > 3)
        assert sink.templates == []
        fake.ibd = False
        await sink.until_on(fake.branch[-1])
        await sink.until(well)


async def test_a_fresh_regtest_chain_may_call_itself_downloading() -> None:
    """Bitcoin Core does until its first recent block: without this, no regtest chain could begin."""
    async with FakeNode(ibd=True, peer_heights=[]) as fake, following([address(fake)], REGTEST) as (_, sink):
        await sink.until(well)


async def test_lag_behind_known_headers_is_told_when_it_lasts_and_not_before() -> None:
    async with FakeNode(chain="main") as fake, following([address(fake)], MAINNET) as (follower, sink):
        await sink.until(well)
        fake.headers_ahead = 1
        await wait_until(lambda: "lag" in follower.watches[0]._faults)
        assert sink.state.ok
        fake.headers_ahead = 0
        await wait_until(lambda: "lag" not in follower.watches[0]._faults)
        assert sink.state.ok
        fake.headers_ahead = 5
        await sink.until(trouble("newer headers"))
        assert sink.state.headers >= 5
        fake.headers_ahead = 0
        await sink.until(well)


async def test_lag_behind_most_peers_is_told() -> None:
    async with FakeNode(chain="main", peer_heights=[0, 0, 0, 900_000]) as fake:
        async with following([address(fake)], MAINNET) as (_, sink):
            await sink.until(well)
            await asyncio.sleep(2 * QUICK.lag_s)
            assert sink.state.ok  # one liar is no lag
            fake.peer_heights = [50, 50, 50, 0]
            await sink.until(trouble("peers know a longer chain"))


async def test_a_node_without_peers_is_told_because_a_block_could_not_leave_it() -> None:
    async with FakeNode(chain="main", peer_heights=[]) as fake, following([address(fake)], MAINNET) as (_, sink):
        await sink.until(trouble("no peers"))
        fake.peer_heights = [0]
        await sink.until(well)


@pytest.mark.parametrize(
    "fault", [rpc_error(-9, "Bitcoin is not connected!"), rpc_error(-10, "downloading blocks"), hang]
)
async def test_template_loss_is_told_after_the_grace_time_and_its_return_too(fault: object) -> None:
    pace = dataclasses.replace(QUICK, refresh_s=0.1, template_s=0.3)
    async with FakeNode() as fake, following([address(fake)], REGTEST, pace) as (_, sink):
        await sink.until(well)
        fake.always["getblocktemplate"] = fault  # type: ignore[assignment]
        await sink.until(trouble("gives no block template"))
        lost = len(sink.templates)
        fake.always.clear()
        fake.unhang.set()
        await sink.until(well)
        assert len(sink.templates) > lost


@pytest.mark.parametrize("oddity", [{"rules": ["!quantum"]}, {"bits": "zz"}, {"transactions": None}, {"height": "7"}])
async def test_a_template_that_must_not_be_mined_stops_the_work_at_once(oddity: dict[str, object]) -> None:
    pace = dataclasses.replace(QUICK, refresh_s=0.1, template_loss_s=60.0)
    async with FakeNode() as fake, following([address(fake)], REGTEST, pace) as (_, sink):
        await sink.until(well)
        fake.template = oddity
        await sink.until(trouble("must not be mined"))
        fake.template = {}
        await sink.until(well)


async def test_signet_is_followed_with_its_rule() -> None:
    async with FakeNode(chain="signet", template={"rules": ["csv", "!segwit", "!signet", "taproot"]}) as fake:
        fake.template["signet_challenge"] = "51"
        async with following([address(fake)], SIGNET) as (_, sink):
            await sink.until(well)


# --- several nodes


async def test_a_node_that_hangs_is_left_for_one_that_works_and_gone_back_to() -> None:
    async with FakeNode() as first, FakeNode() as second:
        async with following([address(first), address(second)], REGTEST) as (follower, sink):
            await sink.until(well)
            assert follower.following == follower.watches[0].name
            first.always["*"] = hang
            new = await second.mine("b1")
            await sink.until_on(new)
            assert follower.following == follower.watches[1].name
            assert all(state.ok for state in sink.states[-1:])
            first.branch = list(second.branch)
            first.always.clear()
            first.unhang.set()
            await wait_until(lambda: follower.following == follower.watches[0].name)
            assert sink.state.ok


async def test_failing_over_never_stops_the_work() -> None:
    patient = dataclasses.replace(QUICK, down_s=60.0)
    async with FakeNode() as first, FakeNode() as second:
        async with following([address(first), address(second)], REGTEST, patient) as (follower, sink):
            await sink.until(well)
            told = len(sink.states)
            await first.stop()
            await wait_until(lambda: follower.following == follower.watches[1].name)
            await sink.until(lambda sink: sink.state.node == follower.watches[1].name)
            assert all(state.ok for state in sink.states[told:])
            await first.start()


async def test_the_preferred_node_is_chosen_at_the_start_though_another_answers_sooner() -> None:
    async with FakeNode() as first, FakeNode() as second:
        first.faults["getbestblockhash"].append(after(0.2, "getbestblockhash"))
        async with following([address(first), address(second)], REGTEST) as (follower, sink):
            await sink.until(well)
            assert follower.following == follower.watches[0].name


async def test_a_preferred_node_that_is_dead_at_the_start_does_not_keep_the_pool_waiting() -> None:
    async with FakeNode() as first, FakeNode() as second:
        first.always["*"] = hang
        async with following([address(first), address(second)], REGTEST) as (follower, sink):
            await sink.until(well)
            assert follower.following == follower.watches[1].name


async def test_a_node_with_less_work_than_another_of_ours_is_left() -> None:
    async with FakeNode() as first, FakeNode() as second:
        async with following([address(first), address(second)], REGTEST) as (follower, sink):
            await sink.until(well)
            new = await second.mine("b1")
            await sink.until_on(new)
            assert follower.following == follower.watches[1].name


async def test_when_all_nodes_are_in_trouble_every_one_is_named() -> None:
    async with FakeNode() as first, FakeNode() as second:
        async with following([address(first), address(second)], REGTEST) as (follower, sink):
            await sink.until(well)
            await first.stop()
            second.always["*"] = rpc_error(-28, "Loading...")
            names = [watch.name for watch in follower.watches]
            await sink.until(trouble(names[0], names[1], "Loading"))
            await first.start()
            await sink.until(well)


async def test_the_long_poll_moves_along_to_the_other_node() -> None:
    async with FakeNode() as first, FakeNode() as second:
        async with following([address(first), address(second)], REGTEST) as (_, sink):
            await sink.until(well)
            await until_longpolled(first)
            assert not longpolls(second)
            first.always["*"] = hang
            await until_longpolled(second)
            first.unhang.set()
            assert sink.state.ok


async def test_a_sink_that_fails_takes_the_follower_down_with_it() -> None:
    async with FakeNode() as fake:
        sink = BrokenSink()
        async with Nodes([address(fake)], REGTEST) as nodes:
            with pytest.raises(ExceptionGroup) as caught:
                await asyncio.wait_for(Follower(nodes, sink, QUICK).run(), 10)
        assert caught.group_contains(RuntimeError, match="desk is on fire")
        assert sink.templates == []


class BrokenSink(Sink):
    def on_tip(self, tip: Tip) -> None:
        raise RuntimeError("desk is on fire")


def longpolls(fake: FakeNode) -> int:
    return sum(method == "getblocktemplate" and "longpollid" in params[0] for method, params in fake.asked)


async def until_longpolled(fake: FakeNode) -> None:
    await wait_until(lambda: longpolls(fake) > 0)


async def wait_until(condition: Callable[[], bool], patience_s: float = 10.0) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.01)
