"""When to look at a charge or refund next, and when a person has to. Pure."""

from datetime import datetime, timedelta
from typing import TypeVar

from midas import limits, schedule
from midas.charge import (
    OUTCOME_STAYS_UNKNOWN,
    Charge,
    ChargeObservation,
    ChargeState,
    ObservedBy,
)
from midas.immutable import replace
from midas.refund import Refund, RefundObservation, RefundState

_Row = TypeVar("_Row", Charge, Refund)


def stays_planned(before: Charge, after: Charge, observation: ChargeObservation) -> bool:
    """Whether the time of the next look at a charge stays as it was.

    A caller's query does not change it, unless the answer moved the charge or ended what a person
    was called for. An answer about another charge of the same number does not change it either.
    """
    found_again = bool(before.operator_reason) and not after.operator_reason
    moved = after.state is not before.state or found_again
    if observation.by is ObservedBy.QUERY and not moved:
        return True
    return observation.facts is not None and observation.facts.charge_id != after.charge_id


def next_charge_look(
    charge: Charge, observation: ChargeObservation, expiry_grace: timedelta
) -> datetime | None:
    """When to look at a charge next, by the database's clock. None: Midas plans no look."""
    if charge.operator_reason:
        return charge.due_at
    if charge.state is ChargeState.SUBMITTING or charge.is_being_reversed:
        soon = schedule.next_resolve(observation.at, charge.looks)
        known = observation.facts is not None
        if charge.is_being_reversed and known and charge.due_at is not None:
            return max(soon, charge.due_at)  # the process that reverses it has the row until then
        return soon
    if charge.state is ChargeState.PENDING:
        expires_at = charge.expires_at
        ends_at = None if expires_at is None else expires_at + expiry_grace
        return schedule.next_poll(observation.at, charge.looks, ends_at)
    return None


def next_refund_look(refund: Refund, observation: RefundObservation) -> datetime | None:
    """When to look at a refund next, as for a charge."""
    if refund.operator_reason:
        return refund.due_at
    if refund.state is RefundState.SUBMITTING:
        return schedule.next_resolve(observation.at, refund.looks)
    if refund.state is RefundState.PENDING:
        return schedule.next_poll(observation.at, refund.looks)
    return None


def planned(row: _Row, due_at: datetime | None) -> _Row:
    """The row with the next look at this time; the very same row if none was or is planned.

    The look counts in `looks`, which makes the pauses grow. It also counts if the time stays the
    same: a look may be planned for the very moment at which its claim ends.
    """
    counts = due_at is not None or row.due_at is not None
    if row.operator_reason:
        counts = due_at != row.due_at
    return replace(row, due_at=due_at, looks=row.looks + 1) if counts else row


def is_overdue(unknown: bool, since: datetime, now: datetime) -> bool:
    """Whether an outcome has stayed unknown for so long that a person has to find it out."""
    return unknown and now >= since + limits.UNKNOWN_PATIENCE


def escalated(row: _Row) -> _Row:
    """The row with a reason for a person to look, unless it has one already."""
    if row.operator_reason:
        return row
    return replace(row, operator_reason=OUTCOME_STAYS_UNKNOWN, due_at=None)
