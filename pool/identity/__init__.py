"""Who a member is: one-time bound messages, signatures, LNURL-auth, micro-deposits, changes of payout destination."""

from pool.identity.challenges import Limits
from pool.identity.desk import Identity, Proof, Standing
from pool.identity.destinations import Change, Destination, parse_destination
from pool.identity.messages import ACTIONS, Challenge
from pool.identity.refusals import ProofRefused

__all__ = [
    "ACTIONS",
    "Challenge",
    "Change",
    "Destination",
    "Identity",
    "Limits",
    "Proof",
    "ProofRefused",
    "Standing",
    "parse_destination",
]
