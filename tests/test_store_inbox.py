"""The inbox: typed requests, put once and applied once by whoever comes first, over crashes; on both databases."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select, update

from pool.store import Store
from pool.store.inbox import (
    MAX_ATTEMPTS,
    KeyUsedError,
    LeaseLostError,
    RefusedError,
    apply_next,
    claim,
    finish,
    inbox,
    outcome,
    put,
    request,
)
from pool.store.sessions import accounts


@request("test.rename")
@dataclass(frozen=True, slots=True)
class Rename:
    name: str
    times: int = 1
    force: bool = False
    share: float | None = None
    tags: tuple[str, ...] = ()


@request("test.other")
@dataclass(frozen=True, slots=True)
class Other:
    text: str


KINDS = ("test.rename",)


def note(connection: Connection, made: object) -> str:
    """A handler whose effect can be counted."""
    assert isinstance(made, Rename)
    connection.execute(accounts.insert().values(name=made.name, kind="address", created_at_s=1, last_seen_s=1))
    return f"renamed {made.name}"


def effects(connection: Connection) -> list[str]:
    return list(connection.scalars(select(accounts.c.name).order_by(accounts.c.id)))


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    store = Store(store_url)
    store.upgrade()
    yield store
    store.close()


def put_rename(store: Store, name: str, *, key: str | None = None, sender: str = "web", now_s: int = 100) -> int:
    return store.write_now(put, Rename(name), sender=sender, idempotency_key=key or name, now_s=now_s)


def test_a_request_is_applied_once_and_its_outcome_recorded(store: Store) -> None:
    number = put_rename(store, "ana")
    waiting = store.write_now(outcome, number)
    assert waiting is not None
    assert (waiting.state, waiting.finished_at_s) == ("new", None)
    done = store.write_now(apply_next, KINDS, note, now_s=200)
    assert done is not None
    assert (done.id, done.state, done.text, done.finished_at_s) == (number, "done", "renamed ana", 200)
    assert store.write_now(outcome, number) == done
    assert store.write_now(apply_next, KINDS, note, now_s=300) is None
    assert store.write_now(effects) == ["ana"]


def test_asking_twice_with_one_key_asks_once_and_another_request_under_it_is_refused(store: Store) -> None:
    first = put_rename(store, "ana", key="k")
    assert put_rename(store, "ana", key="k") == first
    assert put_rename(store, "ana", key="k", sender="cli") != first  # keys belong to their sender
    with pytest.raises(KeyUsedError):
        put_rename(store, "eva", key="k")
    with pytest.raises(KeyUsedError):
        store.write_now(put, Other("ana"), sender="web", idempotency_key="k", now_s=1)
    store.write_now(apply_next, KINDS, note, now_s=200)
    assert put_rename(store, "ana", key="k") == first  # also after it was done
    assert store.write_now(lambda c: c.scalar(select(func.count()).select_from(inbox))) == 2


def test_requests_are_applied_oldest_first_and_only_by_the_room_that_owns_the_kind(store: Store) -> None:
    store.write_now(put, Other("x"), sender="web", idempotency_key="o", now_s=1)
    for name in ("c", "a", "b"):
        put_rename(store, name)
    while store.write_now(apply_next, KINDS, note, now_s=200) is not None:
        pass
    assert store.write_now(effects) == ["c", "a", "b"]
    assert store.write_now(lambda c: c.scalar(select(func.count()).where(inbox.c.state == "new"))) == 1


def test_a_refusal_is_recorded_and_what_the_handler_wrote_is_undone(store: Store) -> None:
    def refuse(connection: Connection, made: object) -> str:
        note(connection, made)
        raise RefusedError("not on a Sunday")

    number = put_rename(store, "ana")
    store.write_now(apply_next, KINDS, refuse, now_s=200)
    refused = store.write_now(outcome, number)
    assert refused is not None
    assert (refused.state, refused.text) == ("refused", "not on a Sunday")
    assert store.write_now(effects) == []
    assert store.write_now(apply_next, KINDS, note, now_s=300) is None


def test_a_handler_that_breaks_is_tried_again_and_in_the_end_given_up_without_blocking_others(store: Store) -> None:
    def broken(connection: Connection, made: object) -> str:
        text = note(connection, made)
        if made == Rename("bad"):
            raise ZeroDivisionError("oops")
        return text

    bad, good = put_rename(store, "bad"), put_rename(store, "good")
    states = []
    while (result := store.write_now(apply_next, KINDS, broken, now_s=200)) is not None:
        states.append((result.id, result.state))
    assert states == [(bad, "new")] * (MAX_ATTEMPTS - 1) + [(bad, "failed"), (good, "done")]
    failed = store.write_now(outcome, bad)
    assert failed is not None
    assert failed.text == "ZeroDivisionError: oops"
    assert store.write_now(effects) == ["good"]


def test_a_sql_error_inside_a_handler_is_a_failure_of_that_request_alone(store: Store) -> None:
    put_rename(store, "ana", key="1")
    put_rename(store, "ana", key="2")  # a second account of that name breaks a constraint
    put_rename(store, "eva", key="3")
    while store.write_now(apply_next, KINDS, note, now_s=200) is not None:
        pass
    assert store.write_now(effects) == ["ana", "eva"]


async def test_many_appliers_at_once_apply_each_request_once(store: Store) -> None:
    for number in range(40):
        put_rename(store, f"a{number:02d}")
    others = [Store(store.url.render_as_string(hide_password=False)) for _ in range(3)]

    async def work(one: Store) -> int:
        count = 0
        while await one.write(apply_next, KINDS, note, now_s=200) is not None:
            count += 1
        return count

    counts = await asyncio.gather(*(work(one) for one in (store, *others)))
    for one in others:
        await asyncio.to_thread(one.close)
    assert sum(counts) == 40
    assert sorted(store.write_now(effects)) == [f"a{number:02d}" for number in range(40)]


CRASHING = """
import os, signal, sys
from pool.store import Store
from pool.store.inbox import apply_next
sys.path.insert(0, {tests!r})
import test_store_inbox as here
def die(connection, made):
    here.note(connection, made)
    print("written", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
Store({url!r}).write_now(apply_next, here.KINDS, die, now_s=200)
"""


def test_a_room_killed_in_the_middle_leaves_the_request_to_be_applied_once(store: Store) -> None:
    number = put_rename(store, "ana")
    url = store.url.render_as_string(hide_password=False)
    code = CRASHING.format(tests=os.path.dirname(__file__), url=url)
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "written\n"), killed.stderr
    assert store.write_now(effects) == []
    done = store.write_now(apply_next, KINDS, note, now_s=300)
    assert done is not None
    assert (done.id, done.state) == (number, "done")
    assert store.write_now(effects) == ["ana"]


def test_a_claim_keeps_others_off_until_its_lease_ends(store: Store) -> None:
    put_rename(store, "ana")
    held = store.write_now(claim, KINDS, now_s=200, lease_s=60)
    assert held is not None
    assert (held.request, held.sender, held.attempts) == (Rename("ana"), "web", 1)
    assert store.write_now(claim, KINDS, now_s=259, lease_s=60) is None
    assert store.write_now(apply_next, KINDS, note, now_s=259) is None
    again = store.write_now(claim, KINDS, now_s=260, lease_s=60)
    assert again is not None
    assert again.attempts == 2
    with pytest.raises(LeaseLostError):
        store.write_now(finish, held, "late", now_s=261)
    store.write_now(finish, again, "banned", now_s=262)
    result = store.write_now(outcome, held.id)
    assert result is not None
    assert (result.state, result.text) == ("done", "banned")
    with pytest.raises(LeaseLostError):
        store.write_now(finish, again, "twice", now_s=263)


def test_a_request_nobody_ever_finishes_is_given_up(store: Store) -> None:
    number = put_rename(store, "ana")
    for attempt in range(MAX_ATTEMPTS):
        assert store.write_now(claim, KINDS, now_s=1_000 * attempt, lease_s=10) is not None
    assert store.write_now(claim, KINDS, now_s=99_999, lease_s=10) is None
    result = store.write_now(outcome, number)
    assert result is not None
    assert result.state == "failed"


@pytest.mark.parametrize(
    "body",
    [
        '{"name": 5, "times": 1, "force": false, "share": null, "tags": []}',
        '{"name": "a", "times": true, "force": false, "share": null, "tags": []}',
        '{"name": "a"}',
        '{"name": "a", "times": 1, "force": false, "share": null, "tags": [], "more": 1}',
        '{"name": "a", "times": 1, "force": false, "share": null, "tags": [1]}',
    ],
)
def test_a_request_that_does_not_fit_its_type_is_refused_not_guessed(body: str, store: Store) -> None:
    number = put_rename(store, "ana")
    store.write_now(lambda c: c.execute(update(inbox).values(body=body)))
    assert store.write_now(claim, KINDS, now_s=1, lease_s=1) is None
    result = store.write_now(outcome, number)
    assert result is not None
    assert result.state == "refused"
    assert store.write_now(effects) == []


def test_a_kind_that_no_room_of_this_version_knows_is_refused(store: Store) -> None:
    number = put_rename(store, "ana")
    store.write_now(lambda c: c.execute(update(inbox).values(kind="future.thing")))
    store.write_now(apply_next, ("future.thing",), note, now_s=1)
    result = store.write_now(outcome, number)
    assert result is not None
    assert result.state == "refused"


@settings(max_examples=30)
@given(
    made=st.builds(
        Rename,
        name=st.text(max_size=30),
        times=st.integers(-(2**80), 2**80),
        force=st.booleans(),
        share=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        tags=st.lists(st.text(max_size=9), max_size=3).map(tuple),
    )
)
def test_any_request_comes_out_as_it_went_in(made: Rename, store: Store) -> None:
    number = store.write_now(put, made, sender="web", idempotency_key=os.urandom(8).hex(), now_s=1)
    held = store.write_now(claim, KINDS, now_s=1, lease_s=5)
    assert held is not None
    assert (held.id, held.request) == (number, made)
    store.write_now(finish, held, "", now_s=2)


def test_what_cannot_be_kept_cannot_be_put(store: Store) -> None:
    def attempt(made: object) -> int:
        return store.write_now(put, made, sender="web", idempotency_key="k", now_s=1)

    with pytest.raises(TypeError, match="registered"):
        attempt("text")
    with pytest.raises(TypeError, match="times"):
        attempt(Rename("a", times="1"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most"):
        attempt(Rename("a" * 70_000))
    with pytest.raises(ValueError, match="JSON"):
        attempt(Rename("a", share=float("nan")))
    with pytest.raises(ValueError, match="twice"):
        request("test.rename")(Other)
    with pytest.raises(TypeError, match="cannot be put"):

        @request("test.path")
        @dataclass(frozen=True)
        class WithPath:
            path: Path

    assert store.write_now(lambda c: c.scalar(select(func.count()).select_from(inbox))) == 0
