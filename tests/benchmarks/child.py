"""What a child process of the benchmarks does to talk with its parent: JSON, one line each way."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

Command = dict[str, Any]


def only(
    method: str,
    request: Any,
    answer: Callable[..., Any],
    service: str = "midas.v1.PaymentService",
) -> grpc.GenericRpcHandler:
    """The service with this one method."""
    handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=request.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
    return grpc.method_handlers_generic_handler(service, {method: handler})


def send(message: Command) -> None:
    """Send one message to the parent."""
    print(json.dumps(message), flush=True)


async def serve_at(port: int) -> None:
    """Send the parent the port; return when the parent is gone or has closed our input."""
    send({"port": port})
    await asyncio.to_thread(sys.stdin.read)


async def obey(answer: Callable[[Command], Awaitable[Command]], **hello: Any) -> None:
    """Greet the parent, then answer its commands, one after the other, until there are no more."""
    send({"ready": True, **hello})
    while line := await asyncio.to_thread(sys.stdin.readline):
        try:
            send(await answer(json.loads(line)))
        except Exception as error:
            send({"error": _first(error)})


def _first(error: Exception) -> str:
    """The first of several errors that came together."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
