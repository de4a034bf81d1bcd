"""Ping++ answers with a charge or refund that another row has already: quarantined, never lost.

The same with a row of this order and with one of another, which only the database knows.
"""

import asyncio
import json
import logging
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from midas.charge import ChargeState
from midas.draft import Draft
from midas.errors import OutcomeUnknown
from midas.event import EventStanding
from midas.payment import Order
from midas.ports import KeyKind
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Sent
from midas.refund import RefundState
from tests.faults.chooser import Chooser
from tests.faults.scenarios import ALIPAY, TERMS, a_part
from tests.faults.world import Failed, FaultyWire, World

KEY = TERMS.order_no
OTHER = "order-2"


async def paid(*orders: str) -> World:
    """A world in which these orders are paid, and known to be."""
    world = World(Chooser((), most_faults=0), TERMS)
    for order_no in orders:
        opened = await world.payments.charge(replace(TERMS, order_no=order_no))
        world.lookalike.pay(opened.charge.charge_id or "")
        await world.payments.query(KeyKind.ORDER_NO, order_no, refresh=True)
    return world


async def with_a_refund(whose: str) -> tuple[World, str]:
    """The order is paid, and there is a refund of it or of another one: its id."""
    owner = KEY if whose == "own" else OTHER
    world = await paid(KEY, OTHER)
    done = await world.payments.refund(replace(a_part(world, "r0"), order_no=owner))
    return world, done.refund.refund_id or ""


def answer_posts_with(patch: pytest.MonkeyPatch, psp_id: str) -> None:
    """What Ping++ makes is answered under an id that it has given away already."""
    send = FaultyWire.send

    async def sent(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        answer = await send(self, request, limit)
        if request.method != "POST" or not isinstance(answer, Answer):
            return answer
        return replace(answer, body=json.dumps({**json.loads(answer.body), "id": psp_id}).encode())

    patch.setattr(FaultyWire, "send", sent)


def journaled(world: World, event: str) -> list[dict[str, object]]:
    """The details of these lines of the order's journal."""
    return [dict(each.detail) for each in world.disk.disk.journal[KEY] if each.event == event]


WHOSE = pytest.mark.parametrize("whose", ["own", "another's"])


@WHOSE
async def test_a_refund_that_is_answered_with_one_that_is_booked(
    whose: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays unknown and reserved; the true reason is written down and a person called (I4)."""
    world, refund_id = await with_a_refund(whose)
    with monkeypatch.context() as patch:
        answer_posts_with(patch, refund_id)
        asked = await world.ask(lambda p: p.refund(a_part(world, "r1")))
    assert isinstance(asked, Failed)
    assert isinstance(asked.error, OutcomeUnknown)
    assert asked.error.needs_operator
    refund = (await world.order()).refund("r1")
    assert (refund.state, refund.refund_id) == (RefundState.SUBMITTING, None)
    assert refund_id in refund.operator_reason
    (detail,) = journaled(world, "refund_quarantined")
    assert (detail["refund_id"], detail["said"]) == (refund_id, "DONE")
    alarms = [vars(each) for each in caplog.records if each.levelno == logging.ERROR]
    assert "refund_quarantined" in {each.get("kind") for each in alarms}
    await world.settle()
    order = await world.order()
    assert order.refundable(order.charges[0]) == 100 - 40 * (2 if whose == "own" else 1)


@WHOSE
async def test_a_refund_in_the_list_that_another_charge_has(whose: str) -> None:
    """The others of the list are booked; that one calls a person, once, on the charge."""
    world = await paid(OTHER)
    if whose == "own":
        await world.payments.charge(replace(ALIPAY, order_no=KEY))
        opened = await world.payments.charge(TERMS)
    else:
        opened = await world.payments.charge(TERMS)
    charge_id = opened.charge.charge_id or ""
    world.lookalike.pay(charge_id)
    await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    booked = await _booked_elsewhere(world, whose)
    real = world.lookalike.refund_at_dashboard(charge_id, 5)
    foreign = {**real, "id": booked, "amount": 7}
    shown = {"object": "list", "has_more": False, "data": [foreign, real]}
    world.alter = {"refunds": shown}
    for _ in range(2):
        await world.payments.query(KeyKind.CHARGE_ID, charge_id, refresh=True)
    order = await world.order()
    charge = next(each for each in order.charges if each.charge_id == charge_id)
    assert [each.refund_id for each in order.refunds_of(charge.out_trade_no)] == [real["id"]]
    assert booked in charge.operator_reason
    (detail,) = journaled(world, "charge_quarantined")
    assert (detail["refund_id"], detail["amount"]) == (booked, 7)


async def _booked_elsewhere(world: World, whose: str) -> str:
    if whose == "another's":
        done = await world.payments.refund(replace(a_part(world, "r0"), order_no=OTHER))
        return done.refund.refund_id or ""
    order = await world.order()
    first, last = order.charges
    refund = (await world.payments.refund(a_part(world, "r0"))).refund
    order = await world.order()
    moved = replace(refund, out_trade_no=first.out_trade_no)
    world.disk.disk.orders[KEY] = replace(order, refunds=(moved,))
    assert last.out_trade_no != first.out_trade_no
    return refund.refund_id or ""


@WHOSE
async def test_a_charge_that_is_answered_with_one_that_is_booked(
    whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The charge stays unknown and blocks; what Ping++ reported is in the journal (I4)."""
    world = World(Chooser((), most_faults=0), TERMS)
    owner = replace(ALIPAY, order_no=KEY if whose == "own" else OTHER)
    first = await world.payments.charge(owner)
    charge_id = first.charge.charge_id or ""
    draft = Draft(first.order)
    draft.put(replace(first.charge, superseded=True), ("test", world.disk.clock, "TEST"))
    change = draft.change(world.disk.new_change_id())
    assert change is not None
    assert await world.disk.commit(change)
    answer_posts_with(monkeypatch, charge_id)
    asked = await world.ask(lambda p: p.charge(TERMS))
    assert isinstance(asked, Failed)
    assert isinstance(asked.error, OutcomeUnknown)
    assert asked.error.needs_operator
    charge = (await world.order()).charges[-1]
    assert (charge.state, charge.charge_id) == (ChargeState.SUBMITTING, None)
    assert charge_id in charge.operator_reason
    (detail,) = journaled(world, "charge_quarantined")
    assert (detail["charge_id"], detail["said"]) == (charge_id, "WAITING")


async def test_a_webhook_that_names_what_another_order_has(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The event is applied, and the quarantine has the reason; nothing waits or is parked."""
    world, refund_id = await with_a_refund("another's")
    world.listens = True
    charge_id = (await world.order()).charges[0].charge_id or ""
    world.lookalike.refund_at_dashboard(charge_id, 5)
    ((event_id, body),) = world.webhooks.owed.items()
    content = json.loads(body)
    content["data"]["object"]["id"] = refund_id
    await world.inbox.record(json.dumps(content).encode())
    event = await world.disk.event(event_id)
    assert event is not None
    assert event.standing is EventStanding.APPLIED
    assert refund_id in (await world.order()).charges[0].operator_reason


async def test_a_number_that_is_taken_is_drawn_again() -> None:
    """Nothing was sent yet, and the caller has no use for knowing."""
    world = World(Chooser((), most_faults=0), TERMS)
    taken = (await world.payments.charge(replace(TERMS, order_no=OTHER))).charge.out_trade_no
    numbers = iter([taken, "T0000000000000000002"])

    def draw(_: datetime) -> str:
        return next(numbers)

    world.payments.ports = replace(world.payments.ports, new_out_trade_no=draw)
    opened = await world.payments.charge(TERMS)
    assert opened.charge.out_trade_no == "T0000000000000000002"


async def test_two_answers_with_one_id_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two orders get the same refund in answer at once: one has it, one is quarantined."""
    world = await paid(KEY, OTHER)
    answer_posts_with(monkeypatch, "re_both")
    mine, theirs = a_part(world, "r1"), replace(a_part(world, "r2"), order_no=OTHER)
    asked = (world.ask(lambda p: p.refund(mine)), world.ask(lambda p: p.refund(theirs)))
    await asyncio.gather(*asked)
    orders = [await world.disk.load(order_no) for order_no in (KEY, OTHER)]
    assert sorted(map(_standing, orders)) == [("SUBMITTING", True), ("SUCCEEDED", False)]


def _standing(order: Order) -> tuple[str, bool]:
    (refund,) = order.refunds
    return refund.state, "booked already" in refund.operator_reason
