"""The one log line of each call: every field of it, and none besides."""

import asyncio
import io
import json
from datetime import datetime
from time import perf_counter
from typing import Any

import pytest

from midas import errors
from midas.runtime.logs import Logs
from midas.v1 import payment_service_pb2 as pb
from tests.rpc.scripted import ScriptedFlows, charge_request, error_of, served

OUT_TRADE_NO = "00000000000000000001"
TAKES_S = 0.01

Logged = tuple[Logs, io.StringIO]


def line(logged: Logged) -> dict[str, Any]:
    """The only line there is."""
    logs, stream = logged
    logs.flush()
    (only,) = stream.getvalue().splitlines()
    fields: dict[str, Any] = json.loads(only)
    return fields


async def take_a_while() -> None:
    """Make a flow last, so that a duration differs from none."""
    await asyncio.sleep(TAKES_S)


def ending_in(error: Exception) -> ScriptedFlows:
    """Flows in which everything fails, after a while."""

    async def fail() -> None:
        await take_a_while()
        raise error

    return ScriptedFlows(before=fail)


def check_when(fields: dict[str, Any], began: float) -> None:
    """Take the two fields that differ each time out of the line, once they make sense."""
    assert datetime.fromisoformat(fields.pop("time")).tzinfo is not None
    took = fields.pop("duration_ms")
    assert isinstance(took, float)
    assert TAKES_S * 900 <= took <= (perf_counter() - began) * 1000


ASKED: dict[str, Any] = {"channel": "wx_pub_qr", "amount": 100}
MONEY = {**ASKED, "currency": "cny"}
CALLS: dict[str, tuple[Any, dict[str, Any]]] = {
    "Charge": (
        charge_request(),
        {"order_no": "o-1", "out_trade_no": OUT_TRADE_NO, "state": "PENDING", **MONEY},
    ),
    "Refund": (
        pb.RefundRequest(refund_no="r-1", order_no="o-1", description="cold"),
        {
            "refund_no": "r-1",
            "order_no": "o-1",
            "out_trade_no": OUT_TRADE_NO,
            "amount": 30,
            "currency": "cny",
            "state": "PENDING",
        },
    ),
    "Query": (
        pb.QueryRequest(out_trade_no=OUT_TRADE_NO),
        {"out_trade_no": OUT_TRADE_NO, "order_no": "o-1"},
    ),
    "ListCharges": (pb.ListChargesRequest(), {}),
    "ListRefunds": (pb.ListRefundsRequest(), {}),
}


@pytest.mark.parametrize("method", CALLS)
async def test_a_call_that_went_well(method: str, logged: Logged) -> None:
    """Which method, what about, and how long it took in milliseconds."""
    request, ids = CALLS[method]
    began = perf_counter()
    async with served(ScriptedFlows(before=take_a_while)) as midas:
        await getattr(midas.stub, method)(request)
    fields = line(logged)
    check_when(fields, began)
    name = f"midas.v1.PaymentService/{method}"
    assert fields == {"level": "info", "event": "call", "method": name, "code": "OK", **ids}


async def test_a_call_that_was_refused(logged: Logged) -> None:
    """The reason too, and whether money moved; a mistake of the caller is no error of Midas."""
    began = perf_counter()
    async with served(ending_in(errors.OrderAlreadyPaid("o-1", OUT_TRADE_NO))) as midas:
        await error_of(midas.stub.Charge(charge_request()))
    fields = line(logged)
    check_when(fields, began)
    assert fields == {
        "level": "info",
        "event": "call",
        "method": "midas.v1.PaymentService/Charge",
        "code": "FAILED_PRECONDITION",
        "reason": "ORDER_ALREADY_PAID",
        "money_moved": "YES",
        "order_no": "o-1",
        **ASKED,
    }


async def test_a_call_that_broke(logged: Logged) -> None:
    """The class and the place of what was raised, under the id that the caller got."""
    began = perf_counter()
    async with served(ending_in(ValueError("x"))) as midas:
        failed = await error_of(midas.stub.Charge(charge_request()))
    fields = line(logged)
    check_when(fields, began)
    assert fields.pop("at").startswith("midas/rpc/")
    assert fields == {
        "level": "error",
        "event": "call",
        "method": "midas.v1.PaymentService/Charge",
        "code": "INTERNAL",
        "reason": "INTERNAL",
        "money_moved": "UNKNOWN",
        "order_no": "o-1",
        **ASKED,
        "error": "builtins.ValueError",
        "error_id": failed.info.metadata["error_id"],
    }
