"""An order of which the database has lost everything does not begin with 1 again (I7)."""

from midas.ports import KeyKind
from tests.faults.chooser import Chooser
from tests.faults.scenarios import ALIPAY, TERMS, insist_on_charge
from tests.faults.world import World


async def test_an_order_that_was_lost_is_numbered_above() -> None:
    """Charged, closed, announced; lost as a whole; charged, paid, announced: both had effects.

    The floor was raised for another order meanwhile: this one is written without being read first.
    """
    world = World(Chooser((), most_faults=0), TERMS)
    world.listens = True
    standby = world.disk.disk.copy()
    await insist_on_charge(world, TERMS)
    world.pass_time(3 * 3600)
    await world.payments.query(KeyKind.ORDER_NO, TERMS.order_no, refresh=True)
    await world.settle()
    kinds = [each.kind for each in world.orders.received[TERMS.order_no]]
    assert kinds == ["PAY_ORDER_CLOSED"]
    world.disk.disk = standby
    world.disk.raise_floor()
    world.start()
    made = await world.payments.charge(ALIPAY)
    assert made.order.sequence_floor == world.disk.disk.floor > 0
    world.lookalike.pay(str(made.charge.charge_id))
    await world.webhooks.send_owed()
    await world.settle()
    received = world.orders.received[TERMS.order_no]
    assert [each.kind for each in received] == ["PAY_ORDER_CLOSED", "PAY_ORDER_SUCCESS"]
    assert received[1].sequence == world.disk.disk.floor + 1
