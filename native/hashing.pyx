# cython: language_level=3
"""SHA-256 as Bitcoin uses it, over one compress function chosen at import by CPU feature."""

import os

from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_THREAD_CPUTIME_ID, clock_gettime, timespec

cdef extern from *:
    const char *NATIVE_BUILD

__build__ = NATIVE_BUILD.decode()

cdef const sha256_kernel *_kernels[3]
cdef int _n_kernels = sha256_available(_kernels)
cdef const sha256_kernel *_kernel = _kernels[0]


cdef void state_after(uint32_t *state, const uint8_t *data, size_t n_blocks) noexcept nogil:
    """SHA-256 state after whole 64-byte blocks from the start of a message."""
    memcpy(state, SHA256_IV, 32)
    if n_blocks:
        _kernel.blocks(state, data, n_blocks)


cdef void share_hash(
    const uint32_t *mid, size_t done, const uint8_t *tail, size_t n, const uint8_t *branches, size_t n_branches, uint8_t *header, uint8_t *out,
) noexcept nogil:
    """Coinbase (its first `done` bytes already in `mid`) -> Merkle root into header[36:68] -> header hash into out."""
    sha256d_from(_kernel, mid, done, tail, n, header + 36)
    _kernel.fold(header + 36, branches, n_branches)
    sha256d_header(_kernel, header, out)


def kernel():
    return _kernel.name.decode()


def kernels():
    return tuple([_kernels[i].name.decode() for i in range(_n_kernels)])


def use_kernel(str name):
    global _kernel
    for i in range(_n_kernels):
        if _kernels[i].name.decode() == name:
            _kernel = _kernels[i]
            return
    raise ValueError(f"SHA-256 kernel {name!r} is not available here; there are: {', '.join(kernels())}")


_wanted = os.environ.get("NATIVE_SHA256")
if _wanted:
    try:
        use_kernel(_wanted)
    except ValueError as error:
        raise ImportError(f"NATIVE_SHA256: {error}") from None


cdef bytes _digest(const uint8_t *out):
    return out[:32]


def sha256(const uint8_t[::1] data not None):
    cdef uint8_t out[32]
    sha256_once(_kernel, &data[0] if data.shape[0] else NULL, data.shape[0], out)
    return _digest(out)


def sha256d(const uint8_t[::1] data not None):
    cdef uint8_t out[32]
    sha256d_once(_kernel, &data[0] if data.shape[0] else NULL, data.shape[0], out)
    return _digest(out)


def _need(str what, Py_ssize_t length, Py_ssize_t wanted):
    if length != wanted:
        raise ValueError(f"{what} must be {wanted} bytes, not {length}")


def merkle_step(bytes left not None, bytes right not None):
    cdef uint8_t pair[64]
    _need("left node", len(left), 32)
    _need("right node", len(right), 32)
    memcpy(pair, <const uint8_t *>left, 32)
    memcpy(pair + 32, <const uint8_t *>right, 32)
    _kernel.d64(pair, pair)
    return _digest(pair)


def merkle_root(bytes leaf not None, bytes branches not None):
    cdef uint8_t node[32]
    _need("leaf", len(leaf), 32)
    if len(branches) % 32:
        raise ValueError(f"branches must be whole 32-byte nodes, not {len(branches)} bytes")
    memcpy(node, <const uint8_t *>leaf, 32)
    _kernel.fold(node, branches, len(branches) // 32)
    return _digest(node)


cdef size_t _halve(uint8_t *nodes, size_t n) noexcept nogil:
    """One tree level in place: n nodes to (n + 1) // 2, the last one paired with itself when n is odd."""
    cdef size_t i
    cdef uint8_t pair[64]
    for i in range(n // 2):
        _kernel.d64(nodes + 32 * i, nodes + 64 * i)
    if n % 2:
        memcpy(pair, nodes + 32 * (n - 1), 32)
        memcpy(pair + 32, nodes + 32 * (n - 1), 32)
        _kernel.d64(nodes + 32 * (n // 2), pair)
    return (n + 1) // 2


def merkle_branches(bytes txids not None):
    """The branch of a level is node 1 of that level; node 0 depends on the coinbase and stays unknown."""
    cdef size_t n, length = len(txids)
    if length % 32:
        raise ValueError(f"txids must be whole 32-byte ids, not {length} bytes")
    cdef bytearray work = bytearray(32) + txids
    cdef uint8_t *nodes = work
    cdef list out = []
    n = length // 32 + 1
    while n > 1:
        out.append(nodes[32:64])
        n = _halve(nodes, n)
    return b"".join(out)


def merkle_tree_root(bytes txids not None):
    cdef size_t n = len(txids) // 32
    if not n or len(txids) % 32:
        raise ValueError(f"a tree needs at least one whole 32-byte id, got {len(txids)} bytes")
    cdef bytearray work = bytearray(txids)
    cdef uint8_t *nodes = work
    while n > 1:
        n = _halve(nodes, n)
    return _digest(nodes)


def header_hash(bytes header not None):
    cdef uint8_t out[32]
    _need("header", len(header), 80)
    sha256d_header(_kernel, header, out)
    return _digest(out)


def midstate(bytes block64 not None):
    cdef uint32_t state[8]
    _need("block", len(block64), 64)
    memcpy(state, SHA256_IV, 32)
    _kernel.blocks(state, block64, 1)
    return b"".join([state[i].to_bytes(4, "big") for i in range(8)])


def bench(str kind not None, long rounds):
    """The pure hashing cost, in C, of one share: what bench/share.py measures the judge against."""
    cdef timespec begin, end
    cdef uint8_t coinbase[250]
    cdef uint8_t header[80]
    cdef uint8_t branches[384]
    cdef uint8_t out[32]
    cdef uint32_t mid[8]
    cdef long i
    cdef size_t done = 64 if kind == "share12mid" else 0
    if kind not in ("share12", "share12mid", "merkle", "header"):
        raise ValueError(f"unknown kind {kind!r}")
    cdef bint share = kind in ("share12", "share12mid"), merkle = kind == "merkle"
    for i in range(384):
        branches[i] = <uint8_t>(i * 7)
    for i in range(250):
        coinbase[i] = <uint8_t>i
    for i in range(80):
        header[i] = <uint8_t>i
    memcpy(mid, SHA256_IV, 32)
    if done:
        _kernel.blocks(mid, coinbase, 1)
    with nogil:
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin)
        for i in range(rounds):
            if share:
                memcpy(coinbase + 110, &i, 8)
                share_hash(mid, done, coinbase + done, 250 - done, branches, 12, header, out)
            elif merkle:
                _kernel.fold(out, branches, 12)
            else:
                memcpy(header + 72, &i, 8)
                sha256d_header(_kernel, header, out)
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end)
    return (end.tv_sec - begin.tv_sec) + (end.tv_nsec - begin.tv_nsec) * 1e-9


def search(bytes header not None, target, uint32_t first_nonce, unsigned long count):
    """The simulated devices' and tests' miner: the first nonce of `count` from first_nonce on (wrapping at 2^32) whose header hash meets the target."""
    cdef uint8_t tail[64]
    cdef uint8_t block[64]
    cdef uint32_t mid[8]
    cdef uint32_t state[8]
    cdef uint32_t nonce = first_nonce
    cdef uint8_t limit[32]
    cdef uint8_t hash_le[32]
    cdef unsigned long i
    cdef int k
    cdef bint won = False
    _need("header", len(header), 80)
    limit_bytes = target.to_bytes(32, "little")
    memcpy(limit, <const uint8_t *>limit_bytes, 32)
    state_after(mid, header, 1)
    memcpy(tail, (<const uint8_t *>header) + 64, 12)
    memset(tail + 16, 0, 48)
    tail[16], tail[62], tail[63] = 0x80, 2, 128  # 640 bits
    memset(block + 32, 0, 32)
    block[32], block[62] = 0x80, 1  # 256 bits
    with nogil:
        for i in range(count):
            tail[12], tail[13], tail[14], tail[15] = nonce & 255, (nonce >> 8) & 255, (nonce >> 16) & 255, nonce >> 24
            memcpy(state, mid, 32)
            _kernel.blocks(state, tail, 1)
            for k in range(8):
                wr32be(block + 4 * k, state[k])
            memcpy(state, SHA256_IV, 32)
            _kernel.blocks(state, block, 1)
            for k in range(8):
                wr32be(hash_le + 4 * k, state[k])
            k = 31
            while k > 0 and hash_le[k] == limit[k]:
                k -= 1
            won = hash_le[k] <= limit[k]
            if won:
                break
            nonce += 1
    return nonce if won else None


# Constants prove themselves at birth, through whichever kernel was chosen.
assert sha256(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
assert merkle_step(bytes(32), bytes(32)) == sha256d(bytes(64))
