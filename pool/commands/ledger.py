"""`ledger`: verify the invariants, export the journal, check an export, lift a latch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pool.commands.common import add_config_argument, existing_store, load_config

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pool.store import Store

HELP = "verify, export or replay the ledger, or let money leave again"


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    verify = actions.add_parser("verify", help="check all invariants; ends with 1 when one is broken")
    verify.add_argument("--json", action="store_true", help="for machines")
    export = actions.add_parser("export", help="the journal as JSON lines on standard output, or --check such a file")
    export.add_argument("--check", type=Path, metavar="FILE", help="hash an export again; needs no database")
    replay = actions.add_parser("replay", help="sum the share log again and compare; ends with 1 when they differ")
    replay.add_argument("--into", metavar="URL", help="keep what comes out in this empty store")
    unlatch = actions.add_parser("unlatch", help="let money leave again after what a latch tells of was seen to")
    unlatch.add_argument("name", help="as `ledger verify` names it")
    for one in (verify, export, replay, unlatch):
        add_config_argument(one)


def run(args: argparse.Namespace) -> int:
    if args.action == "export" and args.check is not None:
        return _check(args.check)
    if args.action == "replay":
        return _replay(args)
    store = existing_store(load_config(args))
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


def _replay(args: argparse.Namespace) -> int:
    """Beside a running pool too: what is compared is the store as of one moment."""
    import tempfile

    from pool.chain.types import NETWORKS
    from pool.ledger.logreader import LogGapError
    from pool.ledger.replay import Replay, differences, standing
    from pool.store import Store

    config = load_config(args)
    name = config.pool.network
    if name == "dev":
        name = "demo" if not config.node and config.dev.chain_mode == "demo" else "regtest"
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        ours, fresh = Store(config.store.url.reveal()), Store(args.into or f"sqlite:///{folder}/replay.sqlite")
        try:
            fresh.upgrade()
            replay = Replay(fresh, config.sharelog.directory, NETWORKS[name].subsidy_sat)
            if replay.position.epoch:
                print("--into: this store holds work already; replay needs an empty one", file=sys.stderr)
                return 2

            def compare(connection: Connection) -> list[str]:
                replay.run(standing(connection))
                return fresh.read_now(lambda other: list(differences(connection, other)))

            replay.run(ours.read_now(standing))
            wrong = ours.read_now(compare)
        except LogGapError as error:
            print(f"cannot replay: {error}", file=sys.stderr)
            return 1
        finally:
            ours.close()
            fresh.close()
    for one in wrong[:100]:
        print(f"DIFFERS {one}")
    at = f"up to row {replay.position.seq} of epoch {replay.position.epoch}"
    print(f"{len(wrong)} differences {at}" if wrong else f"the tables are what the log says, {at}")
    return 1 if wrong else 0


def _unlatch(store: Store, args: argparse.Namespace) -> int:
    from pool.ledger import latches

    if not store.write_now(latches.release, args.name):
        print(f"there is no latch {args.name}", file=sys.stderr)
        return 1
    print(f"{args.name}: lifted")
    return 0
