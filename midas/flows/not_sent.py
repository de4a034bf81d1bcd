"""not_sent: the commit of an intent is in doubt, and so nothing was sent.

The row must be on disk before Ping++ is called. If the commit was written all the same, everybody
who reads the row must take it for sent. Only the flow that would have sent it knows better. While
its process lives, it records that: a charge has failed, a refund is queued.

    not there ───────────────▶ it may still be written: look again, for a bounded time
    as that commit left it ──▶ record that it was not sent
    any other way ───────────▶ others have acted on it, and nothing is recorded
"""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from midas.charge import Charge, ChargeObservation, ChargeReport, ObservedBy
from midas.draft import Draft
from midas.errors import Overloaded, StorageUnavailable
from midas.flows.commit import Decision, Ports, commit
from midas.flows.unknown import lease_end
from midas.payment import Order
from midas.refund import Refund, RefundObservation, RefundReport

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0


async def record_not_sent(ports: Ports, row: Charge | Refund) -> None:
    """Record that a row was not sent, if it stands as the commit in doubt wrote it.

    A refund is looked for as long as the settle window lasts, after which a person would be called.
    A charge is its sender's alone only until the end of its lease: then others may post it again.
    """
    waits = ports.settle_window if isinstance(row, Refund) else _lease(ports, row)
    until = ports.clock.monotonic() + waits.total_seconds()
    pause_s = FIRST_PAUSE_S
    while ports.clock.monotonic() < until:
        with suppress(StorageUnavailable, Overloaded):
            order = await ports.store.load(row.order_no)
            if _find(order, row) is not None:
                await commit(ports, order, not_sent(ports, row))
                return
        await ports.clock.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _lease(ports: Ports, row: Charge) -> timedelta:
    return lease_end(ports, row) - ports.store.now()


def _find(order: Order, row: Charge | Refund) -> Charge | Refund | None:
    if isinstance(row, Refund):
        return next((each for each in order.refunds if each.refund_no == row.refund_no), None)
    return next((each for each in order.charges if each.out_trade_no == row.out_trade_no), None)


def not_sent(ports: Ports, row: Charge | Refund) -> Decision:
    """The decision to record that it was not sent, while the row is as its sender wrote it."""

    def decide(draft: Draft) -> None:
        now, by, code = ports.store.now(), ObservedBy.CREATE, "not_sent"
        if isinstance(row, Refund):
            if _is_untouched(_find(draft.base, row), row):
                unsent = RefundObservation(RefundReport.UNSENT, by, now, code=code)
                draft.observe_refund(row.refund_no, unsent)
        elif _find(draft.base, row) == row and now < lease_end(ports, row):
            refused = ChargeObservation(ChargeReport.REFUSED, by, now, code=code)
            draft.observe_charge(row.out_trade_no, refused)

    return decide


def _is_untouched(now: Charge | Refund | None, row: Refund) -> bool:
    """Whether nothing but looks in vain has changed it. Nobody sends a refund because of those."""
    if not isinstance(now, Refund):
        return False
    return replace(now, due_at=row.due_at, looks=row.looks, absent_since=row.absent_since) == row
