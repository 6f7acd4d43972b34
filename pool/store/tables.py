"""Every table of the store imported in one place, for migrations; a room's new table module is added here."""

from pool.store.inbox import inbox
from pool.store.sessions import accounts, sessions, workers
from pool.store.work import (
    best_shares,
    found_shares,
    ledger_accounts,
    ledger_workers,
    log_cursor,
    log_names,
    slice_rejects,
    slice_work,
    slices,
)

__all__ = [
    "accounts",
    "best_shares",
    "found_shares",
    "inbox",
    "ledger_accounts",
    "ledger_workers",
    "log_cursor",
    "log_names",
    "sessions",
    "slice_rejects",
    "slice_work",
    "slices",
    "workers",
]
