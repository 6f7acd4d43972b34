"""The compatibility checklist, transport and handshake: what real firmware sends and needs (lines 1 to 22)."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from pathlib import Path

import pytest

from native.work import VERSION_MASK
from pool.stratum.texts import RESTARTING
from rig.miner import Miner
from rig.stratum import ADDRESS, ADDRESS_2, RigPool, running

#: Each client's first packets, byte by byte as its code writes them (ids, spaces, order).
ESP_MINER = (
    b'{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}\n'
    b'{"id":2,"method":"mining.subscribe","params":["bitaxe/BM1370/v2.15.0"]}\n'
    b'{"id":3,"method":"mining.authorize","params":["%b.axe1","x"]}\n' % ADDRESS.encode()
)
LUCKY_MINER = (
    b'{"id": 1, "method": "mining.subscribe", "params": ["bitaxe/BM1366 (v2.1.8)"]}\n'
    b'{"id": 2, "method": "mining.configure", "params": [["version-rolling"], {"version-rolling.mask": "ffffffff"}]}\n'
    b'{"id": 3, "method": "mining.suggest_difficulty", "params": [1000]}\n'
    b'{"id": 4, "method": "mining.authorize", "params": ["%b.lucky", "x"]}\n' % ADDRESS.encode()
)
NERDQAXE = (
    '{"id": 1, "method": "mining.subscribe", "params": ["NerdOCTAXE-γ/BM1370/v1.0.38"]}\n'
    '{"id": 2, "method": "mining.configure", "params": [["version-rolling"], {"version-rolling.mask": "1fffe000"}]}\n'
    f'{{"id": 3, "method": "mining.authorize", "params": ["{ADDRESS}.nerd", "x"]}}\n'
    '{"id": 4, "method": "mining.suggest_difficulty", "params": [1000]}\n'
    '{"id": 5, "method": "mining.extranonce.subscribe", "params": []}\n'
).encode()
NERDMINER = (
    b'{"id": 1, "method": "mining.subscribe", "params": ["NerdMinerV2/V1.8.3"]}\n'
    b'{"params": ["%b.nm", "x"], "id": 2, "method": "mining.authorize"}\n'
    b'{"id":3,"method":"mining.suggest_difficulty","params":[0.00015]}\n' % ADDRESS.encode()
)
CGMINER = (
    b'{"id": 0, "method": "mining.configure", "params": [["version-rolling"], {"version-rolling.mask": "ffffffff"}]}\n',
    b'{"id": 1, "method": "mining.subscribe", "params": ["cgminer/4.13.6"]}\n',
    b'{"id": 2, "method": "mining.authorize", "params": ["%b", "pass"]}\n' % ADDRESS.encode(),
)
CPUMINER = (
    b'{"id": 1, "method": "mining.subscribe", "params": ["cpuminer/2.5.1"]}\n',
    b'{"id": 2, "method": "mining.authorize", "params": ["%b", "x"]}\n' % ADDRESS.encode(),
)


async def first_write(pool: RigPool, data: bytes) -> list[bytes]:
    """The lines of the first TCP segment that answers `data`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", pool.port())
    try:
        writer.write(data)
        async with asyncio.timeout(5):
            return (await reader.read(1 << 20)).splitlines(keepends=True)
    finally:
        writer.close()
        await writer.wait_closed()


def kinds(lines: list[bytes]) -> list[object]:
    """Ids of replies and names of methods, in order."""
    return [message.get("method", message.get("id")) for message in map(json.loads, lines)]


# --- transport


async def test_01_requests_in_one_segment_or_in_many_are_answered_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        together = await first_write(pool, ESP_MINER)
        assert kinds(together) == [1, 2, 3, "mining.set_difficulty", "mining.notify"]
        rng = random.Random(1)
        async with await pool.connect() as miner:
            miner.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            place = 0
            while place < len(ESP_MINER):
                size = rng.randrange(1, 9)
                await miner.send(ESP_MINER[place : place + size])
                await asyncio.sleep(0)
                place += size
            await miner.job()
            assert kinds(miner.lines) == [1, 2, 3, "mining.set_difficulty", "mining.notify"]


@pytest.mark.parametrize("stream", [ESP_MINER, LUCKY_MINER, NERDQAXE, NERDMINER, b"".join(CGMINER), b"".join(CPUMINER)])
async def test_02_each_message_is_one_line_and_a_batch_is_one_write(tmp_path: Path, stream: bytes) -> None:
    async with running(tmp_path) as pool:
        lines = await first_write(pool, stream)
        requests = stream.count(b"\n")
        assert len(lines) >= requests + 2, "every answer, set_difficulty and notify in the first segment"
        for line in lines:
            assert line.endswith(b"\n")
            assert not line.startswith(b"\xef\xbb\xbf")
            assert line.strip()
            assert line.count(b"\n") == 1
            assert b"\r" not in line
            assert len(line) < 4096
            line.decode("utf-8")


@pytest.mark.parametrize(
    "line",
    [
        b'{"id":7,"method":"mining.suggest_difficulty","params":[5]}\n',
        b'{ "id" : 7 , "method" : "mining.suggest_difficulty" , "params" : [ 5 ] }\r\n',
        b'{"params":[5],"method":"mining.suggest_difficulty","id":7}\n',
        b'{"method":"mining.suggest_difficulty","id":7,"params":[5],"jsonrpc":"2.0"}\r\n',
        b'\t{"id":7,"method":"mining.suggest_difficulty","params":[5]}\t\n',
        b'{"id":7,"method":"mining.sugg\\u0065st_difficulty","params":[5]}\n',
    ],
)
async def test_03_spaces_order_of_keys_and_carriage_returns_do_not_matter(tmp_path: Path, line: bytes) -> None:
    async with running(tmp_path) as pool:
        assert await first_write(pool, line) == [b'{"id":7,"result":true,"error":null}\n']


@pytest.mark.parametrize(
    "id_json",
    [
        *(b"0", b"1", b"4", b"32769", b"65536", b"-1", b"-0", b"1.0", b"1.50", b"1e3", b'"auth"', b'"txlist2a"', b'""'),
        *(b"true", b"9" * 30, b"9" * 4000, b'"\\u00e9\\ud83d"', b'"a\\"b\\\\c"'),
    ],
)
async def test_04_the_id_comes_back_with_the_type_and_value_it_had(tmp_path: Path, id_json: bytes) -> None:
    async with running(tmp_path) as pool:
        lines = await first_write(pool, b'{"id":%b,"method":"mining.ping","params":[]}\n' % id_json)
        assert lines == [b'{"id":%b,"result":"pong","error":null}\n' % id_json]


async def test_05_requests_without_an_id_are_carried_out_in_silence(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        target = "00000000ffff" + "0" * 52
        stream = b'{"id": null, "method": "mining.suggest_target", "params": ["%b"]}\n' % target.encode()
        stream += b'{"method": "mining.suggest_difficulty", "params": [2]}\n'
        stream += b'{"id": null, "method": "mining.nonsense", "params": []}\n'
        stream += b'{"id": 0, "method": "mining.subscribe", "params": ["bfgminer/5.5"]}\n'
        stream += b'{"id": "auth", "method": "mining.authorize", "params": ["%b", "x"]}\n' % ADDRESS.encode()
        lines = await first_write(pool, stream)
        assert kinds(lines) == [0, "auth", "mining.set_difficulty", "mining.notify"]
        assert json.loads(lines[2])["params"] == [1], "the silent suggestion was heard"


async def test_06_a_probe_is_neither_an_error_nor_held_against_its_address(tmp_path: Path) -> None:
    """ESP-Miner on its fallback pool asks the primary each minute: subscribe, authorize, one read, gone."""
    probe = b'{"id":1,"method":"mining.subscribe","params":["bitaxe/BM1370/v2.15.0"]}\n'
    probe += b'{"id":2,"method":"mining.authorize","params":["%b.axe1","x"]}\n' % ADDRESS.encode()
    async with running(tmp_path, max_connections_per_address=4) as pool:
        for _ in range(20):
            lines = await first_write(pool, probe)
            assert b"mining.notify" in lines[0]
        await pool.until(lambda: not pool.server.connections)
        assert pool.hub.totals.dropped == pool.hub.totals.refused == 0
        assert len(pool.hub.door) == 0
        assert len(pool.hub.extranonces) == 0


async def test_06_sockets_keep_themselves_alive_and_send_without_delay(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        connection = next(iter(pool.server.connections))
        accepted = connection.wire.get_extra_info("socket")  # type: ignore[union-attr]
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 45
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 30


async def test_06_an_authorised_connection_may_be_silent_for_hours(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        for _ in range(4):
            pool.clock.skip(3600)
            jobs = len(miner.jobs)
            await miner.job(jobs + 1)
        assert not miner.closed


async def test_07_nobody_waits_a_minute_for_traffic_even_when_the_desk_publishes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        for count in range(2, 6):
            pool.clock.skip(46)
            await miner.job(count)
        assert len({job.job_id for job in miner.jobs}) == 5


async def test_08_shutdown_closes_every_socket_and_a_herd_may_come_back(tmp_path: Path) -> None:
    async with running(tmp_path / "a") as pool:
        herd = [await pool.connect() for _ in range(50)]
        for miner in herd:
            await miner.enter(ADDRESS)
        port = pool.port()
        await pool.server.drain()
        for miner in herd:
            await miner.hung_up()
            await miner.close()
        with pytest.raises(ConnectionRefusedError):
            await Miner.connect(port)
    async with running(tmp_path / "b") as pool:
        streams = await asyncio.gather(*(first_write(pool, ESP_MINER) for _ in range(100)))
        assert all(kinds(lines)[-1] == "mining.notify" for lines in streams)


# --- handshake


@pytest.mark.parametrize("stream", [LUCKY_MINER, NERDQAXE, NERDMINER, b"".join(CPUMINER)])
async def test_10_the_subscribe_reply_is_the_first_line_whatever_else_is_queued(tmp_path: Path, stream: bytes) -> None:
    async with running(tmp_path) as pool:
        assert json.loads((await first_write(pool, stream))[0])["id"] == 1


async def test_10_authorize_before_subscribe_gets_its_work_after_both(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.authorize(ADDRESS)
        rounds = pool.server.supply.rounds
        pool.work.refresh()
        await pool.until(lambda: pool.server.supply.rounds > rounds)
        await miner.subscribe()
        await miner.job()
        assert kinds(miner.lines) == [1, 2, "mining.set_difficulty", "mining.notify"]


async def test_11_the_subscribe_result_has_both_subscriptions_and_the_extranonce(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        line = (await first_write(pool, ESP_MINER))[1]
        message = json.loads(line)
        (difficulty, notify), extranonce1, size = message["result"]
        assert difficulty[0] == "mining.set_difficulty"
        assert notify[0] == "mining.notify"
        assert difficulty[1] == notify[1]
        assert len(bytes.fromhex(notify[1])) >= 8, "at least 64 random bits"
        assert message["error"] is None
        assert b'"error":null' in line
        assert size == 8
        assert extranonce1 == extranonce1.lower()


async def test_12_extranonce1_is_four_bytes_and_nobody_shares_it(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        miners = [await pool.connect() for _ in range(60)]
        for miner in miners:
            await miner.subscribe()
            assert len(miner.extranonce1) == 4
            assert miner.extranonce2_size == 8
        assert len({miner.extranonce1 for miner in miners}) == 60
        assert len({miner.session_id for miner in miners}) == 60
        for miner in miners:
            await miner.close()


@pytest.mark.parametrize(
    "params",
    [
        [],
        ["cgminer/4.13.6"],
        ["cgminer/4.13.6", "00ff00ff"],
        ["ua", None, "pool.example", 3333],
        ["NerdHaxe-γ (rev 2) / x"],
        ["x" * 300],
        [None],
        [7],
        [["ua"]],
        ["ua", "s" * 500],
        ["ua", 5],
        ["\x00\x1b[31m\ud800"],
    ],
)
async def test_13_any_user_agent_and_any_session_id_may_subscribe(tmp_path: Path, params: list[object]) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        reply = await miner.ask("mining.subscribe", params)
        assert reply["error"] is None
        assert (await miner.authorize(ADDRESS))["result"] is True
        await miner.job()
        session = next(iter(pool.hub.sessions))
        assert len(session.agent) <= 128
        assert session.agent.isprintable()


async def test_13_a_second_subscribe_gets_the_same_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        first = await miner.subscribe()
        assert (await miner.subscribe())["result"] == first["result"]


@pytest.mark.parametrize(
    ("params", "result", "mask"),
    [
        (
            [["version-rolling"], {"version-rolling.mask": "ffffffff"}],
            {"version-rolling": True, "version-rolling.mask": "1fffe000"},
            VERSION_MASK,
        ),
        (
            [["version-rolling"], {"version-rolling.mask": "00C0E000", "version-rolling.min-bit-count": 2}],
            {"version-rolling": True, "version-rolling.mask": "00c0e000"},
            0x00C0E000,
        ),
        ([["version-rolling"]], {"version-rolling": True, "version-rolling.mask": "1fffe000"}, VERSION_MASK),
        ([["version-rolling"], {"version-rolling.mask": "00001000"}], {"version-rolling": False}, VERSION_MASK),
        ([["version-rolling"], {"version-rolling.mask": "zz"}], {"version-rolling": False}, VERSION_MASK),
        ([["version-rolling"], {"version-rolling.mask": -1}], {"version-rolling": False}, VERSION_MASK),
        (
            [["version-rolling"], {"version-rolling.mask": "00006000", "version-rolling.min-bit-count": 16}],
            {"version-rolling": False},
            VERSION_MASK,
        ),
        (
            [
                ["version-rolling", "minimum-difficulty", "subscribe-extranonce", "info", "warp-drive"],
                {
                    "version-rolling.mask": "1fffe000",
                    "version-rolling.min-bit-count": 16,
                    "minimum-difficulty.value": 0.25,
                    "info.hw-version": "S21",
                },
            ],
            {
                "version-rolling": True,
                "version-rolling.mask": "1fffe000",
                "minimum-difficulty": True,
                "subscribe-extranonce": True,
                "info": True,
                "warp-drive": False,
            },
            VERSION_MASK,
        ),
        ([["minimum-difficulty"], {"minimum-difficulty.value": "many"}], {"minimum-difficulty": False}, VERSION_MASK),
        ([["minimum-difficulty"], {}], {"minimum-difficulty": False}, VERSION_MASK),
        ([[], {}], {}, VERSION_MASK),
        ([[7, None, 'x"y'], "?"], {'x"y': False}, VERSION_MASK),
    ],
)
async def test_14_configure_grants_what_it_knows_and_says_false_to_the_rest(
    tmp_path: Path, params: list[object], result: dict[str, object], mask: int
) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        reply = await miner.ask("mining.configure", params)
        assert reply == {"id": 1, "result": result, "error": None}
        assert next(iter(pool.hub.sessions)).channel.version_mask == mask


async def test_14_configure_comes_first_last_or_never(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        for order in ([0, 1, 2], [1, 0, 2], [1, 2, 0], [1, 2]):
            async with await pool.connect() as miner:
                for step in order:
                    await miner.send(CGMINER[step])
                    await miner.reply(step)
                job = await miner.job()
                miner.user = ADDRESS
                # Bits inside 1fffe000 are taken without a configure too: ESP-Miner rolls even when refused.
                miner.extranonce1 = bytes.fromhex(miner.replies(1)[0]["result"][1])
                miner.extranonce2_size = 8
                job = miner.jobs[-1] = type(job)(
                    **{name: getattr(job, name) for name in job.__slots__} | {"extranonce1": miner.extranonce1}
                )
                assert (await miner.submit(miner.share(bits=0x00C0A000)))["result"] is True


async def test_14_minimum_difficulty_is_a_floor(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.ask("mining.configure", [["minimum-difficulty"], {"minimum-difficulty.value": 0.25}])
        await miner.enter(ADDRESS)
        assert miner.difficulties == [0.25]


async def test_15_nothing_is_pushed_before_the_authorize_reply(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.configure()
        await miner.subscribe()
        pool.work.refresh()
        pool.work.new_block()
        pool.server.tell_all(RESTARTING)
        pool.clock.skip(50)
        rounds = pool.server.supply.rounds
        pool.work.refresh()
        await pool.until(lambda: pool.server.supply.rounds > rounds)
        await miner.answered()
        assert all("method" not in message for message in miner.messages)
        await miner.authorize(ADDRESS)
        await miner.job()


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ("maria", "Invalid Bitcoin address"),
        ("", "No user name: use your Bitcoin address"),
        (None, "No user name: use your Bitcoin address"),
        ("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq.x", "Mainnet address: this pool mines on a test network"),
    ],
)
async def test_16_a_bad_user_is_told_by_authorize_and_by_each_share_and_stays(
    tmp_path: Path, user: object, text: str
) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.subscribe()
        reply = await miner.ask("mining.authorize", [user, "x"])
        assert reply["result"] is False
        assert reply["error"] == [20, text, None]
        await miner.job()
        miner.user = "maria"
        for _ in range(3):
            assert (await miner.submit(miner.share()))["error"] == [24, text, None]
        pool.clock.skip(400)
        await miner.answered()
        assert not miner.closed
        assert (await miner.authorize(ADDRESS))["result"] is True
        miner.user = ADDRESS
        assert (await miner.submit(miner.share()))["result"] is True, "corrected on the same connection"


async def test_17_authorize_reply_difficulty_and_clean_job_leave_in_one_write(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        reader, writer = await asyncio.open_connection("127.0.0.1", pool.port())
        for request, ids in zip(CGMINER, ([0], [1], [2, "mining.set_difficulty", "mining.notify"]), strict=True):
            writer.write(request)
            async with asyncio.timeout(5):
                lines = (await reader.read(1 << 20)).splitlines(keepends=True)
            assert kinds(lines) == ids
        assert json.loads(lines[2])["params"][-1] is True
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("value", [1000, 0.00015, 0, -5, 1e300, 10**400, "512", "0.5", 2**70])
async def test_18_any_suggestion_is_answered_true_and_clamped(tmp_path: Path, value: object) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.subscribe()
        reply = await miner.ask("mining.suggest_difficulty", [value])
        if value == 10**400:
            assert reply["error"][0] == 20
        else:
            assert reply["result"] is True
        await miner.authorize(ADDRESS)
        await miner.job()
        assert 2**-16 <= miner.difficulties[0] <= 1.0, "the network's difficulty is 1 here"


@pytest.mark.parametrize("params", [[], [None], ["many"], [[1]], [{}], [True], {}])
async def test_18_a_suggestion_that_is_no_number_is_an_error_and_nothing_else(tmp_path: Path, params: object) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        assert (await miner.ask("mining.suggest_difficulty", params))["error"][0] == 20  # type: ignore[arg-type]
        await miner.enter(ADDRESS)


async def test_18_a_nerdminer_that_repeats_its_suggestion_every_30_s_resets_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.subscribe("NerdMinerV2/V1.8.3")
        await miner.ask("mining.suggest_difficulty", [0.00015])
        await miner.authorize(ADDRESS)
        await miner.job()
        session = next(iter(pool.hub.sessions))
        assert session.pace is not None
        for _ in range(3):
            assert (await miner.submit(miner.share(difficulty=0.00015)))["result"] is True
        await pool.until(lambda: session.pace.proved)
        session.pace.difficulty = 0.01  # what vardiff had learnt meanwhile
        before = len(miner.jobs), session.pace.since_s
        for _ in range(20):
            assert (await miner.ask("mining.suggest_difficulty", [0.00015]))["result"] is True
        assert (len(miner.jobs), session.pace.since_s) == before, "no storm of notifies, no new beginning"
        assert session.pace.difficulty == 0.01
        assert session.wanted is None or session.wanted[0] != 0.00015


async def test_18_a_first_suggestion_after_the_first_job_counts_and_goes_out_at_once_when_far_off(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        await miner.ask("mining.suggest_difficulty", [0.01])
        second = await miner.job(2)
        assert miner.difficulties[-1] == 0.01
        assert not second.clean
        assert second.coinb1 != miner.jobs[0].coinb1, "unique work"
        await miner.ask("mining.suggest_difficulty", [0.5])
        await miner.answered()
        assert len(miner.jobs) == 2


async def test_19_extranonce_subscribe_is_true_as_often_as_it_comes(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        for _ in range(4):
            assert await miner.ask("mining.extranonce.subscribe", [], id_value=5) == {
                "id": 5,
                "result": True,
                "error": None,
            }


async def test_20_unknown_requests_are_errors_and_answers_get_no_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        for method in ("mining.warp", "", "client.get_version", "x" * 500, "mining.multi_version"):
            assert (await miner.ask(method, []))["error"][0] == 20
        before = len(miner.messages)
        await miner.send(b'{"id":77,"method":"pong","params":[]}\n')
        await miner.send(
            b'{"id":78,"result":true,"error":null}\n{"id":79}\n{"id":80,"result":"v2.15.0","error":null}\n'
        )
        await miner.answered()
        assert len(miner.messages) == before + 1
        assert not miner.closed


@pytest.mark.parametrize("method", ["mining.get_transactions", "mining.get_version", "mining.get_txnhashes"])
async def test_21_probes_get_an_error_and_the_connection_stays(tmp_path: Path, method: str) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        reply = await miner.ask(method, ["2a"], id_value="txlist2a")
        assert reply["error"][0] == 20
        assert reply["error"][2] is None
        assert (await miner.submit(miner.share()))["result"] is True


@pytest.mark.parametrize("suffix", ["", ".worker", ".wor.ker", "_w", "/w", "." + "w" * 80])
async def test_22_user_names_in_every_form_mine(tmp_path: Path, suffix: str) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS.upper() + suffix)
        assert (await miner.submit(miner.share()))["result"] is True
        assert next(iter(pool.hub.sessions)).account == ADDRESS


@pytest.mark.parametrize("password", ["x", "", None, "d=nonsense", 5, {"a": 1}])
async def test_22_passwords_open_nothing_and_block_nothing(tmp_path: Path, password: object) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.subscribe()
        params = [ADDRESS] if password is None else [ADDRESS, password]
        assert (await miner.ask("mining.authorize", params))["result"] is True
        await miner.job()


async def test_22_devices_of_one_address_and_one_worker_name_mine_side_by_side(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        miners = [await pool.connect() for _ in range(5)]
        for miner in miners:
            await miner.enter(ADDRESS + ".same")
        for miner in miners:
            assert (await miner.submit(miner.share()))["result"] is True
            await miner.close()


async def test_44_several_users_share_a_link_and_strangers_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS + ".a")
        assert (await miner.authorize(ADDRESS_2 + ".b"))["result"] is True
        await miner.answered()
        assert len(miner.jobs) == 1, "a second user is no reason for new work"
        assert (await miner.submit(miner.share(user=ADDRESS + ".a")))["result"] is True
        assert (await miner.submit(miner.share(user=ADDRESS_2 + ".b")))["result"] is True
        assert (await miner.submit(miner.share(user=ADDRESS_2 + ".c")))["error"] == [24, "Unauthorized worker", None]
        bad = await miner.authorize("maria")
        assert bad["error"][1] == "Invalid Bitcoin address"
        assert (await miner.submit(miner.share()))["result"] is True, "a second, bad user spoils nothing"
        for number in range(14):
            assert (await miner.authorize(f"{ADDRESS}.{number}"))["result"] is True
        assert (await miner.authorize(f"{ADDRESS}.one_too_many"))["error"][1] == "Too many users on one connection"
        assert (await miner.authorize(f"{ADDRESS}.3"))["result"] is True, "again is no new user"
