"""BitAxe: the protocol of AxeOS, current and older, as its own sources show it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pool.dev.fleet.firmware import (
    MAX_BRANCHES,
    Firmware,
    FirmwareCrash,
    LinkDropped,
    Login,
    Say,
    error_of,
    number_json,
)
from pool.dev.fleet.job import MinerJob

COINBASE_LIMIT = 6000  # bytes; the job task keeps the coinbase on an 8 KiB stack
COINBASE_HALF_LIMIT = 384  # bytes of coinb1 and of coinb2 in later releases
JOB_RING = 16  # job ids remembered since the last clean notify
POWER_ON_MASK = 0x1FFFE000  # the chip rolls these bits even when the pool grants nothing


def next_version(version: int, mask: int) -> int:
    """The next value of the bits inside `mask`, as a counter; the other bits stay."""
    bits = ((version | ~mask) + 1) & mask
    return (version & ~mask & 0xFFFFFFFF) | bits


class BitAxe(Firmware):
    """AxeOS of today: configure, subscribe, authorize; difficulty from the next notify; each notify counts from 0."""

    model = "bitaxe"
    agent = "bitaxe/BM1370/v2.15.0"
    suggests = 1000.0
    compact = True
    rolls_version = True
    #: (id, what) sent at connect; the rest follows the authorize reply.
    order: ClassVar[tuple[str, ...]] = ("configure", "subscribe", "authorize")
    suggest_after_authorize: ClassVar[bool] = True
    asks_mask: ClassVar[str] = "ffffffff"
    integer_difficulty: ClassVar[bool] = False
    default_difficulty: ClassVar[float] = 0.0
    filters_repeated_jobs: ClassVar[bool] = True
    mines_first_twice: ClassVar[bool] = True  # v2.15: the first extranonce2 after a subscribe is hashed twice
    half_limit: ClassVar[int | None] = COINBASE_HALF_LIMIT
    knows_extensions: ClassVar[bool] = True  # set_extranonce, ping and get_version came with v2.9 to v2.13

    def __init__(self, login: Login) -> None:
        super().__init__(login)
        self.kept_extranonce: tuple[bytes, int] | None = None  # of the last session: outlives it
        self.reset()

    def reset(self) -> None:
        self.difficulty = self.default_difficulty
        self.waiting: tuple[MinerJob, float] | None = None  # taken at the chip's next job interval
        self.ids_seen: list[str] = []
        self.setup: dict[str, str] = {}
        self.counter = 0
        self.repeat_first = False
        self.session.version_mask = POWER_ON_MASK

    def greet(self) -> None:
        for what in self.order:
            self._setup(what)

    def _setup(self, what: str) -> None:
        params: dict[str, tuple[str, list[object]]] = {
            "configure": ("mining.configure", [["version-rolling"], {"version-rolling.mask": self.asks_mask}]),
            "subscribe": ("mining.subscribe", [self.user_agent]),
            "authorize": ("mining.authorize", [self.login.user, self.login.password]),
            "suggest": ("mining.suggest_difficulty", [number_json(self.suggestion)]),
            "xnsub": ("mining.extranonce.subscribe", []),
        }
        id_json = self.new_id()
        self.setup[id_json] = what
        self.request(id_json, *params[what])

    # --- hearing

    def hear_blank(self) -> None:
        """Ignored by this generation."""

    def hear_result(self, message: dict[str, object]) -> None:
        id_json = str(message.get("id")) if isinstance(message.get("id"), int) else ""
        result, error = message.get("result"), error_of(message)
        if id_json in self.session.pending:
            self._share_result(message, result, error)
        elif isinstance(result, list) and len(result) >= 3:
            self._subscribed(result)
        elif isinstance(result, dict):
            mask = result.get("version-rolling.mask")
            if result.get("version-rolling") is True and isinstance(mask, str):
                self.session.version_mask = int(mask, 16)
        elif self.setup.pop(id_json, None) == "authorize":
            self._authorised(result is True and error is None)
        elif id_json and id_json not in self.setup and int(id_json) > 5:
            self.stats.untracked += 1

    def _share_result(self, message: dict[str, object], result: object, error: tuple[int, str] | None) -> None:
        if error is not None:
            self.answered(message, False, error[1][:63], error[0])
        elif result is True:
            self.answered(message, True, "", 0)
        elif result is False:
            reason = message.get("reject-reason")
            self.answered(message, False, reason if isinstance(reason, str) else "unknown", 0)

    def _subscribed(self, result: list[object]) -> None:
        if isinstance(result[1], str) and isinstance(result[2], int):
            self.session.extranonce1 = bytes.fromhex(result[1])
            self.session.extranonce2_size = result[2]
            self.kept_extranonce = (self.session.extranonce1, result[2])
            self.repeat_first = self.mines_first_twice

    def _authorised(self, accepted: bool) -> None:
        self.session.authorised = accepted
        if accepted and self.suggest_after_authorize:
            if self.suggestion:
                self._setup("suggest")
            if self.login.extranonce_subscribe:
                self._setup("xnsub")

    def hear_difficulty(self, value: object) -> None:
        super().hear_difficulty(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.difficulty = float(int(value)) if self.integer_difficulty else float(value)

    def hear_extranonce(self, extranonce1: object, size: object) -> None:
        """Applied to the present job at once: a set_extranonce without a clean notify spoils everything until then."""
        if self.knows_extensions and isinstance(extranonce1, str) and isinstance(size, int):
            self.session.extranonce1 = bytes.fromhex(extranonce1)
            self.session.extranonce2_size = size
            self.repeat_first = self.mines_first_twice

    def hear_other(self, method: str, message: dict[str, object]) -> None:
        id_value = message.get("id")
        id_json = str(id_value) if isinstance(id_value, int) else "-1"
        if method == "client.reconnect":
            raise LinkDropped("client.reconnect", 1.0)
        if not self.knows_extensions:
            return
        if method == "mining.ping":
            self.request(id_json, "pong", [])
        elif method == "client.get_version" and id_value is not None:
            version = self.agent.rsplit("/", 1)[-1]
            self.reply(id_json, version)

    def reply(self, id_json: str, result: str) -> None:
        self.out.append(Say(f'{{"id":{id_json},"result":"{result}","error":null}}\n'.encode()))

    def hear_notify(self, params: list[object]) -> None:
        if len(params) < 8 or not isinstance(params[0], str):
            self.stats.ignored_notifies += 1
            return
        self.strings_or_crash(params, "a notify field is not a string")
        if self.session.extranonce1 is None:
            if self.kept_extranonce is None:
                raise FirmwareCrash(self.model, "notify before the subscribe reply")
            # After a reconnect it goes on with the old one: every share wrong until the reply comes.
            self.session.extranonce1, self.session.extranonce2_size = self.kept_extranonce
        if isinstance(params[4], list) and len(params[4]) > MAX_BRANCHES:
            self.too_many_branches()
            return
        clean = params[-1] is True
        if clean:
            self.ids_seen.clear()
        if self.filters_repeated_jobs and params[0] in self.ids_seen:
            self.stats.ignored_notifies += 1
            return
        self.ids_seen = [*self.ids_seen, params[0]][-JOB_RING:]
        job = self.take_job(params)
        if job is None:
            return
        self.check_coinbase(job)
        self.waiting = (job, self.difficulty)  # later set_difficulty messages are for later notifies
        if clean:
            self._next_job()

    def too_many_branches(self) -> None:
        self.stats.ignored_notifies += 1

    def check_coinbase(self, job: MinerJob) -> None:
        size = len(job.coinbase(bytes(self.session.extranonce2_size)))
        if size > COINBASE_LIMIT:
            raise FirmwareCrash(self.model, f"a coinbase of {size} bytes overflows the job task's stack")
        if self.half_limit is not None and max(len(job.coinb1), len(job.coinb2)) > self.half_limit:
            raise FirmwareCrash(self.model, f"coinb1 or coinb2 is cut at {self.half_limit} bytes: no valid share")

    # --- mining

    @property
    def working(self) -> bool:
        return self.in_use is not None or self.waiting is not None

    def _next_job(self) -> None:
        """The chip turns to the newest notify and counts from the beginning."""
        self.in_use, self.waiting = self.waiting, None
        self.counter = 0

    def mine(self, hashes: int) -> None:
        if self.waiting is not None:
            self._next_job()
        if self.in_use is None or self.session.extranonce1 is None:
            return
        job, difficulty = self.in_use
        done = 0
        while done < hashes:
            at, offset = divmod(self.counter, self.turn_hashes)
            count = min(hashes - done, self.turn_hashes - offset)
            # Work is built with the extranonce1 of now, not of when the job came.
            now = replace(job, extranonce1=self.session.extranonce1)
            rolled = self.rolled_version(job, at)
            self.hunt(now, self.extranonce2(at), rolled, offset, count, self.over_ticket(job, difficulty))
            self.counter += count
            done += count
            if self.repeat_first and self.counter == self.turn_hashes:
                self.repeat_first, self.counter = False, 0  # the late flag: the first round once more

    def extranonce2(self, counter: int) -> bytes:
        """A counter in little-endian order, as long as the pool asked."""
        size = self.session.extranonce2_size
        return (counter & ((1 << 8 * size) - 1)).to_bytes(size, "little") if size else b""

    def rolled_version(self, job: MinerJob, round_at: int) -> int:
        """The chip adds its bits by OR; bits that the job's version carries inside the mask are so lost on it."""
        bits, mask = 0, self.session.version_mask
        for _ in range(round_at % 8):
            bits = next_version(bits, mask) if mask else 0
        return job.version | bits

    def write_submit(self, job: MinerJob, extranonce2: bytes, version: int, nonce: int) -> tuple[str, bytes]:
        id_json = self.new_id()
        gap = "" if self.compact else " "
        fields = [self.login.user, job.job_id, extranonce2.hex(), f"{job.ntime:08x}", f"{nonce:08x}"]
        fields.append(f"{version ^ job.version:08x}")
        body = f",{gap}".join(f'"{item}"' for item in fields)
        line = f'{{"id":{gap}{id_json},{gap}"method":{gap}"mining.submit",{gap}"params":{gap}[{body}]}}\n'
        return id_json, line.encode()


class BitAxe28(BitAxe):
    """AxeOS 2.5 to 2.8: all is sent at once, suggest included; whole-number difficulty; every notify is mined."""

    model = "bitaxe-2.8"
    agent = "bitaxe/BM1366/v2.8.1"
    order = ("configure", "subscribe", "authorize", "suggest")
    suggest_after_authorize = False
    compact = False
    integer_difficulty = True
    filters_repeated_jobs = False
    mines_first_twice = False
    half_limit = None
    knows_extensions = False
    silence_s: float | None = 600.0


class BitAxe24(BitAxe28):
    """AxeOS 2.4: subscribe first, configure second."""

    model = "bitaxe-2.4"
    agent = "bitaxe/BM1368/v2.4.1"
    order = ("subscribe", "configure", "authorize", "suggest")
    silence_s: float | None = None


class BitAxe22(BitAxe24):
    """AxeOS up to 2.2: suggest before authorize."""

    model = "bitaxe-2.2"
    agent = "bitaxe/BM1366/v2.2.2"
    order = ("subscribe", "configure", "suggest", "authorize")
