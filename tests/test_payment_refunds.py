"""What is observed of an order's refunds, and what is found in Ping++'s lists of them."""

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from midas.draft import Draft
from midas.payment import JournalEntry
from midas.refund import Refund, RefundFacts, RefundObservation, RefundReport, RefundState
from tests.orders import (
    COMMIT,
    EARLIER,
    LATER,
    PENDING,
    SUBMITTING,
    SUCCEEDED,
    Row,
    an_order,
    charge,
    line,
    notice,
    observed,
    refund,
    refund_facts,
    written,
)
from tests.records import NOON


def test_the_end_of_a_refund_is_written_and_announced() -> None:
    """A message of a refund says nothing of how its charge was paid."""
    paid_late = charge("T1", SUCCEEDED, late=True, duplicate_payment=True)
    asked = refund("R1", RefundState.SUBMITTING)
    draft = Draft(an_order(paid_late, asked))
    after = replace(
        asked,
        state=RefundState.SUCCEEDED,
        observed_by="WEBHOOK",
        updated_at=LATER,
        refund_id="re_R1",
    )
    assert draft.observe_refund("R1", observed(refund_facts()), plan=False) == after
    assert draft.refund("R1") == after
    assert written(draft) == {
        "changed_refunds": (after,),
        "journal": (line("R1", "refund_succeeded", SUBMITTING, SUCCEEDED, report="DONE", code=""),),
        "notifications": (notice("REFUND_SUCCESS", refund_no="R1"),),
    }


def test_a_refund_that_ping_works_on_is_not_announced() -> None:
    """Its id is known from now on."""
    asked = refund("R1", RefundState.SUBMITTING)
    draft = Draft(an_order(charge("T1", SUCCEEDED), asked))
    draft.observe_refund("R1", observed(refund_facts("R1", RefundReport.WORKING)), plan=False)
    assert list(written(draft)) == ["changed_refunds", "journal"]


@pytest.mark.parametrize(
    ("report", "event", "shown"),
    [
        (RefundReport.WORKING, "refund_still_pending", False),
        (RefundReport.NO_ANSWER, "refund_outcome_unknown", True),
    ],
)
@pytest.mark.parametrize(("by", "looks"), list(product(["POLL", "QUERY"], [0, 9, 10])))
def test_what_every_look_says_of_a_refund_is_not_journaled_each_time(
    report: RefundReport, event: str, shown: bool, by: str, looks: int
) -> None:
    """As it is with charges."""
    draft = Draft(an_order(charge("T1", SUCCEEDED), refund("R1", looks=looks)))
    draft.observe_refund("R1", RefundObservation(report, by, LATER), plan=False)
    entry = line("R1", event, PENDING, PENDING, by, report=report.value, code="")
    shown = shown and by == "POLL" and looks < 10
    assert written(draft) == ({"journal": (entry,)} if shown else {})
    draft.put(refund("R1", due_at=LATER))
    draft.observe_refund("R1", RefundObservation(report, by, LATER), plan=False)
    assert written(draft)["journal"] == ((entry, entry) if shown else (entry,))


@pytest.mark.parametrize(
    ("state", "report", "event"),
    [
        (RefundState.SUBMITTING, RefundReport.ABSENT, "refund_needs_operator"),
        (RefundState.PENDING, RefundReport.ABSENT, "refund_contradicted"),
    ],
)
def test_what_a_person_was_called_for_with_a_refund_is_journaled_once(
    state: RefundState, report: RefundReport, event: str
) -> None:
    """However often Ping++ is asked."""
    draft = Draft(an_order(charge("T1", SUCCEEDED), refund("R1", state)))
    draft.observe_refund("R1", RefundObservation(report, "POLL", LATER), plan=False)
    first = draft.change(COMMIT)
    assert first is not None
    assert [each.event for each in first.journal] == [event]
    draft = Draft(first.after)
    draft.observe_refund("R1", RefundObservation(report, "POLL", LATER), plan=False)
    assert draft.change(COMMIT) is None


@pytest.mark.parametrize("where", ["here", "in another order", "nowhere"])
def test_a_refund_that_is_booked_already_is_left_to_a_person(where: str) -> None:
    """Money that went back once is one refund."""
    asked = refund("R1", RefundState.SUBMITTING)
    beside = [refund("R2", refund_id="re_9")] if where == "here" else []
    foreign = frozenset({"re_9"} if where == "in another order" else ())
    draft = Draft(an_order(charge("T1", SUCCEEDED), asked, *beside), foreign=foreign)
    after = draft.observe_refund("R1", observed(refund_facts(refund_id="re_9")), plan=False)
    reason = "Ping++ answered with the refund re_9, which is booked already"
    raised = replace(asked, operator_reason=reason, updated_at=LATER)
    assert (after == raised) is (where != "nowhere")
    assert (after.state is RefundState.SUCCEEDED) is (where == "nowhere")


def test_an_unanswered_look_at_a_refund_is_not_booked() -> None:
    """Without facts nothing can be another row's, nor a second refund."""
    draft = Draft(an_order(charge("T1", SUCCEEDED), refund("R1", RefundState.SUBMITTING)))
    after = draft.observe_refund(
        "R1", RefundObservation(RefundReport.REFUSED, "POLL", LATER), plan=False
    )
    assert after.state is RefundState.FAILED


# Refunds that Ping++ lists


REPORTED_DONE = {"said": "DONE", "code": ""}


def found(key: str, **values: Any) -> Refund:
    """The row of a refund that was made elsewhere, done by now."""
    known: dict[str, Any] = {
        "refund_id": key,
        "description": "by hand",
        "content_digest": "",
        "updated_at": LATER,
        "observed_by": "WEBHOOK",
        "external": True,
    }
    return refund(key, RefundState.SUCCEEDED, **known | values)


def lines_of_finding(key: str) -> tuple[JournalEntry, JournalEntry]:
    """What the journal says of it."""
    intended = line(key, "refund_found_at_psp", "", PENDING, amount=10, out_trade_no="T1")
    return (
        replace(intended, at=NOON),
        line(key, "refund_succeeded", PENDING, SUCCEEDED, **REPORTED_DONE),
    )


def elsewhere(refund_no: str = "", **values: Any) -> RefundFacts:
    """A refund at Ping++ that has no row here."""
    known: dict[str, Any] = {"refund_id": "re_9", "refund_no": refund_no, "description": "by hand"}
    return refund_facts("R9", **known | values)


@pytest.mark.parametrize(
    ("facts", "foreign", "row"),
    [
        (elsewhere(), [], found("re_9")),
        (elsewhere("R9"), [], found("R9", refund_id="re_9", external=False)),
        (elsewhere("R9"), ["R9"], found("re_9")),
    ],
)
def test_a_refund_that_was_made_elsewhere_is_taken_in(
    facts: RefundFacts, foreign: list[str], row: Refund
) -> None:
    """Under our key if it has one that is free: a call that is repeated must find it."""
    draft = Draft(an_order(charge("T1", SUCCEEDED)), foreign=frozenset(foreign))
    draft.observe_refund_list("T1", [facts], "WEBHOOK", LATER)
    assert written(draft) == {
        "new_refunds": (row,),
        "journal": lines_of_finding(row.refund_no),
        "notifications": (notice("REFUND_SUCCESS", refund_no=row.refund_no),),
    }


def test_a_refund_that_was_taken_in_is_looked_at_until_it_ends() -> None:
    """As any other that Ping++ works on."""
    draft = Draft(an_order(charge("T1", SUCCEEDED, currency="usd", app_id="app_9")))
    facts = elsewhere(report=RefundReport.WORKING)
    draft.observe_refund_list("T1", [facts], "WEBHOOK", LATER)
    (row,) = written(draft)["new_refunds"]
    assert row == found(
        "re_9",
        state=RefundState.PENDING,
        observed_by=None,
        due_at=LATER + timedelta(seconds=15),
        currency="usd",
        app_id="app_9",
    )


def test_a_refund_that_does_not_fit_its_charge_is_taken_in_for_a_person() -> None:
    """Under its id, so that the next look finds it again and not a second one."""
    draft = Draft(an_order(charge("T1", SUCCEEDED)))
    for _ in range(2):
        draft.observe_refund_list("T1", [elsewhere(currency="usd")], "POLL", LATER)
    (row,) = written(draft)["new_refunds"]
    assert row == found(
        "re_9",
        state=RefundState.PENDING,
        observed_by=None,
        operator_reason="Ping++ told of another currency than was asked for",
    )


def test_refunds_are_taken_in_by_age() -> None:
    """Of the same moment by Ping++'s id: two readers of a list write the same."""
    listed = [
        elsewhere(refund_id="re_3", created_at=EARLIER),
        elsewhere(refund_id="re_1"),
        elsewhere(refund_id="re_2"),
    ]
    for given in (listed, listed[::-1]):
        draft = Draft(an_order(charge("T1", SUCCEEDED)))
        draft.observe_refund_list("T1", given, "WEBHOOK", LATER)
        numbers = [each.refund_no for each in written(draft)["notifications"]]
        assert numbers == ["re_3", "re_1", "re_2"]


def test_a_refund_is_known_by_the_id_of_ping_first() -> None:
    """Its key says less: it is ours, and Ping++ may have two under it."""
    first = refund("R1", RefundState.PENDING, refund_id="re_9")
    named = refund("R9", RefundState.SUBMITTING)
    draft = Draft(an_order(charge("T1", SUCCEEDED), first, named))
    draft.observe_refund_list("T1", [elsewhere("R9")], "WEBHOOK", LATER)
    assert draft.refund("R9") == named
    assert draft.refund("R1").operator_reason == (
        "Ping++ told of another refund_no than was asked for"
    )


def test_a_refund_is_known_by_its_key_until_its_id_is() -> None:
    """So an answer that was lost is found in the list."""
    asked, other = refund("R9", RefundState.SUBMITTING), refund("R1", RefundState.SUBMITTING)
    draft = Draft(an_order(charge("T1", SUCCEEDED), other, asked))
    draft.observe_refund_list("T1", [elsewhere("R9")], "WEBHOOK", LATER)
    assert draft.refund("R1") == other
    assert written(draft)["changed_refunds"] == (
        replace(
            asked,
            state=RefundState.SUCCEEDED,
            observed_by="WEBHOOK",
            updated_at=LATER,
            refund_id="re_9",
        ),
    )


def test_a_refund_without_a_key_is_nobody_elses() -> None:
    """One that was made by hand is not the one that is waited for."""
    asked = refund("R1", RefundState.SUBMITTING)
    draft = Draft(an_order(charge("T1", SUCCEEDED), asked))
    draft.observe_refund_list("T1", [elsewhere()], "WEBHOOK", LATER)
    assert draft.order.refunds == (asked, found("re_9"))


@pytest.mark.parametrize("way", ["observe_refund", "observe_refund_list"])
def test_a_second_refund_under_a_key_is_money_given_back_twice(way: str) -> None:
    """Both are booked, and a person is called to both; the first one stays what it was."""
    first = refund("R1", RefundState.SUCCEEDED)
    draft = Draft(an_order(charge("T1", SUCCEEDED), first))
    facts = elsewhere("R1")
    reason = "Ping++ holds another refund under the refund_no R1"
    raised = replace(first, operator_reason=reason, updated_at=LATER)
    if way == "observe_refund":
        assert draft.observe_refund("R1", observed(facts), plan=False) == raised
    else:
        draft.observe_refund_list("T1", [facts], "WEBHOOK", LATER)
    assert written(draft) == {
        "new_refunds": (found("re_9", operator_reason=reason),),
        "changed_refunds": (raised,),
        "journal": (
            line("R1", "refund_doubled", SUCCEEDED, SUCCEEDED),
            *lines_of_finding("re_9"),
        ),
        "notifications": (notice("REFUND_SUCCESS", refund_no="re_9"),),
    }


def test_a_refund_of_another_charge_is_no_second_one() -> None:
    """Ping++ told of the wrong one: a person is called, and nothing is booked."""
    first = refund("R1")
    draft = Draft(an_order(charge("T1", SUCCEEDED), charge("T2", SUCCEEDED), first))
    after = draft.observe_refund("R1", observed(elsewhere("R1", charge_id="ch_T2")), plan=False)
    reason = "Ping++ told of another charge_id, refund_id than was asked for"
    assert after == replace(first, operator_reason=reason, updated_at=LATER)
    assert draft.order.refunds == (after,)


def test_a_refund_under_another_key_is_no_second_one() -> None:
    """The same."""
    first = refund("R1")
    draft = Draft(an_order(charge("T1", SUCCEEDED), first))
    after = draft.observe_refund("R1", observed(elsewhere("R8")), plan=False)
    reason = "Ping++ told of another refund_no, refund_id than was asked for"
    assert after == replace(first, operator_reason=reason, updated_at=LATER)
    assert draft.order.refunds == (after,)


@pytest.mark.parametrize("where", ["here", "in another order"])
def test_a_refund_that_another_charge_has_is_left_to_a_person(where: str) -> None:
    """Once: the journal need not say at every look what the charge says."""
    first = charge("T1", SUCCEEDED, due_at=NOON)
    others: list[Row] = [
        charge("T2", SUCCEEDED),
        refund("R2", RefundState.FAILED, "T2", refund_id="re_9"),
    ]
    foreign = frozenset({"re_9"} if where == "in another order" else ())
    draft = Draft(an_order(first, *(others if where == "here" else [])), foreign=foreign)
    more = elsewhere(refund_id="re_99")
    reason = "Ping++ lists the refund re_9, which another charge has already"
    raised = replace(first, operator_reason=reason, updated_at=LATER)
    refused = line(
        *("T1", "charge_quarantined", SUCCEEDED, SUCCEEDED),
        refund_id="re_9",
        amount=10,
        report="DONE",
    )
    draft.observe_refund_list("T1", [elsewhere(), more], "WEBHOOK", LATER)
    draft.observe_refund_list("T1", [elsewhere()], "WEBHOOK", LATER + timedelta(minutes=1))
    assert written(draft) == {
        "new_refunds": (found("re_99"),),
        "changed_charges": (raised,),
        "journal": (refused, *lines_of_finding("re_99")),
        "notifications": (notice("REFUND_SUCCESS", refund_no="re_99"),),
    }


def test_two_refunds_that_other_charges_have_come_to_rest() -> None:
    """Both are named beside what a person was called for before; the same list again is no news."""
    called = charge("T1", SUCCEEDED, operator_reason="called before")
    foreign = frozenset({"re_8", "re_9"})
    both = [elsewhere(refund_id="re_8"), elsewhere(refund_id="re_9")]
    draft = Draft(an_order(called), foreign=foreign)
    draft.observe_refund_list("T1", both, "QUERY", LATER)
    booked = "Ping++ lists the refund {}, which another charge has already".format
    reasons = f"called before; {booked('re_8')}; {booked('re_9')}"
    assert draft.charge("T1") == replace(called, operator_reason=reasons, updated_at=LATER)
    again = Draft(draft.order, foreign=foreign)
    again.observe_refund_list("T1", both, "QUERY", LATER + timedelta(minutes=1))
    assert again.change("c2") is None
