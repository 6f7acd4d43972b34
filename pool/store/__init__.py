"""The database: engine, tables, migrations, inbox. One module per room's tables."""

from pool.store.engine import Store, StoreUnavailableError, store_url
from pool.store.migrating import StoreError
from pool.store.sessions import Sessions, WorkerStatistics

__all__ = ["Sessions", "Store", "StoreError", "StoreUnavailableError", "WorkerStatistics", "store_url"]
