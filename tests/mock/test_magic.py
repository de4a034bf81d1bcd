"""Every error of the contract can be asked for, in each way, and is as Midas gives it."""

from typing import Any

import pytest
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from midas import limits
from midas.mock import answers, failures, magic
from midas.mock.server import NAMES
from midas.rpc import errors
from midas.rpc.errors import TABLE, Row
from midas.v1 import charge_pb2, errors_pb2, payment_service_pb2
from midas.v1 import event_service_pb2 as events
from midas.v1.payment_service_pb2 import ChargeRequest, QueryRequest, RefundRequest
from tests.mock.call_everything import CHARGE
from tests.mock.conftest import Mock

BARE = [name for name in failures.NAMES if name.startswith("BARE_")]
CHARGING = "midas.v1.PaymentService/Charge"


def test_no_error_of_the_contract_is_left_out() -> None:
    """Each row of Midas's table, each variant of it, and each row beside it has a name."""
    rows = list(TABLE.values())
    rows += [row.instead[1] for row in TABLE.values() if row.instead is not None]
    rows += [row for row in vars(errors).values() if isinstance(row, Row)]
    wanted = {(row.code, row.reason, row.money_moved, row.retry) for row in rows}
    named = set()
    for name in set(failures.NAMES) - set(BARE):
        for moves_money in (True, False):
            failed = failures.failure(name, "A1", CHARGING, moves_money=moves_money)
            info, detail = _details(status_pb2.Status.FromString(failed.details))
            named.add((failed.code, info.reason, detail.money_moved, detail.retry))
    assert wanted <= named


def _details(status: Any) -> tuple[Any, errors_pb2.PaymentErrorDetail]:
    info, detail = error_details_pb2.ErrorInfo(), errors_pb2.PaymentErrorDetail()
    for packed in status.details:
        packed.Unpack(info)
        packed.Unpack(detail)
    return info, detail


@pytest.mark.parametrize("name", ["INTERNAL", "INTERRUPTED"])
def test_an_unforeseen_end_of_a_payment_is_unknown(name: str) -> None:
    """A call that moves money may then have moved it; a read moved none."""
    for moves_money in (True, False):
        failed = failures.failure(name, "A1", CHARGING, moves_money=moves_money)
        assert (failed.money_moved == errors_pb2.MONEY_MOVED_UNKNOWN) == moves_money


def test_names_and_amounts_are_clear() -> None:
    """No amount stands for two answers; every name can end an order_no."""
    amounts = [amount for amount in NAMES.values() if amount]
    assert len(amounts) == len(set(amounts))
    assert all(
        name.isascii() and len(f"A1001-{name}") <= limits.ORDER_NO_CHARACTERS for name in NAMES
    )


@pytest.mark.parametrize("name", [*failures.NAMES])
async def test_an_error_has_all_its_details(mock: Mock, name: str) -> None:
    """A key asks for each. All but the bare ones have details."""
    request = ChargeRequest()
    request.CopyFrom(CHARGE)
    request.order_no = f"A1001-{name}"
    with pytest.raises(aio.AioRpcError) as ended:
        await mock.payments.Charge(request)
    status = rpc_status.from_call(ended.value)  # type: ignore[arg-type]
    if name in BARE:
        assert status is None
        assert ended.value.code().name == name.removeprefix("BARE_")
        return
    info, detail = _details(status)
    assert (info.domain, bool(detail.money_moved), bool(detail.retry)) == ("midas", True, True)
    assert mock.calls == [(CHARGING, request.order_no, info.reason)]


async def test_an_answer_is_asked_for_in_three_ways(mock: Mock) -> None:
    """The end of a key, an amount and metadata ask for it; metadata goes before the others."""

    async def reason(method: Any, request: Any, *metadata: tuple[str, str]) -> str:
        try:
            await method(request, metadata=metadata)
        except aio.AioRpcError as error:
            return str(_details(rpc_status.from_call(error))[0].reason)  # type: ignore[arg-type]
        return "OK"

    refund = RefundRequest(refund_no="R1", order_no="A1", description="d", amount=990003)
    assert await reason(mock.payments.Refund, refund) == "ORDER_ALREADY_PAID"
    refund.order_no = "A1-NOT_FOUND"
    assert await reason(mock.payments.Refund, refund) == "NOT_FOUND"
    refund.refund_no = "R1-REFUND_NO_REUSED"
    assert await reason(mock.payments.Refund, refund) == "REFUND_NO_REUSED"
    asked = (magic.METADATA_KEY, "OVERLOADED")
    assert await reason(mock.payments.Refund, refund, asked) == "OVERLOADED"
    settle, lists = events.SettleNotificationsRequest(), payment_service_pb2.ListChargesRequest()
    assert await reason(mock.events.SettleNotifications, settle, asked) == "OVERLOADED"
    lists.page_token = "STORAGE_UNAVAILABLE"
    assert await reason(mock.payments.ListCharges, lists) == "STORAGE_UNAVAILABLE"
    event = events.RecordEventRequest(body=b'{"id":"evt_1-EVENT_ID_REUSED","type":"t"}')
    assert await reason(mock.events.RecordEvent, event) == "EVENT_ID_REUSED"
    wrong = (magic.METADATA_KEY, "NO_SUCH_NAME")
    assert (
        await reason(mock.payments.Query, QueryRequest(order_no="A1"), wrong) == "INVALID_REQUEST"
    )


async def test_a_state_is_asked_for_like_an_error(mock: Mock) -> None:
    """A key of a charge that ended, a refund that was refused, a charge that was open."""
    closed = await mock.payments.Query(QueryRequest(order_no="A1-CLOSED"))
    assert closed.charges[0].state == 4
    refund = RefundRequest(refund_no="R1", order_no="A1", description="d", amount=990065)
    assert (await mock.payments.Refund(refund)).refund.state == 4
    reused = (magic.METADATA_KEY, "REUSED")
    assert (await mock.payments.Charge(CHARGE, metadata=(reused,))).reused
    assert not (await mock.payments.Charge(CHARGE)).reused


async def test_what_no_method_gets_has_all_its_details(mock: Mock) -> None:
    """Too much, no protobuf, no such method, no such service: with details, as Midas does."""

    async def reason(name: str, raw: bytes) -> Any:
        call: Any = mock.channel.unary_unary(name)
        with pytest.raises(aio.AioRpcError) as ended:
            await call(raw)
        return _details(rpc_status.from_call(ended.value))[0].reason  # type: ignore[arg-type]

    charge = f"/{CHARGING}"
    assert await reason(charge, b"\xff\xff") == "UNREADABLE_REQUEST"
    assert await reason(charge, b"\0" * (limits.REQUEST_BYTES + 1)) == "REQUEST_TOO_LARGE"
    assert await reason(charge, b"\0" * limits.REQUEST_BYTES_READ) == "REQUEST_TOO_LARGE"
    assert await reason("/midas.v1.PaymentService/Pay", b"") == "NO_SUCH_METHOD"
    assert await reason("/grpc.health.v1.Health/Check", b"\x0a\x01x") == "NO_SUCH_SERVICE"


async def test_much_too_much_is_refused_by_grpc_itself(mock: Mock) -> None:
    """The error has no details. The limit is the size that Midas itself has."""
    call: Any = mock.channel.unary_unary(f"/{CHARGING}")
    with pytest.raises(aio.AioRpcError) as ended:
        await call(b"\0" * (limits.REQUEST_BYTES_READ + 1))
    assert ended.value.code() is StatusCode.RESOURCE_EXHAUSTED
    assert rpc_status.from_call(ended.value) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [*NAMES, answers.LEASE_LOST])
def test_a_name_is_a_word_of_its_own(name: str) -> None:
    """An order that ends with the same letters by chance gets the usual answer."""
    names = [*NAMES, answers.LEASE_LOST]
    for key in (name, f"A1-{name}", f"A-1--{name}"):
        assert magic.ending(key, names) == name
    for key in (f"A{name}", f"1{name}", f"A_{name}", f"{name}-1", f"A1-{name.lower()}"):
        assert magic.ending(key, names) == ""


async def test_no_order_is_magic_by_chance(mock: Mock) -> None:
    """Neither CHOCOLATE nor DISCLOSED is one of the names."""
    for key in ("CHOCOLATE", "TRANSLATE", "A1DISCLOSED"):
        (charge,) = (await mock.payments.Query(QueryRequest(order_no=key))).charges
        assert (charge.state, charge.late) == (charge_pb2.CHARGE_STATE_SUCCEEDED, False)
    settle = events.SettleNotificationsRequest()
    for token in ("NOLEASE_LOST", "A-LEASE_LOST"):
        settle.settlements.add(lease_token=token)
    assert list((await mock.events.SettleNotifications(settle)).applied) == [True, False]


async def test_tools_find_the_methods(mock: Mock) -> None:
    """Where the reflection package is installed, as with the server extra."""
    path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    call: Any = mock.channel.stream_stream(
        path,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="midas.v1.PaymentService"),
    ]
    listed, described = [answer async for answer in call(iter(asked))]
    names = {each.name for each in listed.list_services_response.service}
    assert {"midas.v1.PaymentService", "midas.v1.EventService"} <= names
    assert described.file_descriptor_response.file_descriptor_proto


async def test_health_is_serving(mock: Mock) -> None:
    """The server and each service are SERVING, in Check and in Watch."""
    stub = health_pb2_grpc.HealthStub(mock.channel)
    for service in ("", "midas.v1.PaymentService", "midas.v1.EventService"):
        request = health_pb2.HealthCheckRequest(service=service)
        assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(request)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
