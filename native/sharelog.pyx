"""The share log: fixed 128-byte rows in memory-mapped, preallocated, append-only segments."""

import errno
import fcntl
import os
import re
import threading
import time

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport errno as c_errno
from libc.string cimport memcpy, memset
from posix.unistd cimport close as os_close
from posix.mman cimport MAP_FAILED, MAP_SHARED, MS_SYNC, PROT_READ, PROT_WRITE, mmap, msync, munmap

cdef extern from *:
    const char *NATIVE_BUILD

cdef extern from "crc32c.h":
    uint32_t crc32c(uint32_t seed, const uint8_t *data, size_t n) noexcept nogil
    uint32_t crc32c_table(uint32_t seed, const uint8_t *data, size_t n) noexcept nogil

__build__ = NATIVE_BUILD.decode()

cdef enum:
    ROW = 128
    HEAD = 4096

ROW_SIZE = ROW
HEAD_SIZE = HEAD
MAX_ACCOUNT_BYTES = 88
MAX_WORKER_BYTES = 64
_MAGIC = b"MMSPLOG1"
_NAME = re.compile(r"(\d{10})-(\d{6})\.log")

assert sizeof(Head) == 32 and sizeof(ShareRow) == ROW and sizeof(BestRow) == ROW


class LogFull(Exception):
    """No room and no next segment: nothing was written."""


def crc(bytes data not None, uint32_t seed=0, bint by_table=False):
    """CRC-32C with the register initialised to 0xFFFFFFFF ^ seed: the check word of a row is that of its bytes 4..127, seeded with the segment's salt."""
    return crc32c_table(seed, data, len(data)) if by_table else crc32c(seed, data, len(data))


def _head_bytes(epoch, number, first_seq, capacity, salt, created_s):
    """The first 60 bytes of a segment and their check: magic, version, row size, epoch, number, first seq, rows, salt, created."""
    text = _MAGIC + b"".join([n.to_bytes(size, "little") for n, size in (
        (1, 4), (ROW, 4), (epoch, 4), (number, 4), (first_seq, 8), (capacity, 8), (salt, 4), (created_s, 8))])
    return text + crc(text).to_bytes(4, "little")


def segments(str directory not None):
    found = [(_NAME.fullmatch(name), name) for name in os.listdir(directory)]
    return [os.path.join(directory, name) for match, name in sorted((f for f in found if f[0]), key=lambda f: f[1])]


cdef class _Map:
    def __cinit__(self):
        self.base, self.fd = NULL, -1

    def __dealloc__(self):
        self.unmap()

    cdef void unmap(self) noexcept:
        if self.base != NULL:
            munmap(self.base, self.size)
            self.base = NULL
        if self.fd >= 0:
            os_close(self.fd)
            self.fd = -1


cdef _Map _create(str directory, uint32_t epoch, uint32_t number, uint64_t first_seq, size_t size, int64_t created_s):
    """A segment with all its disk blocks allocated, so that writing a row can never meet a full disk (which would be SIGBUS)."""
    cdef _Map segment = _Map()
    path = os.path.join(directory, f"{epoch:010d}-{number:06d}.log")
    salt = int.from_bytes(os.urandom(4), "little")
    capacity = (size - HEAD) // ROW
    part = path + ".part"
    segment.fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        os.posix_fallocate(segment.fd, 0, size)
        os.pwrite(segment.fd, _head_bytes(epoch, number, first_seq, capacity, salt, created_s), 0)
        os.fsync(segment.fd)
        os.rename(part, path)
    except BaseException:
        os.unlink(part)
        raise
    _sync_directory(directory)
    cdef void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, segment.fd, 0)
    if base == MAP_FAILED:
        raise OSError(c_errno, os.strerror(c_errno), path)
    segment.base, segment.size = <uint8_t *>base, size
    segment.number, segment.salt, segment.first_seq, segment.capacity, segment.synced = number, salt, first_seq, capacity, HEAD
    return segment


def _tidy(directory):
    """Give back what earlier epochs preallocated and never wrote: half-made segments go, unwritten tails are cut. A tail that holds
    anything but zeros behind the last valid row (a torn page after a power cut) is evidence and stays."""
    for name in os.listdir(directory):
        if name.endswith(".log.part"):
            os.unlink(os.path.join(directory, name))
    for path in segments(directory):
        try:
            segment = Segment(path)
        except ValueError:
            continue  # not ours to judge: readers name it
        rows = 0
        try:
            if os.path.getsize(path) < HEAD + segment.capacity * ROW or segment.row_written(segment.capacity - 1):
                continue  # cut before, or full: nothing to give back, and a start must not read the whole history
            while True:
                chunk = len(segment.rows(rows)) // ROW
                rows += chunk
                if not chunk:
                    break
            if not _zeros_from(path, HEAD + rows * ROW):
                continue
        finally:
            segment.close()
        if rows:
            os.truncate(path, HEAD + rows * ROW)
        else:
            os.unlink(path)


def _zeros_from(path, at):
    zeros = bytes(1 << 20)
    with open(path, "rb") as file:
        file.seek(at)
        while chunk := file.read(len(zeros)):
            if chunk != zeros[: len(chunk)]:
                return False
    return True


def _sync_directory(directory):
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


cdef class ShareLog:
    def __cinit__(self, str directory not None, *, size_t segment_bytes=64 << 20, now_s=None):
        self._lock_fd = -1
        if segment_bytes < HEAD + ROW or segment_bytes % 4096:
            raise ValueError(f"segment_bytes must be a multiple of 4096 of at least 8192, got {segment_bytes}")
        os.makedirs(directory, exist_ok=True)
        self.directory, self._segment_bytes = directory, segment_bytes
        self._lock()
        self._accounts, self._workers, self._done = {}, {}, []
        self._preparing = threading.Lock()
        now = int(time.time() if now_s is None else now_s)
        last = max([int(os.path.basename(p)[:10]) for p in segments(directory)], default=0)
        # The lock file keeps the last epoch: segments may have been archived, and a clock may stand in the past after a power cut.
        last = max(last, int(os.pread(self._lock_fd, 16, 0) or 0))
        self.epoch = max(now, last + 1)
        os.pwrite(self._lock_fd, b"%010d\n" % self.epoch, 0)
        os.fsync(self._lock_fd)
        _tidy(directory)
        self._current = _create(directory, self.epoch, 0, 1, segment_bytes, now)

    def _lock(self):
        self._lock_fd = os.open(os.path.join(self.directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_fd)
            self._lock_fd = -1
            raise BlockingIOError(errno.EWOULDBLOCK, "another process is writing this share log", self.directory) from None

    cdef Head *slot(self) noexcept:
        cdef _Map m = self._current
        if m is None:
            return NULL
        if self.seq + 1 - m.first_seq >= m.capacity:
            if self._next is None:
                self.full = True
                self.refused += 1
                return NULL
            self._done.append(m)
            self._current = m = self._next
            self._next = None
        return <Head *>(m.base + HEAD + (self.seq + 1 - m.first_seq) * ROW)

    cdef void commit(self, Head *row, uint8_t kind, uint8_t flags, int64_t time_ns, uint32_t account, uint32_t worker) noexcept:
        """Number and check the row in place. The check goes in last: a reader takes no row without it."""
        self.seq += 1
        row.kind, row.flags, row.reserved = kind, flags, 0
        row.seq, row.time_ns, row.account, row.worker = self.seq, time_ns, account, worker
        cdef uint32_t check = crc32c(self._current.salt, (<uint8_t *>row) + 4, ROW - 4)
        store_release(&row.check, check)

    cdef _row(self, int kind, bytes body, int64_t now_ns, uint32_t account, uint32_t worker):
        if len(body) > ROW - 32:
            raise ValueError(f"a row holds {ROW - 32} bytes, got {len(body)}")
        cdef Head *row = self.slot()
        if row == NULL:
            raise LogFull(f"{self.directory}: no room for another row" if self._current is not None else "the share log is closed")
        memset((<uint8_t *>row) + 32, 0, ROW - 32)
        memcpy((<uint8_t *>row) + 32, <const uint8_t *>body, len(body))
        self.commit(row, kind, 0, now_ns, account, worker)
        return self.seq

    def account(self, str name not None, int64_t now_ns):
        known = self._accounts.get(name)
        if known is not None:
            return known
        text = _text("account", name, MAX_ACCOUNT_BYTES)
        number = len(self._accounts) + 1
        self._row(ACCOUNT, text, now_ns, number, 0)
        self._accounts[name] = number
        return number

    def worker(self, uint32_t account, str name not None, int64_t now_ns):
        known = self._workers.get((account, name))
        if known is not None:
            return known
        if not 0 < account <= <size_t>len(self._accounts):
            raise ValueError(f"there is no account number {account} in this epoch")
        text = _text("worker", name, MAX_WORKER_BYTES)
        number = len(self._workers) + 1
        self._row(WORKER, text, now_ns, account, number)
        self._workers[account, name] = number
        return number

    def rejects(self, uint32_t account, uint32_t worker, tuple counts not None, int64_t now_ns):
        if len(counts) > 16:
            raise ValueError(f"at most 16 counts, got {len(counts)}")
        self._row(REJECTS, b"".join([min(n, 0xFFFFFFFF).to_bytes(4, "little") for n in counts]), now_ns, account, worker)

    def tip(self, bytes prevhash not None, uint32_t height, uint32_t nbits, int64_t now_ns):
        if len(prevhash) != 32:
            raise ValueError(f"prevhash must be 32 bytes, not {len(prevhash)}")
        self._row(TIP, prevhash + height.to_bytes(4, "little") + nbits.to_bytes(4, "little"), now_ns, 0, 0)

    def block(self, bytes header not None, uint32_t height, uint32_t account, uint32_t worker, int64_t now_ns):
        if len(header) != 80:
            raise ValueError(f"header must be 80 bytes, not {len(header)}")
        return self._row(BLOCK, header + height.to_bytes(4, "little"), now_ns, account, worker)

    def policy(self, uint32_t version, bytes digest not None, int64_t now_ns):
        if len(digest) != 32:
            raise ValueError(f"digest must be 32 bytes, not {len(digest)}")
        self._row(POLICY, digest + version.to_bytes(4, "little"), now_ns, 0, 0)

    def prepare(self):
        cdef _Map current
        with self._preparing:
            self._sync_done()
            current = self._current
            if current is None:
                return
            self._sync(current, HEAD + (self.seq + 1 - current.first_seq) * ROW)
            self._allocate_next()

    cdef _sync_done(self):
        cdef _Map segment
        while self._done:
            segment = self._done[0]
            self._sync(segment, HEAD + segment.capacity * ROW)
            segment.unmap()
            self._done.pop(0)

    cdef _sync(self, _Map segment, size_t end):
        """msync the pages from the last synced byte to `end`, without the GIL: a disk that is slow must not hold up shares."""
        cdef size_t begin = segment.synced & ~<size_t>4095
        cdef int failed
        if end <= segment.synced:
            return
        with nogil:
            failed = msync(segment.base + begin, end - begin, MS_SYNC)
        if failed:
            raise OSError(c_errno, os.strerror(c_errno), self.directory)
        segment.synced = end

    cdef _allocate_next(self):
        cdef _Map current = self._current
        if self._next is not None or (self.seq + 1 - current.first_seq) * 2 < current.capacity:
            return
        made = _create(self.directory, self.epoch, current.number + 1, current.first_seq + current.capacity, self._segment_bytes, int(time.time()))
        self._next = made
        self.full = False

    def close(self):
        cdef _Map current
        if self._current is None:
            return
        with self._preparing:
            self._sync_done()
            current, self._current = self._current, None
            self._sync(current, HEAD + (self.seq + 1 - current.first_seq) * ROW)
            current.unmap()
            if self._next is not None:
                self._next.unmap()
                self._next = None
            _tidy(self.directory)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def __dealloc__(self):
        if self._lock_fd >= 0:
            os_close(self._lock_fd)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, tb):
        self.close()


def _text(str what, str name, limit):
    """Length word and bytes of a name, as ACCOUNT and WORKER rows hold it."""
    text = name.encode()
    if len(text) > limit:
        raise ValueError(f"{what} name is {len(text)} bytes long, the limit is {limit}")
    return len(text).to_bytes(4, "little") + text


cdef extern from *:
    """
    static inline void store_release_(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
    """
    void store_release "store_release_"(uint32_t *p, uint32_t v) noexcept nogil


cdef class Segment:
    """Read-only view of one segment file, possibly still being written."""

    cdef readonly uint32_t epoch, number
    cdef readonly uint64_t first_seq, capacity
    cdef readonly str path
    cdef uint32_t _salt
    cdef int _fd

    def __cinit__(self, str path not None):
        self._fd = -1
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        head = os.pread(self._fd, 56, 0)
        wrong = None
        if len(head) < 56:
            wrong = "is shorter than a segment's head"
        elif head[:8] != _MAGIC:
            wrong = "is not a share log segment (magic)"
        elif crc(head[:52]) != int.from_bytes(head[52:56], "little"):
            wrong = "has a damaged head (check)"
        elif int.from_bytes(head[8:12], "little") != 1 or int.from_bytes(head[12:16], "little") != ROW:
            wrong = "is of a version this program does not know"
        elif int.from_bytes(head[32:40], "little") >= 1 << 48:
            wrong = "claims more rows than any disk holds"
        if wrong:
            raise ValueError(f"{path} {wrong}")
        self.epoch, self.number = int.from_bytes(head[16:20], "little"), int.from_bytes(head[20:24], "little")
        self.first_seq, self.capacity = int.from_bytes(head[24:32], "little"), int.from_bytes(head[32:40], "little")
        self._salt = int.from_bytes(head[40:44], "little")

    def __dealloc__(self):
        if self._fd >= 0:
            os_close(self._fd)

    @property
    def salt(self):
        return self._salt

    def close(self):
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    cdef bint _valid(self, const uint8_t *row, uint64_t index) noexcept nogil:
        cdef Head head
        memcpy(&head, row, sizeof(Head))
        return head.kind != 0 and head.seq == self.first_seq + index and head.check == crc32c(self._salt, row + 4, ROW - 4)

    cdef bytes _read(self, uint64_t start, uint64_t limit):
        if self._fd < 0:
            raise ValueError(f"{self.path} is closed")
        if start >= self.capacity:
            return b""
        return os.pread(self._fd, min(limit, self.capacity - start) * ROW, HEAD + start * ROW)

    cpdef bint row_written(self, uint64_t index):
        """Is anything but zeros at that row, whether it passes its check or not?"""
        return bool(self._read(index, 1).strip(b"\0"))

    def rows(self, uint64_t start=0, uint64_t limit=1 << 20):
        cdef bytes data = self._read(start, limit)
        cdef const uint8_t *p = data
        cdef uint64_t n = 0, have = len(data) // ROW
        with nogil:
            while n < have and self._valid(p + n * ROW, start + n):
                n += 1
        return data if n * ROW == <size_t>len(data) else PyBytes_FromStringAndSize(<const char *>p, n * ROW)

    def torn(self):
        cdef uint64_t at = 0, n
        cdef bint behind = False
        while True:
            n = len(self.rows(at, 1 << 16)) // ROW
            at += n
            if n == 0:
                if self.row_written(at) or behind:
                    return at  # was behind: looked at once more, because its writer may have been at it a moment ago
                behind = not _zeros_from(self.path, HEAD + at * ROW)
                if not behind:
                    return None
