from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef struct Head:  # of every row; layouts: pool/records.py
    uint32_t check
    uint8_t kind, flags
    uint16_t reserved
    uint64_t seq
    int64_t time_ns
    uint32_t account, worker

cdef struct ShareRow:
    Head head
    uint8_t hash_le[32]
    uint64_t work_lo, work_hi
    double difficulty
    uint64_t job_id
    uint32_t nbits, height, session
    uint8_t extranonce1[4]
    uint8_t prevhash_head[8]
    uint8_t pad[8]

cdef struct BestRow:
    Head head
    uint8_t header[80]
    uint64_t share_seq
    double difficulty

cdef enum Kind:
    SHARE = 1
    ACCOUNT = 2
    WORKER = 3
    REJECTS = 4
    TIP = 5
    BLOCK = 6
    POLICY = 7
    BEST = 8


cdef class _Map:  # one mapped segment being written
    cdef uint8_t *base
    cdef size_t size
    cdef int fd
    cdef readonly uint32_t number
    cdef uint32_t salt
    cdef uint64_t first_seq, capacity
    cdef size_t synced  # bytes from the start known to be on disk

    cdef void unmap(self) noexcept


cdef class ShareLog:
    cdef readonly str directory
    cdef readonly uint32_t epoch
    cdef readonly uint64_t seq, refused
    cdef readonly bint full
    cdef size_t _segment_bytes
    cdef _Map _current, _next
    cdef list _done  # filled segments, until prepare has synced and unmapped them
    cdef dict _accounts, _workers
    cdef int _lock_fd
    cdef object _preparing

    cdef Head *slot(self) noexcept  # where the next row goes; NULL when there is no room (then full, refused)
    cdef _row(self, int kind, bytes body, int64_t now_ns, uint32_t account, uint32_t worker)
    cdef _sync(self, _Map segment, size_t end)
    cdef _sync_done(self)
    cdef _allocate_next(self)
    cdef void commit(self, Head *row, uint8_t kind, uint8_t flags, int64_t time_ns, uint32_t account, uint32_t worker) noexcept
