"""What must hold for events and for the order service once all has settled (T2)."""

from midas.event import EventStanding
from midas.payment import Order
from tests.faults.conservation import check_no_other_money, check_received, check_third_ledger
from tests.faults.machine_books import everything
from tests.faults.machine_books import outboxes as all_outboxes
from tests.faults.machine_events import NEVER
from tests.faults.machine_world import World

TABLES = ("orders", "charges", "refunds", "journal", "notifications")
DONE = (EventStanding.APPLIED, EventStanding.IGNORED)


async def check_announced_by_webhook(world: World) -> None:
    """I3, I8, I9: webhooks alone bring the order service to believe what Ping++ holds.

    But for a reversal, for which there is no webhook (pingpp.md section 4).
    """
    await _check_third_ledger(world, but_reversed=True)


async def check_events(world: World) -> None:
    """I3, I8, I9, I11, I12 and I13, after everything was asked for as well."""
    await _check_third_ledger(world, but_reversed=False)
    check_no_other_money(world.lookalike, world.order_service)
    for event_id in world.mail.accepted:
        stored = await world.books.event(event_id)
        assert stored is not None, "I11: accepted, and not on disk"
        parked = stored.standing is EventStanding.PARKED and _was_unanswered(world)
        assert parked or stored.standing in DONE, f"I13: {stored.standing}: {stored.reason}"
    await _check_never(world)


def _was_unanswered(world: World) -> bool:
    """Whether Ping++ could not be asked at some time: only for that is an event given up."""
    return any(way.startswith("GET ") and way != "GET ok" for way, n in world.reached.items() if n)


async def _check_third_ledger(world: World, *, but_reversed: bool) -> None:
    outboxes = await all_outboxes(world.database)
    for order in await world.orders():
        if order.order_no not in outboxes:
            continue
        if but_reversed and await _has_parked_events(world, order.order_no):
            continue
        outbox = outboxes[order.order_no]
        notifications = await world.books.notifications(order.order_no)
        check_received(order.order_no, notifications, outbox, world.order_service)
        if outbox.parked_code:
            world.reached["parked to the end"] += 1
            continue
        known = [each for each in order.charges if not _given_to_a_person(order, each.out_trade_no)]
        if but_reversed:
            known = [each for each in known if not _reversed(world, each.out_trade_no)]
        check_third_ledger(world.lookalike, known, world.order_service)


def _given_to_a_person(order: Order, out_trade_no: str) -> bool:
    charge, refunds = order.charge(out_trade_no), order.refunds_of(out_trade_no)
    return bool(charge.operator_reason) or any(each.operator_reason for each in refunds)


async def _has_parked_events(world: World, order_no: str) -> bool:
    events = [await world.books.event(each) for each in world.mail.accepted]
    parked = EventStanding.PARKED
    return any(e and e.standing is parked and e.order_no == order_no for e in events)


def _reversed(world: World, out_trade_no: str) -> bool:
    return any(each["reversed"] for each in world.lookalike.charges_of(out_trade_no))


async def _check_never(world: World) -> None:
    """I12: what does not exist left no trace but events without effect, each once."""
    for table in TABLES:
        for row in await everything(world.database, table):
            assert NEVER not in repr(row), f"I12: {table} names what does not exist: {row}"
    rows = await everything(world.database, "events")
    for row in rows:
        without_effect = not {EventStanding.IGNORED, EventStanding.PARKED}.isdisjoint(row)
        assert NEVER not in repr(row) or without_effect, f"I12: not ignored: {row}"
    sent = {*world.mail.accepted, *world.mail.strangers}
    assert len(rows) == len(sent), "I12: more events than were sent"
