"""Alembic runs this file for each command; the caller (pool/store/migrating.py) hands its connection in."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo

import pool.store.tables  # noqa: F401  # every table, for comparisons
from pool.store.schema import metadata

connection = context.config.attributes["connection"]
done: list[str] = context.config.attributes["done"]


def note(ctx: MigrationContext, step: MigrationInfo, heads: Collection[object], run_args: Mapping[str, object]) -> None:
    done.append(str(step.up_revision_id))


# Both databases roll back DDL; the caller's transaction holds all migrations.
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True, on_version_apply=note)
with context.begin_transaction():
    context.run_migrations()
