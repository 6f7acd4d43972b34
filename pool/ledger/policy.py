"""What the club decided about each income, as versions effective from a height: never changed, only followed by a
newer one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, select

from pool.ledger.rewards import Policy
from pool.store.books import policies


def body_of(policy: Policy) -> str:
    return json.dumps(asdict(policy), sort_keys=True, separators=(",", ":"))


def digest_of(policy: Policy) -> bytes:
    """What a POLICY row of the share log carries."""
    return hashlib.sha256(body_of(policy).encode()).digest()


def current(connection: Connection, height: int) -> tuple[int, Policy] | None:
    """(version, policy) that a block of this height is split by; None before the first."""
    query = select(policies).where(policies.c.from_height <= height)
    row = connection.execute(query.order_by(policies.c.version.desc()).limit(1)).one_or_none()
    return None if row is None else (row.version, _policy(row.body))


def of_version(connection: Connection, version: int) -> Policy:
    """KeyError when there is none."""
    row = connection.execute(select(policies).where(policies.c.version == version)).one_or_none()
    if row is None:
        raise KeyError(f"there is no policy version {version}")
    return _policy(row.body)


def any_yet(connection: Connection) -> bool:
    return connection.execute(select(policies.c.version).limit(1)).first() is not None


def adopt(connection: Connection, policy: Policy, from_height: int, at_s: int) -> int:
    """Make it effective from a height on; the version (of the present one when nothing differs). Never below the height
    an earlier version begins at: a policy does not change what was already promised."""
    newest = connection.execute(select(policies).order_by(policies.c.version.desc()).limit(1)).one_or_none()
    if newest is not None:
        if newest.body == body_of(policy):
            return int(newest.version)
        from_height = max(from_height, newest.from_height)  # what was promised for a height below stays
    version = 1 if newest is None else newest.version + 1
    connection.execute(
        policies.insert().values(
            version=version,
            from_height=from_height,
            body=body_of(policy),
            digest_hex=digest_of(policy).hex(),
            at_s=at_s,
        )
    )
    return version


def _policy(body: str) -> Policy:
    fields: dict[str, Any] = json.loads(body)
    return Policy(**fields)
