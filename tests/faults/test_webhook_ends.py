"""T4: SIGTERM under load loses nothing (R7), and nothing on a webhook's way waits for a poll."""

import asyncio
import time

from tests.faults.books import books_agree
from tests.faults.processes import UNHURRIED
from tests.faults.webhook_stage import Chain

LOAD = 150
EARLY = 5
"""So many are on their way when the signal comes."""
NO_LOOK = {"NOTIFICATION_LOOK_S": 3600}
"""A waiting lease call never looks by itself."""
WAIT_LEAST_S = 15.0
"""What a lease call waits when nothing happens: half a lease, less than the relay would ask for."""


async def test_r7_sigterm_under_load(chain: Chain) -> None:
    """Gateway, then Midas, in the middle of webhooks and deliveries: exit 0, all delivered once."""
    midas, gateway, _ = await chain.all_up(UNHURRIED)
    orders = [f"o-{n}" for n in range(LOAD)]
    charges = await asyncio.gather(*(midas.charge(each) for each in orders))
    first, second, third = (charges[n::3] for n in range(3))
    for charge in first:
        chain.harness.pay(charge)
    await chain.sent(EARLY, outcome="accepted")
    assert await gateway.stop() == 0
    assert gateway.last_line()["drained"] is True
    for charge in second:
        chain.harness.pay(charge)
    gateway = await chain.gateway()
    await gateway.connected()
    await chain.schedule_passes()
    for charge in third:
        chain.harness.pay(charge)
    await chain.sent(len(first) + len(second) + EARLY, outcome="accepted")
    assert await midas.stop() == 0
    assert midas.last_line()["drained"] is True
    await chain.midas()
    await gateway.connected()
    await chain.schedule_passes()
    for order_no in orders:
        assert (await chain.notified(order_no)).pay_order_success == 1
    await chain.all_delivered()
    chain.assert_in_order(*orders)
    await books_agree(chain.database_url, orders, chain.harness.sandbox.lookalike)


async def test_no_polling_pause_is_on_the_way(chain: Chain) -> None:
    """The commit itself wakes the relay: it never looks, and gets it long before its wait ends."""
    midas, _ = await asyncio.gather(chain.midas(limits=NO_LOOK), chain.orders())
    charges = [await midas.charge(order_no) for order_no in ("first", "second")]
    gateway = await chain.gateway()
    await gateway.connected()
    for charge in charges:
        paid_at = time.monotonic()
        chain.harness.pay(charge)
        await chain.notified(charge.charge.order_no)
        assert time.monotonic() - paid_at < WAIT_LEAST_S / 2
        await midas.refund(charge.charge.order_no, charge.charge.order_no)
        await chain.notified(charge.charge.order_no, lambda order: order.refund_success)
        assert time.monotonic() - paid_at < WAIT_LEAST_S / 2
