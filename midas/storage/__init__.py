"""Where orders are kept: these are all that the rest of Midas needs."""

from midas.storage.migrate import migrate
from midas.storage.store import SqlStore, open_store, raise_sequence_floor

__all__ = ["SqlStore", "migrate", "open_store", "raise_sequence_floor"]
