"""One connection: line framing, the mining.submit fast path, judge, book, answer. No socket, no clock, no config, no log.

The order in which a share is judged is a contract: docs/architecture.md, "The judge's order"."""

from decimal import Decimal

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, memmove, memset
from native.difficulty cimport u256, nearest_difficulty, u256_le, u256_lt, u256_of_difficulty, u256_of_le, u256_work
from native.seen cimport seen_insert, seen_remove
from native.sharelog cimport BEST, SHARE, BestRow, Head, ShareLog, ShareRow
from native.work cimport EN1, EN2, Job, JobTable

cdef extern from *:
    const char *NATIVE_BUILD

__build__ = NATIVE_BUILD.decode()

cdef extern from "wire.h":
    ctypedef struct span:
        const uint8_t *p
        size_t n
    ctypedef struct submit_line:
        span id
        span param[6]
        int n_params
    ctypedef struct writer:
        uint8_t *p
        size_t n, cap
        bint failed
    int scan_submit(const uint8_t *line, size_t n, submit_line *out) noexcept nogil
    bint hex_number(span s, size_t max, uint64_t *out) noexcept nogil
    bint hex_bytes(span s, uint8_t *out, size_t room) noexcept nogil
    void wr_bytes(writer *w, const void *p, size_t n) noexcept nogil
    void wr_clear(writer *w) noexcept nogil

cdef enum Verdict:  # pool.records.Verdict has the same numbers; a test holds them equal
    V_ACCEPTED = 0
    V_MALFORMED = 1
    V_JOB_NOT_FOUND = 2
    V_BAD_EXTRANONCE2 = 3
    V_UNAUTHORISED = 4
    V_BAD_VERSION = 5
    V_STALE = 6
    V_BAD_NTIME = 7
    V_LOW_DIFFICULTY = 8
    V_DUPLICATE = 9
    V_NOT_RECORDED = 10
    VERDICTS = 11

cdef enum:
    SENT_LIMIT = 64  # newest jobs of a connection that stay known
    USER_LIMIT = 16
    KEEP_OUT = 512  # an output buffer up to this size is kept between packets

ACCEPTED = V_ACCEPTED
N_VERDICTS = VERDICTS

# What follows the id in each answer.
cdef list _TAILS = [b',"result":true,"error":null}\n'] + [
    b',"result":false,"error":[%d,"%s",null]}\n' % (code, text) for code, text in (
        (20, b"Malformed submit"), (21, b"Job not found"), (20, b"Wrong extranonce2 length"), (24, b"Unauthorized worker"), (20, b"Invalid version mask"),
        (21, b"Stale"), (20, b"Time out of range"), (23, b"Low difficulty share"), (22, b"Duplicate share"), (20, b"Pool cannot record shares now"))]
cdef span _tails[VERDICTS]
for _i, _tail in enumerate(_TAILS):
    _tails[_i].p = <const uint8_t *>PyBytes_AS_STRING(_tail)
    _tails[_i].n = len(_tail)

cdef struct Sent:  # a job as this connection got it
    uint64_t job_id
    double difficulty
    uint8_t en1[EN1]

cdef struct Grade:  # what an assigned difficulty means
    double difficulty
    u256 target
    uint64_t work_lo, work_hi

cdef struct User:
    uint8_t *name
    size_t n
    uint32_t account, worker


cdef class Found:
    """A share that meets its job's network target. Handed to `found` before the answer is written."""

    cdef readonly Job job
    cdef readonly bytes header, hash_le, extranonce1, extranonce2, user
    cdef readonly uint32_t account, worker
    cdef readonly bint stale
    cdef readonly int64_t now_ns

    def block(self):
        return self.job.block(self.extranonce1, self.extranonce2, self.header)


cdef class Channel:
    cdef JobTable _jobs
    cdef ShareLog _log
    cdef object _found
    cdef readonly str fault
    cdef bint _busy
    cdef size_t _line_limit
    cdef uint32_t _session
    cdef uint8_t _flags
    # bytes
    cdef uint8_t *_in
    cdef size_t _in_at, _in_n, _in_cap
    cdef writer _out
    # what was sent
    cdef Sent *_sent  # a ring once it has SENT_LIMIT places
    cdef uint32_t _sent_n, _sent_cap, _sent_at
    cdef Grade _grades[2]  # the latest and the one before it in use
    cdef uint8_t _en1[EN1]
    cdef readonly double difficulty
    cdef public uint32_t version_mask
    # who
    cdef User *_users
    cdef uint32_t _users_n, _users_last
    cdef bytes _unauthorised_tail
    # what happened
    cdef uint64_t _counts[VERDICTS]
    cdef uint64_t _drained[VERDICTS]
    cdef readonly double credited
    cdef uint64_t _work_lo, _work_hi
    cdef readonly int64_t last_accepted_ns, last_submit_ns
    cdef u256 _best
    cdef readonly bytes best_header

    def __cinit__(self, JobTable jobs not None, ShareLog log not None, bytes extranonce1 not None, found, *, size_t line_limit=8192, uint32_t session=0, uint8_t flags=0):
        self._jobs, self._log, self._found = jobs, log, found
        self._line_limit, self._session, self._flags = line_limit, session, flags
        self.version_mask = 0x1FFFE000
        memset(&self._best, 0xFF, sizeof(u256))
        self.set_extranonce1(extranonce1)

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self._users_n):
            free(self._users[i].name)
        free(self._users)
        free(self._sent)
        free(self._in)
        wr_clear(&self._out)

    # --- bytes in ---------------------------------------------------------------------------------------------

    def feed(self, data, int64_t now_ns):
        cdef const uint8_t *p
        cdef size_t n, used
        cdef span line
        cdef Py_buffer view
        if self._busy:
            raise RuntimeError("feed was called from within feed")
        if self.fault is not None:
            return None
        line.p = NULL
        if PyBytes_CheckExact(data) and self._in_n == self._in_at:  # the usual case: nothing waits, judge in place
            p, n = <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
            used = self._scan(p, n, now_ns, &line)
            answer = PyBytes_FromStringAndSize(<const char *>line.p, line.n) if line.p != NULL else None
            if used < n and self.fault is None:
                self._keep(p + used, n - used)
            return answer
        if not PyBytes_CheckExact(data) or PyBytes_GET_SIZE(data):
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                self._keep(<const uint8_t *>view.buf, view.len)
            finally:
                PyBuffer_Release(&view)
        self._in_at += self._scan(self._in + self._in_at, self._in_n - self._in_at, now_ns, &line)
        answer = PyBytes_FromStringAndSize(<const char *>line.p, line.n) if line.p != NULL else None
        if self._in_at == self._in_n or self.fault is not None:
            free(self._in)
            self._in = NULL
            self._in_at = self._in_n = self._in_cap = 0
        elif answer is None:
            self._shrink()
        return answer

    cdef int _shrink(self) except -1:
        """Only the beginning of a line waits: give back the packet it came with, or 10,000 idle connections would keep 256 KiB each."""
        cdef uint8_t *less
        self._in_n -= self._in_at
        memmove(self._in, self._in + self._in_at, self._in_n)
        self._in_at = 0
        if self._in_cap > 2 * self._in_n + 64:
            less = <uint8_t *>realloc(self._in, self._in_n)
            if less != NULL:
                self._in, self._in_cap = less, self._in_n
        return 0

    cdef int _keep(self, const uint8_t *p, size_t n) except -1:
        """Append to what waits for the rest of its line."""
        cdef uint8_t *grown
        if n == 0:
            return 0  # an empty buffer: nothing may be allocated yet
        if self._in_at:
            memmove(self._in, self._in + self._in_at, self._in_n - self._in_at)
            self._in_n -= self._in_at
            self._in_at = 0
        if self._in_n + n > self._in_cap:
            grown = <uint8_t *>realloc(self._in, self._in_n + n)
            if grown == NULL:
                raise MemoryError
            self._in, self._in_cap = grown, self._in_n + n
        memcpy(self._in + self._in_n, p, n)
        self._in_n += n
        return 0

    cdef size_t _scan(self, const uint8_t *p, size_t n, int64_t now_ns, span *line):
        """Walk complete lines: plain submits are judged and answered, empty ones skipped; the first other one stops the walk. Returns bytes used."""
        cdef size_t at = 0, length
        cdef const uint8_t *end
        cdef submit_line submit
        while at < n:
            end = <const uint8_t *>memchr(p + at, 10, n - at)
            length = (end - (p + at)) if end != NULL else n - at
            if length > self._line_limit:
                self.fault = f"line too long (more than {self._line_limit} bytes)"
                return n
            if end == NULL:
                break
            if scan_submit(p + at, length, &submit):
                self._hear(&submit, now_ns)
            elif not _blank(p + at, length):
                line.p = p + at
                line.n = length - 1 if p[at + length - 1] == 13 else length
                return at + length + 1
            at += length + 1
        return at

    cdef void _hear(self, submit_line *s, int64_t now_ns) noexcept:
        cdef int verdict = V_MALFORMED
        cdef span version
        version.p, version.n = NULL, 0
        if s.n_params >= 5:
            if s.n_params >= 6:
                version = s.param[5]
            self._busy = True
            verdict = self._judge(s.param[0], s.param[1], s.param[2], s.param[3], s.param[4], version, now_ns)
            self._busy = False
        self._answer(s.id, verdict, now_ns)

    cdef void _answer(self, span id, int verdict, int64_t now_ns) noexcept:
        self._counts[verdict] += 1
        self.last_submit_ns = now_ns
        if id.p == NULL:
            return
        wr_bytes(&self._out, b'{"id":', 6)
        wr_bytes(&self._out, id.p, id.n)
        if verdict == V_UNAUTHORISED and self._unauthorised_tail is not None:
            wr_bytes(&self._out, PyBytes_AS_STRING(self._unauthorised_tail), PyBytes_GET_SIZE(self._unauthorised_tail))
        else:
            wr_bytes(&self._out, _tails[verdict].p, _tails[verdict].n)

    # --- the judge --------------------------------------------------------------------------------------------

    cdef int _judge(self, span user, span job_id, span en2_hex, span ntime_hex, span nonce_hex, span version_hex, int64_t now_ns) noexcept:
        cdef uint64_t ntime, nonce, bits = 0, number
        cdef uint8_t en2[EN2]
        cdef uint8_t header[80]
        cdef uint8_t hash_bytes[32]
        cdef Sent sent
        cdef Job job
        cdef u256 hash_le
        cdef User *known
        cdef User who
        cdef bint stale
        if not hex_number(ntime_hex, 8, &ntime) or not hex_number(nonce_hex, 8, &nonce) or not hex_bytes(en2_hex, en2, EN2):
            return V_MALFORMED
        if version_hex.p != NULL and not hex_number(version_hex, 8, &bits):
            return V_MALFORMED
        if not hex_number(job_id, 16, &number) or not self._sent_as(number, &sent):
            return V_JOB_NOT_FOUND
        job = self._jobs.find(number)
        if job is None:
            return V_JOB_NOT_FOUND
        if en2_hex.n != 2 * EN2:
            return V_BAD_EXTRANONCE2
        job.hash_share(sent.en1, en2, job.version ^ <uint32_t>bits, <uint32_t>ntime, <uint32_t>nonce, header, hash_bytes)
        hash_le = u256_of_le(hash_bytes)
        # User and tip as they were when the share came in: `found` may change both under our feet.
        known = self._user(user)
        if known != NULL:
            who = known[0]
        stale = job.seen is not self._jobs._tip_seen
        if u256_le(&hash_le, &job.target):
            self._tell_found(job, header, hash_bytes, &sent, en2, user, &who if known != NULL else NULL, stale, now_ns)
        if known == NULL:
            return V_UNAUTHORISED
        if bits & ~<uint64_t>self.version_mask:
            return V_BAD_VERSION
        if stale:
            return V_STALE
        if ntime < job.ntime_min or ntime > job.ntime_max:
            return V_BAD_NTIME
        cdef Grade *grade = self._grade(sent.difficulty)
        if not u256_le(&hash_le, &grade.target):
            return V_LOW_DIFFICULTY
        return self._book(job, &sent, grade, &who, header, hash_bytes, &hash_le, now_ns)

    cdef int _book(self, Job job, Sent *sent, Grade *grade, User *who, const uint8_t *header, const uint8_t *hash_bytes, u256 *hash_le,
                   int64_t now_ns) noexcept:
        cdef int new = seen_insert(job.seen.set, hash_bytes)
        cdef bint capped
        if new == 0:
            return V_DUPLICATE
        cdef ShareRow *row = <ShareRow *>self._log.slot() if new > 0 else NULL
        if row == NULL:
            if new > 0:
                seen_remove(job.seen.set, hash_bytes)
            return V_NOT_RECORDED
        capped = job.work_hi < grade.work_hi or (job.work_hi == grade.work_hi and job.work_lo < grade.work_lo)
        row.work_lo = job.work_lo if capped else grade.work_lo
        row.work_hi = job.work_hi if capped else grade.work_hi
        row.difficulty, row.job_id, row.nbits, row.height, row.session = grade.difficulty, job.job_id, job.nbits, job.height, self._session
        memcpy(row.hash_le, hash_bytes, 32)
        memcpy(row.extranonce1, sent.en1, EN1)
        memcpy(row.prevhash_head, PyBytes_AS_STRING(job.prevhash), 8)
        memset(row.pad, 0, 8)
        self._work_lo += row.work_lo
        self._work_hi += row.work_hi + (self._work_lo < row.work_lo)
        self._log.commit(&row.head, SHARE, self._flags, now_ns, who.account, who.worker)
        self.credited += grade.difficulty
        self.last_accepted_ns = now_ns
        if u256_lt(hash_le, &self._best):
            self._record_best(header, hash_le, who, now_ns)
        return V_ACCEPTED

    cdef void _record_best(self, const uint8_t *header, u256 *hash_le, User *who, int64_t now_ns) noexcept:
        """Rare (a connection's n-th share is its best with odds 1 in n): the header goes into the log, so that a record can be checked for ever."""
        cdef uint64_t share_seq = self._log.seq
        cdef BestRow *row = <BestRow *>self._log.slot()
        self._best = hash_le[0]
        self.best_header = header[:80]
        if row == NULL:
            return  # the share itself is booked; the record waits for a better one
        memcpy(row.header, header, 80)
        row.share_seq, row.difficulty = share_seq, nearest_difficulty(hash_le)
        self._log.commit(&row.head, BEST, self._flags, now_ns, who.account, who.worker)

    cdef void _tell_found(self, Job job, const uint8_t *header, const uint8_t *hash_bytes, Sent *sent, const uint8_t *en2, span user, User *who,
                          bint stale, int64_t now_ns) noexcept:
        """An exception of the callback is reported through sys.unraisablehook; the share is judged all the same."""
        cdef Found found = Found()
        found.job, found.header, found.hash_le = job, header[:80], hash_bytes[:32]
        found.extranonce1, found.extranonce2 = sent.en1[:EN1], en2[:EN2]
        found.user = user.p[:user.n]
        if who != NULL:
            found.account, found.worker = who.account, who.worker
        found.stale, found.now_ns = stale, now_ns
        self._found(found)

    cdef bint _sent_as(self, uint64_t job_id, Sent *out) noexcept:
        """The entry of that job on this connection, newest first."""
        cdef uint32_t i, at = self._sent_at
        for i in range(self._sent_n):
            at = at - 1 if at else self._sent_cap - 1
            if self._sent[at].job_id == job_id:
                out[0] = self._sent[at]
                return True
        return False

    cdef Grade *_grade(self, double difficulty) noexcept:
        cdef int i
        for i in range(2):
            if self._grades[i].difficulty == difficulty:
                return &self._grades[i]
        self._grades[1] = self._grades[0]
        self._grades[0].difficulty = difficulty
        u256_of_difficulty(difficulty, &self._grades[0].target)
        u256_work(&self._grades[0].target, &self._grades[0].work_lo, &self._grades[0].work_hi)
        return &self._grades[0]

    cdef User *_user(self, span name) noexcept:
        cdef uint32_t i
        cdef User *u
        if self._users_n == 0:
            return NULL
        u = &self._users[self._users_last]
        if u.n == name.n and memcmp(u.name, name.p, name.n) == 0:
            return u
        for i in range(self._users_n):
            u = &self._users[i]
            if u.n == name.n and memcmp(u.name, name.p, name.n) == 0:
                self._users_last = i
                return u
        return NULL

    # --- bytes out --------------------------------------------------------------------------------------------

    def say(self, bytes line not None):
        wr_bytes(&self._out, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))

    def take(self):
        if self._out.failed:
            wr_clear(&self._out)
            raise MemoryError
        if self._out.n == 0:
            return b""
        answer = PyBytes_FromStringAndSize(<const char *>self._out.p, self._out.n)
        self._out.n = 0
        if self._out.cap > KEEP_OUT:
            wr_clear(&self._out)
        return answer

    def __sizeof__(self):
        """All memory held: this object, what waits in and out, jobs sent, users."""
        names = sum([self._users[i].n for i in range(self._users_n)])
        return object.__sizeof__(self) + self._in_cap + self._out.cap + self._sent_cap * sizeof(Sent) + self._users_n * sizeof(User) + names

    @property
    def pending_in(self):
        return self._in_n - self._in_at

    @property
    def pending_out(self):
        return self._out.n

    # --- what the session decides -----------------------------------------------------------------------------

    def authorize(self, bytes user not None, uint32_t account, uint32_t worker):
        cdef span name
        cdef User *grown
        name.p, name.n = <const uint8_t *>PyBytes_AS_STRING(user), PyBytes_GET_SIZE(user)
        cdef User *known = self._user(name)
        if known != NULL:
            known.account, known.worker = account, worker
            return
        if self._users_n >= USER_LIMIT:
            raise ValueError(f"at most {USER_LIMIT} users on one connection")
        grown = <User *>realloc(self._users, (self._users_n + 1) * sizeof(User))
        if grown == NULL:
            raise MemoryError
        self._users = grown
        known = &self._users[self._users_n]
        known.name = <uint8_t *>malloc(name.n or 1)
        if known.name == NULL:
            raise MemoryError
        memcpy(known.name, name.p, name.n)
        known.n, known.account, known.worker = name.n, account, worker
        self._users_n += 1

    def deauthorize(self, bytes user not None):
        cdef span name
        name.p, name.n = <const uint8_t *>PyBytes_AS_STRING(user), PyBytes_GET_SIZE(user)
        cdef User *known = self._user(name)
        if known == NULL:
            return
        free(known.name)
        self._users_n -= 1
        known[0] = self._users[self._users_n]
        self._users_last = 0

    @property
    def unauthorised_text(self):
        return "Unauthorized worker" if self._unauthorised_tail is None else self._unauthorised_tail[29:-9].decode()

    @unauthorised_text.setter
    def unauthorised_text(self, str text not None):
        if len(text) > 63 or not text.isascii() or not text.isprintable() or '"' in text or "\\" in text:
            raise ValueError(f"the text must be at most 63 printable ASCII characters without quote or backslash, got {text!r}")
        self._unauthorised_tail = b',"result":false,"error":[24,"%s",null]}\n' % text.encode()

    def set_extranonce1(self, bytes extranonce1 not None):
        if len(extranonce1) != EN1:
            raise ValueError(f"extranonce1 must be {EN1} bytes, not {len(extranonce1)}")
        memcpy(self._en1, PyBytes_AS_STRING(extranonce1), EN1)

    @property
    def extranonce1(self):
        return self._en1[:EN1]

    def send_job(self, Job job not None, double difficulty, bint clean):
        cdef bytes line
        cdef u256 target
        if difficulty != self.difficulty or difficulty == 0:
            if not u256_of_difficulty(difficulty, &target):
                raise ValueError(f"difficulty must be a finite number of at least 2^-20, got {difficulty!r}")
            line = _set_difficulty(difficulty)
            wr_bytes(&self._out, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))
            self.difficulty = difficulty
        self._remember(job, difficulty)
        line = job._notify_true if clean else job._notify_false
        wr_bytes(&self._out, PyBytes_AS_STRING(line), PyBytes_GET_SIZE(line))

    cdef int _remember(self, Job job, double difficulty) except -1:
        """Note what this job was sent at. Before the table grows, jobs the pool has retired give up their places; at SENT_LIMIT the oldest goes."""
        cdef uint32_t kept, i
        cdef Sent *grown
        if self._sent_n == self._sent_cap and self._sent_cap < SENT_LIMIT:
            kept = 0  # below the limit the ring never wrapped: entries lie oldest first
            for i in range(self._sent_n):
                if self._jobs.find(self._sent[i].job_id) is not None:
                    self._sent[kept] = self._sent[i]
                    kept += 1
            self._sent_n = self._sent_at = kept
            if kept == self._sent_cap:
                i = self._sent_cap * 2 if self._sent_cap else 4
                grown = <Sent *>realloc(self._sent, i * sizeof(Sent))
                if grown == NULL:
                    raise MemoryError
                self._sent, self._sent_cap = grown, i
        elif self._sent_n == self._sent_cap:
            self._sent_at %= self._sent_cap
        cdef Sent *entry = &self._sent[self._sent_at]
        entry.job_id, entry.difficulty = job.job_id, difficulty
        memcpy(entry.en1, self._en1, EN1)
        self._sent_at += 1
        if self._sent_at == SENT_LIMIT:
            self._sent_at = 0
        if self._sent_n < self._sent_cap:
            self._sent_n += 1
        return 0

    def submit(self, bytes id_json not None, str user not None, str job_id not None, str extranonce2 not None, str ntime not None, str nonce not None,
               version_bits, int64_t now_ns):
        cdef list texts = [text.encode("utf-8", "surrogatepass") for text in (user, job_id, extranonce2, ntime, nonce, version_bits or "")]
        cdef span spans[6]
        cdef span id
        cdef int i, verdict
        if self._busy:
            raise RuntimeError("submit was called from within feed")
        for i in range(6):
            spans[i].p, spans[i].n = <const uint8_t *>PyBytes_AS_STRING(<bytes>texts[i]), len(<bytes>texts[i])
        if version_bits is None:
            spans[5].p = NULL
        self._busy = True
        verdict = self._judge(spans[0], spans[1], spans[2], spans[3], spans[4], spans[5], now_ns)
        self._busy = False
        id.p, id.n = <const uint8_t *>PyBytes_AS_STRING(id_json), len(id_json)
        if id_json == b"null":
            id.p = NULL
        self._answer(id, verdict, now_ns)
        return verdict

    # --- what vardiff and statistics read ---------------------------------------------------------------------

    @property
    def counts(self):
        return tuple([self._counts[i] for i in range(<int>VERDICTS)])

    def drain_counts(self):
        out = tuple([self._counts[i] - self._drained[i] for i in range(<int>VERDICTS)])
        memcpy(self._drained, self._counts, sizeof(self._counts))
        return out

    @property
    def credited_work(self):
        return <object>self._work_hi << 64 | self._work_lo

    @property
    def best_difficulty(self):
        return 0.0 if self._best.w[3] == <uint64_t>-1 else nearest_difficulty(&self._best)

    @best_difficulty.setter
    def best_difficulty(self, double difficulty):
        """The record to beat, from history: BEST rows are written only above it."""
        if not u256_of_difficulty(difficulty, &self._best):
            memset(&self._best, 0xFF, sizeof(u256))

    @property
    def users(self):
        return [self._users[i].name[:self._users[i].n] for i in range(self._users_n)]


cdef bint _blank(const uint8_t *p, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        if p[i] != 32 and p[i] != 9 and p[i] != 13:
            return False
    return True


def _set_difficulty(double difficulty):
    """A JSON number without exponent, an integer whenever it is one (clients.md 33); a client reads back the very same double."""
    text = str(int(difficulty)) if difficulty.is_integer() else format(Decimal(repr(difficulty)), "f")
    return b'{"id":null,"method":"mining.set_difficulty","params":[%s]}\n' % text.encode()


def broadcast(channels, Job job not None, bint clean):
    cdef Channel channel
    for channel in channels:
        if channel.difficulty > 0:  # one that has had no job yet gets its first, and its difficulty, from its session
            channel.send_job(job, channel.difficulty, clean)
