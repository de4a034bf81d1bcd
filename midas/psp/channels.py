"""The channels as data (pingpp.md sections 2, 3, 7, 8 and 9). `channel_rules.py` applies it.

A channel that the documentation names without its `extra` has the common rules only. A name that is
not documented is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum


class Kind(Enum):
    """The shape of a value in `extra`."""

    TEXT = "a text"
    DIGITS = "digits"
    INTEGER = "a whole number"
    BOOLEAN = "true or false"
    URL = "a URL"
    LIST = "a list"


@dataclass(frozen=True, slots=True)
class Extra:
    """One field of `extra`: its shape, its bounds in characters, the values it may have."""

    name: str
    kind: Kind = Kind.TEXT
    required: bool = False
    characters: int | None = None
    choices: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Channel:
    """What Ping++ documents of one channel."""

    name: str
    extra: tuple[Extra, ...] = ()
    order_no_characters: tuple[int, int] = (8, 20)
    """The fewest and the most. The default is Ping++'s recommendation, which fits everywhere."""
    subject_bytes: bool = False
    """Whether bytes of the subject are counted, as UnionPay does. Others count characters."""
    body_characters: int = 128
    currencies: tuple[str, ...] = ("cny",)
    """The currencies that it takes. Empty: any."""
    expiry_max: timedelta = timedelta(days=15)
    repost_window: timedelta = timedelta(minutes=1)
    """How long identical terms give back the same charge. 0: a repetition could pay twice."""
    reversible: bool = False
    pays_at_create: bool = False
    funding_source: bool = False
    """Whether a refund may name the balance that pays."""
    bmp_only: bool = False
    """Whether it refuses characters outside of the basic plane, such as emoji, as WeChat does."""
    payer_ip: bool = False
    """Whether `client_ip` must be the payer's real one."""

    @property
    def gives_back(self) -> bool:
        """Whether a paid charge can be reversed, too (pingpp.md section 9)."""
        return self.reversible and ("_scan" in self.name or self.name.startswith("isv_"))


def find(name: str) -> Channel | None:
    """The channel, or None if the documentation does not name it."""
    known = CHANNELS.get(name)
    if known is None and _NAMED_ONLY.fullmatch(name):
        # An undocumented bar code takes the money at once, as all others do (P5).
        at_once = "_scan" in name
        window = timedelta(0) if at_once else timedelta(minutes=1)
        return Channel(
            name,
            repost_window=window,
            pays_at_create=at_once,
            reversible=name.startswith("yeepay_"),
        )
    return known


_NAMED_ONLY = re.compile(
    r"(?:abc|chinaums|yeepay_wx|nucc)_[a-z0-9_]{1,24}|[a-z0-9][a-z0-9_]{0,24}_(?:lakala|pab)"
)


def _text(name: str, characters: int | None = None) -> Extra:
    return Extra(name, required=True, characters=characters)


def _url(name: str) -> Extra:
    return Extra(name, Kind.URL, required=True)


def _optional(name: str, kind: Kind = Kind.TEXT, characters: int | None = None) -> Extra:
    return Extra(name, kind, characters=characters)


_LIMIT_PAY = Extra("limit_pay", choices=("no_credit",))
_WX_EXTRA = (_LIMIT_PAY, _optional("goods_tag"))
_SCAN_CODE = _text("scan_code")
_OPEN_ID = _text("open_id")
_PRODUCT_ID = _text("product_id", 32)
_GOODS = Extra("goods_list", Kind.LIST, required=True)
_OPTIONAL_GOODS = Extra("goods_list", Kind.LIST)
_ISV_GOODS = Extra("goods_list", Kind.LIST, characters=8000)
_ISV_TERMINAL = _text("terminal_id", 8)
_PAY_CHANNEL = Extra("pay_channel", required=True, choices=("alipay", "wx", "bfb"))
_SPLIT = (_optional("payment_type"), Extra("split_fund_info", Kind.LIST))

_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_WX_WINDOW = timedelta(hours=2)
_NEVER = timedelta(0)

_ALIPAY = Channel("alipay", order_no_characters=(1, 64))
_WX = Channel(
    "wx",
    extra=_WX_EXTRA,
    order_no_characters=(2, 32),
    expiry_max=timedelta(days=7),
    repost_window=_WX_WINDOW,
    reversible=True,
    funding_source=True,
    bmp_only=True,
)
_CB_WX = replace(
    _WX,
    extra=(_GOODS, _LIMIT_PAY),
    order_no_characters=(1, 32),
    currencies=(),
    reversible=False,
)
_CB_ALIPAY = replace(_ALIPAY, extra=_SPLIT, currencies=())
_UPACP = Channel(
    "upacp", order_no_characters=(8, 40), subject_bytes=True, expiry_max=_HOUR, reversible=True
)
_ISV = Channel("isv_qr", order_no_characters=(8, 32), expiry_max=_DAY, reversible=True)
_BFB = Channel("bfb", order_no_characters=(1, 20))


def _scan(channel: Channel, name: str, *extra: Extra, reversible: bool = True) -> Channel:
    """A channel whose create call takes the money. That call is never repeated."""
    return replace(
        channel,
        name=name,
        extra=extra,
        reversible=reversible,
        pays_at_create=True,
        repost_window=_NEVER,
    )


_ALIPAY_SCAN_EXTRA = (
    _SCAN_CODE,
    _text("terminal_id"),
    _OPTIONAL_GOODS,
    _optional("operator_id"),
    _optional("store_id"),
    _optional("sys_service_provider_id"),
)

_ALIPAY_CHANNELS = (
    # The app channel was taken from the list of those that can be reversed on 2025-04-29.
    replace(
        _ALIPAY,
        extra=(_optional("extern_token", characters=32), Extra("rn_check", choices=("T", "F"))),
    ),
    replace(
        _ALIPAY,
        name="alipay_wap",
        extra=(
            _url("success_url"),
            _optional("cancel_url", Kind.URL),
            _optional("new_version", Kind.BOOLEAN),
            _optional("app_pay", Kind.BOOLEAN),
        ),
    ),
    replace(_ALIPAY, name="alipay_pc_direct", extra=(_url("success_url"),)),
    replace(_ALIPAY, name="alipay_qr", reversible=True),
    replace(_ALIPAY, name="alipay_lite", reversible=True),
    _scan(_ALIPAY, "alipay_scan", *_ALIPAY_SCAN_EXTRA),
    replace(_CB_ALIPAY, name="cb_alipay"),
    replace(_CB_ALIPAY, name="cb_alipay_wap"),
    replace(_CB_ALIPAY, name="cb_alipay_pc_direct"),
    _scan(_CB_ALIPAY, "cb_alipay_scan", *_SPLIT),
)

_WX_CHANNELS = (
    _WX,
    replace(_WX, name="wx_pub", extra=(_OPEN_ID, *_WX_EXTRA)),
    replace(_WX, name="wx_lite", extra=(_OPEN_ID, *_WX_EXTRA)),
    replace(_WX, name="wx_pub_qr", extra=(_PRODUCT_ID, *_WX_EXTRA)),
    replace(
        _WX,
        name="wx_wap",
        extra=(_optional("result_url", Kind.URL), *_WX_EXTRA),
        repost_window=timedelta(minutes=5),
        payer_ip=True,
    ),
    replace(
        _scan(_WX, "wx_pub_scan", _SCAN_CODE, _optional("terminal_id"), *_WX_EXTRA),
        order_no_characters=(1, 32),
    ),
    replace(_CB_WX, name="cb_wx"),
    replace(_CB_WX, name="cb_wx_pub", extra=(_OPEN_ID, *_CB_WX.extra)),
    replace(_CB_WX, name="cb_wx_pub_qr", extra=(_PRODUCT_ID, *_CB_WX.extra)),
    _scan(_CB_WX, "cb_wx_pub_scan", _SCAN_CODE, _optional("terminal_id"), *_CB_WX.extra),
)

_UNIONPAY_CHANNELS = (
    _UPACP,
    replace(_UPACP, name="upacp_wap", extra=(_url("result_url"),)),
    replace(_UPACP, name="upacp_pc", extra=(_url("result_url"),)),
    replace(_UPACP, name="upacp_qr", expiry_max=30 * _DAY, reversible=False),
    replace(_UPACP, name="upacp_b2b", expiry_max=_DAY, reversible=False),
    replace(_UPACP, name="applepay_upacp", reversible=False),
    replace(_UPACP, name="cp_b2b", reversible=False),
    _scan(replace(_UPACP, expiry_max=15 * _DAY), "upacp_scan"),
)

_ISV_CHANNELS = (
    replace(_ISV, extra=(_ISV_TERMINAL, _PAY_CHANNEL, _ISV_GOODS)),
    replace(
        _ISV, name="isv_wap", extra=(_ISV_TERMINAL, _PAY_CHANNEL, _url("result_url"), _ISV_GOODS)
    ),
    _scan(_ISV, "isv_scan", _SCAN_CODE, _ISV_TERMINAL, _ISV_GOODS),
    Channel("isv_lite", currencies=("cny", "hkd"), expiry_max=_DAY),
)

_JDPAY_EXTRA = (
    _url("success_url"),
    _url("fail_url"),
    _optional("token", characters=32),
    Extra("order_type", choices=(0, 1, "0", "1")),
    Extra("user_type", choices=("BIZ",)),
)
_YEEPAY_EXTRA = (
    _text("product_category"),
    _text("identity_id", 50),
    Extra("identity_type", Kind.INTEGER, required=True),
    Extra("terminal_type", Kind.INTEGER, required=True, choices=(0, 1, 2, 3)),
    _text("terminal_id"),
    _text("user_ua"),
    _url("result_url"),
)
_CMB_EXTRA = (
    _url("result_url"),
    Extra("p_no", Kind.DIGITS, required=True, characters=30),
    _text("seq", 20),
    _text("m_uid", 20),
    Extra("mobile", Kind.DIGITS, required=True, characters=11),
)

_OTHER_CHANNELS = (
    _BFB,
    replace(
        _BFB,
        name="bfb_wap",
        extra=(_url("result_url"), Extra("bfb_login", Kind.BOOLEAN, required=True)),
    ),
    Channel("jdpay_wap", extra=_JDPAY_EXTRA, order_no_characters=(1, 30)),
    Channel(
        "yeepay_wap",
        extra=_YEEPAY_EXTRA,
        order_no_characters=(1, 50),
        body_characters=100,
        reversible=True,
    ),
    Channel(
        "qpay",
        extra=(Extra("device", required=True, choices=("ios", "android")),),
        order_no_characters=(1, 30),
        funding_source=True,
    ),
    Channel("qpay_pub", order_no_characters=(1, 30), funding_source=True),
    Channel("cmb_wallet", extra=_CMB_EXTRA, order_no_characters=(6, 32)),
    Channel("balance", extra=(_text("user"),), pays_at_create=True, repost_window=_NEVER),
    Channel("fqlpay_wap", extra=(_text("c_merch_id"), _optional("return_url", Kind.URL))),
    Channel("qgbc_wap", extra=(_text("phone"), _optional("return_url", Kind.URL))),
    Channel("mmdpay_wap", extra=(_text("phone"), _text("id_no"), _text("name"))),
    Channel("cnp_u", extra=(_text("source"),)),
    Channel("cnp_f", extra=(_text("source"),)),
    Channel("paypal", order_no_characters=(1, 32), currencies=()),
    Channel("coolcredit", order_no_characters=(1, 32)),
    Channel("ccb_pay", order_no_characters=(1, 30)),
    Channel("ccb_qr", order_no_characters=(1, 30)),
    Channel("ccb_wap"),
    Channel("cmpay", order_no_characters=(1, 50)),
)

CHANNELS: Mapping[str, Channel] = {
    channel.name: channel
    for channel in (
        *_ALIPAY_CHANNELS,
        *_WX_CHANNELS,
        *_UNIONPAY_CHANNELS,
        *_ISV_CHANNELS,
        *_OTHER_CHANNELS,
    )
}
"""Every channel that is documented with its own name."""
