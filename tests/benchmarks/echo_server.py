"""A bare grpc.aio echo: Query answered at once with one charge that is made up."""

import grpc
import uvloop

from midas.v1 import charge_pb2
from midas.v1 import payment_service_pb2 as pb
from tests.benchmarks.child import only, serve_at


async def echo(request: pb.QueryRequest, _: object) -> pb.QueryResponse:
    """Give the order_no back."""
    return pb.QueryResponse(charges=[charge_pb2.Charge(order_no=request.order_no)])


async def _main() -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((only("Query", pb.QueryRequest, echo),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await serve_at(port)
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(_main())
