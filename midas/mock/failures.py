"""Every error of the contract by a name, from Midas's own table in `midas/rpc/errors.py`.

Errors that differ only in whether money may have moved have a name each. The BARE ones are not
Midas's own: they come from gRPC, a proxy or the network, and have no details. They may come after
money has moved, too.
"""

from collections.abc import Callable, Mapping
from string import Formatter

from grpc import StatusCode

from midas import errors, limits
from midas.errors import FieldViolation, MidasError
from midas.mock.payments import out_trade_no_of
from midas.rpc import errors as rpc_errors
from midas.rpc.errors import Failure, Row
from midas.v1 import errors_pb2


def _key(make: Callable[..., MidasError]) -> Callable[[str], MidasError]:
    return lambda key: make(key, out_trade_no_of(key))


_ERRORS: Mapping[str, tuple[int, Callable[[str], MidasError]]] = {
    "INVALID_REQUEST": (
        990001,
        lambda _: errors.InvalidRequest((FieldViolation("amount", "a canned violation"),)),
    ),
    "NOT_FOUND": (990002, lambda key: errors.NotFound("order", key)),
    "ORDER_ALREADY_PAID": (990003, _key(errors.OrderAlreadyPaid)),
    "CHARGE_REFUSED": (
        990004,
        lambda key: errors.ChargeRefused(
            key, out_trade_no_of(key), "channel_request_error", "支付权限检查失败", "channel"
        ),
    ),
    "REFUND_NOT_ALLOWED": (
        990005,
        lambda key: errors.RefundNotAllowed("CHARGE_NOT_PAID", key, out_trade_no_of(key)),
    ),
    "REFUND_EXCEEDS_REMAINING": (
        990006,
        lambda key: errors.RefundExceedsRemaining(key, out_trade_no_of(key), 990006, 1000, "cny"),
    ),
    "REFUND_NO_REUSED": (990007, errors.RefundNoReused),
    "EVENT_ID_REUSED": (990008, errors.EventIdReused),
    "OUTCOME_UNKNOWN": (990009, _key(errors.OutcomeUnknown)),
    "OUTCOME_NEEDS_OPERATOR": (
        990010,
        lambda key: errors.OutcomeUnknown(key, out_trade_no_of(key), needs_operator=True),
    ),
    "CHARGE_STILL_OPEN": (990011, _key(errors.ChargeStillOpen)),
    "CHARGE_NOT_MADE": (990012, _key(errors.ChargeNotMade)),
    "PSP_THROTTLED": (990013, lambda _: errors.Throttled()),
    "PSP_THROTTLED_QUEUED": (990014, lambda _: errors.Throttled(queued=True)),
    "PSP_REJECTS_MIDAS": (990015, lambda _: errors.PspRejectsMidas()),
    "PSP_REJECTS_MIDAS_QUEUED": (990016, lambda _: errors.PspRejectsMidas(queued=True)),
    "PSP_UNAVAILABLE": (990017, lambda _: errors.PspUnavailable()),
    "PSP_UNAVAILABLE_QUEUED": (990018, lambda _: errors.PspUnavailable(queued=True)),
    "OVERLOADED": (990019, lambda _: errors.Overloaded()),
    "STORAGE_UNAVAILABLE": (990020, lambda _: errors.StorageUnavailable()),
    "STORAGE_UNAVAILABLE_WRITTEN": (
        990021,
        lambda _: errors.StorageUnavailable(may_have_written=True),
    ),
}
"""Every error of `midas/errors.py` in each variant: its amount, and what makes it from a key."""

_OF_THE_SERVER: Mapping[str, Row] = {
    row.reason: row
    for name, row in vars(rpc_errors).items()
    if isinstance(row, Row) and not name.startswith("_") and row.reason not in _ERRORS
}
"""Errors of the server itself, which no method raises."""
_SERVER_AMOUNTS = {
    "UNREADABLE_REQUEST": 990031,
    "REQUEST_TOO_LARGE": 990032,
    "CALLER_NOT_PERMITTED": 990033,
    "NO_SUCH_METHOD": 990034,
    "NO_SUCH_SERVICE": 990035,
    "INTERNAL": 990036,
    "INTERRUPTED": 990037,
    "REQUEST_NOT_ARRIVED": 990038,
    "TOO_MANY_STREAMS": 990039,
}

_BARE: Mapping[str, tuple[int, StatusCode]] = {
    "BARE_UNAVAILABLE": (990051, StatusCode.UNAVAILABLE),
    "BARE_DEADLINE_EXCEEDED": (990052, StatusCode.DEADLINE_EXCEEDED),
    "BARE_CANCELLED": (990053, StatusCode.CANCELLED),
}

NAMES: Mapping[str, int] = {
    **{name: amount for name, (amount, _) in _ERRORS.items()},
    **{name: _SERVER_AMOUNTS.get(name, 0) for name in _OF_THE_SERVER},
    **{name: amount for name, (amount, _) in _BARE.items()},
}
"""Every error that can be asked for, and its amount; 0 where it has none."""


def failure(name: str, key: str, method: str, *, moves_money: bool) -> Failure:
    """The error of this name, as the method would give it for this key."""
    if name in _BARE:
        code = _BARE[name][1]
        message = "asked for without details: the outcome is unknown"
        unknown = errors_pb2.MONEY_MOVED_UNKNOWN
        return Failure(code, name, message, unknown, b"")
    if name in _ERRORS:
        return rpc_errors.failure_of(_ERRORS[name][1](key or "MOCK"))
    row = _OF_THE_SERVER[name]
    if moves_money and row is rpc_errors.INTERRUPTED:
        row = rpc_errors.INTERRUPTED_PAYMENT
    unknown_outcome = moves_money and row is rpc_errors.INTERNAL
    return rpc_errors.failure_in(row, unknown=unknown_outcome, **_values(row, method))


def _values(row: Row, method: str) -> dict[str, object]:
    named = {name for _, name, _, _ in Formatter().parse(row.sentence) if name} | set(row.ids)
    most = limits.REQUEST_BYTES
    known = {"method": method, "bytes": most + 1, "bytes_max": most, "error_id": "00000000mock"}
    return {name: known.get(name, "mock") for name in sorted(named)}
