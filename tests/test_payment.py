"""The draft of an order: what a commit writes, and what is observed of its charges.

Whole values are compared. What a single observation makes of a row stands in test_charge.py and
test_refund.py; here stands which row it changes, and what is written beside it.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from midas.charge import REVERSING, WITHDRAWN, Charge, ChargeReport, ChargeState, ObservedBy
from midas.draft import Draft
from midas.payment import Change, JournalEntry, Order
from midas.refund import RefundReport, RefundState
from midas.sequences import EPOCH
from tests.orders import (
    BEFORE,
    CLOSED,
    COMMIT,
    EARLIER,
    FAILED,
    LATER,
    PENDING,
    POLL,
    QUERY,
    REVERSED,
    SUBMITTING,
    SUCCEEDED,
    WEBHOOK,
    Row,
    an_event,
    an_order,
    bare,
    charge,
    line,
    notice,
    observed,
    paid,
    refund,
    refund_facts,
    waiting,
    written,
)
from tests.records import NOON


def test_a_change_is_all_that_one_commit_writes() -> None:
    """Guarded by the version and the commit that it was decided by."""
    first, other = charge("T1", SUCCEEDED), charge("T2", CLOSED, created_at=LATER)
    given_back = refund("R1")
    base = an_order(first, other, given_back, sequence_floor=3)
    draft = Draft(base)
    newer, older = charge("T4", created_at=LATER), refund("R0", created_at=EARLIER)
    closing, sent = replace(other, superseded=True), replace(given_back, unsent=True)
    draft.add_charge(newer, "CREATE")
    draft.put(closing, ("charge_superseded", LATER, "CREATE"))
    draft.add_refund(older, "QUERY")
    draft.put(sent, ("refund_unsent", LATER, "POLL"))
    draft.record_event(an_event("evt_1"))
    draft.settle_event(an_event("evt_2"))
    draft.observe_charge("T4", paid("T4"), plan=False)
    made = draft.charge("T4")
    after = Order("o1", 5, 7, (first, closing, made), (older, sent), COMMIT, 3)
    change = draft.change(COMMIT)
    assert change == Change(
        order_no="o1",
        expected_version=4,
        expected_change=BEFORE,
        last_sequence=7,
        change_id=COMMIT,
        after=after,
        new_charges=(made,),
        changed_charges=(closing,),
        new_refunds=(older,),
        changed_refunds=(sent,),
        journal=(
            replace(line("T4", "charge_intended", "", "PENDING", "CREATE"), at=LATER),
            line("T2", "charge_superseded", "CLOSED", "CLOSED", "CREATE"),
            replace(
                line("R0", "refund_intended", "", "PENDING", "QUERY", amount=10, out_trade_no="T1"),
                at=EARLIER,
            ),
            line("R1", "refund_unsent", "PENDING", "PENDING", "POLL"),
            line("T4", "charge_succeeded", "PENDING", "SUCCEEDED", report="PAID", code=""),
        ),
        notifications=(notice("PAY_ORDER_SUCCESS", of="T4", duplicate_payment=True),),
        new_events=(an_event("evt_1"),),
        changed_events=(an_event("evt_2"),),
        sequence_floor=3,
        renumbers=False,
    )
    assert (change.after.last_change, change.after.sequence_floor) == (COMMIT, 3)
    assert draft.order == after
    assert (draft.order.last_change, draft.order.sequence_floor) == ("", 3)
    assert draft.base is base


STEPS: dict[str, tuple[Callable[[Draft], object], str | None]] = {
    "a charge": (lambda draft: draft.put(charge("T2")), "new_charges"),
    "a charge's date": (
        lambda draft: draft.put(charge("T1", due_at=LATER)),
        "changed_charges",
    ),
    "a refund": (lambda draft: draft.put(refund("R2")), "new_refunds"),
    "a refund's date": (
        lambda draft: draft.put(refund("R1", due_at=LATER)),
        "changed_refunds",
    ),
    "a line": (
        lambda draft: draft.observe_charge("T1", bare(ChargeReport.NO_ANSWER, POLL), plan=False),
        "journal",
    ),
    "an event": (lambda draft: draft.record_event(an_event()), "new_events"),
    "what became of an event": (lambda draft: draft.settle_event(an_event()), "changed_events"),
    "nothing": (lambda _: None, None),
    "the very same": (lambda draft: draft.put(draft.charge("T1")), None),
    "the same read again": (lambda draft: draft.put(charge("T1")), None),
}


@pytest.mark.parametrize("step", STEPS)
def test_every_single_thing_is_a_change(step: str) -> None:
    """It is written alone; where all is as it was, nothing is committed."""
    draft = Draft(an_order(charge("T1"), refund("R1")))
    act, field = STEPS[step]
    act(draft)
    assert list(written(draft)) == ([field] if field else [])
    assert (draft.change(COMMIT) is None) is (field is None)


INTENTS: dict[str, tuple[tuple[Callable[[Draft], object], ...], bool]] = {
    "a charge": ((lambda d: d.add_charge(charge("T2"), "CREATE"),), True),
    "a refund": ((lambda d: d.add_refund(refund("R2"), "CREATE"),), True),
    "both": (
        (
            lambda d: d.add_charge(charge("T2"), "CREATE"),
            lambda d: d.add_refund(refund("R2"), "CREATE"),
        ),
        True,
    ),
    "a charge, and a line": (
        (
            lambda d: d.add_charge(charge("T2"), "CREATE"),
            lambda d: d.observe_charge("T1", bare(ChargeReport.NO_ANSWER, POLL), plan=False),
        ),
        False,
    ),
    "a refund found at Ping++": (
        (lambda d: d.add_refund(refund("R2"), "QUERY", "refund_found_at_psp"),),
        False,
    ),
    "another date of a charge": (
        (lambda d: d.put(charge("T1", due_at=LATER)),),
        False,
    ),
    "another date of a refund": (
        (lambda d: d.put(refund("R1", due_at=LATER)),),
        False,
    ),
    "an event": ((lambda d: d.record_event(an_event()),), False),
    "what became of an event": ((lambda d: d.settle_event(an_event()),), False),
    "a charge, and an event": (
        (
            lambda d: d.add_charge(charge("T2"), "CREATE"),
            lambda d: d.record_event(an_event()),
        ),
        False,
    ),
}


@pytest.mark.parametrize("case", INTENTS)
def test_what_is_nothing_but_an_intent(case: str) -> None:
    """Nothing was learnt that is lost with it: it may be given up and asked for again."""
    draft = Draft(an_order(charge("T1"), refund("R1")))
    steps, is_intent = INTENTS[case]
    for step in steps:
        step(draft)
    change = draft.change(COMMIT)
    assert change is not None
    assert change.is_intent is is_intent


@pytest.mark.parametrize(
    ("state", "superseded", "reason"), list(product(ChargeState, (False, True), ("", "look at it")))
)
def test_a_charge_that_a_person_looks_at_is_not_due(
    state: ChargeState, superseded: bool, reason: str
) -> None:
    """If it is unknown or being closed; one that its payer may pay is still looked at."""
    row = charge("T1", state, superseded=superseded, operator_reason=reason, due_at=LATER)
    draft = Draft(an_order())
    draft.put(row)
    left = bool(reason) and (state is SUBMITTING or (state is PENDING and superseded))
    assert written(draft) == {"new_charges": (replace(row, due_at=None if left else LATER),)}


@pytest.mark.parametrize("reason", ["", "look at it"])
@pytest.mark.parametrize(
    ("state", "answer", "kept"),
    [
        (PENDING, f"{REVERSING}1", WITHDRAWN),
        (PENDING, "{}", "{}"),
        (SUBMITTING, f"{REVERSING}1", WITHDRAWN),
    ],
    ids=["reversed", "handed out", "declined"],
)
def test_what_a_person_looks_at_is_not_being_reversed(
    state: ChargeState, answer: str, kept: str | None, reason: str
) -> None:
    """Nobody looks again by himself, so a payment is believed."""
    known = {"superseded": True, "failure_code": "declined", "due_at": LATER}
    row = charge("T1", state, operator_reason=reason, answer=answer, **known)
    draft = Draft(an_order())
    draft.put(row)
    left = replace(row, due_at=None, answer=kept) if reason else row
    assert written(draft) == {"new_charges": (left,)}


@pytest.mark.parametrize(("state", "reason"), list(product(RefundState, ("", "look at it"))))
def test_a_refund_that_a_person_looks_at_is_not_due(state: RefundState, reason: str) -> None:
    """If it is unknown; what Ping++ works on is still looked at."""
    row = refund("R1", state, operator_reason=reason, due_at=LATER)
    draft = Draft(an_order())
    draft.put(row)
    left = bool(reason) and state is RefundState.SUBMITTING
    assert written(draft) == {"new_refunds": (replace(row, due_at=None if left else LATER),)}


# What is observed of a charge


def by_psp(before: Charge, state: ChargeState, by: ObservedBy = WEBHOOK, **values: Any) -> Charge:
    """The row once it has moved."""
    moved: dict[str, Any] = {"state": state, "observed_by": by, "updated_at": LATER}
    return replace(before, **moved | values)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "beside", [[], [charge("T2", CLOSED)], [charge("T0", CLOSED), charge("T2", SUCCEEDED)]]
)
def test_a_payment_is_written_and_announced(late: bool, beside: list[Charge]) -> None:
    """With the row, the line and the message in one commit; a second payment is called that."""
    first = charge("T1", CLOSED if late else PENDING)
    draft = Draft(an_order(first, *beside))
    twice = any(each.state is SUCCEEDED for each in beside)
    after = by_psp(first, SUCCEEDED, paid_at=NOON, late=late, duplicate_payment=twice)
    assert draft.observe_charge("T1", paid(), plan=False) == after
    assert draft.charge("T1") == after
    assert written(draft) == {
        "changed_charges": (after,),
        "journal": (
            line("T1", "charge_succeeded", first.state, SUCCEEDED, report="PAID", code=""),
        ),
        "notifications": (notice("PAY_ORDER_SUCCESS", late=late, duplicate_payment=twice),),
    }


def test_its_own_payment_does_not_make_a_charge_a_second_one() -> None:
    """Money that went back and comes again; and another charge's that was given back in full."""
    first, other = charge("T1", CLOSED), charge("T2", SUCCEEDED)
    given_back = refund("R1", RefundState.SUCCEEDED, "T2", amount=100)
    draft = Draft(an_order(first, other, given_back))
    assert draft.observe_charge("T1", paid(), plan=False).duplicate_payment is False
    assert draft.observe_charge("T1", paid(), plan=False).duplicate_payment is False


def test_what_is_no_news_is_not_announced() -> None:
    """The row has it, and the journal."""
    first = charge("T1", SUBMITTING)
    draft = Draft(an_order(first))
    after = by_psp(first, PENDING, QUERY, charge_id="ch_T1")
    assert draft.observe_charge("T1", waiting(), plan=False) == after
    assert written(draft) == {
        "changed_charges": (after,),
        "journal": (
            line("T1", "charge_pending", SUBMITTING, PENDING, QUERY, report="WAITING", code=""),
        ),
    }


UNKNOWN = (SUBMITTING, ChargeReport.NO_ANSWER)
RECURRING = [(PENDING, ChargeReport.WAITING), (SUCCEEDED, ChargeReport.WAITING)]


@pytest.mark.parametrize(("row", "by"), list(product([UNKNOWN, *RECURRING], ObservedBy)))
@pytest.mark.parametrize("looks", [0, 9, 10, 11])
def test_what_every_look_says_again_is_not_journaled_each_time(
    row: tuple[ChargeState, ChargeReport], by: ObservedBy, looks: int
) -> None:
    """That nothing is known is, of Midas's own first ten looks; callers may ask as they like."""
    state, report = row
    draft = Draft(an_order(charge("T1", state, looks=looks)))
    draft.observe_charge("T1", bare(report, by), plan=False)
    shown = row == UNKNOWN and by is not QUERY and looks < 10
    entry = line("T1", "charge_outcome_unknown", state, state, by, report=report.value, code="")
    assert written(draft) == ({"journal": (entry,)} if shown else {})


@pytest.mark.parametrize("row", [UNKNOWN, *RECURRING])
def test_what_recurs_is_journaled_with_what_else_was_changed(
    row: tuple[ChargeState, ChargeReport],
) -> None:
    """A row that is written has a line that says why."""
    state, report = row
    draft = Draft(an_order(charge("T1", state, looks=11)))
    draft.put(charge("T1", state, looks=12))
    draft.observe_charge("T1", bare(report), plan=False)
    (entry,) = written(draft)["journal"]
    assert (entry.subject, entry.state_before, entry.state_after) == ("T1", state, state)


@pytest.mark.parametrize("by", ObservedBy)
def test_what_is_not_believed_yet_is_not_journaled_by_every_look(by: ObservedBy) -> None:
    """Money that a reversal may take back; a webhook is something that Ping++ sent."""
    draft = Draft(an_order(charge("T1", PENDING, answer=REVERSING)))
    draft.observe_charge("T1", paid("T1", by), plan=False)
    entry = line("T1", "charge_is_being_reversed", PENDING, PENDING, by, report="PAID", code="")
    assert written(draft) == ({"journal": (entry,)} if by is WEBHOOK else {})


@pytest.mark.parametrize("by", ObservedBy)
def test_what_a_person_was_called_for_is_not_journaled_again_by_every_look(by: ObservedBy) -> None:
    """A webhook is: it is something that Ping++ sent."""
    draft = Draft(an_order(charge("T1")))
    draft.observe_charge("T1", waiting("T1", by, amount=99), plan=False)
    first = draft.change(COMMIT)
    assert first is not None
    draft = Draft(first.after)
    draft.observe_charge("T1", waiting("T1", by, amount=99), plan=False)
    again = first.journal if by is WEBHOOK else ()
    assert written(draft) == ({"journal": again} if again else {})


@pytest.mark.parametrize("by", [POLL, QUERY])
def test_what_contradicts_itself_is_journaled_once(by: ObservedBy) -> None:
    """However often Ping++ is asked."""
    draft = Draft(an_order(charge("T1", SUCCEEDED)))
    draft.observe_charge("T1", bare(ChargeReport.REFUSED, by), plan=False)
    first = draft.change(COMMIT)
    assert first is not None
    assert [each.event for each in first.journal] == ["charge_contradicted"]
    draft = Draft(first.after)
    draft.observe_charge("T1", bare(ChargeReport.REFUSED, by), plan=False)
    assert draft.change(COMMIT) is None


QUARANTINE = {
    "charge_id": "ch_9",
    "out_trade_no": "T1",
    "amount": 100,
    "currency": "cny",
    "app": "app_1",
    "livemode": False,
    "said": "PAID",
}
BOOKED: dict[str, tuple[tuple[Row, ...], frozenset[str]]] = {
    "as a charge": ((charge("T0", CLOSED), charge("T2", CLOSED, charge_id="ch_9")), frozenset()),
    "as a refund": (
        (refund("R0"), refund("R1", RefundState.FAILED, refund_id="ch_9")),
        frozenset(),
    ),
    "by another order": ((), frozenset({"ch_8", "ch_9"})),
}


@pytest.mark.parametrize("case", BOOKED)
def test_a_charge_that_is_booked_already_is_left_to_a_person(case: str) -> None:
    """One payment pays for one charge; and what was given back of it is not this one's either."""
    beside, foreign = BOOKED[case]
    first = charge("T1", SUBMITTING)
    draft = Draft(an_order(first, *beside), foreign=foreign)
    given_back = refund_facts("R7", RefundReport.DONE, charge_id="ch_9", refund_no="")
    after = draft.observe_charge("T1", paid(charge_id="ch_9", refunds=(given_back,)), plan=False)
    reason = "Ping++ answered with the charge ch_9, which is booked already"
    assert after == replace(first, operator_reason=reason, updated_at=LATER)
    entry = line("T1", "charge_quarantined", SUBMITTING, SUBMITTING, fields=["charge_id"])
    assert written(draft) == {
        "changed_charges": (after,),
        "journal": (replace(entry, detail={**entry.detail, **QUARANTINE}),),
    }


@pytest.mark.parametrize("case", BOOKED)
def test_what_is_not_answered_is_not_booked(case: str) -> None:
    """Without facts nothing can be another row's."""
    beside, foreign = BOOKED[case]
    draft = Draft(an_order(charge("T1", SUBMITTING), *beside), foreign=foreign)
    draft.observe_charge("T1", bare(ChargeReport.REFUSED), plan=False)
    assert draft.charge("T1").state is FAILED


def test_the_refunds_of_a_charge_come_with_it() -> None:
    """They are part of what Ping++ tells of the charge."""
    first, asked = charge("T1", SUCCEEDED, paid_at=NOON), refund("R1")
    draft = Draft(an_order(first, asked))
    after = replace(
        asked,
        state=RefundState.SUCCEEDED,
        observed_by="WEBHOOK",
        updated_at=LATER,
        refund_id="re_R1",
    )
    assert draft.observe_charge("T1", paid(refunds=(refund_facts(),)), plan=False) == first
    assert written(draft) == {
        "changed_refunds": (after,),
        "journal": (line("R1", "refund_succeeded", PENDING, SUCCEEDED, report="DONE", code=""),),
        "notifications": (notice("REFUND_SUCCESS", refund_no="R1"),),
    }


def test_the_refunds_of_another_charge_do_not() -> None:
    """Where the charge is not the one that was asked for, nor are its refunds."""
    draft = Draft(an_order(charge("T1", SUCCEEDED), refund("R1")))
    draft.observe_charge("T1", paid(amount=99, refunds=(refund_facts(),)), plan=False)
    assert draft.refund("R1") == refund("R1")
    assert [each.event for each in written(draft)["journal"]] == ["charge_quarantined"]


def test_a_charge_is_answered_as_its_refunds_have_left_it() -> None:
    """A refund that another charge has calls a person to this one."""
    other = refund("R2", RefundState.PENDING, "T2")
    draft = Draft(an_order(charge("T1", SUCCEEDED, paid_at=NOON), charge("T2", SUCCEEDED), other))
    after = draft.observe_charge("T1", paid(refunds=(refund_facts("R2"),)), plan=False)
    assert after == draft.charge("T1")
    assert (
        after.operator_reason == "Ping++ lists the refund re_R2, which another charge has already"
    )


# A second charge under the number of one


def second(**values: Any) -> Charge:
    """The row of another charge that Ping++ has under the number T1."""
    known: dict[str, Any] = {
        "out_trade_no": "ch_2",
        "charge_id": "ch_2",
        "updated_at": LATER,
        "state": PENDING,
        "superseded": True,
        "answer": WITHDRAWN,
        "due_at": LATER,
    }
    return charge("T1", **known | values)


def doubled(state: ChargeState, by: str) -> tuple[JournalEntry, JournalEntry]:
    """The lines of its finding."""
    return (
        line("T1", "charge_doubled", state, state, by, charge_id="ch_2", amount=100),
        line("ch_2", "charge_found_at_psp", "", SUBMITTING, by, out_trade_no="T1", amount=100),
    )


def test_a_second_charge_is_booked_as_one_of_its_own() -> None:
    """And the first one is as it was: unpaid, the second is to be closed."""
    first = charge("T1", PENDING, created_at=EARLIER)
    draft = Draft(an_order(first))
    assert draft.observe_charge("T1", waiting("T1", charge_id="ch_2"), plan=False) == first
    found = second(observed_by=QUERY)
    assert written(draft) == {
        "new_charges": (found,),
        "journal": (
            *doubled(PENDING, QUERY),
            line("ch_2", "charge_pending", SUBMITTING, PENDING, QUERY, report="WAITING", code=""),
        ),
    }


def test_a_second_charge_is_found_once() -> None:
    """From then on it has a row, and a charge that is shown under the number may be that one."""
    first, found = charge("T1", PENDING, created_at=EARLIER), second()
    draft = Draft(an_order(first, found))
    assert draft.observe_charge("T1", waiting("T1", charge_id="ch_2"), plan=False) == first
    assert draft.change(COMMIT) is None


def test_a_second_charge_that_is_paid_makes_the_first_one_go() -> None:
    """Its payer shall not pay twice."""
    first = charge("T1", PENDING, created_at=EARLIER)
    draft = Draft(an_order(first))
    closing = replace(first, superseded=True, due_at=LATER)
    assert draft.observe_charge("T1", paid(charge_id="ch_2"), plan=False) == closing
    found = second(state=SUCCEEDED, observed_by=WEBHOOK, paid_at=NOON, answer=None, due_at=None)
    assert written(draft) == {
        "new_charges": (found,),
        "changed_charges": (closing,),
        "journal": (
            *doubled(PENDING, WEBHOOK),
            line("ch_2", "charge_succeeded", SUBMITTING, SUCCEEDED, report="PAID", code=""),
            line("T1", "charge_superseded", PENDING, PENDING),
        ),
        "notifications": (notice("PAY_ORDER_SUCCESS", of="ch_2"),),
    }


@pytest.mark.parametrize("state", [SUCCEEDED, CLOSED, FAILED, REVERSED])
def test_a_first_charge_that_is_over_has_no_way_to_make(state: ChargeState) -> None:
    """Paid both, the second payment is a duplicate."""
    first = charge("T1", state)
    draft = Draft(an_order(first))
    assert draft.observe_charge("T1", paid(charge_id="ch_2"), plan=False) is first
    assert draft.charge("ch_2").duplicate_payment is (state is SUCCEEDED)
    assert "changed_charges" not in written(draft)


def test_a_second_charge_that_another_order_has_is_left_to_a_person() -> None:
    """No row of this order can have its id."""
    first = charge("T1")
    draft = Draft(an_order(first), foreign=frozenset({"ch_2"}))
    after = draft.observe_charge("T1", waiting("T1", charge_id="ch_2"), plan=False)
    reason = "Ping++ told of another charge_id than was asked for"
    assert after == replace(first, operator_reason=reason, updated_at=LATER)
    assert list(draft.order.charges) == [after]


# Numbers


@pytest.mark.parametrize(
    ("last", "floor", "first"), [(0, 0, 1), (6, 0, 7), (6, EPOCH, EPOCH + 1), (9, 8, 10)]
)
def test_messages_are_numbered_above_the_last_one_and_the_floor(
    last: int, floor: int, first: int
) -> None:
    """One after the other."""
    rows: list[Row] = [charge("T1"), refund("R1"), refund("R2")]
    draft = Draft(an_order(*rows, last_sequence=last, sequence_floor=floor))
    assert draft.order.last_sequence == last
    draft.observe_charge("T1", paid(), plan=False)
    for each in ("R1", "R2"):
        draft.observe_refund(each, observed(refund_facts(each)), plan=False)
    change = draft.change(COMMIT)
    assert change is not None
    assert [each.sequence for each in change.notifications] == [first, first + 1, first + 2]
    assert change.last_sequence == change.after.last_sequence == first + 2


@pytest.mark.parametrize(
    ("last", "floor", "above", "epoch"),
    [
        (6, 0, 0, EPOCH),
        (2 * EPOCH, EPOCH, 0, 3 * EPOCH),
        (6, EPOCH, 6, 2 * EPOCH),
        (6, EPOCH, 3 * EPOCH + 5, 4 * EPOCH),
    ],
)
def test_what_is_renumbered_has_numbers_of_a_new_epoch(
    last: int, floor: int, above: int, epoch: int
) -> None:
    """None of them was used for anything else, and nothing before them is to be announced."""
    sent = [notice("PAY_ORDER_SUCCESS", 5), notice("REFUND_SUCCESS", 3, refund_no="R1")]
    draft = Draft(an_order(charge("T1"), last_sequence=last, sequence_floor=floor))
    draft.renumber_notifications(sent, above, LATER)
    change = draft.change(COMMIT)
    assert change is not None
    assert change.renumbers
    assert change.notifications == (
        notice("PAY_ORDER_SUCCESS", epoch + 1, told_again=True),
        notice("REFUND_SUCCESS", epoch + 2, refund_no="R1", told_again=True),
    )
    assert change.last_sequence == epoch + 2
    detail: dict[str, Any] = {"above": above, "first": epoch + 1, "count": 2}
    assert change.journal == (line("o1", "notifications_renumbered", by="RESOLVE", **detail),)
