"""What a running pool tells on standard output: where to connect, then its figures as a live line or as JSON lines."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pool.dev.fleet.users import dev_users
from pool.records import Verdict
from pool.stratum import vardiff

if TYPE_CHECKING:
    from pool.commands.rooms import Pool

ANYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - recognised here, not bound


@dataclass(frozen=True, slots=True)
class Figures:
    """The pool at one moment."""

    time_s: int
    height: int  # of the block being mined
    work: str  # "ok", or why there is none
    connections: int
    miners: int  # sessions with a user
    hashrate_hs: float  # of the sessions' own averages, five minutes
    accepted: int
    rejected: int
    stale: int
    blocks_found: int


def figures_of(pool: Pool) -> Figures:
    counts = pool.server.counts()
    now_s = pool.hub.monotonic()
    rates = [
        vardiff.rate_of(session.pace, now_s)
        for session in pool.hub.sessions
        if session.pace is not None and session.identity is not None
    ]
    tip = pool.follower.tip
    return Figures(
        time_s=int(time.time()),
        height=tip.height + 1 if tip is not None else 0,
        work="ok" if pool.desk.state.ok else pool.desk.state.reason,
        connections=len(pool.server.connections),
        miners=sum(session.identity is not None for session in pool.hub.sessions),
        hashrate_hs=round(sum(rates) * vardiff.HASHES_PER_DIFFICULTY),
        accepted=counts[Verdict.ACCEPTED],
        rejected=sum(counts) - counts[Verdict.ACCEPTED],
        stale=counts[Verdict.STALE],
        blocks_found=pool.blocks.found_ever,
    )


def lan_address(host: str) -> str:
    """An address of this machine that devices of the same network can use."""
    if host not in ANYWHERE:
        return host
    # Connecting a datagram socket sends nothing: it only asks the routing table for our side.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def announce(pool: Pool) -> None:
    """Where to point a miner at, in both languages."""
    settings, network = pool.config.stratum, pool.network
    host = lan_address(settings.host)
    shown = f"[{host}]" if ":" in host else host
    print(f"{pool.config.pool.name} ({network.name})", flush=True)
    for listener in pool.server.listeners:
        scheme = "stratum+ssl" if listener.port.tls_only else "stratum+tcp"
        print(f"  {scheme}://{shown}:{listener.number}  ({listener.port.name})", flush=True)
    for line in _whom(pool.config.pool.network):
        print(f"  {line}", flush=True)


def _whom(network: str) -> tuple[str, ...]:
    """Which user name to give the miner; on a development chain, one that it takes, and what not to expect of it."""
    if network != "dev":
        return (
            "Usuario: tu dirección de Bitcoin, o tu dirección.nombre · contraseña: x",
            "User: your Bitcoin address, or address.worker · password: x",
        )
    user = f"{dev_users(4)[3]}.bitaxe"
    return (
        f"Usuario / User: {user} · contraseña / password: x",
        "Cadena de desarrollo: sus monedas no valen nada y solo admite direcciones bcrt1… Sin página ni pagos todavía.",
        "Development chain: its coins are worth nothing; it takes bcrt1… addresses only. No page and no payouts yet.",
        "Ctrl-C lo cierra en orden / ends it in order.",
    )


def si(value: float, unit: str) -> str:
    """1.23 TH/s and the like, up to the 10^24."""
    for prefix in ("", "k", "M", "G", "T", "P", "E", "Z"):
        if value < 1000:
            return f"{value:.3g} {prefix}{unit}"
        value /= 1000
    return f"{value:.3g} Y{unit}"


def line_of(now: Figures) -> str:
    work = "" if now.work == "ok" else f" · NO WORK: {now.work}"
    return (
        f"block {now.height} · {now.miners} miners · {si(now.hashrate_hs, 'H/s')} · {now.accepted} shares"
        f" · {now.rejected} rejected ({now.stale} stale) · {now.blocks_found} blocks{work}"
    )


async def figures(pool: Pool, every_s: float, *, live: bool) -> None:
    """One line that changes on a terminal, else a JSON line each `every_s`. Until cancelled."""
    if not live:
        while True:
            await asyncio.sleep(every_s)
            print(json.dumps(asdict(figures_of(pool))), flush=True)
    from rich.live import Live
    from rich.text import Text

    def line() -> Text:
        return Text(line_of(figures_of(pool)), no_wrap=True, overflow="ellipsis")

    with Live(line(), refresh_per_second=2) as screen:
        while True:
            await asyncio.sleep(0.5)
            screen.update(line())
