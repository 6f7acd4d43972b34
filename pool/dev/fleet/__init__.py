"""Simulated mining devices: the protocol behaviour of real firmware, on real sockets, with real hashing, tiny rates.

What each model does was read in the firmware it stands for; nothing of that firmware is copied. A model is strict
where the real device would crash, hang up or throw its work away, so a pool that satisfies the fleet satisfies them.
"""

from pool.dev.fleet.firmware import Firmware, FirmwareCrash, LinkDropped, Login
from pool.dev.fleet.models import MODELS, make_firmware

__all__ = ["MODELS", "Firmware", "FirmwareCrash", "LinkDropped", "Login", "make_firmware"]
