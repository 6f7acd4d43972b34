"""From a device's share to a member's balance: the real pool process on a real chain, orphans and returns too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from native.difficulty import target_of_nbits, work_of_target
from pool.chain.paid import outputs_of_block
from pool.keys import Keys
from pool.ledger import audit, books, income, proofs
from pool.ledger.rewards import SCALE, Policy
from pool.store import Store
from pool.store.books import income_blocks
from pool.store.proofs import proof_epochs
from rig.daemon import NodeDaemon
from rig.devchain import RunningChain
from rig.ledger import SUBSIDY_SAT, world
from rig.miner import Miner
from rig.nodes import node, node_kind
from rig.pool_process import PoolProcess
from rig.stratum import ADDRESS, ADDRESS_2

__all__ = ["node", "node_kind"]  # fixtures

ENVIRONMENT = {
    "POOL__STRATUM__HOST": "127.0.0.1",
    "POOL__STRATUM__PORT": "0",
    "POOL__STRATUM__HIGH_DIFFICULTY_PORT": "0",
    "POOL__STRATUM__NERDMINER_PORT": "0",
    "POOL__VARDIFF__START_DIFFICULTY": "0.00002",
    "POOL__LEDGER__WINDOW_BLOCKS": "9",
    "POOL__LEDGER__KAPPA_BLOCKS": "0",
    "POOL__LEDGER__PROOF_EVERY_S": "10",
    "POOL__LEDGER__RELEASE_MONTHS": "0",  # the virtual block would come between two maturities, or behind them
}
PATIENCE_S = 60.0


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[RunningChain]:
    chain = RunningChain(tmp_path / "chain")
    chain.start()
    yield chain
    chain.stop()


class Books:
    """The pool's books, read beside it while it runs."""

    def __init__(self, folder: Path) -> None:
        self._store = Store(f"sqlite:///{folder}/data/pool.sqlite")

    def close(self) -> None:
        self._store.close()

    async def until(self, true: Callable[[Connection], Any], what: str) -> Any:
        """Poll: another process's database has no event to wait for."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await self._store.read(true)):  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.1)
        assert found, what
        return found

    async def now(self, function: Callable[[Connection], Any]) -> Any:
        return await self._store.read(function)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Books]:
    made = Books(tmp_path)
    yield made
    made.close()


def states(connection: Connection) -> dict[str, str]:
    return {row.hash_hex: row.state for row in connection.execute(select(income_blocks))}


def serve(tmp_path: Path, chain: RunningChain | NodeDaemon) -> PoolProcess:
    zmq = chain.zmq_url or "" if isinstance(chain, NodeDaemon) else chain.zmq
    who = f'user = "{chain.user}"\npassword = "{chain.password}"'
    (tmp_path / "pool.toml").write_text(f'[[node]]\nurl = "{chain.url}"\n{who}\nzmq_hashblock = "{zmq}"\n')
    return PoolProcess(tmp_path, "serve", **ENVIRONMENT)


async def has_work(miner: Miner, on: bytes = b"") -> None:
    """Any, or on this previous block."""
    await miner.until(lambda: bool(miner.jobs) and on in (b"", miner.jobs[-1].prevhash), 20, "work")


async def mine(miner: Miner) -> str:
    """One share, which on this chain is a block; its hash."""
    job = miner.jobs[-1]
    share = miner.share()
    assert (await miner.submit(share))["result"] is True
    await miner.until(lambda: miner.jobs[-1].prevhash != job.prevhash, 20, "work on the next block")
    return share.hash_le[::-1].hex()


async def test_devices_mine_a_block_matures_and_members_have_it(
    tmp_path: Path, node: NodeDaemon, ledger: Books
) -> None:
    """On every kind of node there is."""
    async with serve(tmp_path, node) as pool:
        port = await pool.port()
        async with await Miner.connect(port) as one, await Miner.connect(port) as two:
            await one.enter(ADDRESS + ".bitaxe")
            await two.enter(ADDRESS_2 + ".nerd")
            hashes = []
            for miner in (one, one, two):
                seen = node.rpc("getblockcount")
                await has_work(miner)
                hashes.append(await mine(miner))
                assert node.rpc("getblockcount") == seen + 1
                other = two if miner is one else one
                await has_work(other, bytes.fromhex(hashes[-1])[::-1])
            await ledger.until(lambda c: set(states(c)) == set(hashes), "all blocks in the books")
            assert await ledger.now(lambda c: books.owed_msat(c)) == {}, "nothing is anybody's before it is mature"
            await asyncio.to_thread(node.generate, 101)
            await ledger.until(lambda c: set(states(c).values()) == {"mature"}, "maturity")
            await check_balances(ledger, node, hashes)
            await check_proof_in_coinbase(tmp_path, node, ledger, one)
            assert await ledger.now(audit.verify) == []
        assert await pool.end() == 0


async def check_balances(ledger: Books, node: NodeDaemon, hashes: list[str]) -> None:
    """Blocks 1 and 2 are all the first member's; of the third, made by the second, he has two shares in three."""
    values = [sum(v for _, v in outputs_of_block(bytes.fromhex(node.rpc("getblock", h, 0)))) * 1000 for h in hashes]
    pots = [value - value * 50 // 10_000 - value * 100 // 10_000 for value in values]
    owed = await ledger.now(lambda c: books.owed_msat(c))
    assert abs(owed[ADDRESS] - (pots[0] + pots[1] + Fraction(2, 3) * pots[2])) < 3
    assert abs(owed[ADDRESS_2] - Fraction(1, 3) * pots[2]) < 3
    assert sum(owed.values()) == sum(pots)
    assert await ledger.now(lambda c: -books.balance_msat(c, "pool_fee")) == sum(v * 50 // 10_000 for v in values)


async def check_proof_in_coinbase(tmp_path: Path, node: NodeDaemon, ledger: Books, miner: Miner) -> None:
    """What a mined block's coinbase carries is what was published, and what each member's file leads to."""

    def balances_published(connection: Connection) -> list[str]:
        rows = connection.execute(select(proof_epochs).where(proof_epochs.c.kind == "balance"))
        return [row.carried_hex for row in rows]

    await ledger.until(balances_published, "a proof of balances")
    carried = ""
    async with asyncio.timeout(PATIENCE_S):
        while carried not in await ledger.now(balances_published):  # jobs renew with each block: soon it is in one
            block = bytes.fromhex(node.rpc("getblock", await mine(miner), 0))
            prefix = bytes.fromhex("6a25") + b"POL1\x01"
            roots = [script[7:].hex() for script, _ in outputs_of_block(block) if script.startswith(prefix)]
            assert len(roots) <= 1
            carried = roots[0] if roots else ""  # none in a job that is older than the first proof
    secrets = Keys.load(tmp_path / "data" / "keys").accepted_secrets("proof of liabilities")

    def files(connection: Connection) -> list[dict[str, Any]]:
        query = select(proof_epochs.c.epoch).where(proof_epochs.c.carried_hex == carried)
        epoch = connection.execute(query.limit(1)).scalar_one()
        return [proofs.member_file(connection, "balance", epoch, who, secrets) for who in (ADDRESS, ADDRESS_2)]

    for file in await ledger.now(files):
        assert proofs.verify_file(json.dumps(file))["carried_hex"] == carried


async def test_an_orphan_is_nobodys_and_counts_again_when_it_returns(
    tmp_path: Path, chain: RunningChain, ledger: Books
) -> None:
    async with serve(tmp_path, chain) as pool, await Miner.connect(await pool.port()) as miner:
        await miner.enter(ADDRESS + ".axe")
        ours = await mine(miner)
        await ledger.until(lambda c: states(c).get(ours) == "immature", "the block in the books")
        chain.rpc("invalidateblock", ours)
        (other,) = chain.rpc("generatetoaddress", 1, ADDRESS)
        chain.rpc("generatetoaddress", 1, ADDRESS)
        await ledger.until(lambda c: states(c).get(ours) == "orphaned", "the orphan")
        assert await ledger.now(lambda c: books.owed_msat(c, "")) == {}, "nothing of it is left in the books"
        chain.rpc("invalidateblock", other)
        chain.rpc("reconsiderblock", ours)
        assert chain.rpc("getbestblockhash") == ours
        await ledger.until(lambda c: states(c).get(ours) == "immature", "its return")
        chain.rpc("generatetoaddress", 101, ADDRESS)
        await ledger.until(lambda c: states(c).get(ours) == "mature", "maturity")
        legs = ("found:0", "orphaned:0", "found:1", "mature:1")
        assert await ledger.now(lambda c: [leg for leg in legs if not books.is_booked(c, "block", ours, leg)]) == []
        assert set(await ledger.now(lambda c: books.owed_msat(c))) == {ADDRESS}
        assert await ledger.now(audit.verify) == []
        assert await pool.end() == 0


def test_tiny_and_huge_devices_over_a_difficulty_change_lose_nothing(store_url: str, tmp_path: Path) -> None:
    """A NerdMiner's and an S21's shares in one window, before and after a change of the network's difficulty: each
    member's part of the block is exact to the millisatoshi."""
    before, after = 0x17021B26, 0x1701F303
    nerd, axe, s21 = 2**16, 2**32 * 2048, 2**32 * 2_000_000
    policy = Policy(window=9 * SCALE, kappa=0)
    with world(store_url, tmp_path, policy) as made:
        made.mine([("nerd", nerd)] * 3 + [("axe", axe), ("s21", s21)], nbits=before)
        made.mine([("s21", s21)] * 50 + [("axe", axe)] * 20, nbits=before)
        won = made.mine([("nerd", nerd)] * 2 + [("axe", axe)] * 7 + [("s21", s21)] * 9, block_by="axe", nbits=after)
        assert won is not None
        assert made.found(won, income.Coinbase(SUBSIDY_SAT, SUBSIDY_SAT))
        assert made.mature(won)
        networks = [work_of_target(target_of_nbits(nbits)) for nbits in (before, after)]
        work = {"nerd": (3 * nerd, 2 * nerd), "axe": (21 * axe, 7 * axe + 1000), "s21": (51 * s21, 9 * s21)}
        score = {
            name: sum(Fraction(one, network) for one, network in zip(both, networks, strict=True))
            for name, both in work.items()
        }
        with made.write() as connection:
            owed = books.owed_msat(connection)
        pot = SUBSIDY_SAT * 1000
        assert sum(owed.values()) == pot
        for name, exact in score.items():
            rounding = Fraction(pot * 3, int(sum(score.values()) * SCALE)) + 1  # scores are whole attoblocks
            assert abs(owed.get(name, 0) - pot * exact / sum(score.values())) <= rounding, name
        assert made.broken() == {}
