"""The Stratum server under load: connects, memory, shares, latency, new blocks, churn; beside any other server.

    ./mmsp bench stratum [--rounds 3] [--connections 1,100,1000,10000] [--yardstick CMD]

Closed loop from this process (last core) against bench/stratum_server.py (core 0) over loopback; 12 branches, 250-byte
coinbase; shares are real, at difficulty 2^-20. They are mined once, about a minute, and kept in build/. CPU is process
time, and so hardly depends on what else the machine does; throughput and latency do.

--yardstick CMD runs another server beside it, in turns, with the same generator; {port} in CMD becomes its port. It
must speak Stratum on 127.0.0.1 and publish a new block on SIGUSR1. It is killed at the end.
--churn S: connect, mine, drop for so long (an hour: 3600); resident memory at each tenth.
--realtime on a machine that others use too: without it latencies there measure the neighbours."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from report import finish, table
from swarm import Stock, Swarm, cpu_s, median, raise_file_limit, resident_kib

#: Shares of each connection in one run, by connections: enough for some tenths of a second.
EACH = {1: 8_000, 100: 240, 1_000: 45, 10_000: 16}
PIPELINES = (1, 16)
OPEN_CONNECTIONS, OPEN_RATE = 1_000, 15_000.0
SETTLE_S = 2.5  # before the open loop: a server may be storing what 1,000 new devices have just begun (20 ms of ours)
START_S = 60.0
LAST_CORE = str((os.cpu_count() or 1) - 1)
PAYOUT = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
Figures = dict[tuple[str, str, int], list[float]]  # (figure, server, connections) -> one a round


def end(process: subprocess.Popen[bytes]) -> None:
    """No process outlives the benchmark."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until somebody accepts there."""
    deadline_s = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        if time.monotonic() > deadline_s or process.poll() is not None:
            end(process)
            raise RuntimeError(f"nobody listens on {port}")
        time.sleep(0.02)


class Server:
    """A server process on core 0. `pid`, `port`; ended by `close`."""

    name = ""
    port = 0

    def __init__(self, command: list[str], *, stdin: int | None, stdout: int | None) -> None:
        self.process = subprocess.Popen(["taskset", "-c", "0", *command], stdin=stdin, stdout=stdout)
        self.pid = self.process.pid

    def block(self) -> int:
        """New work on another block; when it was in hand (CLOCK_REALTIME, ns)."""
        raise NotImplementedError

    def home(self) -> int:
        """New work that the stock of shares is for, and none of them seen."""
        return self.block()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Ours(Server):
    """bench/stratum_server.py."""

    name = "pool"

    def __init__(self, connections: int, *options: str) -> None:
        command = [sys.executable, str(Path(__file__).parent / "stratum_server.py"), str(connections), *options]
        super().__init__(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.port = int(self._said().split()[1])

    def _said(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        if not line:
            raise RuntimeError("the server ended")
        return line

    def ask(self, word: str) -> list[int]:
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()
        return [int(one) for one in self._said().split()]

    def block(self) -> int:
        return self.ask("block")[0]

    def home(self) -> int:
        return self.ask("home")[0]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()  # it ends by itself then, and cleans up
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        end(self.process)


class Yardstick(Server):
    """Another server, by its command."""

    name = "yardstick"

    def __init__(self, command: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        super().__init__(shlex.split(command.replace("{port}", str(self.port))), stdin=None, stdout=None)
        wait_for(self.port, self.process)

    def block(self) -> int:
        at_ns = time.time_ns()
        self.process.send_signal(signal.SIGUSR1)
        return at_ns


@dataclass
class Bench:
    """What is measured, round by round."""

    rounds: int
    yardstick: str
    figures: Figures = field(default_factory=lambda: defaultdict(list))

    def note(self, figure: str, server: Server, connections: int, value: float) -> None:
        self.figures[figure, server.name, connections].append(value)

    @contextlib.contextmanager
    def server(self, kind: str, connections: int) -> Iterator[Server]:
        server: Server = Ours(connections) if kind == "pool" else Yardstick(self.yardstick)
        try:
            yield server
        finally:
            server.close()

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("pool", "yardstick") if self.yardstick else ("pool",)

    def one(self, kind: str, connections: int) -> None:
        """One server from start to end with this many connections."""
        with self.server(kind, connections) as server:
            before_kib, before_s = resident_kib(server.pid), cpu_s(server.pid)
            with Swarm(server.port, connections) as swarm:
                if connections >= 1_000:
                    self.note("connects/s", server, connections, connections / swarm.seconds)
                    self.note("us CPU/connect", server, connections, (cpu_s(server.pid) - before_s) / connections * 1e6)
                    self.note("handshake p99 ms", server, connections, swarm.handshake_p99_ms)
                    time.sleep(0.3)
                    grown_kib = resident_kib(server.pid) - before_kib
                    self.note("KiB/connection", server, connections, grown_kib / connections)
                each = EACH.get(connections, max(16, 40_000 // connections))
                for pipeline in PIPELINES:
                    self._shares(server, swarm, each, pipeline)
                if connections == OPEN_CONNECTIONS:
                    self._open(server, swarm, each)
                if connections >= 1_000:
                    grown_kib = resident_kib(server.pid) - before_kib
                    self.note("KiB/connection after mining", server, connections, grown_kib / connections)

    def _fresh(self, server: Server, swarm: Swarm) -> Stock:
        """New work twice, so that the spread is measured on the way; the stock for it."""
        for move in (server.block, server.home):
            at_ns: list[int] = []
            before_s = cpu_s(server.pid)
            heard = swarm.hear(lambda move=move, at_ns=at_ns: at_ns.append(move()))  # type: ignore[misc]
            if swarm.n >= 1_000:
                spent_s = cpu_s(server.pid) - before_s
                self.note("us CPU/notify", server, swarm.n, spent_s / swarm.n * 1e6)
                for figure, moment_ns in (("first", heard[0]), ("half", heard[len(heard) // 2]), ("last", heard[-1])):
                    self.note(f"new work to the {figure}, ms", server, swarm.n, (moment_ns - at_ns[0]) / 1e6)
        return Stock(swarm.notify, swarm.difficulty)

    def _shares(self, server: Server, swarm: Swarm, each: int, pipeline: int) -> None:
        lines = self._fresh(server, swarm).lines(swarm, each)
        before_s = cpu_s(server.pid)
        result = swarm.closed(lines, pipeline)
        spent_s = cpu_s(server.pid) - before_s
        if result.refused or result.accepted != each * swarm.n:
            raise RuntimeError(f"{server.name}: {result.accepted} of {each * swarm.n} shares accepted")
        load = f"x{pipeline}"
        self.note(f"shares/s {load}", server, swarm.n, result.answered / result.seconds)
        self.note(f"us CPU/share {load}", server, swarm.n, spent_s / result.answered * 1e6)
        self.note(f"p50 ms {load}", server, swarm.n, result.p50_ms)
        self.note(f"p99 ms {load}", server, swarm.n, result.p99_ms)

    def _open(self, server: Server, swarm: Swarm, each: int) -> None:
        lines = self._fresh(server, swarm).lines(swarm, each)
        time.sleep(SETTLE_S)
        before_s = cpu_s(server.pid)
        result = swarm.open(lines, OPEN_RATE)
        spent_s = cpu_s(server.pid) - before_s
        if result.refused:
            raise RuntimeError(f"{server.name}: {result.refused} shares refused")
        self.note("open: us CPU/share", server, swarm.n, spent_s / result.answered * 1e6)
        self.note("open: CPU %", server, swarm.n, spent_s / result.seconds * 100)
        for name, value in (("p50", result.p50_ms), ("p99", result.p99_ms), ("p99.9", result.p999_ms)):
            self.note(f"open: {name} ms", server, swarm.n, value)
        self.note("open: % sent late", server, swarm.n, result.late / result.answered * 100)

    def rows(self) -> list[dict[str, object]]:
        """A row for each figure and number of connections; medians of the rounds."""
        rows: list[dict[str, object]] = []
        for figure, connections in dict.fromkeys((one[0], one[2]) for one in self.figures):
            values = {kind: self.figures.get((figure, kind, connections)) for kind in self.kinds}
            row: dict[str, object] = {"figure": figure, "connections": connections}
            row |= {kind: median(found) if found else "" for kind, found in values.items()}
            ours, theirs = row["pool"], row.get("yardstick")
            if isinstance(ours, float) and isinstance(theirs, float) and theirs:
                row["ratio"] = ours / theirs
            if ours_all := values["pool"]:
                row["best"], row["worst"] = min(ours_all), max(ours_all)
            rows.append(row)
        return sorted(rows, key=lambda row: (str(row["figure"]), row["connections"]))


def churn(seconds: float, connections: int = 200) -> list[dict[str, object]]:
    """Connect, mine, drop, again and again; one drop in two is a reset. What the server holds, ten times on the way.
    Below ten minutes the server is told to remember less (see there), or its memory would still be filling up."""
    rows: list[dict[str, object]] = []
    server = Ours(0, *(("forgetful",) if seconds < 600 else ()))
    begin, turns, step = time.monotonic(), 0, 0
    try:
        while step <= 10:
            with_work = Swarm(server.port, connections, sources=8)
            stock = Stock(with_work.notify, with_work.difficulty, keep=False)
            result = with_work.closed(stock.lines(with_work, 2), 2)
            assert result.accepted == 2 * connections, result
            with_work.close(reset=turns % 2 == 1)
            turns += 1
            passed_s = time.monotonic() - begin
            if passed_s >= seconds * step / 10:
                server.block()  # what was credited on the old one is forgotten with it
                rows.append(
                    {
                        "s": passed_s,
                        "connections so far": turns * connections,
                        "shares so far": server.ask("counts")[1],
                        "KiB resident": resident_kib(server.pid),
                    }
                )
                step = int(passed_s / seconds * 10) + 1
    finally:
        server.close()
    return rows


def from_the_node(rounds: int, connections: int, transactions: int = 3000) -> list[dict[str, object]]:
    """`pool serve` behind a stand-in node: from its new block to the first and the last of the miners, in ms, and to a
    job with the full template."""
    here = Path(__file__).parent
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    first_ms, last_ms, full_ms = [], [], []
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-stratum-pool-"))
        node_command = ["taskset", "-c", LAST_CORE, sys.executable, str(here / "stratum_node.py"), str(transactions)]
        node = subprocess.Popen(node_command, **pipes)  # type: ignore[call-overload]
        stack.callback(end, node)
        url, publisher, login = node.stdout.readline().decode().split()
        user, password = login.split(":")
        Path(folder, "pool.toml").write_text(
            f'[pool]\nnetwork = "regtest"\n[[node]]\nurl = "{url}"\nuser = "{user}"\npassword = "{password}"\n'
            f'zmq_hashblock = "{publisher}"\n[coinbase]\npayout_address = "{PAYOUT}"\n[stratum]\nhost = "127.0.0.1"\n'
            "port = 0\nhigh_difficulty_port = 0\nnerdminer_port = 0\nmax_connections_per_address = 20000\n"
            "messages_per_s_per_address = 1000000.0\n"
        )
        pool_command = ["taskset", "-c", "0", sys.executable, "-m", "pool", "serve"]
        pool = subprocess.Popen(pool_command, cwd=folder, env=os.environ | {"PYTHONPATH": str(here.parent)}, **pipes)  # type: ignore[call-overload]
        stack.callback(end, pool)
        port = next(int(found[1]) for line in pool.stdout if (found := re.search(rb":(\d+)  \(main\)", line)))
        wait_for(port, pool)
        swarm = stack.enter_context(Swarm(port, connections, user=PAYOUT))
        for _ in range(rounds):
            at_ns: list[int] = []

            def block(at_ns: list[int] = at_ns) -> None:
                node.stdin.write(b"block\n")
                node.stdin.flush()
                at_ns.append(int(node.stdout.readline()))

            heard = swarm.hear(block)
            full_ms.append((swarm.await_transactions() - at_ns[0]) / 1e6)
            first_ms.append((heard[0] - at_ns[0]) / 1e6)
            last_ms.append((heard[-1] - at_ns[0]) / 1e6)
    spans = (("first miner has a job", first_ms), ("last miner has a job", last_ms), ("full template", full_ms))
    head = "new block at the node, until"
    return [
        {head: name, "connections": connections, "ms": median(ms), "best": min(ms), "worst": max(ms)}
        for name, ms in spans
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", default="1,100,1000,10000", help="numbers of connections, with commas")
    parser.add_argument("--yardstick", default="", metavar="CMD", help="another server to run in turns")
    parser.add_argument("--churn", type=float, default=10.0, metavar="S", help="seconds of churn; 0 = none")
    parser.add_argument(
        "--realtime",
        action="store_true",
        help="SCHED_FIFO for servers and generator: latencies on a machine that others use too (needs the right to)",
    )
    parser.add_argument("--node-rounds", type=int, default=5, help="new blocks at a stand-in node; 0 = none")
    args = parser.parse_args()
    numbers = [int(one) for one in args.connections.split(",") if one]
    raise_file_limit(max(numbers, default=1))
    os.sched_setaffinity(0, {int(LAST_CORE)})
    if args.realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # servers inherit it
    bench = Bench(args.rounds, args.yardstick)
    for connections in numbers:
        for _ in range(args.rounds):
            for kind in bench.kinds:
                bench.one(kind, connections)
    rows = bench.rows()
    if rows:
        table(f"Stratum, 12 branches, 250-byte coinbase, median of {args.rounds}", rows)
    churned = churn(args.churn) if args.churn > 0 else []
    if churned:
        table("Churn: 200 connections at a time, 2 shares each, then gone", churned)
    new_block = from_the_node(args.node_rounds, 1_000) if args.node_rounds > 0 else []
    if new_block:
        table(f"`pool serve` behind a stand-in node with 3,000 transactions, median of {args.node_rounds}", new_block)
    asked = {"rounds": args.rounds, "realtime": args.realtime}
    finish("stratum", asked | {"rows": rows, "churn": churned, "new_block": new_block})


if __name__ == "__main__":
    main()
