"""What a failover has lost of an order, and the draft puts back."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from midas.charge import Charge
from midas.draft import Draft
from midas.payment import JournalEntry, refunds_by_age
from midas.refund import Refund, RefundState
from tests.orders import (
    CLOSED,
    COMMIT,
    FAILED,
    LATER,
    PENDING,
    SUBMITTING,
    SUCCEEDED,
    WEBHOOK,
    Row,
    an_order,
    charge,
    line,
    notice,
    refund,
    written,
)
from tests.records import NOON


def restored(here: Iterable[Row], known: Iterable[Row], *foreign: str) -> Draft:
    """An order that had all of `known`, put back."""
    draft = Draft(an_order(*here), foreign=frozenset(foreign))
    draft.restore(an_order(*known), LATER)
    return draft


def back(subject: str, state: str) -> JournalEntry:
    """The line of it."""
    kind = "refund" if subject.startswith("R") else "charge"
    return line(subject, f"{kind}_restored", "", state, "RESOLVE")


def test_what_was_lost_is_put_back_and_announced_again() -> None:
    """Under new numbers, by whom it was observed: its messages are lost, too."""
    rows: list[Row] = [
        charge("T1", CLOSED, observed_by=WEBHOOK, absent_since=NOON),
        charge("T2", SUCCEEDED, late=True),
        charge("T3", FAILED),
        refund("R1", RefundState.SUCCEEDED, "T2", observed_by="QUERY", absent_since=NOON),
        refund("R2", RefundState.FAILED, "T2"),
        refund("R3", RefundState.PENDING, "T2"),
    ]
    again: dict[str, Any] = {"told_again": True}
    draft = restored([], rows)
    assert written(draft) == {
        "new_charges": (replace(rows[0], absent_since=None), *rows[1:3]),
        "new_refunds": (replace(rows[3], absent_since=None), *rows[4:]),
        "journal": (
            *(back("T1", CLOSED), back("T2", SUCCEEDED), back("T3", FAILED)),
            *(back("R1", SUCCEEDED), back("R2", FAILED), back("R3", PENDING)),
        ),
        "notifications": (
            notice("PAY_ORDER_CLOSED", 7, "WEBHOOK", "T1", **again),
            notice("PAY_ORDER_SUCCESS", 8, "RESOLVE", "T2", late=True, **again),
            notice("REFUND_SUCCESS", 9, "QUERY", "T2", refund_no="R1", **again),
            notice("REFUND_FAILED", 10, "RESOLVE", "T2", refund_no="R2", **again),
        ),
    }


def test_what_is_there_stays_as_it_is() -> None:
    """The database is newer than what was remembered."""
    here: list[Row] = [
        charge("T1", SUCCEEDED),
        charge("T2", SUBMITTING, looks=3),
        refund("R1", RefundState.SUCCEEDED),
    ]
    known: list[Row] = [
        charge("T1", PENDING, absent_since=NOON),
        charge("T2", SUBMITTING),
        refund("R1", absent_since=NOON),
    ]
    assert restored(here, known).change(COMMIT) is None
    assert restored(here, []).change(COMMIT) is None


def test_what_another_order_has_by_now_stays_away() -> None:
    """With the refunds of it: they have no charge."""
    known: list[Row] = [
        charge("T1", SUCCEEDED),
        refund("R1"),
        charge("T2", SUCCEEDED, charge_id="ch_9"),
    ]
    assert restored([], known, "ch_T1", "ch_9").change(COMMIT) is None
    here = [charge("T3", CLOSED, charge_id="ch_9")]
    assert restored(here, known, "ch_T1").change(COMMIT) is None


def test_what_was_never_named_by_ping_is_put_back() -> None:
    """Nobody can have it under an id; whether Ping++ has it is found out anew."""
    known: list[Row] = [charge("T1", SUBMITTING), refund("R1", RefundState.SUBMITTING)]
    assert written(restored([], known, "ch_9")) == {
        "new_charges": (known[0],),
        "new_refunds": (known[1],),
        "journal": (back("T1", SUBMITTING), back("R1", SUBMITTING)),
    }


REPLACED: dict[str, tuple[list[Charge], Charge, dict[str, Any]]] = {
    "nothing else is there": ([], charge("T1"), {}),
    "another one is open": ([charge("T2")], charge("T1"), {"superseded": True, "due_at": LATER}),
    "another one is unknown": (
        [charge("T2", SUBMITTING)],
        charge("T1", SUBMITTING),
        {"superseded": True, "due_at": LATER},
    ),
    "a person looks at it": (
        [charge("T2")],
        charge("T1", due_at=NOON, operator_reason="look at it"),
        {"superseded": True, "due_at": None},
    ),
    "another one is over": ([charge("T2", CLOSED)], charge("T1"), {}),
    "it is over itself": ([charge("T2")], charge("T1", FAILED), {}),
    "it is being closed": ([charge("T2")], charge("T1", superseded=True, due_at=NOON), {}),
}


@pytest.mark.parametrize("case", REPLACED)
def test_one_charge_of_an_order_is_open(case: str) -> None:
    """What was replaced while it was away is to be closed, at once."""
    here, lost, changes = REPLACED[case]
    row = replace(lost, **changes)
    assert written(restored(here, [lost])) == {
        "new_charges": (row,),
        "journal": (back("T1", lost.state),),
    }


def test_of_two_that_were_lost_one_is_open() -> None:
    """The older one."""
    lost = [charge("T1"), charge("T2")]
    closing = replace(lost[1], superseded=True, due_at=LATER)
    assert written(restored([], lost))["new_charges"] == (lost[0], closing)


@pytest.mark.parametrize("unsent", [False, True])
def test_a_refund_that_is_put_back_is_not_sent(unsent: bool) -> None:
    """That it had not left was true then; it is looked for at once."""
    lost = refund("R1", RefundState.SUBMITTING, unsent=unsent, due_at=NOON)
    changes: dict[str, Any] = {"unsent": False, "updated_at": LATER, "due_at": LATER}
    assert written(restored([charge("T1", SUCCEEDED)], [lost])) == {
        "new_refunds": (replace(lost, **(changes if unsent else {})),),
        "journal": (back("R1", SUBMITTING),),
    }


FREE: dict[str, tuple[Refund, list[Refund], list[str], dict[str, Any] | None]] = {
    "all is free": (refund("R1"), [], ["R9", "re_R9"], {}),
    "the key has another order": (
        refund("R1"),
        [],
        ["R1"],
        {"refund_no": "re_R1", "external": True, "content_digest": ""},
    ),
    "the key has another order, and there is no id": (
        refund("R1", RefundState.SUBMITTING),
        [],
        ["R1"],
        None,
    ),
    "the id has another order": (refund("R1"), [], ["re_R1"], None),
    "both has another order": (refund("R1"), [], ["R1", "re_R1"], None),
    "the id has another row": (refund("R1"), [refund("R2", refund_id="re_R1")], [], None),
    "the id is the key of another row": (refund("R1"), [refund("re_R1")], ["R1"], None),
}


@pytest.mark.parametrize("case", FREE)
def test_a_refund_is_put_back_under_a_key_that_is_free(case: str) -> None:
    """Else under Ping++'s id, as one that was made elsewhere; what is booked stays away."""
    lost, beside, foreign, changes = FREE[case]
    draft = restored([charge("T1", SUCCEEDED), *beside], [lost], *foreign)
    expected = [] if changes is None else [replace(lost, **changes)]
    assert draft.order.refunds == refunds_by_age([*beside, *expected])
    assert [each.subject for each in written(draft).get("journal", ())] == [
        each.refund_no for each in expected
    ]


PAID_MEANWHILE: dict[str, tuple[list[Charge], list[Row], bool]] = {
    "by nobody": ([charge("T3", CLOSED)], [charge("T1", SUCCEEDED)], False),
    "by another one": (
        [charge("T2", SUCCEEDED), charge("T3", CLOSED)],
        [charge("T1", SUCCEEDED)],
        True,
    ),
    "by one that was known then": (
        [charge("T2", SUCCEEDED)],
        [charge("T1", SUCCEEDED), charge("T2", SUCCEEDED)],
        False,
    ),
    "by one that was known then, and not paid": (
        [charge("T2", SUCCEEDED)],
        [charge("T1", SUCCEEDED), charge("T2", superseded=True)],
        True,
    ),
    "and this one was given back": (
        [charge("T2", SUCCEEDED)],
        [charge("T1", SUCCEEDED), refund("R1", RefundState.SUCCEEDED, amount=100)],
        False,
    ),
    "and this one was not paid": ([charge("T2", SUCCEEDED)], [charge("T1", CLOSED)], False),
}


@pytest.mark.parametrize("case", PAID_MEANWHILE)
def test_a_payment_of_what_was_paid_for_meanwhile_is_a_duplicate_one(case: str) -> None:
    """The order service hears so, and the row says so."""
    here, known, duplicate = PAID_MEANWHILE[case]
    change = restored(here, known).change(COMMIT)
    assert change is not None
    (row,) = change.new_charges
    assert row == replace(charge("T1", row.state), duplicate_payment=duplicate)
    assert change.notifications[0].duplicate_payment is duplicate


def test_no_charge_is_a_duplicate_of_itself() -> None:
    """Given back in full as it was known, it holds its money again: its refund stays away."""
    given_back = refund("R1", RefundState.SUCCEEDED, amount=100)
    known: list[Row] = [charge("T1", SUCCEEDED), given_back]
    change = restored([], known, "R1", given_back.refund_id or "").change(COMMIT)
    assert change is not None
    assert (change.new_charges, change.new_refunds) == ((charge("T1", SUCCEEDED),), ())
