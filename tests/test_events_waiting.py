"""Events that cannot be applied at once: they wait, and end applied or with a person."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from midas import limits
from midas.draft import Draft
from midas.errors import StorageUnavailable
from midas.event import EventRecord, EventStanding
from midas.flows import apply_event
from midas.flows.apply_event import EventOutcome
from midas.flows.inbox import Inbox
from midas.psp.transport import Answer, Lost
from midas.sandbox.forgery import compact
from midas.sandbox.samples import sample_event
from tests.event_stage import Event, Stage, logged, states
from tests.faults.scenarios import TERMS
from tests.faults.world import FaultyWire, VirtualClock


@pytest.fixture
def stage() -> Stage:
    """Nothing goes wrong by itself."""
    return Stage()


async def test_w17_poison_event(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that breaks Midas is stored, tried again, and parked; the others flow (I13)."""
    poisoned = await stage.charge()
    healthy = await stage.charge("order-2")
    number = stage.world.lookalike.charge(poisoned)["order_no"]
    observe = Draft.observe_charge

    def break_on_poison(draft: Draft, out_trade_no: str, observation: Any) -> Any:
        if out_trade_no == number:
            raise ZeroDivisionError("card 6222")
        return observe(draft, out_trade_no, observation)

    monkeypatch.setattr(Draft, "observe_charge", break_on_poison)
    stage.world.lookalike.pay(poisoned)
    poison = stage.event("charge.succeeded")
    recorded = await stage.record(poison)
    assert recorded.outcome is EventOutcome.ACCEPTED
    assert (recorded.event.standing, recorded.event.reason) == ("WAITING", "apply_failed")
    stage.world.lookalike.pay(healthy)
    await stage.record(stage.event("charge.succeeded"))
    assert await stage.notices("order-2") == ["PAY_ORDER_SUCCESS"]
    await stage.look(limits.EVENT_ATTEMPTS - 1)
    assert (await stage.stored(poison)).standing is EventStanding.WAITING
    await stage.look(5)
    stored = await stage.stored(poison)
    assert (stored.standing, stored.due_at) == (EventStanding.PARKED, None)
    assert stored.attempts == limits.EVENT_ATTEMPTS
    assert logged(caplog, "event_parked") == 1
    broken = [vars(each) for each in caplog.records if each.message == "event_not_applied"]
    assert [each["error"] for each in broken] == ["ZeroDivisionError"] * (1 + stored.attempts)
    (alarm,) = [vars(each) for each in caplog.records if each.message == "event_parked"]
    assert (alarm["event_id"], alarm["order_no"]) == (stored.event_id, TERMS.order_no)
    assert "6222" not in caplog.text
    assert states(await stage.order()) == ["PENDING"]


async def test_w17_a_defect_that_is_mended_loses_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits because Midas was broken is applied by the version that is not."""
    charge_id = await stage.charge()
    stage.world.lookalike.pay(charge_id)
    monkeypatch.setattr(Draft, "observe_charge", lambda *_: 1 / 0)
    await stage.record(stage.event("charge.succeeded"))
    await stage.look()
    monkeypatch.undo()
    stage.restart()
    await stage.look()
    assert await stage.notices() == ["PAY_ORDER_SUCCESS"]


async def test_w17_one_poison_event_keeps_no_other_waiting(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole batch waits, and the first of it breaks even the reading: the rest is applied."""
    events = []
    for number in range(2 * limits.RESOLVE_AT_ONCE):
        order_no = f"order-{number}"
        charge_id = await stage.charge(order_no)
        stage.world.lookalike.pay(charge_id)
        stage.world.lookalike.refund_at_dashboard(charge_id, 10)
        events.append(stage.event("refund.succeeded"))
        await stage.record(events[-1])
    psp = stage.world.payments.ports.psp
    read = psp.read_event

    def broken(body: bytes) -> Any:
        if body == compact(events[0]):
            raise ZeroDivisionError
        return read(body)

    monkeypatch.setattr(psp, "read_event", broken)
    await stage.look()
    standings = [(await stage.stored(each)).standing for each in events]
    assert standings == [EventStanding.WAITING, *[EventStanding.APPLIED] * (len(events) - 1)]
    await stage.look(limits.EVENT_ATTEMPTS)
    assert (await stage.stored(events[0])).standing is EventStanding.PARKED


async def _early_refund(stage: Stage) -> Event:
    """A refund event that waits for its charge."""
    charge_id = await stage.charge()
    stage.world.lookalike.pay(charge_id)
    stage.world.lookalike.refund_at_dashboard(charge_id, 40)
    event = stage.event("refund.succeeded")
    assert (await stage.record(event)).event.standing is EventStanding.WAITING
    return event


def _answer_gets(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    async def always(*_: Any) -> Any:
        return answer

    monkeypatch.setattr(FaultyWire, "send", always)


async def test_an_event_waits_while_ping_cannot_be_asked(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ping++ is down for an hour: the event is neither lost nor given up."""
    event = await _early_refund(stage)
    _answer_gets(monkeypatch, Lost("timeout"))
    await stage.look(60)
    assert (await stage.stored(event)).standing is EventStanding.WAITING
    monkeypatch.undo()
    await stage.look(10)
    assert await stage.notices() == ["PAY_ORDER_SUCCESS", "REFUND_SUCCESS"]


NOT_FOUND = Answer(
    404, b'{"error":{"type":"invalid_request_error","message":"no","param":"id"}}', ""
)
REJECTED = Answer(401, b'{"error":{"type":"invalid_request_error","message":"key"}}', "")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (NOT_FOUND, "charge_not_found"),
        (REJECTED, "charge_not_asked"),
        (Lost("timeout"), "charge_not_asked"),
    ],
    ids=["not found", "rejected", "no answer"],
)
async def test_an_event_does_not_wait_for_ever(
    stage: Stage,
    answer: Any,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What Ping++ does not confirm within a day, or denies, is given to a person (I13)."""
    event = await _early_refund(stage)
    _answer_gets(monkeypatch, answer)
    await stage.look(limits.UNKNOWN_PATIENCE // timedelta(minutes=10) + 2, pause_s=600)
    stored = await stage.stored(event)
    assert (stored.standing, stored.due_at) == (EventStanding.PARKED, None)
    assert stored.reason == reason
    assert logged(caplog, "event_parked") == 1


async def test_a_database_that_is_away_is_no_attempt_in_vain(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever brings an event, or applies one, hears of it; the event goes on waiting."""
    event = await _early_refund(stage)
    stage.world.lookalike.pay(await stage.charge("order-2"))

    async def away(*_: Any) -> Any:
        raise StorageUnavailable

    monkeypatch.setattr(stage.world.disk, "commit", away)
    with pytest.raises(StorageUnavailable):
        await stage.record(stage.event("charge.succeeded"))
    with pytest.raises(StorageUnavailable):
        await apply_event.apply_waiting(stage.inbox._ports, await stage.stored(event))
    stored = await stage.stored(event)
    assert (stored.standing, stored.reason) == (EventStanding.WAITING, "charge_not_paid_yet")


async def test_an_event_that_is_lost_before_it_is_read_is_brought_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database has its id, and after a failover it has not: no answer says it is kept."""

    async def there(*_: Any) -> bool:
        return False

    monkeypatch.setattr(stage.world.disk, "record_event", there)
    with pytest.raises(StorageUnavailable):
        await stage.record(sample_event("order.succeeded", livemode=False))


@pytest.mark.parametrize("event", ["charge.succeeded", "order.succeeded"])
async def test_a_repeat_is_known_for_a_moment_without_the_database(
    stage: Stage, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After that a failover may have lost what was on disk, and it is asked again."""
    stage.world.lookalike.pay(await stage.charge())
    body = stage.event(event) if event.startswith("charge") else sample_event(event, livemode=False)
    recorded = await stage.record(body)

    async def away(*_: Any) -> Any:
        raise StorageUnavailable

    for name in ("find", "load", "event", "record_event"):
        monkeypatch.setattr(stage.world.disk, name, away)
    stage.world.pass_time(limits.EVENT_MEMORY.total_seconds() - 1)
    again = await stage.record(body)
    assert again.outcome is EventOutcome.DUPLICATE
    assert again.event.event_id == recorded.event.event_id
    stage.world.pass_time(1)
    with pytest.raises(StorageUnavailable):
        await stage.record(body)


async def test_parking_does_not_overtake_another_process(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Just before an event is parked, a newer Midas applies it: applied it stays."""
    stage.world.lookalike.pay(await stage.charge())
    event = stage.event("charge.succeeded")

    def defect(*_: Any) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as older:
        older.setattr(Draft, "observe_charge", defect)
        await stage.record(event)
        await stage.look(limits.EVENT_ATTEMPTS - 1)
        ports = stage.inbox._ports
        (due,) = await ports.store.claim_events(1, limits.EVENT_CLAIM)
        looked = type(ports.store).event
        mended = False

        async def apply_after_looking(store: Any, event_id: str) -> EventRecord | None:
            nonlocal mended
            found = await looked(store, event_id)
            if not mended:
                mended = True
                older.undo()
                await apply_event.apply_waiting(ports, due)
            return found

        older.setattr(type(ports.store), "event", apply_after_looking)
        await apply_event.apply_waiting(ports, due)
    assert mended
    assert (await stage.stored(event)).standing is EventStanding.APPLIED
    assert logged(caplog, "event_parked") == 0
    assert await stage.notices() == ["PAY_ORDER_SUCCESS"]


async def test_the_inbox_goes_on_by_itself(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` outlasts a database that is away, pauses ever longer, and then applies what waits."""
    event = await _early_refund(stage)
    pauses: list[float] = []
    done = asyncio.Event()

    class Clock(VirtualClock):
        async def sleep(self, seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 7:
                stage.world.disk.claim_events = claim  # type: ignore[method-assign]
            if (await stage.stored(event)).standing is EventStanding.APPLIED:
                done.set()
            await asyncio.sleep(0)

    async def away(limit: int, hold: timedelta) -> list[EventRecord]:
        raise StorageUnavailable

    claim = stage.world.disk.claim_events
    monkeypatch.setattr(stage.world.disk, "claim_events", away)
    ports = replace(stage.world.payments.ports, clock=Clock(stage.world))
    running = asyncio.create_task(Inbox(ports).run())
    await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert pauses == [2, 4, 8, 16, 30, 30, 30, 1]
    assert await stage.notices() == ["PAY_ORDER_SUCCESS", "REFUND_SUCCESS"]


async def test_a_restart_forgets_nothing(stage: Stage) -> None:
    """A process that has just started finds every event on disk: ignored and waiting ones too."""
    waiting = await _early_refund(stage)
    ignored = sample_event("order.succeeded", livemode=False)
    await stage.record(ignored)
    stage.restart()
    for event in (waiting, ignored):
        again = await stage.record(event)
        assert again.outcome is EventOutcome.DUPLICATE
        assert again.event == await stage.stored(event)
