"""Creating charges: what is accepted, what is refused, and what comes back."""

from __future__ import annotations

import re
from typing import Any

import pytest

from midas.sandbox.channel_table import CHANNELS
from tests.sandbox.shop import APP_ID, REQUIRED_EXTRA, Clock, Shop, terms


def test_a_charge_has_every_documented_field(shop: Shop) -> None:
    """A new charge shows all fields of the charge object with the values of an unpaid one."""
    charge = shop.charge(description="备注", metadata={"n": 1})
    assert re.fullmatch(r"ch_\d{24}", charge["id"])
    assert charge["id"].startswith("ch_100251123")
    assert charge["credential"]["object"] == "credential"
    assert charge["refunds"]["url"] == f"/v1/charges/{charge['id']}/refunds"
    del charge["id"], charge["credential"], charge["refunds"]
    assert charge == {
        "object": "charge",
        "created": 1_763_870_400,
        "livemode": False,
        "paid": False,
        "refunded": False,
        "reversed": False,
        "app": APP_ID,
        "channel": "wx",
        "order_no": "ORDER0000001",
        "client_ip": "127.0.0.1",
        "amount": 100,
        "amount_settle": 100,
        "currency": "cny",
        "subject": "测试订单",
        "body": "订单详情",
        "extra": {},
        "time_paid": None,
        "time_expire": 1_763_877_600,
        "time_settle": None,
        "transaction_no": None,
        "amount_refunded": 0,
        "failure_code": None,
        "failure_msg": None,
        "metadata": {"n": 1},
        "description": "备注",
    }


@pytest.mark.parametrize("channel", sorted(CHANNELS))
def test_every_channel_takes_the_order_number_that_is_valid_everywhere(
    shop: Shop, channel: str
) -> None:
    """Twenty letters and digits and the required extra are enough on each channel."""
    charge = shop.charge("A1234567890123456789", channel)
    assert charge["channel"] == channel
    assert charge["paid"] == CHANNELS[channel].pays_at_create


@pytest.mark.parametrize(
    ("channel", "name"),
    [(channel, name) for channel, extra in REQUIRED_EXTRA.items() for name in extra],
)
def test_required_extra_is_asked_for_by_name(shop: Shop, channel: str, name: str) -> None:
    """A missing required extra is a 400 that names it."""
    extra = {key: value for key, value in REQUIRED_EXTRA[channel].items() if key != name}
    status, error = shop.refuse(terms(channel=channel, extra=extra))
    assert (status, error["param"]) == (400, f"extra[{name}]")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"order_no": None}, "order_no"),
    ({"order_no": "has-dash"}, "order_no"),
    ({"order_no": "x"}, "order_no"),
    ({"order_no": "x" * 33}, "order_no"),
    ({"order_no": 12345678}, "order_no"),
    ({"order_no": "1234567", "channel": "upacp"}, "order_no"),
    ({"order_no": "x" * 65, "channel": "alipay"}, "order_no"),
    ({"channel": None}, "channel"),
    ({"channel": "telepathy"}, "channel"),
    ({"amount": None}, "amount"),
    ({"amount": 0}, "amount"),
    ({"amount": -1}, "amount"),
    ({"amount": 1.0}, "amount"),
    ({"amount": "1"}, "amount"),
    ({"amount": True}, "amount"),
    ({"amount": 2**63}, "amount"),
    ({"currency": None}, "currency"),
    ({"currency": "CNY"}, "currency"),
    ({"subject": None}, "subject"),
    ({"subject": "题" * 33}, "subject"),
    ({"subject": "题" * 11, "channel": "upacp"}, "subject"),
    ({"body": None}, "body"),
    ({"body": "体" * 129}, "body"),
    ({"client_ip": None}, "client_ip"),
    ({"client_ip": "300.1.1.1"}, "client_ip"),
    ({"app": None}, "app[id]"),
    ({"app": APP_ID}, "app[id]"),
    ({"extra": "x"}, "extra"),
    ({"channel": "alipay_wap", "extra": {"success_url": "not a url"}}, "extra[success_url]"),
    (
        {"channel": "alipay_wap", "extra": {"success_url": "http://localhost/"}},
        "extra[success_url]",
    ),
    ({"channel": "wx_pub_qr", "extra": {"product_id": "p" * 33}}, "extra[product_id]"),
    ({"metadata": "x"}, "metadata"),
    ({"metadata": {str(n): n for n in range(21)}}, "metadata"),
    ({"metadata": {"a": {"b": 1}}}, "metadata"),
    ({"metadata": {"a": "字" * 1000}}, "metadata"),
    ({"description": "述" * 256}, "description"),
    ({"time_expire": "1763870500"}, "time_expire"),
]


@pytest.mark.parametrize(("changes", "param"), REFUSED)
def test_wrong_parameters_are_refused_by_name(
    shop: Shop, changes: dict[str, Any], param: str
) -> None:
    """Each wrong parameter is a 400 invalid_request_error naming it, and makes nothing."""
    status, error = shop.refuse(terms(**{"channel": "wx", **changes}))
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert list(shop.lookalike.ledger.entries) == []


def test_longest_allowed_texts_are_accepted(shop: Shop) -> None:
    """The limits are counted in characters, on UnionPay's subject in bytes."""
    shop.charge("ORDER0000001", subject="题" * 32, body="体" * 128, description="述" * 255)
    shop.charge("ORDER0000002", "upacp", subject="题" * 10 + "ab")
    shop.charge("ORDER0000003", client_ip="2001:db8::1")


def test_another_app_is_not_found(shop: Shop) -> None:
    """An app id that is not ours is a 404."""
    status, error = shop.refuse(terms(app={"id": "app_other"}))
    assert (status, error["param"]) == (404, "app[id]")


def test_wechat_cannot_take_characters_beyond_the_basic_plane(shop: Shop) -> None:
    """An emoji is refused by WeChat as a 402 with the reported text, and taken by Alipay."""
    status, error = shop.refuse(terms(subject="糖😀"))
    assert (status, error["type"], error["code"]) == (
        402,
        "channel_error",
        "channel_request_error",
    )
    assert "请求内容传入了非UTF8参数" in error["message"]
    shop.charge("ORDER0000002", "alipay", subject="糖😀")


@pytest.mark.parametrize(
    ("channel", "default_s", "most_s"),
    [
        ("alipay", 86_400, 15 * 86_400),
        ("wx_pub_qr", 7_200, 7 * 86_400),
        ("upacp", 3_600, 3_600),
        ("upacp_qr", 86_400, 30 * 86_400),
        ("isv_qr", 86_340, 86_400),
    ],
)
def test_expiry_ranges_per_channel(
    shop: Shop, clock: Clock, channel: str, default_s: int, most_s: int
) -> None:
    """Each channel has its default, takes a minute and its maximum, and nothing outside."""
    now = int(clock.now())
    assert shop.charge("ORDER0000001", channel)["time_expire"] == now + default_s
    for number, seconds in enumerate((60, most_s), start=2):
        shop.charge(f"ORDER000000{number}", channel, time_expire=now + seconds)
    for seconds in (59, most_s + 1, -1):
        request = terms("ORDER0000009", channel, time_expire=now + seconds)
        status, error = shop.refuse(request)
        assert (status, error["param"]) == (400, "time_expire")


@pytest.mark.parametrize(
    ("channel", "members"),
    [
        ("wx", {"appId", "partnerId", "prepayId", "nonceStr", "timeStamp", "packageValue", "sign"}),
        ("wx_pub", {"appId", "timeStamp", "nonceStr", "package", "signType", "paySign"}),
        ("alipay", {"orderInfo"}),
        ("upacp", {"tn", "mode"}),
    ],
)
def test_credentials_have_the_shape_of_test_mode(
    shop: Shop, channel: str, members: set[str]
) -> None:
    """Client SDKs find the members they need, with WeChat's integer time stamp of test mode."""
    credential = shop.charge(channel=channel)["credential"][channel]
    assert set(credential) == members
    if "timeStamp" in members:
        assert type(credential["timeStamp"]) is int


@pytest.mark.parametrize("channel", ["wx_pub_qr", "alipay_qr", "isv_qr", "upacp_qr", "wx_wap"])
def test_qr_credentials_are_links_to_the_payment_page(shop: Shop, channel: str) -> None:
    """What a QR code holds opens the sandbox's own page."""
    charge = shop.charge(channel=channel)
    link = charge["credential"][channel]
    assert link.startswith(f"https://sandbox.invalid/pay/{charge['id']}")


@pytest.mark.parametrize("channel", ["balance", "alipay_scan", "wx_pub_scan", "isv_scan"])
def test_some_channels_pay_within_the_create(shop: Shop, channel: str) -> None:
    """Balance and bar codes come back paid, without a credential, in the ledger, with an event."""
    charge = shop.charge(channel=channel)
    assert charge["paid"] is True
    assert charge["credential"] == {}
    assert shop.lookalike.ledger.paid("ORDER0000001") == 100
    assert [event["type"] for event in shop.lookalike.events.values()] == ["charge.succeeded"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"\xff",
        b'"x"',
        b'{"amount": NaN}',
        b'{"subject": "\\ud800"}',
        b"[" * 100_000,
    ],
    ids=["open", "list", "not UTF-8", "text", "NaN", "surrogate", "nested"],
)
def test_unreadable_bodies_are_a_400(shop: Shop, body: bytes) -> None:
    """What is not a JSON object is refused, however odd."""
    status, answer = shop.lookalike.handle("POST", "/v1/charges", (), body)
    assert (status, answer["error"]["type"]) == (400, "invalid_request_error")


def test_app_can_be_expanded_and_nothing_else(shop: Shop) -> None:
    """`expand` turns the app id into an object on create and retrieve."""
    created = shop.charge(expand=["app"])
    assert created["app"]["id"] == APP_ID
    path = f"/v1/charges/{created['id']}"
    assert shop.lookalike.handle("GET", path, [("expand[]", "app")], b"")[1]["app"]["id"] == APP_ID
    status, answer = shop.lookalike.handle("GET", path, [("expand[]", "refunds")], b"")
    assert (status, answer["error"]["param"]) == (400, "expand")


def test_unknown_objects_have_the_reported_text(shop: Shop) -> None:
    """A charge that is not there is the 404 that is reported of Ping++."""
    status, answer = shop.get("/v1/charges/ch_x")
    assert status == 404
    assert answer == {
        "error": {
            "type": "invalid_request_error",
            "message": "未找到 charge : ch_x",
            "param": "id",
        }
    }
    for path in ("/v1/events/evt_x", "/v1/nothing", f"/v1/charges/{shop.charge()['id']}/refunds/x"):
        assert shop.get(path)[0] == 404
