"""A ledger that is killed between two statements, again and again: real processes, the real keeper, the real log."""

# ruff: noqa: ASYNC240 - nothing else runs on this loop

from __future__ import annotations

import asyncio
import os
import random
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, event, select

from pool.ledger import audit, books
from pool.ledger.keeper import ChainNews, Keeper
from pool.ledger.requests import Donation
from pool.store import Store
from pool.store.books import income_blocks
from pool.store.inbox import inbox, put
from pool.store.work import ledger_accounts, ledger_workers, slice_work
from rig.ledger import POLICY, SUBSIDY_SAT, T0_S, plain, world

POLICY_HERE = POLICY
Step = tuple[str, str]  # block, state


@dataclass(frozen=True, slots=True)
class Story:
    """A share log and what the chain says of its blocks, step by step."""

    folder: Path
    steps: tuple[Step, ...]


def story(folder: Path, seed: int) -> Story:
    """Epochs of shares of three members, one to three blocks, each with its own fate."""
    rng = random.Random(seed)
    fates = (
        ("held", "confirmed", "mature"),
        ("held", "orphaned", "confirmed", "mature"),
        ("confirmed", "orphaned"),
        ("held", "confirmed"),
    )
    queues: list[list[Step]] = []
    with world(f"sqlite:///{folder}/scratch.sqlite", folder, POLICY_HERE, seed) as made:
        for number in range(rng.randint(2, 4)):
            work = {name: rng.randrange(1, 2**31) for name in rng.sample(["anna", "bea", "carl"], rng.randint(1, 3))}
            won = made.mine(work, block_by=rng.choice(list(work)) if number else "anna")
            assert won is not None
            queues.append([(won.hash_hex, state) for state in rng.choice(fates)])
        shares = made.folder
    steps: list[Step] = []
    while queues := [queue for queue in queues if queue]:
        steps.append(rng.choice(queues).pop(0))
    return Story(shares, tuple(steps))


def live(told: Story, url: str, progress: Path, kill_at: int) -> int:
    """Start a ledger on what is there and go on to the story's end; the number of statements and commits it took. At
    number `kill_at` (0: never) this process kills itself."""
    count = 0

    def one_more(*_: object) -> None:
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    store = Store(url)
    engines: list[Engine] = [store._writer_engine, store._reader_engine]
    store.upgrade()
    for engine in engines:
        event.listen(engine, "before_cursor_execute", one_more)
        event.listen(engine, "commit", one_more)
    try:
        asyncio.run(_go(store, told, progress))
    finally:
        store.close()
    return count


async def _go(store: Store, told: Story, progress: Path) -> None:
    keeper = Keeper(store, told.folder, lambda height: SUBSIDY_SAT, POLICY_HERE, clock=lambda: T0_S)
    await keeper._start()
    done = int(progress.read_text()) if progress.exists() else 0
    await store.write(_ask)
    for hash_hex, state in {hash_hex: (hash_hex, state) for hash_hex, state in told.steps[:done]}.values():
        keeper.tell(ChainNews(hash_hex, state, plain()))
    await keeper.step()
    for number, (hash_hex, state) in enumerate(told.steps[done:], done + 1):
        progress.write_text(str(number))  # the chain goes on whatever becomes of us
        keeper.tell(ChainNews(hash_hex, state, plain()))
        await keeper.step()
    assert keeper.stopped is None, keeper.stopped


def _ask(connection: Connection) -> None:
    put(connection, Donation("gift", 1_000_003, "ln_channels", "projects"), sender="web", idempotency_key="g", now_s=1)


def in_a_process(told: Story, url: str, progress: Path, kill_at: int) -> bool:
    """`live` in a process of its own; was it killed?"""
    child = os.fork()
    if child == 0:
        try:
            live(told, url, progress, kill_at)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the ledger failed; its words are above"
    return False


def outcome(url: str) -> tuple[object, ...]:
    """Everything that must not depend on crashes: balances, blocks, work by name, requests; and the audit is silent."""
    store = Store(url)
    try:
        return store.read_now(_outcome)
    finally:
        store.close()


def _outcome(connection: Connection) -> tuple[object, ...]:
    assert audit.verify(connection) == []
    work = (
        select(ledger_accounts.c.name, slice_work.c.slice_id, slice_work.c.work, slice_work.c.shares)
        .select_from(slice_work)
        .join(ledger_workers)
        .join(ledger_accounts)
    )
    blocks = select(income_blocks.c.hash_hex, income_blocks.c.state, income_blocks.c.slice_id)
    asked = select(inbox.c.state, inbox.c.outcome)
    rows: Sequence[Sequence[object]] = [
        sorted(map(tuple, connection.execute(query).all())) for query in (work, blocks, asked)
    ]
    return books.owed_msat(connection, ""), *rows
