"""Protobuf to domain and back. Pure, and on the path of every call.

A value that protobuf can hold and the domain cannot becomes a violation here; all other rules are
the flows'.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from midas import charge as domain
from midas import refund as refunds
from midas.charge import ChargeTerms
from midas.errors import FieldViolation, InvalidRequest
from midas.flows.terms import RefundTerms
from midas.limits import POLL_ROWS_MAX
from midas.payment import Order
from midas.ports import KeyKind, RowKind
from midas.refund import FundingSource
from midas.v1 import charge_pb2, payment_service_pb2, refund_pb2

if TYPE_CHECKING:
    from midas.flows.poll import PollResult  # the mock, which uses this file, has not all it needs

EXACT_INTEGER_MAX = 2**53
"""The largest number that is taken. Struct numbers are doubles, which do not hold every integer
beyond it."""
EXPIRES_IN_MAX = timedelta(days=3660)
"""A bound that is far beyond every channel's limit, and short enough to be added to any date."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP_SECONDS = range(-62_135_596_800, 253_402_300_800)
_NANOS = range(1_000_000_000)

_CHARGE_STATES: Mapping[domain.ChargeState, charge_pb2.ChargeState.ValueType] = {
    state: charge_pb2.ChargeState.Value(f"CHARGE_STATE_{state}") for state in domain.ChargeState
}
_REFUND_STATES: Mapping[refunds.RefundState, refund_pb2.RefundState.ValueType] = {
    state: refund_pb2.RefundState.Value(f"REFUND_STATE_{state}") for state in refunds.RefundState
}
_OBSERVED_BY: Mapping[str | None, charge_pb2.ObservedBy.ValueType] = {
    None: charge_pb2.OBSERVED_BY_UNSPECIFIED,
    **{by: charge_pb2.ObservedBy.Value(f"OBSERVED_BY_{by}") for by in domain.ObservedBy},
}
_FUNDING_SOURCES: Mapping[FundingSource | None, refund_pb2.FundingSource.ValueType] = {
    None: refund_pb2.FUNDING_SOURCE_UNSPECIFIED,
    **{
        source: refund_pb2.FundingSource.Value(f"FUNDING_SOURCE_{source.name}")
        for source in FundingSource
    },
}
_ASKED_CHARGE_STATES: Mapping[int, domain.ChargeState] = {
    number: state for state, number in _CHARGE_STATES.items()
}
_ASKED_REFUND_STATES: Mapping[int, refunds.RefundState] = {
    number: state for state, number in _REFUND_STATES.items()
}
_ASKED_FUNDING_SOURCES = {number: source for source, number in _FUNDING_SOURCES.items()}


def charge_terms(request: payment_service_pb2.ChargeRequest) -> ChargeTerms:
    """What the caller asks for. Raises InvalidRequest."""
    wrong: list[FieldViolation] = []
    extra = _struct(request.extra, "extra", wrong) if request.HasField("extra") else {}
    expires_in = None
    if request.HasField("expires_in"):
        expires_in = _duration(request.expires_in, "expires_in", wrong)
    refuse(wrong)
    return ChargeTerms(
        order_no=request.order_no,
        channel=request.channel,
        amount=request.amount,
        currency=request.currency,
        subject=request.subject,
        body=request.body,
        client_ip=request.client_ip,
        extra=extra,
        metadata=dict(request.metadata),
        expires_in=expires_in,
    )


def refund_terms(request: payment_service_pb2.RefundRequest) -> RefundTerms:
    """What the caller asks for. Raises InvalidRequest."""
    wrong: list[FieldViolation] = []
    if request.WhichOneof("target") is None:
        wrong.append(FieldViolation("target", "give either order_no or charge_id"))
    if request.funding_source not in _ASKED_FUNDING_SOURCES:
        wrong.append(_unknown_number("funding_source", request.funding_source))
    refuse(wrong)
    return RefundTerms(
        refund_no=request.refund_no,
        order_no=request.order_no,
        charge_id=request.charge_id,
        amount=request.amount,
        description=request.description,
        metadata=dict(request.metadata),
        funding_source=_ASKED_FUNDING_SOURCES[request.funding_source],
        validate_only=request.validate_only,
    )


def query_key(request: payment_service_pb2.QueryRequest) -> tuple[KeyKind, str]:
    """Which payment is meant. Raises InvalidRequest."""
    name = request.WhichOneof("key")
    if name is None:
        raise InvalidRequest((FieldViolation("key", "give one of the keys"),))
    return KeyKind(name), getattr(request, name)


def asked_charge_state(number: int) -> domain.ChargeState | None:
    """The state in a filter; None means any. Raises InvalidRequest."""
    if number == charge_pb2.CHARGE_STATE_UNSPECIFIED:
        return None
    state = _ASKED_CHARGE_STATES.get(number)
    if state is None:
        raise InvalidRequest((_unknown_number("state", number),))
    return state


def asked_refund_state(number: int) -> refunds.RefundState | None:
    """The state in a filter; None means any. Raises InvalidRequest."""
    if number == refund_pb2.REFUND_STATE_UNSPECIFIED:
        return None
    state = _ASKED_REFUND_STATES.get(number)
    if state is None:
        raise InvalidRequest((_unknown_number("state", number),))
    return state


def poll_wanted(request: payment_service_pb2.PollPendingRequest) -> tuple[set[RowKind], int]:
    """What to look at, and how many rows at most. Raises InvalidRequest."""
    wrong = [_unknown_number("kinds", each) for each in request.kinds if each not in _POLL_KINDS]
    if not 0 <= request.limit <= POLL_ROWS_MAX:
        wrong.append(FieldViolation("limit", f"give 0 to {POLL_ROWS_MAX}"))
    refuse(wrong)
    return {_POLL_KINDS[each] for each in request.kinds}, request.limit


_POLL_KINDS = {
    payment_service_pb2.POLL_KIND_CHARGES: RowKind.CHARGE,
    payment_service_pb2.POLL_KIND_REFUNDS: RowKind.REFUND,
}


def poll_message(result: "PollResult") -> payment_service_pb2.PollPendingResponse:
    """What a run did."""
    return payment_service_pb2.PollPendingResponse(
        examined=result.examined,
        changed=result.changed,
        still_pending=result.still_pending,
        unknown=result.unknown,
        failed=result.failed,
        found_by_poll=result.found_by_poll,
        psp_calls=result.psp_calls,
        more_due=result.more_due,
        next_due_at=_maybe(result.next_due_at),
        oldest_due_at=_maybe(result.oldest_due_at),
    )


def observed_by(by: str) -> charge_pb2.ObservedBy.ValueType:
    """How something was learnt."""
    return _OBSERVED_BY[by]


def charge_message(order: Order, charge: domain.Charge) -> charge_pb2.Charge:
    """A charge of the order with its refunds, as a message of the contract."""
    message = charge_pb2.Charge(
        order_no=charge.order_no,
        out_trade_no=charge.out_trade_no,
        charge_id=charge.charge_id or "",
        state=_CHARGE_STATES[charge.state],
        channel=charge.channel,
        amount=charge.amount,
        currency=charge.currency,
        subject=charge.subject,
        body=charge.body,
        client_ip=charge.client_ip,
        metadata=charge.metadata,
        livemode=charge.livemode,
        created_at=timestamp(charge.created_at),
        expires_at=_maybe(charge.expires_at),
        paid_at=_maybe(charge.paid_at),
        updated_at=timestamp(charge.updated_at),
        observed_by=_OBSERVED_BY[charge.observed_by],
        transaction_no=charge.transaction_no,
        failure_code=charge.failure_code,
        failure_message=charge.failure_message,
        late=charge.late,
        duplicate_payment=charge.duplicate_payment,
        superseded=charge.superseded,
        needs_operator=bool(charge.operator_reason),
        operator_reason=charge.operator_reason,
        amount_refundable=order.refundable(charge),
    )
    if order.refunds:
        message.amount_refunded = order.refunded(charge.out_trade_no)
        message.refunds.extend(refund_message(r) for r in order.refunds_of(charge.out_trade_no))
    return message


def refund_message(refund: refunds.Refund) -> refund_pb2.Refund:
    """A refund as a message of the contract."""
    return refund_pb2.Refund(
        refund_no=refund.refund_no,
        refund_id=refund.refund_id or "",
        order_no=refund.order_no,
        out_trade_no=refund.out_trade_no,
        charge_id=refund.charge_id,
        state=_REFUND_STATES[refund.state],
        amount=refund.amount,
        currency=refund.currency,
        description=refund.description,
        metadata=refund.metadata,
        funding_source=_FUNDING_SOURCES[refund.funding_source],
        action_url=refund.action_url,
        failure_code=refund.failure_code,
        failure_message=refund.failure_message,
        transaction_no=refund.transaction_no,
        created_at=timestamp(refund.created_at),
        succeeded_at=_maybe(refund.succeeded_at),
        updated_at=timestamp(refund.updated_at),
        external=refund.external,
        needs_operator=bool(refund.operator_reason),
        operator_reason=refund.operator_reason,
    )


def timestamp(moment: datetime) -> Timestamp:
    """An aware moment, exact to the microsecond."""
    since = moment - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    return Timestamp(seconds=seconds, nanos=since.microseconds * 1000)


def moment(given: Timestamp, field: str, wrong: list[FieldViolation]) -> datetime | None:
    """The time in UTC, or None and a violation when it is outside of years 1 to 9999."""
    if given.seconds not in _TIMESTAMP_SECONDS or given.nanos not in _NANOS:
        wrong.append(FieldViolation(field, "give a time of the years 1 to 9999"))
        return None
    return _EPOCH + timedelta(seconds=given.seconds, microseconds=given.nanos // 1000)


def refuse(wrong: Iterable[FieldViolation]) -> None:
    """Raise InvalidRequest if anything is wrong."""
    violations = tuple(wrong)
    if violations:
        raise InvalidRequest(violations)


def _maybe(moment: datetime | None) -> Timestamp | None:
    return None if moment is None else timestamp(moment)


def _duration(given: Duration, field: str, wrong: list[FieldViolation]) -> timedelta | None:
    longest = EXPIRES_IN_MAX.days * 86_400
    if not 0 <= given.seconds < longest or given.nanos not in _NANOS:
        wrong.append(FieldViolation(field, f"give a time above 0 and below {longest} seconds"))
        return None
    length = timedelta(seconds=given.seconds, microseconds=given.nanos // 1000)
    if not length:
        wrong.append(FieldViolation(field, "give a time above 0, or leave it unset"))
    return length


def _struct(given: Struct, path: str, wrong: list[FieldViolation]) -> dict[str, Any]:
    return {key: _value(each, f"{path}.{key}", wrong) for key, each in given.fields.items()}


def _value(given: Value, path: str, wrong: list[FieldViolation]) -> Any:
    kind = given.WhichOneof("kind")
    if kind == "string_value":
        return given.string_value
    if kind == "number_value":
        return _number(given.number_value, path, wrong)
    if kind == "bool_value":
        return given.bool_value
    if kind == "struct_value":
        return _struct(given.struct_value, path, wrong)
    if kind == "list_value":
        values = enumerate(given.list_value.values)
        return [_value(each, f"{path}[{index}]", wrong) for index, each in values]
    if kind is None:
        wrong.append(FieldViolation(path, "give a value"))
    return None


def _number(number: float, path: str, wrong: list[FieldViolation]) -> float:
    """An integral double as an int: Ping++ takes 1 and refuses 1.0."""
    if not -EXACT_INTEGER_MAX <= number <= EXACT_INTEGER_MAX:  # also NaN and the infinities
        rule = "give a number up to 2^53, or a string"
        wrong.append(FieldViolation(path, rule))
        return 0
    return int(number) if number.is_integer() else number


def _unknown_number(field: str, number: int) -> FieldViolation:
    return FieldViolation(field, f"{number} is no value of this enum")
