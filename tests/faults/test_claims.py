"""A claim of the resolver keeps nobody from finding out by themselves."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from midas import limits
from midas.charge import ChargeState
from midas.flows.terms import RefundTerms
from midas.refund import RefundState
from tests.faults.chooser import Chooser
from tests.faults.scenarios import TERMS, insist_on_charge
from tests.faults.world import TOTAL_TIMEOUT, Failed, World

IN_FLIGHT = TOTAL_TIMEOUT + timedelta(seconds=3)
SOON_S = 1.0


async def test_a_claimed_charge_is_found_out_by_the_caller() -> None:
    """Whoever claimed it may be dead, or be waiting for the caller's own turn: no waiting here."""
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
