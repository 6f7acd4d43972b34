"""Every invariant speaks when, and only when, what it guards is broken; then payouts stop."""

# ruff: noqa: S608 - statements of the test itself

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool.cli import main
from pool.ledger import audit, books, income, latches, proofs, virtual
from pool.ledger.books import Entry
from pool.ledger.income import Coinbase
from pool.ledger.keeper import Keeper, Publisher
from pool.records import IncomeEvent
from rig.ledger import POLICY, SUBSIDY_SAT, T0_S, World, world


@pytest.fixture
def full(store_url: str, tmp_path: Path) -> Iterator[World]:
    """A ledger that has seen it all: mature, direct, orphaned and immature blocks, a virtual one, surplus, proofs."""
    with world(store_url, tmp_path) as made:
        first, second = made.block(), made.block(coinbase=Coinbase(SUBSIDY_SAT, SUBSIDY_SAT, {"anna": 9}))
        third = made.block()
        assert made.mature(first)
        assert made.mature(second)
        with made.write() as connection:
            assert income.orphaned(connection, third.hash_hex, T0_S)
            at = virtual.newest_closed(connection)
            event = IncomeEvent("virtual", "2026-11", 1_000_001, at.epoch, at.seq, 900_001)
            assert virtual.book(connection, event, "reserve", T0_S, slice_id=at.slice_id)
            for number, moves in enumerate(
                [
                    (("pool_fee", 5000), ("surplus", -5000)),
                    (("treasury_assets", 3000), ("onchain_cold", -3000)),
                ]
            ):
                assert books.post(connection, Entry("test", "test", str(number), "x", moves), T0_S)
            values = {"balance": proofs.liabilities(connection)}
            assert proofs.publish(connection, values, bytes(32), b"s" * 32, T0_S)
        made.block()
        yield made


def alone(full: World, invariant: str, *statements: str) -> str:
    """Exactly this invariant is broken by these changes; its first words."""
    told = full.broken(*statements)
    assert list(told) == [invariant]
    return told[invariant][0]



def test_a_whole_ledger_holds(full: World) -> None:
    assert full.broken() == {}


def test_each_invariant_speaks_alone(full: World) -> None:
    """I1, I2, I3 and I4 hang together with the chain: who changes a posting breaks its entry's hash too."""
    one = "UPDATE postings SET amount_msat = amount_msat + 1 WHERE entry_id = 2 AND n = 0"
    told = full.broken(one)
    assert set(told) == {"I1", "I2", "I3", "I11"}
    assert told["I1"] == ["entry 2 sums to 1 msat"]
    assert told["I2"] == ["all postings sum to 1 msat"]
    assert "its postings say" in told["I3"][0]
    assert "entry 1 has no postings" in full.broken("DELETE FROM postings WHERE entry_id = 1")["I1"]

    stands = alone(full, "I3", "UPDATE balances SET version = version + 1 WHERE account_id = 1")
    assert stands.startswith("onchain_immature stands at")

    swap = "UPDATE book_accounts SET kind = '{}' WHERE name = '{}'"
    assert "is owed" in alone(full, "I4", swap.format("liability", "treasury_assets"))
    words = alone(full, "I5", swap.format("equity", "onchain_cold"), swap.format("equity", "onchain_immature"))
    assert words.startswith("liabilities of")


def test_states_allocations_and_credits_must_agree(full: World) -> None:
    states = "UPDATE income_blocks SET state = '{}' WHERE state = '{}'"
    assert set(full.broken(states.format("immature", "orphaned"))) == {"I10"}
    assert "I10" in full.broken(states.format("mature", "immature"))
    assert "I10" in full.broken(states.format("orphaned", "mature"))
    extra = "INSERT INTO allocations VALUES ('donation', 'x', 'projects', 'donation', 5)"
    assert "donation x of None msat" in alone(full, "I13", extra)
    mature = "source_id IN (SELECT hash_hex FROM income_blocks WHERE state = 'mature' AND direct_msat = 0)"
    more = f"UPDATE allocations SET msat = msat + 1 WHERE account = 'miner:bea' AND {mature}"
    less = f"UPDATE allocations SET msat = msat - 1 WHERE account = 'miner:carl' AND {mature}"
    assert set(full.broken(more)) == {"I13", "credits"}
    assert "other amounts" in alone(full, "credits", more, less)
    virtual_one = "WHERE source_type = 'virtual' AND account = 'miner:{}'"
    swapped = [
        f"UPDATE allocations SET msat = msat + 1 {virtual_one.format('anna')}",
        f"UPDATE allocations SET msat = msat - 1 {virtual_one.format('bea')}",
    ]
    assert alone(full, "credits", *swapped).startswith("virtual 2026-11")


def test_work_policy_and_treasury_are_guarded(full: World) -> None:
    immature = "(SELECT slice_id FROM income_blocks WHERE state = 'immature')"
    number = "'0000000000000000000000000000000000000099'" if full.store.sqlite else "99"
    changed = f"UPDATE slice_work SET work = {number} WHERE slice_id = {immature}"
    assert "splits differently now" in alone(full, "splits", changed)
    gap = "UPDATE slices SET first_seq = first_seq - 1 WHERE id = 2"
    words = alone(full, "work", "UPDATE slices SET first_epoch = 1, first_seq = 1 WHERE id = 3", gap)
    assert words.startswith("slice 3 does not begin where slice 2 ends")
    assert "reaches beyond" in alone(full, "work", "UPDATE log_cursor SET epoch = 1")
    body = "UPDATE policies SET body = REPLACE(body, '\"fee_bp\":100', '\"fee_bp\":101')"
    assert "policy 1 was changed" in full.broken(body)["policy"]
    assert "cannot be checked" in full.broken("UPDATE policies SET body = '['")["policy"][0]
    kind = "UPDATE book_accounts SET name = 'treasury_result' WHERE name = 'surplus'"
    assert "treasury" not in full.broken(kind), "its own result is its own too"
    kind = "UPDATE book_accounts SET name = 'suspense' WHERE name = 'surplus'"
    assert "the treasury holds 3000 msat" in full.broken(kind)["treasury"][0]


def test_a_latch_speaks_until_it_is_lifted(full: World) -> None:
    with full.write() as connection:
        latches.close(connection, "restored", "from a backup", T0_S)
        latches.close(connection, "restored", "a second reason is not heard", T0_S)
    assert full.broken() == {"latch": ["restored: from a backup"]}
    with full.write() as connection:
        assert latches.release(connection, "restored")
        assert not latches.release(connection, "restored")
    assert full.broken() == {}


GUARDED = {
    "I1": "UPDATE postings SET amount_msat = amount_msat + 1 WHERE entry_id = 2 AND n = 0",
    "I2": "UPDATE postings SET amount_msat = amount_msat + 1 WHERE entry_id = 2 AND n = 0",
    "I3": "UPDATE balances SET msat = msat - 1 WHERE account_id = 1",
    "I4": "UPDATE book_accounts SET kind = 'liability' WHERE name = 'treasury_assets'",
    "I5": "UPDATE book_accounts SET kind = 'equity' WHERE name IN ('onchain_cold', 'onchain_immature')",
    "I10": "UPDATE income_blocks SET state = 'immature' WHERE state = 'orphaned'",
    "I11": "UPDATE entries SET memo = 'x' WHERE id = 1",
    "I13": "INSERT INTO allocations VALUES ('donation', 'x', 'projects', 'donation', 5)",
    "credits": "UPDATE allocations SET msat = msat + 1 WHERE account = 'miner:bea'",
    "treasury": "UPDATE book_accounts SET name = 'suspense' WHERE name = 'surplus'",
    "policy": "UPDATE policies SET digest_hex = 'aa'",
    "splits": "UPDATE allocations SET msat = msat + 1 WHERE account = 'miner:bea'",
    "work": "UPDATE log_cursor SET epoch = 1",
    "latch": "INSERT INTO latches VALUES ('x', 'y', 0)",
}


def test_no_invariant_can_be_left_out_unseen(full: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check is needed: without it, what it guards goes unsaid by its name."""
    assert set(GUARDED) == set(audit.INVARIANTS) - {"append-only"}  # told in test_ledger_books
    for name, statement in GUARDED.items():
        assert name in full.broken(statement), name
    for name, statement in GUARDED.items():
        with monkeypatch.context() as patch:
            patch.setitem(audit.INVARIANTS, name, lambda connection: iter(()))
            assert name not in full.broken(statement)


async def test_payouts_stop_while_an_invariant_is_broken_and_nothing_is_published(full: World) -> None:
    keeper = Keeper(full.store, full.folder, lambda h: SUBSIDY_SAT, POLICY, publisher=Publisher(b"s" * 32, 1.0))
    assert await keeper.audit() == []
    assert keeper.stopped is None
    full.tamper("UPDATE balances SET msat = msat - 1 WHERE account_id = 1")
    assert [one.invariant for one in await keeper.audit()] == ["I3"]
    assert keeper.stopped is not None
    assert keeper.stopped.startswith("invariant I3: onchain_immature stands at")
    assert await keeper.publish() is None
    full.tamper("UPDATE balances SET msat = msat + 1 WHERE account_id = 1")
    assert await keeper.audit() == []
    assert keeper.stopped is None
    assert await keeper.publish() is not None


def test_ledger_verify_says_what_is_broken_and_ends_with_1(
    full: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POOL__STORE__URL", full.store.url.render_as_string(hide_password=False))
    assert main(["ledger", "verify"]) == 0
    assert "all hold" in capsys.readouterr().out
    assert main(["ledger", "export"]) == 0
    journal = tmp_path / "journal.jsonl"
    journal.write_text(capsys.readouterr().out)
    assert main(["ledger", "export", "--check", str(journal)]) == 0
    checked = json.loads(capsys.readouterr().out)
    with full.write() as connection:
        assert (checked["entries"], bytes.fromhex(checked["head_hex"])) == books.head(connection)
        assert checked["balances_msat"]["treasury_assets"] == 3000
    journal.write_text(journal.read_text().replace("block_mature", "block_nature", 1))
    assert main(["ledger", "export", "--check", str(journal)]) == 1
    assert "was changed" in capsys.readouterr().err
    full.tamper("INSERT INTO latches VALUES ('restored', 'from a backup', 0)")
    assert main(["ledger", "verify", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["broken"] == [{"invariant": "latch", "what": "restored: from a backup"}]
    assert main(["ledger", "verify"]) == 1
    assert "BROKEN latch: restored: from a backup" in capsys.readouterr().out
    assert main(["ledger", "unlatch", "restored"]) == 0
    assert main(["ledger", "unlatch", "restored"]) == 1
    assert main(["ledger", "verify"]) == 0
