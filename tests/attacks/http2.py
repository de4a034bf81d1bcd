"""HTTP/2 as an attacker speaks it: frames by hand, nothing that a client library would refuse."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK = END_STREAM = 1
END_HEADERS = 4
CANCEL = 8
_NAMES = {RST_STREAM: "reset", GOAWAY: "goaway"}


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + payload


def call_headers(method: str, stream: int, more: Iterable[tuple[str, str]] = ()) -> bytes:
    """The HEADERS of a call of `/package.Service/Method`, after which its message is due."""
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method),
        (":authority", "midas"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        *more,
    ]
    block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers)
    return frame(HEADERS, END_HEADERS, stream, block)


def message(stream: int, body: bytes, *, compressed: bool = False) -> bytes:
    """A message of gRPC in one DATA frame, which ends the stream."""
    head = bytes([compressed]) + len(body).to_bytes(4, "big")
    return frame(DATA, END_STREAM, stream, head + body)


def data(stream: int, raw: bytes) -> bytes:
    """A DATA frame after which more is due."""
    return frame(DATA, 0, stream, raw)


def reset(stream: int) -> bytes:
    """RST_STREAM."""
    return frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big"))


def _text(text: str) -> bytes:
    raw = text.encode()
    assert len(raw) < 127
    return bytes([len(raw)]) + raw


class Connection:
    """One connection. It answers what a peer must, and counts what the server sends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts: Counter[str] = Counter()
        """How often there was `answer` (a frame of one), `reset`, `goaway`, `ended` (a stream) and
        `closed`."""
        self.closed = asyncio.Event()
        self._heard = asyncio.Event()
        self.settled = asyncio.Event()
        """The server's settings have arrived and are acknowledged, or it is closed."""
        self._reader = reader
        self._writer = writer
        self._next = 1
        self._reading = asyncio.create_task(self._read())

    def stream(self) -> int:
        """The number of a new stream."""
        self._next += 2
        return self._next - 2

    async def send(self, raw: bytes) -> None:
        """Write it, and wait while the server reads nothing. Does nothing once closed."""
        if not self.open:
            return
        with suppress(OSError):
            self._writer.write(raw)
            await self._writer.drain()

    @property
    def open(self) -> bool:
        """Whether the server has not closed it."""
        return not self.closed.is_set()

    async def hear(self, what: str, count: int = 1) -> None:
        """Wait until `counts` has so many of it. AssertionError if it is closed before."""
        while self.counts[what] < count:
            assert self.open, f"closed after {dict(self.counts)}"
            self._heard.clear()
            await self._heard.wait()

    async def close(self) -> None:
        """Abort the connection."""
        self._writer.transport.abort()
        await self._reading

    async def _read(self) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await self._reader.readexactly(9)
                length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                payload = await self._reader.readexactly(length)
                await self._take(kind, flags, payload)
                self._heard.set()
        self.counts["closed"] += 1
        self.closed.set()
        self._heard.set()
        self.settled.set()

    async def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if kind in _NAMES:
            self.counts[_NAMES[kind]] += 1
        elif kind in (HEADERS, DATA) and flags & END_STREAM:
            self.counts["ended"] += 1
        elif kind == DATA:
            self.counts["answer"] += 1
        elif kind == PING and not flags & ACK:
            await self.send(frame(PING, ACK, 0, payload))
        elif kind == SETTINGS and not flags & ACK:
            await self.send(frame(SETTINGS, ACK, 0))
            self.settled.set()


async def connect(port: int, tls: ssl.SSLContext | None = None) -> Connection:
    """A connection on which calls can be begun. Raises OSError if there is none to be had."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    writer.write(PREFACE + frame(SETTINGS, 0, 0))
    connection = Connection(reader, writer)
    await connection.settled.wait()
    return connection


def client_tls(certificate: str, key: str, authority: str) -> ssl.SSLContext:
    """What a client shows; files with PEM."""
    context = ssl.create_default_context(cafile=authority)
    context.check_hostname = False
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    return context
