"""The tree of known blocks: who stands on whom, with how much work, and which branch is best."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pool.dev.devchain.wire import Header

VALID = 0
FAILED = 1  # broke a rule, or was invalidated by hand
MEDIAN_SPAN = 11


@dataclass(slots=True, eq=False)
class Node:
    """One known block. `order` breaks ties of equal work: the smaller wins, so the first seen does unless another was
    made precious."""

    hash: bytes
    parent: Node | None = field(repr=False)
    header: Header
    height: int
    work: int  # of the whole branch
    order: int
    tx_count: int
    received_ms: int
    pace: int
    status: int = VALID
    resumed_ms: int = 0  # when this process started on this tip: nobody could mine while it was down
    children: list[Node] = field(default_factory=list, repr=False)

    def median_time_s(self) -> int:
        """Median time past: of this block and the ten before."""
        times = sorted(node.header.time_s for node, _ in zip(self.back(), range(MEDIAN_SPAN), strict=False))
        return times[len(times) // 2]

    def back(self) -> Iterator[Node]:
        """This block, its parent, and so on to genesis."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


class Index:
    """All nodes by hash, the leaves, and the active chain as a list by height; nothing on the active chain is
    failed."""

    def __init__(self, genesis: Node) -> None:
        self.nodes = {genesis.hash: genesis}
        self.leaves = {genesis.hash: genesis}
        self.active = [genesis]

    @property
    def tip(self) -> Node:
        """Top of the active chain."""
        return self.active[-1]

    def add(self, node: Node) -> None:
        """Link a new block under its parent."""
        self.nodes[node.hash] = node
        self.leaves[node.hash] = node
        if node.parent is not None:
            node.parent.children.append(node)
            self.leaves.pop(node.parent.hash, None)

    def is_active(self, node: Node) -> bool:
        """Whether the block is on the active chain."""
        return node.height < len(self.active) and self.active[node.height] is node

    def fork(self, node: Node) -> Node:
        """Highest block of the active chain under (or at) `node`."""
        return next(step for step in node.back() if self.is_active(step))

    def sound(self, node: Node) -> Node:
        """`node`, or the highest block under it with nothing failed at or below it. The active chain itself is always
        sound."""
        best = node
        for step in node.back():
            if self.is_active(step):
                break
            if step.status == FAILED and step.parent is not None:
                best = step.parent
        return best

    def best(self) -> Node:
        """The sound block with the most work; of equals the one with the smallest order."""
        candidates = [self.sound(leaf) for leaf in self.leaves.values()]
        return max(candidates, key=lambda node: (node.work, -node.order))

    def descendants(self, node: Node) -> Iterator[Node]:
        """The block and everything on top of it."""
        stack = [node]
        while stack:
            step = stack.pop()
            yield step
            stack.extend(step.children)
