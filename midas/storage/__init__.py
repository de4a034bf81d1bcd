"""Where orders are kept: `open_store` and `migrate` are all that the rest of Midas needs."""

from midas.storage.migrate import migrate
from midas.storage.store import SqlStore, open_store

__all__ = ["SqlStore", "migrate", "open_store"]
