"""From schema 0001 on with data in it, and both versions of Midas beside each other (D10)."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, MetaData, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from midas.lease import DeliveryOutcome, Settlement
from midas.ports import RowKind
from midas.storage import migrate, open_store
from midas.storage.rows import NEW_CHARGES, NOTIFICATIONS, utc_text
from midas.storage.schema import SCHEMA
from midas.storage.store import SqlStore
from tests.records import NOON, intent, paid, refund_intent, refunded, touched
from tests.storage.newer import Older, install
from tests.storage.test_schema import OLDEST

Result = TypeVar("Result")

HOLD = timedelta(seconds=60)
OVERDUE = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgres"])
def old_url(request: pytest.FixtureRequest) -> str:
    """A database with schema 0001 and nothing in it."""
    if request.param == "postgres":
        url = str(request.getfixturevalue("blank_postgres_url"))
    else:
        url = f"sqlite:///{request.getfixturevalue('tmp_path')}/midas.db"
    asyncio.run(within(url, to_0001))
    return url


async def within(url: str, work: Callable[[Connection], Result]) -> Result:
    """Do it in one transaction."""
    if url.startswith("sqlite"):
        engine = create_engine(url)
        try:
            with engine.begin() as connection:
                return work(connection)
        finally:
            engine.dispose()
    async_engine = create_async_engine(url.replace("://", "+asyncpg://"))
    try:
        async with async_engine.begin() as opened:
            return await opened.run_sync(work)
    finally:
        await async_engine.dispose()


def to_0001(connection: Connection) -> None:
    """What the version before ran as `midas migrate`."""
    config = Config()
    config.set_main_option("script_location", "midas:storage/migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")


def put_paid_order(connection: Connection, order_no: str, due_at: datetime | None = None) -> None:
    """Rows as version 0001 wrote them: one payment, and its notification."""
    change = intent(order_no)
    charge = change.new_charges[0]
    tables = MetaData()
    tables.reflect(connection)
    head = {"order_no": order_no, "version": 2, "last_sequence": 1, "last_change": "c" * 32}
    connection.execute(tables.tables["orders"].insert(), head)
    noon = NOON if connection.dialect.name == "postgresql" else NOON.isoformat(" ")
    values: dict[str, Any] = {name: getattr(charge, name) for name in NEW_CHARGES.columns}
    values |= {name: noon for name, each in values.items() if isinstance(each, datetime)}
    values |= {"state": "SUCCEEDED", "charge_id": f"ch_{order_no}", "due_at": due_at}
    if due_at is not None and connection.dialect.name == "sqlite":
        values["due_at"] = utc_text(due_at)
    connection.execute(tables.tables["charges"].insert(), values)
    notification = {
        "order_no": order_no,
        "sequence": 1,
        "kind": "PAY_ORDER_SUCCESS",
        "occurred_at": noon,
        "observed_by": "QUERY",
        "out_trade_no": charge.out_trade_no,
        "refund_no": "",
        "late": False,
        "duplicate_payment": False,
    }
    assert set(notification) == set(NOTIFICATIONS.columns) - {"change_id", "told_again"}
    connection.execute(tables.tables["notifications"].insert(), notification)


async def deliver_all(store: SqlStore) -> list[tuple[str, int]]:
    """Everything that is due, in the order in which it was handed out."""
    delivered = []
    while leases := await store.lease_notifications(10, HOLD):
        for each in leases:
            sent = each.notification
            delivered.append((sent.order_no, sent.sequence))
            settled = Settlement(
                each.token, sent.order_no, sent.sequence, DeliveryOutcome.DELIVERED
            )
            assert await store.settle_notifications([settled]) == [True]
    return delivered


async def refund(store: SqlStore, order_no: str) -> None:
    """One more notification, by this version."""
    assert await store.commit(refund_intent(await store.load(order_no)))
    assert await store.commit(refunded(await store.load(order_no)))


def test_the_upgrade_keeps_what_there_is_and_delivers_it(old_url: str) -> None:
    """What 0001 had to deliver is delivered after the upgrade, in order, and new ones behind."""

    async def story() -> None:
        await within(old_url, lambda connection: put_paid_order(connection, "old"))
        assert await migrate(old_url) == ("0001", SCHEMA)
        assert await migrate(old_url) == (SCHEMA, SCHEMA)
        async with await open_store(old_url) as store:
            order = await store.load("old")
            assert (order.version, order.charges[0].created_at) == (2, NOON)
            assert (await store.backlog()).oldest_at == NOON
            await refund(store, "old")
            assert await deliver_all(store) == [("old", 1), ("old", 2)]
            assert (await store.backlog()).oldest_at is None

    asyncio.run(story())


NEW_ORDER = (
    "INSERT INTO orders (order_no, version, last_sequence, last_change)"
    " VALUES (:order_no, 1, 0, :change)"
)
CHANGED_ORDER = (
    "UPDATE orders SET version = version + 1, last_sequence = last_sequence + 1,"
    " last_change = :change WHERE order_no = :order_no"
)
NEW_NOTIFICATION = (
    "INSERT INTO notifications (order_no, sequence, kind, occurred_at, observed_by, out_trade_no,"
    " refund_no, late, duplicate_payment) SELECT n.order_no, o.last_sequence, n.kind,"
    " n.occurred_at, n.observed_by, n.out_trade_no, n.refund_no, n.late, n.duplicate_payment"
    " FROM notifications n JOIN orders o ON o.order_no = n.order_no"
    " WHERE n.order_no = :order_no AND n.sequence = 1"
)
"""Statements that name the columns of version 0001 and no others, as that version's do."""


def test_both_versions_work_beside_each_other(old_url: str) -> None:
    """SQL of 0001 goes on after the upgrade: its orders and notifications are delivered (D10)."""

    async def story() -> None:
        await migrate(old_url)
        await within(old_url, lambda connection: put_paid_order(connection, "mixed"))
        async with await open_store(old_url) as store:
            assert await deliver_all(store) == [("mixed", 1)]

            def write(connection: Connection) -> None:
                named = {"order_no": "mixed", "change": "d" * 32}
                connection.execute(text(CHANGED_ORDER), named)
                connection.execute(text(NEW_NOTIFICATION), {"order_no": "mixed"})
                connection.execute(text(NEW_ORDER), {"order_no": "empty", "change": "e" * 32})

            await within(old_url, write)
            assert await deliver_all(store) == [("mixed", 2)]
            await refund(store, "mixed")
            assert await deliver_all(store) == [("mixed", 3)]
            assert (await store.load("empty")).version == 1
            assert await store.commit(intent("new"))
            assert await store.commit(paid(await store.load("new")))
            assert await store.commit(touched(await store.load("new"), looks=3))
            assert await deliver_all(store) == [("new", 1)]

    asyncio.run(story())


def test_looks_that_were_planned_before_the_upgrade_are_due_after_it(old_url: str) -> None:
    """The indexes have them, too."""

    async def story() -> None:
        await within(old_url, lambda connection: put_paid_order(connection, "due", OVERDUE))
        await within(old_url, lambda connection: put_paid_order(connection, "never"))
        await migrate(old_url)
        async with await open_store(old_url) as store:
            assert (await store.due_times(tuple(RowKind))).oldest_due_at == OVERDUE
            claimed = await store.claim_due_rows(tuple(RowKind), 9, HOLD)
            assert [(each.order_no, each.due_at) for each in claimed] == [("due", OVERDUE)]

    asyncio.run(story())


def test_code_of_the_oldest_schema_works_on_the_newest(
    old_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens it, writes and reads, and migrates nothing; a look that it plans is found (D10)."""

    async def story() -> None:
        await migrate(old_url)
        with monkeypatch.context() as older:
            install(Older(tmp_path / "older", OLDEST).folder, older)
            assert await migrate(old_url) == (SCHEMA, SCHEMA)
            async with await open_store(old_url) as store:
                await store.check()
                assert await store.commit(intent("old", due_at=OVERDUE))
                assert await store.claim_due_orders(9, timedelta(seconds=-1)) == ["old"]
                assert await store.commit(paid(await store.load("old")))
                assert await store.commit(touched(await store.load("old"), due_at=OVERDUE))
                assert await deliver_all(store) == [("old", 1)]
        assert await migrate(old_url) == (SCHEMA, SCHEMA)
        async with await open_store(old_url) as store:
            (claimed,) = await store.claim_due_rows(tuple(RowKind), 9, HOLD)
            assert (claimed.order_no, claimed.due_at) == ("old", OVERDUE)

    asyncio.run(story())
