from libc.stdint cimport uint8_t, uint64_t


cdef extern from "seen.h":
    ctypedef struct seen_set:
        uint64_t count, bytes, limit
    seen_set *seen_new(uint64_t limit) noexcept nogil
    void seen_free(seen_set *s) noexcept nogil
    int seen_has(const seen_set *s, const uint8_t *hash_le) noexcept nogil
    int seen_insert(seen_set *s, const uint8_t *hash_le) noexcept nogil
    void seen_remove(seen_set *s, const uint8_t *hash_le) noexcept nogil


cdef class SeenSet:
    cdef seen_set *set
    cdef readonly long jobs  # live jobs on this previous block
