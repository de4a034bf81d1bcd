"""What callers ask for, and how they repeat their calls."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from grpc import aio

from midas.v1 import payment_service_pb2 as pb
from tests.patience import PATIENCE_S
from tests.rpc.scripted import ErrorStatus, error_of

Answer = TypeVar("Answer")

INSIST_PAUSE_S = 0.2


async def insist(call: Callable[[], Awaitable[Answer]]) -> Answer | ErrorStatus:
    """Repeat the call while its error is OUTCOME_UNKNOWN; returns the answer or another error."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        ended = await attempt(call())
        if not isinstance(ended, ErrorStatus):
            return ended
        if ended.info.reason != "OUTCOME_UNKNOWN":
            return ended
        assert time.monotonic() < deadline, "I13: unknown for ever"
        await asyncio.sleep(INSIST_PAUSE_S)


async def attempt(call: Awaitable[Answer]) -> Answer | ErrorStatus:
    """The answer or the error."""
    try:
        return await call
    except aio.AioRpcError as error:
        return await error_of(_raising(error))


async def _raising(error: Exception) -> None:
    raise error


def charge_request(order_no: str, **changes: Any) -> pb.ChargeRequest:
    """A request for 100 fen that names the order in its subject."""
    terms: dict[str, Any] = {
        "order_no": order_no,
        "channel": "wx_pub_qr",
        "amount": 100,
        "subject": order_no,
        "body": "Green tea",
        "client_ip": "192.0.2.1",
    } | changes
    if "extra" not in changes:
        terms["extra"] = _EXTRA.get(terms["channel"], {})
    return pb.ChargeRequest(**terms)


_EXTRA: dict[str, dict[str, str]] = {
    "wx_pub_qr": {"product_id": "tea-1"},
    "wx_pub_scan": {"scan_code": "134567890123456789"},
    "alipay_scan": {"scan_code": "281234567890123456", "terminal_id": "till-1"},
}


def refund_request(refund_no: str, order_no: str, **changes: Any) -> pb.RefundRequest:
    """A request for 40 of the 100 fen."""
    content: dict[str, Any] = {"amount": 40, "description": "Too late"} | changes
    return pb.RefundRequest(refund_no=refund_no, order_no=order_no, **content)
