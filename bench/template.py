"""New tip to job ready for a template of 3,000 transactions, split into RPC, JSON, Merkle and coinbase.

    ./mmsp bench template [--transactions 3000] [--rounds 15] [--chain]

A child process stands for the node: it answers getblocktemplate with ready-made bytes of mainnet size, so "RPC" is
what the wire and the client cost, not what a node takes to think. Medians of `rounds`. With --chain, a development
chain with as many transactions waiting finds blocks, and the whole room is timed from the follower's word of a new tip
to the first and to the full job; there the node's own time is most of it."""

from __future__ import annotations

import argparse
import asyncio
import http.server
import json
import multiprocessing
import multiprocessing.connection
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from report import finish, table

from native.work import Job
from pool.chain.coinbase import Style, build, pay_pool
from pool.chain.jobs import JobTag, make_job, prepare
from pool.chain.node import Nodes
from pool.chain.rpc import NodeAddress
from pool.chain.types import NETWORKS, NodeState, Template, Tip
from pool.chain.watch import Pace
from pool.chain.work import Payees, WorkDesk
from rig.chain_parts import MINER_ADDRESS, POOL_SCRIPT, block_hash, gbt, tip, transaction_rows

MAINNET = NETWORKS["mainnet"]
TARGET_MS = 30.0


def serve(body: bytes, port_to: multiprocessing.connection.Connection) -> None:
    """The stand-in node: one answer to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        port_to.send(server.server_port)
        server.serve_forever()


def timed(rounds: int, work: Callable[[], object]) -> float:
    """Median milliseconds."""
    spans = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        spans.append(time.perf_counter() - start)
    return statistics.median(spans) * 1000


async def rpc_ms(port: int, rounds: int) -> float:
    """getblocktemplate through the pool's own client, down to the dictionary."""
    address = NodeAddress(f"http://127.0.0.1:{port}", "bench", "bench")
    async with Nodes([address], MAINNET) as nodes:
        spans = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            await nodes.nodes[0].call("getblocktemplate", {"rules": ["segwit"]})
            spans.append(time.perf_counter() - start)
        return statistics.median(spans[1:]) * 1000  # the first one opened the connection


def desk_with(template: Template, mode: str = "ledger") -> WorkDesk:
    desk = WorkDesk(MAINNET, Payees(lambda: POOL_SCRIPT), main_mode=mode)
    desk.on_node_state(NodeState(True, "", 0.0))
    desk.on_template(template)
    return desk


def split(answer: dict[str, object], body: bytes, port: int, rounds: int) -> dict[str, float]:
    """Milliseconds of each step from the question to the published job."""
    template = Template.from_rpc(answer, MAINNET, 0)
    prepared = prepare(template)
    outputs = pay_pool(template.coinbase_value_sat, POOL_SCRIPT)
    coinbase = build(template, outputs, Style(), prepared.commitment)
    tag = JobTag(prepared, coinbase, "ledger", "", 0)
    total = asyncio.run(rpc_ms(port, rounds))
    parse = timed(rounds, lambda: json.loads(body))
    desk = desk_with(template)
    return {
        "RPC (wire and client)": max(total - parse, 0.0),
        "JSON": parse,
        "read into bytes": timed(rounds, lambda: Template.from_rpc(answer, MAINNET, 0)),
        "Merkle and witness commitment": timed(rounds, lambda: prepare(template)),
        "coinbase": timed(rounds, lambda: build(template, outputs, Style(), prepared.commitment)),
        "job and notify line": timed(rounds, lambda: make_job(1, tag)),
        "whole desk: template to listeners": timed(rounds, lambda: desk.on_template(template)),
    }


def extras(template: Template, rounds: int) -> dict[str, float]:
    """Microseconds of what is done per device or per tip."""
    desk = desk_with(template)
    job = desk.job_for("ledger", "")
    assert job is not None
    figures = {"a spare variant": timed(rounds * 20, lambda: desk.variant(job)) * 1000}
    solo = desk_with(template, "solo")

    def one_account() -> None:
        solo._newest.clear()
        assert solo.job_for("solo", MINER_ADDRESS) is not None

    figures["a solo account's job"] = timed(rounds * 20, one_account) * 1000
    tips: list[Tip] = [tip(str(number), height=951_658 + number) for number in range(rounds)]
    numbers = iter(tips)

    def empty() -> None:
        new = next(numbers)
        desk.on_tip(new)
        desk._send_empty(new)

    figures["an empty job after its tip"] = timed(rounds, empty) * 1000
    figures["retiring old jobs"] = timed(rounds, lambda: desk.jobs.retire_before(1)) * 1000
    return figures


async def through_the_room(transactions: int, rounds: int) -> dict[str, float]:
    """Development chain -> follower -> desk: from the word of a new tip to the first and to the full job."""
    from rig.chain_room import chain_room
    from rig.devnode import MINING_ADDRESS, DevNode
    from rig.true_coins import WITNESS_TRUE

    with tempfile.TemporaryDirectory(prefix="bench-template-") as folder:
        with DevNode(Path(folder) / "node") as dev:
            dev.rpc("generatetoaddress", 110, MINING_ADDRESS, timeout_s=300.0)
            dev.rpc("dev_mempool", transactions, 7, 80, False, True, timeout_s=300.0)
            address = NodeAddress(dev.url, dev.user, dev.password, zmq_hashblock=dev.zmq_url or "")
            heard: dict[str, float] = {}
            first, full, served = [], [], []
            regtest, blocks = NETWORKS["regtest"], Path(folder) / "blocks"
            async with chain_room([address], regtest, blocks, WITNESS_TRUE, pace=Pace()) as room:
                await room.job_on(dev.best)
                told = room.desk.on_tip
                jobs: list[tuple[float, Job]] = []

                def on_tip(new: Tip) -> None:
                    heard[new.hash_hex] = time.perf_counter()
                    told(new)

                def on_job(changed: bool) -> None:
                    job = room.desk.job_for("ledger", "")
                    assert job is not None
                    if job.prevhash[::-1].hex() in heard:
                        jobs.append((time.perf_counter(), job))

                room.desk.on_tip = on_tip  # type: ignore[method-assign]
                room.desk.listen(on_job)
                for _ in range(rounds):
                    heard.clear()
                    jobs.clear()
                    [hash_hex] = await asyncio.to_thread(dev.generate, 1)
                    await room.until(lambda: jobs and jobs[-1][1].tx_count >= transactions // 2, 60.0)
                    first.append(jobs[0][0] - heard[hash_hex])
                    full.append(jobs[-1][0] - heard[hash_hex])
                    start = time.perf_counter()
                    await room.nodes.nodes[0].block_template()
                    served.append(time.perf_counter() - start)
            return {
                "first job after the tip": statistics.median(first) * 1000,
                "full job after the tip": statistics.median(full) * 1000,
                "of which the node's getblocktemplate": statistics.median(served) * 1000,
            }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--transactions", type=int, default=3000)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--chain", action="store_true", help="also through a development chain")
    asked = options.parse_args()
    answer = gbt(transaction_rows(random.Random(1), asked.transactions, witness=True), prevhash=block_hash("bench"))
    body = json.dumps({"result": answer, "error": None, "id": 1}).encode()
    mine, theirs = multiprocessing.Pipe(duplex=False)
    node = multiprocessing.get_context("fork").Process(target=serve, args=(body, theirs), daemon=True)
    node.start()
    try:
        steps = split(answer, body, mine.recv(), asked.rounds)
    finally:
        node.kill()
        node.join()
    pieces = {name: ms for name, ms in steps.items() if not name.startswith("whole")}
    arrived = sum(ms for name, ms in pieces.items() if not name.startswith(("RPC", "JSON")))
    rows = [{"step": name, "ms": ms} for name, ms in pieces.items()]
    rows += [{"step": "sum", "ms": sum(pieces.values())}, {"step": "after the template arrived", "ms": arrived}]
    table(f"Template of {asked.transactions} transactions, {len(body) / 1e6:.2f} MB of JSON", rows)
    table("The desk in one go", [{"step": name, "ms": ms} for name, ms in steps.items() if name not in pieces])
    small = extras(Template.from_rpc(answer, MAINNET, 0), asked.rounds)
    table("Per device and per tip", [{"step": name, "us": us} for name, us in small.items()])
    room = asyncio.run(through_the_room(asked.transactions, asked.rounds)) if asked.chain else {}
    if room:
        table("Through the room, on a development chain", [{"step": name, "ms": ms} for name, ms in room.items()])
    figures = {name: round(ms, 3) for name, ms in (steps | room).items()}
    finish(
        "template",
        {
            "transactions": asked.transactions,
            "json_bytes": len(body),
            "ms": figures,
            "us": {name: round(us, 1) for name, us in small.items()},
            "after_arrival_ms": round(arrived, 3),
            "target_ms": TARGET_MS,
            "met": arrived < TARGET_MS,
        },
    )


if __name__ == "__main__":
    main()
