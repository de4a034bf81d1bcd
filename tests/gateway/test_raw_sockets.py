"""Bytes that no HTTP library would send, over real sockets: their sender gets little for it."""

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, suppress

import pytest

from midas.v1 import event_service_pb2 as events
from tests.gateway.account import Account, event_body
from tests.gateway.events_double import EventsDouble, served
from tests.gateway.intake_stage import (
    PATH,
    Stage,
    answers_in,
    read_all,
    request,
    staged,
    until,
)
from tests.gateway.memory import MemoryTransport
from tests.patience import PATIENCE_S
from webhook_gateway.heads import HEAD_BYTES, PIECE_BYTES, Refusals
from webhook_gateway.signature import HEADER

ACCOUNT = Account()
BODY = event_body()
SIGNATURE = ACCOUNT.sign(BODY)
SIGNED = f"{HEADER}: {SIGNATURE}\r\n".encode()
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: shop.example\r\n".encode()
LIMIT = 64 * 1024


@pytest.fixture
def midas() -> EventsDouble:
    """Midas, that must not be called by any of the bad ones."""
    return EventsDouble()


@pytest.fixture
async def stage(midas: EventsDouble) -> AsyncIterator[Stage]:
    """An intake with short deadlines."""
    async with served(midas) as port, short_staged(port) as stage:
        yield stage


def short_staged(port: int) -> AbstractAsyncContextManager[Stage]:
    """A stage with half a second for a head, and as much for a body."""
    return staged([ACCOUNT.key], port, header_timeout_s=0.5, body_timeout_s=0.5)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """These chunks, each with its true size."""
    return b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks) + end


def sized(length: object, rest: bytes = b"") -> bytes:
    """A signed head that declares this length."""
    return HEAD + SIGNED + f"Content-Length: {length}\r\n\r\n".encode() + rest


def in_chunks(body: bytes) -> bytes:
    """A signed head, and this in place of a chunked body."""
    return HEAD + SIGNED + b"Transfer-Encoding: chunked\r\n\r\n" + body


# W13: slow ones


@pytest.mark.parametrize("sent", [b"", b"P", HEAD, HEAD + SIGNED], ids=len)
async def test_w13_stalled_headers_are_closed(stage: Stage, sent: bytes) -> None:
    """A head that does not come to its end ends with the connection, without an answer."""
    assert await stage.exchange(sent) == []


async def test_w13_dripped_headers_are_closed(stage: Stage) -> None:
    """Each byte that comes does not buy more time."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        reading = asyncio.create_task(read_all(reader))
        dripped = 0
        with suppress(ConnectionError):
            for byte in HEAD + b"X: " + b"x" * 3000:
                if reading.done():
                    break
                writer.write(bytes([byte]))
                await writer.drain()
                dripped += 1
                await asyncio.sleep(0.02)
        assert await reading == b""
        assert dripped < 1500
        writer.close()


async def test_w13_a_stalled_body_is_a_408(stage: Stage, midas: EventsDouble) -> None:
    """Declared, begun, and never ended."""
    for raw in (sized(len(BODY)), sized(len(BODY), BODY[:-1]), in_chunks(b"5\r\nabc")):
        assert (await stage.send(raw)).status == 408
    assert midas.recorded == []


async def test_w13_a_dripped_body_is_a_408(stage: Stage, midas: EventsDouble) -> None:
    """The deadline is for the whole of it."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        reading = asyncio.create_task(read_all(reader))
        writer.write(sized(10_000))
        with suppress(ConnectionError):
            for _ in range(10_000):
                if reading.done():
                    break
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        assert [each.status for each in answers_in(await reading)] == [408]
        writer.close()
    assert midas.recorded == []


async def test_a_slow_but_honest_body_is_accepted(stage: Stage) -> None:
    """It comes in pieces, within the deadline."""
    raw = request(BODY, SIGNATURE)
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    for start in range(0, len(raw), 100):
        writer.write(raw[start : start + 100])
        await writer.drain()
        await asyncio.sleep(0.001)
    assert [each.status for each in answers_in(await read_all(reader))] == [200]
    writer.close()


async def test_w13_the_oldest_idle_connections_make_room(midas: EventsDouble) -> None:
    """Above the bound the oldest go, and a webhook under way is not one of them."""
    release = asyncio.Event()

    async def script(_: events.RecordEventRequest) -> events.RecordEventResponse:
        await release.wait()
        return events.RecordEventResponse(outcome=events.EVENT_OUTCOME_ACCEPTED)

    midas.script = script
    async with served(midas) as port, staged([ACCOUNT.key], port, connections=5) as stage:
        under_way = asyncio.create_task(stage.post(BODY, SIGNATURE))
        await until(lambda: len(midas.recorded) == 1)
        idle = [await asyncio.open_connection("127.0.0.1", stage.port) for _ in range(12)]
        for reader, _ in idle[:8]:
            async with asyncio.timeout(PATIENCE_S):
                assert await read_all(reader) == b""
        release.set()
        assert (await under_way).status == 200
        assert (await stage.post(BODY, SIGNATURE)).status == 200
        assert "webhook_gateway_connections_evicted_total 8.0" in (
            stage.metrics.exposition().decode()
        )
        for _, writer in idle:
            writer.close()


async def test_who_does_not_read_its_answers_is_cut_off(stage: Stage) -> None:
    """When answers pile up the connection is closed; no task waits for it."""
    connection, transport = stage.connections(), MemoryTransport()
    connection.connection_made(transport)
    connection.pause_writing()
    assert transport.closed
    connection.connection_lost(None)
    await asyncio.sleep(0)


# W12: too much, and lies about how much


async def test_w12_the_largest_body_is_accepted_and_one_byte_more_is_not(
    stage: Stage, midas: EventsDouble
) -> None:
    """Declared or in chunks, and it is refused before it was sent where it is declared."""
    bare = len(event_body(note=""))
    largest, larger = (event_body(note="x" * (size - bare)) for size in (LIMIT, LIMIT + 1))
    signature = ACCOUNT.sign(largest)
    assert (await stage.post(largest, signature)).status == 200
    in_pieces = request(b"", signature, "Transfer-Encoding: chunked")
    in_pieces = in_pieces.replace(b"Content-Length: 0\r\n", b"")
    assert (await stage.send(in_pieces + chunked(largest[:9], largest[9:]))).status == 200
    assert [each.body for each in midas.recorded] == [largest, largest]
    assert (await stage.post(larger, ACCOUNT.sign(larger))).status == 413
    assert (await stage.send(sized(LIMIT + 1))).status == 413
    assert (await stage.send(sized(2**62))).status == 413
    assert (await stage.send(in_chunks(chunked(larger)))).status == 413
    assert (await stage.send(in_chunks(chunked(*[b"x" * 1000] * 66)))).status == 413
    assert len(midas.recorded) == 2


@pytest.mark.parametrize(
    "lie",
    [
        b"-5\r\n" + BODY,
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"zz\r\n" + BODY,
        b"fffffffffffffffffff\r\n" + BODY,
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello world\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"\r\n",
    ],
)
async def test_w12_chunks_that_lie_are_refused(
    stage: Stage, midas: EventsDouble, lie: bytes
) -> None:
    """Sizes that are none, too large, or not that of the chunk."""
    assert (await stage.send(in_chunks(lie))).status in {400, 408, 413}
    assert midas.recorded == []


async def test_w12_a_body_that_breaks_off_is_not_recorded(
    stage: Stage, midas: EventsDouble
) -> None:
    """The connection ends in the middle: nobody to answer, nothing to record."""
    for raw in (sized(len(BODY) + 1, BODY), in_chunks(b"%x\r\n%s" % (len(BODY), BODY))):
        _, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        writer.write(raw)
        await writer.drain()
        writer.close()
    await until(lambda: stage.counted("bad_body") == 2)
    assert midas.recorded == []


def with_header(size: int) -> bytes:
    """Its first header has so many bytes, name and value together."""
    first, end, rest = request(BODY, SIGNATURE).partition(b"\r\n")
    return first + end + b"X: " + b"y" * (size - 1) + end + rest


def with_headers(count: int) -> bytes:
    """It has so many headers."""
    has = request(BODY, SIGNATURE).partition(b"\r\n\r\n")[0].count(b"\r\n")
    return request(BODY, SIGNATURE, *["X: y"] * (count - has))


def with_target(size: int) -> bytes:
    """Its target has so many bytes."""
    target = f"{PATH}?".ljust(size, "x").encode()
    return request(BODY, SIGNATURE).replace(PATH.encode(), target, 1)


def with_head(size: int, *, close: bool = True) -> bytes:
    """Its head has so many bytes, in headers of 1 KiB as a mesh might add them."""
    bare = len(request(BODY, SIGNATURE, close=close)) - len(BODY)
    full, rest = divmod(size - bare, 1024)
    headers = [f"X: {'y' * 1019}"] * (full - 1) + [f"X: {'y' * (1019 + rest)}"]
    made = request(BODY, SIGNATURE, *headers, close=close)
    assert len(made) - len(BODY) == size
    return made


@pytest.mark.parametrize(
    ("make", "most", "more", "reason"),
    [
        (with_header, 8190, 8191, "line_too_long"),
        (with_headers, 100, 101, "too_many_headers"),
        (with_target, 8190, 8191, "line_too_long"),
        (with_head, HEAD_BYTES, HEAD_BYTES + PIECE_BYTES + 1, "head_too_long"),
    ],
    ids=["field", "fields", "target", "head"],
)
async def test_w12_a_head_is_accepted_up_to_its_bounds_and_not_beyond(
    stage: Stage,
    midas: EventsDouble,
    caplog: pytest.LogCaptureFixture,
    make: Callable[[int], bytes],
    most: int,
    more: int,
    reason: str,
) -> None:
    """A header, their number, the target, all of it: what other servers take, too, and no more.

    It may be a proxy in front that made it too large, so the refusal is in the log.
    """
    assert (await stage.send(make(most))).status == 200
    assert refusals(caplog) == []
    assert (await stage.send(make(more))).status == 431
    assert len(midas.recorded) == 1
    assert refusals(caplog) == [(logging.WARNING, reason, 1)]
    assert stage.counted("head_too_large") == 1


def refusals(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str, int]]:
    """The log lines of refused heads."""
    return [
        (each.levelno, each.__dict__["reason"], each.__dict__["count"])
        for each in caplog.records
        if each.getMessage() == "head_refused"
    ]


async def test_the_head_of_a_proxy_is_taken(stage: Stage) -> None:
    """It has a client certificate, the metadata of a mesh, and the headers of every hop."""
    certificate = "X-Forwarded-Client-Cert: " + "-----BEGIN%20CERTIFICATE-----%0A" + "A" * 4000
    mesh = f"X-Envoy-Peer-Metadata: {'B' * 3000}"
    others = [f"X-Hop-{number}: {'z' * 60}" for number in range(60)]
    assert (await stage.post(BODY, SIGNATURE, certificate, mesh, *others)).status == 200


async def test_each_request_of_a_connection_has_its_own_bounds(
    stage: Stage, midas: EventsDouble
) -> None:
    """Forty large heads and bodies at once: none is counted to the next one's account."""
    large = event_body(note="x" * 60_000)
    signature = ACCOUNT.sign(large)
    raw = with_head(HEAD_BYTES, close=False) + request(large, signature, close=False)
    assert [each.status for each in await stage.exchange(raw * 20 + with_head(20_000))] == [
        200
    ] * 41
    assert [len(each.body) for each in midas.recorded] == [len(BODY), len(large)] * 20 + [len(BODY)]


@pytest.mark.parametrize("first", [b"", event_body(note="x" * 60_000)], ids=["many", "paused"])
async def test_what_waits_for_its_turn_is_not_counted(
    stage: Stage, midas: EventsDouble, first: bytes
) -> None:
    """More requests than aiohttp takes up at once, and some behind a body that is not read yet."""
    small = request(BODY, SIGNATURE, close=False)
    raw = (request(first, ACCOUNT.sign(first), close=False) if first else b"") + small * 300
    connection, transport = stage.connections(), MemoryTransport()
    connection.connection_made(transport)
    connection.data_received(raw)
    await until(lambda: len(midas.recorded) == 300 + bool(first) or transport.closed)
    await until(lambda: b"".join(transport.written).count(b" 200 OK") == 300 + bool(first))
    connection.connection_lost(None)
    assert stage.counted("head_too_large") == stage.counted("bad_body") == 0


async def test_trailers_are_bounded_like_heads(stage: Stage, midas: EventsDouble) -> None:
    """They may be there, but not without end: each of them is kept like a header."""
    few = chunked(BODY, end=b"0\r\n" + b"X: y\r\n" * 20 + b"\r\n")
    assert (await stage.send(in_chunks(few)[:-2] + b"\r\n")).status == 200
    many = chunked(BODY, end=b"0\r\n" + (b"X: " + b"y" * 4000 + b"\r\n") * 20 + b"\r\n")
    assert [each.status for each in await stage.exchange(in_chunks(many))] == [400]
    assert len(midas.recorded) == 1


@pytest.mark.parametrize(
    ("endless", "outcome"),
    [
        (b"y" * 100, "head_too_large"),
        (b"y: z\r\n" * 20, "head_too_large"),
        ((b"y: " + b"z" * 6000 + b"\r\n"), "head_too_large"),
    ],
    ids=["header", "headers", "large headers"],
)
async def test_w12_a_head_is_bounded_as_well_where_it_comes_in_pieces(
    midas: EventsDouble, endless: bytes, outcome: str
) -> None:
    """One that goes on and on ends with the connection, long before the deadline does it."""
    async with served(midas) as port, staged([ACCOUNT.key], port, header_timeout_s=600) as patient:
        reader, writer = await asyncio.open_connection("127.0.0.1", patient.port)
        writer.write(HEAD + b"X: ")
        async with asyncio.timeout(PATIENCE_S):
            reading = asyncio.create_task(read_all(reader))
            with suppress(ConnectionError):
                while not reading.done():
                    writer.write(endless)
                    await writer.drain()
                    await asyncio.sleep(0)
            await reading
        writer.close()
        assert patient.counted(outcome) == 1
    assert midas.recorded == []


def test_refused_heads_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Each reason at once, then how many more there were; what is no HTTP is no warning."""
    caplog.set_level(logging.INFO)
    now = 0.0
    refused = Refusals(now=lambda: now)
    for _ in range(3):
        refused.log("line_too_long")
    refused.log("malformed")
    now = 59.0
    refused.log("line_too_long")
    now = 60.0
    refused.log("line_too_long")
    refused.log("malformed")
    assert refusals(caplog) == [
        (logging.WARNING, "line_too_long", 1),
        (logging.INFO, "malformed", 1),
        (logging.WARNING, "line_too_long", 4),
        (logging.INFO, "malformed", 1),
    ]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "identity", "x", ""])
async def test_w8_w12_encoded_bodies_are_refused(
    stage: Stage, midas: EventsDouble, encoding: str
) -> None:
    """None is unpacked: not a genuine one, not one that only claims it, not a bomb."""
    bomb = gzip.compress(bytes(20_000_000))
    for body in (gzip.compress(BODY), BODY, bomb):
        answer = await stage.post(body, ACCOUNT.sign(body), f"Content-Encoding: {encoding}")
        assert answer.status == 415
    assert midas.recorded == []


# Request smuggling: what two servers might read differently

SHAPES = {
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(BODY),
    "chunks and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + chunked(BODY),
    "two lengths": b"Content-Length: %d\r\nContent-Length: 5\r\n\r\n%s" % (len(BODY), BODY),
    "the same length twice": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "list of lengths": b"Content-Length: 5, 5\r\n\r\nhello",
    "signed length": b"Content-Length: +%d\r\n\r\n%s" % (len(BODY), BODY),
    "negative length": b"Content-Length: -1\r\n\r\n" + BODY,
    "hexadecimal length": b"Content-Length: 0x5\r\n\r\nhello",
    "empty length": b"Content-Length:\r\n\r\n" + BODY,
    "endless length": b"Content-Length: " + b"9" * 40 + b"\r\n\r\n" + BODY,
    "length with space": b"Content-Length : %d\r\n\r\n%s" % (len(BODY), BODY),
    "two encodings": b"Transfer-Encoding: gzip, chunked\r\n\r\n" + chunked(BODY),
    "chunks twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n" + chunked(BODY),
    "two encoding headers": b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n" + chunked(BODY),
    "encoding identity": b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "encoding unknown": b"Transfer-Encoding: xchunked\r\n\r\n" + BODY,
    "encoding with tab": b"Transfer-Encoding:\x0bchunked\r\n\r\n" + chunked(BODY),
    "encoding with space": b"Transfer-Encoding : chunked\r\n\r\n" + chunked(BODY),
    "folded header": b"X: a\r\n b\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    "folded encoding": b"Transfer-Encoding:\r\n chunked\r\n\r\n" + chunked(BODY),
    "bare line feeds": b"Content-Length: %d\n\n%s" % (len(BODY), BODY),
    "bare carriage return": b"X: a\rContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    "NUL in a value": b"X: \0\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    "NUL in a name": b"X\0: a\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    "no colon": b"X\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    "two hosts": b"Host: other\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_shapes_of_request_smuggling_are_refused(
    stage: Stage, midas: EventsDouble, shape: str
) -> None:
    """Refused, and the connection is closed: nothing behind it is taken for another request."""
    raw = HEAD + SIGNED + SHAPES[shape] + request(BODY, SIGNATURE)
    assert [each.status for each in await stage.exchange(raw)] == [400]
    assert midas.recorded == []


async def test_a_body_is_no_second_request(stage: Stage, midas: EventsDouble) -> None:
    """A refused body that looks like a good webhook is thrown away with the connection."""
    inner = request(BODY, SIGNATURE)
    answers = await stage.exchange(request(inner, SIGNATURE, close=False) + inner)
    assert [each.status for each in answers] == [401]
    assert midas.recorded == []


# W14: unusual, but HTTP


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
async def test_w14_other_methods_get_405(stage: Stage, midas: EventsDouble, method: str) -> None:
    """The answer names the method that is allowed; to HEAD it has no body."""
    raw = request(BODY, SIGNATURE).replace(b"POST", method.encode(), 1)
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        writer.write(raw)
        head, _, body = (await read_all(reader)).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: POST" in head
    assert body == (b"" if method == "HEAD" else b"method_not_allowed\n")
    assert midas.recorded == []


@pytest.mark.parametrize(
    ("target", "status"),
    [("CONNECT a:1", 405), ("FOO /", 400), ("POST *", 400), ("POST http://[::1", 400)],
)
async def test_w14_other_targets_are_refused(
    stage: Stage, midas: EventsDouble, target: str, status: int
) -> None:
    """Unknown methods and targets that are no paths."""
    raw = request(BODY, SIGNATURE).replace(f"POST {PATH}".encode(), target.encode(), 1)
    assert [each.status for each in await stage.exchange(raw)] == [status]
    assert midas.recorded == []


@pytest.mark.parametrize("path", ["/", PATH + "/", PATH + "x", PATH.upper(), "/a/.." + PATH + "/x"])
async def test_w14_other_paths_get_404(stage: Stage, midas: EventsDouble, path: str) -> None:
    """Only the configured path is anything."""
    raw = request(BODY, SIGNATURE).replace(PATH.encode(), path.encode(), 1)
    assert (await stage.send(raw)).status == 404
    assert midas.recorded == []


async def test_w14_http_1_0(stage: Stage) -> None:
    """Answered, and the connection closed."""
    raw = request(BODY, SIGNATURE, close=False).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    assert (await stage.send(raw)).status == 200


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.9", b"HTCPCP/1.0"])
async def test_w14_other_versions_are_refused(
    stage: Stage, midas: EventsDouble, version: bytes
) -> None:
    """Only 1.0 and 1.1 are spoken."""
    raw = request(BODY, SIGNATURE, close=False).replace(b"HTTP/1.1", version, 1)
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        writer.write(raw)
        assert b" 400 Bad Request\r\n" in await read_all(reader)
        writer.close()
    assert midas.recorded == []


async def test_w14_pipelining(stage: Stage, midas: EventsDouble) -> None:
    """A hundred at once on one connection: a hundred answers, in order."""
    raw = request(BODY, SIGNATURE, close=False) * 99 + request(BODY, SIGNATURE)
    assert [each.status for each in await stage.exchange(raw)] == [200] * 100
    assert len(midas.recorded) == 100


async def test_w14_expect_100_continue(stage: Stage, midas: EventsDouble) -> None:
    """The body is asked for when the head will do, and only then."""
    raw = request(BODY, SIGNATURE, "Expect: 100-continue")
    head, body = raw[: -len(BODY)], raw[-len(BODY) :]
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
        writer.write(head)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert [each.status for each in answers_in(await read_all(reader))] == [200]
        writer.close()
    assert len(midas.recorded) == 1
    unsigned = request(BODY, None, "Expect: 100-continue")[: -len(BODY)]
    assert [each.status for each in await stage.exchange(unsigned)] == [401]
    odd = request(BODY, SIGNATURE, "Expect: payment")[: -len(BODY)]
    assert [each.status for each in await stage.exchange(odd)] == [417]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "\udcff"])
async def test_w14_the_content_type_is_not_judged(stage: Stage, kind: str) -> None:
    """Ping++ does not document which one it sends; the signature is enough."""
    raw = request(BODY, SIGNATURE).replace(
        b"application/json;charset=UTF-8", kind.encode("utf-8", "surrogateescape")
    )
    assert (await stage.send(raw)).status == 200


async def test_an_upgrade_is_ignored(stage: Stage) -> None:
    """Only HTTP is served, with any offer."""
    raw = request(BODY, SIGNATURE, "Upgrade: websocket", "Connection: Upgrade", close=False)
    assert [each.status for each in await stage.exchange(raw)] == [200]


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00\x01", b"\0" * 100, b"\xff" * 20_000])
async def test_noise_is_refused(stage: Stage, midas: EventsDouble, noise: bytes) -> None:
    """TLS on the plain port and worse."""
    assert [each.status for each in await stage.exchange(noise + b"\r\n\r\n")] == [400]
    assert midas.recorded == []
