"""look → post → look: what keeps the second post from making a second charge (I1, D3)."""

import asyncio
import json
import logging
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from midas import limits, schedule
from midas.charge import Charge, ChargeState, ChargeTerms, ObservedBy
from midas.errors import OutcomeUnknown, PspUnavailable, StorageUnavailable
from midas.flows.payment_calls import Payments
from midas.flows.resolve import resolve_order
from midas.payment import Change
from midas.ports import KeyKind
from midas.psp.client import PingppClient
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Lost, NotSent, Sent
from midas.refund import RefundState
from tests.fakes.psp import client_over, deliver
from tests.fakes.store import Disk
from tests.faults.chooser import Chooser
from tests.faults.crash import Process
from tests.faults.scenarios import ALIPAY, BAR_CODE, TERMS, a_part, insist_on_charge
from tests.faults.world import (
    TOTAL_TIMEOUT,
    Failed,
    FaultyStore,
    FaultyWire,
    VirtualClock,
    World,
)

KEY = TERMS.order_no
NOTHING = Answer(200, b'{"object":"list","url":"/v1/charges","has_more":false,"data":[]}', "")
NO = Answer(
    402, b'{"error":{"type":"channel_error","code":"channel_request_error","message":"no"}}', ""
)
POSTS: dict[str, Sent] = {"lost": Lost("timeout"), "refused": NO, "not sent": NotSent("refused")}
LOOKS: dict[str, Sent] = {"absent": NOTHING, "late": NOTHING, "unanswered": Lost("timeout")}


def a_world(terms: ChargeTerms = TERMS) -> World:
    """Nothing goes wrong by itself."""
    return World(Chooser((), most_faults=0), terms)


class Scripted(FaultyWire):
    """Ping++ as a test says: how its lists and posts are answered, and what was asked of it."""

    def __init__(self, world: World, looks: list[str], post: str, *, arrives: bool) -> None:
        super().__init__(world, world.process)
        self.world = world
        self.looks = looks
        self.post = post
        self.arrives = arrives
        self.asked: list[str] = []

    async def send(self, request: Prepared, limit: timedelta) -> Sent:
        """A post is carried out where it is answered or `arrives`; so is nothing else."""
        self.asked.append(request.method)
        if request.method == "POST":
            carried_out = self.post == "done" or self.arrives
            answer = deliver(self.world.lookalike, request) if carried_out else NOTHING
            return POSTS.get(self.post, answer)
        look = self.looks.pop(0) if self.looks else "truth"
        if look == "late":
            self.world.pass_time(3 * 3600)
        return LOOKS.get(look) or deliver(self.world.lookalike, request)


async def unknown_charge(terms: ChargeTerms, *, arrives: bool) -> tuple[World, Scripted]:
    """The create call was not answered."""
    world = a_world(terms)
    wire = Scripted(world, [], "lost", arrives=arrives)
    psp = client_over(wire, "app_1", TOTAL_TIMEOUT, lambda: world.seconds)
    world.payments.ports = replace(world.payments.ports, psp=psp)
    assert isinstance(await world.ask(lambda payments: payments.charge(terms)), Failed)
    wire.asked.clear()
    return world, wire


async def resolved(world: World) -> Charge:
    """The charge after Midas has tried once to find out."""
    order = await resolve_order(world.payments.ports, await world.order(), ObservedBy.RESOLVE)
    return order.charges[0]


@pytest.mark.parametrize(
    ("terms", "first", "post", "arrives"),
    list(
        product(
            (TERMS, ALIPAY, BAR_CODE),
            ("truth", "absent", "late", "unanswered"),
            ("done", "lost", "refused", "not sent"),
            (False, True),
        )
    ),
    ids=lambda each: each.channel if isinstance(each, ChargeTerms) else str(each),
)
async def test_every_way_of_the_first_look_and_of_the_post(
    terms: ChargeTerms, first: str, post: str, arrives: bool
) -> None:
    """At most one post, only after a complete list without it, and never without a look after it.

    Where Ping++ refuses repetitions there is no look before; bar codes are never posted again.
    """
    world, wire = await unknown_charge(terms, arrives=arrives)
    world.pass_time(33)
    wire.post = post
    wire.looks = [] if terms is TERMS else [first]
    after = await resolved(world)
    shows_it = arrives and first == "truth"
    if terms is TERMS:
        posts, looks_before = True, 0
    else:
        posts = terms is ALIPAY and first in ("truth", "absent") and not shows_it
        looks_before = 1
    looks_after = 1 if posts and post != "done" else 0
    assert wire.asked == ["GET"] * looks_before + ["POST"] * posts + ["GET"] * looks_after
    made = len(world.lookalike.newest_charges(10))
    assert made <= 1
    if made and (posts or shows_it):
        assert after.state is not ChargeState.SUBMITTING
    elif not made:
        assert after.state is ChargeState.SUBMITTING


@pytest.mark.parametrize(
    ("terms", "age_s", "posts"),
    [
        (ALIPAY, 45, True),
        (ALIPAY, 46, False),
        (TERMS, 7200 - 15, True),
        (TERMS, 7200 - 14, False),
    ],
    ids=lambda each: each.channel if isinstance(each, ChargeTerms) else str(each),
)
async def test_a_margin_of_the_window_is_kept(
    terms: ChargeTerms, age_s: float, posts: bool
) -> None:
    """The post may take so long, and must be there before the window closes."""
    world, wire = await unknown_charge(terms, arrives=False)
    world.pass_time(age_s)
    await resolved(world)
    assert ("POST" in wire.asked) is posts
    assert "GET" in wire.asked


async def test_what_takes_the_money_is_never_posted_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever Ping++ says of repetitions: the payer would be asked a second time (P5)."""
    monkeypatch.setattr(PingppClient, "repost_window", lambda self, channel: timedelta(minutes=1))
    world, wire = await unknown_charge(BAR_CODE, arrives=False)
    world.pass_time(33)
    await resolved(world)
    assert wire.asked == ["GET"]


async def test_an_old_charge_that_is_absent_is_looked_for_once() -> None:
    """Without a post there is nothing new that a second look could show."""
    world, wire = await unknown_charge(ALIPAY, arrives=False)
    world.pass_time(3600)
    assert (await resolved(world)).absent_since == world.disk.clock
    assert wire.asked == ["GET"]


async def test_absence_counts_from_when_the_look_began() -> None:
    """A list that was begun before the settle window was over and took long proves nothing yet."""
    world, wire = await unknown_charge(BAR_CODE, arrives=False)
    world.pass_time(3600)
    first = (await resolved(world)).absent_since
    assert first is not None
    world.pass_time(limits.SETTLE_WINDOW.total_seconds() - 60)
    wire.looks = ["late"]
    after = await resolved(world)
    assert (after.state, after.absent_since) == (ChargeState.SUBMITTING, first)
    assert (await resolved(world)).state is ChargeState.FAILED


@pytest.mark.parametrize("post", ["lost", "refused", "not sent"])
async def test_a_post_that_may_have_arrived_makes_absence_count_anew(post: str) -> None:
    """One that certainly did not leaves it as it was."""
    world, wire = await unknown_charge(TERMS, arrives=False)
    world.pass_time(100)
    wire.post = post
    first = (await resolved(world)).absent_since
    world.pass_time(600)
    second = (await resolved(world)).absent_since
    assert second == (world.disk.clock if post == "lost" else first)


async def test_a_paid_charge_whose_commit_was_lost_is_found_by_the_next_look() -> None:
    """Posted again it is refused as used, which tells nothing; the list does, within the minute."""
    world = a_world()
    made = await world.payments.charge(TERMS)
    await lose_all_but_the_intent(world)
    world.lookalike.pay(made.charge.charge_id or "")
    world.pass_time(33)
    await world.payments.resolve_due()
    assert (await world.order()).charges[0].state is ChargeState.SUCCEEDED


async def test_no_second_charge_after_a_lost_commit_and_a_look_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The payer has paid what was handed out; the caller asks again while lists are unanswered."""
    world = a_world(ALIPAY)
    made = await world.payments.charge(ALIPAY)
    await lose_all_but_the_intent(world)
    world.lookalike.pay(made.charge.charge_id or "")
    world.pass_time(33)
    with monkeypatch.context() as patch:
        answer_no_lists(patch)
        with pytest.raises(OutcomeUnknown):
            await world.payments.charge(ALIPAY)
    await world.settle()
    assert (await world.order()).charges[0].state is ChargeState.SUCCEEDED
    assert len(world.lookalike.newest_charges(10)) == 1


async def test_two_charges_of_one_number_in_one_list_are_loud(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Somebody has posted it a second time all the same: none of the two is passed over (I1)."""
    world, _ = await unknown_charge(BAR_CODE, arrives=True)
    (shown,) = world.lookalike.newest_charges(1)
    world.pass_time(61)
    body = {name: shown[name] for name in ("order_no", "channel", "amount", "currency", "subject")}
    body |= {"client_ip": "127.0.0.1", "body": shown["body"], "app": {"id": "app_1"}}
    body |= {"extra": BAR_CODE.extra}
    world.lookalike.handle("POST", "/v1/charges", (), json.dumps(body).encode())
    assert len(world.lookalike.newest_charges(10)) == 2
    after = await resolved(world)
    assert after.state is ChargeState.SUCCEEDED
    loud = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    assert loud == ["operator_needed"]


async def test_what_a_query_posted_again_and_could_not_write_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The database goes away after the post: no answer says that nothing was sent."""
    world, wire = await unknown_charge(TERMS, arrives=False)
    world.pass_time(100)
    wire.post = "done"

    async def refuse(self: FaultyStore, change: Change) -> bool:
        raise StorageUnavailable

    monkeypatch.setattr(FaultyStore, "commit", refuse)
    with pytest.raises(OutcomeUnknown):
        await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    assert wire.asked == ["POST"]
    world.pass_time(2 * 3600)
    with pytest.raises(StorageUnavailable):  # only looked for, this time
        await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)


# A row in flight is its sender's alone ----------------------------------------------------


class Gated(FaultyWire):
    """Creates leave, and are answered when the test says so."""

    def __init__(self, world: World) -> None:
        super().__init__(world, world.process)
        self.left, self.gate = asyncio.Event(), asyncio.Event()
        self.limits: list[timedelta] = []

    async def send(self, request: Prepared, limit: timedelta) -> Sent:
        """Wait in the middle of a create call."""
        if request.method == "POST" and request.url.endswith(("/charges", "/refunds")):
            self.limits.append(limit)
            self.left.set()
            await self.gate.wait()
        return await super().send(request, limit)


class Counting(FaultyWire):
    """Another process's wire."""

    def __init__(self, world: World) -> None:
        super().__init__(world, Process())
        self.asked: list[str] = []

    async def send(self, request: Prepared, limit: timedelta) -> Sent:
        """As it is, and noted."""
        self.asked.append(f"{request.method} {request.url.partition('?')[0].rsplit('/', 1)[-1]}")
        return await super().send(request, limit)


def payments_over(world: World, wire: FaultyWire) -> Payments:
    """A process with a wire of its own on the same disk."""
    psp = client_over(wire, "app_1", TOTAL_TIMEOUT, lambda: world.seconds)
    return Payments(FaultyStore(world, Process()), psp, VirtualClock(world))


@pytest.mark.parametrize("kind", ["charge", "refund"])
async def test_a_row_in_flight_is_left_alone_though_another_of_its_order_is_due(kind: str) -> None:
    """Neither asked about nor posted again, and who waits for it goes on waiting."""
    first = replace(ALIPAY, channel="alipay")  # cannot be reversed: superseded, and looked at
    world = a_world(first)
    wire, other = Gated(world), Counting(world)
    await world.payments.charge(first)
    if kind == "refund":
        await world.payments.charge(replace(ALIPAY, amount=200))
        world.lookalike.pay((await world.order()).charges[-1].charge_id or "")
        await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    world.pass_time(31)
    sender = payments_over(world, wire)
    if kind == "refund":
        task = asyncio.ensure_future(sender.refund(a_part(world)))
    else:
        task = asyncio.ensure_future(sender.charge(replace(ALIPAY, amount=200)))  # type: ignore[arg-type]
    await wire.left.wait()
    world.pass_time(2)
    assert await payments_over(world, other).resolve_due() == 1
    order = await world.order()
    row = order.refunds[0] if kind == "refund" else order.charges[-1]
    assert other.asked == [f"GET {order.charges[0].charge_id}"]
    assert (row.state, row.looks) == ("SUBMITTING", 0)
    wire.gate.set()
    await task


@pytest.mark.parametrize("commit_s", [0, 1, 8, 29.5])
async def test_a_post_never_outlives_the_lease_of_its_row(
    commit_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease runs from the draft; what the commit takes of it the post does not get."""
    world = a_world(ALIPAY)
    limits_used = await limits_after_slow_commits(world, monkeypatch, commit_s)
    await world.payments.charge(ALIPAY)
    (limit,) = limits_used
    lease = schedule.while_in_flight(world.disk.clock, TOTAL_TIMEOUT) - world.disk.clock
    assert timedelta(seconds=commit_s) + limit < lease
    assert limit == min(TOTAL_TIMEOUT, timedelta(seconds=int(31 - commit_s)))


async def test_a_charge_whose_lease_is_over_is_not_posted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody knows by then who else has: unknown, and found out as anything unknown is."""
    world = a_world(ALIPAY)
    await limits_after_slow_commits(world, monkeypatch, 40)
    with pytest.raises(OutcomeUnknown):
        await world.payments.charge(ALIPAY)
    assert world.lookalike.newest_charges(10) == []
    assert (await world.order()).charges[0].state is ChargeState.SUBMITTING


async def test_a_charge_with_a_second_left_is_proven_not_posted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its lease still holds, so nobody else can have posted it either."""
    world = a_world(ALIPAY)
    await limits_after_slow_commits(world, monkeypatch, 31.5)
    with pytest.raises(PspUnavailable):
        await world.payments.charge(ALIPAY)
    assert (await world.order()).charges[0].state is ChargeState.FAILED


async def test_a_refund_gets_what_is_left_of_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing left it is not sent now, and stays queued."""
    world = a_world()
    await insist_on_charge(world, TERMS)
    world.pay_everything()
    await world.payments.query(KeyKind.ORDER_NO, KEY, refresh=True)
    with monkeypatch.context() as patch:
        await limits_after_slow_commits(world, patch, 40)
        with pytest.raises(PspUnavailable) as raised:
            await world.payments.refund(a_part(world))
    assert raised.value.queued
    assert world.lookalike.refunds_of((await world.order()).charges[0].charge_id or "") == []
    limits_used = await limits_after_slow_commits(world, monkeypatch, 8)
    await world.payments.refund(a_part(world, "r2"))
    assert limits_used[-1] == timedelta(seconds=23)
    await world.settle()
    assert {each.state for each in (await world.order()).refunds} == {RefundState.SUCCEEDED}


async def lose_all_but_the_intent(world: World) -> None:
    """What a failover leaves of a charge that was handed out."""
    world.disk.disk = Disk()
    assert await world.disk.commit(world.commits[0])


def answer_no_lists(patch: pytest.MonkeyPatch) -> None:
    """Questions are not answered; posts are."""
    send = FaultyWire.send

    async def sent(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        return Lost("timeout") if request.method == "GET" else await send(self, request, limit)

    patch.setattr(FaultyWire, "send", sent)


async def limits_after_slow_commits(
    world: World, patch: pytest.MonkeyPatch, commit_s: float
) -> list[timedelta]:
    """The commit of each intent takes so long; gives the time that each create call is allowed."""
    commit, send = FaultyStore.commit, FaultyWire.send
    limits_used: list[timedelta] = []

    async def commit_slowly(self: FaultyStore, change: Change) -> bool:
        written = await commit(self, change)
        if change.new_charges or change.new_refunds:
            world.pass_time(commit_s)
        return written

    async def sent(self: FaultyWire, request: Prepared, limit: timedelta) -> Sent:
        if request.method == "POST":
            limits_used.append(limit)
        return await send(self, request, limit)

    patch.setattr(FaultyStore, "commit", commit_slowly)
    patch.setattr(FaultyWire, "send", sent)
    return limits_used
