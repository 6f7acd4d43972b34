"""The pool's own Stratum server as a process to measure: everything on (share log, duplicates, vardiff, limits, saved
sessions in SQLite), over work that stands still, so that shares mined once stay good.

    python bench/stratum_server.py CONNECTIONS [forgetful]

CONNECTIONS is the number of extranonce1 values (each is in use when that many are connected); 0: all there are. Prints
"port N". Then, for a line on standard input: "block" = new work on another previous block, "home" = the first block's
work again with no share remembered, "counts"; each answers with one line that begins with CLOCK_REALTIME in ns of the
moment the work was in hand. The end of standard input ends it.

"forgetful": what is kept on purpose of connections that ended is kept shorter, so that a run of seconds shows what else
grows: 1,000 sessions instead of 100,000 (1.3 KiB each), extranonce1 values resting 1 s instead of 15 minutes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import uvloop
from report import ROOT  # noqa: F401 - also makes the pool importable
from share import BOOT_S, EASIEST, PREV, job_fields

from native.sharelog import ShareLog
from native.work import Job, JobTable
from pool.commands.rooms import _calm_collector
from pool.config import StratumSection, VardiffSection
from pool.store import Sessions, Store
from pool.stratum.extranonce import Extranonces
from pool.stratum.hub import Port, make_hub
from pool.stratum.resume import Memory
from pool.stratum.server import StratumServer
from rig.work import RigWorkState

MANY = 1_000_000
PREPARE_S = 1.0
#: Vardiff works as ever, but finds the easiest difficulty to be the hardest allowed: a benchmark's flood is none.
VARDIFF = VardiffSection(min_difficulty=EASIEST, start_difficulty=EASIEST, max_difficulty=EASIEST)
SETTINGS = StratumSection(
    host="127.0.0.1",
    port=0,
    high_difficulty_port=0,
    nerdminer_port=0,
    max_connections_per_address=MANY,
    messages_per_s_per_address=float(MANY),
    refresh_s=60.0,
)


class StillWork:
    """`Work` of docs/architecture.md: one job at a time, 12 branches, 250 bytes of coinbase, mainnet's difficulty."""

    def __init__(self) -> None:
        self.jobs = JobTable(boot_s=BOOT_S)
        self.state = RigWorkState()
        self._told: list[Callable[[bool], None]] = []
        self._blocks = 0
        self.jobs.set_tip(PREV)
        self._job = self._make(PREV)

    def _make(self, prevhash: bytes) -> Job:
        job = Job(**(job_fields(self.jobs.next_id()) | {"prevhash": prevhash}))  # type: ignore[arg-type]
        self.jobs.publish(job)
        return job

    def job_for(self, mode: str, account: str) -> Job:
        return self._job

    def variant(self, job: Job) -> Job:
        return self._make(job.prevhash)

    def listen(self, callback: Callable[[bool], None]) -> None:
        self._told.append(callback)

    def block(self) -> None:
        self._blocks += 1
        self._to(hashlib.sha256(b"block %d" % self._blocks).digest())

    def home(self) -> None:
        if self.jobs.tip == PREV:
            self.block()
        self._to(PREV)

    def _to(self, prevhash: bytes) -> None:
        self.jobs.set_tip(prevhash)
        self._job = self._make(prevhash)
        self.jobs.retire_before(self._job.job_id)  # and what was credited on the old block is forgotten
        for callback in self._told:
            callback(True)


async def main(extranonces: int, forgetful: bool) -> None:
    work = StillWork()
    settings = replace(SETTINGS, extranonce1_last=extranonces - 1) if extranonces else SETTINGS
    with tempfile.TemporaryDirectory(prefix="bench-stratum-") as folder:
        async with Store(f"sqlite:///{Path(folder) / 'pool.sqlite'}") as store:
            sessions = Sessions(store)
            with ShareLog(str(Path(folder) / "log"), segment_bytes=64 << 20) as log:
                hub = make_hub(settings, VARDIFF, "mainnet", work, log, lambda found: None)
                if forgetful:
                    hub.memory = Memory(1_000)
                    hub.extranonces = Extranonces(settings.extranonce1_first, settings.extranonce1_last, 1.0)
                hub.memory.complete = True
                server = StratumServer(hub, (Port("main", 0),), save_sessions=sessions.save_sessions)
                async with server, asyncio.TaskGroup() as tasks:
                    _calm_collector()
                    all_tasks = [tasks.create_task(server.run()), tasks.create_task(prepare(log))]
                    print(f"port {server.listeners[0].number}", flush=True)
                    await obey(server, work)
                    for task in all_tasks:
                        task.cancel()


async def prepare(log: ShareLog) -> None:
    """As the pool does: what is new to the disk, and room for what comes."""
    while True:
        await asyncio.sleep(PREPARE_S)
        await asyncio.to_thread(log.prepare)


async def obey(server: StratumServer, work: StillWork) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while word := (await lines.readline()).decode().strip():
        at_ns = time.time_ns()
        if word == "block":
            work.block()
        elif word == "home":
            work.home()
        # Summing over 10,000 sessions takes 9 ms: only when asked.
        print(at_ns, *(server.counts() if word == "counts" else ()), flush=True)


if __name__ == "__main__":
    os.sched_setaffinity(0, {0})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), "forgetful" in sys.argv[2:]))
