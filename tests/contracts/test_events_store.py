"""What every store promises of Ping++'s events: written once, with what they change, or not at all.

M10: an event that is written without its effect is never made up for. M11: an effect that is not
guarded by what it was decided on is made twice.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from midas.draft import Draft
from midas.event import EventRecord, EventStanding
from midas.payment import Change, Order
from midas.ports import KeyTaken, Store
from midas.storage import open_store
from tests.fakes.store import MemoryStore
from tests.records import NOON, a_charge, changed, intent, paid

HOLD = timedelta(seconds=60)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """An empty store of each kind."""
    if request.param == "memory":
        yield MemoryStore(clock=datetime.now(UTC))
        return
    async with await open_store(request.getfixturevalue(f"{request.param}_url")) as opened:
        yield opened


def an_event(event_id: str = "evt_1", order_no: str | None = "o1", **fields: Any) -> EventRecord:
    """An event that was applied."""
    values: dict[str, Any] = {
        "event_id": event_id,
        "order_no": order_no,
        "type": "charge.succeeded",
        "received_at": NOON,
        "body_digest": "ab" * 32,
        "body": bytes(range(256)),
        "standing": EventStanding.APPLIED,
        "applied_at": NOON + timedelta(microseconds=1),
    }
    return EventRecord(**values | fields)


def waiting(store: Store, event_id: str, due: timedelta = -HOLD, **fields: Any) -> EventRecord:
    """An event that waits, due so much from now."""
    values: dict[str, Any] = {"standing": EventStanding.WAITING, "applied_at": None}
    return an_event(event_id, due_at=store.now() + due, **values | fields)


def with_event(change: Change, event: EventRecord) -> Change:
    """The change that records an event, too."""
    return replace(change, new_events=(replace(event, order_no=change.order_no),))


async def claimed(store: Store, limit: int = 10, hold: timedelta = HOLD) -> set[str]:
    """The ids of the events that are due now."""
    return {each.event_id for each in await store.claim_events(limit, hold)}


async def test_an_event_comes_back_as_it_was(store: Store) -> None:
    """Every field survives: every byte of the body, moments to the microsecond, what is None."""
    applied = an_event("evt_1", "订单1")
    ignored = an_event(
        "e" * 64,
        None,
        standing=EventStanding.IGNORED,
        applied_at=None,
        body=b"",
        type="",
        reason="unknown_order",
    )
    parked = replace(ignored, event_id="evt_3", body=b"{}", standing=EventStanding.PARKED)
    for event in (applied, ignored, parked):
        assert await store.record_event(event)
        assert await store.event(event.event_id) == event
    assert await store.event("evt_2") is None


async def test_an_event_is_written_once(store: Store) -> None:
    """The first one stays, also of many at once, and the content of another changes nothing."""
    first = an_event()
    assert await store.record_event(first)
    other = an_event(body=b"other", body_digest="cd" * 32, standing=EventStanding.PARKED)
    assert not await store.record_event(other)
    assert await store.event("evt_1") == first
    answers = await asyncio.gather(*(store.record_event(an_event("evt_2")) for _ in range(10)))
    assert sorted(answers) == [False] * 9 + [True]


async def test_an_event_and_its_effect_are_one_commit(store: Store) -> None:
    """Both are there, or neither (I7, M5, M10)."""
    assert await store.commit(intent("o1"))
    order = await store.load("o1")
    change = with_event(paid(order), an_event())
    assert not await store.commit(replace(change, expected_version=7))
    assert await store.event("evt_1") is None
    assert await store.commit(change)
    assert await store.event("evt_1") == an_event()
    assert (await store.load("o1")).charges == change.changed_charges
    assert await store.notifications("o1") == list(change.notifications)


async def test_a_conflict_writes_no_event(store: Store) -> None:
    """A stale decision leaves no event behind: the next one must not find it known (M11)."""
    assert await store.commit(intent("o1"))
    stale = await store.load("o1")
    first, second = (with_event(paid(stale), an_event(f"evt_{n}")) for n in (1, 2))
    answers = list(await asyncio.gather(store.commit(first), store.commit(second)))
    assert sorted(answers) == [False, True]
    events = [await store.event("evt_1"), await store.event("evt_2")]
    assert [each is not None for each in events] == answers
    again = Draft(await store.load("o1"))
    again.record_event(an_event("evt_1" if answers[1] else "evt_2"))
    assert await store.commit(changed(again))
    assert len(await store.notifications("o1")) == 1


async def test_a_known_event_writes_nothing_of_its_change(store: Store) -> None:
    """The same event_id again: KeyTaken, and neither state nor notification of that change."""
    assert await store.record_event(an_event(order_no=None))
    assert await store.commit(intent("o1"))
    before = await store.load("o1")
    with pytest.raises(KeyTaken) as raised:
        await store.commit(with_event(paid(before), an_event()))
    assert raised.value.column == "event_id"
    assert await store.load("o1") == before
    assert await store.notifications("o1") == []
    assert (await store.event("evt_1")) == an_event(order_no=None)


async def test_a_known_event_does_not_harm_its_neighbours(store: Store) -> None:
    """Of many changes that share a commit, those with known events are refused, no other."""
    names = [f"o{number:02}" for number in range(40)]
    assert all(await asyncio.gather(*(store.commit(intent(name)) for name in names)))
    known = {"o03", "o17", "o18", "o39"}
    for name in known:
        assert await store.record_event(an_event(f"evt_{name}"))
    changes = [with_event(paid(await store.load(name)), an_event(f"evt_{name}")) for name in names]
    answers = await asyncio.gather(*map(store.commit, changes), return_exceptions=True)
    for name, answer in zip(names, answers, strict=True):
        notifications = await store.notifications(name)
        if name in known:
            assert isinstance(answer, KeyTaken)
            assert (notifications, (await store.load(name)).version) == ([], 1)
        else:
            assert answer is True
            assert (len(notifications), (await store.load(name)).version) == (1, 2)
            assert await store.event(f"evt_{name}") is not None


async def test_one_event_in_two_changes_at_once(store: Store) -> None:
    """One is written with it and the other not at all, though they are of two orders."""
    for name in ("o1", "o2"):
        assert await store.commit(intent(name))
    changes = [with_event(paid(await store.load(name)), an_event()) for name in ("o1", "o2")]
    answers = await asyncio.gather(*map(store.commit, changes), return_exceptions=True)
    assert sorted(type(each).__name__ for each in answers) == ["KeyTaken", "bool"]
    notifications = [await store.notifications(name) for name in ("o1", "o2")]
    assert sorted(map(len, notifications)) == [0, 1]


async def test_an_event_may_come_with_a_new_order(store: Store) -> None:
    """The commit that makes an order can hold an event, too."""
    draft = Draft(Order("o1"))
    draft.add_charge(a_charge("o1"), "CREATE")
    draft.record_event(an_event())
    assert await store.commit(changed(draft))
    assert await store.event("evt_1") == an_event()


async def test_what_became_of_an_event_is_written_with_the_order(store: Store) -> None:
    """Its standing changes with the order's version, or not at all; its content never does."""
    assert await store.commit(intent("o1"))
    event = waiting(store, "evt_1")
    assert await store.record_event(event)
    done = replace(event, standing=EventStanding.APPLIED, applied_at=NOON, due_at=None, attempts=3)
    draft = Draft(await store.load("o1"))
    draft.settle_event(done)
    change = changed(draft)
    assert not await store.commit(replace(change, expected_version=9))
    assert await store.event("evt_1") == event
    assert await store.commit(change)
    assert await store.event("evt_1") == done
    assert await claimed(store) == set()


async def test_due_events_are_claimed_and_held(store: Store) -> None:
    """Only those that wait and are due, the longest first, not again for a while; each counted."""
    for number in (3, 1, 2):
        due = timedelta(minutes=number - 10)
        assert await store.record_event(waiting(store, f"evt_{number}", due))
    assert await store.record_event(waiting(store, "evt_later", timedelta(hours=1)))
    assert await store.record_event(an_event("evt_done"))
    before = store.now()
    first = await store.claim_events(2, HOLD)
    assert {each.event_id for each in first} == {"evt_1", "evt_2"}
    for each in first:
        assert each == await store.event(each.event_id)
        assert (each.attempts, each.standing) == (1, EventStanding.WAITING)
        assert each.due_at is not None
        assert abs(each.due_at - (before + HOLD)) < timedelta(seconds=30)
    assert await claimed(store) == {"evt_3"}
    assert await claimed(store) == set()


async def test_a_claim_that_came_to_nothing_is_claimed_again(store: Store) -> None:
    """A claimant that did nothing loses it, and every attempt is counted."""
    assert await store.record_event(waiting(store, "evt_1"))
    for attempt in (1, 2, 3):
        (event,) = await store.claim_events(5, timedelta(seconds=-1))
        assert event.attempts == attempt


async def test_claims_at_once_share_the_events(store: Store) -> None:
    """No event is given to two claimants."""
    for number in range(40):
        assert await store.record_event(waiting(store, f"evt_{number}"))
    claims = await asyncio.gather(*(claimed(store) for _ in range(8)))
    claims.append(await claimed(store, 40))
    ids = [event_id for each in claims for event_id in each]
    assert sorted(ids) == sorted(f"evt_{number}" for number in range(40))
