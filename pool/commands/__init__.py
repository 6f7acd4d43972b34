"""The subcommands of the porch, one module each.

A module has `HELP` (one line), `arguments(parser)` and `run(args) -> int` (exit code: 0 done, 1 failed, 2 wrong use or
configuration). It imports its room inside `run`, so that every command starts quickly and a broken room breaks only its
own commands. To add a command, write the module and put its name below.
"""

NAMES = (
    *("version", "init", "check", "config", "keys", "db", "ledger", "proof", "backup", "restore"),
    *("simulate", "serve", "run"),
)
