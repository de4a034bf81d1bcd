"""The real intake on a real socket in the process of the test, and a raw client for it."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from midas.v1.event_service_pb2_grpc import EventServiceStub
from tests.patience import PATIENCE_S
from webhook_gateway import grpc_channels
from webhook_gateway.config.settings import Settings
from webhook_gateway.connections import BACKLOG, ConnectionBounds, Connections
from webhook_gateway.intake import Intake, IntakeBounds
from webhook_gateway.metrics import Metrics
from webhook_gateway.recorder import Recorder
from webhook_gateway.signature import HEADER, Key, Verifier

PATH = "/pingpp/webhooks"


@dataclass(frozen=True)
class Answered:
    """One HTTP answer."""

    status: int
    head: str
    body: bytes


@dataclass
class Stage:
    """A running intake."""

    port: int
    intake: Intake
    connections: Connections
    metrics: Metrics

    async def post(self, body: bytes, signature: str, *more: str) -> Answered:
        """One webhook on a connection of its own."""
        return await self.send(request(body, signature, *more))

    async def send(self, raw: bytes) -> Answered:
        """Send these bytes; the one answer to them."""
        answers = await self.exchange(raw)
        assert len(answers) == 1, answers
        return answers[0]

    async def exchange(self, raw: bytes) -> list[Answered]:
        """Send these bytes and read until the gateway closes the connection."""
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(raw)
                with suppress(ConnectionError):
                    await writer.drain()
                return answers_in(await read_all(reader))
            finally:
                writer.close()

    def counted(self, outcome: str) -> float:
        """How many requests ended so, by the metric."""
        found = re.findall(
            rf'webhook_gateway_webhooks_total{{outcome="{outcome}",status="\d+"}} ([\d.]+)',
            self.metrics.exposition().decode(),
        )
        return sum(float(each) for each in found)


@asynccontextmanager
async def staged(
    keys: list[Key],
    midas_port: int,
    *,
    connections: int = 1024,
    concurrent: int = 64,
    header_timeout_s: float = 10.0,
    body_timeout_s: float = 10.0,
    record_timeout_s: float = 10.0,
) -> AsyncIterator[Stage]:
    """The intake with these keys, before the EventService on this port."""
    settings = Settings(
        pingpp_public_key_paths=(Path("unused.pem"),), midas_target=f"127.0.0.1:{midas_port}"
    )
    metrics = Metrics()
    bounds = IntakeBounds(
        path=PATH,
        body_bytes=64 * 1024,
        body_timeout=timedelta(seconds=body_timeout_s),
        concurrent=concurrent,
    )
    async with grpc_channels.open_midas(settings) as channel:
        recorder = Recorder(EventServiceStub(channel), record_timeout_s)
        intake = Intake(Verifier(keys), recorder.record, bounds, metrics)
        server = Connections(
            intake.handle,
            ConnectionBounds(connections, timedelta(seconds=header_timeout_s)),
            metrics,
        )
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(server, "127.0.0.1", 0, backlog=BACKLOG)
        try:
            yield Stage(listening.sockets[0].getsockname()[1], intake, server, metrics)
        finally:
            listening.close()
            await server.shutdown(0.1)


def request(body: bytes, signature: str | None, *more: str, close: bool = True) -> bytes:
    """A webhook as Ping++ sends it, byte for byte."""
    lines = [
        f"POST {PATH} HTTP/1.1",
        "Host: shop.example",
        "Content-Type: application/json;charset=UTF-8",
        f"Content-Length: {len(body)}",
        *([] if signature is None else [f"{HEADER}: {signature}"]),
        *more,
        *(["Connection: close"] if close else []),
    ]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def answers_in(raw: bytes) -> list[Answered]:
    """The HTTP answers that these bytes are, one after the other; 100 Continue is one."""
    answers = []
    while raw:
        head, blank, rest = raw.partition(b"\r\n\r\n")
        assert blank, raw
        text = head.decode("ascii")
        status = int(re.match(r"HTTP/1\.[01] (\d{3}) ", text)[1])  # type: ignore[index]
        length = re.search(r"(?i)content-length: (\d+)", text)
        size = int(length[1]) if length and status != 100 else 0
        answers.append(Answered(status, text, rest[:size]))
        raw = rest[size:]
    return answers


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that announces itself to nobody."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - a metric, or a list in another task
            await asyncio.sleep(0.01)


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the end of the connection, orderly or not."""
    got = b""
    with suppress(ConnectionError):
        while some := await reader.read(65536):
            got += some
    return got
