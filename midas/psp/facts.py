"""Ping++'s JSON → facts of charges and refunds (pingpp.md sections 2 and 3).

The reading is lenient about fields that may come and go, and strict about those that decide over
money. If one of the latter is missing or misshapen, the whole object is Unreadable, which never
counts as an answer.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from midas.charge import ChargeFacts
from midas.limits import REFUND_NO_CHARACTERS
from midas.ports import ChargePage, RefundPage
from midas.psp.codes import MEANINGS, Meaning
from midas.psp.strict_json import Json, Unreadable, parse_list, parse_object
from midas.refund import REFUND_NO_KEY, RefundFacts, RefundReport

_ID_CHARACTERS = REFUND_NO_CHARACTERS
"""The longest id. A refund that was made elsewhere is booked under its id, so no id may be longer
than a key. Ping++'s ids have 27 (pingpp.md sections 2 and 3)."""
_MESSAGE_CHARACTERS = 1000
_LINK_CHARACTERS = 4096
_AMOUNT_END = 2**63
_TIME_END = 4_102_444_800
"""Unix seconds of the year 2100. A later time cannot be read, so no sum of times overflows."""


def read_charge(text: str) -> ChargeFacts:
    """The charge in an answer. Raises Unreadable."""
    return charge_facts(parse_object(text), text)


def read_refund(text: str) -> RefundFacts:
    """The refund in an answer. Raises Unreadable."""
    return refund_facts(parse_object(text))


def read_charge_page(text: str) -> ChargePage:
    """A list of charges, each with its own text. Raises Unreadable.

    A row without a readable id and number makes the page unreadable: it might be the wanted one.
    """
    envelope, items = parse_list(text)
    charges: list[ChargeFacts] = []
    unread: list[str] = []
    last_id = ""
    for item, raw in items:
        last_id = _id(item, "id")
        try:
            charges.append(charge_facts(item, raw))
        except Unreadable:
            unread.append(_id(item, "order_no"))
    return ChargePage(tuple(charges), _more(envelope), tuple(unread), last_id)


def read_refund_page(text: str) -> RefundPage:
    """A list of refunds. Raises Unreadable."""
    envelope, items = parse_list(text)
    return RefundPage(tuple(refund_facts(item) for item, _ in items), _more(envelope))


def charge_facts(data: Mapping[str, Any], raw: str) -> ChargeFacts:
    """A charge object, wherever it was found. Raises Unreadable.

    `raw` is its own text; empty where there is none to be given to a client SDK.
    """
    _require_object(data, "charge")
    channel = _id(data, "channel")
    refunds, complete = _nested_refunds(data.get("refunds"))
    return ChargeFacts(
        charge_id=_id(data, "id"),
        out_trade_no=_id(data, "order_no"),
        app_id=_app(data.get("app")),
        livemode=_flag(data, "livemode"),
        channel=channel,
        amount=_amount(data),
        currency=_id(data, "currency"),
        paid=_flag(data, "paid"),
        reversed=data.get("reversed") is not None and _flag(data, "reversed"),
        created_at=_time(data.get("created")),
        expires_at=_lenient_time(data.get("time_expire")),
        paid_at=_lenient_time(data.get("time_paid")),
        transaction_no=_text(data.get("transaction_no")),
        failure_code=_text(data.get("failure_code")),
        failure_message=_text(data.get("failure_msg")),
        refunds=refunds,
        refunds_complete=complete,
        has_credential=raw != "" and _has_credential(data.get("credential"), channel),
        raw=raw,
    )


def refund_facts(data: Mapping[str, Any]) -> RefundFacts:
    """A refund object, wherever it was found. Raises Unreadable."""
    _require_object(data, "refund")
    report = _refund_report(data)
    message = _text(data.get("failure_msg"))
    return RefundFacts(
        refund_id=_id(data, "id"),
        charge_id=_id(data, "charge"),
        amount=_amount(data),
        report=report,
        created_at=_time(data.get("created")),
        refund_no=_refund_no(data.get("metadata")),
        currency=_text(data.get("currency")),
        app_id="" if data.get("app") is None else _app(data["app"]),
        description=_text(data.get("description")),
        action_url=_link(_whole(data.get("failure_msg"))) if report is RefundReport.WORKING else "",
        transaction_no=_text(data.get("transaction_no")),
        succeeded_at=_lenient_time(data.get("time_succeed"))
        if report is RefundReport.DONE
        else None,
        failure_code=_text(data.get("failure_code")),
        failure_message=message,
    )


def _refund_report(data: Mapping[str, Any]) -> RefundReport:
    """`status` decides. Data of 2015 has none; then `succeed` and the failure code do.

    A status or code that is not known leaves it unsettled: unknown is not failed.
    """
    status = data.get("status")
    if status is not None:
        if not isinstance(status, str):
            raise Unreadable("status")
        return _STATUSES.get(status, RefundReport.WORKING)
    if _flag(data, "succeed"):
        return RefundReport.DONE
    code = data.get("failure_code")
    known = MEANINGS.get(code) if isinstance(code, str) else None
    return RefundReport.FAILED if known is Meaning.NOT_DONE else RefundReport.WORKING


_STATUSES = {
    "pending": RefundReport.WORKING,
    "succeeded": RefundReport.DONE,
    "failed": RefundReport.FAILED,
}


def _nested_refunds(listed: Any) -> tuple[tuple[RefundFacts, ...], bool]:
    """The newest refunds of a charge, and whether they are all there are.

    Nothing is known of them when the charge came inside an order (None), or in another shape. Even
    then, Midas must learn that the charge is paid. What stands in the list must be readable.
    """
    if not isinstance(listed, dict) or not isinstance(listed.get("data"), list):
        return (), False
    items, complete = listed["data"], listed.get("has_more") is False
    if not items:
        return (), complete
    if not all(isinstance(item, dict) for item in items):
        raise Unreadable("refunds")
    return tuple(refund_facts(item) for item in items), complete


def _more(envelope: Json) -> bool:
    _require_object(envelope, "list")
    return _flag(envelope, "has_more")


def _require_object(data: Mapping[str, Any], kind: str) -> None:
    if data.get("object") != kind:
        raise Unreadable("other_object")


def _id(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _ID_CHARACTERS:
        raise Unreadable(name)
    if not value.isprintable():
        raise Unreadable(name)
    return value


def _app(value: Any) -> str:
    """The app's id. With `expand[]=app` there is the whole object instead."""
    return _id(value if isinstance(value, dict) else {"id": value}, "id")


def _flag(data: Mapping[str, Any], name: str) -> bool:
    value = data.get(name)
    if not isinstance(value, bool):
        raise Unreadable(name)
    return value


def _amount(data: Mapping[str, Any]) -> int:
    value = data.get("amount")
    if type(value) is not int or not 0 < value < _AMOUNT_END:
        raise Unreadable("amount")
    return value


def _time(value: Any) -> datetime:
    """Unix seconds as a number, or as decimal text: a real event had that (pingpp.md section 2)."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 10:
        value = int(value)
    if type(value) is not int or not 0 < value < _TIME_END:
        raise Unreadable("time")
    return datetime.fromtimestamp(value, UTC)


def _lenient_time(value: Any) -> datetime | None:
    """A time that may be missing or unreadable: nothing is decided wrongly without it."""
    if value is None:
        return None
    try:
        return _time(value)
    except Unreadable:
        return None


def _text(value: Any) -> str:
    return _whole(value)[:_MESSAGE_CHARACTERS]


def _whole(value: Any) -> str:
    """A text for people. What no database can store (NUL, lone surrogates) is replaced."""
    if not isinstance(value, str):
        return ""
    if value.isprintable():
        return value
    return "".join(_REPLACEMENT if _unstorable(each) else each for each in value)


_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def _unstorable(character: str) -> bool:
    return character == "\0" or "\ud800" <= character <= "\udfff"


def _link(message: str) -> str:
    """The link a person has to open, "from the first http" (pingpp.md section 3)."""
    found = _LINK.search(message)
    return found[0] if found and len(found[0]) <= _LINK_CHARACTERS else ""


_LINK = re.compile(r"https?://\S+")


def _refund_no(metadata: Any) -> str:
    value = metadata.get(REFUND_NO_KEY) if isinstance(metadata, dict) else None
    if not isinstance(value, str) or len(value) > REFUND_NO_CHARACTERS or not value.isprintable():
        return ""
    return value


def _has_credential(credential: Any, channel: str) -> bool:
    filled = credential.get(channel) if isinstance(credential, dict) else None
    return isinstance(filled, dict | str) and bool(filled)


_Read = TypeVar("_Read")
Reader = Callable[[str], _Read]
"""Reads the text of an answer as its facts; raises Unreadable."""
