"""grpc.reflection: lets tools such as grpcurl find the methods without the protos.

The reflection package of grpcio speaks v1alpha only, and finds no methods. The messages of v1 are
the same in all but their package name, so one servicer answers under both names.
"""

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
    reflection,
    reflection_pb2,
)

V1 = "grpc.reflection.v1.ServerReflection"
V1_ALPHA = reflection.SERVICE_NAME


class _Servicer(reflection.aio.ReflectionServicer):  # type: ignore[misc]
    """Finds methods, too: they are in the file of their service."""

    def _file_containing_symbol(self, request: Any, fully_qualified_name: str) -> Any:
        owner = _service_of(fully_qualified_name) or fully_qualified_name
        return super()._file_containing_symbol(request, owner)


def handlers(services: Iterable[str]) -> list[grpc.GenericRpcHandler]:
    """The handlers that serve reflection. It lists the names in `services` and its own."""
    _describe_v1()
    servicer = _Servicer((*services, V1, V1_ALPHA))
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    method = {"ServerReflectionInfo": handler}
    return [grpc.method_handlers_generic_handler(name, method) for name in (V1, V1_ALPHA)]


def _service_of(symbol: str) -> str | None:
    """The service whose method this is, if it is one."""
    name, _, method = symbol.rpartition(".")
    try:
        service = descriptor_pool.Default().FindServiceByName(name)
    except KeyError:
        return None
    return name if method in service.methods_by_name else None


def _describe_v1() -> None:
    """Let tools find v1 itself: it is served, but the package has no file of it."""
    pool = descriptor_pool.Default()
    try:
        pool.FindServiceByName(V1)
    except KeyError:
        alpha = FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
        text = text_format.MessageToString(alpha).replace("v1alpha", "v1")
        pool.AddSerializedFile(text_format.Parse(text, FileDescriptorProto()).SerializeToString())
