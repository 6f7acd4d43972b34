"""Published proofs: what the pool owes and what work it counted, as Merkle-sum trees in which each member finds his
leaf.

Two trees an epoch: balances (available and in flight, msat) and work (score in the present window, attoblocks). A
proof file needs no database to be checked: `verify_file` recomputes the leaf, the root and the commitment from what
it says."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select

from pool.ledger import books, merkle
from pool.ledger.merkle import Node, Proof, SumTree
from pool.store.books import balances, book_accounts
from pool.store.proofs import proof_epochs, proof_leaves

FORMAT = "mmsp-proof-1"
KEEP_EPOCHS = 400
KINDS = ("balance", "work")


@dataclass(frozen=True, slots=True)
class Published:
    """The head of one epoch's tree: what members compare with what is carried by the pool's coinbases."""

    kind: str
    epoch: int
    at_s: int
    tree_height: int
    root: Node
    tip_hash: bytes  # as hashed
    entry_id: int
    journal_head: bytes

    @property
    def commitment(self) -> bytes:
        return merkle.root_commitment(self.epoch, self.tree_height, self.root, self.tip_hash, self.journal_head)


class ProofError(ValueError):
    """A proof file that proves nothing; the text says where it breaks."""


def audit_key(secret: bytes, account: str) -> bytes:
    """A member's own key: with it, and only with it, his leaf can be told from his name and balance."""
    return hmac.digest(secret, b"audit:" + account.encode(), "sha256")


def liabilities(connection: Connection) -> dict[str, int]:
    """What each member has coming, in msat: his balance and his payouts in flight (never provisional credits)."""
    owed = books.owed_msat(connection, "miner:")
    query = select(book_accounts.c.name, balances.c.msat).join_from(balances, book_accounts)
    query = query.where(book_accounts.c.name.startswith("payout_inflight:"), balances.c.msat != 0)
    for row in connection.execute(query):
        account = row.name.removeprefix("payout_inflight:").partition(":")[0]
        owed[account] = owed.get(account, 0) - row.msat
    return {account: msat for account, msat in owed.items() if msat > 0}


def publish(
    connection: Connection, values: Mapping[str, Mapping[str, int]], tip_hash: bytes, secret: bytes, at_s: int
) -> bytes | None:
    """Freeze one epoch of both kinds (`values` by kind, then account) and return what coinbases shall carry; None when
    there is nothing to prove yet. Epochs are numbered 1, 2, 3, ..."""
    if not any(values.get(kind) for kind in KINDS):
        return None
    epoch = int(connection.execute(select(func.max(proof_epochs.c.epoch))).scalar() or 0) + 1
    entry_id, journal_head = books.head(connection)
    made: dict[str, tuple[Published, list[tuple[str, int]]]] = {}
    for kind in KINDS:
        if values.get(kind):
            ordered, tree = tree_of(values[kind], secret, epoch, kind)
            head = Published(kind, epoch, at_s, tree.height, tree.root, tip_hash, entry_id, journal_head)
            made[kind] = head, ordered
    commitments = {kind: made[kind][0].commitment if kind in made else bytes(32) for kind in KINDS}
    both = merkle.carried(commitments["balance"], commitments["work"])
    for kind, (head, ordered) in made.items():
        other = commitments["work" if kind == "balance" else "balance"]
        _freeze(connection, head, ordered, other, both)
    connection.execute(delete(proof_leaves).where(proof_leaves.c.epoch <= epoch - KEEP_EPOCHS))
    return both


def _freeze(connection: Connection, head: Published, ordered: list[tuple[str, int]], other: bytes, both: bytes) -> None:
    connection.execute(
        proof_epochs.insert().values(
            kind=head.kind,
            epoch=head.epoch,
            at_s=head.at_s,
            tree_height=head.tree_height,
            root_hex=head.root[0].hex(),
            total=head.root[1],
            tip_hash_hex=head.tip_hash.hex(),
            entry_id=head.entry_id,
            journal_head_hex=head.journal_head.hex(),
            commitment_hex=head.commitment.hex(),
            other_hex=other.hex(),
            carried_hex=both.hex(),
        )
    )
    rows = [
        {"kind": head.kind, "epoch": head.epoch, "leaf": i, "account": account, "value": value}
        for i, (account, value) in enumerate(ordered)
    ]
    connection.execute(proof_leaves.insert(), rows)


def carried_now(connection: Connection) -> bytes | None:
    """What coinbases carry since the newest epoch."""
    query = select(proof_epochs.c.carried_hex).order_by(proof_epochs.c.epoch.desc()).limit(1)
    found = connection.execute(query).scalar()
    return None if found is None else bytes.fromhex(found)


def tree_of(
    values: Mapping[str, int], secret: bytes, epoch: int, kind: str
) -> tuple[list[tuple[str, int]], SumTree]:
    """(account and value by place, tree). Ordered by a keyed hash: the order tells nothing about who joined when, or
    who is next to whom."""
    key = hmac.digest(secret, b"order" + epoch.to_bytes(8, "big"), "sha256")
    names = {account: merkle.account_id(account) for account in values}
    places = {account: hashlib.blake2b(name, key=key, digest_size=16).digest() for account, name in names.items()}
    ordered = sorted(values.items(), key=lambda item: places[item[0]])
    return ordered, _tree(ordered, secret, epoch, kind, names)


def _tree(
    ordered: list[tuple[str, int]], secret: bytes, epoch: int, kind: str, names: Mapping[str, bytes] | None = None
) -> SumTree:
    """`names`: account ids where they are known already."""
    blind = hmac.digest(secret, f"pad:{kind}:{epoch}".encode(), "sha256")
    if names is None:
        names = {account: merkle.account_id(account) for account, _ in ordered}
    rows = ((names[account], audit_key(secret, account), value) for account, value in ordered)
    return SumTree(epoch, merkle.leaves(epoch, rows), blind)


def latest(connection: Connection, kind: str) -> Published | None:
    """The newest epoch of a kind."""
    query = select(proof_epochs).where(proof_epochs.c.kind == kind).order_by(proof_epochs.c.epoch.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _published(row)


def _published(row: Any) -> Published:
    return Published(
        row.kind,
        row.epoch,
        row.at_s,
        row.tree_height,
        (bytes.fromhex(row.root_hex), row.total),
        bytes.fromhex(row.tip_hash_hex),
        row.entry_id,
        bytes.fromhex(row.journal_head_hex),
    )


def member_file(
    connection: Connection, kind: str, epoch: int, account: str, secrets: Sequence[bytes]
) -> dict[str, Any]:
    """One member's proof, as JSON; `secrets` are the pool's, the present one first, for a rotation may lie between.
    KeyError when he has no leaf in that epoch (or it is too old to be kept), ProofError when the leaves that are kept
    are not those that were published."""
    row = connection.execute(
        select(proof_epochs).where(proof_epochs.c.kind == kind, proof_epochs.c.epoch == epoch)
    ).one_or_none()
    leaves = connection.execute(
        select(proof_leaves.c.account, proof_leaves.c.value)
        .where(proof_leaves.c.kind == kind, proof_leaves.c.epoch == epoch)
        .order_by(proof_leaves.c.leaf)
    ).all()
    places = [i for i, leaf in enumerate(leaves) if leaf.account == account]
    if row is None or not places:
        raise KeyError(f"{account} has no leaf in the {kind} proof of epoch {epoch}")
    published = _published(row)
    ordered = [(leaf.account, leaf.value) for leaf in leaves]
    for secret in secrets:
        tree = _tree(ordered, secret, epoch, kind)
        if tree.root == published.root:
            break
    else:
        raise ProofError(f"the leaves of {kind} epoch {epoch} no longer give the published root")
    proof = tree.proof(places[0])
    return {
        "format": FORMAT,
        "kind": kind,
        "unit": UNITS[kind],
        "epoch": epoch,
        "account": account,
        "nonce_hex": merkle.leaf_nonce(audit_key(secret, account), epoch).hex(),
        "value": leaves[places[0]].value,
        "index": proof.index,
        "siblings": [[digest.hex(), total] for digest, total in proof.siblings],
        "root_hex": published.root[0].hex(),
        "total": published.root[1],
        "tip_hash_hex": published.tip_hash.hex(),
        "journal_head_hex": published.journal_head.hex(),
        "commitment_hex": published.commitment.hex(),
        "other_hex": row.other_hex,
        "carried_hex": row.carried_hex,
    }


FIELDS = {
    "format": str,
    "kind": str,
    "unit": str,
    "epoch": int,
    "account": str,
    "nonce_hex": str,
    "value": int,
    "index": int,
    "siblings": list,
    "root_hex": str,
    "total": int,
    "tip_hash_hex": str,
    "journal_head_hex": str,
    "commitment_hex": str,
    "other_hex": str,
    "carried_hex": str,
}
UNITS = {"balance": "msat", "work": "attoblocks"}
#: A proof of the highest tree has 32 siblings of some 90 bytes.
MAX_FILE_BYTES = 16_384


def read_fields(text: str, fields: Mapping[str, type], form: str, longest: int) -> dict[str, Any]:
    """A JSON object with exactly these fields of exactly these types, and this `format`. ProofError, at small cost
    whatever the text is."""
    if len(text) > longest:
        raise ProofError(f"not a {form} file: longer than {longest} characters")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProofError(f"not JSON: {type(error).__name__}: {error}") from None
    if not isinstance(data, dict) or data.get("format") != form:
        raise ProofError(f"not a {form} file")
    if data.keys() != fields.keys():
        raise ProofError(f"not a {form} file: fields {', '.join(sorted(data.keys() ^ fields.keys()))}")
    wrong = [name for name, kind in fields.items() if type(data[name]) is not kind]
    if wrong:
        raise ProofError(f"not a {form} file: wrong type of {', '.join(wrong)}")
    return data


def verify_file(text: str) -> dict[str, Any]:
    """Check a proof file with nothing but what it says; its content when it proves what it claims. ProofError.

    What remains for the member: that `carried_hex` is what the pool published (it stands in the coinbase of every
    job he is sent), and that value and account are his."""
    data = read_fields(text, FIELDS, FORMAT, MAX_FILE_BYTES)
    if UNITS.get(data["kind"]) != data["unit"]:
        raise ProofError(f"there is no proof of {data['kind']!r} in {data['unit']!r}")
    if data["kind"] == "balance" and data["total"] > books.MAX_MSAT:
        raise ProofError(f"a total of {data['total']} msat is more than all bitcoin")
    try:
        own = merkle.leaf(
            data["epoch"], merkle.account_id(data["account"]), bytes.fromhex(data["nonce_hex"]), data["value"]
        )
        siblings = tuple((bytes.fromhex(digest), total) for digest, total in data["siblings"])
        root = Proof(data["index"], siblings).root(own)
        tip, head = bytes.fromhex(data["tip_hash_hex"]), bytes.fromhex(data["journal_head_hex"])
        commitment = merkle.root_commitment(data["epoch"], len(siblings), root, tip, head)
        pair = (commitment, bytes.fromhex(data["other_hex"]))
        both = merkle.carried(*(pair if data["kind"] == "balance" else pair[::-1]))
    except (ValueError, TypeError) as error:
        raise ProofError(f"not a proof file: {type(error).__name__}: {error}") from None
    if (root[0].hex(), root[1]) != (data["root_hex"], data["total"]):
        raise ProofError("the leaf does not lead to the root: value, place or a sibling is not what was published")
    if commitment.hex() != data["commitment_hex"]:
        raise ProofError("the commitment is not of this root, tip and journal head")
    if both.hex() != data["carried_hex"]:
        raise ProofError("what coinbases carry is not made of this commitment")
    return data
