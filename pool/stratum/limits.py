"""What one connection and one address may cost us: counts and rates, with bounded memory. Slows down before it
refuses.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from pool.stratum.bans import Penalty

PENALTIES_AT_MOST = 65_536  # addresses remembered without a connection: about 20 MB


def address_key(host: str) -> str:
    """What counts as one address: an IPv4, or the /64 of an IPv6 (a home gets at least that many)."""
    if ":" not in host:
        return host  # IPv4: the plain case, and half of what entering costs if it is parsed
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Address(int(address) >> 64 << 64)) + "/64"
    return host


class Bucket:
    """A token bucket: `rate` a second, at most `depth` saved up."""

    __slots__ = ("_depth", "_rate", "_stamp_s", "_tokens")

    def __init__(self, rate: float, depth: float, now_s: float) -> None:
        self._rate, self._depth = rate, depth
        self._tokens, self._stamp_s = depth, now_s

    def take(self, now_s: float, count: float = 1.0) -> float:
        """Take `count`; seconds to wait before more is served, 0.0 when there was enough."""
        tokens = min(self._depth, self._tokens + (now_s - self._stamp_s) * self._rate)
        self._stamp_s = now_s
        self._tokens = tokens = tokens - count
        return 0.0 if tokens >= 0.0 else -tokens / self._rate


@dataclass(slots=True)
class Visitor:
    """One address: its live connections and what it did."""

    key: str
    messages: Bucket
    connections: int = 0
    earning: int = 0  # connections with a credited share
    penalty: Penalty | None = None


class Door:
    """Who may come in. Knows addresses with a connection or a penalty, and forgets the rest."""

    def __init__(self, per_address: int, messages_per_s: float) -> None:
        self._per_address, self._messages_per_s = per_address, messages_per_s
        self._present: dict[str, Visitor] = {}
        self._absent: OrderedDict[str, Penalty] = OrderedDict()

    def enter(self, host: str, now_s: float) -> Visitor | None:
        """Count a connection in, or None when it has to go: too many of them, or a penalty that no earning neighbour
        excuses.
        """
        key = address_key(host)
        visitor = self._present.get(key)
        if visitor is None:
            penalty = self._absent.get(key)
            if penalty is not None and penalty.refuses(now_s):
                return None
            self._absent.pop(key, None)
            visitor = Visitor(key, Bucket(self._messages_per_s, 2 * self._messages_per_s, now_s), penalty=penalty)
            self._present[key] = visitor
        elif visitor.connections >= self._per_address or (
            visitor.penalty is not None and not visitor.earning and visitor.penalty.refuses(now_s)
        ):
            # Ten devices behind one router must not suffer for the eleventh: with one of them earning, all come in.
            return None
        visitor.connections += 1
        return visitor

    def leave(self, visitor: Visitor, now_s: float) -> None:
        visitor.connections -= 1
        if visitor.connections:
            return
        self._present.pop(visitor.key, None)
        if visitor.penalty is not None and not visitor.penalty.forgiven(now_s):
            self._absent[visitor.key] = visitor.penalty
            if len(self._absent) > PENALTIES_AT_MOST:
                self._absent.popitem(last=False)

    def punish(self, visitor: Visitor, now_s: float) -> None:
        if visitor.penalty is None or visitor.penalty.forgiven(now_s):
            visitor.penalty = Penalty()
        visitor.penalty.add(now_s)

    def sweep(self, now_s: float) -> None:
        """Forget what is forgiven."""
        for key in [key for key, penalty in self._absent.items() if penalty.forgiven(now_s)]:
            del self._absent[key]

    def __len__(self) -> int:
        return len(self._present) + len(self._absent)
