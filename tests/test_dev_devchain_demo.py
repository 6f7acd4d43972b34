"""The demo network's difficulty: a block in about 20 s for any hashrate of a home, and never stuck."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.dev.devchain import retarget
from pool.dev.devchain.chain import Chain
from pool.dev.devchain.index import Node
from pool.dev.devchain.mempool import Mempool
from pool.dev.devchain.node import DevNode
from pool.dev.devchain.process import RpcError
from pool.dev.devchain.publish import Publisher
from pool.dev.devchain.rules import DEMO, nbits_of_target, target_of_nbits, work_of_target
from pool.dev.devchain.store import Store
from pool.dev.devchain.template import Templates
from pool.dev.devchain.wire import TxIn, TxOut, pack_tx, parse_header
from rig.devchain import ADDRESS, Draft, RunningChain, build, devchain

MEGA, TERA = 1e6, 1e12
NO_HEADER = parse_header(bytes(80))


class Simulation:
    """Miners of one hashrate against the rule itself, on a clock of its own.

    A block is found when the expected number of blocks since the last one, summed over the difficulty steps, passes an
    exponential draw. `delay_s` is what passes between a block (or a step) and the miners working on the new job.
    """

    def __init__(self, seed: int, delay_s: float = 0.1, step_delay_s: float = 0.1) -> None:
        self._random = random.Random(seed)
        self._delay_s, self._step_delay_s = delay_s, step_delay_s
        self.tip = Node(b"", None, NO_HEADER, 0, 0, 0, 1, 0, 0)
        self.gaps_s: list[float] = []
        self.expected_s: list[float] = []  # what the block's difficulty was worth at the hashrate

    def mine(self, hashrate_hs: float, blocks: int) -> None:
        """Find so many blocks at that hashrate."""
        for _ in range(blocks):
            self._one(hashrate_hs)

    def _one(self, hashrate_hs: float) -> None:
        base = retarget.base_target(DEMO, self.tip)
        draw = self._random.expovariate(1.0)
        now_s = self._delay_s
        for step in itertools.count():
            nbits = retarget.step_nbits(DEMO, base, step)
            per_s = hashrate_hs / work_of_target(target_of_nbits(nbits))
            until_s = retarget.opens_ms(DEMO, step + 1) / 1000 + self._step_delay_s
            if nbits == DEMO.limit_nbits or per_s * (until_s - now_s) >= draw:
                now_s += draw / per_s
                break
            draw -= per_s * (until_s - now_s)
            now_s = until_s
        received_ms = self.tip.received_ms + int(now_s * 1000)
        assert nbits in retarget.open_nbits(DEMO, self.tip, received_ms)
        pace = retarget.pace(DEMO, self.tip, nbits, received_ms)
        self.tip = Node(b"", self.tip, NO_HEADER, self.tip.height + 1, 0, 0, 1, received_ms, pace)
        self.gaps_s.append(now_s)
        self.expected_s.append(1 / per_s)

    def settled_after(self, since: int = 0) -> int:
        """Blocks until the difficulty is within a factor of 6 of 20 s."""
        return next(i for i, expected in enumerate(self.expected_s[since:]) if 20 / 6 < expected < 20 * 6)


@pytest.mark.parametrize("hashrate_hs", [1e5, MEGA, 1e8, 1e10, TERA, 10 * TERA, 1e14])
def test_blocks_come_every_20_seconds_at_any_hashrate(hashrate_hs: float) -> None:
    gaps: list[float] = []
    for seed in range(6):
        run = Simulation(seed)
        run.mine(hashrate_hs, 230)
        assert run.settled_after() <= 9
        gaps += run.gaps_s[30:]
    # 1,200 exponential gaps: the mean is known to 3 %
    assert statistics.mean(gaps) == pytest.approx(20, rel=0.12)
    assert max(gaps) < 180
    assert sum(gap < 1 for gap in gaps) / len(gaps) < 0.1


@pytest.mark.parametrize("seed", range(12))
def test_a_big_miner_is_caught_up_with_in_a_few_blocks(seed: int) -> None:
    run = Simulation(seed)
    run.mine(MEGA, 40)
    run.mine(10 * TERA, 40)
    assert run.settled_after(40) <= 8
    assert sum(gap < 1 for gap in run.gaps_s[40:55]) <= 9  # seven decades, and no flood


@pytest.mark.parametrize("seed", range(12))
def test_the_chain_is_not_stuck_when_the_big_miner_leaves(seed: int) -> None:
    run = Simulation(seed)
    run.mine(10 * TERA, 40)
    run.mine(MEGA, 40)
    assert run.gaps_s[40] < 300
    assert run.settled_after(40) <= 4
    assert max(run.gaps_s[42:]) < 240


@pytest.mark.parametrize("seed", range(4))
def test_a_pool_that_looks_for_work_only_every_30_seconds_gets_along_too(seed: int) -> None:
    run = Simulation(seed, delay_s=0.5, step_delay_s=30)
    run.mine(5 * MEGA, 60)
    run.mine(1.2 * TERA, 100)
    run.mine(5 * MEGA, 100)
    assert statistics.mean(run.gaps_s[70:160]) == pytest.approx(20, rel=0.4)
    assert statistics.mean(run.gaps_s[170:]) == pytest.approx(20, rel=0.5)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.floats(6, 13), st.integers(1, 25)), min_size=1, max_size=6),
)
def test_whoever_comes_and_goes_the_next_block_is_minutes_away(seed: int, shifts: list[tuple[float, int]]) -> None:
    run = Simulation(seed)
    for exponent, blocks in shifts:
        run.mine(10**exponent, blocks)
    assert max(run.gaps_s) < 420


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(200))
def test_any_jump_between_any_two_hashrates_settles(seed: int) -> None:
    rng = random.Random(seed)
    run = Simulation(seed)
    since = 0
    for _ in range(20):
        run.mine(10 ** rng.uniform(6, 13), 30)
        assert run.settled_after(since) <= 14
        since += 30
    assert max(run.gaps_s) < 500


paces = st.lists(st.integers(1, 1 << 40), min_size=1, max_size=20)


def tip_of(values: Sequence[int], received_ms: int = 0) -> Node:
    node = Node(b"", None, NO_HEADER, 0, 0, 0, 1, 0, 0)
    for height, pace in enumerate(values, 1):
        node = Node(b"", node, NO_HEADER, height, 0, 0, 1, received_ms, pace)
    return node


@given(paces, st.integers(0, 2_000_000))
def test_waiting_only_ever_opens_easier_steps_and_the_next_one_when_it_said(values: list[int], waited_ms: int) -> None:
    tip = tip_of(values)
    now = retarget.open_nbits(DEMO, tip, waited_ms)
    targets = [target_of_nbits(nbits) for nbits in now]
    assert targets == sorted(set(targets))
    assert targets[-1] <= DEMO.limit_target
    left_ms = retarget.next_step_ms(DEMO, tip, waited_ms)
    if left_ms is None:
        assert now[-1] == DEMO.limit_nbits
        assert retarget.open_nbits(DEMO, tip, 10**9) == now
    else:
        assert left_ms > 0
        assert retarget.open_nbits(DEMO, tip, waited_ms + left_ms - 1) == now
        assert len(retarget.open_nbits(DEMO, tip, waited_ms + left_ms)) == len(now) + 1


@given(paces)
def test_the_estimate_uses_the_newest_blocks_and_at_least_one(values: list[int]) -> None:
    window = retarget.steady(values)
    assert 1 <= len(window) <= len(values)
    assert list(window) == values[: len(window)]
    work = work_of_target(retarget.base_target(DEMO, tip_of(values[::-1][-retarget.WINDOW :])))
    assert work >= work_of_target(DEMO.limit_target)


def test_equal_paces_are_all_used_and_a_hundredfold_change_is_seen_at_once() -> None:
    assert len(retarget.steady([1000] * 16)) == 16
    assert len(retarget.steady([10] + [1000] * 15)) == 1
    assert len(retarget.steady([100_000] + [1000] * 15)) == 1


def test_the_pace_counts_each_step_for_as_long_as_it_stood_open() -> None:
    tip = tip_of([1 << 20])  # far above the limit: 2^30 ms per 2^50 hashes
    base = retarget.base_target(DEMO, tip)
    works = [work_of_target(target_of_nbits(retarget.step_nbits(DEMO, base, step))) for step in range(3)]
    nbits = retarget.step_nbits(DEMO, base, 2)
    # 45 s at the base, 10 s at the first step, 3 s at the second
    expected = sum((ms << retarget.PACE_BITS) // work for ms, work in zip((45_000, 10_000, 3_000), works, strict=True))
    assert retarget.pace(DEMO, tip, nbits, 58_000) == expected
    # a block of an earlier, harder job that comes as late: all the time counts at its own difficulty
    harder = retarget.step_nbits(DEMO, base, 0)
    assert retarget.pace(DEMO, tip, harder, 58_000) == (58_000 << retarget.PACE_BITS) // works[0]


# -- the real process
# ---------------------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningChain]:
    with devchain(tmp_path / "demo", "demo", spacing_s=1) as running:
        yield running


@pytest.fixture
def easy(tmp_path: Path) -> Iterator[RunningChain]:
    """So fast a demo that plain Python cannot drive its difficulty up."""
    with devchain(tmp_path / "demo", "demo", spacing_s=0.1) as running:
        yield running


def dig(node: RunningChain) -> int:
    """Mine one block as a pool does, with new work every moment; its nBits."""
    deadline = time.monotonic() + 60
    for number in itertools.count():
        template = node.template()
        with contextlib.suppress(RuntimeError):
            raw = Draft(template, extra=number.to_bytes(4, "little")).solve(tries=50_000)
            assert node.rpc("submitblock", raw.hex()) is None
            return int(template["bits"], 16)
        assert time.monotonic() < deadline, "no block in a minute"
    raise AssertionError


def test_a_demo_chain_climbs_from_the_easiest_block_as_fast_as_it_is_mined(node: RunningChain) -> None:
    info = node.rpc("getblockchaininfo")
    assert (info["chain"], info["devchain"]["mode"], info["devchain"]["maturity_blocks"]) == ("demo", "demo", 6)
    assert node.template()["coinbasevalue"] == 5_000_000_000
    seen = [dig(node) for _ in range(5)]
    assert seen[0] == DEMO.limit_nbits
    assert min(target_of_nbits(nbits) for nbits in seen) < target_of_nbits(seen[0])
    assert node.rpc("getblockcount") == 5


def test_a_block_easier_than_what_is_open_is_refused_and_an_older_harder_job_is_good(tmp_path: Path) -> None:
    """On a clock of the test's own, so that nothing hangs on how fast this machine hashes."""
    clock_s = [1_900_000_000.0]
    store = Store(tmp_path / "chain.sqlite")
    chain = Chain(dataclasses.replace(DEMO, spacing_ms=1000), store, lambda: clock_s[0])
    templates = Templates(chain, Mempool(chain))
    try:
        clock_s[0] += 60
        assert chain.submit(build(json.loads(templates.text()))) is None
        clock_s[0] += 0.1  # 2^16 hashes in 0.1 s: 0.65 MH/s
        assert chain.submit(build(json.loads(templates.text()))) is None
        old = json.loads(templates.text())
        assert work_of_target(int(old["target"], 16)) > 4 * 65_536
        easier = nbits_of_target(int(old["target"], 16) << retarget.STEP_BITS)
        assert chain.submit(build(old, nbits=easier, extra=b"early")) == "bad-diffbits"
        assert (
            chain.submit(build(old, nbits=nbits_of_target(int(old["target"], 16) * 2), extra=b"odd")) == "bad-diffbits"
        )
        clock_s[0] += 2.25
        new = json.loads(templates.text())
        assert (new["bits"], new["previousblockhash"]) == (f"{easier:08x}", old["previousblockhash"])
        assert new["longpollid"] != old["longpollid"]
        assert chain.submit(build(new)) is None
        chain.invalidate(chain.tip)
        assert chain.submit(build(old, extra=b"late")) is None
        assert chain.tip.header.nbits == int(old["bits"], 16)
    finally:
        store.close()


def test_a_long_poll_answers_when_waiting_makes_the_work_easier(tmp_path: Path) -> None:
    asyncio.run(_wait_for_a_step(tmp_path))


async def _wait_for_a_step(datadir: Path) -> None:
    stopped_s: list[float] = []
    node = DevNode(
        dataclasses.replace(DEMO, spacing_ms=100),
        datadir,
        Publisher(0),
        lambda: stopped_s[0] if stopped_s else time.time(),
    )
    try:
        stopped_s.append(time.time() + 60)
        assert node.chain.submit(build(json.loads(node.templates.text()))) is None
        stopped_s[0] += 0.01  # the clock stands while we hash: a block in 10 ms makes the next one five times as hard
        assert node.chain.submit(build(json.loads(node.templates.text()))) is None
        stopped_s.clear()
        node.chain.tip.received_ms = node.chain.now_ms()
        before = json.loads(node.templates.text())
        started = time.monotonic()
        await asyncio.wait_for(node.long_poll(node.chain.tip.hash, int(before["longpollid"][64:])), 20)
        assert time.monotonic() - started >= 0.2
        after = json.loads(node.templates.text())
        assert after["previousblockhash"] == before["previousblockhash"]
        assert int(after["target"], 16) >= 2 * int(before["target"], 16)
    finally:
        node.close()


def test_a_demo_coinbase_matures_after_six_blocks(easy: RunningChain) -> None:
    easy.rpc("generatetoaddress", 1, ADDRESS, 50_000_000)
    first = easy.rpc("getblock", easy.rpc("getbestblockhash"))["tx"][0]
    spend = pack_tx(2, [TxIn(bytes.fromhex(first)[::-1] + bytes(4), b"", 0)], [TxOut(1, b"\x51")])
    while easy.rpc("getblockcount") < 6:
        with pytest.raises(RpcError, match="premature"):
            easy.rpc("sendrawtransaction", spend.hex())
        easy.rpc("generatetoaddress", 1, ADDRESS, 50_000_000)
    assert easy.rpc("sendrawtransaction", spend.hex())


def test_a_demo_chain_goes_on_after_a_kill_at_its_difficulty(easy: RunningChain) -> None:
    for _ in range(4):
        dig(easy)
    before = easy.template()
    work = build(before)
    easy.kill()
    easy.start()
    assert easy.template()["height"] == before["height"]
    assert easy.rpc("submitblock", work.hex()) is None


def test_a_demo_reorg_replaces_blocks_and_can_be_taken_back(easy: RunningChain) -> None:
    for _ in range(3):
        easy.rpc("generatetoaddress", 1, ADDRESS, 50_000_000)
    before = easy.rpc("getbestblockhash")
    moved = easy.rpc("dev_reorg", 1)
    assert moved["height"] == 3
    assert moved["tip"] != before
    assert easy.rpc("getblockheader", before)["confirmations"] == -1
    assert easy.rpc("dev_reorg", None, None, before) == {"tip": before, "height": 3}
    assert easy.rpc("getblockheader", moved["tip"])["confirmations"] == -1


def test_strict_and_demo_never_share_a_folder(easy: RunningChain) -> None:
    easy.stop()
    with pytest.raises(RuntimeError, match="holds a chain of mode demo, not strict"):
        RunningChain(easy.datadir, "strict").start()


def test_only_a_strict_clock_can_be_set(easy: RunningChain) -> None:
    with pytest.raises(RpcError, match="strict mode only"):
        easy.rpc("setmocktime", int(time.time()))
