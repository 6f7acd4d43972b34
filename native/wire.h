/* The only code that touches bytes from and to miners: a span reader for one line, hex, and a bounded writer. */
#ifndef MMSP_WIRE_H
#define MMSP_WIRE_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { const uint8_t *p; size_t n; } span; /* p NULL: absent or null */

enum { WIRE_PARAMS = 6, WIRE_ID_LIMIT = 64 };

typedef struct {
    span id; /* as it stood in the line, quotes included; absent: p NULL */
    span param[WIRE_PARAMS];
    int n_params; /* as sent, may be more than WIRE_PARAMS */
} submit_line;

/* ---- reading ---- */
typedef struct { const uint8_t *p, *end; } reader;

static inline void rd_space(reader *r) {
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\r')) r->p++;
}

static inline int rd_char(reader *r, uint8_t c) {
    rd_space(r);
    if (r->p >= r->end || *r->p != c) return 0;
    r->p++;
    return 1;
}

/* A string of printable ASCII without escapes; the span leaves the quotes out. */
static inline int rd_string(reader *r, span *out) {
    if (!rd_char(r, '"')) return 0;
    const uint8_t *p = r->p;
    while (p < r->end && *p != '"') {
        if (*p < 0x20 || *p > 0x7e || *p == '\\') return 0;
        p++;
    }
    if (p >= r->end) return 0;
    out->p = r->p;
    out->n = (size_t)(p - r->p);
    r->p = p + 1;
    return 1;
}

static inline int span_is(span s, const char *text, size_t n) { return s.n == n && memcmp(s.p, text, n) == 0; }

/* id: an integer as JSON writes it, a short plain string, or null. */
static inline int rd_id(reader *r, span *out) {
    rd_space(r);
    if (r->p >= r->end) return 0;
    const uint8_t *p = r->p;
    if (*p == '"') {
        span s;
        if (!rd_string(r, &s) || s.n > WIRE_ID_LIMIT) return 0;
        out->p = s.p - 1;
        out->n = s.n + 2;
        return 1;
    }
    if (*p == 'n') {
        if (r->end - p < 4 || memcmp(p, "null", 4) != 0) return 0;
        r->p = p + 4;
        out->p = NULL;
        out->n = 0;
        return 1;
    }
    if (*p == '-') p++;
    const uint8_t *digits = p;
    while (p < r->end && *p >= '0' && *p <= '9') p++;
    if (p == digits || p - digits > 19 || (*digits == '0' && p - digits > 1)) return 0;
    if (p < r->end && (*p == '.' || *p == 'e' || *p == 'E')) return 0;
    out->p = r->p;
    out->n = (size_t)(p - r->p);
    r->p = p;
    return 1;
}

static inline int rd_params(reader *r, submit_line *out) {
    span s;
    if (!rd_char(r, '[')) return 0;
    out->n_params = 0;
    rd_space(r);
    if (r->p < r->end && *r->p == ']') { r->p++; return 1; }
    do {
        if (!rd_string(r, &s)) return 0;
        if (out->n_params < WIRE_PARAMS) out->param[out->n_params] = s;
        out->n_params++;
    } while (rd_char(r, ','));
    return rd_char(r, ']');
}

/* 1: the line is a plain mining.submit and `out` is filled; 0: anything else, valid JSON or not (it goes up to the session). */
static inline int scan_submit(const uint8_t *line, size_t n, submit_line *out) {
    reader r = {line, line + n};
    span key, method;
    int have_id = 0, have_method = 0, have_params = 0;
    out->id.p = NULL;
    out->id.n = 0;
    out->n_params = 0;
    if (!rd_char(&r, '{')) return 0;
    do {
        if (!rd_string(&r, &key) || !rd_char(&r, ':')) return 0;
        if (span_is(key, "id", 2)) {
            if (have_id++ || !rd_id(&r, &out->id)) return 0;
        } else if (span_is(key, "method", 6)) {
            if (have_method++ || !rd_string(&r, &method) || !span_is(method, "mining.submit", 13)) return 0;
        } else if (span_is(key, "params", 6)) {
            if (have_params++ || !rd_params(&r, out)) return 0;
        } else {
            return 0;
        }
    } while (rd_char(&r, ','));
    if (!rd_char(&r, '}') || !have_method || !have_params) return 0;
    rd_space(&r);
    return r.p == r.end;
}

/* ---- hex ---- */
static inline int hex_digit(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 1..max digits of either case, as a number. */
static inline int hex_number(span s, size_t max, uint64_t *out) {
    uint64_t v = 0;
    if (s.n == 0 || s.n > max) return 0;
    for (size_t i = 0; i < s.n; i++) {
        int d = hex_digit(s.p[i]);
        if (d < 0) return 0;
        v = v << 4 | (uint64_t)d;
    }
    *out = v;
    return 1;
}

/* Are all characters hex digits? Bytes are written while they fit into `room`. */
static inline int hex_bytes(span s, uint8_t *out, size_t room) {
    for (size_t i = 0; i < s.n; i++) {
        int d = hex_digit(s.p[i]);
        if (d < 0) return 0;
        if (i / 2 < room) out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | d : d << 4);
    }
    return 1;
}

/* ---- writing: grows on the heap; a failed allocation is remembered and reported once by the owner ---- */
typedef struct { uint8_t *p; size_t n, cap; int failed; } writer;

static inline int wr_room(writer *w, size_t more) {
    if (w->n + more <= w->cap) return 1;
    size_t cap = w->cap ? w->cap * 2 : 128;
    while (cap < w->n + more) cap *= 2;
    uint8_t *p = realloc(w->p, cap);
    if (!p) { w->failed = 1; return 0; }
    w->p = p;
    w->cap = cap;
    return 1;
}

static inline void wr_bytes(writer *w, const void *p, size_t n) {
    if (!n || !wr_room(w, n)) return;
    memcpy(w->p + w->n, p, n);
    w->n += n;
}

static inline void wr_clear(writer *w) {
    free(w->p);
    w->p = NULL;
    w->n = w->cap = 0;
    w->failed = 0;
}
#endif
