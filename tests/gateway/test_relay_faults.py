"""The relay when Midas or the order service fails (reliability.md section 5.4)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import grpc
import pytest
from grpc import aio

from midas.v1 import event_service_pb2 as pb
from midas.v1.event_service_pb2_grpc import EventServiceStub
from tests.gateway.relay_doubles import Received
from tests.gateway.relay_stage import Counted, relay_to, relayed, relaying, staged

SERVICE = "midas.order.v1.OrderPaymentService"


async def test_o1_down_for_long_and_back() -> None:
    """While it is down every attempt is a RETRY without a limit; once back all arrives in order."""
    async with relayed() as stage:
        stage.midas.retry_pause_s = 0.01
        await stage.order_server.down()
        for number in range(3):
            for _ in range(2):
                await stage.midas.announce(f"o-{number}")
        await stage.midas.changes.until(lambda: len(stage.midas.settled) >= 60)
        assert {(each.outcome, each.code) for each in stage.midas.settled} == {
            ("RETRY", "UNAVAILABLE")
        }
        assert stage.metrics.oldest_s > 0
        await stage.order_server.up()
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert [stage.orders.sequences(f"o-{n}") for n in range(3)] == [[1, 2]] * 3


async def test_o2_slow_receiver_gets_the_same_again() -> None:
    """An answer after the deadline does not count: n is sent again, identical; n+1 waits."""
    hold = asyncio.Event()

    async def slow_at_first(call: Received, context: Any) -> None:
        if len(stage.orders.calls) == 1:
            await hold.wait()

    async with relayed(order_timeout=timedelta(seconds=0.3)) as stage:
        stage.orders.behave = slow_at_first
        await stage.midas.announce("o-1")
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert stage.midas.settled[0] == ("o-1", 1, "RETRY", "DEADLINE_EXCEEDED", True)
        assert stage.orders.sequences("o-1") == [1, 1, 2]
        first, again, _ = stage.orders.calls
        assert first.request == again.request
        hold.set()


async def test_o3_commits_then_the_connection_is_reset() -> None:
    """An answer that is lost is no acknowledgement: the same is sent again."""
    gone = asyncio.Event()

    async def lose_the_answer(call: Received, context: Any) -> None:
        if len(stage.orders.calls) == 1:
            gone.set()
            await asyncio.Event().wait()

    async with relayed() as stage:
        stage.orders.behave = lose_the_answer
        await stage.midas.announce("o-1")
        await gone.wait()
        await stage.order_server.down()
        await stage.order_server.up()
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert stage.midas.settled[0][2] == "RETRY"
        assert stage.orders.sequences("o-1") == [1, 1]


async def test_o4_one_that_is_refused_for_ever_holds_up_only_its_order() -> None:
    """The refused order is parked; others flow; a person lets it go on."""
    known = {"good-1", "good-2"}

    async def refuse_unknown(call: Received, context: Any) -> None:
        if call.order_no not in known:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown order")

    async with relayed() as stage:
        stage.orders.behave = refuse_unknown
        for order_no in ("bad", "good-1", "good-2"):
            for _ in range(3):
                await stage.midas.announce(order_no)
        await stage.midas.changes.until(lambda: len(stage.midas.settled) == 7)
        assert stage.orders.sequences("bad") == [1]
        assert stage.midas.orders["bad"].parked
        assert [n for _, n in stage.orders.answered if _ == "good-1"] == [1, 2, 3]
        known.add("bad")
        await stage.midas.redeliver("bad")
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert stage.orders.sequences("bad") == [1, 1, 2, 3]


@asynccontextmanager
async def raw_order_service(*answers: list[bytes]) -> AsyncIterator[str]:
    """An order service whose answers are these bytes, or none, each with the status OK."""
    left = list(answers)

    async def answer(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for message in left.pop(0) if left else [b""]:
            yield message

    server = aio.server()
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(answer)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"PayOrderSuccess": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def outcomes_with(answer: list[bytes]) -> list[str]:
    """What is settled of one notification whose first answer is this."""
    async with (
        staged() as stage,
        raw_order_service(answer) as target,
        aio.insecure_channel(stage.midas_server.target) as midas,
        aio.insecure_channel(target) as orders,
    ):
        running = asyncio.create_task(relay_to(midas, orders, stage.metrics).run())
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(stage.midas.all_delivered)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    return [each.outcome for each in stage.midas.settled]


@pytest.mark.parametrize("body", [[], [b"\xff\xff"]], ids=["no message", "not a message"])
async def test_o5_ok_without_a_readable_message_is_no_acknowledgement(body: list[bytes]) -> None:
    """The contract's answer is a message: a status alone, or other bytes, is tried again."""
    assert await outcomes_with(body) == ["RETRY", "DELIVERED"]


async def test_o5_fields_of_a_newer_contract_are_an_acknowledgement() -> None:
    """An answer with fields that this gateway does not know is still the answer."""
    assert await outcomes_with([b"\x7a\x03new"]) == ["DELIVERED"]


async def test_o6_a_relay_that_lost_its_lease_changes_nothing() -> None:
    """Another relay delivers n and n+1 meanwhile; the first one's late result does not count."""
    release = asyncio.Event()

    async def hold_the_first(call: Received, context: Any) -> None:
        if len(stage.orders.calls) == 1:
            await release.wait()

    async with staged() as stage, relaying(stage):
        stage.orders.behave = hold_the_first
        await stage.midas.announce("o-1")
        await stage.midas.announce("o-1")
        await stage.orders.changes.until(lambda: stage.orders.calls)
        async with relaying(stage):
            await stage.midas.expire_leases()
            await stage.midas.changes.until(stage.midas.all_delivered)
            release.set()
            await stage.midas.changes.until(lambda: len(stage.midas.settled) == 3)
    assert stage.orders.sequences("o-1") == [1, 1, 2]
    assert stage.midas.settled[-1] == ("o-1", 1, "DELIVERED", "OK", False)


async def test_o6_an_answer_that_took_longer_than_the_lease_is_not_sent() -> None:
    """A relay that was paused between lease and call sends nothing that others may have by now."""
    late = asyncio.Event()

    async def hold_back(answer: Any) -> None:
        if answer.notifications and not late.is_set():
            late.set()
            await asyncio.sleep(1.2 * stage.midas.lease_s)

    async with relayed() as stage:
        stage.midas.lease_s = 0.5
        stage.midas.before_answering = hold_back
        await stage.midas.announce("o-1")
        await late.wait()
        assert stage.orders.calls == []
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert stage.orders.sequences("o-1") == [1]
        assert len(stage.midas.settled) == 1


async def test_o7_a_burst_after_an_outage_is_bounded_and_fair() -> None:
    """Everything at once: never more calls than places, and no order waits for another's queue."""
    async with relayed(concurrency=6) as stage:
        await stage.order_server.down()
        for number in range(30):
            for _ in range(5):
                await stage.midas.announce(f"o-{number}")
        await stage.midas.changes.until(lambda: len(stage.midas.settled) >= 30)
        await stage.order_server.up()
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert stage.orders.most_under_way <= 6
        firsts = [order_no for order_no, n in stage.orders.answered if n == 1]
        before_all_began = stage.orders.answered.index((firsts[-1], 1))
        # every order has begun before any of them is far ahead
        assert before_all_began <= 2 * 30
        for number in range(30):
            assert [n for o, n in stage.orders.answered if o == f"o-{number}"] == [1, 2, 3, 4, 5]


async def test_o8_the_order_service_may_call_midas_while_it_handles_a_notification() -> None:
    """Midas answers a call that is made from within the delivery: the relay holds nothing there."""
    async with relayed(concurrency=1) as stage:
        channel = aio.insecure_channel(stage.midas_server.target)
        asked: list[int] = []

        async def call_back(call: Received, context: Any) -> None:
            request = pb.LeaseNotificationsRequest(max=1)
            answer = await EventServiceStub(channel).LeaseNotifications(request, timeout=10)
            asked.append(len(answer.notifications))

        stage.orders.behave = call_back
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(stage.midas.all_delivered)
        await channel.close()
    assert asked == [0]


async def test_a_failing_head_of_line_does_not_hold_up_other_orders() -> None:
    """An order that fails for ever takes its turn; all others are delivered meanwhile."""

    async def fail_one(call: Received, context: Any) -> None:
        if call.order_no == "bad":
            await context.abort(grpc.StatusCode.INTERNAL, "")

    async with relayed(concurrency=2) as stage:
        stage.orders.behave = fail_one
        stage.midas.retry_pause_s = 0.001
        for _ in range(3):
            await stage.midas.announce("bad")
        for number in range(20):
            await stage.midas.announce(f"good-{number}")
        await stage.midas.changes.until(
            lambda: sum(each.outcome == "DELIVERED" for each in stage.midas.settled) == 20
        )
        assert set(stage.orders.sequences("bad")) == {1}


async def test_a_report_that_fails_is_made_again() -> None:
    """Midas does not take the settlement at first: it is reported until it does, sent once."""
    async with relayed() as stage:
        stage.midas.settle_failures = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL]
        for number in range(5):
            await stage.midas.announce(f"o-{number}")
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert set(stage.orders.times().values()) == {1}


async def test_a_report_that_cannot_be_made_is_dropped_with_its_lease() -> None:
    """When the lease is over the result is forgotten, the place is free and it is sent again."""
    async with relayed(concurrency=1) as stage:
        stage.midas.lease_s = 0.4
        stage.midas.settle_failures = [grpc.StatusCode.UNAVAILABLE] * 1000
        await stage.midas.announce("o-1")
        await stage.orders.changes.until(lambda: len(stage.orders.calls) >= 2)
        stage.midas.settle_failures = []
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert set(stage.orders.sequences("o-1")) == {1}


@pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "UNIMPLEMENTED", "CANCELLED"])
async def test_leasing_goes_on_after_every_failure(code: str) -> None:
    """No status of Midas stops the relay."""
    async with relayed() as stage:
        stage.midas.lease_failures = [grpc.StatusCode[code]] * 3
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(stage.midas.all_delivered)
        # the first lease call may have been waiting before the script was set
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert stage.midas.lease_failures == []


async def test_midas_dies_while_a_delivery_is_under_way() -> None:
    """The result is reported once Midas is back, and what was acknowledged is not sent again."""
    release = asyncio.Event()

    async def hold(call: Received, context: Any) -> None:
        await release.wait()

    async with relayed() as stage:
        stage.orders.behave = hold
        await stage.midas.announce("o-1")
        await stage.midas.announce("o-1")
        await stage.orders.changes.until(lambda: stage.orders.calls)
        await stage.midas_server.down()
        release.set()
        await stage.orders.changes.until(lambda: len(stage.orders.answered) == 1)
        await stage.midas_server.up()
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert stage.orders.sequences("o-1") == [1, 2]


async def test_midas_is_down_at_the_start() -> None:
    """A relay that starts first finds Midas when it comes."""
    async with staged() as stage:
        await stage.midas_server.down()
        async with relaying(stage):
            await stage.midas.announce("o-1")
            await asyncio.sleep(0.3)  # several attempts in vain
            await stage.midas_server.up()
            await stage.midas.changes.until(stage.midas.all_delivered)


async def test_a_report_whose_answer_was_lost_has_no_second_effect() -> None:
    """Midas applied it and died: the repeated report does not count, the next is delivered once."""
    async with relayed() as stage:
        lost = asyncio.Event()

        async def lose_the_answer() -> None:
            if not lost.is_set():
                lost.set()
                for settlement in list(stage.midas.orders.values()):
                    settlement.acknowledged, settlement.token = 1, ""
                await stage.midas_server.down()

        stage.midas.before_settling = lose_the_answer
        await stage.midas.announce("o-1")
        await stage.midas.announce("o-1")
        await lost.wait()
        await stage.midas_server.up()
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert stage.orders.sequences("o-1") == [1, 2]


async def test_closed_channels_do_not_end_the_relay(caplog: pytest.LogCaptureFixture) -> None:
    """A closed channel cancels its calls; the relay takes that for a failure and goes on."""
    async with staged() as stage:
        async with (
            aio.insecure_channel(stage.midas_server.target) as midas,
            aio.insecure_channel(stage.order_server.target) as orders,
        ):
            running = asyncio.create_task(relay_to(midas, orders, Counted()).run())
            await stage.midas.changes.until(lambda: stage.midas.pending)
        await asyncio.sleep(0.2)  # a few calls on the closed channel
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert [each.__dict__["code"] for each in caplog.records if each.msg == "lease_failed"]
    assert "call_unexpected" in [each.msg for each in caplog.records]


async def test_a_wrong_address_parks_nothing() -> None:
    """UNIMPLEMENTED from what may not be the order service is tried again, and heals by itself."""
    there = asyncio.Event()

    async def not_there_yet(_: Received, context: Any) -> None:
        if not there.is_set():
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

    async with relayed() as stage:
        stage.midas.retry_pause_s = 0.01
        stage.orders.behave = not_there_yet
        for number in range(5):
            await stage.midas.announce(f"o-{number}")
        await stage.midas.changes.until(lambda: len(stage.midas.settled) >= 20)
        assert {each.outcome for each in stage.midas.settled} == {"RETRY"}
        there.set()
        await stage.midas.changes.until(stage.midas.all_delivered)


async def test_a_method_that_the_order_service_lacks_parks() -> None:
    """Once it has shown that it is there, UNIMPLEMENTED means that this kind is never taken."""

    async def no_refunds(call: Received, context: Any) -> None:
        if call.method == "RefundSuccess":
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

    async with relayed() as stage:
        stage.orders.behave = no_refunds
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(stage.midas.all_delivered)
        await stage.midas.announce("o-2", "RefundSuccess")
        await stage.midas.changes.until(lambda: len(stage.midas.settled) == 2)
        assert stage.midas.settled[-1][2:4] == ("REFUSED", "UNIMPLEMENTED")
