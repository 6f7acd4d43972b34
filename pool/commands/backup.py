"""`backup`: everything that cannot be made again, into a new folder, while the pool runs."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pool.commands.common import add_config_argument, load_config

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pool.config import Config

HELP = "write database, keys, share log and found blocks to a new folder, while the pool runs"
FORMAT = "mmsp-backup-1"
MANIFEST = "manifest.json"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a folder that does not exist yet; it will hold private keys")
    add_config_argument(parser)


def run(args: argparse.Namespace) -> int:
    config = load_config(args)
    try:
        args.folder.mkdir(mode=0o700)
    except FileExistsError:
        print(f"{args.folder} exists already: not touched", file=sys.stderr)
        return 1
    manifest = make(config, args.folder)
    print(f"{args.folder}: {len(manifest['files'])} files, {sum(manifest['rows'].values())} rows, with private keys")
    return 0


def make(config: Config, folder: Path) -> dict[str, Any]:
    """The backup itself; its manifest, which is written last: a folder without one is no backup. The database is read
    before the share log: the log may only be ahead of it, never behind."""
    from pool.keys import FILE_NAME, Keys
    from pool.store import Store, StoreError, dump

    (folder / "database").mkdir()
    (folder / "keys").mkdir(mode=0o700)
    Keys.load(config.keys.directory).backup(folder / "keys" / FILE_NAME)

    def read(connection: Connection) -> tuple[str, dict[str, int]]:
        revision = dump.revision(connection)
        if not revision:
            raise StoreError("the database has no tables yet: `pool db upgrade`")
        return revision, dump.dump(connection, folder / "database")

    store = Store(config.store.url.reveal())
    try:
        revision, rows = store.read_now(read)
    finally:
        store.close()
    for name, source in sources(config).items():
        _copy(source, folder / name)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "made_at_s": int(time.time()),
        "revision": revision,
        "rows": rows,
        "files": {str(path.relative_to(folder)): dump.digest_of(path) for path in paths},
    }
    partial = folder / ".manifest"
    with partial.open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(folder / MANIFEST)
    return manifest


def sources(config: Config) -> dict[str, Path]:
    """Folders of plain files, by their name in the backup."""
    return {"sharelog": config.sharelog.directory, "blocks": config.pool.data_dir / "blocks"}


def _copy(source: Path, target: Path) -> None:
    """Files that vanish meanwhile (a segment that was compressed) are found under their new name at the next look."""
    target.mkdir()
    for _ in range(10):
        lost = False
        for path in sorted(source.rglob("*")) if source.exists() else []:
            copy = target / path.relative_to(source)
            if not path.is_file() or copy.exists() or path.name.endswith((".lock", ".partial")):
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copy2(path, copy)
            except FileNotFoundError:
                lost = True
        if not lost:
            return
    raise OSError(f"{source} changes faster than it can be copied")
