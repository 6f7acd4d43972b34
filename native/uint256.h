/* 256-bit targets: four 64-bit limbs, least significant first, so that a hash as hashed is loaded limb by limb. */
#ifndef MMSP_UINT256_H
#define MMSP_UINT256_H
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef struct { uint64_t w[4]; } u256;

static inline uint64_t rd64le(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

static inline u256 u256_of_le(const uint8_t *p) {
    u256 v = {{rd64le(p), rd64le(p + 8), rd64le(p + 16), rd64le(p + 24)}};
    return v;
}

/* a <= b; equal meets a target. */
static inline int u256_le(const u256 *a, const u256 *b) {
    for (int i = 3; i >= 0; i--)
        if (a->w[i] != b->w[i]) return a->w[i] < b->w[i];
    return 1;
}

static inline int u256_lt(const u256 *a, const u256 *b) { return !u256_le(b, a); }

/* floor(0xFFFF * 2^208 / difficulty), the double taken as the exact rational it is; at most 2^256 - 1. 0 when it is not a usable
 * difficulty (not finite, below 2^-20). */
static inline int u256_of_difficulty(double difficulty, u256 *out) {
    int exp2;
    if (!(difficulty >= 0x1p-20) || isinf(difficulty)) return 0;
    /* difficulty = mantissa * 2^shift with a 53-bit mantissa, so target = (0xFFFF << (208 - shift)) / mantissa */
    uint64_t mantissa = (uint64_t)(frexp(difficulty, &exp2) * 0x1p53);
    int up = 208 - (exp2 - 53);
    uint64_t n[6] = {0}; /* numerator: at most 16 + 280 bits */
    memset(out, 0, sizeof *out);
    if (up < 0) { /* beyond 2^261: the numerator shrinks instead; only its 16 bits are left to lose */
        n[0] = up > -16 ? 0xFFFFu >> -up : 0;
    } else {
        n[up / 64] = 0xFFFFull << (up % 64);
        if (up % 64 > 48) n[up / 64 + 1] = 0xFFFFull >> (64 - up % 64);
    }
    unsigned __int128 rest = 0;
    for (int i = 5; i >= 0; i--) {
        unsigned __int128 cur = (rest << 64) | n[i];
        uint64_t q = (uint64_t)(cur / mantissa);
        rest = cur % mantissa;
        if (i < 4) out->w[i] = q;
    }
    return 1;
}

/* 2^256 // (target + 1), as two words; saturates at 2^128 - 1 (targets below 2^128: 10^19 times today's network difficulty). */
static inline void u256_work(const u256 *target, uint64_t *lo, uint64_t *hi) {
    u256 d = *target; /* d = target + 1 */
    int i;
    for (i = 0; i < 4; i++)
        if (++d.w[i]) break;
    if (i == 4) { *lo = 1; *hi = 0; return; } /* target = 2^256 - 1 */
    if (!d.w[3] && (!d.w[2] || (d.w[2] == 1 && !d.w[1] && !d.w[0]))) { *lo = *hi = UINT64_MAX; return; }
    /* Long division of 2^256 by d, one bit at a time. The remainder stays below d; a 257th bit is kept in `carry`. */
    u256 r = {{0, 0, 0, 0}};
    uint64_t q0 = 0, q1 = 0;
    for (int bit = 256; bit >= 0; bit--) {
        uint64_t carry = r.w[3] >> 63;
        r.w[3] = (r.w[3] << 1) | (r.w[2] >> 63);
        r.w[2] = (r.w[2] << 1) | (r.w[1] >> 63);
        r.w[1] = (r.w[1] << 1) | (r.w[0] >> 63);
        r.w[0] = (r.w[0] << 1) | (uint64_t)(bit == 256);
        q1 = (q1 << 1) | (q0 >> 63);
        q0 <<= 1;
        if (carry || u256_le(&d, &r)) {
            unsigned __int128 borrow = 0;
            for (int j = 0; j < 4; j++) {
                unsigned __int128 diff = (unsigned __int128)r.w[j] - d.w[j] - borrow;
                r.w[j] = (uint64_t)diff;
                borrow = (diff >> 64) & 1;
            }
            q0 |= 1;
        }
    }
    *lo = q0;
    *hi = q1;
}
#endif
