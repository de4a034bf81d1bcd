"""grpc.reflection: lets tools such as grpcurl find the methods without the protos.

The reflection package of grpcio speaks v1alpha only. The messages of v1 are the same in all but
their package name, so the one servicer answers under both names.
"""

from collections.abc import Iterable

import grpc
from grpc_reflection.v1alpha import (  # type: ignore[import-untyped]
    reflection,
    reflection_pb2,
)

from midas.rpc.entrance import Streams

V1 = "grpc.reflection.v1.ServerReflection"
V1_ALPHA = reflection.SERVICE_NAME


def handlers(services: Iterable[str], streams: Streams) -> list[grpc.GenericRpcHandler]:
    """What grpc needs to serve it; `services` are the names that are listed."""
    servicer = reflection.aio.ReflectionServicer((*services, V1_ALPHA))
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    method = {"ServerReflectionInfo": streams.held(handler, f"{V1}/ServerReflectionInfo")}
    return [grpc.method_handlers_generic_handler(name, method) for name in (V1, V1_ALPHA)]
