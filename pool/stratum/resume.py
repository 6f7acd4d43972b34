"""What is remembered of devices that left (P9): by session id, and by account, worker and user agent. Bounded; the
porch stores it.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from pool.records import SavedSession

SESSION_ID_BYTES = 8  # 64 random bits: whoever presents one is believed
REMEMBERED_AT_MOST = 100_000  # about 70 MB
DeviceKey = tuple[str, str, str]  # account, worker, user agent
SessionKey = str | DeviceKey
LoadSession = Callable[[SessionKey], Awaitable[SavedSession | None]]
SaveSessions = Callable[[list[SavedSession]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Remembered:
    """A session that ended, and the newest job its extranonce1 was given: older ones would repeat its work."""

    saved: SavedSession
    last_job_id: int = 0


class Memory:
    """Ended sessions of this process and those it was told of at start."""

    def __init__(self, limit: int = REMEMBERED_AT_MOST) -> None:
        self._limit = limit
        self._by_id: OrderedDict[str, Remembered] = OrderedDict()
        self._by_device: OrderedDict[DeviceKey, Remembered] = OrderedDict()
        self._changed: OrderedDict[str, SavedSession] = OrderedDict()
        self.complete = False  # all that is stored is here: what is not found does not exist

    def learn(self, stored: Iterable[SavedSession], *, complete: bool) -> None:
        """Take in what an earlier process stored (oldest first). `complete`: there is no more than this."""
        count = 0
        for saved in stored:
            self._put(Remembered(saved))
            count += 1
        self.complete = complete and count <= self._limit

    def remember(self, saved: SavedSession, last_job_id: int) -> None:
        self._put(Remembered(saved, last_job_id))
        self.note(saved)

    def note(self, saved: SavedSession) -> None:
        """To be stored, but not yet worth memory: a live session that has earned nothing."""
        self._changed[saved.session_id] = saved
        if len(self._changed) > self._limit:
            self._changed.popitem(last=False)

    def _put(self, entry: Remembered) -> None:
        saved = entry.saved
        self._by_id[saved.session_id] = entry
        self._by_id.move_to_end(saved.session_id)
        key = (saved.account, saved.worker, saved.user_agent)
        self._by_device[key] = entry
        self._by_device.move_to_end(key)
        for table in (self._by_id, self._by_device):
            if len(table) > self._limit:
                table.popitem(last=False)
                self.complete = False

    def by_id(self, session_id: str) -> Remembered | None:
        return self._by_id.get(session_id)

    def by_device(self, account: str, worker: str, user_agent: str) -> Remembered | None:
        return self._by_device.get((account, worker, user_agent))

    def drain(self) -> list[SavedSession]:
        """What changed since the last call, oldest first."""
        changed = list(self._changed.values())
        self._changed.clear()
        return changed

    def undrain(self, sessions: Iterable[SavedSession]) -> None:
        """Storing them failed: offer them again, unless something newer is waiting."""
        for saved in sessions:
            self._changed.setdefault(saved.session_id, saved)

    def __len__(self) -> int:
        return len(self._by_id)


def new_session_id() -> str:
    return secrets.token_hex(SESSION_ID_BYTES)
