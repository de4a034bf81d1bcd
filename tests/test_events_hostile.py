"""Events that do not match what was asked, and bodies that mean harm (M12, W12)."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from midas import limits
from midas.charge import ChargeState
from midas.errors import InvalidRequest, OutcomeUnknown
from midas.event import EventStanding, PspEvent
from midas.flows.apply_event import EventOutcome
from midas.flows.inbox import Inbox
from midas.flows.payment_calls import Payments, SystemClock
from midas.psp.transport import Lost
from midas.refund import RefundState
from midas.sandbox.forgery import compact
from midas.sandbox.ledger import Lookalike
from midas.sandbox.samples import sample_event
from midas.storage import open_store
from tests.event_stage import Stage, about, before_answer, logged
from tests.fakes.psp import DirectWire, client_over
from tests.faults.scenarios import TERMS
from tests.faults.world import TOTAL_TIMEOUT

FIXTURES = Path(__file__).parents[2] / "shared" / "fixtures"
needs_fixtures = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason="the recorded events are not beside the repository"
)
GENUINE = [
    "events/charge.succeeded-wx_pub-test-2019.json",
    "events/refund.succeeded-wx_pub-test-2019-a.json",
    "events/refund.succeeded-wx_pub-test-2019-partial-1.json",
    "events/refund.succeeded-wx_pub-test-2019-partial-2.json",
    "events/sdk-java-order.succeeded-test.json",
    "webhooks/02-account.summary.available-test-2015.body.json",
    "webhooks/04-refund.succeeded-wx-live-2017.body.json",
]


@pytest.fixture
def stage() -> Stage:
    """Nothing goes wrong by itself."""
    return Stage()


@pytest.mark.parametrize(
    "fields",
    [{"amount": 99}, {"currency": "usd"}, {"livemode": True}],
    ids=lambda fields: next(iter(fields)),
)
async def test_a_payment_that_does_not_match_is_quarantined(
    stage: Stage, fields: dict[str, Any]
) -> None:
    """Other money than was asked for moves nothing, and a person is called (I4, M12)."""
    charge_id = await stage.charge()
    stage.world.lookalike.pay(charge_id)
    recorded = await stage.record(about(stage.event("charge.succeeded"), **fields))
    assert recorded.event.standing is EventStanding.APPLIED
    charge = (await stage.order()).charges[0]
    assert charge.state is ChargeState.PENDING
    assert charge.operator_reason
    assert charge.charge_id == charge_id
    assert await stage.notices() == []


async def test_our_charge_under_another_number_is_quarantined(stage: Stage) -> None:
    """An event about our charge_id with a number that is not ours is no business of nobody."""
    charge_id = await stage.charge()
    stage.world.lookalike.pay(charge_id)
    recorded = await stage.record(about(stage.event("charge.succeeded"), order_no="never1"))
    assert recorded.event.order_no == TERMS.order_no
    charge = (await stage.order()).charges[0]
    assert charge.state is ChargeState.PENDING
    assert "out_trade_no" in charge.operator_reason


@pytest.mark.parametrize("fields", [{"amount": 39}, {"currency": "usd"}], ids=["amount", "money"])
async def test_a_refund_that_does_not_match_is_quarantined(
    stage: Stage, fields: dict[str, Any]
) -> None:
    """The same for refunds: ours stays as it is, with an alarm."""
    charge_id = await stage.paid()
    stage.world.lookalike.plan_refund("pending")
    await stage.refund()
    stage.world.lookalike.approve_refund(stage.world.lookalike.refunds_of(charge_id)[0]["id"])
    await stage.record(about(stage.event("refund.succeeded"), **fields))
    refund = (await stage.order()).refund("r1")
    assert refund.state is RefundState.PENDING
    assert refund.operator_reason
    assert await stage.notices() == ["PAY_ORDER_SUCCESS"]


async def test_a_refund_of_a_charge_that_nobody_knows_is_parked(stage: Stage) -> None:
    """Under our number, and Ping++ does not show that charge: in the end a person looks at it."""
    charge_id = await stage.paid()
    stage.world.lookalike.refund_at_dashboard(charge_id, 10)
    event = about(stage.event("refund.succeeded"), charge="ch_other")
    recorded = await stage.record(event)
    assert recorded.event.standing is EventStanding.WAITING
    assert recorded.event.reason == "charge_not_known_yet"
    await stage.look(limits.UNKNOWN_PATIENCE // timedelta(minutes=10) + 2, pause_s=600)
    assert (await stage.stored(event)).standing is EventStanding.PARKED
    order = await stage.order()
    assert (order.refunds, order.charges[0].operator_reason) == ((), "")


async def test_a_refund_of_another_orders_charge_is_parked(stage: Stage) -> None:
    """Under our number, of a charge that Ping++ shows under another one: a person is called."""
    theirs = await stage.paid("order-2")
    charge_id = await stage.paid()
    stage.world.lookalike.refund_at_dashboard(charge_id, 10)
    event = about(stage.event("refund.succeeded"), charge=theirs)
    await stage.record(event)
    await stage.look(limits.EVENT_ATTEMPTS + 1)
    stored = await stage.stored(event)
    assert (stored.standing, stored.reason) == ("PARKED", "charge_of_another_order")
    for order_no in (TERMS.order_no, "order-2"):
        assert (await stage.order(order_no)).refunds == ()


async def test_an_event_with_a_key_of_another_order_is_quarantined(stage: Stage) -> None:
    """A charge_id that belongs to another order's charge: not believed, and a person is called."""
    theirs = await stage.charge("order-2")

    async def lose() -> Lost:
        return Lost("timeout")

    before_answer(stage, "charges", lose)
    with pytest.raises(OutcomeUnknown):
        await stage.world.payments.charge(TERMS)
    stage.restart()
    mine = stage.world.lookalike.newest_charges(1)[0]
    stage.world.lookalike.pay(mine["id"])
    event = about(stage.event("charge.succeeded"), id=theirs)
    recorded = await stage.record(event)
    assert recorded.outcome is EventOutcome.ACCEPTED
    assert recorded.event.standing is EventStanding.APPLIED
    (charge,) = (await stage.order()).charges
    assert (charge.charge_id, charge.state) == (None, ChargeState.SUBMITTING)
    assert theirs in charge.operator_reason


async def test_what_is_remembered_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only so many of the newest events are remembered, and without their bodies (I14)."""
    monkeypatch.setattr(limits, "EVENT_IDS_REMEMBERED", 3)
    for number in range(5):
        event = sample_event("order.succeeded", livemode=False) | {"id": f"evt_{number}"}
        await stage.record(event | {"filler": "x" * 10_000})
    remembered = stage.inbox._recent
    assert list(remembered) == ["evt_2", "evt_3", "evt_4"]
    assert len(repr(remembered)) < 5_000


@pytest.mark.parametrize("body", [b"", b"x" * (limits.EVENT_BYTES + 1)], ids=["none", "too long"])
async def test_a_body_out_of_bounds_is_refused(stage: Stage, body: bytes) -> None:
    """Neither is an event, and nothing is written."""
    with pytest.raises(InvalidRequest) as raised:
        await stage.record(body)
    assert [each.field for each in raised.value.violations] == ["body"]
    assert stage.world.disk.disk.events == {}


async def test_one_byte_is_no_event_and_is_kept(stage: Stage) -> None:
    """The least that can have been sent."""
    recorded = await stage.record(b"x")
    assert (recorded.event.body, recorded.event.reason) == (b"x", "unreadable")


async def test_what_the_gateway_could_not_read_is_kept(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Recorded under its digest with its body, however readable Midas would find it.

    The log says what the gateway could not read.
    """
    body = compact(sample_event("order.succeeded", livemode=False))
    recorded = await stage.inbox.record(body, "duplicate_key")
    assert recorded.outcome is EventOutcome.IGNORED
    assert recorded.event.event_id.startswith("sha256:")
    assert (recorded.event.body, recorded.event.reason) == (body, "unreadable")
    (line,) = [vars(each) for each in caplog.records if each.message == "event_unreadable"]
    assert (line["event_id"], line["reason"]) == (recorded.event.event_id, "duplicate_key")
    again = await stage.inbox.record(body, "duplicate_key")
    assert again.outcome is EventOutcome.DUPLICATE


@needs_fixtures
@pytest.mark.parametrize("name", GENUINE)
async def test_genuine_events_are_read_and_ignored(stage: Stage, name: str) -> None:
    """What Ping++ itself made is read without error, and is another app's or mode's here."""
    body = (FIXTURES / name).read_bytes()
    read = stage.world.payments.ports.psp.read_event(body)
    event = json.loads(body)
    recorded = await stage.record(body)
    assert recorded.outcome is EventOutcome.IGNORED
    assert (recorded.event.event_id, recorded.event.type) == (event["id"], event["type"])
    assert recorded.event.reason in ("other_app", "other_mode", "unknown_order", "type_not_handled")
    assert stage.world.disk.disk.orders == {}
    if event["type"].startswith(("charge.", "refund.", "order.")):
        assert isinstance(read, PspEvent)
        assert read.subject is not None


AMOUNT = b'"amount":100,'
OUTSIDE_THE_OBJECT = {
    "5,000 digits": b'"amount":' + b"1" * 5000 + b",",
    "not a number": b'"amount":NaN,',
    "twice": AMOUNT + b'"amount":1,',
    "100,000 deep": b'"amount":' + b"[" * 100_000 + b"]" * 100_000 + b",",
    "no utf-8": b'"amount":100,"x":"\xff",',
}
"""With these the body is no JSON with one meaning: its id cannot be trusted either."""
INSIDE_THE_OBJECT = {
    "100.0": b'"amount":100.0,',
    "text": b'"amount":"100",',
    "negative": b'"amount":-1,',
    "zero": b'"amount":0,',
    "2^63": b'"amount":9223372036854775808,',
    "1e400": b'"amount":1e400,',
    "true": b'"amount":true,',
    "null": b'"amount":null,',
    "missing": b"",
}


@pytest.mark.parametrize("amount", OUTSIDE_THE_OBJECT.values(), ids=OUTSIDE_THE_OBJECT)
async def test_w12_no_json_with_one_meaning(stage: Stage, amount: bytes) -> None:
    """Kept under its digest for a person; no state moves, and the right event still counts."""
    recorded = await stage.record(await _altered(stage, AMOUNT, amount))
    assert recorded.outcome is EventOutcome.IGNORED
    assert recorded.event.event_id.startswith("sha256:")
    assert (recorded.event.reason, recorded.event.standing) == ("unreadable", "IGNORED")
    await _still_counts(stage)


@pytest.mark.parametrize("amount", INSIDE_THE_OBJECT.values(), ids=INSIDE_THE_OBJECT)
async def test_w12_no_amount(stage: Stage, amount: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """An event of ours whose money cannot be read: kept, an alarm, and no state moves (I4)."""
    body = await _altered(stage, AMOUNT, amount)
    recorded = await stage.record(body)
    assert recorded.outcome is EventOutcome.IGNORED
    assert (recorded.event.reason, recorded.event.standing) == ("object_unreadable", "PARKED")
    assert recorded.event.body == body
    assert logged(caplog, "event_parked") == 1
    stage.world.disk.disk.events.clear()
    stage.restart()
    await _still_counts(stage)


async def _altered(stage: Stage, old: bytes, new: bytes) -> bytes:
    """The body of charge.succeeded of the stage's order with this in it."""
    stage.world.lookalike.pay(await stage.charge())
    body = compact(stage.event("charge.succeeded"))
    assert body.count(old) == 1
    return body.replace(old, new)


async def _still_counts(stage: Stage) -> None:
    assert (await stage.order()).charges[0].state is ChargeState.PENDING
    assert (await stage.record(stage.event("charge.succeeded"))).outcome is EventOutcome.ACCEPTED
    assert (await stage.order()).charges[0].state is ChargeState.SUCCEEDED


@pytest.mark.parametrize("where", ["id", "type"])
@pytest.mark.parametrize("text", ["", "a\0b", "\ud800", "事件", "x" * 65, "a\nb", 7, None])
async def test_w12_no_name(stage: Stage, where: str, text: Any) -> None:
    """An id or type that is no short plain text is not taken for one."""
    event = sample_event("charge.succeeded", livemode=False) | {where: text}
    recorded = await stage.record(json.dumps(event).encode())
    assert recorded.event.event_id.startswith("sha256:")
    assert recorded.event.type == ""


TEXTS = {
    "transaction_no": "a\0b\ud800c",
    "subject": "\0\udfff",
    "failure_msg": "\ud800",
    "description": "😀" * 5_000,
    "metadata": {"k" * 100_000: "v\0", "deep": [[[[{}]]]]},
    "extra": {"bank_type": ["\ud800"] * 1000},
    "unheard_of": {"": "\0"},
}


async def test_w12_texts_that_no_database_takes(database_url: str) -> None:
    """NUL, halves of surrogates and huge metadata around good money: the money is booked."""
    lookalike = Lookalike("app_1", rng_seed=1)
    psp = client_over(DirectWire(lookalike), "app_1", TOTAL_TIMEOUT)
    async with await open_store(database_url) as store:
        payments = Payments(store, psp, SystemClock())
        inbox = Inbox(payments.ports)
        made = await payments.charge(TERMS)
        charge_id = made.charge.charge_id or ""
        lookalike.pay(charge_id)
        event = about(json.loads(compact(*lookalike.events.values())), **TEXTS)
        body = json.dumps(event).encode()
        recorded = await inbox.record(body)
        assert recorded.event.standing is EventStanding.APPLIED
        charge = (await store.load(TERMS.order_no)).charges[0]
        assert (charge.state, charge.transaction_no) == ("SUCCEEDED", "a\ufffdb\ufffdc")
        stored = await store.event(event["id"])
        assert stored == recorded.event
        assert stored.body == body
        lookalike.refund_at_dashboard(charge_id, 10)
        refund = sample_event("refund.succeeded", livemode=False)
        refund["data"]["object"] = lookalike.refunds_of(charge_id)[0] | {
            "metadata": {"refund_no": "r\0"},
            "description": "\ud800",
            "failure_msg": "\0",
        }
        assert (await inbox.record(json.dumps(refund).encode())).event.standing == "APPLIED"
        assert (await store.load(TERMS.order_no)).refunds[0].external


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b"{}",
        b'{"object":"event"}',
        b'"x"',
        b"\xef\xbb\xbf{}",
        b"{" * 200_000,
        "{}".encode("utf-16"),
        b'{"object":"event","id":"evt_1","type":"charge.succeeded","livemode":"no"}',
    ],
    ids=range(9),
)
async def test_w12_bodies_that_are_no_event(stage: Stage, body: bytes) -> None:
    """Whatever else was signed is kept once and changes nothing."""
    for outcome in (EventOutcome.IGNORED, EventOutcome.DUPLICATE):
        recorded = await stage.record(body)
        assert (recorded.outcome, recorded.event.reason) == (outcome, "unreadable")
    assert len(stage.world.disk.disk.events) == 1


@pytest.mark.parametrize("data", [None, [], {}, {"object": None}, {"object": [1]}])
async def test_w12_an_event_about_nothing(stage: Stage, data: Any) -> None:
    """A type that Midas handles without an object: kept, and nothing breaks."""
    for kind in ("charge.succeeded", "charge.failed", "refund.succeeded", "refund.failed"):
        event = sample_event(kind, livemode=False) | {"id": f"evt_{kind}", "data": data}
        assert (await stage.record(event)).event.reason == "object_unreadable"
