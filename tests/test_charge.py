"""The charge's state machine: every pair of state and observation, spelled out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from midas import charge as machine
from midas.charge import (
    REVERSING,
    WITHDRAWN,
    Charge,
    ChargeFacts,
    ChargeNotice,
    ChargeObservation,
    ChargeOutcome,
    ChargeReport,
    ChargeState,
    ChargeTerms,
    ObservedBy,
)
from tests.psp.made import terms

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

EXPECTED = {
    #                     SUBMITTING  PENDING     SUCCEEDED   CLOSED      FAILED      REVERSED
    "WAITING":            "PENDING    PENDING     SUCCEEDED   CLOSED      FAILED      REVERSED",
    "LAPSED":             "CLOSED     CLOSED      SUCCEEDED   CLOSED      FAILED      REVERSED",
    "PAID":               "SUCCEEDED  SUCCEEDED   SUCCEEDED   SUCCEEDED   SUCCEEDED   REVERSED",
    "REVERSED":           "CLOSED     CLOSED      SUCCEEDED!  CLOSED      FAILED      REVERSED",
    "PAID_THEN_REVERSED": "REVERSED   REVERSED    REVERSED    REVERSED    REVERSED    REVERSED",
    "PAYMENT_FAILED":     "FAILED     FAILED      SUCCEEDED!  CLOSED      FAILED      REVERSED",
    "REFUSED":            "FAILED     PENDING!    SUCCEEDED!  CLOSED      FAILED      REVERSED",
    "DECLINED":           "SUBMITTING PENDING     SUCCEEDED   CLOSED      FAILED      REVERSED",
    "ABSENT":             "FAILED     PENDING!    SUCCEEDED!  CLOSED      FAILED      REVERSED",
    "NO_ANSWER":          "SUBMITTING PENDING     SUCCEEDED   CLOSED      FAILED      REVERSED",
}  # fmt: skip
"""The state after each observation; `!` means that a person is called."""

EVENTS = {
    "pending": "charge_pending",
    "closed": "charge_closed",
    "succeeded": "charge_succeeded",
    "failed": "charge_failed",
    "reversed": "charge_reversed",
    "same": "charge_still_pending",
    "stale": "charge_observation_stale",
    "unknown": "charge_outcome_unknown",
    "raised": "charge_contradicted",
    "declined": "charge_declined",
}
"""The journal's names, short as the tables below have them."""

JOURNAL = {
    #                     SUBMITTING  PENDING     SUCCEEDED   CLOSED      FAILED      REVERSED
    "WAITING":            "pending    same        stale       stale       stale       stale",
    "LAPSED":             "closed     closed      stale       stale       stale       stale",
    "PAID":               "succeeded  succeeded   stale       succeeded   succeeded   stale",
    "REVERSED":           "closed     closed      raised      stale       stale       stale",
    "PAID_THEN_REVERSED": "reversed   reversed    reversed    reversed    reversed    stale",
    "PAYMENT_FAILED":     "failed     failed      raised      stale       stale       stale",
    "REFUSED":            "failed     raised      raised      stale       stale       stale",
    "DECLINED":           "declined   stale       stale       stale       stale       stale",
    "ABSENT":             "failed     raised      raised      stale       stale       stale",
    "NO_ANSWER":          "unknown    unknown     unknown     unknown     unknown     unknown",
}  # fmt: skip
"""The journal entry of what our own question was answered."""

JOURNAL_OF_WEBHOOKS = {
    #                     SUBMITTING  PENDING     SUCCEEDED   CLOSED      FAILED      REVERSED
    "WAITING":            "pending    same        stale       stale       stale       stale",
    "LAPSED":             "closed     closed      stale       stale       stale       stale",
    "PAID":               "succeeded  succeeded   stale       succeeded   succeeded   stale",
    "REVERSED":           "closed     closed      stale       stale       stale       stale",
    "PAID_THEN_REVERSED": "reversed   reversed    reversed    reversed    reversed    stale",
    "PAYMENT_FAILED":     "failed     failed      stale       stale       stale       stale",
    "REFUSED":            "failed     stale       stale       stale       stale       stale",
    "DECLINED":           "declined   stale       stale       stale       stale       stale",
    "ABSENT":             "failed     stale       stale       stale       stale       stale",
    "NO_ANSWER":          "unknown    unknown     unknown     unknown     unknown     unknown",
}  # fmt: skip
"""The same for a webhook: what contradicts may have been overtaken (W4)."""

NOTICE = {
    #                     SUBMITTING  PENDING     SUCCEEDED   CLOSED      FAILED      REVERSED
    "WAITING":            "-          -           -           -           -           -",
    "LAPSED":             "CLOSED     CLOSED      -           -           -           -",
    "PAID":               "SUCCESS    SUCCESS     -           SUCCESS     SUCCESS     -",
    "REVERSED":           "CLOSED     CLOSED      -           -           -           -",
    "PAID_THEN_REVERSED": "CLOSED     CLOSED      CLOSED      -           -           -",
    "PAYMENT_FAILED":     "CLOSED     CLOSED      -           -           -           -",
    "REFUSED":            "CLOSED     -           -           -           -           -",
    "DECLINED":           "-          -           -           -           -           -",
    "ABSENT":             "CLOSED     -           -           -           -           -",
    "NO_ANSWER":          "-          -           -           -           -           -",
}  # fmt: skip
"""What the order service is notified of; `-` is nothing."""

NOTICE_BESIDE_THE_ANSWER = {
    #                     SUBMITTING  PENDING     SUCCEEDED   CLOSED      FAILED      REVERSED
    "WAITING":            "-          -           -           -           -           -",
    "LAPSED":             "-          -           -           -           -           -",
    "PAID":               "SUCCESS    SUCCESS     -           SUCCESS     SUCCESS     -",
    "REVERSED":           "-          -           -           -           -           -",
    "PAID_THEN_REVERSED": "CLOSED     CLOSED      CLOSED      -           -           -",
    "PAYMENT_FAILED":     "-          -           -           -           -           -",
    "REFUSED":            "-          -           -           -           -           -",
    "DECLINED":           "-          -           -           -           -           -",
    "ABSENT":             "-          -           -           -           -           -",
    "NO_ANSWER":          "-          -           -           -           -           -",
}  # fmt: skip
"""The same for the create call: the caller has an end without money in its answer already."""

NOTICE_IF_SUPERSEDED = {
    #                     SUBMITTING  PENDING     SUCCEEDED   CLOSED      FAILED      REVERSED
    "WAITING":            "-          -           -           -           -           -",
    "LAPSED":             "-          -           -           -           -           -",
    "PAID":               "SUCCESS    SUCCESS     -           SUCCESS     SUCCESS     -",
    "REVERSED":           "-          -           -           -           -           -",
    "PAID_THEN_REVERSED": "CLOSED     CLOSED      CLOSED      CLOSED      CLOSED      -",
    "PAYMENT_FAILED":     "-          -           -           -           -           -",
    "REFUSED":            "-          -           -           -           -           -",
    "DECLINED":           "-          -           -           -           -           -",
    "ABSENT":             "-          -           -           -           -           -",
    "NO_ANSWER":          "-          -           -           -           -           -",
}  # fmt: skip
"""The same, whoever saw it, where the caller wanted another charge: he hears of money alone."""

TABLES = [
    EXPECTED,
    JOURNAL,
    JOURNAL_OF_WEBHOOKS,
    NOTICE,
    NOTICE_BESIDE_THE_ANSWER,
    NOTICE_IF_SUPERSEDED,
]
OBSERVERS = {
    ObservedBy.CREATE: (JOURNAL, NOTICE_BESIDE_THE_ANSWER),
    ObservedBy.WEBHOOK: (JOURNAL_OF_WEBHOOKS, NOTICE),
    ObservedBy.QUERY: (JOURNAL, NOTICE),
}
NOTICES = {"-": None, "SUCCESS": ChargeNotice.SUCCESS, "CLOSED": ChargeNotice.CLOSED}

WITHOUT_FACTS = {"REFUSED", "DECLINED", "ABSENT", "NO_ANSWER"}
FLAGS: dict[str, dict[str, object]] = {
    "WAITING": {},
    "LAPSED": {},
    "PAID": {"paid": True, "paid_at": NOW},
    "REVERSED": {"reversed": True},
    "PAID_THEN_REVERSED": {"paid": True, "reversed": True},
    "PAYMENT_FAILED": {"failure_code": "channel_request_error"},
}
PAIRS = list(product(ChargeState, ChargeReport))


def a_charge(state: ChargeState = ChargeState.PENDING) -> Charge:
    """A charge in this state; Ping++'s id is known unless it is SUBMITTING."""
    return Charge(
        out_trade_no="T0000000000000000001",
        order_no="order-1",
        app_id="app_1",
        livemode=True,
        channel="wx_pub_qr",
        amount=100,
        currency="cny",
        subject="Tea",
        body="Green tea",
        client_ip="203.0.113.7",
        extra={},
        metadata={},
        terms_digest="d",
        created_at=NOW,
        updated_at=NOW,
        state=state,
        charge_id=None if state is ChargeState.SUBMITTING else "ch_1",
        answer="{}" if state is ChargeState.PENDING else None,
    )


def some_facts(report: str = "WAITING", /, **changes: object) -> ChargeFacts:
    """What Ping++ tells of that charge."""
    facts = ChargeFacts(
        charge_id="ch_1",
        out_trade_no="T0000000000000000001",
        app_id="app_1",
        livemode=True,
        channel="wx_pub_qr",
        amount=100,
        currency="cny",
        paid=False,
        reversed=False,
        created_at=NOW,
        expires_at=NOW + timedelta(hours=2),
        has_credential=True,
        raw='{"raw": true}',
    )
    return replace(facts, **{**FLAGS.get(report, {}), **changes})  # type: ignore[arg-type]


def observed(report: ChargeReport, by: ObservedBy = ObservedBy.QUERY) -> ChargeObservation:
    """An observation as the adapter would make it."""
    facts = None if report in WITHOUT_FACTS else some_facts(report)
    return ChargeObservation(report, by, NOW + timedelta(minutes=1), facts)


def cell(table: dict[str, str], state: ChargeState, report: ChargeReport) -> str:
    """What the table says of this pair."""
    return table[report].split()[list(ChargeState).index(state)]


def expected(state: ChargeState, report: ChargeReport) -> tuple[str, bool]:
    """The state that must follow, and whether a person is called."""
    wanted = cell(EXPECTED, state, report)
    return wanted.rstrip("!"), wanted.endswith("!")


@pytest.mark.parametrize("table", TABLES)
def test_the_tables_cover_everything(table: dict[str, str]) -> None:
    """No state and no observation is left out of the expectations."""
    assert set(table) == set(ChargeReport)
    assert all(len(row.split()) == len(ChargeState) for row in table.values())


@pytest.mark.parametrize(("state", "report"), PAIRS)
def test_every_pair(state: ChargeState, report: ChargeReport) -> None:
    """Each observation leads each state exactly where the table says (I6)."""
    outcome = machine.observe(a_charge(state), observed(report), order_paid=False)
    assert (outcome.charge.state, bool(outcome.charge.operator_reason)) == expected(state, report)


@pytest.mark.parametrize("by", OBSERVERS)
@pytest.mark.parametrize(("state", "report"), PAIRS)
def test_what_every_pair_writes_and_announces(
    state: ChargeState, report: ChargeReport, by: ObservedBy
) -> None:
    """Each pair has its own journal entry and its own notice, or none, for each observer (I3)."""
    journal, notices = OBSERVERS[by]
    outcome = machine.observe(a_charge(state), observed(report, by), order_paid=False)
    assert outcome.event == EVENTS[cell(journal, state, report)]
    assert outcome.notice is NOTICES[cell(notices, state, report)]


@pytest.mark.parametrize("by", OBSERVERS)
@pytest.mark.parametrize(("state", "report"), PAIRS)
def test_what_every_pair_tells_of_a_superseded_charge(
    state: ChargeState, report: ChargeReport, by: ObservedBy
) -> None:
    """It moves as any other charge does, and of its end only money is announced."""
    superseded = replace(a_charge(state), superseded=True)
    outcome = machine.observe(superseded, observed(report, by), order_paid=False)
    assert outcome.charge.state == expected(state, report)[0]
    assert outcome.charge.superseded
    assert outcome.event == EVENTS[cell(OBSERVERS[by][0], state, report)]
    assert outcome.notice is NOTICES[cell(NOTICE_IF_SUPERSEDED, state, report)]


@pytest.mark.parametrize(("state", "report"), PAIRS)
def test_a_webhook_calls_nobody_by_coming_late(state: ChargeState, report: ChargeReport) -> None:
    """It leads to the same states; but it may have been overtaken by a newer one (W4)."""
    observation = observed(report, ObservedBy.WEBHOOK)
    outcome = machine.observe(a_charge(state), observation, order_paid=False)
    assert outcome.charge.state == expected(state, report)[0]
    assert outcome.charge.operator_reason == ""


@pytest.mark.parametrize(("state", "report"), PAIRS)
def test_observed_twice_it_changes_once(state: ChargeState, report: ChargeReport) -> None:
    """The same observation again, an hour later, changes nothing and announces nothing."""
    once = machine.observe(a_charge(state), observed(report), order_paid=False).charge
    later = replace(observed(report), at=NOW + timedelta(hours=1))
    twice = machine.observe(once, later, order_paid=False)
    assert twice.charge is once
    assert twice.notice is None


@pytest.mark.parametrize("state", list(ChargeState))
def test_money_is_never_dropped(state: ChargeState) -> None:
    """A payment ends in SUCCEEDED and is announced, wherever the charge stood; late ones say so."""
    outcome = machine.observe(a_charge(state), observed(ChargeReport.PAID), order_paid=False)
    if state is ChargeState.REVERSED:
        assert outcome.charge.state is ChargeState.REVERSED  # the older snapshot of the two
        return
    assert outcome.charge.state is ChargeState.SUCCEEDED
    assert outcome.charge.paid_at == (None if state is ChargeState.SUCCEEDED else NOW)
    assert outcome.charge.late is (state in {ChargeState.CLOSED, ChargeState.FAILED})
    announced = None if state is ChargeState.SUCCEEDED else ChargeNotice.SUCCESS
    assert outcome.notice is announced


@pytest.mark.parametrize("state", [ChargeState.SUBMITTING, ChargeState.PENDING, ChargeState.CLOSED])
def test_a_second_payment_is_named_as_such(state: ChargeState) -> None:
    """Money for an order that is paid already is marked as a duplicate payment (I1)."""
    outcome = machine.observe(a_charge(state), observed(ChargeReport.PAID), order_paid=True)
    assert outcome.charge.duplicate_payment
    assert outcome.notice is ChargeNotice.SUCCESS


MISMATCHES: dict[str, dict[str, object]] = {
    "amount": {"amount": 99},
    "currency": {"currency": "usd"},
    "app": {"app_id": "app_2"},
    "livemode": {"livemode": False},
    "out_trade_no": {"out_trade_no": "T0000000000000000002"},
    "charge_id": {"charge_id": "ch_2"},
}
WITH_FACTS = [report for report in ChargeReport if report not in WITHOUT_FACTS]


@pytest.mark.parametrize(
    ("state", "report", "field"),
    [
        (state, report, field)
        for state, report, field in product(ChargeState, WITH_FACTS, MISMATCHES)
        # before an answer no id is known: the first one is adopted
        if (state, field) != (ChargeState.SUBMITTING, "charge_id")
    ],
)
def test_what_does_not_match_is_quarantined(
    state: ChargeState, report: ChargeReport, field: str
) -> None:
    """Another amount, currency, app, mode or number moves nothing and calls a person (I4)."""
    before = a_charge(state)
    observation = replace(observed(report), facts=some_facts(report, **MISMATCHES[field]))
    outcome = machine.observe(before, observation, order_paid=False)
    assert outcome.event == "charge_quarantined"
    assert field in outcome.detail["fields"]
    assert outcome.notice is None
    assert field in outcome.charge.operator_reason
    kept = replace(outcome.charge, operator_reason="", updated_at=NOW, due_at=None)
    assert kept == replace(before, due_at=None)


@pytest.mark.parametrize("state", list(ChargeState))
def test_silence_changes_nothing(state: ChargeState) -> None:
    """No answer is no failure: the charge stays to the letter as it was (I5)."""
    before = a_charge(state)
    outcome = machine.observe(before, observed(ChargeReport.NO_ANSWER), order_paid=False)
    assert outcome.charge == before


def test_the_first_id_is_adopted() -> None:
    """A webhook may be the first to tell Ping++'s id of a charge whose answer was lost."""
    observation = observed(ChargeReport.PAID)
    outcome = machine.observe(a_charge(ChargeState.SUBMITTING), observation, order_paid=False)
    assert outcome.charge.charge_id == "ch_1"


@pytest.mark.parametrize(
    ("state", "report", "by", "superseded", "notice"),
    [
        ("PENDING", "LAPSED", "POLL", False, ChargeNotice.CLOSED),
        ("PENDING", "LAPSED", "POLL", True, None),
        ("PENDING", "REVERSED", "QUERY", True, None),
        ("PENDING", "PAYMENT_FAILED", "WEBHOOK", False, ChargeNotice.CLOSED),
        ("SUBMITTING", "REFUSED", "CREATE", False, None),
        ("SUBMITTING", "REFUSED", "RESOLVE", False, ChargeNotice.CLOSED),
        ("SUBMITTING", "ABSENT", "RESOLVE", False, ChargeNotice.CLOSED),
        ("SUCCEEDED", "PAID_THEN_REVERSED", "QUERY", False, ChargeNotice.CLOSED),
        ("CLOSED", "PAID_THEN_REVERSED", "QUERY", False, None),
        ("SUBMITTING", "WAITING", "CREATE", False, None),
        ("PENDING", "PAID", "QUERY", True, ChargeNotice.SUCCESS),
    ],
)
def test_what_is_announced(
    state: str, report: str, by: str, superseded: bool, notice: ChargeNotice | None
) -> None:
    """An end is announced unless the caller knows it by the answer or asked for it itself."""
    before = replace(a_charge(ChargeState(state)), superseded=superseded)
    observation = observed(ChargeReport(report), ObservedBy(by))
    assert machine.observe(before, observation, order_paid=False).notice is notice


@pytest.mark.parametrize("state", list(ChargeState))
@pytest.mark.parametrize("report", list(ChargeReport))
def test_only_an_open_charge_is_handed_out_again(state: ChargeState, report: ChargeReport) -> None:
    """Ping++'s JSON is kept while the charge is PENDING and no longer."""
    after = machine.observe(a_charge(state), observed(report), order_paid=False).charge
    if after.state in {ChargeState.SUCCEEDED, ChargeState.CLOSED, ChargeState.FAILED}:
        assert after.answer is None


@pytest.mark.parametrize(
    ("changes", "minutes", "report"),
    [
        ({}, 0, ChargeReport.WAITING),
        ({}, 121, ChargeReport.WAITING),
        ({}, 122, ChargeReport.LAPSED),
        ({"expires_at": None}, 10**6, ChargeReport.WAITING),
        ({"paid": True}, 10**6, ChargeReport.PAID),
        ({"paid": True, "reversed": True}, 0, ChargeReport.PAID_THEN_REVERSED),
        ({"reversed": True}, 10**6, ChargeReport.REVERSED),
        ({"failure_code": "x"}, 0, ChargeReport.PAYMENT_FAILED),
    ],
)
def test_reading_the_flags(changes: dict[str, object], minutes: int, report: ChargeReport) -> None:
    """Ping++'s flags mean what pingpp.md section 2 says, and an expiry counts after its grace."""
    facts = some_facts(**changes)
    at = NOW + timedelta(minutes=minutes)
    assert machine.report_of(facts, at, facts.created_at, timedelta(minutes=2)) is report


def test_a_clock_that_is_ahead_lets_nothing_lapse_early() -> None:
    """A charge lasts by our own clock as long as by Ping++'s, from when it was asked for (R6)."""
    facts = some_facts()
    assert facts.expires_at is not None
    ahead, grace = timedelta(minutes=10), timedelta(minutes=2)
    asked_since = facts.created_at + ahead
    over = facts.expires_at + grace
    assert machine.report_of(facts, over, asked_since, grace) is ChargeReport.WAITING
    assert machine.report_of(facts, over + ahead, asked_since, grace) is ChargeReport.LAPSED


def test_a_clock_that_is_behind_lets_nothing_lapse_early() -> None:
    """Nor does one that is slow, or a charge that Ping++ made long after it was asked for."""
    facts = some_facts()
    assert facts.expires_at is not None
    grace, earlier = timedelta(minutes=2), facts.created_at - timedelta(hours=1)
    over = facts.expires_at + grace
    assert (
        machine.report_of(facts, over - timedelta(seconds=1), earlier, grace)
        is ChargeReport.WAITING
    )
    assert machine.report_of(facts, over, earlier, grace) is ChargeReport.LAPSED


HOUR = timedelta(hours=1)
GRACE = timedelta(minutes=2)
UNKNOWN = None


@pytest.mark.parametrize(
    ("ours", "asked", "psp", "awake", "over"),
    [
        # All in minutes after Ping++ made a charge that lasts for 60; the grace is 2.
        (61, 0, UNKNOWN, UNKNOWN, False),
        (62, 0, UNKNOWN, UNKNOWN, True),
        (62, 60, UNKNOWN, UNKNOWN, False),  # ours is an hour ahead
        (121, 60, UNKNOWN, UNKNOWN, False),
        (122, 60, UNKNOWN, UNKNOWN, True),
        (2, -60, UNKNOWN, UNKNOWN, False),  # an hour behind
        (62, -60, UNKNOWN, UNKNOWN, True),
        (3000, 0, 10, UNKNOWN, False),  # ours has stepped forward, and Ping++'s says so
        (3000, 0, 61, 10**6, False),
        (3000, 0, 62, UNKNOWN, True),
        (3000, 0, 62, 0, True),  # Ping++'s clock is the one that counts
        (61, 0, 10**6, UNKNOWN, False),  # and alone it ends nothing
        (3000, 0, UNKNOWN, 61, False),  # ours has stepped before this process began
        (3000, 0, UNKNOWN, 62, True),
        (61, 0, UNKNOWN, 10**6, False),
    ],
)
def test_when_a_charge_is_over(
    ours: int, asked: int, psp: int | None, awake: int | None, over: bool
) -> None:
    """By our clock, since it was asked for, and by a second clock, which can only delay it (R6)."""
    facts = some_facts(expires_at=NOW + HOUR)
    beside = machine.SecondClocks(
        None if psp is None else NOW + timedelta(minutes=psp),
        None if awake is None else timedelta(minutes=awake),
    )
    at, since = (NOW + timedelta(minutes=each) for each in (ours, asked))
    assert machine.is_expired(facts, at, since, GRACE, lambda: beside) is over
    report = ChargeReport.LAPSED if over else ChargeReport.WAITING
    assert machine.report_of(facts, at, since, GRACE, lambda: beside) is report


def test_what_has_no_end_is_never_over() -> None:
    """Ping++ did not tell when it ends."""
    facts = some_facts(expires_at=None)
    assert not machine.is_expired(facts, NOW + 1000 * HOUR, NOW, GRACE)


def test_what_a_caller_or_psp_leaves_out() -> None:
    """No extras, no expiry of its own; whole lists, and nothing for the client SDK."""
    asked = ChargeTerms("order-1", "wx", 100, "cny", "Tea", "Green tea", "203.0.113.7")
    assert (asked.extra, asked.metadata, asked.expires_in) == ({}, {}, None)
    facts = ChargeFacts(
        *("ch_1", "T1", "app_1", True, "wx", 100, "cny", False, False),
        created_at=NOW,
    )
    assert (facts.refunds, facts.refunds_complete, facts.has_credential) == ((), True, False)
    assert (facts.expires_at, facts.paid_at) == (None, None)


@pytest.mark.parametrize("state", list(ChargeState))
def test_only_an_unknown_charge_is_declined(state: ChargeState) -> None:
    """One that has failed has a code, too; it is over."""
    charge = replace(a_charge(state), failure_code="channel_request_error", answer=REVERSING)
    assert charge.is_declined is (state is ChargeState.SUBMITTING)
    assert charge.is_being_reversed is (state in (ChargeState.SUBMITTING, ChargeState.PENDING))


@pytest.mark.parametrize("state", list(ChargeState))
def test_a_reversal_is_on_its_way_only_of_what_is_open(state: ChargeState) -> None:
    """The mark says nothing of a charge that has ended."""
    assert replace(a_charge(state), answer=REVERSING).is_being_reversed is (
        state is ChargeState.PENDING
    )
    assert not replace(a_charge(state), answer=WITHDRAWN).is_being_reversed


@pytest.mark.parametrize("by", OBSERVERS)
def test_a_payment_that_a_reversal_may_take_back_is_written_down_alone(by: ObservedBy) -> None:
    """Nothing moves and nobody is notified; the journal has what Ping++ reported."""
    charge = replace(a_charge(), answer=REVERSING, failure_code="declined_before")
    outcome = machine.observe(charge, observed(ChargeReport.PAID, by), order_paid=False)
    assert outcome == ChargeOutcome(
        charge, "charge_is_being_reversed", None, {"said": "PAID", "code": "declined_before"}
    )


@pytest.mark.parametrize(
    ("settled", "state"),
    [
        (timedelta(0), ChargeState.SUCCEEDED),
        (timedelta(seconds=1), ChargeState.SUCCEEDED),
        (-timedelta(microseconds=1), ChargeState.PENDING),
        (None, ChargeState.PENDING),
    ],
)
def test_a_payment_is_believed_once_the_last_reversal_has_settled(
    settled: timedelta | None, state: ChargeState
) -> None:
    """It left when the charge was marked; None: nobody knows how much time has passed."""
    charge = replace(a_charge(), answer=REVERSING)
    before = None if settled is None else charge.updated_at + settled
    observation = replace(observed(ChargeReport.PAID), settled_before=before)
    assert machine.observe(charge, observation, order_paid=False).charge.state is state


MARKED = replace(a_charge(), answer=REVERSING)
MARKED_BAR_CODE = replace(a_charge(ChargeState.SUBMITTING), failure_code="x", answer=REVERSING)


@pytest.mark.parametrize(
    ("charge", "report", "state"),
    [
        (MARKED, ChargeReport.WAITING, ChargeState.PENDING),
        (MARKED, ChargeReport.LAPSED, ChargeState.PENDING),
        (MARKED, ChargeReport.PAYMENT_FAILED, ChargeState.PENDING),
        (MARKED, ChargeReport.REVERSED, ChargeState.CLOSED),
        (MARKED, ChargeReport.PAID_THEN_REVERSED, ChargeState.REVERSED),
        (MARKED_BAR_CODE, ChargeReport.PAID, ChargeState.SUBMITTING),
        (MARKED_BAR_CODE, ChargeReport.WAITING, ChargeState.SUBMITTING),
        (MARKED_BAR_CODE, ChargeReport.PAYMENT_FAILED, ChargeState.SUBMITTING),
        (MARKED_BAR_CODE, ChargeReport.LAPSED, ChargeState.SUBMITTING),
        (MARKED_BAR_CODE, ChargeReport.REVERSED, ChargeState.CLOSED),
        (MARKED_BAR_CODE, ChargeReport.PAID_THEN_REVERSED, ChargeState.REVERSED),
    ],
)
def test_what_is_believed_while_a_reversal_may_be_on_its_way(
    charge: Charge, report: ChargeReport, state: ChargeState
) -> None:
    """What the reversal comes to, and nothing that it could undo.

    The payer may pay after all when a payment failed, or a charge seems to be over.
    """
    after = machine.observe(charge, observed(report), order_paid=False).charge
    assert after.state is state
    assert after.is_withdrawn is (state in (ChargeState.PENDING, ChargeState.SUBMITTING))


@pytest.mark.parametrize("answer", [None, "{}", WITHDRAWN, REVERSING])
def test_what_is_withdrawn(answer: str | None) -> None:
    """That is handed out no more."""
    charge = replace(a_charge(), answer=answer)
    assert charge.is_withdrawn is (answer in (WITHDRAWN, REVERSING))


@pytest.mark.parametrize(
    ("answer", "reason", "state"),
    [
        (None, "", ChargeState.PENDING),
        (WITHDRAWN, "", ChargeState.SUBMITTING),
        (REVERSING, "", ChargeState.SUBMITTING),
        (None, "not told for a day", ChargeState.SUBMITTING),
    ],
)
def test_when_a_declined_bar_code_is_open_again(
    answer: str | None, reason: str, state: ChargeState
) -> None:
    """Where it cannot be reversed: else it would be handed out, and another code with it."""
    declined = a_charge(ChargeState.SUBMITTING)
    declined = replace(declined, failure_code="x", answer=answer, operator_reason=reason)
    after = machine.observe(declined, observed(ChargeReport.WAITING), order_paid=False).charge
    assert (after.state, after.operator_reason) == (state, reason)


def test_what_is_not_being_reversed_is_handed_out_as_before() -> None:
    """Whatever has settled by now."""
    charge = replace(a_charge(), answer="{}")
    waiting = replace(observed(ChargeReport.WAITING), settled_before=NOW + timedelta(days=1))
    assert machine.observe(charge, waiting, order_paid=False).charge.answer == "{}"


def test_what_is_booked_already_and_what_is_not_answered() -> None:
    """Only facts can be another row's; the journal names the field that nobody may believe."""
    unknown = a_charge(ChargeState.SUBMITTING)
    booked = machine.observe(unknown, observed(ChargeReport.PAID), order_paid=False, booked=True)
    assert booked.event == "charge_quarantined"
    assert booked.detail["fields"] == ["charge_id"]
    unanswered = machine.observe(
        unknown, observed(ChargeReport.NO_ANSWER), order_paid=False, booked=True
    )
    assert unanswered.event == "charge_outcome_unknown"


@pytest.mark.parametrize(
    ("by", "still_missed"), [(ObservedBy.WEBHOOK, True), (ObservedBy.QUERY, False)]
)
def test_an_old_webhook_does_not_show_a_charge_that_is_missed(
    by: ObservedBy, still_missed: bool
) -> None:
    """It may have been sent before the charge went missing; an answer of now counts."""
    missed = replace(a_charge(), absent_since=NOW)
    after = machine.observe(missed, observed(ChargeReport.WAITING, by), order_paid=False).charge
    assert (after.absent_since == NOW) is still_missed


def test_a_second_charge_begins_anew() -> None:
    """It has the terms of the first one and nothing of what became of it."""
    later = NOW + timedelta(minutes=5)
    first = replace(
        a_charge(ChargeState.FAILED),
        expires_at=NOW,
        paid_at=NOW,
        transaction_no="4200",
        failure_code="code",
        failure_message="message",
        late=True,
        operator_reason="somebody was called",
        answer="{}",
    )
    facts = some_facts(charge_id="ch_2", created_at=NOW + timedelta(minutes=2))
    assert machine.second_of(first, facts, later) == replace(
        a_charge(),
        out_trade_no="ch_2",
        charge_id="ch_2",
        created_at=facts.created_at,
        updated_at=later,
        state=ChargeState.SUBMITTING,
        superseded=True,
        answer=WITHDRAWN,
        due_at=later,
    )


def test_what_is_no_second_charge() -> None:
    """While no id is known the facts are of the charge itself; other terms are no second one."""
    unknown = replace(a_charge(), charge_id=None)
    assert machine.second_of(unknown, some_facts(charge_id="ch_2"), NOW) is None
    assert machine.second_of(a_charge(), some_facts(), NOW) is None
    assert machine.second_of(a_charge(), some_facts(charge_id="ch_2", amount=1), NOW) is None


def test_without_an_expiry_nothing_is_over() -> None:
    """Ping++ always tells one; should it not, no clock ends the charge."""
    facts = some_facts(expires_at=None)
    years = NOW + timedelta(days=1000)
    assert machine.is_expired(facts, years, NOW, timedelta(0)) is False


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({"app_id": "app_2"}, True),
        ({"livemode": False}, True),
        ({"app_id": "app_2", "livemode": False}, True),
        ({"app_id": "app_2", "amount": 1}, False),
        ({"amount": 1}, False),
        ({}, False),
    ],
)
def test_whose_account_answered(changes: dict[str, object], other: bool) -> None:
    """Another app or mode under an id of ours is a wrong key; more than that is another payment."""
    facts = some_facts(**changes)
    assert machine.of_another_account(a_charge(), facts) is other
    unknown = replace(a_charge(), charge_id=None)
    assert not machine.of_another_account(unknown, facts)


LATER = NOW + timedelta(minutes=1)
"""When `observed` was seen."""
WATCHED = {"looks": 3, "absent_since": NOW, "due_at": NOW}
SETTLED = {"looks": 0, "absent_since": None, "due_at": None, "answer": None}
DECLINED = {"failure_code": "declined", "failure_message": "Declined."}
MOVES: dict[str, tuple[ChargeState, dict[str, Any], ChargeObservation, dict[str, Any], str]] = {
    "opened": (
        ChargeState.SUBMITTING,
        {**WATCHED, "operator_reason": machine.OUTCOME_STAYS_UNKNOWN},
        observed(ChargeReport.WAITING, ObservedBy.CREATE),
        {
            "state": ChargeState.PENDING,
            "charge_id": "ch_1",
            "expires_at": NOW + timedelta(hours=2),
            "answer": '{"raw": true}',
            "observed_by": ObservedBy.CREATE,
            "operator_reason": "",
            "looks": 0,
            "absent_since": None,
        },
        "",
    ),
    "paid": (
        ChargeState.PENDING,
        {**WATCHED, **DECLINED, "operator_reason": "called", "expires_at": LATER},
        replace(
            observed(ChargeReport.PAID, ObservedBy.WEBHOOK),
            facts=some_facts("PAID", transaction_no="4200", expires_at=None),
        ),
        {
            **SETTLED,
            "state": ChargeState.SUCCEEDED,
            "paid_at": NOW,
            "transaction_no": "4200",
            "observed_by": ObservedBy.WEBHOOK,
            "failure_code": "",
            "failure_message": "",
        },
        "",
    ),
    "paid late": (
        ChargeState.CLOSED,
        {"transaction_no": "4100"},
        observed(ChargeReport.PAID),
        {
            "state": ChargeState.SUCCEEDED,
            "expires_at": NOW + timedelta(hours=2),
            "answer": None,
            "paid_at": NOW,
            "late": True,
            "observed_by": ObservedBy.QUERY,
        },
        "",
    ),
    "late, and given back": (
        ChargeState.SUCCEEDED,
        {"late": True, "paid_at": NOW - timedelta(minutes=1)},
        replace(
            observed(ChargeReport.PAID_THEN_REVERSED),
            facts=some_facts(paid=True, reversed=True, expires_at=None),
        ),
        {"state": ChargeState.REVERSED, "observed_by": ObservedBy.QUERY},
        "",
    ),
    "failed": (
        ChargeState.PENDING,
        WATCHED,
        replace(
            observed(ChargeReport.PAYMENT_FAILED),
            facts=some_facts(failure_code="no_funds", failure_message="Too poor.", expires_at=None),
        ),
        {
            **SETTLED,
            "state": ChargeState.FAILED,
            "observed_by": ObservedBy.QUERY,
            "failure_code": "no_funds",
            "failure_message": "Too poor.",
        },
        "no_funds",
    ),
    "refused": (
        ChargeState.SUBMITTING,
        DECLINED,
        replace(observed(ChargeReport.REFUSED, ObservedBy.CREATE), code="wrong", message="Wrong."),
        {
            "state": ChargeState.FAILED,
            "observed_by": ObservedBy.CREATE,
            "failure_code": "wrong",
            "failure_message": "Wrong.",
        },
        "wrong",
    ),
    "absent": (
        ChargeState.SUBMITTING,
        WATCHED,
        observed(ChargeReport.ABSENT, ObservedBy.RESOLVE),
        {
            **SETTLED,
            "state": ChargeState.FAILED,
            "observed_by": ObservedBy.RESOLVE,
            "failure_code": "absent",
        },
        "absent",
    ),
    "absent, once declined": (
        ChargeState.SUBMITTING,
        DECLINED,
        observed(ChargeReport.ABSENT, ObservedBy.RESOLVE),
        {"state": ChargeState.FAILED, "observed_by": ObservedBy.RESOLVE},
        "declined",
    ),
}


@pytest.mark.parametrize("move", MOVES)
def test_what_a_move_writes_down(move: str) -> None:
    """Every field, and what Ping++ leaves out stays as it was."""
    state, fields, observation, changes, code = MOVES[move]
    before = replace(a_charge(state), **fields)
    outcome = machine.observe(before, observation, order_paid=False)
    after = replace(before, **{"updated_at": LATER, **changes})
    assert outcome.charge == after
    assert outcome.detail == {"said": observation.report.value, "code": code}
    assert outcome.event == f"charge_{after.state.lower()}"


@pytest.mark.parametrize(("state", "report"), PAIRS)
def test_the_journal_has_what_was_observed(state: ChargeState, report: ChargeReport) -> None:
    """Where nothing moves it is Ping++'s own code, and where it does what the charge has then."""
    observation = replace(observed(report), code="its_code", message="Its message.")
    outcome = machine.observe(a_charge(state), observation, order_paid=False)
    moved = outcome.charge.state is not state
    code = outcome.charge.failure_code if moved else "its_code"
    assert outcome.detail == {"said": report.value, "code": code}


def test_a_declined_bar_code_says_why() -> None:
    """The row has the code and the words; without a code the fact itself."""
    observation = replace(observed(ChargeReport.DECLINED), code="no_funds", message="Too poor.")
    unknown = a_charge(ChargeState.SUBMITTING)
    why: dict[str, Any] = {"failure_code": "no_funds", "failure_message": "Too poor."}
    declined = machine.observe(unknown, observation, order_paid=False).charge
    assert declined == replace(unknown, **why, updated_at=LATER)
    again = machine.observe(declined, replace(observation, code="other"), order_paid=False)
    assert (again.charge, again.event) == (declined, "charge_observation_stale")
    unanswered = machine.observe(unknown, observed(ChargeReport.DECLINED), order_paid=False).charge
    assert (unanswered.failure_code, unanswered.failure_message) == ("declined", "")


def test_what_contradicts_itself_is_left_to_a_person() -> None:
    """The row says when and why, is looked at no more, and the same again changes nothing."""
    before = replace(a_charge(ChargeState.SUCCEEDED), due_at=NOW)
    outcome = machine.observe(before, observed(ChargeReport.REVERSED), order_paid=False)
    reason = "Ping++ said REVERSED of a charge that is SUCCEEDED"
    raised = replace(before, operator_reason=reason, due_at=None, updated_at=LATER)
    assert outcome.charge == raised
    again = replace(observed(ChargeReport.REVERSED), at=LATER + timedelta(hours=1))
    assert machine.observe(raised, again, order_paid=False).charge is raised


def test_the_journal_has_all_that_ping_reported_of_what_is_quarantined() -> None:
    """A person decides by the journal entry alone."""
    observation = replace(
        observed(ChargeReport.PAID), facts=some_facts("PAID", amount=99, currency="usd")
    )
    outcome = machine.observe(replace(a_charge(), due_at=NOW), observation, order_paid=False)
    assert outcome.detail == {
        "fields": ["amount", "currency"],
        "charge_id": "ch_1",
        "out_trade_no": "T0000000000000000001",
        "amount": 99,
        "currency": "usd",
        "app": "app_1",
        "livemode": True,
        "said": "PAID",
    }
    reason = "Ping++ told of another amount, currency than was asked for"
    assert outcome.charge == replace(a_charge(), operator_reason=reason, updated_at=LATER)


def test_waiting_brings_the_credential_once() -> None:
    """An open charge that is known without its JSON gets it, and keeps the first one."""
    observation = replace(observed(ChargeReport.WAITING), facts=some_facts(transaction_no="4200"))
    bare = replace(a_charge(), answer=None)
    outcome = machine.observe(bare, observation, order_paid=False)
    expires_at = NOW + timedelta(hours=2)
    known = replace(bare, transaction_no="4200", expires_at=expires_at, answer='{"raw": true}')
    assert outcome.charge == known
    without = replace(observation, facts=some_facts(has_credential=False))
    assert machine.observe(bare, without, order_paid=False).charge.answer is None
    assert machine.observe(a_charge(), observation, order_paid=False).charge.answer == "{}"


@pytest.mark.parametrize(
    ("state", "superseded", "notice"),
    [
        *[(state, superseded, None) for state in ("SUBMITTING", "PENDING", "FAILED")
          for superseded in (False, True)],
        *[("SUCCEEDED", superseded, ChargeNotice.SUCCESS) for superseded in (False, True)],
        *[("REVERSED", superseded, ChargeNotice.CLOSED) for superseded in (False, True)],
        ("CLOSED", False, ChargeNotice.CLOSED),
        ("CLOSED", True, None),
    ],
)  # fmt: skip
def test_the_notice_for_a_charge_as_it_stands(
    state: str, superseded: bool, notice: ChargeNotice | None
) -> None:
    """As far as the row shows."""
    charge = replace(a_charge(ChargeState(state)), superseded=superseded)
    assert machine.notice_for(charge) is notice


def test_one_that_was_missed_is_there_after_all() -> None:
    """The reason goes, and no other one that a person was called for."""
    missed = machine.observe(a_charge(), observed(ChargeReport.ABSENT), order_paid=False).charge
    assert missed.operator_reason == "Ping++ said ABSENT of a charge that is PENDING"
    shown = machine.observe(missed, observed(ChargeReport.WAITING), order_paid=False).charge
    assert (shown.operator_reason, shown.absent_since) == ("", None)
    called = replace(a_charge(), operator_reason="amount", absent_since=NOW)
    shown = machine.observe(called, observed(ChargeReport.WAITING), order_paid=False).charge
    assert (shown.operator_reason, shown.absent_since) == ("amount", None)
    both = replace(missed, operator_reason=f"{missed.operator_reason}; amount")
    shown = machine.observe(both, observed(ChargeReport.WAITING), order_paid=False).charge
    assert shown.operator_reason == "amount"
    paid = machine.observe(
        missed, observed(ChargeReport.PAID, ObservedBy.WEBHOOK), order_paid=False
    )
    assert (paid.charge.state, paid.charge.operator_reason) == (ChargeState.SUCCEEDED, "")


@pytest.mark.parametrize("state", [ChargeState.PENDING, ChargeState.CLOSED, ChargeState.FAILED])
def test_money_that_went_back_is_neither_late_nor_a_duplicate(state: ChargeState) -> None:
    """Nobody holds it: there is nothing to give back any more."""
    observation = observed(ChargeReport.PAID_THEN_REVERSED)
    after = machine.observe(a_charge(state), observation, order_paid=True).charge
    assert (after.state, after.late, after.duplicate_payment) == ("REVERSED", False, False)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::FFFF:203.0.113.7", "203.0.113.7"),
        ("::ffff:cb00:7107", "203.0.113.7"),
        ("0:0:0:0:0:ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("::1", "::1"),
        ("::203.0.113.7", "::203.0.113.7"),
        ("64:ff9b::203.0.113.7", "64:ff9b::203.0.113.7"),
        ("::ffff:203.0.113.7%eth0", "::ffff:203.0.113.7%eth0"),
        ("::ffff:203.0.113.07", "::ffff:203.0.113.07"),
        ("::ffff:203.0.113", "::ffff:203.0.113"),
        ("203.0.113.7:443", "203.0.113.7:443"),
        (":", ":"),
        ("", ""),
    ],
)
def test_a_payer_on_ipv4_is_named_in_ipv4(given: str, taken: str) -> None:
    """However a server on an IPv6 socket spells it; everything else is left as it was."""
    made = terms(client_ip=given)
    assert made.client_ip == taken
    assert replace(made, amount=1).client_ip == taken


def test_what_is_stored_in_words_stays_as_it_is() -> None:
    """The next version reads what this one has written."""
    assert (WITHDRAWN, REVERSING) == ("", "reversing ")
    assert machine.OUTCOME_STAYS_UNKNOWN == "Ping++ has not told for a day how this ended"
