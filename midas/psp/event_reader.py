"""Webhook bodies → events (pingpp.md section 4).

A type that Midas is to handle is added in `READERS`; what it means is the flows' business.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from midas.event import PspEvent
from midas.limits import EVENT_ID_CHARACTERS
from midas.psp import strict_json
from midas.psp.facts import charge_facts, refund_facts
from midas.psp.strict_json import Json, Unreadable

TYPE_CHARACTERS = 64


def read_event(body: bytes) -> PspEvent:
    """The event. Raises Unreadable if the body is none.

    An object that cannot be read inside of an event that can leaves `charge` and `refund` empty.
    """
    data = strict_json.parse_object(strict_json.decode(body))
    if data.get("object") != "event":
        raise Unreadable("not_an_event")
    kind = _word(data, "type", TYPE_CHARACTERS)
    read = READERS.get(kind)
    event_id = _word(data, "id", EVENT_ID_CHARACTERS)
    livemode = _livemode(data)
    inside: Mapping[str, Any] = {}
    if read is not None:
        with suppress(Unreadable):
            inside = read(_object(data))
    return PspEvent(event_id, kind, livemode, handled=read is not None, **inside)


def is_same_event(one: bytes, other: bytes) -> bool:
    """Whether two bodies differ in nothing but the number of webhooks that are still to be sent."""
    try:
        told = [strict_json.parse_object(strict_json.decode(each)) for each in (one, other)]
    except Unreadable:
        return False
    for each in told:
        each.pop("pending_webhooks", None)
    return told[0] == told[1]


def _charge(data: Json) -> Mapping[str, Any]:
    # The charge's own text is not at hand here, so it is nothing to give to a client SDK.
    facts = charge_facts(data, raw="")
    return {
        "charge": facts,
        "out_trade_no": facts.out_trade_no,
        "charge_id": facts.charge_id,
    }


def _refund(data: Json) -> Mapping[str, Any]:
    facts = refund_facts(data)
    number = data.get("charge_order_no")
    known = isinstance(number, str) and number.isprintable()
    return {
        "refund": facts,
        "out_trade_no": number if known else "",
        "charge_id": facts.charge_id,
    }


READERS: Mapping[str, Callable[[Json], Mapping[str, Any]]] = {
    "charge.succeeded": _charge,
    "charge.failed": _charge,
    "refund.succeeded": _refund,
    "refund.failed": _refund,
}
"""The types that Midas handles, and how their object is read."""


def _object(data: Json) -> Json:
    inside = data.get("data")
    found = inside.get("object") if isinstance(inside, dict) else None
    if not isinstance(found, dict):
        raise Unreadable("data.object")
    return found


def _word(data: Json, name: str, longest: int) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest or not value.isascii():
        raise Unreadable(name)
    if not value.isprintable():
        raise Unreadable(name)
    return value


def _livemode(data: Json) -> bool:
    value = data.get("livemode")
    if not isinstance(value, bool):
        raise Unreadable("livemode")
    return value
