"""What every RPC method shares: Bitcoin Core's error codes, argument checks, and the JSON shapes of blocks and
transactions."""

from __future__ import annotations

from typing import TypeVar

from pool.dev.devchain.index import Node
from pool.dev.devchain.node import DevNode
from pool.dev.devchain.template import Json

MISC_ERROR = -1
TYPE_ERROR = -3
INVALID_ADDRESS_OR_KEY = -5
INVALID_PARAMETER = -8
CLIENT_NOT_CONNECTED = -9
CLIENT_IN_INITIAL_DOWNLOAD = -10
DATABASE_ERROR = -20
DESERIALIZATION_ERROR = -22
VERIFY_ERROR = -25
VERIFY_REJECTED = -26
IN_WARMUP = -28
METHOD_NOT_FOUND = -32601
INVALID_REQUEST = -32600
PARSE_ERROR = -32700

T = TypeVar("T")


class RpcFault(Exception):
    """An error answer: Bitcoin Core's code and a text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RawJson(str):
    """A result that is JSON text already."""

    __slots__ = ()


_NAMES = {
    bool: "bool",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}


def want(value: object, kind: type[T], *, default: T | None = None) -> T:
    """The argument as `kind`; null means the default, if there is one. TYPE_ERROR otherwise."""
    if value is None and default is not None:
        return default
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    got, wanted = _NAMES.get(type(value), "unknown"), _NAMES.get(kind, kind.__name__)
    raise RpcFault(TYPE_ERROR, f"JSON value of type {got} is not of expected type {wanted}")


def want_seconds(value: object, low: float, high: float, *, default: float | None = None) -> float:
    """A JSON number within bounds; TYPE_ERROR or INVALID_PARAMETER otherwise."""
    number = want(value, int) if isinstance(value, int) else want(value, float, default=default)
    if not low <= number <= high:
        raise RpcFault(INVALID_PARAMETER, f"{str(number)[:40]} seconds are not within {low}..{high}")
    return float(number)


def want_hash(value: object, name: str = "blockhash") -> bytes:
    """A 64-digit display hash, to internal order; INVALID_PARAMETER in Bitcoin Core's words."""
    text = want(value, str)
    if len(text) != 64:
        raise RpcFault(INVALID_PARAMETER, f"{name} must be of length 64 (not {len(text)}, for '{text[:80]}')")
    try:
        return bytes.fromhex(text)[::-1]
    except ValueError:
        raise RpcFault(INVALID_PARAMETER, f"{name} must be hexadecimal string (not '{text}')") from None


def want_hex(value: object, failure: str) -> bytes:
    """Hex bytes; DESERIALIZATION_ERROR with `failure` otherwise."""
    text = want(value, str)
    try:
        return bytes.fromhex(text) if " " not in text else b""
    except ValueError:
        raise RpcFault(DESERIALIZATION_ERROR, failure) from None


class Methods:
    """A group of RPC methods over one node; `names` lists the public ones."""

    names: tuple[str, ...] = ()

    def __init__(self, node: DevNode) -> None:
        self.node = node
        self.chain = node.chain

    def find(self, blockhash: object, name: str = "blockhash") -> Node:
        """A known block; INVALID_ADDRESS_OR_KEY otherwise."""
        node = self.chain.index.nodes.get(want_hash(blockhash, name))
        if node is None:
            raise RpcFault(INVALID_ADDRESS_OR_KEY, "Block not found")
        return node

    def confirmations(self, node: Node) -> int:
        """Depth on the active chain, -1 off it."""
        return self.chain.tip.height - node.height + 1 if self.chain.index.is_active(node) else -1


def sat_to_btc(value_sat: int) -> Json:
    """Amount in BTC as Bitcoin Core writes it (a JSON number; 8 decimals are exact in a double up to 21 million)."""
    return round(value_sat / 100_000_000, 8)
