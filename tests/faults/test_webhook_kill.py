"""T4: `kill -9` at each named point from Ping++'s webhook to the order service (reliability.md 3).

Observe O1-O4 and announce A1-A4, in Midas and in the gateway: the order service learns of each
payment and refund once in effect and in order, and every webhook is accepted in the end.
"""

import asyncio

import pytest

from tests.faults.books import books_agree
from tests.faults.processes import Midas
from tests.faults.test_kill import KILLED
from tests.faults.webhook_stage import SHORT_LEASE, Chain

MIDAS_POINTS = [
    "event.before",
    "event.inside",
    "event.after",  # O3-O4
    "lease.inside",
    "lease.after",  # A1-A2
    "settle.before",  # A3-A4
    "settle.inside",
    "settle.after",
]
SOME_MIDAS_POINTS = ["event.inside", "lease.after", "settle.inside"]
GATEWAY_POINTS = [
    "record_event.before",  # O1-O2
    "record_event.after",  # O3-O4
    "lease.after",  # A1-A2
    "deliver.after",  # A2-A3
    "settle.before",  # A3-A4
    "settle.after",
]
WAITS = "waits"


@pytest.mark.long
async def test_midas_is_killed(chain: Chain) -> None:
    """Before, inside and after each commit of RecordEvent, lease and settlement (I7-I9, I11)."""
    await _kill_midas(chain, MIDAS_POINTS)


async def test_midas_is_killed_on_postgres(postgres_chain: Chain) -> None:
    """The same for some points of the other engine."""
    await _kill_midas(postgres_chain, SOME_MIDAS_POINTS)


@pytest.mark.long
async def test_the_gateway_is_killed(chain: Chain) -> None:
    """Before and after each of its calls: of Midas and of the order service (I8, I9, I11)."""
    midas, _ = await asyncio.gather(chain.midas(limits=SHORT_LEASE), chain.orders())
    charges = await asyncio.gather(*(midas.charge(each) for each in GATEWAY_POINTS))
    for point, charge in zip(GATEWAY_POINTS, charges, strict=True):
        victim = await chain.gateway(point, point)
        chain.harness.pay(charge)
        assert await victim.ended() == KILLED, f"{point} was not reached"
    await chain.gateway()
    await _all_ends_well(chain, midas, GATEWAY_POINTS)


async def test_killed_over_an_event_that_waits(chain: Chain) -> None:
    """A refund whose payment is not on disk: after each kill it is applied (W2, R9)."""
    victim, gateway, _ = await asyncio.gather(
        chain.midas("waiting.after", WAITS), chain.gateway(), chain.orders()
    )
    await gateway.connected()
    lost = {"match": {"event": "charge.succeeded"}}
    chain.webhook_fault("webhook_drop", count=None, **lost)
    charge = await chain.paid(victim, WAITS)
    chain.harness.sandbox.lookalike.refund_at_dashboard(charge.charge.charge_id, 40)
    assert await victim.ended() == KILLED
    another = await chain.launch_midas("claim_events.after", WAITS)
    assert await another.ended() == KILLED
    assert chain.book.received() == []
    await chain.midas(limits=SHORT_LEASE)
    await chain.notified(WAITS, lambda order: order.refund_success)
    chain.harness.sandbox.faults.clear()
    await gateway.connected()
    await chain.schedule_passes()
    order = await chain.notified(WAITS)
    assert (order.pay_order_success, order.refund_success, order.amount_refunded) == (1, 1, 40)
    chain.assert_in_order(WAITS)
    await books_agree(chain.database_url, [WAITS], chain.harness.sandbox.lookalike)


async def _kill_midas(chain: Chain, points: list[str]) -> None:
    gateway, _ = await asyncio.gather(chain.gateway(), chain.orders())
    for point in points:
        victim = await chain.midas(point, point)
        charge = await victim.charge(point)
        await gateway.connected()
        chain.harness.pay(charge)
        assert await victim.ended() == KILLED, f"{point} was not reached"
    survivor = await chain.midas(limits=SHORT_LEASE)
    await gateway.connected()
    await _all_ends_well(chain, survivor, points)


async def _all_ends_well(chain: Chain, midas: Midas, order_nos: list[str]) -> None:
    """Everything is delivered, and what comes afterwards too."""
    await chain.schedule_passes()
    for order_no in order_nos:
        await chain.notified(order_no)
    await asyncio.gather(*(midas.refund(each, each) for each in order_nos))
    for order_no in order_nos:
        order = await chain.notified(order_no, lambda order: order.refund_success)
        assert (order.pay_order_success, order.refund_success) == (1, 1)
        assert (order.amount_paid, order.amount_refunded) == (100, 40)
    await chain.schedule_passes()
    await chain.all_delivered()
    chain.assert_in_order(*order_nos)
    await books_agree(chain.database_url, order_nos, chain.harness.sandbox.lookalike)
