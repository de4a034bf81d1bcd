"""A mock with a socket, and a channel to it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from grpc import aio

from midas.mock.server import serve
from midas.v1.event_service_pb2_grpc import EventServiceStub
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub


@dataclass
class Mock:
    """The server for its callers, and the method, key and answer of each call."""

    target: str
    channel: aio.Channel
    calls: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def payments(self) -> Any:
        """midas.v1.PaymentService."""
        return PaymentServiceStub(self.channel)

    @property
    def events(self) -> Any:
        """midas.v1.EventService."""
        return EventServiceStub(self.channel)


@pytest.fixture
async def mock() -> AsyncIterator[Mock]:
    """A mock on a free port."""
    calls: list[tuple[str, str, str]] = []
    server, port = await serve("127.0.0.1", 0, lambda *call: calls.append(call))
    target = f"127.0.0.1:{port}"
    async with aio.insecure_channel(target) as channel:
        yield Mock(target, channel, calls)
    await server.stop(0)
