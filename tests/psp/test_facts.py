"""Strict about money, lenient about the rest, and never another exception than Unreadable."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midas.psp import facts, strict_json
from midas.psp.strict_json import Unreadable, decode, parse_list, parse_object
from midas.refund import RefundReport
from tests.psp import made


def charge(**changed: Any) -> Any:
    """The facts of a charge with these fields changed."""
    return facts.read_charge(made.text(made.charge_data(**changed)))


def refund(**changed: Any) -> Any:
    """The facts of a refund with these fields changed."""
    return facts.read_refund(made.text(made.refund_data(**changed)))


def test_every_fact_of_a_charge_comes_from_its_field() -> None:
    """Every fact comes from its field, and the text is kept as it came."""
    text = made.text(made.charge_data(paid=True, time_paid=1_700_000_050, transaction_no="4200"))
    read = facts.read_charge(text)
    assert (read.charge_id, read.out_trade_no) == (made.CHARGE_ID, "A1B2C3D4E5F6G7H8J9K0")
    assert (read.app_id, read.livemode, read.channel) == (made.APP_ID, False, "wx")
    assert (read.amount, read.currency, read.paid, read.reversed) == (100, "cny", True, False)
    assert read.created_at == datetime.fromtimestamp(1_700_000_000, UTC)
    assert read.expires_at == datetime.fromtimestamp(1_700_007_200, UTC)
    assert read.paid_at == datetime.fromtimestamp(1_700_000_050, UTC)
    assert read.transaction_no == "4200"
    assert read.raw == text


@pytest.mark.parametrize("name", ["id", "object", "order_no", "channel", "currency", "amount"])
@pytest.mark.parametrize("value", [None, "", 0, -1, 1.0, True, "100", [], {}, "a\x00b", "x" * 500])
def test_what_decides_over_money_is_never_guessed(name: str, value: Any) -> None:
    """A missing, empty or misshapen identity or amount makes the charge unreadable."""
    if name in ("id", "order_no", "channel", "currency") and value == "100":
        return
    with pytest.raises(Unreadable):
        charge(**{name: value})


@pytest.mark.parametrize("name", ["paid", "livemode", "reversed"])
@pytest.mark.parametrize("value", [0, 1, "true", [], "no"])
def test_flags_are_true_or_false(name: str, value: Any) -> None:
    """A flag of another type is not taken for either."""
    with pytest.raises(Unreadable):
        charge(**{name: value})


@pytest.mark.parametrize("name", ["paid", "livemode"])
def test_flags_must_be_there(name: str) -> None:
    """Only `reversed`, which older answers lack, may be absent."""
    data = made.charge_data()
    del data[name]
    with pytest.raises(Unreadable):
        facts.charge_facts(data, "")
    data = made.charge_data()
    del data["reversed"]
    assert facts.charge_facts(data, "").reversed is False


@pytest.mark.parametrize("amount", [2**63, 10**4000, 1e400, 100.0])
def test_amounts_that_no_ledger_holds(amount: Any) -> None:
    """Numbers beyond 64 bits and numbers with a point are no amounts."""
    with pytest.raises(Unreadable):
        facts.charge_facts(made.charge_data(amount=amount), "")


def test_times_come_as_numbers_or_as_digits() -> None:
    """A real event had time_expire as text; nonsense is no expiry, and nothing lapses by it."""
    assert charge(time_expire="1492397933").expires_at == datetime.fromtimestamp(1492397933, UTC)
    assert charge(time_expire=None).expires_at is None
    for nonsense in ("soon", -1, 0, 10**12, True, "١٢٣", 1.5):
        assert charge(time_expire=nonsense).expires_at is None
        with pytest.raises(Unreadable):
            charge(created=nonsense)
    assert charge(time_paid="soon").paid_at is None


def test_the_app_may_be_expanded() -> None:
    """With `expand[]=app` it is an object with an id."""
    assert charge(app={"id": "app_x", "object": "app"}).app_id == "app_x"
    with pytest.raises(Unreadable):
        charge(app={"object": "app"})


@pytest.mark.parametrize("empty", [[], {}, None, "", 0])
def test_bags_may_be_empty_in_any_way(empty: Any) -> None:
    """`extra` and `metadata` come as lists when PHP made them empty; nothing depends on it."""
    assert charge(extra=empty, metadata=empty, credential=empty).has_credential is False
    assert refund(metadata=empty, extra=empty).refund_no == ""


@pytest.mark.parametrize(
    ("credential", "filled"),
    [
        ({"object": "credential", "wx": {"a": 1}}, True),
        ({"object": "credential", "wx": "weixin://x"}, True),
        ({"object": "credential", "wx": {}}, False),
        ({"object": "credential", "wx": ""}, False),
        ({"object": "credential", "alipay": {"a": 1}}, False),
        ({}, False),
    ],
)
def test_a_credential_counts_when_filled_for_the_channel(credential: Any, filled: bool) -> None:
    """An empty one, or one of another channel, is none."""
    assert charge(credential=credential).has_credential is filled


OTHER_SHAPES: list[Any] = [None, [], {"data": None}, {"data": []}, "x"]


def test_refunds_beside_a_charge() -> None:
    """They are read too. With null, as inside an order, and other shapes nothing is known."""
    listed = {"object": "list", "has_more": True, "data": [made.refund_data()]}
    read = charge(refunds=listed)
    assert [each.refund_no for each in read.refunds] == ["refund-1"]
    assert not read.refunds_complete
    for other in OTHER_SHAPES:
        assert charge(refunds=other).refunds == ()
        assert not charge(refunds=other).refunds_complete
    with pytest.raises(Unreadable):
        charge(refunds={"data": [1], "has_more": False})


@pytest.mark.parametrize(
    ("fields", "report"),
    [
        ({"status": "succeeded"}, RefundReport.DONE),
        ({"status": "failed", "succeed": True}, RefundReport.FAILED),
        ({"status": "pending"}, RefundReport.WORKING),
        ({"status": "a new one"}, RefundReport.WORKING),
        ({"status": None, "succeed": True}, RefundReport.DONE),
        ({"status": None, "failure_code": "refund_refused"}, RefundReport.FAILED),
        ({"status": None, "failure_code": "refund_wait_operation"}, RefundReport.WORKING),
        ({"status": None, "failure_code": "a_new_one"}, RefundReport.WORKING),
        ({"status": None}, RefundReport.WORKING),
    ],
)
def test_the_report_of_a_refund(fields: dict[str, Any], report: RefundReport) -> None:
    """The status decides; without one `succeed` and a known code do; unknown is not failed."""
    assert refund(**fields).report is report


def test_a_refund_without_any_sign_is_unreadable() -> None:
    """No status and no `succeed`: its report is unknown."""
    for fields in ({"status": None, "succeed": None}, {"status": 1}, {"amount": "40"}):
        with pytest.raises(Unreadable):
            refund(**fields)


def test_a_link_belongs_to_a_refund_that_waits() -> None:
    """The same words of a refund that is over lead nobody to a page."""
    message = "需要打开地址进行下一步退款操作: https://mapi.alipay.com/gateway.do?x=1 谢谢"
    assert refund(failure_msg=message).action_url == "https://mapi.alipay.com/gateway.do?x=1"
    assert refund(failure_msg=message, status="failed").action_url == ""
    assert refund(failure_msg="http").action_url == ""
    assert refund(failure_msg="https://" + "x" * 5000).action_url == ""


def test_succeeded_at_counts_only_when_it_did() -> None:
    """Old documentation shows time_succeed beside succeed=false."""
    assert refund(time_succeed=1_700_000_200).succeeded_at is None
    assert refund(status="succeeded", time_succeed=1_700_000_200).succeeded_at is not None


def test_texts_can_be_stored_anywhere() -> None:
    """NUL and lone surrogates, which PostgreSQL refuses, do not get through."""
    read = facts.read_charge(
        made.text(made.charge_data()).replace(
            '"failure_msg": null', '"failure_msg": "a\\u0000b\\ud800c"'
        )
    )
    assert read.failure_message == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"
    read.failure_message.encode()


def test_charges_of_a_list_keep_their_own_text() -> None:
    """Byte for byte, in every layout, and with has_more at any place."""
    items = [made.text(made.charge_data(id=f"ch_{n}", subject="a,]}{[")) for n in range(3)]
    text = (
        '\n{ "object" : "list", "url": "/v1/charges" , "data": [ '
        + " ,\n".join(items)
        + '\n] , "has_more": true }\r\n'
    )
    page = facts.read_charge_page(text)
    assert [each.raw for each in page.charges] == items
    assert page.more


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"object": "list", "has_more": false}',
        '{"object": "list", "has_more": false, "data": null}',
        '{"object": "list", "has_more": false, "data": [1]}',
        '{"object": "list", "has_more": false, "data": [],}',
        '{"object": "list", "has_more": false, "data": [{},]}',
        '{"object": "list", "has_more": false, "data": [] "url": ""}',
        '{"object": "list", "has_more": false, "data": [], "data": []}',
        '{"object": "list", "has_more": false, "has_more": true, "data": []}',
        '{"object": "list", "has_more": false, "data": []} x',
        '{"object": "list", "has_more": null, "data": []}',
        '{"object": "charge", "has_more": false, "data": []}',
        '{"object": "list", "has_more": false, "data": [',
        '{"object": "list", "has_more": false, "data": []',
        '{1: 2, "data": []}',
    ],
)
def test_what_is_no_list(text: str) -> None:
    """A list that is cut short or misshapen never counts as a complete one."""
    with pytest.raises(Unreadable):
        facts.read_charge_page(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 1}}',
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": ' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"a":' * 100_000,
        "\ufeff{}",
        "{} {}",
        "{'a': 1}",
        '{"a": "\n"}',
    ],
)
def test_what_is_no_clear_json(text: str) -> None:
    """Ambiguous, endless or deep JSON is unreadable, not another exception (F8)."""
    with pytest.raises(Unreadable):
        parse_object(text)


def test_what_is_no_text() -> None:
    """Other encodings are not guessed."""
    for body in ("{}".encode("utf-16"), b"\xff{}", "订".encode("gbk")):
        with pytest.raises(Unreadable):
            decode(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def _one_row(text: str) -> str:
    return f'{{"object": "list", "has_more": false, "data": [{text}]}}'


def test_a_row_that_cannot_be_read_does_not_spoil_the_page() -> None:
    """Its number is kept beside the others, so that it does not count as absent."""
    good, bad = made.charge_data(), made.charge_data() | {"amount": 0, "order_no": "T9"}
    page = facts.read_charge_page(_one_row(json.dumps(good) + "," + json.dumps(bad)))
    assert [each.out_trade_no for each in page.charges] == [good["order_no"]]
    assert page.unread == ("T9",)
    assert page.last_id == bad["id"]


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(sorted(made.charge_data())), JSON), st.booleans())
def test_reading_a_charge_never_raises_otherwise(changes: dict[str, Any], listed: bool) -> None:
    """With any value of a field: facts, or Unreadable."""
    text = json.dumps(made.charge_data() | changes)
    try:
        if listed:
            page = facts.read_charge_page(_one_row(text))
            if page.unread:
                assert page.unread == (json.loads(text)["order_no"],)
                return
            read = page.charges[0]
        else:
            read = facts.read_charge(text)
    except Unreadable:
        return
    assert read.raw == text
    assert 0 < read.amount < 2**63


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(st.sampled_from(sorted(made.refund_data())), JSON))
def test_reading_a_refund_never_raises_otherwise(changes: dict[str, Any]) -> None:
    """With any value of a field: facts, or Unreadable."""
    try:
        read = facts.read_refund(json.dumps(made.refund_data() | changes))
    except Unreadable:
        return
    assert 0 < read.amount < 2**63


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_reading_bytes_never_raises_otherwise(body: bytes) -> None:
    """With any bytes: an object, a list, or Unreadable."""
    for read in (facts.read_charge, facts.read_refund_page):
        with pytest.raises(Unreadable):
            read(decode(body))


@settings(deadline=None, max_examples=300)
@given(JSON, st.integers(0, 200), st.text(max_size=2), st.booleans())
def test_the_short_way_reads_what_the_long_one_reads(
    value: Any, at: int, noise: str, indented: bool
) -> None:
    """Texts that skip the strict parser are texts that it takes, and give the same object."""
    form: dict[str, Any] = {"indent": 1} if indented else {"separators": (",", ":")}
    text = json.dumps({"a": value}, ensure_ascii=False, **form)
    text = text[:at] + noise + text[at:]
    canonical = strict_json._parse_canonical(text)
    if canonical is not None:
        assert repr(canonical) == repr(json.loads(text, object_pairs_hook=strict_json._unique))


def test_answers_of_pingpp_take_the_short_way() -> None:
    """A charge as Ping++ writes it; any other layout is read too."""
    data = made.charge_data()
    compact = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    assert strict_json._parse_canonical(compact) == data
    for text in (f" {compact}", json.dumps(data, indent=2), json.dumps(data)):
        assert strict_json._parse_canonical(text) is None
        assert parse_object(text) == data


@settings(deadline=None, max_examples=100)
@given(st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=3), max_size=4))
def test_lists_are_read_as_the_standard_library_reads_them(items: list[dict[str, Any]]) -> None:
    """The reader that keeps each element's text finds the same elements."""
    if not all(json.dumps(item, allow_nan=True).find("NaN") < 0 for item in items):
        return
    text = json.dumps({"x": 1, "data": items, "y": [2]}, indent=1)
    if "Infinity" in text or "NaN" in text:
        return
    envelope, read = parse_list(text)
    assert envelope == {"x": 1, "y": [2]}
    assert [item for item, _ in read] == items
    assert [json.loads(raw) for _, raw in read] == items
