"""declined: what becomes of a bar code that the channel declined, so that the next one may come.

    listed, unpaid ─▶ mark it, reverse it, where the channel allows that
                          ├─ reversed ─────────────▶ closed
                          ├─ reversed when paid ───▶ given back
                          └─ not known, or not yet ▶ reversed again, soon
    listed, paid ───▶ paid after all
    not listed ─────▶ two complete lists, and DECLINED_SETTLE between them ─▶ failed

The payer may confirm on his phone at any moment of this. While that is possible, no other charge is
made. Money that still comes is late; it is a duplicate payment if the next bar code was paid. The
row's `failure_code` shows that it was declined, so that the process that finds it goes on here.

The mark is committed before the reversal leaves, and only while nothing is known to be paid. From
then on, no payment is announced that a reversal on its way may take back. Either the charge is
reversed again and the payment given back, or the payment is believed once no reversal can be on its
way any more (`reversal.py`).
"""

from datetime import datetime, timedelta

from midas.charge import Charge, ChargeFacts, ChargeReport, ObservedBy
from midas.draft import Draft
from midas.errors import OutcomeUnknown, Overloaded, StorageUnavailable
from midas.flows.commit import Decision, Ports, commit
from midas.flows.deadline import NO_DEADLINE, Deadline
from midas.flows.listing import FindCharge, find_charge
from midas.flows.look import not_shown
from midas.flows.observe import charge_observation, observing
from midas.flows.reversal import (
    can_be_taken_back,
    is_mark,
    lease,
    mark_of,
    new_mark,
    reverse,
)
from midas.immutable import replace
from midas.payment import Order
from midas.ports import Unknown


async def settle_declined(
    ports: Ports,
    order: Order,
    out_trade_no: str,
    by: ObservedBy,
    deadline: Deadline = NO_DEADLINE,
    find: FindCharge = find_charge,
) -> Order:
    """Bring a declined bar code to its end, as far as that can be done now.

    Raises StorageUnavailable or Overloaded: nothing was sent. Raises OutcomeUnknown: it may have
    been reversed, and that could not be written down; the next look finds it out.
    """
    charge, began_at = order.charge(out_trade_no), ports.store.now()
    found = await find(ports, charge, deadline)
    if isinstance(found, Unknown):
        unanswered = charge_observation(ports, charge, found, by)
        return await commit(ports, order, observing(out_trade_no, unanswered))
    if not found:
        return await commit(ports, order, _not_listed(ports, out_trade_no, by, began_at))
    if len(found) > 1 or not _is_to_be_reversed(ports, charge, found[0], by):
        return await commit(ports, order, _listed(ports, charge, found, by))
    mark = new_mark(ports)
    order = await commit(ports, order, _marked(ports, out_trade_no, mark, by))
    marked = order.charge(out_trade_no)
    if not is_mark(marked, mark):
        return order  # it was paid before
    try:
        return await reverse(ports, order, marked, found[0].charge_id, mark, by, deadline)
    except (StorageUnavailable, Overloaded):
        raise OutcomeUnknown(order.order_no, out_trade_no) from None


def _is_to_be_reversed(ports: Ports, charge: Charge, found: ChargeFacts, by: ObservedBy) -> bool:
    """Whether to reverse it; a paid one only if a reversal of it may be on its way already.

    The shop waits, and another reversal shows at once what became of the charge. That is done for
    the settle window only: the payment must be believed one day, even if no reversal is answered. A
    caller's query adds no reversal to one that may be on its way.
    """
    if found.reversed or charge.operator_reason:
        return False
    if charge.is_being_reversed and by is ObservedBy.QUERY:
        return False
    if charge_observation(ports, charge, found, by).report is ChargeReport.LAPSED:
        return False
    paid_at = found.paid_at or charge.created_at
    just_paid = ports.store.now() < paid_at + ports.settle_window
    if found.paid and not (charge.is_being_reversed and just_paid):
        return False
    return can_be_taken_back(ports, charge, found)


def settles_in(ports: Ports, charge: Charge) -> timedelta | None:
    """How long until a declined bar code that is not listed is given up; None for other charges."""
    if not charge.is_declined or charge.absent_since is None:
        return None
    left = charge.absent_since + ports.settles_after(charge) - ports.store.now()
    return max(left, _A_SECOND)


_A_SECOND = timedelta(seconds=1)


def _listed(
    ports: Ports, charge: Charge, found: tuple[ChargeFacts, ...], by: ObservedBy
) -> Decision:
    """Record all that was found, so that a second charge of the number raises an alarm."""
    observations = [charge_observation(ports, charge, each, by) for each in found]

    def decide(draft: Draft) -> None:
        for observation in observations:
            draft.observe_charge(charge.out_trade_no, observation)

    return decide


def _marked(ports: Ports, out_trade_no: str, mark: str, by: ObservedBy) -> Decision:
    def decide(draft: Draft) -> None:
        charge, now = draft.charge(out_trade_no), ports.store.now()
        if charge.is_declined and not charge.operator_reason:
            answer, due_at = mark_of(charge, mark), lease(ports, now)
            marked = replace(charge, answer=answer, updated_at=now, due_at=due_at)
            draft.put(marked, ("charge_closing", now, by))

    return decide


def _not_listed(ports: Ports, out_trade_no: str, by: ObservedBy, began_at: datetime) -> Decision:
    missed = not_shown(ports, out_trade_no, by, "not_listed", began_at)

    def decide(draft: Draft) -> None:
        charge = draft.charge(out_trade_no)
        if not charge.is_declined:
            return  # a webhook has brought more meanwhile
        if charge.is_withdrawn:  # it was listed before
            unanswered = charge_observation(ports, charge, Unknown("not_listed"), by)
            draft.observe_charge(out_trade_no, unanswered)
            return
        missed(draft)
        after = draft.charge(out_trade_no)
        left = settles_in(ports, after)
        if left is None or after.due_at is None:
            return
        settled_at = ports.store.now() + left
        if settled_at < after.due_at:
            # The shop waits for this very moment: do not look a minute later.
            draft.put(replace(after, due_at=settled_at))

    return decide
