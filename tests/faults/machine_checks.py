"""What must hold after every step, and what must hold once all has settled (reliability.md 2)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from midas.charge import Charge, ChargeState
from midas.payment import JournalEntry, Notification, Order
from midas.refund import Refund, RefundState
from midas.sandbox.ledger import Lookalike
from tests.faults.conservation import EVERYTHING, check_outbox, check_refunds
from tests.faults.machine_books import outboxes
from tests.faults.machine_world import World

C = ChargeState
R = RefundState

CHARGE_LATER: Mapping[ChargeState, frozenset[ChargeState]] = {
    C.SUBMITTING: frozenset(C),
    C.PENDING: frozenset({C.PENDING, C.SUCCEEDED, C.CLOSED, C.FAILED, C.REVERSED}),
    C.CLOSED: frozenset({C.CLOSED, C.SUCCEEDED, C.REVERSED}),
    C.FAILED: frozenset({C.FAILED, C.SUCCEEDED, C.REVERSED}),
    C.SUCCEEDED: frozenset({C.SUCCEEDED, C.REVERSED}),
    C.REVERSED: frozenset({C.REVERSED}),
}
"""What a charge may be after one or more moves; written separately from the product's own table."""
REFUND_LATER: Mapping[RefundState, frozenset[RefundState]] = {
    R.SUBMITTING: frozenset(R),
    R.PENDING: frozenset({R.PENDING, R.SUCCEEDED, R.FAILED}),
    R.FAILED: frozenset({R.FAILED, R.SUCCEEDED}),
    R.SUCCEEDED: frozenset({R.SUCCEEDED}),
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An order as it was after the step before."""

    order: Order
    notifications: Sequence[Notification] = ()
    journal: Sequence[JournalEntry] = ()


@dataclass(slots=True)
class Watch:
    """Looks at every order after every step, and keeps a snapshot of it."""

    world: World
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    rounds: int = 0
    """Of relays, as of the step before."""

    async def look(self) -> None:
        """Raise AssertionError, with the invariant's number, if anything is as it must not be."""
        world = self.world
        for order in await world.orders():
            number = order.order_no
            before = self.snapshots.get(number, Snapshot(Order(number)))
            if order.version != before.order.version:
                notifications = await world.books.notifications(number)
                journal = await world.books.journal(number)
                now = Snapshot(order, notifications, journal)
                check_no_way_back(before, now)
                check_story(now)
                check_announced(now)
                self.snapshots[number] = now
            check_believed(order, world.lookalike)
        check_once(world)
        if world.rounds != self.rounds:
            check_outbox(await outboxes(world.database), world.order_service)
            self.rounds = world.rounds


def check_no_way_back(before: Snapshot, now: Snapshot) -> None:
    """I6: no state regresses, nothing that was written is gone or other than it was."""
    assert now.order.version > before.order.version, "I6: an older version"
    assert list(now.notifications[: len(before.notifications)]) == list(before.notifications)
    assert list(now.journal[: len(before.journal)]) == list(before.journal), "I6: history changed"
    for old in before.order.charges:
        new = now.order.charge(old.out_trade_no)
        assert new.state in CHARGE_LATER[old.state], f"I6: a charge went {old.state}→{new.state}"
        assert _asked_of(old) == _asked_of(new), "I6: other terms than before"
    for refund in before.order.refunds:
        after = now.order.refund(refund.refund_no)
        way = f"{refund.state}→{after.state}"
        assert after.state in REFUND_LATER[refund.state], f"I6: a refund went {way}"
        assert (refund.amount, refund.charge_id) == (after.amount, after.charge_id)
    assert sum(each.is_open for each in now.order.charges) <= 1, "I1: two open charges"


def _asked_of(charge: Charge) -> tuple[Any, ...]:
    return charge.amount, charge.channel, charge.terms_digest, charge.created_at


def check_story(now: Snapshot) -> None:
    """I7: the journal's moves lead from nothing to the state of each record, without a gap."""
    state: dict[str, str] = {}
    for entry in now.journal:
        assert entry.state_before == state.get(entry.subject, ""), "I7: a move is missing"
        state[entry.subject] = entry.state_after
    rows: list[Charge | Refund] = [*now.order.charges, *now.order.refunds]
    for row in rows:
        subject = row.out_trade_no if isinstance(row, Charge) else row.refund_no
        assert state[subject] == row.state, "I7: a state that the journal does not know"


def check_announced(now: Snapshot) -> None:
    """I7, I8: gapless; every success announced once, in the order in which it happened."""
    messages = now.notifications
    assert [each.sequence for each in messages] == list(range(1, len(messages) + 1)), "I7: a gap"
    assert now.order.last_sequence == len(messages), "I7: the order counts otherwise"
    announced = [(each.kind, each.refund_no or each.out_trade_no) for each in messages]
    ends = ("PAY_ORDER_SUCCESS", "REFUND_SUCCESS", "REFUND_FAILED")
    assert [each for each in announced if each[0] in ends] == _must_be_announced(now), (
        "I8: not as it was"
    )
    closed = [number for kind, number in announced if kind == "PAY_ORDER_CLOSED"]
    assert len(closed) == len(set(closed)), "I8: closed twice"
    _check_duplicates(now)


def _must_be_announced(now: Snapshot) -> list[tuple[str, str]]:
    charges = {each.out_trade_no for each in now.order.charges}
    moves = [
        (entry.subject, entry.state_after)
        for entry in now.journal
        if entry.state_before != entry.state_after
    ]
    return [
        (f"{'PAY_ORDER' if subject in charges else 'REFUND'}_{_WORDS[after]}", subject)
        for subject, after in moves
        if after == "SUCCEEDED" or (after == "FAILED" and subject not in charges)
    ]


_WORDS = {"SUCCEEDED": "SUCCESS", "FAILED": "FAILED"}


def _check_duplicates(now: Snapshot) -> None:
    """I1: who reads the messages alone knows of every payment that is one too many."""
    held: dict[str, int] = {}
    for message in now.notifications:
        number = message.out_trade_no
        if message.kind == "PAY_ORDER_SUCCESS":
            twice = any(left > 0 for left in held.values())
            assert message.duplicate_payment == twice, "I1: paid twice, and not flagged"
            held[number] = now.order.charge(number).amount
        elif message.kind == "REFUND_SUCCESS":
            held[number] = held.get(number, 0) - now.order.refund(message.refund_no).amount
        elif message.kind == "PAY_ORDER_CLOSED" and number in held:
            held[number] = 0  # the payment was reversed at the channel


def check_believed(order: Order, lookalike: Lookalike) -> None:
    """I4: what is called paid or given back here is so at Ping++, to the letter."""
    for charge in order.charges:
        if charge.state is C.SUCCEEDED:
            assert charge.charge_id is not None
            shown = lookalike.charge(charge.charge_id)
            assert shown["paid"], "I4: SUCCEEDED, and not paid"
            here = (charge.out_trade_no, charge.amount, charge.currency, charge.app_id)
            there = (shown["order_no"], shown["amount"], shown["currency"], shown["app"])
            assert here == there, f"I4: {here} here, {there} at Ping++"
            assert charge.livemode == shown["livemode"], "I4: another mode"
    for refund in order.refunds:
        if refund.state is R.SUCCEEDED:
            assert refund.refund_id is not None
            made = lookalike.refund(refund.refund_id)
            here_too = (made["status"], made["amount"], made["charge"])
            assert here_too == ("succeeded", refund.amount, refund.charge_id), "I4: no such refund"


def check_once(world: World) -> None:
    """I1, I2: nothing that moves money was sent twice, and nothing is there twice."""
    twice = [what for what, times in world.posts.items() if times > 1]
    assert not twice, f"I2: sent twice: {twice}"
    charges = world.lookalike.newest_charges(EVERYTHING)
    numbers = Counter(each["order_no"] for each in charges)
    twins = [each for each in charges if numbers[each["order_no"]] > 1]
    what = [(each["channel"], each["paid"], each["reversed"]) for each in twins]
    assert not twins, f"I1: one number, two charges at Ping++: {what}"
    for charge in charges:
        made = world.lookalike.refunds_of(charge["id"])
        held = sum(each["amount"] for each in made if each["status"] != "failed")
        assert held <= charge["amount"], "I2: more than was paid"


async def check_settled(world: World) -> None:
    """I3, I5, I13: the two ledgers agree, and where nobody can know, a person was called."""
    orders = await world.orders()
    ours = {each.out_trade_no: each for order in orders for each in order.charges}
    now = world.lookalike.now()
    for shown in world.lookalike.newest_charges(EVERYTHING):
        assert shown["order_no"] in ours, "I3: a charge that Midas does not know"
        charge = ours[shown["order_no"]]
        if charge.operator_reason:
            continue
        payable = not shown["paid"] and not shown["reversed"] and now < shown["time_expire"]
        if shown["paid"]:
            wanted = C.REVERSED if shown["reversed"] else C.SUCCEEDED
            assert charge.state is wanted, f"I3: {wanted} at Ping++, and here {charge.state}"
        if payable:
            ended = charge.state in (C.FAILED, C.CLOSED)
            assert not ended, f"I5: {charge.state}, and the payer can still pay it"
    for order in orders:
        for charge in order.charges:
            assert charge.state is not C.SUBMITTING or charge.operator_reason, "I13: unknown"
            if charge.charge_id is not None:
                check_refunds(world.lookalike.refunds_of(charge.charge_id), order, charge)
