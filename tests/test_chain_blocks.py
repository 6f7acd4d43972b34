"""A found block is never lost: on disk first, to every node until one holds it, then watched until all is decided."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pool.chain.blocks import TRIES_WHEN_HELD, BlockReport, Blocks, BlockState
from pool.chain.journal import Journal, Mark
from pool.chain.node import Nodes
from pool.chain.types import NETWORKS
from pool.records import BlockFound
from rig.blocknode import BlockNode, client, found_on
from rig.fakenode import hang, reset, rpc_error, status

REGTEST = NETWORKS["regtest"]
QUICK = dataclasses.replace(REGTEST, maturity=6)


class Heard:
    """Every report, and a way to wait for one."""

    def __init__(self) -> None:
        self.reports: list[BlockReport] = []
        self._news = asyncio.Event()

    def __call__(self, report: BlockReport) -> None:
        self.reports.append(report)
        self._news.set()

    @property
    def states(self) -> list[BlockState]:
        """Each state once per change."""
        states = [report.state for report in self.reports]
        return [state for place, state in enumerate(states) if place == 0 or states[place - 1] is not state]

    async def until(self, wanted: Callable[[BlockReport], bool]) -> BlockReport:
        async with asyncio.timeout(20):
            while True:
                for report in self.reports:
                    if wanted(report):
                        return report
                self._news.clear()
                await self._news.wait()

    async def state(self, state: BlockState) -> BlockReport:
        return await self.until(lambda report: report.state is state)


def keeper(folder: Path, nodes: Nodes, heard: Heard, *, poll_s: float = 0.02) -> Blocks:
    return Blocks(folder, nodes, QUICK, heard, poll_s=poll_s, first_pause_s=0.01, longest_pause_s=0.05)


@contextlib.asynccontextmanager
async def running(blocks: Blocks) -> AsyncIterator[Blocks]:
    task = asyncio.create_task(blocks.run())
    try:
        yield blocks
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def only_body(folder: Path) -> tuple[str, str, str]:
    """The one file of a found block: name and its two lines."""
    (file,) = folder.glob("*.block")
    about, block_hex = file.read_text().splitlines()
    return file.name, about, block_hex


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- disk


async def test_a_found_block_is_on_disk_before_any_node_hears_of_it(tmp_path: Path, rng: random.Random) -> None:
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, Heard())) as blocks:
        await asyncio.sleep(0)  # run() has begun
        found = found_on(fake.branch[-1], 1, rng, size=100_000)
        blocks.submit(found)
        assert not fake.submitted
        name, about, block_hex = only_body(tmp_path)
        assert bytes.fromhex(block_hex) == found.block
        assert json.loads(about)["account"] == found.account
        assert name == f"00000001-{found.hash_hex}.block"
        await fake.received(1)
        assert fake.submitted == [found.block.hex()]


async def test_the_file_and_its_name_are_synced_before_submit_returns(
    tmp_path: Path, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(handle: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))
        steps.append("directory" if name == tmp_path.name else f"file {name.partition('.')[2]}")
        real_fsync(handle)

    def replace(source: Path, target: Path) -> None:
        steps.append(f"name {target.suffix}")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    async with BlockNode() as fake, client(REGTEST, fake) as nodes:
        keeper(tmp_path, nodes, Heard()).submit(found_on(fake.branch[-1], 1, rng))
    assert steps == ["file block.tmp", "name .block", "directory"]


async def test_a_disk_that_refuses_does_not_stop_the_block(
    tmp_path: Path, rng: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    folder = tmp_path / "blocks"
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(folder, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        shutil.rmtree(folder)
        found = found_on(fake.branch[-1], 1, rng)
        blocks.submit(found)
        report = await heard.state(BlockState.CONFIRMED)
        assert fake.branch[-1] == found.hash_hex
        assert "not on disk" in report.reason
        assert "not on disk" in caplog.text
        folder.mkdir()
        (folder / "kept").mkdir()
        fake.bury(1)
        blocks.look()
        await heard.until(lambda report: report.confirmations == 2 and not report.reason)
        assert only_body(folder)[2] == found.block.hex(), "written when the disk is back"


async def test_what_cannot_be_read_back_is_named_and_left_alone(
    tmp_path: Path, rng: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes:
        good, bad = found_on(fake.branch[-1], 1, rng), found_on(fake.branch[-1], 1, rng)
        earlier = keeper(tmp_path, nodes, Heard())
        earlier.submit(good)
        earlier.submit(bad)
        torn = tmp_path / f"00000001-{bad.hash_hex}.block"
        torn.write_text(torn.read_text()[:-40] + "00" * 20)
        torn.write_text(torn.read_text().replace(bad.block[:8].hex(), "00" * 8))
        other = tmp_path / f"00000001-{found_on(fake.branch[-1], 1, rng).hash_hex}.block"
        other.write_text(torn.with_name(f"00000001-{good.hash_hex}.block").read_text().replace("0", "1"))
        (tmp_path / "00000002-aa.block").write_text("{")
        (tmp_path / "00000003-bb.block.tmp").write_text("half")
        async with running(keeper(tmp_path, nodes, heard)):
            await heard.state(BlockState.CONFIRMED)
        assert fake.submitted == [good.block.hex()]
    for name in (torn.name, other.name, "00000002-aa.block", "00000003-bb.block.tmp"):
        assert name in caplog.text
        assert (tmp_path / name).exists()


async def test_a_block_seen_twice_is_one_block(tmp_path: Path, rng: random.Random) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        found = found_on(fake.branch[-1], 1, rng)
        blocks.submit(found)
        blocks.submit(dataclasses.replace(found, seq=43))
        await heard.state(BlockState.CONFIRMED)
        blocks.submit(found)
        assert (len(fake.submitted), blocks.found_ever) == (1, 1)


# --- what nodes answer


@pytest.mark.parametrize("word", [None, "duplicate", "rejected: already have block 00aa", "inconclusive"])
async def test_an_answer_that_means_held_is_read_as_held(
    word: str | None, tmp_path: Path, rng: random.Random
) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        found = found_on(fake.branch[-1], 1, rng)
        fake.branch.append(found.hash_hex)
        fake.always_say, fake.say = word, fake.say
        if word is None:
            fake.branch.pop()
        blocks.submit(found)
        report = await heard.state(BlockState.CONFIRMED)
        await fake.received(1)
        await fake.calls("", len(fake.asked) + 6)  # time enough for another offer
        states = [state for state in heard.states if state is not BlockState.HELD]
        assert states == [BlockState.PENDING, BlockState.CONFIRMED]
        assert len(fake.submitted) == 1
        assert report.held_by == (nodes.nodes[0].name,)


@pytest.mark.parametrize(
    "word", ["high-hash", "duplicate-inconclusive", "bad-txnmrklroot", "duplicate-invalid", "time-too-new", ""]
)
async def test_an_answer_that_means_not_held_is_tried_again_until_it_is(
    word: str, tmp_path: Path, rng: random.Random
) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        fake.say.extend([word, word, word])  # "" is read as null, but the node does not know the block: btcd's orphan
        found = found_on(fake.branch[-1], 1, rng)
        blocks.submit(found)
        await heard.state(BlockState.CONFIRMED)
        assert len(fake.submitted) == 4
        on_the_way = (BlockState.REFUSED, BlockState.HELD)  # the watch may see it confirmed before "held" is said
        states = [state for state in heard.states if state not in on_the_way]
        assert states == [BlockState.PENDING, BlockState.CONFIRMED]
        refused = [report for report in heard.reports if report.state is BlockState.REFUSED]
        assert bool(refused) == (word not in ("duplicate-inconclusive", ""))
        assert all(word in report.reason for report in refused)


@pytest.mark.parametrize(
    "fault",
    [reset, status(500, "oops"), status(503, "Work queue full"), rpc_error(-28, "Loading block index..."), status(401)],
    ids=["reset", "500", "503", "warm-up", "401"],
)
async def test_a_node_that_fails_is_asked_again_until_it_takes_the_block(
    fault: object, tmp_path: Path, rng: random.Random
) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        fake.always["submitblock"] = fault  # type: ignore[assignment]
        blocks.submit(found_on(fake.branch[-1], 1, rng))
        await fake.calls("submitblock", 2 * TRIES_WHEN_HELD)
        assert heard.states == [BlockState.PENDING]
        del fake.always["submitblock"]
        await heard.state(BlockState.CONFIRMED)


async def test_a_hanging_node_does_not_hold_up_the_other(tmp_path: Path, rng: random.Random) -> None:
    heard = Heard()
    async with BlockNode() as stuck, BlockNode() as well:
        async with client(REGTEST, stuck, well, timeout_s=60.0) as nodes:
            async with running(keeper(tmp_path, nodes, heard)) as blocks:
                await asyncio.sleep(0)
                stuck.always["submitblock"] = hang
                found = found_on(well.branch[-1], 1, rng)
                blocks.submit(found)
                report = await heard.until(lambda report: bool(report.held_by))
                assert report.held_by == (nodes.nodes[1].name,)
                assert well.branch[-1] == found.hash_hex
                stuck.unhang.set()


async def test_a_watch_waits_for_a_hanging_node_once_a_round_however_many_blocks(
    tmp_path: Path, rng: random.Random
) -> None:
    heard = Heard()
    async with BlockNode() as stuck, BlockNode() as well:
        async with client(REGTEST, stuck, well, timeout_s=0.3) as nodes:
            found = []
            async with running(keeper(tmp_path, nodes, heard)) as blocks:
                await asyncio.sleep(0)
                for height in range(1, 6):
                    found.append(found_on(well.branch[-1], height, rng))
                    blocks.submit(found[-1])
                    await heard.until(lambda report: report.found == found[-1] and len(report.held_by) == 2)
            heard.reports.clear()
            stuck.asked.clear()
            stuck.always["*"] = hang
            well.bury(3)
            async with running(keeper(tmp_path, nodes, heard)):
                await heard.until(lambda report: report.found == found[0] and report.confirmations == 8)
                await heard.until(lambda report: report.found == found[4] and report.confirmations == 4)
                assert [method for method, _ in stuck.asked] == ["getblockheader"]
                stuck.unhang.set()


async def test_a_block_that_one_node_lost_is_offered_again_while_another_is_still_silent(
    tmp_path: Path, rng: random.Random
) -> None:
    heard = Heard()
    async with BlockNode() as silent, BlockNode() as forgetful:
        async with client(REGTEST, silent, forgetful, timeout_s=60.0) as nodes:
            async with running(keeper(tmp_path, nodes, heard)) as blocks:
                await asyncio.sleep(0)
                silent.always["submitblock"] = hang
                found = found_on(forgetful.branch[-1], 1, rng)
                blocks.submit(found)
                await heard.state(BlockState.CONFIRMED)
                heard.reports.clear()
                forgetful.always["submitblock"] = reset
                forgetful.forget(found.hash_hex)
                assert (await heard.state(BlockState.PENDING)).held_by == ()
                forgetful.always.clear()
                await heard.state(BlockState.CONFIRMED)
                assert forgetful.submitted == [found.block.hex()] * 2
                assert silent.hanging == 1, "one offer at a time is enough"
                silent.unhang.set()


async def test_both_nodes_get_the_block_and_both_are_named(tmp_path: Path, rng: random.Random) -> None:
    heard = Heard()
    async with BlockNode() as one, BlockNode() as two, client(REGTEST, one, two) as nodes:
        async with running(keeper(tmp_path, nodes, heard)) as blocks:
            await asyncio.sleep(0)
            found = found_on(one.branch[-1], 1, rng)
            blocks.submit(found)
            await heard.until(lambda report: len(report.held_by) == 2)
            assert one.submitted == two.submitted == [found.block.hex()]


async def test_a_block_that_no_node_can_take_waits_for_one_that_can(tmp_path: Path, rng: random.Random) -> None:
    heard = Heard()
    fake = BlockNode()
    await fake.start()
    await fake.stop()  # its port is known, nobody listens
    async with client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        found = found_on(fake.branch[-1], 1, rng)
        blocks.submit(found)
        await heard.state(BlockState.PENDING)
        await fake.start()
        await heard.state(BlockState.CONFIRMED)
        await fake.stop()
    assert fake.branch[-1] == found.hash_hex


async def test_a_restart_takes_up_what_was_not_delivered(tmp_path: Path, rng: random.Random) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes:
        found = found_on(fake.branch[-1], 1, rng)
        fake.always["submitblock"] = reset
        async with running(keeper(tmp_path, nodes, Heard())) as blocks:
            await asyncio.sleep(0)
            blocks.submit(found)
        fake.always.clear()
        again = keeper(tmp_path, nodes, heard)
        assert list(again.reports) == [found.hash_hex]
        async with running(again):
            report = await heard.state(BlockState.CONFIRMED)
        assert report.found == found
        assert fake.submitted == [found.block.hex()]


async def test_a_block_found_before_run_began_is_sent_when_it_does(tmp_path: Path, rng: random.Random) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes:
        blocks = keeper(tmp_path, nodes, heard)
        blocks.submit(found_on(fake.branch[-1], 1, rng))
        async with running(blocks):
            await heard.state(BlockState.CONFIRMED)


# --- beside the best chain


async def test_a_block_beside_the_best_chain_is_made_precious_and_reported_orphaned(
    tmp_path: Path, rng: random.Random
) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        await fake.mine("theirs")
        found = found_on(fake.branch[0], 1, rng)
        blocks.submit(dataclasses.replace(found, stale=True))
        report = await heard.state(BlockState.ORPHANED)
        assert fake.precious == [found.hash_hex]
        assert report.held_by == (nodes.nodes[0].name,)
        fake.bring_back(found.hash_hex, 1)  # the race is won after all
        blocks.look()
        await heard.until(lambda report: report.confirmations == 2)


async def test_a_node_without_preciousblock_still_takes_the_block(tmp_path: Path, rng: random.Random) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        fake.offers_precious = False
        await fake.mine("theirs")
        blocks.submit(found_on(fake.branch[0], 1, rng))
        report = await heard.state(BlockState.ORPHANED)
        assert report.held_by
        assert len(fake.submitted) == 1


# --- until the chain has decided


async def test_a_block_is_watched_over_reorgs_to_maturity_and_its_file_goes_when_all_is_settled(
    tmp_path: Path, rng: random.Random
) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        found = found_on(fake.branch[-1], 1, rng)
        blocks.submit(found)
        await heard.until(lambda report: report.confirmations == 1)
        fake.bury(4)
        await heard.until(lambda report: report.confirmations == 5)
        fake.reorganise(found.hash_hex, 7)
        await heard.state(BlockState.ORPHANED)
        fake.bring_back(found.hash_hex, 5)
        mature = await heard.state(BlockState.MATURE)
        assert (mature.confirmations, mature.final) == (6, False)
        fake.bury(6)
        last = await heard.until(lambda report: report.final)
        assert (last.state, last.confirmations) == (BlockState.MATURE, 12)
        assert [state for state in heard.states if state is not BlockState.HELD] == [
            BlockState.PENDING,
            BlockState.CONFIRMED,
            BlockState.ORPHANED,
            BlockState.MATURE,
        ]
        assert blocks.reports == {}
    assert names_in(tmp_path) == ["kept", "settled.jsonl"]
    again = keeper(tmp_path, nodes, Heard())
    again.submit(found)
    assert (again.reports, again.found_ever) == ({}, 1)


async def test_a_mature_block_that_falls_off_the_chain_is_reported_again(tmp_path: Path, rng: random.Random) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        found = found_on(fake.branch[-1], 1, rng)
        blocks.submit(found)
        await heard.state(BlockState.CONFIRMED)
        fake.bury(6)
        await heard.state(BlockState.MATURE)
        fake.reorganise(found.hash_hex, 9)
        await heard.state(BlockState.ORPHANED)


async def test_an_orphan_is_given_up_when_the_chain_is_far_past_it_and_its_bytes_are_kept(
    tmp_path: Path, rng: random.Random
) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        await fake.mine("theirs")
        found = found_on(fake.branch[0], 1, rng)
        blocks.submit(found)
        assert not (await heard.state(BlockState.ORPHANED)).final
        fake.bury(12)
        last = await heard.until(lambda report: report.final)
        assert last.state is BlockState.ORPHANED
    assert only_body(tmp_path / "kept")[2] == found.block.hex()
    assert json.loads((tmp_path / "settled.jsonl").read_text())["state"] == "orphaned"


async def test_a_block_every_node_refuses_is_given_up_only_when_the_chain_is_far_past_it(
    tmp_path: Path, rng: random.Random
) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        fake.always_say = "bad-txnmrklroot"
        blocks.submit(found_on(fake.branch[-1], 1, rng))
        report = await heard.state(BlockState.REFUSED)
        assert report.reason == f"{nodes.nodes[0].name}: bad-txnmrklroot"
        assert not report.held_by
        await fake.received(3)
        fake.bury(13)
        assert (await heard.until(lambda report: report.final)).state is BlockState.REFUSED


async def test_a_node_restored_from_a_backup_gets_the_block_again(tmp_path: Path, rng: random.Random) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        found = found_on(fake.branch[-1], 1, rng)
        blocks.submit(found)
        await heard.state(BlockState.CONFIRMED)
        heard.reports.clear()
        fake.always["submitblock"] = reset
        fake.forget(found.hash_hex)
        await heard.state(BlockState.PENDING)
        fake.always.clear()
        await heard.state(BlockState.CONFIRMED)
        assert len(fake.submitted) == 2


async def test_all_nodes_silent_is_no_verdict(tmp_path: Path, rng: random.Random) -> None:
    heard = Heard()
    async with BlockNode() as fake, client(REGTEST, fake) as nodes, running(keeper(tmp_path, nodes, heard)) as blocks:
        await asyncio.sleep(0)
        blocks.submit(found_on(fake.branch[-1], 1, rng))
        await heard.state(BlockState.CONFIRMED)
        heard.reports.clear()
        fake.always["*"] = reset
        await fake.calls("", len(fake.asked) + 6)
        assert heard.reports == []
        assert len(fake.submitted) == 1


async def test_a_listener_that_fails_ends_the_room(tmp_path: Path, rng: random.Random) -> None:
    def listener(report: BlockReport) -> None:
        raise RuntimeError("books are closed")

    async with BlockNode() as fake, client(REGTEST, fake) as nodes:
        blocks = Blocks(tmp_path, nodes, QUICK, listener)
        blocks.submit(found_on(fake.branch[-1], 1, rng))
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(blocks.run(), 20)
        assert caught.group_contains(RuntimeError, match="books are closed")
        only_body(tmp_path)


def test_a_crash_between_the_last_word_and_the_removal_leaves_nothing_to_do_twice(
    tmp_path: Path, rng: random.Random
) -> None:
    journal, found = Journal(tmp_path), found_on("00" * 32, 1, rng)
    journal.write(found)
    (body,) = tmp_path.glob("*.block")
    text = body.read_text()
    journal.settle(found, Mark("mature", "", ("one",)), keep_body=False)
    body.write_text(text)  # as if the removal had not happened
    assert Journal(tmp_path).load() == []
    assert names_in(tmp_path) == ["kept", "settled.jsonl"]


@pytest.mark.parametrize("torn_at", [0.0, 0.3, 0.9, 1.0])
def test_a_crash_while_writing_leaves_the_block_whole_or_named(
    torn_at: float, tmp_path: Path, rng: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    """The bytes go to a second name first: a body under its own name is always whole."""
    found: BlockFound = found_on("00" * 32, 1, rng)

    class NoNodes:
        nodes: tuple[()] = ()

    Blocks(tmp_path, NoNodes(), QUICK, Heard()).submit(found)
    (whole,) = tmp_path.glob("*.block")
    text = whole.read_text()
    whole.unlink()
    (tmp_path / f"{whole.name}.tmp").write_text(text[: int(len(text) * torn_at)])
    again = Blocks(tmp_path, NoNodes(), QUICK, Heard())
    assert again.reports == {}
    assert f"{whole.name}.tmp was never written whole" in caplog.text
