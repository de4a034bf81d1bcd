"""Who may touch a row whose outcome is unknown, and when absence counts."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from midas import schedule
from midas.charge import Charge, ChargeState
from midas.flows.commit import Ports, load_again
from midas.payment import Order
from midas.ports import NotDone, Refusal, Unknown, Verdict
from midas.refund import Refund, RefundState

FIRST_PAUSE_S = 0.02
LONGEST_PAUSE_S = 0.5


def in_flight(ports: Ports, row: Charge | Refund) -> bool:
    """Whether some process may still be waiting for the answer to the call that makes this row.

    Nobody else touches the row until then, so a look at it proves that its sender waits no more. A
    due_at beyond the call's own time is the claim of a resolver. That resolver may itself be
    waiting for the flow that asks here, so its claim does not count.
    """
    unanswered = row.state in (ChargeState.SUBMITTING, RefundState.SUBMITTING) and row.looks == 0
    if isinstance(row, Refund) and row.unsent:
        return False
    if not unanswered or row.due_at is None:
        return False
    return min(row.due_at, lease_end(ports, row)) > ports.store.now()


def lease_end(ports: Ports, row: Charge | Refund) -> datetime:
    """The time until which the row is its sender's alone."""
    drafted_at = row.updated_at if isinstance(row, Refund) else row.created_at
    return schedule.while_in_flight(drafted_at, ports.psp.total_timeout)


def time_to_post(ports: Ports, row: Charge | Refund) -> timedelta:
    """How long the call that makes this row may take from now on; 0: its time is over."""
    lease_ends = lease_end(ports, row)
    return schedule.time_for_call(ports.store.now(), lease_ends, ports.psp.total_timeout)


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
    ports: Ports,
    absent_since: datetime | None,
    sent_at: datetime,
    now: datetime,
    window: timedelta | None = None,
) -> bool:
    """Whether this is a second complete list without it, made after the settle window."""
    window = ports.settle_window if window is None else window
    return absent_since is not None and ports.elapsed(sent_at, now) >= window


def as_unknown(verdict: Verdict[Any]) -> Unknown:
    """A verdict without an answer as Unknown, for any reason."""
    if isinstance(verdict, NotDone):
        return Unknown(verdict.refusal.lower())
    return verdict if isinstance(verdict, Unknown) else Unknown("unexpected_answer")


def is_refused(verdict: Verdict[Any]) -> bool:
    """Whether Ping++ read the request and refused it."""
    return isinstance(verdict, NotDone) and verdict.refusal in (
        Refusal.REFUSED,
        Refusal.NOT_FOUND,
    )
