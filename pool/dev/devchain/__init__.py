"""An embedded development chain: a Bitcoin-like node in its own process behind Bitcoin Core's JSON-RPC, its coins
worth nothing."""

from pool.dev.devchain.process import DevChain, RpcError

__all__ = ["DevChain", "RpcError"]
