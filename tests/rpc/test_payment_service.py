"""Requests in, answers out, over a real channel."""

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from midas.charge import ChargeState, ChargeTerms
from midas.flows.terms import RefundTerms
from midas.payment import Order
from midas.ports import KeyKind, RowKind
from midas.refund import FundingSource, RefundState
from midas.rpc import payment_service
from midas.v1 import charge_pb2, refund_pb2
from midas.v1 import payment_service_pb2 as pb
from tests.rpc.scripted import (
    CHARGE_JSON,
    NOW,
    ScriptedFlows,
    a_charge,
    a_refund,
    charge_request,
    error_of,
    served,
)

OUT_TRADE_NO = "00000000000000000001"


def extra(**values: Any) -> Struct:
    """A Struct."""
    made = Struct()
    made.update(values)
    return made


async def test_a_charge_goes_through_unchanged() -> None:
    """Every term reaches the flows as the domain has it, and the JSON comes back byte for byte."""
    request = charge_request(
        extra=extra(open_id="x", limit=2.0, ratio=0.5, deep={"list": [1.0, None, True]}),
        metadata={"a": "b"},
        expires_in=Duration(seconds=90, nanos=5_000),
    )
    async with served() as midas:
        answer = await midas.stub.Charge(request)
    assert midas.flows.asked == [
        ChargeTerms(
            order_no="o-1",
            channel="wx_pub_qr",
            amount=100,
            currency="cny",
            subject="Tea",
            body="Two bags",
            client_ip="192.0.2.1",
            extra={
                "open_id": "x",
                "limit": 2,
                "ratio": 0.5,
                "deep": {"list": [1, None, True]},
            },
            metadata={"a": "b"},
            expires_in=timedelta(seconds=90, microseconds=5),
        )
    ]
    assert type(midas.flows.asked[0].extra["limit"]) is int
    assert answer.charge_json == CHARGE_JSON
    assert answer.charge.state == charge_pb2.CHARGE_STATE_PENDING
    assert answer.charge.created_at.ToDatetime(NOW.tzinfo) == NOW


async def test_every_field_of_a_charge_is_answered() -> None:
    """No field of the message is left at its default when the charge has a value for it."""
    charge = a_charge(
        state=ChargeState.SUCCEEDED,
        livemode=True,
        paid_at=NOW,
        transaction_no="4200",
        failure_code="x",
        failure_message="y",
        late=True,
        duplicate_payment=True,
        superseded=True,
        operator_reason="look",
    )
    done = a_refund(state=RefundState.SUCCEEDED, succeeded_at=NOW, transaction_no="50")
    full = a_refund(
        refund_no="r-2",
        metadata={"a": "b"},
        funding_source=FundingSource.RECHARGE_FUNDS,
        action_url="https://example.com",
        failure_code="x",
        failure_message="y",
        external=True,
        operator_reason="look",
    )
    full = replace(full, transaction_no="51", succeeded_at=NOW)
    flows = ScriptedFlows(order=Order("o-1", charges=(charge,), refunds=(done, full)))
    async with served(flows) as midas:
        charge_message = (await midas.stub.Query(pb.QueryRequest(order_no="o-1"))).charges[0]
    assert set(MessageToDict(charge_message, preserving_proto_field_name=True)) == {
        field.name for field in charge_pb2.Charge.DESCRIPTOR.fields
    }
    assert set(MessageToDict(charge_message.refunds[1], preserving_proto_field_name=True)) == {
        field.name for field in refund_pb2.Refund.DESCRIPTOR.fields
    }
    assert (charge_message.amount_refunded, charge_message.amount_refundable) == (30, 40)
    assert charge_message.refunds[1].funding_source == refund_pb2.FUNDING_SOURCE_RECHARGE_FUNDS


async def test_a_refund_goes_through() -> None:
    """Every field of a refund request reaches the flows."""
    request = pb.RefundRequest(
        refund_no="r-1",
        charge_id="ch_1",
        amount=30,
        description="cold",
        metadata={"a": "b"},
        funding_source=refund_pb2.FUNDING_SOURCE_UNSETTLED_FUNDS,
        validate_only=True,
    )
    async with served() as midas:
        answer = await midas.stub.Refund(request)
    source = FundingSource.UNSETTLED_FUNDS
    assert midas.flows.asked == [
        RefundTerms("r-1", "", "ch_1", 30, "cold", {"a": "b"}, source, validate_only=True)
    ]
    assert answer.refund.state == refund_pb2.REFUND_STATE_PENDING


@pytest.mark.parametrize("kind", KeyKind)
async def test_every_key_can_be_queried(kind: KeyKind) -> None:
    """The oneof's name is the kind of the key."""
    async with served() as midas:
        await midas.stub.Query(pb.QueryRequest(**{kind.value: "k"}, refresh=True))
    assert midas.flows.asked == [(kind, "k", True, None)]


async def test_the_callers_deadline_reaches_the_flows() -> None:
    """The flows get the time that is left, less what the answer needs."""
    async with served() as midas:
        await midas.stub.Query(pb.QueryRequest(order_no="o"), timeout=20)
    timeout = midas.flows.asked[0][3]
    # grpc writes a deadline down in tenths of a second at this distance, and rounds it up
    assert timedelta(seconds=15) < timeout <= timedelta(seconds=20, milliseconds=100)


_NOT_OF_THE_DOMAIN = {
    "expires_in zero": (charge_request(expires_in=Duration()), "expires_in"),
    "expires_in below zero": (charge_request(expires_in=Duration(seconds=-1)), "expires_in"),
    "expires_in beyond all": (charge_request(expires_in=Duration(seconds=2**62)), "expires_in"),
    "expires_in bad nanos": (charge_request(expires_in=Duration(nanos=-1)), "expires_in"),
    "extra NaN": (charge_request(extra=extra(a={"b": math.nan})), "extra.a.b"),
    "extra infinite": (charge_request(extra=extra(a=[1, math.inf])), "extra.a[1]"),
    "extra inexact": (charge_request(extra=extra(a=1e300)), "extra.a"),
    "refund without target": (pb.RefundRequest(refund_no="r"), "target"),
    "refund of unknown source": (
        pb.RefundRequest(refund_no="r", order_no="o", funding_source=99),  # type: ignore[arg-type]
        "funding_source",
    ),
    "query without key": (pb.QueryRequest(), "key"),
    "unknown charge state": (pb.ListChargesRequest(state=99), "state"),  # type: ignore[arg-type]
    "unknown refund state": (pb.ListRefundsRequest(state=99), "state"),  # type: ignore[arg-type]
    "page below zero": (pb.ListChargesRequest(page_size=-1), "page_size"),
    "page too large": (pb.ListRefundsRequest(page_size=1001), "page_size"),
    "unknown kind": (pb.PollPendingRequest(kinds=[1, 99]), "kinds"),  # type: ignore[list-item]
    "no kind": (pb.PollPendingRequest(kinds=[pb.POLL_KIND_UNSPECIFIED]), "kinds"),
    "limit below 0": (pb.PollPendingRequest(limit=-1), "limit"),
    "limit too large": (pb.PollPendingRequest(limit=100_001), "limit"),
    "page token": (pb.ListChargesRequest(page_token="AQ"), "page_token"),
    "time before all": (
        pb.ListChargesRequest(created_from=Timestamp(seconds=-(2**60))),
        "created_from",
    ),
    "empty window": (
        pb.ListRefundsRequest(
            created_from=Timestamp(seconds=5), created_before=Timestamp(seconds=5)
        ),
        "created_before",
    ),
}


@pytest.mark.parametrize("case", _NOT_OF_THE_DOMAIN)
async def test_a_value_outside_of_the_domain_is_refused(case: str) -> None:
    """A value that the domain cannot hold is a violation of that field, and no flow gets it."""
    request, field = _NOT_OF_THE_DOMAIN[case]
    method = type(request).__name__.removesuffix("Request")
    async with served() as midas:
        status = await error_of(getattr(midas.stub, method)(request))
    assert status.code is grpc.StatusCode.INVALID_ARGUMENT
    assert status.fields == [field]
    assert midas.flows.asked == []


def many_orders(count: int, **changes: Any) -> list[Order]:
    """Orders of one charge each, newest first, two of them in the same microsecond."""
    return [
        Order(
            f"o-{index}",
            charges=(
                a_charge(
                    order_no=f"o-{index}",
                    out_trade_no=f"{count - index:020}",
                    created_at=NOW - timedelta(seconds=index // 2),
                    **changes,
                ),
            ),
        )
        for index in range(count)
    ]


async def test_pages_of_charges_join_up() -> None:
    """Page after page gives every charge once, newest first, and the last page has no token."""
    flows = ScriptedFlows(orders=many_orders(7))
    listed: list[str] = []
    token = ""
    async with served(flows) as midas:
        for _ in range(4):
            request = pb.ListChargesRequest(page_size=2, page_token=token)
            answer = await midas.stub.ListCharges(request)
            listed += [each.order_no for each in answer.charges]
            token = answer.next_page_token
    assert listed == [f"o-{index}" for index in range(7)]
    assert token == ""


async def test_pages_of_refunds_join_up() -> None:
    """The same for refunds; a page that is exactly full is followed by none."""
    refunds = [a_refund(refund_no=f"r-{9 - index}") for index in range(4)]
    async with served(ScriptedFlows(refunds=refunds)) as midas:
        first = await midas.stub.ListRefunds(pb.ListRefundsRequest(page_size=2))
        token = first.next_page_token
        rest = await midas.stub.ListRefunds(pb.ListRefundsRequest(page_size=2, page_token=token))
    assert [each.refund_no for each in (*first.refunds, *rest.refunds)] == [
        each.refund_no for each in refunds
    ]
    assert rest.next_page_token == ""


async def test_a_token_fits_its_own_list_only() -> None:
    """A token that was altered, or comes with other filters or another method, is refused."""
    flows = ScriptedFlows(orders=many_orders(3))
    async with served(flows) as midas:
        first = await midas.stub.ListCharges(pb.ListChargesRequest(page_size=1))
        token = first.next_page_token
        flipped = "B" if token[20] == "A" else "A"
        altered = token[:20] + flipped + token[21:]
        other = pb.ListChargesRequest(state=charge_pb2.CHARGE_STATE_PENDING, page_token=token)
        for call in (
            midas.stub.ListCharges(pb.ListChargesRequest(page_token=altered)),
            midas.stub.ListCharges(pb.ListChargesRequest(page_token=token + "A")),
            midas.stub.ListCharges(pb.ListChargesRequest(page_token="é" * 10)),
            midas.stub.ListCharges(other),
            midas.stub.ListRefunds(pb.ListRefundsRequest(page_token=token)),
        ):
            status = await error_of(call)
            assert status.code is grpc.StatusCode.INVALID_ARGUMENT
            assert status.fields == ["page_token"]
        resized = pb.ListChargesRequest(page_size=2, page_token=token)
        assert len((await midas.stub.ListCharges(resized)).charges) == 2


async def test_a_page_ends_before_it_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that would not fit into a gRPC message come on the next page."""
    monkeypatch.setattr(payment_service, "PAGE_BYTES", 5000)
    flows = ScriptedFlows(orders=many_orders(6, metadata={"note": "x" * 1900}))
    async with served(flows) as midas:
        first = await midas.stub.ListCharges(pb.ListChargesRequest())
        token = first.next_page_token
        second = await midas.stub.ListCharges(pb.ListChargesRequest(page_token=token))
    assert [each.order_no for each in first.charges] == ["o-0", "o-1"]
    assert [each.order_no for each in second.charges] == ["o-2", "o-3"]


@pytest.mark.parametrize(
    ("request_", "kinds", "limit"),
    [
        (pb.PollPendingRequest(), set(), 0),
        (pb.PollPendingRequest(kinds=[pb.POLL_KIND_CHARGES], limit=7), {RowKind.CHARGE}, 7),
        (
            pb.PollPendingRequest(
                kinds=[pb.POLL_KIND_REFUNDS, pb.POLL_KIND_CHARGES, pb.POLL_KIND_REFUNDS],
                limit=100_000,
            ),
            {RowKind.REFUND, RowKind.CHARGE},
            100_000,
        ),
    ],
)
async def test_a_run_over_what_is_due(
    request_: pb.PollPendingRequest, kinds: set[RowKind], limit: int
) -> None:
    """What to look at reaches the flows with the caller's time, and every number comes back."""
    async with served() as midas:
        answer = await midas.stub.PollPending(request_, timeout=20)
        ((asked_kinds, asked_limit, timeout),) = midas.flows.asked
    assert (asked_kinds, asked_limit) == (kinds, limit)
    assert timeout is not None
    assert timedelta(seconds=10) < timeout <= timedelta(seconds=20)
    assert answer == pb.PollPendingResponse(
        examined=2,
        changed=1,
        still_pending=1,
        unknown=0,
        failed=0,
        found_by_poll=1,
        psp_calls=2,
        more_due=True,
        oldest_due_at=answer.oldest_due_at,
    )
    assert answer.oldest_due_at.ToDatetime(NOW.tzinfo) == NOW
    assert not answer.HasField("next_due_at")
