"""bfgminer: requests without id before it even subscribes, text ids, questions about a job's transactions."""

from __future__ import annotations

from native.difficulty import DIFFICULTY_1_TARGET
from pool.dev.fleet.cgminer import Cgminer
from pool.dev.fleet.firmware import LinkDropped, Say, number_json
from pool.dev.fleet.job import MinerJob

BDIFF_1_TARGET = 1 << 224


class Bfgminer(Cgminer):
    """Reads a fractional difficulty as bdiff, 1.5e-5 easier than what the pool means."""

    model = "bfgminer"
    agent = "bfgminer/5.5.0"

    def greet(self) -> None:
        self.session.next_id = 0
        target = "00000000ffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
        self.request("null", "mining.suggest_target", [target])
        self._subscribe()

    def hear_result(self, message: dict[str, object]) -> None:
        number = message.get("id")
        if number is None:
            # The next line is read as the reply to what was asked last: nobody asked with a null id.
            raise LinkDropped("a reply to a request without id", self.lost_back_off_s)
        if self.step == "authorize" and number != "auth":
            return
        if isinstance(number, str) and number.startswith(("txlist", "xnsub")):
            return
        super().hear_result(message)

    def suggest(self) -> None:
        """Without id: it wants no reply."""
        self.request("null", "mining.suggest_difficulty", [number_json(self.suggestion)])

    def hear_method(self, method: str, message: dict[str, object]) -> None:
        if self.step == "subscribe":
            raise LinkDropped("the next line is not the subscribe reply", self.lost_back_off_s)
        super().hear_method(method, message)

    def _subscribed(self, result: object, error: tuple[int, str] | None) -> None:
        super()._subscribed(result, error)
        self.out.pop()
        self.request('"auth"', "mining.authorize", [self.login.user, self.login.password])
        self.out.append(Say(b'{"id": "xnsub", "method": "mining.extranonce.subscribe", "params": []}\n'))

    def hear_notify(self, params: list[object]) -> None:
        super().hear_notify(params)
        if self.in_use is not None and self.step == "done":
            job_id = self.in_use[0].job_id
            line = f'{{"params": ["{job_id}"], "id": "txlist{job_id}", "method": "mining.get_transactions"}}\n'
            self.out.append(Say(line.encode()))

    def hear_extranonce(self, extranonce1: object, size: object) -> None:
        """Active with the next notify, like this model's difficulty."""
        if isinstance(extranonce1, str) and isinstance(size, int):
            self.session.extranonce1 = bytes.fromhex(extranonce1)
            self.session.extranonce2_size = size

    def hunt(self, job: MinerJob, extranonce2: bytes, version: int, start: int, count: int, difficulty: float) -> None:
        if not float(difficulty).is_integer():
            difficulty = difficulty * DIFFICULTY_1_TARGET / BDIFF_1_TARGET
        super().hunt(job, extranonce2, version, start, count, difficulty)
