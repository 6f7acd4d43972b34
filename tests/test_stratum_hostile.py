"""Whatever a stranger sends costs bounded memory and time, never a crash, never somebody else's connection (P7)."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.stratum import messages
from pool.stratum.messages import Answer, Request, Unreadable
from rig.miner import Miner
from rig.stratum import ADDRESS, RigPool, running

#: (line, whether its sender, who has subscribed, is still connected afterwards)
ODD_LINES = [
    b"[]",
    b"[{}]",
    b'[{"id":1,"method":"mining.subscribe","params":[]},{"id":2,"method":"mining.ping"}]',
    b"null",
    b"7",
    b'"mining.subscribe"',
    b"true",
    b"{",
    b"}{",
    b"NaN",
    b'{"id":NaN,"method":"mining.ping"}',
    b'{"id":1,"method":7}',
    b'{"id":1,"method":null}',
    b'{"id":1,"method":["mining.ping"]}',
    b'{"id":[1],"method":"mining.ping"}',
    b'{"id":{"a":1},"method":"mining.ping"}',
    b'{"id":1,"method":"mining.ping","params":7}',
    b'{"id":1,"method":"mining.ping","params":{"a":1}}',
    b'{"id":1,"id":2,"method":"mining.ping","params":[]}',
    b"[" * 8000,
    b'{"id":1,"method":"mining.ping","params":' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"id":' + b"7" * 4000 + b',"method":"mining.ping"}',
    b'{"id":1e99999,"method":"mining.ping"}',
    b"\xff\xfe\x00",
    b'{"id":1,"method":"\xff"}',
    b'\xef\xbb\xbf{"id":1,"method":"mining.ping"}',
    b'{"id":1,"method":"mining.submit","params":[1,2,3,4,5]}',
    b'{"id":1,"method":"mining.submit","params":["a","b","c","d","e",{"f":1}]}',
    b'{"id":1,"method":"mining.submit","params":{"a":1}}',
    b'{"id":1,"method":"mining.submit"}',
    b'{"id":1,"method":"mining.authorize","params":[["a"],{}]}',
    b'{"id":1,"method":"mining.configure","params":["version-rolling"]}',
    b'{"id":1,"method":"mining.configure","params":[{"a":1},[]]}',
    b'{"id":1,"method":"mining.suggest_target","params":["xyz"]}',
    b'{"id":1,"method":"mining.suggest_target","params":["' + b"0" * 64 + b'"]}',
    b'{"id":1,"method":"mining.suggest_target","params":["' + b"f" * 65 + b'"]}',
]


async def still_mines(pool: RigPool, miner: Miner) -> None:
    count = len(miner.jobs)
    pool.work.refresh()
    await miner.job(count + 1)
    assert (await miner.submit(miner.share()))["result"] is True


@pytest.mark.parametrize("line", ODD_LINES, ids=lambda line: repr(line[:40]))
async def test_an_odd_line_gets_one_error_at_most_and_the_miner_mines_on(tmp_path: Path, line: bytes) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        before = len(miner.messages)
        await miner.send(line + b"\n")
        await miner.answered()
        answers = miner.messages[before:-1]
        assert len(answers) <= 1
        for answer in answers:
            assert set(answer) == {"id", "result", "error"}
        await still_mines(pool, miner)


@given(st.binary(max_size=200))
def test_any_bytes_are_understood_as_one_of_three_things(line: bytes) -> None:
    assert isinstance(messages.read(line), Request | Answer | Unreadable)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
METHODS = [
    "mining.subscribe",
    "mining.configure",
    "mining.authorize",
    "mining.submit",
    "mining.suggest_difficulty",
    "mining.suggest_target",
    "mining.extranonce.subscribe",
    "mining.get_transactions",
    "mining.multi_version",
    "mining.ping",
    "mining.unheard_of",
]


@given(st.lists(st.tuples(st.sampled_from(METHODS), json_values, json_values), max_size=12))
def test_any_params_of_any_method_are_answered_once_each_in_order(requests: list[tuple[str, object, object]]) -> None:
    """Over a real session without a socket: nothing raises, each request with an id has one answer with the same id."""
    from rig.stratum import lone_session

    with lone_session() as session:
        for method, id_value, params in requests:
            line = json.dumps({"id": id_value, "method": method, "params": params}).encode()
            left = session.channel.feed(line + b"\n", 1)
            if left is not None:
                session.hear(left)
            out = session.channel.take()
            answers = [json.loads(text) for text in out.splitlines() if b'"method"' not in text]
            bare = id_value is None or isinstance(id_value, list | dict) or "NaN" in repr(line) or b"Infinity" in line
            if not bare and not (method == "mining.submit" and b"\\" in line):
                assert len(answers) == 1, (line, out)
                assert answers[0]["id"] == id_value


async def test_a_line_too_long_ends_the_connection_with_a_word_and_bounded_memory(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner, await pool.connect() as other:
        await other.enter(ADDRESS)
        await miner.send(b"x" * 9000)
        await miner.hung_up()
        assert b"too long" in miner.lines[-1]
        await still_mines(pool, other)


async def test_a_megabyte_in_one_line_is_not_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        try:
            for _ in range(64):
                await miner.send(b'{"id":1,"method":"' + b"x" * 16_384)
        except ConnectionError:
            pass
        await miner.hung_up()
        await pool.until(lambda: not pool.server.connections)


async def test_half_a_line_may_wait_and_costs_nobody_anything(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as slow, await pool.connect() as other:
        await slow.enter(ADDRESS)
        await other.enter(ADDRESS)
        share = json.dumps({"id": 9, "method": "mining.submit", "params": slow.share().params}).encode()
        await slow.send(share[:50])
        pool.clock.skip(600)
        await still_mines(pool, other)
        await slow.send(share[50:] + b"\n")
        assert (await slow.reply(9))["result"] is True


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\nHost: pool\r\n\r\n", b"\x00\x01\x02\n", b"SSH-2.0-x\r\n"])
async def test_another_protocol_is_told_and_shown_out(tmp_path: Path, first: bytes) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.send(first)
        await miner.hung_up()
        assert json.loads(miner.lines[0])["error"][1] == "Not JSON"


async def test_a_tls_hello_on_a_pool_without_certificate_is_closed(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.send(b"\x16\x03\x01\x02\x00\x01")
        await miner.hung_up()
        assert miner.lines == []


async def test_one_hostile_stream_never_touches_another_connection(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with running(tmp_path) as pool, await pool.connect() as good:
        await good.enter(ADDRESS)
        for _ in range(25):
            async with await pool.connect() as bad:
                noise = b"".join(
                    rng.choice(ODD_LINES) + b"\n" if rng.random() < 0.7 else rng.randbytes(rng.randrange(60))
                    for _ in range(rng.randrange(1, 30))
                )
                try:
                    await bad.send(noise)
                except ConnectionError:
                    continue
        await still_mines(pool, good)
        await pool.until(lambda: len(pool.server.connections) == 1)
        assert len(pool.hub.sessions) == len(pool.hub.extranonces) == len(pool.hub.by_id) == 1


async def test_too_many_messages_are_slowed_down_not_dropped(tmp_path: Path) -> None:
    async with (
        running(tmp_path, messages_per_s=50.0) as pool,
        await pool.connect() as miner,
        await pool.connect() as other,
    ):
        await other.enter(ADDRESS)
        await miner.subscribe()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await miner.send(b"".join(b'{"id":%d,"method":"mining.ping","params":[]}\n' % n for n in range(1000, 1160)))
        await still_mines(pool, other)
        await miner.reply(1159, wait_s=10)
        assert [m["id"] for m in miner.messages if isinstance(m["id"], int) and m["id"] >= 1000] == list(
            range(1000, 1160)
        )
        assert loop.time() - began > 0.9, "100 saved up, the other 60 at 50 a second"


async def test_messages_of_one_address_are_counted_together(tmp_path: Path) -> None:
    async with running(tmp_path, messages_per_s=1000.0, messages_per_s_per_address=50.0) as pool:
        miners = [await pool.connect() for _ in range(4)]
        loop = asyncio.get_running_loop()
        began = loop.time()
        for miner in miners:
            await miner.send(b"".join(b'{"id":%d,"method":"mining.ping","params":[]}\n' % n for n in range(40)))
        for miner in miners:
            await miner.reply(39, wait_s=15)
            await miner.close()
        assert loop.time() - began > 0.9


async def test_a_peer_that_does_not_read_is_dropped_after_a_minute_and_buffers_little(tmp_path: Path) -> None:
    # Without a limit on messages, so that nothing but the full buffer stops us from reading.
    async with running(tmp_path, messages_per_s=1e7, messages_per_s_per_address=1e7) as pool:
        reader, writer = await asyncio.open_connection("127.0.0.1", pool.port(), limit=1024)
        writer.transport.pause_reading()
        ping = b'{"id":"%s","method":"mining.ping","params":[]}\n' % (b"x" * 4000)
        connection = next(iter(pool.server.connections), None)
        await pool.until(lambda: pool.server.connections)
        connection = next(iter(pool.server.connections))

        async def pour() -> None:
            while True:
                writer.write(ping * 20)
                await writer.drain()

        task = asyncio.create_task(pour())
        await pool.until(lambda: connection.blocked, 10, "the send buffer to fill")
        transport = connection.wire
        assert transport is not None
        assert transport.get_write_buffer_size() < 1 << 20  # type: ignore[attr-defined]
        pool.clock.skip(61)
        await pool.until(lambda: not pool.server.connections, what="the peer to be dropped")
        assert pool.hub.totals.blocked == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.transport.abort()
        assert reader is not None
