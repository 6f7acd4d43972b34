/* Many Stratum clients in one thread: handshakes, shares at a given rate, and when each one heard of new work.
 * Built and called by bench/swarm.py. Sockets stay open between calls; the closed loop over them is in loop.c. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 16384, EVENTS = 256, HALF_MINUTE_MS = 30000, CLOSED = -1 };

static int64_t clock_ns(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* All of it, on a socket that may be non-blocking. 0 or errno. */
static int send_all(int fd, const char *p, size_t n) {
    while (n) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN || errno == EINTR) continue;
            return errno;
        }
        p += sent;
        n -= (size_t)sent;
    }
    return 0;
}

/* ---- handshakes: configure, subscribe, authorize, one after the other as devices do; ready with the first job ---- */
typedef struct {
    double seconds;
    double difficulty;   /* of the first connection */
    char notify[LINE];   /* first job of the first connection */
    int different;       /* connections whose first job differed from it */
    int error;           /* errno of the first failure, or CLOSED */
} crowd;

typedef struct { int fd, step, answered, working; uint32_t n; int64_t began; char *line; } guest;

static const char CONFIGURE[] = "{\"id\":1,\"method\":\"mining.configure\",\"params\":[[\"version-rolling\"],"
    "{\"version-rolling.mask\":\"1fffe000\",\"version-rolling.min-bit-count\":2}]}\n";
static const char SUBSCRIBE[] = "{\"id\":2,\"method\":\"mining.subscribe\",\"params\":[\"%s\"]}\n";
static const char AUTHORIZE[] = "{\"id\":3,\"method\":\"mining.authorize\",\"params\":[\"%s.w%d\",\"x\"]}\n";

static int dial(uint16_t port, int source) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)source)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &one, sizeof one);
    if (source && bind(fd, (struct sockaddr *)&from, sizeof from)) { close(fd); return -1; }
    if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) { close(fd); return -1; }
    return fd;
}

/* One line from the pool. Returns 0, an errno, or CLOSED for an answer that no device could go on with. */
static int greet(guest *g, int number, const char *agent, const char *user, char *extranonce1, crowd *r) {
    char text[512];
    int size = 0;
    const char *at;
    if (strstr(g->line, "mining.notify\",\"params\"") || strstr(g->line, "\"mining.notify\", \"params\"")) {
        g->working = 1;
        if (number == 0) snprintf(r->notify, sizeof r->notify, "%s", g->line);
        else if (strcmp(r->notify, g->line)) r->different++;
    } else if ((at = strstr(g->line, "mining.set_difficulty\",\"params\":["))) {
        if (number == 0) r->difficulty = strtod(strchr(at, '[') + 1, NULL);
    } else if (strstr(g->line, "\"id\":1,") && g->step == 1) {
        g->step = 2;
        size = snprintf(text, sizeof text, SUBSCRIBE, agent);
    } else if (strstr(g->line, "\"id\":2,") && g->step == 2) {
        if (!(at = strstr(g->line, "]],\"")) || strlen(at) < 13) return CLOSED;
        memcpy(extranonce1, at + 4, 8);
        g->step = 3;
        size = snprintf(text, sizeof text, AUTHORIZE, user, number);
    } else if (strstr(g->line, "\"id\":3,") && g->step == 3) {
        if (!strstr(g->line, "\"result\":true")) return CLOSED;
        g->answered = 1;
    }
    return size ? send_all(g->fd, text, (size_t)size) : 0;
}

static int listen_to(guest *g, int number, const char *agent, const char *user, char *extranonce1, crowd *r) {
    static char packet[LINE];
    ssize_t have = recv(g->fd, packet, sizeof packet, MSG_DONTWAIT);
    if (have <= 0) return have < 0 && errno == EAGAIN ? 0 : have ? errno : CLOSED;
    for (ssize_t i = 0; i < have; i++) {
        if (packet[i] != '\n') {
            if (g->n == LINE - 1) return EMSGSIZE;
            g->line[g->n++] = packet[i];
            continue;
        }
        g->line[g->n] = 0;
        g->n = 0;
        int failed = greet(g, number, agent, user, extranonce1, r);
        if (failed) return failed;
    }
    return 0;
}

/* Opens n connections, `window` handshakes under way at once, from `sources` loopback addresses. Fills fds, 8 hex digits of
 * extranonce1 each, and nanoseconds from connect to the first job. Returns 0, or -1 with everything closed. */
int assemble(int n, uint16_t port, int window, int sources, const char *agent, const char *user, int *fds, char *extranonce1,
             int64_t *ready_ns, crowd *r) {
    int epoll = epoll_create1(EPOLL_CLOEXEC), begun = 0, done = 0;
    guest *guests = calloc((size_t)n, sizeof *guests);
    struct epoll_event events[EVENTS];
    int64_t begin = now_ns();
    memset(r, 0, sizeof *r);
    while (done < n && !r->error) {
        while (begun < n && begun - done < window && (begun == 0 || done > 0)) { /* the first alone: its job is the pattern */
            guest *g = &guests[begun];
            struct epoll_event e = {.events = EPOLLOUT, .data.u32 = (uint32_t)begun};
            g->began = now_ns();
            g->fd = dial(port, sources > 1 ? 1 + begun % sources : 0);
            if (g->fd < 0) { r->error = errno; break; }
            g->line = malloc(LINE);
            epoll_ctl(epoll, EPOLL_CTL_ADD, g->fd, &e);
            begun++;
        }
        int got = r->error ? 0 : epoll_wait(epoll, events, EVENTS, HALF_MINUTE_MS);
        if (got == 0 && !r->error) r->error = ETIMEDOUT;
        for (int k = 0; k < got && !r->error; k++) {
            int i = (int)events[k].data.u32;
            guest *g = &guests[i];
            if (g->step == 0) {
                struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
                g->step = 1;
                epoll_ctl(epoll, EPOLL_CTL_MOD, g->fd, &e);
                r->error = send_all(g->fd, CONFIGURE, sizeof CONFIGURE - 1);
                continue;
            }
            r->error = listen_to(g, i, agent, user, extranonce1 + 8 * i, r);
            if (g->answered && g->working) {
                ready_ns[i] = now_ns() - g->began;
                epoll_ctl(epoll, EPOLL_CTL_DEL, g->fd, NULL);
                free(g->line);
                g->line = NULL;
                done++;
            }
        }
    }
    r->seconds = (double)(now_ns() - begin) / 1e9;
    for (int i = 0; i < begun; i++) {
        free(guests[i].line);
        fds[i] = guests[i].fd;
        if (r->error) close(fds[i]);
    }
    free(guests);
    close(epoll);
    return r->error ? -1 : 0;
}

/* ---- shares at a given rate, however fast they are answered ---- */
typedef struct {
    double seconds;
    uint64_t answered, refused, late; /* late: sent more than 1 ms after it was due (the generator was held up) */
    int error;
} stream;

typedef struct { uint32_t next, answered; int tail; char part[64]; } payer; /* shares sent and answered; the line coming in */

static int wait_until(int epoll, struct epoll_event *events, int64_t due) {
    int64_t left = due - now_ns();
    struct timespec t = {left > 0 ? left / 1000000000 : 0, left > 0 ? left % 1000000000 : 0};
    return (int)syscall(SYS_epoll_pwait2, epoll, events, EVENTS, &t, NULL, 8);
}

static void book(payer *p, uint64_t total, int n, int i, int64_t *taken, stream *r) {
    p->part[p->tail < 63 ? p->tail : 63] = 0;
    p->tail = 0;
    int good = strstr(p->part, "\"result\":true") != NULL;
    if (!good && !strstr(p->part, "\"error\"") && !strstr(p->part, "\"result\"")) return;
    uint64_t share = (uint64_t)p->answered++ * (uint64_t)n + (uint64_t)i;
    if (share < total) taken[share] = now_ns() - taken[share];
    r->answered++;
    r->refused += !good;
}

/* Share k goes out on connection k % n at begin + k / rate or as soon after it as this core allows; taken[k] is from the
 * sending to the answer, in ns. Sending never waits for the server (send buffers hold far more than a run), so a stalled
 * server is charged in full. */
int open_loop(int n, const int *fds, const char **blobs, const uint32_t **offsets, uint32_t lines, double rate, int64_t *taken, stream *r) {
    static char buffer[1 << 16];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    payer *payers = calloc((size_t)n, sizeof *payers);
    struct epoll_event events[EVENTS];
    uint64_t total = (uint64_t)n * lines, sent = 0;
    memset(r, 0, sizeof *r);
    for (int i = 0; i < n; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &e);
    }
    int64_t begin = now_ns();
    while (r->answered < total && !r->error) {
        int64_t passed = now_ns() - begin;
        while (sent < total && (double)sent / rate * 1e9 <= (double)passed) {
            int i = (int)(sent % (uint64_t)n);
            uint32_t line = payers[i].next++;
            taken[sent] = now_ns(); /* when it was sent, until it is answered */
            if (taken[sent] - begin - (int64_t)((double)sent / rate * 1e9) > 1000000) r->late++;
            if ((r->error = send_all(fds[i], blobs[i] + offsets[i][line], offsets[i][line + 1] - offsets[i][line]))) break;
            sent++;
        }
        int64_t due = begin + (int64_t)((double)sent / rate * 1e9);
        int got = wait_until(epoll, events, sent < total ? due : now_ns() + 5000000000);
        if (got == 0 && sent == total) r->error = ETIMEDOUT;
        for (int k = 0; k < got; k++) {
            int i = (int)events[k].data.u32;
            ssize_t have = recv(fds[i], buffer, sizeof buffer, MSG_DONTWAIT);
            if (have <= 0 && !(have < 0 && errno == EAGAIN)) { r->error = have ? errno : CLOSED; break; }
            for (ssize_t j = 0; j < have; j++) {
                if (buffer[j] == '\n') book(&payers[i], total, n, i, taken, r);
                else if (payers[i].tail < 63) payers[i].part[payers[i].tail++] = buffer[j];
            }
        }
    }
    r->seconds = (double)(now_ns() - begin) / 1e9;
    free(payers);
    close(epoll);
    return r->error ? -1 : 0;
}

/* ---- new work: when did each connection hear of it? ---- */
static ssize_t recv_stamped(int fd, char *buffer, size_t size, int64_t *stamp) {
    char room[CMSG_SPACE(sizeof(struct timespec))];
    struct iovec part = {buffer, size};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    ssize_t have = recvmsg(fd, &m, MSG_DONTWAIT);
    for (struct cmsghdr *c = have > 0 ? CMSG_FIRSTHDR(&m) : NULL; c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec t;
            memcpy(&t, CMSG_DATA(c), sizeof t);
            *stamp = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
        }
    return have;
}

/* Calls fire(), then waits for a mining.notify with clean_jobs on each connection. heard_ns: CLOCK_REALTIME at which the
 * kernel received its last segment (this does not depend on how fast it is read here). The first one's line goes to `line`. */
int hear_work(int n, const int *fds, void (*fire)(void), int64_t *heard_ns, char *line) {
    static char buffer[1 << 16];
    int epoll = epoll_create1(EPOLL_CLOEXEC), left = n, error = 0, one = 1;
    char *tails = calloc((size_t)n, 8); /* the end of what came last: a notify may come in parts */
    struct epoll_event events[EVENTS];
    *line = 0;
    for (int i = 0; i < n; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        heard_ns[i] = 0;
        setsockopt(fds[i], SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
        epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &e);
    }
    fire();
    while (left && !error) {
        int got = epoll_wait(epoll, events, EVENTS, HALF_MINUTE_MS);
        if (got == 0) error = ETIMEDOUT;
        for (int k = 0; k < got && !error; k++) {
            int i = (int)events[k].data.u32;
            int64_t stamp = clock_ns(CLOCK_REALTIME);
            ssize_t have = recv_stamped(fds[i], buffer, sizeof buffer - 1, &stamp);
            if (have <= 0) { error = have < 0 && errno == EAGAIN ? 0 : have ? errno : CLOSED; continue; }
            buffer[have] = 0;
            if (i == 0 && strlen(line) + (size_t)have < LINE) strcat(line, buffer);
            char *tail = tails + 8 * i, end[16] = "";
            int keep = have < 7 ? (int)have : 7;
            snprintf(end, sizeof end, "%.7s%.7s", tail, buffer + have - keep);
            snprintf(tail, 8, "%s", end + (strlen(end) > 7 ? strlen(end) - 7 : 0));
            if (!strcmp(tail, "true]}\n")) {
                if (!heard_ns[i]) left--;
                heard_ns[i] = stamp;
            }
        }
    }
    one = 0;
    for (int i = 0; i < n; i++) setsockopt(fds[i], SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof one);
    free(tails);
    close(epoll);
    return error;
}
