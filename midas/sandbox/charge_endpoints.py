"""Creating, paying, reversing: what can happen to a charge (pingpp.md sections 2, 8 and 9)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from midas.sandbox.books import Books
from midas.sandbox.channel_table import CHANNELS, DAY_S
from midas.sandbox.credentials import BEIJING
from midas.sandbox.declines import DECLINED, DECLINED_MSG, DeclinePlan
from midas.sandbox.errors import (
    ApiError,
    ControlError,
    Json,
    invalid,
    not_found,
    refused_by_channel,
)
from midas.sandbox.fields import Terms, read_terms
from midas.sandbox.records import Charge

UNIONPAY_DAY_STARTS_AT_HOUR = 23
FAILED_AT_CHANNEL = "channel_response_code_fail"


def create_charge(books: Books, request: Json, declines: Sequence[DeclinePlan] = ()) -> Charge:
    """A new charge, or the first one again inside the window of section 8.

    A bar code that is declined is answered with an error; the charge is there all the same.
    """
    now = int(books.now())
    terms = read_terms(request, books.app_id, now)
    known = _same_answer(books, terms)
    if known is not None:
        return known
    charge = _new_charge(books, terms, now)
    at_once = terms.channel.pays_at_create
    decline = next((each for each in declines if at_once and each.takes(charge)), None)
    charge.hidden_until_paid = decline is not None and not decline.listed
    with books.change():
        books.add_charge(charge)
        if at_once and decline is None:
            _take_money(books, charge)
    if decline is not None:
        raise refused_by_channel(decline.msg or DECLINED_MSG, decline.code or DECLINED)
    return charge


def find_charge(books: Books, charge_id: str) -> Charge:
    """The charge, or 404 with the text that is reported of Ping++."""
    charge = books.charges.get(charge_id)
    if charge is None or not charge.shown:
        raise not_found("charge", charge_id)
    return charge


def pay_charge(books: Books, charge: Charge, *, late: bool = False) -> Charge:
    """The payer confirms. Paying twice moves no money.

    `late` pays also after `time_expire`, and after the channel had reported a failure.
    """
    if charge.paid:
        return charge
    if charge.reversed:
        raise ControlError(f"{charge.id} was reversed and cannot be paid any more")
    if charge.expired(books.now()) and not late:
        raise ControlError(f"{charge.id} has expired; use a late payment to force it")
    if charge.failure_code and not late:
        raise ControlError(f"{charge.id} has failed; use a late payment to force it")
    with books.change():
        _take_money(books, charge)
    return charge


def fail_charge(books: Books, charge: Charge, code: str | None, msg: str | None) -> Charge:
    """The channel reports a failed payment: charge.failed, no money. A repeat makes no event."""
    if charge.paid or charge.reversed:
        state = "paid" if charge.paid else "reversed"
        raise ControlError(f"{charge.id} is {state}, only an unpaid charge can fail")
    if charge.failure_code is not None:
        return charge
    charge.failure_code = code or FAILED_AT_CHANNEL
    charge.failure_msg = msg or f"支付渠道 {charge.channel} 返回支付失败。"
    with books.change():
        books.record_charge("charge_failed", charge)
        books.add_event("charge.failed", charge)
    return charge


def open_charge(books: Books, charge: Charge) -> None:
    """The payer opened the payment page (matters for isv_wap, section 8)."""
    if charge.opened_at is None:
        charge.opened_at = books.now()
        with books.change():
            books.record_charge("charge_opened", charge)


def reverse_charge(books: Books, charge: Charge, wx_reverse_after_s: float) -> Charge:
    """Close an unpaid charge, or give the money of a bar-code payment back (section 9).

    A charge that is reversed already is answered as it is.
    """
    if charge.reversed:
        return charge
    refusal = _why_not_reverse(books, charge, wx_reverse_after_s)
    if refusal is not None:
        raise refusal
    charge.reversed = True
    with books.change():
        books.record_charge("charge_reversed", charge, amount=charge.amount if charge.paid else 0)
    return charge


def _same_answer(books: Books, terms: Terms) -> Charge | None:
    """The earlier charge that answers this request; None for a new one; raises when refused."""
    rules = terms.channel
    earlier = [
        charge
        for charge in books.charges_of(terms.order_no)
        if charge.channel == rules.name or (rules.family == "wx" and charge.rules.family == "wx")
    ]
    wanted = (
        terms.order_no,
        rules.name,
        terms.amount,
        terms.subject,
        terms.body,
        books.app_id,
    )
    same = [charge for charge in earlier if charge.six_elements() == wanted]
    if same and _answers_again(same[-1], books.now()):
        return same[-1]
    if earlier and _refused(terms, earlier[-1], bool(same), books.now()):
        raise _number_used(earlier[-1])
    return None


def _answers_again(charge: Charge, now: float) -> bool:
    if now - charge.created > charge.rules.same_answer_s or charge.reversed:
        return False
    # A bar code is paid within the create, so its cached answer is a paid charge where the table
    # of section 8 speaks of a cache; elsewhere "already paid" leads to a new charge or a refusal.
    cached_paid = charge.rules.pays_at_create and charge.rules.family in ("wx", "isv")
    return not charge.paid or cached_paid


def _refused(terms: Terms, latest: Charge, same: bool, now: float) -> bool:
    if terms.channel.name == "isv_wap":
        return latest.opened_at is not None and now - latest.opened_at > 60
    if same and terms.channel.new_charge_after_window:
        return False
    return terms.channel.repeats_refused


def _number_used(latest: Charge) -> ApiError:
    if latest.reversed:
        return refused_by_channel(f"订单 {latest.order_no} 已关闭", "charge_closed")
    text = f"订单号 {latest.order_no} 已被使用，请使用新的订单号重新发起支付。"
    return refused_by_channel(text, "charge_order_no_used")


def _new_charge(books: Books, terms: Terms, now: int) -> Charge:
    sequence = len(books.charges_oldest_first) + 1
    return Charge(
        seq=sequence,
        id=books.ids.charge(now, sequence),
        created=now,
        livemode=books.livemode,
        app=books.app_id,
        channel=terms.channel.name,
        order_no=terms.order_no,
        client_ip=terms.client_ip,
        amount=terms.amount,
        currency=terms.currency,
        subject=terms.subject,
        body=terms.body,
        extra=terms.extra,
        time_expire=terms.time_expire,
        metadata=terms.metadata,
        description=terms.description,
    )


def _take_money(books: Books, charge: Charge) -> None:
    charge.paid = True
    charge.time_paid = int(books.now())
    charge.transaction_no = books.ids.transaction(books.now())
    charge.extra = {**charge.extra, **_added_by_channel(charge)}
    charge.failure_code = charge.failure_msg = None
    books.record_charge("charge_paid", charge, amount=charge.amount)
    books.add_event("charge.succeeded", charge)


def _added_by_channel(charge: Charge) -> Json:
    match CHANNELS[charge.channel].family:
        case "wx":
            return {
                "open_id": charge.extra.get("open_id", "just_for_test"),
                "bank_type": "your bank type",
            }
        case "alipay":
            return {"buyer_account": "alipay_account"}
        case _:
            return {}


def _why_not_reverse(books: Books, charge: Charge, wx_reverse_after_s: float) -> ApiError | None:
    rules, now = charge.rules, books.now()
    if not rules.reversible:
        return invalid(f"渠道 {charge.channel} 不支持撤销", "channel")
    if charge.paid and not rules.reversible_when_paid:
        return invalid("订单已支付，请使用退款接口", code="charge_unexpected_status")
    if books.refunds_of(charge.id):
        return invalid("订单已有退款记录，不能撤销", code="charge_unexpected_status")
    if not _reverse_window_open(charge, now):
        return invalid(f"已超出渠道 {charge.channel} 允许的撤销时间")
    bar_code = rules.pays_at_create
    if rules.family == "wx" and not bar_code and now - charge.created < wx_reverse_after_s:
        text = f"The request for channel was unsuccessful. Error message from channel {rules.name}"
        return refused_by_channel(f"{text}: 订单生成后不能马上关闭", "channel_request_error")
    return None


def _reverse_window_open(charge: Charge, now: float) -> bool:
    match charge.rules.reverse_window:
        case "7_days":
            return now - charge.created <= 7 * DAY_S
        case "24_hours":
            return now - charge.created <= DAY_S
        case "same_day":
            return _day(charge.created, 0) == _day(now, 0)
        case "unionpay_day":
            shift = 24 - UNIONPAY_DAY_STARTS_AT_HOUR
            return _day(charge.created, shift) == _day(now, shift)
        case "any":
            return True


def _day(now: float, shift_hours: int) -> str:
    local = datetime.fromtimestamp(now, BEIJING) + timedelta(hours=shift_hours)
    return local.date().isoformat()
