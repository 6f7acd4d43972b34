"""What a block's coinbase paid, read from the block's own bytes."""

from __future__ import annotations


class BlockFormatError(ValueError):
    """These bytes are no block whose coinbase can be read."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise BlockFormatError(f"the block ends within its coinbase, at byte {len(self._data)}")
        self._at += size
        return part

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def compact_size(self) -> int:
        first = self.number(1)
        return first if first < 0xFD else self.number({0xFD: 2, 0xFE: 4, 0xFF: 8}[first])


def outputs_of_block(block: bytes) -> list[tuple[bytes, int]]:
    """(script, value in sat) of each coinbase output, in order. BlockFormatError. Formats: BIP144."""
    reader = _Reader(block)
    reader.take(80)
    reader.compact_size()  # transactions
    reader.take(4)
    inputs = reader.compact_size()
    if inputs == 0:  # marker of the witness form; the flag follows
        reader.take(1)
        inputs = reader.compact_size()
    if inputs != 1:
        raise BlockFormatError(f"a coinbase has one input, this has {inputs}")
    reader.take(36)
    reader.take(reader.compact_size())
    reader.take(4)
    outputs = []
    for _ in range(reader.compact_size()):
        value_sat = reader.number(8)
        outputs.append((reader.take(reader.compact_size()), value_sat))
    return outputs
