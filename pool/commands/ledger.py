"""`ledger`: verify the invariants, export the journal, check an export, lift a latch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pool.commands.common import add_config_argument, load_config

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pool.store import Store

HELP = "verify, export or replay the share ledger"


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="check all invariants; ends with 1 when one is broken")
    verify.add_argument("--json", action="store_true", help="for machines")
    export = actions.add_parser("export", help="the journal as JSON lines on standard output, or --check such a file")
    export.add_argument("--check", type=Path, metavar="FILE", help="hash an export again; needs no database")
    unlatch = actions.add_parser("unlatch", help="let money leave again after what a latch tells of was seen to")
    unlatch.add_argument("name", help="as `ledger verify` names it")
    for one in (verify, export, unlatch):
        add_config_argument(one)


def run(args: argparse.Namespace) -> int:
    if args.action == "export" and args.check is not None:
        return _check(args.check)
    from pool.store import Store

    store = Store(load_config(args).store.url.reveal())
    try:
        return {"verify": _verify, "export": _export, "unlatch": _unlatch}[args.action](store, args)
    finally:
        store.close()


def _verify(store: Store, args: argparse.Namespace) -> int:
    from pool.ledger.audit import INVARIANTS, verify

    broken = store.read_now(verify)
    if args.json:
        rows = [{"invariant": one.invariant, "what": one.what} for one in broken]
        print(json.dumps({"holds": not broken, "checked": list(INVARIANTS), "broken": rows}, ensure_ascii=False))
    else:
        for one in broken:
            print(f"BROKEN {one.invariant}: {one.what}")
        print(f"{len(INVARIANTS)} invariants checked: {'payouts must stop' if broken else 'all hold'}")
    return 1 if broken else 0


def _export(store: Store, args: argparse.Namespace) -> int:
    from pool.ledger.export import export_lines

    def show(connection: Connection) -> None:
        for line in export_lines(connection):
            print(line)

    store.read_now(show)
    return 0


def _check(path: Path) -> int:
    from pool.ledger.export import MAX_LINE_BYTES, ExportError, verify_lines

    def lines() -> Iterator[str]:
        with path.open(encoding="utf-8", errors="replace") as file:
            while line := file.readline(MAX_LINE_BYTES + 2):
                yield line.rstrip("\n")

    try:
        found = verify_lines(lines())
    except ExportError as error:
        print(f"NOT GOOD: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"entries": found.entries, "head_hex": found.head.hex(), "balances_msat": found.balances_msat}))
    return 0


def _unlatch(store: Store, args: argparse.Namespace) -> int:
    from pool.ledger import latches

    if not store.write_now(latches.release, args.name):
        print(f"there is no latch {args.name}", file=sys.stderr)
        return 1
    print(f"{args.name}: lifted")
    return 0
