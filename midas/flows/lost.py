"""lost: put back what this process has committed and the database has lost, though nobody asks.

A flow that is under way restores its own order when its commit loses (`commit.load_again`). An
order that was finished just before a failover has no such flow. It may be charged, paid and
announced within a second; nobody would then know of it, and nobody would be called.
"""

from midas.flows.commit import Ports, load_again, logger
from midas.flows.deadline import NO_DEADLINE
from midas.flows.query import refresh
from midas.payment import Order

NOT_RESTORED = "lost_commit_not_restored"


async def put_back(ports: Ports, known: Order) -> None:
    """Make sure that the database has all that it had of the order when `known` was committed.

    Rows that are gone are written again, with an alarm. Ping++ is asked about rows that are as they
    were earlier. Raises nothing: a failure is an alarm.
    """
    try:
        order = await load_again(ports, known)
        if order.is_behind(known):
            logger.warning("commit_lost", extra={"order_no": known.order_no})
            await refresh(ports, order, order.charges, NO_DEADLINE)
    except Exception as error:  # any defect: the other orders and the resolver go on
        fields = {"order_no": known.order_no, "kind": NOT_RESTORED, "reason": type(error).__name__}
        logger.error("operator_needed", extra=fields)
