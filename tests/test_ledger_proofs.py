"""Proofs that a member can check: the vector to the byte, each leaf to the root, nothing forged gets through."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.cli import main
from pool.keys import Keys
from pool.ledger import books, merkle, proofs
from pool.ledger.merkle import MAX_SUM, Node, SumTree
from pool.ledger.proofs import ProofError
from rig.ledger import T0_S, World, world

SECRET = bytes(range(32))


@pytest.fixture
def ledger(store_url: str, tmp_path: Path) -> Iterator[World]:
    with world(store_url, tmp_path) as made:
        assert made.mature(made.block({f"member{n}": 10**8 * n + n for n in range(1, 7)}, by="member3"))
        yield made


def test_the_vector_of_the_study_comes_out_to_the_byte() -> None:
    leaves = [merkle.leaf(7, bytes([n]) * 32, bytes([16 + n]) * 32, v) for n, v in ((1, 123456), (2, 7000), (3, 1))]
    assert leaves[0][0].hex().startswith("24d6dc32")
    assert leaves[0][0].hex().endswith("acb7")
    pad = merkle.padding(7, 3, b"\x55" * 32)
    left, right = merkle.parent(1, leaves[0], leaves[1]), merkle.parent(1, leaves[2], pad)
    root = merkle.parent(2, left, right)
    assert root == (bytes.fromhex("3e4e46f7b67f473c51c0e874de491aa070395c5397fa75ded849f4b016f45fca"), 130457)
    commitment = merkle.root_commitment(7, 2, root, b"\xaa" * 32, b"\xbb" * 32)
    assert commitment.hex() == "d9713c6d1df77d8967fc2f7029694b0b26c53cdd4218b4941ccbd5b5bb6d5b75"


leaves_of = st.lists(st.integers(0, 10**12), min_size=1, max_size=40)


def nodes(values: list[int]) -> list[Node]:
    return [merkle.leaf(3, bytes([i]) * 32, bytes(32), value) for i, value in enumerate(values)]


@given(leaves_of)
def test_every_leaf_leads_to_the_root_and_the_total_is_the_sum(values: list[int]) -> None:
    tree = SumTree(3, nodes(values), SECRET)
    assert tree.root[1] == sum(values)
    assert len(tree.levels[0]) == 1 << tree.height
    for index, own in enumerate(nodes(values)):
        proof = tree.proof(index)
        assert len(proof.siblings) == tree.height
        assert proof.root(own) == tree.root
    for height in range(1, tree.height + 1):  # the fast way over a level is the plain one
        below = tree.levels[height - 1]
        assert tree.levels[height] == [merkle.parent(height, *below[i : i + 2]) for i in range(0, len(below), 2)]


@given(leaves_of.filter(lambda values: len(values) > 1), st.randoms(use_true_random=False))
def test_any_flipped_bit_sum_or_index_leads_elsewhere(values: list[int], rng: random.Random) -> None:
    """P16."""
    tree = SumTree(3, nodes(values), SECRET)
    index = rng.randrange(len(values))
    own, proof = nodes(values)[index], tree.proof(index)
    for level in range(tree.height):
        digest, total = proof.siblings[level]
        bit = rng.randrange(256)
        flipped = (int.from_bytes(digest, "big") ^ 1 << bit).to_bytes(32, "big")
        for other in ((flipped, total), (digest, total + 1), (digest, total ^ 1 << rng.randrange(40))):
            siblings = (*proof.siblings[:level], other, *proof.siblings[level + 1 :])
            assert merkle.Proof(index, siblings).root(own) != tree.root
        assert merkle.Proof(index ^ 1 << level, proof.siblings).root(own) != tree.root
    assert proof.root((own[0], own[1] + 1)) != tree.root
    assert merkle.Proof(index >> 1, proof.siblings[1:]).root(merkle.parent(1, own, own)) != tree.root
    with pytest.raises(ValueError, match="does not fit"):
        merkle.Proof(index + (1 << tree.height), proof.siblings).root(own)


def test_many_leaves_at_once_are_the_plain_ones() -> None:
    rows = [(bytes([n]) * 32, bytes([n, 7]) * 16, n * 10**16) for n in range(5)]
    plain = [merkle.leaf(9, name, merkle.leaf_nonce(key, 9), value) for name, key, value in rows]
    assert merkle.leaves(9, rows) == plain


def test_sums_stay_in_their_bounds() -> None:
    with pytest.raises(ValueError, match="a sum must be"):
        SumTree(1, [(bytes(32), MAX_SUM), (bytes(32), 1)], SECRET)
    with pytest.raises(ValueError, match="a sum must be"):
        SumTree(1, [(bytes(32), -1), (bytes(32), 1)], SECRET)
    with pytest.raises(ValueError, match="32 bytes"):
        SumTree(1, [(b"short", 1)], SECRET)
    with pytest.raises(ValueError, match="at least one"):
        SumTree(1, [], SECRET)
    with pytest.raises(ValueError, match="a sum must be"):
        merkle.parent(1, (bytes(32), MAX_SUM), (bytes(32), 1))


# --- published


def publish(ledger: World, work: dict[str, int] | None = None) -> bytes:
    with ledger.write() as connection:
        values = {"balance": proofs.liabilities(connection), "work": work or {}}
        made = proofs.publish(connection, values, b"\x07" * 32, SECRET, T0_S)
    assert made is not None
    return made


def file_of(ledger: World, kind: str, epoch: int, account: str) -> str:
    with ledger.write() as connection:
        return json.dumps(proofs.member_file(connection, kind, epoch, account, (b"o" * 32, SECRET)))


def test_the_published_total_is_what_is_owed_and_each_member_finds_himself(ledger: World) -> None:
    carried = publish(ledger, {"member1": 10**15, "member2": 5})
    with ledger.write() as connection:
        owed = proofs.liabilities(connection)
        assert owed == books.owed_msat(connection, "miner:")
        head = proofs.latest(connection, "balance")
        assert head is not None
        assert head.root[1] == sum(owed.values())
        assert proofs.carried_now(connection) == carried
    for account, msat in owed.items():
        data = proofs.verify_file(file_of(ledger, "balance", 1, account))
        assert (data["account"], data["value"], data["total"]) == (account, msat, sum(owed.values()))
        assert data["carried_hex"] == carried.hex()
    data = proofs.verify_file(file_of(ledger, "work", 1, "member2"))
    assert (data["value"], data["unit"], data["carried_hex"]) == (5, "attoblocks", carried.hex())


def test_payouts_in_flight_count_as_owed(ledger: World) -> None:
    with ledger.write() as connection:
        before = proofs.liabilities(connection)
        moves = (("miner:member1", before["member1"]), ("payout_inflight:member1:77", -before["member1"]))
        assert books.post(connection, books.Entry("payout", "payout", "77", "T1", moves), T0_S)
        assert proofs.liabilities(connection) == before


def test_the_widest_window_fits_the_tree_of_work(tmp_path: Path) -> None:
    """Nine expected blocks are more attoblocks than there are millisatoshis."""
    with world(f"sqlite:///{tmp_path}/a.sqlite", tmp_path) as made:
        publish(made, {"anna": 5 * 10**18, "bea": 4 * 10**18})
        assert proofs.verify_file(file_of(made, "work", 1, "bea"))["total"] == 9 * 10**18


def test_a_stranger_has_no_leaf_and_old_epochs_keep_theirs(ledger: World) -> None:
    publish(ledger)
    first = file_of(ledger, "balance", 1, "member1")
    publish(ledger)
    assert file_of(ledger, "balance", 1, "member1") == first
    with pytest.raises(KeyError, match="stranger has no leaf"):
        file_of(ledger, "balance", 1, "stranger")
    with pytest.raises(KeyError):
        file_of(ledger, "balance", 3, "member1")


def test_leaves_changed_in_the_database_make_no_proof(ledger: World) -> None:
    publish(ledger)
    ledger.tamper("UPDATE proof_leaves SET value = value + 1 WHERE account = 'member2'")
    with pytest.raises(ProofError, match="no longer give the published root"):
        file_of(ledger, "balance", 1, "member1")


def test_nothing_to_prove_publishes_nothing(tmp_path: Path) -> None:
    with world(f"sqlite:///{tmp_path}/a.sqlite", tmp_path) as made, made.write() as connection:
        assert proofs.publish(connection, {"balance": {}, "work": {}}, bytes(32), SECRET, T0_S) is None
        assert proofs.carried_now(connection) is None


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("good")
    with world(f"sqlite:///{folder}/a.sqlite", folder) as made:
        assert made.mature(made.block())
        publish(made)
        found: dict[str, Any] = json.loads(file_of(made, "balance", 1, "bea"))
    return found


def test_each_field_of_a_proof_matters(good: dict[str, Any]) -> None:
    assert proofs.verify_file(json.dumps(good)) == good
    for name, value in good.items():
        others: list[object] = [None, [], {}, 1.5, True]
        if isinstance(value, int):
            others += [value + 1, -value - 1, str(value), 10**30, float(value)]
        elif isinstance(value, str):
            others += [value + "0", value[1:], "ff" * 32, value.upper() + "x", "\ud800"]
        else:
            others += [value[1:], value * 20, [[]] * 3, [["zz", 1]], [[value[0][0], -1]], [[value[0][0], "1"]]]
        for other in others:
            with pytest.raises(ProofError):
                proofs.verify_file(json.dumps({**good, name: other}))
        with pytest.raises(ProofError):
            proofs.verify_file(json.dumps({key: one for key, one in good.items() if key != name}))
    with pytest.raises(ProofError, match="longer than"):
        proofs.verify_file(json.dumps(good) + " " * 20_000)
    with pytest.raises(ProofError, match="fields note"):
        proofs.verify_file(json.dumps({**good, "note": "the pool owes me more"}))


@settings(max_examples=200)
@given(st.one_of(st.text(max_size=300), st.binary(max_size=300).map(lambda raw: raw.decode("latin1"))))
def test_garbage_is_no_proof(text: str) -> None:
    with pytest.raises(ProofError):
        proofs.verify_file(text)


@pytest.mark.parametrize("text", ["[" * 5000, "9" * 16_000, '{"format": ' * 1000, "x" * 10**7, "null", "[]", '"a"', ""])
def test_costly_garbage_is_refused_cheaply(text: str) -> None:
    with pytest.raises(ProofError) as caught:
        proofs.verify_file(text)
    assert len(str(caught.value)) < 500


# --- commands


def test_a_member_gets_his_proof_and_receipt_and_checks_them_without_the_pool(
    ledger: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POOL__STORE__URL", ledger.store.url.render_as_string(hide_password=False))
    keys = Keys.make(tmp_path / "data" / "keys", T0_S) if (tmp_path / "data").mkdir() is None else None
    assert keys is not None
    assert main(["proof", "show", "member1"]) == 1
    assert "no proof of balance was published yet" in capsys.readouterr().err
    with ledger.write() as connection:
        secret = keys.secret("proof of liabilities")
        assert proofs.publish(connection, {"balance": proofs.liabilities(connection)}, bytes(32), secret, T0_S)
    keys.rotated(T0_S + 1)
    assert main(["proof", "show", "member1"]) == 0
    file = tmp_path / "proof.json"
    file.write_text(capsys.readouterr().out)
    data = json.loads(file.read_text())
    monkeypatch.delenv("POOL__STORE__URL")
    (tmp_path / "pool.toml").write_text("not a configuration")  # verify reads none
    assert main(["proof", "verify", str(file), "--carried", data["carried_hex"]]) == 0
    assert f"good: member1 has {data['value']} msat of {data['total']}" in capsys.readouterr().out
    assert main(["proof", "verify", str(file), "--carried", "00" * 32]) == 1
    file.write_text(json.dumps({**data, "value": data["value"] + 1}))
    assert main(["proof", "verify", str(file)]) == 1
    assert "NOT GOOD: the leaf does not lead to the root" in capsys.readouterr().err
    file.write_bytes(b"\xff" * 3_000_000)
    assert main(["proof", "verify", str(file)]) == 1
