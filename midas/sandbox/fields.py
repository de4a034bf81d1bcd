"""The parameters of a new charge, checked as pingpp.md sections 1.1, 2 and 7 say."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from midas.sandbox.channel_table import CHANNELS, MINUTE_S, Channel
from midas.sandbox.errors import ApiError, Json, invalid, missing, not_found, refused_by_channel

SUBJECT_CHARS = 32
DESCRIPTION_CHARS = 255
METADATA_PAIRS = 20
METADATA_CHARS = 1000
AMOUNT_MOST = 2**63 - 1
"""Ping++ documents no ceiling; this one only keeps absurd numbers out."""
EXTRA_URLS = ("success_url", "result_url", "fail_url", "cancel_url")


@dataclass(frozen=True, slots=True)
class Terms:
    """A create request that passed every check."""

    channel: Channel
    order_no: str
    amount: int
    currency: str
    subject: str
    body: str
    client_ip: str
    extra: Json
    time_expire: int
    metadata: Json
    description: str | None


def read_terms(request: Json, app_id: str, now: int) -> Terms:
    """The terms of a charge; raises `ApiError` naming the first parameter that is wrong."""
    check_app(request.get("app"), app_id)
    channel = CHANNELS.get(_text(request, "channel"))
    if channel is None:
        raise invalid(f"无效的支付渠道: {request['channel']}", "channel")
    order_no = _order_no(request, channel)
    return Terms(
        channel=channel,
        order_no=order_no,
        amount=positive_amount(request),
        currency=_currency(request),
        subject=_subject(request, channel),
        body=_limited(request, "body", channel.body_chars, channel),
        client_ip=_client_ip(request),
        extra=_extra(request, channel),
        time_expire=_time_expire(request, channel, now),
        metadata=metadata_of(request),
        description=description_of(request),
    )


def check_app(app: Any, app_id: str) -> None:
    """The `app[id]` of a request must be there and be ours."""
    sent = app.get("id") if isinstance(app, dict) else None
    if not isinstance(sent, str) or not sent:
        raise missing("app[id]")
    if sent != app_id:
        raise not_found("app", sent, "app[id]")


def positive_amount(request: Json) -> int:
    """`amount`: an integer above zero, in minor units."""
    amount = request.get("amount")
    if amount is None:
        raise missing("amount")
    if type(amount) is not int or not 0 < amount <= AMOUNT_MOST:
        raise invalid("amount 必须为大于 0 的整数", "amount")
    return amount


def metadata_of(request: Json) -> Json:
    """`metadata`: at most 20 flat pairs and 1000 characters."""
    metadata = request.get("metadata")
    if metadata is None or metadata == []:
        return {}
    if not isinstance(metadata, dict):
        raise invalid("metadata 必须为键值对", "metadata")
    if len(metadata) > METADATA_PAIRS:
        raise invalid(f"metadata 最多 {METADATA_PAIRS} 个键值对", "metadata")
    if any(isinstance(value, dict | list) for value in metadata.values()):
        raise invalid("metadata 不能嵌套", "metadata")
    if sum(len(key) + len(str(value)) for key, value in metadata.items()) > METADATA_CHARS:
        raise invalid(f"metadata 总长度不能超过 {METADATA_CHARS} 个字符", "metadata")
    return metadata


def description_of(request: Json) -> str | None:
    """`description`: at most 255 characters, or None."""
    description = request.get("description")
    if description is None:
        return None
    if not isinstance(description, str) or len(description) > DESCRIPTION_CHARS:
        raise invalid(f"description 最多 {DESCRIPTION_CHARS} 个字符", "description")
    return description


def _text(request: Json, name: str) -> str:
    value = request.get(name)
    if value is None or value == "":
        raise missing(name)
    if not isinstance(value, str):
        raise invalid(f"{name} 必须为字符串", name)
    return value


def _order_no(request: Json, channel: Channel) -> str:
    order_no = _text(request, "order_no")
    least, most = channel.order_no_chars
    if not re.fullmatch(rf"[A-Za-z0-9]{{{least},{most}}}", order_no):
        text = f"渠道 {channel.name} 的 order_no 必须为 {least}-{most} 位的字母或数字"
        raise invalid(text, "order_no")
    return order_no


def _currency(request: Json) -> str:
    currency = _text(request, "currency")
    if not re.fullmatch("[a-z]{3}", currency):
        raise invalid("currency 必须为三位小写字母的货币代码", "currency")
    return currency


def _limited(request: Json, name: str, most: int, channel: Channel) -> str:
    value = _text(request, name)
    if len(value) > most:
        raise invalid(f"{name} 最多 {most} 个字符", name)
    if channel.family == "wx" and any(ord(char) > 0xFFFF for char in value):
        raise _not_utf8(channel)
    return value


def _not_utf8(channel: Channel) -> ApiError:
    reason = "请求内容传入了非UTF8参数"
    return refused_by_channel(
        f"The request for channel was unsuccessful. Error message from channel {channel.name}: "
        f"{reason}",
        "channel_request_error",
    )


def _subject(request: Json, channel: Channel) -> str:
    subject = _limited(request, "subject", SUBJECT_CHARS, channel)
    if channel.subject_bytes is not None and len(subject.encode()) > channel.subject_bytes:
        raise invalid(f"subject 最多 {channel.subject_bytes} 个字节", "subject")
    return subject


def _client_ip(request: Json) -> str:
    client_ip = _text(request, "client_ip")
    try:
        ipaddress.ip_address(client_ip)
    except ValueError:
        raise invalid("client_ip 必须为有效的 IP 地址", "client_ip") from None
    return client_ip


def _extra(request: Json, channel: Channel) -> Json:
    extra = request.get("extra")
    if extra is None or extra == []:
        extra = {}
    if not isinstance(extra, dict):
        raise invalid("extra 必须为键值对", "extra")
    for name in channel.required_extra:
        if extra.get(name) in (None, ""):
            raise missing(f"extra[{name}]")
    for name in EXTRA_URLS:
        if name in extra:
            _check_url(extra[name], name)
    product_id = extra.get("product_id", "1")
    if not isinstance(product_id, str) or not 1 <= len(product_id) <= 32:
        raise invalid("extra[product_id] 必须为 1-32 位的字符串", "extra[product_id]")
    return extra


def _check_url(url: Any, name: str) -> None:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise invalid(f"extra[{name}] 必须为有效的 URL", f"extra[{name}]")
    if parts.hostname == "localhost":
        raise invalid(f"extra[{name}] 不能使用 localhost", f"extra[{name}]")


def _time_expire(request: Json, channel: Channel, now: int) -> int:
    time_expire = request.get("time_expire")
    if time_expire is None:
        return now + channel.expires_after_s
    if type(time_expire) is not int:
        raise invalid("time_expire 必须为 Unix 时间戳", "time_expire")
    if not now + MINUTE_S <= time_expire <= now + channel.expires_at_most_s:
        text = f"渠道 {channel.name} 的 time_expire 超出允许的范围"
        raise invalid(text, "time_expire")
    return time_expire
