"""Reading an event: one meaning, or Unreadable with a constant reason, and never anything else."""

import json
import random
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.gateway.account import ABSENT, FIXTURES, Genuine, event_body, genuine_webhooks
from webhook_gateway import envelope
from webhook_gateway.envelope import DEPTH, NUMBER_CHARACTERS, OTHER, Unreadable

GENUINE = genuine_webhooks()


def with_amount(text: str) -> bytes:
    """A good event, but for the text of its amount."""
    return event_body().replace(b'"amount":1', b'"amount":' + text.encode())


def nested(depth: int) -> bytes:
    """A good event that nests so deep in all."""
    inner = b"[" * (depth - 1) + b"]" * (depth - 1)
    return b'{"id":"evt_1","type":"charge.succeeded","x":' + inner + b"}"


UNREADABLE = {
    "empty": (b"", "not_json"),
    "blank": (b" \n", "not_json"),
    "text": (b"hello", "not_json"),
    "two values": (event_body() + event_body(), "not_json"),
    "cut": (event_body()[:-1], "not_json"),
    "comma": (event_body()[:-1] + b",}", "not_json"),
    "single quotes": (event_body().replace(b'"', b"'"), "not_json"),
    "NUL after": (event_body() + b"\0", "not_json"),
    "control character": (with_amount('"a\nb"'), "not_json"),
    "list": (b"[" + event_body() + b"]", "not_an_object"),
    "string": (b'"evt_1"', "not_an_object"),
    "null": (b"null", "not_an_object"),
    "number": (b"1", "not_an_object"),
    "byte order mark": (b"\xef\xbb\xbf" + event_body(), "byte_order_mark"),
    "UTF-16": (event_body().decode().encode("utf-16"), "not_utf8"),
    "Latin-1": (b'{"id":"evt_1","type":"\xe4"}', "not_utf8"),
    "overlong": (b'{"id":"evt_1","type":"\xc0\xaf"}', "not_utf8"),
    "raw surrogate": (b'{"id":"evt_1","type":"\xed\xa0\x80"}', "not_utf8"),
    "lone surrogate": (event_body(note=1)[:-2] + b'"\\ud800"}', "lone_surrogate"),
    "lone surrogate key": (b'{"id":"e","type":"t","\\uDfFf":1}', "lone_surrogate"),
    "duplicate key": (event_body()[:-1] + b',"id":"evt_2"}', "duplicate_key"),
    "duplicate key within": (with_amount('1,"amount":100'), "duplicate_key"),
    "duplicate by escape": (event_body()[:-1] + b',"\\u0069d":"evt_2"}', "duplicate_key"),
    "NaN": (with_amount("NaN"), "not_a_number"),
    "Infinity": (with_amount("Infinity"), "not_a_number"),
    "-Infinity": (with_amount("-Infinity"), "not_a_number"),
    "1e400": (with_amount("1e400"), "number_too_large"),
    "5,000 digits": (with_amount("9" * 5000), "number_too_long"),
    "long fraction": (with_amount("0." + "1" * 5000), "number_too_long"),
    "long exponent": (with_amount("1e" + "0" * 5000 + "1"), "number_too_long"),
    "deep": (nested(DEPTH + 1), "too_deep"),
    "100,000 lists": (b"[" * 100_000, "too_deep"),
    "100,000 objects": (b'{"a":' * 100_000, "too_deep"),
    "no id": (b'{"type":"charge.succeeded"}', "no_event_id"),
    "id of another type": (b'{"id":1,"type":"charge.succeeded"}', "no_event_id"),
    "empty id": (event_body(""), "no_event_id"),
    "long id": (event_body("e" * 65), "no_event_id"),
    "id with a line break": (event_body("evt_1\n"), "no_event_id"),
    "no type": (b'{"id":"evt_1"}', "no_event_type"),
    "type null": (b'{"id":"evt_1","type":null}', "no_event_type"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_w12_what_has_no_one_meaning_is_unreadable(name: str) -> None:
    """Each with its own constant reason."""
    body, reason = UNREADABLE[name]
    with pytest.raises(Unreadable) as caught:
        envelope.read(body)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "amount", ["-1", str(2**63), "100.0", '"100"', "1e5", "null", '"\\u0000"', "9" * 32]
)
def test_w12_odd_values_are_for_midas_to_judge(amount: str) -> None:
    """They are JSON with one meaning; what an amount may be is not decided here."""
    assert envelope.read(with_amount(amount)).event_id == "evt_1"


def test_brackets_within_strings_do_not_nest() -> None:
    """Only real nesting counts, up to the bound, with any content of texts."""
    assert envelope.read(event_body(note="[{" * 500 + '\\"[')).event_id == "evt_1"
    assert envelope.read(nested(DEPTH)).event_id == "evt_1"
    assert envelope.read(event_body(many=[[]] * 1000)).event_id == "evt_1"


def test_surrogate_pairs_are_characters() -> None:
    """An emoji written as two escapes is fine."""
    assert envelope.read(event_body()[:-1] + b',"note":"\\ud83d\\ude00"}').event_id == "evt_1"


def test_w19_an_unknown_type_is_read_and_labelled_other() -> None:
    """The log has the type; the metric has `other`."""
    read = envelope.read(event_body(kind="coupon.invented"))
    assert (read.type, read.label) == ("coupon.invented", OTHER)
    assert envelope.read(event_body()).label == "charge.succeeded"


@pytest.mark.skipif(not GENUINE, reason=ABSENT)
@pytest.mark.parametrize("webhook", GENUINE, ids=lambda each: each.name)
def test_genuine_webhooks_are_read(webhook: Genuine) -> None:
    """Id and type as they stand in the body."""
    value = json.loads(webhook.body)
    assert envelope.read(webhook.body) == (value["id"], value["type"])
    assert envelope.read(webhook.body).label == value["type"]


@pytest.mark.skipif(not GENUINE, reason=ABSENT)
def test_recorded_events_are_read() -> None:
    """Those without a signature too, in every layout in which they were kept."""
    paths = sorted(FIXTURES.glob("events/*.json"))
    assert paths
    for path in paths:
        value = json.loads(path.read_bytes())
        if "type" in value:
            assert envelope.read(path.read_bytes()).event_id == value["id"]


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=300))
@example(b'{"a":' * 20_000)
@example(b'"\\')
def test_any_bytes_are_read_or_unreadable(body: bytes) -> None:
    """No bytes raise another exception."""
    with suppress(Unreadable):
        envelope.read(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_every_json_value_is_read(value: object) -> None:
    """No good event is called unreadable."""
    assert envelope.read(event_body(note=value)).event_id == "evt_1"


def test_changed_events_are_read_or_unreadable() -> None:
    """Seeded changes of a good body stay within the two outcomes, and both are reached."""
    chance = random.Random(9)
    outcomes = {"read": 0, "unreadable": 0}
    body = event_body(time=1.5, note="\\ud83d 云")
    for _ in range(20_000):
        changed = bytearray(body)
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        try:
            envelope.read(bytes(changed))
            outcomes["read"] += 1
        except Unreadable:
            outcomes["unreadable"] += 1
    assert all(outcomes.values())


@settings(max_examples=400, deadline=None)
@given(JSON | st.floats(), st.integers(0, 400), st.binary(max_size=2), st.booleans())
@example(10**19, 400, b"", False)
@example(-0.0, 400, b"", False)
@example({"a": [[]] * DEPTH}, 400, b"", False)
def test_the_short_way_reads_what_the_long_one_reads(
    value: object, at: int, noise: bytes, indented: bool
) -> None:
    """The strict parser takes every body that is taken without it, and reads the same value."""
    form: dict[str, Any] = {"indent": 1} if indented else {"separators": (",", ":")}
    text = json.dumps({"id": "e", "note": value}, ensure_ascii=False, **form)
    body = text.encode("utf-8", "replace")
    changed = body[:at] + noise + body[at:]
    plain = envelope._plain(changed)
    if plain is not None:
        assert repr(plain) == repr(envelope._strict(changed))


def test_events_of_pingpp_take_the_short_way() -> None:
    """All that are recorded, and what the sandbox writes."""
    bodies = [each.body for each in GENUINE] + [event_body()]
    bodies += [path.read_bytes() for path in sorted(FIXTURES.glob("events/*.json"))]
    for body in bodies:
        assert envelope._plain(body.strip()) is not None, body


def test_numbers_up_to_the_bound_are_read() -> None:
    """One character more is too long."""
    assert envelope.read(with_amount("1" * NUMBER_CHARACTERS)).event_id == "evt_1"
    with pytest.raises(Unreadable):
        envelope.read(with_amount("1" * (NUMBER_CHARACTERS + 1)))
