"""Stratum lines as JSON: requests read without trust, replies written as every known firmware can read them. No state.

Every reply has `result` and `error` (NiceHash drops pools that leave `"error":null` out; old AxeOS panics), errors
are arrays (old AxeOS reads nothing else), the id comes back with the type and value it had.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import NoReturn

OTHER, UNAUTHORISED = 20, 24
LONGEST_MESSAGE = 250  # AxeOS shows 256 characters of client.show_message


@dataclass(frozen=True, slots=True)
class Request:
    """Something a client asks for. `id_json` is the id as JSON; b"null": it wants no reply."""

    method: str
    params: list[object]
    id_json: bytes

    def param(self, index: int) -> object:
        """The parameter at `index`, None when there are fewer."""
        return self.params[index] if index < len(self.params) else None

    @property
    def wants_reply(self) -> bool:
        return self.id_json != b"null"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client answers to something we asked."""

    id_json: bytes
    result: object


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Not a request: answered with an error under the id it had, if any could be found."""

    why: str
    id_json: bytes = b"null"
    foreign: bool = False  # not even JSON: another protocol


class _Number(float):
    """A JSON number that Python would write differently; keeps its text."""

    text: str


def _number(text: str) -> float:
    number = _Number(text)
    number.text = text
    return number


def _integer(text: str) -> float | int:
    # int() is quadratic in digits; an id of 8,000 digits is echoed as it came without being understood.
    return _number(text) if text == "-0" or len(text) > 300 else int(text)


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_decoder = json.JSONDecoder(parse_float=_number, parse_int=_integer, parse_constant=_constant)


def read(line: bytes) -> Request | Answer | Unreadable:
    """Understand one line. Never raises: whatever a stranger sends is one of the three."""
    try:
        # What JSONDecoder.decode does, with str.strip in place of two searches for white space.
        words = line.decode("utf-8").strip(" \t\n\r")
        value, end = _decoder.raw_decode(words)
    except (ValueError, RecursionError):
        return Unreadable("Not JSON", foreign=True)
    if end != len(words):
        return Unreadable("Not JSON", foreign=True)
    if isinstance(value, list):
        return Unreadable("Batches are not supported: one request a line")
    if not isinstance(value, dict):
        return Unreadable("Not a request")
    id_json = _echo(value.get("id"))
    method = value.get("method")
    if method is None:
        return Answer(id_json, value.get("result"))
    if not isinstance(method, str):
        return Unreadable("Method must be a string", id_json)
    params = value.get("params")
    if params is None:
        params = []
    if not isinstance(params, list):
        return Unreadable("Params must be an array", id_json)
    return Request(method, params, id_json)


def _echo(value: object) -> bytes:
    """An id as it came. Ids that are lists or objects are no ids: no client could match them."""
    if type(value) is int:
        return b"%d" % value
    if isinstance(value, _Number):
        return value.text.encode("ascii")
    if isinstance(value, list | dict):
        return b"null"
    return json.dumps(value).encode("ascii")


def text(value: str) -> bytes:
    """A JSON string."""
    return json.dumps(value).encode("ascii")


def result(request: Request, value_json: bytes) -> bytes:
    """A success, or b"" when no reply is wanted. `value_json` is JSON already."""
    if not request.wants_reply:
        return b""
    return b'{"id":%b,"result":%b,"error":null}\n' % (request.id_json, value_json)


def error(request: Request | Unreadable, code: int, words: str, result_json: bytes = b"null") -> bytes:
    """A refusal. What was not even a request is answered under id null: silence would leave a firmware waiting."""
    if isinstance(request, Request) and not request.wants_reply:
        return b""
    return b'{"id":%b,"result":%b,"error":[%d,%b,null]}\n' % (request.id_json, result_json, code, text(words))


def show_message(words: str) -> bytes:
    return b'{"id":null,"method":"client.show_message","params":[%b]}\n' % text(words[:LONGEST_MESSAGE])


#: Without host and port every client comes back to where it was; most ignore others anyway, and some call them an
#: attack.
RECONNECT = b'{"id":null,"method":"client.reconnect","params":[]}\n'


def get_version(id_number: int) -> bytes:
    return b'{"id":%d,"method":"client.get_version","params":[]}\n' % id_number


def number(value: object) -> float | None:
    """A number, also one written as a string ("512", "0.5"); None for anything else, for booleans and for what is
    not finite.
    """
    if isinstance(value, str) and len(value) <= 40:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        plain = float(value)
    except OverflowError:
        return None
    return plain if -1e308 < plain < 1e308 else None
