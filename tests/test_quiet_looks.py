"""Looks that learn nothing write nothing: no version, no journal line, however often."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from midas.charge import ChargeState
from midas.draft import Draft
from midas.errors import OutcomeUnknown
from midas.ports import KeyKind
from midas.psp.transport import Lost
from midas.sandbox.forgery import compact
from tests.faults.chooser import Chooser
from tests.faults.scenarios import ALIPAY, BAR_CODE, TERMS, a_part, insist_on_charge
from tests.faults.world import FaultyWire, World
from tests.records import intent

KEY = TERMS.order_no


async def pending(world: World) -> None:
    """The payer has not paid yet."""
    await insist_on_charge(world, TERMS)


async def paid(world: World) -> None:
    """The order is paid."""
    await pending(world)
    world.pay_everything()


async def closed(world: World) -> None:
    """The payer's time is over."""
    await pending(world)
    world.pass_time(3 * 3600)


async def refunded_in_part(world: World) -> None:
    """A refund is done, and another one was made elsewhere."""
    await paid(world)
    await world.payments.refund(a_part(world))
    world.lookalike.refund_at_dashboard(world.handed_out[0], 5)


async def refunded(world: World) -> None:
    """Nothing of it is left."""
    await paid(world)
    await world.payments.refund(replace(a_part(world), amount=0))


async def reversed_by_the_channel(world: World) -> None:
    """It was paid, and the channel gave the money back."""
    made = await world.payments.charge(BAR_CODE)
    assert made.charge.state is ChargeState.SUCCEEDED
    world.alter = {"paid": True, "reversed": True}


async def quarantined(world: World) -> None:
    """Ping++ tells of another amount than was asked for."""
    await paid(world)
    world.alter = {"amount": 1}


async def contradicted(world: World) -> None:
    """It is paid, and Ping++ says all at once that it was closed."""
    await paid(world)
    await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    world.alter = {"paid": False, "reversed": True}


async def superseded(world: World) -> None:
    """One charge was closed and another one is open."""
    await pending(world)
    await world.payments.charge(ALIPAY)


Story = Callable[[World], Awaitable[None]]
STORIES: list[Story] = [
    *(pending, paid, closed, refunded_in_part, refunded),
    *(reversed_by_the_channel, quarantined, contradicted, superseded),
]


@pytest.fixture
def world() -> World:
    """Nothing goes wrong by itself."""
    return World(Chooser((), most_faults=0), TERMS)


def test_a_copy_that_says_the_same_is_no_change() -> None:
    """A record is compared by its value, however it came about."""
    change = intent("order-1")
    draft = Draft(change.after)
    draft.put(replace(change.after.charges[0]))
    assert draft.change("c1") is None


@pytest.mark.parametrize("story", STORIES, ids=[each.__name__ for each in STORIES])
async def test_a_query_that_learns_nothing_writes_nothing(story: Story, world: World) -> None:
    """The first one may; those after it commit nothing at all."""
    await story(world)
    await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    commits, order = len(world.commits), await world.order()
    for _ in range(3):
        world.pass_time(60)
        await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    assert world.commits[commits:] == []
    assert await world.order() == order


@pytest.mark.parametrize("kind", ["charge", "refund"])
async def test_a_query_that_is_not_answered_writes_nothing(
    kind: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is unknown as before, and callers ask as often as they like."""
    if kind == "refund":
        await paid(world)

    send = FaultyWire.send

    async def some_are_lost(self, request, limit):  # type: ignore[no-untyped-def]
        unanswered = request.method == "POST" or "?" in request.url  # a list
        return Lost("timeout") if unanswered else await send(self, request, limit)

    monkeypatch.setattr(FaultyWire, "send", some_are_lost)
    terms = a_part(world)
    call = world.payments.refund(terms) if kind == "refund" else world.payments.charge(ALIPAY)
    with pytest.raises(OutcomeUnknown):
        await call
    world.pass_time(60)
    commits = len(world.commits)
    for _ in range(3):
        await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    assert world.commits[commits:] == []


async def test_a_refund_is_two_commits(world: World) -> None:
    """The intent and the answer; the look before it has learnt nothing new."""
    await paid(world)
    await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    commits = len(world.commits)
    await world.payments.refund(a_part(world))
    lines = [[each.event for each in change.journal] for change in world.commits[commits:]]
    assert lines == [["refund_intended"], ["refund_succeeded"]]


@pytest.mark.parametrize("kind", ["charge.succeeded", "refund.succeeded"])
async def test_a_webhook_that_only_confirms_is_its_own_row_alone(kind: str, world: World) -> None:
    """The event is on disk; of the charge or refund there is no line and no new value."""
    await paid(world)
    await world.payments.refund(a_part(world))
    (body,) = (compact(each) for each in world.lookalike.events.values() if each["type"] == kind)
    before = await world.order()
    await world.inbox.record(body)
    change = world.commits[-1]
    assert len(change.new_events) == 1
    assert (change.journal, change.changed_charges, change.changed_refunds) == ((), (), ())
    assert (await world.order()).charges == before.charges


async def test_another_contradiction_is_written_down(world: World) -> None:
    """The same again is nothing new; something else is, with its own line."""
    await contradicted(world)
    for alter in ({"reversed": True}, {"reversed": True}, {"reversed": False, "amount": 1}):
        world.alter = {"paid": False, **alter}
        await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    lines = [each.event for each in world.disk.disk.journal[KEY]][-2:]
    assert lines == ["charge_contradicted", "charge_quarantined"]
