"""In place of the order service: acknowledges at once, notes when each order was announced.

It is as cheap as it can be, so that it is never the limit. Its parent may wait until so many
orders of a prefix are known to be paid.
"""

import asyncio
import time
from collections import defaultdict

import grpc
import uvloop

from midas.order.v1 import order_payment_service_pb2 as pb
from tests.benchmarks.child import Command, obey, only

ARRIVAL_TIMEOUT_S = 300.0

_DONE = pb.PayOrderSuccessResponse()


class OrderStub:
    """The moment of the first PayOrderSuccess of each order, by prefix."""

    def __init__(self) -> None:
        self._paid_at: dict[str, dict[str, float]] = defaultdict(dict)
        self._some = asyncio.Event()

    async def paid(
        self, request: pb.PayOrderSuccessRequest, _: object
    ) -> pb.PayOrderSuccessResponse:
        """Acknowledge."""
        prefix = request.order_no.rpartition("-")[0]
        self._paid_at[prefix].setdefault(request.order_no, time.perf_counter())
        self._some.set()
        return _DONE

    async def answer(self, command: Command) -> Command:
        """When each order of the prefix was known to be paid, once so many are."""
        prefix, count = command["prefix"], command["count"]
        paid_at = self._paid_at[prefix]
        try:
            async with asyncio.timeout(ARRIVAL_TIMEOUT_S):
                while len(paid_at) < count:
                    self._some.clear()
                    await self._some.wait()
        except TimeoutError:
            raise TimeoutError(f"{len(paid_at)} of {count} notifications arrived") from None
        del self._paid_at[prefix]
        return {"last_at": max(paid_at.values()), "paid_at": paid_at}


async def _main() -> None:
    orders = OrderStub()
    server = grpc.aio.server()
    service = "midas.order.v1.OrderPaymentService"
    handler = only("PayOrderSuccess", pb.PayOrderSuccessRequest, orders.paid, service)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await obey(orders.answer, port=port)
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(_main())
