"""What the judge adds to a bare server: a uvloop server with only Channel behind it, beside one that gives a constant
answer (the floor).

    ./mmsp bench server_floor [--rounds 3] [--shares 40000]

Closed loop from this process (its own core), server in another (its own core), over loopback. Shares are real, at
difficulty 2^-20, mined once.
Servers: constant (splits lines, answers each with the same bytes), and Channel behind asyncio.Protocol and behind
asyncio.BufferedProtocol."""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import uvloop
from loop import closed_loop
from report import finish, table
from share import BOOT_S, EASIEST, NTIME, PREV, USER, job_fields

from native import hashing
from native.channel import Channel
from native.difficulty import target_of_difficulty
from native.sharelog import ShareLog
from native.work import Job, JobTable

CONSTANT = b'{"id":12345,"result":true,"error":null}\n'


class Constant(asyncio.Protocol):
    """The floor: what uvloop and the kernel cost when nothing is judged."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(CONSTANT * data.count(b"\n"))  # type: ignore[attr-defined]


class Plain(asyncio.Protocol):
    """Channel behind Protocol: uvloop makes one bytes object a packet."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.channel.feed(data, time.time_ns())
        self.transport.write(self.channel.take())  # type: ignore[attr-defined]


class Buffered(asyncio.BufferedProtocol):
    """Channel behind BufferedProtocol: uvloop reads into one buffer shared by all connections (nothing waits in it
    between calls)."""

    shared = memoryview(bytearray(1 << 16))

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.shared

    def buffer_updated(self, nbytes: int) -> None:
        self.channel.feed(bytes(self.shared[:nbytes]), time.time_ns())
        self.transport.write(self.channel.take())  # type: ignore[attr-defined]


def extranonce1_of(n: int) -> bytes:
    return n.to_bytes(4, "big")


class World:
    """The server's side of the stock: the same job and extranonces in every round."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="bench-floor-")
        self.log = ShareLog(self.directory, segment_bytes=256 << 20)
        self.jobs = JobTable(boot_s=BOOT_S)
        self.jobs.set_tip(PREV)
        self.job = Job(**job_fields(self.jobs.next_id()))  # type: ignore[arg-type]
        self.jobs.publish(self.job)
        self.account = self.log.account("bench", 0)
        self.worker = self.log.worker(self.account, "axe", 0)
        self.connections = 0

    def channel(self) -> Channel:
        channel = Channel(self.jobs, self.log, extranonce1_of(self.connections), lambda found: None)
        self.connections += 1
        channel.authorize(USER, self.account, self.worker)
        channel.send_job(self.job, EASIEST, True)
        channel.take()
        return channel


def serve(kind: str, pipe: Connection) -> None:
    """The server process: says its port, then its CPU seconds whenever asked, until told to end."""
    os.sched_setaffinity(0, {0})
    world = World()
    factories: dict[str, Callable[[], asyncio.BaseProtocol]] = {
        "constant": Constant,
        "Channel, Protocol": lambda: Plain(world.channel()),
        "Channel, BufferedProtocol": lambda: Buffered(world.channel()),
    }

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(factories[kind], "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        done = loop.create_future()

        def asked() -> None:
            if pipe.recv() == "cpu":
                pipe.send(time.process_time())
            else:
                done.set_result(None)

        loop.add_reader(pipe.fileno(), asked)
        await done
        server.close()

    uvloop.run(main())
    world.log.close()
    shutil.rmtree(world.directory)


def stock(connections: int, each: int) -> list[list[bytes]]:
    """`each` real submit lines for each connection, by the extranonce1 it will get."""
    jobs = JobTable(boot_s=BOOT_S)
    job = Job(**job_fields(jobs.next_id()))  # type: ignore[arg-type]
    target = target_of_difficulty(EASIEST)
    out = []
    for c in range(connections):
        lines = []
        for i in range(each):
            extranonce2 = i.to_bytes(8, "little")
            nonce = hashing.search(job.header(extranonce1_of(c), extranonce2, NTIME, 0, 0), target, 0, 1 << 32)
            assert nonce is not None
            lines.append(
                b'{"id":%d,"method":"mining.submit","params":["%s","%x","%s","%08x","%08x","00000000"]}\n'
                % (i + 5, USER, job.job_id, extranonce2.hex().encode(), NTIME, nonce)
            )
        out.append(lines)
    return out


def measure(kind: str, lines: list[list[bytes]], pipeline: int) -> dict[str, float]:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("fork").Process(target=serve, args=(kind, there))
    server.start()
    port = here.recv()
    sockets = []
    for _ in lines:  # one after the other: the server numbers them in this order
        s = socket.create_connection(("127.0.0.1", port))
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets.append(s)
    here.send("cpu")
    before = here.recv()
    result = closed_loop(sockets, lines, pipeline)
    here.send("cpu")
    spent = here.recv() - before
    assert result.refused == 0, f"{result.refused} shares refused"
    here.send("end")
    for s in sockets:
        s.close()
    server.join(10)
    return {
        "shares/s": result.answered / result.seconds,
        "us CPU/share": spent / result.answered * 1e6,
        "p50 ms": result.p50_ms,
        "p99 ms": result.p99_ms,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--shares", type=int, default=40_000, help="real shares in each run, spread over its connections"
    )
    args = parser.parse_args()
    os.sched_setaffinity(0, {os.cpu_count() - 1} if (os.cpu_count() or 1) > 1 else {0})  # type: ignore[operator]
    kinds = ("constant", "Channel, Protocol", "Channel, BufferedProtocol")
    rows: list[dict[str, object]] = []
    for connections in (1, 100, 1000):
        lines = stock(connections, args.shares // connections)
        for pipeline in (1, 16):
            runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
            for _ in range(args.rounds):
                for kind in kinds:
                    runs[kind].append(measure(kind, lines, pipeline))
            floor = statistics.median(run["us CPU/share"] for run in runs["constant"])
            for kind in kinds:
                figures = {key: statistics.median(run[key] for run in runs[kind]) for key in runs[kind][0]}
                rows.append(
                    {
                        "server": kind,
                        "connections": connections,
                        "in flight": pipeline,
                        **figures,
                        "over floor us": figures["us CPU/share"] - floor,
                    }
                )
    table(f"Server floor, uvloop {uvloop.__version__}, {args.shares} real shares a run, median of {args.rounds}", rows)
    finish("server_floor", {"rounds": args.rounds, "shares": args.shares, "rows": rows})


if __name__ == "__main__":
    main()
