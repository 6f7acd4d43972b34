"""A running development chain for tests, and blocks built by hand from its templates (hashlib only, nothing of
`native`).

with devchain(tmp_path) as node:                 # a process of its own, strict mode
    node.rpc("generatetoaddress", 101, ADDRESS)
    template = node.template()
    block = build(template)                      # solved; change its parts to make a bad one
    assert node.rpc("submitblock", block.hex()) is None
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zmq

from pool.dev.devchain.process import RpcError
from pool.dev.devchain.rules import target_of_nbits
from pool.dev.devchain.scripts import commitment_script, push_number
from pool.dev.devchain.wire import (
    NULL_OUTPOINT,
    Tx,
    TxIn,
    TxOut,
    internal,
    merkle_root,
    pack_block,
    pack_header,
    pack_tx,
    parse_tx,
    sha256d,
    var_bytes,
)

ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"  # the key of BIP173's example
SCRIPT = bytes.fromhex("0014751e76e8199196d454941c45d1b3a323f1433bd6")
ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0
IDLE_S = 20.0


class Rpc:
    """A plain JSON-RPC client on one persistent connection."""

    def __init__(self, url: str, user: str, password: str, timeout_s: float = 30.0) -> None:
        self.url, self.user, self.password = url, user, password
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
        self._used_s = time.monotonic()
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Raw exchange: (HTTP status, body)."""
        if time.monotonic() - self._used_s > IDLE_S:
            self._connection.close()  # as good clients do: the node hangs up on the idle after 30 s
        self._used_s = time.monotonic()
        try:
            self._connection.request("POST", "/", body, dict(self.headers if headers is None else headers))
            response = self._connection.getresponse()
            return response.status, response.read()
        except BaseException:
            self._connection.close()
            raise

    def __call__(self, method: str, *params: object) -> Any:
        """Result of one call; RpcError when the node answers an error."""
        _, body = self.post(json.dumps({"jsonrpc": "1.0", "id": 1, "method": method, "params": params}).encode())
        answer = json.loads(body)
        if answer["error"] is not None:
            raise RpcError(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class RunningChain:
    """One devchain process: start, kill -9, start again on the same folder; ports stay the same over restarts."""

    def __init__(self, datadir: Path, mode: str = "strict", *, mempool: int = 0, spacing_s: float = 20) -> None:
        self.datadir, self.mode, self.mempool, self.spacing_s = datadir, mode, mempool, spacing_s
        self.url = self.user = self.password = self.zmq = ""
        self._port = self._zmq_port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._rpc: Rpc | None = None

    @property
    def cookie_file(self) -> Path:
        """Bitcoin Core style cookie."""
        return self.datadir / ".cookie"

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it answers."""
        self.datadir.mkdir(parents=True, exist_ok=True)
        ready = self.datadir / "ready.json"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pool.dev.devchain", "--mode", self.mode, "--datadir", str(self.datadir)]
        command += ["--rpcport", str(self._port), "--zmqport", str(self._zmq_port), "--mempool", str(self.mempool)]
        command += ["--spacing", str(self.spacing_s)]
        command += ["--ready-file", str(ready), "--with-parent"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self.datadir / "stderr.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log, env=environment)
        deadline = time.monotonic() + START_S
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"devchain did not start: {(self.datadir / 'stderr.log').read_text()}")
            time.sleep(0.01)
        told = json.loads(ready.read_text())
        self.url, self.zmq = told["url"], told["zmq"]
        self._port, self._zmq_port = urlsplit(self.url).port or 0, urlsplit(self.zmq).port or 0
        self.user, _, self.password = self.cookie_file.read_text().partition(":")
        self._rpc = Rpc(self.url, self.user, self.password)

    def _end(self, number: int) -> int:
        if self._rpc is not None:
            self._rpc.close()
        process, self._process, self._rpc = self._process, None, None
        if process is None:
            return 0
        process.send_signal(number)
        code = process.wait(timeout=10)
        if process.stdin is not None:
            process.stdin.close()
        return code

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Stop in order; the exit code."""
        return self._end(signal.SIGTERM)

    def client(self, timeout_s: float = 30.0) -> Rpc:
        """Another client, for calls at the same time; close it."""
        return Rpc(self.url, self.user, self.password, timeout_s)

    def rpc(self, method: str, *params: object) -> Any:
        """Result of one call, or RpcError."""
        assert self._rpc is not None
        return self._rpc(method, *params)

    def template(self, **request: object) -> dict[str, Any]:
        """A block template."""
        found: dict[str, Any] = self.rpc("getblocktemplate", {"rules": ["segwit"], **request})
        return found

    @contextlib.contextmanager
    def subscribed(self) -> Iterator[Subscription]:
        """A ZMQ subscription to hashblock that is known to have arrived."""
        with Subscription(self.zmq) as subscription:
            subscription.settle(lambda: self.rpc("dev_zmq", None, True))
            yield subscription


class Subscription:
    """hashblock messages as (hash_hex, sequence)."""

    def __init__(self, address: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"hashblock")
        self._socket.setsockopt(zmq.SUBSCRIBE, b"devprobe")
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)

    def settle(self, probe: Callable[[], object], timeout_s: float = 10.0) -> None:
        """Return when the publisher knows of this subscription: the handshake alone does not tell."""
        deadline = time.monotonic() + timeout_s
        while True:
            probe()
            if self._socket.poll(20):
                break
            assert time.monotonic() < deadline, "no ZMQ publisher answers"
        self._socket.setsockopt(zmq.UNSUBSCRIBE, b"devprobe")

    def next(self, timeout_s: float = 5.0) -> tuple[str, int] | None:
        """The next message, or None."""
        deadline = time.monotonic() + timeout_s
        while self._socket.poll(max(0, int((deadline - time.monotonic()) * 1000))):
            topic, *rest = self._socket.recv_multipart()
            if topic == b"hashblock":  # a probe may still be on its way
                return rest[0].hex(), int.from_bytes(rest[1], "little")
        return None

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._context.term()


@contextlib.contextmanager
def devchain(datadir: Path, mode: str = "strict", *, mempool: int = 0, spacing_s: float = 20) -> Iterator[RunningChain]:
    """A running development chain."""
    chain = RunningChain(datadir, mode, mempool=mempool, spacing_s=spacing_s)
    chain.start()
    try:
        yield chain
    finally:
        chain.stop()


@dataclass
class Draft:
    """Parts of a block; change any of them, then `solve()`."""

    template: Mapping[str, Any]
    script: bytes = SCRIPT
    value_sat: int = -1  # as the template says
    height_push: bytes = b""  # as the template's height
    extra: bytes = b"rig/0000"
    witness: tuple[bytes, ...] | None = (bytes(32),)
    commitment: bytes | None = None  # as computed; b"" leaves it out
    txs: list[bytes] = field(default_factory=list)
    version: int = -1
    time_s: int = -1
    nbits: int = -1
    prev: bytes = b""
    root: bytes = b""
    locktime: int = -1
    body: list[bytes] | None = None  # all transactions, if not coinbase + txs

    def __post_init__(self) -> None:
        template = self.template
        self.txs = self.txs or [bytes.fromhex(entry["data"]) for entry in template["transactions"]]
        self.value_sat = template["coinbasevalue"] if self.value_sat < 0 else self.value_sat
        self.height_push = self.height_push or push_number(template["height"])
        self.version = template["version"] if self.version < 0 else self.version
        self.time_s = template["curtime"] if self.time_s < 0 else self.time_s
        self.nbits = int(template["bits"], 16) if self.nbits < 0 else self.nbits
        self.prev = self.prev or internal(template["previousblockhash"])
        self.locktime = template["height"] - 1 if self.locktime < 0 else self.locktime

    def coinbase(self) -> Tx:
        """The coinbase of these parts."""
        outs = [TxOut(self.value_sat, self.script)]
        commitment = self.commitment
        if commitment is None:
            commitment = commitment_script(merkle_root([bytes(32), *(parse_tx(tx).wtxid for tx in self.txs)]))
        if commitment:
            outs.append(TxOut(0, commitment))
        words = self.height_push + (var_bytes(self.extra) if self.extra else b"")
        stacks = [self.witness] if self.witness else []
        return parse_tx(pack_tx(2, [TxIn(NULL_OUTPOINT, words, 0xFFFFFFFE)], outs, stacks, self.locktime))

    def solve(self, *, good: bool = True, tries: int = 1 << 32) -> bytes:
        """The block with a nonce that meets its nBits (not `good`: one that does not); RuntimeError after `tries`."""
        body = [self.coinbase().raw, *self.txs] if self.body is None else self.body
        root = self.root or merkle_root([parse_tx(tx).txid for tx in body])
        target = target_of_nbits(self.nbits)
        for nonce in range(tries):
            header = pack_header(self.version, self.prev, root, self.time_s, self.nbits, nonce)
            if (int.from_bytes(sha256d(header), "little") <= target) is good:
                return pack_block(header, body)
        raise RuntimeError(f"no nonce in {tries} meets {self.nbits:08x}")


def build(template: Mapping[str, Any], **parts: Any) -> bytes:
    """A solved block on a template; `parts` are fields of Draft."""
    return Draft(template, **parts).solve()


def block_hash(raw: bytes) -> str:
    """Display hash of a serialised block."""
    return sha256d(raw[:80])[::-1].hex()
