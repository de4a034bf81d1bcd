"""Webhook bodies → events (pingpp.md section 4).

A type that Midas is to handle gets a line in `READERS`: how its object is read as a subject. A new
kind of subject gets a class in `midas/event.py` and a handler in `midas/flows/event_handlers.py`.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress

from midas.event import ChargeInEvent, PspEvent, RefundInEvent, Subject
from midas.limits import EVENT_ID_CHARACTERS
from midas.out_trade_no import made_at
from midas.psp import strict_json
from midas.psp.facts import charge_facts, refund_facts
from midas.psp.strict_json import Json, Unreadable

TYPE_CHARACTERS = 64


def read_event(body: bytes) -> PspEvent:
    """The event in this body. Raises Unreadable if it is no event.

    If the event can be read, but not the object inside, it has no subject.
    """
    data = strict_json.parse_object(strict_json.decode(body))
    if data.get("object") != "event":
        raise Unreadable("not_an_event")
    kind = _word(data, "type", TYPE_CHARACTERS)
    read = READERS.get(kind)
    event_id = _word(data, "id", EVENT_ID_CHARACTERS)
    livemode = _livemode(data)
    handled, subject = read is not None, None
    if read is not None:
        with suppress(Unreadable):
            subject = read(_object(data))
            handled = subject is not None
    return PspEvent(event_id, kind, livemode, handled, subject)


def is_same_event(one: bytes, other: bytes) -> bool:
    """Whether two bodies differ in nothing but the number of webhooks that are still to be sent."""
    try:
        bodies = [strict_json.parse_object(strict_json.decode(each)) for each in (one, other)]
    except Unreadable:
        return False
    for each in bodies:
        each.pop("pending_webhooks", None)
    return bodies[0] == bodies[1]


def _charge(data: Json) -> ChargeInEvent:
    # The charge's own text is not at hand here, so there is nothing to give to a client SDK.
    return ChargeInEvent(charge_facts(data, raw=""))


def _charge_of_order(data: Json) -> ChargeInEvent | None:
    """The paid charge of an order of Ping++'s own: the order names it and holds it.

    Midas makes no such orders; other systems with the same app do. So what does not show a paid
    charge is no news for Midas (None). A charge that cannot be read raises Unreadable only if its
    number is one that Midas makes.
    """
    paying, charges = data.get("charge"), data.get("charges")
    listed = charges.get("data") if isinstance(charges, dict) else None
    if not isinstance(paying, str) or not isinstance(listed, list):
        return None
    for each in listed:
        if isinstance(each, dict) and each.get("id") == paying and each.get("paid") is True:
            try:
                return _charge(each)
            except Unreadable:
                number = each.get("order_no")
                if isinstance(number, str) and made_at(number) is not None:
                    raise
    return None


def _refund(data: Json) -> RefundInEvent:
    number = data.get("charge_order_no")
    known = isinstance(number, str) and number.isprintable()
    return RefundInEvent(refund_facts(data), number if isinstance(number, str) and known else "")


READERS: Mapping[str, Callable[[Json], Subject | None]] = {
    "charge.succeeded": _charge,
    "charge.failed": _charge,
    "order.succeeded": _charge_of_order,
    "refund.succeeded": _refund,
    "refund.failed": _refund,
}
"""The types that Midas handles, and how their object is read.

A reader may raise Unreadable. It returns None for an event about nothing that Midas knows."""


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
