"""What is on disk, read past all ports: without faults, turns and the time that they take."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from midas.charge import ChargeState
from midas.payment import Order
from midas.refund import RefundState
from midas.storage.database import Database
from midas.storage.tables import UNDELIVERED


@dataclass(frozen=True, slots=True)
class Outbox:
    """How far an order's notifications were delivered."""

    delivered: int
    parked_code: str


async def outboxes(database: Database) -> dict[str, Outbox]:
    """Those of all orders."""
    rows = await database.fetch("SELECT order_no, delivered_sequence, parked_code FROM orders")
    return {row[0]: Outbox(row[1], row[2]) for row in rows}


async def everything(database: Database, table: str) -> list[tuple[Any, ...]]:
    """All rows of a table."""
    rows = await database.fetch(f"SELECT * FROM {table}")  # noqa: S608
    return [tuple(row) for row in rows]


async def next_due(database: Database, orders: Sequence[Order]) -> datetime | None:
    """When Midas will next look at something, or announce something."""
    (found,) = await database.fetch(_NEXT)
    times = [datetime.fromisoformat(each) if isinstance(each, str) else each for each in found]
    times.append(_next_look(orders))
    return min((each for each in times if each is not None), default=None)


_NEXT = (
    "SELECT (SELECT min(due_at) FROM events),"  # noqa: S608
    f" (SELECT min(announce_at) FROM orders WHERE {UNDELIVERED})"
)


def _next_look(orders: Sequence[Order]) -> datetime | None:
    """When to look at what is not known."""
    rows: list[Any] = [
        each
        for order in orders
        for each in order.charges
        if each.state is ChargeState.SUBMITTING
        or (each.state is ChargeState.PENDING and each.superseded)
    ]
    rows += [r for order in orders for r in order.refunds if r.state is RefundState.SUBMITTING]
    return min((each.due_at for each in rows if each.due_at is not None), default=None)
