"""event handlers: what an event does to its order, one handler for each kind of subject.

A new type of event about a charge or a refund is one line in `psp/event_reader.py`. A new kind of
subject is a class in `midas/event.py`, its reader, and its handler in `HANDLERS` here: nothing else
distinguishes the kinds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from midas import limits
from midas.charge import Charge, ChargeObservation, ChargeState, ObservedBy
from midas.draft import Draft
from midas.event import ChargeInEvent, RefundInEvent, Subject, report_in_event
from midas.flows.commit import Ports
from midas.immutable import replace

_Subject = TypeVar("_Subject")


class NotYet(Exception):
    """The event cannot be applied to the order as it stands. The text is a constant."""


class NotAsked(NotYet):
    """Ping++ could not be asked, or its answer is not believed yet. That may last."""


@dataclass(frozen=True, slots=True)
class Handler(Generic[_Subject]):
    """What Midas does with events of one kind of subject."""

    apply: Callable[[Ports, Draft, Charge, _Subject, bool], None]
    """Applies the subject to the order's draft and to the charge that it is about. The last
    argument: whether Ping++ was asked about that charge meanwhile. Raises NotYet."""

    moved_money_after: Callable[[_Subject, datetime], bool]
    """Whether it moved money under a number that Midas made at this time."""

    needs_query: bool
    """Whether Ping++ is asked about the charge before an event that waits is applied."""


def handler_of(subject: Subject) -> Handler[Any]:
    """The handler of this kind of subject."""
    return HANDLERS[type(subject)]


def _apply_charge(
    ports: Ports, draft: Draft, charge: Charge, subject: ChargeInEvent, _: bool
) -> None:
    report, now = report_in_event(subject.facts), ports.store.now()
    observation = ChargeObservation(report, ObservedBy.WEBHOOK, now, subject.facts)
    draft.observe_charge(charge.out_trade_no, observation)


def _charge_moved_money(subject: ChargeInEvent, made: datetime) -> bool:
    return subject.facts.paid and abs(subject.facts.created_at - made) <= limits.NUMBER_SKEW


def _apply_refund(
    ports: Ports, draft: Draft, charge: Charge, subject: RefundInEvent, charge_queried: bool
) -> None:
    """Apply a refund once its charge is known and paid: the order service learns of that first."""
    is_it, now = charge.charge_id in (None, subject.charge_id), ports.store.now()
    if not charge_queried and not (is_it and charge.state in _PAID):
        raise NotYet("charge_not_paid_yet" if is_it else "charge_not_known_yet")
    if charge.is_being_reversed:
        raise NotAsked("charge_is_being_reversed")
    if is_it:
        facts = (subject.facts,)
        draft.observe_refund_list(charge.out_trade_no, facts, ObservedBy.WEBHOOK, now)
        return
    reason = f"Ping++ told of a refund of {subject.charge_id} under this number"
    raised = replace(charge, operator_reason=reason, updated_at=now)
    draft.put(raised, ("charge_quarantined", now, ObservedBy.WEBHOOK))


_PAID = (ChargeState.SUCCEEDED, ChargeState.REVERSED)


def _refund_moved_money(subject: RefundInEvent, made: datetime) -> bool:
    """A refund may be made long after its charge."""
    return -limits.NUMBER_SKEW <= subject.facts.created_at - made <= limits.REFUND_AGE_MAX


HANDLERS: Mapping[type[Subject], Handler[Any]] = {
    ChargeInEvent: Handler(_apply_charge, _charge_moved_money, needs_query=False),
    RefundInEvent: Handler(_apply_refund, _refund_moved_money, needs_query=True),
}
