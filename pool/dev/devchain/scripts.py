"""Script facts that block rules need: BIP34 pushes, witness commitments, signature-operation cost. No interpreter:
signatures are not checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pool.dev.devchain.wire import Tx, sha256d

COMMITMENT_HEADER = b"\x6a\x24\xaa\x21\xa9\xed"
OP_16 = 0x60
OP_PUSHDATA4 = 0x4E
OP_CHECKSIG, OP_CHECKSIGVERIFY, OP_CHECKMULTISIG, OP_CHECKMULTISIGVERIFY = 0xAC, 0xAD, 0xAE, 0xAF
SCALE = 4


def push_number(number: int) -> bytes:
    """The shortest script that puts a non-negative number on the stack (BIP34: 0..16 are OP_0, OP_1..OP_16)."""
    if number == 0:
        return b"\x00"
    if number <= 16:
        return bytes([0x50 + number])
    body = number.to_bytes(number.bit_length() // 8 + 1, "little")
    return bytes([len(body)]) + body


def operations(script: bytes) -> Iterator[tuple[int, bytes]]:
    """(opcode, pushed bytes) until the end or the first push that runs over it."""
    pos, end = 0, len(script)
    while pos < end:
        opcode = script[pos]
        pos += 1
        if opcode > OP_PUSHDATA4:
            yield opcode, b""
            continue
        if opcode < 0x4C:
            size = opcode
        else:
            width = 1 << (opcode - 0x4C)
            size = int.from_bytes(script[pos : pos + width], "little")
            pos += width
        if pos + size > end:
            return
        yield opcode, script[pos : pos + size]
        pos += size


def sigops(script: bytes, *, accurate: bool = False) -> int:
    """Signature operations in one script; a multisig counts 20 unless `accurate` and preceded by OP_1..OP_16."""
    count, last = 0, 0
    for opcode, _ in operations(script):
        if opcode in (OP_CHECKSIG, OP_CHECKSIGVERIFY):
            count += 1
        elif opcode in (OP_CHECKMULTISIG, OP_CHECKMULTISIGVERIFY):
            count += last - 0x50 if accurate and 0x51 <= last <= OP_16 else 20
        last = opcode
    return count


def legacy_sigop_cost(tx: Tx) -> int:
    """Cost that can be counted without knowing the spent outputs."""
    return SCALE * (sum(sigops(txin.script) for txin in tx.vin) + sum(sigops(out.script) for out in tx.vout))


def witness_program(script: bytes) -> tuple[int, bytes] | None:
    """(version, program) of a segwit output script."""
    if 4 <= len(script) <= 42 and script[1] == len(script) - 2 and (script[0] == 0 or 0x51 <= script[0] <= OP_16):
        return (script[0] - 0x50 if script[0] else 0), script[2:]
    return None


def sigop_cost(tx: Tx, spent_script: Callable[[bytes], bytes]) -> int:
    """BIP141 cost of a transaction; `spent_script` gives the script of an outpoint."""
    cost = legacy_sigop_cost(tx)
    if tx.is_coinbase:
        return cost
    for index, txin in enumerate(tx.vin):
        script = spent_script(txin.outpoint)
        stack = tx.witness[index] if tx.witness else ()
        if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22] == 0x87:
            script = last_push(txin.script)
            cost += SCALE * sigops(script, accurate=True)
        program = witness_program(script)
        if program is not None and program[0] == 0:
            if len(program[1]) == 20:
                cost += 1
            elif len(program[1]) == 32 and stack:
                cost += sigops(stack[-1], accurate=True)
    return cost


def last_push(script: bytes) -> bytes:
    """What the last operation of a script pushes: the redeem script of P2SH."""
    pushed = b""
    for opcode, data in operations(script):
        if opcode > OP_16:
            return b""
        pushed = data
    return pushed


def commitment_index(coinbase: Tx) -> int | None:
    """Index of the last output that holds a witness commitment (BIP141)."""
    found = None
    for index, out in enumerate(coinbase.vout):
        if len(out.script) >= 38 and out.script.startswith(COMMITMENT_HEADER):
            found = index
    return found


def commitment_script(witness_root: bytes, nonce: bytes = bytes(32)) -> bytes:
    """Output script that commits to a witness root (internal order)."""
    return COMMITMENT_HEADER + sha256d(witness_root + nonce)
