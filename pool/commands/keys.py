"""`keys`: show the public part, back up, restore, rotate."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from pool.commands.common import add_config_argument, load_config

HELP = "show, back up, restore or rotate the pool's own keys"


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="the public keys as JSON, for publication")
    backup = actions.add_parser("backup", help="write all keys, private ones too, to a new file of mode 0600")
    restore = actions.add_parser("restore", help="put a backup in place where there are no keys")
    rotate = actions.add_parser("rotate", help="make new keys, endorsed by the present ones; restart the pool after it")
    for one in (backup, restore):
        one.add_argument("file", type=Path)
    for one in (show, backup, restore, rotate):
        add_config_argument(one)


def run(args: argparse.Namespace) -> int:
    from pool.keys import Keys

    directory = load_config(args).keys.directory
    try:
        if args.action == "restore":
            keys = Keys.restore(args.file, directory)
            print(f"restored to {directory}", file=sys.stderr)
        else:
            keys = Keys.load(directory)
        if args.action == "backup":
            keys.backup(args.file)
            print(f"{args.file} written: keep it where the pool's disk cannot take it along", file=sys.stderr)
        elif args.action == "rotate":
            keys = keys.rotated(int(time.time()))
            print("rotated: make a new backup, restart the pool", file=sys.stderr)
    except FileExistsError:
        what = directory if args.action == "restore" else args.file
        print(f"{what} exists already: not touched", file=sys.stderr)
        return 1
    if args.action != "backup":
        print(json.dumps([key.as_json() for key in keys.public], indent=1))
    return 0
