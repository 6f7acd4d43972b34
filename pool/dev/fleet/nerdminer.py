"""NerdMiner: an ESP32 that hashes by itself, with the shortest buffers and the least patience of all."""

from __future__ import annotations

import json
import random
from typing import ClassVar

from pool.dev.fleet.firmware import Firmware, FirmwareCrash, LinkDropped, Say, error_of
from pool.dev.fleet.job import MinerJob

COINBASE_LIMIT = 255  # bytes; hex goes into 512 characters
JSON_MEMORY = 4096  # bytes for one message's strings and values
JSON_SLOT = 16  # bytes per value
FIRST_NONCE = 0xDA54E700
BATCH = 4096  # nonces; the best of a batch is sent
SHARE_FLOOR = 0xFFFF / 65536 / 65536  # 16 zero bits: nothing easier is looked at
KEEP_ALIVE_S = 30.0
NO_JOB_S = 600.0
DEFAULT_SUGGESTION = 0.00015
#: Sizes for which the firmware has a constant of the right length; any other size gets the 4-byte one.
EXTRANONCE2 = {2: bytes([0, 1]), 4: bytes([0, 0, 0, 1]), 8: bytes([0, 0, 0, 0, 0, 0, 0, 1])}


class NerdMiner(Firmware):
    """No configure, five parameters, a constant extranonce2, nonces without padding, difficulty at once."""

    model = "nerdminer"
    agent = "NerdMinerV2/V1.8.3"
    suggests = DEFAULT_SUGGESTION
    lost_back_off_s = 0.2  # it comes back at once; a misbehaving pool is hammered
    reply_wait_s = 1.2
    pause_s: ClassVar[float] = 0.2

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.last_difficulty = self.suggestion
        self.reset()

    def reset(self) -> None:
        self.offset = 0
        self.best: tuple[int, bytes] | None = None
        self.quiet_s = 0.0
        self.no_job_s = 0.0

    def greet(self) -> None:
        self.request(self.new_id(), "mining.subscribe", [self.user_agent])

    # --- hearing

    def hear(self, line: bytes) -> None:
        if self.session.extranonce1 is None:
            self._first_line(line)
            return
        try:
            message = json.loads(line)
        except ValueError:
            return
        if _json_bytes(message) > JSON_MEMORY:
            self.stats.ignored_notifies += 1
            return
        super().hear(line)

    def _first_line(self, line: bytes) -> None:
        """Anything but the subscribe reply: hang up and come back at once."""
        try:
            message = json.loads(line)
            result = message["result"]
            if message.get("error") or not isinstance(result[1], str):
                raise ValueError("not the subscribe reply")
            self.session.extranonce1 = bytes.fromhex(result[1])
            self.session.extranonce2_size = int(result[2])
        except (ValueError, KeyError, TypeError, IndexError):
            raise LinkDropped("the first line is not the subscribe reply", self.lost_back_off_s) from None
        user, password = json.dumps(self.login.user), json.dumps(self.login.password)
        id_json = self.new_id()
        line_out = f'{{"params": [{user}, {password}], "id": {id_json}, "method": "mining.authorize"}}\n'
        self.out.append(Say(line_out.encode(), self.pause_s))
        self._suggest(self.last_difficulty, self.pause_s)
        self.session.authorised = True  # the reply is not looked at

    def _suggest(self, difficulty: float, after_s: float = 0.0) -> None:
        line = f'{{"id":{self.new_id()},"method":"mining.suggest_difficulty","params":[{difficulty:.10g}]}}\n'
        self.out.append(Say(line.encode(), after_s))

    def hear_result(self, message: dict[str, object]) -> None:
        """Success is "no error", whatever the result says."""
        error = message.get("error")
        refused = bool(error) and isinstance(error, list | dict)
        code, text = (error_of(message) or (0, "unknown")) if refused else (0, "")
        number = message.get("id")
        if not self.answered(message, not refused, text, code) and not (isinstance(number, int) and number > 0):
            self.stats.untracked += 1

    def hear_difficulty(self, value: object) -> None:
        """Effective immediately, on the present job too."""
        super().hear_difficulty(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            self.last_difficulty = float(value)

    def hear_notify(self, params: list[object]) -> None:
        self.quiet_s = self.no_job_s = 0.0
        if len(params) < 8 or not all(isinstance(params[i], str) for i in (0, 1, 2, 3, 5, 6, 7)):
            self.stats.ignored_notifies += 1
            return
        job = self.take_job(params)
        if job is None:
            return
        size = len(job.coinbase(self._extranonce2()))
        if size > COINBASE_LIMIT:
            raise FirmwareCrash(self.model, f"a coinbase of {size} bytes is cut at {COINBASE_LIMIT}: no valid share")
        self.in_use = (job, job.assigned)
        self.offset, self.best = 0, None  # stale results are dropped here, not sent

    # --- mining

    def retry_wait(self) -> float:
        return random.uniform(1.0, 60.0)

    def _extranonce2(self) -> bytes:
        return EXTRANONCE2.get(self.session.extranonce2_size, EXTRANONCE2[4])

    def mine(self, hashes: int) -> None:
        if self.in_use is None:
            return
        job, _ = self.in_use
        done = 0
        while done < hashes:
            count = min(hashes - done, BATCH - self.offset % BATCH)
            difficulty = max(self.session.pool_difficulty or self.last_difficulty, SHARE_FLOOR)
            start = FIRST_NONCE + self.offset
            self.offset += count
            done += count
            self.hunt(job, self._extranonce2(), job.version, start, count, difficulty)
            if self.offset % BATCH == 0 and self.best is not None:
                nonce, hash_le = self.best
                self.best = None
                self.submit(job, self._extranonce2(), job.version, nonce, hash_le)

    def choose(self, hits: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Only the best of a batch is kept, and sent when the batch is done."""
        for hit in hits:
            if self.best is None or int.from_bytes(hit[1], "little") < int.from_bytes(self.best[1], "little"):
                self.best = hit
        return []

    def write_submit(self, job: MinerJob, extranonce2: bytes, version: int, nonce: int) -> tuple[str, bytes]:
        self.quiet_s = 0.0
        id_json = self.new_id()
        fields = [self.login.user, job.job_id, extranonce2.hex(), job.ntime_hex, f"{nonce:x}"]
        body = ",".join(f'"{item}"' for item in fields)
        return id_json, f'{{"id":{id_json},"method":"mining.submit","params":[{body}]}}\n'.encode()

    def idle(self, silent_s: float) -> None:
        """30 s without a share or a job: suggest again, to keep the link. 10 min without a job: start over."""
        super().idle(silent_s)
        self.quiet_s += 1.0
        self.no_job_s += 1.0
        if self.no_job_s >= NO_JOB_S:
            raise LinkDropped("no job for 10 minutes", self.lost_back_off_s)
        if self.quiet_s >= KEEP_ALIVE_S and self.session.extranonce1 is not None:
            self.quiet_s = 0.0
            self._suggest(DEFAULT_SUGGESTION if self.login.suggest is None else self.login.suggest)


def _json_bytes(value: object) -> int:
    """Memory that the firmware's JSON document needs for a message: a slot per value, each string's characters."""
    if isinstance(value, str):
        return JSON_SLOT + len(value) + 1
    if isinstance(value, list):
        return JSON_SLOT + sum(_json_bytes(item) for item in value)
    if isinstance(value, dict):
        return JSON_SLOT + sum(len(key) + 1 + _json_bytes(item) for key, item in value.items())
    return JSON_SLOT
