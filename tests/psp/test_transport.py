"""Real sockets: never sent differs from lost, a POST leaves once, and every answer is bounded."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Lost, NotSent, Sent, Transport
from tests.psp import made, wire

ANSWER_BYTES = 100_000
AMPLE = timedelta(seconds=5)
SHORT = timedelta(milliseconds=150)
BODY = made.text(made.charge_data()).encode()
GOOD = wire.response(200, BODY, "Content-Type: application/json", "X-Pingplusplus-Signature: s")


@asynccontextmanager
async def opened(connect_timeout: timedelta = AMPLE, places: int = 8) -> AsyncIterator[Transport]:
    """A transport that is ready."""
    transport = Transport(connect_timeout, places, ANSWER_BYTES)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()


def post(url: str) -> Prepared:
    """A request that must not be sent twice."""
    return Prepared("POST", f"{url}/v1/charges", {"Content-Type": "application/json"}, b'{"a": 1}')


def get(url: str) -> Prepared:
    """A request that changes nothing."""
    return Prepared("GET", f"{url}/v1/charges/ch_1?app%5Bid%5D=a%2Fb", {}, None)


async def answered(reply: wire.Reply, limit: timedelta = AMPLE) -> Sent:
    """What comes of one POST to a server that replies like this."""
    async with opened() as transport, wire.serving(reply) as server:
        sent = await transport.send(post(server.url), limit)
        assert len(server.received) == 1
        return sent


async def test_a_whole_answer() -> None:
    """Status, exact bytes and the one signature; the target leaves exactly as it was signed."""
    async with opened() as transport, wire.serving(wire.always(GOOD)) as server:
        assert await transport.send(get(server.url), AMPLE) == Answer(200, BODY, "s")
        assert server.received[0].target == "/v1/charges/ch_1?app%5Bid%5D=a%2Fb"


async def test_connections_are_kept() -> None:
    """Calls one after the other share one connection."""
    async with opened() as transport, wire.serving(wire.always(GOOD)) as server:
        for _ in range(3):
            await transport.send(post(server.url), AMPLE)
        assert (server.connections, len(server.received)) == (1, 3)


async def test_small_requests_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP_NODELAY is set on every connection."""
    sockets: list[Any] = []
    create: Any = aiohttp.TCPConnector.connect

    async def watched(self: Any, *args: Any, **named: Any) -> Any:
        connection = await create(self, *args, **named)
        sockets.append(connection.transport.get_extra_info("socket"))
        return connection

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", watched)
    async with opened() as transport, wire.serving(wire.always(GOOD)) as server:
        await transport.send(post(server.url), AMPLE)
        assert sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


# Never sent -----------------------------------------------------------------------------------


async def test_a_refused_port_is_never_sent() -> None:
    """Nobody listens (P1)."""
    with wire.refusing() as url:
        async with opened() as transport:
            assert await transport.send(post(url), AMPLE) == NotSent("connect_failed")


async def test_a_connection_that_is_never_made_is_never_sent() -> None:
    """The connect timeout is its own bound, and so is a shorter total one."""
    with wire.swallowing() as url:
        async with opened(connect_timeout=SHORT) as transport:
            assert await transport.send(post(url), AMPLE) == NotSent("connect_timeout")
        async with opened() as transport:
            assert await transport.send(post(url), SHORT) == NotSent("timeout")


async def test_a_name_that_does_not_resolve_is_never_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS comes before any byte."""

    async def nowhere(*_args: Any, **_named: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nowhere)
    async with opened() as transport:
        sent = await transport.send(post("http://pingpp.invalid"), AMPLE)
        assert sent == NotSent("name_not_resolved")


async def test_waiting_for_a_place_is_never_sent() -> None:
    """When all connections are taken, the wait is bounded by the connect timeout."""
    asked = asyncio.Event()

    async def hold(_request: wire.Received, _writer: asyncio.StreamWriter) -> None:
        asked.set()

    async with opened(SHORT, places=1) as transport, wire.serving(hold) as server:
        first = asyncio.create_task(transport.send(post(server.url), AMPLE))
        await asked.wait()
        assert await transport.send(post(server.url), AMPLE) == NotSent("connect_timeout")
        assert len(server.received) == 1
        first.cancel()
        await asyncio.wait([first])


async def test_no_time_left_is_never_sent() -> None:
    """A deadline that has passed starts nothing, also on a connection that is ready."""
    async with opened() as transport, wire.serving(wire.always(GOOD)) as server:
        await transport.send(post(server.url), AMPLE)
        for late in (timedelta(0), timedelta(seconds=-1)):
            assert await transport.send(post(server.url), late) == NotSent("no_time_left")
        assert len(server.received) == 1


async def test_a_failed_tls_handshake_is_never_sent() -> None:
    """A server without TLS gets no byte of the request."""
    received: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1000))
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, opened() as transport:
        assert await transport.send(post(url), AMPLE) == NotSent("tls_handshake")
    assert b"/v1/charges" not in received[0]


async def test_a_tls_handshake_without_end_is_never_sent() -> None:
    """The connect timeout covers it."""

    async def mute(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with opened(connect_timeout=SHORT) as transport:
        assert await transport.send(post(url), AMPLE) == NotSent("connect_timeout")
    server.close()
    for writer in writers:
        writer.transport.abort()


def _self_signed(folder: Path) -> ssl.SSLContext:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        name,
        name,
        made.key("merchant").public_key(),
        1,
        now - timedelta(days=1),
        now + timedelta(days=1),
    )
    certificate = builder.sign(made.key("merchant"), SHA256())
    file = folder / "server.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM) + made.private_pem().encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_a_stranger_with_a_certificate_gets_nothing(tmp_path: Path) -> None:
    """A certificate that nobody vouches for ends the call before the request."""
    received: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1000))
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0, ssl=_self_signed(tmp_path))
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, opened() as transport:
        assert await transport.send(post(url), AMPLE) == NotSent("tls_certificate")
    assert b"".join(received) == b""


# Lost -----------------------------------------------------------------------------------------


async def test_no_answer_is_lost() -> None:
    """The request was taken and nothing came back: half-open looks the same (P2, P13)."""
    assert await answered(wire.never, SHORT) == Lost("timeout")


CUTS = [0, 1, 9, 20, len(GOOD) - len(BODY) - 1, len(GOOD) - len(BODY), len(GOOD) - 100, -1]


@pytest.mark.parametrize("end", CUTS)
@pytest.mark.parametrize("ending", [wire.cut, wire.close])
async def test_an_answer_cut_at_any_byte_is_lost(end: int, ending: Any) -> None:
    """Reset or closed, in the status line, the headers or the body (P13)."""
    sent = await answered(ending(GOOD[:end]))
    assert isinstance(sent, Lost)
    assert sent.reason in ("connection_lost", "answer_cut_short", "not_http")


@pytest.mark.parametrize("end", [0, 30, len(GOOD) - 50])
async def test_an_answer_that_stalls_is_lost(end: int) -> None:
    """The total timeout bounds headers and body alike."""
    assert await answered(wire.always(GOOD[:end]), SHORT) == Lost("timeout")


async def test_an_answer_that_drips_is_lost() -> None:
    """Progress does not prolong the total timeout."""

    async def drip(_request: wire.Received, writer: asyncio.StreamWriter) -> None:
        for byte in GOOD:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.01)

    assert await answered(drip, SHORT) == Lost("timeout")


@pytest.mark.parametrize(
    "raw",
    [
        b"no http\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n{}",
    ],
)
async def test_what_is_no_http_is_lost(raw: bytes) -> None:
    """Misshapen heads, wrong lengths and false encodings prove nothing."""
    assert isinstance(await answered(wire.close(raw)), Lost)


async def test_endless_answers_are_cut() -> None:
    """Plain, or packed so that a little on the wire becomes much (answer bytes bound both)."""
    bomb = gzip.compress(b" " * 20_000_000)
    packed = wire.response(200, bomb, "Content-Encoding: gzip")
    assert len(bomb) < ANSWER_BYTES
    assert await answered(wire.always(packed)) == Lost("answer_too_large")
    plain = wire.response(200, b" " * (ANSWER_BYTES + 1))
    assert await answered(wire.always(plain)) == Lost("answer_too_large")
    exact = wire.response(200, b" " * ANSWER_BYTES)
    assert isinstance(await answered(wire.always(exact)), Answer)


async def test_packed_answers_are_unpacked() -> None:
    """Though we do not ask for it, a proxy may do it."""
    packed = wire.response(200, gzip.compress(BODY), "Content-Encoding: gzip")
    assert await answered(wire.always(packed)) == Answer(200, BODY, "")


# Once -----------------------------------------------------------------------------------------


def _dies_on_reuse() -> wire.Reply:
    served: set[int] = set()

    async def reply(request: wire.Received, writer: asyncio.StreamWriter) -> None:
        if request.connection == 1 and served:
            writer.transport.abort()
            return
        served.add(request.connection)
        writer.write(GOOD)
        await writer.drain()

    return reply


async def test_a_post_on_a_dying_connection_leaves_once() -> None:
    """The kept connection dies with the request on it: unknown, and nothing is sent again (P9)."""
    async with opened() as transport, wire.serving(_dies_on_reuse()) as server:
        assert isinstance(await transport.send(post(server.url), AMPLE), Answer)
        assert await transport.send(post(server.url), AMPLE) == Lost("connection_lost")
        assert len(server.received) == 2


async def test_a_post_leaves_once_even_if_the_library_would_repeat_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Should aiohttp come to think of POST as repeatable, its second attempt is stopped."""
    methods = aiohttp.client.IDEMPOTENT_METHODS | {"POST"}
    monkeypatch.setattr(aiohttp.client, "IDEMPOTENT_METHODS", methods)
    async with opened() as transport, wire.serving(_dies_on_reuse()) as server:
        await transport.send(post(server.url), AMPLE)
        assert await transport.send(post(server.url), AMPLE) == Lost("connection_lost")
        assert len(server.received) == 2


async def test_a_get_on_a_dying_connection_is_asked_again() -> None:
    """It changes nothing there, and a stale connection is no news of Ping++."""
    async with opened() as transport, wire.serving(_dies_on_reuse()) as server:
        await transport.send(get(server.url), AMPLE)
        assert isinstance(await transport.send(get(server.url), AMPLE), Answer)
        assert len(server.received) == 3


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_answers(status: int) -> None:
    """Key and signature are for the place that was asked, and for no other."""
    async with wire.serving(wire.always(GOOD)) as elsewhere:
        moved = wire.response(status, b"", f"Location: {elsewhere.url}/v1/charges")
        sent = await answered(wire.always(moved))
        assert isinstance(sent, Answer)
        assert sent.status == status
        assert elsewhere.received == []


async def test_502_is_answered_and_not_repeated() -> None:
    """One POST leaves, though the SDK's own transport would send two (P9, M3)."""
    sent = await answered(wire.always(wire.response(502, b"<html>")))
    assert sent == Answer(502, b"<html>", "")


async def test_cookies_and_proxies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a server nor the environment changes where and what is sent."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    sweet = wire.response(200, BODY, "Set-Cookie: a=b")
    async with opened() as transport, wire.serving(wire.always(sweet)) as server:
        await transport.send(get(server.url), AMPLE)
        await transport.send(get(server.url), AMPLE)
        assert [request.headers.get("cookie") for request in server.received] == [None, None]


async def test_two_signatures_are_none() -> None:
    """Of two headers neither can be picked."""
    twice = wire.response(200, BODY, "X-Pingplusplus-Signature: a", "X-Pingplusplus-Signature: b")
    assert await answered(wire.always(twice)) == Answer(200, BODY, "")


async def test_cancellation_is_not_swallowed() -> None:
    """It is the one thing that is raised."""
    asked = asyncio.Event()

    async def hold(_request: wire.Received, _writer: asyncio.StreamWriter) -> None:
        asked.set()

    async with opened() as transport, wire.serving(hold) as server:
        call = asyncio.create_task(transport.send(post(server.url), AMPLE))
        await asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_closing_ends_calls_under_way() -> None:
    """They are lost, not hanging; later ones are never sent."""
    asked = asyncio.Event()

    async def hold(_request: wire.Received, _writer: asyncio.StreamWriter) -> None:
        asked.set()

    async with wire.serving(hold) as server:
        async with opened() as transport:
            call = asyncio.create_task(transport.send(post(server.url), AMPLE))
            await asked.wait()
        assert await call == Lost("connection_lost")
        assert isinstance(await transport.send(post(server.url), AMPLE), NotSent)
    assert await Transport(AMPLE, 1, 1).send(post("http://127.0.0.1:9"), AMPLE) == NotSent(
        "not_open"
    )
