"""EventService over a real socket: what is refused, what is answered, and how waiting ends."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from midas import limits
from midas.errors import EventIdReused, FieldViolation, InvalidRequest, StorageUnavailable
from midas.flows.apply_event import EventOutcome, Recorded
from midas.flows.inbox import Inbox
from midas.flows.payment_calls import Payments, SystemClock
from midas.lease import UNNAMED, Backlog, DeliveryOutcome, Lease, Settlement
from midas.payment import Notification
from midas.sandbox.ledger import Lookalike
from midas.v1 import charge_pb2, errors_pb2
from midas.v1 import event_service_pb2 as pb
from tests.fakes.psp import DirectWire, client_over
from tests.fakes.store import MemoryStore
from tests.rpc.scripted import NOW, error_of
from tests.rpc.scripted_events import (
    EVENT,
    ORDER,
    PAID,
    ScriptedAnnouncer,
    ScriptedInbox,
    served,
    settle,
    settlement,
)

# RecordEvent ------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", EventOutcome)
async def test_a_recorded_event_is_answered(outcome: EventOutcome) -> None:
    """Body and reason go in as they are; outcome, id, type and reason come out."""
    answer = Recorded(outcome, replace(EVENT, reason="charge_not_paid_yet"))
    body = bytes(range(256))
    async with served(ScriptedInbox(answer)) as midas:
        response = await midas.stub.RecordEvent(
            pb.RecordEventRequest(body=body, key_name="k" * 1000, unreadable="not_json")
        )
        assert midas.inbox.asked == [(body, "not_json")]
    assert response == pb.RecordEventResponse(
        outcome=pb.EventOutcome.Value(f"EVENT_OUTCOME_{outcome}"),
        event_id="evt_1",
        type="charge.succeeded",
        reason="charge_not_paid_yet",
    )


@pytest.mark.parametrize(
    ("error", "code", "reason", "retry"),
    [
        (
            EventIdReused("evt_1"),
            grpc.StatusCode.ALREADY_EXISTS,
            "EVENT_ID_REUSED",
            errors_pb2.RETRY_NEVER,
        ),
        (
            InvalidRequest((FieldViolation("body", "give some"),)),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_REQUEST",
            errors_pb2.RETRY_NEVER,
        ),
        (
            StorageUnavailable(may_have_written=True),
            grpc.StatusCode.UNAVAILABLE,
            "STORAGE_UNAVAILABLE",
            errors_pb2.RETRY_SAME_KEY,
        ),
        (
            ZeroDivisionError("card 6222"),
            grpc.StatusCode.INTERNAL,
            "INTERNAL",
            errors_pb2.RETRY_SAME_KEY,
        ),
    ],
    ids=["reused", "invalid", "storage", "defect"],
)
async def test_every_failure_has_a_rich_status(
    error: Exception, code: grpc.StatusCode, reason: str, retry: int
) -> None:
    """Every error has its status and its details, and none its text (I15)."""
    async with served(ScriptedInbox(error)) as midas:
        status = await error_of(midas.stub.RecordEvent(pb.RecordEventRequest(body=b"{}")))
    assert (status.code, status.info.reason) == (code, reason)
    assert status.detail.retry == retry
    assert status.detail.money_moved != errors_pb2.MONEY_MOVED_UNSPECIFIED
    assert "6222" not in status.everything


async def test_a_body_within_and_beyond_the_bounds() -> None:
    """EVENT_BYTES are taken, none and one more are not, and far more never reach the inbox."""
    psp = client_over(DirectWire(Lookalike("app_1")), "app_1", timedelta(seconds=1))
    inbox = Inbox(Payments(MemoryStore(), psp, SystemClock()).ports)
    async with served(inbox) as midas:
        record = midas.stub.RecordEvent
        most = await record(pb.RecordEventRequest(body=b"x" * limits.EVENT_BYTES))
        assert most.outcome == pb.EVENT_OUTCOME_IGNORED
        for length in (0, limits.EVENT_BYTES + 1):
            status = await error_of(record(pb.RecordEventRequest(body=b"x" * length)))
            assert (status.code, status.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["body"])
        status = await error_of(record(pb.RecordEventRequest(body=b"x" * limits.REQUEST_BYTES)))
        assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert status.info.reason == "REQUEST_TOO_LARGE"


# LeaseNotifications -----------------------------------------------------------------------


def a_lease(notification: Notification = PAID) -> Lease:
    """A notification for its fourth attempt."""
    return Lease("t1", 3, notification, ORDER)


async def test_leases_have_every_field_of_the_contract() -> None:
    """Every field of the contract, for a payment and for a refund."""
    late = replace(PAID, late=True, duplicate_payment=True)
    refunded = replace(PAID, sequence=2, kind="REFUND_FAILED", refund_no="r-1", observed_by="POLL")
    refunded = replace(refunded, change_id="c9", told_again=True)
    announcer = ScriptedAnnouncer([a_lease(late), a_lease(refunded)], Backlog(NOW, 7))
    async with served(announcer=announcer) as midas:
        response = await midas.stub.LeaseNotifications(pb.LeaseNotificationsRequest(max=2))
    assert response.lease.ToTimedelta() == limits.NOTIFICATION_LEASE
    assert (response.oldest_undelivered_at.ToMicroseconds(), response.parked_orders) == (
        round(NOW.timestamp() * 1_000_000),
        7,
    )
    payment, refund = response.notifications
    assert (payment.lease_token, payment.attempts) == ("t1", 3)
    notice = payment.notification
    assert notice.notification_id == "o-1/1"
    assert (notice.order_no, notice.sequence) == ("o-1", 1)
    assert notice.kind == pb.NOTIFICATION_KIND_PAY_ORDER_SUCCESS
    assert notice.occurred_at == response.oldest_undelivered_at
    assert notice.observed_by == charge_pb2.OBSERVED_BY_WEBHOOK
    assert (notice.late, notice.duplicate_payment) == (True, True)
    assert notice.charge.charge_id == "ch_1"
    assert [each.refund_no for each in notice.charge.refunds] == ["r-1"]
    assert not notice.HasField("refund")
    assert refund.notification.notification_id == "o-1/2/c9", "with the id of its commit"
    assert (notice.told_again, refund.notification.told_again) == (False, True)
    assert refund.notification.kind == pb.NOTIFICATION_KIND_REFUND_FAILED
    assert refund.notification.refund.refund_no == "r-1"
    assert not refund.notification.late


async def test_an_empty_answer_is_no_error() -> None:
    """Nothing due, nothing waiting: the lease's length is given all the same."""
    async with served() as midas:
        response = await midas.stub.LeaseNotifications(pb.LeaseNotificationsRequest())
        assert midas.announcer.asked == [(limits.LEASE_DEFAULT, timedelta(0))]
    assert not response.notifications
    assert not response.HasField("oldest_undelivered_at")
    assert response.lease.ToTimedelta() == limits.NOTIFICATION_LEASE


@pytest.mark.parametrize("poison", ["kind", "charge", "refund"])
async def test_one_that_cannot_be_converted_keeps_no_other_back(poison: str) -> None:
    """A notification that another version wrote, or that is broken, comes up again later (I13)."""
    broken = {
        "kind": replace(PAID, kind="A_NEW_KIND"),
        "charge": replace(PAID, out_trade_no="gone"),
        "refund": replace(PAID, refund_no="gone"),
    }[poison]
    async with served(announcer=ScriptedAnnouncer([a_lease(broken), a_lease()])) as midas:
        response = await midas.stub.LeaseNotifications(pb.LeaseNotificationsRequest())
    assert [each.notification.sequence for each in response.notifications] == [1]


@pytest.mark.parametrize(
    ("request_", "fields"),
    [
        (pb.LeaseNotificationsRequest(max=-1), ["max"]),
        (pb.LeaseNotificationsRequest(max=limits.LEASE_MAX + 1), ["max"]),
        (pb.LeaseNotificationsRequest(max=2**31 - 1), ["max"]),
        (pb.LeaseNotificationsRequest(wait=Duration(seconds=61)), ["wait"]),
        (pb.LeaseNotificationsRequest(wait=Duration(seconds=60, nanos=1)), ["wait"]),
        (pb.LeaseNotificationsRequest(wait=Duration(nanos=-1)), ["wait"]),
        (pb.LeaseNotificationsRequest(wait=Duration(seconds=2**63 - 1)), ["wait"]),
        (pb.LeaseNotificationsRequest(wait=Duration(seconds=-(2**63))), ["wait"]),
        (pb.LeaseNotificationsRequest(max=-7, wait=Duration(seconds=-1)), ["max", "wait"]),
    ],
)
async def test_a_lease_out_of_bounds_is_refused(
    request_: pb.LeaseNotificationsRequest, fields: list[str]
) -> None:
    """Every wrong field is named, and nothing is leased."""
    async with served() as midas:
        status = await error_of(midas.stub.LeaseNotifications(request_))
        assert midas.announcer.asked == []
    assert status.code is grpc.StatusCode.INVALID_ARGUMENT
    assert status.fields == fields


@pytest.mark.parametrize("seconds", [0, 0.25, 60])
async def test_the_wait_is_what_was_asked_for(seconds: float) -> None:
    """Exactly, also without a deadline."""
    wait = Duration()
    wait.FromTimedelta(timedelta(seconds=seconds))
    async with served() as midas:
        await midas.stub.LeaseNotifications(pb.LeaseNotificationsRequest(max=256, wait=wait))
        assert midas.announcer.asked == [(256, timedelta(seconds=seconds))]


async def test_the_wait_ends_before_the_callers_patience() -> None:
    """A deadline shorter than the wait shortens it, so that the answer arrives in time."""
    async with served() as midas:
        request = pb.LeaseNotificationsRequest(wait=Duration(seconds=50))
        await midas.stub.LeaseNotifications(request, timeout=5)
        ((_, wait),) = midas.announcer.asked
    assert timedelta(0) < wait < timedelta(seconds=5)


async def test_a_lease_that_fails_is_an_error() -> None:
    """The database is away: UNAVAILABLE, come again."""
    announcer = ScriptedAnnouncer(error=StorageUnavailable())
    async with served(announcer=announcer) as midas:
        for call in (
            midas.stub.LeaseNotifications(pb.LeaseNotificationsRequest()),
            midas.stub.SettleNotifications(settle(settlement())),
        ):
            status = await error_of(call)
            assert status.code is grpc.StatusCode.UNAVAILABLE
            assert status.retry is not None


# SettleNotifications ----------------------------------------------------------------------


async def test_settlements_are_answered_in_order() -> None:
    """Each as it is, in the order in which they came."""
    outcomes = [
        (pb.DELIVERY_OUTCOME_DELIVERED, DeliveryOutcome.DELIVERED),
        (pb.DELIVERY_OUTCOME_RETRY, DeliveryOutcome.RETRY),
        (pb.DELIVERY_OUTCOME_REFUSED, DeliveryOutcome.REFUSED),
    ]
    async with served() as midas:
        response = await midas.stub.SettleNotifications(
            settle(
                *(
                    settlement(outcome=given, sequence=n, receiver_sequence=n * 2**51)
                    for n, (given, _) in enumerate(outcomes)
                )
            )
        )
        assert midas.announcer.settled == [
            Settlement("t1", "o-1", n, meant, "NOT_FOUND", n * 2**51)
            for n, (_, meant) in enumerate(outcomes)
        ]
    assert list(response.applied) == [True, False, True]


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("UNIMPLEMENTED", "UNIMPLEMENTED"),
        ("", UNNAMED),
        ("\n", UNNAMED),
        ("中", UNNAMED),
        ("X" * 1000, "X" * 32),
    ],
)
async def test_a_code_is_short_and_plain(code: str, kept: str) -> None:
    """What a gateway calls the status is never empty, long or odd when it is kept."""
    async with served() as midas:
        await midas.stub.SettleNotifications(settle(settlement(code=code)))
        assert midas.announcer.settled[0].code == kept


@pytest.mark.parametrize(
    ("settlements", "fields"),
    [
        ([], ["settlements"]),
        ([settlement()] * (limits.LEASE_MAX + 1), ["settlements"]),
        ([settlement(outcome=0)], ["settlements[0].outcome"]),
        ([settlement(), settlement(outcome=99)], ["settlements[1].outcome"]),
        ([settlement(order_no="")], ["settlements[0]"]),
        ([settlement(lease_token="")], ["settlements[0]"]),
        ([settlement(order_no="a\0")], ["settlements[0]"]),
        ([settlement(lease_token="\0")], ["settlements[0]"]),
        (
            [settlement(outcome=0), settlement(lease_token="")],
            ["settlements[0].outcome", "settlements[1]"],
        ),
    ],
)
async def test_settlements_out_of_bounds_are_refused(
    settlements: list[pb.Settlement], fields: list[str]
) -> None:
    """Every wrong field is named, and none of the report counts."""
    async with served() as midas:
        status = await error_of(midas.stub.SettleNotifications(settle(*settlements)))
        assert midas.announcer.settled == []
    assert status.code is grpc.StatusCode.INVALID_ARGUMENT
    assert status.fields == fields


# RecordEvents -----------------------------------------------------------------------------


class EachItsOwn(ScriptedInbox):
    """What becomes of an event stands in its body; `slow` waits for ever."""

    async def record(self, body: bytes, unreadable: str) -> Recorded:
        """The outcome that the body names."""
        self.asked.append((body, unreadable))
        if body == b"slow":
            await asyncio.Event().wait()
        if body == b"reused":
            raise EventIdReused("evt_1")
        if body == b"no database":
            raise StorageUnavailable
        if body == b"defect":
            raise RuntimeError("a secret: sk_live_x")
        return Recorded(EventOutcome.ACCEPTED, EVENT)


async def test_several_events_have_their_own_results() -> None:
    """Results have the order of the events; one that fails spoils nothing and leaks nothing."""
    bodies = (b"good", b"reused", b"no database", b"defect", b"good")
    request = pb.RecordEventsRequest(events=[pb.RecordEventRequest(body=each) for each in bodies])
    async with served(EachItsOwn()) as midas:
        answer = await midas.stub.RecordEvents(request)
    results = [
        (each.recorded.event_id, each.error.reason, each.error.permanent) for each in answer.results
    ]
    assert results == [
        ("evt_1", "", False),
        ("", "EVENT_ID_REUSED", True),
        ("", "STORAGE_UNAVAILABLE", False),
        ("", "INTERNAL", False),
        ("evt_1", "", False),
    ]
    assert "sk_live" not in str(answer)


async def test_a_slow_event_does_not_hold_up_the_others() -> None:
    """At the end of the caller's time the others are answered, and the slow one may come again."""
    bodies = (b"good", b"slow", b"good")
    request = pb.RecordEventsRequest(events=[pb.RecordEventRequest(body=each) for each in bodies])
    async with served(EachItsOwn()) as midas:
        answer = await midas.stub.RecordEvents(request, timeout=1)
    assert [each.HasField("recorded") for each in answer.results] == [True, False, True]
    assert not answer.results[1].error.permanent


@pytest.mark.parametrize("count", [0, limits.EVENTS_TOGETHER + 1])
async def test_so_many_events_are_refused(count: int) -> None:
    """None, and more than the bound."""
    request = pb.RecordEventsRequest(events=[pb.RecordEventRequest(body=b"x")] * count)
    async with served() as midas:
        status = await error_of(midas.stub.RecordEvents(request))
        assert midas.inbox.asked == []
    assert status.code is grpc.StatusCode.INVALID_ARGUMENT
