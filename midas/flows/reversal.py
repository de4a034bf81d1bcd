"""reversal: take a charge back, on channels where that gives back what was paid meanwhile.

    mark it, while nothing is known to be paid ─▶ reverse
                                                    ├─ reversed ────────▶ closed, or given back
                                                    ├─ paid all the same ▶ paid
                                                    └─ not known ───────▶ reversed again, soon

The mark is committed before the reversal leaves. From then on a payment is not believed until a
reversal is answered: nobody may be told of one that a reversal on its way takes back in silence
(Ping++ sends no event for it, pingpp.md section 4).
"""

from collections.abc import Callable

from midas import schedule
from midas.charge import (
    REVERSING,
    WITHDRAWN,
    Charge,
    ChargeFacts,
    ChargeState,
    ObservedBy,
    mismatches,
)
from midas.flows.deadline import NO_DEADLINE, Deadline
from midas.flows.observe import Ports, change, charge_silent, charge_told, see_charge
from midas.flows.unknown import refused
from midas.payment import Draft, Order
from midas.ports import Done, Unknown
from midas.records import changed


def is_to_be_reversed(ports: Ports, charge: Charge, found: ChargeFacts) -> bool:
    """Whether a reversal may be sent for a charge that stands so at Ping++.

    One that is paid is reversed only if a reversal of it may be on its way already.
    """
    if found.reversed or mismatches(charge, found) or not ports.psp.can_reverse(charge.channel):
        return False
    return charge.is_being_reversed or not found.paid


async def reverse(
    ports: Ports, charge_id: str, deadline: Deadline = NO_DEADLINE
) -> ChargeFacts | Unknown:
    """How the charge stands once this reversal was carried out or refused; else Unknown."""
    reversal = await ports.psp.reverse_charge(charge_id, deadline.left())
    if refused(reversal):
        reversal = await ports.psp.retrieve_charge(charge_id, deadline.left())
    return reversal.answer if isinstance(reversal, Done) else Unknown("not_reversed")


async def take_back(ports: Ports, order: Order, charge: Charge, by: ObservedBy) -> Order:
    """Reverse a pending charge that makes way for another one, and record what came of it.

    It stays PENDING where that is not known or was refused; the resolver comes back to it. Raises
    StorageUnavailable or Overloaded: it may have been reversed all the same.
    """
    order = await change(ports, order, _marked(ports, charge.out_trade_no, by))
    marked = order.charge(charge.out_trade_no)
    if not marked.is_being_reversed or marked.charge_id is None:
        return order  # it was paid or closed before
    answer = await reverse(ports, marked.charge_id)
    return await change(ports, order, _answered(ports, marked, answer, by))


def _marked(ports: Ports, out_trade_no: str, by: ObservedBy) -> Callable[[Draft], None]:
    """Superseded with it: so the resolver takes over should this process end here."""

    def decide(draft: Draft) -> None:
        charge, now = draft.charge(out_trade_no), ports.store.now()
        if charge.state is ChargeState.PENDING and not charge.is_being_reversed:
            due_at = schedule.while_in_flight(now, ports.psp.total_timeout)
            marked = changed(charge, answer=REVERSING, superseded=True, due_at=due_at)
            draft.put_charge(marked, "charge_closing", now, by)

    return decide


def _answered(
    ports: Ports, charge: Charge, answer: ChargeFacts | Unknown, by: ObservedBy
) -> Callable[[Draft], None]:
    if isinstance(answer, Unknown):
        seen = charge_silent(ports, answer, by)
    else:
        seen = charge_told(ports, charge, answer, by)

    def decide(draft: Draft) -> None:
        now = draft.charge(charge.out_trade_no)
        if seen.facts is not None and now.is_being_reversed:
            draft.reschedule_charge(changed(now, answer=WITHDRAWN))
        see_charge(draft, charge.out_trade_no, seen)

    return decide
