"""One call of Midas, and what its failure means."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from midas.cli.call_errors import Failed
from midas.runtime.command_errors import ExitStatus, Trouble
from midas.v1 import errors_pb2

QUERY_AFTER = "5s"
"""The wait before a query, where Midas gives none."""

Answer = TypeVar("Answer")

_MOVED: Mapping[int, str] = {
    errors_pb2.MONEY_MOVED_NO: "NO",
    errors_pb2.MONEY_MOVED_YES: "YES",
    errors_pb2.MONEY_MOVED_UNKNOWN: "UNKNOWN",
}
_RETRY: Mapping[int, str] = {
    errors_pb2.RETRY_SAME_KEY: "SAME_KEY",
    errors_pb2.RETRY_NEW_KEY: "NEW_KEY",
    errors_pb2.RETRY_NEVER: "NEVER",
}
"""A newer Midas may send other values. They are not believed: they count as none."""


def call(
    method: Any, request: Any, timeout_s: float, *, moves_money: bool, ids: dict[str, str]
) -> Any:
    """Midas's answer. Raises Failed.

    With `moves_money` the outcome is unknown after a failure that Midas itself did not explain,
    because the money may have moved before it.
    """
    try:
        return method(request, timeout=timeout_s)
    except grpc.RpcError as error:
        raise Failed(trouble_of(error, moves_money, ids)) from None


def build(make: Callable[[], Answer]) -> Answer:
    """Make a request. Raises UsageError where protobuf cannot hold what was given."""
    try:
        return make()
    except (ValueError, TypeError):
        raise click.UsageError("a value is no valid text, or a number is too large") from None


def trouble_of(error: Any, moves_money: bool, ids: dict[str, str]) -> Trouble:
    """What an error status means: by its details or, without them, by its code alone."""
    status = _status(error)
    info, detail = error_details_pb2.ErrorInfo(), errors_pb2.PaymentErrorDetail()
    bad, wait = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    for packed in () if status is None else status.details:
        for message in (info, detail, bad, wait):
            packed.Unpack(message)
    code: grpc.StatusCode = error.code()
    if not info.reason or detail.money_moved not in _MOVED:
        return _unexplained(error, code, moves_money, ids)
    moved = _MOVED[detail.money_moved]
    return Trouble(
        info.reason,
        status.message if status else "",
        status=ExitStatus.UNKNOWN if moved == "UNKNOWN" else ExitStatus.FAILED,
        money_moved=moved,
        retry=_RETRY.get(detail.retry, ""),
        query_after=_length(detail.query_after) if detail.HasField("query_after") else "",
        retry_after=_length(wait.retry_delay) if wait.HasField("retry_delay") else "",
        violations=tuple((each.field, each.description) for each in bad.field_violations),
        ids={**ids, **info.metadata},
        code=code.name,
    )


def _status(error: Any) -> Any:
    try:
        return rpc_status.from_call(error)
    except (ValueError, DecodeError, AttributeError):
        return None


def _unexplained(
    error: Any, code: grpc.StatusCode, moves_money: bool, ids: dict[str, str]
) -> Trouble:
    """The error comes from gRPC or from a proxy, not from Midas: assume the worst.

    No code is an exception: a proxy that tries again gives the error of its last attempt.
    """
    details = error.details() or ""
    message = f"{code.name}: {details}" if details else code.name
    message += " (without PaymentErrorDetail: from the connection, not from Midas)"
    if moves_money:
        return Trouble(
            code.name,
            message,
            status=ExitStatus.UNKNOWN,
            money_moved="UNKNOWN",
            retry="SAME_KEY",
            query_after=QUERY_AFTER,
            ids=ids,
            code=code.name,
        )
    return Trouble(code.name, message, retry="SAME_KEY", ids=ids, code=code.name)


def _length(wait: Duration) -> str:
    return str(MessageToDict(wait))
