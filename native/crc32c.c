#include "crc32c.h"
#include <string.h>

static uint32_t table[256];

__attribute__((constructor)) static void make_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0x82F63B78u ^ (c >> 1) : c >> 1;
        table[i] = c;
    }
}

uint32_t crc32c_table(uint32_t seed, const uint8_t *p, size_t n) {
    uint32_t c = 0xFFFFFFFFu ^ seed;
    while (n--) c = table[(c ^ *p++) & 255] ^ (c >> 8);
    return ~c;
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <nmmintrin.h>
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse(uint32_t seed, const uint8_t *p, size_t n) {
    uint64_t c = 0xFFFFFFFFu ^ seed;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        c = _mm_crc32_u64(c, v);
    }
    while (n--) c = _mm_crc32_u8((uint32_t)c, *p++);
    return ~(uint32_t)c;
}

uint32_t crc32c(uint32_t seed, const uint8_t *p, size_t n) {
    static int fast = -1;
    if (fast < 0) {
        unsigned a, b, c = 0, d;
        fast = __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 20));
    }
    return fast ? crc32c_sse(seed, p, n) : crc32c_table(seed, p, n);
}
#else
uint32_t crc32c(uint32_t seed, const uint8_t *p, size_t n) { return crc32c_table(seed, p, n); }
#endif
