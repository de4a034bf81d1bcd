"""The channels and their rules, as one table (pingpp.md sections 2, 3, 7, 8 and 9)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

MINUTE_S = 60
HOUR_S = 3600
DAY_S = 24 * HOUR_S

CredentialShape = Literal[
    "none",
    "wx_app",
    "wx_jsapi",
    "link",
    "alipay_app",
    "alipay_form",
    "upacp_app",
    "upacp_form",
    "form",
    "object",
]
ReverseWindow = Literal["any", "7_days", "24_hours", "same_day", "unionpay_day"]


@dataclass(frozen=True, slots=True)
class Channel:
    """What one channel accepts and how a charge on it lives; times in seconds."""

    name: str
    family: str
    """`alipay`, `wx`, `upacp`, `isv` or `other`; WeChat numbers are unique within `wx`."""
    order_no_chars: tuple[int, int] = (1, 64)
    required_extra: tuple[str, ...] = ()
    credential: CredentialShape = "form"
    expires_after_s: int = DAY_S
    expires_at_most_s: int = 15 * DAY_S
    same_answer_s: int = MINUTE_S
    """How long the same six elements give back the same charge (section 8)."""
    repeats_refused: bool = False
    """Whether a request after that window, or with other elements, is refused. If not, it makes a
    new charge."""
    new_charge_after_window: bool = False
    """Whether a request after the window makes a new charge, although one with other elements is
    refused (WeChat bar codes)."""
    pays_at_create: bool = False
    reversible: bool = False
    reversible_when_paid: bool = False
    reverse_window: ReverseWindow = "any"
    refund_within_s: int = 31 * DAY_S
    body_chars: int = 128
    subject_bytes: int | None = None


def _alipay(
    name: str, *extra: str, credential: CredentialShape, reversible: bool = False
) -> Channel:
    return Channel(
        name,
        "alipay",
        required_extra=extra,
        credential=credential,
        refund_within_s=92 * DAY_S,
        reversible=reversible,
    )


def _wx(name: str, *extra: str, credential: CredentialShape) -> Channel:
    crossborder = name.startswith("cb_")
    return Channel(
        name,
        "wx",
        order_no_chars=(1 if crossborder else 2, 32),
        required_extra=extra,
        credential=credential,
        expires_after_s=2 * HOUR_S,
        expires_at_most_s=7 * DAY_S,
        same_answer_s=5 * MINUTE_S if name == "wx_wap" else 2 * HOUR_S,
        repeats_refused=True,
        reversible=not crossborder,
        refund_within_s=365 * DAY_S,
    )


def _bar_code(channel: Channel, window: ReverseWindow) -> Channel:
    return replace(
        channel,
        credential="none",
        pays_at_create=True,
        reversible=True,
        reversible_when_paid=True,
        reverse_window=window,
    )


def _wx_bar_code(name: str, *extra: str) -> Channel:
    channel = _bar_code(_wx(name, "scan_code", *extra, credential="none"), "7_days")
    return replace(
        channel, order_no_chars=(1, 32), same_answer_s=MINUTE_S, new_charge_after_window=True
    )


def _upacp(name: str, *extra: str, credential: CredentialShape = "form") -> Channel:
    reversible = name in ("upacp", "upacp_pc", "upacp_wap", "upacp_scan")
    return Channel(
        name,
        "upacp",
        order_no_chars=(8, 40),
        required_extra=extra,
        credential=credential,
        expires_after_s=HOUR_S,
        expires_at_most_s=HOUR_S,
        reversible=reversible,
        reverse_window="unionpay_day",
        subject_bytes=32,
    )


def _isv(name: str, *extra: str, credential: CredentialShape, paid: bool = False) -> Channel:
    return Channel(
        name,
        "isv",
        order_no_chars=(8, 32),
        required_extra=("terminal_id", *extra),
        credential=credential,
        expires_after_s=DAY_S - MINUTE_S,
        expires_at_most_s=DAY_S,
        repeats_refused=name != "isv_wap",
        pays_at_create=paid,
        reversible=True,
        reversible_when_paid=True,
        reverse_window="same_day",
    )


def _other(
    name: str,
    *extra: str,
    most: int = 64,
    least: int = 1,
    credential: CredentialShape = "form",
    pays_at_create: bool = False,
    reversible: bool = False,
) -> Channel:
    return Channel(
        name,
        "other",
        order_no_chars=(least, most),
        required_extra=extra,
        credential=credential,
        pays_at_create=pays_at_create,
        reversible=reversible,
    )


_YEEPAY_EXTRA = (
    "product_category",
    "identity_id",
    "identity_type",
    "terminal_type",
    "terminal_id",
    "user_ua",
    "result_url",
)

_ALL = (
    # The Alipay app channel lost `reverse` on 2025-04-29; the web channels never had it.
    _alipay("alipay", credential="alipay_app"),
    _alipay("alipay_wap", "success_url", credential="alipay_form"),
    _alipay("alipay_pc_direct", "success_url", credential="alipay_form"),
    _alipay("alipay_qr", credential="link", reversible=True),
    _alipay("alipay_lite", credential="object", reversible=True),
    _bar_code(_alipay("alipay_scan", "scan_code", "terminal_id", credential="none"), "24_hours"),
    _alipay("cb_alipay", credential="alipay_app"),
    _alipay("cb_alipay_wap", credential="alipay_form"),
    _alipay("cb_alipay_pc_direct", credential="alipay_form"),
    _bar_code(_alipay("cb_alipay_scan", credential="none"), "24_hours"),
    _wx("wx", credential="wx_app"),
    _wx("wx_pub", "open_id", credential="wx_jsapi"),
    _wx("wx_lite", "open_id", credential="wx_jsapi"),
    _wx("wx_pub_qr", "product_id", credential="link"),
    _wx("wx_wap", credential="link"),
    _wx_bar_code("wx_pub_scan"),
    _wx("cb_wx", "goods_list", credential="wx_app"),
    _wx("cb_wx_pub", "open_id", "goods_list", credential="wx_jsapi"),
    _wx("cb_wx_pub_qr", "product_id", "goods_list", credential="link"),
    _wx_bar_code("cb_wx_pub_scan", "goods_list"),
    _upacp("upacp", credential="upacp_app"),
    _upacp("applepay_upacp", credential="upacp_app"),
    _upacp("upacp_wap", "result_url", credential="upacp_form"),
    _upacp("upacp_pc", "result_url", credential="upacp_form"),
    _upacp("cp_b2b", credential="upacp_form"),
    replace(_upacp("upacp_b2b"), expires_after_s=DAY_S, expires_at_most_s=DAY_S),
    replace(
        _upacp("upacp_qr", credential="link"), expires_after_s=DAY_S, expires_at_most_s=30 * DAY_S
    ),
    # No times are documented for this one, so it has the general ones.
    replace(
        _upacp("upacp_scan", credential="none"),
        expires_after_s=DAY_S,
        expires_at_most_s=15 * DAY_S,
        pays_at_create=True,
        reversible_when_paid=True,
    ),
    _isv("isv_scan", "scan_code", credential="none", paid=True),
    _isv("isv_qr", "pay_channel", credential="link"),
    _isv("isv_wap", "pay_channel", "result_url", credential="link"),
    # Only its name and its credential are known. The rest is as with the other isv channels.
    replace(
        _other("isv_lite", credential="link"),
        family="isv",
        expires_after_s=DAY_S - MINUTE_S,
        expires_at_most_s=DAY_S,
    ),
    _other("bfb", most=20),
    _other("bfb_wap", "result_url", "bfb_login", most=20),
    _other("jdpay_wap", "success_url", "fail_url", most=30),
    replace(_other("yeepay_wap", *_YEEPAY_EXTRA, most=50, reversible=True), body_chars=100),
    _other("qpay", "device", most=30, credential="object"),
    _other("qpay_pub", most=30, credential="object"),
    _other("cmb_wallet", "result_url", "p_no", "seq", "m_uid", "mobile", least=6, most=32),
    _other("paypal", most=32, credential="link"),
    _other("ccb_pay", most=30),
    _other("ccb_qr", most=30, credential="link"),
    _other("ccb_wap", most=30),
    _other("cmpay", most=50),
    _other("balance", "user", credential="none", pays_at_create=True),
)

CHANNELS: dict[str, Channel] = {channel.name: channel for channel in _ALL}
