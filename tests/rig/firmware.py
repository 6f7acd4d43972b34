"""A device model without a socket: told lines, asked what it says, let mine."""

from __future__ import annotations

import json
from typing import Any

from pool.dev.fleet.firmware import Firmware, Login
from pool.dev.fleet.models import make_firmware
from rig.mockpool import subscribe_result
from rig.reference import RefJob

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
