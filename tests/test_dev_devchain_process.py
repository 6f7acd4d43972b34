"""The development chain as a child process: quick to start, private, refused beside real money, and gone with its
parent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from pool.dev.devchain import DevChain, RpcError, process
from pool.dev.devchain.__main__ import main
from pool.dev.devchain.guard import Refused, check_datadir, check_ports, check_settings
from rig.devchain import ADDRESS, ROOT, RunningChain, devchain


def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    pause = threading.Event()
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        pause.wait(0.01)


def alive(pid: int) -> bool:
    """True while the process runs; a zombie does not."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_the_context_manager_gives_a_running_chain_and_takes_it_down(tmp_path: Path) -> None:
    async def story() -> tuple[int, object]:
        async with DevChain("strict", tmp_path / "chain") as chain:
            assert chain.user == "__cookie__"
            assert chain.cookie_file.read_text() == f"{chain.user}:{chain.password}"
            assert chain.zmq.startswith("tcp://127.0.0.1:")
            assert await chain.call("generatetoaddress", 2, ADDRESS)
            with pytest.raises(RpcError, match="out of range") as caught:
                await chain.call("getblockhash", 3)
            assert caught.value.code == -8
            return chain.pid, await chain.call("getblockcount")

    pid, height = asyncio.run(story())
    assert height == 2
    assert not alive(pid)


def test_a_chain_without_a_folder_leaves_none_behind() -> None:
    async def story() -> Path:
        async with DevChain("demo", mempool=3) as chain:
            template = await chain.call("getblocktemplate", {"rules": ["segwit"]})
            assert isinstance(template, dict)
            assert len(template["transactions"]) == 3
            return chain.datadir

    assert not asyncio.run(story()).exists()


def test_a_chain_killed_and_started_again_keeps_its_blocks(tmp_path: Path) -> None:
    async def story() -> None:
        async with DevChain("strict", tmp_path) as chain:
            hashes = await chain.call("generatetoaddress", 3, ADDRESS)
            await chain.kill()
            await chain.start()
            assert isinstance(hashes, list)
            assert await chain.call("getbestblockhash") == hashes[-1]

    asyncio.run(story())


def test_who_waits_for_the_chain_hears_of_its_end(tmp_path: Path) -> None:
    async def story() -> None:
        async with DevChain("strict", tmp_path) as chain:
            waiting = asyncio.create_task(chain.wait())
            assert await chain.call("getblockcount") == 0
            assert not waiting.done()
            os.kill(chain.pid, signal.SIGKILL)
            assert await asyncio.wait_for(waiting, 10) == -signal.SIGKILL

    asyncio.run(story())


async def kill_and_wait(chain: DevChain) -> None:
    """kill -9 from outside, until another child answers."""
    before, password = chain.pid, chain.password
    os.kill(before, signal.SIGKILL)
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(OSError, RuntimeError, aiohttp.ClientError):
                if chain.pid != before and chain.password != password:
                    await chain.call("getblockcount")
                    return
            await asyncio.sleep(0.02)  # its port opens: knocking is the only way to see it


async def test_a_kept_chain_that_is_killed_comes_back_on_its_ports_with_its_blocks(tmp_path: Path) -> None:
    async with DevChain("strict", tmp_path) as chain:
        keeping = asyncio.create_task(chain.keep())
        hashes = await chain.call("generatetoaddress", 3, ADDRESS)
        url, zmq = chain.url, chain.zmq
        await kill_and_wait(chain)
        assert (chain.url, chain.zmq) == (url, zmq)
        assert isinstance(hashes, list)
        assert await chain.call("getbestblockhash") == hashes[-1]
        keeping.cancel()
        await asyncio.wait({keeping}, timeout=10)
        assert keeping.cancelled()


async def test_a_kept_chain_that_ends_just_after_each_start_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "SHORT_LIFE_S", 1000.0)
    async with DevChain("strict", tmp_path) as chain:
        keeping = asyncio.create_task(chain.keep())
        await kill_and_wait(chain)
        await kill_and_wait(chain)
        os.kill(chain.pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="3 times just after its start"):
            await asyncio.wait_for(keeping, 20)


async def test_a_kept_chain_that_is_stopped_on_purpose_stays_so(tmp_path: Path) -> None:
    async with DevChain("strict", tmp_path) as chain:
        keeping = asyncio.create_task(chain.keep())
        await chain.call("getblockcount")
        await chain.stop()
        done, _ = await asyncio.wait({keeping}, timeout=0.3)
        assert not done
        with pytest.raises(RuntimeError, match="not running"):
            assert chain.pid
        keeping.cancel()
        await asyncio.wait({keeping}, timeout=10)
        assert keeping.cancelled()


def test_ctrl_c_on_the_terminal_is_not_for_the_chain(tmp_path: Path) -> None:
    async def story() -> None:
        async with DevChain("strict", tmp_path) as chain:
            assert os.getpgid(chain.pid) != os.getpgid(0)

    asyncio.run(story())


def test_it_starts_within_a_second(tmp_path: Path) -> None:
    """Counted in processor time, as other processes share this machine; both are printed."""
    spent_s = []
    for number in range(3):
        before, started = os.times(), time.monotonic()
        chain = RunningChain(tmp_path / str(number))
        chain.start()
        waited_s = time.monotonic() - started
        chain.stop()
        after = os.times()
        spent_s.append(after.children_user + after.children_system - before.children_user - before.children_system)
        print(f"start: {waited_s:.3f} s, of which {spent_s[-1]:.3f} s of processor, the stop included")
    assert min(spent_s) < 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_parent_however_that_ends(tmp_path: Path, number: signal.Signals) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from pool.dev.devchain import DevChain

async def story():
    async with DevChain("strict", Path(sys.argv[1])) as chain:
        print(chain.pid, flush=True)
        await asyncio.sleep(3600)

asyncio.run(story())
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    with parent.stdout:
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(number)
        parent.wait(10)
    until(lambda: not alive(pid))
    with devchain(tmp_path) as again:  # its folder is free
        assert again.rpc("getblockcount") == 0


def test_a_port_in_use_is_said_and_nothing_is_left_running(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        async def story() -> None:
            with pytest.raises(RuntimeError, match=r"cannot start.*address already in use"):
                await DevChain("strict", tmp_path, rpcport=port).start()
            with pytest.raises(RuntimeError, match=r"cannot start.*ZMQ port.*Address already in use"):
                await DevChain("strict", tmp_path, zmqport=port).start()

        asyncio.run(story())


def test_a_parent_that_cannot_be_watched_is_said_and_not_ignored(tmp_path: Path) -> None:
    """Standard input must be a pipe: a plain file says nothing about the parent."""
    command = [sys.executable, "-m", "pool.dev.devchain", "--mode", "strict", "--datadir", str(tmp_path / "chain")]
    (tmp_path / "input").write_text("x")
    with (tmp_path / "input").open("rb") as plain:
        ended = subprocess.run(
            [*command, "--with-parent"],
            stdin=plain,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ended.returncode == 2
    assert "cannot start" in ended.stderr


def test_a_chain_that_stops_by_rpc_ends_with_code_zero(tmp_path: Path) -> None:
    chain = RunningChain(tmp_path)
    chain.start()
    pid = chain.pid
    assert "stopping" in chain.rpc("stop")
    until(lambda: not alive(pid))
    assert chain.stop() == 0


def test_a_user_and_password_work_beside_the_cookie(tmp_path: Path) -> None:
    from rig.devchain import Rpc

    command = [
        sys.executable,
        "-m",
        "pool.dev.devchain",
        "--mode",
        "strict",
        "--datadir",
        str(tmp_path),
        "--rpcuser",
        "pool",
    ]
    command += ["--ready-file", str(tmp_path / "ready"), "--with-parent"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    without = subprocess.run(
        command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert without.returncode == 2
    assert "MMSP_DEVCHAIN_PASSWORD" in without.stderr
    process = subprocess.Popen(
        command,
        env={**environment, "MMSP_DEVCHAIN_PASSWORD": "sésamo"},
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        until((tmp_path / "ready").exists)
        import json

        url = json.loads((tmp_path / "ready").read_text())["url"]
        rpc = Rpc(url, "pool", "sésamo")
        assert rpc("getblockcount") == 0
        rpc.close()
    finally:
        process.terminate()
        process.wait(10)
        assert process.stdin is not None
        process.stdin.close()


# -- refused beside real money
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mainnet", "main", "testnet4", "signet", ""])
def test_it_is_refused_beside_settings_of_another_network(tmp_path: Path, network: str) -> None:
    async def story() -> None:
        with pytest.raises(RuntimeError, match=f"refuses to start: the settings are for network '{network}'"):
            await DevChain("demo", tmp_path, network=network).start()

    asyncio.run(story())


@pytest.mark.parametrize(
    "address",
    ["bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
     "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy"],
)  # fmt: skip
def test_it_is_refused_beside_a_mainnet_address(address: str) -> None:
    check_settings("dev", [ADDRESS])
    with pytest.raises(Refused, match="is a mainnet address"):
        check_settings("dev", [ADDRESS, address])


@pytest.mark.parametrize("port", [8332, 8333])
def test_it_never_stands_on_a_port_of_a_mainnet_node(port: int) -> None:
    check_ports(0, 18443)
    with pytest.raises(Refused, match=f"port {port} is Bitcoin Core's on mainnet"):
        check_ports(0, port)


@pytest.mark.parametrize("name", ["chainstate", "bitcoin.conf", "wallets", "wallet.dat", "bitcoind.pid"])
def test_it_never_touches_the_folder_of_a_real_node(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).mkdir()
    assert main(["--mode", "demo", "--datadir", str(tmp_path)]) == 2
    assert f"holds {name}: it belongs to a real node" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_file_that_is_no_chain_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "chain.sqlite").write_bytes(b"not a database at all, but long enough to be taken for one" * 20)
    with pytest.raises(Refused, match="is not a development chain's file"):
        check_datadir(tmp_path, "demo")


@pytest.mark.parametrize("spacing", ["0", "-1", "nan", "1e9"])
def test_a_spacing_that_makes_no_sense_is_refused(
    tmp_path: Path, spacing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--mode", "demo", "--datadir", str(tmp_path / "x"), "--spacing", spacing]) == 2
    assert "is not within 0.1..3600" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_broken_chain_file_ends_the_process_instead_of_going_on(tmp_path: Path) -> None:
    """What is in memory and what is on disk must not part company."""
    import sqlite3

    chain = RunningChain(tmp_path)
    chain.start()
    chain.rpc("generatetoaddress", 1, ADDRESS)
    pid = chain.pid
    with contextlib.closing(sqlite3.connect(tmp_path / "chain.sqlite")) as other:
        other.execute("DROP TABLE coins")
    with pytest.raises(RpcError, match="cannot be used") as caught:
        chain.rpc("generatetoaddress", 1, ADDRESS)
    assert caught.value.code == -20
    until(lambda: not alive(pid))
    assert chain.stop() == 2
