/* Hashes vectors from stdin with every SHA-256 kernel this CPU has, for tests/test_native_hashing.py under qemu-user.
 * Input lines: `any HEX` (sha256 and sha256d), `fold HEX` (32-byte node, then branches), `header HEX` (80 bytes), `mid HEX` (whole message: its
 * first 64-byte blocks go into a midstate). Output: one line per kernel and input: kernel, command, hex of the result. */
#include "sha256.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t data[1 << 20];

static size_t unhex(const char *text) {
    size_t n = 0;
    unsigned byte;
    for (; text[0] && text[1] && sscanf(text, "%2x", &byte) == 1; text += 2) data[n++] = (uint8_t)byte;
    return n;
}

static void say(const sha256_kernel *k, const char *what, const uint8_t *hash) {
    printf("%s %s ", k->name, what);
    for (int i = 0; i < 32; i++) printf("%02x", hash[i]);
    putchar('\n');
}

static void answer(const sha256_kernel *k, const char *what, size_t n) {
    uint8_t out[32];
    if (!strcmp(what, "any")) {
        sha256_once(k, data, n, out);
        say(k, "sha256", out);
        sha256d_once(k, data, n, out);
        say(k, "sha256d", out);
    } else if (!strcmp(what, "header")) {
        sha256d_header(k, data, out);
        say(k, what, out);
    } else if (!strcmp(what, "mid")) {
        uint32_t state[8];
        size_t done = n / 64 * 64;
        memcpy(state, SHA256_IV, 32);
        if (done) k->blocks(state, data, done / 64);
        sha256d_from(k, state, done, data + done, n - done, out);
        say(k, what, out);
    } else if (!strcmp(what, "fold")) {
        uint8_t pair[64];
        memcpy(out, data, 32);
        k->fold(out, data + 32, n / 32 - 1);
        say(k, what, out);
        memcpy(pair, data, 64);
        k->d64(pair, pair); /* in place: out may alias in */
        say(k, "pair", pair);
    } else {
        exit(2);
    }
}

int main(void) {
    static char line[1 << 21];
    const sha256_kernel *kernels[3];
    int n_kernels = sha256_available(kernels);
    while (fgets(line, sizeof line, stdin)) {
        char *space = strchr(line, ' ');
        if (!space) return 2;
        *space = 0;
        size_t n = unhex(space + 1);
        for (int i = 0; i < n_kernels; i++) answer(kernels[i], line, n);
    }
    return 0;
}
