"""The database of orders: these names are all that the rest of Midas needs."""

from midas.storage.migrate import migrate
from midas.storage.store import SqlStore, check_store, open_store, raise_sequence_floor

__all__ = ["SqlStore", "check_store", "migrate", "open_store", "raise_sequence_floor"]
