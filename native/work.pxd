from libc.stdint cimport uint8_t, uint32_t, uint64_t
from native.difficulty cimport u256
from native.seen cimport SeenSet

cdef enum:
    EN1 = 4
    EN2 = 8
    MAX_BRANCHES = 32


cdef class Job:
    cdef readonly uint64_t job_id
    cdef readonly bytes coinb1, coinb2, prevhash, transactions
    cdef readonly uint32_t version, nbits, ntime, ntime_min, ntime_max, height
    cdef readonly uint32_t tx_count
    cdef readonly bint witness_commitment
    cdef readonly object tag
    cdef readonly SeenSet seen  # of its previous block; set when published
    cdef bytes _branches  # concatenated
    cdef bytes _notify_false, _notify_true
    # what the judge reads, made once
    cdef u256 target
    cdef uint64_t work_lo, work_hi  # of the network target
    cdef uint32_t mid[8]  # SHA-256 state after the whole 64-byte blocks of coinb1
    cdef size_t mid_bytes
    cdef size_t n_branches
    cdef const uint8_t *at_coinb1  # into the bytes objects above: coinb1 after the midstate, coinb2, branches
    cdef const uint8_t *at_coinb2
    cdef const uint8_t *at_branches
    cdef size_t n_coinb1, n_coinb2
    cdef uint8_t head[80]  # with Merkle root, version, ntime and nonce left to fill

    cdef void hash_share(self, const uint8_t *en1, const uint8_t *en2, uint32_t version, uint32_t ntime, uint32_t nonce,
                         uint8_t *header, uint8_t *hash_le) noexcept nogil


cdef class JobTable:
    cdef object _slots  # list: owns the jobs
    cdef void **_at  # the same, borrowed
    cdef uint64_t *_generation  # of each slot, the id published there last
    cdef uint64_t _mask
    cdef uint64_t _next
    cdef readonly bytes tip
    cdef SeenSet _tip_seen
    cdef dict _seen  # prevhash -> SeenSet
    cdef long _live

    cdef Job find(self, uint64_t job_id)
