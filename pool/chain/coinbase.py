"""The coinbase transaction: its bytes around the extranonces, and whom it pays.

Layout of scriptSig, all of it pushes (so it never counts as signature operations):
height (BIP34) | tag | one push of counter (6) + extranonce1 (4) + extranonce2 (8).
coinb1 ends with the counter, coinb2 starts with nSequence: every output lies in coinb2, where firmware looks for them.
The counter is the 48-bit job id: no two jobs of a pool's life share a coinbase, so none shares header space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from native.hashing import merkle_tree_root, sha256d
from native.work import EXTRANONCE1_SIZE, EXTRANONCE2_SIZE
from pool.address import dust_sat
from pool.chain.types import Output, Template, TemplateError

COUNTER_SIZE = 6
EXTRANONCE_SIZE = EXTRANONCE1_SIZE + EXTRANONCE2_SIZE
LONGEST_TAG = 40
SEQUENCE_BIP54 = 0xFFFFFFFE  # final-looking to firmware, but lets nLockTime bind (BIP54)
WITNESS_HEADER = bytes.fromhex("6a24aa21a9ed")  # BIP141: OP_RETURN, push 36, commitment header
WITNESS_RESERVED = bytes(32)
#: Marker and flag, one witness item of 32 bytes: what the coinbase weighs beyond 4 x its stripped size.
COINBASE_WITNESS_WEIGHT = 2 + 1 + 1 + 32
SOLO_FEE_LIMIT_BP = 500  # AxeOS calls anything under 95 % to the miner a warning
PROOF_HEADER = b"POL1\x01"  # payouts: root of the proof of liabilities, version 1


class CoinbaseError(ValueError):
    """These outputs cannot be paid by this template; the text says why."""


# --- script pieces


def compact_size(number: int) -> bytes:
    if number < 0xFD:
        return bytes([number])
    if number <= 0xFFFF:
        return b"\xfd" + number.to_bytes(2, "little")
    return b"\xfe" + number.to_bytes(4, "little")


def height_push(height: int) -> bytes:
    """BIP34's push of a height: OP_0, OP_1 to OP_16, else the shortest little-endian number with a sign bit."""
    if height < 0:
        raise CoinbaseError(f"height {height} is below 0")
    if height <= 16:
        return bytes([0x50 + height if height else 0])
    number = height.to_bytes(height.bit_length() // 8 + 1, "little")  # one bit more than the number: the sign
    return bytes([len(number)]) + number


assert height_push(16) == b"\x60"
assert height_push(127) == b"\x01\x7f"
assert height_push(128) == b"\x02\x80\x00"
assert height_push(951_658).hex() == "036a850e"


def op_return(data: bytes) -> bytes:
    """A script that nobody can spend and that carries `data` (at most 75 bytes)."""
    if len(data) > 75:
        raise CoinbaseError(f"{len(data)} bytes are too many for an OP_RETURN output (75)")
    return bytes([0x6A, len(data)]) + data


def proof_script(root_commit: bytes) -> bytes:
    """The zero-value output by which every share's work commits to the pool's proof of liabilities."""
    if len(root_commit) != 32:
        raise CoinbaseError("a root commitment is 32 bytes")
    return op_return(PROOF_HEADER + root_commit)


def witness_commitment(wtxids: bytes) -> bytes:
    """BIP141's output script over the block's transactions but the coinbase (whose wtxid counts as zero)."""
    return WITNESS_HEADER + sha256d(merkle_tree_root(bytes(32) + wtxids) + WITNESS_RESERVED)


def checked_commitment(template: Template) -> bytes | None:
    """The commitment this template needs, recomputed. None: no transaction has a witness and the node gave none.

    TemplateError when the node's own differs: one of us has the transactions wrong, and the block would be invalid.
    """
    transactions = template.transactions
    if template.witness_commitment is None and not transactions.has_witness:
        return None
    ours = witness_commitment(transactions.wtxids)
    theirs = template.witness_commitment
    if theirs is not None and theirs[: len(ours)] != ours:
        raise TemplateError(
            f"witness commitment of the template at height {template.height} is {theirs.hex()}, "
            f"but its transactions give {ours.hex()}"
        )
    return ours


# --- what firmware can take


@dataclass(frozen=True, slots=True)
class FirmwareClass:
    """How long a coinbase a family of devices can take, in bytes of the non-witness form."""

    name: str
    total: int
    coinb1: int
    coinb2: int

    def takes(self, coinb1: int, coinb2: int) -> bool:
        whole = coinb1 + EXTRANONCE_SIZE + coinb2
        return whole <= self.total and coinb1 <= self.coinb1 and coinb2 <= self.coinb2


_ANY = 1_000_000
#: NerdMiner V1.8.1+ cuts the coinbase at 255 bytes, early SparkMiner coinb2 at 128; AxeOS after v2.15 each half at 384;
#: AxeOS since v2.11 keeps it whole on an 8 KiB stack; the rest as the DATUM gateway found them.
FIRMWARE: dict[str, FirmwareClass] = {
    firmware.name: firmware
    for firmware in (
        FirmwareClass("nerdminer", 255, _ANY, _ANY),
        FirmwareClass("sparkminer", _ANY, _ANY, 128),
        FirmwareClass("axeos", 6000, 384, 384),
        FirmwareClass("axeos-to-2.15", 6000, _ANY, _ANY),
        FirmwareClass("nicehash", 500, _ANY, _ANY),
        FirmwareClass("antminer-s19", 730, _ANY, _ANY),
        FirmwareClass("antminer-s21", 2250, _ANY, _ANY),
        FirmwareClass("whatsminer", 6500, _ANY, _ANY),
    )
}


# --- building


@dataclass(frozen=True, slots=True)
class Style:
    """What every coinbase of this pool says and how it is marked."""

    tag: bytes = b"/MMSP/"
    bip54: bool = True

    def __post_init__(self) -> None:
        if len(self.tag) > LONGEST_TAG:
            raise CoinbaseError(f"coinbase tag of {len(self.tag)} bytes (at most {LONGEST_TAG})")


@dataclass(frozen=True, slots=True)
class Coinbase:
    """A coinbase but for its counter and extranonces; one serves all jobs of a template that pay alike."""

    head: bytes  # coinb1 without the counter
    coinb2: bytes
    outputs: tuple[Output, ...]  # those with value, in order: the snapshot of what a block found on it pays
    has_witness: bool

    def coinb1(self, counter: int) -> bytes:
        return self.head + counter.to_bytes(COUNTER_SIZE, "big")

    @property
    def size(self) -> int:
        """Bytes of the non-witness form."""
        return len(self.head) + COUNTER_SIZE + EXTRANONCE_SIZE + len(self.coinb2)

    @property
    def weight(self) -> int:
        return 4 * self.size + (COINBASE_WITNESS_WEIGHT if self.has_witness else 0)

    def suits(self) -> frozenset[str]:
        """Names of the firmware classes that can take it."""
        halves = len(self.head) + COUNTER_SIZE, len(self.coinb2)
        return frozenset(name for name, firmware in FIRMWARE.items() if firmware.takes(*halves))


def build(
    template: Template,
    outputs: Sequence[Output],
    style: Style,
    commitment: bytes | None,
    proof: bytes | None = None,
) -> Coinbase:
    """The coinbase of `template` paying `outputs`; `commitment` from checked_commitment, `proof` from proof_script.

    CoinbaseError when the outputs do not sum to the template's value exactly, when a script is empty, or when the block
    would be too heavy or hold too many signature operations.
    """
    paid_sat = sum(output.value_sat for output in outputs)
    if paid_sat != template.coinbase_value_sat:
        raise CoinbaseError(f"outputs pay {paid_sat} sat of {template.coinbase_value_sat}")
    for output in outputs:
        if not output.script:
            raise CoinbaseError(f"empty script for {output.label or 'an output'}: anyone could spend it")
        if output.value_sat < 0:
            raise CoinbaseError(f"{output.value_sat} sat for {output.label or output.script.hex()}")
    head = _head(template, style)
    unpaid = [script for script in (proof, commitment) if script is not None]
    coinb2 = _tail(template, style, [*outputs, *(Output(script, 0) for script in unpaid)])
    coinbase = Coinbase(head, coinb2, tuple(outputs), commitment is not None)
    _check_block_limits(template, coinbase)
    return coinbase


def _head(template: Template, style: Style) -> bytes:
    height = height_push(template.height)
    tag = bytes([len(style.tag)]) + style.tag if style.tag else b""
    room = COUNTER_SIZE + EXTRANONCE_SIZE
    length = len(height) + len(tag) + 1 + room
    if length > 100:
        raise CoinbaseError(f"scriptSig of {length} bytes (consensus allows 100)")
    version, inputs, no_output = (2).to_bytes(4, "little"), b"\x01", bytes(32) + b"\xff" * 4
    return version + inputs + no_output + bytes([length]) + height + tag + bytes([room])


def _tail(template: Template, style: Style, outputs: Sequence[Output]) -> bytes:
    sequence, locktime = (SEQUENCE_BIP54, max(template.height - 1, 0)) if style.bip54 else (0xFFFFFFFF, 0)
    body = b"".join(output.value_sat.to_bytes(8, "little") + _sized(output.script) for output in outputs)
    return sequence.to_bytes(4, "little") + compact_size(len(outputs)) + body + locktime.to_bytes(4, "little")


def _sized(script: bytes) -> bytes:
    return compact_size(len(script)) + script


def output_size(script: bytes) -> int:
    """Bytes an output with this script takes in a transaction."""
    return 8 + len(_sized(script))


def coinbase_weight_left(template: Template) -> int:
    """Weight the template leaves for the coinbase: the limit less its transactions, the header and their count."""
    count = compact_size(template.transactions.count + 1)
    return template.weight_limit - template.transactions.weight - 4 * (80 + len(count))


def sigops_left(template: Template) -> int:
    """Bare signature operations the template leaves for coinbase outputs (each costs 4 of the limit)."""
    return max(template.sigop_limit - template.transactions.sigops, 0) // 4


def _sigops(script: bytes) -> int:
    """Legacy signature operations of the standard scripts: one in P2PKH, none in the others."""
    return 1 if len(script) == 25 and script[-1] == 0xAC else 0


def _check_block_limits(template: Template, coinbase: Coinbase) -> None:
    left = coinbase_weight_left(template)
    if coinbase.weight > left:
        raise CoinbaseError(
            f"coinbase of {coinbase.weight} WU, but the template leaves {left}: raise the node's blockreservedweight"
        )
    used = sum(_sigops(output.script) for output in coinbase.outputs)
    if used > sigops_left(template):
        raise CoinbaseError(f"coinbase with {used} signature operations, the template leaves {sigops_left(template)}")


# --- whom it pays


@dataclass(frozen=True, slots=True)
class Member:
    """One who may be paid by the coinbase itself."""

    script: bytes
    score: int  # part of the block = score / total score
    label: str = ""


def pay_pool(value_sat: int, pool_script: bytes) -> tuple[Output, ...]:
    """`ledger`: all to the pool; the books say whose it is."""
    return (Output(pool_script, value_sat, "pool"),)


def pay_solo(value_sat: int, miner: Output, pool_script: bytes, fee_bp: int) -> tuple[Output, ...]:
    """`solo`: the finder first, with all but the fee (basis points, at most 500); a fee below dust is not taken."""
    if not 0 <= fee_bp <= SOLO_FEE_LIMIT_BP:
        raise CoinbaseError(f"solo fee of {fee_bp / 100} % (0 to {SOLO_FEE_LIMIT_BP / 100} %)")
    fee_sat = value_sat * fee_bp // 10_000
    if fee_sat == 0 or fee_sat < dust_sat(pool_script):
        return (Output(miner.script, value_sat, miner.label),)
    return Output(miner.script, value_sat - fee_sat, miner.label), Output(pool_script, fee_sat, "pool")


@dataclass(frozen=True, slots=True)
class Room:
    """What paid outputs may use up in one coinbase."""

    output_bytes: int
    sigops: int


def room(template: Template, style: Style, unpaid: Sequence[bytes], firmware: FirmwareClass, coinb2_bytes: int) -> Room:
    """Room beside the `unpaid` scripts (commitments) for devices of `firmware`, with coinb2 at most `coinb2_bytes`."""
    head = len(_head(template, style)) + COUNTER_SIZE
    whole = (coinbase_weight_left(template) - COINBASE_WITNESS_WEIGHT) // 4
    coinb2 = min(coinb2_bytes, firmware.coinb2, min(firmware.total, whole) - head - EXTRANONCE_SIZE)
    # nSequence, the count of outputs in one byte (no firmware takes the 8 kB that 253 outputs need), nLockTime
    fixed = 4 + 1 + sum(output_size(script) for script in unpaid) + 4
    return Room(max(coinb2 - fixed, 0), sigops_left(template))


def pay_direct(
    value_sat: int, members: Sequence[Member], total_score: int, pool_script: bytes, room: Room, smallest_sat: int
) -> tuple[Output, ...]:
    """`direct`: members by score, largest first, while room lasts; the rest to the pool, which owes it in its books.

    `total_score` >= the members' sum: what is scored beyond them (fee, reserve, members paid otherwise) is the pool's.
    Parts are rounded down. Parts below dust or `smallest_sat`, roundings and members who do not fit go to the pool's
    output; a pool part that would itself be dust goes to the largest member instead.
    """
    if any(member.score < 0 for member in members) or sum(member.score for member in members) > total_score:
        raise CoinbaseError("members' scores are negative or exceed the total score")
    chosen: list[Output] = []
    bytes_left, sigops = room.output_bytes - output_size(pool_script), room.sigops - _sigops(pool_script)
    for part in _parts(members, total_score, value_sat, smallest_sat):
        bytes_left -= output_size(part.script)
        sigops -= _sigops(part.script)
        if bytes_left < 0 or sigops < 0:
            break
        chosen.append(part)
    rest_sat = value_sat - sum(part.value_sat for part in chosen)
    if not chosen or rest_sat >= dust_sat(pool_script):
        return (*chosen, Output(pool_script, rest_sat, "pool"))
    first = chosen[0]
    return Output(first.script, first.value_sat + rest_sat, first.label), *chosen[1:]


def _parts(members: Sequence[Member], total_score: int, value_sat: int, smallest_sat: int) -> list[Output]:
    """One output per script that earns enough, largest first; equal ones by script, so that all nodes agree."""
    scores: dict[bytes, int] = {}
    labels: dict[bytes, str] = {}
    for member in members:
        scores[member.script] = scores.get(member.script, 0) + member.score
        labels.setdefault(member.script, member.label)
    earning = [(script, score) for script, score in scores.items() if score]
    parts = [Output(script, value_sat * score // total_score, labels[script]) for script, score in earning]
    parts = [part for part in parts if part.value_sat >= max(smallest_sat, dust_sat(part.script))]
    return sorted(parts, key=lambda part: (-part.value_sat, part.script))
