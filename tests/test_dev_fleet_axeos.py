"""BitAxe and LuckyMiner: what breaks the firmware breaks the model, and its quirks are there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pool.dev.fleet.bitaxe import BitAxe, next_version
from pool.dev.fleet.firmware import FirmwareCrash, LinkDropped, Login
from pool.dev.fleet.lucky import LuckyMiner
from pool.dev.fleet.models import make_firmware
from rig.firmware import EASY, EXTRANONCE1, a_job, difficulty, entered, headers, mined, notify, said, tell
from rig.mockpool import subscribe_result
from rig.reference import sha256d

# --- BitAxe


def test_version_bits_count_up_inside_the_mask() -> None:
    vector = json.loads((Path(__file__).parent / "vectors" / "stratum_worked.json").read_text())["version_rolling"]
    version, mask = int(vector["version"], 16), int(vector["mask"], 16)
    for expected in vector["next"]:
        version = next_version(version, mask)
        assert f"{version:08x}" == expected


def test_bitaxe_counts_extranonce2_from_zero_on_each_notify_in_little_endian() -> None:
    firmware = entered("bitaxe")
    firmware.mines_first_twice = False  # type: ignore[attr-defined]
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


def test_bitaxe_mines_on_with_its_old_extranonce1_when_a_job_overtakes_the_subscribe_reply() -> None:
    firmware = entered("bitaxe")
    firmware.connected()
    notify(firmware)
    assert firmware.session.extranonce1 == EXTRANONCE1
    firmware.reboot()
    firmware.connected()
    with pytest.raises(FirmwareCrash, match="before the subscribe reply"):
        notify(firmware)


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
