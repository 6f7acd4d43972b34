"""What the pool makes of a node that misbehaves: every fault ends in the right kind of error, at once, and the next
call works."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import socket
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from pool.chain import node as node_module
from pool.chain.node import Nodes
from pool.chain.rpc import MAX_ANSWER_BYTES, NodeAddress, NoSuchMethod
from pool.chain.types import NETWORKS, NodeBusy, NodeMisconfigured, NodeRefused, Outcome, TemplateError
from rig import fakenode
from rig.fakenode import FakeNode, drip, hang, http, raw, reset, rpc_error, status

REGTEST = NETWORKS["regtest"]


def client(*fakes: FakeNode, timeout_s: float = 5.0) -> Nodes:
    return Nodes([NodeAddress(fake.url, "rig", "rig-password", timeout_s=timeout_s) for fake in fakes], REGTEST)


JUNK = b"\x00\xff" * (1 << 19)
FAULTS = {
    "wrong password": (status(401), NodeMisconfigured, "401"),
    "forbidden": (status(403), NodeMisconfigured, "rpcallowip"),
    "not a node": (status(404, "<html>"), NodeMisconfigured, "RPC port"),
    "work queue full": (status(503, "Work queue depth exceeded"), NodeBusy, "rpcworkqueue"),
    "proxy error": (status(502, "<html>"), NodeBusy, "502"),
    "500 without JSON": (status(500, "oops"), NodeBusy, "500"),
    "starting": (rpc_error(-28, "Loading block index..."), NodeBusy, "Loading block index"),
    "refusal": (rpc_error(-8, "Invalid mode"), NodeRefused, "Invalid mode"),
    "refusal with status 200": (rpc_error(-10, "Bitcoin is downloading blocks...", 200), NodeRefused, "downloading"),
    "no such method": (rpc_error(-32601, "Method not found", 404), NoSuchMethod, "getbestblockhash"),
    "btcd's no such method": (rpc_error(-1, "Command unimplemented"), NoSuchMethod, "getbestblockhash"),
    "error without a code": (
        status(200, '{"error": {"message": "x"}}', "application/json"),
        NodeBusy,
        "without a code",
    ),
    "not JSON": (status(200, "<html>hello</html>"), NodeBusy, "not JSON-RPC"),
    "JSON, but no answer": (status(200, "[1, 2]", "application/json"), NodeBusy, "not JSON-RPC"),
    "empty body": (status(200, ""), NodeBusy, "not JSON-RPC"),
    "deep nest": (status(200, "[" * 200_000, "application/json"), NodeBusy, "not JSON-RPC"),
    "not UTF-8": (raw(http(200, b'{"result": "\xff\xfe\xff"}')), NodeBusy, "not JSON-RPC"),
    "cut off in the body": (raw(http(200, b'{"result": ', claimed=5000)), NodeBusy, "before the end"),
    "cut off in the head": (raw(b"HTTP/1.1 200 OK\r\nContent-Le"), NodeBusy, "not JSON-RPC"),
    "closed without a word": (raw(b""), NodeBusy, "cannot be asked"),
    "reset": (reset, NodeBusy, "cannot be asked"),
    "a megabyte of junk": (raw(JUNK), NodeBusy, "cannot be asked"),
    "a head without end": (raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000), NodeBusy, "cannot be asked"),
    "a hash that is none": (raw(http(200, b'{"result": "xyz", "error": null}')), NodeBusy, "block hash"),
    "a hash of the wrong type": (raw(http(200, b'{"result": 1.5, "error": null}')), NodeBusy, "block hash"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_each_fault_is_sorted_by_who_must_act_and_the_next_call_works(name: str) -> None:
    fault, kind, words = FAULTS[name]
    async with FakeNode() as fake, client(fake) as nodes:
        node = nodes.nodes[0]
        assert await node.best_block_hash() == fake.branch[-1]  # so that the fault meets a kept connection
        fake.faults["*"].extend([fault, fault])  # twice: a broken kept connection is tried anew once
        with pytest.raises(kind, match=words) as caught:
            await node.best_block_hash()
        if kind is NodeBusy:
            assert not isinstance(caught.value, NodeMisconfigured | NodeRefused)
        if kind is not NodeRefused and "block hash" not in words:
            assert node.name in str(caught.value)
        fake.faults["*"].clear()
        assert await node.best_block_hash() == fake.branch[-1]


async def test_an_answer_without_end_is_cut_at_the_limit() -> None:
    endless = b'{"result": "' + b"ab" * (MAX_ANSWER_BYTES // 2 + 10)
    async with FakeNode() as fake, client(fake, timeout_s=20) as nodes:
        fake.faults["*"].append(raw(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + endless))
        with pytest.raises(NodeBusy, match="32 MiB"):
            await nodes.nodes[0].best_block_hash()


async def test_a_kept_connection_that_the_node_closed_is_replaced_without_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeNode() as fake, client(fake) as nodes:
        node = nodes.nodes[0]
        await node.best_block_hash()
        await node.best_block_hash()
        assert fake.connections == 1  # kept
        fake.faults["*"].append(raw(b""))  # closes just as we write
        with caplog.at_level(logging.WARNING):
            assert await node.best_block_hash() == fake.branch[-1]
        await fake.stop()
        await fake.start()  # closed while idle
        assert await node.best_block_hash() == fake.branch[-1]
        assert not caplog.records


async def test_a_hanging_node_costs_its_timeout_and_no_thread_stays_behind() -> None:
    before = threading.active_count()
    async with FakeNode() as fake, client(fake) as nodes:
        fake.always["getbestblockhash"] = hang
        started = time.monotonic()
        with pytest.raises(NodeBusy, match=r"within 0\.2 s"):
            await nodes.nodes[0].best_block_hash(timeout_s=0.2)
        assert time.monotonic() - started < 2.0
        assert (await nodes.nodes[0].chain_info()).blocks == 0  # the node's other calls are not held up
    for _ in range(200):
        if threading.active_count() <= before:
            break
        await asyncio.sleep(0.01)
    assert threading.active_count() <= before


async def test_a_dripping_node_does_not_fool_the_timeout() -> None:
    async with FakeNode() as fake, client(fake) as nodes:
        fake.faults["*"].append(drip(http(200, b'{"result": null}'), 0.05))
        started = time.monotonic()
        with pytest.raises(NodeBusy, match=r"within 0\.5 s"):
            await nodes.nodes[0].best_block_hash(timeout_s=0.5)
        assert time.monotonic() - started < 2.0


async def test_a_cancelled_call_frees_its_connection() -> None:
    async with FakeNode() as fake, client(fake) as nodes:
        fake.always["getbestblockhash"] = hang
        task = asyncio.create_task(nodes.nodes[0].best_block_hash())
        await asyncio.wait_for(fake.noticed.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        fake.always.clear()
        assert await nodes.nodes[0].best_block_hash() == fake.branch[-1]
        assert fake.connections == 2


async def test_closing_the_nodes_ends_what_hangs() -> None:
    async with FakeNode() as fake:
        fake.always["getbestblockhash"] = hang
        nodes = client(fake, timeout_s=60)
        task = asyncio.create_task(nodes.nodes[0].best_block_hash())
        await asyncio.wait_for(fake.noticed.wait(), 5)
        nodes.close()
        with pytest.raises(NodeBusy):
            await asyncio.wait_for(task, 5)


async def test_of_two_nodes_with_one_hanging_the_other_answers() -> None:
    async with FakeNode() as dead, FakeNode() as alive, client(dead, alive, timeout_s=0.3) as nodes:
        dead.always["*"] = hang
        assert await nodes.call("getbestblockhash") == alive.branch[-1]
        started = time.monotonic()
        for _ in range(20):  # the one that hung is asked last from now on
            assert await nodes.call("getbestblockhash") == alive.branch[-1]
        assert time.monotonic() - started < 0.3
        assert dead.hanging == 1


async def test_a_refusal_is_an_answer_and_no_reason_to_ask_another_node() -> None:
    async with FakeNode() as first, FakeNode() as second, client(first, second) as nodes:
        with pytest.raises(NodeRefused, match="Block not found") as caught:
            await nodes.call("getblockheader", "00" * 32)
        assert caught.value.code == -5
        assert second.asked == []


async def test_warm_up_is_waited_for_with_patience() -> None:
    async with FakeNode() as fake, client(fake) as nodes:
        fake.faults["*"].extend([rpc_error(-28, "Verifying blocks...")] * 3)
        assert await nodes.call("getbestblockhash", patience_s=10) == fake.branch[-1]
        assert len(fake.asked) == 4


async def test_patience_ends_and_what_the_operator_can_mend_is_told_first() -> None:
    async with FakeNode() as refusing, client(refusing) as nodes:
        gone = NodeAddress(f"http://127.0.0.1:{unused_port()}", "u", "p")
        both = Nodes([gone, nodes.nodes[0].address], REGTEST)
        refusing.login = "another:login"
        with pytest.raises(NodeMisconfigured, match="401"):
            await both.call("getbestblockhash", patience_s=0.5)
        both.close()


async def test_nobody_listening_is_busy_and_names_the_node() -> None:
    address = NodeAddress(f"http://127.0.0.1:{unused_port()}", "u", "secret-word", name="attic")
    async with Nodes([address], REGTEST) as nodes:
        with pytest.raises(NodeBusy, match="attic cannot be asked: ConnectionRefusedError") as caught:
            await nodes.nodes[0].best_block_hash()
        assert "secret-word" not in str(caught.value) + repr(address)


async def test_a_failing_node_is_logged_once_a_minute_and_once_when_it_is_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr("pool.chain.node.time.monotonic", lambda: now_s[0])
    async with FakeNode() as fake, client(fake) as nodes:
        fake.always["*"] = rpc_error(-28, "Loading...")
        with caplog.at_level(logging.INFO, "pool.chain.node"):
            for _ in range(125):
                now_s[0] += 1
                with pytest.raises(NodeBusy):
                    await nodes.nodes[0].best_block_hash()
            fake.always.clear()
            await nodes.nodes[0].best_block_hash()
            await nodes.nodes[0].best_block_hash()
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split()[2] for line in lines[:3]] == ["is", "is", "is"]
    assert len(lines) == 4
    assert lines[3].endswith("answers again after 125 failed calls in 124 s")


# --- login


async def test_a_new_cookie_after_a_restart_is_read_again(tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    async with FakeNode(login="__cookie__:first") as fake:
        async with Nodes([NodeAddress(fake.url, cookie_file=cookie)], REGTEST) as nodes:
            node = nodes.nodes[0]
            with pytest.raises(NodeBusy, match="no cookie file"):  # the node is not up yet
                await node.best_block_hash()
            cookie.write_text("__cookie__:first")
            await node.best_block_hash()
            fake.login = "__cookie__:second"
            with pytest.raises(NodeMisconfigured, match="401"):
                await node.best_block_hash()
            cookie.write_text("__cookie__:second\n")
            assert await node.best_block_hash() == fake.branch[-1]


async def test_a_cookie_that_changes_while_the_connection_is_kept_costs_no_error(tmp_path: Path) -> None:
    cookie = tmp_path / ".cookie"
    cookie.write_text("__cookie__:first")
    async with FakeNode(login="__cookie__:first") as fake:
        async with Nodes([NodeAddress(fake.url, cookie_file=cookie)], REGTEST) as nodes:
            await nodes.nodes[0].best_block_hash()
            fake.login = "__cookie__:second"
            cookie.write_text("__cookie__:second")
            assert await nodes.nodes[0].best_block_hash() == fake.branch[-1]


async def test_a_cookie_file_that_is_no_file_is_the_operators_to_mend(tmp_path: Path) -> None:
    async with Nodes([NodeAddress("http://127.0.0.1:1", cookie_file=tmp_path)], REGTEST) as nodes:
        with pytest.raises(NodeMisconfigured, match="cannot be read"):
            await nodes.nodes[0].best_block_hash()


async def test_any_password_works() -> None:
    for password in ("a@b", "sl/ash", "100%", "col:on", "ñandú", "#?&"):
        async with FakeNode(login=f"user:{password}") as fake:
            async with Nodes([NodeAddress(fake.url, "user", password)], REGTEST) as nodes:
                assert await nodes.nodes[0].best_block_hash() == fake.branch[-1]


async def test_a_login_in_the_url_is_understood_and_not_shown() -> None:
    async with FakeNode(login="user:p@ss") as fake:
        address = NodeAddress(fake.url.replace("//", "//user:p%40ss@"))
        assert "p%40ss" not in address.shown + address.name
        async with Nodes([address], REGTEST) as nodes:
            assert await nodes.nodes[0].best_block_hash() == fake.branch[-1]


@pytest.mark.parametrize("url", ["https://node:8332", "node:8332", "", "http://"])
def test_a_url_that_cannot_work_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(ValueError, match="http://host:port"):
        NodeAddress(url)


# --- answers


async def test_the_signet_rule_is_sent_on_signet_and_nowhere_else() -> None:
    for name in ("signet", "regtest", "mainnet"):
        async with FakeNode(chain=name) as fake:
            async with Nodes([NodeAddress(fake.url, "rig", "rig-password")], NETWORKS[name]) as nodes:
                assert (await nodes.nodes[0].block_template()).height == 1
                rules = fake.asked[-1][1][0]["rules"]
                assert rules == (["segwit", "signet"] if name == "signet" else ["segwit"])


async def test_a_rule_that_is_not_known_is_refused_by_name() -> None:
    async with FakeNode(template={"rules": ["csv", "!segwit", "!quantum"]}) as fake, client(fake) as nodes:
        with pytest.raises(TemplateError, match="!quantum"):
            await nodes.nodes[0].block_template()


async def test_answers_to_a_submitted_block_are_read_right() -> None:
    for reply, outcome in (
        ('{"result": null, "error": null}', Outcome.ACCEPTED),
        ('{"result": "duplicate", "error": null}', Outcome.DUPLICATE),
        ('{"result": "inconclusive", "error": null}', Outcome.SIDE_CHAIN),
        ('{"result": "rejected: already have block 00ab", "error": null}', Outcome.DUPLICATE),
        ('{"result": "high-hash", "error": null}', Outcome.REJECTED),
        ('{"result": null, "error": {"code": -22, "message": "Block decode failed"}}', Outcome.REJECTED),
    ):
        async with FakeNode() as fake, client(fake) as nodes:
            fake.faults["submitblock"].append(status(200, reply, "application/json"))
            assert (await nodes.nodes[0].submit_block("00")).outcome is outcome


async def test_a_block_goes_out_even_when_every_other_call_hangs() -> None:
    async with FakeNode() as fake, client(fake, timeout_s=30) as nodes:
        node = nodes.nodes[0]
        fake.always["getbestblockhash"] = hang
        stuck = [asyncio.create_task(node.best_block_hash()) for _ in range(20)]
        done, waiting = await asyncio.wait(stuck, timeout=0.5)
        assert len(waiting) == node_module.MAX_CALLS_WAITING
        assert all("calls wait for this node" in str(task.exception()) for task in done)
        assert (await node.submit_block("00")).outcome is Outcome.ACCEPTED
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_peers_heights_are_the_median_of_at_least_three() -> None:
    async with FakeNode(peer_heights=[5, 900_000]) as fake, client(fake) as nodes:
        assert (await nodes.nodes[0].peers()).height == 0
        fake.peer_heights = [5, 6, 900_000]
        assert (await nodes.nodes[0].peers()).height == 6


async def test_a_template_of_3000_transactions_is_read_in_a_fraction_of_a_second(seed: int) -> None:
    rows = [
        {
            "data": fakenode.block_hash(f"{seed}/{i}") * 12,
            "txid": fakenode.block_hash(f"t{i}"),
            "hash": fakenode.block_hash(f"h{i}"),
            "fee": i,
            "sigops": 1,
            "weight": 1000,
            "depends": [],
        }
        for i in range(3000)
    ]
    async with FakeNode(template={"transactions": rows}) as fake, client(fake) as nodes:
        started = time.monotonic()
        template = await nodes.nodes[0].block_template()
        took_s = time.monotonic() - started
        assert template.transactions.count == 3000
        assert template.transactions.fees_sat == sum(range(3000))
        assert took_s < 2.0, f"{took_s * 1000:.0f} ms"


async def test_no_call_needs_the_default_executor_and_calls_run_side_by_side() -> None:
    """A hanging node would fill a shared pool of threads and stop everything else that uses it."""
    async with FakeNode() as fake, client(fake) as nodes:
        asyncio.get_running_loop().set_default_executor(NoExecutor())
        hashes = await asyncio.gather(*(nodes.nodes[0].best_block_hash() for _ in range(8)))
        assert set(hashes) == {fake.branch[-1]}
        assert fake.connections == 8


class NoExecutor(concurrent.futures.ThreadPoolExecutor):
    def submit(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AssertionError("the shared threads were used")


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
