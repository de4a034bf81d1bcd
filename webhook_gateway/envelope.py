"""Reading an event of Ping++, after its signature was found valid: one meaning or none.

What a lenient parser would guess at is Unreadable here: text that is not UTF-8, a byte order mark,
duplicate keys, NaN and Infinity, numbers beyond any use, halves of surrogate pairs, deep nesting.
"""

import json
import math
import re
from typing import Any, NamedTuple, NoReturn

import orjson

DEPTH = 32
"""How deep a body may nest. An event of Ping++ nests about eight deep."""
NUMBER_CHARACTERS = 32
NAME_CHARACTERS = 64
"""The most characters of an id or a type. Ping++'s ids have 28."""

OTHER = "other"
KNOWN_TYPES = frozenset(
    {
        "charge.succeeded", "charge.failed",
        "refund.succeeded", "refund.failed", "batch_refund.succeeded",
        "order.succeeded", "order.refunded",
        "recharge.succeeded", "recharge.refund.succeeded",
        "transfer.succeeded", "transfer.failed",
        "batch_transfer.succeeded", "batch_transfer.failed",
        "red_envelope.sent", "red_envelope.received",
        "customs.succeeded", "agreement.succeeded",
        "balance.withdrawal.succeeded", "balance.withdrawal.failed",
        "batch_withdrawal.succeeded", "batch_withdrawal.failed",
        "batch_withdrawal.partially_succeeded", "batch_withdrawal.canceled",
        "royalty_settlement.succeeded", "royalty_settlement.partially_succeeded",
        "royalty_settlement.failed", "royalty_settlement.canceled",
        "summary.daily.available", "summary.weekly.available", "summary.monthly.available",
        "account.summary.available",
    }
)  # fmt: skip
"""The types that Ping++ names (pingpp.md 4). Only these may be labels of a metric."""


class Unreadable(Exception):
    """A body without one clear meaning. `reason` is a constant, never its content."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Event(NamedTuple):
    """What the log and the metrics have of an event. Midas reads the body itself."""

    event_id: str
    type: str

    @property
    def label(self) -> str:
        """The type, or `other`: one of a fixed set."""
        return self.type if self.type in KNOWN_TYPES else OTHER


def read(body: bytes) -> Event:
    """The event that this body is. Raises Unreadable, and nothing else for any bytes."""
    value = _plain(body) or _strict(body)
    return Event(_name(value, "id", "no_event_id"), _name(value, "type", "no_event_type"))


def _plain(body: bytes) -> dict[str, Any] | None:
    """The object, if orjson would write it just like this; None proves nothing about the body.

    A body that comes back the same, byte for byte, has one meaning: a duplicate key, a rounded
    number or an escape would not come back. Ping++ writes its events like this, and this way takes
    a third of the time.
    """
    if body.count(b"{") + body.count(b"[") > DEPTH:
        return None
    try:
        value = orjson.loads(body)
        if type(value) is dict and orjson.dumps(value) == body:
            return value
    except (ValueError, TypeError):
        pass
    return None


def _strict(body: bytes) -> dict[str, Any]:
    """The object, however it is written. Raises Unreadable."""
    value = _parse(_text(body))
    if type(value) is not dict:
        raise Unreadable("not_an_object")
    if _HALF.search(body):
        _check_surrogates(value)
    return value


def _text(body: bytes) -> str:
    if body.startswith(b"\xef\xbb\xbf"):
        raise Unreadable("byte_order_mark")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("not_utf8") from None
    if text.count("{") + text.count("[") > DEPTH and _depth(text) > DEPTH:
        raise Unreadable("too_deep")
    return text


def _parse(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise Unreadable("not_json") from None


def _depth(text: str) -> int:
    """How deep brackets nest outside strings. For a text that is no JSON it can be any number."""
    depth = deepest = 0
    for found in _BRACKETS.finditer(text):
        bracket = found[0]
        if bracket in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in "}]":
            depth -= 1
    return deepest


def _check_surrogates(value: Any) -> None:
    """Raise Unreadable for an escape that stands for no character: no text could hold it."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise Unreadable("lone_surrogate") from None


def _name(value: dict[str, Any], key: str, reason: str) -> str:
    name = value.get(key)
    if type(name) is not str or len(name) > NAME_CHARACTERS or not _NAME.fullmatch(name):
        raise Unreadable(reason)
    return name


_NAME = re.compile(r"[!-~]+")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[{}\[\]]', re.DOTALL)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise Unreadable("duplicate_key")
    return made


def _integer(digits: str) -> int:
    if len(digits) > NUMBER_CHARACTERS:
        raise Unreadable("number_too_long")
    return int(digits)


def _fraction(digits: str) -> float:
    if len(digits) > NUMBER_CHARACTERS:
        raise Unreadable("number_too_long")
    number = float(digits)
    if math.isinf(number):
        raise Unreadable("number_too_large")
    return number


def _refuse(_constant: str) -> NoReturn:
    raise Unreadable("not_a_number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_integer,
    parse_float=_fraction,
    parse_constant=_refuse,
)
