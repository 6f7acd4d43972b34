"""What the pool writes to standard error: text on a terminal, one JSON object a line otherwise, never a secret.

Rooms use the standard library: `logging.getLogger(__name__).info("block found", extra={"height": 900_000})`. Fields
given as `extra` become JSON members. A thread writes, so that a stopped terminal or a full pipe never stops the pool.
"""

from __future__ import annotations

import json
import logging
import queue
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO
from urllib.parse import quote, urlsplit

from pool.config import Config, LogSection, Secret
from pool.config.checks import sections_of
from pool.config.keys import MASK, SecretUrl, keys_of

#: Lines that wait for a slow terminal or pipe; more are dropped and counted.
QUEUE_LINES = 10_000
#: Libraries whose "info" is noise here: they write from warnings on, unless level = debug.
QUIET = ("alembic", "asyncio")
#: Takes a live line off a terminal before a log line is written there; who shows one draws it again below.
ERASE_LINE = "\r\x1b[2K"
SHORTEST_SECRET = 4  # replacing shorter ones would only garble the log
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_OURS = frozenset({"ts", "level", "logger", "event", "error"})
_SECRET_NAME = re.compile(
    r"passw|secret|token|macaroon|private|mnemonic|seed_words|authorization|cookie|api_?key", re.I
)
_PATTERNS = (
    (re.compile(r"(\w://[^\s/:@]*:)[^\s/@]+@"), rf"\1{MASK}@"),  # scheme://user:password@
    (re.compile(r"(?i)\b(basic|bearer)\s+[\w+/=.~-]{6,}"), rf"\1 {MASK}"),
    (
        re.compile(r"(?i)\b((?:rpc)?passw(?:or)?d|macaroon|secret|token|api_?key)(\"?\s*[=:]\s*\"?)[^\s\",;&]+"),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"\b[xyzt]prv[1-9A-HJ-NP-Za-km-z]{50,}"), MASK),  # extended private keys
)


class Redactor:
    """Takes secrets out of text: those it was told, and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._known: tuple[str, ...] = ()
        self.hide(*secrets)

    def hide(self, *secrets: str) -> None:
        """Never write these texts from now on, nor their URL-quoted form."""
        forms = {form for text in secrets for form in (text, quote(text, safe="")) if len(text) >= SHORTEST_SECRET}
        self._known = tuple(
            sorted(forms | set(self._known), key=len, reverse=True)
        )  # longest first: one may hold another

    def clean(self, text: str) -> str:
        for secret in self._known:
            if secret in text:
                text = text.replace(secret, MASK)
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

    def clean_value(self, name: str, value: object) -> object:
        """A field's value as JSON can hold it, without secrets."""
        if _SECRET_NAME.search(name) and value is not None and not isinstance(value, bool):
            return MASK
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            return {str(key): self.clean_value(str(key), inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.clean_value("", inner) for inner in value]
        return self.clean(value if isinstance(value, str) else str(value))


def secrets_of(config: Config) -> Iterator[str]:
    """Every secret text of a configuration; of URLs, the password as well."""
    for path, _, section in sections_of(config):
        for info in keys_of(type(section), path):
            value = getattr(section, info.name)
            if isinstance(value, SecretUrl):
                yield urlsplit(value.reveal()).password or ""
            elif isinstance(value, Secret):
                yield value.reveal()


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _visible(text: str, keep: str = "") -> str:
    """Control characters made visible: what a miner calls itself must not move the cursor or fake a line."""
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts (RFC 3339, UTC), level, logger, event, the fields given, error (traceback)."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "ts": f"{when}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": self._redactor.clean(record.getMessage()),
        }
        for name, value in _fields(record).items():
            line[f"{name}_" if name in _OURS else name] = self._redactor.clean_value(name, value)
        if record.exc_info:
            line["error"] = self._redactor.clean(self.formatException(record.exc_info))
        try:
            return json.dumps(line, ensure_ascii=False, allow_nan=False)
        except ValueError:  # a NaN among the fields
            return json.dumps({name: value if isinstance(value, str) else repr(value) for name, value in line.items()})


class TextFormatter(logging.Formatter):
    """`12:30:01 INFO  pool.chain  block found  height=900000`, local time; then the traceback, if any."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = [f"{name}={self._redactor.clean_value(name, value)}" for name, value in _fields(record).items()]
        said = _visible(self._redactor.clean("  ".join([record.getMessage(), *fields])))
        line = f"{when} {record.levelname:<7} {record.name}  {said}"
        if record.exc_info:
            line += "\n" + _visible(self._redactor.clean(self.formatException(record.exc_info)), keep="\n")
        return line


class _WriterThread(logging.Handler):
    """Formats at once, writes on a thread; when that falls behind, drops and says how many."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream, self._before = stream, ERASE_LINE if stream.isatty() else ""
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1
        except Exception:  # an odd argument of a log call must not stop the pool
            self.handleError(record)

    def _write(self) -> None:
        try:
            while (line := self._lines.get()) is not None:
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    record = logging.makeLogRecord({"levelno": 30, "levelname": "WARNING", "name": __name__})
                    record.msg, record.dropped = "log fell behind", dropped
                    line += "\n" + self.format(record)
                self._stream.write(self._before + line + "\n")
                if self._lines.empty():
                    self._stream.flush()
        except (OSError, ValueError):  # reader of the pipe gone, or stream closed: nobody left to tell
            return

    def close(self) -> None:
        """Write what waits (for at most two seconds: a stopped terminal must not hold up the end)."""
        try:
            self._lines.put(None, timeout=2)
        except queue.Full:
            pass
        else:
            self._thread.join(2)
        super().close()


@contextmanager
def writing(section: LogSection, secrets: Iterable[str] = (), stream: TextIO | None = None) -> Iterator[Redactor]:
    """Within it, all logging goes to `stream` (standard error) as configured; `hide` of what it gives adds secrets."""
    out = sys.stderr if stream is None else stream
    redactor = Redactor(secrets)
    text = section.format == "text" or (section.format == "auto" and out.isatty())
    handler = _WriterThread(out)
    handler.setFormatter(TextFormatter(redactor) if text else JsonFormatter(redactor))
    root = logging.getLogger()
    before, level_before = root.handlers[:], root.level
    root.handlers[:] = [handler]
    root.setLevel(section.level.upper())
    quiet = [logging.getLogger(name) for name in QUIET] if section.level != "debug" else []
    for logger in quiet:
        logger.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    try:
        yield redactor
    finally:
        logging.captureWarnings(False)
        for logger in quiet:
            logger.setLevel(logging.NOTSET)
        root.handlers[:] = before
        root.setLevel(level_before)
        handler.close()
