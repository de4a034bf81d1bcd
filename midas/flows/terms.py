"""What a caller may ask for, and when two requests are the same."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from midas import limits
from midas.charge import ChargeTerms
from midas.errors import FieldViolation
from midas.immutable import record
from midas.refund import FundingSource

TEXT_CHARACTERS = 1000
"""The longest text. The channels have narrower limits of their own."""

_KEY = re.compile(r"[!-~]+")
_CHANNEL = re.compile(r"[a-z][a-z0-9_]*")
_CURRENCY = re.compile(r"[a-z]{3}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@record(frozen=True, slots=True)
class RefundTerms:
    """What a caller asks to give back. Amount in minor units; 0 means all that is left.

    The charge is named by `order_no` or by `charge_id`; the other one is empty.
    """

    refund_no: str
    order_no: str = ""
    charge_id: str = ""
    amount: int = 0
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    funding_source: FundingSource | None = None
    validate_only: bool = False


def charge_violations(terms: ChargeTerms) -> list[FieldViolation]:
    """Every field that no channel could accept; each channel's rules are `Psp.check_charge`."""
    found = [
        *_key("order_no", terms.order_no, limits.ORDER_NO_CHARACTERS),
        *_amount(terms.amount, least=1),
    ]
    for name in ("subject", "body", "client_ip"):
        text: str = getattr(terms, name)
        if not _is_plain(text):
            found += _text(name, text)
    if terms.metadata:
        found += _metadata(terms.metadata)
    if terms.extra:
        found += _extra(terms.extra)
    if not _matches(_CHANNEL, terms.channel, limits.CHANNEL_CHARACTERS):
        found.append(FieldViolation("channel", "name a Ping++ channel such as wx_pub_qr"))
    if not _matches(_CURRENCY, terms.currency, 3):
        found.append(FieldViolation("currency", "give three lower-case letters such as cny"))
    if terms.expires_in is not None and terms.expires_in.total_seconds() <= 0:
        found.append(FieldViolation("expires_in", "give a time above 0, or leave it unset"))
    return found


def refund_violations(terms: RefundTerms) -> list[FieldViolation]:
    """Every field of a refund that could never be accepted."""
    found = [
        *_key("refund_no", terms.refund_no, limits.REFUND_NO_CHARACTERS),
        *_amount(terms.amount, least=0),
        *_text("description", terms.description, limits.DESCRIPTION_CHARACTERS),
        *_metadata(terms.metadata),
    ]
    if terms.refund_no.startswith("re_"):
        found.append(
            FieldViolation("refund_no", "must not begin with re_: that is Ping++'s prefix")
        )
    if "refund_no" in terms.metadata:
        found.append(FieldViolation("metadata.refund_no", "is reserved for Midas's own key"))
    if bool(terms.order_no) == bool(terms.charge_id):
        found.append(FieldViolation("target", "give either order_no or charge_id"))
    elif terms.order_no:
        found += _key("order_no", terms.order_no, limits.ORDER_NO_CHARACTERS)
    else:
        found += _key("charge_id", terms.charge_id, limits.ORDER_NO_CHARACTERS)
    return found


def key_violations(name: str, key: str) -> list[FieldViolation]:
    """Whether something can be looked up at all under this key."""
    return list(_key(name, key, limits.ORDER_NO_CHARACTERS))


def charge_digest(terms: ChargeTerms) -> str:
    """The identity of the terms: equal digests mean the same charge.

    `expires_in` is left out: a caller that computes the time left would otherwise make a new charge
    with every retry. `client_ip` is left out, too, because it changes with the payer's network. It
    counts on wx_wap alone, where WeChat compares it with the payer's real one (pingpp.md
    section 7).
    """
    address = terms.client_ip if terms.channel == "wx_wap" else ""
    return _digest(
        terms.channel,
        terms.amount,
        terms.currency,
        terms.subject,
        terms.body,
        address,
        dict(terms.extra),
        dict(terms.metadata),
    )


def refund_digest(terms: RefundTerms, out_trade_no: str) -> str:
    """The identity of a refund's content, whichever way its charge was named."""
    return _digest(
        out_trade_no,
        terms.amount,
        terms.description,
        dict(terms.metadata),
        terms.funding_source,
    )


def _digest(*parts: Any) -> str:
    import orjson  # here: the rules above are also used where it is not installed (midas/mock)

    canonical = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()


def _matches(pattern: re.Pattern[str], value: str, longest: int) -> bool:
    return len(value) <= longest and pattern.fullmatch(value) is not None


def _key(name: str, value: str, longest: int) -> tuple[FieldViolation, ...]:
    if _matches(_KEY, value, longest):
        return ()
    return (FieldViolation(name, f"give 1 to {longest} printable ASCII characters, no spaces"),)


def _amount(amount: int, least: int) -> tuple[FieldViolation, ...]:
    if least <= amount <= limits.AMOUNT_MAX:
        return ()
    rule = f"give {least} to {limits.AMOUNT_MAX}, in minor units (fen for cny)"
    return (FieldViolation("amount", rule),)


def _text(name: str, value: str, longest: int = TEXT_CHARACTERS) -> Iterator[FieldViolation]:
    if not value or value.isspace():
        yield FieldViolation(name, "must not be empty")
    elif len(value) > longest:
        yield FieldViolation(name, f"give at most {longest} characters")
    if not _is_clean(value):
        yield FieldViolation(name, "must not hold control characters")


def _is_clean(value: str) -> bool:
    return value.isprintable() or not _CONTROL.search(value)


def _is_plain(value: str) -> bool:
    """Whether no rule for a text can be broken. Most texts of a charge need no other check."""
    return value.isprintable() and 0 < len(value) <= TEXT_CHARACTERS and not value.isspace()


def _metadata(metadata: Mapping[str, str]) -> Iterator[FieldViolation]:
    if len(metadata) > limits.METADATA_PAIRS:
        yield FieldViolation("metadata", f"give at most {limits.METADATA_PAIRS} pairs")
    text = "".join((*metadata, *metadata.values()))
    if len(text) > limits.METADATA_CHARACTERS:
        rule = f"give at most {limits.METADATA_CHARACTERS} characters in all"
        yield FieldViolation("metadata", rule)
    if "" in metadata or not _is_clean(text):
        yield FieldViolation("metadata", "must not hold empty names or control characters")


def _extra(extra: Mapping[str, Any]) -> Iterator[FieldViolation]:
    size = 0
    for level, text in _texts(extra):
        size += len(text.encode("utf-8", "surrogatepass"))
        if level > limits.EXTRA_DEPTH:
            yield FieldViolation("extra", f"nest at most {limits.EXTRA_DEPTH} levels")
            return
        if size > limits.EXTRA_BYTES:
            yield FieldViolation("extra", f"give at most {limits.EXTRA_BYTES} bytes")
            return
        if not _is_clean(text):
            yield FieldViolation("extra", "must not hold control characters")
            return


def _texts(value: Any, level: int = 0) -> Iterator[tuple[int, str]]:
    """Every name and scalar with its depth, down to one level beyond the bound."""
    if isinstance(value, dict) and level <= limits.EXTRA_DEPTH:
        for name, each in value.items():
            yield level + 1, name
            yield from _texts(each, level + 1)
    elif isinstance(value, list | tuple) and level <= limits.EXTRA_DEPTH:
        for each in value:
            yield from _texts(each, level + 1)
    else:
        yield level, value if isinstance(value, str) else repr(value)
