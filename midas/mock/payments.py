"""Canned charges and refunds, as messages of the contract and as Ping++'s JSON.

All ids are derived from the caller's key, so that the same key always has the same ones.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from midas.mock.credentials import Terms, credential
from midas.psp import channels
from midas.rpc.conversion import timestamp
from midas.v1 import charge_pb2, refund_pb2

APP_ID = "app_1Gqj58ynP0mHeX1q"
"""The app of Ping++'s public demo."""
TRANSACTION_NO = "4200000000202601010000000001"
OPERATOR_REASON = "canned: only a person can tell"
FAILURE_CODE, FAILURE_MESSAGE = "channel_response_code_fail", "支付失败"
REFUSED_CODE, REFUSED_MESSAGE = "refund_refused_msg", "退款已被支付渠道拒绝"
ACTION_URL = "https://mapi.alipay.com/gateway.do?service=refund_fastpay_by_platform_pwd"
_NUMBER_CHARACTERS = 20
_ID_DIGITS = 21
CHANNEL, AMOUNT = "alipay_qr", 1990
EXPIRES_IN = timedelta(hours=2)
_PAID = {"SUCCEEDED", "LATE", "DUPLICATE_PAYMENT", "REFUNDED"}
_STATES = {"LATE": "SUCCEEDED", "DUPLICATE_PAYMENT": "SUCCEEDED", "REFUNDED": "SUCCEEDED"} | {
    "SUPERSEDED": "CLOSED",
    "NEEDS_OPERATOR": "SUBMITTING",
    "ACTION_URL": "PENDING",
    "EXTERNAL": "SUCCEEDED",
}


def now() -> datetime:
    """The present second, in UTC."""
    return datetime.now(UTC).replace(microsecond=0)


def out_trade_no_of(order_no: str) -> str:
    """Midas's number of the order's charge: 20 letters and digits."""
    return hashlib.sha256(f"charge {order_no}".encode()).hexdigest()[:_NUMBER_CHARACTERS].upper()


@dataclass(frozen=True, slots=True)
class Payment:
    """What a charge is made of. `state` is a state's name, or one of `magic.STATES`."""

    order_no: str = "MOCK-ORDER"
    state: str = "SUCCEEDED"
    channel: str = CHANNEL
    amount: int = AMOUNT
    currency: str = "cny"
    subject: str = "Tea"
    body: str = "Green tea, 100 g"
    client_ip: str = "203.0.113.7"
    extra: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    expires_in: timedelta = EXPIRES_IN
    out_trade_no: str = ""
    charge_id: str = ""
    created_at: datetime = field(default_factory=now)

    @property
    def number(self) -> str:
        """Midas's number of the charge."""
        return self.out_trade_no or out_trade_no_of(self.order_no)

    @property
    def id(self) -> str:
        """Ping++'s id of the charge."""
        return self.charge_id or f"ch_100{_digits(self.number)}"

    @property
    def is_paid(self) -> bool:
        """Whether it holds the payer's money."""
        return self.state in _PAID


@dataclass(frozen=True, slots=True)
class Back:
    """What a refund is made of, beside its charge."""

    refund_no: str
    state: str = "SUCCEEDED"
    amount: int = 0
    description: str = "returned"
    metadata: Mapping[str, str] = field(default_factory=dict)
    funding_source: refund_pb2.FundingSource.ValueType = refund_pb2.FUNDING_SOURCE_UNSPECIFIED
    refund_id: str = ""

    @property
    def id(self) -> str:
        """Ping++'s id of the refund."""
        return self.refund_id or f"re_100{_digits(self.refund_no)}"


def first_state(channel: str) -> str:
    """The state of a new charge on this channel. A bar code takes the money at once."""
    known = channels.find(channel)
    return "SUCCEEDED" if known is not None and known.pays_at_create else "PENDING"


def charge_message(
    payment: Payment, refunds: Sequence[refund_pb2.Refund] = ()
) -> charge_pb2.Charge:
    """The charge as Midas answers it."""
    state = _STATES.get(payment.state, payment.state)
    made = timestamp(payment.created_at)
    message = charge_pb2.Charge(
        order_no=payment.order_no,
        out_trade_no=payment.number,
        state=charge_pb2.ChargeState.Value(f"CHARGE_STATE_{state}"),
        channel=payment.channel,
        amount=payment.amount,
        currency=payment.currency,
        subject=payment.subject,
        body=payment.body,
        client_ip=payment.client_ip,
        metadata=payment.metadata,
        created_at=made,
        updated_at=made,
        late=payment.state == "LATE",
        duplicate_payment=payment.state == "DUPLICATE_PAYMENT",
        superseded=payment.state == "SUPERSEDED",
        refunds=refunds,
    )
    if state != "SUBMITTING":
        message.charge_id = payment.id
        message.observed_by = charge_pb2.OBSERVED_BY_CREATE
        message.expires_at.CopyFrom(timestamp(payment.created_at + payment.expires_in))
    _set_outcome(message, payment)
    return message


def _set_outcome(message: charge_pb2.Charge, payment: Payment) -> None:
    if payment.is_paid or payment.state == "REVERSED":
        message.paid_at.CopyFrom(message.created_at)
        message.transaction_no = TRANSACTION_NO
        message.observed_by = charge_pb2.OBSERVED_BY_WEBHOOK
    if payment.state == "FAILED":
        message.failure_code, message.failure_message = FAILURE_CODE, FAILURE_MESSAGE
    if payment.state == "NEEDS_OPERATOR":
        message.needs_operator, message.operator_reason = True, OPERATOR_REASON
    if payment.is_paid:
        succeeded, failed = refund_pb2.REFUND_STATE_SUCCEEDED, refund_pb2.REFUND_STATE_FAILED
        message.amount_refunded = sum(r.amount for r in message.refunds if r.state == succeeded)
        held = sum(r.amount for r in message.refunds if r.state != failed)
        message.amount_refundable = max(payment.amount - held, 0)


def refund_message(payment: Payment, back: Back) -> refund_pb2.Refund:
    """The refund of this payment as Midas answers it. Without an amount all is refunded."""
    state = _STATES.get(back.state, back.state)
    made = timestamp(payment.created_at)
    message = refund_pb2.Refund(
        refund_no=back.id if back.state == "EXTERNAL" else back.refund_no,
        order_no=payment.order_no,
        out_trade_no=payment.number,
        charge_id=payment.id,
        state=refund_pb2.RefundState.Value(f"REFUND_STATE_{state}"),
        amount=back.amount or payment.amount,
        currency=payment.currency,
        description=back.description,
        metadata=back.metadata,
        funding_source=back.funding_source,
        created_at=made,
        updated_at=made,
        external=back.state == "EXTERNAL",
    )
    if state != "SUBMITTING":
        message.refund_id = back.id
    if state == "SUCCEEDED":
        message.succeeded_at.CopyFrom(made)
    if state == "FAILED":
        message.failure_code, message.failure_message = REFUSED_CODE, REFUSED_MESSAGE
    if back.state == "ACTION_URL":
        message.failure_code, message.action_url = "refund_wait_operation", ACTION_URL
    if back.state == "NEEDS_OPERATOR":
        message.needs_operator, message.operator_reason = True, OPERATOR_REASON
    return message


def charge_json(payment: Payment) -> str:
    """Ping++'s answer to the creation of the charge, in test mode (pingpp.md section 2)."""
    created = int(payment.created_at.timestamp())
    paid = payment.is_paid
    terms = Terms(
        charge_id=payment.id,
        out_trade_no=payment.number,
        channel=payment.channel,
        amount=payment.amount,
        subject=payment.subject,
        created=created,
    )
    refunds = {"object": "list", "url": f"/v1/charges/{payment.id}/refunds", "has_more": False}
    content = {
        "id": payment.id,
        "object": "charge",
        "created": created,
        "livemode": False,
        "paid": paid,
        "refunded": False,
        "reversed": False,
        "app": APP_ID,
        "channel": payment.channel,
        "order_no": payment.number,
        "client_ip": payment.client_ip,
        "amount": payment.amount,
        "amount_settle": payment.amount,
        "currency": payment.currency,
        "subject": payment.subject,
        "body": payment.body,
        "extra": dict(payment.extra),
        "time_paid": created if paid else None,
        "time_expire": created + int(payment.expires_in.total_seconds()),
        "time_settle": None,
        "transaction_no": TRANSACTION_NO if paid else None,
        "refunds": {**refunds, "data": []},
        "amount_refunded": 0,
        "failure_code": None,
        "failure_msg": None,
        "metadata": dict(payment.metadata),
        "credential": {} if paid else credential(terms),
        "description": None,
    }
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _digits(key: str) -> str:
    """Digits that are always the same for a key. An id of them and its prefix has 27 characters."""
    return str(int(hashlib.sha256(key.encode()).hexdigest(), 16))[:_ID_DIGITS]
