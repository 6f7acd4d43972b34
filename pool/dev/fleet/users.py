"""Throwaway accounts of simulated devices: valid addresses of the development chain to which nobody holds a key."""

from __future__ import annotations

import hashlib

from pool.address import address_of_script

MOST = 1000


def dev_users(count: int) -> list[str]:
    """`count` different addresses, the same in every run. ValueError above 1,000."""
    if not 1 <= count <= MOST:
        raise ValueError(f"between 1 and {MOST} accounts, got {count}")
    users = []
    for number in range(count):
        program = hashlib.sha256(f"simulated member {number}".encode()).digest()[:20]
        text = address_of_script(b"\x00\x14" + program, "regtest")
        assert text is not None
        users.append(text)
    return users
