"""Ping++'s events, in every order and at every wrong moment (reliability.md 5.2)."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast, get_args
from uuid import uuid4

import pytest

from midas.charge import ChargeState, ObservedBy
from midas.errors import EventIdReused, OrderAlreadyPaid, OutcomeUnknown
from midas.event import EventStanding, Subject
from midas.flows.apply_event import EventOutcome
from midas.flows.event_handlers import HANDLERS
from midas.flows.inbox import Inbox
from midas.flows.payment_calls import Payments, SystemClock
from midas.payment import Change, Order
from midas.ports import KeyKind, Store
from midas.psp.transport import Lost
from midas.refund import RefundState
from midas.runtime.logs import FIELDS
from midas.sandbox.forgery import compact
from midas.sandbox.ledger import Lookalike
from midas.sandbox.samples import SAMPLE_ORDER_NO, sample_event
from midas.storage import open_store
from midas.storage.store import SqlStore
from tests.event_stage import Event, Stage, about, before_answer, logged, states
from tests.fakes.psp import DirectWire, client_over
from tests.fakes.store import Disk
from tests.faults.scenarios import TERMS
from tests.faults.world import TOTAL_TIMEOUT, VirtualClock


@pytest.fixture
def stage() -> Stage:
    """Nothing goes wrong by itself."""
    return Stage()


# The plain way ----------------------------------------------------------------------------


async def test_a_payment_is_booked_and_announced(stage: Stage) -> None:
    """charge.succeeded: state, journal and one notification, and the event is on disk."""
    charge_id = await stage.charge()
    stage.world.lookalike.pay(charge_id)
    event = stage.event("charge.succeeded")
    recorded = await stage.record(event)
    assert recorded.outcome is EventOutcome.ACCEPTED
    charge = (await stage.order()).charges[0]
    assert (charge.state, charge.observed_by) == (ChargeState.SUCCEEDED, "WEBHOOK")
    assert await stage.notices() == ["PAY_ORDER_SUCCESS"]
    assert [each.event for each in await stage.world.disk.journal(TERMS.order_no)][-1] == (
        "charge_succeeded"
    )
    stored = await stage.stored(event)
    assert stored == recorded.event
    assert (stored.standing, stored.order_no) == (EventStanding.APPLIED, TERMS.order_no)
    assert (stored.body, stored.due_at) == (compact(event), None)
    assert stored.applied_at == stage.world.disk.clock


async def test_a_payment_is_a_line_in_the_log(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """One, when it becomes paid: how much, through what, and how it was learnt; not once more."""
    caplog.set_level("INFO", "midas")
    charge_id = await stage.charge()
    assert not [each for each in caplog.records if each.message == "charge_paid"]
    stage.world.lookalike.pay(charge_id)
    event = stage.event("charge.succeeded")
    for _ in range(2):
        await stage.record(event)
    (line,) = [vars(each) for each in caplog.records if each.message == "charge_paid"]
    assert (line["levelname"], line["order_no"]) == ("INFO", TERMS.order_no)
    assert (line["charge_id"], line["channel"]) == (charge_id, TERMS.channel)
    assert (line["amount"], line["currency"]) == (TERMS.amount, "cny")
    assert (line["late"], line["duplicate_payment"], line["by"]) == (False, False, "WEBHOOK")
    charge = (await stage.order()).charges[0]
    assert (line["livemode"], line["out_trade_no"]) == (False, charge.out_trade_no)
    fields = {"livemode", "late", "duplicate_payment", "by", "channel", "amount", "currency"}
    assert fields | {"charge_id", "out_trade_no"} <= FIELDS & set(line)


async def test_a_failed_payment_is_announced(stage: Stage) -> None:
    """charge.failed ends the charge; money that comes all the same is late money."""
    charge_id = await stage.charge()
    failed = stage.world.lookalike.fail_payment(charge_id)
    event = (
        stage.event("charge.succeeded")
        if _has_event(stage, "charge.succeeded")
        else _failed(failed)
    )
    await stage.record(event)
    charge = (await stage.order()).charges[0]
    assert charge.state is ChargeState.FAILED
    assert charge.failure_code == failed["failure_code"]
    stage.world.lookalike.pay_late(charge_id)
    await stage.record(stage.event("charge.succeeded"))
    assert await stage.notices() == ["PAY_ORDER_CLOSED", "PAY_ORDER_SUCCESS"]
    assert [each.late for each in await stage.notifications()] == [False, True]


def _has_event(stage: Stage, kind: str) -> bool:
    return any(each["type"] == kind for each in stage.world.lookalike.events.values())


def _failed(charge: Event) -> Event:
    sample = sample_event("charge.failed", livemode=False)
    return sample | {"id": "evt_failed", "data": {"object": charge}}


def _order_event(charge: Event, /, **fields: Any) -> Event:
    """An order of Ping++'s own that was paid by this charge."""
    order = {"id": "2001", "object": "order", "paid": True, "charge": charge["id"]}
    listed = {"object": "list", "has_more": False, "data": [charge]}
    sample = sample_event("order.succeeded", livemode=False)
    return sample | {"id": "evt_order", "data": {"object": order | {"charges": listed} | fields}}


async def test_the_event_of_an_order_counts_as_that_of_its_charge(stage: Stage) -> None:
    """order.succeeded holds the charge that paid the order; charge.succeeded adds nothing."""
    charge_id = await stage.charge()
    stage.world.lookalike.pay(charge_id)
    paid = stage.world.lookalike.charge(charge_id)
    recorded = await stage.record(_order_event({**paid, "refunds": None}))
    assert recorded.event.standing is EventStanding.APPLIED
    again = await stage.record(stage.event("charge.succeeded"))
    assert again.outcome is EventOutcome.ACCEPTED
    (charge,) = (await stage.order()).charges
    assert (charge.state, charge.observed_by) == (ChargeState.SUCCEEDED, ObservedBy.WEBHOOK)
    assert await stage.notices() == ["PAY_ORDER_SUCCESS"]


@pytest.mark.parametrize(
    "fields",
    [
        {"charge": None},
        {"charge": ""},
        {"charge": "ch_other"},
        {"charge": {"id": "ch_1"}},
        {"charges": None},
        {"charges": {"object": "list", "has_more": True, "data": []}},
    ],
    ids=["no charge", "empty", "not listed", "expanded", "no list", "more pages"],
)
async def test_an_order_that_does_not_show_its_charge_is_ignored(
    stage: Stage, fields: Event, caplog: pytest.LogCaptureFixture
) -> None:
    """Midas makes no orders of Ping++'s own: it is another system's, and nobody is called (W9)."""
    charge_id = await stage.charge()
    stage.world.lookalike.pay(charge_id)
    paid = stage.world.lookalike.charge(charge_id)
    recorded = await stage.record(_order_event(paid, **fields))
    standing = EventStanding.IGNORED
    assert (recorded.event.reason, recorded.event.standing) == ("type_not_handled", standing)
    assert await stage.notices() == []
    assert logged(caplog, "event_parked") == 0


@pytest.mark.parametrize(
    ("changes", "standing"),
    [
        ({"paid": False, "failure_code": "balance"}, EventStanding.IGNORED),
        ({"amount": "100", "order_no": "20171526560045673"}, EventStanding.IGNORED),
        ({"amount": "100"}, EventStanding.PARKED),
    ],
    ids=["unpaid", "unreadable, and another system's", "unreadable, and ours"],
)
async def test_an_order_counts_only_by_a_paid_charge_that_can_be_read(
    stage: Stage, changes: Event, standing: EventStanding
) -> None:
    """An order that was paid says nothing of a charge that was not, and closes none."""
    charge_id = await stage.charge()
    stage.world.lookalike.pay(charge_id)
    paid = stage.world.lookalike.charge(charge_id)
    recorded = await stage.record(_order_event(paid | changes))
    assert recorded.event.standing is standing
    (charge,) = (await stage.order()).charges
    assert charge.state is ChargeState.PENDING
    assert await stage.notices() == []


def test_each_kind_of_subject_has_its_handler() -> None:
    """A new kind of event is one class, one reader and one handler: none may be forgotten."""
    assert set(HANDLERS) == set(get_args(Subject)), (
        "give each class of midas.event.Subject its handler in midas/flows/event_handlers.py"
    )


@pytest.mark.parametrize("end", ["succeeded", "failed"])
async def test_the_end_of_a_refund_is_booked_and_announced(stage: Stage, end: str) -> None:
    """refund.succeeded and refund.failed end a refund that was pending."""
    charge_id = await stage.paid()
    stage.world.lookalike.plan_refund("pending")
    await stage.refund()
    refund_id = stage.world.lookalike.refunds_of(charge_id)[0]["id"]
    if end == "succeeded":
        stage.world.lookalike.approve_refund(refund_id)
    else:
        stage.world.lookalike.fail_refund(refund_id)
    recorded = await stage.record(stage.event(f"refund.{end}"))
    assert recorded.event.standing is EventStanding.APPLIED
    refund = (await stage.order()).refund("r1")
    assert refund.state == end.upper()
    notice = "REFUND_SUCCESS" if end == "succeeded" else "REFUND_FAILED"
    assert await stage.notices() == ["PAY_ORDER_SUCCESS", notice]


async def test_a_refund_made_at_the_dashboard_is_taken_in(stage: Stage) -> None:
    """Its event is all that Midas hears of it: booked as external, announced, counted (P16)."""
    charge_id = await stage.paid()
    stage.world.lookalike.refund_at_dashboard(charge_id, 30)
    await stage.record(stage.event("refund.succeeded"))
    order = await stage.order()
    assert [(each.external, each.amount) for each in order.refunds] == [(True, 30)]
    assert order.refundable(order.charges[0]) == 70
    assert await stage.notices() == ["PAY_ORDER_SUCCESS", "REFUND_SUCCESS"]


async def test_a_refund_is_announced_before_its_own_answer(stage: Stage) -> None:
    """refund.succeeded overtakes the answer of the refund call: one refund, announced once."""
    charge_id = await stage.paid()

    async def tell_first() -> None:
        await stage.record(stage.event("refund.succeeded"))

    before_answer(stage, "refunds", tell_first)
    await stage.refund()
    order = await stage.order()
    assert states(order) == ["SUCCEEDED", "SUCCEEDED"]
    assert order.refund("r1").observed_by == "WEBHOOK"
    assert await stage.notices() == ["PAY_ORDER_SUCCESS", "REFUND_SUCCESS"]
    assert len(stage.world.lookalike.refunds_of(charge_id)) == 1


# The fault table --------------------------------------------------------------------------


async def test_w1_duplicates_have_one_effect(stage: Stage) -> None:
    """The same event ten times at once and once more: one effect, all answered."""
    charge_id = await stage.charge()
    stage.world.lookalike.pay(charge_id)
    event = stage.event("charge.succeeded")
    recorded = await asyncio.gather(*(stage.record(event) for _ in range(10)))
    recorded.append(await stage.record(event))
    outcomes = [each.outcome for each in recorded]
    assert outcomes.count(EventOutcome.ACCEPTED) == 1
    assert outcomes.count(EventOutcome.DUPLICATE) == 10
    assert await stage.notices() == ["PAY_ORDER_SUCCESS"]


async def test_w1_ten_at_once_on_two_replicas(database_url: str) -> None:
    """Two processes on one database get the same event at once, ten times each (I7, I11)."""
    lookalike = Lookalike("app_1", rng_seed=1)
    psp = client_over(DirectWire(lookalike), "app_1", TOTAL_TIMEOUT)
    async with await open_store(database_url) as one, await open_store(database_url) as two:
        replicas = [Payments(store, psp, SystemClock()) for store in (one, two)]
        inboxes = [Inbox(each.ports) for each in replicas]
        orders = [f"order-{number}" for number in range(8)]
        for order_no in orders:
            made = await replicas[0].charge(replace(TERMS, order_no=order_no))
            lookalike.pay(json.loads(made.charge_json)["id"])
        bodies = [compact(each) for each in lookalike.events.values()]
        assert len(bodies) == len(orders)
        recorded = await asyncio.gather(
            *(inbox.record(body) for _ in range(10) for body in bodies for inbox in inboxes)
        )
        assert sum(each.outcome is EventOutcome.ACCEPTED for each in recorded) == len(orders)
        assert {each.outcome for each in recorded} == {
            EventOutcome.ACCEPTED,
            EventOutcome.DUPLICATE,
        }
        for order_no in orders:
            assert len(await two.notifications(order_no)) == 1
            assert (await one.load(order_no)).charges[0].state is ChargeState.SUCCEEDED


async def _hot_order(url: str, events: int, inboxes: int) -> tuple[int, list[object], Order]:
    """So many refunds of one order come at once, to each of so many processes in its turn.

    How often an event was sent to the disk, what recording came to, and the order at the end.
    """
    lookalike = Lookalike("app_1", rng_seed=1)
    psp = client_over(DirectWire(lookalike), "app_1", TOTAL_TIMEOUT)
    stores = [await open_store(url) for _ in range(inboxes)]
    replicas = [Payments(cast("Store", _Counting(each)), psp, SystemClock()) for each in stores]
    made = await replicas[0].charge(replace(TERMS, amount=10 * events))
    charge_id = json.loads(made.charge_json)["id"]
    lookalike.pay(charge_id)
    await replicas[0].query(KeyKind.ORDER_NO, TERMS.order_no, refresh=True)
    for _ in range(events):
        lookalike.refund_at_dashboard(charge_id, 1)
    bodies = list(map(compact, lookalike.events.values()))[-events:]
    boxes = [Inbox(each.ports) for each in replicas]
    records = (boxes[n % inboxes].record(body) for n, body in enumerate(bodies))
    recorded = await asyncio.gather(*records, return_exceptions=True)
    order = await stores[0].load(TERMS.order_no)
    tries = sum(cast("_Counting", each.ports.store).events_tried for each in replicas)
    for each in stores:
        await each.close()
    return tries, [getattr(each, "outcome", each) for each in recorded], order


class _Counting:
    """A store that counts the commits of events."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self.events_tried = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, change: Change) -> bool:
        self.events_tried += len(change.new_events)
        return await self._store.commit(change)


async def test_many_events_of_one_order_at_once(database_url: str) -> None:
    """All of them are recorded, and none is written in vain: they take turns."""
    tries, recorded, order = await _hot_order(database_url, events=120, inboxes=1)
    assert recorded == [EventOutcome.ACCEPTED] * 120
    assert len(order.refunds) == tries == 120


async def test_many_events_of_one_order_at_two_replicas(database_url: str) -> None:
    """Between processes the version decides; each of them takes part, and no event is refused."""
    _, recorded, order = await _hot_order(database_url, events=60, inboxes=2)
    assert recorded == [EventOutcome.ACCEPTED] * 60
    assert len(order.refunds) == 60


async def test_w2_refund_before_charge(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """refund.succeeded before charge.succeeded waits; it is applied and announced after it."""
    caplog.set_level(logging.INFO)
    charge_id = await stage.charge()
    stage.world.lookalike.pay(charge_id)
    stage.world.lookalike.refund_at_dashboard(charge_id, 40)
    early = stage.event("refund.succeeded")
    recorded = await stage.record(early)
    assert recorded.outcome is EventOutcome.ACCEPTED
    assert (recorded.event.standing, recorded.event.reason) == ("WAITING", "charge_not_paid_yet")
    assert states(await stage.order()) == ["PENDING"]
    await stage.look()
    assert states(await stage.order()) == ["SUCCEEDED", "SUCCEEDED"]
    stored = await stage.stored(early)
    assert (stored.standing, stored.reason) == (EventStanding.APPLIED, "")
    (line,) = [vars(each) for each in caplog.records if each.message == "event_applied_late"]
    assert (line["event_id"], line["order_no"]) == (stored.event_id, TERMS.order_no)
    assert (await stage.record(stage.event("charge.succeeded"))).outcome is EventOutcome.ACCEPTED
    assert (await stage.record(early)).outcome is EventOutcome.DUPLICATE
    assert await stage.notices() == ["PAY_ORDER_SUCCESS", "REFUND_SUCCESS"]


async def test_w2_the_charge_is_announced_while_its_refund_waits(stage: Stage) -> None:
    """charge.succeeded comes before the waiting refund is looked at: nothing is announced twice."""
    charge_id = await stage.charge()
    stage.world.lookalike.pay(charge_id)
    stage.world.lookalike.refund_at_dashboard(charge_id, 40)
    await stage.record(stage.event("refund.succeeded"))
    await stage.record(stage.event("charge.succeeded"))
    await stage.look()
    assert states(await stage.order()) == ["SUCCEEDED", "SUCCEEDED"]
    assert await stage.notices() == ["PAY_ORDER_SUCCESS", "REFUND_SUCCESS"]


async def test_w2_charge_before_its_own_answer(stage: Stage) -> None:
    """The webhook overtakes the create call's answer: one move, one message, and an answer."""

    async def pay_and_tell() -> None:
        made = stage.world.lookalike.newest_charges(1)[0]
        stage.world.lookalike.pay(made["id"])
        recorded = await stage.record(stage.event("charge.succeeded"))
        assert recorded.event.standing is EventStanding.APPLIED

    before_answer(stage, "charges", pay_and_tell)
    made = await stage.world.payments.charge(TERMS)
    assert made.charge.state is ChargeState.SUCCEEDED
    assert json.loads(made.charge_json)["id"] == made.charge.charge_id
    assert await stage.notices() == ["PAY_ORDER_SUCCESS"]
    moves = [each.event for each in await stage.world.disk.journal(TERMS.order_no)]
    assert moves.count("charge_succeeded") == 1
    with pytest.raises(OrderAlreadyPaid):
        await stage.world.payments.charge(TERMS)


async def test_w2_charge_before_an_answer_that_is_lost(stage: Stage) -> None:
    """The webhook comes, the create call's answer never does: paid and announced once."""

    async def pay_tell_and_lose() -> Lost:
        stage.world.lookalike.pay(stage.world.lookalike.newest_charges(1)[0]["id"])
        await stage.record(stage.event("charge.succeeded"))
        return Lost("timeout")

    before_answer(stage, "charges", pay_tell_and_lose)
    with pytest.raises(OutcomeUnknown):
        await stage.world.payments.charge(TERMS)
    assert states(await stage.order()) == ["SUCCEEDED"]
    assert await stage.notices() == ["PAY_ORDER_SUCCESS"]


async def test_w2_everybody_learns_of_it_at_once(database_url: str) -> None:
    """Webhook here, query there, the caller once more: one move, one message (R3)."""
    lookalike = Lookalike("app_1", rng_seed=1)
    psp = client_over(DirectWire(lookalike), "app_1", TOTAL_TIMEOUT)
    async with await open_store(database_url) as one, await open_store(database_url) as two:
        here, there = (Payments(store, psp, SystemClock()) for store in (one, two))
        inbox = Inbox(here.ports)

        async def learn(order_no: str) -> None:
            terms = replace(TERMS, order_no=order_no)
            made = await here.charge(terms)
            event = lookalike.pay(json.loads(made.charge_json)["id"])
            sample = sample_event("charge.succeeded", livemode=False)
            body = compact(sample | {"id": f"evt_{order_no}", "data": {"object": event}})
            await asyncio.gather(
                inbox.record(body),
                there.query(KeyKind.ORDER_NO, order_no, refresh=True),
                there.charge(terms),
                return_exceptions=True,
            )
            sent = await one.notifications(order_no)
            assert [each.kind for each in sent] == ["PAY_ORDER_SUCCESS"]
            stored = await two.event(f"evt_{order_no}")
            assert stored is not None
            assert stored.standing is EventStanding.APPLIED
            journal = [each.event for each in await one.journal(order_no)]
            assert journal.count("charge_succeeded") == 1

        await asyncio.gather(*(learn(f"order-{number}") for number in range(20)))


async def test_w3_money_after_closed(stage: Stage) -> None:
    """A payment that comes through after the charge was closed is booked and announced as late."""
    charge_id = await stage.charge()
    stage.world.pass_time(3 * 3600)
    await stage.world.payments.query(KeyKind.ORDER_NO, TERMS.order_no, refresh=True)
    assert states(await stage.order()) == ["CLOSED"]
    stage.world.lookalike.pay_late(charge_id)
    await stage.record(stage.event("charge.succeeded"))
    charge = (await stage.order()).charges[0]
    assert (charge.state, charge.late) == (ChargeState.SUCCEEDED, True)
    assert await stage.notices() == ["PAY_ORDER_CLOSED", "PAY_ORDER_SUCCESS"]
    assert (await stage.notifications())[-1].late


async def test_w3_money_for_a_charge_that_made_way(stage: Stage) -> None:
    """Two charges of one order are paid: the second one is a duplicate payment (P15)."""
    first = await stage.charge(channel="alipay_wap", extra={"success_url": "http://a.cn/s"})
    await stage.paid(channel="wx_pub_qr")
    order = await stage.order()
    if order.charges[0].state is ChargeState.CLOSED:
        pytest.skip("the channel closed it")
    stage.world.lookalike.pay(first)
    await stage.record(stage.event("charge.succeeded"))
    assert [each.duplicate_payment for each in await stage.notifications()] == [False, True]


async def test_w4_stale_snapshot(stage: Stage) -> None:
    """A picture from before the payment arrives after it: nothing changes, and it is 2xx."""
    charge_id = await stage.charge()
    unpaid = stage.world.lookalike.charge(charge_id)
    stage.world.lookalike.pay(charge_id)
    event = stage.event("charge.succeeded")
    await stage.record(event)
    before = await stage.order()
    stale = event | {"id": "evt_stale", "data": {"object": unpaid}}
    assert (await stage.record(stale)).outcome is EventOutcome.ACCEPTED
    assert replace(await stage.order(), version=before.version) == before
    assert await stage.notices() == ["PAY_ORDER_SUCCESS"]


async def test_w4_an_overtaken_end_of_a_refund_alarms_nobody(stage: Stage) -> None:
    """refund.failed arrives after the refund.succeeded that came later: nothing changes."""
    charge_id = await stage.paid()
    stage.world.lookalike.plan_refund("failed")
    await stage.refund()
    failed = stage.event("refund.failed")
    stage.world.lookalike.approve_refund(stage.world.lookalike.refunds_of(charge_id)[0]["id"])
    await stage.record(stage.event("refund.succeeded"))
    before = await stage.order()
    assert before.refunds[0].state is RefundState.SUCCEEDED
    await stage.record(failed)
    after = await stage.order()
    assert after.refunds[0].state is RefundState.SUCCEEDED
    assert after.refunds[0].operator_reason == ""


async def test_w4_an_old_picture_closes_nothing(stage: Stage) -> None:
    """An unpaid picture says nothing of the expiry since: only asking does (I5, M13)."""
    charge_id = await stage.charge()
    unpaid = stage.world.lookalike.charge(charge_id)
    stage.world.pass_time(24 * 3600)
    sample = sample_event("charge.failed", livemode=False)
    await stage.record(sample | {"data": {"object": unpaid}})
    assert states(await stage.order()) == ["PENDING"]
    assert await stage.notices() == []


async def test_w4_a_picture_is_no_answer_for_the_client(stage: Stage) -> None:
    """A charge that is known from an event alone is not handed out with the event's text."""

    async def tell_and_lose() -> Lost:
        made = stage.world.lookalike.newest_charges(1)[0]
        shown = made | {"credential": {TERMS.channel: "weixin://wxpay/bizpayurl?pr=x"}}
        sample = sample_event("charge.succeeded", livemode=False)
        await stage.record(sample | {"data": {"object": shown}})
        return Lost("timeout")

    before_answer(stage, "charges", tell_and_lose)
    with pytest.raises(OutcomeUnknown):
        await stage.world.payments.charge(TERMS)
    assert states(await stage.order()) == ["PENDING"]
    stage.restart()
    again = await stage.world.payments.charge(TERMS)
    assert json.loads(again.charge_json)["object"] == "charge"


async def test_w5_replay_days_later(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """An old event once more, in a process that remembers nothing: no effect, and no alarm."""
    await stage.paid()
    event = stage.event("charge.succeeded")
    before = await stage.order()
    stage.world.pass_time(5 * 24 * 3600)
    stage.restart()
    again = await stage.record(event)
    assert again.outcome is EventOutcome.DUPLICATE
    assert again.event.standing is EventStanding.APPLIED
    assert await stage.order() == before
    assert [each.message for each in caplog.records if each.levelno > logging.INFO] == []


async def test_w5_replay_of_an_event_that_was_pruned(stage: Stage) -> None:
    """Where the id is gone the reducer makes it a no-op."""
    await stage.paid()
    before = await stage.order()
    stage.world.disk.disk.events.clear()
    stage.restart()
    assert (await stage.record(stage.event("charge.succeeded"))).outcome is EventOutcome.ACCEPTED
    assert replace(await stage.order(), version=before.version) == before
    assert await stage.notices() == ["PAY_ORDER_SUCCESS"]


@pytest.mark.parametrize("restarted", [False, True])
async def test_w6_same_id_other_body(
    stage: Stage, restarted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The first one wins, whoever remembers it; the second one is refused with an alarm."""
    charge_id = await stage.charge()
    stage.world.lookalike.pay(charge_id)
    event = stage.event("charge.succeeded")
    await stage.record(event)
    if restarted:
        stage.restart()
    before = stage.world.disk.disk.copy()
    with pytest.raises(EventIdReused):
        await stage.record(about(stage.event("charge.succeeded"), amount=1))
    assert stage.world.disk.disk == before
    assert logged(caplog, "event_id_reused") == 1


@pytest.mark.parametrize("restarted", [False, True])
async def test_w6_same_id_and_another_count_of_webhooks(stage: Stage, restarted: bool) -> None:
    """A body that differs in `pending_webhooks` alone says the same thing: a duplicate."""
    stage.world.lookalike.pay(await stage.charge())
    event = stage.event("charge.succeeded")
    await stage.record(event | {"pending_webhooks": 2})
    if restarted:
        stage.restart()
    assert (await stage.record(event)).outcome is EventOutcome.DUPLICATE


async def test_w6_at_once_on_one_id(database_url: str) -> None:
    """Two bodies with one id at two processes at once: one is written, the other refused."""
    psp = client_over(DirectWire(Lookalike("app_1")), "app_1", TOTAL_TIMEOUT)
    bodies = [compact(sample_event("charge.succeeded", livemode=mode)) for mode in (True, False)]
    async with await open_store(database_url) as one, await open_store(database_url) as two:
        inboxes = [Inbox(Payments(store, psp, SystemClock()).ports) for store in (one, two)]
        recorded = await asyncio.gather(
            *(inbox.record(body) for inbox, body in zip(inboxes, bodies, strict=True)),
            return_exceptions=True,
        )
    assert sorted(type(each).__name__ for each in recorded) == ["EventIdReused", "Recorded"]


def _of_another_app(stage: Stage) -> Event:
    return about(stage.event("charge.succeeded"), app="app_other")


def _of_the_other_mode(stage: Stage) -> Event:
    return about(stage.event("charge.succeeded"), livemode=True) | {"livemode": True}


def _of_an_unknown_order(stage: Stage) -> Event:
    return about(stage.event("charge.succeeded"), order_no="never1", id="ch_never")


def _refund_of_an_unknown_order(stage: Stage) -> Event:
    sample = sample_event("refund.succeeded", livemode=False)
    return about(sample, app="app_1", charge="ch_never", charge_order_no="never1")


@pytest.mark.parametrize(
    ("make", "reason", "kept"),
    [
        (_of_another_app, "other_app", False),
        (_of_the_other_mode, "other_mode", False),
        (_of_an_unknown_order, "unknown_order", True),
        (_refund_of_an_unknown_order, "unknown_order", True),
        (lambda _: sample_event("charge.succeeded", livemode=False), "other_app", False),
        (lambda _: sample_event("charge.succeeded", livemode=True), "other_mode", False),
    ],
)
async def test_w9_validly_signed_but_not_ours(
    stage: Stage, make: Callable[[Stage], Event], reason: str, kept: bool
) -> None:
    """Recorded as ignored, once; no order is touched, and foreign bodies are not kept."""
    charge_id = await stage.charge()
    stage.world.lookalike.pay(charge_id)
    before = stage.world.disk.disk.copy()
    event = make(stage)
    for outcome in (EventOutcome.IGNORED, EventOutcome.DUPLICATE):
        recorded = await stage.record(event)
        assert (recorded.outcome, recorded.event.reason) == (outcome, reason)
    stage.restart()
    recorded = await stage.record(event | {"pending_webhooks": 3})
    assert (recorded.outcome, recorded.event.reason) == (EventOutcome.DUPLICATE, reason)
    stored = await stage.stored(event)
    assert (stored.standing, stored.order_no) == (EventStanding.IGNORED, None)
    assert bool(stored.body) is kept
    assert stage.world.disk.disk.orders == before.orders
    assert "never" not in repr(stage.world.disk.disk.orders)
    assert SAMPLE_ORDER_NO not in repr(stage.world.disk.disk.orders)


def _lost_payment(stage: Stage, charge_id: str) -> Event:
    stage.world.lookalike.pay(charge_id)
    return stage.event("charge.succeeded")


def _lost_refund(stage: Stage, charge_id: str) -> Event:
    stage.world.lookalike.pay(charge_id)
    stage.world.pass_time(364 * 24 * 3600)
    stage.world.lookalike.refund_at_dashboard(charge_id, 40)
    return stage.event("refund.succeeded")


@pytest.mark.parametrize("happen", [_lost_payment, _lost_refund])
async def test_w9_money_of_an_order_that_was_lost(
    stage: Stage, happen: Callable[[Stage, str], Event], caplog: pytest.LogCaptureFixture
) -> None:
    """A failover lost the order, and its payer pays, or is given back: an alarm, not a shrug."""
    charge_id = await stage.charge()
    number = (await stage.order()).charges[0].out_trade_no
    stage.world.disk.disk = Disk()
    stage.restart()
    event = happen(stage, charge_id)
    for outcome in (EventOutcome.IGNORED, EventOutcome.DUPLICATE):
        recorded = await stage.record(event)
        assert (recorded.outcome, recorded.event.reason) == (outcome, "order_lost")
    stored = await stage.stored(event)
    assert (stored.standing, stored.due_at) == (EventStanding.PARKED, None)
    assert stored.body == compact(event)
    assert logged(caplog, "event_parked") == 1
    (alarm,) = [vars(each) for each in caplog.records if each.message == "event_parked"]
    assert (alarm["out_trade_no"], alarm["charge_id"]) == (number, charge_id)
    assert (alarm["event_id"], alarm["reason"]) == (event["id"], "order_lost")
    assert stage.world.disk.disk.orders == {}


def _nobodys(stage: Stage, charge_id: str, kind: str, **fields: Any) -> Event:
    """A payment or a refund of our app at the time of its number, changed so."""
    stage.world.lookalike.pay(charge_id)
    stage.world.lookalike.refund_at_dashboard(charge_id, 40)
    return about(stage.event(kind), **fields)


A_DAY_S = 24 * 3600 + 60


@pytest.mark.parametrize(
    ("kind", "fields", "later_s"),
    [
        ("charge.succeeded", {"paid": False}, 0),
        ("charge.succeeded", {"order_no": "20260301120000123456"}, 0),
        ("charge.succeeded", {}, A_DAY_S),
        ("charge.succeeded", {}, -A_DAY_S),
        ("refund.succeeded", {"charge_order_no": "never1"}, 0),
        ("refund.succeeded", {"charge_order_no": None}, 0),
        ("refund.succeeded", {}, 401 * A_DAY_S),
        ("refund.succeeded", {}, -A_DAY_S),
    ],
)
async def test_w9_what_is_not_money_of_ours_alarms_nobody(
    stage: Stage, kind: str, fields: Event, later_s: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Unpaid, under a number of another form, or of another time: ignored as ever."""
    charge_id = await stage.charge()
    stage.world.disk.disk = Disk()
    event = _nobodys(stage, charge_id, kind, **fields)
    event["data"]["object"]["created"] += later_s
    recorded = await stage.record(event)
    assert (recorded.event.standing, recorded.event.reason) == ("IGNORED", "unknown_order")
    assert [each for each in caplog.records if each.levelno > logging.INFO] == []


async def test_w9_unknown_orders_are_counted(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """One line at once and then one an hour, however many come; none while none do."""
    caplog.set_level(logging.INFO)
    stage.world.lookalike.pay(await stage.charge())

    async def come(count: int) -> None:
        for _ in range(count):
            event = _of_an_unknown_order(stage) | {"id": f"evt_{uuid4().hex[:20]}"}
            for _ in range(2):
                await stage.record(event)

    def counts() -> list[int]:
        lines = [each for each in caplog.records if each.message == "events_of_unknown_orders"]
        return [vars(each)["count"] for each in lines]

    await come(68)
    assert counts() == [1]
    await _run_once(stage)
    stage.world.pass_time(3599)
    await come(1)
    await _run_once(stage)
    assert counts() == [1]
    stage.world.pass_time(1)
    await _run_once(stage)
    assert counts() == [1, 68]
    stage.world.pass_time(7200)
    await _run_once(stage)
    assert counts() == [1, 68]
    await come(1)
    assert counts() == [1, 68, 1]


async def _run_once(stage: Stage) -> None:
    """The inbox's own loop, up to its first pause."""
    paused = asyncio.Event()

    class Clock(VirtualClock):
        async def sleep(self, seconds: float) -> None:
            paused.set()
            await asyncio.Event().wait()

    ports = stage.inbox._ports
    stage.inbox._ports = replace(ports, clock=Clock(stage.world))
    running = asyncio.create_task(stage.inbox.run())
    await paused.wait()
    running.cancel()
    await asyncio.wait([running])
    stage.inbox._ports = ports


@pytest.mark.parametrize("kind", ["order.refunded", "summary.daily.available", "a.new.type"])
async def test_w19_unknown_type(stage: Stage, kind: str) -> None:
    """Recorded with its body, ignored, and nothing else happens."""
    event = sample_event(kind, livemode=False)
    recorded = await stage.record(event)
    assert recorded.outcome is EventOutcome.IGNORED
    assert (recorded.event.type, recorded.event.reason) == (kind, "type_not_handled")
    assert (await stage.stored(event)).body == compact(event)
    assert stage.world.disk.disk.orders == {}
