"""A charge that makes way on a channel whose reversal gives back what was paid meanwhile.

Ping++ sends no webhook for a reversal: a payment that is announced while one is on its way would
stay announced, though its money went back.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from midas.charge import Charge, ChargeState, ObservedBy
from midas.errors import ChargeStillOpen, OrderAlreadyPaid, StorageUnavailable
from midas.event import EventStanding
from midas.flows.create_charge import ChargeResult
from midas.flows.reversal import take_back
from midas.limits import SETTLE_WINDOW
from midas.payment import Change
from midas.ports import KeyKind
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Lost, NotSent, Sent
from tests.fakes.psp import deliver
from tests.faults.chooser import Chooser
from tests.faults.scenarios import QR_CODE, TERMS
from tests.faults.world import Failed, FaultyStore, FaultyWire, World

KEY = QR_CODE.order_no
REVERSE = "/reverse"
TOO_LATE = b'{"error":{"type":"invalid_request_error","message":"too late"}}'


@pytest.fixture
async def world() -> World:
    """The payer has a code to pay, and Ping++ sends its webhooks."""
    world = World(Chooser((), most_faults=0), QR_CODE)
    world.listens = True
    await charged(world, QR_CODE.amount)
    return world


async def charged(world: World, amount: int) -> ChargeResult | Failed:
    """Another amount makes the first charge give way."""
    terms = replace(world.terms, amount=amount)
    return await world.ask(lambda payments: payments.charge(terms))


async def first(world: World) -> Charge:
    """The charge that has to make way."""
    return (await world.order()).charges[0]


async def announced(world: World) -> list[tuple[str, str]]:
    """The kinds of the order's notifications, and their charges."""
    notifications = await world.disk.notifications(KEY)
    return [(str(each.kind), each.out_trade_no) for each in notifications]


async def pay(world: World) -> None:
    """The payer pays the first charge, and its webhook arrives."""
    world.lookalike.pay(str((await first(world)).charge_id))
    await world.webhooks.send_owed()


Odd = Callable[[], Awaitable[Sent | None]]


def at_reversals(monkeypatch: pytest.MonkeyPatch, odd: Odd) -> list[Prepared]:
    """What happens when one leaves in time; where it returns nothing it is carried out then."""
    send, reversals = FaultyWire.send, []

    async def odd_send(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if request.url.endswith(REVERSE) and limit:
            reversals.append(request)
            answer = await odd()
            if answer is not None:
                return answer
        return await send(self, request, limit)

    monkeypatch.setattr(FaultyWire, "send", odd_send)
    return reversals


async def lost() -> Sent:
    """Nobody knows whether it arrived, or will."""
    return Lost("timeout")


async def refused() -> Sent:
    """Ping++ has read it and will never carry it out."""
    return Answer(400, TOO_LATE, "")


@pytest.mark.parametrize("odd", [lost])
async def test_what_a_lost_reversal_may_take_back_is_not_announced_as_paid(
    world: World, monkeypatch: pytest.MonkeyPatch, odd: Odd
) -> None:
    """Neither a webhook nor a look is believed until none can be on its way any more."""
    with monkeypatch.context() as patch:
        at_reversals(patch, odd)
        await charged(world, 200)
        await pay(world)
        until = world.disk.clock + SETTLE_WINDOW
        while world.disk.clock < until:
            assert (await first(world)).state is ChargeState.PENDING
            assert await announced(world) == []
            await look(world)
        await world.settle()
    paid = await first(world)
    assert (paid.state, paid.duplicate_payment) == (ChargeState.SUCCEEDED, False)
    assert [kind for kind, _ in await announced(world)] == ["PAY_ORDER_SUCCESS"]


async def look(world: World) -> None:
    """All that may look do: the resolver when it is due, and the caller before."""
    await world.ask(lambda p: p.query(KeyKind.ORDER_NO, KEY, True))
    world.disk.clock = world.next_due() or world.disk.clock + SETTLE_WINDOW
    await world.ask(lambda p: p.resolve_due())


async def test_a_reversal_that_arrives_late_takes_back_nothing_that_was_announced(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is carried out after the payment: given back, and never announced as paid."""
    with monkeypatch.context() as patch:
        late = at_reversals(patch, lost)
        await charged(world, 200)
        await pay(world)
    deliver(world.lookalike, late[0])
    await world.settle()
    assert (await first(world)).state is ChargeState.REVERSED
    assert [kind for kind, _ in await announced(world)] == ["PAY_ORDER_CLOSED"]


async def test_the_next_charge_does_not_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the payer might pay of the first one comes back to him."""
    at_reversals(monkeypatch, lost)
    second = await charged(world, 200)
    assert isinstance(second, ChargeResult)
    assert second.charge.amount == 200
    assert (await first(world)).superseded


async def test_it_is_tried_again_soon_until_it_is_answered(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as rarely as a charge is looked at that only waits for its payer."""
    with monkeypatch.context() as patch:
        reversals = at_reversals(patch, lost)
        await charged(world, 200)
        began = world.disk.clock
        for _ in range(4):
            due_at = world.next_due()
            assert due_at is not None
            world.disk.clock = due_at
            await world.payments.resolve_due()
        assert len(reversals) == 5
        assert world.disk.clock - began < timedelta(minutes=2)
    await world.settle()
    assert (await first(world)).state is ChargeState.CLOSED


async def test_paid_between_the_look_and_the_mark(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is paid, and announced: nothing is reversed, and no other charge is made."""
    retrieve = type(world.payments.ports.psp).retrieve_charge

    async def pay_after(*asked: object) -> object:
        answer = await retrieve(*asked)  # type: ignore[arg-type]
        monkeypatch.undo()
        await pay(world)
        return answer

    monkeypatch.setattr(type(world.payments.ports.psp), "retrieve_charge", pay_after)
    failed = await charged(world, 200)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, OrderAlreadyPaid)
    paid = await first(world)
    assert (paid.state, paid.superseded, paid.answer) == (ChargeState.SUCCEEDED, False, None)
    assert not world.lookalike.charge(str(paid.charge_id))["reversed"]
    assert [kind for kind, _ in await announced(world)] == ["PAY_ORDER_SUCCESS"]


async def test_a_reversal_that_is_refused_leaves_the_payment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Ping++ does not reverse what was paid meanwhile, it is paid, and announced."""

    async def refuse() -> Sent:
        world.lookalike.pay(str((await first(world)).charge_id))
        return Answer(400, TOO_LATE, "")

    at_reversals(monkeypatch, refuse)
    failed = await charged(world, 200)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, OrderAlreadyPaid)
    assert (await first(world)).state is ChargeState.SUCCEEDED
    assert [kind for kind, _ in await announced(world)] == ["PAY_ORDER_SUCCESS"]


async def test_after_a_refusal_a_payment_is_believed_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No reversal is on its way any more: a payment is announced at once."""
    at_reversals(monkeypatch, refused)
    second = await charged(world, 200)
    assert isinstance(second, ChargeResult)
    assert not (await first(world)).is_being_reversed
    await pay(world)
    assert (await first(world)).state is ChargeState.SUCCEEDED


async def test_what_the_resolver_reverses_again_is_marked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one was refused and marks nothing any more; the answer to the second is lost."""
    with monkeypatch.context() as patch:
        at_reversals(patch, refused)
        await charged(world, 200)
    with monkeypatch.context() as patch:
        at_reversals(patch, lost)
        due_at = world.next_due()
        assert due_at is not None
        world.disk.clock = due_at
        await world.payments.resolve_due()
        await pay(world)
        assert (await first(world)).state is ChargeState.PENDING
    await world.settle()
    assert (await first(world)).state is ChargeState.SUCCEEDED


UNLISTED = b'{"error":{"type":"channel_error","code":"charge_unexpected_status"}}'


async def unclear() -> Sent:
    """Ping++ answers so each time, and it may mean anything."""
    return Answer(402, UNLISTED, "")


@pytest.mark.parametrize("is_paid", [True, False])
async def test_a_reversal_that_is_never_answered_keeps_no_payment_back(
    world: World, monkeypatch: pytest.MonkeyPatch, is_paid: bool
) -> None:
    """A payment is announced after the settle window, and what lapses ends."""
    at_reversals(monkeypatch, unclear)
    await charged(world, 200)
    if is_paid:
        await pay(world)
    else:
        world.pass_time(timedelta(days=1).total_seconds())
    await world.settle()
    ended = await first(world)
    assert ended.state is (ChargeState.SUCCEEDED if is_paid else ChargeState.CLOSED)


async def test_a_refund_is_not_announced_before_its_payment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made in the dashboard while nobody knows whether the payment stays."""
    at_reversals(monkeypatch, lost)
    await charged(world, 200)
    await pay(world)
    world.lookalike.refund_at_dashboard(str((await first(world)).charge_id), 30)
    await world.webhooks.send_owed()
    await look(world)
    await world.apply_due()
    assert await announced(world) == []
    await world.settle()
    assert [kind for kind, _ in await announced(world)] == ["PAY_ORDER_SUCCESS", "REFUND_SUCCESS"]


async def test_what_a_person_was_called_for_is_believed_as_any_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks at it any more, so nothing would end the doubt."""
    with monkeypatch.context() as patch:
        at_reversals(patch, lost)
        await charged(world, 200)
    world.alter = {"amount": 7}
    await look(world)
    assert (await first(world)).operator_reason
    world.alter = {}
    await pay(world)
    assert (await first(world)).state is ChargeState.SUCCEEDED


@pytest.mark.parametrize("refunded", [False, True])
async def test_a_webhook_does_not_shorten_the_turn_of_a_reversal(
    world: World, monkeypatch: pytest.MonkeyPatch, refunded: bool
) -> None:
    """Another process would send a second one beside it. For a refund Ping++ is asked, too."""
    dues = []

    async def paid_meanwhile() -> Sent:
        dues.append((await first(world)).due_at)
        world.lookalike.pay(str((await first(world)).charge_id))
        if refunded:
            world.lookalike.refund_at_dashboard(str((await first(world)).charge_id), 30)
        await world.webhooks.send_owed()
        await world.apply_due()
        dues.append((await first(world)).due_at)
        return Lost("timeout")

    at_reversals(monkeypatch, paid_meanwhile)
    await charged(world, 200)
    assert dues[0] == dues[1]


@pytest.mark.parametrize("first_ends", [True, False])
async def test_of_two_processes_the_last_reversal_decides(
    world: World, monkeypatch: pytest.MonkeyPatch, first_ends: bool
) -> None:
    """While another one reverses, a refusal proves nothing about that one."""
    answers: list[Sent] = [Answer(400, TOO_LATE, "")]
    other = world.another_process()

    async def both() -> Sent:
        if answers:
            answer = answers.pop()
            world.lookalike.pay(str((await first(world)).charge_id))
            order = await world.order()
            if not first_ends:
                marked = replace(order.charges[0], updated_at=world.disk.clock)
                await take_back(other.ports, order, marked, ObservedBy.RESOLVE)
            return answer
        return Lost("timeout")

    at_reversals(monkeypatch, both)
    await charged(world, 200)
    expected = ChargeState.SUCCEEDED if first_ends else ChargeState.PENDING
    assert (await first(world)).state is expected
    if first_ends:
        sent = len(world.commits)
        order = await world.order()
        stale = replace(order.charges[0], state=ChargeState.PENDING, answer="reversing x")
        await take_back(other.ports, order, stale, ObservedBy.RESOLVE)
        assert len(world.commits) == sent, "what is paid is reversed by nobody"


async def test_what_is_paid_is_not_reversed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its webhook was lost, so nobody here knew."""
    reversals = at_reversals(monkeypatch, lost)
    world.lookalike.pay(str((await first(world)).charge_id))
    refused = await charged(world, 200)
    assert isinstance(refused, Failed)
    assert isinstance(refused.error, OrderAlreadyPaid)
    assert reversals == []
    assert (await first(world)).state is ChargeState.SUCCEEDED


async def test_a_refused_reversal_proves_nothing_about_an_earlier_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier one was lost, and may arrive after it."""

    async def lost_then_refused() -> Sent:
        if len(reversals) == 1:
            return Lost("timeout")
        world.lookalike.pay(str((await first(world)).charge_id))
        return Answer(400, TOO_LATE, "")

    reversals = at_reversals(monkeypatch, lost_then_refused)
    await charged(world, 200)
    await look(world)
    assert len(reversals) == 2
    assert (await first(world)).state is ChargeState.PENDING
    await world.settle()
    assert (await first(world)).state is ChargeState.SUCCEEDED


async def test_the_window_counts_from_the_mark(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However old the charge is."""
    world.pass_time(SETTLE_WINDOW.total_seconds() * 1.5)
    at_reversals(monkeypatch, lost)
    await charged(world, 200)
    await pay(world)
    await look(world)
    assert await announced(world) == []


@pytest.mark.parametrize(
    "answer",
    [
        NotSent("refused"),
        Answer(400, TOO_LATE, ""),
        Answer(403, b'{"error":{"type":"rate_limit_error","message":"slowly"}}', ""),
        Answer(401, b'{"error":{"type":"invalid_request_error","message":"key"}}', ""),
    ],
    ids=["not sent", "refused", "throttled", "wrong key"],
)
async def test_a_reversal_that_was_not_carried_out_keeps_no_payment_back(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: Sent
) -> None:
    """None is on its way, so a payment is believed at once."""

    async def odd() -> Sent:
        return answer

    with monkeypatch.context() as patch:
        at_reversals(patch, odd)
        await charged(world, 200)
    await pay(world)
    assert [kind for kind, _ in await announced(world)] == ["PAY_ORDER_SUCCESS"]


async def test_a_payment_is_announced_however_often_midas_is_restarted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ping++'s clock shows that the settle window is over."""
    at_reversals(monkeypatch, lost)
    await charged(world, 200)
    await pay(world)
    for _ in range(6):
        world.pass_time(SETTLE_WINDOW.total_seconds() / 3)
        world.start()
        await world.payments.resolve_due()
    assert [kind for kind, _ in await announced(world)] == ["PAY_ORDER_SUCCESS"]


async def test_a_clock_that_steps_ends_no_doubt(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database's: by Ping++'s the reversal may be on its way yet (I9)."""
    with monkeypatch.context() as patch:
        late = at_reversals(patch, lost)
        await charged(world, 200)
        await pay(world)
        world.step_clock(SETTLE_WINDOW.total_seconds() + 120)
        await look(world)
        assert await announced(world) == []
    deliver(world.lookalike, late[0])
    await world.settle()
    assert [kind for kind, _ in await announced(world)] == ["PAY_ORDER_CLOSED"]


async def test_only_reversed_is_an_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ping++ takes the reversal, and shows the charge as it was: it may be under way."""

    async def taken() -> Sent:
        shown = world.lookalike.charge(str((await first(world)).charge_id))
        return Answer(200, json.dumps(shown).encode(), "")

    with monkeypatch.context() as patch:
        late = at_reversals(patch, taken)
        await charged(world, 200)
        await pay(world)
        assert await announced(world) == []
    deliver(world.lookalike, late[0])
    await world.settle()
    assert [kind for kind, _ in await announced(world)] == ["PAY_ORDER_CLOSED"]


async def test_after_a_payment_that_failed_the_payer_may_try_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is reversed, and its failure ends nothing while a reversal is on its way."""
    charge_id = str((await first(world)).charge_id)
    world.lookalike.fail_payment(charge_id)
    with monkeypatch.context() as patch:
        late = at_reversals(patch, lost)
        await charged(world, 200)
        assert len(late) == 1
        await world.webhooks.send_owed()
        await look(world)
        assert (await first(world)).state is ChargeState.PENDING
        world.lookalike.pay_late(charge_id)
        await world.webhooks.send_owed()
        assert await announced(world) == []
    deliver(world.lookalike, late[0])
    await world.settle()
    assert (await first(world)).state is ChargeState.REVERSED


async def test_a_process_that_stood_still_sends_no_reversal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one has believed the payment by then, as no reversal could be on its way (R5)."""
    other, commit = world.another_process(), FaultyStore.commit
    reversals = at_reversals(monkeypatch, lost)

    async def slow(self: FaultyStore, change: Change) -> bool:
        won = await commit(self, change)
        if any(each.event == "charge_closing" for each in change.journal):
            world.pass_time(SETTLE_WINDOW.total_seconds() + 300)
            world.lookalike.pay(str((await first(world)).charge_id))
            await other.resolve_due()
        return won

    monkeypatch.setattr(FaultyStore, "commit", slow)
    refused = await charged(world, 200)
    assert isinstance(refused, Failed)
    assert isinstance(refused.error, OrderAlreadyPaid)
    paid = await first(world)
    assert (reversals, paid.state, paid.operator_reason) == ([], ChargeState.SUCCEEDED, "")


async def test_a_payment_that_was_believed_after_the_mark_was_lost_calls_a_person(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The database lost the mark while the reversal was on its way, and Ping++ reports none."""
    world = World(Chooser((), most_faults=0), QR_CODE, loses=3)
    world.listens = True
    await charged(world, QR_CODE.amount)

    async def fail_over() -> Sent:
        world.fail_over()
        await pay(world)
        assert [kind for kind, _ in await announced(world)] == ["PAY_ORDER_SUCCESS"]
        return Lost("timeout")

    with monkeypatch.context() as patch:
        at_reversals(patch, fail_over)
        await charged(world, 200)
    assert world.failed_over
    paid = await first(world)
    assert (paid.state, bool(paid.operator_reason)) == (ChargeState.SUCCEEDED, True)


async def test_an_event_that_waits_for_a_reversal_is_not_parked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits longer than an event that cannot be applied, and then it can be."""
    at_reversals(monkeypatch, lost)
    await charged(world, 200)
    await pay(world)
    world.lookalike.refund_at_dashboard(str((await first(world)).charge_id), 30)
    await world.webhooks.send_owed()
    await world.settle()
    standings = {each.standing for each in world.disk.disk.events.values()}
    assert standings == {EventStanding.APPLIED}


async def test_a_caller_who_asks_again_and_again_writes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not believed yet is no news."""
    at_reversals(monkeypatch, lost)
    await charged(world, 200)
    await pay(world)
    before = len(world.commits)
    for _ in range(3):
        await world.ask(lambda p: p.query(KeyKind.ORDER_NO, KEY, True))
    assert len(world.commits) == before


async def test_another_accounts_answer_to_a_reversal_calls_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key was changed meanwhile: the answer is not about our charge."""

    async def of_another_account() -> Sent:
        world.alter = {"app": "app_2"}
        return Answer(400, TOO_LATE, "")

    with monkeypatch.context() as patch:
        at_reversals(patch, of_another_account)
        await charged(world, 200)
    after = await first(world)
    assert (after.state, after.operator_reason) == (ChargeState.PENDING, "")
    world.alter = {}
    await world.settle()
    assert (await first(world)).state is ChargeState.CLOSED


async def test_an_answer_that_cannot_be_written_down(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark stands: the resolver goes on where the process could not."""
    commit = FaultyStore.commit

    async def down() -> None:
        async def not_now(*_: object) -> bool:
            raise StorageUnavailable

        monkeypatch.setattr(FaultyStore, "commit", not_now)

    at_reversals(monkeypatch, down)
    failed = await charged(world, 200)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, ChargeStillOpen)
    monkeypatch.setattr(FaultyStore, "commit", commit)
    assert (await first(world)).is_being_reversed
    await world.settle()
    assert (await first(world)).state is ChargeState.CLOSED


async def test_where_a_reversal_takes_back_no_payment_it_is_announced_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On all other channels the lost reversal is refused when it comes."""
    world = World(Chooser((), most_faults=0), TERMS)
    world.listens = True
    await charged(world, TERMS.amount)
    world.pass_time(600)
    at_reversals(monkeypatch, lost)
    await charged(world, 200)
    await pay(world)
    assert (await first(world)).state is ChargeState.SUCCEEDED
    assert ("PAY_ORDER_SUCCESS", (await first(world)).out_trade_no) in await announced(world)
