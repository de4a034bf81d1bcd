"""What a commit, a read and a claim need from either database."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from midas.storage.rows import Codec, Row


@dataclass(slots=True)
class OrderVersion:
    """The order's own row in a change: what the row must have, and what is set then."""

    order_no: str
    expected: int
    """The version that the row must have; 0 for an order that is not there yet."""
    expected_change: str
    last_sequence: int
    change_id: str
    floor: int | None = None
    """The floor above which this change's notifications are numbered; None if it has none."""
    renumbers: bool = False
    """Whether this change's notifications are all that the order service must still get of the
    order. The order is no longer parked then."""


@dataclass(slots=True)
class Batch:
    """The rows of several changes, each of another order, sorted by order_no."""

    versions: list[OrderVersion]
    rows: dict[str, list[Row]] = field(default_factory=dict)
    """The rows, by the name of their write (`rows.TABLE_WRITES`)."""


Settling = tuple[str, str, int, str, str, float]
"""order_no, lease_token, sequence, outcome, code, and the jitter: a factor of the pause."""


class Database(Protocol):
    """SQLite or PostgreSQL. Raises nothing but `faults.StorageFault`s."""

    codec: Codec
    is_sqlite: bool
    """Whether it is SQLite, which has neither moments nor truth values of its own."""

    @property
    def sequence_floor(self) -> int:
        """The floor under new notifications, as this process knows it: see `epochs.py`."""

    def now(self) -> datetime:
        """The database's clock."""

    def keys(self, keys: Sequence[str]) -> Any:
        """The value for the one parameter of `in_keys`."""

    def in_keys(self) -> str:
        """SQL that compares with a list of keys, as the first parameter: ` IN …` or ` = ANY …`."""

    def parameter(self, position: int) -> str:
        """SQL of the parameter at this position, counted from 1."""

    async def fetch(self, sql: str, parameters: tuple[Any, ...] = ()) -> Sequence[Row]:
        """The rows of one statement, all from one snapshot."""

    async def write(self, batch: Batch) -> set[str]:
        """Write all changes whose orders stand as expected, in one transaction.

        A change with notifications is written only if they are numbered above the current floor.
        If this process knows another floor, it learns the current one before this returns.
        Returns the order_nos of the changes that were written. Raises RowsRefused when a
        constraint refused any row; then nothing of the batch was written.
        """

    async def add_event(self, row: Row) -> bool:
        """Insert an event that concerns no order; False if its id is there already."""

    async def claim_events(self, limit: int, hold: timedelta) -> Sequence[Row]:
        """See `Store.claim_events`; gives rows of the table."""

    async def lease(self, limit: int, hold: timedelta, token: str) -> Sequence[Row]:
        """See `Store.lease_notifications`; gives rows, the longest due first, one for each order.

        A row is attempts, the id of the order's last change, its order_no, and the notification's
        columns. These are None where the order has no notification to deliver, which is an error.
        """

    async def settle(self, settlings: list[Settling]) -> set[str]:
        """See `Store.settle_notifications`; gives the orders in which the lease still held."""

    async def claim(self, limit: int, hold: timedelta) -> list[str]:
        """See `Store.claim_due_orders`."""

    async def claim_rows(self, tables: Sequence[str], limit: int, hold: timedelta) -> Sequence[Row]:
        """See `Store.claim_due_rows`; `tables`: `charges`, `refunds` or both, in this order.

        A row is table, order_no, key, due_at before, due_at now; in any order.
        """

    async def release_rows(self, table: str, rows: Sequence[Row]) -> None:
        """See `Store.release_rows`; at least one row, which is key, due_at before, due_at since."""

    async def learn_floor(self) -> None:
        """Read `sequence_floor`; raise it first if it is of another history than the server's."""

    async def raise_floor(self) -> int:
        """Raise `sequence_floor` in any case: somebody knows that commits may be gone."""

    async def since_possible_loss(self) -> timedelta:
        """See `Store.since_possible_loss`."""

    async def ping(self) -> None:
        """One trip to the database, which sets the clock."""

    async def close(self) -> None:
        """Give back all connections."""
