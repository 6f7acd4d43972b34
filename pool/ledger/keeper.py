"""The ledger's clock: sums the log each second, books what the chain says of our blocks, audits each minute."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from pool.ledger import audit, chores, income, proofs, rollup
from pool.ledger import policy as policies
from pool.ledger.income import Coinbase, DeterminismError, NotSummedError
from pool.ledger.logreader import BATCH, Batch, LogGapError, LogReader
from pool.ledger.rates import Rates, Snapshot
from pool.ledger.retention import Retention
from pool.ledger.rewards import Policy
from pool.ledger.slices import Closed, Slices
from pool.ledger.window import account_names, window_now
from pool.records import RowKind
from pool.store.engine import Store, StoreUnavailableError

log = logging.getLogger(__name__)

SUM_EVERY_S = 1.0
AUDIT_EVERY_S = 60.0
UPKEEP_EVERY_S = 60.0
#: Rates are stored this often, and less often the more workers there are: 100,000 of them are 12 MB.
SAVE_RATES_EVERY_S = 60.0
SAVE_RATES_WORKERS_A_S = 200.0
COMPLAIN_S = 60.0
FIRST_PROOF_S = 15.0


@dataclass(frozen=True, slots=True)
class ChainNews:
    """What the chain says of a found block. `state`: "held", "confirmed", "orphaned", "mature"."""

    hash_hex: str
    state: str
    coinbase: Coinbase


class Publisher:
    """When and how a new epoch of proofs is made; `secret` is the pool's own."""

    def __init__(self, secret: bytes, every_s: float) -> None:
        self.secret, self.every_s = secret, every_s
        self.tip_hash: Callable[[], bytes] = lambda: b""
        self.carried: bytes | None = None  # what coinbases carry now
        self.due_s = 0.0  # monotonic


class Keeper:
    """One per pool. `run` never ends by itself; a database that is down is waited for, and the log keeps the shares."""

    def __init__(
        self,
        store: Store,
        directory: Path,
        subsidy_sat: Callable[[int], int],
        policy: Policy,
        *,
        on_policy: Callable[[int, bytes], None] = lambda version, digest: None,
        on_closed: Callable[[Closed], None] = lambda closed: None,
        publisher: Publisher | None = None,
        keep_days: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`directory` of the share log; `policy` of the configuration, effective from height 0 when it is the first,
        else from the next block that is found; `on_policy` writes its version into the share log; `keep_days` of summed
        segments, 0 for ever."""
        self._store, self._reader, self._slices = store, LogReader(directory), Slices(subsidy_sat)
        self._policy, self._on_policy, self._on_closed, self._clock = policy, on_policy, on_closed, clock
        self.publisher = publisher
        self._news: deque[ChainNews] = deque()
        self._rates, self._retention = Rates(), Retention(directory, keep_days)
        self._save_rates_s = self._upkeep_s = 0.0  # monotonic: when due
        self._loaded = False
        self._complained_s = float("-inf")
        self.broken: tuple[audit.Broken, ...] = ()
        self.audited_at_s: float | None = None
        self.stopped: str | None = None  # why no money may leave

    @property
    def carried(self) -> bytes | None:
        """The 32 bytes that every coinbase shall commit to; None before the first proof."""
        return self.publisher.carried if self.publisher is not None else None

    @property
    def rates(self) -> Snapshot:
        """What hashrates are computed from, as of the newest row that was summed. Any thread may read it."""
        return self._rates.snapshot

    # --- from other rooms

    def follow_tip(self, tip_hash: Callable[[], bytes]) -> None:
        """The chain's tip, as hashed, for the proofs; b"" before there is one."""
        if self.publisher is not None:
            self.publisher.tip_hash = tip_hash

    def tell(self, news: ChainNews) -> None:
        """From the chain side, in order; the same news twice is harmless."""
        self._news.append(news)

    # --- the clock

    async def run(self) -> None:
        await self._start()
        audit_due_s = 0.0
        while True:
            try:
                await self.step()
                if time.monotonic() >= audit_due_s:
                    await self.audit()
                    audit_due_s = time.monotonic() + AUDIT_EVERY_S
                await self._publish_when_due()
                await self._keep_up()
            except StoreUnavailableError as error:
                self._loaded = False
                self._complain(f"the database cannot be written, the share log keeps everything: {error}")
            await asyncio.sleep(SUM_EVERY_S)

    async def step(self) -> None:
        """Sum all there is, then book all news."""
        while await self._sum_some():
            pass
        await self._book_news()
        if self.stopped is None:
            await chores.do(self._store, int(self._clock()))

    async def _keep_up(self) -> None:
        """Roll up and put away what is old: one small piece a second, then a minute's rest."""
        if time.monotonic() < self._upkeep_s or not self._loaded:
            return
        more = await self._store.write(rollup.step, int(self._clock()))
        try:
            more = await self._retention.step(self._store, self._slices.position, self._clock()) or more
        except OSError as error:
            self._complain(f"a summed segment of the share log cannot be put away: {error}")
        if not more:
            self._upkeep_s = time.monotonic() + UPKEEP_EVERY_S

    async def audit(self) -> Sequence[audit.Broken]:
        """Check all invariants; a broken one stops payouts and says why, until a check finds all of them whole."""
        found = await self._store.read(audit.verify)
        for one in found:
            if one not in self.broken:
                log.critical("invariant %s is broken: %s", one.invariant, one.what)
        self.broken, self.audited_at_s = tuple(found), self._clock()
        if found:
            self.stopped = f"invariant {found[0].invariant}: {found[0].what}"
        elif self.stopped is not None and self.stopped.startswith("invariant "):
            log.warning("all invariants hold again")
            self.stopped = None
        return found

    async def publish(self) -> bytes | None:
        """A new epoch of proofs now; what coinbases shall carry. Nothing is published over broken books."""
        publisher = self.publisher
        if publisher is None or self.stopped is not None:
            return None
        made = await self._store.write(_publish, publisher, self._policy_now, int(self._clock()))
        publisher.carried = made or publisher.carried
        # With nothing to prove yet, look again soon: the first proof must not wait an hour for the first share.
        publisher.due_s = time.monotonic() + (publisher.every_s if made else min(publisher.every_s, FIRST_PROOF_S))
        return made

    async def _publish_when_due(self) -> None:
        publisher = self.publisher
        if publisher is None:
            return
        if publisher.carried is None:
            publisher.carried = await self._store.read(proofs.carried_now)
        if time.monotonic() >= publisher.due_s:
            await self.publish()

    def _policy_now(self) -> Policy:
        return self._policy

    async def _start(self) -> None:
        while True:
            try:
                version, digest = await self._store.write(_adopt, self._policy, int(self._clock()))
                self._on_policy(version, digest)
                return
            except StoreUnavailableError as error:
                self._complain(f"the database cannot be reached: {error}")
                await asyncio.sleep(SUM_EVERY_S)

    async def _sum_some(self) -> bool:
        if not self._loaded:
            await self._store.read(self._slices.load)
            await self._load_rates()
            self._loaded = True
        try:
            batch = await asyncio.to_thread(self._reader.after, self._slices.position)
        except LogGapError as error:
            self.stopped = str(error)
            self._complain(f"shares are missing from the log, nothing is summed: {error}")
            return False
        if batch is None:
            return False
        before = self._slices.position
        try:
            closed = await self._store.write(self._add, batch)
        except BaseException:
            self._loaded = False  # memory may be ahead of the database
            raise
        for one in closed:
            self._on_closed(one)
        return self._slices.position != before and not _short(batch)

    def _add(self, connection: Connection, batch: Batch) -> list[Closed]:
        """Sum a batch; what rates are computed from is stored now and then, in the same transaction."""
        closed = self._slices.add(connection, batch)
        self._feed_rates(batch)
        if time.monotonic() >= self._save_rates_s and self._rates.position == self._slices.position:
            self._rates.save(connection)
            wait_s = SAVE_RATES_EVERY_S + len(self.rates.since_ns) / SAVE_RATES_WORKERS_A_S
            self._save_rates_s = time.monotonic() + wait_s
        return closed

    def _feed_rates(self, batch: Batch) -> None:
        """The rows of a batch that were summed and not counted yet (a BLOCK row at its end may wait)."""
        end = self._slices.position
        rows = batch.rows[: max(end.seq + 1 - batch.first_seq, 0)] if end.epoch == batch.epoch else batch.rows[:0]
        if len(rows):
            shares = rows[rows["kind"] == RowKind.SHARE]
            self._rates.take(rows, self._slices.ids_of(shares["worker"]), end)

    async def _load_rates(self) -> None:
        """The stored ones, and the rows behind them up to where the slices stand, as far as the log still has them.
        Rows of an older epoch have no names any more: what they would add (a minute's work) stays out."""
        await self._store.read(self._rates.load)
        to = self._slices.position
        while self._rates.position.epoch == to.epoch and self._rates.position.seq < to.seq:
            at = self._rates.position
            try:
                batch = await asyncio.to_thread(self._reader.after, at, min(BATCH, to.seq - at.seq))
            except LogGapError:
                return
            if batch is None or batch.epoch != at.epoch:
                return
            shares = batch.rows[batch.rows["kind"] == RowKind.SHARE]
            self._rates.take(batch.rows, self._slices.ids_of(shares["worker"]), batch.end)

    async def _book_news(self) -> None:
        waiting: list[ChainNews] = []
        while self._news:
            news = self._news[0]
            try:
                await self._store.write(_book, news, int(self._clock()))
            except NotSummedError:
                waiting.append(news)  # its share is in the log, but not summed yet
            except DeterminismError as error:
                self.stopped = str(error)
                log.critical("payouts stop: %s", error)
            self._news.popleft()
        self._news.extend(waiting)

    def _complain(self, what: str) -> None:
        if time.monotonic() - self._complained_s >= COMPLAIN_S:
            self._complained_s = time.monotonic()
            log.error("%s", what)


def _publish(connection: Connection, publisher: Publisher, policy: Callable[[], Policy], at_s: int) -> bytes | None:
    values = {"balance": proofs.liabilities(connection), "work": _work(connection, policy())}
    return proofs.publish(connection, values, publisher.tip_hash() or bytes(32), publisher.secret, at_s)


def _work(connection: Connection, policy: Policy) -> dict[str, int]:
    """Score of each member in the window as it stands."""
    window = window_now(connection, policy)
    scores = window.by_account()
    names = account_names(connection, set(scores))
    return {names[number]: score for number, score in scores.items()}


def _short(batch: Batch) -> bool:
    """So few rows that they are the newest: the next look can wait its second."""
    return len(batch.rows) < 1024


def _adopt(connection: Connection, policy: Policy, at_s: int) -> tuple[int, bytes]:
    """The configured policy, from height 0 when it is the first, else from above every block found so far: what was
    promised for a height stays."""
    above = income.highest_found(connection) + 1 if policies.any_yet(connection) else 0
    return policies.adopt(connection, policy, above, at_s), policies.digest_of(policy)


def _book(connection: Connection, news: ChainNews, at_s: int) -> None:
    """All of a block's way in one transaction: news may have been missed while the process was down."""
    income.found(connection, news.hash_hex, news.coinbase, at_s)
    if news.state == "orphaned":
        # Booked and taken back even when nobody heard of it before: every block that was found stands in the books, and
        # they do not depend on which news a crash let through.
        income.orphaned(connection, news.hash_hex, at_s)
        return
    if news.state in ("confirmed", "mature"):
        income.returned(connection, news.hash_hex, at_s)
    if news.state == "mature":
        income.matured(connection, news.hash_hex, at_s)
