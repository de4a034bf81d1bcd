"""The load generator: a process that calls PaymentService on command.

`charge` and `query` are closed loops: so many callers, each with one call under way. `steady` is an
open loop: calls begin on a schedule, also while earlier ones are under way, and the time of each is
counted from when it was due, so that a server which stalls cannot hide it.
"""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import grpc
import uvloop

from midas.v1 import payment_service_pb2 as pb
from midas.v1 import payment_service_pb2_grpc
from tests.benchmarks.child import Command, obey
from tests.benchmarks.rounds import quantile

CONNECT_TIMEOUT_S = 180.0
CALL_TIMEOUT_S = 180.0
SPIN_S = 0.0012
"""A timer of the event loop may be a millisecond late; the rest of the wait is spent looking."""

Call = Callable[[int], Awaitable[Any]]


class Load:
    """One connection to each server, kept from one command to the next."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def answer(self, command: Command) -> Command:
        """Carry out one command."""
        stub = await self.stub(command["target"])
        call = _query(stub, command) if command["do"] == "query" else charge(stub, command)
        if command["do"] == "steady":
            return await _steady(call, command["count"], command["per_s"])
        return await closed_loop(call, command["count"], command["callers"])

    async def stub(self, target: str) -> payment_service_pb2_grpc.PaymentServiceStub:
        """The server there, once it serves. Raises ConnectionError if it does not."""
        if target not in self._channels:
            channel = grpc.aio.insecure_channel(target)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await channel.channel_ready()
            except TimeoutError:
                await channel.close()
                raise ConnectionError(f"nothing serves at {target}") from None
            self._channels[target] = channel
        return payment_service_pb2_grpc.PaymentServiceStub(self._channels[target])


def charge(stub: payment_service_pb2_grpc.PaymentServiceStub, command: Command) -> Call:
    """A charge of the order with this number; every number is another order."""

    async def call(number: int) -> pb.ChargeResponse:
        request = pb.ChargeRequest(
            order_no=f"{command['prefix']}-{number}",
            channel="wx_pub_qr",
            amount=1999,
            currency="cny",
            subject="A pair of socks",
            body="A pair of woollen socks, size 42",
            client_ip="127.0.0.1",
            metadata={"shop": "benchmark", "basket": str(number)},
        )
        request.extra.update({"product_id": f"p{number}"})
        method: Any = stub.Charge
        answer: pb.ChargeResponse = await method(request, timeout=CALL_TIMEOUT_S)
        return answer

    return call


def _query(stub: payment_service_pb2_grpc.PaymentServiceStub, command: Command) -> Call:
    """A query for some order of those that were charged under the prefix."""

    async def call(_: int) -> pb.QueryResponse:
        order_no = f"{command['prefix']}-{random.randrange(command['stored'])}"
        method: Any = stub.Query
        request = pb.QueryRequest(order_no=order_no)
        answer: pb.QueryResponse = await method(request, timeout=CALL_TIMEOUT_S)
        return answer

    return call


async def closed_loop(call: Call, count: int, callers: int) -> Command:
    """So many callers, each with one call under way."""
    numbers = itertools.count()

    async def caller() -> None:
        while (number := next(numbers)) < count:
            await call(number)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return {"elapsed_s": time.perf_counter() - began}


async def open_loop(
    call: Callable[[int, float], Coroutine[Any, Any, None]], count: int, per_s: float
) -> Command:
    """Calls on a schedule, each with its number and the time at which it is due."""
    began = time.perf_counter() + 0.05
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            due = began + number / per_s
            await _until(due)
            group.create_task(call(number, due))
    return {"elapsed_s": time.perf_counter() - began}


async def _steady(call: Call, count: int, per_s: float) -> Command:
    """Times beyond what the stub itself held back the answer."""
    answers: list[tuple[float, str]] = []

    async def one(number: int, due: float) -> None:
        answer = await call(number)
        answers.append((time.perf_counter() - due, answer.charge_json))

    result = await open_loop(one, count, per_s)
    added = sorted(took * 1000 - json.loads(text)["held_us"] / 1000 for took, text in answers)
    return {**result, "p50_ms": quantile(added, 0.5), "p99_ms": quantile(added, 0.99)}


async def _until(due: float) -> None:
    await asyncio.sleep(max(0.0, due - time.perf_counter() - SPIN_S))
    while time.perf_counter() < due:  # noqa: ASYNC110 - a timer is not exact enough
        await asyncio.sleep(0)


if __name__ == "__main__":
    uvloop.run(obey(Load().answer))
