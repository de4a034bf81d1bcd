"""A failover that loses the last commits while flows are under way (D3): what they still have.

That every single commit may be lost is enumerated in `test_crash_points.py`; here are the stories
with a second process, and those of rows that were read a while ago.
"""

import dataclasses
import logging
from datetime import timedelta

import pytest

from midas.charge import WITHDRAWN, Charge, ChargeState, ChargeTerms, ObservedBy
from midas.draft import Draft
from midas.errors import ChargeStillOpen, NotFound, OrderAlreadyPaid, OutcomeUnknown
from midas.flows import create_charge as charge_flow
from midas.flows import create_refund as refund_flow
from midas.flows import query as query_flow
from midas.flows.commit import commit
from midas.flows.terms import RefundTerms, charge_digest
from midas.immutable import replace
from midas.payment import Order
from midas.ports import KeyKind
from midas.psp.sdk import Prepared
from midas.psp.transport import Lost, NotSent, Sent
from midas.refund import RefundState
from midas.sequences import EPOCH
from tests.fakes.store import Disk
from tests.faults.chooser import Chooser
from tests.faults.scenarios import ALIPAY, BAR_CODE, TERMS, a_part, insist_on_charge
from tests.faults.world import Failed, FaultyStore, FaultyWire, VirtualClock, World
from tests.records import intent

KEY = TERMS.order_no


def a_world(terms: ChargeTerms = TERMS) -> World:
    """Nothing goes wrong by itself."""
    return World(Chooser((), most_faults=0), terms)


async def paid() -> World:
    """A world in which the order is paid, and known to be."""
    world = a_world()
    await insist_on_charge(world, TERMS)
    world.pay_everything()
    await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    return world


def another_comes_instead(world: World) -> None:
    """By the time of Ping++'s answer the intent is lost, and another replica has one of its own."""

    async def fail_over() -> None:
        world.disk.disk = Disk()
        assert await world.disk.commit(intent(KEY, channel="wx_pub_qr"))

    world.on_charged = fail_over


def posts_end(patch: pytest.MonkeyPatch, end: Lost | NotSent) -> None:
    """Every POST ends so; what is Lost was carried out."""
    send = FaultyWire.send

    async def sent(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if request.method != "POST":
            return await send(self, request, limit)
        if isinstance(end, Lost):
            await send(self, request, limit)
        return end

    patch.setattr(FaultyWire, "send", sent)


async def touched(world: World, known: Order) -> None:
    """A process that read the order a while ago writes something down."""
    now = world.disk.clock

    def decide(draft: Draft) -> None:
        charge = draft.base.charges[0]
        shown = replace(charge, transaction_no="shown again")
        draft.put(shown, ("touched", now, ObservedBy.QUERY))

    await commit(world.payments.ports, known, decide)


async def test_a_lost_charge_makes_way_for_the_one_that_came_instead() -> None:
    """Version and all: only the id of the commit differs. Neither charge is forgotten."""
    world = a_world()
    another_comes_instead(world)
    with pytest.raises(ChargeStillOpen) as open_still:
        await world.payments.charge(TERMS)
    order = await world.order()
    lost, other = order.charge(open_still.value.out_trade_no), order.open_charge
    assert lost.superseded
    assert lost.charge_id is not None
    assert other is not None
    assert other.state is ChargeState.SUBMITTING
    await world.settle()
    assert world.lookalike.charge(lost.charge_id)["reversed"]
    assert (await world.order()).charge(lost.out_trade_no).state is ChargeState.CLOSED


@pytest.mark.parametrize("kind", ["charge", "refund"])
async def test_what_a_failover_lost_calls_a_person(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The row is there again before anything is decided, and the log has a line."""
    world = await paid() if kind == "refund" else a_world()
    before = world.disk.disk.copy()

    async def fail_over() -> None:
        world.disk.disk = before

    world.on_post = fail_over
    if kind == "charge":
        await world.payments.charge(TERMS)
    else:
        await world.payments.refund(a_part(world))
    order = await world.order()
    assert [each.state for each in order.charges] != []
    assert [each.state for each in order.refunds] == [RefundState.SUCCEEDED] * (kind == "refund")
    journal = [each.event for each in world.disk.disk.journal[KEY]]
    assert journal[-2] == f"{kind}_restored"
    alarms = [each for each in caplog.records if each.message == "operator_needed"]
    assert [vars(each)["kind"] for each in alarms] == [f"{kind}_restored"]


async def test_a_charge_that_was_paid_is_answered_as_paid() -> None:
    """Another one came instead, and the bar code was paid all the same (I4, I5)."""
    world = a_world(BAR_CODE)
    another_comes_instead(world)
    result = await world.payments.charge(BAR_CODE)
    assert (result.charge.state, result.charge.superseded) == (ChargeState.SUCCEEDED, True)


async def test_an_unknown_charge_stays_unknown_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though superseded by its rival: no third charge before it is found, and found to be paid."""
    world = a_world(BAR_CODE)
    another_comes_instead(world)
    with monkeypatch.context() as patch:
        posts_end(patch, Lost("timeout"))
        with pytest.raises(OutcomeUnknown):
            await world.payments.charge(BAR_CODE)
    order = await world.order()
    assert {each.state for each in order.charges} == {ChargeState.SUBMITTING}
    assert sorted(each.superseded for each in order.charges) == [False, True]
    draft = Draft(order)
    assert order.open_charge is not None
    failed = dataclasses.replace(order.open_charge, state=ChargeState.FAILED, due_at=None)
    draft.put(failed, ("charge_failed", world.disk.clock, ObservedBy.CREATE))
    written = draft.change(world.disk.new_change_id())
    assert written is not None
    assert await world.disk.commit(written)
    another_code = dataclasses.replace(BAR_CODE, extra={"scan_code": "134590000000000001"})
    with pytest.raises(OrderAlreadyPaid):
        await world.payments.charge(another_code)
    assert len(world.lookalike.newest_charges(10)) == 1


async def test_what_was_announced_is_announced_again_in_its_order() -> None:
    """The lost notifications are written with the rows, under numbers of a new epoch (I7)."""
    world = await paid()
    send = FaultyWire.send
    lost: list[bool] = []

    async def fail_over_first(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if not lost:
            world.disk.disk = Disk()
            lost.append(True)
        return await send(self, request, limit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaultyWire, "send", fail_over_first)
        await world.payments.refund(a_part(world))
    notices = await world.disk.notifications(KEY)
    assert world.disk.disk.floor >= EPOCH
    numbers = [each.sequence - world.disk.disk.floor for each in notices]
    assert list(zip(numbers, [(each.kind, each.told_again) for each in notices], strict=True)) == [
        (1, ("PAY_ORDER_SUCCESS", True)),
        (2, ("REFUND_SUCCESS", False)),
    ]


async def test_a_refund_that_was_queued_once_is_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was read while it was queued, sent by another process, and lost: it may be there (I2)."""
    world = await paid()
    base = world.disk.disk.copy()
    with monkeypatch.context() as patch:
        posts_end(patch, NotSent("connect_failed"))
        assert isinstance(await world.ask(lambda p: p.refund(a_part(world))), Failed)
    known = await world.order()
    assert known.refund("r1").unsent
    world.start()  # with a breaker of its own
    world.pass_time(301)
    await world.payments.resolve_due()
    assert (await world.order()).refund("r1").state is RefundState.SUCCEEDED
    world.disk.disk = base
    await touched(world, known)
    assert not (await world.order()).refund("r1").unsent
    await world.settle()
    refund = (await world.order()).refund("r1")
    assert refund.state is RefundState.SUCCEEDED
    assert len(world.lookalike.refunds_of(refund.charge_id)) == 1


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "on its way"])
async def test_a_refund_whose_taking_was_lost_is_not_sent_again(
    listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads as queued, though it was sent: looked for first, and unknown if unanswered (I2)."""
    world = await paid()
    with monkeypatch.context() as patch:
        posts_end(patch, NotSent("connect_failed"))
        assert isinstance(await world.ask(lambda p: p.refund(a_part(world))), Failed)
    world.start()  # with a breaker of its own
    queued = world.disk.disk.copy()

    async def fail_over() -> None:
        world.disk.disk, world.on_post = queued.copy(), None

    world.on_post = fail_over
    world.pass_time(301)
    if listed:
        await world.payments.resolve_due()
        assert (await world.order()).refund("r1").state is RefundState.SUCCEEDED
        world.disk.disk = queued.copy()  # and the outcome was lost, too
        world.pass_time(301)
        await world.payments.resolve_due()
        refund = (await world.order()).refund("r1")
        assert refund.state is RefundState.SUCCEEDED
    else:
        with monkeypatch.context() as patch:
            posts_end(patch, Lost("timeout"))
            await world.payments.resolve_due()
        refund = (await world.order()).refund("r1")
        assert (refund.state, refund.unsent) == (RefundState.SUBMITTING, False)
    assert len(world.lookalike.refunds_of(refund.charge_id)) == 1


async def test_a_charge_without_its_answer_is_not_posted_where_that_could_make_another() -> None:
    """Another process may be reversing it; Ping++ would refuse no repetition then (pingpp.md 8)."""
    world = a_world(ALIPAY)
    first = await world.payments.charge(ALIPAY)
    await _put(world, await world.order(), dataclasses.replace(first.charge, answer=None))
    again = await world.payments.charge(ALIPAY)
    assert again.charge.out_trade_no != first.charge.out_trade_no
    assert world.lookalike.charge(first.charge.charge_id or "")["reversed"]


async def test_a_key_that_another_order_took_meanwhile_is_for_a_person(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The lost refund cannot be put back under it: it gets Ping++'s id, and a person is called."""
    world = await paid()
    base = world.disk.disk.copy()
    await world.payments.refund(a_part(world))
    known = await world.order()
    world.disk.disk = base
    other = await world.payments.charge(dataclasses.replace(TERMS, order_no="order-2"))
    world.lookalike.pay(other.charge.charge_id or "")
    await world.payments.query(KeyKind.ORDER_NO, "order-2", refresh=True)
    await world.payments.refund(dataclasses.replace(a_part(world), order_no="order-2"))
    await touched(world, known)
    alarms = [vars(each) for each in caplog.records if each.levelno == logging.ERROR]
    assert [(each["order_no"], each["kind"]) for each in alarms] == [
        (KEY, "refund_no_not_restored"),
        (KEY, "refund_restored"),
    ]
    (refund,) = (await world.order()).refunds
    assert (refund.refund_no, refund.amount, refund.external) == (refund.refund_id, 40, True)
    assert (await world.order()).charges[0].transaction_no == "shown again"


@pytest.mark.parametrize("call", ["refund", "query"])
async def test_an_order_that_is_lost_between_two_reads_is_put_back(call: str) -> None:
    """The process has it in hand: it neither fails on it nor forgets it."""
    world = await paid()
    charge_id = (await world.order()).charges[0].charge_id or ""
    load = FaultyStore.load
    lost: list[bool] = []

    async def lose_it_first(self: FaultyStore, order_no: str) -> Order:
        if not lost:
            world.disk.disk = Disk()
            lost.append(True)
        return await load(self, order_no)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaultyStore, "load", lose_it_first)
        if call == "refund":
            terms = dataclasses.replace(a_part(world), order_no="", charge_id=charge_id)
            assert (await world.payments.refund(terms)).refund.state is RefundState.SUCCEEDED
        else:
            await world.payments.query(KeyKind.CHARGE_ID, charge_id, refresh=True)
    assert lost
    (charge,) = (await world.order()).charges
    assert (charge.charge_id, charge.state) == (charge_id, ChargeState.SUCCEEDED)


def test_a_charge_that_is_gone_for_good_is_not_found() -> None:
    """Its id belongs to another order by now, so that it could not be put back."""
    terms = RefundTerms("r1", charge_id="ch_1", amount=1, description="part")
    with pytest.raises(NotFound):
        refund_flow._target(Order(KEY), terms)
    with pytest.raises(NotFound):
        query_flow.named(Order(KEY), KeyKind.REFUND_NO, "r1")


async def test_the_answer_of_a_refund_whose_key_is_anothers_by_now_is_booked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its intent was lost while the POST was on its way; the caller gets OUTCOME_UNKNOWN."""
    world = await paid()
    base = world.disk.disk.copy()

    async def key_is_taken() -> None:
        world.on_post, world.disk.disk = None, base
        other = await world.payments.charge(dataclasses.replace(TERMS, order_no="order-2"))
        world.lookalike.pay(other.charge.charge_id or "")
        await world.payments.query(KeyKind.ORDER_NO, "order-2", refresh=True)
        await world.payments.refund(dataclasses.replace(a_part(world), order_no="order-2"))

    world.on_post = key_is_taken
    asked = await world.ask(lambda p: p.refund(a_part(world)))
    assert isinstance(asked, Failed)
    assert isinstance(asked.error, OutcomeUnknown)
    (refund,) = (await world.order()).refunds
    assert (refund.refund_no, refund.state) == (refund.refund_id, RefundState.SUCCEEDED)
    assert (await world.disk.load("order-2")).refund("r1").state is RefundState.SUCCEEDED
    kinds = {vars(each).get("kind") for each in caplog.records if each.levelno == logging.ERROR}
    assert "refund_no_not_restored" in kinds


async def test_who_waits_for_a_charge_in_flight_puts_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process that makes the call may be gone with the database's last commits."""
    world = a_world()
    ports = world.payments.ports
    charge = charge_flow._new_charge(ports, TERMS, charge_digest(TERMS))
    draft = Draft(Order(KEY))
    draft.add_charge(charge, ObservedBy.CREATE)
    written = draft.change(world.disk.new_change_id())
    assert written is not None
    assert await world.disk.commit(written)
    sleep = VirtualClock.sleep

    async def fail_over_meanwhile(self: VirtualClock, seconds: float) -> None:
        world.disk.disk = Disk()
        await sleep(self, seconds)

    monkeypatch.setattr(VirtualClock, "sleep", fail_over_meanwhile)
    result = await world.payments.charge(TERMS)
    assert result.charge.out_trade_no == charge.out_trade_no


@pytest.mark.parametrize("when", ["created", "posted again"])
async def test_a_charge_that_is_withdrawn_meanwhile_is_not_handed_out(when: str) -> None:
    """Another process begins to close it while this one waits for Ping++'s answer."""
    world = a_world()
    if when == "posted again":
        first = await world.payments.charge(TERMS)
        await _put(world, await world.order(), dataclasses.replace(first.charge, answer=None))

    async def withdraw() -> None:
        world.on_post = world.on_charged = None
        order = await world.disk.load(KEY)
        (made,) = world.lookalike.newest_charges(1)
        known = dataclasses.replace(
            order.charges[0], state=ChargeState.PENDING, charge_id=made["id"]
        )
        await _put(world, order, dataclasses.replace(known, answer=WITHDRAWN))

    if when == "created":
        world.on_charged = withdraw
        with pytest.raises(ChargeStillOpen):
            await world.payments.charge(TERMS)
    else:
        world.on_post = withdraw
        again = await world.payments.charge(TERMS)
        assert again.charge.out_trade_no != first.charge.out_trade_no


async def _put(world: World, order: Order, charge: Charge) -> None:
    draft = Draft(order)
    draft.put(charge, ("charge_closing", world.disk.clock, ObservedBy.QUERY))
    written = draft.change(world.disk.new_change_id())
    assert written is not None
    assert await world.disk.commit(written)
