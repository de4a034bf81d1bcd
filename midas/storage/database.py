"""What a commit, a read and a claim need from either database."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from midas.storage.rows import Codec, Row


@dataclass(slots=True)
class Head:
    """The part of a change that decides: compare what is expected, then set."""

    order_no: str
    expected: int
    """The version; 0 for an order that is not there yet."""
    expected_change: str
    last_sequence: int
    change_id: str
    floor: int | None = None
    """Of a change with notifications, the floor above which they are numbered."""
    retells: bool = False
    """All that the order has to be told is among this change's notifications; it is parked no
    more."""


@dataclass(slots=True)
class Batch:
    """The rows of several changes, each of another order, sorted by order_no."""

    heads: list[Head]
    rows: dict[str, list[Row]] = field(default_factory=dict)
    """By the name of the part (`rows.PARTS`)."""


Settling = tuple[str, str, int, str, str, float]
"""order_no, lease_token, sequence, outcome, code, and by what the pause is multiplied."""


class Database(Protocol):
    """SQLite or PostgreSQL. Raises nothing but `faults.StorageFault`s."""

    codec: Codec
    plain: bool
    """Without moments and truth values of its own (SQLite)."""

    @property
    def sequence_floor(self) -> int:
        """Above which notifications are numbered, as this process knows it: see `epochs.py`."""

    def now(self) -> datetime:
        """The database's clock."""

    def keys(self, keys: Sequence[str]) -> Any:
        """The value for the one parameter of `in_keys`."""

    def in_keys(self) -> str:
        """SQL that compares with a list of keys, as the first parameter: ` IN …` or ` = ANY …`."""

    def parameter(self, position: int) -> str:
        """SQL of the parameter at this position, from 1."""

    async def fetch(self, sql: str, parameters: tuple[Any, ...] = ()) -> Sequence[Row]:
        """The rows of one statement, all from one snapshot."""

    async def write(self, batch: Batch) -> set[str]:
        """Write all changes whose orders stand as expected, in one transaction.

        Those with notifications only if they are numbered above the floor that holds; if it is not
        the one that is known here, that is mended before this returns.
        Returns the order_nos of those that were written. Raises RowsRefused when a constraint
        refused any row; then nothing of the batch was written.
        """

    async def add_event(self, row: Row) -> bool:
        """Insert an event that concerns no order; False if its id is there already."""

    async def claim_events(self, limit: int, hold: timedelta) -> Sequence[Row]:
        """`Store.claim_events`, as rows of the table."""

    async def lease(self, limit: int, hold: timedelta, token: str) -> Sequence[Row]:
        """`Store.lease_notifications`: the longest due first, each row of another order.

        A row is attempts, the id of the order's last change, its order_no, and the notification's
        columns; these are None where the order has nothing to be told, which must not be.
        """

    async def settle(self, settlings: list[Settling]) -> set[str]:
        """`Store.settle_notifications`: the orders in which the lease still held."""

    async def claim(self, limit: int, hold: timedelta) -> list[str]:
        """`Store.claim_due_orders`."""

    async def learn_floor(self) -> None:
        """Read `sequence_floor`; raise it first if the server's history is not the one it is of."""

    async def raise_floor(self) -> int:
        """Raise `sequence_floor` in any case: somebody knows that commits may be gone."""

    async def since_possible_loss(self) -> timedelta:
        """`Store.since_possible_loss`."""

    async def ping(self) -> None:
        """One trip to the database, which sets the clock."""

    async def close(self) -> None:
        """Give back all connections."""
