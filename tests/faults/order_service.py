"""The order service: the third ledger, beside Ping++'s and Midas's."""

from dataclasses import dataclass, field

from midas.payment import Notification, Order
from midas.sequences import EPOCH


@dataclass(frozen=True, slots=True)
class Received:
    """One notification that had an effect, with the charge or refund as it stood then."""

    sequence: int
    change_id: str
    kind: str
    out_trade_no: str
    charge_id: str
    refund_no: str
    refund_id: str
    amount: int
    late: bool
    duplicate_payment: bool

    @property
    def key(self) -> tuple[int, str, str, str, str, bool, bool]:
        """What never changes from one attempt to the next."""
        marks = self.late, self.duplicate_payment
        return self.sequence, self.change_id, self.kind, self.out_trade_no, self.refund_no, *marks


def follows(last: int, sequence: int) -> bool:
    """Whether it may come after `last`: the next one, or the first one of a later epoch."""
    return sequence == last + 1 or (sequence > last and sequence % EPOCH == 1)


@dataclass(slots=True)
class OrderService:
    """Takes each sequence of an order once. What comes too early breaks the promise on the spot."""

    received: dict[str, list[Received]] = field(default_factory=dict)
    """By order_no, in the order of arrival."""
    acknowledged: dict[str, int] = field(default_factory=dict)
    """The highest sequence whose acknowledgement reached somebody."""
    refused: set[str] = field(default_factory=set)
    """The orders for which it takes no more notifications."""

    def take(self, notification: Notification, order: Order) -> bool:
        """Take one; whether it was known. Raises AssertionError for one before its turn (I9)."""
        new = _received(notification, order)
        received = self.received.setdefault(order.order_no, [])
        last = received[-1].sequence if received else 0
        if new.sequence > last:
            assert follows(last, new.sequence), f"I9: {new.sequence} after {last}"
            received.append(new)
            return False
        known = [each.key for each in received if each.sequence == new.sequence]
        assert known == [new.key], "I7: one sequence, two messages"
        return True

    def acknowledge(self, notification: Notification) -> None:
        """The OK reaches the relay."""
        before = self.acknowledged.get(notification.order_no, 0)
        self.acknowledged[notification.order_no] = max(before, notification.sequence)

    def refuse(self, order_no: str) -> None:
        """Refuse such an order for ever (O4)."""
        self.refused.add(order_no)

    def payments(self, order_no: str) -> dict[str, int]:
        """What was paid and not reversed, as this service believes: amounts by charge_id."""
        paid: dict[str, int] = {}
        for each in self.received.get(order_no, ()):
            if each.kind == "PAY_ORDER_SUCCESS":
                paid[each.charge_id] = each.amount
            elif each.kind == "PAY_ORDER_CLOSED":
                paid.pop(each.charge_id, None)
        return paid

    def refunds(self, order_no: str) -> list[tuple[str, int]]:
        """What was given back, as this service believes: refund_id and amount, sorted."""
        received = self.received.get(order_no, ())
        done = {each.refund_id: each.amount for each in received if each.kind == "REFUND_SUCCESS"}
        return sorted(done.items())


def _received(notification: Notification, order: Order) -> Received:
    charge = order.charge(notification.out_trade_no)
    refund = order.refund(notification.refund_no) if notification.refund_no else None
    return Received(
        sequence=notification.sequence,
        change_id=notification.change_id,
        kind=notification.kind,
        out_trade_no=notification.out_trade_no,
        charge_id=charge.charge_id or "",
        refund_no=notification.refund_no,
        refund_id=(refund.refund_id or "") if refund else "",
        amount=refund.amount if refund else charge.amount,
        late=notification.late,
        duplicate_payment=notification.duplicate_payment,
    )
