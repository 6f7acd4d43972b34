"""The server's life: who is let in, what happens without work, restarts that a device does not notice, ports that
change hands.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import ssl
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pool.records import REJECTS_ROW, RowKind, SavedSession, Verdict
from pool.stratum import handshake, takeover
from pool.stratum.connection import Connection
from pool.stratum.hub import Port
from pool.stratum.session import Session
from pool.stratum.sockets import raise_file_limit
from rig.miner import Miner
from rig.stratum import ADDRESS, SETTINGS, RigPool, StoredSessions, running
from rig.work import RigWork


async def refused(port: int) -> bool:
    """True when nothing listens there."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return False


def reject_rows(pool: RigPool) -> np.ndarray:
    rows = np.frombuffer(pool.rows(), dtype=REJECTS_ROW)
    return rows[rows["kind"] == RowKind.REJECTS]


# --- who is let in


async def test_a_connection_that_never_tries_to_authorize_is_closed_after_a_minute(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as silent, await pool.connect() as half:
        async with await pool.connect() as bad, await pool.connect() as good:
            await half.subscribe()
            await bad.subscribe()
            await bad.authorize("maria")
            await good.enter(ADDRESS)
            await pool.until(lambda: len(pool.server.connections) == 4)
            pool.clock.skip(59)
            for miner in (half, bad, good):
                await miner.answered()
            assert not silent.closed
            pool.clock.skip(2)
            await silent.hung_up()
            await half.hung_up()
            await bad.answered()
            await good.answered()


async def test_connections_per_address_are_limited(tmp_path: Path) -> None:
    async with running(tmp_path, max_connections_per_address=3) as pool:
        kept = [await pool.connect() for _ in range(3)]
        for miner in kept:
            await miner.enter(ADDRESS)
        async with await pool.connect() as fourth:
            await fourth.hung_up()
            assert fourth.lines == []
        await kept[0].close()
        await pool.until(lambda: len(pool.server.connections) == 2)
        async with await pool.connect() as again:
            await again.enter(ADDRESS)
        for miner in kept[1:]:
            await miner.close()


async def test_a_full_pool_refuses_tcp_and_opens_again(tmp_path: Path) -> None:
    """A refused connection sends firmware to its fallback; one that is accepted and dropped would not."""
    async with running(tmp_path, max_connections=4) as pool:
        port = pool.port()
        miners = [await pool.connect() for _ in range(4)]
        for miner in miners:
            await miner.enter(ADDRESS)
        await pool.until(lambda: not pool.server.listeners[0].accepting)
        assert await refused(port)
        await miners.pop().close()
        await pool.until(lambda: pool.server.listeners[0].accepting)
        assert pool.port() == port
        async with await pool.connect() as again:
            await again.enter(ADDRESS)
        for miner in miners:
            await miner.close()


async def test_a_reject_storm_gets_new_work_then_a_reconnect_then_the_door_and_a_wait(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        session = next(iter(pool.hub.sessions))
        weak = [miner.low_share().params for _ in range(8)]

        async def storm(seconds: float) -> None:
            for params in weak:
                await miner.ask("mining.submit", list(params))
            pool.clock.skip(seconds)
            due_s = session.look_s
            await pool.until(lambda: session.look_s > due_s or miner.closed, what="the watch to come by")

        await storm(6)
        jobs = len(miner.jobs)
        await storm(61)
        await miner.job(jobs + 1)
        await storm(61)
        await miner.until(lambda: any(m.get("method") == "client.reconnect" for m in miner.messages))
        assert {m["params"] == [] for m in miner.messages if m.get("method") == "client.reconnect"} == {True}
        await storm(61)
        await miner.hung_up()
        assert pool.hub.totals.dropped == 1
        await pool.until(lambda: not pool.server.connections)
        async with await pool.connect() as early:
            await early.hung_up()
        pool.clock.skip(11)
        async with await pool.connect() as later:
            await later.enter(ADDRESS)


async def test_pressure_on_the_loop_lets_connections_wait_in_the_kernels_queue(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        listener = pool.server.listeners[0]
        for _ in range(3):
            await pool.server._gate(0.5)
        assert not listener.accepting
        reader, writer = await asyncio.open_connection("127.0.0.1", pool.port())  # queued, not refused
        writer.write(b'{"id":1,"method":"mining.ping","params":[]}\n')
        async with asyncio.timeout(5):
            assert json.loads(await reader.readline())["result"] == "pong", "served once the pressure is gone"
        assert listener.accepting
        writer.close()
        await writer.wait_closed()


def test_the_file_limit_is_raised_as_far_as_the_system_allows() -> None:
    assert raise_file_limit(100) >= 228


# --- what is written


async def test_refused_shares_are_written_each_minute_and_at_the_end(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        miner = await pool.connect()
        await miner.enter(ADDRESS + ".axe")
        good = miner.share()
        await miner.submit(good)
        await miner.submit(good)
        await miner.submit(miner.low_share())
        pool.clock.skip(61)
        await pool.until(lambda: len(reject_rows(pool)) == 1, what="the minute's row")
        counts = reject_rows(pool)[0]["counts"]
        assert counts[Verdict.DUPLICATE] == counts[Verdict.LOW_DIFFICULTY] == counts[Verdict.ACCEPTED] == 1
        assert reject_rows(pool)[0]["account"] == 1
        await miner.submit(miner.low_share())
        await miner.close()
        await pool.until(lambda: len(reject_rows(pool)) == 2, what="the last row")
        assert reject_rows(pool)[1]["counts"].sum() == 1
        assert pool.server.counts()[Verdict.LOW_DIFFICULTY] == 2


async def test_a_session_without_refusals_writes_no_row(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        miner = await pool.connect()
        await miner.enter(ADDRESS)
        await miner.submit(miner.share())
        await miner.close()
        await pool.until(lambda: not pool.server.connections)
        assert len(reject_rows(pool)) == 0


# --- no work (P10)


async def test_without_work_for_a_minute_miners_are_told_and_sent_to_their_fallback(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner, await pool.connect() as unknown:
        port = pool.port()
        await miner.enter(ADDRESS)
        await unknown.subscribe()
        pool.work.lose("the node is 3 blocks behind")
        await pool.until(lambda: not pool.server.listeners[0].accepting)
        pool.clock.skip(30)
        await miner.answered()
        assert not miner.closed
        pool.clock.skip(31)
        await miner.until(lambda: any(m.get("method") == "client.show_message" for m in miner.messages))
        text = next(m["params"][0] for m in miner.messages if m.get("method") == "client.show_message")
        assert "3 blocks behind" in text
        assert len(text) <= 250
        assert not any("method" in m for m in unknown.messages), "nothing is pushed before authorize"
        pool.clock.skip(2)
        await miner.hung_up()
        await unknown.hung_up()
        assert await refused(port)
        pool.work.find()
        await pool.until(lambda: pool.server.listeners[0].accepting, what="the port to open by itself")
        async with await pool.connect() as back:
            assert pool.port() == port
            await back.enter(ADDRESS)
            assert (await back.submit(back.share()))["result"] is True


async def test_a_pool_without_work_at_start_refuses_until_there_is_some(tmp_path: Path) -> None:
    work = RigWork()
    work.lose("waiting for the node")
    async with running(tmp_path, work=work) as pool:
        port = pool.port()
        pool.clock.skip(6)
        await pool.until(lambda: pool.server.listeners[0].bound is None)
        assert await refused(port)
        work.find()
        await pool.until(lambda: pool.server.listeners[0].accepting)
        async with await Miner.connect(port) as miner:
            await miner.enter(ADDRESS)


async def test_a_hiccup_of_seconds_refuses_nobody(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        pool.work.lose()
        await pool.until(lambda: not pool.server.listeners[0].accepting)
        miner = await pool.connect()
        pool.clock.skip(3)
        pool.work.find()
        await miner.enter(ADDRESS)
        await miner.close()


# --- restarts (P9)


async def test_a_device_that_presents_its_session_id_gets_everything_back_after_a_restart(tmp_path: Path) -> None:
    stored, work = StoredSessions(), RigWork()
    async with running(tmp_path, work=work, stored=stored) as pool:
        miner = await pool.connect()
        await miner.subscribe("cgminer/4.13.6")
        await miner.configure("0000e000")
        await miner.authorize(ADDRESS + ".rack", "d=0.00005")
        await miner.job()
        assert (await miner.submit(miner.share(bits=0x2000)))["result"] is True
        before = next(iter(pool.hub.sessions))
        await pool.until(lambda: before.pace.proved)
        best = before.channel.best_difficulty
        session_id, extranonce1 = miner.session_id, miner.extranonce1
        await miner.close()
    saved = stored.by_id[session_id]
    assert (saved.account, saved.worker, saved.user_agent) == (ADDRESS, "rack", "cgminer/4.13.6")
    assert saved.best_difficulty == best > 0
    assert saved.version_mask == 0x0000E000
    async with running(tmp_path / "second", work=RigWork(), stored=stored) as pool, await pool.connect() as miner:
        await miner.subscribe("cgminer/4.13.6", session_id)
        assert miner.session_id == session_id
        assert miner.extranonce1 == extranonce1
        await miner.authorize(ADDRESS + ".rack")
        await miner.job()
        assert miner.difficulties == [pytest.approx(saved.difficulty)]
        session = next(iter(pool.hub.sessions))
        assert session.channel.best_difficulty == best
        assert (await miner.submit(miner.share(bits=0x2000)))["result"] is True
        assert (await miner.submit(miner.share(bits=0x010000)))["error"][1] == "Invalid version mask"


async def test_a_device_without_session_id_is_known_by_user_and_agent(tmp_path: Path) -> None:
    stored = StoredSessions()
    known = SavedSession("0123456789abcdef", ADDRESS, "axe", "bitaxe/BM1370/v2", "00000001", 0.25, 0, 9.5, 2e8, 1)
    stored.by_id[known.session_id] = known
    async with running(tmp_path, stored=stored) as pool:
        async with await pool.connect() as miner:
            await miner.enter(ADDRESS + ".axe", agent="bitaxe/BM1370/v2", suggest=0.0001)
            assert miner.difficulties == [0.25], "history is stronger than a suggestion"
            assert next(iter(pool.hub.sessions)).channel.best_difficulty == 9.5
            assert miner.session_id != known.session_id
        async with await pool.connect() as other:
            await other.enter(ADDRESS + ".other", agent="bitaxe/BM1370/v2")
            assert other.difficulties != [0.25]


async def test_an_unknown_session_id_gets_a_new_one_never_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.subscribe("x", "ffffffffffffffff")
        assert miner.session_id != "ffffffffffffffff"


async def test_a_session_id_has_one_live_owner_the_newest(tmp_path: Path) -> None:
    """The device is back before its old socket was noticed dead."""
    async with running(tmp_path) as pool, await pool.connect() as old, await pool.connect() as new:
        job = await old.enter(ADDRESS)
        await new.subscribe("rig/1.0", old.session_id)
        await old.hung_up()
        assert new.session_id == old.session_id
        assert new.extranonce1 == old.extranonce1
        await new.authorize(ADDRESS)
        fresh = await new.job()
        assert fresh.job_id != job.job_id, "under the same extranonce1 the old job would be hashed again"
        assert fresh.coinb1 != job.coinb1
        await pool.until(lambda: len(pool.hub.sessions) == 1)
        assert len(pool.hub.extranonces) == len(pool.hub.by_id) == 1
        new.user = ADDRESS
        assert (await new.submit(new.share()))["result"] is True


@pytest.mark.parametrize("presents", [True, False])
async def test_sessions_of_a_store_that_is_not_in_memory_are_loaded_before_the_reply(
    tmp_path: Path, presents: bool
) -> None:
    known = SavedSession("0123456789abcdef", ADDRESS, "axe", "rig/1.0", "00000007", 0.25, 0x2000, 3.0, 2e8, 1)
    asked: list[object] = []
    gate = asyncio.Event()

    async def load(key: object) -> SavedSession | None:
        asked.append(key)
        await gate.wait()
        return known if key in (known.session_id, (ADDRESS, "axe", "rig/1.0")) else None

    async with running(tmp_path, load_session=load) as pool, await pool.connect() as miner:
        requests = [
            ("mining.subscribe", ["rig/1.0", known.session_id] if presents else ["rig/1.0"]),
            ("mining.authorize", [ADDRESS + ".axe", "x"]),
            ("mining.ping", []),
        ]
        for number, (method, params) in enumerate(requests, 1):
            await miner.send(json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n")
        await pool.until(lambda: asked)
        await miner.send(b'{"id":4,"method":"mining.ping","params":[]}\n')
        gate.set()
        await miner.reply(4)
        order = [m.get("method", m["id"]) for m in miner.messages]
        assert order == [1, 2, "mining.set_difficulty", "mining.notify", 3, 4]
        assert miner.difficulties == [0.25]
        assert (miner.messages[0]["result"][1] == "00000007") == presents


@pytest.mark.parametrize("hangs", [True, False])
async def test_a_store_that_hangs_or_fails_keeps_nobody_from_mining(
    tmp_path: Path, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handshake, "LOOK_UP_S", 0.1)

    async def load(_key: object) -> SavedSession | None:
        if hangs:
            await asyncio.Event().wait()
        raise ValueError("the database is on fire")

    async with running(tmp_path, load_session=load) as pool, await pool.connect() as miner:
        await miner.subscribe("rig/1.0", "0123456789abcdef")
        await miner.authorize(ADDRESS)
        await miner.job()
        assert (await miner.submit(miner.share()))["result"] is True


async def test_everything_is_saved_while_it_runs_and_a_broken_store_loses_nothing(tmp_path: Path) -> None:
    stored = StoredSessions(failing=True)
    async with running(tmp_path, stored=stored) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        await miner.submit(miner.share())
        session = next(iter(pool.hub.sessions))
        await pool.until(lambda: session.earning, what="the watch to see the share")
        await pool.server.save()
        assert stored.by_id == {}
        stored.failing = False
        await pool.server.save()
        assert set(stored.by_id) == {miner.session_id}, "kill -9 after this still finds the session"
        await pool.server.save()
        assert stored.saves == 1, "nothing changed, nothing written"


async def test_a_session_that_earned_nothing_yet_is_stored_too(tmp_path: Path) -> None:
    stored = StoredSessions()
    async with running(tmp_path, stored=stored) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        pool.clock.skip(6)
        await pool.until(lambda: miner.session_id in stored.by_id, what="the session to be stored")
        assert len(pool.hub.memory) == 0


async def test_the_same_share_over_a_reconnect_is_paid_once(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        async with await pool.connect() as miner:
            await miner.enter(ADDRESS)
            share = miner.share()
            assert (await miner.submit(share))["result"] is True
            session_id = miner.session_id
        async with await pool.connect() as again:
            await again.subscribe("rig/1.0", session_id)
            await again.authorize(ADDRESS)
            await again.job()
            assert (await again.submit(share))["error"] == [21, "Job not found", None]


# --- ports that change hands


async def test_a_new_process_takes_the_ports_over_and_no_connection_is_refused(tmp_path: Path) -> None:
    """Two servers as two processes would: the new one asks, the old one drains, connecting never fails in between."""
    path, stored = tmp_path / "stratum.sock", StoredSessions()
    failures: list[str] = []
    entered = 0
    stop = asyncio.Event()

    async def knock(port: int) -> None:
        nonlocal entered
        while not stop.is_set():
            try:
                miner = await Miner.connect(port)
            except OSError as error:
                failures.append(repr(error))
                continue
            asked, gone = asyncio.ensure_future(miner.subscribe()), asyncio.ensure_future(miner.hung_up(10))
            done, _ = await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
            entered += asked in done and asked.exception() is None
            if not done:
                failures.append("connected, never served")
            for task in (asked, gone):
                task.cancel()
            await asyncio.gather(asked, gone, return_exceptions=True)
            await miner.close()

    async with contextlib.AsyncExitStack() as old_stack:
        old = await old_stack.enter_async_context(
            running(tmp_path / "log", handover_path=path, stored=stored, ports=(Port("main", 0), Port("high", 0)))
        )
        port = old.port()
        device = await old.connect()
        await device.enter(ADDRESS)
        knocking = [asyncio.create_task(knock(port)) for _ in range(3)]
        await old.until(lambda: entered > 20)
        heir = await asyncio.to_thread(takeover.ask, path)
        assert heir is not None
        assert set(heir.sockets) == {"main", "high"}
        async with asyncio.timeout(5):
            await old.server.taken_over.wait()
        assert path.stat().st_mode & 0o777 == 0o600 if path.exists() else True
        waiting = asyncio.create_task(asyncio.to_thread(heir.wait, 20.0))
        await asyncio.sleep(0)
        assert not waiting.done(), "the new one waits until the old one has let go of the log"
        await old_stack.aclose()
        await waiting
        assert any(m.get("method") == "client.reconnect" for m in device.messages)
        await device.hung_up()
        async with running(
            tmp_path / "log", stored=stored, ports=(Port("main", 0), Port("high", 0)), inherited=heir
        ) as new:
            assert new.port() == port
            before = entered
            await new.until(lambda: entered > before + 20)
            stop.set()
            await asyncio.gather(*knocking)
            async with await new.connect() as back:
                await back.subscribe("rig/1.0", device.session_id)
                assert back.session_id == device.session_id
                assert back.extranonce1 == device.extranonce1
    await device.close()
    assert failures == []


def test_nobody_there_is_no_takeover(tmp_path: Path) -> None:
    assert takeover.ask(tmp_path / "nothing.sock") is None
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "stale.sock"))
    stale.close()
    assert takeover.ask(tmp_path / "stale.sock") is None


async def test_a_broken_take_over_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "stratum.sock"
    async with running(tmp_path / "log", handover_path=path) as pool:
        line = socket.socket(socket.AF_UNIX)
        line.setblocking(False)
        await asyncio.get_running_loop().sock_connect(line, str(path))
        await asyncio.get_running_loop().sock_sendall(line, b"something\n")
        line.close()
        async with await pool.connect() as miner:
            await miner.enter(ADDRESS)
        assert not pool.server.taken_over.is_set()
        assert path.stat().st_mode & 0o777 == 0o600


def test_an_old_process_that_does_not_let_go_is_named(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    heir = takeover.Inheritance({}, ours)
    with pytest.raises(takeover.TakeoverError, match="did not let go within"):
        heir.wait(0.05)
    theirs.close()


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"stratum port {port}"):
            async with running(tmp_path, ports=(Port("main", port),)):
                pass


# --- TLS (line 9)


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    cert, key = directory / f"{name}.pem", directory / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


def trusting(cert: Path, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(cert))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_09_tls_and_plain_share_a_port(tmp_path: Path, version: ssl.TLSVersion) -> None:
    cert, key = certificate(tmp_path, "pool")
    async with running(tmp_path / "log", tls_cert_file=cert, tls_key_file=key) as pool:
        secure = await Miner.connect(pool.port(), ssl=trusting(cert, version))
        plain = await pool.connect()
        for miner in (secure, plain):
            await miner.enter(ADDRESS)
            assert (await miner.submit(miner.share()))["result"] is True
        pool.work.new_block()
        for miner in (secure, plain):
            assert (await miner.job(2)).clean
        await secure.send(b"".join(b'{"id":%d,"method":"mining.ping","params":[]}\n' % n for n in range(500, 800)))
        await secure.reply(799)
        await secure.close()
        await plain.close()
        await pool.until(lambda: not pool.server.connections)


async def test_09_a_client_that_does_not_trust_the_certificate_gets_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "pool")
    other, _ = certificate(tmp_path, "other")
    async with running(tmp_path / "log", tls_cert_file=cert, tls_key_file=key) as pool:
        with pytest.raises(ssl.SSLError):
            await Miner.connect(pool.port(), ssl=trusting(other))
        await pool.until(lambda: not pool.server.connections)
        assert len(pool.hub.sessions) == 0


async def test_09_a_tls_port_takes_no_plain_words_and_garbage_after_the_first_byte_is_closed(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "pool")
    ports = (Port("main", 0), Port("tls", 0, tls_only=True))
    async with running(tmp_path / "log", tls_cert_file=cert, tls_key_file=key, ports=ports) as pool:
        async with await pool.connect("tls") as plain:
            await plain.send(b'{"id":1,"method":"mining.subscribe","params":[]}\n')
            await plain.hung_up()
            assert plain.lines == []
        reader, writer = await asyncio.open_connection("127.0.0.1", pool.port())
        writer.write(b"\x16garbage that is no hello\n" * 3)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        secure = await Miner.connect(pool.port("tls"), ssl=trusting(cert))
        await secure.enter(ADDRESS)
        await secure.close()


async def test_09_sighup_brings_the_new_certificate_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "pool")
    other, other_key = certificate(tmp_path, "other")
    async with running(tmp_path / "log", tls_cert_file=cert, tls_key_file=key) as pool:
        old = await Miner.connect(pool.port(), ssl=trusting(cert))
        await old.enter(ADDRESS)
        good = cert.read_bytes()
        cert.write_bytes(b"not a certificate")
        pool.server.reload_tls()
        cert.write_bytes(good)
        still = await Miner.connect(pool.port(), ssl=trusting(cert))
        await still.close()
        cert.write_bytes(other.read_bytes())
        key.write_bytes(other_key.read_bytes())
        pool.server.reload_tls()
        new = await Miner.connect(pool.port(), ssl=trusting(other))
        await new.enter(ADDRESS)
        await old.answered()
        await old.close()
        await new.close()


async def test_09_a_certificate_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("nonsense")
    with pytest.raises((ssl.SSLError, OSError)):
        async with running(tmp_path / "log", tls_cert_file=tmp_path / "bad.pem", tls_key_file=tmp_path / "bad.pem"):
            pass


async def test_connections_that_end_leave_no_cycles_behind(tmp_path: Path) -> None:
    """Memory stays flat over hours of churn without a collector that stops the loop."""
    async with running(tmp_path) as pool:
        gc.collect()
        gc.disable()
        try:
            for number in range(40):
                async with await pool.connect() as miner:
                    if number % 4:
                        await miner.enter(f"{ADDRESS}.{number}")
                    if number % 4 == 2:
                        await miner.submit(miner.share())
                    if number % 4 == 3:
                        await miner.send(b"junk\n" * 12)
                        await miner.hung_up()
            await pool.until(lambda: not pool.server.connections)
            rounds = pool.server.supply.rounds
            pool.work.refresh()  # the last round's list goes too
            await pool.until(lambda: pool.server.supply.rounds > rounds)
            await asyncio.sleep(0.3)  # one circle of the watch, which holds a list of sessions meanwhile
            left = [thing for thing in gc.get_objects() if isinstance(thing, Session | Connection)]
            assert left == []
        finally:
            gc.enable()


# --- a herd


async def test_a_herd_comes_back_at_once_and_everybody_is_served(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:

        async def one(number: int) -> None:
            async with await Miner.connect(pool.port()) as miner:
                await miner.enter(f"{ADDRESS}.{number}")

        async with asyncio.timeout(30):
            await asyncio.gather(*(one(number) for number in range(400)))
        assert pool.hub.totals.refused == 0


def test_settings_of_the_rig_are_those_of_the_pool() -> None:
    assert SETTINGS.authorize_within_s == SETTINGS.no_work_close_s == SETTINGS.send_blocked_s == 60
