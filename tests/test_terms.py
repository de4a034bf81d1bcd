"""What a caller may ask for, at the edges of each rule, and when two requests are the same."""

from dataclasses import replace
from typing import Any

import pytest

from midas import limits
from midas.charge import ChargeTerms
from midas.flows.terms import (
    TEXT_CHARACTERS,
    RefundTerms,
    charge_digest,
    charge_violations,
    key_violations,
    refund_digest,
    refund_violations,
)

CHARGE = ChargeTerms(
    *("o1", "wx_pub_qr", 100, "cny", "Tea", "Green tea", "203.0.113.7"), extra={"product_id": "p"}
)
REFUND = RefundTerms("r1", order_no="o1", amount=10, description="back", metadata={"shop": "1"})


def deep(levels: int) -> dict[str, Any]:
    """So many names within each other."""
    return {"a": deep(levels - 1) if levels > 1 else "x"}


def nested(levels: int) -> Any:
    """So many lists within each other."""
    return [nested(levels - 1)] if levels else "x"


def long_extra(size: int) -> dict[str, str]:
    """Of so many bytes; each character of the value has three."""
    return {"k" * (1 + (size - 1) % 3): "茶" * ((size - 1) // 3)}


GOOD_CHARGES: list[dict[str, Any]] = [
    {},
    {"order_no": "o" * limits.ORDER_NO_CHARACTERS},
    {"amount": 1},
    {"amount": limits.AMOUNT_MAX},
    {"subject": "茶" * TEXT_CHARACTERS},
    {"body": "two\u00a0words"},
    {"channel": "c" * limits.CHANNEL_CHARACTERS},
    {"metadata": {f"k{n}": "v" for n in range(limits.METADATA_PAIRS)}},
    {"metadata": {"k": "v" * (limits.METADATA_CHARACTERS - 1)}},
    {"extra": deep(limits.EXTRA_DEPTH)},
    {"extra": {"a": nested(limits.EXTRA_DEPTH - 1)}},
    {"extra": {"list": [1, 2.5, None, True, ["x"]]}},
    {"extra": long_extra(limits.EXTRA_BYTES)},
]
BAD_CHARGES: list[tuple[str, dict[str, Any], str]] = [
    ("order_no", {"order_no": ""}, "printable"),
    ("order_no", {"order_no": "o" * (limits.ORDER_NO_CHARACTERS + 1)}, "printable"),
    ("order_no", {"order_no": "a b"}, "printable"),
    ("amount", {"amount": 0}, "give 1 to"),
    ("amount", {"amount": limits.AMOUNT_MAX + 1}, "give 1 to"),
    ("subject", {"subject": ""}, "empty"),
    ("body", {"body": "\u3000"}, "empty"),
    ("subject", {"subject": "x" * (TEXT_CHARACTERS + 1)}, f"at most {TEXT_CHARACTERS}"),
    ("client_ip", {"client_ip": "a\x00b"}, "control"),
    ("channel", {"channel": "WX"}, "channel"),
    ("currency", {"currency": "cnyx"}, "three"),
    ("metadata", {"metadata": {f"k{n}": "v" for n in range(limits.METADATA_PAIRS + 1)}}, "pairs"),
    ("metadata", {"metadata": {"k": "v" * limits.METADATA_CHARACTERS}}, "in all"),
    ("metadata", {"metadata": {"": "v"}}, "empty names"),
    ("metadata", {"metadata": {"k": "\x07"}}, "control"),
    ("metadata", {"metadata": {"k\x07": "v"}}, "control"),
    ("extra", {"extra": deep(limits.EXTRA_DEPTH + 1)}, "nest"),
    ("extra", {"extra": {"a": nested(limits.EXTRA_DEPTH)}}, "nest"),
    ("extra", {"extra": long_extra(limits.EXTRA_BYTES + 1)}, "bytes"),
    ("extra", {"extra": {"a": [{"b": "\x00"}]}}, "control"),
]


@pytest.mark.parametrize("fields", GOOD_CHARGES, ids="-".join)
def test_what_is_just_within_the_rules_is_taken(fields: dict[str, Any]) -> None:
    """No rule refuses more than it says."""
    assert charge_violations(replace(CHARGE, **fields)) == []


@pytest.mark.parametrize(("field", "fields", "rule"), BAD_CHARGES)
def test_what_is_just_beyond_them_is_named(field: str, fields: dict[str, Any], rule: str) -> None:
    """By its field, once, with the rule that it breaks; nothing else is found wrong."""
    (found,) = charge_violations(replace(CHARGE, **fields))
    assert found.field == field
    assert rule in found.description


def test_all_that_is_wrong_is_named_at_once() -> None:
    """The caller mends it in one go."""
    wrong = replace(CHARGE, order_no="", amount=-1, subject="", channel="", metadata={"": ""})
    fields = [each.field for each in charge_violations(wrong)]
    assert fields == ["order_no", "amount", "subject", "metadata", "channel"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"amount": 0},
        {"amount": limits.AMOUNT_MAX},
        {"refund_no": "r" * limits.REFUND_NO_CHARACTERS},
        {"description": "x" * limits.DESCRIPTION_CHARACTERS},
        {"metadata": {}},
        {"order_no": "", "charge_id": "c" * limits.ORDER_NO_CHARACTERS},
    ],
)
def test_a_refund_just_within_the_rules_is_taken(fields: dict[str, Any]) -> None:
    """0 means all that is left."""
    assert refund_violations(replace(REFUND, **fields)) == []


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("refund_no", {"refund_no": ""}),
        ("refund_no", {"refund_no": "r" * (limits.REFUND_NO_CHARACTERS + 1)}),
        ("refund_no", {"refund_no": "re_1"}),
        ("amount", {"amount": -1}),
        ("description", {"description": ""}),
        ("description", {"description": "x" * (limits.DESCRIPTION_CHARACTERS + 1)}),
        ("metadata", {"metadata": {"": "v"}}),
        ("metadata.refund_no", {"metadata": {"refund_no": "r2"}}),
        ("target", {"order_no": ""}),
        ("target", {"charge_id": "ch_1"}),
        ("order_no", {"order_no": "o" * (limits.ORDER_NO_CHARACTERS + 1)}),
        ("charge_id", {"order_no": "", "charge_id": "ch 1"}),
    ],
)
def test_a_refund_just_beyond_them_is_named(field: str, fields: dict[str, Any]) -> None:
    """By its field, and nothing else is found wrong."""
    assert [each.field for each in refund_violations(replace(REFUND, **fields))] == [field]


@pytest.mark.parametrize(
    ("key", "good"),
    [("o1", True), ("", False), ("a b", False), ("o" * (limits.ORDER_NO_CHARACTERS + 1), False)],
)
def test_what_can_be_looked_up(key: str, good: bool) -> None:
    """A key that nothing can have is refused by its name."""
    assert [each.field for each in key_violations("refund_no", key)] == ["refund_no"] * (not good)


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"client_ip": "198.51.100.1"}, True),
        ({"amount": 101}, False),
        ({"subject": "Coffee"}, False),
        ({"body": "Coffee"}, False),
        ({"channel": "alipay_qr"}, False),
        ({"currency": "usd"}, False),
        ({"extra": {"product_id": "q"}}, False),
        ({"metadata": {"k": "v"}}, False),
    ],
)
def test_when_two_charges_are_the_same(fields: dict[str, Any], same: bool) -> None:
    """Whatever the payer's address is, but on the channel that compares it."""
    assert (charge_digest(CHARGE) == charge_digest(replace(CHARGE, **fields))) is same
    wap = replace(CHARGE, channel="wx_wap")
    moved = replace(wap, client_ip="198.51.100.1")
    assert charge_digest(wap) != charge_digest(moved)


def test_a_refund_is_the_same_however_its_charge_was_named() -> None:
    """By the order or by Ping++'s id; its content counts."""
    by_id = replace(REFUND, order_no="", charge_id="ch_1")
    assert refund_digest(REFUND, "N1") == refund_digest(by_id, "N1")
    assert refund_digest(REFUND, "N1") != refund_digest(REFUND, "N2")
    assert refund_digest(REFUND, "N1") != refund_digest(replace(REFUND, amount=11), "N1")
