"""Short stories of webhooks, Midas, a gateway and the order service, played under every fault."""

import asyncio
from datetime import timedelta

from midas.charge import ChargeState
from midas.flows.terms import RefundTerms
from midas.ports import KeyKind
from tests.faults.event_ports import Webhooks
from tests.faults.scenarios import PATIENCE, insist_on_charge, insist_on_refund
from tests.faults.world import World

ROUNDS = 3
TURNS = 100
"""Of the event loop: more than a webhook needs on a disk that answers at once."""
A_DAY = timedelta(days=1)


async def paid_and_announced(world: World) -> None:
    """The payer pays; a webhook brings it to Midas, and Midas notifies the order service."""
    await _charged(world)
    world.pay_everything()
    await _announcing(world)


async def paid_and_given_back(world: World) -> None:
    """A payment and a refund: two messages of one order, the first one first."""
    await _charged(world)
    world.pay_everything()
    world.lookalike.refund_at_dashboard(world.handed_out[0], 40)
    world.chooser.healed = True
    await world.webhooks.send_owed()
    world.chooser.healed = False
    await _rounds(world, 1 + ROUNDS)


async def paid_before_we_know(world: World) -> None:
    """The create call takes the money, and the webhook overtakes its answer (W2)."""
    world.listens = True
    world.on_charged = lambda: at_once(world.webhooks)
    await insist_on_charge(world, world.terms)
    await _announcing(world)


async def at_once(webhooks: Webhooks) -> None:
    """The webhooks arrive and are answered, no matter what else is under way (I13)."""
    sending = asyncio.ensure_future(webhooks.send_owed())
    for _ in range(TURNS):
        if sending.done():
            break
        await asyncio.sleep(0)
    else:
        sending.cancel()
    assert not sending.cancelling(), "I13: a webhook waits for a charge that is under way"
    await sending


async def refund_before_payment(world: World) -> None:
    """The webhook of a refund comes before that of its payment (W2)."""
    await _charged(world)
    world.pay_everything()
    world.lookalike.refund_at_dashboard(world.handed_out[0], 40)
    paid, given_back = world.webhooks.owed
    await world.webhooks.send(given_back)
    await world.apply_due()
    await world.webhooks.send(paid)
    await world.relay.round()


async def refund_without_payment(world: World) -> None:
    """The webhook of a refund comes and that of its payment never does: Midas asks."""
    await _charged(world)
    world.pay_everything()
    world.lookalike.refund_at_dashboard(world.handed_out[0], 40)
    paid = next(iter(world.webhooks.owed))
    del world.webhooks.owed[paid]
    await world.webhooks.send_owed()
    world.pass_time(1)
    await world.apply_due()
    await world.relay.round()


async def paid_too_late(world: World) -> None:
    """The money comes after the charge was closed and the order service was notified (W3)."""
    await _charged(world)
    world.chooser.healed = True
    world.pass_time(3 * 3600)
    key = world.terms.order_no
    await world.ask(lambda payments: payments.query(KeyKind.ORDER_NO, key, refresh=True))
    assert (await world.order()).charges[0].state is ChargeState.CLOSED
    world.lookalike.pay_late(world.handed_out[0])
    world.chooser.healed = False
    await _announcing(world)


async def refund_confirmed(world: World) -> None:
    """A refund is asked for, the channel takes its time, and a webhook reports its end."""
    await _charged(world)
    world.pay_everything()
    world.chooser.healed = True
    await world.webhooks.send_owed()
    world.lookalike.plan_refund("pending")
    order_no = world.terms.order_no
    await insist_on_refund(world, RefundTerms("r1", order_no, "", 40, "part"))
    world.chooser.healed = False
    for made in world.lookalike.refunds_of(world.handed_out[0]):
        world.lookalike.approve_refund(made["id"])
    await _announcing(world)


async def down_for_a_day(world: World) -> None:
    """O1: the order service is away for a day; then it receives everything, in order."""
    await _charged(world)
    world.pay_everything()
    world.lookalike.refund_at_dashboard(world.handed_out[0], 40)
    await world.webhooks.send_owed()
    world.orders_down = True
    back_at = world.disk.now() + A_DAY
    attempts = 0
    while world.disk.now() < back_at:
        await world.relay.round()
        due = world.next_due()
        assert due is not None, "I8: given up"
        world.disk.clock = max(due, world.disk.clock) + timedelta(seconds=1)
        attempts += 1
    assert attempts > A_DAY / timedelta(minutes=10), "I8: hardly tried"
    assert not world.orders.received
    world.orders_down = False


async def _charged(world: World) -> None:
    """An order with an open charge, without faults on the way there."""
    world.listens = True
    world.chooser.healed = True
    await insist_on_charge(world, world.terms)
    world.chooser.healed = False


async def _announcing(world: World) -> None:
    """Webhooks are sent, and sent again, and the relay makes its rounds."""
    for _ in range(1 + PATIENCE):
        await world.webhooks.send_owed()
    await _rounds(world, ROUNDS)


async def _rounds(world: World, count: int) -> None:
    for _ in range(count):
        await world.relay.round()
        world.pass_time(1)
