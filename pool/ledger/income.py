"""Found blocks as money: immature when a node holds them, split when mature, reversed when orphaned, back when they
return.

The split is as of the winning share and by the policy of the block's height. It is frozen when the block is found
and derived again when it matures: a difference is an alarm, not a correction. What is split is what the block's own
coinbase paid; outputs that paid members in the block itself count as paid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, Row, delete, func, select, update

from pool.ledger import donations, latches
from pool.ledger import policy as policies
from pool.ledger.books import Entry, post
from pool.ledger.rewards import Split, largest_remainder, split
from pool.ledger.window import account_names, window_at
from pool.store.books import allocations, income_blocks
from pool.store.work import found_shares, ledger_accounts, ledger_workers

MSAT = 1000


class DeterminismError(Exception):
    """A split derived again differs from the frozen one: the data it stands on changed. Payouts must stop."""


class NotSummedError(Exception):
    """The share log is not summed up to the winning share yet: ask again later."""


@dataclass(frozen=True, slots=True)
class Coinbase:
    """What a found block's own coinbase paid."""

    value_sat: int
    subsidy_sat: int
    direct_sat: Mapping[str, int] = field(default_factory=dict)  # by account name: outputs to members
    solo: bool = False  # it paid the finder; what it kept for the pool is the fee


@dataclass(frozen=True, slots=True)
class Parts:
    """A split by book account and part, in msat: what `allocations` holds."""

    rows: tuple[tuple[str, str, int], ...]

    def credits(self) -> dict[str, int]:
        """By book account, without what the block paid by itself."""
        sums: dict[str, int] = {}
        for account, part, msat in self.rows:
            if part != "direct":
                sums[account] = sums.get(account, 0) + msat
        return sums


def found(connection: Connection, hash_hex: str, coinbase: Coinbase, at_s: int) -> bool:
    """A node holds the block. False when it is booked already. NotSummedError."""
    if _block(connection, hash_hex) is not None:
        return False
    share = connection.execute(select(found_shares).where(found_shares.c.hash_hex == hash_hex)).one_or_none()
    if share is None:
        raise NotSummedError(hash_hex)
    chosen = policies.current(connection, share.height)
    if chosen is None:
        raise ValueError(f"there is no policy for height {share.height}")
    version, _ = chosen
    direct_sat = _members_only(connection, coinbase.direct_sat)
    direct_msat = sum(direct_sat.values()) * MSAT
    connection.execute(
        income_blocks.insert().values(
            hash_hex=hash_hex,
            height=share.height,
            state="immature",
            coinbase_msat=coinbase.value_sat * MSAT,
            direct_msat=direct_msat,
            fees_sat=coinbase.value_sat - coinbase.subsidy_sat,
            epoch=share.epoch,
            seq=share.seq,
            slice_id=share.slice_id,
            finder=_finder(connection, share.worker_id),
            solo=int(coinbase.solo),
            policy_version=version,
            donations_upto=donations.newest(connection),
            turns=0,
            found_at_s=at_s,
        )
    )
    row = _block(connection, hash_hex)
    assert row is not None
    parts = _derive(connection, row, direct_sat)
    freeze(connection, "block", hash_hex, parts)
    received = coinbase.value_sat * MSAT - direct_msat
    _post(connection, row, "found", {"onchain_immature": received, f"unallocated:{hash_hex}": -received}, at_s)
    return True


def orphaned(connection: Connection, hash_hex: str, at_s: int) -> bool:
    """Off the best chain: exact reversal of `found`; work is untouched, it was never consumed. A block that was mature
    already may have been paid out: nothing is reversed, a latch keeps all money in until it is back or the operator
    decides. NotSummedError for a block that was not booked yet because the log is behind."""
    row = _block(connection, hash_hex)
    if row is None:
        known = select(found_shares.c.hash_hex).where(found_shares.c.hash_hex == hash_hex)
        if connection.execute(known).first() is None:
            raise NotSummedError(hash_hex)  # news of one block are booked in their order
        return False
    if row.state == "mature":
        words = f"block {hash_hex} of height {row.height} was mature and is no longer in the best chain"
        latches.close(connection, _latch(hash_hex), words, at_s)
        return True
    if row.state != "immature":
        return False
    received = row.coinbase_msat - row.direct_msat
    _post(connection, row, "orphaned", {"onchain_immature": -received, f"unallocated:{hash_hex}": received}, at_s)
    _set(connection, hash_hex, state="orphaned", turns=row.turns + 1)
    return True


def returned(connection: Connection, hash_hex: str, at_s: int) -> bool:
    """On the best chain again."""
    row = _block(connection, hash_hex)
    if row is not None and row.state == "mature":
        return latches.release(connection, _latch(hash_hex))
    if row is None or row.state != "orphaned":
        return False
    received = row.coinbase_msat - row.direct_msat
    _post(connection, row, "found", {"onchain_immature": received, f"unallocated:{hash_hex}": -received}, at_s)
    _set(connection, hash_hex, state="immature")
    return True


def matured(connection: Connection, hash_hex: str, at_s: int) -> bool:
    """Spendable: the split becomes balances. DeterminismError leaves everything as it was."""
    row = _block(connection, hash_hex)
    if row is None or row.state != "immature":
        return False
    frozen = frozen_parts(connection, "block", hash_hex)
    if not can_be_derived(connection, hash_hex):
        raise DeterminismError(f"block {hash_hex} splits differently now than when it was found")
    received = row.coinbase_msat - row.direct_msat
    moves = {"onchain_immature": -received, "onchain_cold": received, f"unallocated:{hash_hex}": received}
    for account, msat in frozen.credits().items():
        moves[account] = moves.get(account, 0) - msat
    _post(connection, row, "mature", moves, at_s)
    _set(connection, hash_hex, state="mature", matured_at_s=at_s)
    return True


def _latch(hash_hex: str) -> str:
    return f"reorg:{hash_hex}"


def highest_found(connection: Connection) -> int:
    """Height of the highest block found so far; 0 before the first."""
    return int(connection.execute(select(func.max(found_shares.c.height))).scalar() or 0)


# --- deriving


def can_be_derived(connection: Connection, hash_hex: str) -> bool:
    """Does the data of today give the split that was frozen when the block was found?"""
    row = _block(connection, hash_hex)
    assert row is not None
    frozen = frozen_parts(connection, "block", hash_hex)
    direct = {account.removeprefix("miner:"): msat // MSAT for account, part, msat in frozen.rows if part == "direct"}
    return _derive(connection, row, direct) == frozen


def _derive(connection: Connection, row: Row[tuple[object, ...]], direct_sat: Mapping[str, int]) -> Parts:
    if row.solo:
        return _solo(row, direct_sat)
    rules = policies.of_version(connection, row.policy_version)
    window = window_at(connection, row.slice_id, rules)
    finder = _number_of(connection, row.finder)
    subsidy = row.coinbase_msat // MSAT - row.fees_sat
    members = set(window.by_account()) | ({finder} if finder is not None else set())
    given = donations.of_accounts(connection, members, rules, row.donations_upto)
    divided = split(row.coinbase_msat, window, rules, finder=finder, donation_bp=given, subsidy_sat=subsidy)
    names = account_names(connection, set(divided.members_msat) | set(divided.donations_msat))
    return _less_direct(divided, names, {name: sat * MSAT for name, sat in direct_sat.items()})


def _solo(row: Row[tuple[object, ...]], direct_sat: Mapping[str, int]) -> Parts:
    """The coinbase paid the finder; what it kept for the pool is the fee."""
    rows = [(f"miner:{name}", "direct", sat * MSAT) for name, sat in sorted(direct_sat.items()) if sat]
    kept = row.coinbase_msat - sum(msat for _, _, msat in rows)
    return Parts(tuple(sorted(rows + ([("pool_fee", "pool_fee", kept)] if kept else []))))


def parts_of(divided: Split, names: Mapping[int, str]) -> Parts:
    """A split by book account, nothing of it paid yet."""
    return _less_direct(divided, names, {})


def _less_direct(divided: Split, names: Mapping[int, str], direct_msat: Mapping[str, int]) -> Parts:
    """Members' credits less what the block itself paid them. A coinbase is made before the share that wins it, so
    it may have paid a member more than his part by a share or two: the reserve bears that, then the fee, projects,
    the raffle, and at last the other members by what they have coming."""
    rows: list[tuple[str, str, int]] = []
    rests: list[tuple[str, int]] = []
    over = 0
    due = {names[number]: msat for number, msat in divided.members_msat.items()}
    for name in sorted(set(due) | set(direct_msat)):
        paid = direct_msat.get(name, 0)
        rest = due.get(name, 0) - paid
        rows += [(f"miner:{name}", "direct", paid)] if paid else []
        rests += [(name, rest)] if rest > 0 else []
        over += max(-rest, 0)
    named = {"reserve": divided.reserve_msat, "pool_fee": divided.fee_msat, "raffle": divided.raffle_msat}
    named["projects"] = divided.projects_msat + sum(divided.donations_msat.values())
    for account in ("reserve", "pool_fee", "projects", "raffle"):
        borne = min(over, named[account])
        named[account] -= borne
        over -= borne
    coming = dict(rests)
    if over:  # then all of the above is zero, and what the block left is exactly the rests less `over`
        coming = largest_remainder(sum(coming.values()) - over, rests) if rests else {}
    rows += [(f"miner:{name}", "share", msat) for name, msat in coming.items() if msat]
    rows += [(account, account, msat) for account, msat in named.items() if msat]
    return Parts(tuple(sorted(rows)))


def freeze(connection: Connection, source_type: str, source_id: str, parts: Parts) -> None:
    connection.execute(
        delete(allocations).where(allocations.c.source_type == source_type, allocations.c.source_id == source_id)
    )
    rows = [
        {"source_type": source_type, "source_id": source_id, "account": account, "part": part, "msat": msat}
        for account, part, msat in parts.rows
    ]
    if rows:
        connection.execute(allocations.insert(), rows)


def frozen_parts(connection: Connection, source_type: str, source_id: str) -> Parts:
    query = select(allocations.c.account, allocations.c.part, allocations.c.msat)
    query = query.where(allocations.c.source_type == source_type, allocations.c.source_id == source_id)
    return Parts(tuple(sorted((row.account, row.part, row.msat) for row in connection.execute(query))))


# --- rows


def _block(connection: Connection, hash_hex: str) -> Row[tuple[object, ...]] | None:
    return connection.execute(select(income_blocks).where(income_blocks.c.hash_hex == hash_hex)).one_or_none()


def _set(connection: Connection, hash_hex: str, **values: object) -> None:
    connection.execute(update(income_blocks).where(income_blocks.c.hash_hex == hash_hex).values(**values))


def _post(
    connection: Connection, row: Row[tuple[object, ...]], event: str, moves: Mapping[str, int], at_s: int
) -> None:
    """Keyed by block, event and how often the block had left: each turn of a reorg is booked once."""
    memo = f"block {row.height}"
    if not any(moves.values()):
        return  # the coinbase paid everybody by itself: nothing for us to hold
    post(
        connection,
        Entry(f"block_{event}", "block", row.hash_hex, f"{event}:{row.turns}", tuple(moves.items()), memo),
        at_s,
    )


def _members_only(connection: Connection, direct_sat: Mapping[str, int]) -> dict[str, int]:
    """Outputs to accounts that the share log knows; anything else in a coinbase is the pool's own."""
    names = sorted(direct_sat)
    query = select(ledger_accounts.c.name).where(ledger_accounts.c.name.in_(names))
    return {row.name: direct_sat[row.name] for row in connection.execute(query)} if names else {}


def _finder(connection: Connection, worker_id: int | None) -> str:
    if worker_id is None:
        return ""
    query = select(ledger_accounts.c.name).join_from(ledger_workers, ledger_accounts)
    return str(connection.execute(query.where(ledger_workers.c.id == worker_id)).scalar_one())


def _number_of(connection: Connection, name: str) -> int | None:
    if not name:
        return None
    query = select(ledger_accounts.c.id).where(ledger_accounts.c.name == name)
    return int(connection.execute(query).scalar_one())
