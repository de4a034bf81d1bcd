"""T3: two processes of Midas on one PostgreSQL, in every order of their calls that matters.

The enumeration goes through all schedules that differ from taking turns in at most `DEVIATIONS`
places (reliability.md section 5.5).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from midas.charge import ChargeState, ChargeTerms
from midas.errors import RefundExceedsRemaining, RefundNoReused
from midas.flows.create_charge import ChargeResult
from midas.flows.create_refund import RefundResult
from midas.flows.payment_calls import Payments
from midas.flows.terms import RefundTerms
from midas.payment import Order
from midas.ports import KeyKind
from midas.refund import RefundState
from tests.faults.chooser import Chooser, Odometer
from tests.faults.conservation import check_announcements
from tests.faults.machine_choices import OFFERS
from tests.faults.machine_ports import Fault, Plan
from tests.faults.machine_stage import PostgresStage
from tests.faults.machine_world import Call, World
from tests.faults.world import Failed
from tests.postgres import PostgresServer

DEVIATIONS = 2
LEAST_SCHEDULES = 5

Story = Callable[["Two", str], Awaitable[None]]


class Two:
    """Two processes, and the schedule of the run under way."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chooser = Chooser((), 0)

    async def both(self, *calls: Call) -> list[Any]:
        """The first call at one process and the second at the other, as the schedule has it."""
        self.world.gate.pick = self._pick
        try:
            return await self.world.ask(*calls)
        finally:
            self.world.gate.pick = lambda _waiting: 0

    async def paid(self, order_no: str, offer: str = "qr") -> None:
        """An order that is paid, without haste."""
        await self.world.ask(charge(order_no, offer))
        self.world.lookalike.pay(self.world.handed_out[-1])
        await self.world.ask(lambda p: p.query(KeyKind.ORDER_NO, order_no, refresh=True))

    async def order(self, order_no: str) -> Order:
        """What is on disk, after a look at what was announced of it."""
        order = await self.world.books.load(order_no)
        check_announcements(order, await self.world.books.notifications(order_no))
        return order

    def refunds_at_psp(self, order: Order) -> list[dict[str, Any]]:
        """All that Ping++ has made for the order's charges."""
        ids = [each.charge_id for each in order.charges if each.charge_id]
        return [refund for each in ids for refund in self.world.lookalike.refunds_of(each)]

    def _pick(self, waiting: Sequence[str]) -> int:
        options = [f"{place} {who}" for place, who in enumerate(waiting)]
        return options.index(self.chooser.choose("turn", options))


@pytest.fixture
async def two(postgres: PostgresServer, postgres_url: str) -> AsyncIterator[Two]:
    """Two processes with a pool of connections each, on one database."""
    world = await World.open(PostgresStage(postgres, postgres_url), processes=2)
    yield Two(world)
    await world.close()


async def explore(two: Two, story: Story) -> None:
    """Play the story under every schedule, each time with an order of its own."""
    runs = 0
    for chooser in Odometer(DEVIATIONS):
        two.chooser = chooser
        chooser.healed = False
        try:
            await story(two, f"order-{runs}")
        except AssertionError as violated:
            violated.add_note(f"schedule: {chooser.trace}")
            raise
        runs += 1
    assert runs >= LEAST_SCHEDULES


def charge(order_no: str, offer: str = "qr") -> Call:
    """A caller who wants to be paid."""
    terms: ChargeTerms = replace(OFFERS[offer], order_no=order_no)
    return lambda payments: payments.charge(terms)


def refund(order_no: str, refund_no: str, amount: int) -> Call:
    """A caller who wants money back."""
    terms = RefundTerms(refund_no, order_no=order_no, amount=amount, description="too late")
    return lambda payments: payments.refund(terms)


def resolve(payments: Payments) -> Awaitable[int]:
    """A process that looks for what it does not know."""
    return payments.resolve_due()


@pytest.mark.parametrize("offer", ["qr", "bar code"])
async def test_one_order_no_at_both(two: Two, offer: str) -> None:
    """R2: one order_no at both at once makes one charge, and both callers get it, byte for byte."""

    async def story(two: Two, order_no: str) -> None:
        results = await two.both(charge(order_no, offer), charge(order_no, offer))
        order = await two.order(order_no)
        (only,) = order.charges
        assert len(two.world.lookalike.charges_of(only.out_trade_no)) == 1
        assert two.world.posts[f"charge {only.out_trade_no}"] == (1 if offer == "bar code" else 0)
        got = [each for each in results if isinstance(each, ChargeResult)]
        if offer == "qr":
            assert len({each.charge_json for each in got}) == 1
            assert len(got) == 2

    await explore(two, story)


async def test_other_terms_at_both(two: Two) -> None:
    """Other terms at both at once leave one charge open, and the other one closed at Ping++."""

    async def story(two: Two, order_no: str) -> None:
        await two.both(charge(order_no), charge(order_no, "dear"))
        order = await two.order(order_no)
        assert sum(each.is_open for each in order.charges) == 1
        for each in order.charges:
            shown = two.world.lookalike.charge(each.charge_id or "")
            assert shown["reversed"] == (each.state is ChargeState.CLOSED)

    await explore(two, story)


async def test_one_refund_no_at_both(two: Two) -> None:
    """R2: one refund_no at both at once gives money back once, and both callers get it."""

    async def story(two: Two, order_no: str) -> None:
        await two.paid(order_no)
        key = f"r-{order_no}"
        results = await two.both(refund(order_no, key, 40), refund(order_no, key, 40))
        assert [type(each) for each in results] == [RefundResult, RefundResult]
        assert results[0].refund == results[1].refund
        order = await two.order(order_no)
        assert len(order.refunds) == len(two.refunds_at_psp(order)) == 1
        assert two.world.posts[f"refund {key}"] == 1

    await explore(two, story)


async def test_one_refund_no_for_two_orders(two: Two) -> None:
    """D9: one refund_no for two orders at once belongs to one of them; the other one is refused."""

    async def story(two: Two, order_no: str) -> None:
        other, key = f"other-{order_no}", f"r-{order_no}"
        await two.paid(order_no)
        await two.paid(other)
        results = await two.both(refund(order_no, key, 40), refund(other, key, 40))
        assert sorted(_names(results)) == ["RefundNoReused", "RefundResult"]
        assert two.world.posts[f"refund {key}"] == 1

    await explore(two, story)


async def test_the_last_remaining_amount(two: Two) -> None:
    """R4: of two refunds of what is left one wins; the other is refused before anything is sent."""

    async def story(two: Two, order_no: str) -> None:
        await two.paid(order_no)
        keys = [f"{order_no}-r1", f"{order_no}-r2"]
        results = await two.both(*(refund(order_no, key, 60) for key in keys))
        assert sorted(_names(results)) == ["RefundExceedsRemaining", "RefundResult"]
        order = await two.order(order_no)
        assert len(order.refunds) == len(two.refunds_at_psp(order)) == 1
        assert sum(two.world.posts[f"refund {key}"] for key in keys) == 1

    await explore(two, story)


@pytest.mark.parametrize("who", ["two resolvers", "resolver and caller", "two callers"])
async def test_an_unsent_refund_goes_out_once(two: Two, who: str) -> None:
    """R1: any two processes find a refund that never went out: it is sent once."""

    async def story(two: Two, order_no: str) -> None:
        await two.paid(order_no)
        key = f"r-{order_no}"
        again = refund(order_no, key, 40)
        await two.world.ask(again, plan=Plan([Fault("POST", "not_sent")]))
        two.world.clock.pass_time(60)
        calls: dict[str, tuple[Call, Call]] = {
            "two resolvers": (resolve, resolve),
            "resolver and caller": (resolve, again),
            "two callers": (again, again),
        }
        await two.both(*calls[who])
        order = await two.order(order_no)
        assert order.refund(key).state is RefundState.SUCCEEDED
        assert two.world.posts[f"refund {key}"] == 1
        assert len(two.refunds_at_psp(order)) == 1

    await explore(two, story)


async def test_an_unknown_refund_is_found_once(two: Two) -> None:
    """R1: two resolvers and a lost answer: one of them books it, and it is announced once."""

    async def story(two: Two, order_no: str) -> None:
        await two.paid(order_no)
        key = f"r-{order_no}"
        lost = Plan([Fault("POST", "lost_response")])
        await two.world.ask(refund(order_no, key, 40), plan=lost)
        two.world.clock.pass_time(60)
        await two.both(resolve, resolve)
        order = await two.order(order_no)
        assert order.refund(key).state is RefundState.SUCCEEDED
        assert two.world.posts[f"refund {key}"] == 1

    await explore(two, story)


async def test_a_payment_found_by_both(two: Two) -> None:
    """R3: both learn of a payment at once: one transition, one message."""

    async def story(two: Two, order_no: str) -> None:
        await two.world.ask(charge(order_no))
        two.world.lookalike.pay(two.world.handed_out[-1])

        def look(payments: Payments) -> Awaitable[Any]:
            return payments.query(KeyKind.ORDER_NO, order_no, refresh=True)

        await two.both(look, look)
        journal = await two.world.books.journal(order_no)
        assert [each.event for each in journal].count("charge_succeeded") == 1
        assert len(await two.world.books.notifications(order_no)) == 1

    await explore(two, story)


def paused_after_its_post() -> Callable[[Sequence[str]], int]:
    """The first process stops when Ping++ has answered, and wakes when the other one is done."""
    posted = False

    def pick(waiting: Sequence[str]) -> int:
        nonlocal posted
        for place, who in enumerate(waiting):
            if posted and who == "0 commit":
                continue
            posted = posted or who == "0 POST"
            return place
        return 0

    return pick


async def test_a_paused_charge_loses_by_version(two: Two) -> None:
    """R5: a process that wakes too late finds the order changed, and gives the same answer."""
    world = two.world
    world.gate.pick = paused_after_its_post()
    results = await world.ask(charge("A"), charge("A"))
    assert world.reached["0 lost by version"] == 1
    assert results[0].charge_json == results[1].charge_json
    order = await two.order("A")
    assert [each.state for each in order.charges] == [ChargeState.PENDING]
    assert len(world.lookalike.newest_charges(10)) == 1


async def test_a_paused_refund_loses_by_version(two: Two) -> None:
    """R5: the other one found the refund in Ping++'s list; the late commit changes nothing."""
    world = two.world
    await two.paid("A")
    world.gate.pick = paused_after_its_post()
    results = await world.ask(refund("A", "r1", 40), refund("A", "r1", 40))
    assert world.reached["0 lost by version"] == 1
    assert [each.refund.state for each in results] == [RefundState.SUCCEEDED] * 2
    order = await two.order("A")
    assert len(two.refunds_at_psp(order)) == 1
    assert world.posts["refund r1"] == 1


def _names(results: Iterable[Any]) -> list[str]:
    """What each caller got, by name; anything unexpected shows itself."""
    expected = (RefundExceedsRemaining, RefundNoReused)
    for each in results:
        ok = isinstance(each, RefundResult) or isinstance(each.error, expected)
        assert ok, each
    return [
        type(each.error).__name__ if isinstance(each, Failed) else type(each).__name__
        for each in results
    ]
