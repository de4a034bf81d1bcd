"""lost: put back what this process has committed and the database has lost, though nobody asks.

A flow that is under way restores its own order when its commit loses (`observe.load_again`). What
was finished just before a failover has no such flow: charged, paid, told and forgotten within a
second, an order would be known to nobody, with nobody told.
"""

from midas.charge import ChargeState
from midas.errors import MidasError
from midas.flows.deadline import NO_DEADLINE
from midas.flows.observe import Ports, load_again, logger
from midas.flows.query import refresh
from midas.payment import Order
from midas.refund import RefundState

NOT_RESTORED = "lost_commit_not_restored"


async def put_back(ports: Ports, known: Order) -> None:
    """See that the database has all that it had of the order when `known` was committed.

    Rows that are gone are written again, with an alarm. Of those that are there as they were
    earlier, Ping++ is asked how they stand. Raises nothing of Midas's own: what could not be done
    is an alarm.
    """
    try:
        order = await load_again(ports, known)
        if is_behind(order, known):
            logger.warning("commit_lost", extra={"order_no": known.order_no})
            await refresh(ports, order, order.charges, NO_DEADLINE)
    except MidasError as error:
        told = {"order_no": known.order_no, "kind": NOT_RESTORED, "reason": type(error).__name__}
        logger.error("operator_needed", extra=told)


def is_behind(order: Order, known: Order) -> bool:
    """Whether anything that was over is open again, as no commit can make it. Pure."""
    open_charges = {each.out_trade_no for each in order.charges if each.state in _OPEN}
    open_refunds = {each.refund_no for each in order.refunds if each.state in _UNFINISHED}
    return any(
        each.out_trade_no in open_charges and each.state not in _OPEN for each in known.charges
    ) or any(
        each.refund_no in open_refunds and each.state not in _UNFINISHED for each in known.refunds
    )


_OPEN = (ChargeState.SUBMITTING, ChargeState.PENDING)
_UNFINISHED = (RefundState.SUBMITTING, RefundState.PENDING)
