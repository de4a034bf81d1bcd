"""The sandbox's answers beside recorded real ones: the same members with the same types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.shop import Clock, Shop, terms

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
pytestmark = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason=f"recorded data is not present at {FIXTURES}"
)

ADDED_TO_CHARGES = {"reversed"}
"""Absent before about 2017 (pingpp.md section 2)."""
ADDED_TO_REFUNDS = {"currency", "app", "extra"}
"""Newer API only (pingpp.md section 3)."""
INSIDE = {"extra", "metadata", "credential"}
"""Members whose content is the merchant's or the channel's."""


def recorded(path: str) -> Any:
    """A recorded answer."""
    return json.loads((FIXTURES / path).read_bytes())


def shape(value: Any) -> Any:
    """Types in place of values, down to the leaves."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    return type(value).__name__


def without(value: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The object without some members."""
    return {name: inner for name, inner in value.items() if name not in names}


@pytest.mark.parametrize(
    ("path", "channel"),
    [
        ("observed/charge-create-wx-test-2016.json", "wx"),
        ("observed/charge-create-upacp-test-2015.json", "upacp"),
        ("observed/charge-create-wx_pub_qr-live-2016.json", "wx_pub_qr"),
        ("observed/charge-create-alipay_pc_direct-live-openapi-2017.json", "alipay_pc_direct"),
    ],
)
def test_created_charges_have_the_recorded_shape(shop: Shop, path: str, channel: str) -> None:
    """Sent with the recorded terms, the answer has the recorded members, types and credential."""
    real = recorded(path)
    names = ("order_no", "amount", "currency", "body", "client_ip", "extra", "metadata")
    # One recorded subject is longer than the limit of today's documentation.
    request = terms(**{name: real[name] for name in names}, channel=channel)
    ours = shop.post("/v1/charges", {**request, "subject": real["subject"][:20]})[1]
    added = set() if "reversed" in real else ADDED_TO_CHARGES
    assert set(ours) - added == set(real)
    assert shape(without(ours, INSIDE | added)) == shape(without(real, INSIDE))
    assert (ours["extra"], ours["metadata"]) == (real["extra"], real["metadata"])
    assert ours["time_expire"] - ours["created"] == real["time_expire"] - real["created"]
    assert shape(ours["credential"]) == shape(real["credential"])


def test_the_old_alipay_credential_is_the_one_difference(shop: Shop) -> None:
    """The recorded alipay_wap of 2016 is mapi, ours is openapi; both name channel_url."""
    real = recorded("observed/charge-create-alipay_wap-live-mapi-2016.json")
    ours = shop.charge(channel="alipay_wap")
    assert set(ours) - ADDED_TO_CHARGES == set(real)
    common = set(ours["credential"]["alipay_wap"]) & set(real["credential"]["alipay_wap"])
    assert {"channel_url", "notify_url", "return_url", "sign", "sign_type"} <= common


def test_a_failed_refund_has_the_recorded_shape_and_text(shop: Shop) -> None:
    """HTTP 200 with status failed, word for word."""
    real = recorded("responses/RefundFromChannelFailure.body.json")
    charge = shop.paid(channel="wx_pub")
    shop.lookalike.plan_refund("failed")
    ours = shop.refund(charge, amount=10)[1]
    assert shape(without(ours, ADDED_TO_REFUNDS)) == shape(real)
    for name in ("failure_code", "failure_msg", "status", "time_succeed"):
        assert ours[name] == real[name]


def test_a_list_of_refunds_has_the_recorded_shape(shop: Shop) -> None:
    """Same members; the recorded transaction_no was null on that channel, ours is a string."""
    real = recorded("responses/FetchRefundListSuccess.body.json")
    charge = shop.paid()
    shop.refund(charge, amount=10, metadata={"order_no": "x"})
    ours = shop.get(f"/v1/charges/{charge['id']}/refunds")[1]
    different = ADDED_TO_REFUNDS | {"transaction_no"}
    assert set(ours) == set(real)
    assert set(ours["data"][0]) - ADDED_TO_REFUNDS == set(real["data"][0])
    assert shape(without(ours["data"][0], different)) == shape(
        without(real["data"][0], {"transaction_no"})
    )


def test_already_refunded_is_word_for_word(shop: Shop) -> None:
    """Only the numbers in the text differ."""
    real = recorded("responses/RefundAlreadyRefundedFailure.body.json")
    charge = shop.paid()
    shop.refund(charge)
    ours = shop.refund(charge)[1]
    text = real["error"]["message"].replace("4360de39f200172f", charge["order_no"])
    text = text.replace("ch_ubn9uDDezzXDizv9SKXXDiPO", charge["id"])
    assert ours == {"error": {"type": "invalid_request_error", "message": text}}


def test_channel_errors_have_the_recorded_members(shop: Shop) -> None:
    """A 402 is a channel_error with a message and a code."""
    real = recorded("observed/error-402-channel_parse_error-alipay_wap-2015.json")
    shop.paid()
    status, ours = shop.refuse(terms(amount=1))
    assert status == 402
    assert shape(ours) == shape({name: real["error"][name] for name in ours})
    assert set(ours) == set(real["error"])


def test_the_alipay_text_starts_like_the_recorded_one(shop: Shop, clock: Clock) -> None:
    """The same words before the link, the same service and date inside it."""
    real = (FIXTURES / "observed/alipay-refund-failure-msg-2016.txt").read_text()
    charge = shop.paid(channel="alipay")
    shop.lookalike.plan_refund("alipay_link")
    ours = shop.refund(charge)[1]["failure_msg"]
    assert ours.partition("http")[0] == real.partition("http")[0]
    for part in ("service=refund_fastpay_by_platform_pwd", "refund_date=", "batch_no="):
        assert part in ours
        assert part in real


def test_a_charge_event_has_the_recorded_shape(shop: Shop) -> None:
    """charge.succeeded of test mode on wx_pub, down to the charge inside."""
    real = recorded("events/charge.succeeded-wx_pub-test-2019.json")
    shop.paid(channel="wx_pub", extra={"open_id": "just_for_test"}, description="测试备注")
    (ours,) = shop.lookalike.events.values()
    assert list(ours) == list(real)
    assert shape(ours) == shape(real)
    assert ours["data"]["object"]["extra"] == real["data"]["object"]["extra"]
    assert (len(ours["id"]), ours["id"][:7]) == (len(real["id"]), real["id"][:7])


@pytest.mark.parametrize("name", ["a", "partial-1", "partial-2"])
def test_a_refund_event_has_the_recorded_shape(shop: Shop, name: str) -> None:
    """refund.succeeded of test mode, with the newer members added."""
    real = recorded(f"events/refund.succeeded-wx_pub-test-2019-{name}.json")
    charge = shop.paid(channel="wx_pub")
    metadata = real["data"]["object"]["metadata"]
    shop.refund(charge, amount=1, metadata=metadata)
    ours = list(shop.lookalike.events.values())[-1]
    assert list(ours) == list(real)
    newer = ADDED_TO_REFUNDS - {"extra"}
    assert shape(without(ours["data"]["object"], newer)) == shape(real["data"]["object"])
