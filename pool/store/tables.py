"""Every table of the store imported in one place, for migrations; a room's new table module is added here."""

from pool.store.inbox import inbox
from pool.store.sessions import accounts, sessions, workers

__all__ = ["accounts", "inbox", "sessions", "workers"]
