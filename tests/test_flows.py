"""The flows at the places where money was once nearly lost, each on the in-memory world."""

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest

from midas import limits, schedule
from midas.charge import ChargeState, ChargeTerms
from midas.draft import Draft
from midas.errors import (
    InvalidRequest,
    OrderAlreadyPaid,
    OutcomeUnknown,
    Overloaded,
    PspRejectsMidas,
    PspUnavailable,
    RefundExceedsRemaining,
    RefundNoReused,
    StorageUnavailable,
)
from midas.flows.payment_calls import Payments
from midas.flows.terms import RefundTerms
from midas.flows.unknown import in_flight
from midas.payment import Order
from midas.ports import KeyKind
from midas.psp.breaker import State
from midas.psp.client import PingppClient
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Lost, NotSent, Sent
from midas.refund import Refund, RefundState
from tests.fakes.store import Disk
from tests.faults.chooser import Chooser
from tests.faults.scenarios import ALIPAY, BAR_CODE, TERMS, a_part, insist_on_charge
from tests.faults.world import (
    TOTAL_TIMEOUT,
    Failed,
    FaultyStore,
    FaultyWire,
    VirtualClock,
    World,
)
from tests.patience import PATIENCE_S
from tests.records import intent

REJECTED = Answer(
    401, b'{"error":{"type":"invalid_request_error","message":"sk_test_secret is wrong"}}', ""
)


@pytest.fixture
def world() -> World:
    """Nothing goes wrong by itself."""
    return World(Chooser((), most_faults=0), TERMS)


async def paid(world: World) -> None:
    """The order is charged and paid."""
    await insist_on_charge(world, world.terms)
    world.pay_everything()


async def test_commits_that_were_lost_make_no_second_refund(world: World) -> None:
    """After a failover that lost the refund, its key is recognised in Ping++'s list (D3, I2)."""
    await paid(world)
    key = world.terms.order_no
    await world.payments.query(KeyKind.ORDER_NO, key, refresh=True)
    before: Disk = world.disk.disk.copy()
    await world.payments.refund(a_part(world))
    world.disk.disk = before
    again = await world.payments.refund(a_part(world))
    assert again.refund.state is RefundState.SUCCEEDED
    assert again.refund.refund_no == "r1"
    made = world.lookalike.refunds_of(again.refund.charge_id)
    assert len(made) == 1
    with pytest.raises(RefundNoReused):
        await world.payments.refund(replace(a_part(world), amount=41))


async def test_a_refund_that_stays_queued_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ping++ refusing our key leaves the refund to go out later, and the caller gets the error."""
    await paid(world)
    answer_posts(monkeypatch, REJECTED)
    with pytest.raises(PspRejectsMidas) as raised:
        await world.payments.refund(a_part(world))
    assert raised.value.queued
    monkeypatch.undo()
    await world.settle()
    assert (await world.order()).refund("r1").state is RefundState.SUCCEEDED


async def test_words_about_our_key_are_kept_from_everybody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Ping++ says of the API key is neither stored nor shown (I15)."""
    answer_posts(monkeypatch, REJECTED)
    with pytest.raises(PspRejectsMidas):
        await world.payments.charge(world.terms)
    assert "secret" not in repr(await world.order())


async def test_one_payer_spelt_in_both_families_is_one_payer() -> None:
    """WeChat's H5 gets the IPv4 address that it wants, and a retry finds the same charge.

    On that channel the address is part of the charge's identity.
    """
    mapped = replace(TERMS, channel="wx_wap", extra={}, client_ip="::ffff:203.0.113.7")
    world = World(Chooser((), most_faults=0), mapped)
    first = await world.payments.charge(mapped)
    again = await world.payments.charge(replace(mapped, client_ip="203.0.113.7"))
    assert again.reused
    assert again.charge.out_trade_no == first.charge.out_trade_no
    assert [each["client_ip"] for each in world.lookalike.newest_charges(10)] == ["203.0.113.7"]
    with pytest.raises(InvalidRequest):
        await world.payments.charge(replace(mapped, client_ip="::ffff:127.0.0.1"))


@pytest.mark.parametrize("skew", [timedelta(minutes=-14), timedelta(minutes=14)])
async def test_a_clock_that_is_off_hides_no_payment(
    skew: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bar-code charge whose answer was lost is found although Ping++'s clock differs (I1, R6)."""
    world = World(Chooser((), most_faults=0), BAR_CODE)
    books = world.lookalike._books
    monkeypatch.setattr(books, "now", lambda: world.seconds + skew.total_seconds())
    lose_answers(monkeypatch, after="charges")
    await world.ask(lambda payments: payments.charge(BAR_CODE))
    monkeypatch.undo()
    await world.settle()
    assert (await world.order()).charges[0].state is ChargeState.SUCCEEDED


@pytest.mark.parametrize("terms", [TERMS, ALIPAY], ids=lambda terms: terms.channel)
@pytest.mark.parametrize("dies", [False, True], ids=["unanswered", "killed"])
async def test_a_reversed_charge_is_not_handed_out_again(
    terms: ChargeTerms, dies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the reversal is lost; the old terms again make a charge that can be paid.

    Nor is it posted again: where Ping++ refuses no repetition, that would be one number with two
    charges (I1).
    """
    world = World(Chooser((), most_faults=0), terms)
    await insist_on_charge(world, terms)
    lose_answers(monkeypatch, after="reverse", dies=dies)
    other = replace(terms, amount=200)
    assert isinstance(await world.ask(lambda p: p.charge(other)), Failed)
    monkeypatch.undo()
    again = await world.payments.charge(terms)
    shown = world.lookalike.charge(again.charge.charge_id or "")
    assert not shown["reversed"]
    numbers = [each["order_no"] for each in world.lookalike.newest_charges(10)]
    assert len(numbers) == len(set(numbers)) == 2


async def test_unknown_for_a_day_calls_a_person(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refund of which Ping++ never tells anything is not asked about for ever (I13)."""
    await paid(world)
    world.chooser = Chooser((), most_faults=0)
    lose_answers(monkeypatch, after="refunds")
    assert isinstance(await world.ask(lambda p: p.refund(a_part(world))), Failed)
    answer_gets(monkeypatch, Answer(500, b"", ""))
    for _ in range(400):
        world.pass_time(300)
        await world.payments.resolve_due()
    refund = (await world.order()).refund("r1")
    assert refund.operator_reason
    assert refund.holds_money
    assert len(await world.disk.journal(world.terms.order_no)) < 50


@pytest.mark.parametrize("arrived", [False, True], ids=["request-lost", "answer-lost"])
async def test_an_unknown_refund_blocks_only_what_it_may_have_spent(
    world: World, monkeypatch: pytest.MonkeyPatch, arrived: bool
) -> None:
    """Of 100 paid, 40 may be gone: 61 are refused with what is left, 60 go through meanwhile (I2).

    The refund that arrived is not shown by Ping++ yet (P7).
    """
    await paid(world)
    lose_one_refund(monkeypatch, arrived=arrived)
    assert isinstance(await world.ask(lambda p: p.refund(a_part(world))), Failed)
    assert (await world.order()).refund("r1").state is RefundState.SUBMITTING

    other = RefundTerms("r2", order_no=world.terms.order_no, amount=61, description="the rest")
    with pytest.raises(RefundExceedsRemaining) as raised:
        await world.payments.refund(other)
    assert (raised.value.amount, raised.value.remaining) == (61, 60)
    assert [each.refund_no for each in (await world.order()).refunds] == ["r1"]

    rest = await world.payments.refund(replace(other, amount=60))
    assert (rest.refund.amount, rest.refund.state) == (60, RefundState.SUCCEEDED)
    order = await world.order()
    assert order.refund("r1").state is RefundState.SUBMITTING
    assert order.refundable(order.charges[0]) == 0
    monkeypatch.undo()
    await world.settle()
    made = world.lookalike.refunds_of(order.charges[0].charge_id or "")
    assert sorted(each["amount"] for each in made) == ([40, 60] if arrived else [60])


async def test_flows_that_outlive_their_callers_are_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers that come and go faster than Ping++ answers meet a bound by name (I14)."""
    monkeypatch.setattr(limits, "FLOWS_UNDER_WAY", 3)
    world.on_post = asyncio.Event().wait  # type: ignore[assignment]
    waiting = [asyncio.ensure_future(world.payments.charge(world.terms)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await world.payments.charge(world.terms)
    for task in (*waiting, *world.payments._tasks):
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    world.on_post = None
    for number in range(5):  # those that have ended count no more
        await world.payments.charge(replace(world.terms, order_no=f"later-{number}"))


async def test_the_end_of_a_process_waits_for_what_goes_on_beside_its_callers(
    world: World,
) -> None:
    """A row that was not sent is recorded as such, though its caller was answered already."""
    change = intent(world.terms.order_no, created_at=world.disk.clock)
    assert await world.disk.commit(change)
    payments = Payments(world.disk, world.payments.ports.psp, VirtualClock(world))
    payments.ports.in_doubt(change.new_charges[0])
    assert await payments.drain(timedelta(seconds=PATIENCE_S))
    assert (await world.order()).charges[0].state is ChargeState.FAILED


async def test_a_charge_is_in_yuan_unless_it_says_otherwise(world: World) -> None:
    """And one that names them is the same charge."""
    made = await world.payments.charge(replace(world.terms, currency=""))
    assert made.charge.currency == "cny"
    assert (await world.payments.charge(world.terms)).reused


async def test_while_the_database_is_away_it_is_asked_less_and_less(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And as often as before as soon as it answers."""
    pauses: list[float] = []
    claim, over = world.disk.claim_due_orders, asyncio.Event()

    class Clock(VirtualClock):
        async def sleep(self, seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 7:
                world.disk.claim_due_orders = claim  # type: ignore[method-assign]
            if len(pauses) == 9:
                over.set()
            await asyncio.sleep(0)

    async def away(limit: int, hold: timedelta) -> list[str]:
        raise StorageUnavailable

    monkeypatch.setattr(world.disk, "claim_due_orders", away)
    psp = world.payments.ports.psp
    running = asyncio.create_task(Payments(world.disk, psp, Clock(world)).run())
    await over.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert pauses == [2, 4, 8, 16, 30, 30, 30, 1, 1]


async def test_the_shortest_expiry_survives_the_way_to_ping(world: World) -> None:
    """One minute asked for is still one minute when the request arrives."""
    terms = replace(world.terms, expires_in=timedelta(minutes=1))
    made = (await world.payments.charge(terms)).charge
    assert made.asked_expires_at is not None
    assert made.asked_expires_at - made.created_at >= timedelta(minutes=1, seconds=4)


async def test_a_busy_channel_is_searched_nearby_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of later charges of the channel do not hide the one that is looked for."""
    bar_code = replace(BAR_CODE, order_no="order-2")
    lose_answers(monkeypatch, after="charges")
    assert isinstance(await world.ask(lambda p: p.charge(bar_code)), Failed)
    monkeypatch.undo()
    for number in range(400):
        world.pass_time(2)
        other = replace(BAR_CODE, order_no=f"other-{number}")
        await world.payments.charge(other)
    monkeypatch.setattr(limits, "PSP_LIST_PAGES", 3)
    result = await world.ask(lambda p: p.query(KeyKind.ORDER_NO, "order-2", refresh=True))
    assert not isinstance(result, Failed)
    assert result[1][0].state is ChargeState.SUCCEEDED


@pytest.mark.parametrize("terms", [TERMS, BAR_CODE], ids=["refund", "charge"])
async def test_a_list_that_stops_short_proves_no_absence(
    terms: ChargeTerms, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty page that promises more is no answer: nothing is called absent on its word (I5)."""
    world = World(Chooser((), most_faults=0), terms)
    if terms is TERMS:
        await paid(world)
    lose_answers(monkeypatch, after="refunds" if terms is TERMS else "charges")
    work = a_part(world)
    await world.ask(lambda p: p.refund(work) if terms is TERMS else p.charge(terms))
    answer_gets(monkeypatch, Answer(200, b'{"object":"list","has_more":true,"data":[]}', ""))
    for _ in range(40):
        world.pass_time(300)
        await world.payments.resolve_due()
    order = await world.order()
    unknown = order.refunds[0] if terms is TERMS else order.charges[0]
    assert unknown.state == "SUBMITTING"
    assert not unknown.operator_reason


async def test_a_refund_no_of_another_order_is_not_taken_over(world: World) -> None:
    """A key that Ping++ shows on this charge but that is another order's stays with that order."""
    await paid(world)
    await world.payments.refund(a_part(world))
    second = replace(world.terms, order_no="order-2")
    world.terms = second
    await paid(world)
    charge_id = (await world.order()).charges[0].charge_id or ""
    body = b'{"amount": 10, "description": "x", "metadata": {"refund_no": "r1"}}'
    world.lookalike.handle("POST", f"/v1/charges/{charge_id}/refunds", (), body)
    order, _ = await world.payments.query(KeyKind.ORDER_NO, "order-2", refresh=True)
    assert [each.external for each in order.refunds] == [True]
    rest = RefundTerms("r9", order_no="order-2", amount=0, description="the rest")
    assert (await world.payments.refund(rest)).refund.amount == 90


async def test_what_is_unknown_stays_unknown_while_ping_rests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refund was made and its answer lost; no repetition answers that nothing was sent (I5)."""
    await paid(world)
    lose_answers(monkeypatch, after="refunds")
    for _ in range(REPEATED):
        with pytest.raises(OutcomeUnknown):
            await world.payments.refund(a_part(world))
    assert is_resting(world)
    with pytest.raises(RefundNoReused):
        await world.payments.refund(replace(a_part(world), amount=41))
    with pytest.raises(PspUnavailable) as raised:
        await world.payments.refund(replace(a_part(world), refund_no="r2"))
    assert not raised.value.queued


async def test_what_is_queued_stays_queued_while_ping_rests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refund that could not leave goes out later: every repetition answers so (P14)."""
    await paid(world)
    reach_nothing(monkeypatch, "POST")
    for _ in range(REPEATED):
        with pytest.raises(PspUnavailable) as raised:
            await world.payments.refund(a_part(world))
        assert raised.value.queued
        reach_nothing(monkeypatch, "GET")
    assert is_resting(world)


async def test_a_queued_refund_that_ping_has_is_announced_and_not_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failover lost that it was sent (D3): whoever asks next hears how it stands."""
    await paid(world)
    with monkeypatch.context() as patch:
        reach_nothing(patch, "POST")
        with pytest.raises(PspUnavailable):
            await world.payments.refund(a_part(world))
    charge_id = (await world.order()).charges[0].charge_id or ""
    body = b'{"amount": 40, "description": "x", "metadata": {"refund_no": "r1"}}'
    world.lookalike.handle("POST", f"/v1/charges/{charge_id}/refunds", (), body)
    result = await world.payments.refund(a_part(world))
    assert result.refund.state is RefundState.SUCCEEDED
    assert len(world.lookalike.refunds_of(charge_id)) == 1


async def test_what_is_known_is_answered_while_ping_rests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open charge is handed out again and a refund shown, from disk; nothing new is begun."""
    await paid(world)
    done = await world.payments.refund(a_part(world))
    other = replace(world.terms, order_no="order-2")
    opened = await world.payments.charge(other)
    lost = replace(world.terms, order_no="order-3")
    reach_nothing(monkeypatch, "GET")
    lose_answers(monkeypatch, after="charges")
    for _ in range(REPEATED):
        with pytest.raises(OutcomeUnknown):
            await world.payments.charge(lost)
    assert is_resting(world)
    assert (await world.payments.refund(a_part(world))).refund == done.refund
    again = await world.payments.charge(other)
    assert (again.reused, again.charge_json) == (True, opened.charge_json)
    with pytest.raises(OrderAlreadyPaid):
        await world.payments.charge(world.terms)
    for terms in (replace(other, amount=200), replace(other, order_no="order-4")):
        with pytest.raises(PspUnavailable):
            await world.payments.charge(terms)


async def test_what_is_known_is_answered_while_too_much_is_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while Ping++ rests: what is on disk needs no place among the calls."""
    await paid(world)
    done = await world.payments.refund(a_part(world))

    def full(_: PingppClient) -> None:
        raise Overloaded

    monkeypatch.setattr(PingppClient, "admit", full)
    assert (await world.payments.refund(a_part(world))).refund == done.refund
    with pytest.raises(OrderAlreadyPaid):
        await world.payments.charge(world.terms)
    with pytest.raises(Overloaded):
        await world.payments.refund(replace(a_part(world), refund_no="r2"))
    with pytest.raises(Overloaded):
        await world.payments.charge(replace(world.terms, order_no="order-2"))


async def test_a_refund_that_never_left_is_sent_after_days(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is proven unsent, so it is not unknown: nobody gives it up (P14)."""
    await paid(world)
    reach_nothing(monkeypatch, "POST")
    assert isinstance(await world.ask(lambda p: p.refund(a_part(world))), Failed)
    for _ in range(600):
        world.pass_time(300)
        await world.payments.resolve_due()
    refund = (await world.order()).refund("r1")
    assert (refund.unsent, refund.operator_reason) == (True, "")
    assert [each.message for each in caplog.records].count("refund_still_unsent") == 1
    monkeypatch.undo()
    world.start()  # with a breaker of its own
    lose_answers(monkeypatch, after="refunds")
    for _ in range(3):
        world.pass_time(301)
        await world.payments.resolve_due()
    refund = (await world.order()).refund("r1")
    assert (refund.state, refund.unsent) == (RefundState.SUBMITTING, False)
    assert refund.operator_reason == ""  # unknown since a moment, not for days
    monkeypatch.undo()
    await world.settle()
    assert (await world.order()).refund("r1").state is RefundState.SUCCEEDED
    assert len(world.lookalike.refunds_of(refund.charge_id)) == 1


async def test_a_refund_that_leaves_at_last_is_in_flight_like_a_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks and absence of before count no more, and nobody else asks while it is on its way."""
    await paid(world)
    reach_nothing(monkeypatch, "POST")
    assert isinstance(await world.ask(lambda p: p.refund(a_part(world))), Failed)
    for _ in range(3):
        world.pass_time(301)
        await world.payments.resolve_due()
    order = await world.order()
    draft = Draft(order)
    assert order.refund("r1").looks > 0
    draft.put(replace(order.refund("r1"), absent_since=world.disk.clock))
    await written(world, draft)
    monkeypatch.undo()
    world.start()  # with a breaker of its own
    sent: list[Refund] = []

    async def look() -> None:
        sent.append((await world.order()).refund("r1"))

    world.on_post = look
    world.pass_time(301)
    await world.payments.resolve_due()
    (refund,) = sent
    assert (refund.unsent, refund.looks, refund.absent_since) == (False, 0, None)
    assert refund.updated_at == world.disk.clock
    assert refund.due_at == schedule.while_in_flight(world.disk.clock, TOTAL_TIMEOUT)
    assert in_flight(world.payments.ports, refund)


async def test_a_queued_refund_that_a_person_looks_at_is_not_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by itself nor by the same key again; and no answer says that it goes out later."""
    await paid(world)
    reach_nothing(monkeypatch, "POST")
    assert isinstance(await world.ask(lambda p: p.refund(a_part(world))), Failed)
    monkeypatch.undo()
    world.start()  # with a breaker of its own
    draft = Draft(await world.order())
    refund = draft.refund("r1")
    assert refund.unsent
    draft.put(replace(refund, operator_reason="another one has this key"))
    await written(world, draft)
    with pytest.raises(OutcomeUnknown) as raised:
        await world.payments.refund(a_part(world))
    assert raised.value.needs_operator
    world.pass_time(3600)
    await world.payments.resolve_due()
    assert world.lookalike.refunds_of(refund.charge_id) == []


async def test_a_refund_that_is_being_sent_does_not_become_queued_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process cannot see Ping++'s list; another one has taken the refund to send it (I2)."""
    await paid(world)
    reach_nothing(monkeypatch, "POST")
    assert isinstance(await world.ask(lambda p: p.refund(a_part(world))), Failed)
    monkeypatch.undo()
    world.start()  # with a breaker of its own
    send = FaultyWire.send

    async def taken_meanwhile(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if request.method != "GET":
            return await send(self, request, limit)
        draft = Draft(await world.order())
        draft.put(replace(draft.refund("r1"), unsent=False))
        await written(world, draft)
        return Lost("timeout")

    monkeypatch.setattr(FaultyWire, "send", taken_meanwhile)
    world.pass_time(301)
    await world.payments.resolve_due()
    refund = (await world.order()).refund("r1")
    assert (refund.state, refund.unsent) == (RefundState.SUBMITTING, False)
    assert world.lookalike.refunds_of(refund.charge_id) == []


async def test_a_charge_is_handed_out_again_within_its_window(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Posted again it may not arrive after the window: it is given the margin alone, not 30 s."""
    first = await world.payments.charge(world.terms)
    draft = Draft(await world.order())
    draft.put(replace(first.charge, answer=None))
    await written(world, draft)
    limits_used = slow_answers(monkeypatch, world, seconds=0)
    again = await world.payments.charge(world.terms)
    assert again.charge.charge_id == first.charge.charge_id
    assert limits_used == [limits.REPOST_MARGIN]


async def written(world: World, draft: Draft) -> None:
    """Somebody else's change, on disk."""
    change = draft.change(world.disk.new_change_id())
    assert change is not None
    assert await world.disk.commit(change)


async def test_what_was_just_queued_is_answered_without_another_look(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database goes away right after the refund could not leave: it is queued all the same."""
    await paid(world)
    reach_nothing(monkeypatch, "POST")
    find, finds = FaultyStore.find, 0

    async def find_once(store: FaultyStore, kind: KeyKind, key: str) -> Order | None:
        nonlocal finds
        finds += 1
        if finds > 1:
            raise StorageUnavailable
        return await find(store, kind, key)

    monkeypatch.setattr(FaultyStore, "find", find_once)
    with pytest.raises(PspUnavailable) as raised:
        await world.payments.refund(a_part(world))
    assert raised.value.queued


async def test_a_query_that_waits_for_its_turn_asks_no_longer_than_its_caller(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time for which another flow holds the order counts, too."""
    await insist_on_charge(world, world.terms)
    load = FaultyStore.load

    async def load_slowly(store: FaultyStore, order_no: str) -> Order:
        world.pass_time(0.7)
        return await load(store, order_no)

    monkeypatch.setattr(FaultyStore, "load", load_slowly)
    limits_used = slow_answers(monkeypatch, world, seconds=0)
    key, two = world.terms.order_no, timedelta(seconds=2)
    await world.payments.query(KeyKind.ORDER_NO, key, refresh=True, timeout=two)
    assert [round(each.total_seconds(), 3) for each in limits_used] == [0.6]


async def test_a_charge_that_is_shown_after_all_is_let_go(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person was called after a day of silence; what Ping++ says then ends the matter."""
    lose_answers(monkeypatch, after="charges")
    assert isinstance(await world.ask(lambda p: p.charge(world.terms)), Failed)
    for _ in range(400):
        world.pass_time(300)
        await world.payments.resolve_due()
    assert (await world.order()).charges[0].operator_reason
    monkeypatch.undo()
    world.start()  # with a breaker of its own
    key = world.terms.order_no
    _, (charge,) = await world.payments.query(KeyKind.ORDER_NO, key, refresh=True)
    assert charge.charge_id is not None
    assert charge.operator_reason == ""


@pytest.mark.parametrize("unknown", [True, False], ids=["unknown", "known"])
async def test_a_query_has_one_deadline_for_all_it_asks(
    world: World, monkeypatch: pytest.MonkeyPatch, unknown: bool
) -> None:
    """However many questions it takes, each gets what the ones before have left (F1)."""
    if unknown:
        lose_answers(monkeypatch, after="charges")
        assert isinstance(await world.ask(lambda p: p.charge(world.terms)), Failed)
        monkeypatch.undo()
    else:
        for amount in (100, 200, 300):
            await world.payments.charge(replace(world.terms, amount=amount))
    limits_used = slow_answers(monkeypatch, world, seconds=0.4)
    key, second = world.terms.order_no, timedelta(seconds=1)
    with suppress(PspUnavailable):
        await world.payments.query(KeyKind.ORDER_NO, key, refresh=True, timeout=second)
    wanted = [second - n * timedelta(seconds=0.4) for n in range(len(limits_used))]
    assert limits_used
    assert limits_used == [max(each, timedelta(0)) for each in wanted]


REPEATED = 10
"""Calls in a row: more than it takes for the breaker to open."""


def is_resting(world: World) -> bool:
    """Whether Midas asks Ping++ nothing for a while."""
    psp = world.payments.ports.psp
    assert isinstance(psp, PingppClient)
    return psp.breaker.state is State.OPEN


def reach_nothing(patch: pytest.MonkeyPatch, method: str) -> None:
    """No request of this method leaves."""
    send = FaultyWire.send

    async def send_or_not(self, request, limit):  # type: ignore[no-untyped-def]
        if request.method == method:
            return NotSent("connect_failed")
        return await send(self, request, limit)

    patch.setattr(FaultyWire, "send", send_or_not)


def slow_answers(patch: pytest.MonkeyPatch, world: World, seconds: float) -> list[timedelta]:
    """Every answer takes so long; gives the time that each request was allowed."""
    send = FaultyWire.send
    limits_used: list[timedelta] = []

    async def send_slowly(self, request, limit):  # type: ignore[no-untyped-def]
        limits_used.append(limit)
        answer = await send(self, request, limit)
        world.pass_time(seconds)
        return answer if limit > timedelta(0) else NotSent("no_time_left")

    patch.setattr(FaultyWire, "send", send_slowly)
    return limits_used


def answer_posts(patch: pytest.MonkeyPatch, answer: Answer) -> None:
    """Ping++ answers every POST like this, and does nothing."""
    _answer(patch, "POST", answer)


def answer_gets(patch: pytest.MonkeyPatch, answer: Answer) -> None:
    """Ping++ answers every GET like this."""
    _answer(patch, "GET", answer)


def _answer(patch: pytest.MonkeyPatch, method: str, answer: Answer) -> None:
    send = FaultyWire.send

    async def send_or_answer(self, request, limit):  # type: ignore[no-untyped-def]
        return answer if request.method == method else await send(self, request, limit)

    patch.setattr(FaultyWire, "send", send_or_answer)


def lose_answers(patch: pytest.MonkeyPatch, after: str, *, dies: bool = False) -> None:
    """What Ping++ answers to a POST whose path ends like this is lost, and to all that follows.

    `dies`: because the process dies before it arrives.
    """
    send = FaultyWire.send
    lost: list[bool] = []

    async def send_and_lose(self, request, limit):  # type: ignore[no-untyped-def]
        answer = await send(self, request, limit)
        if request.method == "POST" and request.url.endswith(after):
            lost.append(True)
        if lost and dies:
            self._process.crash()
        return Lost("timeout") if lost else answer

    patch.setattr(FaultyWire, "send", send_and_lose)


def lose_one_refund(patch: pytest.MonkeyPatch, *, arrived: bool) -> None:
    """The first refund that is sent gets no answer, and Ping++ shows no refund of the charge."""
    send = FaultyWire.send
    posts: list[str] = []
    none = {"object": "list", "has_more": False, "data": []}
    no_refunds = {"refunds": none, "amount_refunded": 0, "refunded": False}

    async def send_or_lose(self, request, limit):  # type: ignore[no-untyped-def]
        if request.method == "POST":
            posts.append(request.url)
            lost = len(posts) == 1
            answer = await send(self, request, limit) if arrived or not lost else None
            return Lost("timeout") if lost else answer
        answer = await send(self, request, limit)
        assert isinstance(answer, Answer)
        return replace(answer, body=json.dumps(json.loads(answer.body) | no_refunds).encode())

    patch.setattr(FaultyWire, "send", send_or_lose)
