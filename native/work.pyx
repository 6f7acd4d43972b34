"""Job (immutable once published), JobTable (job id = slot + generation) and block assembly."""

import time

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.string cimport memcpy
from native.difficulty cimport int_of_u256, u256_of_int, u256_work
from native.hashing cimport share_hash, state_after

from native.difficulty import difficulty_of_target, target_of_nbits

cdef extern from *:
    const char *NATIVE_BUILD

__build__ = NATIVE_BUILD.decode()

EXTRANONCE1_SIZE = EN1
EXTRANONCE2_SIZE = EN2
VERSION_MASK = 0x1FFFE000
#: Job ids count from here on the clock, so that 48 bits last until 2164 at 4096 jobs a second.
_BOOT_ORIGIN_S = 1_700_000_000
cdef enum:
    MAX_COINBASE = 16384  # the largest that any firmware was seen to take (pools.md section 1b), and the judge's room on the stack


cdef void put32le(uint8_t *p, uint32_t v) noexcept nogil:
    p[0] = v & 255
    p[1] = (v >> 8) & 255
    p[2] = (v >> 16) & 255
    p[3] = v >> 24


def _u32(str name, object value):
    if not isinstance(value, int) or not 0 <= value <= 0xFFFFFFFF:
        raise ValueError(f"{name} must be a 32-bit number, got {value!r}")
    return value


def _varint(n):
    if n < 0xFD:
        return bytes([n])
    if n <= 0xFFFF:
        return b"\xfd" + n.to_bytes(2, "little")
    return b"\xfe" + n.to_bytes(4, "little")


cdef class Job:
    def __cinit__(self, *, job_id, bytes coinb1 not None, bytes coinb2 not None, branches, bytes prevhash not None, version, nbits, ntime,
                  ntime_min, ntime_max, height, bytes transactions not None=b"", tx_count=0, witness_commitment=True, tag=None):
        if not 0 < job_id < 1 << 63:
            raise ValueError(f"job_id must be from 1 to 2^63 - 1, got {job_id}")
        if len(prevhash) != 32:
            raise ValueError(f"prevhash must be 32 bytes, not {len(prevhash)}")
        if len(branches) > MAX_BRANCHES:
            raise ValueError(f"branches must be at most {MAX_BRANCHES}, got {len(branches)}")
        for i, branch in enumerate(branches):
            if not isinstance(branch, bytes) or len(branch) != 32:
                raise ValueError(f"branches[{i}] must be 32 bytes")
        if len(coinb1) < 42 or len(coinb1) + EN1 + EN2 + len(coinb2) > MAX_COINBASE:
            raise ValueError(f"coinb1 and coinb2 are {len(coinb1)} and {len(coinb2)} bytes: no coinbase has that size")
        if _u32("version", version) & VERSION_MASK:
            raise ValueError(f"version {version:08x} has bits inside {VERSION_MASK:08x}: miners would combine them in different ways")
        if not _u32("ntime_min", ntime_min) <= _u32("ntime", ntime) <= _u32("ntime_max", ntime_max):
            raise ValueError(f"ntime {ntime} is not within {ntime_min}..{ntime_max}")
        self.job_id = job_id
        self.coinb1, self.coinb2, self._branches = coinb1, coinb2, b"".join(branches)
        self.prevhash, self.transactions, self.tag = prevhash, transactions, tag
        self.version, self.nbits, self.ntime = version, _u32("nbits", nbits), ntime
        self.ntime_min, self.ntime_max, self.height = ntime_min, ntime_max, _u32("height", height)
        self.tx_count, self.witness_commitment = _u32("tx_count", tx_count), witness_commitment
        self.n_branches = len(branches)
        self.at_branches = self._branches
        self.target = u256_of_int(target_of_nbits(nbits))
        u256_work(&self.target, &self.work_lo, &self.work_hi)
        self.mid_bytes = len(coinb1) // 64 * 64
        state_after(self.mid, coinb1, self.mid_bytes // 64)
        self.at_coinb1, self.n_coinb1 = (<const uint8_t *>coinb1) + self.mid_bytes, len(coinb1) - self.mid_bytes
        self.at_coinb2, self.n_coinb2 = <const uint8_t *>coinb2, len(coinb2)
        memcpy(self.head + 4, <const uint8_t *>prevhash, 32)
        put32le(self.head + 72, nbits)
        self._encode()

    def _encode(self):
        """The notify line, once: prevhash goes out with the bytes of each 4-byte word reversed (pools.md R7: neither RPC order nor header order)."""
        wire = b"".join([self.prevhash[i : i + 4][::-1] for i in range(0, 32, 4)]).hex()
        branches = ",".join([f'"{self._branches[i : i + 32].hex()}"' for i in range(0, len(self._branches), 32)])
        line = (
            f'{{"id":null,"method":"mining.notify","params":["{self.job_id:x}","{wire}","{self.coinb1.hex()}","{self.coinb2.hex()}",'
            f'[{branches}],"{self.version:08x}","{self.nbits:08x}","{self.ntime:08x}",'
        )
        self._notify_false = (line + "false]}\n").encode()
        self._notify_true = (line + "true]}\n").encode()

    @property
    def job_id_hex(self):
        return f"{self.job_id:x}"

    @property
    def branches(self):
        return tuple([self._branches[i : i + 32] for i in range(0, len(self._branches), 32)])

    @property
    def network_target(self):
        return int_of_u256(&self.target)

    @property
    def network_difficulty(self):
        return difficulty_of_target(self.network_target)

    @property
    def network_work(self):
        return <object>self.work_hi << 64 | self.work_lo

    def notify(self, bint clean):
        return self._notify_true if clean else self._notify_false

    cdef void hash_share(self, const uint8_t *en1, const uint8_t *en2, uint32_t version, uint32_t ntime, uint32_t nonce,
                         uint8_t *header, uint8_t *hash_le) noexcept nogil:
        cdef uint8_t tail[MAX_COINBASE]
        memcpy(tail, self.at_coinb1, self.n_coinb1)
        memcpy(tail + self.n_coinb1, en1, EN1)
        memcpy(tail + self.n_coinb1 + EN1, en2, EN2)
        memcpy(tail + self.n_coinb1 + EN1 + EN2, self.at_coinb2, self.n_coinb2)
        memcpy(header, self.head, 80)
        put32le(header, version)
        put32le(header + 68, ntime)
        put32le(header + 76, nonce)
        share_hash(self.mid, self.mid_bytes, tail, self.n_coinb1 + EN1 + EN2 + self.n_coinb2, self.at_branches, self.n_branches, header, hash_le)

    def coinbase(self, bytes extranonce1 not None, bytes extranonce2 not None):
        if len(extranonce1) != EN1 or len(extranonce2) != EN2:
            raise ValueError(f"extranonce1 and extranonce2 must be {EN1} and {EN2} bytes, not {len(extranonce1)} and {len(extranonce2)}")
        return self.coinb1 + extranonce1 + extranonce2 + self.coinb2

    def header(self, bytes extranonce1 not None, bytes extranonce2 not None, ntime, nonce, version_bits):
        self.coinbase(extranonce1, extranonce2)  # checks the sizes
        cdef uint8_t header[80]
        cdef uint8_t hash_le[32]
        self.hash_share(extranonce1, extranonce2, self.version ^ <uint32_t>_u32("version_bits", version_bits), _u32("ntime", ntime), _u32("nonce", nonce),
                        header, hash_le)
        return header[:80]

    def block(self, bytes extranonce1 not None, bytes extranonce2 not None, bytes header not None):
        if len(header) != 80:
            raise ValueError(f"header must be 80 bytes, not {len(header)}")
        coinbase = self.coinbase(extranonce1, extranonce2)
        if self.witness_commitment:  # BIP144: marker and flag after the version, one 32-zero-byte witness item before the locktime (BIP141)
            coinbase = coinbase[:4] + b"\x00\x01" + coinbase[4:-4] + b"\x01\x20" + bytes(32) + coinbase[-4:]
        return header + _varint(1 + self.tx_count) + coinbase + self.transactions


cdef class JobTable:
    def __cinit__(self, capacity=4096, boot_s=None):
        if capacity < 2 or capacity & (capacity - 1):
            raise ValueError(f"capacity must be a power of two of at least 2, got {capacity}")
        self._at = <void **>PyMem_Calloc(capacity, sizeof(void *))
        self._generation = <uint64_t *>PyMem_Calloc(capacity, sizeof(uint64_t))
        if self._at == NULL or self._generation == NULL:
            raise MemoryError
        self._slots = [None] * capacity
        self._mask = capacity - 1
        self._next = (max(int(time.time() if boot_s is None else boot_s) - _BOOT_ORIGIN_S, 1) << 12) + 1
        self.tip = b""
        self._seen = {}

    def __dealloc__(self):
        PyMem_Free(self._at)
        PyMem_Free(self._generation)

    def next_id(self):
        self._next += 1
        return self._next - 1

    cdef Job find(self, uint64_t job_id):
        cdef void *at = self._at[job_id & self._mask]
        if at != NULL and (<Job>at).job_id == job_id:
            return <Job>at
        return None

    def get(self, uint64_t job_id):
        return self.find(job_id)

    def publish(self, Job job not None):
        if job.seen is not None:
            raise ValueError(f"job {job.job_id:x} is published already")
        if job.job_id >= self._next:
            raise ValueError(f"job id {job.job_id:x} was not given out by next_id")
        slot = job.job_id & self._mask
        if job.job_id <= self._generation[slot]:
            raise ValueError(f"job id {job.job_id:x} is not newer than {self._generation[slot]:x}, which had its slot: an id is used once")
        if self._slots[slot] is not None:
            self._retire(slot)
        self._generation[slot] = job.job_id
        job.seen = self._seen_of(job.prevhash)
        job.seen.jobs += 1
        self._slots[slot] = job
        self._at[slot] = <void *>job
        self._live += 1

    def _seen_of(self, bytes prevhash):
        seen = self._seen.get(prevhash)
        if seen is None:
            seen = self._seen[prevhash] = SeenSet()
        return seen

    def _retire(self, slot):
        cdef Job job = self._slots[slot]
        self._at[slot] = NULL
        self._slots[slot] = None
        self._live -= 1
        job.seen.jobs -= 1
        self._drop_seen(job.prevhash)

    def _drop_seen(self, bytes prevhash):
        cdef SeenSet seen = self._seen.get(prevhash)
        if seen is not None and seen.jobs == 0 and prevhash != self.tip:
            del self._seen[prevhash]

    def set_tip(self, bytes prevhash not None):
        if len(prevhash) != 32:
            raise ValueError(f"prevhash must be 32 bytes, not {len(prevhash)}")
        before, self.tip = self.tip, prevhash
        self._tip_seen = self._seen_of(prevhash)
        if before and before != prevhash:
            self._drop_seen(before)

    def is_stale(self, Job job not None):
        return job.prevhash != self.tip

    def retire_before(self, uint64_t job_id, *, bytes keep_prevhash=None):
        cdef list old = [slot for slot, job in enumerate(self._slots) if job is not None and job.job_id < job_id and job.prevhash != keep_prevhash]
        for slot in old:
            self._retire(slot)
        for prevhash in list(self._seen):  # loaded at start, and never worked on
            self._drop_seen(prevhash)
        return len(old)

    def __len__(self):
        return self._live

    def live_prevhashes(self):
        return sorted({job.prevhash for job in self._slots if job is not None})

    def seen_stats(self):
        return {prevhash: (len(seen), seen.bytes) for prevhash, seen in self._seen.items()}

    def seen_load(self, bytes prevhash not None, bytes hashes not None):
        if len(prevhash) != 32 or len(hashes) % 32:
            raise ValueError(f"prevhash must be 32 bytes and hashes whole 32-byte values, got {len(prevhash)} and {len(hashes)}")
        seen = self._seen_of(prevhash)
        return sum([seen.add(hashes[i : i + 32]) for i in range(0, len(hashes), 32)])
