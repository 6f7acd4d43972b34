"""Who is credited: the user name and password of mining.authorize, understood. Reads only what was presented; stores
nothing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

from pool.address import NETWORKS, AddressError, parse_address
from pool.records import Identity
from pool.stratum.texts import Reason

LONGEST_USER = 256
LONGEST_ACCOUNT_BYTES = 88  # the share log's ACCOUNT row
LONGEST_WORKER_BYTES = 64
SEPARATOR = re.compile(r"[._/]")
#: LUD-16: a-z0-9-_.+ before the @; a host name with at least one dot after it.
LIGHTNING = re.compile(r"[a-z0-9_.+-]{1,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
PASSWORD_OPTION = re.compile(r"(?:^|[\s,;&])\s*(d|diff|ln)\s*=\s*([^\s,;&]+)", re.IGNORECASE)


class UserError(ValueError):
    """A user name that nobody can be paid under. `reason` has the words for the device and for people."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason.text)
        self.reason = reason
        self.detail = detail  # what exactly was wrong, for logs and help pages


@dataclass(frozen=True, slots=True)
class Options:
    """What a password asks for. Passwords are not secrets here and open nothing."""

    difficulty: float | None = None  # "d=1000" or "diff=0.5"
    lightning: str = ""  # "ln=me@host", in lower case, not yet checked


NO_OPTIONS = Options()


def read_password(password: object) -> Options:
    """Options in a password ("x,d=2048;ln=me@host"). Whatever cannot be read is no option: passwords are usually
    "x".
    """
    if not isinstance(password, str) or "=" not in password:
        return NO_OPTIONS
    difficulty, lightning = None, ""
    for name, value in PASSWORD_OPTION.findall(password[:LONGEST_USER]):
        if name.lower() == "ln":
            lightning = value.lower()
        else:
            difficulty = _positive(value)
    return Options(difficulty, lightning)


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


#: The embedded development chain credits addresses of every network: a BitAxe as it stands at home shall mine there,
#: and nothing there is worth anything.
ANY_NETWORK = "any"


def identify(user: str, network: str, lightning: str = "") -> Identity:
    """Identity of "address[.worker]" ("_" and "/" separate too) or of a Lightning address ("me@host[/worker]").

    `lightning` (the password's `ln=`) is credited instead of the address, for this connection only. UserError says
    what is wrong.
    A dot after a Lightning address belongs to its host name, so only "/" and "_" separate a worker there.
    """
    if not user.strip():
        raise UserError(Reason.NO_USER)
    if len(user) > LONGEST_USER:
        raise UserError(Reason.TOO_LONG, f"{len(user)} characters")
    name = user.strip()
    scheme, colon, rest = name.partition(":")
    if colon and scheme.lower() in ("bitcoin", "lightning"):
        name = rest
    if "@" in name:
        base, worker = _split_lightning(name)
        return _lightning(lightning or base, worker)
    base, worker = _split(name)
    if lightning:
        # The address is not paid then; whatever stands before the worker may be a mere name.
        return _lightning(lightning, worker or _fit(base))
    return Identity(_address(base, network), worker, "address")


def _split(name: str) -> tuple[str, str]:
    parts = SEPARATOR.split(name, maxsplit=1)
    return parts[0], _fit(parts[1]) if len(parts) > 1 else ""


def _split_lightning(name: str) -> tuple[str, str]:
    local, _, rest = name.partition("@")
    found = re.search("[_/]", rest)
    host, worker = (rest[: found.start()], rest[found.end() :]) if found else (rest, "")
    return f"{local}@{host}".lower(), _fit(worker)


def _fit(worker: str) -> str:
    """Printable, and no longer than the share log's row: cut between characters."""
    shown = "".join(letter for letter in worker if letter.isprintable())
    return shown.encode("utf-8", "ignore")[:LONGEST_WORKER_BYTES].decode("utf-8", "ignore")


def _lightning(address: str, worker: str) -> Identity:
    if not LIGHTNING.fullmatch(address) or len(address) > LONGEST_ACCOUNT_BYTES:
        raise UserError(Reason.BAD_LIGHTNING, repr(address[:LONGEST_ACCOUNT_BYTES]))
    return Identity(address, worker, "lightning")


@lru_cache(maxsize=16_384)  # a herd of 10,000 devices comes back with the same addresses: 25 us each without
def _address(text: str, network: str) -> str:
    """Canonical form. Bech32 in mixed case is taken as lower case: its checksum still guards it, and some pages
    capitalise.
    """
    plain = text.lower() if re.match("(?:bc|tb|bcrt)1", text, re.IGNORECASE) else text
    if network == ANY_NETWORK:
        return _of_any_network(plain)
    try:
        return parse_address(plain, network).text
    except AddressError as error:
        raise UserError(_why(plain, network), str(error)) from None


def _of_any_network(text: str) -> str:
    for network in NETWORKS:
        try:
            return parse_address(text, network).text
        except AddressError:
            continue
    raise UserError(_why(text, "regtest"))


def _why(text: str, network: str) -> Reason:
    """Which of the usual mistakes it is."""
    for other in NETWORKS:
        if other == network:
            continue
        try:
            parse_address(text, other)
        except AddressError:
            continue
        return Reason.MAINNET_ADDRESS if other == "mainnet" else Reason.TESTNET_ADDRESS
    try:
        parse_address(text, network, allow_future=True)
    except AddressError:
        return Reason.BAD_ADDRESS
    return Reason.FUTURE_ADDRESS
