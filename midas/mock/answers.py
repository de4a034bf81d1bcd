"""What each method answers, from its request alone. One function for each."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from google.protobuf.message import Message

from midas import limits
from midas.errors import FieldViolation, InvalidRequest
from midas.flows import terms as rules
from midas.mock import failures, magic
from midas.mock.notifications import METHODS, Notice, notification
from midas.mock.payments import (
    EXPIRES_IN,
    Back,
    Payment,
    charge_json,
    charge_message,
    first_state,
    refund_message,
)
from midas.psp import channel_rules
from midas.rpc import conversion
from midas.rpc.page import Page, page
from midas.v1 import event_service_pb2 as events
from midas.v1 import payment_service_pb2 as payments

_PAYMENTS = "midas.v1.PaymentService"
_EVENTS = "midas.v1.EventService"
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
"""When the first payment of a list was made. It never changes, as a page's token holds a time."""
_LISTED = ("SUCCEEDED", "PENDING", "CLOSED", "FAILED", "REVERSED", "SUBMITTING", "REFUNDED")
_LISTED_REFUNDS = ("SUCCEEDED", "PENDING", "FAILED", "SUBMITTING", "EXTERNAL")
_TYPES = ("charge.succeeded", "charge.failed", "refund.succeeded", "refund.failed")
_TOKEN = "mock-lease"  # noqa: S105 - what a lease is named by, no secret
LEASE = timedelta(seconds=30)
EVENT_NAMES = ("DUPLICATE", "IGNORED")
"""The names that an event's id may end with, beside those of errors."""
LEASE_LOST = "LEASE_LOST"
"""The name that a lease_token may end with."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A method of the contract: the type of its request, and what makes the answer.

    `answer` takes the request and the name that it asks for, which is empty for the usual answer.
    """

    request: type[Any]
    answer: Callable[[Any, str], Message]
    moves_money: bool = False


def charge(request: payments.ChargeRequest, name: str) -> payments.ChargeResponse:
    """An open charge, or a paid one where the channel takes the money at once."""
    terms = conversion.charge_terms(request)
    violations = rules.charge_violations(terms)
    wrong = {each.field for each in violations}
    by_channel = channel_rules.charge_violations(terms, livemode=False)
    conversion.refuse([*violations, *(each for each in by_channel if each.field not in wrong)])
    known = Payment(
        order_no=terms.order_no,
        state=_state(name, first_state(terms.channel)),
        channel=terms.channel,
        amount=terms.amount,
        currency=terms.currency,
        subject=terms.subject,
        body=terms.body,
        client_ip=terms.client_ip,
        extra=terms.extra,
        metadata=terms.metadata,
        expires_in=terms.expires_in or EXPIRES_IN,
    )
    return payments.ChargeResponse(
        charge=charge_message(known), charge_json=charge_json(known), reused=name == "REUSED"
    )


def refund(request: payments.RefundRequest, name: str) -> payments.RefundResponse:
    """A refund that succeeded."""
    conversion.refuse(rules.refund_violations(conversion.refund_terms(request)))
    paid = Payment(charge_id=request.charge_id)
    if request.order_no:
        paid = Payment(order_no=request.order_no)
    back = Back(
        refund_no=request.refund_no,
        state="SUBMITTING" if request.validate_only else _state(name, "SUCCEEDED", refund=True),
        amount=request.amount,
        description=request.description,
        metadata=dict(request.metadata),
        funding_source=request.funding_source,
    )
    return payments.RefundResponse(refund=refund_message(paid, back))


def query(request: payments.QueryRequest, name: str) -> payments.QueryResponse:
    """One paid charge. If the key is a refund's, the charge has that refund."""
    kind, key = conversion.query_key(request)
    conversion.refuse(rules.key_violations(kind, key))
    if kind in ("refund_no", "refund_id"):
        paid, state = Payment(), _state(name, "SUCCEEDED", refund=True)
        number, own_id = (key, "") if kind == "refund_no" else ("MOCK-REFUND", key)
        refunds = [refund_message(paid, Back(number, state, refund_id=own_id))]
        return payments.QueryResponse(charges=[charge_message(paid, refunds)])
    given: dict[str, str] = {str(kind): key}
    asked = Payment(state=_state(name, "SUCCEEDED"), **given)  # type: ignore[arg-type]
    return payments.QueryResponse(charges=[_with_refund(asked)])


def list_charges(request: payments.ListChargesRequest, _: str) -> payments.ListChargesResponse:
    """A charge in every state, and one that is refunded in part; the newest first."""
    conversion.asked_charge_state(request.state)
    made = [
        _with_refund(Payment(f"MOCK-{state}", state, created_at=_FIRST - timedelta(hours=at)))
        for at, state in enumerate(_LISTED)
    ]
    wanted = page(request)
    shown, token = _page(wanted, request.state, made, lambda each: each.out_trade_no)
    return payments.ListChargesResponse(charges=shown, next_page_token=token)


def list_refunds(request: payments.ListRefundsRequest, _: str) -> payments.ListRefundsResponse:
    """A refund in every state, and one that was made elsewhere; the newest first."""
    conversion.asked_refund_state(request.state)
    made = []
    for at, state in enumerate(_LISTED_REFUNDS):
        paid = Payment(f"MOCK-{state}", created_at=_FIRST - timedelta(hours=at))
        made.append(refund_message(paid, Back(f"MOCK-R-{state}", state, amount=300)))
    wanted = page(request)
    shown, token = _page(wanted, request.state, made, lambda each: each.refund_no)
    return payments.ListRefundsResponse(refunds=shown, next_page_token=token)


def poll_pending(request: payments.PollPendingRequest, _: str) -> payments.PollPendingResponse:
    """Two rows of each kind were due; of each kind one has ended, which no webhook had brought."""
    kinds, limit = conversion.poll_wanted(request)
    rows = min(2 * (len(kinds) or 2), limit or limits.POLL_ROWS_DEFAULT)
    ended = rows // 2
    return payments.PollPendingResponse(
        examined=rows,
        changed=ended,
        still_pending=rows - ended,
        found_by_poll=ended,
        psp_calls=rows,
        next_due_at=conversion.timestamp(datetime.now(UTC) + timedelta(seconds=30)),
    )


def record_event(request: events.RecordEventRequest, name: str) -> events.RecordEventResponse:
    """Accepted, if it is an event of a type that Midas handles."""
    if not 0 < len(request.body) <= limits.EVENT_BYTES:
        rule = f"give 1 to {limits.EVENT_BYTES} bytes"
        conversion.refuse([FieldViolation("body", rule)])
    event = _event(request)
    if event is None:
        digest = hashlib.sha256(request.body).hexdigest()
        return _recorded("IGNORED", f"sha256:{digest}", "", "unreadable")
    outcome = name or magic.ending(event["id"], EVENT_NAMES)
    if not outcome:
        outcome = "ACCEPTED" if event["type"] in _TYPES else "IGNORED"
    reason = "unhandled_type" if outcome == "IGNORED" else ""
    return _recorded(outcome, event["id"], event["type"], reason)


def record_events(request: events.RecordEventsRequest, _: str) -> events.RecordEventsResponse:
    """Answer each event as if it had come alone."""
    if not 0 < len(request.events) <= limits.EVENTS_TOGETHER:
        conversion.refuse([FieldViolation("events", f"give 1 to {limits.EVENTS_TOGETHER}")])
    return events.RecordEventsResponse(results=[_result(each) for each in request.events])


def _result(request: events.RecordEventRequest) -> events.RecordEventResult:
    reason = magic.ending(event_key(request), failures.NAMES)
    if not reason:
        try:
            return events.RecordEventResult(recorded=record_event(request, ""))
        except InvalidRequest:
            reason = "INVALID_REQUEST"
    permanent = reason in ("EVENT_ID_REUSED", "INVALID_REQUEST")
    return events.RecordEventResult(
        error=events.RecordEventError(reason=reason, permanent=permanent)
    )


def event_key(request: events.RecordEventRequest) -> str:
    """The event's id, which may end with a name; empty where it cannot be read."""
    event = _event(request)
    return "" if event is None else event["id"]


def lease(request: events.LeaseNotificationsRequest, _: str) -> events.LeaseNotificationsResponse:
    """One notification of each kind, each of another order, at once and every time."""
    if not 0 <= request.max <= limits.LEASE_MAX:
        rule = f"give 1 to {limits.LEASE_MAX}, or 0"
        conversion.refuse([FieldViolation("max", rule)])
    response = events.LeaseNotificationsResponse(backlog_known=True)
    response.lease.FromTimedelta(LEASE)
    response.notifications.extend(
        events.LeasedNotification(
            lease_token=f"{_TOKEN}-{method}",
            notification=notification(Notice(method, f"MOCK-{method}", 1)),
        )
        for method in METHODS[: request.max or limits.LEASE_DEFAULT]
    )
    response.oldest_undelivered_at.CopyFrom(response.notifications[0].notification.occurred_at)
    return response


def settle(
    request: events.SettleNotificationsRequest, _: str
) -> events.SettleNotificationsResponse:
    """Every settlement is applied, unless its lease_token asks for a lost lease."""
    if not 0 < len(request.settlements) <= limits.LEASE_MAX:
        rule = f"give 1 to {limits.LEASE_MAX}"
        conversion.refuse([FieldViolation("settlements", rule)])
    return events.SettleNotificationsResponse(
        applied=[not magic.ending(each.lease_token, [LEASE_LOST]) for each in request.settlements]
    )


def _state(name: str, usual: str, *, refund: bool = False) -> str:
    """The state that was asked for, if a charge, or with `refund` a refund, can have it."""
    return name if name in (_OF_REFUNDS if refund else _OF_CHARGES) else usual


_OF_BOTH = {"SUBMITTING", "PENDING", "SUCCEEDED", "FAILED", "NEEDS_OPERATOR"}
_OF_REFUNDS = _OF_BOTH | {"EXTERNAL", "ACTION_URL"}
_OF_CHARGES = (
    _OF_BOTH
    | {"CLOSED", "REVERSED", "LATE", "DUPLICATE_PAYMENT"}
    | {
        "SUPERSEDED",
        "REFUNDED",
    }
)


def _with_refund(payment: Payment) -> Any:
    refunds = []
    if payment.state == "REFUNDED":
        third = max(payment.amount // 3, 1)
        refunds.append(refund_message(payment, Back(f"{payment.order_no}-R1", amount=third)))
    return charge_message(payment, refunds)


_Row = TypeVar("_Row", bound=Any)


def _page(
    wanted: Page, state: int, made: list[_Row], key: Callable[[_Row], str]
) -> tuple[list[_Row], str]:
    """The rows of this page, and the token of the next one."""
    listing = wanted.listing
    rows = [
        each
        for each in made
        if state in (0, each.state)
        and (listing.created_from is None or listing.created_from <= _made(each))
        and (listing.created_before is None or _made(each) < listing.created_before)
        and (listing.after is None or (_made(each), key(each)) < listing.after)
    ]
    shown = rows[: wanted.size]
    more = len(rows) > len(shown)
    return shown, wanted.token(_made(shown[-1]), key(shown[-1])) if more else ""


def _made(row: Any) -> datetime:
    moment: datetime = row.created_at.ToDatetime(tzinfo=UTC)
    return moment


def _event(request: events.RecordEventRequest) -> dict[str, str] | None:
    """The event's id and type, if it can be read."""
    if request.unreadable:
        return None
    try:
        read = json.loads(request.body)
        named = {name: read[name] for name in ("id", "type")}
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return named if all(isinstance(each, str) for each in named.values()) else None


def _recorded(outcome: str, event_id: str, kind: str, reason: str) -> events.RecordEventResponse:
    number = events.EventOutcome.Value(f"EVENT_OUTCOME_{outcome}")
    return events.RecordEventResponse(outcome=number, event_id=event_id, type=kind, reason=reason)


METHODS_ANSWERED: Mapping[str, Answer] = {
    f"{_PAYMENTS}/Charge": Answer(payments.ChargeRequest, charge, moves_money=True),
    f"{_PAYMENTS}/Refund": Answer(payments.RefundRequest, refund, moves_money=True),
    f"{_PAYMENTS}/Query": Answer(payments.QueryRequest, query),
    f"{_PAYMENTS}/ListCharges": Answer(payments.ListChargesRequest, list_charges),
    f"{_PAYMENTS}/ListRefunds": Answer(payments.ListRefundsRequest, list_refunds),
    f"{_PAYMENTS}/PollPending": Answer(payments.PollPendingRequest, poll_pending),
    f"{_EVENTS}/RecordEvent": Answer(events.RecordEventRequest, record_event),
    f"{_EVENTS}/RecordEvents": Answer(events.RecordEventsRequest, record_events),
    f"{_EVENTS}/LeaseNotifications": Answer(events.LeaseNotificationsRequest, lease),
    f"{_EVENTS}/SettleNotifications": Answer(events.SettleNotificationsRequest, settle),
}
"""Every method of every service of Midas."""
