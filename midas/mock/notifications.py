"""Canned notifications, as Midas hands them out and as the order service gets them."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import Message

from midas.mock.payments import (
    AMOUNT,
    CHANNEL,
    Back,
    Payment,
    charge_message,
    now,
    out_trade_no_of,
    refund_message,
)
from midas.order.v1 import order_payment_service_pb2 as orders
from midas.rpc.conversion import timestamp
from midas.v1 import charge_pb2
from midas.v1 import event_service_pb2 as events

SUCCESS, CLOSED = "PayOrderSuccess", "PayOrderClosed"
REFUNDED, NOT_REFUNDED = "RefundSuccess", "RefundFailed"
METHODS = (CLOSED, SUCCESS, NOT_REFUNDED, REFUNDED)
"""All calls, in an order in which the order service may get them for one order."""

_KINDS = {
    SUCCESS: events.NOTIFICATION_KIND_PAY_ORDER_SUCCESS,
    CLOSED: events.NOTIFICATION_KIND_PAY_ORDER_CLOSED,
    REFUNDED: events.NOTIFICATION_KIND_REFUND_SUCCESS,
    NOT_REFUNDED: events.NOTIFICATION_KIND_REFUND_FAILED,
}
_REQUESTS: Mapping[str, type[Message]] = {
    SUCCESS: orders.PayOrderSuccessRequest,
    CLOSED: orders.PayOrderClosedRequest,
    REFUNDED: orders.RefundSuccessRequest,
    NOT_REFUNDED: orders.RefundFailedRequest,
}
_STATES = {SUCCESS: "SUCCEEDED", CLOSED: "CLOSED", REFUNDED: "SUCCEEDED", NOT_REFUNDED: "FAILED"}
_EPOCHS_PER_S = 10
_EPOCHS_SINCE = 1_750_000_000
_EPOCH_BITS = 20


@dataclass(frozen=True, slots=True)
class Notice:
    """What a notification is about."""

    method: str
    order_no: str
    sequence: int
    channel: str = CHANNEL
    amount: int = AMOUNT
    refund_no: str = ""
    refund_amount: int = 0
    external: bool = False
    late: bool = False
    duplicate_payment: bool = False
    told_again: bool = False
    earlier: bool = False
    """It is about a charge that ended before the order's present one was made."""


def fresh_epoch() -> int:
    """The start of a new epoch: it is above the sequence of every earlier notification.

    Nothing is kept, so it is made from the clock. There is a new epoch ten times a second, and they
    stay below 2^53 until the year 2052. To the receiver it looks as if Midas had failed over, which
    is no gap. The function waits for the next epoch, because an earlier call may have the present
    one.
    """
    passed = (time.time() - _EPOCHS_SINCE) * _EPOCHS_PER_S
    time.sleep((1 - passed % 1) / _EPOCHS_PER_S)
    return (int(passed) + 1) << _EPOCH_BITS


def notification(notice: Notice) -> events.Notification:
    """The notification as Midas hands it out."""
    of_refund = notice.method in (REFUNDED, NOT_REFUNDED)
    paid = Payment(
        notice.order_no,
        "CLOSED" if notice.method == CLOSED else "SUCCEEDED",
        channel=notice.channel,
        amount=notice.amount,
        out_trade_no=_number(notice),
    )
    message = events.Notification(
        notification_id=_id(notice),
        order_no=notice.order_no,
        sequence=notice.sequence,
        kind=_KINDS[notice.method],
        occurred_at=timestamp(now()),
        observed_by=charge_pb2.OBSERVED_BY_WEBHOOK,
        told_again=notice.told_again,
    )
    if notice.method == SUCCESS:
        message.late, message.duplicate_payment = notice.late, notice.duplicate_payment
    if of_refund:
        message.refund.CopyFrom(refund_message(paid, _back(notice)))
    message.charge.CopyFrom(charge_message(paid, [message.refund] if of_refund else []))
    if notice.method != CLOSED:
        message.charge.late, message.charge.duplicate_payment = (
            notice.late,
            notice.duplicate_payment,
        )
    return message


def request(notice: Notice) -> Message:
    """The notification as the order service gets it."""
    message, kind = notification(notice), _REQUESTS[notice.method]
    return kind(**{each.name: getattr(message, each.name) for each in kind.DESCRIPTOR.fields})


def _number(notice: Notice) -> str:
    """The out_trade_no of its charge: the one that Charge answers, or another one of the order.

    A duplicate payment came by another charge than the payment before it.
    """
    if notice.earlier:
        return out_trade_no_of(f"{notice.order_no} earlier")
    if notice.duplicate_payment and notice.method != CLOSED:
        return out_trade_no_of(f"{notice.order_no} duplicate")
    return out_trade_no_of(notice.order_no)


def _back(notice: Notice) -> Back:
    number = notice.refund_no or f"{notice.order_no}-{notice.method}"
    state = "EXTERNAL" if notice.external else _STATES[notice.method]
    return Back(number, state, amount=notice.refund_amount)


def _id(notice: Notice) -> str:
    """The notification's id: a repetition has the same, any other content has another one."""
    commit = hashlib.sha256(repr(notice).encode()).hexdigest()[:16]
    return f"{notice.order_no}/{notice.sequence}/{commit}"
