"""The demo network's difficulty: one block in 20 s for anything from 1 MH/s to 10 TH/s, found again within a few
blocks after any change.

The rule is this node's own (it is the only node of its network), so it measures with its own clock: the time a block
arrived, not the header time, which a miner leaves at the moment its job was made.

- *Pace* of a block: the sum over the steps of its ladder of (time a step stood open / expected hashes at that
  step). For a hashrate H that is exponentially distributed with mean 1 / H whatever the difficulty was, so paces of
  unlike blocks can be averaged.
- *Base*: 20 s / mean pace of the last blocks; a run of the newest blocks that chance does not explain (about 2 %
  per side) makes the rule forget what was before it. That is how it climbs seven decades in a few blocks.
- *Ladder*: after 2.25 spacings (45 s) without a block the target doubles twice every half spacing (10 s), down to
  the network's limit: a big miner that left cannot leave the chain stuck. A block may be of any step open when it
  arrives, so a job made earlier (harder) stays good.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from pool.dev.devchain.index import Node
from pool.dev.devchain.rules import Network, nbits_of_target, target_of_nbits, work_of_target

WINDOW = 16
STEP_BITS = 2
#: Paces are ms per hash times 2^50: 1 % fine up to 10^16 H/s, and inside SQLite's 64 bits for three days at the
#: easiest target.
PACE_BITS = 50
PACE_MAX = (1 << 62) - 1
#: After m newest blocks: chance is ruled out if their mean pace is under FAST[m] or over SLOW[m] (in 1/1000) of the
#: mean before.
FAST = (0, 25, 90, 160, 220, 265, 300, 330, 355)
SLOW = (0, 5_000, 3_600, 3_000, 2_700, 2_500, 2_350, 2_250, 2_200)


def steady(paces: Sequence[int]) -> Sequence[int]:
    """The newest paces (newest first) that chance allows to be of one hashrate."""
    window = paces
    while True:
        for count in range(min(len(window) - 1, len(FAST) - 1), 0, -1):
            recent, older = window[:count], window[count:]
            # sum(recent)/count against sum(older)/len(older), as integers
            left, right = 1000 * sum(recent) * len(older), sum(older) * count
            if left < FAST[count] * right or left > SLOW[count] * right:
                window = recent
                break
        else:
            return window


def base_target(network: Network, parent: Node) -> int:
    """Target of the first step for a block on `parent`."""
    paces = [node.pace for node in islice(parent.back(), WINDOW) if node.height > 0]
    if not paces:
        return network.limit_target
    window = steady(paces)
    # (2n - 1) / 2 instead of n: one lucky block alone overshoots half as far, sixteen are 3 % too easy
    work = max(1, (network.spacing_ms << PACE_BITS) * (2 * len(window) - 1) // max(1, 2 * sum(window)))
    return min(network.limit_target, (1 << 256) // work - 1)


def patience_ms(network: Network) -> int:
    """Wait before the first step."""
    return network.spacing_ms * 9 // 4


def opens_ms(network: Network, step: int) -> int:
    """Wait after which a step (1, 2, ...) is open."""
    return patience_ms(network) + (step - 1) * (network.spacing_ms // 2)


def steps_open(network: Network, waited_ms: int) -> int:
    """How many steps above the base are open after that wait."""
    over = waited_ms - patience_ms(network)
    return 0 if over < 0 else 1 + over // (network.spacing_ms // 2)


def step_nbits(network: Network, base: int, step: int) -> int:
    """nBits of one step."""
    return nbits_of_target(min(network.limit_target, base << min(256, STEP_BITS * step)))


def open_nbits(network: Network, parent: Node, now_ms: int) -> tuple[int, ...]:
    """nBits a block on `parent` may carry now, hardest first."""
    base = base_target(network, parent)
    found = []
    for step in range(steps_open(network, now_ms - parent.received_ms) + 1):
        found.append(step_nbits(network, base, step))
        if found[-1] == network.limit_nbits:
            break
    return tuple(found)


def next_step_ms(network: Network, parent: Node, now_ms: int) -> int | None:
    """Milliseconds until a template on `parent` becomes easier, or None if it is at the limit."""
    if open_nbits(network, parent, now_ms)[-1] == network.limit_nbits:
        return None
    waited = now_ms - parent.received_ms
    return opens_ms(network, steps_open(network, waited) + 1) - waited


def pace(network: Network, parent: Node, nbits: int, now_ms: int) -> int:
    """Pace of a block with these nBits that arrives now on `parent`."""
    if parent.resumed_ms:
        mined_ms = max(1, now_ms - parent.resumed_ms)
        return max(1, min((mined_ms << PACE_BITS) // work_of_target(target_of_nbits(nbits)), PACE_MAX))
    waited = max(1, now_ms - parent.received_ms)
    base = base_target(network, parent)
    total, step, since = 0, 0, 0
    while True:
        step_bits = step_nbits(network, base, step)
        until = opens_ms(network, step + 1)
        last = step_bits in (nbits, network.limit_nbits) or until >= waited
        total += ((waited if last else until) - since << PACE_BITS) // work_of_target(target_of_nbits(step_bits))
        if last:
            return max(1, min(total, PACE_MAX))
        since, step = until, step + 1
