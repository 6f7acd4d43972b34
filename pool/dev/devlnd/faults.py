"""What can be scripted to go wrong: errors, silence, lost and late requests, cut streams, death at a chosen point."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

#: Points of a payment at which the process can end as by `kill -9`.
POINTS = ("before_init", "after_init", "after_register", "after_send_htlc", "after_settle")
KINDS = (
    "error",  # answer `code` and `text` instead of doing anything
    "silence",  # never answer; nothing is done
    "park",  # keep the request for a later `deliver`, and lose the connection
    "copy",  # do it, and keep a copy of the request for a later `deliver`
    "cut",  # after `after` messages end the stream with `code`
    "eof",  # after `after` messages end the stream as if all were well
    "stuck",  # SendPaymentV2: the payment's life ends right after Init; only a restart clears it
    "die",  # SendPaymentV2: end the process at `point`
)


@dataclass(slots=True)
class Fault:
    """One scripted fault; it strikes `times` calls of `rpc` and is then used up."""

    rpc: str
    kind: str
    times: int = 1
    code: str = "UNAVAILABLE"
    text: str = "scripted fault"
    after: int = 0
    point: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS or (self.kind == "die") != (self.point in POINTS):
            raise ValueError(f"no such fault: {self}")


@dataclass(slots=True)
class Faults:
    """Those that wait to strike; a restart forgets them."""

    waiting: list[Fault] = field(default_factory=list)

    def strike(self, rpc: str) -> Fault | None:
        """The fault for this call."""
        for fault in self.waiting:
            if fault.rpc == rpc:
                fault.times -= 1
                if fault.times <= 0:
                    self.waiting.remove(fault)
                return fault
        return None


def die() -> None:
    """End this process as `kill -9` would: nothing is flushed, nobody is told."""
    os._exit(137)
