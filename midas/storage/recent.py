"""Orders that this process has committed, for whoever leases what is to be told, or has lost them.

Who leases is most often this process, a moment later: it need not read what it has written.
"""

from collections import OrderedDict, deque

from midas.payment import Order

MOST = 1024
COMMITTED_MOST = 2048
"""A few kilobytes each. Replication that lags by more than these is far behind."""


class RecentOrders:
    """Orders by their last change, each given once.

    An order that was changed since, by whomever, has another last change; so has one whose commit a
    failover lost, though its version may be the same. Given once, because what is leased again had
    better be read.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._orders: OrderedDict[str, Order] = OrderedDict()

    def remember(self, order: Order) -> None:
        """Keep an order as it was committed; the oldest goes when it is too many."""
        self._orders[order.order_no] = order
        self._orders.move_to_end(order.order_no)
        if len(self._orders) > self._most:
            self._orders.popitem(last=False)

    def take(self, order_no: str, change_id: str) -> Order | None:
        """The order, if this was the last change of it."""
        order = self._orders.pop(order_no, None)
        return order if order is not None and order.last_change == change_id else None


class CommittedOrders:
    """Orders as this process has committed them last, in case a failover has lost that (D3)."""

    def __init__(self, epoch: int, most: int = COMMITTED_MOST) -> None:
        """`epoch`: of the database in which they are committed; another one may not have them."""
        self._epoch = epoch
        self._most = most
        self._orders: OrderedDict[str, Order] = OrderedDict()
        self._lost: deque[Order] = deque(maxlen=most)

    def remember(self, order: Order, read: str) -> None:
        """Keep an order as it was committed; the oldest goes when it is too many.

        `read`: the change that it was read after. If it does not have what it had when it was
        committed before, that is kept beside it: whoever has made the commit read the order after a
        failover that nobody had noticed yet.
        """
        before = self._orders.pop(order.order_no, None)
        if before is not None and before.last_change != read and order.has_lost(before):
            self._lost.append(before)
        self._orders[order.order_no] = order
        if len(self._orders) > self._most:
            self._orders.popitem(last=False)

    def perhaps_lost(self, epoch: int) -> list[Order]:
        """All of them, once for each new epoch of the database; else what is known to be lost."""
        lost = list(self._lost)
        self._lost.clear()
        if epoch == self._epoch:
            return lost
        self._epoch = epoch
        return [*lost, *self._orders.values()]
