"""Brings a database to the form this version needs, in one transaction, whoever else starts at the same moment."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

#: Any number, the same in every version: PostgreSQL's lock that lets one process migrate at a time.
ADVISORY_LOCK = 0x6D6D7370
SCRIPTS = Path(__file__).parent / "migrations"


class StoreError(Exception):
    """The store cannot be used as it is; the operator must act. The text says how."""


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrate(connection: Connection) -> list[str]:
    """Run every migration that this database lacks; their revisions, oldest first. All or none take effect.

    StoreError when a newer version of the pool has written it already. On SQLite the caller's transaction must have
    begun IMMEDIATE, on PostgreSQL a lock is taken here: a second process waits and then finds nothing to do."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": ADVISORY_LOCK})
    config = _config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    unknown = [head for head in MigrationContext.configure(connection).get_current_heads() if head not in known]
    if unknown:
        raise StoreError(f"the database was written by a newer version of the pool (revision {', '.join(unknown)})")
    done: list[str] = []
    config.attributes["done"] = done
    command.upgrade(config, "head")
    return done
