"""`pool check`: what is wrong is named, with what to do about it; exit code 1 only when something failed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from native.sharelog import ShareLog
from pool.cli import main
from rig.chain_parts import transaction_rows
from rig.daemon import free_port
from rig.fakenode import FakeNode, rpc_error


@dataclass
class Checked:
    code: int
    rows: dict[str, dict[str, str]]

    def __getitem__(self, name: str) -> dict[str, str]:
        return self.rows[name]

    @property
    def failed(self) -> set[str]:
        return {name for name, row in self.rows.items() if row["verdict"] == "fail"}


@pytest.fixture
def setting(tmp_path: Path) -> dict[str, Any]:
    """A configuration of free ports, to be changed by the test."""
    return {
        "pool": {"data_dir": str(tmp_path / "data"), "network": "regtest"},
        "coinbase": {},
        "stratum": {
            "host": "127.0.0.1",
            "port": free_port(),
            "high_difficulty_port": 0,
            "nerdminer_port": 0,
            "max_connections": 100,
            "max_connections_per_address": 100,
        },
        "node": [],
    }


def write(setting: dict[str, Any], folder: Path) -> Path:
    lines = []
    for name, section in setting.items():
        for values in section if isinstance(section, list) else [section]:
            lines.append(f"[[{name}]]" if isinstance(section, list) else f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    path = folder / "pool.toml"
    path.write_text("\n".join(lines))
    return path


def checked(setting: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]) -> Checked:
    """As an operator calls it."""
    capsys.readouterr()  # what was said before is not ours
    code = main(["check", "--config", str(write(setting, folder)), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] == (code == 0)
    return Checked(code, {row["name"]: row for row in told["checks"]})


@contextlib.contextmanager
def running(fake: FakeNode) -> Iterator[FakeNode]:
    """A fake node with a loop of its own: the command brings its own too."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(fake.start(), loop).result(10)
        try:
            yield fake
        finally:
            asyncio.run_coroutine_threadsafe(fake.stop(), loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def node_of(fake: FakeNode, **more: object) -> dict[str, object]:
    return {"url": fake.url, "user": "rig", "password": "rig-password", **more}


def test_a_machine_that_is_ready_passes_everything(
    setting: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(FakeNode(chain="main", peer_heights=[0, 0, 0])) as fake:
        setting["pool"]["network"] = "mainnet"
        setting["coinbase"]["payout_address"] = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
        fake.template = {"curtime": int(time.time())}
        setting["node"] = [node_of(fake)]
        answer = checked(setting, tmp_path, capsys)
    assert answer.code == 0
    assert {row["verdict"] for row in answer.rows.values()} == {"pass"}
    assert set(answer.rows) == {
        *("configuration", "fee", "node", "node sync", "node template", "node weight reserve", "node clock"),
        *("stratum port", "share log", "disk", "open files"),
    }
    assert "3 peers" in answer["node sync"]["words"]


def test_defaults_need_no_node(setting: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setting["pool"]["network"] = "dev"
    answer = checked(setting, tmp_path, capsys)
    assert answer.code == 0
    assert "development chain" in answer["node"]["words"]


def test_every_mistake_of_the_configuration_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pool.toml"
    path.write_text("[stratum]\nprot = 1\nport = 99999\n")
    assert main(["check", "--config", str(path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)["checks"]
    assert [row["verdict"] for row in told] == ["fail", "fail"]
    assert "prot" in told[0]["words"] + told[1]["words"]
    assert "99999" in told[0]["words"] + told[1]["words"]


def test_the_table_shows_a_hint_under_what_did_not_pass(
    setting: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting["node"] = [{"url": f"http://127.0.0.1:{free_port()}", "user": "u", "password": "hush-hush"}]
    assert main(["check", "--config", str(write(setting, tmp_path))]) == 1
    lines = capsys.readouterr().out.splitlines()
    [at] = [i for i, line in enumerate(lines) if line.startswith("FAIL  node ")]
    assert "ConnectionRefusedError" in lines[at]
    assert lines[at + 1].strip().startswith("-> is it running")
    assert lines[-1].endswith("1 failed")
    assert "hush-hush" not in "\n".join(lines)


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "wrong password": ({"login": "other:login"}, "node", "401"),
    "another chain": ({"chain": "test"}, "node chain", "test"),
    "downloading": ({"ibd": True, "headers_ahead": 5}, "node sync", "initial block download: 0 of 5"),
    "behind": ({"headers_ahead": 5}, "node sync", "newer headers"),
    "alone": ({"peer_heights": []}, "node sync", "no peers"),
    "unknown rule": ({"template": {"rules": ["!quantum"]}}, "node template", "!quantum"),
    "clock": ({"template": {"curtime": 1_750_000_000}}, "node clock", "ahead of the node's"),
    "too heavy": ({"template": {"weightlimit": 1000}}, "node weight reserve", "our coinbase needs"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_trouble_of_a_node_fails_its_own_row(
    name: str, setting: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, row, words = FAULTS[name]
    fake = FakeNode(**{"chain": "main", **changes})
    fake.template = {"curtime": int(time.time()), **fake.template}
    with running(fake):
        setting["pool"]["network"] = "mainnet"
        setting["coinbase"]["payout_address"] = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
        setting["node"] = [node_of(fake)]
        answer = checked(setting, tmp_path, capsys)
    assert answer.code == 1
    assert answer.failed == {row}
    assert words in answer[row]["words"]
    assert answer[row]["hint"]


def test_a_node_that_is_starting_is_no_mystery(
    setting: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(FakeNode()) as fake:
        fake.always["*"] = rpc_error(-28, "Verifying blocks...")
        setting["node"] = [node_of(fake)]
        answer = checked(setting, tmp_path, capsys)
    assert "is starting: Verifying blocks" in answer["node"]["words"]


def test_of_two_nodes_each_has_its_rows(
    setting: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(FakeNode()) as fake:
        setting["node"] = [node_of(fake), {**node_of(fake), "url": f"http://127.0.0.1:{free_port()}"}]
        answer = checked(setting, tmp_path, capsys)
    assert answer["node 1"]["verdict"] == "pass"
    assert answer["node 2"]["verdict"] == "fail"


def test_zmq_that_nobody_publishes_is_a_warning(
    setting: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        running(FakeNode(template={"curtime": int(time.time())})) as fake,
        socket.create_server(("127.0.0.1", 0)) as publisher,
    ):
        setting["node"] = [node_of(fake, zmq_hashblock=f"tcp://127.0.0.1:{publisher.getsockname()[1]}")]
        assert checked(setting, tmp_path, capsys)["node ZMQ"]["verdict"] == "pass"
        setting["node"] = [node_of(fake, zmq_hashblock=f"tcp://127.0.0.1:{free_port()}")]
        answer = checked(setting, tmp_path, capsys)
    assert answer["node ZMQ"]["verdict"] == "warn"
    assert "zmqpubhashblock" in answer["node ZMQ"]["hint"]
    assert answer.code == 0


def test_a_coinbase_beyond_what_core_reserves_is_a_warning_before_the_first_full_block(
    setting: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: Any
) -> None:
    setting["coinbase"] = {"mode": "direct", "direct_max_bytes": 2000}
    rows = transaction_rows(rng, 3, witness=False)
    with running(FakeNode(template={"transactions": rows})) as fake:
        setting["node"] = [node_of(fake)]
        answer = checked(setting, tmp_path, capsys)
        assert answer["node weight reserve"]["verdict"] == "warn"
        assert "blockreservedweight=10000" in answer["node weight reserve"]["hint"]
        rows[0]["weight"] = 4_000_000 - 30_000  # a full template that leaves enough: it has been seen
        assert checked(setting, tmp_path, capsys)["node weight reserve"]["verdict"] == "pass"
        rows[0]["weight"] = 4_000_000 - 9_000
        assert checked(setting, tmp_path, capsys)["node weight reserve"]["verdict"] == "fail"


def test_a_port_in_use_fails_unless_it_is_the_pool_itself(
    setting: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting["pool"]["network"] = "dev"
    with socket.create_server(("127.0.0.1", setting["stratum"]["port"])):
        answer = checked(setting, tmp_path, capsys)
        assert answer["stratum port"]["verdict"] == "fail"
        assert "another program" in answer["stratum port"]["hint"]
        directory = tmp_path / "data" / "sharelog"
        directory.mkdir(parents=True)
        with ShareLog(str(directory), segment_bytes=1 << 20):
            answer = checked(setting, tmp_path, capsys)
            assert answer["stratum port"]["verdict"] == "warn"
            assert answer.code == 0
        assert checked(setting, tmp_path, capsys)["stratum port"]["verdict"] == "fail"


def test_an_address_that_is_not_ours_cannot_be_bound(
    setting: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting["pool"]["network"] = "dev"
    setting["stratum"]["host"] = "192.0.2.1"  # TEST-NET-1 (RFC 5737)
    assert "no address of this machine" in checked(setting, tmp_path, capsys)["stratum port"]["hint"]


def test_a_share_log_that_cannot_be_written_fails(
    setting: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting["pool"]["network"] = "dev"
    (tmp_path / "data").write_text("a file, not a folder")
    answer = checked(setting, tmp_path, capsys)
    assert answer.failed == {"share log"}
    assert "sharelog" in answer["share log"]["hint"]


def test_a_full_disk_fails_before_the_share_log_does(
    setting: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    setting["pool"]["network"] = "dev"
    free = [0]
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free[0]}))
    for free[0], verdict in ((300 << 20, "fail"), (2 << 30, "warn"), (50 << 30, "pass")):
        assert checked(setting, tmp_path, capsys)["disk"]["verdict"] == verdict


def test_too_few_open_files_are_told_with_the_number_that_is_needed(
    setting: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setting["pool"]["network"] = "dev"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    setting["stratum"]["max_connections"] = min(hard, 1_000_000)
    answer = checked(setting, tmp_path, capsys)
    if hard > 1_000_128:
        assert answer["open files"]["verdict"] == "pass"
    else:
        assert answer["open files"]["verdict"] == "warn"
        assert str(hard + 128) in answer["open files"]["hint"]


def test_nothing_is_left_behind(setting: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setting["pool"]["network"] = "dev"
    checked(setting, tmp_path, capsys)
    assert os.listdir(tmp_path) == ["pool.toml"]
