"""midas.v1.EventService: the gateway's methods over the flows."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from midas import limits
from midas.delivery import DeliveryOutcome, Lease, Settlement
from midas.errors import FieldViolation
from midas.payment import Notification, Order
from midas.rpc import conversion
from midas.rpc.conversion import refuse
from midas.rpc.interceptor import Call, Method
from midas.v1 import event_service_pb2 as pb

if TYPE_CHECKING:
    from midas.flows.announce import Leased
    from midas.flows.events import Recorded

SERVICE = "midas.v1.EventService"
CODE_CHARACTERS = 32


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

    @property
    def methods(self) -> list[Method[Any]]:
        """Every method of the service, to be wrapped and served."""
        return [
            Method(f"{SERVICE}/RecordEvent", pb.RecordEventRequest, self.record),
            Method(f"{SERVICE}/LeaseNotifications", pb.LeaseNotificationsRequest, self.lease),
            Method(f"{SERVICE}/SettleNotifications", pb.SettleNotificationsRequest, self.settle),
        ]

    async def record(self, request: pb.RecordEventRequest, call: Call) -> pb.RecordEventResponse:
        """Write down one event of Ping++."""
        recorded = await self._inbox.record(request.body, request.unreadable)
        event = recorded.event
        call.ids |= {"event_id": event.event_id, "kind": event.type, "key": request.key_name}
        call.ids |= {"order_no": event.order_no or "", "state": str(recorded.outcome)}
        call.ids["reason"] = event.reason
        return pb.RecordEventResponse(
            outcome=_EVENT_OUTCOMES[recorded.outcome],
            event_id=event.event_id,
            type=event.type,
            reason=event.reason,
        )

    async def lease(
        self, request: pb.LeaseNotificationsRequest, call: Call
    ) -> pb.LeaseNotificationsResponse:
        """Hand out notifications that are due."""
        wait = _wait(request, call)
        leased = await self._announcer.lease(request.max or limits.LEASE_DEFAULT, wait)
        told = pb.LeaseNotificationsResponse(parked_orders=leased.backlog.parked)
        told.lease.FromTimedelta(leased.holds)
        if leased.backlog.oldest_at is not None:
            told.oldest_undelivered_at.CopyFrom(conversion.timestamp(leased.backlog.oldest_at))
        told.notifications.extend(_leased(lease, order) for lease, order in leased.leases)
        return told

    async def settle(
        self, request: pb.SettleNotificationsRequest, _: Call
    ) -> pb.SettleNotificationsResponse:
        """Write down what became of leases."""
        settlements = _settlements(request)
        return pb.SettleNotificationsResponse(applied=await self._announcer.settle(settlements))


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


def _wait(request: pb.LeaseNotificationsRequest, call: Call) -> timedelta:
    """How long to wait: as asked for, and never beyond the caller's own deadline."""
    wrong: list[FieldViolation] = []
    if not 0 <= request.max <= limits.LEASE_MAX:
        wrong.append(FieldViolation("max", f"give 1 to {limits.LEASE_MAX}, or 0"))
    asked = timedelta(seconds=request.wait.seconds, microseconds=request.wait.nanos // 1000)
    if not timedelta(0) <= asked <= limits.LEASE_WAIT_MAX:
        longest = limits.LEASE_WAIT_MAX.total_seconds()
        wrong.append(FieldViolation("wait", f"give 0 to {longest:.0f} seconds"))
    refuse(wrong)
    return asked if call.timeout is None else min(asked, max(call.timeout, timedelta(0)))


def _leased(lease: Lease, order: Order) -> pb.LeasedNotification:
    return pb.LeasedNotification(
        lease_token=lease.token,
        attempts=lease.attempts,
        notification=_notification(lease.notification, order),
    )


def _notification(told: Notification, order: Order) -> pb.Notification:
    charge = order.charge(told.out_trade_no)
    message = pb.Notification(
        notification_id=f"{told.order_no}/{told.sequence}",
        order_no=told.order_no,
        sequence=told.sequence,
        kind=_KINDS[told.kind],
        occurred_at=conversion.timestamp(told.occurred_at),
        observed_by=conversion.observed_by(told.observed_by),
        charge=conversion.charge_message(order, charge),
        late=told.late,
        duplicate_payment=told.duplicate_payment,
    )
    if told.refund_no:
        message.refund.CopyFrom(conversion.refund_message(order.refund(told.refund_no)))
    return message


def _settlements(request: pb.SettleNotificationsRequest) -> list[Settlement]:
    """Raises InvalidRequest."""
    wrong: list[FieldViolation] = []
    if not 0 < len(request.settlements) <= limits.LEASE_MAX:
        wrong.append(FieldViolation("settlements", f"give 1 to {limits.LEASE_MAX}"))
    for index, each in enumerate(request.settlements):
        if each.outcome not in _DELIVERY_OUTCOMES:
            wrong.append(FieldViolation(f"settlements[{index}].outcome", "say what became of it"))
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
        )
        for each in request.settlements
    ]


def _code(told: str) -> str:
    """The name of a status, or what a person would look for instead."""
    plain = told.isascii() and told.isprintable() and bool(told)
    return told[:CODE_CHARACTERS] if plain else "UNNAMED"
