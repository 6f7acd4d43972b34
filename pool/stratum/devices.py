"""What user agents tell about devices: usual hashrate and the chip's ticket difficulty. A hint for the first job,
never a gate.

Rates: ESP-Miner device tables (frequency x small cores x chips), NerdQAxe boards, vendors' figures; several models
share an agent,
then the slowest common one is meant: the brake raises within a second, descending takes minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Device:
    """A class of devices that present the same user agent."""

    name: str
    hashrate_hs: float
    ticket: float = 0.0  # the chip reports nothing easier: below it fewer credits come, not more shares
    floor: float = 0.0  # the least the device's owner accepts (rented hashrate)


_G, _T = 1e9, 1e12

#: (what the lower-cased agent starts with or, after "*", contains; class). First match wins.
TABLE: tuple[tuple[str, Device], ...] = (
    ("bitaxe/bm1372", Device("BitAxe BM1373", 2.2 * _T, 256)),
    ("bitaxe/bm1373", Device("BitAxe BM1373", 2.2 * _T, 256)),
    ("bitaxe/bm1370", Device("BitAxe BM1370", 1.07 * _T, 256)),
    ("bitaxe/bm1368", Device("BitAxe BM1368", 625 * _G, 256)),
    ("bitaxe/bm1366", Device("BitAxe or LuckyMiner BM1366", 434 * _G, 256)),
    ("bitaxe bm1366", Device("BitAxe or LuckyMiner BM1366", 434 * _G, 256)),
    ("bitaxe/bm1397", Device("BitAxe BM1397", 286 * _G, 256)),
    ("bitaxe", Device("BitAxe", 434 * _G, 256)),
    ("nerdqaxe++", Device("NerdQAxe++", 4.9 * _T, 512)),
    ("nerdqaxe+", Device("NerdQAxe+", 2.5 * _T, 256)),
    ("nerdoctaxe-", Device("NerdOctaxe-γ", 11.4 * _T, 1024)),
    ("nerdoctaxe", Device("NerdOctaxe+", 5.0 * _T, 1024)),
    ("nerdhaxe", Device("NerdHaxe-γ", 6.4 * _T, 256)),
    ("nerdeko", Device("NerdEKO", 10 * _T, 2048)),
    ("nerdqx", Device("NerdQX", 4.9 * _T, 512)),
    ("q1370", Device("Q1370", 4.9 * _T, 512)),
    ("q1373", Device("Q1373", 8.0 * _T, 512)),
    ("nerdaxe", Device("NerdAxe", 1.05 * _T, 256)),
    ("nerdminer", Device("NerdMiner", 150e3)),
    ("nerd miner", Device("NerdMiner", 150e3)),
    ("han_solominer", Device("NerdMiner HAN", 150e3)),
    ("nmminer", Device("NMMiner", 800e3)),
    ("leafminer", Device("LeafMiner", 50e3)),
    ("sparkminer", Device("SparkMiner", 300e3)),
    ("cpuminer", Device("cpuminer", 6.5e6)),
    ("nicehash", Device("NiceHash", 1000 * _T, floor=524288)),
    ("antminer s19", Device("Antminer S19", 95 * _T)),
    ("antminer", Device("Antminer", 100 * _T)),
    ("whatsminer", Device("Whatsminer", 28 * _T)),
    ("xminer-", Device("vnish", 90 * _T)),
    ("powerplay-bm", Device("ePIC", 90 * _T)),
    ("*bosminer", Device("Braiins OS", 50 * _T)),
)


@lru_cache(maxsize=4096)  # a herd comes back with a few agents: 5 us each without
def device_of(user_agent: str) -> Device | None:
    """The class of a user agent; None when it tells nothing (cgminer stands for anything from a USB stick to a
    rack).
    """
    agent = user_agent[:128].lower()
    for text, device in TABLE:
        if agent.startswith(text) or (text[0] == "*" and text[1:] in agent):
            return device
    return None
