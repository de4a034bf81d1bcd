"""The refund's state machine: every pair of state and observation, spelled out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from midas import refund as machine
from midas.refund import (
    FundingSource,
    Refund,
    RefundFacts,
    RefundNotice,
    RefundObservation,
    RefundReport,
    RefundState,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

EXPECTED = {
    #            SUBMITTING   PENDING     SUCCEEDED   FAILED
    "WORKING":   "PENDING     PENDING     SUCCEEDED   FAILED",
    "DONE":      "SUCCEEDED   SUCCEEDED   SUCCEEDED   SUCCEEDED",
    "FAILED":    "FAILED      FAILED      SUCCEEDED!  FAILED",
    "REFUSED":   "FAILED      PENDING!    SUCCEEDED!  FAILED",
    "UNSENT":    "SUBMITTING  PENDING!    SUCCEEDED!  FAILED!",
    "ABSENT":    "SUBMITTING! PENDING!    SUCCEEDED!  FAILED",
    "NO_ANSWER": "SUBMITTING  PENDING     SUCCEEDED   FAILED",
}  # fmt: skip
"""The state after each observation; `!` means that a person is called."""

EVENTS = {
    "pending": "refund_pending",
    "succeeded": "refund_succeeded",
    "failed": "refund_failed",
    "same": "refund_still_pending",
    "unsent": "refund_unsent",
    "missing": "refund_needs_operator",
    "stale": "refund_observation_stale",
    "unknown": "refund_outcome_unknown",
    "raised": "refund_contradicted",
}
"""The journal's names, short as the tables below have them."""

JOURNAL = {
    #            SUBMITTING   PENDING     SUCCEEDED   FAILED
    "WORKING":   "pending     same        stale       stale",
    "DONE":      "succeeded   succeeded   stale       succeeded",
    "FAILED":    "failed      failed      raised      stale",
    "REFUSED":   "failed      raised      raised      stale",
    "UNSENT":    "unsent      raised      raised      raised",
    "ABSENT":    "missing     raised      raised      stale",
    "NO_ANSWER": "unknown     unknown     unknown     unknown",
}  # fmt: skip
"""The journal entry of what our own question was answered."""

JOURNAL_OF_WEBHOOKS = {
    #            SUBMITTING   PENDING     SUCCEEDED   FAILED
    "WORKING":   "pending     same        stale       stale",
    "DONE":      "succeeded   succeeded   stale       succeeded",
    "FAILED":    "failed      failed      stale       stale",
    "REFUSED":   "failed      stale       stale       stale",
    "UNSENT":    "unsent      stale       stale       stale",
    "ABSENT":    "missing     stale       stale       stale",
    "NO_ANSWER": "unknown     unknown     unknown     unknown",
}  # fmt: skip
"""The same for a webhook: what contradicts may have been overtaken (W4)."""

NOTICE = {
    #            SUBMITTING   PENDING     SUCCEEDED   FAILED
    "WORKING":   "-           -           -           -",
    "DONE":      "SUCCESS     SUCCESS     -           SUCCESS",
    "FAILED":    "FAILED      FAILED      -           -",
    "REFUSED":   "FAILED      -           -           -",
    "UNSENT":    "-           -           -           -",
    "ABSENT":    "-           -           -           -",
    "NO_ANSWER": "-           -           -           -",
}  # fmt: skip
"""What the order service is notified of, however it was learnt; `-` is nothing."""

TABLES = [EXPECTED, JOURNAL, JOURNAL_OF_WEBHOOKS, NOTICE]
OBSERVERS = {"CREATE": JOURNAL, "WEBHOOK": JOURNAL_OF_WEBHOOKS, "QUERY": JOURNAL}
NOTICES = {"-": None, "SUCCESS": RefundNotice.SUCCESS, "FAILED": RefundNotice.FAILED}

WITHOUT_FACTS = {"REFUSED", "UNSENT", "ABSENT", "NO_ANSWER"}
PAIRS = list(product(RefundState, RefundReport))


def a_refund(state: RefundState = RefundState.SUBMITTING) -> Refund:
    """A refund in this state; Ping++'s id is known unless it is SUBMITTING."""
    return Refund(
        refund_no="refund-1",
        order_no="order-1",
        out_trade_no="T0000000000000000001",
        charge_id="ch_1",
        amount=40,
        currency="cny",
        app_id="app_1",
        description="returned",
        metadata={},
        content_digest="d",
        created_at=NOW,
        updated_at=NOW,
        state=state,
        refund_id=None if state is RefundState.SUBMITTING else "re_1",
    )


def some_facts(report: RefundReport = RefundReport.WORKING, **changes: object) -> RefundFacts:
    """What Ping++ tells of that refund."""
    facts = RefundFacts(
        refund_id="re_1",
        charge_id="ch_1",
        amount=40,
        report=report,
        created_at=NOW,
        refund_no="refund-1",
        currency="cny",
        app_id="app_1",
        action_url="https://example.test/approve" if report is RefundReport.WORKING else "",
        succeeded_at=NOW if report is RefundReport.DONE else None,
        failure_code="refund_refused_msg" if report is RefundReport.FAILED else "",
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def observed(report: RefundReport, by: str = "QUERY") -> RefundObservation:
    """An observation as the adapter would make it."""
    facts = None if report in WITHOUT_FACTS else some_facts(report)
    return RefundObservation(report, by, NOW + timedelta(minutes=1), facts)


def cell(table: dict[str, str], state: RefundState, report: RefundReport) -> str:
    """What the table says of this pair."""
    return table[report].split()[list(RefundState).index(state)]


def expected(state: RefundState, report: RefundReport) -> tuple[str, bool]:
    """The state that must follow, and whether a person is called."""
    wanted = cell(EXPECTED, state, report)
    return wanted.rstrip("!"), wanted.endswith("!")


@pytest.mark.parametrize("table", TABLES)
def test_the_tables_cover_everything(table: dict[str, str]) -> None:
    """No state and no observation is left out of the expectations."""
    assert set(table) == set(RefundReport)
    assert all(len(row.split()) == len(RefundState) for row in table.values())


@pytest.mark.parametrize(("state", "report"), PAIRS)
def test_every_pair(state: RefundState, report: RefundReport) -> None:
    """Each observation leads each state exactly where the table says (I6)."""
    outcome = machine.observe(a_refund(state), observed(report))
    assert (outcome.refund.state, bool(outcome.refund.operator_reason)) == expected(state, report)


@pytest.mark.parametrize("by", OBSERVERS)
@pytest.mark.parametrize(("state", "report"), PAIRS)
def test_what_every_pair_writes_and_announces(
    state: RefundState, report: RefundReport, by: str
) -> None:
    """Each pair has its own journal entry and its own notice, or none, for each observer (I3)."""
    outcome = machine.observe(a_refund(state), observed(report, by))
    assert outcome.event == EVENTS[cell(OBSERVERS[by], state, report)]
    assert outcome.notice is NOTICES[cell(NOTICE, state, report)]
    assert outcome.refund.state == expected(state, report)[0]


@pytest.mark.parametrize("by", OBSERVERS)
@pytest.mark.parametrize(
    ("report", "state", "event", "notice"),
    [
        ("WORKING", "FAILED", "refund_contradicted", None),
        ("DONE", "SUCCEEDED", "refund_succeeded", RefundNotice.SUCCESS),
        ("FAILED", "FAILED", "refund_observation_stale", None),
        ("REFUSED", "FAILED", "refund_observation_stale", None),
        ("ABSENT", "FAILED", "refund_observation_stale", None),
        ("NO_ANSWER", "FAILED", "refund_outcome_unknown", None),
    ],
)
def test_what_is_observed_of_a_refund_that_was_refused(
    report: str, state: str, event: str, notice: RefundNotice | None, by: str
) -> None:
    """No id of Ping++'s is known of it; a refund at work there contradicts, whoever saw it."""
    refused = replace(a_refund(RefundState.FAILED), refund_id=None)
    outcome = machine.observe(refused, observed(RefundReport(report), by))
    assert (outcome.refund.state, outcome.event, outcome.notice) == (state, event, notice)
    assert outcome.refund.holds_money is (report in {"WORKING", "DONE"})


@pytest.mark.parametrize(("state", "report"), PAIRS)
def test_observed_twice_it_changes_once(state: RefundState, report: RefundReport) -> None:
    """The same observation again, an hour later, changes nothing and announces nothing."""
    once = machine.observe(a_refund(state), observed(report)).refund
    twice = machine.observe(once, replace(observed(report), at=NOW + timedelta(hours=1)))
    unsent = twice.refund.unsent  # since when is written with each look
    assert twice.refund is once or (unsent and twice.refund.state is once.state)
    assert twice.notice is None


@pytest.mark.parametrize("state", list(RefundState))
def test_money_that_went_back_is_never_dropped(state: RefundState) -> None:
    """A refund that Ping++ made ends in SUCCEEDED and is announced, also after a failure."""
    outcome = machine.observe(a_refund(state), observed(RefundReport.DONE))
    assert outcome.refund.state is RefundState.SUCCEEDED
    announced = None if state is RefundState.SUCCEEDED else RefundNotice.SUCCESS
    assert outcome.notice is announced


@pytest.mark.parametrize("report", [RefundReport.FAILED, RefundReport.REFUSED])
def test_a_refusal_is_announced_with_its_reason(report: RefundReport) -> None:
    """A refund that was not done says why and is announced as failed."""
    observation = replace(observed(report), code="refund_refused", message="no")
    outcome = machine.observe(a_refund(), observation)
    assert outcome.notice is RefundNotice.FAILED
    assert outcome.refund.failure_code == "refund_refused"
    assert not outcome.refund.holds_money


@pytest.mark.parametrize(
    "report", [RefundReport.NO_ANSWER, RefundReport.UNSENT, RefundReport.ABSENT]
)
def test_an_unknown_refund_keeps_its_amount(report: RefundReport) -> None:
    """Neither silence nor absence frees the reserved amount (I2, I5)."""
    outcome = machine.observe(a_refund(), observed(report))
    assert outcome.refund.holds_money
    assert outcome.notice is None


MISMATCHES: dict[str, dict[str, object]] = {
    "amount": {"amount": 41},
    "charge_id": {"charge_id": "ch_2"},
    "currency": {"currency": "usd"},
    "app": {"app_id": "app_2"},
    "refund_no": {"refund_no": "refund-2"},
    "refund_id": {"refund_id": "re_2"},
}
WITH_FACTS = [report for report in RefundReport if report not in WITHOUT_FACTS]


@pytest.mark.parametrize(
    ("state", "report", "field"),
    [
        (state, report, field)
        for state, report, field in product(RefundState, WITH_FACTS, MISMATCHES)
        # before an answer no id is known: the first one is adopted
        if (state, field) != (RefundState.SUBMITTING, "refund_id")
    ],
)
def test_what_does_not_match_is_quarantined(
    state: RefundState, report: RefundReport, field: str
) -> None:
    """Another amount, charge, currency, app or key moves nothing and calls a person (I4)."""
    before = a_refund(state)
    observation = replace(observed(report), facts=some_facts(report, **MISMATCHES[field]))
    outcome = machine.observe(before, observation)
    assert outcome.event == "refund_quarantined"
    assert field in outcome.detail["fields"]
    assert outcome.notice is None
    assert outcome.refund.state is before.state
    assert field in outcome.refund.operator_reason


def test_fields_that_older_answers_lack_are_not_compared() -> None:
    """Currency, app and metadata are missing from old answers, and that is no mismatch."""
    facts = some_facts(RefundReport.DONE, currency="", app_id="", refund_no="")
    assert machine.mismatches(a_refund(), facts) == ()


def test_the_link_comes_and_goes() -> None:
    """The link that a person must open is kept while the refund is pending, the newest one."""
    pending = machine.observe(a_refund(), observed(RefundReport.WORKING)).refund
    assert pending.action_url == "https://example.test/approve"
    again = some_facts(RefundReport.WORKING, action_url="https://example.test/fresh")
    fresh = machine.observe(pending, replace(observed(RefundReport.WORKING), facts=again)).refund
    assert fresh.action_url == "https://example.test/fresh"
    assert machine.observe(fresh, observed(RefundReport.DONE)).refund.action_url == ""


def test_a_refusal_that_was_none_keeps_its_amount() -> None:
    """A refund taken for refused that Ping++ works on after all counts as spent, and is raised."""
    refused = machine.observe(a_refund(), observed(RefundReport.REFUSED)).refund
    assert not refused.holds_money
    outcome = machine.observe(refused, observed(RefundReport.WORKING))
    assert outcome.event == "refund_contradicted"
    assert outcome.refund.holds_money
    assert outcome.refund.refund_id == "re_1"


def test_an_alarm_outlives_the_success() -> None:
    """What a person has to look at is not taken back because the refund went through."""
    alarmed = replace(a_refund(RefundState.PENDING), operator_reason="doubled")
    assert machine.observe(alarmed, observed(RefundReport.DONE)).refund.operator_reason == "doubled"


LATER = NOW + timedelta(minutes=1)
"""When `observed` was seen."""
WATCHED = {"looks": 3, "absent_since": NOW, "due_at": NOW}
SETTLED = {"looks": 0, "absent_since": None, "due_at": None}
LINK = "https://example.test/approve"
MOVES: dict[str, tuple[RefundState, dict[str, Any], RefundObservation, dict[str, Any]]] = {
    "taken up": (
        RefundState.SUBMITTING,
        {**WATCHED, "unsent": True, "operator_reason": "it was missing"},
        observed(RefundReport.WORKING, "CREATE"),
        {
            "state": RefundState.PENDING,
            "refund_id": "re_1",
            "action_url": LINK,
            "observed_by": "CREATE",
            "operator_reason": "",
            "unsent": False,
            "looks": 0,
            "absent_since": None,
        },
    ),
    "done": (
        RefundState.PENDING,
        {**WATCHED, "action_url": LINK, "failure_code": "a", "failure_message": "A."},
        replace(
            observed(RefundReport.DONE, "WEBHOOK"),
            facts=some_facts(
                RefundReport.DONE,
                transaction_no="4200",
                action_url=LINK,
                failure_code="tried_before",
                failure_message="Tried before.",
            ),
        ),
        {
            **SETTLED,
            "state": RefundState.SUCCEEDED,
            "observed_by": "WEBHOOK",
            "action_url": "",
            "transaction_no": "4200",
            "succeeded_at": NOW,
            "failure_code": "",
            "failure_message": "",
        },
    ),
    "failed": (
        RefundState.PENDING,
        {**WATCHED, "transaction_no": "4100", "operator_reason": "somebody was called"},
        replace(
            observed(RefundReport.FAILED),
            facts=some_facts(RefundReport.FAILED, failure_message="No.", succeeded_at=NOW),
        ),
        {
            **SETTLED,
            "state": RefundState.FAILED,
            "observed_by": "QUERY",
            "failure_code": "refund_refused_msg",
            "failure_message": "No.",
        },
    ),
    "refused": (
        RefundState.SUBMITTING,
        {"failure_code": "before", "failure_message": "Before."},
        replace(observed(RefundReport.REFUSED, "CREATE"), code="wrong", message="Wrong."),
        {
            "state": RefundState.FAILED,
            "observed_by": "CREATE",
            "failure_code": "wrong",
            "failure_message": "Wrong.",
        },
    ),
    "refused without a word": (
        RefundState.SUBMITTING,
        {},
        observed(RefundReport.REFUSED, "CREATE"),
        {"state": RefundState.FAILED, "observed_by": "CREATE", "failure_code": "refused"},
    ),
    "done after all": (
        RefundState.FAILED,
        {"failure_code": "a", "failure_message": "A."},
        observed(RefundReport.DONE),
        {
            "state": RefundState.SUCCEEDED,
            "observed_by": "QUERY",
            "succeeded_at": NOW,
            "failure_code": "",
            "failure_message": "",
        },
    ),
}


@pytest.mark.parametrize("move", MOVES)
def test_what_a_move_writes_down(move: str) -> None:
    """Every field, and what Ping++ leaves out stays as it was."""
    state, fields, observation, changes = MOVES[move]
    before = replace(a_refund(state), **fields)
    outcome = machine.observe(before, observation)
    after = replace(before, **{"updated_at": LATER, **changes})
    assert outcome.refund == after
    link = {"action_url": LINK} if after.action_url else {}
    report = observation.report.value
    assert outcome.detail == {"said": report, "code": after.failure_code, **link}


@pytest.mark.parametrize(("state", "report"), PAIRS)
def test_the_journal_has_what_was_observed(state: RefundState, report: RefundReport) -> None:
    """Where nothing moves it is Ping++'s own code, and where it does what the refund has then."""
    observation = replace(observed(report), code="its_code", message="Its message.")
    outcome = machine.observe(a_refund(state), observation)
    moved = outcome.refund.state is not state
    code = outcome.refund.failure_code if moved else "its_code"
    assert (outcome.detail["said"], outcome.detail["code"]) == (report.value, code)


def test_what_ping_leaves_out() -> None:
    """Of a new refund nothing is known but what was asked."""
    facts = RefundFacts("re_1", "ch_1", 40, RefundReport.WORKING, NOW)
    assert (facts.refund_no, facts.currency, facts.app_id, facts.succeeded_at) == ("", "", "", None)
    pending = machine.observe(
        a_refund(), RefundObservation(RefundReport.WORKING, "QUERY", NOW, facts)
    )
    assert (pending.refund.action_url, pending.refund.transaction_no) == ("", "")
    assert (pending.refund.external, pending.refund.unsent) == (False, False)
    assert "action_url" not in pending.detail


def test_what_may_be_sent_again_says_since_when() -> None:
    """Proven not taken up: nothing else changes."""
    outcome = machine.observe(a_refund(), observed(RefundReport.UNSENT))
    assert outcome.refund == replace(a_refund(), unsent=True, updated_at=LATER)


def test_a_refund_that_is_not_listed_is_left_to_a_person() -> None:
    """It may still have been received: nothing is freed, and it is looked at no more."""
    before = replace(a_refund(), due_at=NOW)
    outcome = machine.observe(before, observed(RefundReport.ABSENT))
    reason = "Ping++ lists no such refund, and it may still have received the request"
    assert outcome.refund == replace(before, operator_reason=reason, due_at=None, updated_at=LATER)


@pytest.mark.parametrize(
    ("state", "report", "refund_id"),
    [
        (RefundState.PENDING, RefundReport.REFUSED, "re_1"),
        (RefundState.SUCCEEDED, RefundReport.FAILED, "re_1"),
        (RefundState.FAILED, RefundReport.WORKING, None),
    ],
)
def test_what_contradicts_itself_is_left_to_a_person(
    state: RefundState, report: RefundReport, refund_id: str | None
) -> None:
    """The row says when and why, with Ping++'s id; when it is looked at stays as it was."""
    before = replace(a_refund(state), refund_id=refund_id, due_at=NOW)
    raised = machine.observe(before, observed(report)).refund
    reason = f"Ping++ said {report} of a refund that is {state}"
    assert raised == replace(before, operator_reason=reason, refund_id="re_1", updated_at=LATER)
    again = replace(observed(report), at=LATER + timedelta(hours=1))
    assert machine.observe(raised, again).refund is raised


def test_the_journal_has_all_that_ping_reported_of_what_is_quarantined() -> None:
    """A person decides by the journal entry alone."""
    facts = some_facts(RefundReport.DONE, amount=39, app_id="app_2")
    before = replace(a_refund(RefundState.PENDING), due_at=NOW)
    outcome = machine.observe(before, replace(observed(RefundReport.DONE), facts=facts))
    assert outcome.detail == {
        "fields": ["amount", "app"],
        "refund_id": "re_1",
        "charge_id": "ch_1",
        "amount": 39,
        "currency": "cny",
        "app": "app_2",
        "said": "DONE",
    }
    reason = "Ping++ told of another amount, app than was asked for"
    assert outcome.refund == replace(before, operator_reason=reason, due_at=None, updated_at=LATER)


def test_what_is_booked_already_and_what_is_not_answered() -> None:
    """Only facts can be another row's; the journal names the field that nobody may believe."""
    outcome = machine.observe(a_refund(), observed(RefundReport.DONE), booked=True)
    assert (outcome.event, outcome.detail["fields"]) == ("refund_quarantined", ["refund_id"])
    assert "re_1, which is booked already" in outcome.refund.operator_reason
    unanswered = machine.observe(a_refund(), observed(RefundReport.NO_ANSWER), booked=True)
    assert unanswered.event == "refund_outcome_unknown"


def test_what_was_made_elsewhere_has_no_key_of_ours() -> None:
    """Its metadata may name anything."""
    external = replace(a_refund(RefundState.PENDING), external=True)
    assert machine.mismatches(external, some_facts(refund_no="theirs")) == ()


@pytest.mark.parametrize(("by", "still_missed"), [("WEBHOOK", True), ("QUERY", False)])
def test_an_old_webhook_does_not_show_a_refund_that_is_missed(by: str, still_missed: bool) -> None:
    """It may have been sent before the refund went missing; an answer of now counts."""
    missed = replace(a_refund(RefundState.PENDING), absent_since=NOW)
    after = machine.observe(missed, observed(RefundReport.WORKING, by)).refund
    assert (after.absent_since == NOW) is still_missed


def test_one_that_was_missed_is_there_after_all() -> None:
    """The reason goes, and no other one that a person was called for."""
    missed = machine.observe(a_refund(RefundState.PENDING), observed(RefundReport.ABSENT)).refund
    assert missed.operator_reason == "Ping++ said ABSENT of a refund that is PENDING"
    shown = machine.observe(missed, observed(RefundReport.WORKING)).refund
    assert (shown.operator_reason, shown.absent_since) == ("", None)
    called = replace(a_refund(RefundState.PENDING), operator_reason="amount", absent_since=NOW)
    shown = machine.observe(called, observed(RefundReport.WORKING)).refund
    assert (shown.operator_reason, shown.absent_since) == ("amount", None)


@pytest.mark.parametrize(
    ("state", "notice"),
    [
        (RefundState.SUBMITTING, None),
        (RefundState.PENDING, None),
        (RefundState.SUCCEEDED, RefundNotice.SUCCESS),
        (RefundState.FAILED, RefundNotice.FAILED),
    ],
)
def test_the_notice_for_a_refund_as_it_stands(
    state: RefundState, notice: RefundNotice | None
) -> None:
    """As far as the row shows."""
    assert machine.notice_for(a_refund(state)) is notice


@pytest.mark.parametrize("reason", ["", "somebody was called"])
@pytest.mark.parametrize("state", list(RefundState))
def test_what_counts_as_spent(state: RefundState, reason: str) -> None:
    """All but a failure that nobody doubts."""
    refund = replace(a_refund(state), operator_reason=reason)
    assert refund.holds_money is (state is not RefundState.FAILED or bool(reason))


def test_the_words_of_ping_for_the_balance_that_pays() -> None:
    """They are sent as they stand (pingpp.md section 3)."""
    assert list(FundingSource) == ["unsettled_funds", "recharge_funds"]
