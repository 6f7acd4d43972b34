"""Header hashes already credited, per previous block. A hash enters only after its share met its target."""

import builtins

DEFAULT_LIMIT: int

class SeenSet:
    jobs: int
    def __init__(self, limit: int = ...) -> None: ...
    def __len__(self) -> int: ...
    @property
    def bytes(self) -> int:
        """Memory held."""
    def __contains__(self, hash_le: builtins.bytes) -> bool: ...
    def add(self, hash_le: builtins.bytes) -> bool:
        """True if it is new, False if it was there. MemoryError at the limit."""
    def remove(self, hash_le: builtins.bytes) -> None: ...
