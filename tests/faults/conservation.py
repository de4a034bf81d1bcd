"""What must hold when all has settled: three ledgers against each other (reliability.md 2).

Ping++'s, Midas's, and what the order service received.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from midas.charge import Charge, ChargeState
from midas.payment import Change, Notification, Order
from midas.refund import RefundState
from midas.sandbox.ledger import Lookalike
from tests.faults.order_service import OrderService, follows

EVERYTHING = 1000


def check_conservation(lookalike: Lookalike, order: Order, commits: Iterable[Change]) -> None:
    """Raise AssertionError, with the invariant's number, if money and books disagree."""
    at_psp = lookalike.newest_charges(EVERYTHING)
    check_charges(at_psp, order, lookalike.now())
    for charge in order.charges:
        if charge.charge_id is not None:
            check_refunds(lookalike.refunds_of(charge.charge_id), order, charge)
    for change in commits:
        check_one_commit(change)


def check_truth_of(change: Change, lookalike: Lookalike) -> None:
    """I5 at the moment of writing: nothing is called over that Ping++ made or the payer can pay."""
    for charge in change.changed_charges:
        for shown in lookalike.charges_of(charge.out_trade_no):
            _check_state(charge, shown, lookalike.now(), settled=False)
    for refund in change.changed_refunds:
        if refund.state is RefundState.FAILED:
            made = lookalike.refunds_of(refund.charge_id)
            held = [each for each in made if each["status"] != "failed"]
            keys = [each["metadata"].get("refund_no") for each in held]
            assert refund.refund_no not in keys, "I5: FAILED, and Ping++ made it"


def check_charges(at_psp: list[dict[str, Any]], order: Order, now: float) -> None:
    """I1, I3, I4, I5 for the charges of one order; `at_psp` is all that Ping++ has."""
    ours = {each.out_trade_no: each for each in order.charges}
    numbers = [each["order_no"] for each in at_psp]
    assert len(numbers) == len(set(numbers)), "I1: one number, two charges at Ping++"
    for each in (each for each in at_psp if each["paid"] and each["reversed"]):
        known = ours.get(each["order_no"])
        assert known is not None, "I3: a payment was given back, and Midas does not know it"
        assert known.state is ChargeState.REVERSED, f"I3: given back, and here {known.state}"
    paid = [each for each in at_psp if each["paid"] and not each["reversed"]]
    flagged = [each for each in order.charges if each.duplicate_payment]
    assert len(paid) - len(flagged) <= 1, "I1: paid twice, and not flagged"
    for each in paid:
        known = ours.get(each["order_no"])
        assert known is not None, "I3: a paid charge that Midas does not know"
        assert known.state is ChargeState.SUCCEEDED, f"I3: paid, and here {known.state}"
        assert known.charge_id == each["id"], "I4: another charge than the one that was paid"
        assert known.amount == each["amount"], "I4: another amount than was paid"
    by_number = {each["order_no"]: each for each in at_psp}
    for charge in order.charges:
        _check_state(charge, by_number.get(charge.out_trade_no), now)


def _check_state(
    charge: Charge, shown: dict[str, Any] | None, now: float, *, settled: bool = True
) -> None:
    payable = shown is not None and not (shown["paid"] or shown["reversed"])
    payable = payable and shown is not None and now < shown["time_expire"]
    if charge.state is ChargeState.SUCCEEDED:
        assert shown is not None, "I4: SUCCEEDED, and Ping++ has no such charge"
        assert shown["paid"], "I4: SUCCEEDED, and Ping++ has no money"
    if charge.state in (ChargeState.FAILED, ChargeState.CLOSED):
        assert not payable, f"I5: {charge.state}, and the payer can still pay it"
    if charge.state is ChargeState.SUBMITTING and settled:
        assert charge.operator_reason, "I13: unknown for ever, and nobody was called"


def check_refunds(at_psp: list[dict[str, Any]], order: Order, charge: Charge) -> None:
    """I2, I3, I5 for the refunds of one charge; `at_psp` is all that Ping++ has of it."""
    held = [each for each in at_psp if each["status"] != "failed"]
    assert sum(each["amount"] for each in held) <= charge.amount, "I2: more than was paid"
    keys = [each["metadata"].get("refund_no") for each in held]
    ours = [key for key in keys if key is not None]
    assert len(ours) == len(set(ours)), "I2: one refund_no, two refunds at Ping++"
    known = {each.refund_id: each for each in order.refunds}
    for each in held:
        assert each["id"] in known, "I3: a refund that Midas does not know"
    by_id = {each["id"]: each for each in at_psp}
    for refund in order.refunds_of(charge.out_trade_no):
        made = by_id.get(refund.refund_id or "")
        if refund.state is RefundState.SUCCEEDED:
            assert made is not None, "I4: SUCCEEDED, and Ping++ has no such refund"
            assert made["status"] == "succeeded", "I4: SUCCEEDED, and not at Ping++"
        if refund.state is RefundState.FAILED:
            assert refund.refund_no not in ours, "I5: FAILED, and Ping++ made it"
        if refund.state is RefundState.SUBMITTING:
            assert refund.operator_reason, "I13: unknown for ever, and nobody was called"


def check_one_commit(change: Change) -> None:
    """I7: a notification is written in the very commit that makes it true."""
    announced = {(each.kind, each.refund_no or each.out_trade_no) for each in change.notifications}
    for entry in change.journal:
        if entry.state_before == entry.state_after:
            continue
        if entry.event == "charge_succeeded":
            assert ("PAY_ORDER_SUCCESS", entry.subject) in announced, "I7: paid, and not announced"
        if entry.event == "refund_succeeded":
            assert ("REFUND_SUCCESS", entry.subject) in announced, "I7: refunded, and not announced"
    changed = {each.out_trade_no for each in change.changed_charges if each.paid_at}
    assert not changed or change.journal, "I7: a payment without a line in the journal"


def check_announcements(
    order: Order, notifications: Iterable[Any], *, told_again: bool = False
) -> None:
    """Sequences without a gap, and each payment and refund announced exactly once (I7, I8).

    `told_again`: after commits were lost, one may stand there under two numbers.
    """
    messages = list(notifications)
    last = 0
    for each in messages:
        assert follows(last, each.sequence), f"I7: a gap, {each.sequence} after {last}"
        last = each.sequence
    assert order.last_sequence == last, "I7: the order counts otherwise"
    if told_again:
        messages = list({(n.kind, n.out_trade_no, n.refund_no): n for n in messages}.values())
    successes = [each.out_trade_no for each in messages if each.kind == "PAY_ORDER_SUCCESS"]
    closed = [each.out_trade_no for each in messages if each.kind == "PAY_ORDER_CLOSED"]
    back = [each.out_trade_no for each in order.charges if each.state is ChargeState.REVERSED]
    assert set(back) <= set(closed), "I8: money given back, and not announced"
    successes = [each for each in successes if each not in back]
    paid = [each.out_trade_no for each in order.charges if each.state is ChargeState.SUCCEEDED]
    assert sorted(successes) == sorted(paid), "I8: a payment not announced, or announced twice"
    refunded = [each.refund_no for each in messages if each.kind == "REFUND_SUCCESS"]
    done = [each.refund_no for each in order.refunds if each.state is RefundState.SUCCEEDED]
    assert sorted(refunded) == sorted(done), "I8: a refund not announced, or announced twice"


class Outbox(Protocol):
    """How far an order's notifications were delivered, as Midas has it on disk."""

    @property
    def delivered(self) -> int:
        """The last sequence that counts as delivered."""

    @property
    def parked_code(self) -> str:
        """Why the order waits for a person; empty if it does not."""


def check_outbox(outboxes: Mapping[str, Outbox], orders: OrderService) -> None:
    """I8 at any time: what left the outbox was acknowledged, and only a refusal parks."""
    for order_no, outbox in outboxes.items():
        acknowledged = orders.acknowledged.get(order_no, 0)
        assert outbox.delivered <= acknowledged, "I8: delivered, and never acknowledged"
        parked = bool(outbox.parked_code)
        assert not parked or order_no in orders.refused, "I8: given up, and never refused"


def check_received(
    order_no: str, notifications: Sequence[Notification], outbox: Outbox, orders: OrderService
) -> None:
    """I8, I9 at the end: all of it arrived, in order; of a parked order what came before."""
    received = [each.key for each in orders.received.get(order_no, ())]
    announced = [
        (
            *(n.sequence, n.change_id, n.kind, n.out_trade_no, n.refund_no),
            *(n.late, n.duplicate_payment),
        )
        for n in notifications
    ]
    assert received == announced[: len(received)], "I9: received in another order than it happened"
    if not outbox.parked_code:
        assert len(received) == len(announced), "I8: never received"
        last = notifications[-1].sequence if notifications else 0
        assert outbox.delivered == last, "I8: received, and still in the outbox"


def check_third_ledger(
    lookalike: Lookalike, charges: Iterable[Charge], orders: OrderService
) -> None:
    """I1-I4: the order service believes of these charges exactly what Ping++ holds of them."""
    for charge in charges:
        at_psp = lookalike.charges_of(charge.out_trade_no)
        made = [refund for each in at_psp for refund in lookalike.refunds_of(each["id"])]
        check_believed(charge.order_no, at_psp, made, orders)


def check_believed(
    order_no: str, at_psp: list[dict[str, Any]], made: list[dict[str, Any]], orders: OrderService
) -> None:
    """I1-I4: the same for some charges and refunds of an order, as Ping++ has them."""
    held = {each["id"]: each["amount"] for each in at_psp if each["paid"] and not each["reversed"]}
    ids = {each["id"] for each in at_psp}
    believed = orders.payments(order_no)
    ours = {key: amount for key, amount in believed.items() if key in ids}
    assert ours == held, f"I3: the order service believes {ours}, and Ping++ holds {held}"
    done = sorted((r["id"], r["amount"]) for r in made if r["status"] == "succeeded")
    refund_ids = {each["id"] for each in made}
    given_back = [each for each in orders.refunds(order_no) if each[0] in refund_ids]
    assert given_back == done, f"I3: refunds {given_back} received, and {done} at Ping++"


def check_no_other_money(lookalike: Lookalike, orders: OrderService) -> None:
    """I12: the order service received nothing of a charge or refund that Ping++ does not have."""
    for notification in (each for received in orders.received.values() for each in received):
        if notification.kind == "PAY_ORDER_SUCCESS":
            assert lookalike.find(notification.charge_id) is not None, "I12: a payment of nobody's"
        if notification.kind == "REFUND_SUCCESS":
            assert lookalike.refund(notification.refund_id)["amount"] == notification.amount, (
                "I4: another amount"
            )
