"""Notifications as Midas sends them, of orders that the kit made up."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from midas.order.v1 import order_payment_service_pb2 as pb
from midas.v1 import charge_pb2, refund_pb2

SUCCESS, CLOSED = "PayOrderSuccess", "PayOrderClosed"
REFUNDED, NOT_REFUNDED = "RefundSuccess", "RefundFailed"
METHODS = (SUCCESS, CLOSED, REFUNDED, NOT_REFUNDED)
REQUESTS: dict[str, Callable[..., Message]] = {
    SUCCESS: pb.PayOrderSuccessRequest,
    CLOSED: pb.PayOrderClosedRequest,
    REFUNDED: pb.RefundSuccessRequest,
    NOT_REFUNDED: pb.RefundFailedRequest,
}
CURRENCY = "cny"
NEW_ENUM_VALUE = 99
NEW_FIELDS = b"\xfa\x3f\x0bof the next"
"""Field 1023 with text, as a later contract might add it."""

_STATES = {
    SUCCESS: charge_pb2.CHARGE_STATE_SUCCEEDED,
    CLOSED: charge_pb2.CHARGE_STATE_CLOSED,
    REFUNDED: charge_pb2.CHARGE_STATE_SUCCEEDED,
    NOT_REFUNDED: charge_pb2.CHARGE_STATE_SUCCEEDED,
}


def notice(
    method: str,
    order_no: str,
    sequence: int,
    amount: int,
    flags: Mapping[str, bool] = MappingProxyType({}),
    about: int = 0,
    commit: str = "c1",
    elsewhere: bool = False,
) -> Message:
    """One notification; `flags` are late, duplicate_payment and told_again.

    It is about a charge and a refund of its own, or about those of the sequence `about`. `commit`
    is the id of the commit that wrote it. `elsewhere`: the refund was made in Ping++'s dashboard.
    """
    subject = about or sequence
    fields: dict[str, Any] = {
        "notification_id": f"{order_no}/{sequence}/{commit}",
        "order_no": order_no,
        "sequence": sequence,
        "occurred_at": _now(),
        "observed_by": charge_pb2.OBSERVED_BY_WEBHOOK,
        "charge": _charge(method, order_no, subject, amount),
        **flags,
    }
    if method in (REFUNDED, NOT_REFUNDED):
        fields["refund"] = _refund(method, order_no, subject, elsewhere)
    return REQUESTS[method](**fields)


def of_a_newer_contract(request: Any) -> Message:
    """The request with unknown fields everywhere and enum values that do not exist yet."""
    request.observed_by = NEW_ENUM_VALUE
    request.charge.state = NEW_ENUM_VALUE
    request.charge.MergeFromString(NEW_FIELDS)
    if "refund" in request.DESCRIPTOR.fields_by_name:
        request.refund.state = NEW_ENUM_VALUE
        request.refund.MergeFromString(NEW_FIELDS)
    request.MergeFromString(NEW_FIELDS)
    message: Message = request
    return message


def _charge(method: str, order_no: str, subject: int, amount: int) -> charge_pb2.Charge:
    number = f"{order_no}{subject}".replace("-", "")
    return charge_pb2.Charge(
        order_no=order_no,
        out_trade_no=number[-20:],
        charge_id=f"ch_{number}",
        state=_STATES[method],
        channel="alipay_qr",
        amount=amount,
        currency=CURRENCY,
        subject="midas contract-kit",
        body="no real money",
        created_at=_now(),
        updated_at=_now(),
        observed_by=charge_pb2.OBSERVED_BY_WEBHOOK,
    )


def _refund(method: str, order_no: str, subject: int, elsewhere: bool) -> refund_pb2.Refund:
    done = method == REFUNDED
    refund_id = f"re_{order_no}{subject}".replace("-", "")
    state = refund_pb2.REFUND_STATE_SUCCEEDED if done else refund_pb2.REFUND_STATE_FAILED
    return refund_pb2.Refund(
        refund_no=refund_id if elsewhere else f"{order_no}-R{subject}",
        refund_id=refund_id,
        external=elsewhere,
        order_no=order_no,
        state=state,
        amount=1,
        currency=CURRENCY,
        description="midas contract-kit",
        failure_code="" if done else "refund_refused_msg",
        created_at=_now(),
        updated_at=_now(),
    )


def _now() -> Timestamp:
    now = Timestamp()
    now.GetCurrentTime()
    return now
