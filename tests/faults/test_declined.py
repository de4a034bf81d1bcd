"""A declined bar code gives way to the next one as soon as it certainly cannot be paid."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from midas.charge import Charge, ChargeState
from midas.errors import (
    ChargeRefused,
    MidasError,
    OrderAlreadyPaid,
    OutcomeUnknown,
    StorageUnavailable,
)
from midas.flows.payment_calls import Payments
from midas.limits import DECLINED_LOOK, DECLINED_SETTLE, SETTLE_WINDOW
from midas.payment import Change
from midas.ports import KeyKind
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Lost, NotSent, Sent
from tests.fakes.psp import deliver
from tests.faults.chooser import Chooser
from tests.faults.scenarios import BAR_CODE, NEXT_CODE, insist_on_charge
from tests.faults.world import Failed, FaultyStore, FaultyWire, World
from tests.records import a_charge

KEY = BAR_CODE.order_no
REASON = "channel_request_error"
REVERSE = "/reverse"


@pytest.fixture
def world() -> World:
    """Nothing goes wrong by itself, and Ping++ sends its webhooks."""
    world = World(Chooser((), most_faults=0), BAR_CODE)
    world.listens = True
    return world


async def refused(world: World, terms: object = BAR_CODE) -> MidasError:
    """Why the caller gets no charge."""
    asked = await world.ask(lambda payments: payments.charge(terms))  # type: ignore[arg-type]
    assert isinstance(asked, Failed)
    assert isinstance(asked.error, MidasError)
    return asked.error


async def first(world: World) -> Charge:
    """The bar code that was declined."""
    return (await world.order()).charges[0]


async def announced(world: World) -> list[str]:
    """The kinds of the order's notifications."""
    return [str(each.kind) for each in await world.disk.notifications(KEY)]


def instead_of(
    monkeypatch: pytest.MonkeyPatch, what: str, answer: Sent, *, carried_out: bool = False
) -> list[str]:
    """Answer each request to such a URL so. Returns their URLs."""
    send, requests = FaultyWire.send, []

    async def odd(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if not request.url.endswith(what):
            return await send(self, request, limit)
        requests.append(request.url)
        if carried_out:
            await send(self, request, limit)
        return answer

    monkeypatch.setattr(FaultyWire, "send", odd)
    return requests


async def test_the_cashier_learns_at_once_that_another_code_is_needed(world: World) -> None:
    """Listed and unpaid, it is reversed within the call: declined for certain, with its text."""
    world.lookalike.decline_bar_code(msg="insufficient balance")
    began = world.disk.clock
    error = await refused(world)
    assert isinstance(error, ChargeRefused)
    assert (error.code, error.message) == (REASON, "insufficient balance")
    declined = await first(world)
    assert declined.state is ChargeState.CLOSED
    assert world.lookalike.charge(str(declined.charge_id))["reversed"]
    assert await announced(world) == [], "the caller has it in its answer"
    assert await insist_on_charge(world, NEXT_CODE) is not None
    assert world.disk.clock == began


async def test_the_same_code_again_is_another_charge(world: World) -> None:
    """What was closed stays closed: a repeated call begins anew, under a number of its own."""
    world.lookalike.decline_bar_code()
    await refused(world)
    again = await insist_on_charge(world, BAR_CODE)
    assert again is not None
    assert again.charge.out_trade_no != (await first(world)).out_trade_no


async def test_paid_before_anybody_looked(world: World) -> None:
    """The payer was faster than the look: the order is paid, and nothing is reversed."""
    world.lookalike.decline_bar_code()

    async def pay() -> None:
        world.lookalike.pay(world.lookalike.unpaid_bar_codes()[0])

    world.on_charged = pay
    assert isinstance(await refused(world), OrderAlreadyPaid)
    paid = await first(world)
    assert (paid.state, paid.failure_code) == (ChargeState.SUCCEEDED, "")
    assert not world.lookalike.charge(str(paid.charge_id))["reversed"]
    assert await announced(world) == ["PAY_ORDER_SUCCESS"]


@pytest.mark.parametrize("listens", [True, False])
async def test_a_reversal_after_a_payment_gives_it_back(
    world: World, monkeypatch: pytest.MonkeyPatch, listens: bool
) -> None:
    """Paid after the look and before the reversal: REVERSED and announced, never as paid."""
    world.lookalike.decline_bar_code()
    send = FaultyWire.send

    async def pay_first(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if request.url.endswith(REVERSE):
            world.lookalike.pay(world.lookalike.unpaid_bar_codes()[0])
            if listens:
                await world.webhooks.send_owed()
        return await send(self, request, limit)

    monkeypatch.setattr(FaultyWire, "send", pay_first)
    assert isinstance(await refused(world), ChargeRefused)
    back = await first(world)
    assert back.state is ChargeState.REVERSED
    assert await announced(world) == ["PAY_ORDER_CLOSED"]
    assert world.lookalike.ledger.reversed(str(back.charge_id)) == BAR_CODE.amount
    assert await insist_on_charge(world, NEXT_CODE) is not None
    await world.webhooks.send_owed()
    assert (await first(world)).state is ChargeState.REVERSED


@pytest.mark.parametrize("odd", [Lost("timeout"), NotSent("refused"), Answer(502, b"", "")])
async def test_only_reversed_ends_it(
    world: World, monkeypatch: pytest.MonkeyPatch, odd: Sent
) -> None:
    """As long as the reversal is not confirmed, no other code is taken, however late it is."""
    world.lookalike.decline_bar_code()
    with monkeypatch.context() as patch:
        reversals = instead_of(patch, REVERSE, odd)
        assert isinstance(await refused(world), OutcomeUnknown)
        for _ in range(10):
            world.pass_time(SETTLE_WINDOW.total_seconds() / 5)
            await world.payments.resolve_due()
            assert isinstance(await refused(world, NEXT_CODE), OutcomeUnknown)
        assert len(reversals) > 10, "it is tried again"
    assert (await first(world)).state is ChargeState.SUBMITTING
    assert await insist_on_charge(world, NEXT_CODE) is not None
    assert (await first(world)).state is ChargeState.CLOSED
    assert await announced(world) == ["PAY_ORDER_CLOSED", "PAY_ORDER_SUCCESS"]


async def test_what_a_lost_reversal_may_take_back_is_not_announced_as_paid(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reversal is still on its way when the payer pays: its webhook alone ends nothing."""
    world.lookalike.decline_bar_code()
    with monkeypatch.context() as patch:
        instead_of(patch, REVERSE, Lost("timeout"))
        await refused(world)
        charge_id = world.lookalike.unpaid_bar_codes()[0]
        world.lookalike.pay(charge_id)
        await world.webhooks.send_owed()
        await world.ask(lambda p: p.query(KeyKind.ORDER_NO, KEY, True))
        assert (await first(world)).state is ChargeState.SUBMITTING
        assert await announced(world) == []
    await world.settle()
    assert (await first(world)).state is ChargeState.REVERSED
    assert world.lookalike.charge(charge_id)["reversed"]
    assert await announced(world) == ["PAY_ORDER_CLOSED"]


NO = b'{"error":{"type":"invalid_request_error","message":"too late"}}'


@pytest.mark.parametrize("lost", [Lost("timeout"), Answer(402, b'{"error":{"code":"odd"}}', "")])
async def test_a_payment_is_believed_once_no_reversal_can_be_on_its_way(
    world: World, monkeypatch: pytest.MonkeyPatch, lost: Sent
) -> None:
    """However often a reversal is not answered: the payer has paid, and must not wait for ever."""
    world.lookalike.decline_bar_code()
    instead_of(monkeypatch, REVERSE, lost)
    await refused(world)
    world.lookalike.pay(world.lookalike.unpaid_bar_codes()[0])
    await world.webhooks.send_owed()
    assert SETTLE_WINDOW < await until_ended(world) < 3 * SETTLE_WINDOW
    assert (await first(world)).state is ChargeState.SUCCEEDED
    assert await announced(world) == ["PAY_ORDER_SUCCESS"]


async def test_a_refused_reversal_proves_nothing_about_an_earlier_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier one was lost, and takes the payment back after all."""
    world.lookalike.decline_bar_code()
    send, reversals = FaultyWire.send, []

    async def lost_then_refused(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if not request.url.endswith(REVERSE):
            return await send(self, request, limit)
        reversals.append(request)
        return Lost("timeout") if len(reversals) == 1 else Answer(400, NO, "")

    with monkeypatch.context() as patch:
        patch.setattr(FaultyWire, "send", lost_then_refused)
        await refused(world)
        world.lookalike.pay(world.lookalike.unpaid_bar_codes()[0])
        await world.webhooks.send_owed()
        await look(world)
        assert len(reversals) == 2
        assert await announced(world) == []
    deliver(world.lookalike, reversals[0])
    await world.settle()
    assert await announced(world) == ["PAY_ORDER_CLOSED"]


async def look(world: World) -> None:
    """Let the resolver look as soon as it is due."""
    due_at = world.next_due()
    assert due_at is not None
    world.disk.clock = max(world.disk.clock, due_at)
    await world.payments.resolve_due()


async def test_while_one_process_reverses_no_other_one_does(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its refusal would be taken for the end of both."""
    world.lookalike.decline_bar_code()
    other, send, reversals = world.another_process(), FaultyWire.send, 0

    async def slow(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        nonlocal reversals
        if request.url.endswith(REVERSE):
            reversals += 1
            world.pass_time(limit.total_seconds())
            await other.resolve_due()
        return await send(self, request, limit)

    monkeypatch.setattr(FaultyWire, "send", slow)
    assert isinstance(await refused(world), ChargeRefused)
    assert reversals == 1


async def test_what_a_person_looks_at_is_not_reversed_and_is_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a day without an answer, for any caller; and it is never open again."""
    terms = replace(BAR_CODE, expires_in=timedelta(days=3))
    world = World(Chooser((), most_faults=0), terms)
    world.listens = True
    world.lookalike.decline_bar_code()
    reversals = instead_of(monkeypatch, REVERSE, Lost("timeout"))
    await refused(world, terms)
    while not (await first(world)).operator_reason:
        await look(world)
    sent = len(reversals)
    await world.ask(lambda p: p.query(KeyKind.ORDER_NO, KEY, True))
    assert len(reversals) == sent
    assert isinstance(await refused(world, terms), OutcomeUnknown)
    assert (await first(world)).is_declined
    world.lookalike.pay(world.lookalike.unpaid_bar_codes()[0])
    await world.webhooks.send_owed()
    assert (await first(world)).state is ChargeState.SUCCEEDED


@pytest.mark.parametrize("loses", [3, 4], ids=["charge", "query"])
async def test_a_payment_that_was_believed_after_the_mark_was_lost_calls_a_person(
    monkeypatch: pytest.MonkeyPatch, loses: int
) -> None:
    """The database lost the mark while the reversal was on its way, and Ping++ reports none."""
    world = World(Chooser((), most_faults=0), BAR_CODE, loses=loses)
    world.listens = True
    world.lookalike.decline_bar_code()
    send = FaultyWire.send

    async def fail_over(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if not request.url.endswith(REVERSE):
            return await send(self, request, limit)
        world.fail_over()
        if world.failed_over:
            world.lookalike.pay(world.lookalike.unpaid_bar_codes()[0])
            await world.webhooks.send_owed()
        return Lost("timeout")

    with monkeypatch.context() as patch:
        patch.setattr(FaultyWire, "send", fail_over)
        if loses == 4:
            world.odd = {"": "rejected"}  # nobody has looked yet when the caller asks
        await refused(world)
        world.odd = {}
        await world.ask(lambda p: p.query(KeyKind.ORDER_NO, KEY, True))
    assert world.failed_over
    paid = await first(world)
    assert (paid.state, bool(paid.operator_reason)) == (ChargeState.SUCCEEDED, True)


@pytest.mark.parametrize("odd", [Lost("timeout"), Answer(402, b'{"error":{"code":"odd"}}', "")])
async def test_a_bar_code_whose_time_is_over_opens_its_order(
    world: World, monkeypatch: pytest.MonkeyPatch, odd: Sent
) -> None:
    """However often its reversal is not answered: nobody can pay it any more."""
    world.lookalike.decline_bar_code()
    instead_of(monkeypatch, REVERSE, odd)
    await refused(world)
    assert await until_ended(world) < timedelta(hours=2) + 2 * SETTLE_WINDOW
    assert (await first(world)).state is ChargeState.CLOSED
    assert await insist_on_charge(world, NEXT_CODE) is not None


async def test_repeated_queries_reverse_nothing_and_keep_nobody_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shop polls; the reversals are the resolver's, in its own time."""
    world.lookalike.decline_bar_code()
    reversals = instead_of(monkeypatch, REVERSE, Lost("timeout"))
    await refused(world)
    commits, due_at = len(world.commits), world.next_due()
    for _ in range(3):
        await world.ask(lambda p: p.query(KeyKind.ORDER_NO, KEY, True))
    assert (len(reversals), len(world.commits), world.next_due()) == (1, commits, due_at)


async def test_a_reversal_that_no_time_was_left_for_takes_back_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look used up the caller's time: nothing has left, and the payer confirms."""
    world.lookalike.decline_bar_code()
    send, slow = FaultyWire.send, True

    async def slow_look(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        answer = await send(self, request, limit)
        if request.method == "GET" and slow:
            world.pass_time(DECLINED_LOOK.total_seconds())
        return answer

    monkeypatch.setattr(FaultyWire, "send", slow_look)
    assert isinstance(await refused(world), OutcomeUnknown)
    slow = False
    world.lookalike.pay(world.lookalike.unpaid_bar_codes()[0])
    await world.webhooks.send_owed()
    assert await announced(world) == ["PAY_ORDER_SUCCESS"]


async def test_a_mark_that_was_lost_is_put_again_by_its_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The payer pays after that, and the lost reversal arrives: nobody has believed it."""
    world = World(Chooser((), most_faults=0), BAR_CODE, loses=3)
    world.listens = True
    world.lookalike.decline_bar_code()
    send, reversals = FaultyWire.send, []

    async def fail_over(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if not request.url.endswith(REVERSE):
            return await send(self, request, limit)
        reversals.append(request)
        world.fail_over()
        return Lost("timeout")

    with monkeypatch.context() as patch:
        patch.setattr(FaultyWire, "send", fail_over)
        await refused(world)
    assert world.failed_over
    world.lookalike.pay(world.lookalike.unpaid_bar_codes()[0])
    await world.webhooks.send_owed()
    assert await announced(world) == []
    deliver(world.lookalike, reversals[0])
    await world.settle()
    assert await announced(world) == ["PAY_ORDER_CLOSED"]


async def test_a_resolver_that_has_looked_before_the_mark_hands_nothing_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It found an unpaid charge, and writes that after another process has marked it."""
    world.lookalike.decline_bar_code()
    other, commit = world.another_process(), FaultyStore.commit
    marked, looked = asyncio.Event(), asyncio.Event()
    resolving: list[asyncio.Task[object]] = []

    async def after_the_mark(self: FaultyStore, change: Change) -> bool:
        if self is other.ports.store:
            looked.set()
            await marked.wait()
        return await commit(self, change)

    async def answered_late() -> None:
        world.pass_time(33)
        resolving.append(asyncio.create_task(other.resolve_due()))
        await looked.wait()

    send = FaultyWire.send

    async def lost(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if not request.url.endswith(REVERSE):
            return await send(self, request, limit)
        marked.set()
        await asyncio.gather(*resolving)
        return Lost("timeout")

    monkeypatch.setattr(FaultyStore, "commit", after_the_mark)
    monkeypatch.setattr(FaultyWire, "send", lost)
    world.on_charged = answered_late
    assert isinstance(await refused(world), OutcomeUnknown)
    assert isinstance(await refused(world), OutcomeUnknown)
    assert (await first(world)).state is ChargeState.SUBMITTING


async def test_a_reversal_that_is_refused_leaves_the_payment(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Ping++ does not reverse what was paid meanwhile, it is paid, and announced."""
    world.lookalike.decline_bar_code()
    no = b'{"error":{"type":"invalid_request_error","message":"too late"}}'
    send = FaultyWire.send

    async def refuse(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if request.url.endswith(REVERSE):
            world.lookalike.pay(world.lookalike.unpaid_bar_codes()[0])
            return Answer(400, no, "")
        return await send(self, request, limit)

    monkeypatch.setattr(FaultyWire, "send", refuse)
    assert isinstance(await refused(world), OrderAlreadyPaid)
    assert (await first(world)).state is ChargeState.SUCCEEDED
    assert await announced(world) == ["PAY_ORDER_SUCCESS"]


async def test_a_reversal_that_is_refused_does_not_open_the_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpaid, and not reversed: nothing ends, and it is tried again until its time is over."""
    world.lookalike.decline_bar_code()
    no = b'{"error":{"type":"channel_error","code":"channel_request_error","message":"later"}}'
    with monkeypatch.context() as patch:
        instead_of(patch, REVERSE, Answer(402, no, ""))
        assert isinstance(await refused(world), OutcomeUnknown)
        assert (await first(world)).state is ChargeState.SUBMITTING
        assert await until_ended(world) > timedelta(hours=2)
    assert (await first(world)).state is ChargeState.CLOSED


async def test_what_was_listed_once_is_not_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that does not show it any more proves nothing of a reversal that was not answered."""
    world.lookalike.decline_bar_code()
    with monkeypatch.context() as patch:
        instead_of(patch, REVERSE, Lost("timeout"))
        await refused(world)
    world.lookalike.unpaid_bar_codes()
    hidden = world.lookalike._books.charges_oldest_first[0]
    hidden.hidden_until_paid = True
    for _ in range(20):
        world.pass_time(301)
        await world.payments.resolve_due()
    assert (await first(world)).state is ChargeState.SUBMITTING
    hidden.hidden_until_paid = False
    world.pass_time(301)
    await world.payments.resolve_due()
    assert (await first(world)).state is ChargeState.CLOSED


async def test_one_that_cannot_be_reversed_stays_open(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is PENDING as any other charge that waits for its payer, and makes way as one."""
    monkeypatch.setattr(type(world.payments.ports.psp), "can_reverse", lambda _, __: False)
    world.lookalike.decline_bar_code()
    assert isinstance(await refused(world), OutcomeUnknown)
    assert (await first(world)).state is ChargeState.PENDING
    assert await insist_on_charge(world, NEXT_CODE) is not None
    assert (await first(world)).superseded


async def until_ended(world: World) -> timedelta:
    """Let Midas work as its looks fall due; how long it took."""
    began = world.disk.clock
    while (await first(world)).state is ChargeState.SUBMITTING:
        due_at = world.next_due()
        assert due_at is not None
        world.disk.clock = max(world.disk.clock, due_at)
        await world.payments.resolve_due()
    return world.disk.clock - began


async def test_one_that_is_not_listed_is_given_up_after_a_window_of_its_own(world: World) -> None:
    """Time for a payer who types his PIN, and the caller learns when to ask again."""
    world.lookalike.decline_bar_code(listed=False)
    error = await refused(world)
    assert isinstance(error, OutcomeUnknown)
    assert error.query_after == DECLINED_SETTLE
    world.pass_time(DECLINED_SETTLE.total_seconds() / 2)
    later = await refused(world, NEXT_CODE)
    assert isinstance(later, OutcomeUnknown)
    assert later.query_after == DECLINED_SETTLE / 2
    assert await until_ended(world) == DECLINED_SETTLE / 2
    failed = await first(world)
    assert (failed.state, failed.failure_code) == (ChargeState.FAILED, REASON)
    assert failed.failure_message
    assert await insist_on_charge(world, NEXT_CODE) is not None
    assert await announced(world) == ["PAY_ORDER_CLOSED", "PAY_ORDER_SUCCESS"]


async def test_one_look_is_not_enough(world: World) -> None:
    """However late the first look is, it takes a second one."""
    world.lookalike.decline_bar_code(listed=False)
    world.odd = {"": "rejected"}
    await refused(world)
    world.pass_time(10 * DECLINED_SETTLE.total_seconds())
    world.odd = {}
    await world.payments.resolve_due()
    assert (await first(world)).state is ChargeState.SUBMITTING


async def test_the_payer_confirms_while_it_is_not_listed(world: World) -> None:
    """Within the window it is simply paid; nothing is late, and no second code was taken."""
    world.lookalike.decline_bar_code(listed=False)
    await refused(world)
    world.lookalike.pay(world.lookalike.unpaid_bar_codes()[0])
    world.pass_time(30)
    await world.payments.resolve_due()
    paid = await first(world)
    assert (paid.state, paid.late) == (ChargeState.SUCCEEDED, False)
    assert isinstance(await refused(world, NEXT_CODE), OrderAlreadyPaid)


async def test_money_that_comes_after_all_is_late_and_duplicate(world: World) -> None:
    """It was given up, the next code was paid, and then the payer confirms the first one (I1)."""
    world.lookalike.decline_bar_code(listed=False)
    await refused(world)
    await until_ended(world)
    assert await insist_on_charge(world, NEXT_CODE) is not None
    world.lookalike.pay(world.lookalike.unpaid_bar_codes()[0])
    await world.webhooks.send_owed()
    twice = await first(world)
    assert (twice.state, twice.late, twice.duplicate_payment) == (ChargeState.SUCCEEDED, True, True)


@pytest.mark.parametrize(
    "answer",
    [
        Lost("timeout"),
        Answer(502, b"", ""),
        Answer(402, b'{"error":{"type":"channel_error","code":"brand_new"}}', ""),
        Answer(402, b'{"error":{"type":"channel_error","code":"channel_connection_error"}}', ""),
    ],
    ids=["lost", "502", "unlisted code", "unknown code"],
)
async def test_every_other_answer_keeps_the_whole_window(
    world: World, monkeypatch: pytest.MonkeyPatch, answer: Sent
) -> None:
    """Only a 402 whose code means "not done" proves that the bar code was declined."""
    with monkeypatch.context() as patch:
        instead_of(patch, "/charges", answer)
        assert isinstance(await refused(world), OutcomeUnknown)
    assert not (await first(world)).is_declined
    assert await until_ended(world) >= SETTLE_WINDOW


async def test_a_slow_ping_pp_does_not_keep_the_cashier(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not certain within a few seconds is found out without the caller."""
    world.lookalike.decline_bar_code()
    send = FaultyWire.send

    async def slow(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if request.method == "GET":
            world.pass_time(limit.total_seconds())
            return Lost("timeout")
        return await send(self, request, limit)

    began = world.disk.clock
    with monkeypatch.context() as patch:
        patch.setattr(FaultyWire, "send", slow)
        assert isinstance(await refused(world), OutcomeUnknown)
    assert world.disk.clock - began <= DECLINED_LOOK
    await world.settle()
    assert (await first(world)).state is ChargeState.CLOSED


async def test_a_declined_charge_of_somebody_else_is_not_reversed(world: World) -> None:
    """What is listed under our number with another amount is quarantined, and left alone (I4)."""
    world.lookalike.decline_bar_code()
    original = world.lookalike._books.show_charge

    def dearer(*args: object, **kwargs: object) -> dict[str, object]:
        return {**original(*args, **kwargs), "amount": 7}  # type: ignore[arg-type]

    world.lookalike._books.show_charge = dearer  # type: ignore[method-assign]
    assert isinstance(await refused(world), OutcomeUnknown)
    assert (await first(world)).operator_reason
    assert len(world.lookalike.unpaid_bar_codes()) == 1


async def test_the_mark_is_on_disk_before_the_reversal_leaves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that cannot write its mark does not reverse, so no payment is taken back."""
    world.lookalike.decline_bar_code()
    commit = FaultyStore.commit

    async def read_only(self: FaultyStore, change: Change) -> bool:
        if any(each.event == "charge_closing" for each in change.journal):
            raise StorageUnavailable
        return await commit(self, change)

    monkeypatch.setattr(FaultyStore, "commit", read_only)
    assert isinstance(await refused(world), OutcomeUnknown)
    charge_id = world.lookalike.unpaid_bar_codes()[0]
    assert not world.lookalike.charge(charge_id)["reversed"]


async def test_no_error_after_a_reversal_is_nothing_was_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outcome cannot be written down: that is unknown, and not "nothing was sent"."""
    world.lookalike.decline_bar_code()
    with monkeypatch.context() as patch:
        instead_of(patch, REVERSE, Lost("timeout"))
        await refused(world)
    commit = FaultyStore.commit

    async def full(self: FaultyStore, change: Change) -> bool:
        if any(each.event == "charge_closed" for each in change.journal):
            raise StorageUnavailable
        return await commit(self, change)

    with monkeypatch.context() as patch:
        patch.setattr(FaultyStore, "commit", full)
        assert isinstance(await refused(world), OutcomeUnknown)
    await world.settle()
    assert (await first(world)).state is ChargeState.CLOSED


async def test_the_window_can_be_set(world: World) -> None:
    """And it is never longer than that of all other charges."""
    ports = world.payments.ports
    short = Payments(ports.store, ports.psp, ports.clock, declined_settle=timedelta(seconds=7))
    declined = a_charge("o1", failure_code=REASON)
    assert short.ports.settles_after(declined) == timedelta(seconds=7)
    brief = replace(short.ports, settle_window=timedelta(seconds=2))
    assert brief.settles_after(declined) == timedelta(seconds=2)
    assert short.ports.settles_after(replace(declined, failure_code="")) == SETTLE_WINDOW


async def test_the_row_has_the_reason(world: World) -> None:
    """It shows that the bar code was declined while nothing is certain."""
    world.lookalike.decline_bar_code(listed=False)
    await refused(world)
    declined = await first(world)
    assert (declined.state, declined.failure_code) == (ChargeState.SUBMITTING, REASON)
    events = [each.event for each in await world.disk.journal(KEY)]
    assert events == ["charge_intended", "charge_declined", "charge_outcome_unknown"]
