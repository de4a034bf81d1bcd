"""What the mock answers: well-formed by the contract, and by what Midas itself makes of Ping++."""

import json
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from midas.errors import InvalidRequest
from midas.mock import answers, credentials, payments
from midas.mock.answers import METHODS_ANSWERED
from midas.psp.channels import CHANNELS, Channel, Extra, Kind
from midas.psp.facts import read_charge
from midas.v1 import charge_pb2, payment_service_pb2, refund_pb2
from midas.v1 import event_service_pb2 as events
from midas.v1.payment_service_pb2 import ChargeRequest, QueryRequest, RefundRequest
from tests.mock.call_everything import CHARGE, EVENT, SERVICES

PENDING, SUCCEEDED = charge_pb2.CHARGE_STATE_PENDING, charge_pb2.CHARGE_STATE_SUCCEEDED
VALUES: dict[Kind, Any] = {
    Kind.TEXT: "text",
    Kind.DIGITS: "12345678901",
    Kind.INTEGER: 1,
    Kind.BOOLEAN: True,
    Kind.URL: "https://example.com/paid",
    Kind.LIST: [{"goods_name": "Tea", "goods_num": "1"}],
}


def asked(channel: Channel, **changed: Any) -> ChargeRequest:
    """A request with everything that the channel requires."""
    request = ChargeRequest()
    request.CopyFrom(CHARGE)
    request.channel = channel.name
    request.currency = channel.currencies[0] if channel.currencies else "usd"
    request.extra.update({e.name: _value(e) for e in channel.extra if e.required})
    for name, value in changed.items():
        setattr(request, name, value)
    return request


def _value(extra: Extra) -> Any:
    return extra.choices[0] if extra.choices else VALUES[extra.kind]


def test_every_method_of_every_service_is_answered() -> None:
    """The descriptors list the methods: a new one fails here until it is answered."""
    methods = {
        f"{service.full_name}/{method.name}": method.input_type.full_name
        for service in SERVICES
        for method in service.methods
    }
    answered = {name: each.request.DESCRIPTOR.full_name for name, each in METHODS_ANSWERED.items()}
    assert answered == methods


@pytest.mark.parametrize("channel", CHANNELS.values(), ids=lambda channel: channel.name)
def test_a_charge_is_well_formed_on_every_channel(channel: Channel) -> None:
    """Midas's own reader takes the JSON, and it agrees with the message."""
    answer = answers.charge(asked(channel), "")
    charge, facts = answer.charge, read_charge(answer.charge_json)
    assert charge.state == (SUCCEEDED if channel.pays_at_create else PENDING)
    assert facts.paid == channel.pays_at_create == charge.HasField("paid_at")
    assert facts.has_credential != channel.pays_at_create
    assert (facts.charge_id, facts.out_trade_no) == (charge.charge_id, charge.out_trade_no)
    assert (facts.channel, facts.amount, facts.currency) == (channel.name, 1990, charge.currency)
    assert facts.expires_at is not None
    assert facts.expires_at.timestamp() == charge.expires_at.seconds
    assert len(charge.charge_id) == 27
    assert len(charge.out_trade_no) == 20
    assert charge.out_trade_no.isalnum()


SHAPES: dict[str, set[str]] = {
    "alipay": {"orderInfo"},
    "wx": {"appId", "partnerId", "prepayId", "nonceStr", "timeStamp", "packageValue", "sign"},
    "wx_pub": {"appId", "timeStamp", "nonceStr", "package", "signType", "paySign"},
    "wx_lite": {"appId", "timeStamp", "nonceStr", "package", "signType", "paySign"},
    "upacp": {"tn", "mode"},
    "applepay_upacp": {"tn", "mode", "merchant_id"},
    "alipay_wap": {"channel_url"},
    "alipay_pc_direct": {"channel_url"},
    "upacp_b2b": {"channel_url"},
    "jdpay_wap": {"channelUrl"},
    "cmb_wallet": {"ChannelUrl"},
    "bfb_wap": {"url"},
    "yeepay_wap": {"merchantaccount", "encryptkey", "data", "mode"},
    "qpay": {"app_id", "bargainor_id", "nonce", "sign", "token_id"},
    "qpay_pub": {"token_id"},
    "ccb_wap": {"orderinfo"},
}
"""The members of a channel's credential that a client SDK reads."""
TEXTS = {"wx_pub_qr", "alipay_qr", "isv_qr", "upacp_qr", "cb_wx_pub_qr", "wx_wap", "isv_wap"} | {
    "isv_lite",
    "alipay_lite",
    "ccb_qr",
    "paypal",
}
"""Channels whose credential is one text."""


@pytest.mark.parametrize("name", [*SHAPES, *sorted(TEXTS)])
def test_a_credential_has_the_shape_of_its_channel(name: str) -> None:
    """The shape is what the client SDKs read."""
    content = json.loads(answers.charge(asked(CHANNELS[name]), "").charge_json)
    assert content["credential"]["object"] == "credential"
    own = content["credential"][name]
    assert type(own) is (str if name in TEXTS else dict)
    assert SHAPES.get(name, set()) <= set(own)
    assert "<" not in json.dumps(own)
    if "timeStamp" in SHAPES.get(name, ()):
        assert content["credential"][name]["timeStamp"] == content["created"]


def test_a_paid_charge_has_nothing_to_open() -> None:
    """A charge that is asked for as paid says so in the JSON, too."""
    facts = read_charge(answers.charge(CHARGE, "SUCCEEDED").charge_json)
    assert (facts.paid, facts.has_credential, facts.paid_at is not None) == (True, False, True)


def test_a_channel_without_a_known_shape_has_a_note() -> None:
    """Nothing is invented, and the list of these channels is known."""
    unknown = {
        channel.name
        for channel in CHANNELS.values()
        if not channel.pays_at_create
        and credentials.UNDOCUMENTED in answers.charge(asked(channel), "").charge_json
    }
    assert unknown == {"bfb", "ccb_pay", "cmpay", "coolcredit"} | {
        "fqlpay_wap",
        "qgbc_wap",
        "mmdpay_wap",
        "cnp_u",
        "cnp_f",
    }


def test_the_same_key_has_the_same_ids() -> None:
    """It has them in every call and method, so that the next call can use the ids of an answer."""
    first, again = answers.charge(CHARGE, "").charge, answers.charge(CHARGE, "").charge
    queried = answers.query(QueryRequest(order_no="A1001"), "").charges[0]
    refunded = answers.refund(
        RefundRequest(refund_no="R1", order_no="A1001", description="d"), ""
    ).refund
    assert first.out_trade_no == again.out_trade_no == queried.out_trade_no
    assert first.charge_id == queried.charge_id == refunded.charge_id
    assert refunded.out_trade_no == first.out_trade_no
    other = answers.query(QueryRequest(order_no="A1002"), "").charges[0]
    assert {other.out_trade_no, other.charge_id}.isdisjoint({first.out_trade_no, first.charge_id})


@pytest.mark.parametrize("key", ["order_no", "out_trade_no", "charge_id", "refund_no", "refund_id"])
def test_a_query_answers_the_key_that_was_asked(key: str) -> None:
    """The key that was given is in the answer, under its own name."""
    (charge,) = answers.query(QueryRequest(**{key: "K1"}), "").charges  # type: ignore[arg-type]
    subject = charge.refunds[0] if key.startswith("refund") else charge
    assert getattr(subject, key) == "K1"


def test_what_midas_would_refuse_is_refused() -> None:
    """Midas's rules and the channel's, all at once; of a refund too."""
    wrong = ChargeRequest(order_no="", channel="wx_pub", amount=0, currency="cny", client_ip="x")
    with pytest.raises(InvalidRequest) as refused:
        answers.charge(wrong, "")
    fields = [each.field for each in refused.value.violations]
    assert {"order_no", "amount", "subject", "body", "client_ip", "extra.open_id"} == set(fields)
    assert len(fields) == len(set(fields))
    with pytest.raises(InvalidRequest) as no_target:
        answers.refund(RefundRequest(refund_no="re_1", description="d"), "")
    assert [each.field for each in no_target.value.violations] == ["target"]


def test_the_expiry_that_was_asked_for_is_answered() -> None:
    """`expires_in` of the request is the charge's own."""
    request = asked(CHANNELS["alipay_qr"])
    request.expires_in.CopyFrom(Duration(seconds=600))
    charge = answers.charge(request, "").charge
    assert charge.expires_at.seconds - charge.created_at.seconds == 600


@pytest.mark.parametrize("name", sorted(answers._OF_CHARGES))
def test_a_charge_in_every_state(name: str) -> None:
    """A state that is asked for is whole: what belongs to it is set, and nothing else."""
    charge = answers.query(QueryRequest(order_no="A1"), name).charges[0]
    paid = name in ("SUCCEEDED", "LATE", "DUPLICATE_PAYMENT", "REFUNDED")
    assert charge.HasField("paid_at") == (paid or name == "REVERSED")
    assert bool(charge.charge_id) == (name not in ("SUBMITTING", "NEEDS_OPERATOR"))
    assert (charge.late, charge.duplicate_payment) == (name == "LATE", name == "DUPLICATE_PAYMENT")
    assert (charge.superseded, charge.needs_operator) == (
        name == "SUPERSEDED",
        name == "NEEDS_OPERATOR",
    )
    assert bool(charge.failure_code) == (name == "FAILED")
    assert charge.amount_refunded == (663 if name == "REFUNDED" else 0)
    assert charge.amount_refundable == (1990 - charge.amount_refunded if paid else 0)
    shown = charge_pb2.ChargeState.Name(charge.state).removeprefix("CHARGE_STATE_")
    assert shown == payments._STATES.get(name, name)


@pytest.mark.parametrize("name", sorted(answers._OF_REFUNDS))
def test_a_refund_in_every_state(name: str) -> None:
    """The same of a refund."""
    refund = answers.query(QueryRequest(refund_no="R1"), name).charges[0].refunds[0]
    done = name in ("SUCCEEDED", "EXTERNAL")
    assert refund.HasField("succeeded_at") == done
    assert bool(refund.action_url) == (name == "ACTION_URL")
    assert bool(refund.failure_code) == (name in ("FAILED", "ACTION_URL"))
    assert refund.needs_operator == (name == "NEEDS_OPERATOR")
    assert refund.external == refund.refund_no.startswith("re_") == (name == "EXTERNAL")


def test_only_checking_makes_no_refund() -> None:
    """`validate_only` answers the refund as it would be."""
    request = RefundRequest(refund_no="R1", order_no="A1", description="d", validate_only=True)
    refund = answers.refund(request, "").refund
    assert (refund.state, refund.refund_id) == (refund_pb2.REFUND_STATE_SUBMITTING, "")


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lists_come_page_by_page(size: int) -> None:
    """Every row once, the newest first, and an empty token on the last page alone."""
    listed: list[Any] = []
    token = ""
    while token or not listed:
        request = payment_service_pb2.ListChargesRequest(page_size=size, page_token=token)
        page = answers.list_charges(request, "")
        assert len(page.charges) <= size
        listed += page.charges
        assert len(listed) <= 7
        token = page.next_page_token
    states = {each.state for each in listed}
    assert states == set(charge_pb2.ChargeState.values()) - {0}
    times = [each.created_at.seconds for each in listed]
    assert times == sorted(times, reverse=True)
    assert len({each.out_trade_no for each in listed}) == len(listed) == 7


def test_lists_are_filtered() -> None:
    """A filter is a state or a time. A token of another list is refused."""
    failed = payment_service_pb2.ListRefundsRequest(state=refund_pb2.REFUND_STATE_FAILED)
    (only,) = answers.list_refunds(failed, "").refunds
    assert only.state == refund_pb2.REFUND_STATE_FAILED
    late = payment_service_pb2.ListRefundsRequest()
    late.created_from.FromDatetime(answers._FIRST - timedelta(hours=1))
    assert len(answers.list_refunds(late, "").refunds) == 2
    charges = answers.list_charges(payment_service_pb2.ListChargesRequest(page_size=1), "")
    foreign = payment_service_pb2.ListRefundsRequest(page_token=charges.next_page_token)
    with pytest.raises(InvalidRequest):
        answers.list_refunds(foreign, "")


@pytest.mark.parametrize(
    ("body", "outcome", "reason"),
    [
        (EVENT, "ACCEPTED", ""),
        (b'{"id":"evt_1","type":"summary.daily.available"}', "IGNORED", "unhandled_type"),
        (b'{"id":"evt_1-DUPLICATE","type":"charge.succeeded"}', "DUPLICATE", ""),
        (b"no json", "IGNORED", "unreadable"),
        (b'["id", "type"]', "IGNORED", "unreadable"),
        (b'{"id":1,"type":"charge.succeeded"}', "IGNORED", "unreadable"),
    ],
)
def test_events_are_taken(body: bytes, outcome: str, reason: str) -> None:
    """What is no event is kept under its digest, as Midas does."""
    response = answers.record_event(events.RecordEventRequest(body=body), "")
    assert events.EventOutcome.Name(response.outcome) == f"EVENT_OUTCOME_{outcome}"
    assert response.reason == reason
    assert response.event_id.startswith("sha256:" if reason == "unreadable" else "evt_")


def test_several_events_have_a_result_each() -> None:
    """The results have the same order. One that is wrong does not spoil the others."""
    bodies = [b'{"id":"evt_1-STORAGE_UNAVAILABLE","type":"charge.succeeded"}', EVENT, b""]
    bodies.append(b'{"id":"evt_1-EVENT_ID_REUSED","type":"charge.succeeded"}')
    request = events.RecordEventsRequest()
    for body in bodies:
        request.events.add(body=body)
    results = answers.record_events(request, "").results
    assert [each.WhichOneof("result") for each in results] == [
        "error",
        "recorded",
        "error",
        "error",
    ]
    errors = [(each.error.reason, each.error.permanent) for each in results]
    assert errors[0] == ("STORAGE_UNAVAILABLE", False)
    assert errors[2:] == [("INVALID_REQUEST", True), ("EVENT_ID_REUSED", True)]
    with pytest.raises(InvalidRequest):
        answers.record_events(events.RecordEventsRequest(), "")


def test_notifications_are_leased_and_settled() -> None:
    """One of each kind, each of another order, with what belongs to it."""
    lease = answers.lease(events.LeaseNotificationsRequest(), "")
    notifications = [each.notification for each in lease.notifications]
    assert {each.kind for each in notifications} == set(events.NotificationKind.values()) - {0}
    assert len({each.order_no for each in notifications}) == 4
    assert lease.lease.seconds > 0
    for each in notifications:
        assert each.HasField("refund") == ("REFUND" in events.NotificationKind.Name(each.kind))
    assert len(answers.lease(events.LeaseNotificationsRequest(max=1), "").notifications) == 1
    tokens = [each.lease_token for each in lease.notifications] + ["x-LEASE_LOST"]
    request = events.SettleNotificationsRequest()
    for token in tokens:
        request.settlements.add(lease_token=token)
    assert list(answers.settle(request, "").applied) == [True] * 4 + [False]
    with pytest.raises(InvalidRequest):
        answers.settle(events.SettleNotificationsRequest(), "")
    with pytest.raises(InvalidRequest):
        answers.lease(events.LeaseNotificationsRequest(max=257), "")
