"""The chain: takes blocks, keeps the best branch connected, and tells its listeners when the tip moves."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pool.dev.devchain import coins, retarget
from pool.dev.devchain.check import check_block, check_block_in_context, check_header_in_context
from pool.dev.devchain.index import FAILED, VALID, Index, Node
from pool.dev.devchain.rules import LABEL, Network, RejectError, target_of_nbits, work_of_target
from pool.dev.devchain.scripts import push_number
from pool.dev.devchain.store import BlockRow, Coin, Store
from pool.dev.devchain.wire import (
    NULL_OUTPOINT,
    Block,
    Header,
    TxIn,
    TxOut,
    pack_block,
    pack_header,
    pack_tx,
    parse_block,
    parse_header,
    var_bytes,
)


def genesis_block(network: Network) -> bytes:
    """The first block: says in its coinbase what it is."""
    words = f"{LABEL} {network.mode}: a development chain, its coins are worth nothing".encode()
    coinbase = pack_tx(
        1,
        [TxIn(NULL_OUTPOINT, push_number(0) + var_bytes(words), 0xFFFFFFFF)],
        [TxOut(0, b"\x6a" + var_bytes(words[:40]))],
    )
    block = parse_block(pack_block(pack_header(4, bytes(32), bytes(32), 0, network.limit_nbits, 0), [coinbase]))
    header = pack_header(
        4, bytes(32), block.txs[0].txid, network.genesis_time_s, network.limit_nbits, network.genesis_nonce
    )
    return pack_block(header, [coinbase])


class Chain:
    """One network's chain on one store. Not thread-safe: everything happens on one event loop."""

    def __init__(self, network: Network, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.network = network
        self.store = store
        self._clock = clock
        self.mock_time_s: int | None = None
        self.on_connect: Callable[[Block], None] = lambda block: None
        self.on_disconnect: Callable[[Block], None] = lambda block: None
        self.on_tip: Callable[[Node], None] = lambda node: None
        self.on_broken: Callable[[Exception], None] = lambda error: None
        self._next_seq = 1
        self._precious = -1
        self._newest: Block | None = None  # the block in hand: 40 ms for 3,000 transactions if it were parsed again
        self.index = self._load()

    # -- clock ---------------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """This node's clock."""
        return self.mock_time_s * 1000 if self.mock_time_s is not None else int(self._clock() * 1000)

    def now_s(self) -> int:
        """This node's clock in seconds."""
        return self.now_ms() // 1000

    @contextmanager
    def _change(self) -> Iterator[None]:
        """One transaction. If it fails, memory may be ahead of the file: `on_broken` must end the process."""
        try:
            with self.store.atomic():
                yield
        except Exception as error:
            self.on_broken(error)
            raise

    # -- loading -------------------------------------------------------------------------------------------------------

    def _load(self) -> Index:
        rows = self.store.blocks()
        first = next(rows, None)
        if first is None:
            first = self._write_genesis()
        header = parse_header(first.header)
        work = work_of_target(target_of_nbits(header.nbits))
        index = Index(Node(first.hash, None, header, 0, work, 0, 1, first.received_ms, first.pace))
        for row in rows:
            header = parse_header(row.header)
            index.add(self._node(row, header, index.nodes[header.prev]))
        self._next_seq = max(node.order for node in index.nodes.values()) + 1
        tip = index.nodes[bytes.fromhex(self.store.meta("tip") or first.hash.hex())]
        tip.order = 0  # the branch that was active stays so among equals
        tip.resumed_ms = self.now_ms()
        index.active = list(tip.back())[::-1]
        return index

    def _write_genesis(self) -> BlockRow:
        raw = genesis_block(self.network)
        block = parse_block(raw)
        row = BlockRow(0, block.hash, block.header.raw, 0, 1, self.now_ms(), 0, VALID)
        with self.store.atomic():
            self.store.put_block(row, raw)
            self.store.set_meta("mode", self.network.mode)
            self.store.set_meta("tip", block.hash.hex())
        return row

    def _node(self, row: BlockRow, header: Header, parent: Node) -> Node:
        work = parent.work + work_of_target(target_of_nbits(header.nbits))
        return Node(
            row.hash, parent, header, row.height, work, row.seq, row.tx_count, row.received_ms, row.pace, row.status
        )

    # -- reading -------------------------------------------------------------------------------------------------------

    @property
    def tip(self) -> Node:
        """Top of the active chain."""
        return self.index.tip

    def block(self, node: Node) -> Block:
        """A stored block, parsed."""
        if self._newest is not None and self._newest.hash == node.hash:
            return self._newest
        raw = self.store.raw_block(node.hash)
        if raw is None:
            raise LookupError(f"block {node.hash[::-1].hex()} has no body")
        return parse_block(raw)

    def allowed_nbits(self, parent: Node) -> Sequence[int]:
        """nBits open now for a block on `parent`, the easiest last: what a template uses."""
        if not self.network.retargets:
            return (self.network.limit_nbits,)
        return retarget.open_nbits(self.network, parent, self.now_ms())

    def step(self, parent: Node) -> int:
        """Which of the difficulty steps of a block on `parent` is the easiest open one."""
        return len(self.allowed_nbits(parent)) - 1

    # -- taking blocks -------------------------------------------------------------------------------------------------

    def submit(self, raw: bytes) -> str | None:
        """Take a block; None or the words of BIP22: "duplicate", "inconclusive" (kept on a side branch), or why it is
        refused."""
        block = parse_block(raw)
        known = self.index.nodes.get(block.hash)
        before = self.tip
        # one transaction from the first row to the new tip: a kill in between would leave a block stored and not
        # weighed
        with self._change():
            try:
                check_block(block, self.network)
                if known is not None:
                    return "duplicate-invalid" if self.index.sound(known) is not known else "duplicate"
                node = self._accept(block)
            except RejectError as error:
                return error.reason
            verdict = self._activate(node)
        self._announce(before)
        if verdict is not None:
            return verdict
        return None if self.index.is_active(node) else "inconclusive"

    def test(self, raw: bytes) -> str | None:
        """BIP23 proposal: would this block, its proof of work aside, be good on the tip? None or why not."""
        block = parse_block(raw)
        known = self.index.nodes.get(block.hash)
        if known is not None:
            if self.index.sound(known) is not known:
                return "duplicate-invalid"
            return (
                "duplicate" if known.height == 0 or self.store.was_connected(known.hash) else "duplicate-inconclusive"
            )
        if block.header.prev != self.tip.hash:
            return "inconclusive-not-best-prevblk"
        try:
            check_block(block, self.network, pow_too=False)
            self._check_on(block, self.tip)
            coins.plan(block, self.tip.height + 1, self.store, self.network)
        except RejectError as error:
            return error.reason
        return None

    def _check_on(self, block: Block, parent: Node) -> None:
        median = parent.median_time_s()
        check_header_in_context(
            block.header, median_time_s=median, now_s=self.now_s(), allowed_nbits=self.allowed_nbits(parent)
        )
        check_block_in_context(block, height=parent.height + 1, median_time_s=median)

    def _accept(self, block: Block) -> Node:
        """Check in context and store, not yet connected. RejectError when refused; what can never become good is
        remembered."""
        parent = self.index.nodes.get(block.header.prev)
        if parent is None:
            raise RejectError("prev-blk-not-found")
        if self.index.sound(parent) is not parent:
            raise RejectError("bad-prevblk", "prev block invalid")
        median = parent.median_time_s()
        check_header_in_context(
            block.header, median_time_s=median, now_s=self.now_s(), allowed_nbits=self.allowed_nbits(parent)
        )
        try:
            check_block_in_context(block, height=parent.height + 1, median_time_s=median)
        except RejectError as error:
            if not error.mutated:
                self._keep(block, parent, FAILED)
            raise
        return self._keep(block, parent, VALID)

    def _keep(self, block: Block, parent: Node, status: int) -> Node:
        now_ms = self.now_ms()
        pace = retarget.pace(self.network, parent, block.header.nbits, now_ms) if self.network.retargets else 0
        row = BlockRow(
            self._next_seq, block.hash, block.header.raw, parent.height + 1, len(block.txs), now_ms, pace, status
        )
        with self._change():
            self.store.put_block(row, block.raw)
        self._newest = block
        self._next_seq += 1
        node = self._node(row, block.header, parent)
        self.index.add(node)
        return node

    # -- moving the tip ------------------------------------------------------------------------------------------------

    def _activate(self, wanted: Node | None = None) -> str | None:
        """Make the best sound branch active. Returns why `wanted` could not be connected, if it could not."""
        verdict = None
        while (best := self.index.best()) is not self.tip:
            fork = self.index.fork(best)
            while self.tip is not fork:
                self._disconnect_tip()
            path = [node for node in best.back() if node.height > fork.height][::-1]
            for node in path:
                reason = self._connect(node)
                if reason is not None:
                    verdict = reason if node is wanted else verdict
                    break
        self.store.set_meta("tip", self.tip.hash.hex())
        return verdict

    def _announce(self, before: Node) -> None:
        """Tell the listener of a new tip, after it is safely on disk."""
        if self.tip is not before:
            self.on_tip(self.tip)

    def _connect(self, node: Node) -> str | None:
        block = self.block(node)
        try:
            change = coins.plan(block, node.height, self.store, self.network)
        except RejectError as error:
            node.status = FAILED
            with self._change():
                self.store.set_status(node.hash, FAILED)
            return error.reason
        with self._change():
            coins.connect(block, change, self.store)
        self.index.active.append(node)
        self.on_connect(block)
        return None

    def _disconnect_tip(self) -> None:
        node = self.tip
        block = self.block(node)
        with self._change():
            coins.disconnect(block, node.height, self.store)
        self.index.active.pop()
        self.on_disconnect(block)

    # -- by hand -------------------------------------------------------------------------------------------------------

    def invalidate(self, node: Node) -> None:
        """Treat a block as broken, as `invalidateblock`."""
        if node.height == 0:
            raise ValueError("the genesis block cannot be invalidated")
        before = self.tip
        with self._change():
            while self.index.is_active(node):
                self._disconnect_tip()
            node.status = FAILED
            self.store.set_status(node.hash, FAILED)
            self._activate()
        self._announce(before)

    def reconsider(self, node: Node) -> None:
        """Forget that a block, those under it and those above it failed, and look again."""
        before = self.tip
        with self._change():
            for step in [*node.back(), *self.index.descendants(node)]:
                if step.status != VALID:
                    step.status = VALID
                    self.store.set_status(step.hash, VALID)
            self._activate()
        self._announce(before)

    def precious(self, node: Node) -> None:
        """Prefer this block among those of equal work, as `preciousblock`."""
        before = self.tip
        if node.work < before.work:
            return
        node.order = self._precious
        self._precious -= 1
        with self._change():
            self._activate()
        self._announce(before)

    def mint(self, minted: Sequence[Coin]) -> None:
        """Add money out of nothing for random transactions to spend (a development chain's privilege)."""
        with self._change():
            self.store.add_coins(minted)
