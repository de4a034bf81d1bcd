"""Serves the answers over gRPC, with the errors that are asked for."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from midas import limits
from midas.errors import FieldViolation, InvalidRequest
from midas.mock import answers, failures, magic
from midas.mock.answers import METHODS_ANSWERED, Answer
from midas.rpc import errors
from midas.rpc.errors import Failure

Context = aio.ServicerContext[Any, Any]
LogCall = Callable[[str, str, str], None]
"""Gets the method and the key of every call, and what was answered."""

HEALTH = "grpc.health.v1.Health"
_SERVING = b"\x08\x01"
"""The bytes of HealthCheckResponse with SERVING. Its package is not in the base install."""
NAMES = {
    **failures.NAMES,
    **{name: amount for name, (amount, _) in magic.STATES.items()},
    **dict.fromkeys(answers.EVENT_NAMES, 0),
}
"""Everything that can be asked for, with its amount; 0 where it has none."""


class CannotListen(Exception):
    """The address cannot be bound."""


async def serve(ip: str, port: int, log_call: LogCall) -> tuple[aio.Server, int]:
    """A server that accepts calls, and its port (0 takes a free one). Raises CannotListen."""
    bound = ("grpc.max_receive_message_length", limits.REQUEST_BYTES_READ)
    server = aio.server(options=[("grpc.so_reuseport", 0), bound])
    _reflect(server)
    server.add_generic_rpc_handlers(list(_handlers(log_call)))
    host = f"[{ip}]" if ":" in ip else ip
    try:
        taken = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        raise CannotListen(f"{host}:{port}") from None
    await server.start()
    return server, taken


def has_reflection() -> bool:
    """Whether tools such as grpcurl can ask for the methods. On the base install they cannot."""
    return _reflection() is not None


def _handlers(log_call: LogCall) -> Iterable[grpc.GenericRpcHandler]:
    services: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
    for name, answer in METHODS_ANSWERED.items():
        service, _, method = name.partition("/")
        services.setdefault(service, {})[method] = _handler(name, answer, log_call)
    for service, methods in services.items():
        yield grpc.method_handlers_generic_handler(service, methods)
    yield _health([*services, HEALTH, ""], log_call)
    yield _UnknownMethods(log_call)


def _handler(name: str, answer: Answer, log_call: LogCall) -> "grpc.RpcMethodHandler[Any, Any]":
    async def serve_one(raw: bytes, context: Context) -> bytes:
        key, outcome = _outcome(name, answer, raw, _wanted(context))
        log_call(name, key, outcome.reason if isinstance(outcome, Failure) else "OK")
        if isinstance(outcome, Failure):
            await _abort(context, outcome)
            raise AssertionError  # abort has raised
        return outcome

    return grpc.unary_unary_rpc_method_handler(serve_one)


def _outcome(name: str, method: Answer, raw: bytes, wanted: str) -> tuple[str, bytes | Failure]:
    """The key of the call, and its answer or its failure."""
    if len(raw) > limits.REQUEST_BYTES:
        size, most = len(raw), limits.REQUEST_BYTES
        return "", errors.failure_in(errors.TOO_LARGE, bytes=size, bytes_max=most)
    try:
        request = method.request.FromString(raw)
    except DecodeError:
        message = method.request.DESCRIPTOR.full_name
        return "", errors.failure_in(errors.UNREADABLE, message=message)
    key = next(iter(magic.keys_of(request)), "")
    try:
        asked = magic.asked(request, wanted, NAMES)
    except KeyError:
        return key, _no_such_name(wanted)
    if method.answer is answers.record_event and not asked:
        key = answers.event_key(request)
        asked = magic.ending(key, NAMES)
    if asked in failures.NAMES:
        return key, failures.failure(asked, key, name, moves_money=method.moves_money)
    try:
        return key, method.answer(request, asked).SerializeToString()
    except InvalidRequest as error:
        return key, errors.failure_of(error)


def _wanted(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == magic.METADATA_KEY:
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return ""


def _no_such_name(wanted: str) -> Failure:
    violation = FieldViolation(magic.METADATA_KEY, f"{wanted} is no name of `midas mock`")
    return errors.failure_of(InvalidRequest((violation,)))


async def _abort(context: Context, failed: Failure) -> None:
    await context.abort(failed.code, failed.message, failed.trailers if failed.details else ())


def _health(known: list[str], log_call: LogCall) -> grpc.GenericRpcHandler:
    """Health that is always SERVING. A service's name is read by hand: tag, length, text."""

    async def check(raw: bytes, context: Context) -> bytes:
        service = raw[2:].decode("utf-8", "replace")
        if service not in known:
            log_call(f"{HEALTH}/Check", service, errors.NO_SUCH_SERVICE.reason)
            await _abort(context, errors.failure_in(errors.NO_SUCH_SERVICE, service=service))
        return _SERVING

    async def watch(_: bytes, context: Context) -> None:
        await context.write(_SERVING)
        await asyncio.Event().wait()  # until the caller goes away, or the server stops

    return grpc.method_handlers_generic_handler(
        HEALTH,
        {
            "Check": grpc.unary_unary_rpc_method_handler(check),
            "Watch": grpc.unary_stream_rpc_method_handler(watch),
        },
    )


def _reflect(server: aio.Server) -> None:
    reflection = _reflection()
    if reflection is not None:
        services = {name.partition("/")[0] for name in METHODS_ANSWERED}
        reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), server)


def _reflection() -> Any:
    try:
        from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        return None
    return reflection


class _UnknownMethods(grpc.GenericRpcHandler):
    """Answers calls of methods that do not exist. It comes after all other handlers."""

    def __init__(self, log_call: LogCall) -> None:
        self._log_call = log_call

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        method = handler_call_details.method.removeprefix("/")

        async def refuse(_: bytes, context: Context) -> bytes:
            self._log_call(method, "", errors.NO_SUCH_METHOD.reason)
            await _abort(context, errors.failure_in(errors.NO_SUCH_METHOD, method=method))
            raise AssertionError  # abort has raised

        return grpc.unary_unary_rpc_method_handler(refuse)
