"""The development chain answers as Bitcoin Core does: authentication, errors, batches, long polls, and faults on
demand."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bitcoinrpc.authproxy import AuthServiceProxy, JSONRPCException

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


# -- who may ask
# --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !!!", "Bearer abc", "Basic " + base64.b64encode(b"__cookie__:wrong").decode(),
     "Basic " + base64.b64encode(b"nobody:").decode(), "Basic " + base64.b64encode(b"__cookie__").decode()],
)  # fmt: skip
def test_nobody_is_served_without_the_password(node: RunningChain, header: str) -> None:
    status, answer = exchange(node, {"method": "getblockcount", "id": 1}, Authorization=header)
    assert (status, answer) == (401, None)


def test_the_cookie_is_private_and_gone_after_a_stop(tmp_path: Path) -> None:
    with devchain(tmp_path) as fresh:
        assert fresh.cookie_file.stat().st_mode & 0o777 == 0o600
        assert fresh.user == "__cookie__"
        assert fresh.password not in Path(f"/proc/{fresh.pid}/cmdline").read_text()
        fresh.rpc("stop")
        assert fresh.stop() == 0
        assert not fresh.cookie_file.exists()


def test_python_bitcoinrpc_talks_to_it(node: RunningChain) -> None:
    url = node.url.replace("http://", f"http://{node.user}:{node.password}@")
    proxy = AuthServiceProxy(url, timeout=10)
    assert proxy.getblockcount() == node.rpc("getblockcount")
    assert proxy.getblocktemplate({"rules": ["segwit"]})["height"] == node.rpc("getblockcount") + 1
    with pytest.raises(JSONRPCException) as caught:
        proxy.getblockhash(10**6)
    assert caught.value.code == -8
    proxy._AuthServiceProxy__conn.close()


# -- how it answers
# -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "status", "code", "message"),
    [
        ({"method": "nosuch"}, 404, -32601, "Method not found"),
        ({"method": 7}, 400, -32600, "Method must be a string"),
        ({}, 400, -32600, "Missing method"),
        ({"method": "getblockcount", "params": "x"}, 400, -32600, "Params must be an array or object"),
        ({"method": "getblockcount", "params": [1]}, 500, -1, "too many positional arguments"),
        ({"method": "getblockhash"}, 500, -1, "missing a required argument: 'height'"),
        ({"method": "getblockhash", "params": {"hight": 1}}, 500, -1, "missing a required argument: 'height'"),
        ({"method": "getblockhash", "params": ["1"]}, 500, -3, "type string is not of expected type number"),
        ({"method": "getblockhash", "params": [True]}, 500, -3, "type bool is not of expected type number"),
        ({"method": "getblockhash", "params": [-1]}, 500, -8, "Block height out of range"),
        ({"method": "getblock", "params": ["00"]}, 500, -8, "must be of length 64"),
        ({"method": "getblock", "params": ["z" * 64]}, 500, -8, "must be hexadecimal"),
        ({"method": "getblock", "params": ["00" * 32]}, 500, -5, "Block not found"),
        ({"method": "getrawtransaction", "params": ["00" * 32]}, 500, -5, "No such mempool or blockchain transaction"),
        ({"method": "getblocktemplate"}, 500, -8, "must be called with the segwit rule set"),
        ({"method": "getblocktemplate", "params": [{"rules": []}]}, 500, -8, "must be called with the segwit rule set"),
        ({"method": "getblocktemplate", "params": [{"mode": "x"}]}, 500, -8, "Invalid mode"),
        ({"method": "getblocktemplate", "params": [{"mode": "proposal"}]}, 500, -3, "Missing data String key"),
        (
            {"method": "getblocktemplate", "params": [{"mode": "proposal", "data": "00"}]},
            500,
            -22,
            "Block decode failed",
        ),
        ({"method": "getblocktemplate", "params": [{"rules": ["segwit"], "longpollid": "x"}]}, 500, -8, "length 64"),
        ({"method": "sendrawtransaction", "params": ["00"]}, 500, -22, "TX decode failed"),
        (
            {"method": "generatetoaddress", "params": [1, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"]},
            500,
            -5,
            "mainnet",
        ),
        ({"method": "generatetoaddress", "params": [1, "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"]}, 500, -5, "mainnet"),
        ({"method": "dev_fail", "params": ["getblock", "explode"]}, 500, -8, "kind explode is none of"),
        ({"method": "dev_mempool", "params": [20_001]}, 500, -8, "count 20001 is not within 0..20000"),
        ({"method": "dev_reorg", "params": [1000]}, 500, -8, "depth 1000 is not within"),
        ({"method": "setmocktime", "params": [-1]}, 500, -8, "32 bits"),
        ({"method": "dev_slow", "params": ["x", -0.5]}, 500, -8, "-0.5 seconds are not within 0..3600"),
        ({"method": "dev_slow", "params": ["x", float("nan")]}, 500, -8, "nan seconds"),
        ({"method": "dev_slow", "params": ["x", "1"]}, 500, -3, "not of expected type number"),
        ({"method": "dev_stall", "params": ["x", 10**400]}, 500, -8, "seconds are not within"),
        ({"method": "dev_longpoll", "params": [0]}, 500, -8, "not within 0.05..3600"),
    ],
)
def test_a_wrong_call_gets_core_s_code_and_says_what_is_wrong(
    node: RunningChain, call: dict[str, Any], status: int, code: int, message: str
) -> None:
    got, answer = exchange(node, {"id": "x", **call})
    assert (got, answer["result"], answer["id"], answer["error"]["code"]) == (status, None, "x", code)
    assert message in answer["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"3", b'"text"', b"[" * 100_000, b"\xff\xfe"])
def test_what_is_not_json_is_a_parse_error(node: RunningChain, body: bytes) -> None:
    status, answer = exchange(node, body)
    assert (status, answer["error"]["code"]) == (500, -32700)
    assert node.rpc("getblockcount") == 3


def test_a_body_over_32_mib_is_refused_and_the_next_call_served(node: RunningChain) -> None:
    client = node.client()
    try:
        status, _ = client.post(b'{"method":"submitblock","params":["' + b"0" * (33 << 20) + b'"]}')
        assert status == 413
    except (ConnectionError, http.client.HTTPException):
        pass  # closed while we were still sending: refused as well
    finally:
        client.close()
    assert node.rpc("getblockcount") == 3


def test_only_post_is_served(node: RunningChain) -> None:
    connection = http.client.HTTPConnection(node.url.removeprefix("http://"), timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().status == 405
    connection.close()


def test_a_batch_is_answered_in_order_with_its_errors(node: RunningChain) -> None:
    calls = [
        {"method": "getblockcount", "id": 1},
        {"method": "nosuch", "id": "two"},
        {"method": "getblockhash", "params": {"height": 0}, "id": None},
        5,
    ]
    status, answers = exchange(node, calls)
    assert status == 200
    assert [answer["id"] for answer in answers] == [1, "two", None, None]
    assert [answer["error"] and answer["error"]["code"] for answer in answers] == [None, -32601, None, -32600]
    assert answers[0]["result"] == 3
    assert exchange(node, [])[1] == []


def test_json_rpc_2_answers_with_result_or_error_never_both_and_no_http_error(node: RunningChain) -> None:
    status, answer = exchange(node, {"jsonrpc": "2.0", "method": "getblockcount", "id": 9})
    assert (status, answer) == (200, {"jsonrpc": "2.0", "result": 3, "id": 9})
    status, answer = exchange(node, {"jsonrpc": "2.0", "method": "nosuch", "id": 9})
    assert (status, answer["error"]["code"], "result" in answer) == (200, -32601, False)
    assert exchange(node, {"jsonrpc": "2.0", "method": "getblockcount"}) == (204, None)


def test_everything_says_that_it_is_a_development_chain(node: RunningChain) -> None:
    assert "devchain" in node.rpc("getnetworkinfo")["subversion"]
    chain = node.rpc("getblockchaininfo")
    assert (chain["chain"], chain["devchain"]["mode"]) == ("regtest", "strict")
    for words in (
        chain["warnings"][0],
        node.rpc("getnetworkinfo")["warnings"][0],
        node.rpc("getmininginfo")["warnings"][0],
        node.template()["devchain"]["warning"],
        node.rpc("help"),
    ):
        assert "DEVELOPMENT CHAIN: its coins are worth nothing" in words
    genesis = node.rpc("getblock", node.rpc("getblockhash", 0), 2)
    assert "development chain" in bytes.fromhex(genesis["tx"][0]["vin"][0]["coinbase"]).decode("latin1")
    ours = node.rpc("getblock", node.rpc("getblockhash", 1))["coinbase_tx"]["coinbase"]
    assert b"MMSP-devchain" in bytes.fromhex(ours)
    assert all(method in node.rpc("help") for method in ("getblocktemplate", "dev_reorg"))


def test_headers_blocks_and_transactions_have_core_s_fields(node: RunningChain) -> None:
    node.rpc("dev_mempool", 4, 1)
    tip = node.rpc("generatetoaddress", 1, ADDRESS)[0]
    header = node.rpc("getblockheader", tip)
    assert set(header) >= {
        "hash", "confirmations", "height", "version", "versionHex", "merkleroot", "time", "mediantime", "nonce", "bits",
        "target", "difficulty", "chainwork", "nTx", "previousblockhash",
    }  # fmt: skip
    raw = node.rpc("getblock", tip, 0)
    assert node.rpc("getblockheader", tip, False) == raw[:160]
    listed = node.rpc("getblock", tip, 1)
    full = node.rpc("getblock", tip, 2)
    assert [tx["txid"] for tx in full["tx"]] == listed["tx"]
    assert [tx["hash"] for tx in full["tx"][1:]] != listed["tx"][1:]
    assert all(tx["fee"] > 0 for tx in full["tx"][1:])
    assert full["tx"][0]["vout"][0]["scriptPubKey"]["address"] == ADDRESS
    assert full["tx"][0]["vout"][1]["scriptPubKey"]["type"] == "nulldata"
    again = node.rpc("getrawtransaction", listed["tx"][1], True)
    assert (again["blockhash"], again["hex"]) == (tip, node.rpc("getrawtransaction", listed["tx"][1]))
    assert listed["size"] * 2 == len(raw)
    assert listed["weight"] == listed["strippedsize"] * 3 + listed["size"]
    node.rpc("invalidateblock", tip)


@pytest.mark.parametrize(
    ("address", "script_hex"),
    [
        (ADDRESS, "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
        ("mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn", "76a914243f1394f44554f4ce3fd68649c19adc483ce92488ac"),
        ("2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc", "a9144e9f39ca4688ff102128ea4ccda34105324305b087"),
        (
            "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6",
            "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        ),
    ],
)
def test_addresses_of_the_chain_are_known(node: RunningChain, address: str, script_hex: str) -> None:
    answer = node.rpc("validateaddress", address)
    assert (answer["isvalid"], answer["scriptPubKey"]) == (True, script_hex)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "bcrt1",
        ADDRESS[:-1] + "x",
        ADDRESS + "q",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
        "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2",
        "ñ",
    ],
)
def test_addresses_of_other_networks_and_typing_errors_are_not(node: RunningChain, address: str) -> None:
    answer = node.rpc("validateaddress", address)
    assert answer["isvalid"] is False
    assert answer["error"]


def test_the_template_says_what_bip22_bip23_and_bip145_ask(node: RunningChain) -> None:
    template = node.template()
    fields = """bits capabilities coinbaseaux coinbasevalue curtime default_witness_commitment height longpollid mintime
        mutable noncerange previousblockhash rules sigoplimit sizelimit target transactions vbavailable vbrequired
        version weightlimit"""
    assert set(template) >= set(fields.split())
    assert "!segwit" in template["rules"]
    assert template["capabilities"] == ["proposal"]
    assert abs(template["curtime"] - time.time()) < 60
    assert int(template["target"], 16) == 0x7FFFFF << 232


# -- long polls
# ---------------------------------------------------------------------------------------------------------


def long_poll(node: RunningChain, template: dict[str, Any], answer_in_s: float = 20) -> dict[str, Any]:
    client = node.client(answer_in_s)
    try:
        found: dict[str, Any] = client("getblocktemplate", {"rules": ["segwit"], "longpollid": template["longpollid"]})
        return found
    finally:
        client.close()


def test_a_long_poll_answers_at_once_when_a_block_comes_and_not_before(node: RunningChain) -> None:
    template = node.template()
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(long_poll, node, template) for _ in range(4)]
        _until(lambda: node.rpc("dev_calls")["getblocktemplate"] >= 5)
        assert not any(call.done() for call in waiting)
        raw = build(template)
        assert node.rpc("submitblock", raw.hex()) is None
        sent = time.monotonic()
        found = [call.result(10) for call in waiting]
        assert time.monotonic() - sent < 2
    assert {one["height"] for one in found} == {template["height"] + 1}
    node.rpc("invalidateblock", node.rpc("getbestblockhash"))


def test_a_long_poll_on_an_old_template_answers_at_once(node: RunningChain) -> None:
    template = node.template()
    new = node.rpc("generatetoaddress", 1, ADDRESS)[0]
    assert long_poll(node, template)["previousblockhash"] == new
    node.rpc("invalidateblock", new)


def test_a_long_poll_answers_to_new_transactions_after_its_time(node: RunningChain) -> None:
    node.rpc("dev_longpoll", 0.3)
    template = node.template()
    with ThreadPoolExecutor(1) as threads:
        started = time.monotonic()
        waiting = threads.submit(long_poll, node, template)
        node.rpc("dev_mempool", 5)
        found = waiting.result(10)
    assert time.monotonic() - started >= 0.25
    assert len(found["transactions"]) == 5


def test_a_node_that_stops_lets_go_of_its_long_polls(tmp_path: Path) -> None:
    with devchain(tmp_path) as fresh:
        template = fresh.template()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(long_poll, fresh, template)
            _until(lambda: fresh.rpc("dev_calls")["getblocktemplate"] >= 2)
            started = time.monotonic()
            assert fresh.stop() == 0
            assert time.monotonic() - started < 3
            with pytest.raises((RpcError, OSError, http.client.HTTPException)):
                waiting.result(10)


def _until(condition: Any, timeout_s: float = 10) -> None:
    pause = threading.Event()
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.01)
