"""What all device models share: a session's state, mining, submits, answers. Bytes in and out; no socket, no clock."""

from __future__ import annotations

import json
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import ClassVar

from native.difficulty import difficulty_of_hash, target_of_difficulty
from pool.dev.fleet.job import MinerJob, parse_job, search
from pool.dev.fleet.stats import Sent, Stats, own_fault

MAX_BRANCHES = 32
#: A pool keeps at least this many notifies of a connection valid (refreshes of 30 s over 10 minutes).
KNOWN_JOBS = 20
#: Headers a device remembers having sent, to tell its own repeats from the pool's mistakes.
SENT_HEADERS = 4096
EASIEST = 2.0**-20


class FirmwareCrash(Exception):
    """The real device would reset, or hash for nothing from here on. `what` names what the pool did to it."""

    def __init__(self, model: str, what: str) -> None:
        super().__init__(f"{model}: {what}")
        self.model = model
        self.what = what


class LinkDropped(Exception):
    """The device hangs up by itself and comes back after `back_off_s`."""

    def __init__(self, why: str, back_off_s: float) -> None:
        super().__init__(why)
        self.why = why
        self.back_off_s = back_off_s


@dataclass(frozen=True, slots=True)
class Login:
    """What a device's owner typed in."""

    user: str
    password: str = "x"  # noqa: S105 - what every miner sends
    suggest: float | None = None  # None: the model's own default
    user_agent: str | None = None  # None: the model's own
    extranonce_subscribe: bool = False  # an option of some firmware, off by default
    ticket: float = 0.0  # the chip reports nothing easier; 0: everything that meets the firmware's difficulty


@dataclass(slots=True)
class Say:
    """One write to the socket, after a pause."""

    data: bytes
    after_s: float = 0.0


@dataclass(slots=True)
class Session:
    """State that a device loses with its connection."""

    extranonce1: bytes | None = None
    extranonce2_size: int = 0
    authorised: bool = False
    pool_difficulty: float | None = None  # last set_difficulty that arrived
    version_mask: int = 0
    notifies: int = 0
    tip: bytes | None = None
    next_id: int = 1
    pending: OrderedDict[str, deque[Sent]] = field(default_factory=OrderedDict)
    doubtful: list[tuple[Sent, str]] = field(default_factory=list)  # called stale on the newest block we know
    submits_answered: int = 0


class Firmware:
    """One device model. Subclasses say what is sent at connect, how lines are heard and how shares are written."""

    model: ClassVar[str]
    agent: ClassVar[str]
    suggests: ClassVar[float] = 0.0
    compact: ClassVar[bool] = False  # JSON without spaces
    rolls_version: ClassVar[bool] = False
    silence_s: float | None = None  # hangs up when nothing at all came for this long
    silence_back_off_s: ClassVar[float] = 1.0
    lost_back_off_s: ClassVar[float] = 1.0  # after the pool closed
    retry_s: ClassVar[float] = 5.0  # after a refused connection
    reboot_s: ClassVar[float] = 10.0
    reply_wait_s: ClassVar[float | None] = None  # longest wait for the answer to the first line
    turn_hashes: ClassVar[int] = 16384  # nonces per extranonce2 or version: a chip's job, made small

    def __init__(self, login: Login) -> None:
        self.login = login
        self.stats = Stats()
        self.out: deque[Say] = deque()
        self.session = Session()
        self.in_use: tuple[MinerJob, float] | None = None  # what is hashed, and the difficulty that came with it
        self._headers: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # -> session and notify it was sent for

    # --- a session

    def connected(self) -> None:
        """A new connection stands: forget the last one, say hello."""
        self.stats.connects += 1
        self.out.clear()
        self.session = Session()
        self.in_use = None
        self.reset()
        self.greet()

    def reset(self) -> None:
        """Session state of the model itself."""

    def greet(self) -> None:
        raise NotImplementedError

    def hear(self, line: bytes) -> None:
        """One line of the pool, without its line end."""
        text = line.decode("utf-8", "replace").rstrip("\r")
        if not text.strip():
            self.hear_blank()
            return
        try:
            message = json.loads(text)
        except ValueError:
            self.hear_junk(text)
            return
        if not isinstance(message, dict):
            self.hear_junk(text)
            return
        method = message.get("method")
        if isinstance(method, str):
            self.hear_method(method, message)
        else:
            self.hear_result(message)

    def hear_blank(self) -> None:
        self.hear_junk("")

    def hear_junk(self, text: str) -> None:
        """A line that is no JSON object: logged and forgotten by most."""

    def hear_method(self, method: str, message: dict[str, object]) -> None:
        params = message.get("params")
        if method == "mining.notify":
            self.hear_notify(params if isinstance(params, list) else [])
        elif method == "mining.set_difficulty":
            self.hear_difficulty(params[0] if isinstance(params, list) and params else None)
        elif method == "mining.set_version_mask" and isinstance(params, list) and params:
            self.hear_version_mask(params[0])
        elif method == "mining.set_extranonce" and isinstance(params, list) and len(params) >= 2:
            self.hear_extranonce(params[0], params[1])
        else:
            self.hear_other(method, message)

    def hear_other(self, method: str, message: dict[str, object]) -> None:
        """A method this firmware treats in its own way, or not at all."""

    def hear_result(self, message: dict[str, object]) -> None:
        raise NotImplementedError

    def hear_difficulty(self, value: object) -> None:
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            self.session.pool_difficulty = float(value)

    def hear_version_mask(self, value: object) -> None:
        if self.rolls_version and isinstance(value, str):
            self.session.version_mask = int(value, 16)

    def hear_extranonce(self, extranonce1: object, size: object) -> None:
        """Not known to most firmware."""

    def hear_notify(self, params: list[object]) -> None:
        raise NotImplementedError

    def idle(self, silent_s: float) -> None:
        """Called about once a second with the time since the pool's last byte."""
        if self.silence_s is not None and silent_s >= self.silence_s:
            raise LinkDropped("silence", self.silence_back_off_s)

    def retry_wait(self) -> float:
        """Seconds until the next dial after one that got nowhere."""
        return self.retry_s

    def reboot(self) -> None:
        """Everything that lives in memory is gone; counts are the simulation's and stay."""
        fresh = type(self)(self.login)
        fresh.stats, fresh._headers = self.stats, self._headers
        self.__dict__.update(fresh.__dict__)

    @property
    def working(self) -> bool:
        """It has a job and would hash now."""
        return self.in_use is not None

    # --- jobs

    def take_job(self, params: list[object]) -> MinerJob | None:
        """The job of well-typed params, counted; None when its hex cannot be read."""
        session = self.session
        assert session.extranonce1 is not None
        try:
            assigned = session.pool_difficulty or 0.0
            job = parse_job(params, session.notifies + 1, session.extranonce1, assigned)
        except ValueError:
            self.stats.ignored_notifies += 1
            return None
        session.notifies += 1
        session.tip = job.prevhash
        for sent, reason in session.doubtful:
            if sent.job.prevhash == job.prevhash:
                self.stats.pool_faults[reason] += 1
        session.doubtful.clear()
        self.stats.notifies += 1
        return job

    def strings_or_crash(self, params: list[object], crash: str) -> None:
        """Firmware that dereferences notify fields without looking resets on any other type."""
        fields = [params[i] for i in (0, 1, 2, 3, 5, 6, 7)]
        branches = params[4] if isinstance(params[4], list) else [None]
        if not all(isinstance(item, str) for item in [*fields, *branches]):
            raise FirmwareCrash(self.model, crash)

    # --- mining

    def mine(self, hashes: int) -> None:
        """Hash about this many nonces of the present job; shares go to `out`."""
        raise NotImplementedError

    def hunt(self, job: MinerJob, extranonce2: bytes, version: int, start: int, count: int, difficulty: float) -> None:
        """Search one range and submit every hit that the chip's ticket and the firmware's difficulty let through."""
        front = job.front(extranonce2, version, job.ntime)
        target = target_of_difficulty(max(difficulty, self.login.ticket, EASIEST))
        self.stats.hashes += count
        for nonce, hash_le in self.choose(search(front, start, count, target)):
            self.submit(job, extranonce2, version, nonce, hash_le)

    def over_ticket(self, job: MinerJob, difficulty: float) -> float:
        """What a hash must reach to be sent.

        Whole-number firmware reads a difficulty below 1 as 0: then the chip's ticket alone decides. A simulated chip
        without a ticket of its own has one that suits the pool's difficulty, as real ones have at theirs.
        """
        return difficulty or (0.0 if self.login.ticket else job.assigned)

    def choose(self, hits: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Which of a range's hits are sent."""
        return hits

    def submit(self, job: MinerJob, extranonce2: bytes, version: int, nonce: int, hash_le: bytes) -> None:
        origin = (self.stats.connects, job.number)
        before = self._headers.get(hash_le)
        self._headers[hash_le] = origin
        repeated = before == origin
        self.stats.old_ground += before is not None and not repeated
        while len(self._headers) > SENT_HEADERS:
            self._headers.popitem(last=False)
        self.stats.submitted += 1
        self.stats.repeats += repeated
        id_json, line = self.write_submit(job, extranonce2, version, nonce)
        sent = Sent(job, hash_le, repeated, self.is_broken(job, extranonce2, hash_le))
        self.session.pending.setdefault(id_json, deque()).append(sent)
        self.out.append(Say(line))

    def is_broken(self, job: MinerJob, extranonce2: bytes, hash_le: bytes) -> bool:
        """Whether this firmware's own limits make the share one that a pool must refuse."""
        return len(extranonce2) != self.session.extranonce2_size

    def write_submit(self, job: MinerJob, extranonce2: bytes, version: int, nonce: int) -> tuple[str, bytes]:
        """(id as JSON text, whole line)."""
        raise NotImplementedError

    # --- answers

    def answered(self, message: dict[str, object], accepted: bool, reason: str, code: int) -> bool:
        """Book the answer to a submit; False when its id is none of ours."""
        id_json = json.dumps(message.get("id"))
        queue = self.session.pending.get(id_json)
        if not queue:
            return False
        sent = queue.popleft()
        if not queue:
            del self.session.pending[id_json]
        self.session.submits_answered += 1
        if accepted:
            self.stats.accepted += 1
            self.stats.accepted_difficulty += sent.job.assigned
            self.stats.best_difficulty = max(self.stats.best_difficulty, difficulty_of_hash(sent.hash_le))
            return True
        self.stats.rejected[reason] += 1
        earned = own_fault(sent, code, self.session.tip, KNOWN_JOBS, self.session.notifies)
        if earned is None:
            self.session.doubtful.append((sent, reason))
        elif not earned:
            self.stats.pool_faults[reason] += 1
        return True

    @property
    def unanswered(self) -> int:
        return sum(len(queue) for queue in self.session.pending.values())

    # --- writing

    def request(self, id_json: str, method: str, params: list[object], after_s: float = 0.0) -> None:
        """Queue one request in the firmware's usual key order and spacing."""
        gap = "" if self.compact else " "
        body = json.dumps(params, separators=("," + gap, ":" + gap), ensure_ascii=False)
        line = f'{{"id":{gap}{id_json},{gap}"method":{gap}"{method}",{gap}"params":{gap}{body}}}\n'
        self.out.append(Say(line.encode(), after_s))

    def new_id(self) -> str:
        number = self.session.next_id
        self.session.next_id += 1
        return str(number)

    @property
    def user_agent(self) -> str:
        return self.agent if self.login.user_agent is None else self.login.user_agent

    @property
    def suggestion(self) -> float:
        return self.suggests if self.login.suggest is None else self.login.suggest


def error_of(message: dict[str, object]) -> tuple[int, str] | None:
    """(code, text) of an error array or object; None when there is no error."""
    error = message.get("error")
    if isinstance(error, list) and error:
        code = error[0] if isinstance(error[0], int) else 0
        text = error[1] if len(error) > 1 and isinstance(error[1], str) else "unknown"
        return code, text
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        number = error.get("code")
        return number if isinstance(number, int) else 0, error["message"]
    if isinstance(error, str):
        return 0, error
    return None


def number_json(value: float) -> float:
    """A difficulty as firmware prints it: whole numbers without a point."""
    return int(value) if float(value).is_integer() else value


def session_id_of(subscriptions: object) -> str | None:
    """The session id that goes with "mining.notify" in a subscribe reply."""
    if not isinstance(subscriptions, list):
        return None
    pairs = subscriptions if subscriptions and isinstance(subscriptions[0], list) else [subscriptions]
    for pair in pairs:
        if isinstance(pair, list) and len(pair) > 1 and pair[0] == "mining.notify" and isinstance(pair[1], str):
            return pair[1]
    return None
