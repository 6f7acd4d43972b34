"""A share that meets the network's target on its way from the channel to the log, the disk and the nodes."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from native.channel import Found
from native.sharelog import LogFull, ShareLog
from pool.chain.jobs import tag_of
from pool.records import BlockFound, Identity

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0


class FoundBlocks:
    """Called by every channel before the share's answer; `keep` writes later what a full share log would not take."""

    def __init__(self, share_log: ShareLog, submit: Callable[[BlockFound], None], knows: Callable[[str], bool]) -> None:
        """`submit` takes a block into care, `knows` tells by its hash whether it is already."""
        self._log, self._submit, self._knows = share_log, submit, knows
        self._late: deque[tuple[bytes, int, int, int, int]] = deque()
        self.names: dict[tuple[int, int], Identity] = {}
        self.count = 0

    def __call__(self, found: Found) -> None:
        hash_hex = found.hash_le[::-1].hex()
        if self._knows(hash_hex):
            return  # a device that repeats its winning share costs no row, no block and no disk
        self.count += 1
        job, tag = found.job, tag_of(found.job)
        row = (found.header, job.height, found.account, found.worker, found.now_ns)
        try:
            seq = self._log.block(*row)
        except LogFull:
            # The block goes out all the same. While the log is full no share is credited, so a row written when there
            # is room again closes the same window: the ledger must not miss the block.
            seq = self._log.seq
            self._late.append(row)
        who = self.names.get((found.account, found.worker), Identity("", "", "address"))
        self._submit(
            BlockFound(
                block=found.block(),
                hash_hex=hash_hex,
                prevhash_hex=job.prevhash[::-1].hex(),
                height=job.height,
                coinbase_value_sat=tag.prepared.template.coinbase_value_sat,
                account=who.account,
                worker=who.worker,
                stale=found.stale,
                found_at_ns=found.now_ns,
                epoch=self._log.epoch,
                seq=seq,
                mode=tag.mode,
            )
        )

    async def keep(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            self.write_late()

    def write_late(self) -> None:
        """BLOCK rows that found the log full, as far as there is room now."""
        while self._late and not self._log.full:
            try:
                self._log.block(*self._late[0])
            except LogFull:
                return
            self._late.popleft()
            log.warning("a found block's row is in the share log now that it has room")
