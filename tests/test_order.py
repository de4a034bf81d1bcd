"""Every question to an order, and what it does not hold."""

from dataclasses import fields, replace
from itertools import product

import pytest

from midas.charge import ChargeState
from midas.draft import Draft
from midas.errors import StorageUnavailable
from midas.payment import Change, JournalEntry, Notification, Order, charges_by_age, refunds_by_age
from midas.refund import RefundState
from midas.sequences import EPOCH
from tests.orders import (
    CLOSED,
    COMMIT,
    EARLIER,
    SUBMITTING,
    SUCCEEDED,
    Row,
    an_order,
    charge,
    refund,
)
from tests.records import NOON

OPEN_CHARGES = {"SUBMITTING", "PENDING"}
OPEN_REFUNDS = {"SUBMITTING", "PENDING"}


def test_what_an_order_or_a_message_does_not_hold() -> None:
    """An order that is not stored, and a message that is nothing but that."""
    order = Order("o1")
    assert [getattr(order, each.name) for each in fields(order)] == ["o1", 0, 0, (), (), "", 0]
    assert JournalEntry("o1", "T1", "event", NOON, "QUERY", "", "").detail == {}
    sent = Notification("o1", 1, "PAY_ORDER_SUCCESS", NOON, "QUERY", "T1")
    assert (sent.refund_no, sent.late, sent.duplicate_payment) == ("", False, False)
    assert (sent.change_id, sent.told_again) == ("", False)
    change = Change("o1", 0, "", 0, COMMIT, order)
    assert [getattr(change, each.name) for each in fields(change)][6:] == [()] * 8 + [0, False]


def test_orders_are_compared_by_what_is_in_them() -> None:
    """Not by who wrote them, nor by what the store knows of all orders."""
    order = an_order(charge(), last_change="one", sequence_floor=EPOCH)
    assert order == replace(order, last_change="another")
    assert order == replace(order, sequence_floor=0)
    for other in ({"version": 5}, {"last_sequence": 7}, {"charges": ()}, {"refunds": (refund(),)}):
        assert order != replace(order, **other)


IN_THE_WAY = {
    "nothing at all": ([], None, None),
    "one that waits for its payer": ([charge("T1")], "T1", "T1"),
    "one that is unknown": ([charge("T1", SUBMITTING)], "T1", "T1"),
    "the older of two": ([charge("T1"), charge("T2")], "T1", "T1"),
    "an unknown one before an older open one": (
        [charge("T1"), charge("T2", SUBMITTING)],
        *("T1", "T2"),
    ),
    "one that is being closed": ([charge("T1", superseded=True)], None, None),
    "an unknown one that is being closed": (
        [charge("T1", SUBMITTING, superseded=True)],
        *(None, "T1"),
    ),
    "what is over": ([charge(each, each) for each in list(ChargeState)[2:]], None, None),
    "what is over, and an open one": ([charge("T1", CLOSED), charge("T2")], "T2", "T2"),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_what_stands_in_the_way_of_another_charge(case: str) -> None:
    """One that is being closed does not; unless nobody knows whether Ping++ has it."""
    rows, is_open, is_blocking = IN_THE_WAY[case]
    order = an_order(*rows)
    assert [each and each.out_trade_no for each in (order.open_charge, order.blocking_charge)] == [
        is_open,
        is_blocking,
    ]


@pytest.mark.parametrize("state", ChargeState)
@pytest.mark.parametrize(("given_back", "all_of_it"), [(0, False), (99, False), (100, True)])
def test_which_charge_holds_the_money_of_the_order(
    state: ChargeState, given_back: int, all_of_it: bool
) -> None:
    """One that is paid, until all of it was given back."""
    holder = charge("T1", state)
    order = an_order(
        charge("T0", CLOSED),
        holder,
        refund("R1", RefundState.SUCCEEDED, amount=given_back),
        refund("R2", RefundState.PENDING, amount=100),
        refund("R3", RefundState.SUCCEEDED, "T0", amount=100),
    )
    holds = state is SUCCEEDED and not all_of_it
    assert order.holds_money(holder) is holds
    assert order.paying_charge == (holder if holds else None)


def test_what_was_given_back_of_a_charge() -> None:
    """Only what Ping++ reports as done, and only of this charge."""
    done = refund("R1", RefundState.SUCCEEDED, amount=30)
    rest = [refund(f"R{n}", each, amount=7) for n, each in enumerate(RefundState, 2)]
    others = refund("R9", RefundState.SUCCEEDED, "T2", amount=50)
    order = an_order(charge("T1", SUCCEEDED), done, *rest, others)
    assert order.refunds_of("T1") == (done, *rest)
    assert (order.refunded("T1"), order.refunded("T2"), order.refunded("T3")) == (37, 50, 0)


REFUNDABLE = {
    "all of it": ([], 100),
    "not what is unknown": ([refund("R1", RefundState.SUBMITTING)], 90),
    "not what Ping++ works on": ([refund("R1")], 90),
    "not what is done": ([refund("R1", RefundState.SUCCEEDED)], 90),
    "what failed": ([refund("R1", RefundState.FAILED)], 100),
    "not what failed and is in doubt": (
        [refund("R1", RefundState.FAILED, operator_reason="Ping++ works on it")],
        90,
    ),
    "the rest": ([refund("R1", amount=60), refund("R2", RefundState.SUCCEEDED, amount=39)], 1),
    "nothing of what is spent": ([refund("R1", amount=100)], 0),
    "nothing where too much was given back": ([refund("R1", amount=101)], 0),
    "whatever happened to another charge": ([refund("R1", RefundState.PENDING, "T2")], 100),
}


@pytest.mark.parametrize("case", REFUNDABLE)
def test_what_may_still_be_given_back(case: str) -> None:
    """What may have left counts as spent, so that no more is ever given back than was paid."""
    rows, left = REFUNDABLE[case]
    assert an_order(*rows).refundable(charge("T1", SUCCEEDED)) == left


@pytest.mark.parametrize("state", ChargeState)
def test_only_what_is_paid_may_be_given_back(state: ChargeState) -> None:
    """No money came by any other charge, or it went back already."""
    assert an_order().refundable(charge("T1", state)) == (100 if state is SUCCEEDED else 0)


@pytest.mark.parametrize(("now", "known"), list(product(ChargeState, ChargeState)))
def test_an_order_is_behind_by_a_charge(now: ChargeState, known: ChargeState) -> None:
    """What was over and is open again was lost: no commit reopens a charge."""
    behind = now in OPEN_CHARGES and known not in OPEN_CHARGES
    here, remembered = an_order(charge("T1", now)), an_order(charge("T1", known))
    assert here.is_behind(remembered) is behind
    assert here.has_lost(remembered) is behind
    fine: list[Row] = [charge("T0", SUCCEEDED), charge("T2")]
    rows = an_order(charge("T1", now), *fine), an_order(charge("T1", known), *fine)
    assert rows[0].is_behind(rows[1]) is behind


@pytest.mark.parametrize(("now", "known"), list(product(RefundState, RefundState)))
def test_an_order_is_behind_by_a_refund(now: RefundState, known: RefundState) -> None:
    """The same."""
    behind = now in OPEN_REFUNDS and known not in OPEN_REFUNDS
    here, remembered = an_order(refund("R1", now)), an_order(refund("R1", known))
    assert here.is_behind(remembered) is behind
    assert here.has_lost(remembered) is behind
    fine: list[Row] = [charge("T1", SUCCEEDED), refund("R0", RefundState.SUCCEEDED), refund("R2")]
    rows = an_order(refund("R1", now), *fine), an_order(refund("R1", known), *fine)
    assert rows[0].is_behind(rows[1]) is behind


ALL: list[Row] = [
    charge("T1", CLOSED),
    charge("T2"),
    refund("R1", RefundState.FAILED),
    refund("R2"),
]
LOST: dict[str, tuple[list[Row], list[Row], bool]] = {
    "nothing": (ALL, ALL, False),
    "nothing of a part": (ALL, ALL[1:3], False),
    "nothing where nothing was known": (ALL, [], False),
    "everything": ([], ALL, True),
    "a charge": (ALL[1:], ALL, True),
    "a refund": (ALL[:3], ALL, True),
    "the end of a charge": ([charge("T1"), *ALL[1:]], ALL, True),
    "the end of a refund": ([*ALL[:2], refund("R1"), ALL[3]], ALL, True),
}


@pytest.mark.parametrize("case", LOST)
def test_what_an_order_has_lost(case: str) -> None:
    """Rows are never deleted: what was there once and is not, a failover has lost."""
    here, known, lost = LOST[case]
    assert an_order(*here).has_lost(an_order(*known)) is lost


def test_a_row_that_is_not_there_is_no_answer() -> None:
    """Whoever asks for it had it from the database: the storage is in trouble, not the caller."""
    order = an_order(*ALL)
    for asked in (order, Draft(order)):
        assert [asked.charge("T1"), asked.charge("T2")] == ALL[:2]
        assert [asked.refund("R1"), asked.refund("R2")] == ALL[2:]
        with pytest.raises(StorageUnavailable):
            asked.charge("R1")
        with pytest.raises(StorageUnavailable):
            asked.refund("T1")


def test_rows_stand_by_age() -> None:
    """Of the same moment by their number, so that two readers have the same order."""
    by_age = [charge("T3", created_at=EARLIER), charge("T1"), charge("T2")]
    assert charges_by_age(by_age[::-1]) == tuple(by_age)
    given_back = [refund("R3", created_at=EARLIER), refund("R1"), refund("R2")]
    assert refunds_by_age(given_back[::-1]) == tuple(given_back)
    draft = Draft(an_order(*reversed(by_age), *reversed(given_back)))
    assert draft.order.charges == tuple(by_age)
    assert draft.order.refunds == tuple(given_back)
