"""Which configurations are wrong: bounds of each key, and rules between keys. All mistakes are told together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from pool.config.keys import KeyInfo, keys_of, toml_value, words_for_kind
from pool.config.sections import REPEATED, SECTIONS, Config, DevSection, NodeSection
from pool.config.words import kept_fraction, percent


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong: where ("[stratum] port"), what, and the source of the value (file or environment variable)."""

    where: str
    what: str
    origin: str = ""

    def __str__(self) -> str:
        return f"{self.where} {self.what}" + (f" ({self.origin})" if self.origin else "")


#: A room's own check, handed to `load` by the porch (addresses are understood by pool.address, not here).
Check = Callable[[Config], Iterable[Mistake]]


def mistakes_in(config: Config, checks: Iterable[Check] = ()) -> list[Mistake]:
    """Everything wrong with a configuration, however it was made."""
    found = list(_bounds(config))
    for rule in (_network, _nodes, _coinbase, _stratum, _vardiff, _fees, _store, _dev, *checks):
        found += rule(config)
    return found


def sections_of(config: Config) -> Iterator[tuple[str, str, object]]:
    """(path, title, section) of each section present: ("node.0", "[[node]] number 1", NodeSection(...))."""
    for name in SECTIONS:
        section = getattr(config, name)
        if name in REPEATED:
            for index, one in enumerate(section):
                yield f"{name}.{index}", f"[[{name}]] number {index + 1}", one
        else:
            yield name, f"[{name}]", section


def _bounds(config: Config) -> Iterator[Mistake]:
    for path, title, section in sections_of(config):
        for info in keys_of(type(section), path):
            problem = out_of_bounds(info, getattr(section, info.name))
            if problem:
                yield Mistake(f"{title} {info.name}", problem, config.origin(info.path).where)


def out_of_bounds(info: KeyInfo, value: object) -> str:
    """What is wrong with a value of the right type, or ""."""
    wanted = " ".join(words_for_kind(info))
    shown = "the value given" if info.secret else toml_value(value)
    if info.limits.choices and value not in info.limits.choices:
        return f"must be {wanted}, not {shown}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = info.limits.low, info.limits.high
        odd = isinstance(value, float) and not math.isfinite(value)
        if odd or (low is not None and value < low) or (high is not None and value > high):
            return f"must be {wanted}, not {shown}"
    return ""


def _network(config: Config) -> Iterator[Mistake]:
    if config.pool.network != "dev" and not config.node:
        yield Mistake("[[node]]", f"is missing: network {config.pool.network} needs at least one node")
    if not config.pool.name.strip():
        yield Mistake("[pool] name", "must not be empty")


def _nodes(config: Config) -> Iterator[Mistake]:
    for index, node in enumerate(config.node):
        title = f"[[node]] number {index + 1}"
        yield from _node(title, node)


def _node(title: str, node: NodeSection) -> Iterator[Mistake]:
    url = _parts(node.url)
    if url is None or url[0] != "http":
        yield Mistake(f"{title} url", f"must be http://host:port, not {toml_value(_without_password(node.url))}")
    elif "@" in urlsplit(node.url).netloc:
        yield Mistake(f"{title} url", "must hold no user or password: they have keys of their own")
    if node.cookie_file is not None and (node.user or node.password is not None):
        yield Mistake(f"{title} cookie_file", "stands instead of user and password: give one or the other")
    if node.password is not None and not node.user:
        yield Mistake(f"{title} user", "is missing beside password")
    if node.user and node.password is None and node.cookie_file is None:
        yield Mistake(f"{title} password", "is missing beside user (or password_file)")
    if node.zmq_hashblock:
        zmq = _parts(node.zmq_hashblock)
        if zmq is None or zmq[0] not in ("tcp", "ipc"):
            yield Mistake(f"{title} zmq_hashblock", f"must be tcp://host:port, not {toml_value(node.zmq_hashblock)}")


def _parts(url: str) -> tuple[str, str, int | None] | None:
    try:
        parts = urlsplit(url)
        host = parts.hostname or (parts.path if parts.scheme == "ipc" else "")
        return (parts.scheme, host, parts.port) if host else None
    except ValueError:  # port out of range, broken IPv6
        return None


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"...@{tail}" if at and head else url


def _coinbase(config: Config) -> Iterator[Mistake]:
    coinbase = config.coinbase
    if coinbase.payout_address and coinbase.payout_descriptor:
        yield Mistake("[coinbase] payout_address", "and payout_descriptor exclude each other: keep one")
    if config.real_network and not (coinbase.payout_address or coinbase.payout_descriptor):
        yield Mistake(
            "[coinbase] payout_descriptor", f"or payout_address is missing: {config.pool.network} pays blocks to it"
        )
    if len(coinbase.tag) > 30 or not (coinbase.tag.isascii() and (coinbase.tag.isprintable())):
        yield Mistake("[coinbase] tag", "must be at most 30 printable ASCII characters")


def _stratum(config: Config) -> Iterator[Mistake]:
    stratum = config.stratum
    taken: dict[int, str] = {}
    for name in ("port", "high_difficulty_port", "nerdminer_port", "tls_port"):
        port = getattr(stratum, name)
        if port and port in taken:
            yield Mistake(f"[stratum] {name}", f"{port} is taken by {taken[port]}")
        taken.setdefault(port, name)
    if (stratum.tls_cert_file is None) != (stratum.tls_key_file is None):
        absent = "tls_cert_file" if stratum.tls_cert_file is None else "tls_key_file"
        yield Mistake(f"[stratum] {absent}", "is missing: TLS needs the certificate and its key")
    elif stratum.tls_port and stratum.tls_cert_file is None:
        yield Mistake("[stratum] tls_cert_file", "is missing beside tls_port")
    for name in ("tls_cert_file", "tls_key_file"):
        path = getattr(stratum, name)
        if path is not None and not path.is_file():
            yield Mistake(f"[stratum] {name}", f"does not exist: {path}")
    if stratum.extranonce1_first > stratum.extranonce1_last:
        yield Mistake("[stratum] extranonce1_first", "must not be above extranonce1_last")
    elif stratum.extranonce1_last - stratum.extranonce1_first + 1 < stratum.max_connections:
        yield Mistake("[stratum] extranonce1_last", "leaves fewer values than max_connections")
    if stratum.max_connections_per_address > stratum.max_connections:
        yield Mistake("[stratum] max_connections_per_address", "must not be above max_connections")


def _vardiff(config: Config) -> Iterator[Mistake]:
    vardiff = config.vardiff
    if vardiff.start_difficulty < vardiff.min_difficulty:
        yield Mistake("[vardiff] start_difficulty", "must not be below min_difficulty")
    if vardiff.max_difficulty and vardiff.max_difficulty < vardiff.start_difficulty:
        yield Mistake("[vardiff] max_difficulty", "must not be below start_difficulty (0 = the network's)")


def _fees(config: Config) -> Iterator[Mistake]:
    fees = config.fees
    total = fees.fee_bp + fees.reserve_bp + fees.projects_bp + fees.raffle_bp
    if total > 10_000:
        yield Mistake("[fees]", f"take {total} basis points in all: more than a whole block (10000)")
        return
    taken = 1 - kept_fraction(fees)
    if taken * 10 > 1 and not fees.i_know:
        yield Mistake("[fees]", f"take {percent(taken, 'en')}, above 10 %: set i_know = true if that is meant")


def _store(config: Config) -> Iterator[Mistake]:
    scheme = config.store.url.reveal().partition(":")[0].partition("+")[0]
    if scheme not in ("sqlite", "postgresql", "postgres"):
        yield Mistake("[store] url", "must begin with sqlite:/// or postgresql://")


def _dev(config: Config) -> Iterator[Mistake]:
    if not config.real_network:
        return
    usual = DevSection()
    for info in keys_of(DevSection, "dev"):
        where = config.origin(info.path).where
        if where or getattr(config.dev, info.name) != getattr(usual, info.name):
            what = f"belongs to the development chain and is refused beside network = {config.pool.network}"
            yield Mistake(f"[dev] {info.name}", what, where)
