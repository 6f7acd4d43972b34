"""What breaks every firmware, the cgminer line, and whose fault a refusal is: heard and said without a socket."""

from __future__ import annotations

import json

import pytest

from pool.dev.fleet.cgminer import AntminerS21, Cgminer, CgminerRolling
from pool.dev.fleet.cpuminer import Cpuminer
from pool.dev.fleet.firmware import FirmwareCrash, LinkDropped, Login
from pool.dev.fleet.models import MODELS, make_firmware
from pool.dev.fleet.nerdqaxe import NerdQAxe
from rig.firmware import EASY, EXTRANONCE1, a_job, difficulty, entered, headers, mined, notify, said, tell
from rig.mockpool import subscribe_result
from rig.reference import sha256d

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
