"""A claim of the resolver does not keep a caller from finding out."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from midas import limits
from midas.charge import ChargeState
from midas.draft import Draft
from midas.flows.terms import RefundTerms
from midas.refund import RefundState
from tests.faults.chooser import Chooser
from tests.faults.scenarios import TERMS, insist_on_charge
from tests.faults.world import TOTAL_TIMEOUT, Failed, World

IN_FLIGHT = TOTAL_TIMEOUT + timedelta(seconds=3)
SOON_S = 1.0


async def test_a_claimed_charge_is_found_out_by_the_caller() -> None:
    """The process that claimed it may be dead, or wait for the caller's own turn: no wait here."""
    world = World(Chooser((), most_faults=0), TERMS)
    await _crash_in_the_call(world, lambda: world.ask(lambda payments: payments.charge(TERMS)))
    await _claimed(world)
    before = world.seconds
    again = await world.ask(lambda payments: payments.charge(TERMS))
    assert not isinstance(again, Failed)
    assert again.charge.state is ChargeState.PENDING
    assert world.seconds - before < SOON_S


async def test_a_claimed_refund_is_found_out_by_the_caller() -> None:
    """The same for a refund that never arrived."""
    world = World(Chooser((), most_faults=0), TERMS)
    await insist_on_charge(world, TERMS)
    world.pay_everything()
    terms = RefundTerms("r1", order_no=TERMS.order_no, amount=40, description="part")
    await _crash_in_the_call(world, lambda: world.ask(lambda payments: payments.refund(terms)))
    await _claimed(world)
    before = world.seconds
    again = await world.ask(lambda payments: payments.refund(terms))
    assert isinstance(again, Failed)  # one list is not enough, but nobody waited for it
    assert world.seconds - before < SOON_S
    assert (await world.order()).refund("r1").state is RefundState.SUBMITTING


@pytest.mark.parametrize("how", ["written by this Midas", "by an older one"])
async def test_what_a_person_looks_at_is_not_claimed_for_ever(how: str) -> None:
    """Nobody but that person looks at a superseded charge that a webhook contradicts."""
    world = World(Chooser((), most_faults=0), TERMS)
    made = await world.payments.charge(TERMS)
    draft = Draft(made.order)
    raised = replace(made.charge, superseded=True, operator_reason="another amount")
    draft.put(replace(raised, due_at=world.disk.clock), ("test", world.disk.clock, "TEST"))
    change = draft.change(world.disk.new_change_id())
    assert change is not None
    assert await world.disk.commit(change)
    if how == "by an older one":
        order = await world.order()
        old = replace(order.charges[0], due_at=world.disk.clock)
        world.disk.disk.orders[TERMS.order_no] = replace(order, charges=(old,))
        assert await world.payments.resolve_due() == 1
    for _ in range(3):
        world.pass_time(61)
        assert await world.payments.resolve_due() == 0


async def _crash_in_the_call(world: World, call: Callable[[], Awaitable[object]]) -> None:
    async def crash() -> None:
        world.process.crash()

    world.on_post = crash
    assert isinstance(await call(), Failed)
    world.on_post = None


async def _claimed(world: World) -> None:
    """By a process that does nothing about it."""
    world.pass_time(IN_FLIGHT.total_seconds())
    due = await world.disk.claim_due_orders(limits.RESOLVE_BATCH, limits.RESOLVE_CLAIM)
    assert due == [TERMS.order_no]
