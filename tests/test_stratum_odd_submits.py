"""Shares in every form that JSON allows, at the real server: answered as the oracle answers them, in order."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace
from pathlib import Path

from native.work import Job
from pool.config import VardiffSection
from pool.records import Verdict
from rig.reference import RefJob
from rig.reference_judge import RefConnection, RefPool, read_submit
from rig.stratum import ADDRESS, ADDRESS_2, SETTINGS, RigPool, running
from rig.traffic import STRANGERS, Share, Writer, grind, split, spoil

DIFFICULTY = 2.0**-20
#: So many shares are wished for that nothing moves the difficulty.
VARDIFF = VardiffSection(shares_per_minute=1e9, min_difficulty=DIFFICULTY, start_difficulty=DIFFICULTY)
LINES = 3000


def twin_of(job: Job) -> RefJob:
    """The oracle's view of a job of the pool."""
    names = ("job_id", "coinb1", "coinb2", "branches", "prevhash", "version", "nbits", "ntime", "height")
    return RefJob(**{name: getattr(job, name) for name in names}, ntime_min=job.ntime_min, ntime_max=job.ntime_max)


def answerable(line: bytes) -> bool:
    """Whether the server owes this line an answer under its own id: ids that are lists or objects are no ids."""
    submit = read_submit(line)
    return submit is not None and submit.id_json is not None and submit.id_json[0] not in "[{n"


def lines_for(ref: RefJob, extranonce1: bytes, users: list[str], rng: random.Random) -> list[bytes]:
    writer = Writer(rng)
    known: list[Share] = []
    while len(known) < 400:
        known += grind(ref, extranonce1, rng, 100_000)
    lines = []
    for _ in range(LINES):
        share = replace(rng.choice(known), user=rng.choice(users))
        if rng.random() < 0.4:
            share = spoil(share, rng, STRANGERS, [ref.job_id], 4096)
        lines.append(writer.line(share, oddity=0.7, breakage=0.1))
    return lines


def expected(ref: RefConnection, lines: list[bytes]) -> list[object]:
    """What the oracle answers, as JSON values."""
    answers = []
    for line in lines:
        submit = read_submit(line)
        assert submit is not None
        _, answer = ref.hear(submit, 1)
        if answerable(line):
            answers.append(json.loads(answer))
    return answers


async def enter(pool: RigPool, user: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
    """A plain connection after its handshake, both users authorised; and its extranonce1."""
    reader, writer = await asyncio.open_connection("127.0.0.1", pool.port(), limit=1 << 22)
    writer.write(b'{"id":"s","method":"mining.subscribe","params":["rig"]}\n')
    extranonce1 = bytes.fromhex(json.loads(await reader.readline())["result"][1])
    for name in (user, ADDRESS_2):
        request = {"id": "a", "method": "mining.authorize", "params": [name, "x"]}
        writer.write(json.dumps(request).encode() + b"\n")
        while json.loads(await reader.readline()).get("id") != "a":
            pass
    return reader, writer, extranonce1


async def test_every_form_of_a_submit_is_judged_as_the_oracle_judges_it(tmp_path: Path, rng: random.Random) -> None:
    settings = replace(SETTINGS, messages_per_s=1e9, messages_per_s_per_address=1e9)
    async with running(tmp_path / "log", vardiff=VARDIFF, settings=settings) as pool:
        user = f"{ADDRESS}.odd"
        reader, writer, extranonce1 = await enter(pool, user)
        job = twin_of(pool.work.made[0])
        ref = RefConnection(RefPool(tip=job.prevhash), extranonce1, users={user.encode(): (1, 1)})
        ref.users[ADDRESS_2.encode()] = (2, 2)
        ref.pool.publish(job, 4096)
        ref.send_job(job, DIFFICULTY)
        lines = lines_for(job, extranonce1, [user, user, ADDRESS_2], rng)
        wanted = expected(ref, lines)
        for packet in split(b"".join(lines), rng):
            writer.write(packet)
        heard: list[object] = []
        async with asyncio.timeout(60):
            while len(heard) < len(wanted):
                message = json.loads(await reader.readline())
                if "method" not in message:
                    heard.append(message)
        (session,) = pool.hub.sessions
        assert session.channel.counts == tuple(ref.counts)
        assert session.channel.credited_work == ref.credited_work
        writer.close()
        await writer.wait_closed()
    for got, due in zip(heard, wanted, strict=True):
        assert got == due
    print({verdict.name: ref.counts[verdict] for verdict in Verdict})
    for name in ("ACCEPTED", "DUPLICATE", "MALFORMED", "LOW_DIFFICULTY", "UNAUTHORISED"):
        assert ref.counts[Verdict[name]] > 20, name
