"""The judge finds each kind of difference, and knows which of them has no alarm."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from midas.order.v1 import order_payment_service_pb2 as pb
from midas.payment import Notification, Order
from midas.sandbox.orders.order import Accepted
from midas.sequences import EPOCH
from midas.v1 import charge_pb2, refund_pb2
from tests.failovers.judge import differences
from tests.failovers.ledgers import Story
from tests.failovers.quiet import Outbox
from tests.faults.counted_orders import content
from tests.records import intent, paid, refund_intent, refunded

ALARM = {"event": "operator_needed", "order_no": "o1", "kind": "charge_restored"}
NUMBER, REFUND_NO = "1" * 20, "refund-1"


def a_story() -> Story:
    """An order that was paid and refunded in part, as all three ledgers have it."""
    paying = paid(intent("o1", out_trade_no=NUMBER).after)
    asking = refund_intent(paying.after, refund_no=REFUND_NO)
    back = refunded(asking.after)
    (charge,), (refund,) = back.after.charges, back.after.refunds
    notifications = [*paying.notifications, *back.notifications]
    return Story(
        "o1",
        back.after,
        [*paying.journal, *asking.journal, *back.journal],
        notifications,
        Outbox(delivered=2),
        [at_psp(str(charge.charge_id))],
        [
            {
                "id": refund.refund_id,
                "charge": charge.charge_id,
                "amount": refund.amount,
                "status": "succeeded",
                "metadata": {"refund_no": REFUND_NO},
            }
        ],
        [taken(each, back.after) for each in notifications],
    )


def at_psp(charge_id: str, **fields: Any) -> dict[str, Any]:
    """A paid charge of Ping++'s."""
    ids = {"id": charge_id, "order_no": NUMBER, "amount": 100, "time_expire": 0}
    return ids | {"paid": True, "reversed": False} | fields


def taken(sent: Notification, order: Order) -> Accepted:
    """The notification as the order service has accepted it."""
    (charge,), (refund,) = order.charges, order.refunds
    request: Any = pb.RefundSuccessRequest() if sent.refund_no else pb.PayOrderSuccessRequest()
    request.notification_id = f"o1/{sent.sequence}/{sent.change_id}"
    ids: Any = {"out_trade_no": charge.out_trade_no, "charge_id": charge.charge_id}
    request.charge.CopyFrom(charge_pb2.Charge(**ids, amount=charge.amount))
    if sent.refund_no:
        about: Any = {"refund_no": refund.refund_no, "refund_id": refund.refund_id}
        request.refund.CopyFrom(refund_pb2.Refund(**about, amount=refund.amount))
    return Accepted(sent.sequence, sent.kind.lower(), "o1", sent.sequence, request)


def found(story: Story, *, lossy: bool = False) -> list[str]:
    """The invariants that do not hold."""
    wrong = differences([story], now=1.0, lossy=lossy)
    return [each.what.partition(":")[0] for each in wrong]


def lost_everything(story: Story) -> None:
    """Midas has forgotten the order."""
    story.order, story.notifications, story.outbox = Order("o1"), [], Outbox()


def lost_refund(story: Story) -> None:
    """Midas has forgotten the refund."""
    story.order = replace(story.order, refunds=(), last_sequence=1)
    story.notifications, story.outbox = story.notifications[:1], Outbox(delivered=1)


def paid_twice(story: Story) -> None:
    """There is a second charge, of a number of its own."""
    story.at_psp.append(at_psp("ch_2", order_no="2" * 20))


def one_number_twice(story: Story) -> None:
    """There is a second charge of the same number."""
    story.at_psp.append(at_psp("ch_2", paid=False))


def refunded_twice(story: Story) -> None:
    """Ping++ has the refund twice."""
    story.refunds_at_psp.append(story.refunds_at_psp[0] | {"id": "re_2"})


def never_paid(story: Story) -> None:
    """Ping++ has no money."""
    story.at_psp[0]["paid"] = False


def never_delivered(story: Story) -> None:
    """The order service knows nothing of the refund, which counts as delivered in Midas."""
    del story.received[1]


def still_undelivered(story: Story) -> None:
    """It knows, and Midas would deliver it again for ever."""
    story.outbox = Outbox(delivered=1)


def parked(story: Story) -> None:
    """It refuses the order's notifications."""
    story.outbox = Outbox(delivered=2, parked_code="NOT_FOUND")


def notified_of_nothing(story: Story) -> None:
    """It was notified of a refund that is none."""
    del story.refunds_at_psp[0]


@pytest.mark.parametrize(
    ("spoil", "broken"),
    [
        (lost_everything, "I3"),
        (lost_refund, "I3"),
        (paid_twice, "I1"),
        (one_number_twice, "I1"),
        (refunded_twice, "I2"),
        (never_paid, "I4"),
        (never_delivered, "I8"),
        (still_undelivered, "I8"),
        (parked, "I8"),
        (notified_of_nothing, "I4"),
    ],
)
@pytest.mark.parametrize("lossy", [False, True])
def test_every_difference_is_found(
    spoil: Callable[[Story], None], broken: str, lossy: bool
) -> None:
    """In both modes; the judge knows whether it has an alarm."""
    story = a_story()
    assert not found(story, lossy=lossy)
    spoil(story)
    assert broken in found(story, lossy=lossy)
    for alarms, unalarmed in (([], True), ([ALARM], False)):
        story.alarms = alarms
        wrong = differences([story], now=1.0, lossy=lossy)
        assert {each.is_unalarmed for each in wrong} == {unalarmed}


@pytest.mark.parametrize("place", [1, 2, 5])
def test_a_sequence_is_not_taken_for_two(place: int) -> None:
    """Whether it is the id or the content that differs; a repeat of the same is none."""
    story = a_story()
    first = story.received[0]
    same = content(first.kind, first.request)
    line = {"event": "repeat", "order_no": "o1", "sequence": 1, "content": same, "reused": 0}
    story.repeats = [line]
    assert not found(story)
    other = [*same]
    other[place] = "another"
    story.repeats = [line | {"content": other}]
    assert found(story) == ["I7"]
    story.repeats = [line | {"content": other, "reused": 2}]
    assert not found(story), "it was refused for that, and had no effect"


def test_what_was_lost_may_be_notified_again_under_another_number() -> None:
    """After lost commits that is no difference; where none can be lost it is one."""
    story = a_story()
    lost = replace(story.notifications[1], sequence=EPOCH + 1, change_id="again", told_again=True)
    story.notifications[1] = lost
    story.order = replace(story.order, last_sequence=EPOCH + 1)
    story.outbox = Outbox(delivered=EPOCH + 1)
    story.received.append(taken(lost, story.order))
    assert not found(story, lossy=True)
    assert found(story) == ["I9"]


def test_an_unpaid_charge_that_midas_has_lost_is_a_difference_where_none_may_be() -> None:
    """Where commits may be lost it is none yet: no money has moved."""
    story = a_story()
    story.at_psp.append(at_psp("ch_2", order_no="2" * 20, paid=False))
    assert found(story) == ["I3"]
    assert not found(story, lossy=True)
