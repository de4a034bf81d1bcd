"""An intent whose commit is in doubt: nothing was sent, and the process records that (D2)."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from midas.charge import Charge, ChargeState
from midas.draft import Draft
from midas.errors import StorageUnavailable
from midas.flows.not_sent import record_not_sent
from midas.flows.payment_calls import Payments
from midas.payment import Change
from midas.ports import KeyKind
from midas.psp.transport import NotSent
from midas.refund import Refund, RefundState
from tests.fakes.store import Disk
from tests.faults.chooser import Chooser
from tests.faults.scenarios import ALIPAY, TERMS, a_part, insist_on_charge
from tests.faults.world import START, Failed, FaultyStore, FaultyWire, World

KEY = TERMS.order_no
IN_DOUBT = StorageUnavailable(may_have_written=True)


async def a_world(*, paid: bool) -> World:
    """Nothing goes wrong by itself."""
    world = World(Chooser((), most_faults=0), TERMS)
    if paid:
        await insist_on_charge(world, TERMS)
        world.pay_everything()
        await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    return world


def doubt(
    patch: pytest.MonkeyPatch, which: Callable[[Change], object], *, lands: bool = True
) -> None:
    """The outcome of the first such commit is not known; it has landed or has not."""
    commit = FaultyStore.commit
    done: list[bool] = []

    async def committed(self: FaultyStore, change: Change) -> bool:
        if done or not which(change):
            return await commit(self, change)
        done.append(True)
        if lands:
            await commit(self, change)
        raise IN_DOUBT

    patch.setattr(FaultyStore, "commit", committed)


def intends(change: Change) -> object:
    """Whether something is written down that will be sent next."""
    return change.is_intent


def takes(change: Change) -> object:
    """Whether a queued refund is taken to be sent."""
    return any(each.event == "refund_sent_again" for each in change.journal)


async def touched(world: World, row: Charge | Refund) -> None:
    """Another process writes this row."""
    draft = Draft(await world.order())
    if isinstance(row, Refund):
        draft.put(row, ("test", world.disk.clock, "TEST"))
    else:
        draft.put(row, ("test", world.disk.clock, "TEST"))
    change = draft.change(world.disk.new_change_id())
    assert change is not None
    assert await world.disk.commit(change)


async def refund_in_doubt(world: World, *, lands: bool = True) -> None:
    """The caller gets the error that the database was lost during the commit."""
    with pytest.MonkeyPatch.context() as patch:
        doubt(patch, intends, lands=lands)
        asked = await world.ask(lambda p: p.refund(a_part(world)))
    assert isinstance(asked, Failed)
    assert asked.error is IN_DOUBT


async def charge_in_doubt(world: World) -> Charge:
    """The same for a charge; it has landed."""
    with pytest.MonkeyPatch.context() as patch:
        doubt(patch, intends)
        asked = await world.ask(lambda p: p.charge(ALIPAY))
    assert isinstance(asked, Failed)
    assert asked.error is IN_DOUBT
    (charge,) = (await world.order()).charges
    assert charge.state is ChargeState.SUBMITTING
    return charge


async def record_it(world: World) -> None:
    """What the process does beside the caller who is answered already."""
    (row,) = world.in_doubt
    await record_not_sent(world.payments.ports, row)


async def test_a_refund_is_queued_and_goes_out_by_itself() -> None:
    """Nobody has to look at it, though nobody repeats the call."""
    world = await a_world(paid=True)
    await refund_in_doubt(world)
    await record_it(world)
    refund = (await world.order()).refund("r1")
    assert (refund.state, refund.unsent) == (RefundState.SUBMITTING, True)
    world.in_doubt.clear()
    await world.settle()
    refund = (await world.order()).refund("r1")
    assert (refund.state, refund.operator_reason) == (RefundState.SUCCEEDED, "")
    assert len(world.lookalike.refunds_of(refund.charge_id)) == 1


async def test_looks_in_vain_do_not_keep_a_refund_from_it() -> None:
    """The database came back late, and a resolver looked first."""
    world = await a_world(paid=True)
    await refund_in_doubt(world)
    world.pass_time(40)
    await world.payments.resolve_due()
    assert (await world.order()).refund("r1").looks > 0
    await record_it(world)
    assert (await world.order()).refund("r1").unsent


@pytest.mark.parametrize(
    "changes",
    [
        {"operator_reason": "a person looks at it"},
        {"updated_at": START + timedelta(days=1)},
        {"state": RefundState.PENDING, "refund_id": "re_1"},
    ],
    ids=["a person looks", "sent by another", "it is there"],
)
async def test_a_refund_that_others_have_acted_on_is_left_alone(
    changes: dict[str, object],
) -> None:
    """It may have been sent by them."""
    world = await a_world(paid=True)
    await refund_in_doubt(world)
    refund = (await world.order()).refund("r1")
    await touched(world, replace(refund, **changes))  # type: ignore[arg-type]
    before = await world.order()
    await record_it(world)
    assert await world.order() == before


async def test_a_commit_that_lands_later_is_waited_for() -> None:
    """The connection was lost with the statement still on its way."""
    world = await a_world(paid=True)
    before = world.disk.disk.copy()
    await refund_in_doubt(world)
    landed, world.disk.disk = world.disk.disk, before
    load, looks = FaultyStore.load, 0

    async def lands_meanwhile(self: FaultyStore, order_no: str) -> object:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise StorageUnavailable
        if looks == 3:
            world.disk.disk = landed
        return await load(self, order_no)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaultyStore, "load", lands_meanwhile)
        await record_it(world)
    assert (await world.order()).refund("r1").unsent


async def test_a_commit_that_never_lands_is_given_up() -> None:
    """In a bounded time; and there is nothing to record."""
    world = await a_world(paid=True)
    await refund_in_doubt(world, lands=False)
    began, commits = world.seconds, len(world.commits)
    await record_it(world)
    assert world.commits[commits:] == []
    window = world.payments.ports.settle_window.total_seconds()
    assert window <= world.seconds - began < window + 60


async def test_a_taking_in_doubt_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queued refund that was taken to be sent, and was not, is queued as before."""
    world = await a_world(paid=True)
    with monkeypatch.context() as patch:
        send = FaultyWire.send

        async def no_posts(self, request, limit):  # type: ignore[no-untyped-def]
            posts = request.method == "POST"
            return NotSent("connect_failed") if posts else await send(self, request, limit)

        patch.setattr(FaultyWire, "send", no_posts)
        assert isinstance(await world.ask(lambda p: p.refund(a_part(world))), Failed)
    world.start()  # with a breaker of its own
    world.pass_time(60)
    with monkeypatch.context() as patch:
        doubt(patch, takes)
        await world.payments.resolve_due()
    assert not (await world.order()).refund("r1").unsent
    await record_it(world)
    assert (await world.order()).refund("r1").unsent


async def test_what_was_sent_is_never_called_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit of an answer is in doubt: that is another matter."""
    world = await a_world(paid=True)
    doubt(monkeypatch, lambda change: change.changed_refunds)
    assert isinstance(await world.ask(lambda p: p.refund(a_part(world))), Failed)
    assert world.in_doubt == []


async def test_a_charge_fails_at_once() -> None:
    """The payer is waiting, and the same key makes another one."""
    world = await a_world(paid=False)
    charge = await charge_in_doubt(world)
    await record_it(world)
    failed = (await world.order()).charge(charge.out_trade_no)
    assert (failed.state, failed.failure_code) == (ChargeState.FAILED, "not_sent")
    again = await world.payments.charge(ALIPAY)
    assert again.charge.out_trade_no != charge.out_trade_no
    assert await world.disk.notifications(KEY) == []


@pytest.mark.parametrize("how", ["its lease is over", "another process has claimed it"])
async def test_a_charge_that_others_may_have_posted_is_left_alone(how: str) -> None:
    """From the end of its lease on they may: it stays unknown until Ping++ is asked."""
    world = await a_world(paid=False)
    charge = await charge_in_doubt(world)
    if how == "its lease is over":
        world.pass_time(33)
    else:
        assert charge.due_at is not None
        await touched(world, replace(charge, due_at=charge.due_at + timedelta(seconds=60)))
    await record_it(world)
    (left,) = (await world.order()).charges
    assert left.state is ChargeState.SUBMITTING


async def test_the_process_records_it_beside_the_caller() -> None:
    """And waits for it before it ends."""
    world = await a_world(paid=True)
    payments: Payments = world.another_process()
    with pytest.MonkeyPatch.context() as patch:
        doubt(patch, intends)
        with pytest.raises(StorageUnavailable):
            await payments.refund(a_part(world))
        assert await payments.drain(timedelta(seconds=5))
    assert (await world.order()).refund("r1").unsent


async def test_a_disk_without_the_order_is_no_trouble() -> None:
    """A failover lost all of it."""
    world = await a_world(paid=True)
    await refund_in_doubt(world)
    world.disk.disk = Disk()
    await record_it(world)
    assert (await world.order()).charges == ()
