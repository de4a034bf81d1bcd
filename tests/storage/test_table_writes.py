"""Any table writes may come together in one batch: each combination's statement is executed."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from midas.charge import ChargeState
from midas.event import EventRecord, EventStanding
from midas.payment import Change, JournalEntry, Notification, Order
from midas.storage.database import Batch, OrderVersion
from midas.storage.rows import TABLE_WRITES
from tests.records import NOON, a_charge, a_refund
from tests.storage.faulty import AnyDatabase, database_at

NAMES = tuple(write.name for write in TABLE_WRITES)
TOGETHER = [
    *itertools.combinations(NAMES, 1),
    *itertools.combinations(NAMES, 2),
    *itertools.combinations(NAMES, 3),
    NAMES,
]


def an_event(order_no: str, number: int, **fields: Any) -> EventRecord:
    """An event of the order that waits."""
    values: dict[str, Any] = {"standing": EventStanding.WAITING, "due_at": NOON} | fields
    event_id = f"evt_{order_no}_{number}"
    return EventRecord(event_id, order_no, "refund.succeeded", NOON, "0" * 64, b"{}", **values)


class WrittenOrder:
    """One table write, and an order of its own that has one row of it in each commit."""

    def __init__(self, name: str) -> None:
        self.order_no = f"o_{name}"
        self.name = name
        self.charge = a_charge(self.order_no, state=ChargeState.FAILED)
        self.refund = a_refund(self.charge)
        self.event = an_event(self.order_no, 0)
        self.version = 0

    def change(self) -> Change:
        """The next change of the order; the first one writes down what the others change."""
        version, order_no = self.version, self.order_no
        self.version += 1
        last = f"{order_no}_{version}" if version else ""
        this = f"{order_no}_{version + 1}"
        change = Change(order_no, version, last, 0, this, Order(order_no))
        if not version:
            rows = {"new_charges": (self.charge,), "new_refunds": (self.refund,)}
            return replace(change, **rows, new_events=(self.event,))  # type: ignore[arg-type]
        row = self._row(version)
        field = {"new_journal": "journal", "new_notifications": "notifications"}
        return replace(change, **{field.get(self.name, self.name): (row,)})  # type: ignore[arg-type]

    def _row(self, n: int) -> Any:
        charge, order_no = self.charge, self.order_no
        number = charge.out_trade_no
        rows: dict[str, Callable[[], Any]] = {
            "new_events": lambda: an_event(order_no, n),
            "changed_events": lambda: replace(self.event, attempts=n),
            "changed_charges": lambda: replace(charge, looks=n),
            "changed_refunds": lambda: replace(self.refund, looks=n),
            "new_charges": lambda: a_charge(order_no, state=ChargeState.FAILED),
            "new_refunds": lambda: a_refund(charge),
            "new_journal": lambda: JournalEntry(order_no, number, "touched", NOON, "TEST", "", ""),
            "new_notifications": lambda: Notification(order_no, n, "PAID", NOON, "TEST", number),
        }
        return rows[self.name]()


async def write(database: AnyDatabase, changes: list[Change]) -> set[str]:
    """All of them in one batch."""
    batch = Batch([])
    for each in sorted(changes, key=lambda change: change.order_no):
        database.codec.add(batch.rows, each)
        expected = each.expected_version, each.expected_change
        batch.versions.append(
            OrderVersion(each.order_no, *expected, each.last_sequence, each.change_id)
        )
    return await database.write(batch)


WRITTEN = {
    "new_events": "SELECT count(*) - 1 FROM events WHERE order_no = 'o_new_events'",
    "changed_events": "SELECT max(attempts) FROM events WHERE order_no = 'o_changed_events'",
    "changed_charges": "SELECT max(looks) FROM charges WHERE order_no = 'o_changed_charges'",
    "changed_refunds": "SELECT max(looks) FROM refunds WHERE order_no = 'o_changed_refunds'",
    "new_charges": "SELECT count(*) - 1 FROM charges WHERE order_no = 'o_new_charges'",
    "new_refunds": "SELECT count(*) - 1 FROM refunds WHERE order_no = 'o_new_refunds'",
    "new_journal": "SELECT count(*) FROM journal WHERE order_no = 'o_new_journal'",
    "new_notifications": (
        "SELECT count(*) FROM notifications WHERE order_no = 'o_new_notifications'"
    ),
}
"""How many commits have written a row, by the table write."""


async def test_every_pair_and_triple_of_table_writes_is_written(database_url: str) -> None:
    """Each write comes from another order, and all rows of each batch are there afterwards."""
    database = database_at(database_url)
    orders = {name: WrittenOrder(name) for name in NAMES}
    all_orders = {each.order_no for each in orders.values()}
    assert await write(database, [each.change() for each in orders.values()]) == all_orders
    for names in TOGETHER:
        batch = [orders[name] for name in names]
        won = await write(database, [each.change() for each in batch])
        assert won == {each.order_no for each in batch}, names
        for each in batch:
            ((count,),) = await database.fetch(WRITTEN[each.name])
            assert count == each.version - 1, (each.name, names)
    await database.close()


@pytest.mark.parametrize("names", [NAMES[:2], NAMES], ids=["two", "all"])
async def test_what_lost_is_not_written_with_the_rest(
    database_url: str, names: tuple[str, ...]
) -> None:
    """No row is written of an order that another process has changed; the others are written."""
    database = database_at(database_url)
    orders = [WrittenOrder(name) for name in names]
    await write(database, [each.change() for each in orders])
    for loser in orders:
        changes = [each.change() for each in orders]
        stale = [
            replace(c, expected_change="?") if c.order_no == loser.order_no else c for c in changes
        ]
        won = await write(database, stale)
        assert won == {each.order_no for each in orders if each is not loser}
        loser.version -= 1
        for each in orders:
            ((count,),) = await database.fetch(WRITTEN[each.name])
            assert (count or 0) == each.version - 1, (each.name, loser.name)
    await database.close()
