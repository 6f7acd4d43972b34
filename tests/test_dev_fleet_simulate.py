"""`pool simulate`: a fleet from the command line, its summary for machines, and its manners."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import sys
from typing import Any

import pytest
from rich.console import Console

from pool.address import parse_address
from pool.cli import main
from pool.commands.simulate import parse_endpoint, require_loopback, table
from pool.dev.fleet.device import Endpoint
from pool.dev.fleet.fleet import make_fleet, suggestion
from pool.dev.fleet.models import CLUB, MODELS
from pool.dev.fleet.users import dev_users
from rig.mockpool import MockPool


async def simulate(
    *arguments: str, stop: signal.Signals | None = None, pool: MockPool | None = None
) -> tuple[int, str]:
    """Exit code and standard output of the command in a process of its own; `stop` is sent when shares flow."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pool", "simulate", *arguments, stdout=asyncio.subprocess.PIPE
    )
    try:
        if stop is not None and pool is not None:
            shares = asyncio.create_task(pool.until(lambda: any(c.verdicts for c in pool.connections), 30))
            ended = asyncio.create_task(process.wait())
            await asyncio.wait({shares, ended}, return_when=asyncio.FIRST_COMPLETED)
            assert process.returncode is None, "it ended by itself"
            await shares
            process.send_signal(stop)
            await ended
        async with asyncio.timeout(30):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode()


def last(out: str) -> dict[str, Any]:
    return dict(json.loads(out.splitlines()[-1]))


async def test_a_simulated_fleet_mines_and_reports_in_json_lines() -> None:
    async with MockPool() as pool:
        code, out = await simulate(
            f"127.0.0.1:{pool.port}", "--devices", "8", "--seconds", "2.5", "--every", "1", "--strict"
        )
        assert code == 0
        assert len(out.splitlines()) >= 2
        summary = last(out)
        assert summary["devices"] == 8
        assert summary["accepted"] > 0
        assert summary["pool_faults"] == {}
        users = {request["params"][0].split(".")[0] for c in pool.connections for request in c.of("mining.authorize")}
        assert users == set(dev_users(3))


@pytest.mark.parametrize("signal_sent", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_fleet_cleanly_with_its_sums(signal_sent: signal.Signals) -> None:
    async with MockPool() as pool:
        code, out = await simulate(f"127.0.0.1:{pool.port}", stop=signal_sent, pool=pool)
        assert code == 0
        assert last(out)["submitted"] > 0


async def test_strict_ends_with_an_error_when_the_pool_refuses_good_shares() -> None:
    async with MockPool() as pool:
        pool.say["mining.submit"] = lambda connection, request: (
            json.dumps({"id": request["id"], "result": False, "error": [23, "Low difficulty share", None]}) + "\n"
        ).encode()
        endpoint = f"127.0.0.1:{pool.port}"
        code, out = await simulate(endpoint, "--seconds", "2", "--strict", "--models", "nerdqaxe,s21")
        assert last(out)["pool_faults"]["Low difficulty share"] > 0
        assert code == 1


def test_another_machine_is_refused_unless_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "192.0.2.1:3333", "--seconds", "1"]) == 2
    assert "--allow-remote" in capsys.readouterr().err
    require_loopback("192.0.2.1", True)
    require_loopback("127.0.0.9", False)
    require_loopback("::1", False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--models", "bitaxe,antiminer"], "antiminer"),
        (["--hashrate", "0"], "rate above 0"),
        (["--core-share", "2"], "share of a core"),
        (["--devices", "0"], "at least one device"),
        (["127.0.0.1:99999"], "HOST:PORT"),
    ],
)
def test_wrong_use_is_said_in_words(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--seconds", "1", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_models_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--list-models"]) == 0
    out = capsys.readouterr().out
    assert all(model in out for model in MODELS)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:3333", ("127.0.0.1", 3333)),
        ("localhost", ("localhost", 3333)),
        ("stratum+tcp://127.0.0.1:4334/", ("127.0.0.1", 4334)),
        ("[::1]:2018", ("::1", 2018)),
        ("::1", ("::1", 3333)),
    ],
)
def test_an_endpoint_is_read_in_every_usual_form(text: str, endpoint: tuple[str, int]) -> None:
    assert parse_endpoint(text) == endpoint


def test_simulated_accounts_are_valid_addresses_of_the_development_chain() -> None:
    users = dev_users(20)
    assert len(set(users)) == 20
    assert [parse_address(user, "regtest").text for user in users] == users
    with pytest.raises(ValueError, match="accounts"):
        dev_users(0)


def test_devices_suggest_what_suits_their_simulated_rate() -> None:
    assert suggestion(1.0) == float(f"{2.0**-16:.4g}")
    assert suggestion(2**48 / 0xFFFF / 5) == 1.0
    fleet = make_fleet(["bitaxe"], Endpoint("127.0.0.1", 1), ["a"], count=1, total_hs=1e6, firmware_suggestions=True)
    assert fleet.devices[0].firmware.suggestion == 1000


def test_the_table_names_each_device_and_the_sums() -> None:
    fleet = make_fleet(CLUB, Endpoint("127.0.0.1", 1), dev_users(2), count=8, total_hs=1e5)
    fleet.devices[0].firmware.stats.accepted = 41
    text = io.StringIO()
    Console(width=160, file=text).print(table(fleet))
    assert all(device.name in text.getvalue() for device in fleet.devices)
    assert text.getvalue().count("41") == 2
