"""The server around the methods: bounds, health, reflection, TLS, draining."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]

from midas import limits
from midas.errors import SettingsError
from midas.rpc import interceptor
from midas.rpc.callers import Callers
from midas.rpc.server import Binding, Server, Tls
from midas.v1 import payment_service_pb2 as pb
from midas.v1.errors_pb2 import MONEY_MOVED_NO
from midas.v1.payment_service_pb2_grpc import PaymentServiceStub
from tests.rpc.certificates import Authority, Pair
from tests.rpc.scripted import ScriptedFlows, Served, charge_request, error_of, served

CHARGE = "/midas.v1.PaymentService/Charge"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def raw_call(midas: Served, method: str, request: bytes = b"") -> Awaitable[object]:
    """A call with these very bytes."""
    call: Any = midas.channel.unary_unary(method)
    answer: Awaitable[object] = call(request)
    return answer


async def test_bytes_that_are_no_message_are_refused() -> None:
    """A request that is no protobuf is the caller's mistake, and no flow gets it."""
    async with served() as midas:
        status = await error_of(raw_call(midas, CHARGE, b"\xff\xff\xff garbage"))
        assert midas.flows.asked == []
    assert status.code is grpc.StatusCode.INVALID_ARGUMENT
    assert status.info.reason == "UNREADABLE_REQUEST"


async def test_text_that_is_no_utf8_is_refused() -> None:
    """A string field with bytes that are no UTF-8 is no valid message."""
    async with served() as midas:
        status = await error_of(raw_call(midas, CHARGE, b"\x0a\x02\xc3\x28"))
    assert status.info.reason == "UNREADABLE_REQUEST"


async def test_a_request_over_the_bound_is_refused() -> None:
    """Above REQUEST_BYTES the caller gets the bound; above what is read grpc itself refuses."""
    async with served() as midas:
        for size in (limits.REQUEST_BYTES + 1, limits.REQUEST_BYTES_READ):
            status = await error_of(raw_call(midas, CHARGE, b"\0" * size))
            assert status.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert status.info.reason == "REQUEST_TOO_LARGE"
        with pytest.raises(aio.AioRpcError) as refused:
            await raw_call(midas, CHARGE, b"\0" * (limits.REQUEST_BYTES_READ + 1))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        has_details = "grpc-status-details-bin" in dict(refused.value.trailing_metadata() or ())
        assert not has_details, "it was taken in whole"
        assert midas.flows.asked == []


async def test_an_unknown_method_has_a_rich_status() -> None:
    """A method that does not exist is UNIMPLEMENTED with the same details as all errors."""
    async with served() as midas:
        status = await error_of(raw_call(midas, "/midas.v1.PaymentService/Steal"))
        other = await error_of(raw_call(midas, "/other.Service/Method"))
    assert status.code is other.code is grpc.StatusCode.UNIMPLEMENTED
    assert status.info.metadata["method"] == "midas.v1.PaymentService/Steal"


async def test_one_call_too_many_is_overloaded() -> None:
    """Above the bound of concurrent calls nothing is started, and the caller may retry."""
    release = asyncio.Event()
    flows = ScriptedFlows(before=lambda: _until(release))
    async with served(flows, Binding(concurrent_rpcs=1)) as midas:
        first = asyncio.ensure_future(midas.stub.Charge(charge_request()))
        await flows.called.wait()
        status = await error_of(midas.stub.Charge(charge_request()))
        release.set()
        await first
    assert status.code is grpc.StatusCode.UNAVAILABLE
    assert status.info.reason == "OVERLOADED"
    assert len(flows.asked) == 1


async def test_a_caller_that_gives_up_gets_its_deadline() -> None:
    """A call that takes too long ends with DEADLINE_EXCEEDED, and the next one is served."""
    never = asyncio.Event()
    flows = ScriptedFlows(before=lambda: _until(never))
    async with served(flows) as midas:
        with pytest.raises(aio.AioRpcError) as late:
            await midas.stub.Charge(charge_request(), timeout=0.3)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        never.set()
        await midas.stub.Charge(charge_request())


async def test_health_follows_readiness() -> None:
    """Check and Watch show every change, for the server and for its service."""
    async with served() as midas:
        stub = health_pb2_grpc.HealthStub(midas.channel)
        name = "midas.v1.PaymentService"
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=name))
        assert (await watch.read()).status == SERVING
        await midas.server.health.set_ready(False)
        assert (await watch.read()).status == NOT_SERVING
        for asked in ("", name):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=asked))
            assert answer.status == NOT_SERVING
        unknown = await error_of(stub.Check(health_pb2.HealthCheckRequest(service="x")))
        assert unknown.code is grpc.StatusCode.NOT_FOUND


async def test_watching_an_unknown_service_answers_unknown() -> None:
    """Watch of a service that is not here answers SERVICE_UNKNOWN and stays open."""
    async with served() as midas:
        stub = health_pb2_grpc.HealthStub(midas.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="x"))
        answer = await watch.read()
        assert answer.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


async def test_draining_is_shown_first_and_lets_calls_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watchers get NOT_SERVING while a call is still under way, and that call gets its answer."""
    monkeypatch.setattr(interceptor, "QUIET_S", 0)
    monkeypatch.setattr(interceptor, "QUIET_TURNS", 0)
    release = asyncio.Event()
    flows = ScriptedFlows(before=lambda: _until(release))
    async with served(flows) as midas:
        watch = health_pb2_grpc.HealthStub(midas.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        slow = asyncio.ensure_future(midas.stub.Charge(charge_request()))
        await flows.called.wait()
        draining = asyncio.create_task(midas.server.drain(timedelta(seconds=10)))
        assert (await watch.read()).status == NOT_SERVING
        assert await watch.read() is aio.EOF
        assert not slow.done()
        async with aio.insecure_channel(f"127.0.0.1:{midas.server.port}") as late:
            with pytest.raises(aio.AioRpcError) as refused:
                await PaymentServiceStub(late).Charge(charge_request(), timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        release.set()
        assert (await slow).charge_json
        assert await draining == 0


async def test_draining_is_bounded() -> None:
    """A call that does not end is counted, and its caller gets OUTCOME_UNKNOWN."""
    flows = ScriptedFlows(before=lambda: _until(asyncio.Event()))
    async with served(flows) as midas:
        stuck = asyncio.ensure_future(midas.stub.Charge(charge_request()))
        await flows.called.wait()
        assert await midas.server.drain(timedelta(seconds=0.1)) == 1
        status = await error_of(stuck)
        assert status.info.reason == "OUTCOME_UNKNOWN"


async def reflected(midas: Served, version: str, **asked: str) -> Any:
    """The answer of reflection to one question."""
    ask = midas.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    (answer,) = [
        each async for each in ask(iter([reflection_pb2.ServerReflectionRequest(**asked)]))
    ]
    return answer


LISTED = (
    "midas.v1.PaymentService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services(version: str) -> None:
    """A tool finds the services without having the protos, and each by its name."""
    async with served() as midas:
        answer = await reflected(midas, version, list_services="")
        names = [each.name for each in answer.list_services_response.service]
        assert names == sorted(LISTED)
        for name in names:
            found = await reflected(midas, version, file_containing_symbol=name)
            assert found.file_descriptor_response.file_descriptor_proto, name


@pytest.mark.parametrize(
    ("symbol", "files"),
    [
        ("midas.v1.PaymentService", 6),
        ("midas.v1.PaymentService.Charge", 6),
        ("grpc.health.v1.Health.List", 1),
        ("grpc.reflection.v1.ServerReflection.ServerReflectionInfo", 1),
        ("midas.v1.Charge.state", 3),
        ("midas.v1.PaymentService.Steal", 0),
        ("midas.v1.Steal.Charge", 0),
        ("Charge", 0),
    ],
)
async def test_reflection_describes_methods(symbol: str, files: int) -> None:
    """The answer has every file that is needed; an unknown symbol is an error."""
    async with served() as midas:
        answer = await reflected(midas, "v1", file_containing_symbol=symbol)
    assert len(answer.file_descriptor_response.file_descriptor_proto) == files
    assert answer.HasField("error_response") == (not files)


async def test_health_lists_all_states() -> None:
    """The states of the server and of each service, as Check answers them."""
    async with served() as midas:
        stub = health_pb2_grpc.HealthStub(midas.channel)
        for ready, status in ((True, SERVING), (False, NOT_SERVING)):
            await midas.server.health.set_ready(ready)
            statuses = (await stub.List(health_pb2.HealthListRequest())).statuses
            wanted = dict.fromkeys(("", "midas.v1.PaymentService"), status)
            assert {name: each.status for name, each in statuses.items()} == wanted


async def test_a_second_server_on_the_port_is_refused() -> None:
    """Two processes never share a port by accident; the sentence names what to set."""
    async with served() as midas:
        with pytest.raises(SettingsError, match="PORT"):
            Server(Binding(port=midas.server.port))


@contextlib.asynccontextmanager
async def secured(authority: Authority, pair: Pair | None, callers: Callers) -> AsyncIterator[Any]:
    """A stub over mutual TLS with this client certificate."""
    mine = authority.issue("midas")
    tls = Tls(mine.certificate, mine.key, authority.pem)
    async with served(binding=Binding(tls=tls, callers=callers)) as midas:
        credentials = grpc.ssl_channel_credentials(
            authority.pem, pair.key if pair else None, pair.certificate if pair else None
        )
        address = f"127.0.0.1:{midas.server.port}"
        async with aio.secure_channel(address, credentials) as channel:
            yield PaymentServiceStub(channel)


async def test_tls_alone_needs_no_client_certificate() -> None:
    """With a certificate but no client authority the server is encrypted and open to all."""
    authority = Authority()
    mine = authority.issue("midas")
    binding = Binding(tls=Tls(mine.certificate, mine.key))
    async with served(binding=binding) as midas:
        credentials = grpc.ssl_channel_credentials(authority.pem)
        address = f"127.0.0.1:{midas.server.port}"
        async with aio.secure_channel(address, credentials) as channel:
            assert (await PaymentServiceStub(channel).Charge(charge_request())).charge_json
        with pytest.raises(aio.AioRpcError):
            await midas.stub.Charge(charge_request(), timeout=5)


async def test_a_caller_may_do_what_is_on_the_list_and_no_more() -> None:
    """Under mutual TLS the certificate's name decides; everything else is PERMISSION_DENIED."""
    authority = Authority()
    may = Callers({"audit.internal": frozenset({"midas.v1.PaymentService/Query"})})
    async with secured(authority, authority.issue("audit"), may) as stub:
        assert (await stub.Query(pb.QueryRequest(order_no="o-1"))).charges
        status = await error_of(stub.Charge(charge_request()))
    assert status.code is grpc.StatusCode.PERMISSION_DENIED
    assert status.info.reason == "CALLER_NOT_PERMITTED"


async def test_an_unlisted_caller_may_do_nothing() -> None:
    """A valid certificate with a name that is not on the list is not enough."""
    authority = Authority()
    may = Callers({"order-service": frozenset({"*"})})
    async with secured(authority, authority.issue("stranger"), may) as stub:
        status = await error_of(stub.Query(pb.QueryRequest(order_no="o-1")))
    assert status.code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_longer_name_does_not_pass_for_a_listed_one() -> None:
    """Over a real connection: grpc gives Midas the name up to its first NUL."""
    authority = Authority()
    pair = authority.issue("order-service\0.evil", x509.DNSName("evil.example"))
    async with secured(authority, pair, Callers({"order-service": frozenset({"*"})})) as stub:
        status = await error_of(stub.Query(pb.QueryRequest(order_no="o-1")))
    assert status.info.reason == "CALLER_NOT_PERMITTED"


@pytest.mark.parametrize("kind", ["none", "other authority"])
async def test_without_a_certificate_of_ours_nobody_connects(kind: str) -> None:
    """No client certificate, or one of another authority, does not get past the handshake."""
    authority = Authority()
    pair = Authority("someone else").issue("audit") if kind == "other authority" else None
    async with secured(authority, pair, Callers()) as stub:
        with pytest.raises(aio.AioRpcError) as refused:
            await stub.Query(pb.QueryRequest(order_no="o-1"), timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def _until(event: asyncio.Event) -> None:
    await event.wait()


README = Path(__file__).resolve().parents[2] / "README.md"


async def test_the_readme_unpacks_an_error() -> None:
    """Its five lines, on an error of Midas and on one of gRPC, which has no details."""
    block = README.read_text().partition("Midas's own errors carry their details in the status:")[2]
    lines = dedent(block.partition("In another language")[0])
    for path, unpacked in (("/midas.v1.PaymentService/Steal", True), ("", False)):
        async with served() as midas:
            if not path:
                await midas.server.drain(timedelta(seconds=0))
            with pytest.raises(aio.AioRpcError) as failed:
                await raw_call(midas, path or "/midas.v1.PaymentService/Charge")
        names: dict[str, Any] = {"error": failed.value}
        exec(lines, names)  # noqa: S102 - the README's own words
        assert names["has_detail"] is unpacked
        assert (names["detail"].money_moved == MONEY_MOVED_NO) is unpacked
