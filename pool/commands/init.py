"""`init`: a commented pool.toml and the pool's own keys; on a terminal it asks the few things that matter."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pool.commands.common import DEFAULT_FILE, ROOM_CHECKS, say_fee
from pool.config import NETWORKS, Config, ConfigError, all_keys, commented_toml, load

HELP = "write a commented pool.toml and make the pool's keys"
#: Asked on a terminal: key, question, and when to ask it.
QUESTIONS: tuple[tuple[str, str, Callable[[dict[str, object]], bool]], ...] = (
    ("pool.name", "Name of the pool / Nombre del pool", lambda given: True),
    ("pool.language", "Language of the pages / Idioma de las páginas (es, en)", lambda given: True),
    ("pool.network", f"Bitcoin network / Red ({', '.join(NETWORKS)})", lambda given: True),
    (
        "node.url",
        "Node's RPC address / Dirección RPC del nodo",
        lambda given: given.get("pool.network") not in (None, "dev"),
    ),
    (
        "coinbase.payout_address",
        "Address that receives blocks / Dirección que recibe los bloques",
        lambda given: given.get("pool.network") not in (None, "dev"),
    ),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=DEFAULT_FILE, metavar="FILE", help="file to write (./pool.toml)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a key, as in pool.network=signet; repeatable",
    )
    parser.add_argument("--yes", action="store_true", help="ask nothing")


def run(args: argparse.Namespace) -> int:
    path: Path = args.config
    if path.exists():
        print(f"{path} exists: not touched", file=sys.stderr)
        return 2
    given = _given(args.set)
    if not args.yes and sys.stdin.isatty():
        _ask(given)
    _write_private(path, commented_toml(given))
    print(f"{path} written", file=sys.stderr)
    try:
        config = load(path, checks=ROOM_CHECKS)
    except ConfigError as error:
        print(f"still to be put right in it (keys are made at the first start):\n{error}", file=sys.stderr)
        return 2
    _make_keys(config)
    say_fee(config)
    return 0


def _given(settings: list[str]) -> dict[str, object]:
    """KEY=VALUE texts as typed values by path. A wrong key or form ends the command with 2."""
    kinds = {info.path: info.kind for info in all_keys() if not info.secret}
    given: dict[str, object] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or key not in kinds:
            raise SystemExit(f"--set {setting}: KEY must be one of the reference's, as in pool.network=signet")
        given[key] = _typed(kinds[key], text)
    return given


def _typed(kind: type, text: str) -> object:
    """What TOML would hold; a text that does not fit stays a text, and the check after writing names it."""
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind in (int, float):
            number: object = kind(text)
            return number
    except (ValueError, KeyError):
        return text
    return tuple(text.split(",")) if kind is tuple else text


def _ask(given: dict[str, object]) -> None:
    defaults = {info.path: info.default for info in all_keys()}
    for key, question, wanted in QUESTIONS:
        if key in given or not wanted(given):
            continue
        answer = input(f"{question} [{defaults[key]}]: ").strip()
        if answer:
            given[key] = answer


def _write_private(path: Path, text: str) -> None:
    """Mode 0600: passwords may be written into it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)


def _make_keys(config: Config) -> None:
    from pool.keys import Keys

    try:
        keys = Keys.make(config.keys.directory, int(time.time()))
    except FileExistsError:
        print(f"keys in {config.keys.directory} exist: kept", file=sys.stderr)
        return
    print(f"keys made in {config.keys.directory}; public key {keys.current.public_hex}", file=sys.stderr)
    print("make a backup of them now: keys backup FILE", file=sys.stderr)
