/* SHA-256 (FIPS 180-4) as Bitcoin uses it, over one of several kernels. No allocation, no state but the chosen kernel. */
#ifndef MMSP_SHA256_H
#define MMSP_SHA256_H
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *name;
    /* Compress n consecutive 64-byte blocks into the state (host-order words). */
    void (*blocks)(uint32_t state[8], const uint8_t *data, size_t n);
    /* out = sha256d of the 64 bytes at in; out may alias in. The second block of a 64-byte message is a constant. */
    void (*d64)(uint8_t out[32], const uint8_t in[64]);
    /* node = sha256d(node || branch) for each of n branches in turn. */
    void (*fold)(uint8_t node[32], const uint8_t *branches, size_t n);
} sha256_kernel;

/* All kernels compiled in that this CPU can run; the fastest first. Returns how many were written (at most 3). */
int sha256_available(const sha256_kernel *out[3]);

extern const uint32_t SHA256_IV[8];
extern const uint32_t SHA256_K[64];
/* W + K of the block that pads a 64-byte message: needs no message schedule. */
extern const uint32_t SHA256_PAD64_WK[64];

/* Finish a message: state after `done` bytes (a multiple of 64), then `tail` (len bytes), padding, into out. */
void sha256_finish(const sha256_kernel *k, uint32_t state[8], uint64_t done, const uint8_t *tail, size_t len, uint8_t out[32]);
void sha256_once(const sha256_kernel *k, const uint8_t *data, size_t len, uint8_t out[32]);
void sha256d_once(const sha256_kernel *k, const uint8_t *data, size_t len, uint8_t out[32]);
/* sha256d of a message whose first `done` bytes are already in `mid`. */
void sha256d_from(const sha256_kernel *k, const uint32_t mid[8], uint64_t done, const uint8_t *tail, size_t len, uint8_t out[32]);
void sha256d_header(const sha256_kernel *k, const uint8_t header[80], uint8_t out[32]);

static inline void wr32be(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)(v >> 24); p[1] = (uint8_t)(v >> 16); p[2] = (uint8_t)(v >> 8); p[3] = (uint8_t)v;
}
static inline uint32_t rd32be(const uint8_t *p) {
    return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | p[3];
}
#endif
