"""cpuminer (minerd): every submit has id 4, and the next line after a question must be its answer."""

from __future__ import annotations

import json

from pool.dev.fleet.firmware import Firmware, LinkDropped, Say, error_of, session_id_of
from pool.dev.fleet.job import MinerJob

MAX_EXTRANONCE2 = 100


class Cpuminer(Firmware):
    """Five parameters, no configure, no suggestion; difficulty from the next notify."""

    model = "cpuminer"
    agent = "cpuminer/2.5.1"
    silence_s = 120.0
    silence_back_off_s = 30.0
    lost_back_off_s = 30.0
    retry_s = 30.0
    reply_wait_s = 30.0

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.session_id: str | None = None
        self.reset()

    def reset(self) -> None:
        self.step = "subscribe"
        self.counter = self.offset = 0

    def greet(self) -> None:
        params: list[object] = [self.user_agent]
        self.request("1", "mining.subscribe", [*params, self.session_id] if self.session_id else params)

    # --- hearing

    def hear_junk(self, text: str) -> None:
        raise LinkDropped("a line that is not JSON", self.lost_back_off_s)

    def hear_method(self, method: str, message: dict[str, object]) -> None:
        if self.step == "subscribe":
            raise LinkDropped("the next line is not the subscribe reply", self.lost_back_off_s)
        if self.step == "authorize" and method not in ("mining.notify", "mining.set_difficulty"):
            raise LinkDropped(f"{method} before the authorize reply", self.lost_back_off_s)
        super().hear_method(method, message)

    def hear_other(self, method: str, message: dict[str, object]) -> None:
        if method == "client.reconnect":
            raise LinkDropped("client.reconnect", 0.0)
        if message.get("id") is None:
            return
        if method == "client.get_version":
            self._reply(message["id"], f'"{self.agent}"')
        elif method == "client.show_message":
            self._reply(message["id"], "true")

    def _reply(self, number: object, result: str) -> None:
        self.out.append(Say(f'{{"id": {json.dumps(number)}, "result": {result}, "error": null}}\n'.encode()))

    def hear_result(self, message: dict[str, object]) -> None:
        result, error = message.get("result"), error_of(message)
        if self.step == "subscribe":
            if not isinstance(result, list) or len(result) < 3 or error is not None or not isinstance(result[1], str):
                raise LinkDropped("no subscribe reply", self.lost_back_off_s)
            size = result[2]
            if not isinstance(size, int) or not 1 <= size <= MAX_EXTRANONCE2:
                raise LinkDropped(f"extranonce2 size {size}", self.lost_back_off_s)
            self.session.extranonce1, self.session.extranonce2_size = bytes.fromhex(result[1]), size
            self.session_id = session_id_of(result[0])
            self.step = "authorize"
            self.request("2", "mining.authorize", [self.login.user, self.login.password])
        elif self.step == "authorize":
            if message.get("id") != 2:
                return
            if result is not True or error is not None:
                raise LinkDropped("authorize refused", self.lost_back_off_s)
            self.session.authorised = True
            self.step = "done"
        elif message.get("id") is not None and "result" in message:
            code, text = error or (0, "unknown")
            if not self.answered({**message, "id": 4}, result is True, text, code):
                self.stats.untracked += 1

    def hear_notify(self, params: list[object]) -> None:
        if self.session.extranonce1 is None or len(params) < 8 or not self._well_typed(params):
            self.stats.ignored_notifies += 1
            return
        if self.in_use is not None and self.in_use[0].job_id == params[0]:
            self.stats.ignored_notifies += 1
            return
        job = self.take_job(params)
        if job is not None:
            self.in_use = (job, job.assigned or 1.0)
            self.counter = self.offset = 0

    def _well_typed(self, params: list[object]) -> bool:
        texts = [params[i] for i in (0, 1, 2, 3, 5, 6, 7)]
        if not all(isinstance(text, str) for text in texts) or not isinstance(params[4], list):
            return False
        return [len(str(params[i])) for i in (1, 5, 6, 7)] == [64, 8, 8, 8]

    # --- mining

    @property
    def working(self) -> bool:
        return self.in_use is not None and self.step == "done"

    def mine(self, hashes: int) -> None:
        if self.in_use is None:
            return
        job, difficulty = self.in_use
        size = self.session.extranonce2_size
        count = min(hashes, self.turn_hashes - self.offset)
        extranonce2 = (self.counter & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        self.hunt(job, extranonce2, job.version, self.offset, count, difficulty)
        self.offset += count
        if self.offset >= self.turn_hashes:
            self.offset = 0
            self.counter += 1

    def write_submit(self, job: MinerJob, extranonce2: bytes, version: int, nonce: int) -> tuple[str, bytes]:
        fields = [self.login.user, job.job_id, extranonce2.hex(), job.ntime_hex, f"{nonce:08x}"]
        body = ", ".join(f'"{item}"' for item in fields)
        return "4", f'{{"method": "mining.submit", "params": [{body}], "id":4}}\n'.encode()
