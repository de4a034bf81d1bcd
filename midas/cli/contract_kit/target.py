"""The order service under test: one call, its status, how long it took."""

import asyncio
import time
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc import aio
from grpc_status import rpc_status

from midas.order.v1.order_payment_service_pb2_grpc import OrderPaymentServiceStub

PARKS = frozenset({"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"})
"""Statuses after which Midas sends nothing more of the order until a person has looked."""
AGAIN_S = 0.2
SEQUENCE_DIGITS = 16
"""How many digits a number below 2^53 has at most."""
CHANNEL = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    # a channel of its own for each run, so that nothing is shared with one that had failed
    ("grpc.use_local_subchannel_pool", 1),
)


class Answer(NamedTuple):
    """What one call came to."""

    code: str
    details: str
    seconds: float
    reused_below: int = 0
    """The highest sequence that the order service has, if it answered SEQUENCE_REUSED; else 0."""

    @property
    def ok(self) -> bool:
        """Whether the order service acknowledged the notification."""
        return self.code == "OK"

    def __str__(self) -> str:
        details = f" ({self.details[:120]})" if self.details else ""
        return f"{self.code}{details} after {self.seconds:.2f} s"


class Target:
    """Calls the order service as Midas does."""

    def __init__(self, channel: aio.Channel, timeout_s: float) -> None:
        self._channel = channel
        self._stub = OrderPaymentServiceStub(channel)
        self.timeout_s = timeout_s

    async def call(self, method: str, request: Message, timeout_s: float | None = None) -> Answer:
        """Make one call. A failure is an answer, too."""
        began = time.monotonic()
        code, details, reused_below = "OK", "", 0
        try:
            await getattr(self._stub, method)(request, timeout=timeout_s or self.timeout_s)
        except aio.AioRpcError as error:
            code, details = error.code().name, error.details() or ""
            reused_below = _reused_below(error)
        return Answer(code, details, time.monotonic() - began, reused_below)

    async def gone(self) -> None:
        """Wait until the connection, which is open now, is lost."""
        await self._channel.wait_for_state_change(grpc.ChannelConnectivity.READY)

    async def call_until_taken(self, method: str, request: Message) -> Answer:
        """Repeat the call, as Midas does, until it is answered OK or parks the order.

        It stops after the time that one call may take.
        """
        end = time.monotonic() + self.timeout_s
        while True:
            answer = await self.call(method, request)
            if answer.ok or answer.code in PARKS or time.monotonic() >= end:
                return answer
            await asyncio.sleep(AGAIN_S)


def _reused_below(error: aio.AioRpcError) -> int:
    if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
        return 0
    info = error_details_pb2.ErrorInfo()
    try:
        status: Any = rpc_status.from_call(error)  # type: ignore[arg-type]
        for detail in status.details if status else ():
            detail.Unpack(info)
    except (ValueError, DecodeError):
        return 0
    sequence = info.metadata["sequence"] if info.domain == "midas" else ""
    reused = info.reason == "SEQUENCE_REUSED" and sequence.isascii() and sequence.isdigit()
    return int(sequence) if reused and len(sequence) <= SEQUENCE_DIGITS else 0
