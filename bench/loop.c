/* A closed loop over connected sockets: on each, `pipeline` lines in flight, the next one sent when an answer arrives. One thread, epoll.
 * Built and called by bench/loop.py. Latency runs from the send of a line to the read of its answer. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define BUCKETS 2048 /* log-linear: 32 steps an octave, from 1 us */
typedef struct {
    uint64_t answered, accepted, refused, other;
    double seconds;
    uint64_t histogram[BUCKETS];
    int error; /* errno of the first failure, or -1: a peer closed */
} loop_result;

typedef struct { uint32_t next, answered, tail; int64_t *sent; char part[64]; } peer;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void note(loop_result *r, int64_t ns) {
    uint64_t us = ns < 1000 ? 1 : (uint64_t)ns / 1000;
    int octave = 63 - __builtin_clzll(us), step = octave < 5 ? (int)(us << (5 - octave)) & 31 : (int)(us >> (octave - 5)) & 31;
    int at = octave * 32 + step;
    r->histogram[at < BUCKETS ? at : BUCKETS - 1]++;
}

/* Send lines [p->next, until) of this connection in one call. */
static int push(int fd, peer *p, const char *blob, const uint32_t *offset, uint32_t until, uint32_t pipeline) {
    size_t at = offset[p->next], end = offset[until];
    int64_t t = now_ns();
    for (uint32_t i = p->next; i < until; i++) p->sent[i % pipeline] = t;
    p->next = until;
    while (at < end) {
        ssize_t n = send(fd, blob + at, end - at, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN || errno == EINTR) continue;
            return errno;
        }
        at += (size_t)n;
    }
    return 0;
}

/* One answer line, of which at least its first 63 bytes are in p->part. */
static void hear(loop_result *r, peer *p, uint32_t pipeline) {
    p->part[p->tail < 63 ? p->tail : 63] = 0;
    if (strstr(p->part, "\"result\":true")) r->accepted++;
    else if (strstr(p->part, "\"result\":false")) r->refused++;
    else { r->other++; p->tail = 0; return; }
    note(r, now_ns() - p->sent[p->answered % pipeline]);
    p->answered++;
    r->answered++;
    p->tail = 0;
}

int closed_loop(int n, const int *fds, const char **blobs, const uint32_t **offsets, uint32_t lines, uint32_t pipeline, loop_result *r) {
    static char buffer[1 << 16];
    int epoll = epoll_create1(EPOLL_CLOEXEC), open = n;
    peer *peers = calloc((size_t)n, sizeof *peers);
    struct epoll_event events[256];
    int64_t begin = now_ns();
    memset(r, 0, sizeof *r);
    if (epoll < 0 || !peers) { r->error = ENOMEM; return -1; }
    for (int i = 0; i < n; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        peers[i].sent = calloc(pipeline, sizeof(int64_t));
        epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &e);
        if ((r->error = push(fds[i], &peers[i], blobs[i], offsets[i], pipeline < lines ? pipeline : lines, pipeline))) break;
    }
    while (open > 0 && !r->error) {
        int got = epoll_wait(epoll, events, 256, 30000);
        if (got == 0) { r->error = ETIMEDOUT; break; }
        for (int k = 0; k < got && !r->error; k++) {
            uint32_t i = events[k].data.u32;
            peer *p = &peers[i];
            ssize_t have = recv(fds[i], buffer, sizeof buffer, MSG_DONTWAIT);
            if (have <= 0) {
                if (have < 0 && errno == EAGAIN) continue;
                r->error = have ? errno : -1;
                break;
            }
            for (ssize_t j = 0; j < have; j++) {
                if (buffer[j] == '\n') hear(r, p, pipeline);
                else if (p->tail < 63) p->part[p->tail++] = buffer[j];
                else p->tail++;
            }
            uint32_t until = p->answered + pipeline < lines ? p->answered + pipeline : lines;
            if (until > p->next) r->error = push(fds[i], p, blobs[i], offsets[i], until, pipeline);
            if (p->answered == lines) { epoll_ctl(epoll, EPOLL_CTL_DEL, fds[i], NULL); open--; }
        }
    }
    r->seconds = (double)(now_ns() - begin) / 1e9;
    for (int i = 0; i < n; i++) free(peers[i].sent);
    free(peers);
    return r->error ? -1 : 0;
}
