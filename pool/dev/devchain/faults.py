"""Faults on demand: a method that hangs, is slow, answers errors or garbage, or whose connection breaks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

KINDS = ("http401", "http403", "http500", "http503", "error", "close", "garbage", "truncate", "empty")
ALL = "*"


@dataclass(slots=True)
class Fault:
    """What happens to a method's next calls; `left` None means until cleared."""

    stalled: asyncio.Event | None = None
    stall_s: float | None = None
    delay_s: float = 0.0
    kind: str | None = None
    code: int = -1
    message: str = "dev_fail"
    left: int | None = None
    after: bool = False  # do the work first, then lose the answer


class Faults:
    """Faults by method; "*" stands for every method but the `dev_` ones and `stop`."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self.calls: dict[str, int] = {}

    def entry(self, method: str) -> Fault:
        """The fault record of a method, made if new."""
        return self._faults.setdefault(method, Fault())

    def clear(self, method: str | None = None) -> None:
        """Heal one method, or all; stalled calls go on."""
        for name in [method] if method is not None else list(self._faults):
            fault = self._faults.pop(name, None)
            if fault is not None and fault.stalled is not None:
                fault.stalled.set()

    def _of(self, method: str) -> Fault | None:
        if method.startswith("dev_") or method == "stop":
            return None
        return self._faults.get(method) or self._faults.get(ALL)

    async def pause(self, method: str) -> None:
        """Count the call, then wait as long as it is told to."""
        self.calls[method] = self.calls.get(method, 0) + 1
        fault = self._of(method)
        if fault is None:
            return
        if fault.delay_s:
            await asyncio.sleep(fault.delay_s)
        if fault.stalled is not None:
            try:
                await asyncio.wait_for(fault.stalled.wait(), fault.stall_s)
            except TimeoutError:
                return

    def failure(self, method: str) -> Fault | None:
        """The failure this call must show, used up by one."""
        fault = self._of(method)
        if fault is None or fault.kind is None or fault.left == 0:
            return None
        if fault.left is not None:
            fault.left -= 1
        return fault
