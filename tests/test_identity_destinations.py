"""Payout destinations: only a proof changes one, 72 h pass while money is owed, the owner can stop it, all is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, text, update
from sqlalchemy.exc import DBAPIError

from pool.identity import ProofRefused, changes, parse_destination
from pool.identity.changes import Evidence
from pool.identity.destinations import DELAY_S, due_at_s
from pool.store import Store, StoreUnavailableError
from pool.store.identity import identity_events
from rig.identity import ADDRESS, LIGHTNING, MEMBER, NEW, NEWER, OTHER, THIEF, know, open_desk


@pytest.mark.parametrize(
    ("typed", "kind", "kept"),
    [
        ("Ana@Wallet.Example", "lightning_address", "ana@wallet.example"),
        ("02" + "AB" * 32, "node", "02" + "ab" * 32),
        (ADDRESS.upper(), "onchain", ADDRESS),
    ],
)
def test_a_destination_is_a_lightning_address_a_node_or_an_address(typed: str, kind: str, kept: str) -> None:
    read = parse_destination(typed, "regtest")
    assert (read.kind, read.text) == (kind, kept)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "ana@",
        "@wallet.example",
        "ana@localhost",
        "ana@127.0.0.1",
        "ana@wallet.example\n",
        "ana@wallet.example/x",
        "ana@wallet.example:8080",
        "añā@wallet.example",
        "a" * 65 + "@wallet.example",
        "04" + "ab" * 32,
        "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
        "lnbc1pvjluezpp5qqqsyq",
        "x" * 5000,
    ],
)
def test_what_cannot_be_paid_is_no_destination(typed: str) -> None:
    with pytest.raises(ProofRefused) as caught:
        parse_destination(typed, "regtest")
    assert caught.value.code == "destination"


async def test_without_a_balance_a_change_is_active_at_once(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        done = (await desk.change(NEW)).change
        assert done is not None
        assert (done.state, done.due_at_s) == ("active", desk.now_s)
        standing = await desk.room.standing(ADDRESS)
        assert (standing.destination, standing.pending) == (NEW, None)
        assert (await desk.room.standing(OTHER)).destination == ""
        events = await desk.room.events(account=ADDRESS)
        assert [event.kind for event in events] == ["change.requested", "change.active"]
        assert f"Nuevo / New: {NEW}" in events[0].evidence
        assert events[0].signature
        assert events[1].notice_es
        assert events[1].notice_en


async def test_with_a_balance_it_waits_72_hours_to_the_second_and_the_owner_is_told(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        await desk.change(NEW)
        desk.balances_msat[ADDRESS] = 1
        asked_at_s = desk.now_s
        change = (await desk.change(NEWER)).change
        assert change is not None
        assert change.due_at_s == asked_at_s + 72 * 3600
        notice = (await desk.room.events())[-1]
        assert (notice.kind, notice.change_id) == ("change.requested", change.id)
        assert NEW in notice.notice_es
        assert NEWER in notice.notice_en
        assert "72 h" in notice.notice_es
        desk.balances_msat[ADDRESS] = 0  # paid out meanwhile: what was announced stays
        desk.now_s = asked_at_s + 72 * 3600 - 1
        assert await desk.room.activate_due() == []
        assert (await desk.room.standing(ADDRESS)).destination == NEW
        desk.now_s += 1
        assert [c.id for c in await desk.room.activate_due()] == [change.id]
        assert await desk.room.activate_due() == []
        standing = await desk.room.standing(ADDRESS)
        assert (standing.destination, standing.pending) == (NEWER, None)
        assert [(c.destination, c.state) for c in await desk.room.history(ADDRESS)] == [
            (NEWER, "active"),
            (NEW, "active"),
        ]


async def test_the_owner_stops_a_thief_until_the_change_is_due(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        desk.balances_msat[ADDRESS] = 5_000
        await desk.change(NEW)
        asked = await desk.room.ask(ADDRESS, "destination.cancel")
        assert asked.value == NEW
        assert await desk.refused(asked, THIEF.sign("p2wpkh", asked.text)) == "wrong_signature"
        cancelled = (await desk.prove(asked)).change
        assert cancelled is not None
        assert cancelled.state == "cancelled"
        desk.now_s += DELAY_S
        assert await desk.room.activate_due() == []
        assert (await desk.room.standing(ADDRESS)).destination == ""
        # Once due it is too late, whether or not the owner of the room has looked already.
        second = (await desk.change(NEWER)).change
        assert second is not None
        desk.now_s = second.due_at_s - 1
        late = await desk.room.ask(ADDRESS, "destination.cancel")
        desk.now_s += 1
        assert await desk.refused(late) == "nothing_pending"
        await desk.room.activate_due()
        assert await desk.refused(late) == "nothing_pending"
        assert await desk.kinds() == [
            *("change.requested", "change.cancelled"),
            *("change.requested", "change.active"),
        ]


async def test_a_newer_change_takes_the_place_of_a_pending_one_and_waits_anew(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        desk.balances_msat[ADDRESS] = 1
        await desk.change(NEW)
        desk.now_s += DELAY_S - 1
        newer = (await desk.change(NEWER)).change
        assert newer is not None
        desk.now_s += 1
        assert await desk.room.activate_due() == []
        desk.now_s = newer.due_at_s
        assert [c.destination for c in await desk.room.activate_due()] == [NEWER]
        assert [c.state for c in await desk.room.history(ADDRESS)] == ["active", "superseded"]
        assert "change.superseded" in await desk.kinds()


async def test_a_message_that_names_an_old_destination_no_longer_true_changes_nothing(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        first = await desk.room.ask(ADDRESS, "destination.change", NEW)
        second = await desk.room.ask(ADDRESS, "destination.change", NEWER)
        await desk.prove(second)
        assert await desk.refused(first) == "changed"
        assert (await desk.room.standing(ADDRESS)).destination == NEWER
        with pytest.raises(ProofRefused) as caught:
            await desk.room.ask(ADDRESS, "destination.change", NEWER)
        assert caught.value.code == "same"


async def test_a_failing_balance_leaves_nothing_behind_not_even_a_used_message(tmp_path: Path) -> None:
    def broken(connection: Connection, account: str) -> int:
        raise StoreUnavailableError("the books are away")

    async with open_desk(f"sqlite:///{tmp_path}/store.db") as desk:
        asked = await desk.room.ask(ADDRESS, "destination.change", NEW)
        healthy, desk.room._balance_msat = desk.room._balance_msat, broken
        with pytest.raises(StoreUnavailableError):
            await desk.prove(asked)
        desk.room._balance_msat = healthy
        assert await desk.kinds() == []
        assert (await desk.prove(asked)).value == NEW


@pytest.mark.parametrize("kind", ["p2tr", "p2pkh", "p2sh"])
async def test_every_kind_of_address_changes_its_own_destination(kind: str, tmp_path: Path) -> None:
    async with open_desk(f"sqlite:///{tmp_path}/store.db") as desk:
        account = MEMBER.address(kind)
        await desk.store.write(_know_one, account)
        asked = await desk.room.ask(account, "destination.change", NEW)
        proof = await desk.prove(asked, MEMBER.sign(kind, asked.text))
        assert proof.method == ("bip322" if kind == "p2tr" else "signmessage")
        assert (await desk.room.standing(account)).destination == NEW


def _know_one(connection: Connection, account: str) -> None:
    know(connection, [account])


async def test_the_database_itself_refuses_to_forget_or_alter_the_journal(store_url: str) -> None:
    async with open_desk(store_url) as desk:
        await desk.change(NEW)
        before = await desk.room.events()
        statements = [
            update(identity_events).values(evidence="other"),
            delete(identity_events),
        ]
        if desk.store.sqlite:
            statements.append(
                text(  # type: ignore[arg-type]
                    "INSERT OR REPLACE INTO identity_events (id, at_s, account, kind, evidence, signature, notice_es, "
                    "notice_en) VALUES (1, 0, 'a', 'b', '', '', '', '')"
                )
            )
        for statement in statements:
            with pytest.raises((DBAPIError, StoreUnavailableError), match="append-only"):
                await desk.store.write(lambda connection, s=statement: connection.execute(s) and None)
        assert await desk.room.events() == before


# --- any order of events
STEP = st.one_of(
    st.tuples(st.just("change"), st.sampled_from([NEW, NEWER, LIGHTNING]), st.sampled_from([0, 1, 10**15])),
    st.tuples(st.just("cancel"), st.sampled_from([NEW, NEWER, LIGHTNING]), st.just(0)),
    st.tuples(st.just("wait"), st.just(""), st.sampled_from([1, 3600, DELAY_S - 1, DELAY_S])),
    st.tuples(st.just("activate"), st.just(""), st.just(0)),
)


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Store:
    store = Store(f"sqlite:///{tmp_path}/store.db")
    store.upgrade()
    return store


def test_in_any_order_of_events_only_a_due_and_unstopped_change_counts(sqlite_store: Store) -> None:
    examples = iter(range(10**6))

    @settings(max_examples=120)
    @given(st.lists(STEP, max_size=14))
    def holds(steps: list[tuple[str, str, int]]) -> None:
        account, now_s, active, waiting, journal = f"m{next(examples)}", 1_000_000, "", None, 0
        for what, destination, number in steps:
            if what == "wait":
                now_s += number
                continue
            refused = False
            try:
                _do(sqlite_store, account, what, destination, number, active, now_s)
            except ProofRefused:
                refused = True
            if what == "change" and destination != active:
                journal += 1 if waiting is None else 2
                due = now_s if number == 0 else now_s + DELAY_S
                assert due == due_at_s(now_s, number)
                waiting = (destination, due) if number else None
                journal += 0 if number else 1
                active = active if number else destination
            elif what == "cancel" and waiting is not None and waiting[0] == destination and now_s < waiting[1]:
                waiting, journal = None, journal + 1
            elif what == "activate":
                if waiting is not None and now_s >= waiting[1]:
                    active, waiting, journal = waiting[0], None, journal + 1
            else:
                assert refused
            assert sqlite_store.read_now(changes.current, account) == active
            found = sqlite_store.read_now(changes.waiting, account)
            assert (None if found is None else (found.destination, found.due_at_s)) == waiting
            assert len(sqlite_store.read_now(changes.events, account=account)) == journal

    try:
        holds()
    finally:
        sqlite_store.close()


def _do(store: Store, account: str, what: str, destination: str, number: int, old: str, now_s: int) -> None:
    evidence = Evidence("signed")
    if what == "change":
        store.write_now(
            changes.request_change, account, old, destination, evidence, balance_msat=number, now_s=now_s
        )
    elif what == "cancel":
        store.write_now(changes.cancel, account, destination, evidence, now_s)
    else:
        store.write_now(changes.activate_due, now_s)
