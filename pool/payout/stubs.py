"""The compiled LND messages and stubs of lnd-grpc-client, without the side effects of importing that package."""

from __future__ import annotations

import os

# Importing lndgrpc sets this for the whole process (it once was needed for LND's certificates, no longer): put back
# what was there, so that no other TLS client of this process changes its ciphers.
_CIPHERS = "GRPC_SSL_CIPHER_SUITES"
_before = os.environ.get(_CIPHERS)

from lndgrpc.compiled import lightning_pb2, lightning_pb2_grpc, router_pb2, router_pb2_grpc  # noqa: E402

if _before is None:
    os.environ.pop(_CIPHERS, None)
else:
    os.environ[_CIPHERS] = _before

__all__ = ["lightning_pb2", "lightning_pb2_grpc", "router_pb2", "router_pb2_grpc"]
