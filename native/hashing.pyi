"""SHA-256 as Bitcoin uses it, over one compress function chosen at import by CPU feature."""

def kernel() -> str:
    """Name of the compress function in use: "sha-ni", "armv8-sha2" or "portable".

    NATIVE_SHA256=sha-ni|armv8-sha2|portable in the environment overrides the choice (tests); a kernel that this CPU
    lacks is an ImportError.
    """

def kernels() -> tuple[str, ...]:
    """Names of all compress functions compiled in that this CPU can run."""

def use_kernel(name: str) -> None:
    """Switch the compress function of the whole process (tests and benchmarks only)."""

def sha256(data: bytes) -> bytes: ...
def sha256d(data: bytes) -> bytes:
    """SHA-256 of SHA-256, any length, in hashed (internal) byte order."""

def merkle_step(left: bytes, right: bytes) -> bytes:
    """sha256d of two 32-byte nodes."""

def merkle_root(leaf: bytes, branches: bytes) -> bytes:
    """Root from leaf 0 and its branches (concatenated 32-byte nodes, internal order)."""

def merkle_branches(txids: bytes) -> bytes:
    """Branches for leaf 0 (the coinbase) of a tree over coinbase + `txids` (concatenated 32-byte internal-order ids,
    coinbase left out)."""

def merkle_tree_root(txids: bytes) -> bytes:
    """Root of a tree over all given leaves, coinbase included (witness root, block check)."""

def header_hash(header: bytes) -> bytes:
    """sha256d of an 80-byte header (hash_le: compared as a little-endian 256-bit integer)."""

def midstate(block64: bytes) -> bytes:
    """State after one 64-byte block from the SHA-256 IV, as 32 big-endian bytes."""

def bench(kind: str, rounds: int) -> float:
    """CPU seconds of this thread spent in C on `rounds` repetitions of kind: "share12" (250-byte coinbase, 12 steps,
    header), "share12mid" (with midstate), "merkle", "header"."""

def search(header: bytes, target: int, first_nonce: int, count: int) -> int | None:
    """The simulated devices' and tests' miner: the first nonce of `count` from first_nonce on (wrapping at 2^32)
    whose header hash meets the target."""
