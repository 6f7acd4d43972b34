"""The compatibility checklist, jobs, difficulty and shares (lines 23 to 46), and what a job may ever be credited."""

from __future__ import annotations

import asyncio
import json
import math
import random
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.channel import Channel
from native.difficulty import target_of_difficulty
from native.hashing import header_hash
from native.sharelog import ShareLog
from native.work import VERSION_MASK
from pool.config import VardiffSection
from pool.dev.fleet.job import MinerJob
from pool.records import SHARE_ROW, SOLO, RowKind, Verdict
from rig.miner import Miner
from rig.stratum import ADDRESS, TINY, RigPool, running
from rig.work import RigWork

HEX = set("0123456789abcdef")


def session_of(pool: RigPool) -> object:
    return next(iter(pool.hub.sessions))


def share_rows(pool: RigPool) -> np.ndarray:
    rows = np.frombuffer(pool.rows(), dtype=SHARE_ROW)
    return rows[rows["kind"] == RowKind.SHARE]


# --- jobs


async def test_23_a_notify_has_nine_params_of_the_exact_types(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        params = next(m["params"] for m in miner.messages if m.get("method") == "mining.notify")
        assert len(params) == 9
        job_id, prevhash, coinb1, coinb2, branches, version, nbits, ntime, clean = params
        assert all(
            isinstance(text, str) for text in (job_id, prevhash, coinb1, coinb2, version, nbits, ntime, *branches)
        )
        assert clean is True
        assert len(prevhash) == 64
        assert all(len(text) == 8 and set(text) <= HEX for text in (version, nbits, ntime))
        assert set(coinb1 + coinb2 + prevhash) <= HEX
        internal = pool.work.jobs.tip
        words = struct.pack(">8I", *struct.unpack("<8I", internal))
        assert prevhash == words.hex(), "each 4-byte word turned round, nothing else"


async def test_24_clean_is_true_for_the_first_job_and_for_a_new_block_only(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        for step, command in enumerate(
            (pool.work.refresh, pool.work.new_block, pool.work.refresh, pool.work.new_block)
        ):
            command()
            await miner.job(step + 2)
        assert [job.clean for job in miner.jobs] == [True, False, True, False, True]


async def test_24_a_reorg_of_equal_height_is_a_new_block(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        pool.work.reorg_to(b"\x11" * 28 + bytes(4), pool.work.height)
        assert (await miner.job(2)).clean


async def test_25_job_ids_are_short_hex_and_never_come_again(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        for count in range(2, 40):
            (pool.work.new_block if count % 7 == 0 else pool.work.refresh)()
            await miner.job(count)
        ids = [job.job_id for job in miner.jobs]
        assert len(set(ids)) == len(ids)
        assert all(0 < len(text) <= 16 and set(text) <= HEX for text in ids)


async def test_26_no_two_notifies_describe_the_same_header_space(tmp_path: Path) -> None:
    """Whatever brings them: refresh, brake, silence, a late suggestion, a reject storm."""
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        session = next(iter(pool.hub.sessions))
        for _ in range(5):
            pool.server.supply.deliver(session)  # nothing new was published: a variant
        pool.work.refresh()
        await miner.job(7)
        pool.clock.skip(46)
        await miner.job(8)
        spaces = {(job.coinb1, job.coinb2, job.prevhash, job.branches, job.ntime) for job in miner.jobs}
        assert len(spaces) == len(miner.jobs)
        assert len({(job.coinb1, job.coinb2) for job in miner.jobs}) == len(miner.jobs), "unique without ntime too"


async def test_26_a_share_under_two_job_ids_is_paid_once(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        share = miner.share()
        assert (await miner.submit(share))["result"] is True
        pool.work.refresh()
        second = await miner.job(2)
        fields = share.params
        fields[1] = second.job_id
        reply = await miner.ask("mining.submit", list(fields))
        assert reply["result"] is not True, "another job is another header: not the same work"
        for twin in (share.params, [p.upper() if i else p for i, p in enumerate(share.params)]):
            assert (await miner.ask("mining.submit", list(twin)))["error"][0] in (21, 22)
        assert len(share_rows(pool)) == 1


async def test_27_the_version_has_no_bit_inside_the_mask(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        assert (await miner.enter(ADDRESS)).version & VERSION_MASK == 0


async def test_31_extranonce1_never_changes_within_a_session(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        await miner.ask("mining.extranonce.subscribe", [])
        for count in range(2, 6):
            pool.work.new_block()
            await miner.job(count)
        assert not any(m.get("method") == "mining.set_extranonce" for m in miner.messages)


async def test_32_jobs_of_the_same_block_stay_good_for_ten_minutes_of_refreshes(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        first = await miner.enter(ADDRESS)
        for count in range(2, 23):  # 20 refreshes of 30 s
            pool.work.refresh()
            await miner.job(count)
        assert (await miner.submit(miner.share(first)))["result"] is True
        pool.work.new_block()
        await miner.job(23)
        late = await miner.submit(miner.share(first))
        assert late["error"] == [21, "Stale", None]
        assert not miner.closed


# --- difficulty


async def test_33_difficulties_from_one_up_are_whole_numbers(tmp_path: Path) -> None:
    work = RigWork(network_difficulty=1e6)
    async with running(tmp_path, work=work) as pool:
        for asked, sent in ((1234.56, b"1234"), (1.99, b"1"), (0.00015, b"0.00015"), (0.5, b"0.5")):
            async with await pool.connect() as miner:
                await miner.enter(ADDRESS, f"d={asked}")
                line = next(line for line in miner.lines if b'"method":"mining.set_difficulty"' in line)
                assert line == b'{"id":null,"method":"mining.set_difficulty","params":[%b]}\n' % sent


async def test_34_every_set_difficulty_is_followed_by_its_notify_in_the_same_write(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        for count, asked in enumerate((0.001, 0.002, 0.004), 2):
            await miner.authorize(ADDRESS, f"d={asked}")
            pool.work.refresh()
            await miner.job(count)
        methods = [m["method"] for m in miner.messages if "method" in m]
        for index, method in enumerate(methods):
            if method == "mining.set_difficulty":
                assert methods[index + 1] == "mining.notify"
        assert all(difficulty > 0 for difficulty in miner.difficulties)
        assert miner.difficulties[1:] == [0.001, 0.002, 0.004]


async def test_35_a_share_is_judged_and_credited_only_at_what_its_job_was_sent_with(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        easy = await miner.enter(ADDRESS)
        await miner.authorize(ADDRESS, "d=0.0005")
        pool.work.refresh()
        hard = await miner.job(2)
        await miner.authorize(ADDRESS, "d=0.00003")
        pool.work.refresh()
        await miner.job(3)
        assert [job.assigned for job in miner.jobs] == [easy.assigned, 0.0005, 0.00003]
        assert (await miner.submit(miner.share(easy)))["result"] is True, "found before the raise, sent after it"
        weak = miner.share(hard, difficulty=0.00003, below=0.0005)
        assert (await miner.submit(weak))["error"][0] == 23, "the cut does not make old work easier"
        lucky = miner.share(easy, difficulty=0.001)
        assert (await miner.submit(lucky))["result"] is True
        assert [float(d) for d in share_rows(pool)["difficulty"]] == [easy.assigned, easy.assigned]


def test_36_a_share_exactly_on_the_target_is_valid_and_one_above_is_not(tmp_path: Path) -> None:
    """Equal meets. The target is set to a found share's own hash as nearly as a double can."""
    work = RigWork()
    with ShareLog(str(tmp_path), segment_bytes=1 << 20) as log:
        channel = Channel(work.jobs, log, b"\1\2\3\4", lambda found: None)
        channel.authorize(b"u", log.account("a", 1), 1)
        job = work.job_for("ledger", "")
        assert job is not None
        hashes = []
        for nonce in range(20_000):
            header = job.header(b"\1\2\3\4", bytes(8), job.ntime, nonce, 0)
            hashes.append((int.from_bytes(header_hash(header), "little"), nonce))
        number, nonce = min(hashes)
        meets = misses = 0xFFFF * 2**208 / number
        while target_of_difficulty(meets) < number:
            meets = math.nextafter(meets, 0)
        while target_of_difficulty(misses) >= number:
            misses = math.nextafter(misses, math.inf)
        assert misses <= meets * (1 + 2**-51), "two neighbouring doubles, one on each side"
        verdicts = []
        for difficulty in (misses, meets):
            channel.send_job(job, difficulty, False)
            verdicts.append(
                channel.submit(b"1", "u", job.job_id_hex, "00" * 8, f"{job.ntime:08x}", f"{nonce:08x}", None, 1)
            )
        assert verdicts == [Verdict.LOW_DIFFICULTY, Verdict.ACCEPTED]


# --- shares


@pytest.mark.parametrize("bits", [None, 0, 0x2000, 0x1FFFE000, 0x00C0A000])
async def test_39_five_and_six_params_are_shares(tmp_path: Path, bits: int | None) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        assert (await miner.submit(miner.share(bits=bits)))["result"] is True


async def test_39_hex_of_any_case_and_length_up_to_eight_and_no_prefix(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        share = miner.share(bits=0x2000)
        user, job_id, extranonce2, ntime, nonce, bits = share.params
        forms = [
            ([user, job_id, extranonce2, ntime, "0x" + nonce[2:], bits], 20),
            ([user, job_id, extranonce2, ntime, "0" + nonce, bits], 20),
            ([user, job_id, extranonce2, ntime, "", bits], 20),
            ([user, job_id, extranonce2[:-2], ntime, nonce, bits], 20),
            ([user, job_id, extranonce2 + "00", ntime, nonce, bits], 20),
            ([user, job_id, extranonce2, ntime, nonce, "zz"], 20),
            ([user, job_id, extranonce2, ntime, int(nonce, 16), bits], 20),
            ([user, None, extranonce2, ntime, nonce, bits], 20),
            ([user, job_id, extranonce2, ntime], 20),
            ([], 20),
        ]
        for params, code in forms:
            reply = await miner.ask("mining.submit", params)
            assert reply["error"][0] == code, params
        plain = [user, job_id.upper(), extranonce2.upper(), ntime.upper(), f"{share.nonce:X}", f"{share.bits:x}"]
        assert (await miner.ask("mining.submit", plain))["result"] is True


async def test_40_bits_outside_the_granted_mask_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.subscribe()
        await miner.configure("0000e000")
        await miner.authorize(ADDRESS)
        await miner.job()
        assert (await miner.submit(miner.share(bits=0x00006000)))["result"] is True
        assert (await miner.submit(miner.share(bits=0x00010000)))["error"] == [20, "Invalid version mask", None]
        assert (await miner.submit(miner.share(bits=0x00000001)))["error"] == [20, "Invalid version mask", None]


async def test_41_and_42_every_submit_is_answered_in_order_in_the_known_form(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        good, low = miner.share(), miner.low_share()
        lines = [
            json.dumps({"id": 100 + n, "method": "mining.submit", "params": s.params})
            for n, s in enumerate((good, low, good))
        ]
        before = len(miner.lines)
        await miner.send("\n".join(lines).encode() + b"\n")
        await miner.reply(102)
        assert miner.lines[before:] == [
            b'{"id":100,"result":true,"error":null}\n',
            b'{"id":101,"result":false,"error":[23,"Low difficulty share",null]}\n',
            b'{"id":102,"result":false,"error":[22,"Duplicate share",null]}\n',
        ]


async def test_43_duplicates_alone_never_end_a_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        share, session = miner.share(), next(iter(pool.hub.sessions))
        await miner.submit(share)
        for _ in range(12):
            for _ in range(20):
                assert (await miner.submit(share))["error"][0] == 22
            pool.clock.skip(31)
            due_s = session.look_s
            await pool.until(lambda due_s=due_s: session.look_s > due_s, what="the watch to come by")
        await miner.answered()
        assert not miner.closed
        assert len(share_rows(pool)) == 1


async def test_45_cpuminer_submits_everything_under_id_4(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        shares = [miner.share(bits=None) for _ in range(5)]
        stream = "".join(
            f'{{"method": "mining.submit", "params": {json.dumps(share.params)}, "id":4}}\n' for share in shares
        )
        await miner.send(stream.encode())
        await miner.reply(4, nth=5)
        assert [m["result"] for m in miner.replies(4)][-5:] == [True] * 5


async def test_46_a_block_is_handed_over_before_its_reply_also_when_stale_or_by_a_stranger(tmp_path: Path) -> None:
    async with running(tmp_path, work=RigWork(network_difficulty=2.0**-14)) as pool, await pool.connect() as miner:
        job = await miner.enter(ADDRESS)
        block = miner.share(block=True)
        assert (await miner.submit(block))["result"] is True
        assert len(pool.found) == 1
        assert pool.found[0].header == block.header
        await miner.submit(miner.share(block=True, user="stranger"))
        assert len(pool.found) == 2
        pool.work.new_block()
        await miner.job(2)
        assert (await miner.submit(miner.share(job, block=True)))["error"][1] == "Stale"
        assert len(pool.found) == 3
        assert pool.found[2].stale


# --- what a job may ever be credited (instead of line 35)


@settings(max_examples=30)
@given(
    plan=st.lists(
        st.one_of(
            st.tuples(st.just("d"), st.floats(2**-18, 2**-8)),
            st.tuples(st.just("job"), st.just(0.0)),
            st.tuples(st.just("suggest"), st.floats(2**-18, 2**-8)),
            st.tuples(st.just("submit"), st.floats(0, 1)),
        ),
        min_size=5,
        max_size=40,
    ),
    seed=st.integers(0, 2**32),
)
def test_withholding_and_toggling_never_earns_more_than_one_credit_per_hash(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[str, float]], seed: int
) -> None:
    """An adversary hashes, keeps what it finds, moves its difficulty about and submits whenever it likes, as often
    as it likes.

    Expectation, exactly: a hash on a job assigned D is credited work(D) = 2^256 // (T+1) with probability
    (T+1)/2^256, whatever
    happens between finding and submitting, so at most 1 credit per hash. Each submitted share is checked to be
    credited so.
    """
    rng = random.Random(seed)
    work = RigWork()
    directory = tmp_path_factory.mktemp("log")
    with ShareLog(str(directory), segment_bytes=1 << 20) as log:
        channel = Channel(work.jobs, log, b"\1\2\3\4", lambda found: None)
        account = log.account("adversary", 1)
        channel.authorize(b"u", account, log.worker(account, "", 1))
        assigned: dict[int, float] = {}
        hoard: list[tuple[int, int, int]] = []  # job id, nonce, hash
        wish, credited_once = 2.0**-16, set[int]()

        def send() -> None:
            job = work.variant(work.job_for("ledger", ""))  # type: ignore[arg-type]
            channel.send_job(job, wish, False)
            assigned[job.job_id] = wish
            for nonce in (rng.randrange(2**32) for _ in range(400)):  # 400 hashes on it, all kept
                header = job.header(b"\1\2\3\4", bytes(8), job.ntime, nonce, 0)
                hoard.append((job.job_id, nonce, int.from_bytes(header_hash(header), "little")))

        send()
        for action, value in plan:
            if action == "d":
                wish = value
            elif action == "job":
                send()
            elif action == "suggest":
                wish = value
                send()
            else:
                hoard.sort(key=lambda kept: kept[2])
                job_id, nonce, number = hoard[int(value * min(len(hoard) - 1, 20))]
                job = work.jobs.get(job_id)
                assert job is not None
                before = channel.credited_work
                verdict = channel.submit(
                    b"1", "u", job.job_id_hex, "00" * 8, f"{job.ntime:08x}", f"{nonce:08x}", None, 1
                )
                target = target_of_difficulty(assigned[job_id])
                due = 2**256 // (target + 1) if number <= target and number not in credited_once else 0
                assert channel.credited_work - before == due
                assert (verdict == Verdict.ACCEPTED) == bool(due)
                if due:
                    credited_once.add(number)
        for difficulty in assigned.values():
            target = target_of_difficulty(difficulty)
            expected_credit_per_hash = Fraction(target + 1, 2**256) * (2**256 // (target + 1))
            assert Fraction(9_999, 10_000) < expected_credit_per_hash <= 1


async def test_d_and_suggest_toggled_on_the_wire_earn_what_their_jobs_were_sent_with(tmp_path: Path, seed: int) -> None:
    """The same adversary against the whole server: every row in the log is at the difficulty its job was notified
    with.
    """
    rng = random.Random(seed)
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        hoard = []
        for _ in range(25):
            move = rng.randrange(4)
            if move == 0:
                await miner.authorize(ADDRESS, f"d={rng.choice([0.00002, 0.00005, 0.0002])}")
            elif move == 1:
                await miner.ask("mining.suggest_difficulty", [rng.choice([0.00002, 0.5])])
            elif move == 2:
                count = len(miner.jobs)
                pool.work.refresh()
                await miner.job(count + 1)
            hoard.append(miner.share(rng.choice(miner.jobs), difficulty=TINY))
        for share in rng.sample(hoard * 2, len(hoard) * 2):
            await miner.submit(share)
        by_id = {int(job.job_id, 16): job.assigned for job in miner.jobs}
        rows = share_rows(pool)
        assert len(rows)
        assert len({bytes(row["hash_le"]) for row in rows}) == len(rows)
        for row in rows:
            assert float(row["difficulty"]) == pytest.approx(by_id[int(row["job_id"])], rel=1e-12)


# --- a difficulty change goes with a notify; the brake brings unique work


async def test_a_flood_is_braked_within_a_second_with_unique_work(tmp_path: Path) -> None:
    async with running(tmp_path, work=RigWork(network_difficulty=1000.0)) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS)
        for share in [miner.share() for _ in range(40)]:
            await miner.submit(share)
        await miner.until(lambda: len(miner.jobs) >= 2, 3, "the brake")
        assert miner.difficulties[-1] > 8 * miner.difficulties[0]
        assert miner.jobs[-1].coinb1 != miner.jobs[0].coinb1
        assert not miner.jobs[-1].clean
        assert (await miner.submit(miner.share(miner.jobs[0])))["result"] is True, "old jobs keep their difficulty"


async def test_silence_lowers_at_once_and_by_two(tmp_path: Path) -> None:
    vardiff = VardiffSection(start_difficulty=TINY)
    async with running(tmp_path, vardiff=vardiff) as pool, await pool.connect() as miner:
        await miner.subscribe()
        await miner.ask("mining.suggest_difficulty", [0.5])
        await miner.authorize(ADDRESS)
        await miner.job()
        for count, difficulty in ((2, 0.25), (3, 0.125), (4, 0.0625)):
            pool.clock.skip(61)
            await miner.until(lambda wished=difficulty: miner.difficulties[-1] == wished, 8, f"{difficulty}")  # type: ignore[misc]
            await miner.job(count)


async def test_the_high_difficulty_port_starts_high_and_stays(tmp_path: Path) -> None:
    from pool.stratum.hub import Port

    ports = (Port("main", 0), Port("high", 0, start_difficulty=1_000_000.0))
    async with running(tmp_path, work=RigWork(network_difficulty=1e9), ports=ports) as pool:
        async with await pool.connect("high") as miner:
            await miner.enter(ADDRESS)
            assert miner.difficulties == [1_000_000.0]
            pool.clock.skip(400)
            await miner.job(2)
            assert miner.difficulties == [1_000_000.0]
        async with await pool.connect() as miner:
            await miner.enter(ADDRESS)
            assert miner.difficulties == [pytest.approx(TINY, rel=1e-3)]


@pytest.mark.parametrize(
    ("agent", "low", "high"),
    [("bitaxe/BM1370/v2.15.0", 1000, 1500), ("NerdMinerV2/V1.8.3", 1e-4, 3e-4), ("rig/1.0", 1024, 1024)],
)
async def test_the_first_difficulty_fits_the_user_agent(tmp_path: Path, agent: str, low: float, high: float) -> None:
    vardiff = VardiffSection()
    async with running(tmp_path, work=RigWork(network_difficulty=1e12), vardiff=vardiff) as pool:
        async with await pool.connect() as miner:
            await miner.enter(ADDRESS, agent=agent)
            assert low <= miner.difficulties[0] <= high


async def test_a_network_that_becomes_easier_than_a_session_pulls_it_down_with_the_next_job(tmp_path: Path) -> None:
    """The development chain retargets at each block: nobody may be asked for more than a block."""
    async with running(tmp_path) as pool, await pool.connect() as miner:
        await miner.enter(ADDRESS, "d=0.5")
        assert miner.difficulties == [0.5]
        pool.work.network(0.25)
        pool.work.new_block()
        await miner.job(2)
        assert miner.difficulties[-1] <= 0.25


# --- solo


async def test_solo_ports_give_each_account_its_own_job(tmp_path: Path) -> None:
    from pool.stratum.hub import Port
    from rig.stratum import ADDRESS_2

    async with running(tmp_path, ports=(Port("main", 0, mode="solo"),)) as pool:
        a, b = await pool.connect(), await pool.connect()
        job_a, job_b = await a.enter(ADDRESS), await b.enter(ADDRESS_2)
        assert job_a.coinb2 != job_b.coinb2
        stolen = await b.ask("mining.submit", [ADDRESS_2, *a.share().params[1:]])
        assert stolen["error"] == [21, "Job not found", None], "a job belongs to the connections it was sent to"
        assert (await a.authorize(ADDRESS_2))["error"][1] == "One address per connection on this port"
        assert (await a.authorize(ADDRESS + ".two"))["result"] is True
        pool.work.new_block()
        assert (await a.job(2)).coinb2 == job_a.coinb2
        assert (await a.submit(a.share()))["result"] is True
        assert share_rows(pool)["flags"].tolist() == [SOLO], "its own block pays it: no part in the club's window"
        await a.close()
        await b.close()
        async with await pool.connect() as lightning:
            await lightning.subscribe()
            assert (await lightning.authorize("me@host.example"))["error"][1] == "Invalid Bitcoin address"


async def test_lightning_users_are_credited_under_their_lightning_address(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        for user, password in (("me@host.example/axe", "x"), (ADDRESS + ".axe", "ln=me@host.example")):
            async with await pool.connect() as miner:
                await miner.enter(user, password)
                assert (await miner.submit(miner.share()))["result"] is True
        assert len(set(share_rows(pool)["account"].tolist())) == 1
        assert set(share_rows(pool)["flags"].tolist()) == {0}


async def test_replays_across_a_reorg_a_b_a_earn_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as pool, await pool.connect() as miner:
        first = await miner.enter(ADDRESS)
        tip_a, height_a = pool.work.jobs.tip, pool.work.height
        on_a = [miner.share(first) for _ in range(3)]
        assert (await miner.submit(on_a[0]))["result"] is True
        pool.work.new_block()
        second = await miner.job(2)
        on_b = miner.share(second)
        assert (await miner.submit(on_b))["result"] is True
        assert (await miner.submit(on_a[1]))["error"][1] == "Stale"
        pool.work.reorg_to(tip_a, height_a)
        assert (await miner.job(3)).clean
        assert (await miner.submit(on_a[0]))["error"][0] == 22, "credited before the reorg"
        assert (await miner.submit(on_a[1]))["result"] is True, "never credited, and its block is the tip again"
        assert (await miner.submit(on_b))["error"][1] == "Stale"
        for share in (*on_a[:2], on_b):
            assert (await miner.submit(share))["result"] is not True
        assert len(share_rows(pool)) == 3


# --- broadcast


async def test_everybody_gets_a_new_block_and_shares_are_answered_meanwhile(tmp_path: Path) -> None:
    async with running(tmp_path) as pool:
        miners: list[Miner] = []
        for _ in range(300):
            miner = await pool.connect()
            await miner.enter(ADDRESS)
            miners.append(miner)
        old = miners[0].jobs[0]
        pool.work.new_block()
        pool.work.refresh()  # newer work while a round is running: it begins again with that
        newest = pool.work.made[-1].job_id_hex
        await asyncio.gather(*(miner.until(lambda m=miner: m.jobs[-1].job_id == newest, 10) for miner in miners))  # type: ignore[misc]
        for miner in miners:
            assert isinstance(miner.jobs[-1], MinerJob)
            assert [job.clean for job in miner.jobs[1:]].count(True) == 1
            assert miner.jobs[-1].prevhash != old.prevhash
        for miner in miners:
            await miner.close()
