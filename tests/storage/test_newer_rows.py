"""Rows that a newer Midas has written go through this one's reader (D10).

This version cannot act upon a word that it does not know. The other rows are read, and an error is
logged.
"""

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from midas.errors import StorageUnavailable
from midas.event import EventRecord, EventStanding
from midas.flows.announce import Announcer
from midas.flows.payment_calls import SystemClock
from midas.payment import Order
from midas.ports import KeyKind, Listing
from midas.rpc.event_service import EventService
from midas.storage import open_store
from midas.storage.postgres import PostgresDatabase
from midas.storage.store import SqlStore
from midas.v1 import event_service_pb2
from tests.records import NOON, intent, paid, refund_intent, refunded
from tests.storage.faulty import database_at

HOLD = timedelta(seconds=60)
WORDS = [
    ("charges", "state"),
    ("charges", "observed_by"),
    ("refunds", "state"),
    ("refunds", "observed_by"),
    ("refunds", "funding_source"),
]
ORDERS = ("o1", "o2", "o3", "o4")


async def filled(url: str) -> SqlStore:
    """Four orders, each newer than the one before, paid and refunded in part."""
    store = await open_store(url)
    for n, order_no in enumerate(ORDERS):
        made = NOON + timedelta(minutes=n)
        assert await store.commit(intent(order_no, created_at=made, updated_at=made))
        assert await store.commit(paid(await store.load(order_no)))
        change = refund_intent(
            await store.load(order_no), refund_no=f"r-{order_no}", created_at=made
        )
        assert await store.commit(change)
        assert await store.commit(refunded(await store.load(order_no)))
    return store


async def write(url: str, table: str, column: str, where: str) -> None:
    """Write as the newer Midas does. Its migration has widened the checks, which are off here."""
    database = database_at(url, "ignore_check_constraints = 1")
    if isinstance(database, PostgresDatabase):
        async with database._engine.connect() as connection:
            for check in CHECKS:
                await connection.exec_driver_sql(f"ALTER TABLE {check}")
    statement = f"UPDATE {table} SET {column} = 'NEWER' WHERE {where} RETURNING 1"  # noqa: S608
    assert len(await database.fetch(statement)) == 1
    await database.close()


CHECKS = (
    "charges DROP CONSTRAINT charges_state_known",
    "refunds DROP CONSTRAINT refunds_state_known",
    "refunds DROP CONSTRAINT refunds_funding_source_known",
)


@pytest.mark.parametrize(("table", "column"), WORDS)
async def test_an_unknown_word_spoils_its_own_order_alone(
    table: str, column: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The order is neither acted upon nor taken for one that is not there; the others are read.

    So are keys that nobody has, which go together with it in one statement.
    """
    async with await filled(database_url) as store:
        before = await store.load("o2")
        await write(database_url, table, column, "order_no = 'o2'")
        other = await store.load("o1")
        theirs = keys(other)
        for kind, key in keys(before).items():
            caplog.clear()
            asked = (store.find(kind, each) for each in (key, theirs[kind], "nobody's"))
            spoilt, read, nobodys = await asyncio.gather(*asked, return_exceptions=True)
            assert isinstance(spoilt, StorageUnavailable), kind
            assert read == other
            assert nobodys is None
            assert error_lines(caplog) == [("order_unreadable", "o2")]


def keys(order: Order) -> dict[KeyKind, str]:
    """One of each kind by which the order is found."""
    charge, refund = order.charges[0], order.refunds[0]
    return {
        KeyKind.ORDER_NO: order.order_no,
        KeyKind.OUT_TRADE_NO: charge.out_trade_no,
        KeyKind.CHARGE_ID: str(charge.charge_id),
        KeyKind.REFUND_NO: refund.refund_no,
        KeyKind.REFUND_ID: str(refund.refund_id),
    }


def error_lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, object]]:
    """The error lines, and the order of each."""
    lines = [each for each in caplog.records if each.levelno == logging.ERROR]
    return [(each.message, vars(each).get("order_no")) for each in lines]


@pytest.mark.parametrize(("table", "column"), WORDS)
async def test_a_list_goes_on_behind_what_cannot_be_read(
    table: str, column: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A page is as long as it was asked for, or the list would seem to be at its end."""
    async with await filled(database_url) as store:
        await write(database_url, table, column, "order_no = 'o2'")
        charges = [each.order_no for each in await store.list_charges(None, Listing(3))]
        refunds = [each.order_no for each in await store.list_refunds(None, Listing(3))]
        everything = [each.order_no for each in await store.list_charges(None, Listing(9))]
    assert charges == ["o4", "o3", "o1"]
    assert everything == ["o4", "o3", "o1"]
    assert refunds == (["o4", "o3", "o1"] if table == "refunds" else ["o4", "o3", "o2"])
    assert "row_unreadable" in {name for name, _ in error_lines(caplog)}


@pytest.mark.parametrize("column", ["kind", "observed_by"])
async def test_a_notification_of_an_unknown_kind_waits_for_a_newer_midas(
    column: str, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are handed out, and this one stays: the newer Midas hands it out."""
    async with await filled(database_url) as store:
        await write(database_url, "notifications", column, "order_no = 'o2' AND sequence = 1")
        service = EventService(None, Announcer(store, SystemClock()))  # type: ignore[arg-type]
        request = event_service_pb2.LeaseNotificationsRequest()
        answer = await service.lease(request, Call())  # type: ignore[arg-type]
        assert {each.notification.order_no for each in answer.notifications} == {"o1", "o3", "o4"}
        assert error_lines(caplog) == [("notification_not_told", "o2")]
        assert await store.lease_notifications(10, HOLD) == []


class Call:
    """A call without a deadline."""

    timeout = None


async def test_an_event_of_an_unknown_standing_is_there_all_the_same(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not applied here, not taken for one that was never received, and raises no surprise."""
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    async with await open_store(database_url) as store:
        for n in (1, 2, 3):
            event = EventRecord(
                f"evt_{n}", None, "t", NOON, "d", b"", EventStanding.WAITING, due_at=long_ago
            )
            assert await store.record_event(event)
        await write(database_url, "events", "standing", "event_id = 'evt_2'")
        with pytest.raises(StorageUnavailable):
            await store.event("evt_2")
        assert not await store.record_event(replace(event, event_id="evt_2"))
        claimed = await store.claim_events(10, HOLD)
        assert {each.event_id for each in claimed} == {"evt_1", "evt_3"}
        assert [name for name, _ in error_lines(caplog)] == ["row_unreadable"] * 2
