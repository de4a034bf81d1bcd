"""The same order_no again: the windows of the six-element de-duplication."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.shop import Clock, Shop, terms


@pytest.mark.parametrize(
    ("channel", "window_s"),
    [
        ("alipay", 60),
        ("upacp", 60),
        ("isv_qr", 60),
        ("wx_wap", 300),
        ("wx", 7200),
        ("wx_pub", 7200),
    ],
)
def test_the_same_six_elements_give_the_same_charge_inside_the_window(
    shop: Shop, clock: Clock, channel: str, window_s: int
) -> None:
    """Up to and including the window's last second a repeated create changes nothing."""
    first = shop.charge(channel=channel)
    clock.advance(window_s)
    again = shop.charge(channel=channel, metadata={"not": "compared"})
    assert again == first
    assert len(shop.lookalike.ledger.entries) == 1


@pytest.mark.parametrize("channel", ["alipay", "alipay_qr", "upacp", "qpay_pub"])
def test_after_a_minute_one_order_no_has_two_charges(
    shop: Shop, clock: Clock, channel: str
) -> None:
    """Other channels make a new charge after the window, and both can be paid."""
    first = shop.charge(channel=channel)
    clock.advance(61)
    second = shop.charge(channel=channel)
    assert second["id"] != first["id"]
    shop.lookalike.pay(first["id"])
    shop.lookalike.pay(second["id"])
    assert shop.lookalike.ledger.paid("ORDER0000001") == 200
    paid = [each.charge_id for each in shop.lookalike.ledger.entries if each.kind == "charge_paid"]
    assert paid == [first["id"], second["id"]]


@pytest.mark.parametrize(
    ("channel", "window_s"), [("wx", 7200), ("wx_wap", 300), ("isv_qr", 60), ("isv_scan", 60)]
)
def test_after_the_window_some_channels_refuse_the_number(
    shop: Shop, clock: Clock, channel: str, window_s: int
) -> None:
    """WeChat and offline QR answer 402 charge_order_no_used."""
    shop.charge(channel=channel)
    clock.advance(window_s + 1)
    status, error = shop.refuse(terms(channel=channel))
    assert (status, error["code"]) == (402, "charge_order_no_used")


@pytest.mark.parametrize(
    "changes",
    [{"amount": 99}, {"subject": "另一个"}, {"body": "另一个"}, {"channel": "wx_pub_qr"}],
)
def test_other_elements_are_refused_across_wechat(shop: Shop, changes: dict[str, Any]) -> None:
    """A WeChat number is unique across its channels."""
    shop.charge(channel="wx")
    status, error = shop.refuse(terms(**{"channel": "wx", **changes}))
    assert (status, error["code"]) == (402, "charge_order_no_used")


@pytest.mark.parametrize("changes", [{"amount": 99}, {"subject": "另一个"}, {"body": "另一个"}])
def test_other_elements_make_a_new_charge_elsewhere(shop: Shop, changes: dict[str, Any]) -> None:
    """Outside WeChat another amount or text is another charge at once."""
    first = shop.charge(channel="alipay")
    assert shop.charge(channel="alipay", **changes)["id"] != first["id"]


def test_another_channel_family_makes_a_new_charge(shop: Shop) -> None:
    """The same number on WeChat and on Alipay are two charges."""
    assert shop.charge(channel="wx")["id"] != shop.charge(channel="alipay")["id"]


def test_a_paid_wechat_number_cannot_be_used_again(shop: Shop) -> None:
    """Already paid: refused although the six elements are the same."""
    shop.paid(channel="wx")
    assert shop.refuse(terms(channel="wx"))[1]["code"] == "charge_order_no_used"


def test_a_paid_number_makes_a_new_charge_elsewhere(shop: Shop) -> None:
    """Already paid outside WeChat: a new charge that can be paid once more."""
    first = shop.paid(channel="alipay")
    assert shop.charge(channel="alipay")["id"] != first["id"]


def test_a_closed_wechat_number_is_closed(shop: Shop) -> None:
    """After reverse the number answers charge_closed."""
    charge = shop.charge(channel="wx")
    shop.post(f"/v1/charges/{charge['id']}/reverse", {})
    assert shop.refuse(terms(channel="wx"))[1]["code"] == "charge_closed"


def test_wechat_bar_code_is_cached_for_a_minute_then_charged_again(
    shop: Shop, clock: Clock
) -> None:
    """Inside the minute the paid charge comes back; after it the payer pays a second time."""
    first = shop.charge(channel="wx_pub_scan")
    assert shop.charge(channel="wx_pub_scan")["id"] == first["id"]
    clock.advance(61)
    assert shop.charge(channel="wx_pub_scan")["id"] != first["id"]
    assert shop.lookalike.ledger.paid("ORDER0000001") == 200


def test_isv_wap_depends_on_whether_its_link_was_opened(shop: Shop, clock: Clock) -> None:
    """Not opened: a new charge after a minute; opened: an error."""
    shop.charge("ORDER0000001", "isv_wap")
    opened = shop.charge("ORDER0000002", "isv_wap")
    shop.lookalike.open_page(opened["id"])
    clock.advance(61)
    assert shop.post("/v1/charges", terms("ORDER0000001", "isv_wap"))[0] == 200
    assert shop.refuse(terms("ORDER0000002", "isv_wap"))[0] == 402
