"""NerdQAxe and NerdMiner: what breaks the firmware breaks the model, and its quirks are there."""

from __future__ import annotations

import json

import pytest

from pool.dev.fleet.firmware import FirmwareCrash, LinkDropped, Login
from pool.dev.fleet.models import make_firmware
from pool.dev.fleet.nerdminer import NerdMiner
from pool.dev.fleet.nerdqaxe import NerdQAxe
from rig.firmware import EASY, EXTRANONCE1, a_job, difficulty, enter, entered, headers, mined, notify, said, tell
from rig.reference import sha256d

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
