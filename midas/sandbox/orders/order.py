"""What the order service knows of an order: a pure function of what it accepted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from midas.order.v1 import order_payment_service_pb2 as pb
from midas.v1 import charge_pb2

EPOCH = 1 << 20
"""How many numbers an epoch of sequences has, as midas.order.v1 says."""

REQUESTS: dict[str, type[Any]] = {
    "pay_order_success": pb.PayOrderSuccessRequest,
    "pay_order_closed": pb.PayOrderClosedRequest,
    "refund_success": pb.RefundSuccessRequest,
    "refund_failed": pb.RefundFailedRequest,
}
"""Each call's request, by the name under which it is kept."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """One notification that had an effect."""

    position: int
    """Counts all accepted notifications in the order of their arrival."""
    kind: str
    """One of REQUESTS."""
    order_no: str
    sequence: int
    request: Any
    """The message as it came, fields of newer contracts included."""


@dataclass(slots=True)
class Order:
    """One order. The first four count the effects of each call; amounts are in minor units."""

    order_no: str
    pay_order_success: int = 0
    pay_order_closed: int = 0
    refund_success: int = 0
    refund_failed: int = 0
    last_sequence: int = 0
    missed: int = 0
    """How many sequences of its epochs, below the last sequence, never came."""
    state: str = "NEW"
    """NEW, PAID, CLOSED (the last charge ended without money) or REVERSED."""
    paid_by: str = ""
    """The charge that paid the order."""
    amount_paid: int = 0
    """The amount of the charge that paid the order, without money that is to be given back."""
    late: bool = False
    """Whether it was paid after the charge had been closed or had failed."""
    money_to_give_back: list[tuple[str, int]] = field(default_factory=list)
    """The charges that paid the order once more, each with its amount."""
    amount_refunded: int = 0
    refunds: dict[str, str] = field(default_factory=dict)
    """SUCCEEDED or FAILED by refund_no."""

    def to_json(self) -> dict[str, Any]:
        """The order as `midas orders --show` prints it."""
        return asdict(self)


def order_of(order_no: str, accepted: Iterable[Accepted]) -> Order:
    """The order after these, in the order of their arrival.

    Each payment, closing and refund counts once, however often it comes: after its database has
    lost commits, Midas may send it again under another sequence.
    """
    order, known = Order(order_no), set[tuple[object, ...]]()
    for each in accepted:
        order.missed += missed_between(order.last_sequence, each.sequence)
        order.last_sequence = each.sequence
        what = _what(each)
        if what not in known:
            known.add(what)
            setattr(order, each.kind, getattr(order, each.kind) + 1)
            _EFFECTS[each.kind](order, each.request)
    return order


def missed_between(last: int, sequence: int) -> int:
    """How many sequences between these never came. A change of epoch alone is no gap."""
    return sequence - max(last, sequence // EPOCH * EPOCH) - 1


def _what(accepted: Accepted) -> tuple[object, ...]:
    request = accepted.request
    if accepted.kind in ("refund_success", "refund_failed"):
        return accepted.kind, request.refund.refund_no
    closed = accepted.kind == "pay_order_closed"
    was_reversed = closed and request.charge.state == charge_pb2.CHARGE_STATE_REVERSED
    return accepted.kind, request.charge.out_trade_no, was_reversed


def _paid(order: Order, request: pb.PayOrderSuccessRequest) -> None:
    if request.duplicate_payment:
        order.money_to_give_back.append((request.charge.charge_id, request.charge.amount))
        return
    order.state, order.late = "PAID", request.late
    order.paid_by, order.amount_paid = request.charge.charge_id, request.charge.amount


def _closed(order: Order, request: pb.PayOrderClosedRequest) -> None:
    charge = request.charge
    if charge.state == charge_pb2.CHARGE_STATE_REVERSED:
        _reversed(order, charge)
    elif order.state != "PAID":
        order.state = "CLOSED"


def _reversed(order: Order, charge: charge_pb2.Charge) -> None:
    """The channel gave back what this charge had taken."""
    back = order.money_to_give_back
    order.money_to_give_back = [each for each in back if each[0] != charge.charge_id]
    if order.paid_by == charge.charge_id:
        order.state, order.amount_paid = "REVERSED", 0


def _refunded(order: Order, request: pb.RefundSuccessRequest) -> None:
    order.refunds[request.refund.refund_no] = "SUCCEEDED"
    order.amount_refunded += request.refund.amount


def _not_refunded(order: Order, request: pb.RefundFailedRequest) -> None:
    order.refunds.setdefault(request.refund.refund_no, "FAILED")


_EFFECTS: dict[str, Any] = {
    "pay_order_success": _paid,
    "pay_order_closed": _closed,
    "refund_success": _refunded,
    "refund_failed": _not_refunded,
}
