"""resolve: end the uncertainty about an order's charges and refunds, one after the other.

`resolve_charge.py` and `resolve_refund.py` say how each is found out.
"""

from midas.charge import ChargeState, ObservedBy
from midas.flows.observe import Ports
from midas.flows.resolve_charge import finish_superseded, resolve_charge
from midas.flows.resolve_refund import resolve_refund
from midas.flows.run import Run
from midas.payment import Order
from midas.refund import RefundState


async def resolve_order(
    ports: Ports, order: Order, by: ObservedBy, run: Run | None = None
) -> Order:
    """Look at everything in the order whose outcome is unknown, and at superseded charges.

    `run`: the run over many orders that this look belongs to, if it does.
    """
    run = run or Run(many=False)
    for charge in order.charges:
        if charge.operator_reason:
            continue
        if charge.state is ChargeState.SUBMITTING:
            order = await resolve_charge(ports, order, charge.out_trade_no, by)
        elif charge.state is ChargeState.PENDING and charge.superseded:
            order = await finish_superseded(ports, order, charge, by, run)
    for refund in order.refunds:
        if refund.state is RefundState.SUBMITTING and not refund.operator_reason:
            order = await resolve_refund(ports, order, refund.refund_no, by)
    return order
