"""Rooms open in order and close in reverse; a signal ends the process with 0, a dead room with 1. Real processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PRELUDE = """
import asyncio, os, sys, time, threading, logging
from contextlib import asynccontextmanager
from pool.lifecycle import House, run
logging.basicConfig(level=logging.ERROR, format="%(message)s")

def say(text):
    print(text, flush=True)

@asynccontextmanager
async def room(name):
    say(f"open {name}")
    try:
        yield name
    finally:
        say(f"close {name}")

async def forever(name="task"):
    try:
        await asyncio.Event().wait()
    finally:
        say(f"end {name}")

async def after(seconds, act):
    await asyncio.sleep(seconds)
    return act()

async def raises():
    raise ValueError("this room is on fire")
"""


def start(body: str, close_s: float = 10.0) -> subprocess.Popen[str]:
    lines = [f"    {line}" for line in body.strip().splitlines()]
    code = PRELUDE + "async def opening(house):\n" + "\n".join(lines) + f"\nsys.exit(run(opening, close_s={close_s}))\n"
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )


def until(process: subprocess.Popen[str], text: str) -> list[str]:
    """Lines up to the one that is `text`."""
    assert process.stdout is not None
    lines: list[str] = []
    while not lines or lines[-1] != text:
        line = process.stdout.readline()
        assert line, f"ended before {text!r}: {lines} {process.stderr.read() if process.stderr else ''}"
        lines.append(line.rstrip("\n"))
    return lines


def rest(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out.splitlines(), err


TWO_ROOMS = """
await house.open("a", room("a"))
house.background("t", forever("t"))
await house.open("b", room("b"))
say("ready")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_the_rooms_in_reverse_and_ends_with_0(number: signal.Signals) -> None:
    process = start(TWO_ROOMS)
    assert until(process, "ready") == ["open a", "open b", "ready"]
    process.send_signal(number)
    code, out, err = rest(process)
    assert (code, out, err) == (0, ["close b", "end t", "close a"], "")


@pytest.mark.parametrize(
    ("work", "words"),
    [
        ("raises()", "on fire"),
        ("after(0.01, lambda: None)", "ended by itself"),
        ("cancelled()", "was cancelled"),
    ],
)
def test_a_background_task_that_dies_takes_the_house_down_in_order_with_1(work: str, words: str) -> None:
    cancelled = """
async def cancelled():
    raise asyncio.CancelledError
"""
    code, out, err = rest(start(f"{cancelled}{TWO_ROOMS}\nhouse.background('weak', {work})"))
    assert code == 1
    assert out == ["open a", "open b", "ready", "close b", "end t", "close a"]
    assert words in err


def test_a_room_that_cannot_open_closes_the_others_and_fails() -> None:
    code, out, err = rest(start('await house.open("a", room("a"))\nraise OSError("port 3333 is taken")'))
    assert (code, out) == (1, ["open a", "close a"])
    assert "OSError: port 3333 is taken" in err


def test_a_task_that_dies_while_others_still_open_stops_the_opening() -> None:
    body = 'await house.open("a", room("a"))\nhouse.background("weak", raises())\nawait asyncio.sleep(60)\nsay("never")'
    code, out, _ = rest(start(body))
    assert (code, out) == (1, ["open a", "close a"])


def test_a_signal_while_opening_closes_what_is_open() -> None:
    process = start('await house.open("a", room("a"))\nawait asyncio.sleep(60)\nsay("never")')
    until(process, "open a")
    process.send_signal(signal.SIGTERM)
    assert rest(process)[:2] == (0, ["close a"])


def test_a_room_that_fails_while_closing_does_not_keep_the_others_open() -> None:
    body = """
@asynccontextmanager
async def bad():
    yield
    raise ValueError("cannot close")
await house.open("a", room("a"))
await house.open("bad", bad())
house.stop.set()
"""
    code, out, err = rest(start(body))
    assert (code, out) == (1, ["open a", "close a"])
    assert "cannot close" in err


@pytest.mark.parametrize(
    "stubborn",
    [
        "house.background('s', stubborn())",
        "await house.open('s', never())",
        "threading.Thread(target=time.sleep, args=(99,)).start()\nhouse.background('s', stubborn())",
    ],
)
def test_what_will_not_end_is_left_behind_in_time_and_fails(stubborn: str) -> None:
    body = f"""
async def stubborn():
    while True:
        try:
            await asyncio.sleep(99)
        except asyncio.CancelledError:
            pass
@asynccontextmanager
async def never():
    yield
    await asyncio.sleep(99)
await house.open("a", room("a"))
{stubborn}
await asyncio.sleep(0)
house.stop.set()
"""
    code, out, err = rest(start(body, close_s=0.3))
    assert code == 1
    assert out == ["open a", "close a"]
    assert "within 0.3 s" in err


def test_a_second_signal_ends_at_once() -> None:
    body = """
@asynccontextmanager
async def slow():
    yield
    say("closing")
    await asyncio.sleep(99)
await house.open("slow", slow())
say("ready")
"""
    process = start(body, close_s=60)
    until(process, "ready")
    process.send_signal(signal.SIGINT)
    until(process, "closing")
    process.send_signal(signal.SIGINT)
    assert rest(process)[0] == 128 + signal.SIGINT


def test_sighup_calls_what_was_registered_and_ends_nothing() -> None:
    body = """
house.on_hangup(lambda: 1 / 0)
house.on_hangup(lambda: say("read again"))
say("ready")
"""
    process = start(body)
    until(process, "ready")
    process.send_signal(signal.SIGHUP)
    until(process, "read again")
    process.send_signal(signal.SIGTERM)
    code, _, err = rest(process)
    assert code == 0
    assert "ZeroDivisionError" in err
