"""The port between an attacker and a good caller; `python -m tests.attacks` plays it at length."""

import asyncio
import gzip
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from midas.rpc import entrance, interceptor
from midas.rpc.callers import Callers
from midas.rpc.entrance import OPEN_STREAMS
from midas.rpc.server import (
    STREAMS_GOING,
    STREAMS_PER_CONNECTION,
    Binding,
    Tls,
)
from midas.runtime.logs import Logs
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub
from tests.attacks.attacker import CHARGE, WATCH
from tests.attacks.http2 import (
    Connection,
    call_headers,
    client_tls,
    connect,
    data,
    message,
    reset,
)
from tests.patience import PATIENCE_S
from tests.rpc.certificates import Authority
from tests.rpc.scripted import Served, charge_request, served

if TYPE_CHECKING:
    from midas.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub

CHECK = "/grpc.health.v1.Health/Check"
LIST = "/grpc.health.v1.Health/List"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
FEW = 3
"""Calls that the server has room for."""


@asynccontextmanager
async def attacked(binding: Binding | None = None) -> AsyncIterator[tuple[Served, Connection]]:
    """A server with little room, and the attacker's connection."""
    async with served(binding=binding or Binding(concurrent_rpcs=FEW)) as midas:
        connection = await connect(midas.server.port)
        async with asyncio.timeout(PATIENCE_S):
            yield midas, connection
        await connection.close()


async def begin(connection: Connection, method: str, count: int, body: bytes | None = None) -> None:
    """So many calls; without a body their message never comes."""
    for _ in range(count):
        stream = connection.stream()
        await connection.send(call_headers(method, stream))
        if body is not None:
            await connection.send(message(stream, body))


@pytest.mark.parametrize("method", [CHARGE, CHECK, LIST, WATCH, "/no.Such/Method", REFLECTION])
async def test_calls_without_a_message_hold_nobody_up(method: str) -> None:
    """Twenty times as many as there is room for, and good callers and probes are served."""
    async with attacked() as (midas, connection):
        await begin(connection, method, 20 * FEW)
        health = health_pb2_grpc.HealthStub(midas.channel)
        for _ in range(3):
            assert (await midas.stub.Charge(charge_request())).charge_json
            await health.Check(health_pb2.HealthCheckRequest())


async def test_a_message_that_does_not_come_is_not_waited_for() -> None:
    """A caller who needs the room gets it; the oldest call is ended with all details."""
    async with attacked() as (midas, connection):
        await begin(connection, CHARGE, FEW + 1)
        await connection.hear("ended")
        assert (await midas.stub.Charge(charge_request())).charge_json


async def test_watches_are_shared_out() -> None:
    """One address takes all places for watches: another caller's watch stays and gets changes."""
    few = Binding(concurrent_rpcs=FEW, connections=FEW)
    async with attacked(few) as (midas, connection):
        stub = health_pb2_grpc.HealthStub(midas.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        serving = health_pb2.HealthCheckResponse.SERVING
        assert (await watch.read()).status == serving
        connections = [connection, await connect(midas.server.port)]
        for each in connections:
            await begin(each, WATCH, STREAMS_PER_CONNECTION, b"")
        assert 2 * STREAMS_PER_CONNECTION > OPEN_STREAMS + FEW
        await connection.hear("ended")
        await midas.server.health.set_ready(False)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await connections[1].close()


async def test_every_connection_may_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many watchers as there may be connections, all of one address: none displaces another.

    Also while somebody takes what there is beyond that.
    """
    monkeypatch.setattr(entrance, "OPEN_STREAMS", 2)
    clients, more = 8, 2
    async with attacked(Binding(connections=clients + more)) as (midas, connection):
        watchers = [await connect(midas.server.port) for _ in range(clients)]
        for each in watchers:
            await begin(each, WATCH, 1, b"")
            await each.hear("answer")
        await begin(connection, WATCH, 20, b"")
        await connection.hear("ended", 20 - more - entrance.OPEN_STREAMS)
        assert not any(each.counts["ended"] for each in watchers)
        await midas.server.health.drain()
        for each in watchers:
            await each.hear("ended")
            await each.close()


async def test_calls_that_are_taken_back_at_once_are_refused() -> None:
    """HTTP/2's rapid reset: what Midas has not done with counts, and the rest is not begun."""
    async with attacked() as (midas, connection):
        streams = [connection.stream() for _ in range(20 * STREAMS_PER_CONNECTION)]
        flood = b"".join(call_headers(CHARGE, each) + reset(each) for each in streams)
        await connection.send(flood)
        assert (await midas.stub.Charge(charge_request())).charge_json
        await connection.hear("reset")


async def test_a_good_caller_may_use_all_of_a_connection() -> None:
    """More calls at once than one connection carries: they wait, and none is refused.

    Streams that are being cleared away must not count against him, as they do by grpc's default.
    """
    async with served() as midas:
        calls = 2 * (STREAMS_PER_CONNECTION + STREAMS_GOING)
        answers = await asyncio.gather(*(midas.stub.Charge(charge_request()) for _ in range(calls)))
    assert len(answers) == calls


async def test_a_drain_lets_in_what_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grpc hands calls over one by one, and cancels those that it still has when it is stopped."""
    monkeypatch.setattr(interceptor, "QUIET_S", 0.5)
    calls = STREAMS_PER_CONNECTION
    async with attacked(Binding()) as (midas, connection):
        body = charge_request().SerializeToString()
        streams = [connection.stream() for _ in range(calls)]
        await connection.send(
            b"".join(call_headers(CHARGE, each) + message(each, body) for each in streams)
        )
        await midas.flows.called.wait()
        assert await midas.server.drain(timedelta(seconds=PATIENCE_S)) == 0
        assert len(midas.flows.asked) == calls
        await connection.hear("ended", calls)


@asynccontextmanager
async def strange(folder: Path) -> AsyncIterator[tuple[Served, Authority, Connection]]:
    """A server that permits `order-service` alone, and a stranger's connection."""
    authority = Authority()
    mine, stranger = authority.issue("midas"), authority.issue("stranger")
    for name, pem in (
        ("cert", stranger.certificate),
        ("key", stranger.key),
        ("ca", authority.pem),
    ):
        (folder / name).write_bytes(pem)
    tls = client_tls(*(str(folder / name) for name in ("cert", "key", "ca")))
    binding = Binding(
        tls=Tls(mine.certificate, mine.key, authority.pem),
        callers=Callers({"order-service": frozenset({"*"})}),
        concurrent_rpcs=FEW,
    )
    async with served(binding=binding) as midas:
        connection = await connect(midas.server.port, tls)
        async with asyncio.timeout(PATIENCE_S):
            yield midas, authority, connection
        await connection.close()


@asynccontextmanager
async def permitted(
    midas: Served, authority: Authority
) -> "AsyncIterator[PaymentServiceAsyncStub]":
    """The service for `order-service`."""
    pair = authority.issue("order-service")
    credentials = grpc.ssl_channel_credentials(authority.pem, pair.key, pair.certificate)
    address = f"127.0.0.1:{midas.server.port}"
    async with aio.secure_channel(address, credentials) as channel:
        yield PaymentServiceStub(channel)


Logged = tuple[Logs, io.StringIO]


def refusals(logged: Logged) -> list[dict[str, Any]]:
    """The lines about refused callers."""
    logs, stream = logged
    logs.flush()
    lines = [json.loads(each) for each in stream.getvalue().splitlines()]
    return [each for each in lines if each["event"] == "caller_refused"]


async def test_who_may_not_call_is_refused_unread(tmp_path: Path, logged: Logged) -> None:
    """The refusal comes at his headers: no message is read or unpacked, and one line names him."""
    async with strange(tmp_path) as (midas, _, connection):
        await begin(connection, CHARGE, 1)
        await connection.hear("ended")
        stream = connection.stream()
        bomb = gzip.compress(b"\0" * (1 << 20))
        head = b"\x01" + len(bomb).to_bytes(4, "big")
        gzipped = (("grpc-encoding", "gzip"),)
        await connection.send(call_headers(CHARGE, stream, gzipped) + data(stream, head + bomb))
        await connection.hear("ended", 2)
        assert midas.flows.asked == []
    (line,) = refusals(logged)
    assert (line["reason"], line["level"]) == ("CALLER_NOT_PERMITTED", "warning")
    assert (line["caller"], line["peer"], line["count"]) == ("CN:stranger", "127.0.0.1", 1)
    assert line["method"] == "midas.v1.PaymentService/Charge"


async def test_who_is_being_refused_takes_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many refusals take their time, and that is no time of other callers."""
    may_end, refusing, end = asyncio.Event(), asyncio.Semaphore(0), entrance.end

    async def slow_end(*args: Any) -> NoReturn:
        refusing.release()
        await may_end.wait()
        await end(*args)

    monkeypatch.setattr(entrance, "end", slow_end)
    async with (
        strange(tmp_path) as (midas, authority, connection),
        permitted(midas, authority) as stub,
    ):
        await begin(connection, CHARGE, 2 * FEW)
        for _ in range(2 * FEW):
            await refusing.acquire()
        assert (await stub.Charge(charge_request())).charge_json
        may_end.set()
        await connection.hear("ended", 2 * FEW)


async def test_a_stranger_takes_no_place(tmp_path: Path) -> None:
    """While he begins calls all the time, who is permitted is served."""
    async with (
        strange(tmp_path) as (midas, authority, connection),
        permitted(midas, authority) as stub,
    ):
        for _ in range(5):
            await begin(connection, CHARGE, 20)
            assert (await stub.Charge(charge_request())).charge_json
