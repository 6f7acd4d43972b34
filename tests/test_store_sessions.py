"""Sessions that survive a restart (promise P9) and worker statistics, on both databases."""

from __future__ import annotations

import dataclasses
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from pool.records import SavedSession
from pool.store import Sessions, Store
from pool.store.sessions import USER_AGENT_LENGTH, accounts

BITAXE = SavedSession(
    session_id="ab" * 8,
    account="bc1qexample",
    worker="salon",
    user_agent="bitaxe/BM1370/v2.9.0",
    extranonce1_hex="0000002a",
    difficulty=1024.5,
    version_mask=0x1FFFE000,
    best_difficulty=5.25e9,
    hashrate_hs=1.2e12,
    saved_at_s=1_000,
)


def altered(**changes: object) -> SavedSession:
    return dataclasses.replace(BITAXE, **changes)  # type: ignore[arg-type]


async def test_a_session_is_found_again_by_its_id_and_by_its_device_after_a_restart(store_url: str) -> None:
    async with Store(store_url) as store:
        await Sessions(store).save_sessions([BITAXE])
    async with Store(store_url) as store:
        desk = Sessions(store)
        assert await desk.load_session(BITAXE.session_id) == BITAXE
        assert await desk.load_session((BITAXE.account, BITAXE.worker, BITAXE.user_agent)) == BITAXE
        assert await desk.load_session("cd" * 8) is None
        assert await desk.load_session((BITAXE.account, "other", BITAXE.user_agent)) is None
        assert await desk.load_session((BITAXE.account, BITAXE.worker, "NerdMinerV2")) is None


async def test_of_several_sessions_of_a_device_the_newest_is_given(store_url: str) -> None:
    async with Store(store_url) as store:
        desk = Sessions(store)
        newest = altered(session_id="03", saved_at_s=3_000)
        await desk.save_sessions([altered(session_id="01"), newest, altered(session_id="02", saved_at_s=2_000)])
        assert await desk.load_session((BITAXE.account, BITAXE.worker, BITAXE.user_agent)) == newest


async def test_an_older_save_never_overwrites_a_newer_one(store_url: str) -> None:
    async with Store(store_url) as store:
        desk = Sessions(store)
        newer = altered(saved_at_s=2_000, difficulty=2048.0, hashrate_hs=2e12)
        await desk.save_sessions([newer])
        await desk.save_sessions([altered(difficulty=1.0, best_difficulty=9e9)])
        assert await desk.load_session(BITAXE.session_id) == newer
        (worker,) = await desk.worker_statistics(BITAXE.account)
        assert (worker.difficulty, worker.hashrate_hs, worker.last_seen_s) == (2048.0, 2e12, 2_000)
        assert worker.best_difficulty == 9e9  # a record is a record, whenever it is reported


async def test_the_newest_of_one_batch_wins_whatever_its_order(store_url: str) -> None:
    async with Store(store_url) as store:
        desk = Sessions(store)
        newer = altered(saved_at_s=2_000, difficulty=7.0)
        await desk.save_sessions([newer, altered(best_difficulty=9e9)])
        assert await desk.load_session(BITAXE.session_id) == newer
        (worker,) = await desk.worker_statistics(BITAXE.account)
        assert (worker.difficulty, worker.best_difficulty) == (7.0, 9e9)


async def test_the_best_difficulty_of_a_worker_never_goes_down(store_url: str) -> None:
    async with Store(store_url) as store:
        desk = Sessions(store)
        await desk.save_sessions([BITAXE])
        await desk.save_sessions([altered(session_id="02", saved_at_s=2_000, best_difficulty=1.0)])
        (worker,) = await desk.worker_statistics(BITAXE.account)
        assert (worker.best_difficulty, worker.created_at_s, worker.last_seen_s) == (5.25e9, 1_000, 2_000)


async def test_statistics_are_per_account_and_by_worker_name(store_url: str) -> None:
    async with Store(store_url) as store:
        desk = Sessions(store)
        await desk.save_sessions(
            [
                altered(session_id="01", worker="b"),
                altered(session_id="02", worker="a"),
                altered(session_id="03", account="ana@example.org", worker=""),
            ]
        )
        assert [one.worker for one in await desk.worker_statistics(BITAXE.account)] == ["a", "b"]
        assert [one.worker for one in await desk.worker_statistics("ana@example.org")] == [""]
        assert await desk.worker_statistics("nobody") == []
        kinds = await store.read(lambda c: dict(c.execute(select(accounts.c.name, accounts.c.kind)).all()))
        assert kinds == {"bc1qexample": "address", "ana@example.org": "lightning"}


async def test_forgotten_sessions_leave_their_workers(store_url: str) -> None:
    async with Store(store_url) as store:
        desk = Sessions(store)
        await desk.save_sessions([BITAXE, altered(session_id="02", saved_at_s=2_000)])
        assert await desk.forget_sessions(2_000) == 1
        assert await desk.load_session(BITAXE.session_id) is None
        assert await desk.load_session("02") is not None
        assert len(await desk.worker_statistics(BITAXE.account)) == 1


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "ñandú ⚡", "'; DROP TABLE sessions; --", "%", "x" * 2000])
async def test_odd_names_are_kept_and_found_and_lose_nobody_elses_session(name: str, store_url: str) -> None:
    async with Store(store_url) as store:
        desk = Sessions(store)
        odd = altered(session_id="02", worker=name, user_agent=name)
        await desk.save_sessions([BITAXE, odd])
        assert await desk.load_session(BITAXE.session_id) == BITAXE
        found = await desk.load_session((odd.account, name, name))
        assert found is not None
        assert found.session_id == "02"
        assert len(found.user_agent) <= USER_AGENT_LENGTH


_floats = st.floats(min_value=2.0**-20, max_value=1e300)
_sessions = st.builds(
    SavedSession,
    session_id=st.sampled_from(["s1", "s2", "s3"]),
    account=st.sampled_from(["bc1a", "bc1b"]),
    worker=st.sampled_from(["", "w"]),
    user_agent=st.sampled_from(["u", "v"]),
    extranonce1_hex=st.integers(0, 2**32 - 1).map(lambda n: f"{n:08x}"),
    difficulty=_floats,
    version_mask=st.integers(0, 2**32 - 1),
    best_difficulty=_floats,
    hashrate_hs=_floats,
    saved_at_s=st.integers(1, 2**40),
)


def test_any_saves_in_any_order_give_back_the_newest_exactly(store_url: str) -> None:
    """Against a plain dictionary: floats come back bit for bit."""
    store = Store(store_url)
    store.upgrade()

    @settings(max_examples=40)
    @given(batches=st.lists(st.lists(_sessions, max_size=6), max_size=4))
    def check(batches: list[list[SavedSession]]) -> None:
        from pool.store.sessions import load_session, save_sessions, sessions, workers

        for table in (sessions, workers, accounts):
            store.write_now(lambda c, table=table: c.execute(table.delete()))
        newest: dict[str, SavedSession] = {}
        best: dict[tuple[str, str], float] = {}
        for batch in batches:
            store.write_now(save_sessions, batch)
            for one in sorted(batch, key=lambda s: s.saved_at_s):
                if one.session_id not in newest or one.saved_at_s >= newest[one.session_id].saved_at_s:
                    newest[one.session_id] = one
                best[one.account, one.worker] = max(best.get((one.account, one.worker), 0.0), one.best_difficulty)
        for session_id in ("s1", "s2", "s3"):
            assert store.write_now(load_session, session_id) == newest.get(session_id)
        rows = store.write_now(
            lambda c: c.execute(
                select(accounts.c.name, workers.c.name, workers.c.best_difficulty).select_from(workers.join(accounts))
            ).all()
        )
        assert {(account, worker): value for account, worker, value in rows} == best

    check()
    store.close()


async def test_ten_thousand_sessions_are_saved_within_seconds(store_url: str, rng: random.Random) -> None:
    many = [
        altered(session_id=f"{rng.getrandbits(64):016x}", account=f"bc1q{n // 3}", worker=str(n % 3))
        for n in range(10_000)
    ]
    async with Store(store_url) as store:
        desk = Sessions(store)
        begin = time.perf_counter()
        await desk.save_sessions(many)
        first_s = time.perf_counter() - begin
        await desk.save_sessions([dataclasses.replace(one, saved_at_s=2_000) for one in many])
        print(f"first {first_s:.2f} s, again {time.perf_counter() - begin - first_s:.2f} s")
        assert await desk.load_session(many[-1].session_id) == dataclasses.replace(many[-1], saved_at_s=2_000)
        assert first_s < 20
