"""What a caller gets when something fails: one table, from exception to rich gRPC status.

Every error status carries google.rpc.Status in `grpc-status-details-bin` with ErrorInfo and
PaymentErrorDetail. BadRequest is there for refused fields, and RetryInfo where waiting helps.

Decisions:

- Midas answers UNAVAILABLE only where nothing was sent to Ping++ because of the call. An unknown
  outcome is UNKNOWN, because clients retry UNAVAILABLE by themselves.
- gRPC itself answers UNAVAILABLE, DEADLINE_EXCEEDED and CANCELLED too, without details and also
  after money has moved. Hence the rule for callers, in the contract and in README.md: a status
  without PaymentErrorDetail means that the outcome is unknown, and the same key is to be repeated.
- A refund that stays queued, and an intent that may be on disk, have sent nothing yet and may still
  move money later: they get UNAVAILABLE with `money_moved` UNKNOWN.
- `OrderAlreadyPaid` has `money_moved` YES: the order is paid, though not by this call.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc import StatusCode

from midas import errors
from midas.errors import FieldViolation, InvalidRequest, MidasError
from midas.v1 import errors_pb2 as pb

DOMAIN = "midas"
DETAILS_KEY = "grpc-status-details-bin"
VALUE_CHARACTERS = 128
MESSAGE_CHARACTERS = 200
VIOLATION_BYTES = 3072
"""How many bytes all violations may have. With the lengths above, the trailers stay below the 8 KiB
that gRPC accepts everywhere."""
QUERY_AFTER = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Row:
    """The status of one kind of error. `ids` name attributes that become ErrorInfo metadata."""

    code: StatusCode
    reason: str
    sentence: str
    retry: pb.Retry.ValueType
    money_moved: pb.MoneyMoved.ValueType = pb.MONEY_MOVED_NO
    ids: tuple[str, ...] = ()
    instead: tuple[str, "Row"] | None = None
    """An attribute of the error, and the row that is used instead if it is true."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error status, ready to be sent."""

    code: StatusCode
    reason: str
    message: str
    money_moved: pb.MoneyMoved.ValueType
    details: bytes

    @property
    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        """What to send as trailing metadata."""
        return ((DETAILS_KEY, self.details),)


_ORDER = ("order_no", "out_trade_no")

_NEEDS_OPERATOR = Row(
    StatusCode.UNKNOWN,
    "OUTCOME_NEEDS_OPERATOR",
    "the outcome is unknown and only a person can tell; an operator has been called",
    pb.RETRY_NEVER,
    pb.MONEY_MOVED_UNKNOWN,
    (*_ORDER, "refund_no"),
)
_QUEUED = Row(
    StatusCode.UNAVAILABLE,
    "PSP_UNAVAILABLE",
    "Ping++ cannot be reached; the refund is written down and goes out as soon as it can be",
    pb.RETRY_SAME_KEY,
    pb.MONEY_MOVED_UNKNOWN,
)
_GOES_OUT_LATER = "; the refund is written down and goes out by itself"
_THROTTLED = Row(
    StatusCode.RESOURCE_EXHAUSTED,
    "PSP_THROTTLED",
    "Ping++ refused because its limit of calls is reached",
    pb.RETRY_SAME_KEY,
)
_REJECTED = Row(
    StatusCode.INTERNAL,
    "PSP_REJECTS_MIDAS",
    "Ping++ refused Midas's own key or signature; an operator has to act",
    pb.RETRY_NEVER,
)
_MAYBE_WRITTEN = Row(
    StatusCode.UNAVAILABLE,
    "STORAGE_UNAVAILABLE",
    "the database was lost during the commit; nothing was sent to Ping++, the same key finds out",
    pb.RETRY_SAME_KEY,
    pb.MONEY_MOVED_UNKNOWN,
)


def _queued(row: Row) -> Row:
    """The row for a refund that stays queued: it may still move money, and its key finds it."""
    unknown = pb.MONEY_MOVED_UNKNOWN
    sentence = row.sentence + _GOES_OUT_LATER
    return replace(row, sentence=sentence, money_moved=unknown, retry=pb.RETRY_SAME_KEY)


TABLE: Mapping[type[MidasError], Row] = {
    errors.InvalidRequest: Row(
        StatusCode.INVALID_ARGUMENT,
        "INVALID_REQUEST",
        "some fields cannot be accepted",
        pb.RETRY_NEVER,
    ),
    errors.NotFound: Row(
        StatusCode.NOT_FOUND,
        "NOT_FOUND",
        "there is no {kind} {key}",
        pb.RETRY_NEVER,
        ids=("kind", "key"),
    ),
    errors.OrderAlreadyPaid: Row(
        StatusCode.FAILED_PRECONDITION,
        "ORDER_ALREADY_PAID",
        "the order {order_no} is paid by the charge {out_trade_no} and not refunded in full",
        pb.RETRY_NEVER,
        pb.MONEY_MOVED_YES,
        _ORDER,
    ),
    errors.ChargeRefused: Row(
        StatusCode.FAILED_PRECONDITION,
        "CHARGE_REFUSED",
        "Ping++ refused the charge: {code}",
        pb.RETRY_NEVER,
        ids=(*_ORDER, "psp_code", "psp_param", "psp_message"),
    ),
    errors.RefundNotAllowed: Row(
        StatusCode.FAILED_PRECONDITION,
        "REFUND_NOT_ALLOWED",
        "the charge cannot be refunded as it stands: {reason}",
        pb.RETRY_NEVER,
        ids=("cause", *_ORDER),
    ),
    errors.RefundExceedsRemaining: Row(
        StatusCode.FAILED_PRECONDITION,
        "REFUND_EXCEEDS_REMAINING",
        "{remaining} minor units of {currency} may still be refunded; this refund is more",
        pb.RETRY_NEVER,
        ids=(*_ORDER, "amount", "remaining", "currency"),
    ),
    errors.RefundNoReused: Row(
        StatusCode.ALREADY_EXISTS,
        "REFUND_NO_REUSED",
        "the refund_no {refund_no} belongs to a refund with other content",
        pb.RETRY_NEW_KEY,
        ids=("refund_no",),
    ),
    errors.EventIdReused: Row(
        StatusCode.ALREADY_EXISTS,
        "EVENT_ID_REUSED",
        "the event {event_id} was recorded before with another body",
        pb.RETRY_NEVER,
        ids=("event_id",),
    ),
    errors.OutcomeUnknown: Row(
        StatusCode.UNKNOWN,
        "OUTCOME_UNKNOWN",
        "money may have moved and nobody knows yet; query, or repeat the call with the same key",
        pb.RETRY_SAME_KEY,
        pb.MONEY_MOVED_UNKNOWN,
        (*_ORDER, "refund_no"),
        instead=("needs_operator", _NEEDS_OPERATOR),
    ),
    errors.ChargeStillOpen: Row(
        StatusCode.ABORTED,
        "CHARGE_STILL_OPEN",
        "the earlier charge {out_trade_no} could not be closed yet; no second one was made",
        pb.RETRY_SAME_KEY,
        ids=_ORDER,
    ),
    errors.ChargeNotMade: Row(
        StatusCode.ABORTED,
        "CHARGE_NOT_MADE",
        "the earlier charge {out_trade_no} was dealt with; no other one could be made after it",
        pb.RETRY_SAME_KEY,
        ids=_ORDER,
    ),
    errors.Throttled: replace(_THROTTLED, instead=("queued", _queued(_THROTTLED))),
    errors.PspRejectsMidas: replace(_REJECTED, instead=("queued", _queued(_REJECTED))),
    errors.PspUnavailable: Row(
        StatusCode.UNAVAILABLE,
        "PSP_UNAVAILABLE",
        "Ping++ cannot be reached; nothing was sent",
        pb.RETRY_SAME_KEY,
        instead=("queued", _QUEUED),
    ),
    # reliability: a bound is reached before the intent is written, so the caller may call again
    errors.Overloaded: Row(
        StatusCode.UNAVAILABLE,
        "OVERLOADED",
        "as many calls as may be are under way; nothing was written or sent",
        pb.RETRY_SAME_KEY,
    ),
    errors.StorageUnavailable: Row(
        StatusCode.UNAVAILABLE,
        "STORAGE_UNAVAILABLE",
        "the database cannot be used now; nothing was sent",
        pb.RETRY_SAME_KEY,
        instead=("may_have_written", _MAYBE_WRITTEN),
    ),
}
"""One row for each class below MidasError; a test walks the tree."""

UNREADABLE = Row(
    StatusCode.INVALID_ARGUMENT,
    "UNREADABLE_REQUEST",
    "the bytes are no {message}",
    pb.RETRY_NEVER,
)
NOT_ARRIVED = Row(
    StatusCode.UNAVAILABLE,
    "REQUEST_NOT_ARRIVED",
    "the call began and its request did not follow in time; nothing was written or sent",
    pb.RETRY_SAME_KEY,
)
NO_REQUEST = Row(
    StatusCode.INVALID_ARGUMENT,
    "UNREADABLE_REQUEST",
    "the call ended without any request",
    pb.RETRY_NEVER,
)
TOO_MANY_STREAMS = Row(
    StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_STREAMS",
    "another caller needed the place of this call; it may be made again",
    pb.RETRY_SAME_KEY,
)
TOO_LARGE = Row(
    StatusCode.RESOURCE_EXHAUSTED,
    "REQUEST_TOO_LARGE",
    "the request has {bytes} bytes; at most {bytes_max} are accepted",
    pb.RETRY_NEVER,
    ids=("bytes", "bytes_max"),
)
NOT_PERMITTED = Row(
    StatusCode.PERMISSION_DENIED,
    "CALLER_NOT_PERMITTED",
    "this client certificate may not call {method}",
    pb.RETRY_NEVER,
    ids=("method",),
)
NO_SUCH_METHOD = Row(
    StatusCode.UNIMPLEMENTED,
    "NO_SUCH_METHOD",
    "there is no method {method}",
    pb.RETRY_NEVER,
    ids=("method",),
)
NO_SUCH_SERVICE = Row(
    StatusCode.NOT_FOUND,
    "NO_SUCH_SERVICE",
    "there is no service {service}",
    pb.RETRY_NEVER,
    ids=("service",),
)
INTERNAL = Row(
    StatusCode.INTERNAL,
    "INTERNAL",
    "internal error, id {error_id}",
    pb.RETRY_SAME_KEY,
    ids=("error_id",),
)
INTERRUPTED = Row(
    StatusCode.UNAVAILABLE,
    "INTERRUPTED",
    "the call was interrupted inside Midas",
    pb.RETRY_SAME_KEY,
)
INTERRUPTED_PAYMENT = Row(
    StatusCode.UNKNOWN,
    "OUTCOME_UNKNOWN",
    "the call was interrupted inside Midas; query, or repeat it with the same key",
    pb.RETRY_SAME_KEY,
    pb.MONEY_MOVED_UNKNOWN,
)


def failure_of(error: MidasError) -> Failure:
    """The status of this error."""
    row = TABLE[type(error)]
    if row.instead is not None and getattr(error, row.instead[0]):
        row = row.instead[1]
    return _failure(
        row,
        _values(error),
        violations=error.violations if isinstance(error, InvalidRequest) else (),
        retry_after=getattr(error, "retry_after", None),
        query_after=getattr(error, "query_after", None),
    )


def failure_in(row: Row, *, unknown: bool = False, **values: object) -> Failure:
    """The status of an error outside the tree. With `unknown` money may have moved."""
    if unknown:
        row = replace(row, money_moved=pb.MONEY_MOVED_UNKNOWN)
    return _failure(row, values)


_NAMES_FOR_CALLERS = {
    "code": "psp_code",
    "param": "psp_param",
    "message": "psp_message",
    "reason": "cause",
}


def _values(error: MidasError) -> Mapping[str, object]:
    """An exception's attributes, also by the names that callers get."""
    own = {name: value for name, value in vars(error).items() if isinstance(value, str | int)}
    return own | {given: own[name] for name, given in _NAMES_FOR_CALLERS.items() if name in own}


def _failure(
    row: Row,
    values: Mapping[str, object],
    violations: tuple[FieldViolation, ...] = (),
    retry_after: timedelta | None = None,
    query_after: timedelta | None = None,
) -> Failure:
    texts = {name: _text(value) for name, value in values.items()}
    metadata = {name: texts[name] for name in row.ids if texts[name]}
    info = error_details_pb2.ErrorInfo(domain=DOMAIN, reason=row.reason, metadata=metadata)
    detail = pb.PaymentErrorDetail(money_moved=row.money_moved, retry=row.retry)
    if row.money_moved == pb.MONEY_MOVED_UNKNOWN:
        detail.query_after.CopyFrom(_duration(query_after or retry_after or QUERY_AFTER))
    message = row.sentence.format_map(texts)[:MESSAGE_CHARACTERS]
    status = status_pb2.Status(code=row.code.value[0], message=message)
    status.details.add().Pack(info)
    status.details.add().Pack(detail)
    if violations:
        status.details.add().Pack(_bad_request(violations))
    if retry_after is not None:
        wait = error_details_pb2.RetryInfo(retry_delay=_duration(retry_after))
        status.details.add().Pack(wait)
    return Failure(row.code, row.reason, message, row.money_moved, status.SerializeToString())


def _text(value: object) -> str:
    text = str(value)[:VALUE_CHARACTERS]
    return text.encode("utf-8", "replace").decode()  # protobuf refuses lone surrogates


def _bad_request(violations: tuple[FieldViolation, ...]) -> error_details_pb2.BadRequest:
    refused = error_details_pb2.BadRequest()
    for each in violations:
        refused.field_violations.add(field=_text(each.field), description=_text(each.description))
        if refused.ByteSize() > VIOLATION_BYTES:
            del refused.field_violations[-1]
            break
    return refused


def _duration(wait: timedelta) -> Duration:
    whole = Duration()
    whole.FromTimedelta(wait)
    return whole
