"""The orders that a process remembers after it committed them."""

from midas.payment import Order
from midas.storage.recent import CommittedOrders, RecentOrders
from tests.records import a_charge


def test_an_order_is_given_once_and_for_its_last_change_alone() -> None:
    """Another change of it makes what is known worthless."""
    recent = RecentOrders()
    recent.remember(Order("o1", 1, last_change="change 1"))
    recent.remember(Order("o1", 2, last_change="change 2"))
    recent.remember(Order("o2", 1, last_change="change 3"))
    assert recent.take("o1", "change 2") == Order("o1", 2)
    assert recent.take("o1", "change 2") is None
    assert recent.take("o2", "change 4") is None
    assert recent.take("o2", "change 3") is None


def test_the_oldest_is_forgotten() -> None:
    """Other replicas lease much of what this one writes: the memory does not grow by it."""
    recent = RecentOrders(most=2)
    for number in (1, 2, 1, 3):
        recent.remember(Order(f"o{number}", 1, last_change=f"change {number}"))
    assert recent.take("o2", "change 2") is None
    assert recent.take("o1", "change 1") is not None
    assert recent.take("o3", "change 3") is not None


def test_what_may_be_lost_is_each_order_as_committed_last() -> None:
    """All of them for each new epoch; the memory does not grow."""
    committed = CommittedOrders(epoch=1, most=2)
    for number, version in ((1, 1), (2, 1), (1, 2), (3, 1)):
        committed.remember(Order(f"o{number}", version), "another change")
    assert committed.perhaps_lost(1) == []
    assert committed.perhaps_lost(2) == [Order("o1", 2), Order("o3", 1)]
    assert committed.perhaps_lost(2) == []
    assert len(committed.perhaps_lost(3)) == 2


def test_what_a_later_commit_lacks_is_kept_beside_it() -> None:
    """Once, and without a new epoch: the failover may not be noticed yet."""
    committed = CommittedOrders(epoch=1)
    had = Order("o1", 2, charges=(a_charge("o1"),))
    committed.remember(had, "")
    has = Order("o1", 1, charges=(a_charge("o1"),))
    committed.remember(has, "another change")
    assert committed.perhaps_lost(1) == [had]
    assert committed.perhaps_lost(1) == []
    assert committed.perhaps_lost(2) == [has]
    more = Order("o1", 2, charges=(*has.charges, a_charge("o1")))
    committed.remember(more, "another change")
    assert committed.perhaps_lost(2) == []
