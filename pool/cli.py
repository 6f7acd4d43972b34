"""The porch's door: reads the arguments, calls one subcommand, turns what went wrong into words and an exit code."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType

from pool.commands import NAMES, common
from pool.config import ConfigError


def parser_with(modules: dict[str, ModuleType]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pool", description="MicroMiningSocialPool: a Bitcoin mining pool for clubs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in modules.items():
        module.arguments(commands.add_parser(name, help=module.HELP, description=module.HELP))
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 failed, 2 wrong use or configuration. What the operator must act on is said in words;
    anything else is a defect and keeps its traceback, without the configuration's secrets."""
    modules = {name: importlib.import_module(f"pool.commands.{name}") for name in NAMES}
    args = parser_with(modules).parse_args(argv)
    try:
        code: int = modules[args.command].run(args)
    except ConfigError as error:
        count = len(error.mistakes)
        print(f"The configuration has {count} mistake{'s' * (count != 1)}:", file=sys.stderr)
        for mistake in error.mistakes:
            print(f"  {mistake}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `pool config show | head`
        sys.stderr.close()
        return 1
    except Exception as error:
        from pool.logs import Redactor

        words = _for_the_operator(error) or traceback.format_exc()
        print(Redactor(common.secrets_loaded).clean(words).rstrip(), file=sys.stderr)
        return 1
    return code


def _for_the_operator(error: Exception) -> str | None:
    """Words for errors that the operator can do something about; None for all others."""
    if isinstance(error, OSError):
        return f"{type(error).__name__}: {error}"
    from pool.keys import KeyFileError
    from pool.store import StoreError, StoreUnavailableError

    return str(error) if isinstance(error, KeyFileError | StoreError | StoreUnavailableError) else None
