"""Money that would move twice, or the wrong way, or be forgotten: each story has had its defect."""

import json
import logging
from dataclasses import replace
from datetime import timedelta

import pytest

from midas import limits
from midas.charge import ChargeState
from midas.errors import (
    ChargeStillOpen,
    MidasError,
    OutcomeUnknown,
    Overloaded,
    RefundExceedsRemaining,
    RefundNotAllowed,
    StorageUnavailable,
)
from midas.flows.terms import RefundTerms
from midas.payment import REFUND_INTENDED, Change, Order
from midas.ports import KeyKind
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Lost, Sent
from midas.refund import Refund, RefundState
from tests.faults.chooser import Chooser
from tests.faults.scenarios import BAR_CODE, TERMS
from tests.faults.world import Failed, FaultyStore, FaultyWire, World

KEY = TERMS.order_no
CANNOT_BE_CLOSED = replace(
    TERMS, channel="alipay_wap", extra={"success_url": "http://shop.example/s"}
)


@pytest.fixture
def world() -> World:
    """Nothing goes wrong by itself."""
    return World(Chooser((), most_faults=0), TERMS)


async def charge_and_pay(world: World) -> str:
    """The order is paid, and Midas knows it. Ping++'s id of the charge."""
    made = await world.payments.charge(world.terms)
    charge_id = made.charge.charge_id or ""
    world.lookalike.pay(charge_id)
    await refreshed(world)
    return charge_id


async def refreshed(world: World) -> Order:
    """The order after Ping++ was asked."""
    order, _ = await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    return order


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "answer lost"])
async def test_two_refunds_under_one_refund_no_are_two(
    world: World,
    answered: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One request is carried out twice: both are booked, both count, and a person is called."""
    charge_id = await charge_and_pay(world)
    with monkeypatch.context() as patch:
        carry_out_twice(patch, answered=answered)
        await world.ask(lambda payments: payments.refund(by_order("r1", 30)))
    await world.settle()
    order = await refreshed(world)
    made = {each["id"] for each in world.lookalike.refunds_of(charge_id)}
    assert {each.refund_id for each in order.refunds} == made
    assert [each.state for each in order.refunds] == [RefundState.SUCCEEDED] * 2
    assert sorted(each.external for each in order.refunds) == [False, True]
    assert order.refund("r1").external is False
    assert order.refundable(order.charges[0]) == 100 - 2 * 30
    assert all(each.operator_reason for each in order.refunds)
    assert "refund_doubled" in alarms(caplog)
    kinds = [each.kind for each in await world.disk.notifications(KEY)]
    assert kinds == ["PAY_ORDER_SUCCESS", "REFUND_SUCCESS", "REFUND_SUCCESS"]


async def test_of_two_paid_charges_neither_is_refunded_by_guessing(world: World) -> None:
    """The order is paid twice: by its number nothing is given back, by a charge's id just that."""
    first, second = await paid_twice(world)
    for amount in (0, 40):
        with pytest.raises(RefundNotAllowed) as refused:
            await world.payments.refund(by_order("r1", amount))
        assert refused.value.reason == "ORDER_HAS_SEVERAL_PAID_CHARGES"
    assert [world.lookalike.refunds_of(each) for each in (first, second)] == [[], []]
    assert (await world.order()).refunds == ()
    given_back = await world.payments.refund(RefundTerms("r1", "", second, 40, "back"))
    assert given_back.refund.charge_id == second
    assert world.lookalike.refunds_of(first) == []


async def test_one_refund_asked_for_at_two_processes_is_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one writes it down and sends it just before this one does: this one finds it."""
    charge_id = await charge_and_pay(world)
    other, commit = world.another_process(), FaultyStore.commit
    refunded: list[Refund] = []

    async def overtaken(self: FaultyStore, change: Change) -> bool:
        if not refunded and change.new_refunds:
            monkeypatch.undo()
            refunded.append((await other.refund(by_order("r1", 40))).refund)
        return await commit(self, change)

    monkeypatch.setattr(FaultyStore, "commit", overtaken)
    again = await world.payments.refund(by_order("r1", 40))
    assert [again.refund] == refunded
    assert len(world.lookalike.refunds_of(charge_id)) == 1
    events = [each.event for each in await world.disk.journal(KEY)]
    assert events.count(REFUND_INTENDED) == 1


@pytest.mark.parametrize("named", [False, True], ids=["by order", "by charge"])
@pytest.mark.parametrize(
    ("end", "reason"), [(False, "CHARGE_PENDING"), (True, "CHARGE_CLOSED")], ids=["open", "closed"]
)
async def test_what_nobody_paid_is_not_given_back(
    world: World, named: bool, end: bool, reason: str
) -> None:
    """Ping++ is asked first, since a webhook may be on its way; then nothing is sent."""
    made = await world.payments.charge(world.terms)
    charge_id = made.charge.charge_id or ""
    terms = RefundTerms("r1", "", charge_id, 40, "back") if named else by_order("r1", 40)
    if end:
        world.pass_time(3 * 3600)
    with pytest.raises(RefundNotAllowed) as refused:
        await world.payments.refund(terms)
    assert refused.value.reason == reason
    assert world.lookalike.refunds_of(charge_id) == []
    assert (await world.order()).refunds == ()


async def test_the_last_fen_is_given_back_once(world: World) -> None:
    """What is left is what a refund of no amount gives back; with nothing left there is none."""
    charge_id = await charge_and_pay(world)
    amounts = (world.terms.amount - 1, 0)
    for number, amount in enumerate(amounts):
        await world.payments.refund(by_order(f"r{number}", amount))
    for amount in (0, 1):
        with pytest.raises(RefundExceedsRemaining):
            await world.payments.refund(by_order("r9", amount))
    made = [each["amount"] for each in world.lookalike.refunds_of(charge_id)]
    assert sorted(made) == [1, world.terms.amount - 1]


@pytest.mark.parametrize("gone", [0, 1], ids=["first", "second"])
async def test_the_charge_that_still_holds_money_is_refunded(world: World, gone: int) -> None:
    """Of two paid charges one was given back in full: by the order's number it is the other's."""
    both = await paid_twice(world)
    amounts = {each.charge_id: each.amount for each in (await world.order()).charges}
    await world.payments.refund(RefundTerms("r1", "", both[gone], 0, "paid twice"))
    await world.payments.refund(by_order("r2", 0))
    for charge_id in both:
        made = world.lookalike.refunds_of(charge_id)
        assert [each["amount"] for each in made] == [amounts[charge_id]]


async def test_after_a_reversal_no_answer_says_that_nothing_was_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database goes away when the old charge was reversed: no UNAVAILABLE, which says so."""
    await world.payments.charge(world.terms)
    sent = no_commit_after(monkeypatch, "/reverse")
    answer = await world.ask(lambda p: p.charge(replace(world.terms, amount=200)))
    assert sent == ["reverse"]
    assert isinstance(answer, Failed)
    assert isinstance(answer.error, ChargeStillOpen | OutcomeUnknown)


@pytest.mark.parametrize("failure", [StorageUnavailable, Overloaded])
@pytest.mark.parametrize("path", ["/charges", "/refunds"])
async def test_after_a_post_no_answer_says_that_nothing_was_sent(
    world: World,
    path: str,
    failure: type[MidasError],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What Ping++ answered cannot be written, nor read anew: the outcome is unknown."""
    if path == "/refunds":
        await charge_and_pay(world)
    sent = no_commit_after(monkeypatch, path, failure)
    with pytest.raises(OutcomeUnknown):
        await (
            world.payments.charge(world.terms)
            if path == "/charges"
            else world.payments.refund(by_order("r1", 40))
        )
    assert sent == [path.strip("/")]


async def test_an_answer_that_comes_late_is_an_answer(world: World) -> None:
    """Others may look for the charge by then; what Ping++ says of it counts all the same."""

    async def late() -> None:
        world.pass_time(3600)

    world.on_charged = late
    made = await world.payments.charge(replace(world.terms, expires_in=timedelta(hours=2)))
    assert made.charge.state is ChargeState.PENDING


async def test_a_refund_that_has_ended_is_not_asked_about(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A query asks for each charge, and for each refund that is on its way."""
    charge_id = await charge_and_pay(world)
    await world.payments.refund(by_order("r1", 40))
    world.lookalike.plan_refund("pending")
    await world.payments.refund(by_order("r2", 10))
    done, pending = sorted(world.lookalike.refunds_of(charge_id), key=lambda each: -each["amount"])
    asked = requests_of(monkeypatch, "GET")
    order = await refreshed(world)
    assert [each.state for each in order.refunds] == [RefundState.SUCCEEDED, RefundState.PENDING]
    assert any(pending["id"] in each for each in asked)
    assert not any(done["id"] in each for each in asked)


async def test_a_superseded_charge_that_is_paid_is_not_reversed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could not be closed when it made way, and the payer paid it: booked, and left alone."""
    first = await world.payments.charge(world.terms)
    with monkeypatch.context() as patch:
        answer_posts_to(patch, "/reverse", REFUSED)
        await world.payments.charge(replace(world.terms, amount=200))
    old = (await world.order()).charge(first.charge.out_trade_no)
    assert (old.state, old.superseded) == (ChargeState.PENDING, True)
    world.lookalike.pay(old.charge_id or "")
    posts = requests_of(monkeypatch, "POST")
    await world.settle()
    old = (await world.order()).charge(first.charge.out_trade_no)
    assert old.state is ChargeState.SUCCEEDED
    assert posts == []
    assert world.lookalike.charge(old.charge_id or "")["reversed"] is False


async def test_a_row_of_ours_that_cannot_be_read_is_not_absent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bar code was charged, and Ping++'s list spoils just that row: unknown, never FAILED."""
    world = World(Chooser((), most_faults=0), BAR_CODE)
    with monkeypatch.context() as patch:
        spoil(patch, world)
        await world.ask(lambda payments: payments.charge(BAR_CODE))
        until = world.disk.clock + limits.SETTLE_WINDOW + timedelta(hours=2)
        while world.disk.clock < until:
            world.pass_time(301)
            await world.payments.resolve_due()
            assert (await world.order()).charges[0].state is ChargeState.SUBMITTING
    await world.settle()
    assert (await world.order()).charges[0].state is ChargeState.SUCCEEDED


REFUSED = Answer(
    402,
    b'{"error":{"type":"channel_error","code":"channel_request_error","message":"not yet"}}',
    "",
)


def by_order(refund_no: str, amount: int) -> RefundTerms:
    """A refund that names its order alone. 0: all that is left."""
    return RefundTerms(refund_no, KEY, "", amount, "back")


async def paid_twice(world: World) -> tuple[str, str]:
    """A charge made way for another one and could not be closed: the payer paid both."""
    first = await world.payments.charge(CANNOT_BE_CLOSED)
    second = await world.payments.charge(replace(world.terms, amount=200))
    ids = first.charge.charge_id or "", second.charge.charge_id or ""
    for charge_id in ids:
        world.lookalike.pay(charge_id)
    order = await refreshed(world)
    assert [each.state for each in order.charges] == [ChargeState.SUCCEEDED] * 2
    return ids


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a person is called for."""
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    return [vars(each)["kind"] for each in errors if each.message == "operator_needed"]


def carry_out_twice(patch: pytest.MonkeyPatch, *, answered: bool) -> None:
    """A refund reaches Ping++ twice, as when something on the way sends it again."""
    send = FaultyWire.send

    async def twice(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        answer = await send(self, request, limit)
        if request.method == "POST":
            await send(self, request, limit)
            return answer if answered else Lost("timeout")
        return answer

    patch.setattr(FaultyWire, "send", twice)


def no_commit_after(
    patch: pytest.MonkeyPatch, path: str, failure: type[MidasError] = StorageUnavailable
) -> list[str]:
    """The database takes nothing any more once a POST to this path was carried out."""
    send, commit = FaultyWire.send, FaultyStore.commit
    sent: list[str] = []

    async def noticed(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        answer = await send(self, request, limit)
        if request.method == "POST" and request.url.endswith(path):
            sent.append(path.strip("/"))
        return answer

    async def gone(self: FaultyStore, change: Change) -> bool:
        if sent:
            raise failure
        return await commit(self, change)

    patch.setattr(FaultyWire, "send", noticed)
    patch.setattr(FaultyStore, "commit", gone)
    return sent


def answer_posts_to(patch: pytest.MonkeyPatch, path: str, answer: Answer) -> None:
    """Ping++ answers POSTs to a path ending like this so, and does nothing."""
    send = FaultyWire.send

    async def answered(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if request.method == "POST" and request.url.endswith(path):
            return answer
        return await send(self, request, limit)

    patch.setattr(FaultyWire, "send", answered)


def requests_of(patch: pytest.MonkeyPatch, method: str) -> list[str]:
    """The requests by this method from now on."""
    send = FaultyWire.send
    sent: list[str] = []

    async def noted(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if request.method == method:
            sent.append(request.url)
        return await send(self, request, limit)

    patch.setattr(FaultyWire, "send", noted)
    return sent


def spoil(patch: pytest.MonkeyPatch, world: World) -> None:
    """The answer to the create call is lost, and lists show our rows with an amount of words."""
    send = FaultyWire.send

    async def spoiled(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        answer = await send(self, request, limit)
        if request.method == "POST":
            return Lost("timeout")
        assert isinstance(answer, Answer)
        body = json.loads(answer.body)
        for each in body.get("data", ()):
            each["amount"] = "a lot"
        return replace(answer, body=json.dumps(body).encode())

    patch.setattr(FaultyWire, "send", spoiled)
