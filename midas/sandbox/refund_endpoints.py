"""Refunds: asked for, refused, waiting for a person, done (pingpp.md section 3).

There is no idempotency here, as at Ping++: the same request twice makes two refunds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import urlencode

from midas.sandbox.books import Books
from midas.sandbox.credentials import BEIJING
from midas.sandbox.errors import ControlError, Json, invalid, missing, not_found
from midas.sandbox.fields import description_of, metadata_of, positive_amount
from midas.sandbox.records import Charge, Refund

RefundOutcome = Literal["succeeded", "pending", "failed", "alipay_link"]
FUNDING_SOURCES = ("unsettled_funds", "recharge_funds")
LINK_TEXT = "需要打开地址进行下一步退款操作: "
WAITS_FOR_PERSON = "refund_wait_operation"
REFUSED_BY_CHANNEL = "refund_refused_msg"


@dataclass(slots=True)
class RefundPlan:
    """What becomes of the next `times` refunds that match, or of every one if `times` is None."""

    outcome: RefundOutcome
    times: int | None = 1
    channel: str | None = None
    order_no: str | None = None
    code: str | None = None
    msg: str | None = None

    def fits(self, charge: Charge) -> bool:
        """Whether it applies to a refund of this charge (links exist on Alipay only)."""
        if self.times == 0 or (self.channel or charge.channel) != charge.channel:
            return False
        if self.outcome == "alipay_link" and not _has_links(charge):
            return False
        return (self.order_no or charge.order_no) == charge.order_no


def create_refund(
    books: Books,
    charge: Charge,
    request: Json,
    choose_plan: Callable[[Charge], RefundPlan],
    *,
    description_required: bool,
) -> Refund:
    """A refund in the state that its plan says; raises `ApiError` when the rules forbid it.

    `choose_plan` is asked only once every rule is satisfied, so a refused request uses no plan up.
    """
    _check_charge(books, charge)
    refund = _new_refund(books, charge, _amount(books, charge, request))
    refund.description = description_of(request)
    if refund.description in (None, "") and description_required:
        raise missing("description")
    refund.metadata = metadata_of(request)
    refund.funding_source = _funding_source(request)
    plan = choose_plan(charge)
    with books.change():
        books.add_refund(refund)
        _carry_out(books, refund, plan)
    return refund


def refund_at_dashboard(books: Books, charge: Charge, amount: int | None) -> Refund:
    """A person refunds in Ping++'s dashboard: it succeeds and carries no metadata."""
    _check_charge(books, charge)
    request = {} if amount is None else {"amount": amount}
    refund = _new_refund(books, charge, _amount(books, charge, request))
    refund.description = "管理平台退款"
    with books.change():
        books.add_refund(refund)
        _succeed(books, refund)
    return refund


def find_refund(books: Books, charge: Charge, refund_id: str) -> Refund:
    """The refund of this charge, or 404."""
    refund = books.refunds.get(refund_id)
    if refund is None or refund.charge != charge.id:
        raise not_found("refund", refund_id)
    return refund


def look_again(books: Books, refund: Refund) -> Refund:
    """Retrieving a refund that waits for a person answers with a fresh link."""
    if refund.status == "pending" and refund.needs_link:
        with books.change():
            _make_link(books, refund)
            books.record_refund("refund_relinked", refund)
    return refund


def approve_refund(books: Books, refund: Refund) -> Refund:
    """The channel sends the money back; also after a failure, as long as enough is left."""
    if refund.status == "succeeded":
        return refund
    charge = books.charges[refund.charge]
    if refund.status == "failed" and refund.amount > refundable(books, charge):
        raise ControlError(f"{charge.id} has less than {refund.amount} left to refund")
    with books.change():
        _succeed(books, refund)
    return refund


def fail_refund(books: Books, refund: Refund, code: str | None, msg: str | None) -> Refund:
    """The channel refuses a refund that was pending."""
    if refund.status != "pending":
        raise ControlError(f"{refund.id} is {refund.status}, only a pending refund can fail")
    with books.change():
        _fail(books, refund, code, msg)
    return refund


def refundable(books: Books, charge: Charge) -> int:
    """How much may still be refunded, in minor units. Pending refunds count as gone."""
    held = sum(refund.amount for refund in books.refunds_of(charge.id) if refund.holds_money)
    return charge.amount - held


def _check_charge(books: Books, charge: Charge) -> None:
    if not charge.paid:
        raise invalid(f"订单号 {charge.order_no} 未支付，不能发起退款。Charge id: {charge.id}。")
    if charge.reversed:
        raise invalid(f"订单号 {charge.order_no} 已撤销，不能发起退款。Charge id: {charge.id}。")
    done = sum(r.amount for r in books.refunds_of(charge.id) if r.status == "succeeded")
    if done >= charge.amount:
        raise invalid(
            f"不能对订单号 {charge.order_no} 发起退款，因为已经全额退款了。Charge id: {charge.id}。"
        )
    paid_at = charge.time_paid or charge.created
    if books.now() - paid_at > charge.rules.refund_within_s:
        text = f"退款时间超出渠道 {charge.channel} 允许的最晚退款时间"
        raise invalid(text, "Refund_time")


def _amount(books: Books, charge: Charge, request: Json) -> int:
    left = refundable(books, charge)
    amount = left if request.get("amount") is None else positive_amount(request)
    if amount > left or amount == 0:
        raise invalid(f"退款金额超出可退金额，可退金额: {left}", "amount")
    return amount


def _funding_source(request: Json) -> str | None:
    source = request.get("funding_source")
    if source is None:
        return None
    if source not in FUNDING_SOURCES:
        raise invalid(f"无效的 funding_source: {source}", "funding_source")
    return str(source)


def _new_refund(books: Books, charge: Charge, amount: int) -> Refund:
    sequence = len(books.refunds) + 1
    return Refund(
        seq=sequence,
        id=books.ids.refund(books.now(), sequence),
        created=int(books.now()),
        charge=charge.id,
        charge_order_no=charge.order_no,
        app=charge.app,
        amount=amount,
        currency=charge.currency,
        status="pending",
        description=None,
    )


def _carry_out(books: Books, refund: Refund, plan: RefundPlan) -> None:
    match plan.outcome:
        case "succeeded":
            _succeed(books, refund)
        case "failed":
            _fail(books, refund, plan.code, plan.msg)
        case "alipay_link":
            refund.needs_link = True
            _make_link(books, refund)
            books.record_refund("refund_relinked", refund)
        case "pending":
            pass


def _succeed(books: Books, refund: Refund) -> None:
    refund.status = "succeeded"
    refund.time_succeed = int(books.now())
    refund.failure_code = refund.failure_msg = None
    refund.transaction_no = books.ids.transaction(books.now(), 21)
    books.record_refund("refund_succeeded", refund, amount=refund.amount)
    books.add_event("refund.succeeded", books.charges[refund.charge], refund)


def _fail(books: Books, refund: Refund, code: str | None, msg: str | None) -> None:
    charge = books.charges[refund.charge]
    refund.status = "failed"
    refund.failure_code = code or REFUSED_BY_CHANNEL
    refund.failure_msg = msg or (
        f"退款 {charge.channel} 已被支付渠道拒绝。"
        "来自渠道的信息：交易未结算资金不足，请使用可用余额退款"
    )
    books.record_refund("refund_failed", refund)
    books.add_event("refund.failed", charge, refund)


def _make_link(books: Books, refund: Refund) -> None:
    refund.links_made += 1
    local = datetime.fromtimestamp(books.now(), BEIJING)
    fields = {
        "service": "refund_fastpay_by_platform_pwd",
        "_input_charset": "utf-8",
        "refund_date": local.strftime("%Y-%m-%d %H:%M:%S"),
        "batch_no": f"{local:%Y%m%d}{refund.id.removeprefix('re_')}",
        "batch_num": 1,
        "link": refund.links_made,
    }
    url = f"{books.public_url}/refund-approve/{refund.id}?{urlencode(fields)}"
    refund.failure_code = WAITS_FOR_PERSON
    refund.failure_msg = LINK_TEXT + url


def _has_links(charge: Charge) -> bool:
    return charge.rules.family == "alipay" and not charge.rules.pays_at_create
