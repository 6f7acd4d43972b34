"""Every table of the store imported in one place, for migrations; a room's new table module is added here."""

from pool.store.books import allocations, balances, book_accounts, entries, income_blocks, policies, postings
from pool.store.inbox import inbox
from pool.store.proofs import proof_epochs, proof_leaves
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
    "allocations",
    "balances",
    "best_shares",
    "book_accounts",
    "entries",
    "found_shares",
    "inbox",
    "income_blocks",
    "ledger_accounts",
    "ledger_workers",
    "log_cursor",
    "log_names",
    "policies",
    "postings",
    "proof_epochs",
    "proof_leaves",
    "sessions",
    "slice_rejects",
    "slice_work",
    "slices",
    "workers",
]
