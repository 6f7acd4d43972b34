"""Job (immutable once published), JobTable (job id = slot + generation) and block assembly."""

from collections.abc import Sequence

from native.seen import SeenSet

EXTRANONCE1_SIZE: int  # 4
EXTRANONCE2_SIZE: int  # 8
VERSION_MASK: int  # 0x1fffe000: the most that version rolling may touch

class Job:
    """One template as miners hash it. Everything they and the block need; nothing changes after the constructor."""

    def __init__(
        self,
        *,
        job_id: int,
        coinb1: bytes,
        coinb2: bytes,
        branches: Sequence[bytes],
        prevhash: bytes,  # 32 bytes, internal (header) order
        version: int,
        nbits: int,
        ntime: int,
        ntime_min: int,
        ntime_max: int,
        height: int,
        transactions: bytes = b"",  # all transactions but the coinbase, serialised with witness, concatenated
        tx_count: int = 0,
        # coinbase goes into the block with marker, flag and one 32-zero-byte witness item
        witness_commitment: bool = True,
        tag: object = None,  # free for the maker: payout snapshot, template; never read by native
    ) -> None:
        """ValueError naming the field on wrong sizes, more than 32 branches, bits of `version` inside VERSION_MASK,
        ntime outside its bounds."""

    job_id: int
    job_id_hex: str
    coinb1: bytes
    coinb2: bytes
    branches: tuple[bytes, ...]
    prevhash: bytes
    version: int
    nbits: int
    ntime: int
    ntime_min: int
    ntime_max: int
    height: int
    transactions: bytes
    tx_count: int
    witness_commitment: bool
    seen: SeenSet | None  # of its previous block; None until published
    network_target: int
    network_difficulty: float
    network_work: int
    tag: object

    def notify(self, clean: bool) -> bytes:
        """The mining.notify line, '\\n' ended, encoded once and shared."""

    def coinbase(self, extranonce1: bytes, extranonce2: bytes) -> bytes:
        """Non-witness serialisation: its sha256d is the txid."""

    def header(self, extranonce1: bytes, extranonce2: bytes, ntime: int, nonce: int, version_bits: int) -> bytes:
        """80 bytes; version = job.version ^ version_bits."""

    def block(self, extranonce1: bytes, extranonce2: bytes, header: bytes) -> bytes:
        """The whole block, witness form, ready for submitblock."""

class JobTable:
    """All live jobs of the pool by id, and which previous block is the tip. Job ids are 48-bit numbers that grow from
    a boot epoch
    ((unix seconds - 1.7e9) << 12), slot = id mod capacity: never reused in a lifetime nor over a restart. The id is
    also the coinbase's unique counter."""

    def __init__(self, capacity: int = 4096, boot_s: int | None = None) -> None: ...
    def next_id(self) -> int:
        """Take the next job id."""

    def publish(self, job: Job) -> None:
        """Make it known. A job still in that slot is retired."""

    def get(self, job_id: int) -> Job | None: ...
    def set_tip(self, prevhash: bytes) -> None:
        """Jobs on another previous block are stale from now on (and not stale again after a reorg back)."""

    tip: bytes

    def is_stale(self, job: Job) -> bool: ...
    def retire_before(self, job_id: int, *, keep_prevhash: bytes | None = None) -> int:
        """Forget jobs with a smaller id (unless on keep_prevhash); sets of hashes seen that no live job is on are
        dropped. Returns how many."""

    def __len__(self) -> int: ...
    def live_prevhashes(self) -> list[bytes]: ...
    def seen_stats(self) -> dict[bytes, tuple[int, int]]:
        """prevhash -> (hashes held, bytes of memory)."""

    def seen_load(self, prevhash: bytes, hashes: bytes) -> int:
        """Enter hashes (concatenated 32-byte) already credited on that previous block; returns how many were new."""
