"""RPC methods that only a development chain has: tell it to reorg, stall, slow down, fail, lag, or fill its mempool."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import cast

from pool.dev.devchain.faults import ALL, KINDS, Faults
from pool.dev.devchain.generate import make_block
from pool.dev.devchain.index import Node
from pool.dev.devchain.node import DevNode
from pool.dev.devchain.rpcbase import INVALID_PARAMETER, VERIFY_ERROR, Methods, RpcFault, want, want_seconds
from pool.dev.devchain.rules import target_of_nbits, work_of_target
from pool.dev.devchain.template import VERSION_TOP, Json, Overrides
from pool.dev.devchain.wire import display

MAX_MEMPOOL = 20_000
HOUR_S = 3600
MAX_HASHES = 50_000_000  # what dev_reorg may spend: under a minute
ANYONE_CAN_SPEND = b"\x51"


def bounded(value: object, low: int, high: int, name: str, default: int | None = None) -> int:
    """A whole number within bounds; INVALID_PARAMETER otherwise."""
    number = want(value, int, default=default)
    if not low <= number <= high:
        raise RpcFault(INVALID_PARAMETER, f"{name} {number} is not within {low}..{high}")
    return number


class DevMethods(Methods):
    """dev_reorg and its kin."""

    names = (
        "dev_calls", "dev_fail", "dev_heal", "dev_ibd", "dev_lag", "dev_longpoll", "dev_mempool", "dev_peers",
        "dev_reorg", "dev_slow",
        "dev_stall", "dev_template", "dev_warmup", "dev_zmq",
    )  # fmt: skip

    def __init__(self, node: DevNode, faults: Faults) -> None:
        super().__init__(node)
        self.faults = faults

    async def dev_reorg(self, depth: object = None, length: object = None, to: object = None) -> Json:
        """Replace the last `depth` blocks by `length` empty ones (equal: a same-height reorg), or go to the block `to`.

        Strict: the new branch has the work to win by itself. Demo: the old one is invalidated first, as nobody here
        can out-mine it; `to` brings it back.
        """
        if to is not None:
            self._go_to(self.find(to, "to"))
        else:
            back = bounded(depth, 1, self.chain.tip.height, "depth", default=1)
            await self._fork(back, bounded(length, back, 1000, "length", default=back))
        return {"tip": display(self.chain.tip.hash), "height": self.chain.tip.height}

    def _go_to(self, target: Node) -> None:
        index = self.chain.index
        if self.chain.network.retargets:
            self.chain.reconsider(target)
            if not index.is_active(target):
                self.chain.invalidate(index.active[index.fork(target).height + 1])
        if target.work < self.chain.tip.work:
            raise RpcFault(INVALID_PARAMETER, "that block has less work than the tip: use invalidateblock")
        self.chain.precious(target)

    async def _fork(self, depth: int, length: int) -> None:
        active = self.chain.index.active
        parent, replaced = active[-1 - depth], active[-depth]
        expected = length * work_of_target(target_of_nbits(self.chain.allowed_nbits(parent)[-1]))
        if expected > MAX_HASHES:
            raise RpcFault(
                INVALID_PARAMETER, f"that takes {expected} hashes here, over {MAX_HASHES}: use invalidateblock instead"
            )
        if self.chain.network.retargets:
            self.chain.invalidate(replaced)
        for _ in range(length):
            raw, _left = await make_block(
                self.chain, parent, ANYONE_CAN_SPEND, (), 0, tries=20 * MAX_HASHES, extra=secrets.token_bytes(8)
            )
            verdict = self.chain.submit(raw) if raw is not None else "no nonce found"
            if verdict not in (None, "inconclusive"):
                raise RpcFault(VERIFY_ERROR, f"fork block refused: {verdict}")
            parent = max(parent.children, key=lambda node: node.order)
        self.chain.precious(parent)

    async def dev_mempool(
        self,
        count: object = None,
        seed: object = None,
        segwit_percent: object = None,
        clear: object = None,
        refill: object = None,
    ) -> Json:
        """Let `count` random transactions wait (`clear`: drop those there first; `refill`: again after every new
        tip)."""
        mempool = self.node.mempool
        number = bounded(count, 0, MAX_MEMPOOL, "count", default=0)
        seed_number = None if seed is None else want(seed, int)
        percent = None if segwit_percent is None else bounded(segwit_percent, 0, 100, "segwit_percent")
        dropped = mempool.clear() if want(clear, bool, default=False) else 0
        made = mempool.fill(number, seed=seed_number, segwit_percent=percent)
        if refill is not None:
            self.node.conditions.refill_count = number if want(refill, bool) else 0
        self.node.wake()
        return {"waiting": len(mempool.entries), "made": made, "dropped": dropped}

    async def dev_stall(self, method: object = None, seconds: object = None) -> Json:
        """Let calls of a method ("*": all) hang, for `seconds` each or until dev_heal."""
        fault = self.faults.entry(want(method, str, default=ALL))
        fault.stalled = asyncio.Event()
        fault.stall_s = None if seconds is None else want_seconds(seconds, 0, HOUR_S)
        return None

    async def dev_slow(self, method: object = None, seconds: object = None) -> Json:
        """Delay each call of a method ("*": all)."""
        delay = want_seconds(seconds, 0, HOUR_S, default=1.0)
        self.faults.entry(want(method, str, default=ALL)).delay_s = delay
        return None

    async def dev_fail(
        self, method: object = None, kind: object = None, count: object = None, code: object = None, message: object =
        None,
        after: object = None,
    ) -> Json:  # fmt: skip
        """Let calls of a method fail: http401, http403, http500, http503, error (with code and message), close,
        garbage, truncate, empty;
        `count` times or until dev_heal; with `after` the work is done first and only the answer is lost."""
        name = want(kind, str, default="http500")
        if name not in KINDS:
            raise RpcFault(INVALID_PARAMETER, f"kind {name} is none of {', '.join(KINDS)}")
        fault = self.faults.entry(want(method, str, default=ALL))
        fault.kind = name
        fault.left = None if count is None else bounded(count, 1, 1_000_000, "count")
        fault.code = want(code, int, default=-1)
        fault.message = want(message, str, default="dev_fail")
        fault.after = want(after, bool, default=False)
        return None

    async def dev_heal(self, method: object = None) -> Json:
        """End stalls, delays and failures of a method, or of all; also warm-up, IBD and lag when no method is named."""
        self.faults.clear(None if method is None else want(method, str))
        if method is None:
            conditions = self.node.conditions
            conditions.initial_download, conditions.headers_ahead, conditions.warmup_until_s = False, 0, 0.0
            conditions.peers = max(1, conditions.peers)
            self.node.publisher.muted = False
        return None

    async def dev_ibd(self, on: object = None) -> Json:
        """Pretend to be in initial block download: templates are refused."""
        self.node.conditions.initial_download = want(on, bool, default=True)
        return None

    async def dev_lag(self, headers: object = None) -> Json:
        """Pretend that peers' headers are this many blocks ahead."""
        self.node.conditions.headers_ahead = bounded(headers, 0, 1_000_000, "headers", default=0)
        return None

    async def dev_peers(self, count: object = None) -> Json:
        """Pretend to have this many peers; with 0 templates are refused."""
        self.node.conditions.peers = bounded(count, 0, 1000, "count", default=1)
        return None

    async def dev_warmup(self, seconds: object = None) -> Json:
        """Answer -28 to everything for so many seconds, as after a start."""
        self.node.conditions.warmup_until_s = time.monotonic() + want_seconds(seconds, 0, HOUR_S, default=5.0)
        return None

    async def dev_longpoll(self, check_s: object = None) -> Json:
        """After how many seconds long polls look at the mempool (60 unless told)."""
        self.node.conditions.long_poll_check_s = want_seconds(check_s, 0.05, HOUR_S, default=60.0)
        self.node.wake()
        return None

    async def dev_zmq(self, muted: object = None, probe: object = None) -> Json:
        """Lose `hashblock` messages (their sequence numbers are used up) until told otherwise; or `probe` the
        subscribers."""
        if want(probe, bool, default=False):
            self.node.publisher.probe()
        else:
            self.node.publisher.muted = want(muted, bool, default=True)
        return None

    async def dev_template(
        self, version: object = None, vbrequired: object = None, extra_rules: object = None, vbavailable: object = None,
        coinbaseaux: object = None,
    ) -> Json:  # fmt: skip
        """Change fields of every template (version bits, required bits, unknown rules, coinbaseaux); without
        arguments: back to normal."""
        rules = [want(rule, str) for rule in want(extra_rules, list, default=[])]
        bits = {
            want(name, str): bounded(bit, 0, 28, "bit") for name, bit in want(vbavailable, dict, default={}).items()
        }
        aux = {want(name, str): want(text, str) for name, text in want(coinbaseaux, dict, default={}).items()}
        self.node.templates.overrides = Overrides(
            version=bounded(version, 4, 0x7FFFFFFF, "version", default=VERSION_TOP),
            vbrequired=bounded(vbrequired, 0, 0x1FFFFFFF, "vbrequired", default=0),
            extra_rules=rules,
            vbavailable=bits,
            coinbase_aux=aux,
        )
        return None

    async def dev_calls(self) -> Json:
        """How often each method was called since the start."""
        return cast(Json, dict(self.faults.calls))
