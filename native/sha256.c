/* The kernels and what stands on them. The three constant tables are recomputed from primes by tests/test_native_hashing.py. */
#include "sha256.h"
#include <string.h>

const uint32_t SHA256_IV[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};
const uint32_t SHA256_K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};
const uint32_t SHA256_PAD64_WK[64] = {
    0xc28a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf374,
    0x649b69c1, 0xf0fe4786, 0x0fe1edc6, 0x240cf254, 0x4fe9346f, 0x6cc984be, 0x61b9411e, 0x16f988fa,
    0xf2c65152, 0xa88e5a6d, 0xb019fc65, 0xb9d99ec7, 0x9a1231c3, 0xe70eeaa0, 0xfdb1232b, 0xc7353eb0,
    0x3069bad5, 0xcb976d5f, 0x5a0f118f, 0xdc1eeefd, 0x0a35b689, 0xde0b7a04, 0x58f4ca9d, 0xe15d5b16,
    0x007f3e86, 0x37088980, 0xa507ea32, 0x6fab9537, 0x17406110, 0x0d8cd6f1, 0xcdaa3b6d, 0xc0bbbe37,
    0x83613bda, 0xdb48a363, 0x0b02e931, 0x6fd15ca7, 0x521afaca, 0x31338431, 0x6ed41a95, 0x6d437890,
    0xc39c91f2, 0x9eccabbd, 0xb5c9a0e6, 0x532fb63c, 0xd2c741c6, 0x07237ea3, 0xa4954b68, 0x4c191d76,
};

/* ---- portable ---------------------------------------------------------------------------------------------- */
#define ROR(x, n) (((x) >> (n)) | ((x) << (32 - (n))))
#define CH(x, y, z) ((z) ^ ((x) & ((y) ^ (z))))
#define MAJ(x, y, z) (((x) & (y)) | ((z) & ((x) | (y))))
#define S0(x) (ROR(x, 2) ^ ROR(x, 13) ^ ROR(x, 22))
#define S1(x) (ROR(x, 6) ^ ROR(x, 11) ^ ROR(x, 25))
#define G0(x) (ROR(x, 7) ^ ROR(x, 18) ^ ((x) >> 3))
#define G1(x) (ROR(x, 17) ^ ROR(x, 19) ^ ((x) >> 10))
#define STEP(a, b, c, d, e, f, g, h, wk) do { \
    uint32_t t = (h) + S1(e) + CH(e, f, g) + (wk); (d) += t; (h) = t + S0(a) + MAJ(a, b, c); } while (0)

static void rounds_portable(uint32_t s[8], const uint32_t wk[64]) {
    uint32_t a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
    for (int i = 0; i < 64; i += 8) {
        STEP(a, b, c, d, e, f, g, h, wk[i]);
        STEP(h, a, b, c, d, e, f, g, wk[i + 1]);
        STEP(g, h, a, b, c, d, e, f, wk[i + 2]);
        STEP(f, g, h, a, b, c, d, e, wk[i + 3]);
        STEP(e, f, g, h, a, b, c, d, wk[i + 4]);
        STEP(d, e, f, g, h, a, b, c, wk[i + 5]);
        STEP(c, d, e, f, g, h, a, b, wk[i + 6]);
        STEP(b, c, d, e, f, g, h, a, wk[i + 7]);
    }
    s[0] += a; s[1] += b; s[2] += c; s[3] += d; s[4] += e; s[5] += f; s[6] += g; s[7] += h;
}

static void words_portable(uint32_t s[8], uint32_t w[64]) {
    for (int i = 16; i < 64; i++) w[i] = w[i - 16] + G0(w[i - 15]) + w[i - 7] + G1(w[i - 2]);
    for (int i = 0; i < 64; i++) w[i] += SHA256_K[i];
    rounds_portable(s, w);
}

static void blocks_portable(uint32_t s[8], const uint8_t *p, size_t n) {
    uint32_t w[64];
    for (; n; n--, p += 64) {
        for (int i = 0; i < 16; i++) w[i] = rd32be(p + 4 * i);
        words_portable(s, w);
    }
}

static void d64_portable(uint8_t out[32], const uint8_t in[64]) {
    uint32_t s[8], w[64];
    memcpy(s, SHA256_IV, 32);
    blocks_portable(s, in, 1);
    rounds_portable(s, SHA256_PAD64_WK);
    memcpy(w, s, 32);
    memset(w + 8, 0, 32);
    w[8] = 0x80000000u;
    w[15] = 256;
    memcpy(s, SHA256_IV, 32);
    words_portable(s, w);
    for (int i = 0; i < 8; i++) wr32be(out + 4 * i, s[i]);
}

static void fold_portable(uint8_t node[32], const uint8_t *branches, size_t n) {
    uint8_t pair[64];
    memcpy(pair, node, 32);
    for (size_t i = 0; i < n; i++) {
        memcpy(pair + 32, branches + 32 * i, 32);
        d64_portable(pair, pair);
    }
    memcpy(node, pair, 32);
}

static const sha256_kernel PORTABLE = {"portable", blocks_portable, d64_portable, fold_portable};

/* ---- x86 SHA extensions ------------------------------------------------------------------------------------ */
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#include <immintrin.h>
#define X86 __attribute__((target("sha,sse4.1,ssse3")))

/* Four rounds with the words x; ab = {a,b,e,f}, cd = {c,d,g,h} in the instruction's lane order. */
#define R4(wk) do { __m128i t_ = (wk); \
    cd = _mm_sha256rnds2_epu32(cd, ab, t_); \
    ab = _mm_sha256rnds2_epu32(ab, cd, _mm_shuffle_epi32(t_, 0x0E)); } while (0)
#define KV(i) _mm_loadu_si128((const __m128i *)(SHA256_K + 4 * (i)))
#define NEXT(w0, w1, w2, w3) \
    w0 = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8(w3, w2, 4)), w3)

typedef struct { __m128i ab, cd; } ni_state;

X86 static inline ni_state ni_rounds(ni_state s, __m128i w0, __m128i w1, __m128i w2, __m128i w3) {
    __m128i ab = s.ab, cd = s.cd;
    R4(_mm_add_epi32(w0, KV(0))); R4(_mm_add_epi32(w1, KV(1))); R4(_mm_add_epi32(w2, KV(2))); R4(_mm_add_epi32(w3, KV(3)));
    NEXT(w0, w1, w2, w3); R4(_mm_add_epi32(w0, KV(4)));
    NEXT(w1, w2, w3, w0); R4(_mm_add_epi32(w1, KV(5)));
    NEXT(w2, w3, w0, w1); R4(_mm_add_epi32(w2, KV(6)));
    NEXT(w3, w0, w1, w2); R4(_mm_add_epi32(w3, KV(7)));
    NEXT(w0, w1, w2, w3); R4(_mm_add_epi32(w0, KV(8)));
    NEXT(w1, w2, w3, w0); R4(_mm_add_epi32(w1, KV(9)));
    NEXT(w2, w3, w0, w1); R4(_mm_add_epi32(w2, KV(10)));
    NEXT(w3, w0, w1, w2); R4(_mm_add_epi32(w3, KV(11)));
    NEXT(w0, w1, w2, w3); R4(_mm_add_epi32(w0, KV(12)));
    NEXT(w1, w2, w3, w0); R4(_mm_add_epi32(w1, KV(13)));
    NEXT(w2, w3, w0, w1); R4(_mm_add_epi32(w2, KV(14)));
    NEXT(w3, w0, w1, w2); R4(_mm_add_epi32(w3, KV(15)));
    s.ab = _mm_add_epi32(s.ab, ab);
    s.cd = _mm_add_epi32(s.cd, cd);
    return s;
}

X86 static inline ni_state ni_pad64(ni_state s) {
    __m128i ab = s.ab, cd = s.cd;
    const __m128i *wk = (const __m128i *)SHA256_PAD64_WK;
#define P4(i) R4(_mm_loadu_si128(wk + (i)))
    P4(0); P4(1); P4(2); P4(3); P4(4); P4(5); P4(6); P4(7); P4(8); P4(9); P4(10); P4(11); P4(12); P4(13); P4(14); P4(15);
#undef P4
    s.ab = _mm_add_epi32(s.ab, ab);
    s.cd = _mm_add_epi32(s.cd, cd);
    return s;
}

X86 static inline ni_state ni_load(const uint32_t w[8]) {
    __m128i t = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)w), 0xB1);
    __m128i u = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(w + 4)), 0x1B);
    ni_state s = {_mm_alignr_epi8(t, u, 8), _mm_blend_epi16(u, t, 0xF0)};
    return s;
}

/* Words a..d and e..h in memory order. */
X86 static inline void ni_words(ni_state s, __m128i *lo, __m128i *hi) {
    __m128i t = _mm_shuffle_epi32(s.ab, 0x1B), u = _mm_shuffle_epi32(s.cd, 0xB1);
    *lo = _mm_blend_epi16(t, u, 0xF0);
    *hi = _mm_alignr_epi8(u, t, 8);
}

X86 static inline __m128i ni_swap(__m128i v) {
    return _mm_shuffle_epi8(v, _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL));
}

X86 static void blocks_ni(uint32_t state[8], const uint8_t *p, size_t n) {
    ni_state s = ni_load(state);
    __m128i lo, hi;
    for (; n; n--, p += 64) {
        const __m128i *m = (const __m128i *)p;
        s = ni_rounds(s, ni_swap(_mm_loadu_si128(m)), ni_swap(_mm_loadu_si128(m + 1)), ni_swap(_mm_loadu_si128(m + 2)),
                      ni_swap(_mm_loadu_si128(m + 3)));
    }
    ni_words(s, &lo, &hi);
    _mm_storeu_si128((__m128i *)state, lo);
    _mm_storeu_si128((__m128i *)(state + 4), hi);
}

/* sha256d of the four message vectors (words, host order); the digest's words come back in lo, hi. */
X86 static inline void ni_d64(__m128i w0, __m128i w1, __m128i w2, __m128i w3, __m128i *lo, __m128i *hi) {
    const ni_state iv = ni_load(SHA256_IV);
    ni_state s = ni_pad64(ni_rounds(iv, w0, w1, w2, w3));
    ni_words(s, lo, hi);
    s = ni_rounds(iv, *lo, *hi, _mm_set_epi32(0, 0, 0, (int)0x80000000u), _mm_set_epi32(256, 0, 0, 0));
    ni_words(s, lo, hi);
}

X86 static void d64_ni(uint8_t out[32], const uint8_t in[64]) {
    const __m128i *m = (const __m128i *)in;
    __m128i lo, hi;
    ni_d64(ni_swap(_mm_loadu_si128(m)), ni_swap(_mm_loadu_si128(m + 1)), ni_swap(_mm_loadu_si128(m + 2)), ni_swap(_mm_loadu_si128(m + 3)),
           &lo, &hi);
    _mm_storeu_si128((__m128i *)out, ni_swap(lo));
    _mm_storeu_si128((__m128i *)(out + 16), ni_swap(hi));
}

X86 static void fold_ni(uint8_t node[32], const uint8_t *branches, size_t n) {
    __m128i lo = ni_swap(_mm_loadu_si128((const __m128i *)node)), hi = ni_swap(_mm_loadu_si128((const __m128i *)(node + 16)));
    for (size_t i = 0; i < n; i++) {
        const __m128i *b = (const __m128i *)(branches + 32 * i);
        ni_d64(lo, hi, ni_swap(_mm_loadu_si128(b)), ni_swap(_mm_loadu_si128(b + 1)), &lo, &hi);
    }
    _mm_storeu_si128((__m128i *)node, ni_swap(lo));
    _mm_storeu_si128((__m128i *)(node + 16), ni_swap(hi));
}

static const sha256_kernel SHA_NI = {"sha-ni", blocks_ni, d64_ni, fold_ni};

static int has_sha_ni(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & (1u << 9)) || !(c & (1u << 19))) return 0; /* SSSE3, SSE4.1 */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    return (b >> 29) & 1;
}
#endif

/* ---- ARMv8 SHA2 -------------------------------------------------------------------------------------------- */
#if defined(__aarch64__)
#if defined(__clang__) && !defined(__ARM_FEATURE_SHA2)
#define __ARM_FEATURE_SHA2 1 /* clang before 16 declares the intrinsics only then */
#endif
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#ifndef HWCAP_SHA2
#define HWCAP_SHA2 (1 << 6)
#endif
#endif
#if defined(__clang__)
#define ARM_SHA2 __attribute__((target("sha2")))
#else
#define ARM_SHA2 __attribute__((target("+crypto"))) /* gcc before 14 files the SHA intrinsics under this name, not under +sha2 */
#endif

typedef struct { uint32x4_t abcd, efgh; } arm_state;
#define A4(wk) do { uint32x4_t wk_ = (wk), t_ = x; \
    x = vsha256hq_u32(x, y, wk_); y = vsha256h2q_u32(y, t_, wk_); } while (0)
#define AK(w, i) vaddq_u32(w, vld1q_u32(SHA256_K + 4 * (i)))
#define ANEXT(w0, w1, w2, w3) w0 = vsha256su1q_u32(vsha256su0q_u32(w0, w1), w2, w3)

ARM_SHA2 static inline arm_state arm_rounds(arm_state s, uint32x4_t w0, uint32x4_t w1, uint32x4_t w2, uint32x4_t w3) {
    uint32x4_t x = s.abcd, y = s.efgh;
    A4(AK(w0, 0)); A4(AK(w1, 1)); A4(AK(w2, 2)); A4(AK(w3, 3));
    for (int i = 4; i < 16; i += 4) {
        ANEXT(w0, w1, w2, w3); A4(AK(w0, i));
        ANEXT(w1, w2, w3, w0); A4(AK(w1, i + 1));
        ANEXT(w2, w3, w0, w1); A4(AK(w2, i + 2));
        ANEXT(w3, w0, w1, w2); A4(AK(w3, i + 3));
    }
    s.abcd = vaddq_u32(s.abcd, x);
    s.efgh = vaddq_u32(s.efgh, y);
    return s;
}

ARM_SHA2 static inline uint32x4_t arm_be(const uint8_t *p) { return vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(p))); }

ARM_SHA2 static void blocks_arm(uint32_t state[8], const uint8_t *p, size_t n) {
    arm_state s = {vld1q_u32(state), vld1q_u32(state + 4)};
    for (; n; n--, p += 64) s = arm_rounds(s, arm_be(p), arm_be(p + 16), arm_be(p + 32), arm_be(p + 48));
    vst1q_u32(state, s.abcd);
    vst1q_u32(state + 4, s.efgh);
}

ARM_SHA2 static inline arm_state arm_d64(uint32x4_t w0, uint32x4_t w1, uint32x4_t w2, uint32x4_t w3) {
    static const uint32_t pad_lo[4] = {0x80000000u, 0, 0, 0}, pad_hi[4] = {0, 0, 0, 256};
    const arm_state iv = {vld1q_u32(SHA256_IV), vld1q_u32(SHA256_IV + 4)};
    arm_state s = arm_rounds(iv, w0, w1, w2, w3);
    uint32x4_t x = s.abcd, y = s.efgh;
    for (int i = 0; i < 16; i++) A4(vld1q_u32(SHA256_PAD64_WK + 4 * i));
    return arm_rounds(iv, vaddq_u32(s.abcd, x), vaddq_u32(s.efgh, y), vld1q_u32(pad_lo), vld1q_u32(pad_hi));
}

ARM_SHA2 static inline void arm_store(uint8_t out[32], arm_state s) {
    vst1q_u8(out, vrev32q_u8(vreinterpretq_u8_u32(s.abcd)));
    vst1q_u8(out + 16, vrev32q_u8(vreinterpretq_u8_u32(s.efgh)));
}

ARM_SHA2 static void d64_arm(uint8_t out[32], const uint8_t in[64]) {
    arm_store(out, arm_d64(arm_be(in), arm_be(in + 16), arm_be(in + 32), arm_be(in + 48)));
}

ARM_SHA2 static void fold_arm(uint8_t node[32], const uint8_t *branches, size_t n) {
    arm_state s = {arm_be(node), arm_be(node + 16)};
    for (size_t i = 0; i < n; i++) s = arm_d64(s.abcd, s.efgh, arm_be(branches + 32 * i), arm_be(branches + 32 * i + 16));
    arm_store(node, s);
}

static const sha256_kernel ARMV8 = {"armv8-sha2", blocks_arm, d64_arm, fold_arm};

static int has_arm_sha2(void) {
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_SHA2) != 0;
#else
    return 1; /* every Apple 64-bit core has it */
#endif
}
#endif

int sha256_available(const sha256_kernel *out[3]) {
    int n = 0;
#if defined(__x86_64__) || defined(__i386__)
    if (has_sha_ni()) out[n++] = &SHA_NI;
#endif
#if defined(__aarch64__)
    if (has_arm_sha2()) out[n++] = &ARMV8;
#endif
    out[n++] = &PORTABLE;
    return n;
}

/* ---- on top of a kernel ------------------------------------------------------------------------------------ */
void sha256_finish(const sha256_kernel *k, uint32_t s[8], uint64_t done, const uint8_t *tail, size_t len, uint8_t out[32]) {
    uint8_t last[128];
    size_t whole = len / 64, rest = len % 64, pads = rest + 9 > 64 ? 2 : 1;
    uint64_t bits = (done + len) * 8;
    if (whole) k->blocks(s, tail, whole);
    memset(last, 0, pads * 64);
    if (rest) memcpy(last, tail + whole * 64, rest);
    last[rest] = 0x80;
    wr32be(last + pads * 64 - 8, (uint32_t)(bits >> 32));
    wr32be(last + pads * 64 - 4, (uint32_t)bits);
    k->blocks(s, last, pads);
    for (int i = 0; i < 8; i++) wr32be(out + 4 * i, s[i]);
}

void sha256_once(const sha256_kernel *k, const uint8_t *data, size_t len, uint8_t out[32]) {
    uint32_t s[8];
    memcpy(s, SHA256_IV, 32);
    sha256_finish(k, s, 0, data, len, out);
}

static void second(const sha256_kernel *k, uint8_t hash[32]) {
    static const uint8_t pad[32] = {0x80, [30] = 1};
    uint8_t block[64];
    uint32_t s[8];
    memcpy(block, hash, 32);
    memcpy(block + 32, pad, 32);
    memcpy(s, SHA256_IV, 32);
    k->blocks(s, block, 1);
    for (int i = 0; i < 8; i++) wr32be(hash + 4 * i, s[i]);
}

void sha256d_once(const sha256_kernel *k, const uint8_t *data, size_t len, uint8_t out[32]) {
    sha256_once(k, data, len, out);
    second(k, out);
}

void sha256d_from(const sha256_kernel *k, const uint32_t mid[8], uint64_t done, const uint8_t *tail, size_t len, uint8_t out[32]) {
    uint32_t s[8];
    memcpy(s, mid, 32);
    sha256_finish(k, s, done, tail, len, out);
    second(k, out);
}

void sha256d_header(const sha256_kernel *k, const uint8_t header[80], uint8_t out[32]) {
    uint8_t block[128] = {0};
    uint32_t s[8];
    memcpy(block, header, 80);
    block[80] = 0x80;
    block[126] = 640 >> 8;
    block[127] = 640 & 255;
    memcpy(s, SHA256_IV, 32);
    k->blocks(s, block, 2);
    for (int i = 0; i < 8; i++) wr32be(out + 4 * i, s[i]);
    second(k, out);
}
