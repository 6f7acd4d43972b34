"""A stratum server as a process that tests may kill -9: rig work that never rests, the real store and share log.

python -m rig.stratum_main DIRECTORY PORT     prints "ready" when it accepts.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

from native.sharelog import ShareLog
from pool.config import VardiffSection
from pool.store import Sessions, Store
from pool.stratum.hub import Port, make_hub
from pool.stratum.server import StratumServer
from rig.stratum import SETTINGS
from rig.work import RigWork

VARDIFF = VardiffSection(min_difficulty=2.0**-16, start_difficulty=2.0**-16, shares_per_minute=600.0)


async def main(directory: Path, port: int) -> None:
    work = RigWork()
    async with Store(f"sqlite:///{directory / 'pool.sqlite'}") as store:
        sessions = Sessions(store)
        with ShareLog(str(directory / "log"), segment_bytes=1 << 20) as log:
            hub = make_hub(SETTINGS, VARDIFF, "regtest", work, log, lambda found: None)
            hub.memory.learn(await sessions.recent_sessions(1000), complete=True)
            server = StratumServer(hub, (Port("main", port),), save_sessions=sessions.save_sessions)
            async with server, asyncio.TaskGroup() as tasks:
                tasks.create_task(server.run())
                tasks.create_task(unrest(work))
                tasks.create_task(upkeep(log))
                print("ready", flush=True)


async def unrest(work: RigWork) -> None:
    """A refresh three times a second, and a new block with every tenth of them."""
    turn = 0
    while True:
        await asyncio.sleep(0.3)
        turn += 1
        if turn % 10 == 0:
            work.new_block()
        else:
            work.refresh()


async def upkeep(log: ShareLog) -> None:
    while True:
        await asyncio.sleep(0.2)
        await asyncio.to_thread(log.prepare)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(Path(sys.argv[1]), int(sys.argv[2])))
