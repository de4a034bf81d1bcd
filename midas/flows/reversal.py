"""reversal: take a charge back, on channels where that gives back what was paid meanwhile.

    unpaid ─▶ mark it ─▶ reverse
                           ├─ reversed ─────────▶ closed, or given back
                           ├─ not carried out ──▶ what Ping++ shows; reversed again where unpaid
                           └─ not known ────────▶ reversed again, soon
    marked, and paid ─▶ believed once no reversal can be on its way any more

The mark is committed before the reversal leaves, a new one for each. From then on, Midas does not
believe that the charge is paid, has failed or has lapsed. No payment may be announced that a
reversal on its way takes back: Ping++ sends no event for that (pingpp.md section 4). That ends when
the only reversal is answered, when the settle window is over since the last one left, or when a
person is called.
"""

from datetime import datetime

from midas import schedule
from midas.charge import (
    REVERSING,
    WITHDRAWN,
    Charge,
    ChargeFacts,
    ChargeReport,
    ChargeState,
    ObservedBy,
    mismatches,
    of_another_account,
)
from midas.draft import Draft
from midas.flows.commit import Decision, Ports, commit, load_again
from midas.flows.deadline import NO_DEADLINE, Deadline
from midas.flows.observe import charge_observation
from midas.flows.unknown import is_refused
from midas.immutable import replace
from midas.payment import Order
from midas.ports import Done, NotDone, Unknown


def new_mark(ports: Ports) -> str:
    """A new mark. A charge has it in place of its answer while this reversal may be on its way."""
    return REVERSING + ports.store.new_change_id()


def mark_of(charge: Charge, only: str) -> str:
    """The mark for this charge. It shows whether an earlier reversal may still arrive."""
    return only + _AGAIN if charge.is_being_reversed else only


def is_mark(charge: Charge, only: str) -> bool:
    """Whether the charge has this mark, so that its reversal may leave."""
    return charge.answer in (only, only + _AGAIN)


_AGAIN = " again"


def lease(ports: Ports, now: datetime) -> datetime:
    """The time until which a marked row is left to the process that reverses it."""
    return schedule.while_in_flight(now, ports.psp.total_timeout)


def can_be_taken_back(ports: Ports, charge: Charge, found: ChargeFacts) -> bool:
    """Whether a reversal of what Ping++ shows would be of our charge, and might succeed."""
    return not mismatches(charge, found) and ports.psp.can_reverse(charge.channel)


def is_to_be_reversed(ports: Ports, charge: Charge, found: ChargeFacts) -> bool:
    """Whether to reverse a pending charge that makes way and that Ping++ shows like this."""
    if charge.operator_reason or not can_be_taken_back(ports, charge, found):
        return False
    return charge_observation(ports, charge, found, ObservedBy.QUERY).report in _PAYABLE


_PAYABLE = (ChargeReport.WAITING, ChargeReport.PAYMENT_FAILED)
"""The reports of charges that can still be paid. After a failed payment, a payer may try again."""


async def take_back(ports: Ports, order: Order, charge: Charge, by: ObservedBy) -> Order:
    """Reverse a pending charge that makes way for another one, and record what came of it.

    The charge stays PENDING if the outcome is unknown or the reversal was refused; the resolver
    comes back to it. Raises StorageUnavailable or Overloaded: it may have been reversed all the
    same.
    """
    number, only = charge.out_trade_no, new_mark(ports)
    order = await commit(ports, order, _marked(ports, number, only, by))
    marked = order.charge(number)
    if not is_mark(marked, only) or marked.charge_id is None:
        return order  # it was paid or closed before
    return await reverse(ports, order, marked, marked.charge_id, only, by)


def _marked(ports: Ports, out_trade_no: str, only: str, by: ObservedBy) -> Decision:
    """Mark and supersede it: the resolver takes over if this process ends here."""

    def decide(draft: Draft) -> None:
        charge, now = draft.charge(out_trade_no), ports.store.now()
        if charge.state is ChargeState.PENDING and not charge.operator_reason:
            answer, due_at = mark_of(charge, only), lease(ports, now)
            closing = {"answer": answer, "superseded": True, "updated_at": now, "due_at": due_at}
            draft.put(replace(charge, **closing), ("charge_closing", now, by))

    return decide


async def reverse(
    ports: Ports,
    order: Order,
    marked: Charge,
    charge_id: str,
    only: str,
    by: ObservedBy,
    deadline: Deadline = NO_DEADLINE,
) -> Order:
    """Send the reversal of a charge that has its mark `only`, and record what came of it.

    Raises StorageUnavailable or Overloaded: it may have been reversed all the same.
    """
    answer = await _sent(ports, marked, charge_id, deadline)
    if isinstance(answer, Unknown):
        order = await load_again(ports, order)  # it may be paid by now
    return await commit(ports, order, reversal_answered(ports, marked, only, answer, by))


Answered = ChargeFacts | NotDone | Unknown
"""How the charge stands once a reversal was carried out or refused, as far as that shows.

NotDone: this one certainly was not carried out. Unknown: it may be on its way."""


async def _sent(ports: Ports, marked: Charge, charge_id: str, deadline: Deadline) -> Answered:
    """Send it only while the row is ours: after that, somebody may have believed a payment."""
    now = ports.store.now()
    left = schedule.time_for_call(now, marked.due_at or now, ports.psp.total_timeout)
    verdict = await ports.psp.reverse_charge(charge_id, deadline.at_most(left))
    if isinstance(verdict, NotDone) and is_refused(verdict):
        shown = await ports.psp.retrieve_charge(charge_id, deadline.left())
        if isinstance(shown, Done) and not of_another_account(marked, shown.answer):
            return shown.answer
    if isinstance(verdict, Done):
        # Only `reversed` ends it (pingpp.md section 9).
        ended = verdict.answer.reversed and not of_another_account(marked, verdict.answer)
        return verdict.answer if ended else Unknown("not_reversed")
    return verdict


def reversal_answered(
    ports: Ports, charge: Charge, only: str, answer: Answered, by: ObservedBy
) -> Decision:
    """The decision about this answer. `only`: the mark if no other reversal can be on its way."""
    if isinstance(answer, ChargeFacts):
        observation = charge_observation(ports, charge, answer, by)
    else:
        observation = charge_observation(ports, charge, Unknown("not_reversed"), by)

    def decide(draft: Draft) -> None:
        now = draft.charge(charge.out_trade_no)
        if now.answer == only and not isinstance(answer, Unknown):
            draft.put(replace(now, answer=WITHDRAWN))
        draft.observe_charge(charge.out_trade_no, observation)
        if isinstance(answer, Unknown):
            _doubt(draft, charge.out_trade_no, only, observation.at, by)

    return decide


def _doubt(draft: Draft, out_trade_no: str, only: str, now: datetime, by: ObservedBy) -> None:
    """Doubt a charge that no longer has the mark `only`, for example because it was lost on disk.

    A person is called for a payment that was believed meanwhile: Ping++ sends no event when
    this reversal takes it back (pingpp.md section 4).
    """
    charge = draft.charge(out_trade_no)
    if charge.operator_reason or is_mark(charge, only):
        return
    if charge.state is ChargeState.SUCCEEDED:
        reason = "a reversal that was not answered may take this payment back"
        called = replace(charge, operator_reason=reason, updated_at=now)
        draft.put(called, ("charge_needs_operator", now, by))
    elif charge.is_declined or charge.state is ChargeState.PENDING:
        marked = {"answer": only + _AGAIN, "due_at": now}
        if charge.is_being_reversed:  # another process reverses it and has the row
            marked = {"answer": str(charge.answer).removesuffix(_AGAIN) + _AGAIN}
        made_way = charge.superseded or charge.state is ChargeState.PENDING
        marked |= {"superseded": made_way, "updated_at": now}
        draft.put(replace(charge, **marked), ("charge_closing", now, by))
