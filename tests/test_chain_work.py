"""The work desk: which job a miner gets, when it changes, how long it counts, and what is said when there is none."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from native.work import Job
from pool.chain.coinbase import FIRMWARE, Member
from pool.chain.jobs import tag_of
from pool.chain.types import NETWORKS, Network, NodeState, Template
from pool.chain.work import DirectRule, Payees, WorkDesk
from pool.config import Config
from rig.chain_parts import MINER_ADDRESS, MINER_SCRIPT, POOL_SCRIPT, block_hash, template, tip, transaction_rows
from rig.coinbase_views import read_coinbase

MAINNET = NETWORKS["mainnet"]
EN1, EN2 = bytes(4), bytes(8)
WELL = NodeState(True, "", 0.0)


class Clock:
    """Time in the test's hand."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


class Desk(WorkDesk):
    """A desk whose clock stands still, with a list of what its listeners heard."""

    def __init__(
        self, network: Network = MAINNET, payees: Payees | None = None, *, well: bool = True, **options: Any
    ) -> None:
        self.clock = Clock()
        super().__init__(network, payees or Payees(lambda: POOL_SCRIPT), monotonic=self.clock, **options)
        self.heard: list[bool] = []
        self.listen(self.heard.append)
        if well:
            self.on_node_state(WELL)

    def pass_time(self, seconds: float) -> None:
        self.clock.s += seconds
        self.tick()

    def job(self, mode: str = "ledger", account: str = "") -> Job:
        job = self.job_for(mode, account)
        assert job is not None
        return job


def paid(job: Job) -> list[tuple[int, bytes]]:
    return [(sat, script) for sat, script in read_coinbase(job.coinbase(EN1, EN2)).outputs if sat]


# --- jobs


def test_miners_of_a_ledger_pool_share_one_job_until_the_next_one() -> None:
    desk = Desk()
    desk.on_tip(tip())
    desk.on_template(template())
    job = desk.job()
    assert desk.job(account="anybody") is job
    assert desk.jobs.get(job.job_id) is job
    assert paid(job) == [(312_500_000, POOL_SCRIPT)]
    desk.on_template(template())
    assert desk.job() is not job
    assert desk.heard == [True, False]
    assert not desk.jobs.is_stale(job)


def test_a_variant_is_new_header_space_with_the_same_template_and_payees() -> None:
    desk = Desk()
    desk.on_template(template())
    job = desk.job()
    variants = [desk.variant(job) for _ in range(50)]
    assert len({one.coinb1 for one in [job, *variants]}) == 51
    assert all(desk.jobs.get(one.job_id) is one and one.coinb2 == job.coinb2 for one in variants)
    assert desk.job() is job, "a variant is one connection's affair"
    assert desk.heard == [True], "and nobody else hears of it"


def test_a_solo_miner_gets_a_job_that_pays_him_and_keeps_it_until_the_next() -> None:
    desk = Desk(payees=Payees(lambda: POOL_SCRIPT, solo_fee_bp=200), main_mode="solo")
    desk.on_template(template())
    job = desk.job("solo", MINER_ADDRESS)
    assert paid(job) == [(306_250_000, MINER_SCRIPT), (6_250_000, POOL_SCRIPT)]
    assert desk.job("solo", MINER_ADDRESS) is job
    assert (tag_of(job).mode, tag_of(job).account) == ("solo", MINER_ADDRESS)
    other = desk.job("solo", "1BoatSLRHtKNngkdXEeobR76b53LETtpyT")
    assert paid(other)[0][1] != MINER_SCRIPT
    assert desk.variant(job).coinb2 == job.coinb2


def test_a_new_generation_renews_the_jobs_of_every_mode_and_account() -> None:
    desk = Desk()
    asked = [("ledger", ""), ("solo", MINER_ADDRESS), ("direct", ""), ("direct:nerdminer", "")]
    desk.on_template(template())
    before = [desk.job(*which) for which in asked]
    desk.pass_time(30)
    after = [desk.job(*which) for which in asked]
    assert all(new.job_id > old.job_id and new.ntime == old.ntime + 30 for old, new in zip(before, after, strict=True))
    desk.on_template(template(prevhash=block_hash("next"), height=951_659))
    assert {desk.job(*which).prevhash for which in asked} == {block_hash("next")}


@pytest.mark.parametrize("account", ["satoshi@example.org", "", "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx"])
def test_solo_gives_no_job_to_an_account_it_cannot_pay(account: str, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    desk.on_template(template())
    assert desk.job_for("solo", account) is None
    assert desk.job_for("solo", account) is None
    assert len(caplog.records) == 1, "said once per template"


def test_direct_pays_members_within_the_room_of_the_firmware_asked_for() -> None:
    members = [Member(b"\x00\x14" + bytes([place]) * 20, 100 - place) for place in range(40)]
    desk = Desk(
        payees=Payees(lambda: POOL_SCRIPT, members=lambda: (members, 10_000)),
        main_mode="direct",
        direct=DirectRule(FIRMWARE["axeos"], 384, 10_000),
    )
    desk.on_template(template())
    wide, narrow = desk.job("direct"), desk.job("direct:nerdminer")
    assert (len(paid(wide)), len(paid(narrow))) == (10, 4)
    assert "nerdminer" in tag_of(narrow).coinbase.suits()
    assert paid(wide)[0] == (312_500_000 // 100, members[0].script)
    for job in (wide, narrow):
        assert sum(sat for sat, _ in paid(job)) == 312_500_000
        assert [(output.value_sat, output.script) for output in tag_of(job).outputs] == paid(job)


def test_every_job_carries_the_proof_root_of_its_moment() -> None:
    roots = iter([bytes([1]) * 32, bytes([2]) * 32])
    desk = Desk(payees=Payees(lambda: POOL_SCRIPT, proof_root=lambda: next(roots)))
    for number in (1, 2):
        desk.on_template(template())
        assert b"POL1\x01" + bytes([number]) * 32 in desk.job().coinb2


def test_the_pools_script_is_asked_for_each_template_so_that_blocks_can_have_fresh_addresses() -> None:
    scripts = iter([bytes.fromhex("0014") + bytes([number]) * 20 for number in range(9)])
    desk = Desk(payees=Payees(lambda: next(scripts)))
    seen = []
    for _ in range(3):
        desk.on_template(template())
        seen.append(paid(desk.job())[0][1])
    assert len(set(seen)) == 3


def test_the_desk_follows_the_settings() -> None:
    config = Config()
    desk = WorkDesk.from_config(MAINNET, Payees(lambda: POOL_SCRIPT), config.coinbase, config.stratum)
    desk.on_node_state(WELL)
    desk.on_template(template())
    job = desk.job_for(config.coinbase.mode, "")
    assert job is not None
    assert config.coinbase.tag.encode() in job.coinb1


# --- tips


def test_a_new_tip_makes_old_jobs_stale_at_once_and_hands_out_nothing_old() -> None:
    desk = Desk()
    desk.on_tip(tip())
    desk.on_template(template())
    old = desk.job()
    desk.on_tip(tip("next", height=951_658))
    assert desk.jobs.is_stale(old)
    assert desk.job_for("ledger", "") is None
    desk.on_template(template(prevhash=block_hash("next"), height=951_659))
    assert desk.job().prevhash == block_hash("next")
    assert desk.heard == [True, True]
    assert desk.jobs.get(old.job_id) is old, "kept: a block found on it must be put together"


def test_an_empty_job_bridges_a_slow_template_and_only_a_slow_one(rng: random.Random) -> None:
    desk = Desk()
    desk.on_tip(tip())
    desk.on_template(template())
    desk.on_tip(tip("next", height=951_658))
    desk.pass_time(0.049)
    assert desk.job_for("ledger", "") is None
    desk.pass_time(0.002)
    empty = desk.job()
    assert (empty.tx_count, empty.height, empty.prevhash) == (0, 951_659, block_hash("next"))
    assert paid(empty) == [(312_500_000, POOL_SCRIPT)]
    full = template(transaction_rows(rng, 3, witness=True), prevhash=block_hash("next"), height=951_659)
    desk.on_template(full)
    assert desk.job().tx_count == 3
    assert desk.heard == [True, True, False], "the full job after the empty one is no new previous block"
    assert not desk.jobs.is_stale(empty)
    desk.pass_time(0.1)
    assert desk.job().tx_count == 3

    fast = Desk()
    fast.on_tip(tip())
    fast.on_template(template())
    fast.pass_time(0.2)
    assert fast.heard == [True]


@pytest.mark.parametrize(("network", "height"), [("mainnet", 4032), ("testnet4", 4033), ("demo", 4033)])
def test_no_empty_job_where_the_difficulty_may_change(network: str, height: int) -> None:
    desk = Desk(NETWORKS[network])
    desk.on_tip(tip(network=network, height=height - 2))
    desk.on_template(template(network=network, height=height - 1))
    desk.on_tip(tip("next", network=network, height=height - 1))
    desk.pass_time(10)
    assert desk.job_for("ledger", "") is None
    assert desk.state.ok, "it waits for the template: no trouble yet"


def test_an_empty_job_across_a_halving_pays_the_new_subsidy() -> None:
    desk = Desk()
    desk.on_tip(tip(height=839_998))
    desk.on_template(template(height=839_999))
    assert paid(desk.job())[0][0] == 625_000_000
    desk.on_tip(tip("next", height=840_000))
    desk.pass_time(0.1)
    assert paid(desk.job())[0][0] == 312_500_000


def test_an_empty_job_signals_the_version_of_the_last_template() -> None:
    desk = Desk()
    desk.on_template(template(version=0x20000010))
    desk.on_tip(tip("next", height=951_658))
    desk.pass_time(0.1)
    assert desk.job().version == 0x20000010


def test_no_empty_jobs_for_a_node_that_races_through_old_blocks() -> None:
    desk = Desk(well=False)
    desk.on_node_state(NodeState(False, "the node is in initial block download", 0.0))
    for height in range(10):
        desk.on_tip(tip(str(height), height=height))
        desk.pass_time(0.1)
    assert len(desk.jobs) == 0
    assert desk.heard == []


def test_a_late_template_of_a_tip_that_was_left_is_not_published() -> None:
    desk = Desk()
    desk.on_tip(tip("one"))
    desk.on_template(template(prevhash=block_hash("one")))
    desk.on_tip(tip("two"))  # equal height: a reorg of one block
    desk.on_template(template(prevhash=block_hash("one")))
    assert desk.job_for("ledger", "") is None
    desk.on_template(template(prevhash=block_hash("two")))
    assert desk.job().prevhash == block_hash("two")


def test_over_a_reorg_and_back_old_jobs_are_stale_and_then_count_again() -> None:
    desk = Desk()
    desk.on_tip(tip("one"))
    desk.on_template(template(prevhash=block_hash("one")))
    first = desk.job()
    desk.on_tip(tip("two"))
    desk.on_template(template(prevhash=block_hash("two")))
    assert desk.jobs.is_stale(first)
    desk.on_tip(tip("one"))
    assert not desk.jobs.is_stale(first)
    desk.on_template(template(prevhash=block_hash("one")))
    assert desk.job().prevhash == block_hash("one")
    assert desk.heard == [True, True, True]


def test_a_tip_that_was_left_at_once_gets_no_empty_job() -> None:
    desk = Desk()
    desk.on_tip(tip("one"))
    desk.on_template(template(prevhash=block_hash("one")))
    desk.on_tip(tip("two"))
    desk.on_tip(tip("one"))
    desk.pass_time(1)
    assert desk.job().prevhash == block_hash("one")
    assert desk.heard == [True]


def test_a_template_that_comes_before_its_tip_is_believed() -> None:
    desk = Desk()
    desk.on_template(template(prevhash=block_hash("one")))
    desk.on_tip(tip("one"))
    desk.pass_time(1)
    assert desk.heard == [True]
    assert desk.jobs.tip == block_hash("one")


# --- the clock


def test_a_fresh_job_comes_every_30_seconds_with_later_time_and_a_new_counter() -> None:
    desk = Desk()
    desk.on_template(template())
    first = desk.job()
    desk.pass_time(29)
    assert desk.job() is first
    desk.pass_time(1)
    second = desk.job()
    assert second.ntime == first.ntime + 30
    assert second.coinb1 != first.coinb1
    assert desk.heard == [True, False]


def test_jobs_of_one_tip_count_for_ten_minutes_after_they_were_last_handed_out() -> None:
    desk = Desk(template_loss_s=10**9)
    desk.on_template(template())
    born: dict[int, float] = {}
    last: dict[int, float] = {}
    for _ in range(2000):
        job = desk.job()
        born.setdefault(job.job_id, desk.clock.s)
        last[job.job_id] = desk.clock.s
        for job_id, seen_s in last.items():
            age_s = desk.clock.s - seen_s
            if age_s <= 600:
                assert desk.jobs.get(job_id) is not None, f"gone after {age_s} s"
            if age_s > 631:
                assert desk.jobs.get(job_id) is None, f"kept for {age_s} s"
        desk.pass_time(1)
    assert len(born) > 60


def test_a_job_lives_on_while_no_newer_one_comes() -> None:
    desk = Desk()
    desk.on_template(template())
    for _ in range(60):
        desk.pass_time(1)
    job = desk.job()
    for _ in range(3600):
        desk.pass_time(1)
    assert not desk.state.ok
    assert desk.jobs.get(job.job_id) is job


def test_memory_is_bounded_when_every_template_is_new(rng: random.Random) -> None:
    desk = Desk(slots=1 << 12)
    for number in range(3000):
        desk.on_tip(tip(str(number), height=951_657 + number % 1000))
        desk.on_template(template(prevhash=block_hash(str(number)), height=951_658 + number % 1000))
        desk.pass_time(1)
        assert len(desk.jobs) <= 605
    assert len(desk._left) <= 64


async def test_the_running_desk_sends_the_empty_job_when_due_and_refreshes() -> None:
    desk = WorkDesk(MAINNET, Payees(lambda: POOL_SCRIPT), refresh_s=0.1)
    heard: list[bool] = []
    news = asyncio.Event()

    def listener(changed: bool) -> None:
        heard.append(changed)
        news.set()

    async def until(wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not wanted():
                news.clear()
                await news.wait()

    desk.listen(listener)
    running = asyncio.create_task(desk.run())
    desk.on_node_state(WELL)
    desk.on_template(template())
    await until(lambda: len(heard) >= 3)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    desk.on_tip(tip("next", height=951_658))
    await until(lambda: heard.count(True) == 2)
    assert 0.045 <= loop.time() - began_s < 2
    job = desk.job_for("ledger", "")
    assert job is not None
    assert job.prevhash == block_hash("next")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_listener_that_fails_ends_the_desk() -> None:
    desk = WorkDesk(MAINNET, Payees(lambda: POOL_SCRIPT), refresh_s=0.05)
    desk.on_node_state(WELL)
    desk.on_template(template())

    def listener(changed: bool) -> None:
        raise RuntimeError("no sockets")

    desk.listen(listener)
    with pytest.raises(RuntimeError, match="no sockets"):
        await asyncio.wait_for(desk.run(), 10)


# --- when there is no work


def test_a_node_in_trouble_means_no_work_and_its_reason_is_told() -> None:
    desk = Desk(well=False)
    assert (desk.state.ok, desk.state.reason) == (False, "waiting for the node")
    assert desk.job_for("ledger", "") is None
    desk.on_template(template())
    assert desk.job_for("ledger", "") is None
    assert desk.heard == [], "nobody is called while there is nothing to hand out"
    desk.on_node_state(WELL)
    assert desk.heard == [True]
    assert desk.job()
    desk.on_node_state(NodeState(False, "node bitcoind is 12 blocks behind its peers", 0.0))
    assert (desk.state.ok, desk.state.reason) == (False, "node bitcoind is 12 blocks behind its peers")
    assert desk.job_for("ledger", "") is None
    desk.on_node_state(WELL)
    assert desk.job()


def test_without_templates_for_a_minute_there_is_no_work_until_one_comes() -> None:
    desk = Desk()
    desk.on_template(template())
    for _ in range(60):
        desk.pass_time(1)
    assert desk.state.ok
    desk.pass_time(1)
    assert (desk.state.ok, desk.state.reason) == (False, "the node gives no block templates")
    assert desk.job_for("ledger", "") is None
    told = len(desk.heard)
    desk.pass_time(100)
    assert len(desk.heard) == told, "no dead work is handed out"
    desk.on_template(template())
    assert desk.state.ok
    assert desk.job()
    assert desk.heard[told:] == [False]


def test_empty_jobs_do_not_hide_that_templates_are_gone() -> None:
    desk = Desk()
    desk.on_template(template())
    for number in range(1, 8):
        desk.on_tip(tip(str(number), height=951_657 + number))
        for _ in range(10):
            desk.pass_time(1)
    assert desk.state.reason == "the node gives no block templates"


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (lambda: template(prevhash=block_hash("next"), vbrequired=1 << 20), "requires version bits"),
        (lambda: template(prevhash=block_hash("next"), default_witness_commitment="6a24" + "00" * 36), "commitment"),
        (lambda: template(prevhash=block_hash("next"), weightlimit=700), "blockreservedweight"),
    ],
)
def test_a_template_that_must_not_be_mined_means_no_work_and_says_why(bad: Callable[[], Template], word: str) -> None:
    desk = Desk()
    desk.on_tip(tip())
    desk.on_template(template())
    assert desk.job()
    desk.on_template(bad())
    assert not desk.state.ok
    assert word in desk.state.reason
    assert desk.job_for("ledger", "") is None
    desk.on_template(template(prevhash=block_hash("next")))
    assert desk.state.ok
    assert desk.job().prevhash == block_hash("next")


def test_a_bad_refresh_leaves_the_good_job_of_the_same_tip_in_place() -> None:
    desk = Desk()
    desk.on_template(template())
    job = desk.job()
    desk.on_template(template(vbrequired=1 << 20))
    assert desk.state.ok
    assert desk.job() is job
    for _ in range(61):
        desk.pass_time(1)
    assert "requires version bits" in desk.state.reason
