"""The device models by name, and how much of a fleet's hashing each gets."""

from __future__ import annotations

from pool.dev.fleet.bfgminer import Bfgminer
from pool.dev.fleet.bitaxe import BitAxe, BitAxe22, BitAxe24, BitAxe28
from pool.dev.fleet.cgminer import AntminerS21, Cgminer, CgminerRolling
from pool.dev.fleet.cpuminer import Cpuminer
from pool.dev.fleet.firmware import Firmware, Login
from pool.dev.fleet.lucky import LuckyMiner
from pool.dev.fleet.nerdminer import NerdMiner
from pool.dev.fleet.nerdqaxe import NerdQAxe

_CLASSES: tuple[type[Firmware], ...] = (
    BitAxe,
    BitAxe28,
    BitAxe24,
    BitAxe22,
    LuckyMiner,
    NerdQAxe,
    NerdMiner,
    Cgminer,
    CgminerRolling,
    AntminerS21,
    Cpuminer,
    Bfgminer,
)
MODELS: dict[str, type[Firmware]] = {cls.model: cls for cls in _CLASSES}
#: Share of the fleet's hashing that one device of this model gets, beside the others: real ratios would starve all
#: but the largest.
WEIGHTS: dict[str, float] = {"nerdminer": 0.5, "cpuminer": 0.5, "nerdqaxe": 2.0, "s21": 4.0}
#: What `pool simulate` starts with: a club's devices, in the order in which they are added.
CLUB = ("bitaxe", "luckyminer", "nerdminer", "nerdqaxe", "bitaxe-2.8", "s21", "cgminer", "cpuminer")


def make_firmware(model: str, login: Login) -> Firmware:
    """A device of that model. ValueError naming the models there are."""
    try:
        cls = MODELS[model]
    except KeyError:
        raise ValueError(f"unknown device model {model!r}; there are {', '.join(MODELS)}") from None
    return cls(login)
