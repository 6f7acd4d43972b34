"""Two pools in step, native and the oracle: every act is done to both, and every answer and count is compared."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from native.channel import Channel, Found
from native.sharelog import ShareLog
from native.work import Job, JobTable
from pool.records import Verdict
from rig.reference import RefJob
from rig.reference_judge import FoundBlock, RefConnection, RefPool, Submit, read_submit
from rig.traffic import DIFFICULTIES, STRANGERS, USERS, Share, Writer, grind, random_job, split, spoil


class Session:
    """Stands where pool/stratum/session.py stands: hears lines that are no plain submit, in order."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def feed(self, packet: bytes, now_ns: int) -> bytes:
        """Everything the connection answers to one packet."""
        line = self.channel.feed(packet, now_ns)
        while line is not None:
            submit = read_submit(line)
            if submit is None:
                self.channel.say(odd_answer(line))
            else:
                self._submit(submit, now_ns)
            line = self.channel.feed(b"", now_ns)
        return self.channel.take()

    def _submit(self, submit: Submit, now_ns: int) -> None:
        fields, bits = strings_of(submit.params)
        id_json = (submit.id_json or "null").encode()
        self.channel.submit(id_json, *fields, bits, now_ns)


def odd_answer(line: bytes) -> bytes:
    """What both sides say to a line that is no submit: the line itself, so that a byte lost or added shows."""
    return b"heard " + line.strip(b" \t\r\n") + b"\n"


def strings_of(params: object) -> tuple[tuple[str, str, str, str, str], str | None]:
    """Parameters as Channel.submit takes them; what cannot be strings becomes an empty nonce, which is malformed."""
    if not isinstance(params, list) or len(params) < 5 or not all(isinstance(item, str) for item in params[:5]):
        return ("", "", "", "", ""), None
    bits = params[5] if len(params) > 5 else None
    if bits is not None and not isinstance(bits, str):
        return ("", "", "", "", ""), None
    return (params[0], params[1], params[2], params[3], params[4]), bits


@dataclass
class Twin:
    """One connection in both worlds."""

    session: Session
    ref: RefConnection
    partial: bytes = b""
    verdicts: list[Verdict] = field(default_factory=list)

    def feed(self, packet: bytes, now_ns: int) -> None:
        """One packet to both; the bytes answered must be equal."""
        answered = self.session.feed(packet, now_ns)
        *lines, self.partial = (self.partial + packet).split(b"\n")
        expected = b""
        for line in lines:
            if not line.strip(b"\r"):
                continue
            submit = read_submit(line)
            if submit is None:
                expected += odd_answer(line)
                continue
            verdict, answer = self.ref.hear(submit, now_ns)
            self.verdicts.append(verdict)
            expected += answer
        assert answered == expected, f"packet {packet!r}\n native {answered!r}\n oracle {expected!r}"

    def compare(self) -> None:
        channel, ref = self.session.channel, self.ref
        assert channel.counts[: len(Verdict)] == tuple(ref.counts)
        assert channel.credited_work == ref.credited_work
        assert channel.credited == ref.credited
        assert channel.best_difficulty == ref.best_difficulty
        assert channel.best_header == ref.best_header
        assert channel.last_accepted_ns == ref.last_accepted_ns
        assert channel.last_submit_ns == ref.last_submit_ns
        assert channel.pending_in == len(self.partial)
        assert channel.drain_counts() == channel.counts
        assert not any(channel.drain_counts())


class Twins:
    """Two pools under one random story. `step()` is one act; all randomness comes from the seed."""

    def __init__(
        self, seed: int, log: ShareLog, *, connections: int = 5, capacity: int = 32, tries: int = 16_000
    ) -> None:
        self.rng = random.Random(seed)
        self.capacity, self.tries = capacity, tries
        self.log = log
        self.jobs = JobTable(capacity=capacity, boot_s=1_750_000_000)
        self.pool = RefPool()
        self.native_found: list[FoundBlock] = []
        self.prevhashes = [self.rng.randbytes(32) for _ in range(4)]
        self.extranonce1s = [self.rng.randbytes(4) for _ in range(2)]
        self.writer = Writer(self.rng)
        self.now_ns = 1_800_000_000_000_000_000
        self.known: list[Share] = []  # shares that met the easiest target, newest last
        self.refs: list[RefJob] = []
        self.twins: list[Twin] = []
        for _ in range(connections):
            self.connect()
        self.set_tip(self.prevhashes[0])
        self.publish(on_tip=True)

    def connect(self) -> Twin:
        """One more connection, in both pools."""
        extranonce1 = self.extranonce1s[len(self.twins) % 2]
        channel = Channel(self.jobs, self.log, extranonce1, self._found, session=len(self.twins) + 1)
        self.twins.append(Twin(Session(channel), RefConnection(self.pool, extranonce1)))
        return self.twins[-1]

    def _found(self, found: Found) -> None:
        ids = (found.account, found.worker)
        nonces = (found.extranonce1, found.extranonce2)
        self.native_found.append(FoundBlock(found.header, *nonces, found.user, *ids, found.stale))

    # --- acts

    def set_tip(self, prevhash: bytes) -> None:
        self.jobs.set_tip(prevhash)
        self.pool.set_tip(prevhash)

    def publish(self, *, on_tip: bool = False) -> None:
        """A new job, most often on the tip; at times the contents of an old one under a new id."""
        rng = self.rng
        prevhash = self.pool.tip if on_tip or rng.random() < 0.8 else rng.choice(self.prevhashes)
        ref = random_job(rng, self.jobs.next_id(), prevhash)
        if self.refs and rng.random() < 0.1:
            old = rng.choice(self.refs[-8:])
            ref = RefJob(**{**vars_of(old), "job_id": ref.job_id})
        self.publish_job(ref)
        for twin in self.twins:
            if rng.random() < 0.8:
                self.send(twin, ref, rng.choice(DIFFICULTIES), clean=rng.random() < 0.2)
        for extranonce1 in self.extranonce1s:
            self.known = [*self.known[-400:], *grind(ref, extranonce1, rng, self.tries)]

    def publish_job(self, ref: RefJob) -> None:
        """This job, to both pools; one still in its slot is retired."""
        self.jobs.publish(Job(**vars_of(ref)))
        self.pool.publish(ref, self.capacity)
        self.refs = [*self.refs[-30:], ref]

    def another(self, **changes: Any) -> RefJob:
        """The newest job again under a fresh id, with `changes`; published."""
        ref = replace(self.refs[-1], job_id=self.jobs.next_id(), **changes)
        self.publish_job(ref)
        return ref

    def send(self, twin: Twin, ref: RefJob, difficulty: float, *, clean: bool = False) -> None:
        """Send the job to one connection of both pools; the notify line is checked."""
        job = self.jobs.get(ref.job_id)
        assert job is not None
        before = twin.session.channel.difficulty
        twin.session.channel.send_job(job, difficulty, clean)
        twin.ref.send_job(ref, difficulty)
        said = twin.session.channel.take()
        notify = ref.notify(clean)
        assert said.endswith(notify)
        assert (said == notify) == (before == difficulty), said

    def retire(self) -> None:
        """Forget the older half of the live jobs, but those on the tip."""
        border = sorted(self.pool.jobs)[len(self.pool.jobs) // 2]
        keep = self.rng.choice([None, self.pool.tip])
        gone = [j for j, job in self.pool.jobs.items() if j < border and job.prevhash != keep]
        assert self.jobs.retire_before(border, keep_prevhash=keep) == len(gone)
        for job_id in gone:
            self.pool.retire(job_id)

    def alter(self, twin: Twin) -> None:
        """Something about one connection changes: who may submit, its mask, its extranonce1."""
        rng, channel, ref = self.rng, twin.session.channel, twin.ref
        kind = rng.randrange(4)
        if kind == 0 or not ref.users:
            user = rng.choice(USERS)
            ids = (rng.randint(1, 9), rng.randint(1, 99))
            channel.authorize(user, *ids)
            ref.users[user] = ids
        elif kind == 1 and rng.random() < 0.3:
            user = rng.choice(USERS)
            if user in ref.users:
                channel.deauthorize(user)
                del ref.users[user]
        elif kind == 2:
            ref.version_mask = channel.version_mask = rng.choice([*[0x1FFFE000] * 7, 0x00FFE000, 0])
        elif kind == 3:
            ref.extranonce1 = rng.choice(self.extranonce1s)
            channel.set_extranonce1(ref.extranonce1)

    def lines(self, twin: Twin, count: int) -> bytes:
        """`count` lines to one connection: known shares, old ones again, spoiled ones, noise."""
        rng, out = self.rng, []
        users = [user.decode() for user in twin.ref.users or USERS]
        job_ids = [ref.job_id for ref in self.refs]
        mine = [share for share in self.known if share.job_id in twin.ref.sent]
        for _ in range(count):
            share = rng.choice(mine[-rng.choice([10, 60, 400]) :] if mine and rng.random() < 0.9 else self.known)
            share = replace(share, user=rng.choice(users))
            if rng.random() < 0.45:
                share = spoil(share, rng, STRANGERS, job_ids, self.capacity)
            line = self.writer.line(share)
            out.append(self.writer.noise(line) if rng.random() < 0.05 else line)
        return b"".join(out)

    def step(self) -> None:
        """One act: usually a burst of traffic on one connection, at times the world changes first."""
        rng = self.rng
        chance = rng.random()
        if chance < 0.15:
            self.publish()
        elif chance < 0.18:
            self.set_tip(rng.choice(self.prevhashes))
            self.publish(on_tip=True)
        elif chance < 0.20:
            self.retire()
        twin = rng.choice(self.twins)
        if rng.random() < 0.3:
            self.alter(twin)
        for packet in split(self.lines(twin, rng.randint(1, 12)), rng):
            self.now_ns += rng.randint(1, 10**9)
            twin.feed(packet, self.now_ns)
        assert self.native_found == self.pool.found
        self.native_found.clear()
        self.pool.found.clear()

    @property
    def submits(self) -> int:
        return sum(sum(twin.ref.counts) for twin in self.twins)


def vars_of(ref: RefJob) -> dict[str, Any]:
    """A RefJob's fields as the keyword arguments of native's Job."""
    return {key: value for key, value in vars(ref).items() if key != "network_target"}
