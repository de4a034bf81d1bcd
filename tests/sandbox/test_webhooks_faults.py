"""Webhooks that go wrong on demand: lost, doubled, late, out of order, with other content."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from midas.sandbox.errors import ControlError
from midas.sandbox.faults import FaultList
from tests.sandbox.conftest import KeyPair
from tests.sandbox.webhook_receiver import Receiver
from tests.sandbox.webhook_stage import Stage, staged

DAY_S = 24 * 3600


@pytest.fixture
async def stage(sandbox_keys: KeyPair) -> AsyncIterator[Stage]:
    """A sandbox and its receiver."""
    async with staged(sandbox_keys.private) as made:
        yield made


async def test_drop_loses_so_many_sends(stage: Stage) -> None:
    """Two sends never arrive; the third, on schedule, does."""
    stage.fault("webhook_drop", count=2)
    stage.pay()
    await stage.until(sends=1)
    stage.server.clock.advance(5.1)
    (delivery,) = await stage.until(sends=2)
    assert stage.receiver.received == []
    stage.server.clock.advance(10.1)
    (received,) = await stage.accepted()
    assert stage.genuine(received)
    assert [send.fault for send in delivery.sends] == ["webhook_drop", "webhook_drop", None]
    assert [send.status for send in delivery.sends] == [None, None, 200]


async def test_drop_can_lose_all_ten(stage: Stage) -> None:
    """The webhook never comes; the event is there to be retrieved all the same."""
    stage.fault("webhook_drop", count=None)
    charge = stage.pay()
    stage.server.clock.advance(2 * DAY_S)
    (delivery,) = await stage.until(outcome="given_up")
    assert len(delivery.sends) == 10
    assert stage.receiver.received == []
    status, event = stage.server.lookalike.handle("GET", f"/v1/events/{delivery.event_id}", (), b"")
    assert (status, event["data"]["object"]["id"]) == (200, charge["id"])


async def test_a_lost_answer_sends_again_what_was_received(stage: Stage) -> None:
    """As after a receiver that died between its commit and its answer."""
    stage.fault("webhook_lose_answer")
    stage.pay()
    (delivery,) = await stage.until(sends=1)
    assert delivery.outcome == "pending"
    stage.server.clock.advance(5.1)
    first, second = await stage.accepted()
    assert first.body == second.body


async def test_duplicates_come_all_at_once(stage: Stage) -> None:
    """Ten copies are under way together, byte for byte the same."""
    stage.fault("webhook_duplicate", times=10)
    stage.receiver.open.clear()
    stage.pay()
    await stage.receiver.arrivals(10)
    assert stage.receiver.at_once == 10
    stage.receiver.open.set()
    received = await stage.accepted(10)
    assert len({one.body for one in received}) == 1


async def test_duplicates_come_one_after_the_other(stage: Stage) -> None:
    """A copy begins only when the one before was accepted."""
    stage.fault("webhook_duplicate", times=3, together=False)
    stage.receiver.answers.append(500)
    stage.pay()
    await stage.until(sends=1)
    assert len(stage.receiver.received) == 1
    stage.server.clock.advance(5.1)
    received = await stage.accepted(3)
    assert len(received) == 4
    assert stage.receiver.most_at_once == 1
    assert len({one.body for one in received}) == 1


async def test_delay_holds_the_first_send_back(stage: Stage) -> None:
    """Not before its time by the sandbox's clock; two delays add up."""
    stage.fault("webhook_delay", seconds=600)
    stage.fault("webhook_delay", seconds=600)
    stage.pay()
    stage.server.clock.advance(1199)
    await stage.server.webhooks.quiet()
    assert stage.receiver.received == []
    stage.server.clock.advance(1.1)
    assert len(await stage.accepted()) == 1


async def test_reorder_lets_the_refund_overtake_the_payment(stage: Stage) -> None:
    """charge.succeeded waits for a later event of its own order, not of another."""
    stage.fault("webhook_reorder", match={"event": "charge.succeeded"})
    charge = stage.pay("ORDER0000001")
    stage.pay("ORDER0000002")
    await stage.until(order_no="ORDER0000002", outcome="accepted")
    await stage.server.webhooks.quiet()
    assert len(stage.receiver.received) == 1
    stage.refund(charge)
    received = await stage.accepted(3)
    came = [(one.event["type"], one.about.get("charge", one.about["id"])) for one in received[1:]]
    assert came == [("refund.succeeded", charge["id"]), ("charge.succeeded", charge["id"])]


async def test_reorder_behind_any_later_event(stage: Stage) -> None:
    """The next order's event goes first. A refused one counts as received, a lost one does not."""
    stage.fault("webhook_reorder", behind="any")
    stage.pay("ORDER0000001")
    stage.fault("webhook_drop")
    stage.pay("ORDER0000002")
    await stage.until(order_no="ORDER0000002", sends=1)
    await stage.server.webhooks.quiet()
    assert stage.receiver.received == []
    stage.receiver.answers.append(500)
    stage.pay("ORDER0000003")
    await stage.until(order_no="ORDER0000001", outcome="accepted")
    orders = [one.about["order_no"] for one in stage.receiver.received]
    assert orders == ["ORDER0000003", "ORDER0000001"]


async def test_reorder_counts_what_was_received_without_an_answer(stage: Stage) -> None:
    """The later event was received although its answer was lost."""
    stage.fault("webhook_reorder", behind="any")
    stage.fault("webhook_lose_answer")
    stage.pay("ORDER0000001")
    stage.pay("ORDER0000002")
    await stage.until(order_no="ORDER0000001", outcome="accepted")
    assert stage.receiver.received[0].about["order_no"] == "ORDER0000002"


async def test_what_is_held_back_comes_in_the_end(stage: Stage) -> None:
    """Without any later event it is sent after `at_most_s`."""
    stage.fault("webhook_reorder", at_most_s=100)
    stage.pay()
    await stage.server.webhooks.quiet()
    assert stage.receiver.received == []
    stage.server.clock.advance(100.1)
    assert len(await stage.accepted()) == 1
    stage.pay("ORDER0000002")
    assert len(await stage.accepted(2)) == 2


@pytest.mark.parametrize(
    ("changes", "member", "value"),
    [
        ({"object": {"amount": 1}}, "amount", 1),
        ({"object": {"app": "app_other"}}, "app", "app_other"),
        ({"object": {"order_no": "never1", "id": "ch_never1"}}, "order_no", "never1"),
        ({"object": {"currency": "usd"}}, "currency", "usd"),
        ({"event": {"livemode": True}, "object": {"livemode": True}}, "livemode", True),
    ],
)
async def test_alter_sends_other_content_rightly_signed(
    stage: Stage, changes: dict[str, Any], member: str, value: object
) -> None:
    """The signature holds, the content is wrong, and the ledger knows the truth."""
    stage.fault("webhook_alter", **changes)
    stage.pay()
    (received,) = await stage.accepted()
    assert stage.genuine(received)
    assert received.about[member] == value
    (event,) = stage.server.lookalike.events.values()
    assert event["data"]["object"][member] != value
    assert received.event["livemode"] == (member == "livemode")
    assert stage.server.lookalike.ledger.paid("ORDER0000001") == 100


async def test_alter_can_change_the_type(stage: Stage) -> None:
    """A type that nobody knows."""
    stage.fault("webhook_alter", event={"type": "charge.pondered"})
    stage.pay()
    (received,) = await stage.accepted()
    assert received.event["type"] == "charge.pondered"


@pytest.mark.parametrize(("genuine", "amounts"), [("first", [100, 7]), ("last", [7, 100])])
async def test_the_same_id_with_another_body(
    stage: Stage, genuine: str, amounts: list[int]
) -> None:
    """Both are rightly signed and have one event id; the second begins after the first."""
    stage.fault("webhook_alter", object={"amount": 7}, genuine=genuine)
    stage.pay()
    received = await stage.accepted(2)
    assert [one.about["amount"] for one in received] == amounts
    assert len({one.event["id"] for one in received}) == 1
    assert all(stage.genuine(one) for one in received)


async def test_faults_choose_by_event_order_channel_url_and_number(stage: Stage) -> None:
    """Only what matches goes wrong, and a fault of requests never hits a webhook."""
    async with Receiver() as second:
        stage.server.webhooks.urls = (stage.receiver.url, second.url)
        port = second.url.split(":")[2].split("/")[0]
        lose = {"count": None}
        stage.server.faults.add({"action": {"kind": "status", "code": 502}, **lose})
        stage.fault("webhook_drop", match={"event": "refund.succeeded"}, **lose)
        stage.fault("webhook_drop", match={"order_no": "ORDER0000002"}, **lose)
        stage.fault("webhook_drop", match={"channel": "alipay"}, **lose)
        stage.fault("webhook_drop", match={"path": f":{port}/"}, **lose)
        stage.fault("webhook_drop", match={"nth": 2})
        stage.refund(stage.pay("ORDER0000001"))
        stage.pay("ORDER0000002")
        stage.pay("ORDER0000003", "alipay")
        stage.pay("ORDER0000004")
        stage.pay("ORDER0000005")
        await stage.until(12, sends=1)
        orders = [one.about["order_no"] for one in stage.receiver.received]
        assert sorted(orders) == ["ORDER0000001", "ORDER0000005"]
        assert second.received == []


async def test_a_fault_of_webhooks_never_hits_a_request(stage: Stage) -> None:
    """It stays unused however many requests come."""
    stage.fault("webhook_drop")
    stage.charge()
    (fault,) = stage.server.faults.to_json()
    assert (fault["seen"], fault["exhausted"]) == (0, False)


async def test_the_test_mode_asks_for_duplicates_in_metadata(stage: Stage) -> None:
    """`pingpp_tc` 001 sends the event twice."""
    stage.pay(metadata={"pingpp_tc": "001"})
    first, second = await stage.accepted(2)
    assert first.body == second.body


async def test_the_test_mode_asks_for_a_delay_in_metadata(stage: Stage) -> None:
    """`pingpp_tc` 002 sends the event five minutes late; refunds have metadata of their own."""
    charge = stage.pay(metadata={"pingpp_tc": "002"})
    stage.refund(charge)
    await stage.until(type="refund.succeeded", outcome="accepted")
    stage.server.clock.advance(299)
    await stage.server.webhooks.quiet()
    assert len(stage.receiver.received) == 1
    stage.server.clock.advance(1.1)
    await stage.until(type="charge.succeeded", outcome="accepted")


async def test_live_mode_knows_no_test_cases(sandbox_keys: KeyPair) -> None:
    """There, metadata is only metadata."""
    async with staged(sandbox_keys.private, livemode=True) as stage:
        stage.pay(metadata={"pingpp_tc": "001"})
        assert len(await stage.accepted()) == 1
        assert stage.server.webhooks.log.totals()["pending"] == 0


@pytest.mark.parametrize(
    "action",
    [
        {"kind": "webhook_explode"},
        {"kind": "webhook_drop", "times": 1},
        {"kind": "webhook_delay", "seconds": -1},
        {"kind": "webhook_delay", "seconds": True},
        {"kind": "webhook_duplicate", "times": 1},
        {"kind": "webhook_duplicate", "times": 2.0},
        {"kind": "webhook_duplicate", "together": "yes"},
        {"kind": "webhook_reorder", "behind": "me"},
        {"kind": "webhook_alter", "object": []},
        {"kind": "webhook_alter", "genuine": "perhaps"},
        {"kind": "webhook_forge", "how": "badly"},
        {"kind": "webhook_forge", "how": ["sha1"]},
    ],
)
def test_senseless_faults_are_refused(action: dict[str, Any]) -> None:
    """At once, with a sentence."""
    with pytest.raises(ControlError):
        FaultList().add(json.loads(json.dumps({"action": action})))
