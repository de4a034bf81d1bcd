"""R6: clocks that are ahead, behind, or set while a payment is open end nothing that can be paid.

Ping++'s clock is right in these stories; the database's is wrong.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from midas.charge import Charge, ChargeState, ChargeTerms
from midas.limits import EXPIRY_GRACE, SETTLE_WINDOW
from midas.ports import KeyKind
from tests.faults.chooser import Chooser
from tests.faults.scenarios import ALIPAY, TERMS, insist_on_charge
from tests.faults.world import Failed, World

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
AN_HOUR_LONG = replace(TERMS, channel="applepay_upacp", extra={})
"""It lasts for an hour and cannot be reversed."""
REVERSIBLE = replace(AN_HOUR_LONG, channel="upacp")


def a_world(terms: ChargeTerms, *, ahead_s: float = 0.0) -> World:
    """Nothing goes wrong but the clocks."""
    world = World(Chooser((), most_faults=0), terms)
    world.step_clock(ahead_s)
    world.start()
    return world


async def looked_at(world: World) -> Charge:
    """The order's first charge, once Ping++ was asked about it."""
    key = world.terms.order_no
    assert not isinstance(await world.ask(lambda p: p.query(KeyKind.ORDER_NO, key, True)), Failed)
    return (await world.order()).charges[0]


def payable(world: World) -> int:
    """How many charges the payer could pay now."""
    shown = world.lookalike.newest_charges(10)
    unpaid = [each for each in shown if not each["paid"] and not each["reversed"]]
    return sum(not world.lookalike.is_expired(each["id"]) for each in unpaid)


@pytest.mark.parametrize("terms", [AN_HOUR_LONG, REVERSIBLE], ids=["for good", "reversible"])
@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S, DAY_S, -DAY_S])
async def test_three_identical_charges_are_one(terms: ChargeTerms, ahead_s: float) -> None:
    """With any time of our own clock, the payer gets the same charge while he can pay it (I1)."""
    world = a_world(terms, ahead_s=ahead_s)
    for minute in range(3):
        assert await insist_on_charge(world, terms) is not None, minute
        world.pass_time(60)
    assert len(world.lookalike.newest_charges(10)) == 1
    assert payable(world) == 1


@pytest.mark.parametrize("ahead_s", [HOUR_S, 0.0])
async def test_what_is_over_is_not_handed_out(ahead_s: float) -> None:
    """Once the payer's time is over by Ping++'s clock, the same terms make another charge."""
    world = a_world(AN_HOUR_LONG, ahead_s=ahead_s)
    first = await insist_on_charge(world, AN_HOUR_LONG)
    world.pass_time(HOUR_S)
    second = await insist_on_charge(world, AN_HOUR_LONG)
    assert first is not None
    assert second is not None
    assert second.charge.out_trade_no != first.charge.out_trade_no
    assert payable(world) == 1


async def test_a_payment_is_found_where_our_clock_thinks_that_time_is_over() -> None:
    """Ping++ is asked before a charge is handed out again, so its payment is not overlooked."""
    world = a_world(AN_HOUR_LONG, ahead_s=HOUR_S)
    await insist_on_charge(world, AN_HOUR_LONG)
    world.pay_everything()
    again = await world.ask(lambda payments: payments.charge(AN_HOUR_LONG))
    assert isinstance(again, Failed)
    assert (await world.order()).charges[0].state is ChargeState.SUCCEEDED


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S])
async def test_an_hour_apart(ahead_s: float) -> None:
    """It stays open to its very end by Ping++'s clock, and is closed soon after (I5, I13)."""
    world = a_world(AN_HOUR_LONG, ahead_s=ahead_s)
    await insist_on_charge(world, AN_HOUR_LONG)
    world.pass_time(HOUR_S - 1)
    assert (await looked_at(world)).state is ChargeState.PENDING
    world.pass_time(HOUR_S + EXPIRY_GRACE.total_seconds() + 1)
    assert (await looked_at(world)).state is ChargeState.CLOSED


async def test_ping_pps_clock_outdoes_a_step() -> None:
    """The database's clock is set two days ahead: what can still be paid is not closed (I5)."""
    world = a_world(ALIPAY)
    await insist_on_charge(world, ALIPAY)
    world.pass_time(2 * DAY_S)  # the process has run for long
    world.lookalike.reset()
    world.terms = replace(ALIPAY, order_no="order-2")
    await insist_on_charge(world, world.terms)
    world.step_clock(2 * DAY_S)
    assert (await looked_at(world)).state is ChargeState.PENDING
    world.pass_time(DAY_S + EXPIRY_GRACE.total_seconds())
    assert (await looked_at(world)).state is ChargeState.CLOSED


async def test_one_answer_is_enough_to_delay_an_end() -> None:
    """A quiet shop: the only answer for days has the date (I5)."""
    world = a_world(ALIPAY)
    await insist_on_charge(world, ALIPAY)
    books = world.lookalike._books
    stands_still = books.now()
    books.now = lambda: stands_still
    world.pass_time(2 * DAY_S)
    assert (await looked_at(world)).state is ChargeState.PENDING


async def test_a_step_makes_no_second_charge() -> None:
    """The clock is set ahead, and the caller repeats its call: Ping++'s clock decides (I1)."""
    world = a_world(AN_HOUR_LONG)
    await insist_on_charge(world, AN_HOUR_LONG)
    world.step_clock(2 * DAY_S)
    await insist_on_charge(world, AN_HOUR_LONG)
    assert len(world.lookalike.newest_charges(10)) == 1


async def test_a_step_between_two_processes() -> None:
    """While Ping++'s clock is not known, only time in which this process ran counts (I5, I13)."""
    world = a_world(ALIPAY)
    world.dated = False
    await insist_on_charge(world, ALIPAY)
    world.step_clock(2 * DAY_S)
    world.start()
    assert (await looked_at(world)).state is ChargeState.PENDING
    world.pass_time(DAY_S + EXPIRY_GRACE.total_seconds())
    assert (await looked_at(world)).state is ChargeState.CLOSED


async def test_a_step_ends_no_settle_window() -> None:
    """What is absent may still arrive, also if the clock was set meanwhile (I5)."""
    chooser = Chooser((0, 2), most_faults=1)  # the POST is lost on its way
    world = World(chooser, ALIPAY)
    await world.ask(lambda payments: payments.charge(ALIPAY))
    assert chooser.faults == [("POST charges", "lost_request")]
    world.pass_time(120)
    await world.payments.resolve_due()
    assert (await world.order()).charges[0].absent_since is not None
    world.step_clock(6 * HOUR_S)
    world.start()
    await world.payments.resolve_due()
    assert (await world.order()).charges[0].state is ChargeState.SUBMITTING
    world.pass_time(SETTLE_WINDOW.total_seconds() + timedelta(minutes=5).total_seconds())
    await world.payments.resolve_due()
    assert (await world.order()).charges[0].state is ChargeState.FAILED
