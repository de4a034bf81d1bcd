"""Charges, refunds and changes for tests of the storage."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from midas.charge import Charge, ChargeFacts, ChargeObservation, ChargeReport, ObservedBy
from midas.draft import Draft
from midas.payment import Change, Order
from midas.refund import Refund, RefundFacts, RefundObservation, RefundReport

NOON = datetime(2030, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


def a_charge(order_no: str, **fields: Any) -> Charge:
    """A charge that was just written down."""
    values: dict[str, Any] = {
        "out_trade_no": uuid4().hex[:20],
        "order_no": order_no,
        "app_id": "app_1",
        "livemode": False,
        "channel": "alipay",
        "amount": 100,
        "currency": "cny",
        "subject": "A book",
        "body": "One book",
        "client_ip": "127.0.0.1",
        "extra": {},
        "metadata": {},
        "terms_digest": "digest",
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Charge(**values | fields)


def a_refund(charge: Charge, **fields: Any) -> Refund:
    """A refund of 10 fen that was just written down."""
    values: dict[str, Any] = {
        "refund_no": uuid4().hex[:20],
        "order_no": charge.order_no,
        "out_trade_no": charge.out_trade_no,
        "charge_id": charge.charge_id or "ch_1",
        "amount": 10,
        "currency": "cny",
        "app_id": "app_1",
        "description": "Too late",
        "metadata": {},
        "content_digest": "digest",
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Refund(**values | fields)


def intent(order_no: str, order: Order | None = None, **fields: Any) -> Change:
    """The change that writes down a new charge."""
    draft = Draft(order or Order(order_no))
    draft.add_charge(a_charge(order_no, **fields), "CREATE")
    return changed(draft)


def refund_intent(order: Order, **fields: Any) -> Change:
    """The change that writes down a refund of the order's first charge."""
    draft = Draft(order)
    draft.add_refund(a_refund(order.charges[0], **fields), "CREATE")
    return changed(draft)


def paid(order: Order, charge_id: str = "") -> Change:
    """The change that books a payment of the order's last charge: one notification."""
    charge = order.charges[-1]
    facts = ChargeFacts(
        charge_id=charge_id or f"ch_{charge.out_trade_no}",
        out_trade_no=charge.out_trade_no,
        app_id=charge.app_id,
        livemode=charge.livemode,
        channel=charge.channel,
        amount=charge.amount,
        currency=charge.currency,
        paid=True,
        reversed=False,
        created_at=NOON,
        paid_at=NOON + timedelta(minutes=1),
        transaction_no="42",
    )
    draft = Draft(order)
    observation = ChargeObservation(ChargeReport.PAID, ObservedBy.WEBHOOK, NOON, facts)
    draft.observe_charge(charge.out_trade_no, observation, plan=False)
    return changed(draft)


def refunded(order: Order, refund_id: str = "") -> Change:
    """The change that books the end of the order's last refund: one notification."""
    refund = order.refunds[-1]
    facts = RefundFacts(
        refund_id=refund_id or f"re_{refund.refund_no}",
        charge_id=refund.charge_id,
        amount=refund.amount,
        report=RefundReport.DONE,
        created_at=NOON,
        succeeded_at=NOON,
    )
    draft = Draft(order)
    draft.observe_refund(
        refund.refund_no, RefundObservation(RefundReport.DONE, "QUERY", NOON, facts), plan=False
    )
    return changed(draft)


def touched(order: Order, subject: str = "", **fields: Any) -> Change:
    """A change of some fields of one charge (the first, unless it is named)."""
    charge = order.charge(subject) if subject else order.charges[0]
    draft = Draft(order)
    draft.put(replace(charge, **fields), ("touched", NOON, "TEST"))
    return changed(draft)


def changed(draft: Draft) -> Change:
    """The draft's change, which must be one."""
    change = draft.change(uuid4().hex)
    assert change is not None
    return change
