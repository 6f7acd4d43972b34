"""`pool run` and `pool serve` as an operator has them: real processes, blocks, restarts, ports that change hands."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from rig.devchain import RunningChain
from rig.miner import Miner
from rig.pool_process import PoolProcess
from rig.stratum import ADDRESS

PORTS = {
    "POOL__STRATUM__HOST": "127.0.0.1",
    "POOL__STRATUM__PORT": "0",
    "POOL__STRATUM__HIGH_DIFFICULTY_PORT": "0",
    "POOL__STRATUM__NERDMINER_PORT": "0",
}
EASY = {"POOL__VARDIFF__START_DIFFICULTY": "0.00002"}


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[RunningChain]:
    chain = RunningChain(tmp_path / "chain")
    chain.start()
    yield chain
    chain.stop()


def node_config(tmp_path: Path, chain: RunningChain) -> None:
    (tmp_path / "pool.toml").write_text(
        f'[[node]]\nurl = "{chain.url}"\ncookie_file = "{chain.cookie_file}"\nzmq_hashblock = "{chain.zmq}"\n'
    )


async def test_run_finds_blocks_shows_figures_and_ends_cleanly_at_ctrl_c(tmp_path: Path) -> None:
    async with PoolProcess(tmp_path, "run", "--every", "0.5", **PORTS) as pool:
        port = await pool.port()
        await pool.until(lambda: any(now["blocks_found"] >= 2 for now in pool.figures()), "two blocks")
        now = pool.figures()[-1]
        assert now["work"] == "ok"
        assert now["miners"] == now["connections"] == 6
        assert now["height"] >= 3
        async with await Miner.connect(port) as own:
            user = re.search(r"Usuario / User: (bcrt1\S+)", "".join(pool.lines))
            assert user is not None, "a user name that this chain takes is shown"
            await own.enter(user[1])
            assert (await own.submit(own.share()))["result"] is True, "a real device works beside the simulated ones"
        assert await pool.end(signal.SIGINT) == 0
        text = "".join(pool.lines)
        assert "sus monedas no valen nada" in text
        assert "its coins are worth nothing" in text
        assert "Effective fee" in pool.words()
        assert "Traceback" not in pool.words().replace("aiohttp", "")
    async with PoolProcess(tmp_path, "run", "--every", "0.5", **PORTS) as pool:
        await pool.until(lambda: pool.figures(), "figures")
        assert pool.figures()[-1]["blocks_found"] >= 2, "the second run goes on where the first ended"
        assert await pool.end() == 0


async def test_run_goes_on_when_its_development_chain_is_killed(tmp_path: Path) -> None:
    often = {"POOL__DEV__BLOCK_INTERVAL_S": "2"}
    async with PoolProcess(tmp_path, "run", "--every", "0.5", **PORTS, **often) as pool:
        await pool.until(lambda: any(now["blocks_found"] >= 1 for now in pool.figures()), "a block")
        ready = tmp_path / "data" / "devchain" / "ready.json"
        goal = pool.figures()[-1]["height"] + 2
        os.kill(json.loads(ready.read_text())["pid"], signal.SIGKILL)
        await pool.until(lambda: any(now["height"] >= goal for now in pool.figures()), "blocks once it is back")
        assert pool.figures()[-1]["work"] == "ok"
        assert "the development chain ended" in pool.words()
        assert await pool.end() == 0


async def test_a_second_run_on_the_same_folder_says_so_in_words(tmp_path: Path) -> None:
    async with PoolProcess(tmp_path, "run", **PORTS) as first:
        await first.port()
        async with PoolProcess(tmp_path, "run", **PORTS) as second:
            async with asyncio.timeout(30):
                assert await second.process.wait() == 1
            assert "in use by another development chain" in second.words()
            assert "Traceback" not in second.words()
        assert await first.end() == 0


async def test_run_refuses_a_real_network(tmp_path: Path) -> None:
    environment = {
        "POOL__POOL__NETWORK": "signet",
        "POOL__COINBASE__PAYOUT_ADDRESS": "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
    }
    (tmp_path / "pool.toml").write_text("[[node]]\n")
    async with PoolProcess(tmp_path, "run", **environment) as pool:
        async with asyncio.timeout(30):
            assert await pool.process.wait() == 2
        assert "pool serve" in pool.words()


async def test_blocks_found_through_stratum_are_accepted_by_the_node(tmp_path: Path, chain: RunningChain) -> None:
    node_config(tmp_path, chain)
    async with PoolProcess(tmp_path, "serve", **PORTS, **EASY) as pool, await Miner.connect(await pool.port()) as miner:
        await miner.enter(ADDRESS + ".finder")
        for height in range(1, 6):
            job = miner.jobs[-1]
            # Every share is a block on this chain; every other one here is a block that is too weak for a share.
            weak = height % 2 == 0
            share = miner.share(difficulty=2.0**-20, below=job.assigned) if weak else miner.share()
            assert ((await miner.submit(share))["result"] is True) == (not weak)
            await miner.until(lambda job=job: miner.jobs[-1].prevhash != job.prevhash, 20, f"work on block {height}")
            assert miner.jobs[-1].clean
            assert chain.rpc("getblockcount") == height
        assert chain.rpc("getbestblockhash") == miner.jobs[-1].prevhash[::-1].hex()
        assert await pool.end() == 0
        await miner.hung_up()


async def test_a_pool_waits_for_its_node_and_comes_up_by_itself(tmp_path: Path, chain: RunningChain) -> None:
    node_config(tmp_path, chain)
    chain.stop()
    async with PoolProcess(tmp_path, "serve", **PORTS, **EASY) as pool:
        port = await pool.port()
        chain.start()
        miner = None
        async with asyncio.timeout(60):
            while miner is None:
                with contextlib.suppress(OSError):
                    miner = await Miner.connect(port)
                await asyncio.sleep(0.05)  # the port opens when there is work: knocking is the only way to see it
        async with miner:
            await miner.enter(ADDRESS)
        assert await pool.end() == 0


async def test_a_new_process_takes_over_under_load_and_no_connection_is_refused(
    tmp_path: Path, chain: RunningChain
) -> None:
    """Old and new binaries: clients knock all the time, one device mines on with its session over the change."""
    node_config(tmp_path, chain)
    refused: list[str] = []
    served = 0
    stop, counted = asyncio.Event(), asyncio.Event()

    async def knock(port: int) -> None:
        nonlocal served
        while not stop.is_set():
            try:
                miner = await Miner.connect(port)
            except (OSError, TimeoutError) as error:
                refused.append(repr(error))
                continue
            asked = asyncio.ensure_future(miner.subscribe())
            gone = asyncio.ensure_future(miner.hung_up(30))
            await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED, timeout=30)
            served += asked.done() and asked.exception() is None
            counted.set()
            for task in (asked, gone):
                task.cancel()
            await asyncio.gather(asked, gone, return_exceptions=True)
            await miner.close()

    async with PoolProcess(tmp_path, "serve", **PORTS, **EASY) as old:
        port = await old.port()
        device = await Miner.connect(port)
        await device.enter(ADDRESS + ".rack", agent="cgminer/4.13.6")
        assert (await device.submit(device.share()))["result"] is True
        old.process.send_signal(signal.SIGHUP)  # reads certificates again, and nothing else
        async with PoolProcess(tmp_path, "serve", **PORTS) as second:
            async with asyncio.timeout(30):
                assert await second.process.wait() == 1, "without --take-over a second pool is refused"
            assert "--take-over" in second.words()
        knocking = [asyncio.create_task(knock(port)) for _ in range(3)]
        async with PoolProcess(tmp_path, "serve", "--take-over", **PORTS, **EASY) as new:
            async with asyncio.timeout(60):
                assert await old.process.wait() == 0, "the old one ends in order"
            assert await new.port() == port
            before = served
            async with asyncio.timeout(30):
                while served < before + 5:
                    await counted.wait()
                    counted.clear()
            stop.set()
            await asyncio.gather(*knocking)
            assert any(m.get("method") == "client.reconnect" for m in device.messages)
            async with await Miner.connect(port) as back:
                await back.subscribe("cgminer/4.13.6", device.session_id)
                assert back.session_id == device.session_id
                assert back.extranonce1 == device.extranonce1
                await back.authorize(ADDRESS + ".rack")
                await back.job()
                assert (await back.submit(back.share()))["result"] is True
            assert await new.end() == 0
        await device.close()
    assert refused == []
