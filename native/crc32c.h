/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), by the CPU's instruction where it has one. */
#ifndef MMSP_CRC32C_H
#define MMSP_CRC32C_H
#include <stddef.h>
#include <stdint.h>
/* Register initialised to 0xFFFFFFFF ^ seed; the result is inverted as usual. */
uint32_t crc32c(uint32_t seed, const uint8_t *data, size_t n);
/* The same, always by table: for the test that compares the two. */
uint32_t crc32c_table(uint32_t seed, const uint8_t *data, size_t n);
#endif
