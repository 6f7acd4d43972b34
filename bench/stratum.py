"""The Stratum server under load: connects, memory, shares, latency, new blocks, churn; beside any other server.

    ./mmsp bench stratum [--rounds 3] [--connections 1,100,1000,10000] [--yardstick CMD]

Closed loop from this process (last core) against bench/stratum_server.py (core 0) over loopback; 12 branches, 250-byte
coinbase; shares are real, at difficulty 2^-20. They are mined once, about a minute, and kept in build/. CPU is process
time, and so hardly depends on what else the machine does; throughput and latency do.

--yardstick CMD runs another server beside it, in turns, with the same generator; {port} in CMD becomes its port. It must
speak Stratum on 127.0.0.1 and publish a new block on SIGUSR1. It is killed at the end.
--churn S: connect, mine, drop for so long (an hour: 3600); resident memory at each tenth."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from report import finish, table
from swarm import Stock, Swarm, cpu_s, median, percentile, raise_file_limit, resident_kib

#: Shares of each connection in one run, by connections: enough for some tenths of a second.
EACH = {1: 8_000, 100: 240, 1_000: 45, 10_000: 16}
PIPELINES = (1, 16)
OPEN_CONNECTIONS, OPEN_RATE = 1_000, 15_000.0
START_S = 60.0
Figures = dict[tuple[str, str, int], list[float]]  # (figure, server, connections) -> one a round


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

    def __init__(self, connections: int) -> None:
        here = Path(__file__).parent / "stratum_server.py"
        super().__init__([sys.executable, str(here), str(connections)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Yardstick(Server):
    """Another server, by its command."""

    name = "yardstick"

    def __init__(self, command: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        super().__init__(shlex.split(command.replace("{port}", str(self.port))), stdin=None, stdout=None)
        deadline_s = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            if time.monotonic() > deadline_s or self.process.poll() is not None:
                self.close()
                raise RuntimeError(f"nobody listens on {self.port}: {command}")
            time.sleep(0.02)

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
            heard = swarm.hear(lambda move=move, at_ns=at_ns: at_ns.append(move()))  # type: ignore[misc]
            if swarm.n >= 1_000:
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
    """Connect, mine, drop, again and again; one drop in two is a reset. What the server holds, ten times on the way."""
    rows: list[dict[str, object]] = []
    server = Ours(0)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", default="1,100,1000,10000", help="numbers of connections, with commas")
    parser.add_argument("--yardstick", default="", metavar="CMD", help="another server to run in turns")
    parser.add_argument("--churn", type=float, default=10.0, metavar="S", help="seconds of churn; 0 = none")
    parser.add_argument("--node-rounds", type=int, default=5, help="new blocks at a stand-in node; 0 = none")
    args = parser.parse_args()
    numbers = [int(one) for one in args.connections.split(",") if one]
    raise_file_limit(max(numbers, default=1))
    os.sched_setaffinity(0, {(os.cpu_count() or 1) - 1})
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
    finish("stratum", {"rounds": args.rounds, "rows": rows, "churn": churned})


if __name__ == "__main__":
    main()
