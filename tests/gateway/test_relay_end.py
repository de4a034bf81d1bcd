"""The end of a relay: drained, cancelled, stopped in the middle."""

import asyncio
import signal
import subprocess
import sys
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from tests.gateway.relay_doubles import Received, ScriptedOrders
from tests.gateway.relay_stage import relayed, relaying, staged

RELAY = """
import asyncio, sys
from datetime import timedelta
from grpc import aio
from midas.order.v1.order_payment_service_pb2_grpc import OrderPaymentServiceStub
from midas.v1.event_service_pb2_grpc import EventServiceStub
from webhook_gateway.relay import Relay, RelayOptions

class Ignored:
    def delivered(self, kind, outcome): pass
    def backlog(self, oldest_undelivered_s, parked): pass

async def main(midas, orders, places):
    async with aio.insecure_channel(midas) as m, aio.insecure_channel(orders) as o:
        options = RelayOptions(concurrency=int(places), order_timeout=timedelta(seconds=20))
        await Relay(EventServiceStub(m), OrderPaymentServiceStub(o), options, Ignored()).run()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_an_idle_relay_drains() -> None:
    """Nothing under way: done, and nothing is leased any more."""
    async with relayed() as stage:
        await stage.midas.changes.until(lambda: stage.midas.pending)
        assert await stage.relay.drain(timedelta(seconds=20))
        await stage.midas.changes.until(lambda: stage.midas.pending == 0)
        await stage.midas.announce("o-1")
        assert stage.orders.calls == []
        assert not stage.running.done()


async def test_draining_finishes_and_settles_what_is_under_way() -> None:
    """The call under way gets its answer, and Midas learns it before the drain is over."""
    release = asyncio.Event()

    async def hold(call: Received, context: Any) -> None:
        await release.wait()

    async with relayed() as stage:
        stage.orders.behave = hold
        for _ in range(50):
            await stage.midas.announce("o-1")
        await stage.orders.changes.until(lambda: stage.orders.calls)
        draining = asyncio.create_task(stage.relay.drain(timedelta(seconds=20)))
        await asyncio.sleep(0)
        release.set()
        assert await draining
        assert stage.midas.settled[0] == ("o-1", 1, "DELIVERED", "OK", True)
        assert len(stage.midas.settled) == len(stage.orders.calls)
        # at most what the pending lease call has brought meanwhile
        assert len(stage.orders.calls) <= 2


async def test_draining_takes_what_midas_is_just_handing_out() -> None:
    """A lease whose answer is on its way is delivered, not left to run out."""
    leased = asyncio.Event()
    go = asyncio.Event()

    async def hold_back(answer: Any) -> None:
        if answer.notifications:
            leased.set()
            await go.wait()

    async with relayed() as stage:
        stage.midas.before_answering = hold_back
        await stage.midas.announce("o-1")
        await leased.wait()
        draining = asyncio.create_task(stage.relay.drain(timedelta(seconds=20)))
        await asyncio.sleep(0)
        go.set()
        assert await draining
        assert stage.midas.all_delivered()


async def test_draining_is_bounded() -> None:
    """What does not end in time makes it False; cancelling the relay then ends the call."""

    async def never(call: Received, context: Any) -> None:
        await asyncio.Event().wait()

    async with relayed() as stage:
        stage.orders.behave = never
        await stage.midas.announce("o-1")
        await stage.orders.changes.until(lambda: stage.orders.calls)
        assert not await stage.relay.drain(timedelta(seconds=0.7))
        stage.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stage.running
        await stage.orders.changes.until(lambda: stage.orders.under_way == 0)
        assert stage.midas.settled == []


async def test_a_cancelled_relay_leaves_nothing_behind() -> None:
    """No task goes on; what it held is delivered by the next one when the lease is over."""

    async def never_at_first(call: Received, context: Any) -> None:
        if len(stage.orders.calls) == 1:
            await asyncio.Event().wait()

    async with staged() as stage:
        stage.orders.behave = never_at_first
        before = asyncio.all_tasks()
        async with relaying(stage):
            await stage.midas.announce("o-1")
            await stage.orders.changes.until(lambda: stage.orders.calls)
        await stage.orders.changes.until(lambda: stage.orders.under_way == 0)
        left = [task for task in asyncio.all_tasks() - before if "webhook_gateway" in str(task)]
        assert left == []
        # its pending lease call would take the order for nobody, and hold it for a minute
        await stage.midas.changes.until(lambda: stage.midas.pending == 0)
        await stage.midas.expire_leases()
        async with relaying(stage):
            await stage.midas.changes.until(stage.midas.all_delivered)
        assert stage.orders.sequences("o-1") == [1, 1]


async def test_a_relay_that_is_not_running_has_nothing_to_drain() -> None:
    """Its drain is over at once."""
    async with relayed() as stage:
        stage.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stage.running
        assert await stage.relay.drain(timedelta(seconds=1))


async def test_o6_a_stopped_process_wakes_up_after_others_went_on() -> None:
    """SIGSTOP after the send; another relay delivers n and n+1; SIGCONT: its result is too late."""
    release = asyncio.Event()

    async def hold_the_first(call: Received, context: Any) -> None:
        if len(stage.orders.calls) == 1:
            await release.wait()

    async with staged() as stage:
        stage.orders.behave = hold_the_first
        # with one place no lease call is pending that would take it again
        targets = (stage.midas_server.target, stage.order_server.target, "1")
        other = await asyncio.create_subprocess_exec(sys.executable, "-c", RELAY, *targets)
        try:
            await stage.midas.announce("o-1")
            await stage.midas.announce("o-1")
            await stage.orders.changes.until(lambda: stage.orders.calls)
            other.send_signal(signal.SIGSTOP)
            await stage.midas.expire_leases()
            async with relaying(stage):
                await stage.midas.changes.until(stage.midas.all_delivered)
            release.set()
            other.send_signal(signal.SIGCONT)
            await stage.midas.changes.until(lambda: len(stage.midas.settled) == 3)
        finally:
            other.kill()
            await other.wait()
    assert stage.orders.sequences("o-1") == [1, 1, 2]
    assert [each.applied for each in stage.midas.settled] == [True, True, False]


def _came(orders: ScriptedOrders, count: int) -> bool:
    return len(orders.calls) >= count


async def test_a_killed_process_loses_nothing() -> None:
    """Kill -9 in the middle of many deliveries: the next relay brings each to its end, in order."""
    async with staged() as stage:
        stage.midas.lease_s = 1.0
        targets = (stage.midas_server.target, stage.order_server.target, "4")
        for number in range(20):
            for _ in range(10):
                await stage.midas.announce(f"o-{number}")
        for enough in (10, 60):
            victim = await asyncio.create_subprocess_exec(sys.executable, "-c", RELAY, *targets)
            await stage.orders.changes.until(partial(_came, stage.orders, enough))
            victim.kill()
            await victim.wait()
        async with relaying(stage):
            await stage.midas.changes.until(stage.midas.all_delivered)
        for number in range(20):
            received = stage.orders.sequences(f"o-{number}")
            assert sorted(received) == received
            assert set(received) == set(range(1, 11))


def test_the_relay_needs_nothing_of_the_server() -> None:
    """It imports the generated stubs, what needs nothing itself, and nothing else of Midas."""
    code = (
        "import sys, webhook_gateway.relay\n"
        "ours = {n for n in sys.modules if n.startswith('midas.')}\n"
        "ours -= {'midas.runtime', 'midas.runtime.gathering'}\n"
        "assert all(n.startswith(('midas.v1', 'midas.order')) for n in ours)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
