"""close: end an open charge that has to make way for another one of its order.

    ask → reverse, where the channel allows it → ask again → record

The payer may pay between any two steps: Ping++'s last answer counts. A charge that cannot be closed
stays PENDING and is watched; it is only `superseded`. If its money still comes, that is announced
as a duplicate payment. On channels where a reversal gives a payment back, `reversal.py` does it.
"""

from midas.charge import (
    WITHDRAWN,
    Charge,
    ChargeFacts,
    ChargeObservation,
    ChargeState,
    ObservedBy,
    mismatches,
)
from midas.draft import Draft
from midas.errors import ChargeStillOpen
from midas.flows.commit import Decision, Ports, commit
from midas.flows.look import is_missing, not_shown
from midas.flows.observe import charge_observation, failed_read
from midas.flows.reversal import is_to_be_reversed, take_back
from midas.immutable import replace
from midas.payment import Order
from midas.ports import Done, NotDone, Refusal, Verdict


async def close(ports: Ports, order: Order, out_trade_no: str) -> Order:
    """The order with this charge paid, closed or superseded.

    Raises PspUnavailable, Throttled or PspRejectsMidas when Ping++ could not be asked. Raises
    ChargeStillOpen when Ping++ could not be asked a second time, or does not show the charge.
    Nothing was decided in these cases. A charge that is confirmed absent is left to a person.
    """
    charge = order.charge(out_trade_no)
    if charge.charge_id is None:
        raise ChargeStillOpen(order.order_no, out_trade_no)
    verdict = await ports.psp.retrieve_charge(charge.charge_id)
    if is_missing(charge, verdict):
        return await _missing(ports, order, out_trade_no)
    if not isinstance(verdict, Done):
        raise failed_read(verdict)
    if is_to_be_reversed(ports, charge, verdict.answer):
        if ports.psp.gives_back(charge.channel):
            return await take_back(ports, order, charge, ObservedBy.QUERY)
        order = await commit(ports, order, _not_handed_out_again(ports, out_trade_no))
        verdict = await _reverse(ports, charge.charge_id)
        if not isinstance(verdict, Done) or is_missing(charge, verdict):
            raise ChargeStillOpen(order.order_no, out_trade_no)
    observation = charge_observation(ports, charge, verdict.answer, ObservedBy.QUERY)
    return await commit(ports, order, _supersede(out_trade_no, observation))


async def _missing(ports: Ports, order: Order, out_trade_no: str) -> Order:
    """Record that Ping++ does not show it. Raises ChargeStillOpen until it is confirmed absent."""
    missed = not_shown(ports, out_trade_no, ObservedBy.QUERY, "not_shown")
    order = await commit(ports, order, missed)
    if not order.charge(out_trade_no).operator_reason:
        raise ChargeStillOpen(order.order_no, out_trade_no)
    return order


def _not_handed_out_again(ports: Ports, out_trade_no: str) -> Decision:
    """Withdraw it before the reversal leaves: if its answer is lost, nobody can pay this charge."""

    def decide(draft: Draft) -> None:
        charge = draft.charge(out_trade_no)
        if charge.state is ChargeState.PENDING and not charge.is_withdrawn:
            closing = replace(charge, answer=WITHDRAWN)
            draft.put(closing, ("charge_closing", ports.store.now(), ObservedBy.QUERY))

    return decide


async def _reverse(ports: Ports, charge_id: str) -> Verdict[ChargeFacts]:
    """Reverse, and ask again unless the answer says by itself how the charge stands."""
    reversal = await ports.psp.reverse_charge(charge_id)
    if isinstance(reversal, Done) and (reversal.answer.reversed or reversal.answer.paid):
        return reversal
    if isinstance(reversal, NotDone) and reversal.refusal is Refusal.NOT_SENT:
        return reversal
    return await ports.psp.retrieve_charge(charge_id)


def _supersede(out_trade_no: str, observation: ChargeObservation) -> Decision:
    def decide(draft: Draft) -> None:
        """Supersede first, so that the closing is not announced: the caller asked for it."""
        charge = draft.charge(out_trade_no)
        makes_way = charge.state is ChargeState.PENDING and not charge.superseded
        if makes_way and _is_ours_and_unpaid(charge, observation.facts):
            superseded = replace(charge, superseded=True)
            draft.put(superseded, ("charge_superseded", observation.at, observation.by))
        draft.observe_charge(out_trade_no, observation)

    return decide


def _is_ours_and_unpaid(charge: Charge, facts: ChargeFacts | None) -> bool:
    return facts is not None and not facts.paid and not mismatches(charge, facts)
