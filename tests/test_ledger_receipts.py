"""Signed share receipts: a member holds the pool to what it counted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pool.cli import main
from pool.keys import Keys
from pool.ledger import books, receipts
from pool.ledger.proofs import ProofError
from rig.ledger import T0_S, World, world


@pytest.fixture
def ledger(store_url: str, tmp_path: Path) -> Iterator[World]:
    with world(store_url, tmp_path) as made:
        made.mine([("anna", 2**32), ("anna", 7), ("bea", 5)])
        made.mine({"anna": 2**32 - 1})
        assert made.mature(made.block({"carl": 3}, by="bea"))
        yield made


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys.make(tmp_path / "keys", T0_S)


def receipt(ledger: World, keys: Keys, account: str, from_s: int = 0, to_s: int = 2**40) -> dict[str, Any]:
    with ledger.write() as connection:
        return receipts.make(connection, keys, account, from_s, to_s, T0_S)


def test_a_receipt_holds_exact_work_and_the_heads_of_log_and_books(ledger: World, keys: Keys) -> None:
    made = receipt(ledger, keys, "anna")
    assert (int(made["work"]), made["shares"]) == (2**33 + 6, 3)
    assert (made["epoch"], made["seq"]) == (1003, 7)
    with ledger.write() as connection:
        assert (made["entry_id"], bytes.fromhex(made["journal_head_hex"])) == books.head(connection)
    assert receipts.verify_receipt(json.dumps(made), keys.public) == made
    later = receipt(ledger, keys, "anna", T0_S + 1200)
    assert (int(later["work"]), later["shares"]) == (2**32 - 1, 1), "only slices that began in the period"
    with pytest.raises(KeyError, match="stranger has not mined here"):
        receipt(ledger, keys, "stranger")


def test_nothing_in_a_receipt_can_be_changed(ledger: World, keys: Keys, tmp_path: Path) -> None:
    made = receipt(ledger, keys, "anna")
    for name, value in made.items():
        other = value + 1 if isinstance(value, int) else f"{value}0"
        with pytest.raises(ProofError):
            receipts.verify_receipt(json.dumps({**made, name: other}))
        with pytest.raises(ProofError):
            receipts.verify_receipt(json.dumps({key: one for key, one in made.items() if key != name}))
    for text in ("", "null", "[" * 3000, "x" * 10**6, json.dumps({**made, "more": 1})):
        with pytest.raises(ProofError):
            receipts.verify_receipt(text)
    forger = Keys.make(tmp_path / "forger", T0_S)
    forged = receipt(ledger, forger, "anna")
    assert receipts.verify_receipt(json.dumps(forged)), "good by its own key"
    with pytest.raises(ProofError, match="no key of this pool"):
        receipts.verify_receipt(json.dumps(forged), keys.public)


def test_receipts_of_before_a_rotation_stay_good(ledger: World, keys: Keys) -> None:
    made = receipt(ledger, keys, "anna")
    rotated = keys.rotated(T0_S + 5)
    assert receipts.verify_receipt(json.dumps(made), rotated.public) == made
    assert receipts.verify_receipt(json.dumps(receipt(ledger, rotated, "bea")), rotated.public)


def test_a_member_fetches_and_checks_his_receipt(
    ledger: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POOL__STORE__URL", ledger.store.url.render_as_string(hide_password=False))
    monkeypatch.setenv("POOL__KEYS__DIRECTORY", str(tmp_path / "keys"))
    Keys.make(tmp_path / "keys", T0_S)
    assert main(["proof", "receipt", "anna", "--days", "20000"]) == 0
    file = tmp_path / "receipt.json"
    file.write_text(capsys.readouterr().out)
    assert main(["keys", "show"]) == 0
    published = tmp_path / "published.json"
    published.write_text(capsys.readouterr().out)
    assert main(["proof", "verify", str(file), "--keys", str(published)]) == 0
    assert "good: anna has 3 shares" in capsys.readouterr().out
    other = Keys.make(tmp_path / "other", T0_S)
    published.write_text(json.dumps([key.as_json() for key in other.public]))
    assert main(["proof", "verify", str(file), "--keys", str(published)]) == 1
    assert main(["proof", "receipt", "stranger"]) == 1
