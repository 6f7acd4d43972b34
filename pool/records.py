"""The vocabulary shared by the rooms: verdicts, share-log rows as numpy sees them, and the events that flow up."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np


class Verdict(enum.IntEnum):
    """What became of one submitted share. The number is its index in every tuple of counts; `native.channel` uses the
    same numbers."""

    ACCEPTED = 0
    MALFORMED = 1  # params missing, of the wrong type, not hex, nonce or ntime over 8 digits
    JOB_NOT_FOUND = 2  # unknown, retired, or never sent to this connection
    BAD_EXTRANONCE2 = 3  # wrong length: cannot be hashed
    UNAUTHORISED = 4
    BAD_VERSION = 5  # version bits outside the connection's mask
    STALE = 6  # another previous block than the tip's
    BAD_NTIME = 7
    LOW_DIFFICULTY = 8  # hash above the target assigned when the job was sent
    DUPLICATE = 9
    NOT_RECORDED = 10  # the share log has no room: never answered true


#: Stratum error code and text of each refusal. Texts are a small fixed set of at most 63 characters (firmware shows
#: them).
ERRORS: dict[Verdict, tuple[int, str]] = {
    Verdict.MALFORMED: (20, "Malformed submit"),
    Verdict.JOB_NOT_FOUND: (21, "Job not found"),
    Verdict.BAD_EXTRANONCE2: (20, "Wrong extranonce2 length"),
    Verdict.UNAUTHORISED: (24, "Unauthorized worker"),
    Verdict.BAD_VERSION: (20, "Invalid version mask"),
    Verdict.STALE: (21, "Stale"),
    Verdict.BAD_NTIME: (20, "Time out of range"),
    Verdict.LOW_DIFFICULTY: (23, "Low difficulty share"),
    Verdict.DUPLICATE: (22, "Duplicate share"),
    Verdict.NOT_RECORDED: (20, "Pool cannot record shares now"),
}
assert all(len(text) <= 63 for _, text in ERRORS.values())


class RowKind(enum.IntEnum):
    """First byte after the check word of each share-log row."""

    SHARE = 1
    ACCOUNT = 2
    WORKER = 3
    REJECTS = 4
    TIP = 5
    BLOCK = 6
    POLICY = 7
    BEST = 8  # header of a share that beat the connection's best so far; follows its SHARE row


#: Flag of a SHARE or BEST row: made on a port whose coinbase pays the finder. It earns no part of the pool's income.
SOLO = 1

# Every row: little-endian, 128 bytes; `check` is the CRC-32C of bytes 4..127 seeded with the segment's salt.
_HEAD = [
    ("check", "<u4"),
    ("kind", "u1"),
    ("flags", "u1"),
    ("reserved", "<u2"),
    ("seq", "<u8"),
    ("time_ns", "<i8"),
    ("account", "<u4"),
    ("worker", "<u4"),
]

SHARE_ROW = np.dtype(
    [
        *_HEAD,
        ("hash_le", "V32"),  # header hash as hashed
        ("work_lo", "<u8"),  # exact work of the assigned target, at most the network's
        ("work_hi", "<u8"),
        ("difficulty", "<f8"),  # as assigned
        ("job_id", "<u8"),
        ("nbits", "<u4"),
        ("height", "<u4"),
        ("session", "<u4"),
        ("extranonce1", "V4"),
        (
            "prevhash_head",
            "V8",
        ),  # first 8 bytes of the previous block hash as hashed: which `seen` the share belongs to
        ("pad", "V8"),
    ]
)
ACCOUNT_ROW = np.dtype([*_HEAD, ("length", "<u4"), ("text", "V88"), ("pad", "V4")])  # account = its new id, worker = 0
WORKER_ROW = ACCOUNT_ROW  # account = owner, worker = its new id, text at most 64 bytes
REJECTS_ROW = np.dtype([*_HEAD, ("counts", "<u4", (16,)), ("pad", "V32")])
TIP_ROW = np.dtype([*_HEAD, ("prevhash", "V32"), ("height", "<u4"), ("nbits", "<u4"), ("pad", "V56")])
BLOCK_ROW = np.dtype([*_HEAD, ("header", "V80"), ("height", "<u4"), ("pad", "V12")])
BEST_ROW = np.dtype(
    [*_HEAD, ("header", "V80"), ("share_seq", "<u8"), ("difficulty", "<f8")]
)  # difficulty = of the hash
POLICY_ROW = np.dtype([*_HEAD, ("digest", "V32"), ("version", "<u4"), ("pad", "V60")])
for _row in (SHARE_ROW, ACCOUNT_ROW, REJECTS_ROW, TIP_ROW, BLOCK_ROW, BEST_ROW, POLICY_ROW):
    assert _row.itemsize == 128


@dataclass(frozen=True, slots=True)
class Identity:
    """What a connection presented, understood: who is credited."""

    account: str  # canonical: a bitcoin address as bitcoinlib writes it, or a Lightning address in lower case
    worker: str  # "" when none was given
    kind: str  # "address" | "lightning"


@dataclass(frozen=True, slots=True)
class SavedSession:
    """What survives a restart for one device (P9), keyed by session id and by (account, worker, user agent)."""

    session_id: str
    account: str
    worker: str
    user_agent: str
    extranonce1_hex: str
    difficulty: float
    version_mask: int
    best_difficulty: float
    hashrate_hs: float
    saved_at_s: int


@dataclass(frozen=True, slots=True)
class BlockFound:
    """A share that met the network target, as `pool.chain.blocks` receives it: written to disk, then sent to every
    node."""

    block: bytes
    hash_hex: str  # display order
    prevhash_hex: str
    height: int
    coinbase_value_sat: int
    account: str
    worker: str
    stale: bool
    found_at_ns: int
    epoch: int
    seq: int
    mode: str = "ledger"  # of the port it came in by: whom its coinbase pays


@dataclass(frozen=True, slots=True)
class IncomeEvent:
    """Money that the ledger splits among members, as of (epoch, seq) of the share log."""

    kind: str  # "block" | "virtual" | "upstream" | "donation"
    source_id: str  # block hash, month, ...
    amount_msat: int
    epoch: int
    seq: int
    height: int
