"""A failover loses what was finished already: no flow has it in hand, and the process remembers it.

Charged, paid, announced and forgotten within the last second before the failover: nobody would know
such an order any more, while Ping++ has the money and the order service believes it (I7, D3).
"""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from midas.charge import ChargeState
from midas.draft import Draft
from midas.flows.lost import NOT_RESTORED
from midas.payment import Order
from midas.ports import KeyKind
from midas.psp.transport import NotSent, Sent
from midas.refund import RefundState
from tests.fakes.store import Disk
from tests.faults.chooser import Chooser
from tests.faults.scenarios import TERMS, a_part, insist_on_charge
from tests.faults.world import FaultyWire, World
from tests.records import NOON, a_charge, a_refund

KEY = TERMS.order_no
OPEN = {"SUBMITTING", "PENDING"}


async def charged() -> World:
    """A world in which the payer pays, and Midas does not know it yet."""
    world = World(Chooser((), most_faults=0), TERMS)
    await insist_on_charge(world, TERMS)
    return world


async def paid() -> World:
    """The same once Midas knows it."""
    world = await charged()
    await pay(world)
    return world


async def pay(world: World) -> None:
    """The payer pays, and Midas learns it."""
    world.pay_everything()
    await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Who was called to what."""
    found = [vars(each) for each in caplog.records if each.message == "operator_needed"]
    assert {each["order_no"] for each in found} <= {KEY}
    return [each["kind"] for each in found]


async def test_an_order_that_was_lost_as_a_whole_is_put_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody asks for it, and it is there again, announced again, and a person is called."""
    world = await paid()
    await world.payments.refund(a_part(world))
    before = await world.order()
    world.disk.disk = Disk()
    await world.payments.resolve_due()
    after = await world.order()
    assert [each.state for each in after.charges] == [each.state for each in before.charges]
    assert [each.refund_no for each in after.refunds] == [each.refund_no for each in before.refunds]
    assert alarms(caplog) == ["charge_restored", "refund_restored"]
    notices = await world.disk.notifications(KEY)
    assert [each.kind for each in notices] == ["PAY_ORDER_SUCCESS", "REFUND_SUCCESS"]
    assert all(each.told_again for each in notices)


async def test_a_refund_that_was_lost_is_put_back(caplog: pytest.LogCaptureFixture) -> None:
    """The order is there as it was before the refund."""
    world = await paid()
    standby = world.disk.disk.copy()
    await world.payments.refund(a_part(world))
    world.disk.disk = standby
    await world.payments.resolve_due()
    (refund,) = (await world.order()).refunds
    assert refund.state is RefundState.SUCCEEDED
    assert alarms(caplog) == ["refund_restored"]


async def test_a_payment_that_was_lost_is_asked_about(caplog: pytest.LogCaptureFixture) -> None:
    """The charge is there, pending as it was: its webhook was taken and will not come again."""
    world = await charged()
    standby = world.disk.disk.copy()
    await pay(world)
    world.disk.disk = standby
    await world.payments.resolve_due()
    (charge,) = (await world.order()).charges
    assert charge.state is ChargeState.SUCCEEDED
    assert not alarms(caplog)
    assert [each.message for each in caplog.records if "lost" in each.message] == ["commit_lost"]


async def test_what_cannot_be_found_out_calls_a_person(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ping++ is away at that moment."""
    world = await charged()
    standby = world.disk.disk.copy()
    await pay(world)
    world.disk.disk = standby

    async def away(*_: Any) -> Sent:
        return NotSent("refused")

    monkeypatch.setattr(FaultyWire, "send", away)
    await world.payments.resolve_due()
    assert alarms(caplog) == [NOT_RESTORED]


async def test_what_a_later_commit_did_not_find_is_put_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Another process makes a charge after the failover, and this one commits to it unawares.

    What it knew of the order is not forgotten by that: the lost charge is paid, and so is the other
    one, which makes it a duplicate payment.
    """
    world = await paid()
    (lost,) = (await world.order()).charges
    world.disk.disk = Disk()
    made = await world.another_process().charge(TERMS)
    world.lookalike.pay(str(made.charge.charge_id))
    known, _ = await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    assert [each.out_trade_no for each in known.charges] == [made.charge.out_trade_no]
    await world.payments.resolve_due()
    order = await world.order()
    again = order.charge(lost.out_trade_no)
    assert (again.state, again.duplicate_payment) == (ChargeState.SUCCEEDED, True)
    assert not order.charge(made.charge.out_trade_no).duplicate_payment
    notice = (await world.disk.notifications(KEY))[-1]
    assert (notice.out_trade_no, notice.duplicate_payment) == (lost.out_trade_no, True)
    assert alarms(caplog) == ["charge_restored"]


@pytest.mark.parametrize("refunded", [40, 100])
@pytest.mark.parametrize("came_meanwhile", [False, True])
def test_which_payment_is_put_back_as_a_duplicate(refunded: int, came_meanwhile: bool) -> None:
    """One that holds money, beside one that holds money and that the process did not know of."""
    first, second = (
        replace(a_charge("o1", out_trade_no=each), state=ChargeState.SUCCEEDED) for each in "12"
    )
    refund = replace(a_refund(first, amount=refunded), state=RefundState.SUCCEEDED)
    known = Order("o1", charges=(first,), refunds=(refund,))
    if not came_meanwhile:
        known = replace(known, charges=(first, second))
    draft = Draft(Order("o1", charges=(second,) if came_meanwhile else ()))
    draft.restore(known, NOON)
    flags = [each.duplicate_payment for each in draft.order.charges]
    assert flags == [came_meanwhile and refunded < first.amount, False]


async def test_it_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not at all while nothing may be lost; each further failover is looked at again."""
    world = await paid()
    loads: list[str] = []
    load = world.disk.load

    async def counted(order_no: str) -> Order:
        loads.append(order_no)
        return await load(order_no)

    monkeypatch.setattr(world.disk, "load", counted)
    await world.payments.resolve_due()
    assert not loads
    for number in (1, 2):
        world.disk.disk = world.disk.disk.copy()
        await world.payments.resolve_due()
        await world.payments.resolve_due()
        assert loads == [KEY] * number


async def test_another_process_knows_nothing_of_it() -> None:
    """What is lost with the process that had it is left to a look through Ping++'s lists."""
    world = await paid()
    world.disk.disk = Disk()
    await world.another_process().resolve_due()
    assert not (await world.order()).charges


@pytest.mark.parametrize(("now", "known"), list(product(ChargeState, repeat=2)))
def test_a_charge_is_behind_where_it_is_open_again(now: ChargeState, known: ChargeState) -> None:
    """That it is further than this process knows is as it should be."""
    charge = a_charge("o1")
    here, before = (Order("o1", charges=(replace(charge, state=state),)) for state in (now, known))
    assert here.is_behind(before) is (now in OPEN and known not in OPEN)
    assert here.has_lost(before) is here.is_behind(before)
    assert Order("o1").has_lost(before)
    assert not here.has_lost(Order("o1"))


@pytest.mark.parametrize(("now", "known"), list(product(RefundState, repeat=2)))
def test_a_refund_is_behind_where_it_is_open_again(now: RefundState, known: RefundState) -> None:
    """The same, beside a charge that is not."""
    charge = replace(a_charge("o1"), state=ChargeState.SUCCEEDED)
    refund = a_refund(charge)
    here, before = (
        Order("o1", charges=(charge,), refunds=(replace(refund, state=state),))
        for state in (now, known)
    )
    assert here.is_behind(before) is (now in OPEN and known not in OPEN)
    assert here.has_lost(before) is here.is_behind(before)
    assert Order("o1", charges=(charge,)).has_lost(before)


async def test_a_surprise_ends_neither_the_resolver_nor_the_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect that one order runs into must not leave the unknown unresolved for ever (I13)."""
    world = await charged()
    standby = world.disk.disk.copy()
    await pay(world)
    world.disk.disk = standby

    async def defect(*_: Any) -> Order:
        raise ZeroDivisionError

    monkeypatch.setattr("midas.flows.lost.load_again", defect)
    await world.payments.resolve_due()
    assert alarms(caplog) == [NOT_RESTORED]
