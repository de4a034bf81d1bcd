"""The relay: what it delivers, what it reports, how much at once."""

import asyncio
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from midas.v1 import charge_pb2
from tests.gateway.relay_doubles import Received
from tests.gateway.relay_stage import relayed

REFUSED = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"}
"""As order_payment_service.proto names them."""
RETRIED = {
    "CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "ALREADY_EXISTS", "PERMISSION_DENIED",
    "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "ABORTED", "OUT_OF_RANGE", "INTERNAL", "UNAVAILABLE",
    "DATA_LOSS",
}  # fmt: skip
"""All others that there are."""


@pytest.mark.parametrize(
    "method", ["PayOrderSuccess", "PayOrderClosed", "RefundSuccess", "RefundFailed"]
)
async def test_each_kind_is_its_call_with_all_it_carries(method: str) -> None:
    """Every field of the notification arrives in the call that its kind names."""
    paid = method == "PayOrderSuccess"
    flags = {"late": True, "duplicate_payment": True} if paid else {}
    flags["told_again"] = True
    async with relayed() as stage:
        await stage.midas.announce("o-1", method, **flags)
        await stage.midas.changes.until(stage.midas.all_delivered)
        (call,) = stage.orders.calls
    request, notification = call.request, stage.midas.orders["o-1"].notifications[0]
    assert call.method == method
    assert (request.notification_id, request.order_no, request.sequence) == ("o-1/1", "o-1", 1)
    assert request.occurred_at == notification.occurred_at
    assert request.observed_by == charge_pb2.OBSERVED_BY_WEBHOOK
    assert request.charge == notification.charge
    assert request.told_again
    if paid:
        assert request.late
        assert request.duplicate_payment
    if method.startswith("Refund"):
        assert request.refund == notification.refund
    assert stage.midas.settled == [("o-1", 1, "DELIVERED", "OK", True)]


def status_of(
    sequence: str, reason: str = "SEQUENCE_REUSED", domain: str = "midas", noise: int = 1
) -> bytes:
    """google.rpc.Status with an ErrorInfo behind details of other kinds."""
    status = status_pb2.Status(code=9, message="another notification came under this sequence")
    for _ in range(noise):
        status.details.add().Pack(error_details_pb2.RetryInfo())
    info = error_details_pb2.ErrorInfo(reason=reason, domain=domain)
    info.metadata["sequence"] = sequence
    status.details.add().Pack(info)
    written: bytes = status.SerializeToString()
    return written


PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("code", "details", "settled", "receiver_sequence"),
    [
        (PRECONDITION, status_of("7"), ("REFUSED", "SEQUENCE_REUSED"), 7),
        (PRECONDITION, status_of("9007199254740991"), ("REFUSED", "SEQUENCE_REUSED"), 2**53 - 1),
        (PRECONDITION, status_of("7", reason="OTHER"), ("REFUSED", "FAILED_PRECONDITION"), 0),
        (PRECONDITION, status_of("7", domain="shop"), ("REFUSED", "FAILED_PRECONDITION"), 0),
        *(
            (PRECONDITION, status_of(odd), ("REFUSED", "FAILED_PRECONDITION"), 0)
            for odd in ("", "0", "-7", "7.0", "x", "٧", "9007199254740992", "9" * 5000)
        ),
        (PRECONDITION, b"\xff\xff\xff", ("REFUSED", "FAILED_PRECONDITION"), 0),
        (PRECONDITION, b"", ("REFUSED", "FAILED_PRECONDITION"), 0),
        (grpc.StatusCode.ABORTED, status_of("7"), ("RETRY", "ABORTED"), 0),
    ],
)
async def test_a_sequence_that_was_used_before_is_reported_with_the_highest(
    code: grpc.StatusCode, details: bytes, settled: tuple[str, str], receiver_sequence: int
) -> None:
    """As a refusal, which is all that an older Midas reads; other answers stay as they are."""

    async def answer(call: Received, context: Any) -> None:
        if len(stage.orders.calls) == 1:
            await context.abort(code, "", (("grpc-status-details-bin", details),))

    async with relayed() as stage:
        stage.orders.behave = answer
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(lambda: stage.midas.settled)
        assert stage.midas.settled[0] == ("o-1", 1, *settled, True)
        assert stage.midas.receiver_sequences[0] == receiver_sequence


async def test_m7_the_next_is_sent_after_the_one_before_was_acknowledged() -> None:
    """While n is not acknowledged n+1 is not sent, however often n fails (I9)."""
    answers = {("o-1", 1): 2, ("o-1", 3): 1}

    async def fail_some(call: Received, context: Any) -> None:
        left = answers.get((call.order_no, call.sequence), 0)
        if left:
            answers[call.order_no, call.sequence] = left - 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "")

    async with relayed() as stage:
        stage.orders.behave = fail_some
        for _ in range(4):
            await stage.midas.announce("o-1")
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert stage.orders.sequences("o-1") == [1, 1, 1, 2, 3, 3, 4]
        assert stage.orders.answered == [("o-1", n) for n in (1, 2, 3, 4)]


async def test_a_lease_call_is_pending_while_deliveries_are_under_way() -> None:
    """What becomes due while another order's call is slow is delivered at once."""
    release = asyncio.Event()

    async def slow_for_one(call: Received, context: Any) -> None:
        if call.order_no == "slow":
            await release.wait()

    async with relayed() as stage:
        stage.orders.behave = slow_for_one
        await stage.midas.announce("slow")
        await stage.orders.changes.until(lambda: stage.orders.calls)
        for number in range(20):
            await stage.midas.announce(f"quick-{number}")
        await stage.midas.changes.until(lambda: len(stage.midas.settled) == 20)
        assert stage.orders.under_way == 1
        release.set()
        await stage.midas.changes.until(stage.midas.all_delivered)


async def test_never_more_under_way_than_the_bound() -> None:
    """A burst over many orders fills the places and no more; leases never exceed free places."""
    release = asyncio.Event()

    async def hold(call: Received, context: Any) -> None:
        await release.wait()

    async with relayed(concurrency=5) as stage:
        stage.orders.behave = hold
        for number in range(40):
            await stage.midas.announce(f"o-{number}")
        await stage.orders.changes.until(lambda: stage.orders.under_way == 5)
        assert sum(bool(order.token) for order in stage.midas.orders.values()) == 5
        assert stage.midas.pending == 0
        release.set()
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert stage.orders.most_under_way == 5
        assert max(most for most, _ in stage.midas.asked) == 5


async def test_one_place_is_enough() -> None:
    """With a single place everything is delivered, one after the other."""
    async with relayed(concurrency=1) as stage:
        for number in range(3):
            for _ in range(3):
                await stage.midas.announce(f"o-{number}")
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert stage.orders.most_under_way == 1
        assert all(count == 1 for count in stage.orders.times().values())


async def test_settlements_gather_while_one_report_is_on_its_way() -> None:
    """Results that come in meanwhile go together in the next report."""
    release = asyncio.Event()
    async with relayed(concurrency=20) as stage:

        async def hold() -> None:
            await release.wait()

        stage.midas.before_settling = hold
        await stage.midas.announce("o-0")
        await stage.orders.changes.until(lambda: len(stage.orders.answered) == 1)
        for number in range(1, 20):
            await stage.midas.announce(f"o-{number}")
        await stage.metrics.until_delivered(20)
        release.set()
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert stage.midas.settle_calls == [1, 19]


def test_every_status_has_a_meaning() -> None:
    """Each is OK, refuses or is tried again; a new one of gRPC's needs a decision."""
    assert {each.name for each in grpc.StatusCode} == {"OK"} | REFUSED | RETRIED


@pytest.mark.parametrize("code", list(grpc.StatusCode), ids=lambda code: code.name)
async def test_every_status_is_settled_by_the_contract(code: grpc.StatusCode) -> None:
    """OK delivers, four statuses refuse, each other one is tried again; the code is reported.

    The order service has acknowledged another kind before, else UNIMPLEMENTED would prove nothing.
    """

    async def answer(call: Received, context: Any) -> None:
        if code is not grpc.StatusCode.OK and stage.orders.sequences("o-1") == [1]:
            await context.abort(code, "scripted")

    async with relayed() as stage:
        stage.orders.behave = answer
        await stage.midas.announce("o-0", "PayOrderClosed")
        await stage.midas.changes.until(stage.midas.all_delivered)
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(lambda: len(stage.midas.settled) >= 2)
        outcome = {"OK": "DELIVERED"} | dict.fromkeys(REFUSED, "REFUSED")
        expected = outcome.get(code.name, "RETRY")
        assert stage.midas.settled[1] == ("o-1", 1, expected, code.name, True)
        if expected == "RETRY":
            await stage.midas.changes.until(stage.midas.all_delivered)
            assert stage.midas.settled[2] == ("o-1", 1, "DELIVERED", "OK", True)


async def test_a_kind_of_a_newer_midas_waits_for_a_newer_gateway() -> None:
    """A notification that this gateway does not know is neither delivered nor parked."""
    async with relayed() as stage:
        stage.midas.retry_pause_s = 60
        await stage.midas.announce("o-1", "SomethingNew")
        await stage.midas.changes.until(lambda: stage.midas.settled)
        assert stage.midas.settled == [("o-1", 1, "RETRY", "KIND_UNKNOWN", True)]
        assert stage.orders.calls == []


async def test_the_deadline_is_the_order_services_own_or_the_rest_of_the_lease() -> None:
    """A call never has more time than either."""
    async with relayed(order_timeout=timedelta(seconds=7)) as stage:
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(stage.midas.all_delivered)
        # grpc rounds a deadline up on its way
        assert 5 < stage.orders.calls[0].time_remaining < 8
    async with relayed(order_timeout=timedelta(seconds=500)) as stage:
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(stage.midas.all_delivered)
        assert 0 < stage.orders.calls[0].time_remaining < 0.9 * stage.midas.lease_s + 1


async def test_the_wait_never_eats_the_lease() -> None:
    """Once it is known how long leases hold, no call waits longer than half of that."""
    async with relayed(wait=timedelta(seconds=20)) as stage:
        stage.midas.lease_s = 2.0
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(stage.midas.all_delivered)
        await stage.midas.changes.until(lambda: len(stage.midas.asked) >= 3)
        assert stage.midas.asked[0][1] == 20
        assert stage.midas.asked[-1][1] == 1


async def test_a_long_poll_that_ends_empty_is_followed_by_the_next() -> None:
    """Nothing due is no error, and what comes later is delivered."""
    async with relayed(wait=timedelta(seconds=0.05)) as stage:
        await stage.midas.changes.until(lambda: len(stage.midas.asked) >= 4)
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(stage.midas.all_delivered)


async def test_an_empty_answer_before_its_time_does_not_make_it_spin() -> None:
    """A Midas that answers empty at once is asked with growing pauses, not thousands of times."""
    async with relayed() as stage:
        stage.midas.answers_empty_at_once = 100_000
        await asyncio.sleep(0.5)  # time for thousands of calls
        assert len(stage.midas.asked) < 50
        stage.midas.answers_empty_at_once = 0
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(stage.midas.all_delivered)


async def test_what_it_measures() -> None:
    """Each attempt by kind and outcome; age of the oldest and parked orders from each lease."""

    async def refuse(call: Received, context: Any) -> None:
        if call.order_no == "bad":
            await context.abort(grpc.StatusCode.NOT_FOUND, "")

    async with relayed(wait=timedelta(seconds=0.05)) as stage:
        stage.orders.behave = refuse
        await stage.midas.announce("bad", "RefundFailed")
        await stage.midas.announce("good")
        await stage.midas.changes.until(lambda: len(stage.midas.settled) == 2)
        asked = len(stage.midas.asked)
        await stage.midas.changes.until(lambda: len(stage.midas.asked) >= asked + 3)
        assert stage.metrics.attempts == {
            ("refund_failed", "refused"): 1,
            ("pay_order_success", "delivered"): 1,
        }
        assert stage.metrics.parked == 1
        assert 6 < stage.metrics.oldest_s < 60


async def test_failures_are_logged_once_and_successes_not(caplog: pytest.LogCaptureFixture) -> None:
    """One line per failed attempt with what an operator needs, and one that it is over.

    None for what went well from the beginning.
    """
    caplog.set_level("INFO", "midas")

    async def fail_once(call: Received, context: Any) -> None:
        if len(stage.orders.calls) == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "card 6222")

    async with relayed() as stage:
        stage.orders.behave = fail_once
        await stage.midas.announce("o-1")
        await stage.midas.changes.until(stage.midas.all_delivered)
        await stage.midas.announce("o-2")
        await stage.midas.changes.until(stage.midas.all_delivered)
    attempts = [each for each in caplog.records if "order_no" in each.__dict__]
    line, over = attempts
    assert (over.levelname, over.msg) == ("INFO", "delivery_recovered")
    assert (over.__dict__["order_no"], over.__dict__["attempt"]) == ("o-1", 2)
    assert (line.name, line.msg) == ("midas.relay", "delivery_failed")
    assert (line.__dict__["order_no"], line.__dict__["code"]) == ("o-1", "UNAVAILABLE")
    assert (line.__dict__["attempt"], line.__dict__["verdict"]) == (1, "retry")
    assert "6222" not in str(line.__dict__)
