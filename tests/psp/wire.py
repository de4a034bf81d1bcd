"""A server of plain sockets that does exactly what a test wants, byte by byte."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Received:
    """One request as it came over the wire."""

    connection: int
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Reply = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Wire:
    """Where the server listens, and what it received."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def serving(reply: Reply) -> AsyncIterator[Wire]:
    """Serve `reply` for each request on a free port of the loopback address."""
    wire = Wire()
    writers: list[asyncio.StreamWriter] = []
    closing = False

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if closing:
            writer.transport.abort()
            return
        wire.connections += 1
        writers.append(writer)
        await _converse(wire, wire.connections, reader, writer, reply)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    wire.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield wire
    finally:
        closing = True
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


async def _converse(
    wire: Wire,
    connection: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    reply: Reply,
) -> None:
    try:
        while not writer.is_closing():
            request = await _read(connection, reader)
            wire.received.append(request)
            await reply(request, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.transport.abort()


async def _read(connection: int, reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(connection, method, target, headers, body)


def response(status: int, body: bytes, *headers: str) -> bytes:
    """A whole answer that keeps the connection."""
    lines = [f"HTTP/1.1 {status} Reason", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def always(raw: bytes) -> Reply:
    """Answer every request with these bytes."""

    async def reply(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return reply


async def never(_request: Received, _writer: asyncio.StreamWriter) -> None:
    """Take the request and do not answer."""


def cut(raw: bytes) -> Reply:
    """Answer with these bytes, then reset the connection."""

    async def reply(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        writer.transport.abort()

    return reply


def close(raw: bytes) -> Reply:
    """Answer with these bytes, then close the connection in order."""

    async def reply(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()
        writer.close()

    return reply


@contextmanager
def refusing() -> Iterator[str]:
    """A URL whose port is bound but nobody listens on it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextmanager
def swallowing() -> Iterator[str]:
    """A URL whose connections are never made: the queue of the listener is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
