from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef extern from "sha256.h":
    ctypedef struct sha256_kernel:
        const char *name
        void (*blocks)(uint32_t *state, const uint8_t *data, size_t n) noexcept nogil
        void (*d64)(uint8_t *out, const uint8_t *pair) noexcept nogil
        void (*fold)(uint8_t *node, const uint8_t *branches, size_t n) noexcept nogil
    const uint32_t SHA256_IV[8]
    void wr32be(uint8_t *p, uint32_t v) noexcept nogil
    int sha256_available(const sha256_kernel **out) noexcept nogil
    void sha256_once(const sha256_kernel *k, const uint8_t *data, size_t n, uint8_t *out) noexcept nogil
    void sha256d_once(const sha256_kernel *k, const uint8_t *data, size_t n, uint8_t *out) noexcept nogil
    void sha256d_from(const sha256_kernel *k, const uint32_t *mid, uint64_t done, const uint8_t *tail, size_t n, uint8_t *out) noexcept nogil
    void sha256d_header(const sha256_kernel *k, const uint8_t *header, uint8_t *out) noexcept nogil


# The kernel of the whole process: other modules reach it through these two, so that a switch reaches them all.
# (Only functions: an extern constant would have to be linked into each module.)
cdef void state_after(uint32_t *state, const uint8_t *data, size_t n_blocks) noexcept nogil
cdef void share_hash(
    const uint32_t *mid, size_t done, const uint8_t *tail, size_t n, const uint8_t *branches, size_t n_branches, uint8_t *header, uint8_t *out,
) noexcept nogil
