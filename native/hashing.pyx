# cython: language_level=3
"""SHA-256 as Bitcoin uses it, over one compress function chosen at import by CPU feature."""

import os

from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef extern from *:
    const char *NATIVE_BUILD

__build__ = NATIVE_BUILD.decode()

cdef const sha256_kernel *_kernels[3]
cdef int _n_kernels = sha256_available(_kernels)
cdef const sha256_kernel *_kernel = _kernels[0]


cdef const sha256_kernel *active_kernel() noexcept nogil:
    return _kernel


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
        clock_gettime(CLOCK_MONOTONIC, &begin)
        for i in range(rounds):
            if share:
                memcpy(coinbase + 110, &i, 8)
                share_hash(mid, done, coinbase + done, 250 - done, branches, 12, header, out)
            elif merkle:
                _kernel.fold(out, branches, 12)
            else:
                memcpy(header + 72, &i, 8)
                sha256d_header(_kernel, header, out)
        clock_gettime(CLOCK_MONOTONIC, &end)
    return (end.tv_sec - begin.tv_sec) + (end.tv_nsec - begin.tv_nsec) * 1e-9


# Constants prove themselves at birth, through whichever kernel was chosen.
assert sha256(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
assert merkle_step(bytes(32), bytes(32)) == sha256d(bytes(64))
