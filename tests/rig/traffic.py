"""Random mining.submit traffic from one seed: shares of every kind, written in every form that a client may use."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from native.hashing import search
from rig.reference import RefJob, target_of_difficulty

#: Easiest target that native allows: one hash in 4,096 meets it, so true shares are cheap to find.
EASIEST = 2.0**-20
DIFFICULTIES = [*[EASIEST] * 6, 1.5 * EASIEST, 2 * EASIEST, 1.23e-6, 2.0**-18, 2.0**-16, 1.0, 1e18]
USERS = [b"bc1qexample.one", b"bc1qexample.two", b"pay@example.org", b"a", b"w" * 120]
STRANGERS = ["nobody", "", "bc1qexample.on", "bc1qexample.one ", "BC1QEXAMPLE.ONE", "niño", 'quo"te', "\ud800"]


@dataclass(frozen=True)
class Share:
    """What a client puts into one submit, before it is written as JSON. `bits` None: five parameters."""

    user: str
    job_id: int
    extranonce2: bytes
    ntime: int
    nonce: int
    bits: int | None


def grind(job: RefJob, extranonce1: bytes, rng: random.Random, tries: int, user: str = "") -> list[Share]:
    """Shares on `job` that meet the easiest target, out of `tries` nonces of one random header space."""
    limit = target_of_difficulty(EASIEST)
    extranonce2, ntime = rng.randbytes(8), rng.randint(job.ntime_min, job.ntime_max)
    bits = rng.choice([None, 0, rng.getrandbits(16) << 13])
    start = rng.randrange(0, 2**32 - tries)
    end = start + tries
    header = job.header(extranonce1, extranonce2, ntime, 0, bits or 0)
    hits = []
    while (nonce := search(header, limit, start, end - start)) is not None:
        hits.append(Share(user, job.job_id, extranonce2, ntime, nonce, bits))
        start = nonce + 1
    return hits


def random_job(rng: random.Random, job_id: int, prevhash: bytes) -> RefJob:
    """A job of arbitrary content; its network target is anything from "half of all hashes" to mainnet's."""
    ntime = rng.randint(1_700_000_000, 1_800_000_000)
    back, ahead = rng.choice([(0, 7200), (600, 7200), (0, 0), (1, 1)])
    return RefJob(
        job_id=job_id,
        coinb1=rng.randbytes(rng.randint(42, 130)),
        coinb2=rng.randbytes(rng.randint(20, 300)),
        branches=tuple(rng.randbytes(32) for _ in range(rng.choice([0, 1, 2, 8, 12, 13, 32]))),
        prevhash=prevhash,
        version=rng.choice([0x20000000, 0x00000001, 0x20000004, 0x7FFFFFFF & ~0x1FFFE000]),
        nbits=rng.choice([0x207FFFFF, 0x1F00FFFF, 0x1E7FFFFF, 0x1D00FFFF, 0x1702068F]),
        ntime=ntime,
        ntime_min=ntime - back,
        ntime_max=ntime + ahead,
        height=rng.randint(0, 2**31),
    )


def spoil(share: Share, rng: random.Random, strangers: list[str], job_ids: list[int], capacity: int) -> Share:
    """The same share with one thing about it that the judge must notice (or must see through)."""
    kind = rng.randrange(9)
    if kind == 0:
        return replace(share, nonce=rng.getrandbits(32))
    if kind == 1:
        return replace(share, ntime=share.ntime + rng.choice([-7201, -601, -2, -1, 1, 2, 601, 7201]))
    if kind == 2:
        return replace(share, bits=rng.choice([0, 1 << 31, 1 << 12, 1 << 29, 0xFFFFFFFF, rng.getrandbits(32)]))
    if kind == 3:
        return replace(share, extranonce2=rng.randbytes(rng.choice([0, 1, 4, 7, 9, 12, 16, 40])))
    if kind == 4:
        return replace(share, user=rng.choice(strangers))
    if kind == 5:
        return replace(share, job_id=rng.choice([*job_ids, share.job_id + capacity, 0, rng.getrandbits(48)]))
    if kind == 6:
        return replace(share, job_id=max(0, share.job_id + rng.choice([-capacity, -1, 1, 1 << 48, 1 << 64])))
    if kind == 7:
        return replace(share, extranonce2=rng.randbytes(8))
    return replace(share, user=rng.choice([user.decode() for user in USERS]))


class Writer:
    """Writes shares as lines: plain as most firmware does, or in any other form that means the same, or broken."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.next_id = 0

    def line(self, share: Share, oddity: float = 0.4, breakage: float = 0.06) -> bytes:
        """One '\\n' ended line; `oddity`: chance of an unusual but valid writing, `breakage`: of an unreadable one."""
        rng = self.rng
        odd = rng.random() < oddity
        params = [
            json.dumps(share.user, ensure_ascii=rng.random() < 0.5 or share.user == "\ud800"),
            f'"{self._number(share.job_id, 1 if not odd else rng.choice([1, 8, 12]), odd)}"',
            f'"{self._case(share.extranonce2.hex(), odd)}"',
            f'"{self._number(max(share.ntime, 0), 8, odd)}"',
            f'"{self._number(share.nonce, 8, odd)}"',
        ]
        if share.bits is not None:
            params.append(f'"{self._number(share.bits, 8, odd)}"')
        elif odd:
            params += rng.choice([[], [], ["null"], ["null", "1", "{}"]])
        elif rng.random() < 0.02:
            params += ['"00000000"', '"extra"']
        if rng.random() < breakage:
            params = self._broken(params)
        return self._object(params, odd)

    def _number(self, number: int, width: int, odd: bool) -> str:
        if odd and self.rng.random() < 0.5:
            return self._case(f"{number:x}", odd)  # not padded, as NerdMiner writes nonces
        return self._case(f"{number:0{width}x}", odd)

    def _case(self, text: str, odd: bool) -> str:
        if not odd:
            return text
        return self.rng.choice([str.lower, str.upper, str.swapcase, str.title])(text)

    def _broken(self, params: list[str]) -> list[str]:
        """Parameters that cannot be read as five or six strings of the right kind."""
        rng = self.rng
        if rng.random() < 0.25:
            return params[: rng.randint(0, 4)]
        at = rng.randrange(len(params))
        values = ["null", "7", "true", "[]", "{}", "1.5", '""', '"0x1"', '"g"', '"123456789"', '" 1"', '"-1"', '"+1"']
        values += ['"1_0"', '"00000000000000001"', '"１"', '"\\u0031"', '"a\\u0000b"', '["a",["b",{"c":"]"}]]', '"é"']
        return [*params[:at], rng.choice(values), *params[at + 1 :]]

    def _object(self, params: list[str], odd: bool) -> bytes:
        rng = self.rng
        gap: Callable[[], str] = (lambda: rng.choice(["", "", " ", "  ", "\t"])) if odd else (lambda: "")
        array = "[" + ",".join(gap() + item + gap() for item in params) + "]"
        members = [("id", self._id()), ("method", '"mining.submit"'), ("params", array)]
        if rng.random() < 0.02:
            members = [member for member in members if member[0] != "id"]
        if rng.random() < 0.03:
            members.append(rng.choice([("jsonrpc", '"2.0"'), ("worker", '{"id":9,"params":["x"]}'), ("id2", "[1,2]")]))
        if odd:
            rng.shuffle(members)
        body = ",".join(f'{gap()}"{key}"{gap()}:{gap()}{value}{gap()}' for key, value in members)
        return f"{gap()}{{{body}}}{gap()}".encode() + (b"\r\n" if odd and rng.random() < 0.3 else b"\n")

    def _id(self) -> str:
        self.next_id += 1
        if self.rng.random() < 0.85:
            return str(self.next_id)
        odd_ids = ["0", "4", "null", "-1", "32769", "1.5", "1e3", '"auth"', '"txlist2a"', '""', '"a\\"b"', '"é"']
        odd_ids += ['"\\u00e9"', "[1, 2]", '{"a": 1}', "true", "9" * 25, '"' + "x" * 200 + '"', "-0", '"}"']
        return self.rng.choice(odd_ids)

    def noise(self, line: bytes) -> bytes:
        """Something that is no sound submit: blank, another method, or `line` damaged."""
        rng = self.rng
        kind = rng.randrange(6)
        if kind == 0:
            return rng.choice([b"\n", b"\r\n", b"\n\n\n"])
        if kind == 1:
            method = rng.choice(["mining.subscribe", "mining.submit2", "mining.Submit", "", "mining.authorize"])
            return json.dumps({"id": self.next_id, "method": method, "params": [rng.random()]}).encode() + b"\n"
        if kind == 2:
            junk = [b"{}", b"[]", b"null", b"GET / HTTP/1.1\r", b"\x16\x03\x01\x02", b"[" * 300]
            return rng.choice(junk) + b"\n"
        damaged = bytearray(line[:-1])
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(damaged))
            if kind == 3:
                damaged[at] = rng.choice([b for b in range(256) if b != 10])
            elif kind == 4:
                damaged.insert(at, rng.choice(b'"\\,:[]{}\x00 0a'))
            elif len(damaged) > 1:
                del damaged[at]
        return bytes(damaged) + b"\n"


def split(stream: bytes, rng: random.Random) -> list[bytes]:
    """The stream in packets: whole, byte by byte in places, or cut anywhere."""
    packets, at = [], 0
    while at < len(stream):
        size = rng.choice([1, 2, 7, rng.randint(1, 300), rng.randint(1, 3000), 100_000])
        packets.append(stream[at : at + size])
        at += size
    return packets
