"""midas.v1.EventService: the gateway's methods over the flows."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from midas import limits
from midas.errors import EventIdReused, FieldViolation, InvalidRequest, MidasError
from midas.lease import UNNAMED, DeliveryOutcome, Lease, Settlement
from midas.payment import Notification, Order
from midas.rpc import conversion
from midas.rpc.conversion import refuse
from midas.rpc.errors import INTERNAL, INTERRUPTED, failure_of
from midas.rpc.interceptor import Call, Method
from midas.runtime.logs import failure, log_event
from midas.v1 import event_service_pb2 as pb

if TYPE_CHECKING:
    from midas.flows.announce import Leased
    from midas.flows.apply_event import Recorded

SERVICE = "midas.v1.EventService"
CODE_CHARACTERS = 32
KEY_NAME_CHARACTERS = 64

_log = logging.getLogger(__name__)


class Recorder(Protocol):
    """What the service needs of `midas.flows.inbox.Inbox`."""

    async def record(self, body: bytes, unreadable: str) -> "Recorded":
        """Write an event down and apply it."""


class Notifier(Protocol):
    """What the service needs of `midas.flows.announce.Announcer`."""

    async def lease(self, limit: int, wait: timedelta) -> "Leased":
        """Hand out notifications that are due."""

    async def settle(self, settlements: Sequence[Settlement]) -> list[bool]:
        """Write down what became of them."""


class EventService:
    """The methods of the service."""

    def __init__(self, inbox: Recorder, announcer: Notifier) -> None:
        self._inbox = inbox
        self._announcer = announcer
        self._under_way: set[asyncio.Task[pb.RecordEventResult]] = set()

    @property
    def methods(self) -> list[Method[Any]]:
        """Every method of the service, to be wrapped and served."""
        return [
            Method(f"{SERVICE}/RecordEvent", pb.RecordEventRequest, self.record),
            Method(f"{SERVICE}/RecordEvents", pb.RecordEventsRequest, self.record_several),
            Method(f"{SERVICE}/LeaseNotifications", pb.LeaseNotificationsRequest, self.lease),
            Method(f"{SERVICE}/SettleNotifications", pb.SettleNotificationsRequest, self.settle),
        ]

    async def record(self, request: pb.RecordEventRequest, call: Call) -> pb.RecordEventResponse:
        """Write down one event of Ping++."""
        recorded = await self._inbox.record(request.body, request.unreadable)
        call.ids |= _ids(request, recorded)
        return _recorded(recorded)

    async def record_several(
        self, request: pb.RecordEventsRequest, call: Call
    ) -> pb.RecordEventsResponse:
        """Write down several events, each for itself, with a log line as if it had come alone."""
        if not 0 < len(request.events) <= limits.EVENTS_TOGETHER:
            refuse([FieldViolation("events", f"give 1 to {limits.EVENTS_TOGETHER}")])
        tasks = [asyncio.create_task(self._result(each)) for each in request.events]
        self._under_way.update(tasks)
        for task in tasks:
            task.add_done_callback(self._under_way.discard)
        timeout_s = None if call.timeout is None else max(0.0, call.timeout.total_seconds())
        await asyncio.wait(tasks, timeout=timeout_s)
        # A slow one goes on, and the answer to the others does not wait for it.
        return pb.RecordEventsResponse(
            results=[task.result() if task.done() else _NOT_YET for task in tasks]
        )

    async def _result(self, request: pb.RecordEventRequest) -> pb.RecordEventResult:
        try:
            recorded = await self._inbox.record(request.body, request.unreadable)
        except MidasError as error:
            failed = failure_of(error)
            log_event("event", {"code": failed.code.name, "reason": failed.reason})
            permanent = isinstance(error, EventIdReused | InvalidRequest)
            return pb.RecordEventResult(
                error=pb.RecordEventError(reason=failed.reason, permanent=permanent)
            )
        except Exception as error:
            _log.error("event_not_recorded", extra=failure(error))
            return pb.RecordEventResult(error=pb.RecordEventError(reason=INTERNAL.reason))
        log_event("event", {"code": "OK", **_ids(request, recorded)})
        return pb.RecordEventResult(recorded=_recorded(recorded))

    async def lease(
        self, request: pb.LeaseNotificationsRequest, call: Call
    ) -> pb.LeaseNotificationsResponse:
        """Hand out notifications that are due."""
        wait = _wait(request, call)
        leased = await self._announcer.lease(request.max or limits.LEASE_DEFAULT, wait)
        response = pb.LeaseNotificationsResponse()
        response.lease.FromTimedelta(leased.holds)
        if leased.backlog is not None:
            response.backlog_known, response.parked_orders = True, leased.backlog.parked
        if leased.backlog is not None and leased.backlog.oldest_at is not None:
            oldest_at = conversion.timestamp(leased.backlog.oldest_at)
            response.oldest_undelivered_at.CopyFrom(oldest_at)
        response.notifications.extend(_leased(leased.leases))
        return response

    async def settle(
        self, request: pb.SettleNotificationsRequest, _: Call
    ) -> pb.SettleNotificationsResponse:
        """Write down what became of leases."""
        settlements = _settlements(request)
        return pb.SettleNotificationsResponse(applied=await self._announcer.settle(settlements))


def _ids(request: pb.RecordEventRequest, recorded: "Recorded") -> dict[str, str]:
    event = recorded.event
    return {
        "event_id": event.event_id,
        "kind": event.type,
        "key": request.key_name[:KEY_NAME_CHARACTERS],
        "order_no": event.order_no or "",
        "state": recorded.outcome.value,
        "reason": event.reason,
    }


def _recorded(recorded: "Recorded") -> pb.RecordEventResponse:
    event = recorded.event
    return pb.RecordEventResponse(
        outcome=_EVENT_OUTCOMES[recorded.outcome],
        event_id=event.event_id,
        type=event.type,
        reason=event.reason,
    )


_NOT_YET = pb.RecordEventResult(error=pb.RecordEventError(reason=INTERRUPTED.reason))
_EVENT_OUTCOMES = {
    "ACCEPTED": pb.EVENT_OUTCOME_ACCEPTED,
    "DUPLICATE": pb.EVENT_OUTCOME_DUPLICATE,
    "IGNORED": pb.EVENT_OUTCOME_IGNORED,
}
_KINDS = {
    kind: pb.NotificationKind.Value(f"NOTIFICATION_KIND_{kind}")
    for kind in ("PAY_ORDER_SUCCESS", "PAY_ORDER_CLOSED", "REFUND_SUCCESS", "REFUND_FAILED")
}
_DELIVERY_OUTCOMES = {
    pb.DeliveryOutcome.Value(f"DELIVERY_OUTCOME_{each}"): each for each in DeliveryOutcome
}


_LONGEST_S = limits.LEASE_WAIT_MAX.total_seconds()


def _wait(request: pb.LeaseNotificationsRequest, call: Call) -> timedelta:
    """How long to wait: as long as asked for, but never beyond the caller's deadline."""
    wrong: list[FieldViolation] = []
    if not 0 <= request.max <= limits.LEASE_MAX:
        wrong.append(FieldViolation("max", f"give 1 to {limits.LEASE_MAX}, or 0"))
    asked_s, longest_s = request.wait.seconds + request.wait.nanos / 1e9, _LONGEST_S
    if not 0 <= asked_s <= longest_s:
        wrong.append(FieldViolation("wait", f"give 0 to {longest_s:.0f} seconds"))
    refuse(wrong)
    asked = timedelta(seconds=asked_s)
    return asked if call.timeout is None else min(asked, max(call.timeout, timedelta(0)))


def _leased(leases: Iterable[Lease]) -> Iterator[pb.LeasedNotification]:
    """Convert leases to the contract. One that cannot be converted must not keep the others back.

    That one is due again when its lease is over.
    """
    for lease in leases:
        notification = lease.notification
        try:
            message = _notification(notification, lease.order)
        except Exception as error:
            ids = {"order_no": notification.order_no, "sequence": notification.sequence}
            _log.error("notification_not_told", extra=ids | failure(error))
            continue
        yield pb.LeasedNotification(
            lease_token=lease.token, attempts=lease.attempts, notification=message
        )


def _notification(notification: Notification, order: Order) -> pb.Notification:
    charge = order.charge(notification.out_trade_no)
    message = pb.Notification(
        notification_id=_id(notification),
        order_no=notification.order_no,
        sequence=notification.sequence,
        kind=_KINDS[notification.kind],
        occurred_at=conversion.timestamp(notification.occurred_at),
        observed_by=conversion.observed_by(notification.observed_by),
        charge=conversion.charge_message(order, charge),
        late=notification.late,
        duplicate_payment=notification.duplicate_payment,
        told_again=notification.told_again,
    )
    if notification.refund_no:
        refund = order.refund(notification.refund_no)
        message.refund.CopyFrom(conversion.refund_message(refund))
    return message


def _id(notification: Notification) -> str:
    """The notification's id. No other one has it, not even a lost one with the same sequence."""
    named = f"{notification.order_no}/{notification.sequence}"
    return f"{named}/{notification.change_id}" if notification.change_id else named


def _settlements(request: pb.SettleNotificationsRequest) -> list[Settlement]:
    """The settlements in the request. Raises InvalidRequest."""
    wrong: list[FieldViolation] = []
    if not 0 < len(request.settlements) <= limits.LEASE_MAX:
        wrong.append(FieldViolation("settlements", f"give 1 to {limits.LEASE_MAX}"))
    for index, each in enumerate(request.settlements):
        if each.outcome not in _DELIVERY_OUTCOMES:
            wrong.append(FieldViolation(f"settlements[{index}].outcome", "give the outcome"))
        if not each.order_no or not each.lease_token or "\0" in each.order_no + each.lease_token:
            named = "name the order and its lease"
            wrong.append(FieldViolation(f"settlements[{index}]", named))
    refuse(wrong)
    return [
        Settlement(
            token=each.lease_token,
            order_no=each.order_no,
            sequence=each.sequence,
            outcome=_DELIVERY_OUTCOMES[each.outcome],
            code=_code(each.code),
            receiver_sequence=each.receiver_sequence,
        )
        for each in request.settlements
    ]


def _code(given: str) -> str:
    """The name of a status, or UNNAMED if the text cannot be one."""
    plain = given.isascii() and given.isprintable() and bool(given)
    return given[:CODE_CHARACTERS] if plain else UNNAMED
