"""The judge: three ledgers against each other, order by order, and whether somebody was alarmed.

The checks are those of all other tests (`tests/faults/conservation.py`). Where commits may be lost,
a notification that Midas does not know any more is no difference by itself: what counts is what the
order service believes of the money in the end.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tests.failovers.ledgers import Story
from tests.faults.conservation import (
    check_announcements,
    check_believed,
    check_charges,
    check_received,
    check_refunds,
)
from tests.faults.counted_orders import content

Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """What does not agree, of one order."""

    story: Story
    what: str
    """Beginning with the invariant's number."""

    @property
    def is_unalarmed(self) -> bool:
        """Whether no Midas has called an operator to this order."""
        return not self.story.alarms


def differences(stories: Iterable[Story], now: float, *, lossy: bool) -> list[Difference]:
    """All of them; `now` is Ping++'s time, `lossy`: commits may have been lost."""
    return [
        Difference(story, what)
        for story in stories
        for check in _checks(story, now, lossy=lossy)
        if (what := _broken(check))
    ]


def _checks(story: Story, now: float, *, lossy: bool) -> Iterator[Check]:
    order, believed = story.order, story.believed
    yield lambda: check_charges(story.at_psp, order, now)
    for charge in order.charges:
        made = [each for each in story.refunds_at_psp if each["charge"] == charge.charge_id]
        yield lambda charge=charge, made=made: check_refunds(made, order, charge)  # type: ignore[misc]
    yield lambda: check_announcements(order, story.notifications, told_again=lossy)
    yield lambda: check_believed(story.order_no, story.at_psp, story.refunds_at_psp, believed)
    yield lambda: _check_no_other_money(story)
    yield lambda: _check_sequences(story)
    yield lambda: _check_outbox(story)
    if not lossy:
        yield lambda: check_received(story.order_no, story.notifications, story.outbox, believed)
        yield lambda: _check_known(story)


def _broken(check: Check) -> str:
    try:
        check()
    except AssertionError as broken:
        return str(broken).splitlines()[0]
    return ""


def _check_no_other_money(story: Story) -> None:
    """I12: the order service was notified of nothing that Ping++ does not have."""
    charges = {each["id"]: each["amount"] for each in story.at_psp}
    refunds = {each["id"]: each["amount"] for each in story.refunds_at_psp}
    for each in story.believed.received[story.order_no]:
        if each.kind == "PAY_ORDER_SUCCESS":
            assert charges.get(each.charge_id) == each.amount, "I12: a payment of nobody's"
        if each.kind == "REFUND_SUCCESS":
            assert refunds.get(each.refund_id) == each.amount, "I12: a refund of nobody's"


def _check_sequences(story: Story) -> None:
    """I7: nothing was taken under one sequence that had another content or another id before."""
    taken = {each.sequence: content(each.kind, each.request) for each in story.received}
    for line in story.repeats:
        before = taken.get(line["sequence"])
        same = before is None or before == line["content"]
        assert same or line["reused"], f"I7: sequence {line['sequence']} taken for two"
    sequences = [each.sequence for each in story.received]
    assert sequences == sorted(set(sequences)), f"I9: {sequences}"


def _check_outbox(story: Story) -> None:
    """I8: all notifications were taken, under their own numbers, unless an operator was called.

    A notification that was sent again under another number counts there.
    """
    assert not story.outbox.parked_code, f"I8: parked, {story.outbox.parked_code}"
    taken = {(each.sequence, each.request.notification_id) for each in story.received}
    last = max((each.sequence for each in story.notifications), default=0)
    assert story.outbox.delivered == last, "I8: never delivered"
    again = {_what(each) for each in story.notifications if each.told_again}
    for each in story.notifications:
        named = f"{each.order_no}/{each.sequence}/{each.change_id}"
        was_taken = (each.sequence, named) in taken or (
            not each.told_again and _what(each) in again
        )
        assert was_taken, f"I8: {each.sequence} counts as delivered, and was not taken"


def _what(notification: object) -> tuple[object, ...]:
    return tuple(getattr(notification, name) for name in ("kind", "out_trade_no", "refund_no"))


def _check_known(story: Story) -> None:
    """I3: Ping++ has no charge of ours that Midas does not have, paid or not."""
    known = {each.out_trade_no for each in story.order.charges}
    for each in story.at_psp:
        assert each["order_no"] in known, "I3: a charge that Midas does not know"
