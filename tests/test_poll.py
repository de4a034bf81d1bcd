"""PollPending: what a webhook would have brought is found by asking, and by one run of many."""

import asyncio
import contextlib
import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from midas import limits
from midas.charge import ChargeState, ObservedBy
from midas.draft import Draft
from midas.errors import OutcomeUnknown, PspUnavailable, StorageUnavailable
from midas.flows.poll import BOTH, PollResult
from midas.flows.terms import RefundTerms
from midas.immutable import replace
from midas.ports import RowKind
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Lost, NotSent, Sent
from midas.refund import RefundState
from midas.runtime.logs import FIELDS
from tests.fakes.psp import client_over
from tests.faults.chooser import Chooser
from tests.faults.scenarios import ALIPAY, TERMS
from tests.faults.world import TOTAL_TIMEOUT, FaultyWire, World

HOUR_S = 3600


@pytest.fixture
def world() -> World:
    """Nothing goes wrong by itself."""
    return World(Chooser((), most_faults=0), TERMS)


async def charged(world: World, count: int = 1) -> list[str]:
    """So many pending charges, each of an order of its own; their ids at Ping++."""
    made = [
        await world.payments.charge(dataclasses.replace(ALIPAY, order_no=f"o{n}"))
        for n in range(count)
    ]
    return [str(each.charge.charge_id) for each in made]


async def poll(world: World, **options: Any) -> PollResult:
    """One run, by default over everything."""
    wanted: dict[str, Any] = {"kinds": BOTH, "limit": 0, "timeout": timedelta(seconds=60)} | options
    return await world.payments.poll(**wanted)


async def test_a_payment_of_which_no_webhook_came_is_found(world: World) -> None:
    """Scenario 4: nobody asks, the timer calls PollPending."""
    paid, _ = await charged(world, 2)
    world.lookalike.pay(paid)
    world.pass_time(31)
    result = await poll(world)
    assert (result.examined, result.changed, result.found_by_poll) == (2, 1, 1)
    assert (result.still_pending, result.failed, result.psp_calls) == (1, 0, 2)
    (charge,) = (await world.disk.load("o0")).charges
    assert (charge.state, charge.observed_by) == (ChargeState.SUCCEEDED, ObservedBy.POLL)
    assert [each.kind for each in await world.disk.notifications("o0")] == ["PAY_ORDER_SUCCESS"]
    assert await world.disk.notifications("o1") == []


async def test_nothing_is_asked_before_it_is_due(world: World) -> None:
    """A second run right after the first one asks nothing."""
    await charged(world, 2)
    assert (await poll(world)).examined == 0
    world.pass_time(31)
    assert (await poll(world)).examined == 2
    again = await poll(world)
    assert (again.examined, again.psp_calls, again.more_due) == (0, 0, False)
    assert again.next_due_at is not None


async def test_a_refund_that_ends_without_a_webhook_is_found(world: World) -> None:
    """Scenario 8, by the timer."""
    (charge_id,) = await charged(world)
    world.lookalike.pay(charge_id)
    world.lookalike.plan_refund("pending")
    await world.payments.refund(RefundTerms("r1", "o0", "", 40, "back"))
    refund_id = world.lookalike.refunds_of(charge_id)[0]["id"]
    world.lookalike.approve_refund(refund_id)
    world.pass_time(31)
    result = await poll(world, kinds={RowKind.REFUND})
    assert (result.examined, result.changed, result.found_by_poll) == (1, 1, 1)
    refund = (await world.disk.load("o0")).refund("r1")
    assert (refund.state, refund.observed_by) == (RefundState.SUCCEEDED, ObservedBy.POLL)


async def test_only_what_was_asked_for_is_looked_at(world: World) -> None:
    """By kind."""
    await charged(world)
    world.pass_time(31)
    assert (await poll(world, kinds={RowKind.REFUND})).examined == 0
    assert (await poll(world, kinds={RowKind.CHARGE})).examined == 1


async def test_an_expired_charge_is_closed_and_announced(world: World) -> None:
    """Scenario 6: Ping++ is asked after the expiry and its grace, and only then it is over."""
    await charged(world)
    world.pass_time(25 * HOUR_S)
    result = await poll(world)
    assert (result.changed, result.found_by_poll) == (1, 0)
    (charge,) = (await world.disk.load("o0")).charges
    assert charge.state is ChargeState.CLOSED
    assert [each.kind for each in await world.disk.notifications("o0")] == ["PAY_ORDER_CLOSED"]


async def test_an_unknown_outcome_is_found_out(world: World) -> None:
    """As the resolver does by itself."""
    lose_answers(world)
    with pytest.raises(OutcomeUnknown):
        await world.payments.charge(ALIPAY)
    world.start()
    world.pass_time(40)
    result = await poll(world)
    assert (result.examined, result.changed, result.unknown) == (1, 1, 0)
    (charge,) = (await world.disk.load(ALIPAY.order_no)).charges
    assert charge.state is ChargeState.PENDING


async def test_a_limit_is_kept_and_the_rest_is_due(world: World) -> None:
    """The earliest come first."""
    await charged(world, 5)
    world.pass_time(31)
    result = await poll(world, limit=2)
    assert (result.examined, result.more_due) == (2, True)
    assert result.oldest_due_at is not None
    assert (await poll(world)).examined == 3


async def test_a_run_without_time_looks_at_nothing_and_says_that_more_is_due(world: World) -> None:
    """A deadline of a millisecond: nothing is claimed."""
    await charged(world)
    world.pass_time(31)
    before = await world.disk.due_times(BOTH)
    result = await poll(world, timeout=timedelta(milliseconds=1))
    assert (result.examined, result.psp_calls, result.more_due) == (0, 0, True)
    assert await world.disk.due_times(BOTH) == before


async def test_what_a_run_has_no_time_for_is_due_as_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look takes 20 seconds here: of ten claimed rows the rest is given back."""
    monkeypatch.setattr(limits, "POLL_AT_ONCE", 1)
    await charged(world, 10)
    world.pass_time(31)
    planned = {each: await due_at(world, f"o{each}") for each in range(10)}
    slow(world, seconds=20)
    result = await poll(world)
    assert 0 < result.examined < 10
    assert result.more_due
    untouched = [n for n in range(10) if await due_at(world, f"o{n}") == planned[n]]
    assert len(untouched) == 10 - result.examined


async def test_many_runs_at_once_look_at_each_row_once(world: World) -> None:
    """In one process or in several: a claim is one process's."""
    await charged(world, 30)
    world.pass_time(31)
    results = await asyncio.gather(*(poll(world) for _ in range(4)))
    assert sum(each.examined for each in results) == 30
    assert sum(each.psp_calls for each in results) == 30


@pytest.mark.parametrize("sent", [NotSent("connect_failed"), Lost("timeout"), Answer(502, b"", "")])
async def test_where_ping_answers_nothing_it_is_unavailable(world: World, sent: Sent) -> None:
    """No row has changed, and all come up again when their claim ends."""
    await charged(world, 3)
    world.pass_time(31)
    before = [(await world.disk.load(f"o{n}")).version for n in range(3)]
    answer_with(world, sent)
    with pytest.raises(PspUnavailable):
        await poll(world)
    assert [(await world.disk.load(f"o{n}")).version for n in range(3)] == before
    world.start()
    assert (await poll(world)).examined == 0
    world.pass_time(limits.POLL_CLAIM.total_seconds())
    assert (await poll(world)).examined == 3


async def test_one_row_without_an_answer_does_not_end_the_run(world: World) -> None:
    """It counts as failed, and comes up again later, not at once."""
    first, *_ = await charged(world, 4)
    world.pass_time(31)
    answer_with(world, Lost("timeout"), only=first)
    result = await poll(world)
    assert (result.examined, result.failed, result.still_pending) == (4, 1, 4)
    assert not result.more_due
    world.start()
    world.pass_time(limits.POLL_CLAIM.total_seconds() + 1)
    assert (await poll(world)).examined >= 1


async def test_a_defect_in_one_row_does_not_end_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is: the others are looked at."""
    await charged(world, 3)
    world.pass_time(31)
    load = world.disk.load

    async def broken(order_no: str) -> Any:
        if order_no == "o1":
            raise ZeroDivisionError
        return await load(order_no)

    monkeypatch.setattr(world.disk, "load", broken)
    result = await poll(world)
    assert (result.examined, result.failed, result.still_pending) == (3, 1, 2)


async def test_another_accounts_key_changes_nothing_and_ends_the_run(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Twenty looks that find nothing: one alarm, and no row is touched."""
    monkeypatch.setattr(limits, "POLL_BATCH", 30)
    await charged(world, 40)
    world.pass_time(31)
    planned = [await due_at(world, f"o{n}") for n in range(40)]
    world.odd[""] = "not_found"
    result = await poll(world)
    assert result.examined < 40
    assert result.changed == 0
    alarms = [each for each in caplog.records if each.message == "operator_needed"]
    assert len(alarms) == 1
    assert not result.more_due, "nobody is to call again at once with a wrong key"
    for n in range(40):
        (charge,) = (await world.disk.load(f"o{n}")).charges
        assert (charge.state, charge.absent_since) == (ChargeState.PENDING, None)
        assert charge.due_at == planned[n]


async def test_no_post_begins_that_cannot_end_in_time(world: World) -> None:
    """A run of ten seconds leaves what may be posted to others, due as before."""
    lose_answers(world)
    with pytest.raises(OutcomeUnknown):
        await world.payments.charge(ALIPAY)
    world.start()
    world.pass_time(40)
    posts, before = world.posts, await due_at(world, ALIPAY.order_no)
    result = await poll(world, timeout=timedelta(seconds=10))
    assert (result.examined, world.posts) == (0, posts)
    assert await due_at(world, ALIPAY.order_no) == before


async def test_what_is_left_for_want_of_time_is_given_back_beside_what_was_looked_at(
    world: World,
) -> None:
    """Nobody else waits two minutes for a row that the run did not touch."""
    lose_answers(world)
    with pytest.raises(OutcomeUnknown):
        await world.payments.charge(ALIPAY)
    world.start()
    await charged(world, 2)
    world.pass_time(40)
    before = await due_at(world, ALIPAY.order_no)
    result = await poll(world, timeout=timedelta(seconds=10))
    assert result.examined == 2
    assert await due_at(world, ALIPAY.order_no) == before


async def test_a_row_that_waits_for_a_person_is_looked_at_once_a_day(world: World) -> None:
    """An answer may end that it waits; asking every two minutes would not."""
    await charged(world)
    order = await world.disk.load("o0")
    (charge,) = order.charges
    draft = Draft(order)
    draft.put(replace(charge, operator_reason="odd", due_at=world.disk.clock))
    change = draft.change("c" * 32)
    assert change is not None
    assert await world.disk.commit(change)
    assert (await poll(world)).examined == 1
    assert await due_at(world, "o0") == world.disk.clock + limits.POLL_DAILY
    world.pass_time(limits.POLL_DAILY.total_seconds())
    assert (await poll(world)).examined == 1


async def test_a_database_that_goes_away_hides_nothing_that_was_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer has what the first batch found; before that it is an error."""
    monkeypatch.setattr(limits, "POLL_BATCH", 1)
    first, _ = await charged(world, 2)
    world.lookalike.pay(first)
    world.pass_time(31)
    claim, claims = world.disk.claim_due_rows, 0

    async def once(*wanted: Any) -> Any:
        nonlocal claims
        claims += 1
        if claims > 1:
            raise StorageUnavailable
        return await claim(*wanted)

    async def away(*_: Any) -> Any:
        raise StorageUnavailable

    monkeypatch.setattr(world.disk, "claim_due_rows", once)
    monkeypatch.setattr(world.disk, "due_times", away)
    monkeypatch.setattr(world.disk, "release_rows", away)
    result = await poll(world)
    assert (result.examined, result.more_due) == (1, True)
    with pytest.raises(StorageUnavailable):
        await poll(world)


async def test_another_accounts_key_calls_nobody_for_refunds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of refunds is blind as one of charges is."""
    monkeypatch.setattr(limits, "POLL_BATCH", 30)
    for n in range(25):
        (charge_id,) = await charged(world, 1) if n == 0 else [await one_more(world, n)]
        world.lookalike.pay(charge_id)
        world.lookalike.plan_refund("pending")
        await world.payments.refund(RefundTerms(f"r{n}", f"o{n}", "", 40, "back"))
    world.pass_time(31)
    world.odd[""] = "not_found"
    await poll(world, kinds={RowKind.REFUND})
    for n in range(25):
        refund = (await world.disk.load(f"o{n}")).refund(f"r{n}")
        assert (refund.absent_since, refund.operator_reason) == (None, "")


async def one_more(world: World, n: int) -> str:
    """A pending charge of the order of this number; its id at Ping++."""
    made = await world.payments.charge(dataclasses.replace(ALIPAY, order_no=f"o{n}"))
    return str(made.charge.charge_id)


@pytest.mark.parametrize("way", ["rejected", "not_found"])
async def test_a_wrong_key_calls_a_person(
    world: World, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """Also where Ping++ answers no question at all, so that the caller gets UNAVAILABLE."""
    await charged(world, limits.RUN_FIRST_LOOKS)
    world.pass_time(31)
    world.odd[""] = way
    with contextlib.suppress(PspUnavailable):
        await poll(world)
    alarms = [each for each in caplog.records if each.message == "operator_needed"]
    assert [vars(each)["kind"] for each in alarms] == ["psp_knows_none_of_our_charges"]


@pytest.mark.parametrize("way", ["rejected", "not_found"])
async def test_a_refusal_of_the_question_postpones_nothing_for_a_day(
    world: World, way: str
) -> None:
    """A key that is wrong for a while does not silence the rows."""
    await charged(world, 3)
    world.pass_time(31)
    world.odd[""] = way
    with contextlib.suppress(PspUnavailable):
        await poll(world)
    world.odd.clear()
    world.pass_time(limits.POLL_CLAIM.total_seconds())
    assert (await poll(world)).examined == 3


async def test_no_unavailable_after_something_was_sent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The post was made and could not be written down: that is no "nothing was sent"."""
    lose_answers(world)
    with pytest.raises(OutcomeUnknown):
        await world.payments.charge(TERMS)
    world.start()
    world.pass_time(40)
    posts = world.posts

    async def away(*_: Any) -> Any:
        raise StorageUnavailable

    monkeypatch.setattr(world.disk, "commit", away)
    result = await poll(world)
    assert world.posts > posts, "the story needs a post"
    assert (result.examined, result.failed) == (1, 1)


async def test_rows_that_are_not_answered_keep_no_others_waiting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run goes on behind them."""
    monkeypatch.setattr(limits, "POLL_BATCH", 2)
    first, *_ = await charged(world, 6)
    world.pass_time(31)
    answer_with(world, Lost("timeout"), only=first)
    result = await poll(world)
    assert (result.examined, result.failed) == (6, 1)


async def test_a_process_that_is_about_to_end_begins_no_look(world: World) -> None:
    """What is due is left to others."""
    await charged(world, 2)
    world.pass_time(31)
    await world.payments.drain(timedelta(seconds=1))
    result = await poll(world)
    assert (result.examined, result.more_due) == (0, True)


async def test_a_row_that_somebody_else_has_by_now_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run waited for the order, and its claim was over meanwhile."""
    await charged(world)
    world.pass_time(31)
    load = world.disk.load

    async def moved(order_no: str) -> Any:
        order = await load(order_no)
        (charge,) = order.charges
        later = world.disk.clock + timedelta(hours=1)
        return dataclasses.replace(order, charges=(replace(charge, due_at=later),))

    monkeypatch.setattr(world.disk, "load", moved)
    result = await poll(world)
    assert (result.examined, result.psp_calls) == (0, 0)


async def test_a_post_that_never_left_leaves_it_unavailable(world: World) -> None:
    """Nothing was sent, and nothing answered."""
    await unknown_charge(world)
    answer_with(world, NotSent("connect_failed"))
    with pytest.raises(PspUnavailable):
        await poll(world)


async def test_a_post_that_may_have_left_is_never_unavailable(world: World) -> None:
    """Its answer and that to the list are lost: the outcome stays unknown."""
    await unknown_charge(world)
    lose_answers(world)
    result = await poll(world)
    assert (result.examined, result.failed, result.unknown) == (1, 1, 1)


async def test_an_error_of_ours_is_not_pings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is the only row."""
    await charged(world)
    world.pass_time(31)

    async def broken(_: str) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(world.disk, "load", broken)
    result = await poll(world)
    assert (result.examined, result.failed, result.psp_calls) == (1, 1, 0)


async def test_where_ping_is_away_the_rest_is_not_asked_about(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty looks without an answer are enough."""
    monkeypatch.setattr(limits, "POLL_BATCH", 20)
    await charged(world, 45)
    world.pass_time(31)
    asked: list[str] = []

    class Away(FaultyWire):
        async def send(self, request: Prepared, limit: timedelta) -> Sent:
            asked.append(request.url)
            return Lost("timeout")

    put_wire(world, Away(world, world.process))
    with pytest.raises(PspUnavailable):
        await poll(world)
    assert len(set(asked)) == limits.RUN_FIRST_LOOKS


async def test_what_was_not_found_first_is_looked_at_again_once_something_was_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the key is the right one, and the row is missing indeed."""
    monkeypatch.setattr(limits, "POLL_AT_ONCE", 1)
    first, *_ = await charged(world, 3)
    world.pass_time(31)
    world.odd[first] = "not_found"
    result = await poll(world)
    assert result.still_pending >= 3
    (charge,) = (await world.disk.load("o0")).charges
    assert charge.absent_since == world.disk.clock
    (other,) = (await world.disk.load("o1")).charges
    assert other.absent_since is None


async def unknown_charge(world: World) -> None:
    """A charge that Ping++ has and whose answer was lost, due to be found out."""
    lose_answers(world)
    with pytest.raises(OutcomeUnknown):
        await world.payments.charge(TERMS)
    world.start()
    world.pass_time(40)


async def test_the_line_of_a_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has what a person wants to know the next morning."""
    lines: list[tuple[str, Any]] = []
    monkeypatch.setattr("midas.flows.payment_calls.log_event", lambda *line: lines.append(line))
    await charged(world)
    world.pass_time(31)
    await poll(world)
    ((event, fields),) = lines
    assert event == "poll_done"
    assert set(fields) <= FIELDS
    assert (fields["examined"], fields["changed"], fields["more_due"]) == (1, 0, False)


async def test_looks_that_are_due_for_long_are_a_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody calls PollPending: one line in as long a time, and none while somebody does."""

    def warnings() -> int:
        return sum(each.message == "poll_overdue" for each in caplog.records)

    await charged(world)
    world.pass_time(limits.POLL_OVERDUE.total_seconds() - 1)
    await world.payments.resolve_due()
    assert warnings() == 0
    world.pass_time(61)
    await world.payments.resolve_due()
    await world.payments.resolve_due()
    assert warnings() == 1
    await poll(world)
    world.pass_time(limits.POLL_OVERDUE.total_seconds() + 1)
    await poll(world)
    await world.payments.resolve_due()
    assert warnings() == 1


@pytest.mark.parametrize("grace", [limits.EXPIRY_GRACE, timedelta(minutes=9)])
async def test_one_look_comes_just_after_the_end_of_a_charge(
    world: World, grace: timedelta
) -> None:
    """So that it is closed within seconds after the grace that is set, not within half an hour."""
    world.payments.ports = dataclasses.replace(world.payments.ports, expiry_grace=grace)
    await charged(world)
    (charge,) = (await world.disk.load("o0")).charges
    assert charge.expires_at is not None
    over = charge.expires_at + grace
    while world.disk.clock < over:
        world.pass_time(((await due_at(world, "o0")) - world.disk.clock).total_seconds())
        await poll(world)
    (charge,) = (await world.disk.load("o0")).charges
    assert charge.state is ChargeState.CLOSED
    assert world.disk.clock - over <= timedelta(seconds=10)


async def due_at(world: World, order_no: str) -> Any:
    """When the order's charge is looked at next."""
    (charge,) = (await world.disk.load(order_no)).charges
    return charge.due_at


def lose_answers(world: World) -> None:
    """Ping++ carries out what it gets, and no answer arrives."""

    class Deaf(FaultyWire):
        async def send(self, request: Prepared, limit: timedelta) -> Sent:
            await super().send(request, limit)
            return Lost("timeout")

    put_wire(world, Deaf(world, world.process))


def answer_with(world: World, sent: Sent, only: str = "") -> None:
    """What Ping++ answers to every question, or to those about one charge."""

    class Fixed(FaultyWire):
        async def send(self, request: Prepared, limit: timedelta) -> Sent:
            return sent if only in request.url else await super().send(request, limit)

    put_wire(world, Fixed(world, world.process))


def slow(world: World, seconds: float) -> None:
    """Every call takes so long."""

    class Slow(FaultyWire):
        async def send(self, request: Prepared, limit: timedelta) -> Sent:
            world.pass_time(seconds)
            return await super().send(request, limit)

    put_wire(world, Slow(world, world.process))


def put_wire(world: World, wire: FaultyWire) -> None:
    """Have this process call Ping++ over another wire, until it is started anew."""
    psp = client_over(wire, world.lookalike.app_id, TOTAL_TIMEOUT, lambda: world.seconds)
    world.payments.ports = dataclasses.replace(world.payments.ports, psp=psp)
