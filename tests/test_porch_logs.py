"""Logging: text on a terminal, JSON lines otherwise, and never a secret."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pool.config import Config, LogSection, NodeSection, Secret, SecretUrl, StoreSection
from pool.logs import QUEUE_LINES, secrets_of, writing

JSON, TEXT = LogSection(format="json", level="debug"), LogSection(format="text", level="debug")
log = logging.getLogger("pool.test")


def logged(section: LogSection, act: Callable[[], None], secrets: tuple[str, ...] = ()) -> str:
    stream = io.StringIO()
    with writing(section, secrets, stream):
        act()
    return stream.getvalue()


def test_json_lines_hold_time_level_event_and_the_fields_given() -> None:
    text = logged(JSON, lambda: log.info("block %s", "found", extra={"height": 5, "ts": "mine", "parts": (1, None)}))
    line = json.loads(text)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "pool.test",
        "event": "block found",
        "height": 5,
        "ts_": "mine",
        "parts": [1, None],
    }


def test_text_is_one_readable_line_with_its_fields() -> None:
    text = logged(TEXT, lambda: log.warning("node lags", extra={"blocks": 3}))
    assert text.endswith("WARNING pool.test  node lags  blocks=3\n")


@pytest.mark.parametrize(("section", "first"), [(LogSection(), "{"), (LogSection(format="text"), "0")])
def test_a_pipe_gets_json_unless_text_is_asked_for(section: LogSection, first: str) -> None:
    out = logged(section, lambda: log.info("x"))
    assert (out[0] == "{") == (first == "{")


def test_a_terminal_gets_text() -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as stream, writing(LogSection(), stream=stream):
        log.info("hello", extra={"a": 1})
    with os.fdopen(leader, "rb", buffering=0) as reader:
        assert b"INFO    pool.test  hello  a=1" in reader.read(200)


def test_a_log_line_takes_the_live_line_off_a_terminal_and_nothing_else() -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as stream, writing(LogSection(), stream=stream):
        stream.write("block 7 · 6 miners")  # a live line, drawn without an end
        stream.flush()
        log.info("hello")
    with os.fdopen(leader, "rb", buffering=0) as reader:
        said = reader.read(300).decode()
    assert "6 miners\r\x1b[2K" in said
    assert "\x1b" not in logged(TEXT, lambda: log.info("x")), "a file or a pipe gets no control characters"


def test_levels_below_the_configured_one_are_not_written() -> None:
    quiet = LogSection(format="text", level="warning")
    assert logged(quiet, lambda: log.info("x")) == ""
    assert logging.getLogger().handlers != []  # pytest's own are back


def test_libraries_that_chatter_are_heard_from_warnings_on() -> None:
    def chatter() -> None:
        logging.getLogger("alembic.runtime.migration").info("Context impl")
        logging.getLogger("alembic").warning("careful")

    assert "Context impl" not in logged(LogSection(format="text", level="info"), chatter)
    assert "careful" in logged(LogSection(format="text", level="info"), chatter)
    assert "Context impl" in logged(TEXT, chatter)


PLANTED = "hunter2-Zq9"


def _raise_with_secret() -> None:
    try:
        raise ValueError(f"connect failed: postgresql://pool:{PLANTED}@db/pool")
    except ValueError:
        log.exception("cannot open store")


@pytest.mark.parametrize("section", [JSON, TEXT])
@pytest.mark.parametrize(
    "act",
    [
        lambda: log.info("url http://user:%s@host:8332/", PLANTED),
        lambda: log.info("rpcpassword=%s next", PLANTED),
        lambda: log.info("plainly %s inside", PLANTED),
        lambda: log.info("fields", extra={"where": f"x{PLANTED}y"}),
        lambda: log.info("fields", extra={"deep": {"list": [PLANTED], "admin_token": "other-secret-1"}}),
        lambda: log.info("fields", extra={"macaroon": b"other-secret-1".hex()}),
        lambda: log.info("object", extra={"config": NodeSection(user="u", password=Secret(PLANTED))}),
        lambda: log.info("header Authorization: Basic %s", "dXNlcjpodW50ZXIyLVpxOQ=="),
        _raise_with_secret,
    ],
)
def test_planted_secrets_are_never_written(section: LogSection, act: Callable[[], None]) -> None:
    text = logged(section, act, (PLANTED,))
    assert text
    for secret in (PLANTED, "other-secret-1", b"other-secret-1".hex(), "dXNlcjpodW50ZXIyLVpxOQ=="):
        assert secret not in text


@pytest.mark.parametrize("section", [JSON, TEXT])
@pytest.mark.parametrize(
    "act",
    [
        lambda: log.info("url http://user:%s@host:8332/", PLANTED),
        lambda: log.info('{"password": "%s"}', PLANTED),
        lambda: log.info("api_key=%s", PLANTED),
        lambda: log.info("key", extra={"private_key": PLANTED}),
        _raise_with_secret,
    ],
)
def test_what_looks_like_a_secret_is_hidden_even_when_nobody_named_it(
    section: LogSection, act: Callable[[], None]
) -> None:
    assert PLANTED not in logged(section, act)


def test_every_secret_of_the_configuration_is_known_to_the_log() -> None:
    config = Config(
        node=(NodeSection(user="u", password=Secret("node-pass")),),
        store=StoreSection(url=SecretUrl("postgresql://pool:db-pass@h/d")),
    )
    assert {"node-pass", "db-pass"} <= set(secrets_of(config))


@pytest.mark.parametrize("section", [JSON, TEXT])
def test_a_name_with_control_characters_fakes_no_line_and_moves_no_cursor(section: LogSection) -> None:
    name = "evil\n12:00:00 INFO  pool  all is well\x1b[2J\r"
    text = logged(section, lambda: log.info("worker %s", name, extra={"worker": name}))
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "\r" not in text


def test_odd_fields_do_not_break_a_line() -> None:
    text = logged(JSON, lambda: log.info("x", extra={"nan": float("nan"), "obj": Path("/a"), "b": b"\xff"}))
    assert json.loads(text)["event"] == "x"


class _StoppedTerminal(io.StringIO):
    """Takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.go.wait(30)
        return super().write(text)


def test_a_stopped_terminal_stops_nobody_and_what_was_dropped_is_counted() -> None:
    stream = _StoppedTerminal()
    with writing(JSON, stream=stream):
        log.info("first")
        assert stream.entered.wait(30)
        begin = time.monotonic()
        for number in range(QUEUE_LINES + 50):
            log.debug("line", extra={"number": number})
        assert time.monotonic() - begin < 20
        stream.go.set()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert lines[0]["event"] == "first"
    assert sum(line.get("dropped", 0) for line in lines) == 50
    assert sum(line["event"] == "line" for line in lines) == QUEUE_LINES
