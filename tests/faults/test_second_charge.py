"""Ping++ has a second charge under one number of ours: booked, announced, refundable (I1).

Where the window of repetitions is a minute, a post that comes after it makes one (pingpp.md 8).
"""

import json
import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from midas.charge import Charge, ChargeState, ObservedBy
from midas.draft import Draft
from midas.errors import OrderAlreadyPaid, OutcomeUnknown, RefundNotAllowed
from midas.flows.commit import commit
from midas.flows.observe import charge_observation
from midas.ports import Done, KeyKind
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Sent
from midas.refund import RefundState
from midas.sandbox.forgery import compact
from tests.faults.chooser import Chooser
from tests.faults.scenarios import ALIPAY, TERMS, a_part
from tests.faults.world import Failed, FaultyWire, World

KEY = ALIPAY.order_no


async def two_charges() -> tuple[World, str, str]:
    """A world with one charge here, two of its number at Ping++, and their ids."""
    world = World(Chooser((), most_faults=0), ALIPAY)
    first = (await world.payments.charge(ALIPAY)).charge
    world.pass_time(61)
    world.listens = True
    return world, first.charge_id or "", await posted_again(world, first)


async def posted_again(world: World, charge: Charge) -> str:
    """A request that was long on its way."""
    made = await world.payments.ports.psp.create_charge(charge)
    assert isinstance(made, Done)
    assert made.answer.out_trade_no == charge.out_trade_no
    assert made.answer.charge_id != charge.charge_id
    return made.answer.charge_id


async def pays(world: World, charge_id: str) -> None:
    """The payer pays it, and Ping++'s webhook arrives."""
    world.lookalike.pay(charge_id)
    event = list(world.lookalike.events.values())[-1]
    await world.inbox.record(compact(event))


async def found_by_midas(world: World, charge_id: str) -> None:
    """Midas finds it by itself, in a list or in the answer to a post."""
    order, ports = await world.order(), world.payments.ports
    shown = await ports.psp.retrieve_charge(charge_id)
    assert isinstance(shown, Done)
    observation = charge_observation(ports, order.charges[0], shown.answer, ObservedBy.RESOLVE)
    number = order.charges[0].out_trade_no
    await commit(ports, order, lambda draft: draft.observe_charge(number, observation))


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a person was called for."""
    found = [each for each in caplog.records if each.levelno == logging.ERROR]
    return [vars(each)["kind"] for each in found if each.message == "operator_needed"]


async def by_id(world: World, charge_id: str) -> Charge:
    """The row that has this id of Ping++'s."""
    order = await world.order()
    return next(each for each in order.charges if each.charge_id == charge_id)


async def test_the_second_payment_is_a_duplicate_and_can_be_refunded(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has a row of its own, is announced, and is given back by its charge_id."""
    world, first, second = await two_charges()
    await pays(world, first)
    await pays(world, second)
    assert alarms(caplog) == ["charge_doubled"]
    one, two = await by_id(world, first), await by_id(world, second)
    assert (one.state, one.duplicate_payment, one.operator_reason) == ("SUCCEEDED", False, "")
    assert (two.state, two.duplicate_payment, two.out_trade_no) == ("SUCCEEDED", True, second)
    notifications = await world.disk.notifications(KEY)
    assert [(n.kind, n.out_trade_no, n.duplicate_payment) for n in notifications] == [
        ("PAY_ORDER_SUCCESS", one.out_trade_no, False),
        ("PAY_ORDER_SUCCESS", second, True),
    ]
    with pytest.raises(RefundNotAllowed, match="RefundNotAllowed"):
        await world.payments.refund(a_part(world))
    back = replace(a_part(world), order_no="", charge_id=second, amount=0)
    done = (await world.payments.refund(back)).refund
    assert (done.state, done.out_trade_no, done.amount) == (RefundState.SUCCEEDED, second, 100)
    assert world.lookalike.charge(second)["amount_refunded"] == 100
    refunded = list(world.lookalike.events.values())[-1]
    await world.inbox.record(compact(refunded))
    assert len((await world.order()).refunds) == 1
    with pytest.raises(OrderAlreadyPaid):
        await world.payments.charge(ALIPAY)


async def test_found_again_it_is_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """One row, one alarm, one message, however often it is found; a query asks about it, too."""
    world, first, second = await two_charges()
    await pays(world, first)
    await pays(world, second)
    order = await world.order()
    event = list(world.lookalike.events.values())[-1]
    await world.inbox.record(compact({**event, "id": "evt_again"}))
    await found_by_midas(world, second)
    await world.payments.query(KeyKind.CHARGE_ID, second, refresh=True)
    await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    after = await world.order()
    assert (after.charges, after.last_sequence) == (order.charges, order.last_sequence)
    assert alarms(caplog) == ["charge_doubled"]


async def refunded_unknown() -> tuple[World, str, str]:
    """The second one is paid and given back, and only the webhook of the refund has come."""
    world, first, second = await two_charges()
    world.lookalike.pay(second)
    world.lookalike.refund_at_dashboard(second, 100)
    await world.inbox.record(compact(list(world.lookalike.events.values())[-1]))
    assert [each.operator_reason for each in (await world.order()).charges] == [""]
    return world, first, second


async def test_the_webhook_of_its_refund_may_come_before_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ping++ is asked for it: both are booked, and the first one stays as it is."""
    world, first, second = await refunded_unknown()
    await world.inbox.apply_due()
    order, two = await world.order(), await by_id(world, second)
    assert two.state is ChargeState.SUCCEEDED
    assert [each.out_trade_no for each in order.refunds] == [two.out_trade_no]
    assert [each.state for each in order.refunds] == [RefundState.SUCCEEDED]
    assert (await by_id(world, first)).operator_reason == ""
    assert alarms(caplog) == ["charge_doubled"]


async def test_a_refund_of_what_does_not_match_is_quarantined() -> None:
    """The charge has our number and another amount: nothing of it is booked, a person is called."""
    world, first, second = await refunded_unknown()
    world.alter = {"amount": 7}
    await world.inbox.apply_due()
    order = await world.order()
    assert order.refunds == ()
    assert second in (await by_id(world, first)).operator_reason


async def test_an_unpaid_second_one_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    """No notification names it; the first one can be paid as before."""
    world, first, second = await two_charges()
    await found_by_midas(world, second)
    assert alarms(caplog) == ["charge_doubled"]
    assert not (await by_id(world, second)).is_open
    again = await world.payments.charge(ALIPAY)
    assert again.charge.charge_id == first
    await world.payments.resolve_due()
    assert world.lookalike.charge(second)["reversed"]
    assert (await by_id(world, second)).state is ChargeState.CLOSED
    assert await world.disk.notifications(KEY) == []
    await pays(world, first)
    assert not (await by_id(world, first)).duplicate_payment


async def test_when_the_second_one_is_paid_the_first_one_is_closed() -> None:
    """The order is paid by it, and the payer shall not pay again."""
    world, first, second = await two_charges()
    await pays(world, second)
    two = await by_id(world, second)
    assert (two.state, two.duplicate_payment) == (ChargeState.SUCCEEDED, False)
    with pytest.raises(OrderAlreadyPaid):
        await world.payments.charge(ALIPAY)
    await world.payments.resolve_due()
    assert world.lookalike.charge(first)["reversed"]
    assert (await by_id(world, first)).state is ChargeState.CLOSED
    assert len(await world.disk.notifications(KEY)) == 1


async def test_a_payment_that_comes_before_the_closing_is_the_duplicate() -> None:
    """Both are paid before anybody could close one."""
    world, first, second = await two_charges()
    await pays(world, second)
    await pays(world, first)
    one, two = await by_id(world, first), await by_id(world, second)
    assert (one.duplicate_payment, two.duplicate_payment) == (True, False)


async def test_the_answer_to_our_own_post_may_be_the_second_one() -> None:
    """The first was learnt from a webhook meanwhile: the payer is not handed out the other one."""
    world = World(Chooser((), most_faults=0), ALIPAY)

    async def another_arrives() -> None:
        world.on_charged = None
        order = await world.order()
        (made,) = world.lookalike.newest_charges(1)
        shown = await world.payments.ports.psp.retrieve_charge(made["id"])
        assert isinstance(shown, Done)
        facts = replace(shown.answer, charge_id="ch_first", has_credential=False)
        observation = charge_observation(
            world.payments.ports, order.charges[0], facts, ObservedBy.RESOLVE
        )
        number = order.charges[0].out_trade_no
        await commit(
            world.payments.ports,
            order,
            lambda draft: draft.observe_charge(number, observation),
        )

    world.on_charged = another_arrives
    asked = await world.ask(lambda p: p.charge(ALIPAY))
    assert isinstance(asked, Failed)
    assert isinstance(asked.error, OutcomeUnknown)
    order = await world.order()
    assert len(order.charges) == 2
    assert [each.is_second for each in order.charges].count(True) == 1
    assert all(each.superseded is each.is_second for each in order.charges)


async def test_a_repetition_may_be_answered_with_the_second_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first one is handed out again, or none of the two."""
    world = World(Chooser((), most_faults=0), TERMS)
    first = await world.payments.charge(TERMS)
    draft = Draft(first.order)
    draft.put(replace(first.charge, answer=None))
    change = draft.change(world.disk.new_change_id())
    assert change is not None
    assert await world.disk.commit(change)
    send, altered = FaultyWire.send, list[str]()

    async def answer_once(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        answer = await send(self, request, limit)
        if request.method == "GET" or altered or not isinstance(answer, Answer):
            return answer
        altered.append(request.url)
        content = {**json.loads(answer.body), "id": "ch_second"}
        return replace(answer, body=json.dumps(content).encode())

    monkeypatch.setattr(FaultyWire, "send", answer_once)
    again = await world.payments.charge(TERMS)
    assert altered
    assert again.charge.charge_id not in ("ch_second", None)
    assert json.loads(again.charge_json)["id"] == again.charge.charge_id


@pytest.mark.parametrize("field", ["amount", "app", "livemode", "currency"])
async def test_another_ones_charge_is_no_second_one(field: str) -> None:
    """What differs in more than its id is quarantined, as ever."""
    world, first, second = await two_charges()
    world.lookalike.pay(second)
    event = json.loads(compact(list(world.lookalike.events.values())[-1]))
    others = {"amount": 7, "app": "app_2", "livemode": True, "currency": "usd"}
    event["data"]["object"][field] = others[field]
    await world.inbox.record(json.dumps(event).encode())
    (charge,) = (await world.order()).charges
    assert charge.charge_id == first
    assert (charge.state, bool(charge.operator_reason)) == (ChargeState.PENDING, field != "app")


async def test_a_second_one_that_another_order_has_is_quarantined() -> None:
    """Its id is in a row of that order: no row of this one can have it."""
    world, _, second = await two_charges()
    taken = await world.payments.charge(replace(ALIPAY, order_no="order-2"))
    order = await world.disk.load("order-2")
    moved = replace(taken.charge, charge_id=second)
    world.disk.disk.orders["order-2"] = replace(order, charges=(moved,))
    world.disk.disk.owners[KeyKind.CHARGE_ID, second] = "order-2"
    await found_by_midas(world, second)
    (charge,) = (await world.order()).charges
    assert "charge_id" in charge.operator_reason
