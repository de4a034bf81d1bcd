"""The error status that callers get when something fails."""

import asyncio
import io
from datetime import timedelta
from urllib.parse import quote

import grpc
import pytest

from midas import errors
from midas.errors import FieldViolation, MidasError
from midas.rpc.errors import TABLE, failure_of
from midas.runtime.logs import Logs
from midas.v1 import errors_pb2 as pb
from midas.v1 import payment_service_pb2
from tests.patience import PATIENCE_S
from tests.rpc.scripted import ScriptedFlows, charge_request, error_of, served

SECRET = "sk_live_" + "iHaveNotBeenMadeUp123456"

EXAMPLES: list[MidasError] = [
    errors.InvalidRequest((FieldViolation("amount", "give more"),)),
    errors.NotFound("order", "o-1"),
    errors.OrderAlreadyPaid("o-1", "t-1"),
    errors.ChargeRefused("o-1", "t-1", "channel_error", "余额不足", "amount"),
    errors.RefundNotAllowed("CHARGE_NOT_PAID", "o-1", "t-1"),
    errors.RefundExceedsRemaining("o-1", "t-1", 50, 20, "cny"),
    errors.RefundNoReused("r-1"),
    errors.EventIdReused("evt_1"),
    errors.OutcomeUnknown("o-1", "t-1", query_after=timedelta(seconds=7)),
    errors.OutcomeUnknown("o-1", "t-1", needs_operator=True),
    errors.ChargeStillOpen("o-1", "t-1"),
    errors.ChargeNotMade("o-1", "t-1"),
    errors.Throttled(),
    errors.PspRejectsMidas(),
    errors.PspUnavailable(),
    errors.PspUnavailable(queued=True),
    errors.Overloaded(),
    errors.StorageUnavailable(),
    errors.StorageUnavailable(may_have_written=True),
]
STATUSES = {
    "InvalidRequest": "INVALID_ARGUMENT INVALID_REQUEST NO NEVER",
    "NotFound": "NOT_FOUND NOT_FOUND NO NEVER",
    "OrderAlreadyPaid": "FAILED_PRECONDITION ORDER_ALREADY_PAID YES NEVER",
    "ChargeRefused": "FAILED_PRECONDITION CHARGE_REFUSED NO NEVER",
    "RefundNotAllowed": "FAILED_PRECONDITION REFUND_NOT_ALLOWED NO NEVER",
    "RefundExceedsRemaining": "FAILED_PRECONDITION REFUND_EXCEEDS_REMAINING NO NEVER",
    "RefundNoReused": "ALREADY_EXISTS REFUND_NO_REUSED NO NEW_KEY",
    "EventIdReused": "ALREADY_EXISTS EVENT_ID_REUSED NO NEVER",
    "OutcomeUnknown": "UNKNOWN OUTCOME_UNKNOWN UNKNOWN SAME_KEY",
    "OutcomeUnknown needs_operator": "UNKNOWN OUTCOME_NEEDS_OPERATOR UNKNOWN NEVER",
    "ChargeStillOpen": "ABORTED CHARGE_STILL_OPEN NO SAME_KEY",
    "ChargeNotMade": "ABORTED CHARGE_NOT_MADE NO SAME_KEY",
    "Throttled": "RESOURCE_EXHAUSTED PSP_THROTTLED NO SAME_KEY",
    "PspRejectsMidas": "INTERNAL PSP_REJECTS_MIDAS NO NEVER",
    "PspUnavailable": "UNAVAILABLE PSP_UNAVAILABLE NO SAME_KEY",
    "PspUnavailable queued": "UNAVAILABLE PSP_UNAVAILABLE UNKNOWN SAME_KEY",
    "Overloaded": "UNAVAILABLE OVERLOADED NO SAME_KEY",
    "StorageUnavailable": "UNAVAILABLE STORAGE_UNAVAILABLE NO SAME_KEY",
    "StorageUnavailable may_have_written": "UNAVAILABLE STORAGE_UNAVAILABLE UNKNOWN SAME_KEY",
}


def name(error: MidasError) -> str:
    """The class, and which of its variants."""
    flags = ("needs_operator", "queued", "may_have_written")
    return " ".join([type(error).__name__, *(f for f in flags if getattr(error, f, False))])


def raising(error: BaseException) -> ScriptedFlows:
    """Flows in which everything fails."""

    async def fail() -> None:
        raise error

    return ScriptedFlows(before=fail)


def test_every_error_has_a_row() -> None:
    """No class of the tree is without a status, and no row is without a class."""
    tree = set()
    waiting: list[type[MidasError]] = [MidasError]
    while waiting:
        below = waiting.pop().__subclasses__()
        tree.update(below)
        waiting += below
    assert set(TABLE) == {each for each in tree if each.__module__ == "midas.errors"}


def test_every_row_is_played_below() -> None:
    """The examples of this file leave no class out."""
    assert {type(each) for each in EXAMPLES} == set(TABLE)
    assert {name(each) for each in EXAMPLES} == set(STATUSES)


@pytest.mark.parametrize("error", EXAMPLES, ids=name)
async def test_every_error_is_answered_in_full(error: MidasError) -> None:
    """Code, reason, whether money moved and whether to try again reach the caller."""
    async with served(raising(error)) as midas:
        status = await error_of(midas.stub.Charge(charge_request()))
    money = pb.MoneyMoved.Name(status.detail.money_moved).removeprefix("MONEY_MOVED_")
    retry = pb.Retry.Name(status.detail.retry).removeprefix("RETRY_")
    assert f"{status.code.name} {status.info.reason} {money} {retry}" == STATUSES[name(error)]
    assert status.info.domain == "midas"
    assert status.detail.HasField("query_after") == (money == "UNKNOWN")
    assert (status.retry is not None) == hasattr(error, "retry_after")


async def test_ids_travel_as_metadata() -> None:
    """What a program needs of an error is in ErrorInfo, not in a sentence."""
    async with served(raising(errors.RefundExceedsRemaining("o-1", "t-1", 50, 20, "cny"))) as midas:
        request = payment_service_pb2.RefundRequest(refund_no="r", order_no="o-1")
        status = await error_of(midas.stub.Refund(request))
    assert (status.info.metadata["remaining"], status.info.metadata["currency"]) == ("20", "cny")
    assert "20 minor units of cny" in status.message
    async with served(raising(EXAMPLES[3])) as midas:
        status = await error_of(midas.stub.Charge(charge_request()))
    assert status.info.metadata["psp_code"] == "channel_error"
    assert status.info.metadata["psp_param"] == "amount"
    assert status.info.metadata["psp_message"] == "余额不足"


async def test_each_bad_field_is_named() -> None:
    """BadRequest holds the path and the rule of every refused field."""
    wrong = errors.InvalidRequest((FieldViolation("a.b", "one"), FieldViolation("c", "two")))
    async with served(raising(wrong)) as midas:
        status = await error_of(midas.stub.Charge(charge_request()))
    assert status.fields == ["a.b", "c"]


def test_the_largest_error_fits_into_the_trailers() -> None:
    """However long the texts are, gRPC's 8 KiB for metadata hold the details."""
    long = "字" * 100_000
    many = tuple(FieldViolation(long, long) for _ in range(500))
    refused = errors.ChargeRefused(long, long, long, long, long)
    for error in (errors.InvalidRequest(many), refused):
        failure = failure_of(error)
        assert len(failure.details) + len(quote(failure.message)) < 7 * 1024


async def test_a_query_moves_no_money() -> None:
    """After an unforeseen error of a read no money moved; after one of a charge it is unknown."""
    async with served(raising(ValueError("x"))) as midas:
        read = await error_of(midas.stub.Query(payment_service_pb2.QueryRequest(order_no="o")))
        charge = await error_of(midas.stub.Charge(charge_request()))
    assert read.detail.money_moved == pb.MONEY_MOVED_NO
    assert charge.detail.money_moved == pb.MONEY_MOVED_UNKNOWN
    assert charge.code is read.code is grpc.StatusCode.INTERNAL


async def test_nothing_of_an_exception_leaks(logged: tuple[Logs, io.StringIO]) -> None:
    """The text of an unforeseen exception is not in the status, the trailers or the log."""
    async with served(raising(RuntimeError(f"card 6222 secret={SECRET}"))) as midas:
        status = await error_of(midas.stub.Charge(charge_request()))
    logs, stream = logged
    logs.flush()
    error_id = status.info.metadata["error_id"]
    assert status.message == f"internal error, id {error_id}"
    for text in (status.everything, stream.getvalue()):
        assert SECRET not in text
        assert "6222" not in text
    assert '"error":"builtins.RuntimeError"' in stream.getvalue()
    assert error_id in stream.getvalue()
    assert stream.getvalue().count("\n") == 1


@pytest.mark.parametrize("read", [True, False])
async def test_a_cancellation_inside_never_hangs_the_caller(read: bool) -> None:
    """A handler that is cancelled from inside still answers at once (reliability F3)."""
    async with served(raising(asyncio.CancelledError())) as midas, asyncio.timeout(PATIENCE_S):
        if read:
            query = payment_service_pb2.QueryRequest(order_no="o")
            status = await error_of(midas.stub.Query(query))
            assert status.code is grpc.StatusCode.UNAVAILABLE
        else:
            status = await error_of(midas.stub.Charge(charge_request()))
            assert status.code is grpc.StatusCode.UNKNOWN
            assert status.detail.money_moved == pb.MONEY_MOVED_UNKNOWN
