"""`config`: is the configuration right, where does each value come from, what keys are there."""

from __future__ import annotations

import argparse
import json
import sys

from pool.commands.common import add_config_argument, config_path, load_config, say_fee
from pool.config import effective, reference_markdown

HELP = "check the configuration, or show the effective one with origins"


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="name every mistake; exit code 2 if there is one")
    show = actions.add_parser("show", help="every key with its effective value and origin; secrets masked")
    show.add_argument("--json", action="store_true", help="as JSON")
    show.add_argument("--changed", action="store_true", help="only what is not at its default")
    actions.add_parser("reference", help="every key with its default and meaning, as the README holds it")
    for one in (check, show):
        add_config_argument(one)


def run(args: argparse.Namespace) -> int:
    if args.action == "reference":
        print(reference_markdown())
        return 0
    config = load_config(args)
    if args.action == "check":
        path = config_path(args)
        print(f"{path or 'defaults and environment'}: right", file=sys.stderr)
        say_fee(config)
        return 0
    rows = [row for row in effective(config) if not args.changed or row[2] != "default"]
    if args.json:
        print(json.dumps([{"key": key, "value": value, "origin": origin} for key, value, origin in rows], indent=1))
        return 0
    wide = max((len(key) + len(value) for key, value, _ in rows), default=0) + 3
    for key, value, origin in rows:
        print(f"{f'{key} = {value}':<{min(wide, 72)}}  # {origin}")
    return 0
