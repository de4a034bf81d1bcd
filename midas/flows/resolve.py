"""resolve: end the uncertainty about an order's charges and refunds, one after the other.

`resolve_charge.py` and `resolve_refund.py` say how each is found out. A row whose call may still be
under way belongs to its sender alone, even if something else of its order is due.
"""

from midas.charge import ChargeState, ObservedBy
from midas.flows.commit import Ports, commit
from midas.flows.listing import FindCharge, find_charge
from midas.flows.resolve_charge import finish_superseded, resolve_charge
from midas.flows.resolve_refund import resolve_refund
from midas.flows.run import Run
from midas.flows.unknown import in_flight
from midas.payment import Order
from midas.refund import RefundState


async def resolve_order(
    ports: Ports,
    order: Order,
    by: ObservedBy,
    run: Run | None = None,
    find: FindCharge = find_charge,
) -> Order:
    """Look at everything in the order whose outcome is unknown, and at superseded charges.

    `run`: the run over many orders that this look belongs to, if there is one. `find`: how that run
    looks for charges. Raises StorageUnavailable, Overloaded and OutcomeUnknown.
    """
    run = run or Run(many=False)
    order = await commit(ports, order, lambda _: None)  # what a person looks at is not due
    for charge in order.charges:
        if charge.operator_reason or in_flight(ports, charge):
            continue
        if charge.state is ChargeState.SUBMITTING:
            number = charge.out_trade_no
            order = await resolve_charge(ports, order, number, by, find=find)
        elif charge.state is ChargeState.PENDING and charge.superseded:
            order = await finish_superseded(ports, order, charge, by, run)
    for refund in order.refunds:
        if refund.operator_reason or in_flight(ports, refund):
            continue
        if refund.state is RefundState.SUBMITTING:
            order = await resolve_refund(ports, order, refund.refund_no, by)
    return order
