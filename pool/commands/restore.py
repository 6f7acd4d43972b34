"""`restore`: put a backup in place where there is nothing; no money leaves until the operator has reconciled it."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pool.commands.backup import FORMAT, MANIFEST, sources
from pool.commands.common import add_config_argument, load_config

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pool.config import Config

HELP = "put a backup in place where there is no database, no keys and no share log yet"
LATCH = "restored"


class RestoreError(Exception):
    """The folder is no whole backup, or there is something already where it shall go."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="as `backup` made it")
    add_config_argument(parser)


def run(args: argparse.Namespace) -> int:
    config = load_config(args)
    try:
        put_back(config, args.folder, int(time.time()))
    except RestoreError as error:
        print(f"{error}: nothing was restored", file=sys.stderr)
        return 1
    print("restored. The pool may run, but pays nothing: what was paid after the backup is not in these books.")
    print(f"Compare them with the wallets, book the difference, then: pool ledger unlatch {LATCH}")
    return 0


def put_back(config: Config, folder: Path, now_s: int) -> None:
    """RestoreError before anything is touched; StoreError when the database is not empty (it then stays as it was)."""
    from pool.keys import FILE_NAME, Keys
    from pool.ledger import latches
    from pool.store import Store, StoreError, dump

    manifest = _checked(folder)
    _nothing_there(config)
    store = Store(config.store.url.reveal())

    def fill(connection: Connection) -> None:
        if dump.revision(connection) != manifest["revision"]:
            words = f"the backup is of database revision {manifest['revision']}, not {dump.revision(connection)}"
            raise StoreError(f"{words}: restore it with the version that made it, then upgrade")
        dump.load(connection, folder / "database", manifest["rows"])
        made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(manifest["made_at_s"]))
        latches.close(connection, LATCH, f"restored from a backup of {made}; not reconciled yet", now_s)

    try:
        store.upgrade()
        store.write_now(fill)
    finally:
        store.close()
    Keys.restore(folder / "keys" / FILE_NAME, config.keys.directory)
    for name, target in sources(config).items():
        shutil.copytree(folder / name, target, dirs_exist_ok=True)


def _checked(folder: Path) -> dict[str, Any]:
    from pool.store import dump

    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"]
        whole = manifest["format"] == FORMAT and isinstance(files, dict) and isinstance(manifest["rows"], dict)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RestoreError(f"{folder} is no whole backup ({type(error).__name__})") from None
    if not whole:
        raise RestoreError(f"{folder} is no backup of this version")
    for name, digest in files.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise RestoreError(f"{name} is missing from the backup")
        if dump.digest_of(path) != digest:
            raise RestoreError(f"{name} is damaged: it is not the file that was backed up")
    return manifest


def _nothing_there(config: Config) -> None:
    from pool.keys import FILE_NAME

    there = [config.keys.directory / FILE_NAME, *sources(config).values()]
    for path in there:
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise RestoreError(f"{path} is there already")
