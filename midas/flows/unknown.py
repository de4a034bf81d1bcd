"""Whose turn it is with a row whose outcome is unknown, and when absence counts."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from midas import schedule
from midas.charge import Charge, ChargeState
from midas.flows.observe import Ports, load_again
from midas.payment import Order
from midas.ports import NotDone, Refusal, Verdict
from midas.refund import Refund, RefundState

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5


def in_flight(ports: Ports, row: Charge | Refund) -> bool:
    """Whether some process may still be waiting for the answer to the call that makes this row.

    A due_at beyond the call's own time is the claim of a resolver, which may itself be waiting for
    the turn of whoever asks here: it keeps nobody.
    """
    unanswered = row.state in (ChargeState.SUBMITTING, RefundState.SUBMITTING) and row.looks == 0
    if isinstance(row, Refund) and row.unsent:
        return False
    if not unanswered or row.due_at is None:
        return False
    sent_at = row.updated_at if isinstance(row, Refund) else row.created_at
    answered_by = schedule.while_in_flight(sent_at, ports.psp.total_timeout)
    return min(row.due_at, answered_by) > ports.store.now()


async def wait_while_in_flight(
    ports: Ports, order: Order, row_of: Callable[[Order], Charge | Refund]
) -> Order:
    """Wait as long as another process may still be making the call."""
    pause_s = FIRST_PAUSE_S
    while in_flight(ports, row_of(order)):
        await ports.clock.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        order = await load_again(ports, order)
    return order


def long_absent(
    ports: Ports, absent_since: datetime | None, sent_at: datetime, now: datetime
) -> bool:
    """Whether this is a second complete list without it, made after the settle window."""
    return absent_since is not None and ports.passed(sent_at, now) >= ports.settle_window


def refused(verdict: Verdict[Any]) -> bool:
    """Whether Ping++ read the request and said no."""
    return isinstance(verdict, NotDone) and verdict.refusal in (
        Refusal.REFUSED,
        Refusal.NOT_FOUND,
    )
