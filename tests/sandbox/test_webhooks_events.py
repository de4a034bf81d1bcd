"""Which events there are: one for each outcome, in the shapes of Ping++."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from midas.sandbox.entries import EntryKind
from midas.sandbox.errors import ControlError
from midas.sandbox.ledger import RefundOutcome
from midas.sandbox.samples import sample_event
from tests.sandbox.conftest import KeyPair
from tests.sandbox.shop import Clock, Shop
from tests.sandbox.test_recorded import FIXTURES, recorded, shape, without
from tests.sandbox.webhook_receiver import SIGNATURE
from tests.sandbox.webhook_stage import staged

needs_fixtures = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason=f"recorded data is not present at {FIXTURES}"
)
SUCCEEDED_BY_KIND: dict[EntryKind, str] = {
    "charge_paid": "charge.succeeded",
    "charge_failed": "charge.failed",
    "refund_succeeded": "refund.succeeded",
    "refund_failed": "refund.failed",
}


def types(shop: Shop) -> list[str]:
    """The types of all events, oldest first."""
    return [event["type"] for event in shop.lookalike.events.values()]


def test_only_outcomes_make_events(shop: Shop, clock: Clock) -> None:
    """None for a creation, a pending refund, a reversal, an expiry."""
    charge = shop.charge("ORDER0000001")
    shop.post(f"/v1/charges/{shop.charge('ORDER0000002')['id']}/reverse", {})
    clock.advance(7200)
    shop.fetch(charge)
    assert types(shop) == []
    paid = shop.paid("ORDER0000003")
    shop.lookalike.plan_refund("pending")
    pending = shop.refund(paid, amount=1)[1]
    assert types(shop) == ["charge.succeeded"]
    shop.lookalike.approve_refund(pending["id"])
    shop.lookalike.plan_refund("failed")
    shop.refund(paid, amount=1)
    shop.lookalike.pay_late(charge["id"])
    assert types(shop)[1:] == ["refund.succeeded", "refund.failed", "charge.succeeded"]


def test_a_refund_event_names_its_charge(shop: Shop) -> None:
    """By id and by number; in test mode it succeeds at once."""
    charge = shop.paid()
    refund = shop.refund(charge, amount=1)[1]
    event = list(shop.lookalike.events.values())[-1]
    assert event["data"]["object"] == refund
    assert refund["charge"] == charge["id"]
    assert refund["charge_order_no"] == charge["order_no"]
    assert refund["time_succeed"] == refund["created"]


def test_a_failed_payment_makes_one_event(shop: Shop) -> None:
    """charge.failed with the channel's reason; no money, and the payer cannot go on."""
    charge = shop.charge()
    failed = shop.lookalike.fail_payment(charge["id"], "channel_unexpected_error", "余额不足")
    assert shop.lookalike.fail_payment(charge["id"]) == failed
    assert (failed["paid"], failed["failure_msg"], failed["credential"]) == (False, "余额不足", {})
    (event,) = shop.lookalike.events.values()
    assert (event["type"], event["data"]["object"]) == ("charge.failed", failed)
    with pytest.raises(ControlError, match="has failed"):
        shop.lookalike.pay(charge["id"])
    assert shop.lookalike.ledger.money == []


def test_late_money_after_a_failure(shop: Shop) -> None:
    """The channel was wrong: the charge is paid after all, and the failure is gone."""
    charge = shop.charge()
    shop.lookalike.fail_payment(charge["id"])
    late = shop.lookalike.pay_late(charge["id"])
    assert (late["paid"], late["failure_code"], late["failure_msg"]) == (True, None, None)
    assert types(shop) == ["charge.failed", "charge.succeeded"]
    with pytest.raises(ControlError, match="is paid"):
        shop.lookalike.fail_payment(charge["id"])


@pytest.mark.parametrize("seed", range(20))
def test_the_ledger_and_the_events_agree(shop: Shop, clock: Clock, seed: int) -> None:
    """Each outcome in the ledger has exactly one event, and each event has its outcome."""
    dice = random.Random(seed)
    outcomes: list[RefundOutcome] = ["succeeded", "pending", "failed", "alipay_link"]
    channels = ["wx", "alipay", "upacp", "balance", "wx_pub_scan", "isv_qr"]
    for number in range(30):
        charge = shop.charge(f"ORDER{number:07d}", dice.choice(channels))
        clock.advance(dice.choice([0, 1, 3000, 9000]))
        _try(shop.lookalike.fail_payment, dice, charge["id"])
        _try(shop.lookalike.pay, dice, charge["id"])
        _try(shop.lookalike.pay_late, dice, charge["id"])
        for _ in range(dice.randrange(4)):
            shop.lookalike.plan_refund(dice.choice(outcomes))
            refund = shop.refund(charge, amount=dice.randrange(1, 60))[1]
            _try(shop.lookalike.approve_refund, dice, refund.get("id", ""))
            _try(shop.lookalike.fail_refund, dice, refund.get("id", ""))
        if dice.random() < 0.3:
            shop.post(f"/v1/charges/{charge['id']}/reverse", {})
    happened = Counter(
        (SUCCEEDED_BY_KIND[entry.kind], entry.refund_id or entry.charge_id)
        for entry in shop.lookalike.ledger.entries
        if entry.kind in SUCCEEDED_BY_KIND
    )
    events = Counter(
        (event["type"], event["data"]["object"]["id"]) for event in shop.lookalike.events.values()
    )
    assert events == happened
    assert set(events.values()) == {1}
    assert {kind for kind, _ in events} == set(SUCCEEDED_BY_KIND.values())


def _try(control: Any, dice: random.Random, subject: str) -> None:
    """Perhaps use a control, which may be refused."""
    if dice.random() < 0.5:
        with suppress(ControlError):
            control(subject)


async def test_every_paid_charge_in_the_ledger_reaches_the_merchant(
    sandbox_keys: KeyPair,
) -> None:
    """A hundred payments, some sends refused or lost: each event is accepted exactly once."""
    async with staged(sandbox_keys.private) as stage:
        stage.receiver.answers.extend(itertools.islice(itertools.cycle([500, 200, 200]), 60))
        stage.fault("webhook_drop", count=20)
        for number in range(100):
            stage.pay(f"ORDER{number:07d}")
        await stage.until(100, sends=1)
        stage.server.clock.advance(24 * 3600)
        deliveries = await stage.until(100, outcome="accepted")
        accepted = Counter(one.event_id for one in deliveries)
        assert accepted == Counter(list(stage.server.lookalike.events))
        paid = [e.charge_id for e in stage.server.lookalike.ledger.money]
        events = stage.server.lookalike.events
        assert Counter(events[one]["data"]["object"]["id"] for one in accepted) == Counter(paid)
        assert stage.server.lookalike.owed_webhooks == []


@needs_fixtures
async def test_webhooks_look_like_recorded_events(sandbox_keys: KeyPair) -> None:
    """The bytes that arrive have the members, their order and types, of real test events."""
    charge = recorded("events/charge.succeeded-wx_pub-test-2019.json")
    refund = recorded("events/refund.succeeded-wx_pub-test-2019-a.json")
    async with staged(sandbox_keys.private) as stage:
        asked: dict[str, Any] = {"extra": {"open_id": "just_for_test"}, "description": "测试备注"}
        stage.refund(stage.pay(channel="wx_pub", **asked), amount=1)
        received = {one.event["type"]: one for one in await stage.accepted(2)}
    ours = received["charge.succeeded"]
    assert list(ours.event) == list(charge)
    assert list(ours.about) == list(charge["data"]["object"])
    assert shape(ours.event) == shape(charge)
    refunded = received["refund.succeeded"]
    assert list(refunded.event) == list(refund)
    newer = {"currency", "app"}
    kept = [name for name in refunded.about if name not in newer]
    assert kept == list(refund["data"]["object"])
    assert shape(without(refunded.about, newer)) == shape(refund["data"]["object"])


@needs_fixtures
async def test_webhooks_have_the_layout_of_a_genuine_signed_one(sandbox_keys: KeyPair) -> None:
    """The recorded live refund, written again our way, gives its exact bytes."""
    real = (FIXTURES / "webhooks/04-refund.succeeded-wx-live-2017.body.json").read_bytes()
    length = len(_text("webhooks/04-refund.succeeded-wx-live-2017.signature.txt"))
    async with staged(sandbox_keys.private) as stage:
        await stage.server.webhooks.send(json.loads(real))
        (received,) = stage.receiver.received
    assert received.body == real
    assert len(received.header(SIGNATURE)[0]) == length


def _text(path: str) -> str:
    return (Path(FIXTURES) / path).read_text().strip()


@needs_fixtures
def test_samples_have_the_members_of_recorded_events(shop: Shop) -> None:
    """The test tool's charge has what a real one has."""
    real = recorded("events/charge.succeeded-wx_pub-test-2019.json")
    sample = sample_event("charge.succeeded", livemode=False)
    assert set(sample) == set(real)
    assert set(sample["data"]["object"]) == set(real["data"]["object"])


@pytest.mark.parametrize(
    ("kind", "about"),
    [
        ("charge.failed", "charge"),
        ("refund.succeeded", "refund"),
        ("refund.failed", "refund"),
        ("summary.daily.available", "summary"),
    ],
)
def test_there_is_a_sample_of_every_type(kind: str, about: str) -> None:
    """With an object that fits the type."""
    event = sample_event(kind)
    assert (event["type"], event["data"]["object"]["object"]) == (kind, about)
    if kind.endswith("failed"):
        assert event["data"]["object"]["failure_code"]
