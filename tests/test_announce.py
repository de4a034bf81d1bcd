"""Handing out notifications: waiting for them, and what becomes of them (reliability.md 5.4)."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from midas import limits
from midas.errors import StorageUnavailable
from midas.flows.announce import RENUMBERINGS_MOST, Announcer, Leased
from midas.lease import Backlog, DeliveryOutcome, Settlement
from midas.payment import RENUMBERED
from tests.fakes.store import START, MemoryStore
from tests.records import NOON, intent, paid, refund_intent, refunded

MINUTE = timedelta(minutes=1)
NOW = timedelta(0)
DELIVERED = DeliveryOutcome.DELIVERED
RETRY = DeliveryOutcome.RETRY
REFUSED = DeliveryOutcome.REFUSED


class ManualClock:
    """The store's clock, which moves only when a test lets time pass."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._sleepers: list[tuple[float, asyncio.Event]] = []
        self.asked: list[float] = []

    def monotonic(self) -> float:
        """Seconds of the store's clock."""
        return (self._store.clock - START).total_seconds()

    async def sleep(self, seconds: float) -> None:
        """Until so much was passed."""
        self.asked.append(seconds)
        over = asyncio.Event()
        self._sleepers.append((self.monotonic() + seconds, over))
        await over.wait()

    async def pass_time(self, seconds: float) -> None:
        """Wake those whose time is over, and let everybody go on who can."""
        self._store.clock += timedelta(seconds=seconds)
        for until, over in self._sleepers:
            if until <= self.monotonic():
                over.set()
        await settle_down()


class Stage:
    """One process's announcer on a disk of its own or of another process."""

    def __init__(self, other: "Stage | None" = None) -> None:
        self.store: MemoryStore = MemoryStore(other.store.disk if other else None)
        self.clock = ManualClock(self.store)
        self.announcer = Announcer(self.store, self.clock)

    async def pay(self, order_no: str = "o1") -> None:
        """An order with a notification."""
        assert await self.store.commit(intent(order_no))
        assert await self.store.commit(paid(await self.store.load(order_no)))

    async def refund(self, order_no: str = "o1") -> None:
        """One more notification."""
        order = await self.store.load(order_no)
        newest = NOON + timedelta(seconds=len(order.refunds))
        assert await self.store.commit(refund_intent(order, created_at=newest))
        assert await self.store.commit(refunded(await self.store.load(order_no)))

    async def waiting(self, wait: timedelta = MINUTE, limit: int = 10) -> "asyncio.Task[Leased]":
        """A lease call that found nothing and waits."""
        call = asyncio.create_task(self.announcer.lease(limit, wait))
        await settle_down()
        assert not call.done()
        return call

    async def settle(self, leased: Leased, outcome: DeliveryOutcome = DELIVERED) -> list[bool]:
        """What became of all of them."""
        return await self.announcer.settle(settlements(leased, outcome))


@pytest.fixture
def stage() -> Stage:
    """Nothing is written yet."""
    return Stage()


async def settle_down() -> None:
    """Let everybody go on who can. Nothing here waits for anything outside."""
    for _ in range(20):
        await asyncio.sleep(0)


def settlements(leased: Leased, outcome: DeliveryOutcome) -> list[Settlement]:
    """The same became of all of them."""
    return [
        Settlement(lease.token, sent.order_no, sent.sequence, outcome, "NOT_FOUND")
        for lease in leased.leases
        for sent in (lease.notification,)
    ]


def leased_sequences(leased: Leased) -> Sequence[tuple[str, int]]:
    """Which notifications were handed out."""
    found = (lease.notification for lease in leased.leases)
    return [(each.order_no, each.sequence) for each in found]


async def test_what_is_due_is_handed_out_at_once(stage: Stage) -> None:
    """With its order as it now stands, and how long the lease holds."""
    await stage.pay()
    await stage.refund()
    leased = await stage.announcer.lease(10, MINUTE)
    assert leased_sequences(leased) == [("o1", 1)]
    (lease,) = leased.leases
    assert lease.order == await stage.store.load("o1")
    assert leased.holds == limits.NOTIFICATION_LEASE
    assert leased.backlog == Backlog(NOON, 0)
    assert stage.clock.asked == []


async def test_nothing_due_and_no_wait_is_an_empty_answer(stage: Stage) -> None:
    """Whoever does not want to wait does not."""
    assert leased_sequences(await stage.announcer.lease(10, NOW)) == []
    assert stage.clock.asked == []


async def test_a_notification_ends_the_wait_at_once(stage: Stage) -> None:
    """No time passes between the commit and the answer."""
    call = await stage.waiting()
    await stage.pay()
    await settle_down()
    assert leased_sequences(call.result()) == [("o1", 1)]
    assert stage.store.clock == START


async def test_a_commit_without_notification_does_not(stage: Stage) -> None:
    """Nobody is woken in vain."""
    call = await stage.waiting()
    assert await stage.store.commit(intent("o1"))
    await settle_down()
    assert not call.done()
    assert len(stage.clock.asked) == 1
    call.cancel()


async def test_a_delivery_lets_the_next_one_go_at_once(stage: Stage) -> None:
    """The order's second notification follows the first without a pause."""
    await stage.pay()
    await stage.refund()
    first = await stage.announcer.lease(10, NOW)
    call = await stage.waiting()
    assert await stage.settle(first) == [True]
    await settle_down()
    assert leased_sequences(call.result()) == [("o1", 2)]
    assert stage.store.clock == START


async def test_another_process_is_heard_soon(stage: Stage) -> None:
    """What another process writes is found at the next look (NOTIFICATION_LOOK_S)."""
    call = await stage.waiting()
    await Stage(stage).pay()
    await settle_down()
    assert not call.done()
    await stage.clock.pass_time(limits.NOTIFICATION_LOOK_S)
    assert leased_sequences(call.result()) == [("o1", 1)]


async def test_the_wait_ends(stage: Stage) -> None:
    """Not before its time and not after it, with an empty answer."""
    call = await stage.waiting(timedelta(seconds=1.2))
    for _ in range(2):
        await stage.clock.pass_time(0.5)
        assert not call.done()
    await stage.clock.pass_time(0.2)
    assert leased_sequences(call.result()) == []
    assert [round(each, 3) for each in stage.clock.asked] == [0.5, 0.5, 0.2]


async def test_the_end_of_a_process_ends_every_wait(stage: Stage) -> None:
    """All calls are let go at once, and nothing is leased by a process that is about to end."""
    calls = [await stage.waiting() for _ in range(3)]
    stage.announcer.stop_waiting()
    await settle_down()
    assert [leased_sequences(each.result()) for each in calls] == [[], [], []]
    await stage.pay()
    assert leased_sequences(await stage.announcer.lease(10, MINUTE)) == []
    assert leased_sequences(await Stage(stage).announcer.lease(10, NOW)) == [("o1", 1)]


async def test_a_caller_that_goes_away_leaves_nothing_leased(stage: Stage) -> None:
    """A wait that is broken off takes nothing with it."""
    call = await stage.waiting()
    call.cancel()
    await stage.pay()
    await settle_down()
    assert call.cancelled()
    assert leased_sequences(await stage.announcer.lease(10, NOW)) == [("o1", 1)]


async def test_of_many_that_wait_one_gets_it(stage: Stage) -> None:
    """All are woken; those that find nothing go on waiting."""
    calls = [await stage.waiting() for _ in range(5)]
    await stage.pay()
    await settle_down()
    done = [each for each in calls if each.done()]
    assert [leased_sequences(each.result()) for each in done] == [[("o1", 1)]]
    await stage.pay("o2")
    await settle_down()
    assert sum(each.done() for each in calls) == 2
    for each in calls:
        each.cancel()


async def test_a_database_that_is_away_is_an_error_for_the_caller(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller gets the error, nobody waits for nothing; nothing is lost."""

    async def away(*_: object) -> object:
        raise StorageUnavailable

    await stage.pay()
    with monkeypatch.context() as patch:
        patch.setattr(stage.store, "lease_notifications", away)
        with pytest.raises(StorageUnavailable):
            await stage.announcer.lease(10, MINUTE)
    leased = await stage.announcer.lease(10, NOW)
    with monkeypatch.context() as patch:
        patch.setattr(stage.store, "settle_notifications", away)
        with pytest.raises(StorageUnavailable):
            await stage.settle(leased)
    assert await stage.settle(leased) == [True]


async def test_o1_down_for_a_day(stage: Stage) -> None:
    """A day of refusals to answer: tried ever more rarely but for ever, and then delivered (M6)."""
    await stage.pay()
    await stage.refund()
    tries: list[float] = []
    while stage.clock.monotonic() < 24 * 3600:
        leased = await stage.announcer.lease(10, NOW)
        if leased.leases:
            assert leased.leases[0].attempts == len(tries)
            assert leased.backlog == Backlog(NOON, 0)
            tries.append(stage.clock.monotonic())
            assert await stage.settle(leased, RETRY) == [True]
        stage.store.clock += timedelta(seconds=1)
    pauses = [after - before for before, after in pairwise(tries)]
    assert max(pauses) <= limits.NOTIFICATION_PAUSE_MAX_S + 1
    assert pauses[:5] == [1, 2, 4, 8, 16]
    assert len(tries) > 24 * 3600 / (limits.NOTIFICATION_PAUSE_MAX_S + 1)
    await stage.clock.pass_time(limits.NOTIFICATION_PAUSE_MAX_S)
    for sequence in (1, 2):
        leased = await stage.announcer.lease(10, NOW)
        assert leased_sequences(leased) == [("o1", sequence)]
        assert await stage.settle(leased) == [True]


async def test_o3_o6_a_lease_that_ran_out_is_handed_out_again(stage: Stage) -> None:
    """A gateway that was paused or died: the same notification again, and its word is stale."""
    await stage.pay()
    await stage.refund()
    lost = await stage.announcer.lease(10, NOW)
    await stage.clock.pass_time(limits.NOTIFICATION_LEASE.total_seconds() - 1)
    assert leased_sequences(await stage.announcer.lease(10, NOW)) == []
    await stage.clock.pass_time(1)
    again = await stage.announcer.lease(10, NOW)
    assert leased_sequences(again) == leased_sequences(lost) == [("o1", 1)]
    assert await stage.settle(lost) == [False]
    assert await stage.settle(again) == [True]
    assert leased_sequences(await stage.announcer.lease(10, NOW)) == [("o1", 2)]


async def test_o4_a_refused_order_is_parked_and_the_others_flow(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """One alarm with the ids, a count for the metric, and nothing else waits."""
    await stage.pay("bad")
    bad = await stage.announcer.lease(10, NOW)
    assert await stage.settle(bad, REFUSED) == [True]
    assert await stage.settle(bad, REFUSED) == [False]
    for number in range(3):
        await stage.pay(f"good{number}")
    await stage.refund("bad")
    leased = await stage.announcer.lease(10, NOW)
    assert sorted(leased_sequences(leased)) == [("good0", 1), ("good1", 1), ("good2", 1)]
    assert await stage.settle(leased) == [True] * 3
    await stage.clock.pass_time(24 * 3600)
    assert (await stage.announcer.lease(10, NOW)) == Leased(
        (), limits.NOTIFICATION_LEASE, Backlog(None, 1)
    )
    (alarm,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert alarm.message == "order_parked"
    assert (alarm.order_no, alarm.code) == ("bad", "NOT_FOUND")  # type: ignore[attr-defined]


async def test_the_backlog_is_counted_now_and_then(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls in quick succession share one count, which is at most BACKLOG_AGE_S old."""
    counts: list[float] = []
    count = stage.store.backlog

    async def counted() -> Backlog:
        counts.append(stage.clock.monotonic())
        return await count()

    monkeypatch.setattr(stage.store, "backlog", counted)
    await asyncio.gather(*(stage.announcer.lease(10, NOW) for _ in range(5)))
    await stage.pay()
    assert (await stage.announcer.lease(10, NOW)).backlog == Backlog(None, 0)
    await stage.clock.pass_time(limits.BACKLOG_AGE_S)
    assert (await stage.announcer.lease(10, NOW)).backlog == Backlog(NOON, 0)
    assert counts == [0, limits.BACKLOG_AGE_S]


async def test_a_long_count_keeps_nobody_waiting(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While millions wait, counting them goes on beside the leases, and the more rarely (O7)."""
    counted = asyncio.Event()
    counts: list[float] = []

    async def slow() -> Backlog:
        counts.append(stage.clock.monotonic())
        await counted.wait()
        return Backlog(START, 7)

    monkeypatch.setattr(stage.store, "backlog", slow)
    await stage.clock.pass_time(50)
    for number in range(3):
        await stage.pay(f"o{number}")
        assert len((await stage.announcer.lease(10, NOW)).leases) == 1
    await stage.clock.pass_time(9)
    counted.set()
    assert (await stage.announcer.lease(10, NOW)).backlog == Backlog(START, 7)
    await stage.clock.pass_time(179)
    await stage.announcer.lease(10, NOW)
    assert counts == [50]
    await stage.clock.pass_time(1)
    await stage.announcer.lease(10, NOW)
    assert counts == [50, 239]


async def test_a_count_that_fails_keeps_nobody_waiting(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last count is given as long as there is no better one."""
    await stage.pay()
    leased = await stage.announcer.lease(10, NOW)
    assert await stage.settle(leased, RETRY) == [True]

    async def broken() -> Backlog:
        raise StorageUnavailable

    monkeypatch.setattr(stage.store, "backlog", broken)
    await stage.clock.pass_time(limits.BACKLOG_AGE_S)
    again = await stage.announcer.lease(10, NOW)
    assert leased_sequences(again) == [("o1", 1)]
    assert again.backlog == Backlog(NOON, 0)
    (line,) = (vars(each) for each in caplog.records)
    assert (line["message"], line["reason"]) == ("backlog_not_counted", "StorageUnavailable")


async def test_an_end_in_the_middle_of_a_count_is_quiet(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count that is under way does not outlive the process's end."""
    never = asyncio.Event()

    async def endless() -> Backlog:
        await never.wait()
        return Backlog(None, 0)

    monkeypatch.setattr(stage.store, "backlog", endless)
    await stage.announcer.lease(10, NOW)
    assert counting()
    stage.announcer.stop_waiting()
    await settle_down()
    assert not counting()


def counting() -> list[str]:
    """The counts that are under way."""
    names = [each.get_name() for each in asyncio.all_tasks()]
    return [each for each in names if each == "midas-backlog"]


async def test_what_a_used_number_hid_is_renumbered_so_often_and_no_more(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Above the number that the order service names; one that says so of all is given up (I7)."""
    await stage.pay()
    above = 7
    for _ in range(RENUMBERINGS_MOST + 1):
        leased = await stage.announcer.lease(10, NOW)
        (used,) = settlements(leased, REFUSED)
        assert await stage.announcer.settle([replace(used, receiver_sequence=above)]) == [True]
        above = used.sequence + 7
    assert leased_sequences(await stage.announcer.lease(10, NOW)) == []
    numbers = [each.sequence for each in await stage.store.notifications("o1")]
    assert len(numbers) == 1 + RENUMBERINGS_MOST
    assert all(later > earlier for earlier, later in pairwise(numbers))
    alarms = [vars(each) for each in caplog.records if each.levelno == logging.ERROR]
    assert [(each["order_no"], each["sequence"]) for each in alarms] == [("o1", n) for n in numbers]
    *again, parked = alarms
    assert [(each["message"], each["kind"]) for each in again] == (
        [("operator_needed", RENUMBERED)] * RENUMBERINGS_MOST
    )
    assert (parked["message"], parked["code"]) == ("order_parked", "NOT_FOUND")


async def test_a_number_beyond_all_that_there_are_is_not_counted_from(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Above it would be none left for the order: it is parked, and nothing is renumbered."""
    await stage.pay()
    (used,) = settlements(await stage.announcer.lease(10, NOW), REFUSED)
    assert await stage.announcer.settle([replace(used, receiver_sequence=2**53)]) == [True]
    assert len(await stage.store.notifications("o1")) == 1
    assert [each.message for each in caplog.records] == ["order_parked"]


async def test_settling_nothing_is_nothing(stage: Stage) -> None:
    """An empty report, and one about what never was, change nothing."""
    await stage.pay()
    assert await stage.announcer.settle([]) == []
    leased = await stage.announcer.lease(10, NOW)
    (right,) = settlements(leased, DELIVERED)
    assert await stage.announcer.settle([replace(right, order_no="never")]) == [False]
    assert await stage.announcer.settle([right]) == [True]
