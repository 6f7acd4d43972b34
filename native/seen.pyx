"""Header hashes already credited, per previous block. A hash enters only after its share met its target."""

cdef extern from *:
    const char *NATIVE_BUILD

__build__ = NATIVE_BUILD.decode()

#: Hashes one previous block may hold: at 20,000 shares/s an hour without a block is 72 million (1.5 to 3 GiB).
DEFAULT_LIMIT = 100_000_000


cdef class SeenSet:
    def __cinit__(self, limit=DEFAULT_LIMIT):
        self.set = seen_new(limit)
        if self.set == NULL:
            raise MemoryError
        self.jobs = 0

    def __dealloc__(self):
        seen_free(self.set)

    def __len__(self):
        return self.set.count

    @property
    def bytes(self):
        return self.set.bytes

    def __contains__(self, bytes hash_le not None):
        return bool(seen_has(self.set, _hash(hash_le)))

    def add(self, bytes hash_le not None):
        """True if it is new, False if it was there. MemoryError at the limit."""
        result = seen_insert(self.set, _hash(hash_le))
        if result < 0:
            raise MemoryError(f"{self.set.count} header hashes held, the limit is {self.set.limit}")
        return result == 1

    def remove(self, bytes hash_le not None):
        seen_remove(self.set, _hash(hash_le))


cdef const uint8_t *_hash(bytes hash_le) except NULL:
    if len(hash_le) != 32:
        raise ValueError(f"hash must be 32 bytes, not {len(hash_le)}")
    return hash_le
