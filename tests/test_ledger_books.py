"""The books: balanced, append-only, chained, booked once; nothing can be changed in them without being found."""

# ruff: noqa: S608 - statements of the test itself

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from pool.ledger import books, donations, proofs
from pool.ledger.books import ConflictError, Entry, UnbalancedError, post
from pool.ledger.export import ExportError, export_lines, verify_lines
from rig.ledger import World, world

NAMES = ("onchain_hot", "onchain_cold", "reserve", "pool_fee", "miner:anna", "miner:bea", "projects")


@pytest.fixture
def books_world(store_url: str, tmp_path: Path) -> Iterator[World]:
    with world(store_url, tmp_path) as made:
        yield made


def entry(number: int, *postings: tuple[str, int], memo: str = "") -> Entry:
    return Entry("test", "test", str(number), "only", postings or (("onchain_hot", 5), ("miner:anna", -5)), memo)


def fill(made: World, count: int = 4) -> None:
    with made.write() as connection:
        for number in range(1, count + 1):
            moves = (("onchain_hot", 10 * number), ("miner:anna", -4 * number), ("miner:bea", -6 * number))
            assert post(connection, entry(number, *moves), 1000 + number)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(-(10**15), 10**15)), max_size=8))
def test_an_entry_that_does_not_sum_to_zero_cannot_be_made(postings: list[tuple[str, int]]) -> None:
    balanced = sum(amount for _, amount in postings) == 0 and any(amount for _, amount in postings)
    if balanced:
        assert sum(amount for _, amount in entry(1, *postings).merged()) == 0
    elif postings:
        with pytest.raises(UnbalancedError):
            entry(1, *postings)


@pytest.mark.parametrize("amount", [1.0, True, 2_100_000_000_000_000_001])
def test_amounts_are_whole_and_below_all_bitcoin(amount: int) -> None:
    with pytest.raises(UnbalancedError):
        entry(1, ("onchain_hot", amount), ("miner:anna", -amount))


def test_accounts_outside_the_chart_are_refused() -> None:
    with pytest.raises(ValueError, match="no book account 'slush_fund'"):
        entry(1, ("onchain_hot", 5), ("slush_fund", -5))


def test_the_same_entry_twice_is_booked_once_and_other_content_is_refused(books_world: World) -> None:
    with books_world.write() as connection:
        assert post(connection, entry(1), 7)
        assert not post(connection, entry(1), 8)
        assert not post(connection, entry(1, ("miner:anna", -2), ("onchain_hot", 5), ("miner:anna", -3)), 9)
        assert books.head(connection)[0] == 1
        assert books.balance_msat(connection, "miner:anna") == -5
        with pytest.raises(ConflictError, match="test 1 only is booked with other content"):
            post(connection, entry(1, ("onchain_hot", 6), ("miner:anna", -6)), 9)
        with pytest.raises(ConflictError):
            post(connection, Entry("other", "test", "1", "only", (("onchain_hot", 5), ("miner:anna", -5))), 9)


def test_the_database_itself_refuses_to_change_the_books(books_world: World) -> None:
    fill(books_world)
    with books_world.write() as connection:
        donations.choose(connection, "anna", 500, 7)
    columns = {"entries": "memo", "postings": "amount_msat", "policies": "body", "donation_settings": "at_s"}
    for table, column in columns.items():
        changes = [f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"]
        if books_world.store.sqlite:
            changes.append(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")
        else:
            changes.append(f"TRUNCATE {table} CASCADE")
        for change in changes:
            with pytest.raises(DBAPIError, match="append-only"), books_world.write() as connection:
                connection.execute(text(change))
    assert books_world.broken() == {}


def test_a_missing_guard_of_the_database_is_told(books_world: World) -> None:
    with books_world.write() as connection:
        if books_world.store.sqlite:
            connection.exec_driver_sql("DROP TRIGGER entries_no_DELETE")
        else:
            connection.exec_driver_sql("ALTER TABLE entries DISABLE TRIGGER entries_append_only")
    assert list(books_world.broken()) == ["append-only"]


CHANGES = {
    "memo": ("UPDATE entries SET memo = 'x' WHERE id = 3", "entry 3 was changed"),
    "time": ("UPDATE entries SET at_s = at_s + 1 WHERE id = 2", "entry 2 was changed"),
    "link": ("UPDATE entries SET prev_hash_hex = hash_hex WHERE id = 4", "entry 4 does not follow"),
    "hash": (f"UPDATE entries SET hash_hex = '{'ab' * 32}' WHERE id = 1", "entry 1 was changed"),
    "posting": ("UPDATE postings SET amount_msat = amount_msat - 1 WHERE entry_id = 3", "entry 3 was changed"),
    "posting removed": ("DELETE FROM postings WHERE entry_id = 2 AND n = 1", "entry 2 was changed"),
    "account": ("UPDATE book_accounts SET name = 'miner:carl' WHERE name = 'miner:bea'", "entry 1 was changed"),
    "not hex": ("UPDATE entries SET hash_hex = 'zz' WHERE id = 1", "entry 1 was changed"),
}


def test_a_change_in_the_books_is_found_and_placed(books_world: World) -> None:
    fill(books_world)
    assert books_world.broken() == {}
    for what, (statement, words) in CHANGES.items():
        told = books_world.broken(statement)["I11"]
        assert any(one.startswith(words) for one in told), (what, told)
    assert books_world.broken() == {}


def test_an_entry_taken_out_or_put_in_is_found_and_placed(books_world: World) -> None:
    fill(books_world)
    books_world.tamper("DELETE FROM postings WHERE entry_id = 2", "DELETE FROM entries WHERE id = 2")
    assert books_world.broken()["I11"] == ["entry 2 is missing: 3 follows 1"]
    books_world.tamper(
        "INSERT INTO entries SELECT 2, kind, source_type, 'new', leg, at_s, memo, hash_hex, '00' "
        "FROM entries WHERE id = 1",
        "INSERT INTO postings SELECT 2, n, account_id, amount_msat FROM postings WHERE entry_id = 1",
    )
    assert books_world.broken()["I11"] == ["entry 2 was changed: its hash does not follow from what it says"]


def test_newest_entries_that_were_published_cannot_be_taken_away(books_world: World) -> None:
    """Cutting the end off leaves a whole chain; the head in a published proof tells."""
    fill(books_world)
    with books_world.write() as connection:
        assert proofs.publish(connection, {"balance": proofs.liabilities(connection)}, bytes(32), b"s" * 32, 9)
    books_world.tamper(
        "DELETE FROM postings WHERE entry_id = 4",
        "DELETE FROM entries WHERE id = 4",
        "UPDATE balances SET msat = (SELECT SUM(amount_msat) FROM postings WHERE account_id = balances.account_id), "
        "version = version - 1",
    )
    assert books_world.broken() == {"I11": ["entries up to 4 were published, but the books end with entry 3"]}


moves = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(1, 10**12)).filter(lambda m: m[0] != m[1]),
    min_size=1,
    max_size=12,
)


@settings(max_examples=15)
@given(moves=moves, seed=st.integers(0, 2**32))
def test_the_journal_alone_gives_balances_and_head_again(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, str, int]], seed: int
) -> None:
    """P12, and P14: each entry delivered twice."""
    folder = tmp_path_factory.mktemp("books")
    with world(f"sqlite:///{folder}/a.sqlite", folder / "a") as made, made.write() as connection:
        for number, (debit, credit, amount) in enumerate(moves, 1):
            one = entry(number, (debit, amount), (credit, -amount), memo=f"ñ {seed}")
            assert post(connection, one, seed + number)
            assert not post(connection, one, seed + number + 1)
        replay(made, folder, connection)


def replay(made: World, folder: Path, connection: Connection) -> None:
    expected: dict[str, int] = {}
    with world(f"sqlite:///{folder}/b.sqlite", folder / "b") as other, other.write() as second:
        for one in books.walk(connection, limit=10**6):
            assert post(second, one.as_entry(), one.at_s)
            for name, amount in one.postings:
                expected[name] = expected.get(name, 0) + amount
        assert books.head(second) == books.head(connection)
        for name in NAMES:
            both = {books.balance_msat(place, name) for place in (connection, second)}
            assert both == {expected.get(name, 0)}


# --- export


def exported(made: World) -> list[str]:
    """All lines."""
    with made.write() as connection:
        return list(export_lines(connection))


def test_an_export_is_checked_by_anybody_without_the_database(books_world: World) -> None:
    fill(books_world)
    lines = exported(books_world)
    assert len(lines) == 4
    result = verify_lines(lines)
    with books_world.write() as connection:
        assert (result.entries, result.head) == books.head(connection)
    assert result.balances_msat == {"miner:anna": -40, "miner:bea": -60, "onchain_hot": 100}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:1] + lines[2:], "line 2: entry 2 is missing"),
        (lambda lines: [lines[0], lines[1].replace("-8", "-7"), *lines[2:]], "line 2: entry 2 was changed"),
        (lambda lines: [lines[1], lines[0]], "line 1: entry 1 is missing"),
        (lambda lines: [lines[0][:-3]], "line 1: "),
        (lambda lines: ["[" * 100_000], "line 1: "),
        (lambda lines: ["{}"], "line 1: "),
        (lambda lines: [json.dumps({**json.loads(lines[0]), "postings": [["miner:anna"]]})], "line 1: "),
        (lambda lines: [json.dumps({**json.loads(lines[0]), "id": "1"})], "line 1: "),
        (lambda lines: ["x" * 50_000_000], "line 1: "),
    ],
)
def test_a_changed_export_is_found_and_placed(
    tmp_path: Path, change: Callable[[list[str]], list[str]], words: str
) -> None:
    with world(f"sqlite:///{tmp_path}/a.sqlite", tmp_path) as made:
        fill(made)
        lines = exported(made)
    with pytest.raises(ExportError) as caught:
        verify_lines(change(lines))
    assert str(caught.value).startswith(words)
    assert len(str(caught.value)) < 500
