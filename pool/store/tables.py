"""Every table of the store imported in one place, for migrations; a room's new table module is added here."""

from pool.store.books import (
    allocations,
    balances,
    book_accounts,
    donation_settings,
    entries,
    income_blocks,
    income_events,
    latches,
    policies,
    postings,
)
from pool.store.identity import (
    destination_changes,
    identity_challenges,
    identity_deposits,
    identity_events,
    identity_links,
)
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
    log_segments,
    rate_state,
    slice_rejects,
    slice_totals,
    slice_work,
    slices,
)

__all__ = [
    "accounts",
    "allocations",
    "balances",
    "best_shares",
    "book_accounts",
    "destination_changes",
    "donation_settings",
    "entries",
    "found_shares",
    "identity_challenges",
    "identity_deposits",
    "identity_events",
    "identity_links",
    "inbox",
    "income_blocks",
    "income_events",
    "latches",
    "ledger_accounts",
    "ledger_workers",
    "log_cursor",
    "log_names",
    "log_segments",
    "policies",
    "postings",
    "proof_epochs",
    "proof_leaves",
    "rate_state",
    "sessions",
    "slice_rejects",
    "slice_totals",
    "slice_work",
    "slices",
    "workers",
]
