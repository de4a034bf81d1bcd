"""What every store promises of notifications: leased, settled, in order, never lost."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from midas.lease import Backlog, DeliveryOutcome, Lease, Settlement
from midas.limits import NOTIFICATION_PAUSE_MAX_S
from midas.ports import Store
from midas.storage import open_store
from midas.storage.store import SqlStore
from tests.fakes.store import MemoryStore
from tests.patience import PATIENCE_S
from tests.records import NOON, intent, paid, refund_intent, refunded

HOLD = timedelta(seconds=60)
TINY = timedelta(milliseconds=100)

DELIVERED = DeliveryOutcome.DELIVERED
RETRY = DeliveryOutcome.RETRY
REFUSED = DeliveryOutcome.REFUSED


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    if request.param == "memory":
        yield MemoryStore(clock=datetime.now(UTC))
        return
    async with await open_store(request.getfixturevalue(f"{request.param}_url")) as opened:
        yield opened


async def pay(store: Store, order_no: str = "o1") -> None:
    """An order with a notification: its payment."""
    assert await store.commit(intent(order_no))
    assert await store.commit(paid(await store.load(order_no)))


async def refund(store: Store, order_no: str = "o1") -> None:
    """One more notification of that order: the end of a refund."""
    order = await store.load(order_no)
    newest = NOON + timedelta(seconds=len(order.refunds))
    assert await store.commit(refund_intent(order, created_at=newest))
    assert await store.commit(refunded(await store.load(order_no)))


def settlement(
    lease: Lease, outcome: DeliveryOutcome = DELIVERED, code: str = "UNAVAILABLE"
) -> Settlement:
    """The outcome of this lease's delivery."""
    notification = lease.notification
    return Settlement(lease.token, notification.order_no, notification.sequence, outcome, code)


async def settle(store: Store, lease: Lease, outcome: DeliveryOutcome = DELIVERED) -> bool:
    """Report it."""
    (applied,) = await store.settle_notifications([settlement(lease, outcome)])
    return applied


async def leased(store: Store, limit: int = 10) -> list[tuple[str, int]]:
    """Which notifications are handed out now."""
    leases = await store.lease_notifications(limit, HOLD)
    return [(each.notification.order_no, each.notification.sequence) for each in leases]


async def only(store: Store) -> Lease:
    """The one notification that is due."""
    (lease,) = await store.lease_notifications(10, HOLD)
    return lease


async def due_at(store: Store, order_no: str = "o1") -> datetime:
    """When the order's next notification is due, as it stands in the table."""
    if isinstance(store, MemoryStore):
        return store.disk.deliveries[order_no].due_at
    assert isinstance(store, SqlStore)
    sql = f"SELECT announce_at FROM orders WHERE order_no = '{order_no}'"  # noqa: S608
    rows = await store._fetch(sql)
    found = rows[0][0]
    return datetime.fromisoformat(found) if isinstance(found, str) else found


async def make_due(store: Store, order_no: str = "o1", before: timedelta = HOLD) -> None:
    """Have the order's notification be due since a while."""
    since = store.now() - before
    if isinstance(store, MemoryStore):
        now = store.disk.deliveries[order_no]
        store.disk.deliveries[order_no] = replace(now, due_at=since)
        return
    assert isinstance(store, SqlStore)
    moment = since.isoformat(" ", "microseconds")
    await store._fetch(
        f"UPDATE orders SET announce_at = '{moment}' WHERE order_no = '{order_no}'"  # noqa: S608
        " RETURNING order_no"
    )


async def tick(store: Store) -> None:
    """A little time passes."""
    if isinstance(store, MemoryStore):
        store.clock += timedelta(milliseconds=20)
    await asyncio.sleep(0.02)


async def test_what_is_written_is_handed_out_as_it_was(store: Store) -> None:
    """A lease carries the notification itself, a token, and no attempts yet."""
    assert await leased(store) == []
    assert await store.commit(intent("o1"))
    assert await leased(store) == []
    change = paid(await store.load("o1"))
    assert await store.commit(change)
    lease = await only(store)
    assert (lease.notification,) == change.notifications
    assert lease.attempts == 0
    assert 0 < len(lease.token) <= 32


async def test_a_lease_brings_its_order_as_it_stands(store: Store) -> None:
    """Just committed, changed by a commit without a notification, and leased once more."""
    await pay(store)
    assert (await only(store)).order == await store.load("o1")
    older = NOON - timedelta(days=1)
    order = await store.load("o1")
    assert await store.commit(refund_intent(order, refund_no="found late", created_at=older))
    assert await store.commit(refunded(await store.load("o1")))
    for again in range(2):
        await make_due(store)
        lease = await only(store)
        assert lease.order == await store.load("o1"), again
    assert await store.commit(refund_intent(lease.order))
    await make_due(store)
    assert (await only(store)).order == await store.load("o1")


async def test_one_notification_of_an_order_at_a_time(store: Store) -> None:
    """Head of line first: the next one is due only when the one before is delivered (I9)."""
    await pay(store)
    await refund(store)
    await refund(store)
    for sequence in (1, 2, 3):
        lease = await only(store)
        assert lease.notification.sequence == sequence
        assert await leased(store) == []
        assert await settle(store, lease)
    assert await leased(store) == []
    await refund(store)
    assert await leased(store) == [("o1", 4)]


async def refund_at(store: Store, sequence: int) -> None:
    """One more notification, under a number that leaves a gap."""
    order = await store.load("o1")
    newest = NOON + timedelta(seconds=len(order.refunds))
    assert await store.commit(refund_intent(order, created_at=newest))
    change = refunded(await store.load("o1"))
    (notification,) = change.notifications
    numbered = (replace(notification, sequence=sequence),)
    assert await store.commit(replace(change, last_sequence=sequence, notifications=numbered))


async def test_a_gap_stops_nobody(store: Store) -> None:
    """After each number comes the lowest above it, however far that is (I7, D3)."""
    await pay(store)
    await refund_at(store, 7)
    await refund_at(store, 2**46)
    for sequence in (1, 7, 2**46):
        assert await store.backlog() == Backlog(NOON, 0)
        lease = await only(store)
        assert lease.notification.sequence == sequence
        assert await leased(store) == []
        assert await settle(store, lease, RETRY)
        await make_due(store)
        lease = await only(store)
        assert (lease.notification.sequence, lease.attempts) == (sequence, 1)
        assert await settle(store, lease)
    assert await store.backlog() == Backlog(None, 0)
    assert await leased(store) == []
    assert [each.sequence for each in await store.notifications("o1")] == [1, 7, 2**46]
    await refund(store)
    assert await leased(store) == [("o1", 2**46 + 1)]


async def test_a_settlement_names_the_number_that_was_leased(store: Store) -> None:
    """Behind a gap as well: neither the one after the last, nor one in the gap, nor a later one."""
    await pay(store)
    assert await settle(store, await only(store))
    await refund_at(store, 7)
    await refund_at(store, 9)
    lease = await only(store)
    for wrong in (1, 2, 6, 8, 9):
        named = replace(settlement(lease), sequence=wrong)
        assert await store.settle_notifications([named]) == [False]
    assert await settle(store, lease)
    assert await leased(store) == [("o1", 9)]


async def test_what_comes_behind_a_gap_is_due_at_once(store: Store) -> None:
    """The order waits in line from its commit on, as if there were no gap."""
    await pay(store)
    assert await settle(store, await only(store))
    await make_due(store, before=timedelta(hours=1))
    before = store.now()
    await refund_at(store, 7)
    assert await due_at(store) >= before - timedelta(seconds=1)
    assert await leased(store) == [("o1", 7)]


async def test_longest_due_first_and_not_more_than_asked_for(store: Store) -> None:
    """Orders come up by the moment since which they are due, however late they were made (O7)."""
    for number in range(5):
        await pay(store, f"o{number}")
    for number in (3, 0, 4, 1, 2):
        await make_due(store, f"o{number}", timedelta(minutes=number + 1))
    assert await leased(store, 2) == [("o4", 1), ("o3", 1)]
    assert await leased(store, 2) == [("o2", 1), ("o1", 1)]
    assert await leased(store, 2) == [("o0", 1)]
    assert await leased(store, 2) == []


async def test_an_order_with_many_notifications_takes_its_place_in_line(store: Store) -> None:
    """Its second notification is due when the first is delivered, behind those that waited."""
    await pay(store, "much")
    for _ in range(3):
        await refund(store, "much")
    await make_due(store, "much", timedelta(minutes=9))
    for name in ("one", "two"):
        await pay(store, name)
        await make_due(store, name, timedelta(minutes=1))
    (first,) = await store.lease_notifications(1, HOLD)
    assert first.notification.order_no == "much"
    assert await settle(store, first)
    assert await leased(store, 2) in ([("one", 1), ("two", 1)], [("two", 1), ("one", 1)])
    assert await leased(store) == [("much", 2)]


async def test_a_lease_holds_for_its_time_and_no_longer(store: Store) -> None:
    """Nobody gets the order while the lease holds; then it is handed out anew (A1-A2 in 3)."""
    await pay(store)
    before = store.now()
    (first,) = await store.lease_notifications(10, HOLD)
    assert abs(await due_at(store) - (before + HOLD)) < timedelta(seconds=20)
    await make_due(store)
    began = time.monotonic()
    (second,) = await store.lease_notifications(10, TINY)
    found: list[Lease] = []
    while not found:
        assert time.monotonic() < began + PATIENCE_S, "the lease never ended"
        found = await store.lease_notifications(10, HOLD)
        await tick(store)
    assert isinstance(store, MemoryStore) or time.monotonic() - began >= 0.09
    assert [each.notification for each in found] == [first.notification]
    assert found[0].attempts == 0
    assert len({first.token, second.token, found[0].token}) == 3
    assert await leased(store) == []


@pytest.mark.parametrize("outcome", DeliveryOutcome)
async def test_a_stale_lease_settles_nothing(store: Store, outcome: DeliveryOutcome) -> None:
    """A lease that is over cannot settle the order, with any outcome (R5, O6)."""
    await pay(store)
    await refund(store)
    stale = await only(store)
    await make_due(store)
    current = await only(store)
    assert not await settle(store, stale, outcome)
    assert await leased(store) == []
    assert await settle(store, current)
    assert not await settle(store, current, outcome)
    assert not await settle(store, stale, outcome)
    assert await leased(store) == [("o1", 2)]
    assert (await store.backlog()).parked == 0


@pytest.mark.parametrize("outcome", DeliveryOutcome)
async def test_a_settlement_that_names_something_else_settles_nothing(
    store: Store, outcome: DeliveryOutcome
) -> None:
    """Another sequence, order or token, or none at all, moves nothing (M7)."""
    await pay(store)
    await refund(store)
    lease = await only(store)
    await pay(store, "idle")
    right = settlement(lease, outcome)
    for wrong in (
        *(replace(right, sequence=n) for n in (0, -1, right.sequence + 1, 2**63 - 1)),
        *(replace(right, token=t) for t in ("", "other", "x" * 1000, right.token.upper())),
        *(replace(right, order_no=o) for o in ("", "nobody", "O1", "o1 ", "'; --", "x" * 1000)),
        replace(right, order_no="idle"),
        replace(right, order_no="idle", token=""),
    ):
        assert await store.settle_notifications([wrong]) == [False]
    assert await leased(store) == [("idle", 1)]
    assert await settle(store, lease)


async def test_pauses_grow_up_to_a_bound_and_attempts_do_not_end(store: Store) -> None:
    """1, 2, 4 … seconds, each cut by up to half, up to the longest; for ever (I8, M6)."""
    await pay(store)
    for attempt in range(40):
        lease = await only(store)
        assert lease.attempts == attempt
        before = store.now()
        assert await settle(store, lease, RETRY)
        assert await leased(store) == []
        pause_s = (await due_at(store) - before).total_seconds()
        longest_s = min(2**attempt, NOTIFICATION_PAUSE_MAX_S)
        assert longest_s * 0.5 - 0.1 <= pause_s <= longest_s + 15
        await make_due(store)
    assert await settle(store, await only(store))
    await refund(store)
    assert (await only(store)).attempts == 0


async def test_a_refusal_parks_the_order_and_no_other(store: Store) -> None:
    """Nothing of a parked order is handed out, old or new; all others flow (O4, I13)."""
    await pay(store, "bad")
    await refund(store, "bad")
    assert await settle(store, await only(store), REFUSED)
    assert await leased(store) == []
    await refund(store, "bad")
    await make_due(store, "bad")
    assert await leased(store) == []
    await pay(store, "good")
    assert await leased(store) == [("good", 1)]
    assert await store.backlog() == Backlog(NOON, 1)


async def test_a_refusal_without_a_code_parks_as_well(store: Store) -> None:
    """The order service need not give a reason."""
    await pay(store)
    lease = await only(store)
    sent = lease.notification
    refused = Settlement(lease.token, sent.order_no, sent.sequence, REFUSED)
    assert await store.settle_notifications([refused]) == [True]
    assert await leased(store) == []
    assert (await store.backlog()).parked == 1


async def test_many_settlements_at_once(store: Store) -> None:
    """Each has its own answer, in the same order, independent of the others."""
    for number in range(6):
        await pay(store, f"o{number}")
        await refund(store, f"o{number}")
    leases = {each.notification.order_no: each for each in await store.lease_notifications(5, HOLD)}
    held = sorted(leases)
    (free,) = {f"o{n}" for n in range(6)} - set(held)
    a, b, c, d, e = (leases[order_no] for order_no in held)
    settled = await store.settle_notifications(
        [
            settlement(a),
            replace(settlement(b), token="stale"),
            settlement(c, REFUSED),
            settlement(d, RETRY),
            replace(settlement(e), sequence=2),
            replace(settlement(a), order_no=free),
        ]
    )
    assert settled == [True, False, True, True, False, False]
    assert sorted(await leased(store)) == sorted([(held[0], 2), (free, 1)])
    assert await store.settle_notifications([]) == []


async def test_settlements_of_one_order_go_one_after_the_other(store: Store) -> None:
    """Of several for one order each gets its own answer: the first that holds counts."""
    await pay(store)
    await refund(store)
    stale = await only(store)
    await make_due(store)
    current = await only(store)
    settled = await store.settle_notifications(
        [
            settlement(stale, REFUSED),
            settlement(current, RETRY),
            settlement(current, DELIVERED),
            settlement(current, REFUSED),
        ]
    )
    assert settled == [False, True, False, False]
    await make_due(store)
    lease = await only(store)
    assert (lease.notification.sequence, lease.attempts) == (1, 1)
    assert (await store.backlog()).parked == 0


async def test_the_backlog_is_what_waits(store: Store) -> None:
    """The oldest head of all that is not delivered and not parked, leased or not."""
    assert await store.backlog() == Backlog(None, 0)
    for number, order_no in enumerate(("oldest", "older", "newest")):
        await pay(store, order_no)
        await make_due(store, order_no, timedelta(minutes=9 - number))
    assert await store.backlog() == Backlog(NOON, 0)
    leases = await store.lease_notifications(10, HOLD)
    assert await store.backlog() == Backlog(NOON, 0)
    await store.settle_notifications([settlement(leases[0]), settlement(leases[1], REFUSED)])
    assert await store.backlog() == Backlog(NOON, 1)
    assert await settle(store, leases[2])
    assert await store.backlog() == Backlog(None, 1)


async def test_a_commit_with_a_notification_wakes(store: Store) -> None:
    """It wakes all who wait; a commit without one, or one that was refused, does not."""
    assert await store.commit(intent("o1"))
    wakes = [store.notification_written() for _ in range(3)]
    assert await store.commit(intent("o2"))
    change = paid(await store.load("o1"))
    assert not await store.commit(replace(change, expected_version=7))
    await asyncio.sleep(0)
    assert not any(each.done() for each in wakes)
    wakes[0].cancel()
    assert await store.commit(change)
    await asyncio.wait_for(asyncio.gather(*wakes[1:]), PATIENCE_S)
    assert not store.notification_written().done()


async def test_a_delivery_with_more_to_come_wakes(store: Store) -> None:
    """The order's next notification is due at once, so those who wait are woken for it."""
    await pay(store)
    await refund(store)
    lease = await only(store)
    written = store.notification_written()
    assert not await settle(store, replace(lease, token="stale"))
    assert not written.done()
    assert await settle(store, lease)
    await asyncio.wait_for(written, PATIENCE_S)
    assert await leased(store) == [("o1", 2)]


async def test_those_who_wait_no_more_leave_nothing_behind(sqlite_url: str) -> None:
    """A future that was cancelled or woken is not kept."""
    async with await open_store(sqlite_url) as store:
        for _ in range(100):
            store.notification_written().cancel()
        await asyncio.sleep(0)
        assert not store._wakes
        woken = store.notification_written()
        await pay(store)
        await woken
        await asyncio.sleep(0)
        assert not store._wakes


async def test_leases_at_once_share_the_work(store: Store) -> None:
    """No order is given to two at once."""
    await asyncio.gather(*(pay(store, f"o{n}") for n in range(40)))
    found = await asyncio.gather(*(leased(store) for _ in range(8)))
    found.append(await leased(store, 40))
    assert sorted(order_no for each in found for order_no, _ in each) == sorted(
        f"o{n}" for n in range(40)
    )
