"""Numbers of notifications: never twice, whatever was lost, and below 2^53 (I7, D3)."""

from dataclasses import replace
from datetime import UTC, datetime

from midas.payment import Order
from midas.sequences import EPOCH, SEQUENCE_MOST, epoch_above, raised_floor
from tests.records import intent, paid, refund_intent, refunded

NOW = int(datetime(2026, 11, 28, tzinfo=UTC).timestamp())


def an_order(last_sequence: int = 0, sequence_floor: int = 0) -> Order:
    """A charge that is about to be paid."""
    order = intent("o1").after
    return replace(order, last_sequence=last_sequence, sequence_floor=sequence_floor)


def test_a_raise_leaves_all_numbers_behind() -> None:
    """Also those that were used after an earlier raise, and with a clock that is wrong."""
    for floor in (0, 5, EPOCH, 7 * EPOCH, raised_floor(0, NOW), raised_floor(0, NOW) + 3):
        for clock in (0, NOW, NOW + 1):
            raised = raised_floor(floor, clock)
            assert raised % EPOCH == 0
            assert raised >= floor - floor % EPOCH + EPOCH


def test_a_raise_that_is_lost_is_not_made_again() -> None:
    """A second failover may lose the first one's raise: the next one gives another floor."""
    assert raised_floor(0, NOW + 1) >= raised_floor(0, NOW) + EPOCH


def test_numbers_stay_exact_in_javascript() -> None:
    """For two hundred and seventy years."""
    far = int(datetime(2295, 1, 1, tzinfo=UTC).timestamp())
    assert raised_floor(0, far) + EPOCH <= SEQUENCE_MOST


def test_numbers_count_on_from_the_last_one_or_the_floor() -> None:
    """Whichever is higher; a change without a notification moves nothing."""
    for last, floor, first in ((0, 0, 1), (4, 0, 5), (4, EPOCH, EPOCH + 1), (EPOCH + 4, EPOCH, 0)):
        change = paid(an_order(last_sequence=last, sequence_floor=floor))
        (sent,) = change.notifications
        assert sent.sequence == (first or last + 1) == change.last_sequence
        assert change.sequence_floor == change.after.sequence_floor == floor
        assert change.after.last_sequence == change.last_sequence
        after = refund_intent(change.after)
        assert (after.notifications, after.last_sequence) == ((), change.last_sequence)
        (next_one,) = refunded(after.after).notifications
        assert next_one.sequence == sent.sequence + 1


def test_each_notification_bears_the_id_of_its_commit() -> None:
    """The second mark of it, beside its number."""
    change = paid(an_order())
    assert [each.change_id for each in change.notifications] == [change.change_id]
    assert not change.notifications[0].told_again


def test_epochs_begin_above() -> None:
    """Of a floor itself, too."""
    assert [epoch_above(n) for n in (0, 1, EPOCH - 1, EPOCH)] == [EPOCH, EPOCH, EPOCH, 2 * EPOCH]
