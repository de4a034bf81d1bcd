"""Orders that this process has committed: for leases of notifications, and for lost commits.

Most often, this process leases an order's notification a moment after the commit. Then it need not
read what it has written.
"""

from collections import OrderedDict, deque

from midas.payment import Order

MOST = 1024
COMMITTED_MOST = 2048
"""The most orders kept, of a few kilobytes each. Replication that lags by more is far behind."""


class RecentOrders:
    """Orders by their last change, each given once.

    An order that was changed since has another last change. So has one whose commit a failover
    lost, though its version may be the same. An order is given once: for a second lease it is read.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._orders: OrderedDict[str, Order] = OrderedDict()

    def remember(self, order: Order) -> None:
        """Keep an order as it was committed; the oldest goes when there are too many."""
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
        """`epoch`: that of their commits. A database of another epoch may not have them."""
        self._epoch = epoch
        self._most = most
        self._orders: OrderedDict[str, Order] = OrderedDict()
        self._lost: deque[Order] = deque(maxlen=most)

    def remember(self, order: Order, read_after: str) -> None:
        """Keep an order as it was committed; the oldest goes when there are too many.

        `read_after`: the order's last change when it was read. If the order lacks something of its
        commit before, the order of that commit is kept, too: it was read after a failover that this
        process had not noticed yet.
        """
        before = self._orders.pop(order.order_no, None)
        if before is not None and before.last_change != read_after and order.has_lost(before):
            self._lost.append(before)
        self._orders[order.order_no] = order
        if len(self._orders) > self._most:
            self._orders.popitem(last=False)

    def perhaps_lost(self, epoch: int) -> list[Order]:
        """All orders, once for each new epoch of the database; else those that have lost rows."""
        lost = list(self._lost)
        self._lost.clear()
        if epoch == self._epoch:
            return lost
        self._epoch = epoch
        return [*lost, *self._orders.values()]
