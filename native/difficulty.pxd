from libc.stdint cimport uint8_t, uint64_t


cdef extern from "uint256.h":
    ctypedef struct u256:
        uint64_t w[4]
    u256 u256_of_le(const uint8_t *p) noexcept nogil
    bint u256_le(const u256 *a, const u256 *b) noexcept nogil
    bint u256_lt(const u256 *a, const u256 *b) noexcept nogil
    int u256_of_difficulty(double difficulty, u256 *out) noexcept nogil
    void u256_work(const u256 *target, uint64_t *lo, uint64_t *hi) noexcept nogil


cdef double nearest_difficulty(const u256 *v) except? -1
cdef object int_of_u256(const u256 *v)
cdef u256 u256_of_int(object value) except *
