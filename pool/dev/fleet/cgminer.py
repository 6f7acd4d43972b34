"""cgminer and what was built from it: one question at a time, difficulties stacked one per notify, 90 s of patience."""

from __future__ import annotations

import json
from collections import deque
from typing import ClassVar

from pool.dev.fleet.bitaxe import next_version
from pool.dev.fleet.firmware import MAX_BRANCHES, Firmware, LinkDropped, Say, error_of, number_json, session_id_of
from pool.dev.fleet.job import MinerJob

MAX_EXTRANONCE2 = 16
SUBMITTED_EXTRANONCE2 = 8  # longer ones are hashed but never sent


class Cgminer(Firmware):
    """Asks, waits for the answer, asks the next: anything unexpected in between fails the connection."""

    model = "cgminer"
    agent = "cgminer/4.13.6"
    silence_s = 90.0
    silence_back_off_s = 5.0
    lost_back_off_s = 5.0
    retry_s = 5.0
    reply_wait_s = 60.0
    #: Options of its configure request; None: this build does not ask for version rolling.
    configure: ClassVar[dict[str, object] | None] = None
    drops_on_early_mask: ClassVar[bool] = False

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.session_id: str | None = None
        self.reset()

    def reset(self) -> None:
        self.session.next_id = 0
        self.step = ""
        self.stacked: deque[float] = deque()
        self.difficulty = 1.0
        self.counter = 0

    def greet(self) -> None:
        if self.configure is not None:
            self.step = "configure"
            self.request(self.new_id(), "mining.configure", [["version-rolling"], self.configure])
        else:
            self.session.next_id = 1
            self._subscribe()

    def _subscribe(self) -> None:
        self.step = "subscribe"
        params: list[object] = [self.user_agent]
        self.request(self.new_id(), "mining.subscribe", [*params, self.session_id] if self.session_id else params)

    # --- hearing

    def hear_junk(self, text: str) -> None:
        if self.step != "done":
            raise LinkDropped(f"junk while waiting for {self.step}", self.lost_back_off_s)

    def hear_method(self, method: str, message: dict[str, object]) -> None:
        if self.step == "configure":
            raise LinkDropped("a method before the configure reply", self.lost_back_off_s)
        if self.step == "authorize" and method not in _BEFORE_AUTHORIZE:
            # Whatever it is, it is taken for the reply, and is none.
            raise LinkDropped(f"{method} before the authorize reply", self.lost_back_off_s)
        if method == "mining.set_version_mask" and self.step != "done" and self.drops_on_early_mask:
            raise LinkDropped("set_version_mask before the authorize reply", self.lost_back_off_s)
        super().hear_method(method, message)

    def hear_other(self, method: str, message: dict[str, object]) -> None:
        if method == "mining.ping":
            number = json.dumps(message.get("id"))
            self.out.append(Say(f'{{"id": {number}, "result": "pong", "error": null}}\n'.encode()))
        elif method == "client.reconnect":
            raise LinkDropped("client.reconnect", 0.0)

    def hear_result(self, message: dict[str, object]) -> None:
        result, error = message.get("result"), error_of(message)
        if self.step == "configure":
            mask = result.get("version-rolling.mask") if isinstance(result, dict) else None
            self.session.version_mask = int(mask, 16) if isinstance(mask, str) else 0
            self._subscribe()
        elif self.step == "subscribe":
            self._subscribed(result, error)
        elif self.step == "authorize":
            if result is not True or error is not None:
                raise LinkDropped("authorize refused", self.lost_back_off_s)
            self.session.authorised = True
            self.step = "done"
            if self.suggestion:
                self.suggest()
        elif json.dumps(message.get("id")) in self.session.pending:
            code, text = error or (0, str(message.get("reject-reason", "unknown")))
            self.answered(message, result is True, text, code)
        elif "result" in message and message.get("id") not in (0, 1, 2, 3):
            self.stats.untracked += 1

    def suggest(self) -> None:
        self.request(self.new_id(), "mining.suggest_difficulty", [number_json(self.suggestion)])

    def _subscribed(self, result: object, error: tuple[int, str] | None) -> None:
        good = isinstance(result, list) and len(result) >= 3 and error is None
        if not good or not isinstance(result, list) or not isinstance(result[1], str) or not isinstance(result[2], int):
            raise LinkDropped("no subscribe reply", self.lost_back_off_s)
        if not 2 <= result[2] <= MAX_EXTRANONCE2:
            raise LinkDropped(f"extranonce2 size {result[2]}", self.lost_back_off_s)
        self.session.extranonce1 = bytes.fromhex(result[1])
        self.session.extranonce2_size = result[2]
        self.session_id = session_id_of(result[0])
        self.step = "authorize"
        self.request(self.new_id(), "mining.authorize", [self.login.user, self.login.password])

    def hear_difficulty(self, value: object) -> None:
        """Stacked: each notify takes one."""
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            super().hear_difficulty(value)
            self.stacked.append(float(value))

    def hear_notify(self, params: list[object]) -> None:
        if self.session.extranonce1 is None or len(params) < 9 or not self._well_typed(params):
            self.stats.ignored_notifies += 1
            return
        if self.stacked:
            self.difficulty = self.stacked.popleft()
        job = self.take_job(params)
        if job is None:
            return
        if job.clean or self.in_use is None or self.in_use[0].prevhash != job.prevhash:
            self.counter = 0
        else:
            self.counter += 1  # goes on with the next extranonce2
        self.in_use = (job, self.difficulty)
        self.offset = 0

    def _well_typed(self, params: list[object]) -> bool:
        texts = [params[i] for i in (0, 1, 2, 3, 5, 6, 7)]
        if not all(isinstance(text, str) for text in texts) or not isinstance(params[4], list):
            return False
        sizes = [len(str(params[i])) for i in (1, 5, 6, 7)]
        return sizes == [64, 8, 8, 8] and len(params[4]) <= MAX_BRANCHES

    # --- mining

    @property
    def working(self) -> bool:
        return self.in_use is not None and self.step == "done"

    offset = 0

    def mine(self, hashes: int) -> None:
        if self.in_use is None:
            return
        job, difficulty = self.in_use
        size = self.session.extranonce2_size
        if size > SUBMITTED_EXTRANONCE2:
            return
        count = min(hashes, self.turn_hashes - self.offset)
        extranonce2 = (self.counter & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        self.hunt(job, extranonce2, self._version(job), self.offset, count, difficulty)
        self.offset += count
        if self.offset >= self.turn_hashes:
            self.offset = 0
            self.counter += 1

    def _version(self, job: MinerJob) -> int:
        """The bits of this round put into the mask's places: whatever the job carries there is replaced."""
        mask = self.session.version_mask
        bits = 0
        for _ in range(self.counter % 8 if mask else 0):
            bits = next_version(bits, mask)
        return (job.version & ~mask & 0xFFFFFFFF) | bits

    def write_submit(self, job: MinerJob, extranonce2: bytes, version: int, nonce: int) -> tuple[str, bytes]:
        id_json = self.new_id()
        fields = [self.login.user, job.job_id, extranonce2.hex(), job.ntime_hex, f"{nonce:08x}"]
        if self.session.version_mask:
            fields.append(f"{version & self.session.version_mask:08x}")
        body = ", ".join(f'"{item}"' for item in fields)
        return id_json, f'{{"params": [{body}], "id": {id_json}, "method": "mining.submit"}}\n'.encode()


class CgminerRolling(Cgminer):
    """A build with version rolling (sticks with Bitmain chips): configure comes first, with id 0."""

    model = "cgminer-vmask"
    configure: ClassVar[dict[str, object] | None] = {"version-rolling.mask": "ffffffff"}


class AntminerS21(Cgminer):
    """A closed ASIC of the cgminer line: asks for 16 version bits, hangs up on a version mask before authorize."""

    model = "s21"
    agent = "Antminer S21/Wed Nov 13 2024"
    configure: ClassVar[dict[str, object] | None] = {
        "version-rolling.mask": "1fffe000",
        "version-rolling.min-bit-count": 16,
    }
    drops_on_early_mask = True
    coinbase_limit = 2250

    def hear_notify(self, params: list[object]) -> None:
        size = sum(len(str(params[i])) // 2 for i in (2, 3)) + 12 if len(params) > 3 else 0
        if size > self.coinbase_limit:
            self.stats.ignored_notifies += 1
            raise LinkDropped(f"a coinbase of {size} bytes", self.lost_back_off_s)
        super().hear_notify(params)


_BEFORE_AUTHORIZE = frozenset({"mining.notify", "mining.set_difficulty", "mining.set_version_mask"})

