"""A development Lightning node: LND's gRPC face over simulated payees, with a ledger of what each of them received.

Its coins are worth nothing and it joins no network. It exists to be wrong on purpose, in all the ways LND can be."""

from pool.dev.devlnd.process import DevLnd

__all__ = ["DevLnd"]
