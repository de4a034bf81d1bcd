"""Ping++'s own rules for a charge and a refund, applied before anything is sent.

What no channel accepts, such as an amount of 0, is refused by `flows/terms.py` before. Here are the
rules that need the channel, the mode, or what Midas adds to a request. All violations are listed at
once, each with the path of its field. The rules and their numbers are those of pingpp.md sections
2, 3 and 7, as far as they are documented there.
"""

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from midas.charge import ChargeTerms
from midas.errors import FieldViolation
from midas.limits import METADATA_CHARACTERS, METADATA_PAIRS
from midas.psp.channels import Channel, Extra, Kind, find
from midas.refund import REFUND_NO_KEY, Refund

SUBJECT_SIZE = 32
EXPIRY_MIN_S = 60
_TEST_KEY = "pingpp_tc"
_RESERVED_KEYS = frozenset({"phone_number", "user_id"})
_RESERVED_LIVE = _RESERVED_KEYS | {_TEST_KEY}
_LOCALHOST = "localhost"


def charge_violations(terms: ChargeTerms, *, livemode: bool) -> tuple[FieldViolation, ...]:
    """What Ping++ would not accept of these terms."""
    channel = find(terms.channel)
    if channel is None:
        unknown = FieldViolation("channel", "Ping++ documents no channel of this name")
        channel = Channel(terms.channel, currencies=())
        return (unknown, *_charge_rules(channel, terms, livemode))
    return tuple(_charge_rules(channel, terms, livemode))


def refund_violations(
    channel: str, refund: Refund, *, livemode: bool
) -> tuple[FieldViolation, ...]:
    """What Ping++ would not accept of this refund."""
    return tuple(_refund_rules(channel, refund, livemode))


def _charge_rules(channel: Channel, terms: ChargeTerms, live: bool) -> list[FieldViolation]:
    """Fields that are clearly right skip their rules: this runs for every charge."""
    found: list[FieldViolation] = []
    if terms.currency not in channel.currencies:
        found += _currency(channel, terms.currency)
    if not _is_short_ascii(terms.subject, SUBJECT_SIZE):
        found += _subject(channel, terms.subject)
    if not _is_short_ascii(terms.body, channel.body_characters):
        found += _body(channel, terms.body)
    if channel.payer_ip or not _IPV4.fullmatch(terms.client_ip):
        found += _client_ip(channel, terms.client_ip)
    if channel.extra:
        found += _extra(channel, terms.extra)
    if terms.metadata:
        found += _metadata(terms.metadata, live)
    if terms.expires_in is not None:
        found += _expiry(channel, terms)
    return found


def _is_short_ascii(text: str, most: int) -> bool:
    """Whether the text is ASCII (its characters are bytes), and neither empty nor too long."""
    return 0 < len(text) <= most and text.isascii()


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


def _refund_rules(channel: str, refund: Refund, live: bool) -> Iterator[FieldViolation]:
    known = find(channel)
    if refund.funding_source is not None and (known is None or not known.funding_source):
        yield FieldViolation("funding_source", "only WeChat and QQ refunds can name the balance")
    sent = {**refund.metadata, REFUND_NO_KEY: refund.refund_no}
    yield from _metadata(sent, live, "with the refund_no that is sent beside it")


def _currency(channel: Channel, currency: str) -> Iterator[FieldViolation]:
    if channel.currencies and currency not in channel.currencies:
        allowed = " or ".join(channel.currencies)
        yield FieldViolation("currency", f"{channel.name} takes {allowed}")


def _subject(channel: Channel, subject: str) -> Iterator[FieldViolation]:
    size = len(subject.encode("utf-8", "replace")) if channel.subject_bytes else len(subject)
    unit = "bytes in UTF-8" if channel.subject_bytes else "characters"
    if not subject:
        yield FieldViolation("subject", "Ping++ requires one")
    if size > SUBJECT_SIZE:
        yield FieldViolation("subject", f"at most {SUBJECT_SIZE} {unit} on {channel.name}")
    yield from _plane(channel, "subject", subject)


def _body(channel: Channel, body: str) -> Iterator[FieldViolation]:
    if not body:
        yield FieldViolation("body", "Ping++ requires one")
    if len(body) > channel.body_characters:
        limit = f"at most {channel.body_characters} characters on {channel.name}"
        yield FieldViolation("body", limit)
    yield from _plane(channel, "body", body)


def _plane(channel: Channel, name: str, text: str) -> Iterator[FieldViolation]:
    if channel.bmp_only and not text.isascii() and max(text) > "\uffff":
        yield FieldViolation(name, "WeChat refuses emoji and other characters beyond U+FFFF")


def _client_ip(channel: Channel, text: str) -> Iterator[FieldViolation]:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        yield FieldViolation("client_ip", "an IPv4 or IPv6 address, such as 203.0.113.7")
        return
    if "%" in text:
        yield FieldViolation("client_ip", "an address without a zone")
    if channel.payer_ip and (address.is_loopback or address.is_unspecified):
        yield FieldViolation("client_ip", f"{channel.name} needs the payer's real address")


def _extra(channel: Channel, extra: Mapping[str, Any]) -> Iterator[FieldViolation]:
    for rule in channel.extra:
        value = extra.get(rule.name)
        path = f"extra.{rule.name}"
        if value is None or value == "":
            if rule.required:
                yield FieldViolation(path, f"{channel.name} requires {rule.kind.value}")
        else:
            yield from _extra_value(path, rule, value)


def _extra_value(path: str, rule: Extra, value: Any) -> Iterator[FieldViolation]:
    if not _fits(rule, value):
        yield FieldViolation(path, f"must be {rule.kind.value}")
    elif rule.choices and value not in rule.choices:
        yield FieldViolation(path, "one of " + ", ".join(str(choice) for choice in rule.choices))
    elif rule.characters is not None and _size(value) > rule.characters:
        yield FieldViolation(path, f"at most {rule.characters} characters")
    elif rule.kind is Kind.URL:
        yield from _callback(path, value)


def _fits(rule: Extra, value: Any) -> bool:
    if rule.choices:
        return not isinstance(value, bool)
    match rule.kind:
        case Kind.TEXT | Kind.URL:
            return isinstance(value, str)
        case Kind.DIGITS:
            return isinstance(value, str) and value.isascii() and value.isdigit()
        case Kind.INTEGER:
            return type(value) is int
        case Kind.BOOLEAN:
            return isinstance(value, bool)
        case Kind.LIST:
            return isinstance(value, list | tuple) and len(value) > 0


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str) else len(json.dumps(value, ensure_ascii=False))


def _callback(path: str, url: str) -> Iterator[FieldViolation]:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host:
        yield FieldViolation(path, "a whole URL, such as https://example.com/paid")
        return
    if host == _LOCALHOST:
        yield FieldViolation(path, "Ping++ refuses localhost; use 127.0.0.1")
    if "?" in url:
        yield FieldViolation(path, "no query string: channels may refuse it; use the path")


def _metadata(
    metadata: Mapping[str, str], live: bool, beside: str = ""
) -> Iterator[FieldViolation]:
    suffix = f", {beside}" if beside else ""
    if len(metadata) > METADATA_PAIRS:
        yield FieldViolation("metadata", f"at most {METADATA_PAIRS} pairs{suffix}")
    if sum(map(len, metadata)) + sum(map(len, metadata.values())) > METADATA_CHARACTERS:
        yield FieldViolation("metadata", f"at most {METADATA_CHARACTERS} characters{suffix}")
    for key in sorted((_RESERVED_LIVE if live else _RESERVED_KEYS) & metadata.keys()):
        yield FieldViolation("metadata", f"Ping++ reserves the key {key}")


def _expiry(channel: Channel, terms: ChargeTerms) -> Iterator[FieldViolation]:
    if terms.expires_in is None:
        return
    if terms.expires_in.total_seconds() < EXPIRY_MIN_S:
        yield FieldViolation("expires_in", f"at least {EXPIRY_MIN_S} seconds")
    if terms.expires_in > channel.expiry_max:
        hours = channel.expiry_max.total_seconds() / 3600
        yield FieldViolation("expires_in", f"at most {hours:g} hours on {channel.name}")
