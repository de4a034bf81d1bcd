"""Short stories of a caller, Midas, Ping++ and a payer, played under every fault.

Those in which webhooks and the order service matter are in `event_scenarios`.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace

from midas.charge import ChargeState, ChargeTerms
from midas.flows.create_charge import ChargeResult
from midas.flows.create_refund import RefundResult
from midas.flows.terms import RefundTerms
from midas.flows.unknown import in_flight
from midas.ports import KeyKind
from tests.faults.chooser import Chooser
from tests.faults.conservation import (
    check_announcements,
    check_conservation,
    check_received,
    check_third_ledger,
)
from tests.faults.world import ODD_ANSWERS, TOTAL_TIMEOUT, Failed, World

PATIENCE = 2
"""How often the caller repeats a call that failed while the faults last."""

TERMS = ChargeTerms(
    order_no="order-1",
    channel="wx_pub_qr",
    amount=100,
    currency="cny",
    subject="Tea",
    body="Green tea",
    client_ip="203.0.113.7",
    extra={"product_id": "tea-1"},
)
ALIPAY = replace(TERMS, channel="alipay_qr", extra={})
APP = replace(ALIPAY, channel="alipay")
"""Cannot be reversed: it is superseded, and looked at until Ping++ shows its end."""
BAR_CODE = replace(TERMS, channel="wx_pub_scan", extra={"scan_code": "134567890123456789"})
QR_CODE = replace(TERMS, channel="isv_qr", extra={"terminal_id": "T1", "pay_channel": "wx"})
"""Waits for its payer, and a reversal gives back what he has paid."""

Story = Callable[[World], Awaitable[None]]


async def play(
    chooser: Chooser,
    story: Story,
    terms: ChargeTerms = TERMS,
    *,
    loses: int = 0,
    odd: bool = False,
) -> World:
    """Play the story under the chooser's faults, let all settle, and compare the books.

    `loses`: the commit that a failover loses. `odd`: questions get odd answers, and otherwise only
    the answer to a POST may be lost.
    """
    world = World(chooser, terms, loses=loses)
    await play_in(world, story, odd=odd)
    return world


async def play_in(world: World, story: Story, *, odd: bool = False) -> None:
    """The same in this world, which can be looked at when a check fails."""
    if odd:
        world.get_ways, world.post_ways = ("ok", *ODD_ANSWERS), ("ok", "lost_response")
    await story(world)
    await finish(world)
    order = await world.order()
    check_conservation(world.lookalike, order, world.commits)
    check_announcements(order, await world.disk.notifications(order.order_no))
    await check_order_service(world)


async def finish(world: World) -> None:
    """All is healed, Midas finds out by itself, and the caller asks once more."""
    await world.settle()
    if world.listens and not world.failed_over:
        await check_order_service(world)  # webhooks alone are enough
    await _ask_and_settle(world)
    if world.failed_over:
        await _ask_and_settle(world)  # what was found the first time may be what was lost


async def _ask_and_settle(world: World) -> None:
    if (await world.order()).charges:
        key = world.terms.order_no
        query = await world.ask(lambda p: p.query(KeyKind.ORDER_NO, key, refresh=True))
        assert not isinstance(query, Failed), f"I13: healed, and {query.error!r}"
    await world.settle()


async def check_order_service(world: World) -> None:
    """The order service received all of it, in order, and believes what Ping++ holds."""
    order = await world.order()
    outbox = world.disk.disk.deliveries.get(order.order_no)
    if outbox is None:
        return
    announced = await world.disk.notifications(order.order_no)
    check_received(order.order_no, announced, outbox, world.orders)
    if not outbox.parked_code:
        check_third_ledger(world.lookalike, order.charges, world.orders)


async def insist_on_charge(world: World, terms: ChargeTerms) -> ChargeResult | None:
    """Call Charge, and repeat it with the same key while it fails."""
    for _ in range(1 + PATIENCE):
        result = await world.ask(lambda payments: payments.charge(terms))
        if not isinstance(result, Failed):
            world.handed_out.append(json.loads(result.charge_json)["id"])
            return result
    return None


async def insist_on_refund(world: World, terms: RefundTerms) -> RefundResult | None:
    """Call Refund, and repeat it with the same key while it fails."""
    for _ in range(1 + PATIENCE):
        result = await world.ask(lambda payments: payments.refund(terms))
        if not isinstance(result, Failed):
            return result
    return None


async def charge_and_pay(world: World) -> None:
    """The order is charged; the payer pays all that was handed out; a repeat changes nothing."""
    await insist_on_charge(world, world.terms)
    world.pay_everything()
    await world.settle()
    await world.ask(lambda payments: payments.charge(world.terms))


async def pay_then_ask(world: World) -> None:
    """The webhook never comes: a query finds the payment, under faults of its own."""
    await insist_on_charge(world, world.terms)
    world.pay_everything()
    key = world.terms.order_no
    await world.ask(lambda payments: payments.query(KeyKind.ORDER_NO, key, refresh=True))


async def ask_again_soon(world: World) -> None:
    """The payer has paid, and the caller asks again while a look for the charge may still fail.

    Half a minute later: all that was on its way has arrived, and another post of the charge would
    be taken for the same one only if nothing of it was lost.
    """
    await insist_on_charge(world, world.terms)
    world.pay_everything()
    world.pass_time(33)
    for _ in range(2):
        await world.ask(lambda payments: payments.resolve_due())
    await insist_on_charge(world, world.terms)
    world.pay_everything()


async def resolved_while_in_flight(world: World) -> None:
    """Another process looks at the order, of which one charge is due, while one is on its way."""
    await insist_on_charge(world, world.terms)
    world.pass_time(31)

    async def look() -> None:
        world.on_post = None
        world.pass_time(2)
        posts, ports = world.posts, world.payments.ports
        await world.another_process().resolve_due()
        flying = [each for each in (await world.order()).charges if in_flight(ports, each)]
        assert world.posts == posts or not flying, "posted while it was in flight"

    world.on_post = look
    await insist_on_charge(world, ALIPAY)
    world.on_post = None
    world.pay_everything()


async def change_the_channel(world: World) -> None:
    """The payer cancels and chooses another channel, then pays what can be paid."""
    await insist_on_charge(world, world.terms)
    await insist_on_charge(world, ALIPAY)
    world.pay_everything()


async def change_the_channel_and_back(world: World) -> None:
    """The payer tries another channel once, and returns to the first one with any outcome."""
    await insist_on_charge(world, world.terms)
    await world.ask(lambda payments: payments.charge(TERMS))
    await insist_on_charge(world, world.terms)
    world.pay_everything()


async def pay_while_changing(world: World) -> None:
    """The payer pays the first charge while the caller already asks for another channel."""
    await insist_on_charge(world, world.terms)
    world.pay_everything()
    await insist_on_charge(world, ALIPAY)
    world.pay_everything()


async def paid_while_taken_back(world: World) -> None:
    """The payer may pay the first charge before and after each of Midas's calls that end it."""
    world.listens = True
    first = await insist_on_charge(world, world.terms)
    if first is not None:
        charge_id = str(first.charge.charge_id)
        world.payer = lambda moment: _may_pay(world, charge_id, moment)
    await insist_on_charge(world, ALIPAY)
    world.payer = None
    world.pay_everything()


async def _may_pay(world: World, charge_id: str, moment: str) -> None:
    shown = world.lookalike.charge(charge_id)
    if shown["paid"] or shown["reversed"]:
        return
    if world.chooser.choose(f"payer {moment}", ("waits", "pays")) == "pays":
        world.lookalike.pay(charge_id)
        await world.webhooks.send_owed()


async def quarantined(world: World, changes: dict[str, object]) -> None:
    """Ping++ shows a payment that is not the one asked for: nothing is believed (P11)."""
    await insist_on_charge(world, world.terms)
    world.pay_everything()
    world.alter = changes
    key = world.terms.order_no
    await world.ask(lambda payments: payments.query(KeyKind.ORDER_NO, key, refresh=True))
    charge = (await world.order()).charges[-1]
    assert charge.state is ChargeState.PENDING, f"I4: {charge.state} by another's payment"
    assert charge.operator_reason, "I4: nobody was called"
    again = await world.ask(lambda payments: payments.charge(world.terms))
    assert isinstance(again, Failed), "I1: a second charge beside one that nobody understands"


async def paid_at_the_last_moment(world: World) -> None:
    """Paid just before the expiry, no webhook; then the caller wants a new charge (M13)."""
    await insist_on_charge(world, world.terms)
    world.pay_everything()
    world.pass_time(3 * 3600)
    again = await world.ask(lambda payments: payments.charge(world.terms))
    assert isinstance(again, Failed), "I5: closed by the clock, although it was paid"
    assert len(world.lookalike.newest_charges(10)) == 1, "I1: a second charge"


PAYER_WAYS = ("waits", "confirms", "confirms_with_webhook")
NEXT_CODE = replace(BAR_CODE, extra={"scan_code": "134000000000000002"})


async def declined_and_listed(world: World) -> None:
    """A bar code is declined, Ping++ shows it unpaid, and the cashier asks for another one."""
    await _declined(world, listed=True)


async def declined_and_not_listed(world: World) -> None:
    """The same where Ping++ does not show it until the payer has confirmed it, late perhaps."""
    await _declined(world, listed=False)


async def _declined(world: World, *, listed: bool) -> None:
    """At each of Midas's calls the payer may confirm on his phone, before it or after it."""
    world.listens = True
    world.lookalike.decline_bar_code(listed=listed)
    world.payer = lambda moment: _may_confirm(world, moment)
    await world.ask(lambda payments: payments.charge(BAR_CODE))
    await insist_on_charge(world, NEXT_CODE)
    world.payer = None
    await world.settle()
    await insist_on_charge(world, NEXT_CODE)
    for charge_id in world.lookalike.unpaid_bar_codes():
        world.reached.add("confirmed after all was over")
        world.lookalike.pay(charge_id)


async def _may_confirm(world: World, moment: str) -> None:
    if len((await world.order()).charges) > 1:
        world.chooser.healed = True  # the next code is on its way, as any other bar code
    waiting = world.lookalike.unpaid_bar_codes()
    if not waiting:
        return
    way = world.chooser.choose(f"payer {moment}", PAYER_WAYS)
    if way == "waits":
        return
    world.lookalike.pay(waiting[0])
    if way == "confirms_with_webhook":
        await world.webhooks.send_owed()


async def caller_goes_away(world: World) -> None:
    """The caller is gone while Ping++ works: all the same, the answer is recorded (F1)."""
    asked = asyncio.ensure_future(world.payments.charge(world.terms))

    async def hang_up() -> None:
        asked.cancel()
        for _ in range(3):
            await asyncio.sleep(0)

    world.on_post = hang_up
    with contextlib.suppress(asyncio.CancelledError):
        await asked
    await world.payments.drain(TOTAL_TIMEOUT)
    states = [each.state for each in (await world.order()).charges]
    assert states == [ChargeState.PENDING], f"F1: the answer was lost: {states}"


async def refund_in_two_parts(world: World) -> None:
    """A paid order is refunded in two parts, and a third one has nothing left to give."""
    await _paid(world)
    first = RefundTerms("r1", order_no=world.terms.order_no, amount=60, description="part")
    await insist_on_refund(world, first)
    rest = RefundTerms("r2", order_no=world.terms.order_no, amount=0, description="the rest")
    await insist_on_refund(world, rest)
    await insist_on_refund(world, replace(first, refund_no="r3", amount=1))


async def refund_once(world: World) -> None:
    """A paid order is refunded in part, once."""
    await _paid(world)
    await insist_on_refund(world, a_part(world))


def a_part(world: World, refund_no: str = "r1") -> RefundTerms:
    """A refund of less than the half, so that Ping++ itself would let a second one through."""
    order_no = world.terms.order_no
    return RefundTerms(refund_no, order_no=order_no, amount=40, description="part")


async def _paid(world: World) -> None:
    """A paid order, without faults on the way there."""
    world.chooser.healed = True
    await insist_on_charge(world, world.terms)
    world.pay_everything()
    world.chooser.healed = False
