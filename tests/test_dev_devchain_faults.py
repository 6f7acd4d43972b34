"""The development chain told to misbehave: warm-up, stalls, failures, lost answers, odd templates."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pool.dev.devchain.process import RpcError
from rig.devchain import ADDRESS, RunningChain, build, devchain


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningChain]:
    with devchain(tmp_path_factory.mktemp("devchain")) as running:
        running.rpc("generatetoaddress", 3, ADDRESS)
        yield running


@pytest.fixture
def node(shared: RunningChain) -> Iterator[RunningChain]:
    yield shared
    shared.rpc("dev_heal")
    shared.rpc("dev_template")
    shared.rpc("dev_mempool", 0, None, None, True)
    shared.rpc("dev_longpoll")


def exchange(node: RunningChain, body: object, **headers: str) -> tuple[int, Any]:
    """(HTTP status, decoded answer) of a raw request."""
    client = node.client()
    try:
        status, text = client.post(
            body if isinstance(body, bytes) else json.dumps(body).encode(), {**client.headers, **headers}
        )
        return status, json.loads(text) if text else None
    finally:
        client.close()


def _until(condition: Any, timeout_s: float = 10) -> None:
    pause = threading.Event()
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.01)


def long_poll(node: RunningChain, template: dict[str, Any], answer_in_s: float = 20) -> dict[str, Any]:
    client = node.client(answer_in_s)
    try:
        found: dict[str, Any] = client("getblocktemplate", {"rules": ["segwit"], "longpollid": template["longpollid"]})
        return found
    finally:
        client.close()


# --------------------------------------------------------------------------------------------------


def test_a_warming_up_node_answers_minus_28_until_it_is_done(node: RunningChain) -> None:
    node.rpc("dev_warmup", 3600)
    for method in ("getblockcount", "getblocktemplate", "nosuch"):
        status, answer = exchange(node, {"method": method, "id": 1})
        assert (status, answer["error"]["code"]) == (500, -28)
    node.rpc("dev_warmup", 0)
    assert node.rpc("getblockcount") == 3


def test_ibd_and_no_peers_refuse_templates_as_a_mainnet_node_would(node: RunningChain) -> None:
    node.rpc("dev_ibd")
    assert node.rpc("getblockchaininfo")["initialblockdownload"] is True
    with pytest.raises(RpcError, match="initial sync") as caught:
        node.template()
    assert caught.value.code == -10
    node.rpc("dev_ibd", False)
    node.rpc("dev_peers", 0)
    assert (
        node.rpc("getnetworkinfo")["connections"] == node.rpc("getconnectioncount") == len(node.rpc("getpeerinfo")) == 0
    )
    with pytest.raises(RpcError, match="is not connected") as caught:
        node.template()
    assert caught.value.code == -9
    node.rpc("dev_heal")
    assert node.template()["height"] == 4


def test_a_lagging_node_knows_headers_it_has_no_blocks_for(node: RunningChain) -> None:
    node.rpc("dev_lag", 5)
    info = node.rpc("getblockchaininfo")
    assert (info["blocks"], info["headers"]) == (3, 8)
    assert info["verificationprogress"] < 1
    assert [peer["synced_headers"] for peer in node.rpc("getpeerinfo")] == [8]


def test_a_stalled_method_hangs_alone_and_goes_on_when_healed(node: RunningChain) -> None:
    node.rpc("dev_stall", "getblocktemplate")
    slow = node.client(0.3)
    with pytest.raises(TimeoutError):
        slow("getblocktemplate", {"rules": ["segwit"]})
    slow.close()
    assert node.rpc("getblockcount") == 3
    with ThreadPoolExecutor(1) as threads:
        calls = node.rpc("dev_calls")["getblocktemplate"]
        waiting = threads.submit(long_poll, node, {"longpollid": None})
        _until(lambda: node.rpc("dev_calls")["getblocktemplate"] > calls)
        assert not waiting.done()
        node.rpc("dev_heal", "getblocktemplate")
        assert waiting.result(10)["height"] == 4


def test_everything_can_stall_but_the_way_to_heal_it(node: RunningChain) -> None:
    node.rpc("dev_stall", "*", 0.2)
    started = time.monotonic()
    assert node.rpc("getblockcount") == 3
    assert time.monotonic() - started >= 0.2
    node.rpc("dev_heal")
    node.rpc("dev_slow", "getblockcount", 0.15)
    started = time.monotonic()
    node.rpc("getblockcount")
    assert time.monotonic() - started >= 0.15


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_a_method_can_fail_with_an_http_status_so_many_times(node: RunningChain, status: int) -> None:
    node.rpc("dev_fail", "getblockcount", f"http{status}", 2)
    client = node.client()
    body = json.dumps({"method": "getblockcount", "id": 1}).encode()
    assert [client.post(body)[0] for _ in range(3)] == [status, status, 200]
    client.close()


@pytest.mark.parametrize("kind", ["close", "truncate", "garbage", "empty"])
def test_a_method_can_break_its_answer(node: RunningChain, kind: str) -> None:
    node.rpc("dev_fail", "getblockcount", kind, 1)
    client = node.client(5)
    with pytest.raises((OSError, http.client.HTTPException, ValueError)):
        client("getblockcount")
    client.close()
    assert node.rpc("getblockcount") == 3


def test_a_block_can_be_taken_and_the_answer_lost(node: RunningChain) -> None:
    node.rpc("dev_fail", "submitblock", "close", 1, None, None, True)
    raw = build(node.template()).hex()
    client = node.client(5)
    with pytest.raises((OSError, http.client.HTTPException)):
        client("submitblock", raw)
    client.close()
    assert node.rpc("submitblock", raw) == "duplicate"
    node.rpc("invalidateblock", node.rpc("getbestblockhash"))


def test_a_method_can_fail_with_an_error_of_its_own(node: RunningChain) -> None:
    node.rpc("dev_fail", "submitblock", "error", 1, -25, "disk full")
    with pytest.raises(RpcError, match="disk full") as caught:
        node.rpc("submitblock", "00")
    assert caught.value.code == -25


def test_a_lost_zmq_message_leaves_a_gap_in_the_numbers(node: RunningChain) -> None:
    with node.subscribed() as subscription:
        first = node.rpc("generatetoaddress", 1, ADDRESS)[0]
        message = subscription.next()
        assert message is not None
        assert message[0] == first
        node.rpc("dev_zmq", True)
        node.rpc("generatetoaddress", 1, ADDRESS)
        node.rpc("dev_zmq", False)
        third = node.rpc("generatetoaddress", 1, ADDRESS)[0]
        assert subscription.next() == (third, message[1] + 2)
    node.rpc("invalidateblock", first)


def test_templates_can_ask_for_rules_and_bits_nobody_knows(node: RunningChain) -> None:
    node.rpc("dev_template", 0x30000000, 0x4, ["!newrule"], {"newrule": 2}, {"flags": "deadbeef"})
    template = node.template()
    assert (template["version"], template["vbrequired"]) == (0x30000000, 4)
    assert "!newrule" in template["rules"]
    assert (template["vbavailable"], template["coinbaseaux"]) == ({"newrule": 2}, {"flags": "deadbeef"})
    assert node.rpc("submitblock", build(template).hex()) is None
    node.rpc("invalidateblock", node.rpc("getbestblockhash"))


def test_the_same_seed_makes_the_same_transactions(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        with devchain(tmp_path / name) as fresh:
            fresh.rpc("dev_mempool", 25, 42, 50)
            found.append([entry["hash"] for entry in fresh.template()["transactions"]])
    assert found[0] == found[1]
    assert len(set(found[0])) == 25


def test_a_refilling_mempool_is_full_again_after_each_block(node: RunningChain) -> None:
    node.rpc("dev_mempool", 10, None, None, False, True)
    first = node.template()
    tip = node.rpc("generatetoaddress", 1, ADDRESS)[0]
    second = node.template()
    assert len(first["transactions"]) == len(second["transactions"]) == 10
    assert not {e["txid"] for e in first["transactions"]} & {e["txid"] for e in second["transactions"]}
    node.rpc("dev_mempool", 0, None, None, True, False)
    node.rpc("invalidateblock", tip)
