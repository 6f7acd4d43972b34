"""NerdQAxe and its family: spaces in its JSON, a counter that never starts again, a watchdog on answers."""

from __future__ import annotations

from typing import ClassVar

from pool.dev.fleet.firmware import (
    MAX_BRANCHES,
    Firmware,
    FirmwareCrash,
    LinkDropped,
    Login,
    error_of,
    number_json,
)
from pool.dev.fleet.job import MinerJob

LINE_BUFFER = 16384
WATCHDOG_S = 3600.0
POWER_ON_MASK = 0x1FFFE000
SETUP_IDS = 5


class NerdQAxe(Firmware):
    """All setup lines at once; extranonce2 is one big-endian counter for as long as the device runs."""

    model = "nerdqaxe"
    agent = "NerdQAxe++/BM1370/v1.0.38"
    suggests = 1000.0
    rolls_version = True
    lost_back_off_s = 10.0
    retry_s = 10.0
    default_difficulty: ClassVar[float] = 8192.0

    def __init__(self, login: Login) -> None:
        super().__init__(login)
        self.counter = 0  # never resets, not even with a new session
        self.unanswered_s = 0.0
        self.reset()

    def reset(self) -> None:
        self.difficulty = self.default_difficulty
        self.new_extranonce: tuple[bytes, int] | None = None
        self.offset = 0
        self.answers_seen = 0
        self.session.version_mask = POWER_ON_MASK

    def greet(self) -> None:
        self.request(self.new_id(), "mining.subscribe", [self.user_agent])
        mask = {"version-rolling.mask": "1fffe000"}
        self.request(self.new_id(), "mining.configure", [["version-rolling"], mask])
        self.request(self.new_id(), "mining.authorize", [self.login.user, self.login.password])
        self.request(self.new_id(), "mining.suggest_difficulty", [number_json(self.suggestion)])
        if self.login.extranonce_subscribe:
            self.request(self.new_id(), "mining.extranonce.subscribe", [])

    # --- hearing

    def hear(self, line: bytes) -> None:
        if len(line) >= LINE_BUFFER:
            raise LinkDropped("line over 16 KiB", 10.0)
        super().hear(line)

    def hear_junk(self, text: str) -> None:
        raise LinkDropped("a line that is not JSON", 10.0)

    def hear_result(self, message: dict[str, object]) -> None:
        number, result, error = message.get("id"), message.get("result"), error_of(message)
        if not isinstance(number, int):
            self.stats.untracked += 1
        elif number == 1 and isinstance(result, list) and len(result) >= 3:
            self._subscribed(result)
        elif number == 2 and isinstance(result, dict):
            mask = result.get("version-rolling.mask")
            if isinstance(mask, str):
                self.session.version_mask = int(mask, 16)
        elif str(number) in self.session.pending:
            accepted = error is None and result is True
            code, text = error or (0, "unknown")
            self.answered(message, accepted, text, code)
        elif number == 3:
            self.session.authorised = result is True and error is None
        elif number > SETUP_IDS:
            self.stats.untracked += 1

    def _subscribed(self, result: list[object]) -> None:
        if isinstance(result[1], str) and isinstance(result[2], int):
            self.session.extranonce1 = bytes.fromhex(result[1])
            self.session.extranonce2_size = result[2]

    def hear_difficulty(self, value: object) -> None:
        super().hear_difficulty(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.difficulty = float(int(value))  # the fraction is cut off

    def hear_extranonce(self, extranonce1: object, size: object) -> None:
        """Active with the next notify."""
        if isinstance(extranonce1, str) and isinstance(size, int):
            self.new_extranonce = (bytes.fromhex(extranonce1), size)

    def hear_notify(self, params: list[object]) -> None:
        if len(params) < 8:
            self.stats.ignored_notifies += 1
            return
        self.strings_or_crash(params, "a notify field is not a string")
        if self.session.extranonce1 is None:
            raise FirmwareCrash(self.model, "notify before the subscribe reply")
        if isinstance(params[4], list) and len(params[4]) > MAX_BRANCHES:
            self.stats.ignored_notifies += 1
            return
        if self.new_extranonce is not None:
            self.session.extranonce1, self.session.extranonce2_size = self.new_extranonce
            self.new_extranonce = None
        job = self.take_job(params)
        if job is not None:
            self.in_use = (job, self.difficulty)
            self.offset = 0

    # --- mining

    def mine(self, hashes: int) -> None:
        if self.in_use is None:
            return
        job, difficulty = self.in_use
        count = min(hashes, self.turn_hashes - self.offset)
        size = self.session.extranonce2_size
        extranonce2 = bytes.fromhex(f"{self.counter:0{2 * size}x}"[-2 * size :]) if size else b""
        bits = (self.counter % 8) << 13 & self.session.version_mask
        self.hunt(job, extranonce2, job.version | bits, self.offset, count, self.over_ticket(job, difficulty))
        self.offset += count
        if self.offset >= self.turn_hashes:
            self.offset = 0
            self.counter = (self.counter + 1) & 0xFFFFFFFF

    def write_submit(self, job: MinerJob, extranonce2: bytes, version: int, nonce: int) -> tuple[str, bytes]:
        id_json = self.new_id()
        fields = [self.login.user, job.job_id, extranonce2.hex(), f"{job.ntime:08x}", f"{nonce:08x}"]
        fields.append(f"{version ^ job.version:08x}")
        body = ", ".join(f'"{item}"' for item in fields)
        return id_json, f'{{"id": {id_json}, "method": "mining.submit", "params": [{body}]}}\n'.encode()

    def idle(self, silent_s: float) -> None:
        """An hour without any answer to a submit, accepted or not, reboots the device."""
        super().idle(silent_s)
        if self.session.submits_answered != self.answers_seen or self.in_use is None:
            self.answers_seen = self.session.submits_answered
            self.unanswered_s = 0.0
            return
        self.unanswered_s += 1.0
        if self.unanswered_s >= WATCHDOG_S:
            raise FirmwareCrash(self.model, "watchdog: no answer to a submit for an hour")
