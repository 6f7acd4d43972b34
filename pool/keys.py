"""The pool's own keys: one file of mode 0600, made at init, backed up and rotated.

Signing is Ed25519 (RFC 8032). Each signature names its purpose, so that one made for a receipt is worth nothing
elsewhere. A rotation makes a new signing key, endorsed by the old one, and forgets the old private half. Secrets for
cookies, tokens and the like are derived from a master secret with HKDF-SHA256 (RFC 5869); what was derived from the
master before the last rotation is still accepted.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FILE_NAME = "keys.json"
VERSION = 1
ENDORSEMENT = "key-rotation"


class KeyFileError(Exception):
    """The key file is absent, damaged, or readable by others; the text says what to do."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What is published of one signing key."""

    id: str  # first 8 bytes of SHA-256 of the public key, hex
    public_hex: str
    created_at_s: int
    retired_at_s: int | None
    endorsement_hex: str  # signature of the key before it over this one's public bytes; "" for the first

    def as_json(self) -> dict[str, str | int | None]:
        return {
            "id": self.id,
            "algorithm": "ed25519",
            "public_hex": self.public_hex,
            "created_at_s": self.created_at_s,
            "retired_at_s": self.retired_at_s,
            "endorsement_hex": self.endorsement_hex,
        }


def key_id(public: bytes) -> str:
    return hashlib.sha256(public).digest()[:8].hex()


def _message(purpose: str, payload: bytes) -> bytes:
    """What is signed: `mmsp/<purpose>`, a NUL, the payload."""
    if not purpose or not purpose.isascii() or "\0" in purpose:
        raise ValueError("a purpose is ASCII text without NUL")
    return b"mmsp/" + purpose.encode() + b"\0" + payload


def verify(public_hex: str, purpose: str, payload: bytes, signature: bytes) -> bool:
    """True iff `signature` was made for this purpose and payload by the key whose public half is given."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_hex)).verify(signature, _message(purpose, payload))
    except (InvalidSignature, ValueError):
        return False
    return True


def verify_chain(keys: tuple[PublicKey, ...]) -> bool:
    """True iff each key was endorsed by the one before it: who trusted an old key can trust the newest."""
    return all(
        verify(old.public_hex, ENDORSEMENT, bytes.fromhex(new.public_hex), bytes.fromhex(new.endorsement_hex))
        for old, new in itertools.pairwise(keys)
    )


class Keys:
    """The keys of one pool, read from their file. Private parts never show in repr."""

    def __init__(self, path: Path, public: tuple[PublicKey, ...], private: bytes, masters: tuple[bytes, ...]) -> None:
        self._path = path
        self._public = public
        self._private = Ed25519PrivateKey.from_private_bytes(private)
        self._masters = masters  # current first, then the previous one

    def __repr__(self) -> str:
        return f"Keys({self._path}, current {self.current.id})"

    # --- making and reading
    @classmethod
    def make(cls, directory: Path, now_s: int) -> Keys:
        """New keys in `directory` (made with mode 0700). FileExistsError when there are keys already."""
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        first = PublicKey(key_id(public), public.hex(), now_s, None, "")
        keys = cls(directory / FILE_NAME, (first,), private.private_bytes_raw(), (secrets.token_bytes(32),))
        _make_directory(directory)
        keys._write(keys._path, fresh=True)
        return keys

    @classmethod
    def load(cls, directory: Path) -> Keys:
        """KeyFileError when the file is absent, damaged, or when others than its owner may read it."""
        return cls._read(directory / FILE_NAME)

    @classmethod
    def open(cls, directory: Path, now_s: int) -> Keys:
        """The keys there, or new ones when there are none."""
        try:
            return cls.make(directory, now_s)
        except FileExistsError:
            return cls.load(directory)

    @classmethod
    def restore(cls, backup: Path, directory: Path) -> Keys:
        """Put a backup in place. FileExistsError when there are keys already: they are never overwritten."""
        keys = cls._read(backup)
        keys._path = directory / FILE_NAME
        _make_directory(directory)
        keys._write(keys._path, fresh=True)
        return keys

    @classmethod
    def _read(cls, path: Path) -> Keys:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise KeyFileError(
                f"{path}: {error.strerror}; `init` makes new keys, `keys restore` takes a backup"
            ) from None
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(descriptor)
            if state.st_mode & 0o077:
                raise KeyFileError(f"{path} is open to other users: chmod 600 {path}")
            if state.st_uid != os.geteuid():
                raise KeyFileError(f"{path} belongs to another user (uid {state.st_uid})")
            text = file.read()
        try:
            return cls._from_json(path, json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # The text of the error could quote the file; its kind cannot.
            raise KeyFileError(f"{path} is damaged ({type(error).__name__}): restore it from a backup") from None

    @classmethod
    def _from_json(cls, path: Path, data: Mapping[str, object]) -> Keys:
        if data["version"] != VERSION:
            raise ValueError("version")
        rows, private, masters = data["signing"], data["private_hex"], data["masters_hex"]
        if not isinstance(rows, list) or not isinstance(private, str) or not isinstance(masters, list):
            raise TypeError
        names = ("id", "public_hex", "created_at_s", "retired_at_s", "endorsement_hex")
        keys = cls(
            path,
            tuple(PublicKey(*(row[name] for name in names)) for row in rows),
            bytes.fromhex(private),
            tuple(bytes.fromhex(master) for master in masters),
        )
        if keys._private.public_key().public_bytes_raw().hex() != keys.current.public_hex:
            raise ValueError("private and public half differ")
        if not keys._masters or any(len(master) != 32 for master in keys._masters):
            raise ValueError("masters")
        return keys

    # --- use
    @property
    def current(self) -> PublicKey:
        return self._public[-1]

    @property
    def public(self) -> tuple[PublicKey, ...]:
        """All signing keys there ever were, oldest first; for publication."""
        return self._public

    def sign(self, purpose: str, payload: bytes) -> bytes:
        """64-byte signature by the current key; `verify` checks it."""
        return self._private.sign(_message(purpose, payload))

    def secret(self, purpose: str) -> bytes:
        """32 secret bytes for one purpose ("web cookies"), the same until the next rotation."""
        return self.accepted_secrets(purpose)[0]

    def accepted_secrets(self, purpose: str) -> tuple[bytes, ...]:
        """The current secret of a purpose, then the one before the last rotation: what is still accepted."""
        info = _message(purpose, b"")
        return tuple(HKDF(SHA256(), 32, salt=None, info=info).derive(master) for master in self._masters)

    # --- care
    def rotated(self, now_s: int) -> Keys:
        """New signing key, endorsed by the present one, and new master secret; written before it is returned."""
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        new = PublicKey(key_id(public), public.hex(), now_s, None, self.sign(ENDORSEMENT, public).hex())
        retired = replace(self.current, retired_at_s=now_s)
        masters = (secrets.token_bytes(32), self._masters[0])
        keys = Keys(self._path, (*self._public[:-1], retired, new), private.private_bytes_raw(), masters)
        keys._write(keys._path, fresh=False)
        return keys

    def backup(self, target: Path) -> None:
        """Write all of it to a new file of mode 0600 and read it back. FileExistsError rather than overwrite."""
        self._write(target, fresh=True)
        if Keys._read(target)._text() != self._text():
            raise KeyFileError(f"{target} does not read back as written")

    def _text(self) -> bytes:
        return json.dumps(
            {
                "version": VERSION,
                "signing": [key.as_json() for key in self._public],
                "private_hex": self._private.private_bytes_raw().hex(),
                "masters_hex": [master.hex() for master in self._masters],
            },
            indent=1,
        ).encode()

    def _write(self, path: Path, *, fresh: bool) -> None:
        """Whole or not at all, and on the disk when it returns. `fresh`: never over a file that is there."""
        partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._text())
                file.flush()
                os.fsync(descriptor)
            if fresh:
                os.link(partial, path)  # fails when path exists, also in a race
            else:
                os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _make_directory(directory: Path) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
