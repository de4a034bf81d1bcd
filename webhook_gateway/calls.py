"""One gRPC call of the gateway, with a single way to fail."""

import asyncio
import logging
from typing import Any, TypeVar

from google.protobuf.message import Message
from grpc import aio

UNREADABLE = "UNREADABLE"
"""The status was OK, but no message came with it, or none that can be read."""
UNEXPECTED = "UNEXPECTED"
"""The call could not be made at all; the log has the reason."""

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)

_log = logging.getLogger("midas.gateway")


class CallFailed(Exception):
    """There was no answer. What was asked for may have been done or not."""

    def __init__(self, code: str, details: bytes = b"") -> None:
        super().__init__(code)
        self.code = code
        """The name of the gRPC status, or UNREADABLE, or UNEXPECTED."""
        self.details = details
        """google.rpc.Status, if one came with it; its content is the other side's."""


async def answer_of(
    method: aio.UnaryUnaryMultiCallable[Request, Response], request: Request, timeout_s: float
) -> Response:
    """The answer. Raises CallFailed, and CancelledError only when the task itself is cancelled."""
    try:
        answer: Any = await method(request, timeout=timeout_s)
    except aio.AioRpcError as error:
        raise CallFailed(error.code().name, _details_of(error)) from None
    except asyncio.CancelledError:
        # a channel that is closed cancels its calls, and that must not end the task
        if _task_is_cancelled():
            raise
        raise CallFailed("CANCELLED") from None
    except Exception as error:
        _log.error("call_unexpected", exc_info=error)
        raise CallFailed(UNEXPECTED) from None
    if answer is None:  # what grpc gives where the message could not be parsed
        raise CallFailed(UNREADABLE)
    response: Response = answer
    return response


def _details_of(error: aio.AioRpcError) -> bytes:
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            return value
    return b""


def _task_is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
