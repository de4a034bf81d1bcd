"""A number that was used before: all of the order is notified again above it (I7).

The announcer works on each kind of store; the sample order service's book is the receiver.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from midas.errors import StorageUnavailable
from midas.flows.announce import RECEIVER_SEQUENCE_MOST, RENUMBERINGS_MOST, Announcer
from midas.flows.payment_calls import SystemClock
from midas.lease import Backlog, DeliveryOutcome, Lease, Settlement
from midas.payment import RENUMBERED, Change, Notification
from midas.ports import Store
from midas.rpc.event_service import _notification
from midas.sandbox.orders.book import OrderBook, Reception
from midas.sequences import EPOCH
from midas.storage import open_store
from tests.fakes.store import MemoryStore
from tests.records import NOON, intent, paid, refund_intent, refunded
from webhook_gateway.delivery import _METHODS

HOLD = timedelta(seconds=60)
NOW = timedelta(0)
DELIVERED, REFUSED = DeliveryOutcome.DELIVERED, DeliveryOutcome.REFUSED


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    if request.param == "memory":
        yield MemoryStore(clock=datetime.now(UTC))
        return
    async with await open_store(request.getfixturevalue(f"{request.param}_url")) as opened:
        yield opened


@pytest.fixture
def book(tmp_path: Path) -> Iterator[OrderBook]:
    """The book that the order service keeps."""
    kept = OrderBook(tmp_path / "orders.sqlite3")
    yield kept
    kept.close()


async def pay(store: Store) -> None:
    """An order with a notification; its charge has the same number in every database."""
    assert await store.commit(intent("o1", out_trade_no="N1"))
    assert await store.commit(paid(await store.load("o1")))


async def refund(store: Store, refund_no: str) -> None:
    """One more."""
    order = await store.load("o1")
    at = NOON + timedelta(seconds=len(order.refunds))
    assert await store.commit(refund_intent(order, refund_no=refund_no, created_at=at))
    assert await store.commit(refunded(await store.load("o1")))


async def deliver_all(store: Store, book: OrderBook) -> list[int]:
    """Lease, deliver, settle, until nothing is due; the sequences that had an effect."""
    announcer, effects = Announcer(store, SystemClock()), []
    while leases := (await announcer.lease(8, NOW)).leases:
        for lease in leases:
            verdict = book.accept([as_received(lease)])[0]
            effects += [lease.notification.sequence] * verdict.accepted
            outcome = REFUSED if verdict.reused_below else DELIVERED
            settled = settlement(lease, outcome, verdict.reused_below)
            assert await announcer.settle([settled]) == [True]
    return effects


def as_received(lease: Lease) -> Reception:
    """The request as it goes through Midas's service and the gateway."""
    message = _notification(lease.notification, lease.order)
    request: Any = _METHODS[message.kind][1](message)
    kind = lease.notification.kind.lower()
    return Reception(kind, message.order_no, message.sequence, request)


def settlement(lease: Lease, outcome: DeliveryOutcome, receiver_sequence: int = 0) -> Settlement:
    """The outcome of the lease's delivery."""
    sent = lease.notification
    code = "SEQUENCE_REUSED" if receiver_sequence else "OK"
    return Settlement(lease.token, sent.order_no, sent.sequence, outcome, code, receiver_sequence)


async def test_what_was_taken_for_repeats_is_renumbered(
    store: Store, book: OrderBook, caplog: pytest.LogCaptureFixture
) -> None:
    """A restored copy goes on with numbers that the order service knows: nothing of it is lost.

    What was lost with the numbers still counts, what both have counts once, and new ones arrive.
    """
    lost = MemoryStore(clock=datetime.now(UTC))
    await pay(lost)
    await refund(lost, "both")
    await refund(lost, "lost")
    assert await deliver_all(lost, book) == [1, 2, 3]
    await pay(store)
    await refund(store, "new")
    await refund(store, "both")
    assert await deliver_all(store, book) == [EPOCH + n for n in (1, 2, 3)]
    booked = book.order("o1")
    assert booked.refunds == dict.fromkeys(("both", "lost", "new"), "SUCCEEDED")
    assert (booked.pay_order_success, booked.amount_refunded, booked.missed) == (1, 30, 0)
    assert [each.request.told_again for each in book.received("o1")] == [False] * 3 + [True] * 3
    alarms = [(each.message, vars(each).get("kind")) for each in errors(caplog)]
    assert alarms == [("operator_needed", RENUMBERED)]
    entry = (await store.journal("o1"))[-1]
    assert (entry.subject, entry.event) == ("o1", RENUMBERED)
    assert dict(entry.detail) == {"above": 3, "first": EPOCH + 1, "count": 3}
    await refund(store, "later")
    assert await deliver_all(store, book) == [EPOCH + 4]
    assert await store.backlog() == Backlog(None, 0)


async def test_what_was_acknowledged_as_a_repeat_is_renumbered_too(
    store: Store, book: OrderBook
) -> None:
    """An order service that keeps the last id alone answers OK to a new one of a used number."""
    await pay(store)
    await refund(store, "swallowed")
    await refund(store, "noticed")
    for receiver_sequence in (0, 0, 3):
        lease = await only(store)
        outcome = REFUSED if receiver_sequence else DELIVERED
        settled = settlement(lease, outcome, receiver_sequence)
        assert await Announcer(store, SystemClock()).settle([settled]) == [True]
    assert await deliver_all(store, book) == [EPOCH + n for n in (1, 2, 3)]
    assert book.order("o1").refunds == dict.fromkeys(("swallowed", "noticed"), "SUCCEEDED")


async def test_each_time_all_of_it_once(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """Each time above the number in the answer, and nothing doubled; in the end it is parked.

    An order service that answers so to every notification must not have Midas write for ever.
    """
    await pay(store)
    await refund(store, "r1")
    announcer, leased = Announcer(store, SystemClock()), []
    for _ in range(RENUMBERINGS_MOST + 1):
        lease = await only(store)
        leased.append(lease.notification.sequence)
        refused = settlement(lease, REFUSED, lease.notification.sequence + EPOCH)
        assert await announcer.settle([refused]) == [True]
    assert leased == [1, *(2 * n * EPOCH + 1 for n in range(1, RENUMBERINGS_MOST + 1))]
    assert await store.lease_notifications(8, HOLD) == []
    assert (await store.backlog()).parked == 1
    assert [each.message for each in errors(caplog)] == [
        *["operator_needed"] * RENUMBERINGS_MOST,
        "order_parked",
    ]
    assert len(await store.notifications("o1")) == 2 * (RENUMBERINGS_MOST + 1)


@pytest.mark.parametrize("receiver_sequence", [0, -1, RECEIVER_SEQUENCE_MOST + 1])
async def test_a_number_that_makes_no_sense_parks(store: Store, receiver_sequence: int) -> None:
    """As any other refusal does."""
    await pay(store)
    settled = settlement(await only(store), REFUSED, receiver_sequence)
    assert await Announcer(store, SystemClock()).settle([settled]) == [True]
    assert await store.lease_notifications(8, HOLD) == []
    assert (await store.backlog()).parked == 1


async def test_a_lost_lease_renumbers_nothing(store: Store) -> None:
    """Only the lease that holds the order renumbers it; afterwards that lease is over, too."""
    await pay(store)
    announcer, lease = Announcer(store, SystemClock()), await only(store)
    stale = replace(settlement(lease, REFUSED, 9), token="stale")
    assert await announcer.settle([stale]) == [False]
    assert await announcer.settle([settlement(lease, REFUSED, 9)]) == [True]
    assert await announcer.settle([settlement(lease, REFUSED, 9)]) == [False]
    assert await announcer.settle([settlement(lease, DELIVERED)]) == [False]
    again = await only(store)
    assert again.notification.sequence == EPOCH + 1
    assert await announcer.settle([settlement(again, DELIVERED)]) == [True]


async def test_it_stays_parked_while_it_cannot_be_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An operator is called; once the order goes on, the order service answers the same again."""

    async def away(_: Change) -> bool:
        raise StorageUnavailable

    await pay(store)
    lease = await only(store)
    with monkeypatch.context() as patch:
        patch.setattr(store, "commit", away)
        refused = settlement(lease, REFUSED, 9)
        assert await Announcer(store, SystemClock()).settle([refused]) == [True]
    assert [each.message for each in errors(caplog)] == ["order_parked"]
    assert (await store.backlog()).parked == 1


async def test_others_may_write_meanwhile(store: Store) -> None:
    """A notification that is committed between the read and the write is renumbered, too."""
    await pay(store)
    lease, read = await only(store), store.notifications
    slipped = asyncio.Event()

    async def then_another(order_no: str) -> list[Notification]:
        found = await read(order_no)
        if not slipped.is_set():
            slipped.set()
            await refund(store, "meanwhile")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "notifications", then_another)
        refused = settlement(lease, REFUSED, 9)
        assert await Announcer(store, SystemClock()).settle([refused]) == [True]
    numbered = [(n.sequence, n.refund_no) for n in await store.notifications("o1")]
    assert numbered[-2:] == [(EPOCH + 1, ""), (EPOCH + 2, "meanwhile")]
    assert slipped.is_set()


async def only(store: Store) -> Lease:
    """The one notification that is due."""
    (lease,) = await store.lease_notifications(10, HOLD)
    return lease


def errors(caplog: pytest.LogCaptureFixture) -> Sequence[logging.LogRecord]:
    """The lines that call an operator."""
    return [each for each in caplog.records if each.levelno == logging.ERROR]
