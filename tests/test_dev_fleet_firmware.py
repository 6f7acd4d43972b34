"""What breaks real firmware breaks the models too, and their quirks are theirs: heard and said without a socket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pool.dev.fleet.bitaxe import BitAxe, next_version
from pool.dev.fleet.cgminer import AntminerS21, Cgminer, CgminerRolling
from pool.dev.fleet.cpuminer import Cpuminer
from pool.dev.fleet.firmware import Firmware, FirmwareCrash, LinkDropped, Login
from pool.dev.fleet.lucky import LuckyMiner
from pool.dev.fleet.models import MODELS, make_firmware
from pool.dev.fleet.nerdminer import NerdMiner
from pool.dev.fleet.nerdqaxe import NerdQAxe
from rig.mockpool import subscribe_result
from rig.reference import RefJob, sha256d

EASY = 2.0**-20
EXTRANONCE1 = bytes.fromhex("1a2b3c4d")


def a_job(number: int = 1, **changes: Any) -> RefJob:
    fields: dict[str, Any] = {
        "job_id": number,
        "coinb1": bytes(41) + b"\x03\x01\x02\x03" + number.to_bytes(4, "big"),
        "coinb2": bytes(60),
        "branches": (b"\x05" * 32,),
        "prevhash": b"\x07" * 32,
        "version": 0x20000000,
        "nbits": 0x1D00FFFF,
        "ntime": 1_790_000_000,
        "ntime_min": 1_790_000_000,
        "ntime_max": 1_790_000_000,
        "height": 1,
    }
    return RefJob(**{**fields, **changes})


def said(firmware: Firmware) -> list[bytes]:
    """Everything it wants to write, taken."""
    lines = [say.data for say in firmware.out]
    firmware.out.clear()
    return lines


def tell(firmware: Firmware, **message: Any) -> None:
    firmware.hear(json.dumps(message).encode())


def difficulty(firmware: Firmware, value: object) -> None:
    tell(firmware, id=None, method="mining.set_difficulty", params=[value])


def notify(firmware: Firmware, job: RefJob | None = None, *, clean: bool = True) -> None:
    firmware.hear((job or a_job()).notify(clean)[:-1])


def entered(model: str, *, size: int = 8, ticket: float = 0.0, mask: str = "1fffe000") -> Firmware:
    """Connected, subscribed, authorised; no job yet."""
    firmware = make_firmware(model, Login("bc1qexample.dev", ticket=ticket))
    firmware.connected()
    return enter(firmware, size=size, mask=mask)


def enter(firmware: Firmware, *, size: int = 8, mask: str = "1fffe000") -> Firmware:
    """Answer every question of the handshake as a good pool does."""
    result = json.loads(subscribe_result(EXTRANONCE1, size))
    while lines := said(firmware):
        for request in map(json.loads, lines):
            if request["id"] is None:
                continue
            answer: object = True
            if request["method"] == "mining.subscribe":
                answer = result
            elif request["method"] == "mining.configure":
                answer = {"version-rolling": True, "version-rolling.mask": mask}
            tell(firmware, id=request["id"], result=answer, error=None)
    return firmware


def mined(firmware: Firmware, hashes: int = 60_000) -> list[list[str]]:
    """Params of the submits that this many hashes bring."""
    firmware.mine(hashes)
    return [json.loads(line)["params"] for line in said(firmware) if b"mining.submit" in line]


def headers(submits: list[list[str]], job: RefJob) -> list[bytes]:
    """The headers that a pool builds from them (version bits by XOR)."""
    out = []
    for _, _, extranonce2, ntime, nonce, *bits in submits:
        numbers = (int(ntime, 16), int(nonce, 16), int(bits[0], 16) if bits else 0)
        out.append(job.header(EXTRANONCE1, bytes.fromhex(extranonce2), *numbers))
    return out


# --- every model


@pytest.mark.parametrize("model", MODELS)
def test_what_a_device_submits_hashes_below_its_difficulty_as_the_pool_builds_it(model: str) -> None:
    firmware = entered(model)
    difficulty(firmware, 2.0**-17)
    notify(firmware, a_job())
    submits = mined(firmware, 600_000)
    assert submits
    floor = 2.0**-17 * (1 - 1.6e-5 if model == "bfgminer" else 1)
    for header in headers(submits, a_job()):
        assert int.from_bytes(sha256d(header), "little") <= (0xFFFF << 208) / floor


@pytest.mark.parametrize("model", ["bitaxe", "bitaxe-2.8", "luckyminer", "nerdqaxe"])
def test_a_number_where_notify_wants_a_string_crashes_it(model: str) -> None:
    firmware = entered(model)
    params = json.loads(a_job().notify(True))["params"]
    params[5] = 0x20000000
    with pytest.raises(FirmwareCrash):
        tell(firmware, id=None, method="mining.notify", params=params)


@pytest.mark.parametrize("model", ["bitaxe", "bitaxe-2.2", "nerdqaxe"])
def test_a_job_before_the_subscribe_reply_crashes_it(model: str) -> None:
    firmware = make_firmware(model, Login("a"))
    firmware.connected()
    with pytest.raises(FirmwareCrash):
        notify(firmware)


@pytest.mark.parametrize(
    ("model", "keeps"), [("bitaxe", True), ("nerdqaxe", True), ("luckyminer", False), ("cgminer", True)]
)
def test_thirty_three_branches(model: str, keeps: bool) -> None:
    firmware = entered(model)
    job = a_job(branches=(b"\x05" * 32,) * 33)
    if keeps:
        notify(firmware, job)
        assert firmware.stats.ignored_notifies == 1
    else:
        with pytest.raises(FirmwareCrash):
            notify(firmware, job)


def test_an_unknown_model_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'antiminer'.*bitaxe.*nerdminer"):
        make_firmware("antiminer", Login("a"))


# --- BitAxe


def test_version_bits_count_up_inside_the_mask() -> None:
    vector = json.loads((Path(__file__).parent / "vectors" / "stratum_worked.json").read_text())["version_rolling"]
    version, mask = int(vector["version"], 16), int(vector["mask"], 16)
    for expected in vector["next"]:
        version = next_version(version, mask)
        assert f"{version:08x}" == expected


def test_bitaxe_counts_extranonce2_from_zero_on_each_notify_in_little_endian() -> None:
    firmware = entered("bitaxe")
    firmware.mines_first_twice = False  # type: ignore[attr-defined, misc]
    firmware.repeat_first = False  # type: ignore[attr-defined]
    difficulty(firmware, EASY)
    for number in (1, 2):
        notify(firmware, a_job(number), clean=False)
        counters = [submit[2] for submit in mined(firmware, 3 * firmware.turn_hashes)]
        assert sorted(set(counters)) == ["0000000000000000", "0100000000000000", "0200000000000000"]


def test_bitaxe_hashes_its_first_extranonce2_twice_after_a_subscribe() -> None:
    firmware = entered("bitaxe")
    difficulty(firmware, EASY)
    notify(firmware)
    first = mined(firmware, firmware.turn_hashes)
    assert first
    assert mined(firmware, firmware.turn_hashes) == first
    assert firmware.stats.repeats == len(first)
    assert not {s[2] for s in mined(firmware, firmware.turn_hashes)} & {s[2] for s in first}


def test_bitaxe_ignores_a_job_id_it_has_seen_and_keeps_the_difficulty_for_the_next() -> None:
    firmware = entered("bitaxe")
    difficulty(firmware, EASY)
    notify(firmware)
    difficulty(firmware, 1e9)
    notify(firmware, clean=False)
    assert firmware.stats.ignored_notifies == 1
    assert mined(firmware)
    notify(firmware, a_job(2), clean=False)
    assert not mined(firmware)


def test_bitaxe_uses_a_new_difficulty_from_the_next_notify_on() -> None:
    firmware = entered("bitaxe")
    difficulty(firmware, EASY)
    notify(firmware)
    difficulty(firmware, 1e9)
    assert mined(firmware)
    notify(firmware, a_job(2), clean=False)
    assert not mined(firmware)


def test_bitaxe_loses_nothing_when_the_jobs_version_has_bits_inside_the_mask() -> None:
    """OR in the chip, XOR in the submit: the pool's XOR with the job's version gives back what was hashed."""
    firmware = entered("bitaxe")
    difficulty(firmware, EASY)
    job = a_job(version=0x30002000)
    notify(firmware, job)
    submits = mined(firmware, 9 * firmware.turn_hashes)
    assert len({submit[5] for submit in submits}) > 2
    for header in headers(submits, job):
        assert int.from_bytes(sha256d(header), "little") <= (0xFFFF << 208) / EASY


def test_bitaxe_rolls_its_power_on_mask_when_nothing_was_granted() -> None:
    firmware = make_firmware("bitaxe", Login("a"))
    firmware.connected()
    for request in map(json.loads, said(firmware)):
        if request["method"] == "mining.subscribe":
            tell(firmware, id=request["id"], result=json.loads(subscribe_result(EXTRANONCE1, 8)), error=None)
    difficulty(firmware, EASY)
    notify(firmware)
    assert any(submit[5] != "00000000" for submit in mined(firmware, 4 * firmware.turn_hashes))


def test_bitaxe_applies_set_extranonce_to_the_present_job_at_once() -> None:
    firmware = entered("bitaxe")
    difficulty(firmware, EASY)
    notify(firmware)
    tell(firmware, id=None, method="mining.set_extranonce", params=["ffffffff", 8])
    job = a_job()
    bad = [h for h in headers(mined(firmware), job) if int.from_bytes(sha256d(h), "little") > (0xFFFF << 208) / EASY]
    assert bad  # under the old extranonce1, which is what a pool would still judge by


def test_bitaxe_answers_ping_with_a_method_and_get_version_with_a_result() -> None:
    firmware = entered("bitaxe")
    tell(firmware, id=77, method="mining.ping", params=[])
    tell(firmware, id=78, method="client.get_version", params=[])
    assert said(firmware) == [
        b'{"id":77,"method":"pong","params":[]}\n',
        b'{"id":78,"result":"v2.15.0","error":null}\n',
    ]


def test_bitaxe_comes_back_a_second_after_reconnect_and_lucky_does_not_know_it() -> None:
    with pytest.raises(LinkDropped) as drop:
        tell(entered("bitaxe"), id=None, method="client.reconnect", params=[])
    assert drop.value.back_off_s == 1.0
    tell(entered("luckyminer"), id=None, method="client.reconnect", params=[])


def test_bitaxe_ignores_blank_lines_and_junk() -> None:
    firmware = entered("bitaxe")
    for line in (b"", b"\r", b"nonsense", b"[]"):
        firmware.hear(line)
    assert not said(firmware)


@pytest.mark.parametrize(("size", "what"), [(385, "cut"), (6001, "stack")])
def test_bitaxe_cannot_take_a_long_coinbase(size: int, what: str) -> None:
    with pytest.raises(FirmwareCrash, match=what):
        notify(entered("bitaxe"), a_job(coinb2=bytes(size)))


def test_bitaxe_reads_every_form_of_refusal() -> None:
    firmware = entered("bitaxe")
    difficulty(firmware, EASY)
    notify(firmware)
    mined(firmware)
    ids = list(firmware.session.pending)[:4]
    tell(firmware, id=int(ids[0]), result=False, error=[23, "Low difficulty share", None])
    tell(firmware, id=int(ids[1]), result=None, error={"code": 22, "message": "Duplicate share"})
    tell(firmware, id=int(ids[2]), result=False, error=None)
    tell(firmware, id=int(ids[3]), result=True, error=None)
    assert firmware.stats.rejected == {"Low difficulty share": 1, "Duplicate share": 1, "unknown": 1}
    assert firmware.stats.accepted == 1


def test_bitaxe_subscribes_to_extranonces_when_told_to() -> None:
    firmware = make_firmware("bitaxe", Login("a", extranonce_subscribe=True))
    firmware.connected()
    said(firmware)
    tell(firmware, id=3, result=True, error=None)
    assert said(firmware)[-1] == b'{"id":5,"method":"mining.extranonce.subscribe","params":[]}\n'
    firmware.reboot()
    assert firmware.login.extranonce_subscribe


@pytest.mark.parametrize("model", ["bitaxe-2.8", "luckyminer", "nerdminer", "cpuminer", "cgminer"])
def test_set_extranonce_means_nothing_to_older_firmware(model: str) -> None:
    firmware = entered(model)
    tell(firmware, id=None, method="mining.set_extranonce", params=["ffffffff", 8])
    assert firmware.session.extranonce1 == EXTRANONCE1


# --- LuckyMiner


def test_lucky_crashes_on_an_empty_line() -> None:
    with pytest.raises(FirmwareCrash):
        entered("luckyminer").hear(b"")


def test_lucky_crashes_on_its_first_job_when_the_subscribe_reply_had_no_error_key() -> None:
    firmware = make_firmware("luckyminer", Login("a"))
    firmware.connected()
    tell(firmware, id=1, result=json.loads(subscribe_result(EXTRANONCE1, 8)))
    with pytest.raises(FirmwareCrash, match="error key"):
        notify(firmware)


def test_lucky_cuts_difficulties_to_whole_numbers_and_its_chips_ticket_decides_below_one() -> None:
    firmware = entered("luckyminer", ticket=EASY)
    assert isinstance(firmware, LuckyMiner)
    difficulty(firmware, 1.9)
    assert firmware.difficulty == 1.0
    difficulty(firmware, 0.5)
    notify(firmware)
    assert mined(firmware)  # 2^-20 meets the ticket, and is sent although the pool wants 0.5
    firmware = entered("luckyminer")
    difficulty(firmware, 0.5)
    notify(firmware)
    assert not mined(firmware)


def test_lucky_repeats_itself_with_two_bytes_of_extranonce2() -> None:
    firmware = entered("luckyminer", size=2)
    difficulty(firmware, EASY)
    notify(firmware)
    assert {submit[2] for submit in mined(firmware, 20 * firmware.turn_hashes)} == {"0000"}
    assert firmware.stats.repeats


def test_lucky_ids_wrap_at_sixteen_bits() -> None:
    firmware = entered("luckyminer")
    firmware.session.next_id = 32767
    assert [firmware.new_id(), firmware.new_id()] == ["32767", "-32768"]


# --- NerdQAxe


@pytest.mark.parametrize("line", [b"", b"not json", b"x" * 16384])
def test_nerdqaxe_hangs_up_on_what_is_not_json_and_waits_ten_seconds(line: bytes) -> None:
    with pytest.raises(LinkDropped) as drop:
        entered("nerdqaxe").hear(line)
    assert drop.value.back_off_s == 10.0


def test_nerdqaxe_never_counts_extranonce2_from_the_beginning_again() -> None:
    firmware = entered("nerdqaxe")
    difficulty(firmware, EASY)
    notify(firmware)
    first = {int(submit[2], 16) for submit in mined(firmware, 16_384) + mined(firmware, 16_384)}
    firmware.connected()
    enter(firmware)
    difficulty(firmware, EASY)
    notify(firmware)
    second = {int(submit[2], 16) for submit in mined(firmware, 16_384)}
    assert first == {0, 1}
    assert second == {2}


def test_nerdqaxe_reboots_when_no_submit_is_answered_for_an_hour() -> None:
    firmware = entered("nerdqaxe")
    difficulty(firmware, EASY)
    notify(firmware)
    for _ in range(3000):
        firmware.idle(1.0)
    mined(firmware)
    tell(firmware, id=int(next(iter(firmware.session.pending))), result=False, error=[23, "Low difficulty share", None])
    for _ in range(3600):
        firmware.idle(1.0)
    with pytest.raises(FirmwareCrash, match="watchdog"):
        firmware.idle(1.0)


def test_nerdqaxe_takes_a_new_extranonce_with_the_next_notify() -> None:
    firmware = entered("nerdqaxe")
    assert isinstance(firmware, NerdQAxe)
    tell(firmware, id=None, method="mining.set_extranonce", params=["ffffffff", 8])
    assert firmware.session.extranonce1 == EXTRANONCE1
    notify(firmware)
    assert firmware.session.extranonce1 == b"\xff" * 4


# --- NerdMiner


def test_nerdminer_hangs_up_when_the_first_line_is_not_the_subscribe_reply() -> None:
    firmware = make_firmware("nerdminer", Login("a"))
    firmware.connected()
    with pytest.raises(LinkDropped):
        difficulty(firmware, 1)


def test_nerdminer_hashes_for_nothing_with_a_coinbase_over_255_bytes() -> None:
    fits = 255 - 12 - len(a_job().coinb1)
    notify(entered("nerdminer"), a_job(coinb2=bytes(fits)))
    with pytest.raises(FirmwareCrash, match="255"):
        notify(entered("nerdminer"), a_job(coinb2=bytes(fits + 1)))


def test_nerdminer_drops_a_notify_that_does_not_fit_its_memory() -> None:
    firmware = entered("nerdminer")
    notify(firmware, a_job(branches=(b"\x05" * 32,) * 32, coinb1=bytes(60), coinb2=bytes(180)))
    assert firmware.stats.notifies == 1
    params = json.loads(a_job(2, branches=(b"\x05" * 32,) * 32).notify(True))["params"]
    params[3] += "00" * 700
    tell(firmware, id=None, method="mining.notify", params=params)
    assert firmware.stats.notifies == 1
    assert firmware.stats.ignored_notifies == 1


def test_nerdminer_starts_at_the_same_nonce_each_notify_and_sends_the_best_of_a_batch() -> None:
    firmware = entered("nerdminer")
    difficulty(firmware, EASY)
    notify(firmware)
    submits = mined(firmware, 4096 * 100)
    assert submits
    batches = [(int(submit[4], 16) - 0xDA54E700) // 4096 for submit in submits]
    assert len(set(batches)) == len(batches)
    assert {submit[2] for submit in submits} == {"0000000000000001"}
    assert all(len(submit) == 5 for submit in submits)
    for header in headers(submits, a_job()):
        assert sha256d(header)[30:] == b"\0\0"  # nothing easier than 16 zero bits is looked at


def test_nerdminer_uses_a_new_difficulty_at_once() -> None:
    firmware = entered("nerdminer")
    difficulty(firmware, 1e-6)
    notify(firmware)
    difficulty(firmware, 1e9)
    assert not mined(firmware, 4096 * 100)


def test_nerdminer_suggests_again_after_thirty_quiet_seconds() -> None:
    firmware = entered("nerdminer")
    notify(firmware)
    for _ in range(30):
        firmware.idle(1.0)
    assert said(firmware) == [b'{"id":4,"method":"mining.suggest_difficulty","params":[0.00015]}\n']


def test_nerdminer_takes_no_error_for_success() -> None:
    firmware = entered("nerdminer")
    assert isinstance(firmware, NerdMiner)
    difficulty(firmware, EASY)
    notify(firmware)
    mined(firmware, 4096 * 100)
    tell(firmware, id=int(next(iter(firmware.session.pending))), result=False, error=None)
    assert firmware.stats.accepted == 1


# --- cgminer and its kin


def test_cgminer_applies_stacked_difficulties_one_notify_apart() -> None:
    firmware = entered("cgminer")
    assert isinstance(firmware, Cgminer)
    difficulty(firmware, 7)
    difficulty(firmware, 9)
    notify(firmware)
    assert firmware.difficulty == 7
    notify(firmware, a_job(2))
    assert firmware.difficulty == 9


@pytest.mark.parametrize(
    ("model", "method"),
    [("cgminer-vmask", "mining.set_difficulty"), ("bfgminer", "mining.notify"), ("cpuminer", "mining.set_difficulty")],
)
def test_a_method_before_the_first_reply_ends_the_connection(model: str, method: str) -> None:
    firmware = make_firmware(model, Login("a"))
    firmware.connected()
    with pytest.raises(LinkDropped):
        tell(firmware, id=None, method=method, params=[1])


@pytest.mark.parametrize("model", ["cgminer", "cpuminer"])
@pytest.mark.parametrize("method", ["mining.ping", "client.show_message", "mining.set_extranonce"])
def test_anything_but_work_before_the_authorize_reply_ends_the_connection(model: str, method: str) -> None:
    firmware = make_firmware(model, Login("a"))
    firmware.connected()
    tell(firmware, id=1, result=json.loads(subscribe_result(EXTRANONCE1, 8)), error=None)
    difficulty(firmware, 1)
    with pytest.raises(LinkDropped, match="before the authorize reply"):
        tell(firmware, id=1, method=method, params=["x", 8])


def test_the_s21_hangs_up_on_a_version_mask_before_authorize_and_cgminer_does_not() -> None:
    for cls, drops in ((AntminerS21, True), (CgminerRolling, False)):
        firmware = cls(Login("a"))
        firmware.connected()
        tell(firmware, id=0, result={"version-rolling": True, "version-rolling.mask": "1fffe000"}, error=None)
        tell(firmware, id=1, result=json.loads(subscribe_result(EXTRANONCE1, 8)), error=None)
        if drops:
            with pytest.raises(LinkDropped):
                tell(firmware, id=None, method="mining.set_version_mask", params=["1fffe000"])
        else:
            tell(firmware, id=None, method="mining.set_version_mask", params=["1fffe000"])
            assert firmware.session.version_mask == 0x1FFFE000


def test_cgminer_gives_up_after_ninety_silent_seconds_and_cpuminer_after_two_minutes() -> None:
    for model, patience in (("cgminer", 90.0), ("cpuminer", 120.0)):
        firmware = entered(model)
        firmware.idle(patience - 1)
        with pytest.raises(LinkDropped, match="silence"):
            firmware.idle(patience)


@pytest.mark.parametrize(("model", "agent"), [("cgminer", b"cgminer/4.13.6"), ("cpuminer", b"cpuminer/2.5.1")])
def test_a_device_presents_its_session_id_when_it_comes_back(model: str, agent: bytes) -> None:
    firmware = entered(model)
    firmware.connected()
    assert said(firmware) == [
        b'{"id": 1, "method": "mining.subscribe", "params": ["' + agent + b'", "0102030405060708"]}\n'
    ]


def test_an_answer_nobody_asked_for_is_counted() -> None:
    for model in ("cgminer", "cpuminer", "nerdqaxe", "bitaxe"):
        firmware = entered(model)
        tell(firmware, id=99, result=True, error=None)
        assert firmware.stats.untracked == 1, model


def test_cpuminer_sends_every_share_with_id_four_and_hangs_up_on_an_empty_line() -> None:
    firmware = entered("cpuminer")
    assert isinstance(firmware, Cpuminer)
    difficulty(firmware, EASY)
    notify(firmware)
    firmware.mine(60_000)
    assert all(line.endswith(b'"id":4}\n') for line in said(firmware))
    with pytest.raises(LinkDropped):
        firmware.hear(b"")


def test_bfgminer_suggests_without_an_id() -> None:
    firmware = make_firmware("bfgminer", Login("a", suggest=0.5))
    firmware.connected()
    tell(firmware, id=0, result=json.loads(subscribe_result(EXTRANONCE1, 8)), error=None)
    said(firmware)
    tell(firmware, id="auth", result=True, error=None)
    assert said(firmware) == [b'{"id": null, "method": "mining.suggest_difficulty", "params": [0.5]}\n']


def test_bfgminer_asks_for_a_jobs_transactions_and_takes_no_reply_to_a_request_without_id() -> None:
    firmware = entered("bfgminer")
    difficulty(firmware, 1)
    notify(firmware, a_job(0x2A))
    assert said(firmware) == [b'{"params": ["2a"], "id": "txlist2a", "method": "mining.get_transactions"}\n']
    tell(firmware, id="txlist2a", result=None, error=[20, "Unknown method", None])
    with pytest.raises(LinkDropped):
        tell(firmware, id=None, result=True, error=None)


# --- whose fault


REFUSALS = {20: "Invalid version mask", 21: "Job not found", 22: "Duplicate share", 23: "Low difficulty share"}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_that_the_device_did_not_earn_is_the_pools_fault(code: int) -> None:
    firmware = entered("nerdqaxe")
    difficulty(firmware, EASY)
    notify(firmware)
    mined(firmware)
    tell(firmware, id=int(next(iter(firmware.session.pending))), result=False, error=[code, REFUSALS[code], None])
    notify(firmware, a_job(2))  # on the same block: no new one explains a "stale"
    assert firmware.stats.pool_faults == {REFUSALS[code]: 1}


def test_stale_is_nobodys_fault_when_the_new_block_is_right_behind_the_answer() -> None:
    firmware = entered("nerdqaxe")
    difficulty(firmware, EASY)
    notify(firmware)
    mined(firmware)
    tell(firmware, id=int(next(iter(firmware.session.pending))), result=False, error=[21, "Stale", None])
    notify(firmware, a_job(2, prevhash=b"\x08" * 32))
    assert firmware.stats.rejected == {"Stale": 1}
    assert not firmware.stats.pool_faults


def test_stale_after_a_new_block_repeats_and_cut_difficulties_are_nobodys_but_the_devices() -> None:
    firmware = entered("luckyminer", size=2, ticket=EASY)
    difficulty(firmware, 0.5)
    notify(firmware)
    mined(firmware)
    stale, low = list(firmware.session.pending)[:2]
    tell(firmware, id=int(low), result=False, error=[23, "Low difficulty share", None])
    notify(firmware, a_job(2, prevhash=b"\x08" * 32))
    tell(firmware, id=int(stale), result=False, error=[21, "Stale", None])
    firmware.session.pending.clear()
    mined(firmware, 20 * firmware.turn_hashes)
    repeat = next(id_ for id_, queue in firmware.session.pending.items() if queue[0].repeated)
    tell(firmware, id=int(repeat), result=False, error=[22, "Duplicate share", None])
    assert firmware.stats.rejected.total() == 3
    assert not firmware.stats.pool_faults


def test_a_reboot_keeps_the_counts_and_forgets_the_rest() -> None:
    firmware = entered("nerdqaxe")
    difficulty(firmware, EASY)
    notify(firmware)
    mined(firmware)
    submitted = firmware.stats.submitted
    firmware.reboot()
    assert firmware.stats.submitted == submitted > 0
    assert not firmware.working
    assert isinstance(firmware, NerdQAxe)
    assert firmware.counter == 0


def test_bitaxe_28_mines_a_job_again_that_comes_twice() -> None:
    firmware = entered("bitaxe-2.8")
    assert isinstance(firmware, BitAxe)
    difficulty(firmware, 1)
    firmware.difficulty = EASY
    notify(firmware)
    first = mined(firmware)
    assert firmware.stats.old_ground == 0
    notify(firmware, clean=False)
    assert mined(firmware)[: len(first)] == first
    assert firmware.stats.old_ground == len(first)
    assert firmware.stats.repeats == 0
    again = list(firmware.session.pending)[-1]
    tell(firmware, id=int(again), result=False, error=[22, "Duplicate share", None])
    assert firmware.stats.pool_faults == {"Duplicate share": 1}  # it gave the same work out twice
