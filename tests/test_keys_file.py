"""The pool's own keys: made once, readable by nobody else, backed up, rotated without breaking trust."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.keys import KeyFileError, Keys, verify, verify_chain


def test_keys_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "keys"
    made = Keys.open(folder, 1_000)
    assert (folder / "keys.json").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert Keys.open(folder, 2_000).public == made.public
    with pytest.raises(FileExistsError):
        Keys.make(folder, 3_000)
    assert [path.name for path in folder.iterdir()] == ["keys.json"]


def test_what_is_signed_verifies_for_that_key_purpose_and_payload_alone(tmp_path: Path) -> None:
    keys, other = Keys.make(tmp_path / "a", 1), Keys.make(tmp_path / "b", 1)
    signature = keys.sign("receipt", b"share 5")
    assert verify(keys.current.public_hex, "receipt", b"share 5", signature)
    assert not verify(keys.current.public_hex, "receipt", b"share 6", signature)
    assert not verify(keys.current.public_hex, "payout", b"share 5", signature)
    assert not verify(other.current.public_hex, "receipt", b"share 5", signature)
    assert not verify(keys.current.public_hex, "receip", b"t\0share 5", signature)
    assert not verify(keys.current.public_hex, "receip", b"tshare 5", signature)
    assert not verify("zz", "receipt", b"share 5", signature)
    with pytest.raises(ValueError, match="without NUL"):
        keys.sign("re\0ceipt", b"")


@given(st.binary(max_size=70))
def test_no_made_up_signature_verifies_and_none_crashes(signature: bytes) -> None:
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"  # RFC 8032, test 1
    assert not verify(public, "receipt", b"", signature)


def test_a_rotation_makes_a_new_key_that_the_old_one_endorsed_and_forgets_the_old_private_half(tmp_path: Path) -> None:
    first = Keys.make(tmp_path, 1_000)
    old_private = json.loads((tmp_path / "keys.json").read_text())["private_hex"]
    second = first.rotated(2_000)
    third = second.rotated(3_000)
    assert Keys.load(tmp_path).public == third.public
    assert [key.retired_at_s for key in third.public] == [2_000, 3_000, None]
    assert verify_chain(third.public)
    assert old_private not in (tmp_path / "keys.json").read_text()
    stranger = Keys.make(tmp_path / "other", 1).current
    assert not verify_chain((*third.public[:2], dataclasses.replace(stranger, endorsement_hex="00" * 64)))
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600


def test_secrets_differ_by_purpose_last_until_a_rotation_and_are_accepted_one_rotation_longer(tmp_path: Path) -> None:
    keys = Keys.make(tmp_path, 1)
    before = keys.secret("cookies")
    assert len(before) == 32
    assert before == Keys.load(tmp_path).secret("cookies")
    assert before != keys.secret("tokens")
    rotated = keys.rotated(2)
    assert rotated.secret("cookies") != before
    assert before in rotated.accepted_secrets("cookies")
    assert before not in rotated.rotated(3).accepted_secrets("cookies")


def test_a_backup_restores_to_the_same_keys_and_overwrites_nothing(tmp_path: Path) -> None:
    keys = Keys.make(tmp_path / "keys", 1).rotated(2)
    keys.backup(tmp_path / "backup.json")
    assert (tmp_path / "backup.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        keys.backup(tmp_path / "backup.json")
    with pytest.raises(FileExistsError):
        Keys.restore(tmp_path / "backup.json", tmp_path / "keys")
    restored = Keys.restore(tmp_path / "backup.json", tmp_path / "elsewhere" / "keys")
    assert restored.public == keys.public
    assert restored.sign("x", b"y") == keys.sign("x", b"y")
    assert Keys.load(tmp_path / "elsewhere" / "keys").secret("z") == keys.secret("z")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_keys_that_others_may_read_are_refused_with_the_remedy(mode: int, tmp_path: Path) -> None:
    Keys.make(tmp_path, 1)
    (tmp_path / "keys.json").chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        Keys.load(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"[1]",
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b'"version": 1', b'"version": 2'),
        lambda data: data.replace(b'"private_hex": "', b'"private_hex": "zz'),
        lambda data: data.replace(b'"masters_hex": [', b'"masters_hex": [], "x": ['),
        lambda data: json.dumps({**json.loads(data), "private_hex": "11" * 32}).encode(),
    ],
)
def test_a_damaged_key_file_is_refused_without_showing_it(damage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    Keys.make(tmp_path, 1)
    path = tmp_path / "keys.json"
    private = json.loads(path.read_text())["private_hex"]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(KeyFileError, match="damaged") as caught:
        Keys.load(tmp_path)
    assert private not in str(caught.value)


def test_absent_keys_say_how_to_make_them_and_repr_shows_no_private_part(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="init"):
        Keys.load(tmp_path)
    keys = Keys.make(tmp_path, 1)
    private = json.loads((tmp_path / "keys.json").read_text())["private_hex"]
    assert private not in repr(keys) + str(vars(keys)) + json.dumps([key.as_json() for key in keys.public])


def test_a_disk_that_refuses_leaves_the_old_keys_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys.make(tmp_path, 1)
    before = (tmp_path / "keys.json").read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        keys.rotated(2)
    assert (tmp_path / "keys.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]
