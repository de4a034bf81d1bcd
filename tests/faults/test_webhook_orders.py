"""T4: an order service that is away, forgets to answer, refuses, is slow or calls back (O1-O8)."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest
from grpc import StatusCode

from midas.order.v1 import order_payment_service_pb2_grpc as order_grpc
from tests.faults.books import books_agree
from tests.faults.processes import eventually, until
from tests.faults.webhook_stage import SHORT_LEASE, Chain, Gateway
from tests.gateway.relay_doubles import Received, ScriptedOrders
from tests.gateway.relay_stage import Served

ORDERS = [f"o-{n}" for n in range(5)]
BURST = 60
AT_ONCE = 8
LONGER_LEASE = {"NOTIFICATION_LEASE": 6}
"""Long enough for one gateway to hold an order while another one wakes up."""
NEVER_S = 600.0
"""Longer than any test waits."""


async def test_o1_the_order_service_is_away(chain: Chain) -> None:
    """Attempts go on, the age is shown, and all arrives once it is back: no effect twice."""
    midas, gateway, orders = await chain.all_up()
    await orders.kill()
    await asyncio.gather(*(chain.paid(midas, each) for each in ORDERS))
    await asyncio.gather(*(midas.refund(each, each) for each in ORDERS))
    await gateway.logged("delivery_failed", 2 * len(ORDERS))
    failed = gateway.lines("delivery_failed")
    assert {each["sequence"] for each in failed} == {1}, "I9: 2 was sent before 1 was taken"
    assert max(each["attempt"] for each in failed) >= 2
    await _until_number(gateway, "oldest_undelivered_seconds", lambda age: age > 0)
    await chain.orders()
    for order_no in ORDERS:
        order = await chain.notified(order_no, lambda order: order.refund_success)
        assert (order.pay_order_success, order.refund_success) == (1, 1)
    await _ends_well(chain, ORDERS)


async def test_o3_the_answer_is_lost(chain: Chain) -> None:
    """Taken and not acknowledged: sent again, and without a second effect."""
    midas, gateway, orders = await chain.all_up()
    await orders.fault("lose_answer", count=2)
    await chain.paid(midas, "lost")
    await gateway.logged("delivery_failed", 2)
    await midas.refund("lost", "lost")
    order = await chain.notified("lost", lambda order: order.refund_success)
    assert (order.pay_order_success, order.refund_success) == (1, 1)
    await _ends_well(chain, ["lost"])


async def test_o3_killed_between_its_commit_and_its_answer(chain: Chain) -> None:
    """The same when the order service itself is killed there, and started again."""
    midas, gateway, orders = await chain.all_up()
    await orders.fault("delay", seconds=NEVER_S, when="after")
    await chain.paid(midas, "killed")
    await chain.notified("killed")
    await orders.kill()
    await gateway.logged("delivery_failed")
    await chain.orders()
    await midas.refund("killed", "killed")
    order = await chain.notified("killed", lambda order: order.refund_success)
    assert (order.pay_order_success, order.refund_success) == (1, 1)
    await _ends_well(chain, ["killed"])


async def test_o4_one_order_is_refused_for_ever(chain: Chain) -> None:
    """It is parked with an alarm, also what comes later for it; all the others flow."""
    midas, gateway, orders = await chain.all_up(limits=SHORT_LEASE | {"BACKLOG_AGE_S": 0})
    await orders.fault("refuse", count=None, code="NOT_FOUND", match={"order_no": "poison"})
    await asyncio.gather(*(chain.paid(midas, each) for each in ["poison", *ORDERS]))
    parked = await midas.logged("order_parked")
    assert (parked["level"], parked["order_no"], parked["code"]) == ("error", "poison", "NOT_FOUND")
    await asyncio.gather(*(midas.refund(each, each) for each in ["poison", *ORDERS]))
    for order_no in ORDERS:
        await chain.notified(order_no, lambda order: order.refund_success)
    await _until_number(gateway, "parked_orders", lambda count: count == 1)
    refused = [each for each in gateway.lines("delivery_failed") if each["verdict"] == "refused"]
    assert [(each["order_no"], each["sequence"]) for each in refused] == [("poison", 1)]
    assert chain.book.received("poison") == []
    chain.assert_in_order(*ORDERS)


@pytest.mark.parametrize("where", ["deliver.stops_before", "deliver.stops_after"])
async def test_o6_a_gateway_is_stopped_until_its_lease_is_over(where: str, chain: Chain) -> None:
    """Another one delivers it and what follows; what the first does when it wakes has no effect."""
    midas, stopped, _ = await asyncio.gather(
        chain.midas(limits=SHORT_LEASE), chain.gateway(where, "stopped"), chain.orders()
    )
    await stopped.connected()
    await chain.paid(midas, "stopped")
    await until(lambda: _is_stopped(stopped), "the stop")
    already = len(chain.book.received())
    assert already == (1 if where == "deliver.stops_after" else 0)
    await chain.launch_gateway(WEBHOOK_PORT="0")
    await midas.refund("stopped", "stopped")
    await chain.notified("stopped", lambda order: order.refund_success)
    stopped.send(signal.SIGCONT)
    late = await stopped.logged("settlement_too_late")
    assert (late["order_no"], late["sequence"]) == ("stopped", 1)
    order = chain.book.order("stopped")
    assert (order.pay_order_success, order.refund_success) == (1, 1)
    await chain.schedule_passes()
    await _ends_well(chain, ["stopped"])


@pytest.mark.long
async def test_o6_a_late_refusal_parks_nothing(chain: Chain) -> None:
    """The answer that the first gets when it wakes does not count while another holds the order."""
    midas, stopped = await asyncio.gather(
        chain.midas(limits=LONGER_LEASE), chain.gateway("deliver.stops_before", "stopped")
    )
    await stopped.connected()
    release = asyncio.Event()
    async with _scripted(chain) as orders:

        async def behave(_call: Received, context: Any) -> None:
            if len(orders.calls) == 1:
                await release.wait()
            if len(orders.calls) == 2 and not release.is_set():
                await context.abort(StatusCode.NOT_FOUND, "not today")

        orders.behave = behave
        await chain.paid(midas, "stopped")
        await until(lambda: _is_stopped(stopped), "the stop")
        await chain.launch_gateway(WEBHOOK_PORT="0")
        await orders.changes.until(lambda: orders.under_way == 1)
        stopped.send(signal.SIGCONT)
        await stopped.logged("settlement_too_late")
        release.set()
        await midas.refund("stopped", "stopped")
        await orders.changes.until(lambda: orders.answered == [("stopped", 1), ("stopped", 2)])
        assert orders.sequences("stopped") == [1, 1, 2]
        await chain.all_delivered()
        assert not midas.lines("order_parked"), "an alarm over a refusal that did not count"


async def test_o7_a_burst_after_an_outage(chain: Chain) -> None:
    """All that has gathered goes out with a bounded number at once, no order before its turn."""
    midas, _ = await asyncio.gather(chain.midas(), chain.gateway(ORDER_TARGET=""))
    burst = [f"b-{n}" for n in range(BURST)]
    await asyncio.gather(*(chain.paid(midas, each) for each in burst))
    await chain.sent(BURST, outcome="accepted")
    await asyncio.gather(*(midas.refund(each, each) for each in burst))
    release = asyncio.Event()
    async with _scripted(chain) as orders:
        orders.behave = lambda _call, _context: _until(release)
        relaying = {"WEBHOOK_PORT": "0", "RELAY_CONCURRENCY": str(AT_ONCE)}
        await chain.launch_gateway(**relaying)
        await orders.changes.until(lambda: orders.under_way == AT_ONCE)
        assert len({each.order_no for each in orders.calls}) == AT_ONCE, "one order at a time each"
        release.set()
        await orders.changes.until(lambda: len(orders.answered) == 2 * BURST)
        assert orders.most_under_way == AT_ONCE
        assert set(orders.times().values()) == {1}
        assert all(orders.sequences(each) == [1, 2] for each in burst)
        # fair: a second notice of an order waits behind the first ones of all
        assert {each.sequence for each in orders.calls[: BURST - AT_ONCE]} == {1}
        await chain.all_delivered()
    await books_agree(chain.database_url, burst, chain.harness.sandbox.lookalike)


async def test_o8_the_order_service_calls_back(chain: Chain) -> None:
    """While it handles a notice it asks Midas and refunds the very order: nothing is locked."""
    midas, gateway = await asyncio.gather(chain.midas(), chain.gateway())
    await gateway.connected()

    async def call_back(call: Received, _context: Any) -> None:
        if call.method == "PayOrderSuccess":
            await midas.query(call.order_no, refresh=True)
            await midas.refund(call.order_no, call.order_no)

    async with _scripted(chain) as orders:
        orders.behave = call_back
        await asyncio.gather(*(chain.paid(midas, each) for each in ORDERS))
        await orders.changes.until(lambda: len(orders.answered) == 2 * len(ORDERS))
        for order_no in ORDERS:
            assert orders.sequences(order_no) == [1, 2]
        await chain.all_delivered()
    await books_agree(chain.database_url, ORDERS, chain.harness.sandbox.lookalike)


async def _ends_well(chain: Chain, order_nos: list[str]) -> None:
    await chain.all_delivered()
    chain.assert_in_order(*order_nos)
    await books_agree(chain.database_url, order_nos, chain.harness.sandbox.lookalike)


async def _until_number(gateway: Gateway, name: str, holds: Any) -> None:
    await eventually(lambda: gateway.number(name), holds)


def _is_stopped(gateway: Gateway) -> bool:
    return psutil.Process(gateway.process.pid).status() == psutil.STATUS_STOPPED


async def _until(release: asyncio.Event) -> None:
    await release.wait()


@asynccontextmanager
async def _scripted(chain: Chain) -> AsyncIterator[ScriptedOrders]:
    """An order service that a test controls, where the sample one would be."""
    orders = ScriptedOrders()
    server = Served(orders, order_grpc.add_OrderPaymentServiceServicer_to_server)
    server.port = chain.order_port
    await server.up()
    try:
        yield orders
    finally:
        await server.down()
