"""A stand-in for a node, as a process: templates of mainnet size as ready-made bytes, a new tip on command.

    python bench/stratum_node.py TRANSACTIONS

Prints "URL ZMQ LOGIN". Each line "block" on standard input moves the tip and is answered with CLOCK_REALTIME in ns of
that moment. What it serves takes it as long as writing two megabytes takes: 2 to 3 ms."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

import report  # noqa: F401 - makes the pool importable
import uvloop
import zmq
import zmq.asyncio

from rig.chain_parts import gbt, transaction_rows
from rig.fakenode import FakeNode, Writer, block_hash, http

FIRST_BITS = "1702068f"


class BigNode(FakeNode):
    """FakeNode whose templates are bytes made before they are asked for."""

    def __init__(self, transactions: int) -> None:
        super().__init__(bits=FIRST_BITS)
        self._rows = transaction_rows(random.Random(1), transactions, witness=True)
        self.branch.append(block_hash("bench-1"))
        self._pattern = b""
        self.body = self.body_for(self.branch[-1], 2)

    def body_for(self, previous_hex: str, height: int) -> bytes:
        """The whole HTTP answer to getblocktemplate on that block."""
        if not self._pattern:
            now_s = int(time.time())
            answer = gbt(
                self._rows, network="regtest", height=height, bits=FIRST_BITS, longpollid="@" * 64, mintime=now_s - 3000
            )
            answer |= {"previousblockhash": "@" * 64, "curtime": now_s}
            self._pattern = json.dumps({"result": answer, "error": None, "id": 0}).encode()
        body = self._pattern.replace(b"@" * 64, previous_hex.encode())
        return http(200, body.replace(b'"height": 2', b'"height": %d' % height))

    async def answer(self, method: str, params: list[Any], number: object, writer: Writer) -> None:
        if method != "getblocktemplate":
            await super().answer(method, params, number, writer)
            return
        if "longpollid" in params[0]:
            async with self._news:
                await self._news.wait_for(lambda: params[0]["longpollid"] != self.branch[-1])
        writer.write(self.body)


async def main(transactions: int) -> None:
    context = zmq.asyncio.Context()
    publisher = context.socket(zmq.PUB)
    number = publisher.bind_to_random_port("tcp://127.0.0.1")
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with BigNode(transactions) as node:
        print(node.url, f"tcp://127.0.0.1:{number}", node.login, flush=True)
        while (await lines.readline()).strip():
            tip = block_hash(f"bench-{len(node.branch)}")
            body = node.body_for(tip, len(node.branch) + 1)
            at_ns = time.time_ns()
            node.branch.append(tip)
            node.body = body
            await publisher.send_multipart([b"hashblock", bytes.fromhex(tip), node.height.to_bytes(4, "little")])
            await node.tell()
            print(at_ns, flush=True)
    context.destroy(linger=0)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
