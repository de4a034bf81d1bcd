"""Ping++'s rules per channel: all violations at once, each with its field."""

import string
from datetime import timedelta
from typing import Any

import pytest

from midas.psp.channel_rules import charge_violations, refund_violations
from midas.psp.channels import CHANNELS, find
from midas.refund import FundingSource
from tests.psp import made

OUT_TRADE_NO_CHARACTERS = 20
NAMED_ONLY = ["isv_lite", "abc_wap", "chinaums_qr", "yeepay_wx_pub", "x_lakala", "wx_pab", "nucc_a"]
EXTRAS: dict[str, dict[str, Any]] = {
    "alipay_wap": {"success_url": "https://example.com/ok"},
    "alipay_scan": {"scan_code": "28", "terminal_id": "t"},
    "wx_pub": {"open_id": "o"},
    "wx_pub_qr": {"product_id": "p"},
    "wx_pub_scan": {"scan_code": "13"},
    "upacp_wap": {"result_url": "http://127.0.0.1/ok"},
    "bfb_wap": {"result_url": "https://example.com/ok", "bfb_login": True},
    "jdpay_wap": {"success_url": "https://example.com/a", "fail_url": "https://example.com/b"},
    "yeepay_wap": {
        "product_category": "1",
        "identity_id": "i",
        "identity_type": 1,
        "terminal_type": 3,
        "terminal_id": "t",
        "user_ua": "ua",
        "result_url": "https://example.com/ok",
    },
    "qpay": {"device": "ios"},
    "cmb_wallet": {
        "result_url": "https://example.com/ok",
        "p_no": "1",
        "seq": "s",
        "m_uid": "u",
        "mobile": "13800000000",
    },
    "balance": {"user": "u"},
    "isv_scan": {"scan_code": "1", "terminal_id": "12345678"},
    "isv_qr": {"terminal_id": "1", "pay_channel": "wx"},
    "isv_wap": {"terminal_id": "1", "pay_channel": "bfb", "result_url": "https://example.com/a"},
    "cb_wx": {"goods_list": [{"goods_name": "a", "goods_num": 1}]},
}


def fields(*, livemode: bool = False, **changed: Any) -> list[str]:
    """The paths of all violations."""
    found = charge_violations(made.terms(**changed), livemode=livemode)
    return [each.field for each in found]


@pytest.mark.parametrize("channel", sorted(EXTRAS))
def test_the_documented_extra_is_enough(channel: str) -> None:
    """With its required fields a channel takes the charge; without any one of them it does not."""
    extra = EXTRAS[channel]
    subject: dict[str, Any] = {"subject": "order"}
    assert fields(channel=channel, extra=extra, **subject) == []
    for name in extra:
        less = {key: value for key, value in extra.items() if key != name}
        assert fields(channel=channel, extra=less, **subject) == [f"extra.{name}"]
        assert fields(channel=channel, extra=extra | {name: ""}, **subject) == [f"extra.{name}"]


@pytest.mark.parametrize("channel", ["alipay", "wx", "wx_wap", "upacp", "qpay_pub", *NAMED_ONLY])
def test_channels_without_required_extra(channel: str) -> None:
    """They take the common terms, and fields that nobody documented."""
    assert fields(channel=channel, extra={"risk_info": {"a": 1}}) == []


@pytest.mark.parametrize(
    "channel", ["", "wechat", "WX", "wx ", "alipay_pc", "_pab", "abc_", "fuiou"]
)
def test_names_that_ping_does_not_know(channel: str) -> None:
    """They are refused by name, and violations of other fields are listed as well."""
    assert fields(channel=channel, subject="") == ["channel", "subject"]
    assert find(channel) is None


def test_all_violations_are_listed_at_once() -> None:
    """One answer is enough to put everything right."""
    wrong = fields(
        channel="wx_pub",
        currency="CNY",
        subject="",
        body="",
        client_ip="localhost",
        extra={"limit_pay": "credit"},
        metadata={"user_id": "1"},
        expires_in=timedelta(seconds=59),
    )
    assert wrong == [
        "currency",
        "subject",
        "body",
        "client_ip",
        "extra.open_id",
        "extra.limit_pay",
        "metadata",
        "expires_in",
    ]


@pytest.mark.parametrize(
    ("channel", "subject", "good"),
    [
        ("wx", "单" * 32, True),
        ("wx", "单" * 33, False),
        ("upacp", "单" * 10 + "ab", True),
        ("upacp", "单" * 11, False),
        ("applepay_upacp", "a" * 33, False),
        ("alipay", "🎁", True),
        ("wx", "🎁", False),
        ("cb_wx", "🎁", False),
    ],
)
def test_subjects(channel: str, subject: str, good: bool) -> None:
    """32 characters, 32 bytes on UnionPay, and no emoji on WeChat."""
    found = fields(channel=channel, subject=subject, extra=EXTRAS.get(channel, {}))
    assert found == ([] if good else ["subject"])


def test_bodies() -> None:
    """128 characters, 100 on yeepay_wap, and no emoji on WeChat."""
    assert fields(body="单" * 128) == []
    assert fields(body="单" * 129) == ["body"]
    assert fields(body="🎁") == ["body"]
    extra = EXTRAS["yeepay_wap"]
    assert fields(channel="yeepay_wap", extra=extra, body="单" * 101) == ["body"]


@pytest.mark.parametrize(
    ("channel", "address", "good"),
    [
        ("wx", "127.0.0.1", True),
        ("wx", "2001:db8::1", True),
        ("wx", "", False),
        ("wx", "1.2.3", False),
        ("wx", "1.2.3.4.5", False),
        ("wx", "fe80::1%eth0", False),
        ("wx", " 1.2.3.4", False),
        ("wx_wap", "203.0.113.7", True),
        ("wx_wap", "127.0.0.1", False),
        ("wx_wap", "::1", False),
        ("wx_wap", "0.0.0.0", False),
        ("wx_wap", "::ffff:203.0.113.7", True),
        ("wx_wap", "::ffff:127.0.0.1", False),
        ("wx_wap", "::ffff:0.0.0.0", False),
        ("wx_wap", "::ffff:7f00:1", False),
        ("wx", "::ffff:203.0.113.7%eth0", False),
    ],
)
def test_addresses_of_the_payer(channel: str, address: str, good: bool) -> None:
    """An address, and on H5 one that a payer can have."""
    assert fields(channel=channel, client_ip=address) == ([] if good else ["client_ip"])


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/ok",
        "https://LOCALHOST:8080/ok",
        "https://example.com/ok?order=1",
        "https://example.com/ok?",
        "/ok",
        "example.com/ok",
        "https://[::1",
        "https://",
        7,
        True,
    ],
)
def test_callback_urls(url: Any) -> None:
    """Whole, not of localhost, and without a query string."""
    extra = {"success_url": url}
    assert fields(channel="alipay_wap", extra=extra) == ["extra.success_url"]


def test_optional_extras_have_their_bounds_too() -> None:
    """What is given must be as documented."""
    assert fields(channel="alipay", extra={"extern_token": "x" * 33}) == ["extra.extern_token"]
    assert fields(channel="alipay", extra={"rn_check": "Y"}) == ["extra.rn_check"]
    assert fields(channel="alipay", extra={"rn_check": True}) == ["extra.rn_check"]
    assert fields(channel="wx", extra={"limit_pay": "no_credit", "goods_tag": "x"}) == []
    assert fields(channel="wx", extra={"goods_tag": 5}) == ["extra.goods_tag"]
    goods = {"terminal_id": "1", "pay_channel": "wx", "goods_list": [{"n": "x" * 8000}]}
    assert fields(channel="isv_qr", extra=goods) == ["extra.goods_list"]
    bad_mobile = EXTRAS["cmb_wallet"] | {"mobile": "138-0000"}
    assert fields(channel="cmb_wallet", extra=bad_mobile) == ["extra.mobile"]


@pytest.mark.parametrize(
    ("channel", "currency", "good"),
    [
        ("wx", "cny", True),
        ("wx", "usd", False),
        ("wx", "CNY", False),
        ("wx", "cn", False),
        ("cb_alipay", "usd", True),
        ("isv_lite", "hkd", True),
        ("isv_lite", "usd", False),
        ("paypal", "usd", True),
    ],
)
def test_currencies(channel: str, currency: str, good: bool) -> None:
    """Cross-border channels take others than cny."""
    assert fields(channel=channel, currency=currency) == ([] if good else ["currency"])


def test_metadata_of_a_charge() -> None:
    """20 pairs, 1000 characters, no reserved key; the test key only in test mode."""
    assert fields(metadata={str(n): "x" for n in range(20)}) == []
    assert fields(metadata={str(n): "x" for n in range(21)}) == ["metadata"]
    assert fields(metadata={"k": "单" * 999}) == []
    assert fields(metadata={"k": "单" * 1000}) == ["metadata"]
    assert fields(metadata={"phone_number": "1", "user_id": "2"}) == ["metadata"] * 2
    assert fields(metadata={"pingpp_tc": "001"}) == []
    assert fields(metadata={"pingpp_tc": "001"}, livemode=True) == ["metadata"]


def refund_fields(channel: str = "wx", **changed: Any) -> list[str]:
    """The paths of all violations of a refund."""
    found = refund_violations(channel, made.refund(**changed), livemode=False)
    return [each.field for each in found]


def test_refunds() -> None:
    """The balance that pays, and metadata with our own pair counted in.

    Amount and description are rules of tests/test_terms.py.
    """
    assert refund_fields() == []
    assert refund_fields(metadata={str(n): "x" for n in range(19)}) == []
    assert refund_fields(metadata={str(n): "x" for n in range(20)}) == ["metadata"]
    assert refund_fields(metadata={"k": "x" * 983}) == ["metadata"]
    source = FundingSource.RECHARGE_FUNDS
    assert refund_fields("wx_pub", funding_source=source) == []
    assert refund_fields("qpay", funding_source=source) == []
    assert refund_fields("alipay", funding_source=source) == ["funding_source"]


@pytest.mark.parametrize(
    ("channel", "longest"),
    [
        ("alipay", timedelta(days=15)),
        ("wx", timedelta(days=7)),
        ("upacp", timedelta(hours=1)),
        ("upacp_qr", timedelta(days=30)),
        ("upacp_b2b", timedelta(days=1)),
        ("isv_lite", timedelta(days=1)),
    ],
)
def test_expiries(channel: str, longest: timedelta) -> None:
    """From one minute to the longest of the channel."""
    assert fields(channel=channel, expires_in=longest) == []
    assert fields(channel=channel, expires_in=timedelta(minutes=1)) == []
    assert fields(channel=channel, expires_in=longest + timedelta(seconds=1)) == ["expires_in"]
    assert fields(channel=channel, expires_in=timedelta(seconds=59)) == ["expires_in"]


def test_windows_in_which_a_repetition_is_the_same_charge() -> None:
    """As pingpp.md section 8 has them; where the create call takes the money there is none."""
    minutes = {
        name: channel.repost_window / timedelta(minutes=1) for name, channel in CHANNELS.items()
    }
    wechat = {"wx", "wx_pub", "wx_pub_qr", "wx_lite", "cb_wx", "cb_wx_pub", "cb_wx_pub_qr"}
    assert {name for name, value in minutes.items() if value == 120} == wechat
    assert minutes["wx_wap"] == 5
    never = {name for name, value in minutes.items() if value == 0}
    assert never == {name for name, channel in CHANNELS.items() if channel.pays_at_create}
    assert set(minutes.values()) == {0, 1, 5, 120}


def test_channels_whose_create_call_takes_the_money() -> None:
    """Bar codes and the balance."""
    paying = {name for name, channel in CHANNELS.items() if channel.pays_at_create}
    scans = {"alipay_scan", "wx_pub_scan", "upacp_scan", "cb_alipay_scan", "cb_wx_pub_scan"}
    assert paying == scans | {"isv_scan", "balance"}


def test_channels_whose_charges_can_be_closed() -> None:
    """The list of pingpp.md section 9, without alipay, which was taken from it later."""
    closing = {name for name, channel in CHANNELS.items() if channel.reversible}
    assert closing == {
        "alipay_qr",
        "alipay_lite",
        "alipay_scan",
        "upacp",
        "upacp_pc",
        "upacp_wap",
        "upacp_scan",
        "wx",
        "wx_wap",
        "wx_lite",
        "wx_pub",
        "wx_pub_qr",
        "wx_pub_scan",
        "cb_wx_pub_scan",
        "cb_alipay_scan",
        "isv_scan",
        "isv_wap",
        "isv_qr",
        "yeepay_wap",
    }


def test_our_number_is_valid_on_every_channel() -> None:
    """20 letters and digits lie within what each channel takes for an order_no."""
    for channel in CHANNELS.values():
        least, most = channel.order_no_characters
        assert least <= OUT_TRADE_NO_CHARACTERS <= most, channel.name
        assert set(channel.name) <= set(string.ascii_lowercase + string.digits + "_")


def test_channels_whose_reversal_gives_a_payment_back() -> None:
    """Paid charges can be reversed on bar codes and through providers only."""
    found = {name for name, channel in CHANNELS.items() if channel.gives_back}
    bar_codes = {name for name in CHANNELS if name.endswith("_scan")}
    assert found == bar_codes | {"isv_qr", "isv_wap"}
