/* The header hashes already credited on one previous block. 256 sub-tables by one byte of the hash, each open-addressed and grown on its
 * own: a growth moves 1/256 of the set, so no share ever waits for the whole of it. 16 of the 32 bytes are kept: they are the low half
 * of a double SHA-256, which no one can make collide for less than 2^64 hashes, and an accidental meeting among 10^9 shares has odds 10^-21. */
#ifndef MMSP_SEEN_H
#define MMSP_SEEN_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "uint256.h"

typedef struct { uint64_t lo, hi; } seen_key;
typedef struct { seen_key *slot; uint32_t mask, used; } seen_part;
typedef struct { seen_part part[256]; uint64_t count, bytes, limit; } seen_set;

static inline seen_set *seen_new(uint64_t limit) {
    seen_set *s = calloc(1, sizeof *s);
    if (s) { s->limit = limit; s->bytes = sizeof *s; }
    return s;
}

static inline void seen_free(seen_set *s) {
    if (!s) return;
    for (int i = 0; i < 256; i++) free(s->part[i].slot);
    free(s);
}

static inline seen_key *seen_slot(const seen_part *p, seen_key k) {
    uint32_t i = (uint32_t)(k.lo >> 8) & p->mask;
    while ((p->slot[i].lo | p->slot[i].hi) && (p->slot[i].lo != k.lo || p->slot[i].hi != k.hi)) i = (i + 1) & p->mask;
    return &p->slot[i];
}

static inline int seen_grow(seen_set *s, seen_part *p) {
    seen_part bigger = {NULL, p->slot ? p->mask * 2 + 1 : 15, p->used};
    bigger.slot = calloc((size_t)bigger.mask + 1, sizeof(seen_key));
    if (!bigger.slot) return 0;
    if (p->slot) {
        for (uint32_t i = 0; i <= p->mask; i++)
            if (p->slot[i].lo | p->slot[i].hi) *seen_slot(&bigger, p->slot[i]) = p->slot[i];
        s->bytes -= ((size_t)p->mask + 1) * sizeof(seen_key);
        free(p->slot);
    }
    s->bytes += ((size_t)bigger.mask + 1) * sizeof(seen_key);
    *p = bigger;
    return 1;
}

static inline seen_key seen_key_of(const uint8_t hash_le[32]) {
    seen_key k = {rd64le(hash_le), rd64le(hash_le + 8)};
    if (!(k.lo | k.hi)) k.lo = 1; /* zero marks an empty slot */
    return k;
}

static inline int seen_has(const seen_set *s, const uint8_t hash_le[32]) {
    seen_key k = seen_key_of(hash_le);
    const seen_part *p = &s->part[k.lo & 255];
    if (!p->slot) return 0;
    seen_key *at = seen_slot(p, k);
    return (at->lo | at->hi) != 0;
}

/* 1 entered, 0 already there, -1 no room (memory or limit). */
static inline int seen_insert(seen_set *s, const uint8_t hash_le[32]) {
    seen_key k = seen_key_of(hash_le);
    seen_part *p = &s->part[k.lo & 255];
    if (p->slot) {
        seen_key *at = seen_slot(p, k);
        if (at->lo | at->hi) return 0;
    }
    if (s->count >= s->limit) return -1;
    if ((!p->slot || (uint64_t)p->used * 4 >= ((uint64_t)p->mask + 1) * 3) && !seen_grow(s, p)) return -1;
    *seen_slot(p, k) = k;
    p->used++;
    s->count++;
    return 1;
}

/* Take back an entry just made (its row could not be written). Backward-shift deletion keeps every probe chain whole. */
static inline void seen_remove(seen_set *s, const uint8_t hash_le[32]) {
    seen_key k = seen_key_of(hash_le);
    seen_part *p = &s->part[k.lo & 255];
    if (!p->slot) return;
    uint32_t hole = (uint32_t)(seen_slot(p, k) - p->slot), i = hole;
    if (!(p->slot[hole].lo | p->slot[hole].hi)) return;
    for (;;) {
        i = (i + 1) & p->mask;
        if (!(p->slot[i].lo | p->slot[i].hi)) break;
        uint32_t home = (uint32_t)(p->slot[i].lo >> 8) & p->mask;
        if (((i - home) & p->mask) >= ((i - hole) & p->mask)) { p->slot[hole] = p->slot[i]; hole = i; }
    }
    p->slot[hole].lo = p->slot[hole].hi = 0;
    p->used--;
    s->count--;
}
#endif
