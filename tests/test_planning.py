"""When a charge or refund is looked at next, and when a person is called: every rule by itself."""

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from midas import limits, planning, schedule
from midas.charge import (
    OUTCOME_STAYS_UNKNOWN,
    REVERSING,
    ChargeObservation,
    ChargeReport,
    ChargeState,
    ObservedBy,
)
from midas.draft import Draft
from midas.immutable import replace
from midas.refund import Refund, RefundObservation, RefundReport, RefundState
from tests.orders import LATER, an_order, bare, charge, charge_facts, refund, written
from tests.records import NOON

GRACE = timedelta(minutes=7)

FIRST_LOOKS = (0, 1, 5)
OTHERS = [each for each in ObservedBy if each is not ObservedBy.QUERY]


def observed(by: ObservedBy = ObservedBy.POLL, **facts: Any) -> ChargeObservation:
    """A charge that waits; with `facts` as Ping++ shows it."""
    shown = charge_facts("T1", **facts) if facts else None
    return dataclasses.replace(bare(ChargeReport.WAITING, by), facts=shown)


@pytest.mark.parametrize("by", OTHERS)
def test_a_look_of_midas_or_a_webhook_plans_the_next_one(by: ObservedBy) -> None:
    """Though nothing has changed."""
    pending = charge("T1")
    assert not planning.stays_planned(pending, pending, observed(by))


def test_a_callers_question_plans_nothing_unless_it_changes_something() -> None:
    """A new state, or the end of what a person was called for, does."""
    pending, asked = charge("T1"), observed(ObservedBy.QUERY)
    called = charge("T1", operator_reason="not shown")
    assert planning.stays_planned(pending, pending, asked)
    assert planning.stays_planned(called, called, asked)
    assert planning.stays_planned(pending, called, asked)
    assert not planning.stays_planned(called, pending, asked)
    assert not planning.stays_planned(charge("T1", ChargeState.SUBMITTING), pending, asked)


def test_what_is_shown_of_another_charge_of_the_number_plans_nothing() -> None:
    """The charge itself is not known by it."""
    pending = charge("T1")
    own = observed(charge_id=pending.charge_id)
    assert planning.stays_planned(pending, pending, own) is False
    assert planning.stays_planned(pending, pending, observed(charge_id="ch_other")) is True
    assert planning.stays_planned(pending, pending, observed()) is False


@pytest.mark.parametrize("looks", FIRST_LOOKS)
def test_the_pauses_between_the_looks_at_a_charge(looks: int) -> None:
    """Unknown and being reversed: soon. Pending: later. What has ended: never."""
    resolve, poll = schedule.next_resolve(LATER, looks), schedule.next_poll(LATER, looks)
    wanted = {ChargeState.SUBMITTING: resolve, ChargeState.PENDING: poll}
    for state in ChargeState:
        row = charge("T1", state, looks=looks)
        due_at = planning.next_charge_look(row, bare(ChargeReport.WAITING), GRACE)
        assert due_at == wanted.get(state)
    reversing = charge("T1", answer=f"{REVERSING}1", looks=looks, due_at=None)
    assert planning.next_charge_look(reversing, bare(ChargeReport.NO_ANSWER), GRACE) == resolve


def test_whoever_reverses_a_charge_has_it_until_his_lease_ends() -> None:
    """What others learn meanwhile plans no look before; what nobody answered does."""
    lease_ends = LATER + timedelta(minutes=1)
    reversing = charge("T1", answer=f"{REVERSING}1", due_at=lease_ends)
    soon = schedule.next_resolve(LATER, 0)
    shown = observed(charge_id="ch_T1")
    assert planning.next_charge_look(reversing, shown, GRACE) == lease_ends
    assert planning.next_charge_look(replace(reversing, due_at=NOON), shown, GRACE) == soon
    assert planning.next_charge_look(reversing, bare(ChargeReport.NO_ANSWER), GRACE) == soon
    unknown = charge("T1", ChargeState.SUBMITTING, due_at=lease_ends)
    assert planning.next_charge_look(unknown, shown, GRACE) == soon


@pytest.mark.parametrize(
    ("ends_in", "wanted"),
    [
        (None, timedelta(minutes=30)),
        (timedelta(hours=1), timedelta(minutes=30)),
        (timedelta(minutes=10), timedelta(minutes=10) + schedule.AFTER_END),
        (timedelta(0), schedule.AFTER_END),
        (-schedule.AFTER_END, timedelta(minutes=30)),
        (timedelta(hours=-1), timedelta(minutes=30)),
    ],
)
def test_one_look_comes_just_after_the_end(ends_in: timedelta | None, wanted: timedelta) -> None:
    """Of a pending charge: its expiry and the grace. Before and after that the pauses grow."""
    expires_at = None if ends_in is None else LATER + ends_in - GRACE
    row = charge("T1", looks=9, expires_at=expires_at)
    assert planning.next_charge_look(row, bare(ChargeReport.WAITING), GRACE) == LATER + wanted


@pytest.mark.parametrize("looks", FIRST_LOOKS)
def test_the_pauses_between_the_looks_at_a_refund(looks: int) -> None:
    """As for a charge."""
    answer = RefundObservation(RefundReport.WORKING, "POLL", LATER)
    wanted = {
        RefundState.SUBMITTING: schedule.next_resolve(LATER, looks),
        RefundState.PENDING: schedule.next_poll(LATER, looks),
    }
    for state in RefundState:
        row = refund("R1", state, looks=looks)
        assert planning.next_refund_look(row, answer) == wanted.get(state)


def test_what_a_person_looks_at_keeps_its_time() -> None:
    """Nothing is planned for it."""
    row = charge("T1", operator_reason="odd", due_at=NOON)
    assert planning.next_charge_look(row, bare(ChargeReport.WAITING), GRACE) == NOON
    back = refund("R1", operator_reason="odd", due_at=NOON)
    answer = RefundObservation(RefundReport.WORKING, "POLL", LATER)
    assert planning.next_refund_look(back, answer) == NOON


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [(NOON, LATER, True), (NOON, None, True), (None, LATER, True), (None, None, False)],
)
def test_a_look_of_a_series_counts(before: Any, after: Any, counts: bool) -> None:
    """The pauses grow by the count: also the last look of a series is one."""
    row = charge("T1", due_at=before, looks=3)
    planned = planning.planned(row, after)
    assert (planned.due_at, planned.looks) == (after, 4 if counts else 3)
    assert (planned is row) is not counts


def test_a_look_planned_for_the_moment_of_its_claim_counts() -> None:
    """It is the next one all the same. For a person's row only a new time is one."""
    assert planning.planned(charge("T1", due_at=NOON), NOON).looks == 1
    called = charge("T1", due_at=NOON, operator_reason="odd")
    assert planning.planned(called, NOON) is called
    assert planning.planned(called, LATER).looks == 1


def test_how_long_an_outcome_may_stay_unknown() -> None:
    """To the moment; and what is known is never overdue."""
    end = NOON + limits.UNKNOWN_PATIENCE
    assert planning.is_overdue(True, NOON, end)
    assert not planning.is_overdue(True, NOON, end - timedelta(microseconds=1))
    assert not planning.is_overdue(False, NOON, end)


def test_a_person_is_called_once_for_each_reason() -> None:
    """The first reason stays, and the row is not due any more."""
    called = planning.escalated(charge("T1", ChargeState.SUBMITTING, due_at=NOON))
    assert (called.operator_reason, called.due_at) == (OUTCOME_STAYS_UNKNOWN, None)
    odd = charge("T1", operator_reason="odd", due_at=NOON)
    assert planning.escalated(odd) is odd


def test_a_charge_that_stays_unknown_is_journaled_as_a_persons() -> None:
    """By the look that finds it so, and with the row that it leaves."""
    old = charge("T1", ChargeState.SUBMITTING, created_at=LATER - limits.UNKNOWN_PATIENCE)
    draft = Draft(an_order(old))
    after = draft.observe_charge("T1", bare(ChargeReport.NO_ANSWER, ObservedBy.RESOLVE))
    (row,) = written(draft)["changed_charges"]
    assert after == row
    assert (row.operator_reason, row.due_at) == (OUTCOME_STAYS_UNKNOWN, None)
    events = [each.event for each in written(draft)["journal"]]
    assert events == ["charge_outcome_unknown", "charge_needs_operator"]


def test_a_refund_that_stays_unknown_is_journaled_as_a_persons() -> None:
    """Since it was sent last; one that is queued is nobody's."""
    old = refund("R1", RefundState.SUBMITTING, updated_at=LATER - limits.UNKNOWN_PATIENCE)
    draft = Draft(an_order(charge("T1", ChargeState.SUCCEEDED), old))
    answer = RefundObservation(RefundReport.NO_ANSWER, "RESOLVE", LATER)
    after: Refund = draft.observe_refund("R1", answer)
    assert after.operator_reason == OUTCOME_STAYS_UNKNOWN
    events = [each.event for each in written(draft)["journal"]]
    assert events == ["refund_outcome_unknown", "refund_needs_operator"]
    queued = Draft(an_order(charge("T1", ChargeState.SUCCEEDED), replace(old, unsent=True)))
    assert queued.observe_refund("R1", answer).operator_reason == ""


@pytest.mark.parametrize("by", ["QUERY", "POLL"])
def test_a_callers_question_plans_no_look_at_a_refund(by: str) -> None:
    """Unless the refund has ended: then none is planned any more."""
    row = refund("R1", RefundState.PENDING, due_at=NOON)
    draft = Draft(an_order(charge("T1", ChargeState.SUCCEEDED), row))
    pending = RefundObservation(RefundReport.NO_ANSWER, by, LATER)
    assert draft.observe_refund("R1", pending).looks == (by == "POLL")


def test_a_callers_question_gets_the_row_as_it_stands() -> None:
    """Also where it plans nothing."""
    pending = charge("T1", due_at=NOON)
    draft = Draft(an_order(pending))
    assert draft.observe_charge("T1", bare(ChargeReport.NO_ANSWER, ObservedBy.QUERY)) == pending


def test_a_callers_question_that_moves_a_refund_plans_the_next_look() -> None:
    """It was unknown, and Ping++ works on it."""
    row = refund("R1", RefundState.SUBMITTING, due_at=NOON)
    draft = Draft(an_order(charge("T1", ChargeState.SUCCEEDED), row))
    after = draft.observe_refund("R1", RefundObservation(RefundReport.WORKING, "QUERY", LATER))
    assert (after.state, after.due_at) == (RefundState.PENDING, schedule.next_poll(LATER, 0))
