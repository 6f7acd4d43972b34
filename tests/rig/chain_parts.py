"""Templates, tips and payees for tests of the chain room, as plain values."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from pool.chain.types import NETWORKS, Template, Tip
from rig.reference import merkle_tree_root, sha256d

POOL_SCRIPT = bytes.fromhex("0014751e76e8199196d454941c45d1b3a323f1433bd6")
POOL_ADDRESS = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
MINER_ADDRESS = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"
MINER_SCRIPT = bytes.fromhex("0014e8df018c7e326cc253faac7e46cdc51e68542c42")


def block_hash(name: str) -> bytes:
    """Some 32 bytes that stand for a block hash, internal order."""
    return hashlib.sha256(name.encode()).digest()


def transaction_rows(rng: random.Random, count: int, *, witness: bool) -> list[dict[str, object]]:
    """getblocktemplate's "transactions": random bytes with honest sizes; their ids are drawn, not hashed."""
    rows: list[dict[str, object]] = []
    for _ in range(count):
        data = rng.randbytes(rng.randrange(150, 650))
        txid = rng.randbytes(32)
        rows.append(
            {
                "data": data.hex(),
                "txid": txid.hex(),
                "hash": (rng.randbytes(32) if witness else txid).hex(),
                "fee": rng.randrange(200, 50_000),
                "weight": 3 * len(data) if witness else 4 * len(data),
                "sigops": rng.randrange(1, 8),
                "depends": [],
            }
        )
    return rows


def commitment_of(rows: Sequence[dict[str, object]]) -> bytes:
    """BIP141's output script, by the oracle."""
    leaves = [bytes(32), *(bytes.fromhex(str(row["hash"]))[::-1] for row in rows)]
    return bytes.fromhex("6a24aa21a9ed") + sha256d(merkle_tree_root(leaves) + bytes(32))


def gbt(
    rows: Sequence[dict[str, object]] = (),
    *,
    network: str = "mainnet",
    height: int = 951_658,
    prevhash: bytes | None = None,
    **changes: object,
) -> dict[str, object]:
    """An answer of getblocktemplate as Bitcoin Core gives it."""
    fees = sum(int(str(row["fee"])) for row in rows)
    answer: dict[str, object] = {
        "version": 0x20000000,
        "rules": ["csv", "!segwit", "taproot"],
        "vbavailable": {},
        "vbrequired": 0,
        "previousblockhash": (prevhash or block_hash("previous"))[::-1].hex(),
        "transactions": list(rows),
        "coinbaseaux": {},
        "coinbasevalue": NETWORKS[network].subsidy_sat(height) + fees,
        "longpollid": "some-id",
        "mintime": 1_780_110_800,
        "mutable": ["time", "transactions", "prevblock"],
        "sigoplimit": 80_000,
        "sizelimit": 4_000_000,
        "weightlimit": 4_000_000,
        "curtime": 1_780_112_431,
        "bits": "1702068f",
        "height": height,
        "default_witness_commitment": commitment_of(rows).hex(),
    }
    return answer | changes


def template(
    rows: Sequence[dict[str, object]] = (),
    *,
    network: str = "mainnet",
    height: int = 951_658,
    prevhash: bytes | None = None,
    **changes: object,
) -> Template:
    answer = gbt(rows, network=network, height=height, prevhash=prevhash, **changes)
    return Template.from_rpc(answer, NETWORKS[network], 1_780_112_431_000_000_000)


def tip(name: str = "previous", *, network: str = "mainnet", height: int = 951_657, nbits: int = 0x1702068F) -> Tip:
    hashed = block_hash(name)
    return Tip(NETWORKS[network], hashed, hashed[::-1].hex(), height, nbits, 1_780_110_799, 1_780_112_431_000_000_000)
