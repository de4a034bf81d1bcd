"""Ping++ as the sender of webhooks: a process that charges orders, and later announces payments.

`prepare` charges through Midas and makes and signs the webhooks. `send` is a closed loop over so
many kept-alive connections, `drip` an open one; both only write what was prepared, so that sending
costs as little as it can.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import cast

import uvloop

from midas.v1 import payment_service_pb2 as pb
from tests.benchmarks.child import Command, obey
from tests.benchmarks.load import CALL_TIMEOUT_S, Load, charge, closed_loop, open_loop
from tests.benchmarks.webhooks import Psp, Webhook

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"
_OK = b"HTTP/1.1 200 "


class WebhookLoad:
    """Keeps what was prepared under a prefix; connections last for one command."""

    def __init__(self, psp: Psp) -> None:
        self._psp = psp
        self._load = Load()
        self._webhooks: dict[str, list[Webhook]] = {}

    async def answer(self, command: Command) -> Command:
        """Carry out one command."""
        if command["do"] == "prepare":
            return await self._prepare(command)
        connections = [await _connect(command["port"]) for _ in range(command["senders"])]
        send = self._drip if command["do"] == "drip" else self._send
        try:
            return await send(connections.copy(), command)
        finally:
            for each in connections:
                each.close()

    async def _prepare(self, command: Command) -> Command:
        call = charge(await self._load.stub(command["target"]), command)
        made: list[Webhook] = []

        async def prepare(number: int) -> None:
            answer: pb.ChargeResponse = await call(number)
            made.append(self._psp.paid(answer.charge.order_no, answer.charge_json))

        result = await closed_loop(prepare, command["count"], command["callers"])
        self._webhooks[command["prefix"]] = made
        return result

    async def _send(self, connections: list["Connection"], command: Command) -> Command:
        """Send as fast as they are taken, and from the first again where more are asked for."""
        webhooks = self._webhooks[command["prefix"]]

        async def call(number: int) -> None:
            connection = _free(connections)
            await connection.post(webhooks[number % len(webhooks)])
            connections.append(connection)

        began_at = time.perf_counter()
        result = await closed_loop(call, command["count"], len(connections))
        return {**result, "began_at": began_at}

    async def _drip(self, connections: list["Connection"], command: Command) -> Command:
        """Send on a schedule. Returns when each was written and answered, by its order."""
        webhooks = self._webhooks[command["prefix"]]
        written: dict[str, float] = {}
        answered: dict[str, float] = {}

        async def call(number: int, _due: float) -> None:
            connection, order_no = _free(connections), webhooks[number].order_no
            written[order_no] = time.perf_counter()
            await connection.post(webhooks[number])
            answered[order_no] = time.perf_counter()
            connections.append(connection)

        result = await open_loop(call, command["count"], command["per_s"])
        return {**result, "written": written, "answered": answered}


class Connection(asyncio.Protocol):
    """One kept-alive HTTP/1.1 connection, without pipelining."""

    def __init__(self) -> None:
        self.open = True
        self._unread = b""
        self._answered: asyncio.Future[None] | None = None

    async def post(self, webhook: Webhook) -> None:
        """Send it; return once it was answered with 200. Raises ConnectionError."""
        self._answered = self._loop.create_future()
        self._transport.write(webhook.request)
        await self._answered

    def close(self) -> None:
        """No more of it."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        """Take the answer once it is whole."""
        self._unread += data
        head, end, body = self._unread.partition(_END)
        if not end or len(body) < _content_length(head):
            return
        self._unread = b""
        refused = None if head.startswith(_OK) else head.partition(b"\r\n")[0].decode()
        self._settle(refused)

    def connection_lost(self, _error: Exception | None) -> None:
        """A caller that waits for an answer gets none."""
        self.open = False
        self._settle("the connection was closed")

    def _settle(self, trouble: str | None) -> None:
        if self._answered is None or self._answered.done():
            return
        if trouble is None:
            self._answered.set_result(None)
        else:
            self._answered.set_exception(ConnectionError(f"a webhook was not taken: {trouble}"))


def _free(connections: list[Connection]) -> Connection:
    """The one that was used last; those that have been idle too long were closed."""
    while connections:
        connection = connections.pop()
        if connection.open:
            return connection
    raise ConnectionError("every connection is in use or was closed")


def _content_length(head: bytes) -> int:
    lower = head.lower()
    start = lower.index(_LENGTH) + len(_LENGTH)
    return int(lower[start:].split(b"\r\n", 1)[0])


async def _connect(port: int) -> Connection:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(CALL_TIMEOUT_S):
        _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    return connection


async def _main() -> None:
    psp = Psp(Path(os.environ["BENCHMARK_PSP_KEY"]))
    await obey(WebhookLoad(psp).answer)


if __name__ == "__main__":
    uvloop.run(_main())
