"""A refund that Ping++ may get twice because a database lost its last commits (D3, I2, P7).

Two processes share a disk; a failover puts an earlier one in its place while a POST is on its way.
Where both POSTs can be kept apart, one refund is made. Where they cannot, the second refund is
booked as a double, and a person is called.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import replace
from datetime import timedelta

import pytest

from midas.flows.create_refund import RefundResult
from midas.flows.payment_calls import Payments
from midas.ports import KeyKind
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, NotSent, Sent
from midas.refund import RefundState
from tests.fakes.psp import client_over
from tests.faults.chooser import Chooser
from tests.faults.crash import Process
from tests.faults.scenarios import TERMS, a_part, insist_on_charge
from tests.faults.world import (
    TOTAL_TIMEOUT,
    Failed,
    FaultyStore,
    FaultyWire,
    VirtualClock,
    World,
)

KEY = TERMS.order_no
REFUSED = Answer(
    400, b'{"error":{"type":"invalid_request_error","message":"refunded in full"}}', ""
)
SETTLED_S = 16 * 60
"""Longer than the longest call and the settle window."""


async def paid() -> World:
    """A world in which the order is paid, and known to be."""
    world = World(Chooser((), most_faults=0), TERMS)
    await insist_on_charge(world, TERMS)
    world.pay_everything()
    await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    return world


async def queued() -> World:
    """The same, with a refund that could not leave."""
    world = await paid()
    first = Replica(world)
    first.wire.ends = NotSent("connect_failed")
    with pytest.raises(Exception, match="PspUnavailable"):
        await first.payments.refund(a_part(world))
    assert (await world.order()).refund("r1").unsent
    world.pass_time(10)
    return world


class SlowWire(FaultyWire):
    """A way to Ping++ on which a refund's POST waits until it may go on."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__(world, process)
        self.left, self.may_arrive = asyncio.Event(), asyncio.Event()
        self.may_arrive.set()
        self.ends: Sent | None = None
        """How a refund's POST ends instead of arriving."""

    async def send(self, request: Prepared, limit: timedelta) -> Sent:
        """See `FaultyWire`."""
        if request.method == "POST" and request.url.endswith("/refunds"):
            self.left.set()
            await self.may_arrive.wait()
            if self.ends is not None:
                return self.ends
        return await super().send(request, limit)


class Replica:
    """Another process on the world's disk."""

    def __init__(self, world: World) -> None:
        process = Process()
        self.wire = SlowWire(world, process)
        psp = client_over(self.wire, "app_1", TOTAL_TIMEOUT)
        self.payments = Payments(FaultyStore(world, process), psp, VirtualClock(world))

    async def begins(self, work: Awaitable[object]) -> "asyncio.Future[object]":
        """Begin something whose POST leaves now and arrives later."""
        self.wire.may_arrive.clear()
        task = asyncio.ensure_future(work)
        await self.wire.left.wait()
        return task


async def assert_both_are_known(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Both refunds are booked, announced and counted, and a person is called."""
    order = await world.order()
    made = world.lookalike.refunds_of(order.charges[0].charge_id or "")
    assert [each["metadata"]["refund_no"] for each in made] == ["r1", "r1"]
    assert {each.refund_id for each in order.refunds} == {each["id"] for each in made}
    assert {each.state for each in order.refunds} == {RefundState.SUCCEEDED}
    assert sorted(each.external for each in order.refunds) == [False, True]
    assert all("another refund under" in each.operator_reason for each in order.refunds)
    announced = [each.refund_no for each in await world.disk.notifications(KEY) if each.refund_no]
    assert sorted(announced) == sorted(each.refund_no for each in order.refunds)
    assert order.refundable(order.charges[0]) == order.charges[0].amount - 2 * 40
    alarms = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "refund_doubled" in {vars(each).get("kind") for each in alarms}


@pytest.mark.parametrize("first", ["the lost one", "the repeated one"])
async def test_a_refund_whose_intent_was_lost_is_booked_twice_if_it_was_made_twice(
    first: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The same key came again at another process; whichever answer comes last is the double."""
    world = await paid()
    one, two = Replica(world), Replica(world)
    before = world.disk.disk.copy()
    lost = await one.begins(one.payments.refund(a_part(world)))
    world.disk.disk = before
    world.pass_time(5)
    again = await two.begins(two.payments.refund(a_part(world)))
    order_of_answers = [(one, lost), (two, again)]
    if first == "the repeated one":
        order_of_answers.reverse()
    for replica, task in order_of_answers:
        replica.wire.may_arrive.set()
        ended = await task
        assert isinstance(ended, RefundResult)
        assert ended.refund.state is RefundState.SUCCEEDED
    await assert_both_are_known(world, caplog)


@pytest.mark.parametrize("end", [NotSent("connect_failed"), REFUSED], ids=["not sent", "refused"])
async def test_the_end_of_a_lost_post_proves_nothing_about_the_one_that_follows(end: Sent) -> None:
    """The first POST came to nothing; the second one, under the same key, is still on its way."""
    world = await paid()
    one, two = Replica(world), Replica(world)
    before = world.disk.disk.copy()
    one.wire.ends = end
    lost = await one.begins(one.payments.refund(a_part(world)))
    world.disk.disk = before
    world.pass_time(5)
    again = await two.begins(two.payments.refund(a_part(world)))
    one.wire.may_arrive.set()
    with pytest.raises(Exception, match="OutcomeUnknown"):
        await lost
    row = (await world.order()).refund("r1")
    assert (row.state, row.unsent) == (RefundState.SUBMITTING, False)
    two.wire.may_arrive.set()
    await again
    await world.settle()
    order = await world.order()
    assert order.refund("r1").state is RefundState.SUCCEEDED
    assert len(world.lookalike.refunds_of(order.charges[0].charge_id or "")) == 1


@pytest.mark.parametrize("who", ["the resolver", "the same key"])
async def test_a_queued_refund_waits_after_a_change_of_the_server(who: str) -> None:
    """Its taking was lost and its POST is on its way: no other process sends it (D3)."""
    world = await queued()
    before = world.disk.disk.copy()
    one, two = Replica(world), Replica(world)
    taken = await one.begins(one.payments.resolve_due())
    world.disk.disk = before
    if who == "the resolver":
        await two.payments.resolve_due()
    else:
        assert isinstance(await world.ask(lambda _: two.payments.refund(a_part(world))), Failed)
    assert not two.wire.left.is_set()
    one.wire.may_arrive.set()
    await taken
    world.pass_time(SETTLED_S)
    await two.payments.resolve_due()
    order = await world.order()
    assert order.refund("r1").state is RefundState.SUCCEEDED
    assert len(world.lookalike.refunds_of(order.charges[0].charge_id or "")) == 1


async def test_a_queued_refund_leaves_once_nothing_can_be_on_its_way() -> None:
    """After the wait it is looked for, is not there, and is sent; not a moment before."""
    world = await queued()
    world.disk.disk = world.disk.disk.copy()
    replica = Replica(world)
    began, longest = world.seconds, TOTAL_TIMEOUT + replica.payments.ports.settle_window
    while not replica.wire.left.is_set():
        world.pass_time(20)
        await replica.payments.resolve_due()
        assert world.seconds < began + SETTLED_S + 6 * 60, "it was given up"
    assert world.seconds - began > longest.total_seconds()
    assert (await world.order()).refund("r1").state is RefundState.SUCCEEDED
    taken = [each.event for each in world.disk.disk.journal[KEY]].count("refund_sent_again")
    assert taken == 1  # a process that dies after a taking leaves an unknown refund


async def test_what_arrives_behind_the_look_is_not_sent_again() -> None:
    """The wait must be over when the look begins: what was on its way may arrive after it.

    The process that sent it is gone, with the commit that took it to send it.
    """
    world = await queued()
    replica = Replica(world)
    world.disk.disk = world.disk.disk.copy()
    await replica.payments.resolve_due()
    longest = TOTAL_TIMEOUT + replica.payments.ports.settle_window
    world.pass_time(longest.total_seconds() - 1)
    refund = (await world.order()).refund("r1")

    async def arrive_behind_it(request: Prepared, limit: timedelta) -> Sent:
        answer = await FaultyWire.send(replica.wire, request, limit)
        made = world.lookalike.refunds_of(refund.charge_id)
        if request.method == "GET" and not made:
            await world.payments.ports.psp.create_refund(refund)
            world.pass_time(10)
        return answer

    replica.wire.send = arrive_behind_it  # type: ignore[method-assign]
    for _ in range(3):
        await replica.payments.resolve_due()
        world.pass_time(301)
    assert len(world.lookalike.refunds_of(refund.charge_id)) == 1
    assert (await world.order()).refund("r1").state is RefundState.SUCCEEDED


async def test_a_refusal_ends_a_queued_refund_whose_taking_was_lost() -> None:
    """Nobody else has taken it, so what came of this POST is what came of the refund."""
    world = await queued()
    before = world.disk.disk.copy()
    replica = Replica(world)
    replica.wire.ends = REFUSED
    taken = await replica.begins(replica.payments.resolve_due())
    world.disk.disk = before
    replica.wire.may_arrive.set()
    await taken
    assert (await world.order()).refund("r1").state is RefundState.FAILED


async def test_without_a_change_of_the_server_a_queued_refund_leaves_at_once() -> None:
    """Nothing is lost then, and nothing is waited for."""
    world = await queued()
    await Replica(world).payments.resolve_due()
    assert (await world.order()).refund("r1").state is RefundState.SUCCEEDED


@pytest.mark.parametrize("lost_too", [False, True], ids=["stands", "lost"])
async def test_a_server_that_changes_while_a_refund_is_taken(lost_too: bool) -> None:
    """The taking is written on the new server, or even lost with it: it is not sent now."""
    world = await queued()
    replica = Replica(world)
    store = replica.payments.ports.store
    commit = store.commit
    before = world.disk.disk.copy()

    async def commit_and_change(change):  # type: ignore[no-untyped-def]
        done = await commit(change)
        if any(not each.unsent for each in change.changed_refunds):
            world.disk.disk = before if lost_too else world.disk.disk.copy()
        return done

    store.commit = commit_and_change  # type: ignore[method-assign]
    await replica.payments.resolve_due()
    assert not replica.wire.left.is_set()
    row = (await world.order()).refund("r1")
    assert (row.state, row.unsent) == (RefundState.SUBMITTING, True)


async def test_what_another_process_took_meanwhile_is_not_put_back() -> None:
    """The server changed, and by now another process is sending it: it is not queued any more."""
    world = await queued()
    replica, other = Replica(world), Replica(world)
    store = replica.payments.ports.store
    commit, before = store.commit, world.disk.disk.copy()

    async def commit_and_lose(change):  # type: ignore[no-untyped-def]
        done = await commit(change)
        if any(not each.unsent for each in change.changed_refunds):
            store.commit = commit  # type: ignore[method-assign]
            world.disk.disk = before
            await world.disk.since_possible_loss()
            world.pass_time(SETTLED_S)
            sending.append(await other.begins(other.payments.resolve_due()))
            world.disk.disk = world.disk.disk.copy()
        return done

    sending: list[asyncio.Future[object]] = []
    store.commit = commit_and_lose  # type: ignore[method-assign]
    await replica.payments.resolve_due()
    row = (await world.order()).refund("r1")
    assert (row.state, row.unsent) == (RefundState.SUBMITTING, False)
    other.wire.may_arrive.set()
    await asyncio.gather(*sending)
    assert (await world.order()).refund("r1").state is RefundState.SUCCEEDED


@pytest.mark.parametrize("when", ["before it is sent", "when it is refused"])
async def test_two_under_one_key_in_the_list_are_both_booked(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each flow that asks for the list books all that it shows (P7)."""
    world = await (queued() if when == "before it is sent" else paid())
    replica = Replica(world)

    async def made_twice() -> None:
        refund = (await world.order()).refund("r1")
        for _ in range(2):
            await world.payments.ports.psp.create_refund(refund)

    if when == "before it is sent":
        await made_twice()
        await replica.payments.resolve_due()
    else:
        replica.wire.ends = REFUSED
        task = await replica.begins(replica.payments.refund(a_part(world)))
        await made_twice()
        replica.wire.may_arrive.set()
        await task
    await assert_both_are_known(world, caplog)


async def test_an_answer_without_our_key_is_the_double_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ping++ need not repeat the metadata: it is the answer to our own POST."""
    world = await paid()
    one, two = Replica(world), Replica(world)
    before = world.disk.disk.copy()
    lost = await one.begins(one.payments.refund(a_part(world)))
    world.disk.disk = before
    world.pass_time(5)
    await two.payments.refund(a_part(world))
    world.alter = {"metadata": {}}
    one.wire.may_arrive.set()
    await lost
    await assert_both_are_known(world, caplog)


async def test_the_repeated_call_after_a_double_shows_it() -> None:
    """The refund went through; that it went through twice is a person's matter."""
    world = await paid()
    one, two = Replica(world), Replica(world)
    before = world.disk.disk.copy()
    lost = await one.begins(one.payments.refund(a_part(world)))
    world.disk.disk = before
    world.pass_time(5)
    await two.payments.refund(a_part(world))
    one.wire.may_arrive.set()
    await lost
    again = await two.payments.refund(a_part(world))
    assert again.refund.state is RefundState.SUCCEEDED
    assert again.refund.operator_reason
    everything = replace(a_part(world), refund_no="r2", amount=0)
    assert (await two.payments.refund(everything)).refund.amount == 20
