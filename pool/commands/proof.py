"""`proof`: a member's proof of balance or work, his share receipt, and the check of both, which needs no database."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pool.commands.common import add_config_argument, existing_store, load_config

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pool.keys import Keys

HELP = "show or verify a member's proof, make his share receipt"
DAY_S = 86_400
LONGEST = 1_000_000


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="a member's proof of the newest epoch, as JSON")
    show.add_argument("account")
    show.add_argument("--kind", choices=("balance", "work"), default="balance")
    show.add_argument("--epoch", type=int, help="an older epoch (default: the newest)")
    receipt = actions.add_parser("receipt", help="a signed receipt of a member's counted shares, as JSON")
    receipt.add_argument("account")
    receipt.add_argument("--days", type=int, default=1, help="of the last so many days (default 1)")
    check = actions.add_parser("verify", help="check a proof or receipt file; needs no database and no configuration")
    check.add_argument("file", type=Path, help="- reads standard input")
    check.add_argument("--carried", metavar="HEX", help="the 32 bytes that the pool's coinbases carry")
    check.add_argument("--keys", type=Path, metavar="FILE", help="the pool's published keys (`pool keys show`)")
    for one in (show, receipt):
        add_config_argument(one)


def run(args: argparse.Namespace) -> int:
    return _verify(args) if args.action == "verify" else _make(args)


def _make(args: argparse.Namespace) -> int:
    from pool.keys import Keys
    from pool.ledger.proofs import ProofError

    config = load_config(args)
    keys = Keys.load(config.keys.directory)
    store = existing_store(config)
    try:
        made = store.read_now(_receipt if args.action == "receipt" else _proof, keys, args)
    except (KeyError, ProofError) as error:
        print(error.args[0], file=sys.stderr)
        return 1
    finally:
        store.close()
    print(json.dumps(made, ensure_ascii=False))
    return 0


def _proof(connection: Connection, keys: Keys, args: argparse.Namespace) -> dict[str, Any]:
    from pool.ledger import proofs

    newest = proofs.latest(connection, args.kind)
    if newest is None:
        raise KeyError(f"no proof of {args.kind} was published yet")
    secrets = keys.accepted_secrets("proof of liabilities")
    return proofs.member_file(connection, args.kind, args.epoch or newest.epoch, args.account, secrets)


def _receipt(connection: Connection, keys: Keys, args: argparse.Namespace) -> dict[str, Any]:
    from pool.ledger import receipts

    now_s = int(time.time())
    return receipts.make(connection, keys, args.account, now_s - args.days * DAY_S, now_s, now_s)


def _verify(args: argparse.Namespace) -> int:
    from pool.keys import PublicKey
    from pool.ledger import proofs, receipts

    text = _text(args.file)
    try:
        if f'"{receipts.FORMAT}"' in text:
            rows = json.loads(_text(args.keys)) if args.keys else None
            published = None if rows is None else tuple(_public(row, PublicKey) for row in rows)
            found = receipts.verify_receipt(text, published)
            print(f"good: {found['account']} has {found['shares']} shares of work {found['work']}")
            print(f"signed by {found['public_hex']}: compare it with the keys the pool publishes")
            return 0
        found = proofs.verify_file(text)
        if args.carried is not None and args.carried.lower() != found["carried_hex"]:
            raise proofs.ProofError(f"the proof is of {found['carried_hex']}, not of {args.carried}")
    except proofs.ProofError as error:
        print(f"NOT GOOD: {error}", file=sys.stderr)
        return 1
    part = f"{found['value']} {found['unit']} of {found['total']}"
    print(f"good: {found['account']} has {part} in epoch {found['epoch']}")
    print(f"carried by coinbases: {found['carried_hex']}")
    return 0


def _public(row: object, made: Any) -> Any:
    from pool.ledger.proofs import ProofError

    if not isinstance(row, dict) or not isinstance(row.get("public_hex"), str):
        raise ProofError("the file of keys is not what `pool keys show` prints")
    return made(str(row.get("id")), row["public_hex"], 0, None, "")


def _text(path: Path) -> str:
    """At most a megabyte of it: the checks refuse what is longer anyway."""
    if str(path) == "-":
        return sys.stdin.read(LONGEST)
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(LONGEST)
