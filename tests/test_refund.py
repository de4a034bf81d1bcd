"""The refund's state machine: every pair of state and observation, spelled out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from midas import refund as machine
from midas.refund import (
    Refund,
    RefundFacts,
    RefundNotice,
    RefundObservation,
    RefundSaid,
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

TOLD = {
    #            SUBMITTING   PENDING     SUCCEEDED   FAILED
    "WORKING":   "-           -           -           -",
    "DONE":      "SUCCESS     SUCCESS     -           SUCCESS",
    "FAILED":    "FAILED      FAILED      -           -",
    "REFUSED":   "FAILED      -           -           -",
    "UNSENT":    "-           -           -           -",
    "ABSENT":    "-           -           -           -",
    "NO_ANSWER": "-           -           -           -",
}  # fmt: skip
"""What the order service is told, whoever saw it; `-` is nothing."""

TABLES = [EXPECTED, JOURNAL, JOURNAL_OF_WEBHOOKS, TOLD]
OBSERVERS = {"CREATE": JOURNAL, "WEBHOOK": JOURNAL_OF_WEBHOOKS, "QUERY": JOURNAL}
NOTICES = {"-": None, "SUCCESS": RefundNotice.SUCCESS, "FAILED": RefundNotice.FAILED}

WITHOUT_FACTS = {"REFUSED", "UNSENT", "ABSENT", "NO_ANSWER"}
PAIRS = list(product(RefundState, RefundSaid))


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


def some_facts(said: RefundSaid = RefundSaid.WORKING, **changes: object) -> RefundFacts:
    """What Ping++ tells of that refund."""
    facts = RefundFacts(
        refund_id="re_1",
        charge_id="ch_1",
        amount=40,
        said=said,
        created_at=NOW,
        refund_no="refund-1",
        currency="cny",
        app_id="app_1",
        action_url="https://example.test/approve" if said is RefundSaid.WORKING else "",
        succeeded_at=NOW if said is RefundSaid.DONE else None,
        failure_code="refund_refused_msg" if said is RefundSaid.FAILED else "",
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def seen(said: RefundSaid, by: str = "QUERY") -> RefundObservation:
    """An observation as the adapter would make it."""
    facts = None if said in WITHOUT_FACTS else some_facts(said)
    return RefundObservation(said, by, NOW + timedelta(minutes=1), facts)


def cell(table: dict[str, str], state: RefundState, said: RefundSaid) -> str:
    """What the table says of this pair."""
    return table[said].split()[list(RefundState).index(state)]


def expected(state: RefundState, said: RefundSaid) -> tuple[str, bool]:
    """The state that must follow, and whether a person is called."""
    told = cell(EXPECTED, state, said)
    return told.rstrip("!"), told.endswith("!")


@pytest.mark.parametrize("table", TABLES)
def test_the_tables_cover_everything(table: dict[str, str]) -> None:
    """No state and no observation is left out of the expectations."""
    assert set(table) == set(RefundSaid)
    assert all(len(row.split()) == len(RefundState) for row in table.values())


@pytest.mark.parametrize(("state", "said"), PAIRS)
def test_every_pair(state: RefundState, said: RefundSaid) -> None:
    """Each observation leads each state exactly where the table says (I6)."""
    outcome = machine.observe(a_refund(state), seen(said))
    assert (outcome.refund.state, bool(outcome.refund.operator_reason)) == expected(state, said)


@pytest.mark.parametrize("by", OBSERVERS)
@pytest.mark.parametrize(("state", "said"), PAIRS)
def test_what_every_pair_writes_and_tells(state: RefundState, said: RefundSaid, by: str) -> None:
    """Each pair has its own journal entry and its own notice, or none, for each observer (I3)."""
    outcome = machine.observe(a_refund(state), seen(said, by))
    assert outcome.event == EVENTS[cell(OBSERVERS[by], state, said)]
    assert outcome.notice is NOTICES[cell(TOLD, state, said)]
    assert outcome.refund.state == expected(state, said)[0]


@pytest.mark.parametrize("by", OBSERVERS)
@pytest.mark.parametrize(
    ("said", "state", "event", "notice"),
    [
        ("WORKING", "FAILED", "refund_contradicted", None),
        ("DONE", "SUCCEEDED", "refund_succeeded", RefundNotice.SUCCESS),
        ("FAILED", "FAILED", "refund_observation_stale", None),
        ("REFUSED", "FAILED", "refund_observation_stale", None),
        ("ABSENT", "FAILED", "refund_observation_stale", None),
        ("NO_ANSWER", "FAILED", "refund_outcome_unknown", None),
    ],
)
def test_what_is_seen_of_a_refund_that_was_refused(
    said: str, state: str, event: str, notice: RefundNotice | None, by: str
) -> None:
    """No id of Ping++'s is known of it; a refund at work there contradicts, whoever saw it."""
    refused = replace(a_refund(RefundState.FAILED), refund_id=None)
    outcome = machine.observe(refused, seen(RefundSaid(said), by))
    assert (outcome.refund.state, outcome.event, outcome.notice) == (state, event, notice)
    assert outcome.refund.holds_money is (said in {"WORKING", "DONE"})


@pytest.mark.parametrize(("state", "said"), PAIRS)
def test_seen_twice_is_seen_once(state: RefundState, said: RefundSaid) -> None:
    """The same observation again, an hour later, changes nothing and announces nothing."""
    once = machine.observe(a_refund(state), seen(said)).refund
    twice = machine.observe(once, replace(seen(said), at=NOW + timedelta(hours=1)))
    unsent = twice.refund.unsent  # since when is written with each look
    assert twice.refund is once or (unsent and twice.refund.state is once.state)
    assert twice.notice is None


@pytest.mark.parametrize("state", list(RefundState))
def test_money_that_went_back_is_never_dropped(state: RefundState) -> None:
    """A refund that Ping++ made ends in SUCCEEDED and is announced, also after a failure."""
    outcome = machine.observe(a_refund(state), seen(RefundSaid.DONE))
    assert outcome.refund.state is RefundState.SUCCEEDED
    announced = None if state is RefundState.SUCCEEDED else RefundNotice.SUCCESS
    assert outcome.notice is announced


@pytest.mark.parametrize("said", [RefundSaid.FAILED, RefundSaid.REFUSED])
def test_a_refusal_is_announced_with_its_reason(said: RefundSaid) -> None:
    """A refund that was not done says why and is announced as failed."""
    told = replace(seen(said), code="refund_refused", message="no")
    outcome = machine.observe(a_refund(), told)
    assert outcome.notice is RefundNotice.FAILED
    assert outcome.refund.failure_code == "refund_refused"
    assert not outcome.refund.holds_money


@pytest.mark.parametrize("said", [RefundSaid.NO_ANSWER, RefundSaid.UNSENT, RefundSaid.ABSENT])
def test_an_unknown_refund_keeps_its_amount(said: RefundSaid) -> None:
    """Neither silence nor absence frees the reserved amount (I2, I5)."""
    outcome = machine.observe(a_refund(), seen(said))
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
WITH_FACTS = [said for said in RefundSaid if said not in WITHOUT_FACTS]


@pytest.mark.parametrize(
    ("state", "said", "field"),
    [
        (state, said, field)
        for state, said, field in product(RefundState, WITH_FACTS, MISMATCHES)
        # before an answer no id is known: the first one told is adopted
        if (state, field) != (RefundState.SUBMITTING, "refund_id")
    ],
)
def test_what_does_not_match_is_quarantined(
    state: RefundState, said: RefundSaid, field: str
) -> None:
    """Another amount, charge, currency, app or key moves nothing and calls a person (I4)."""
    before = a_refund(state)
    told = replace(seen(said), facts=some_facts(said, **MISMATCHES[field]))
    outcome = machine.observe(before, told)
    assert outcome.event == "refund_quarantined"
    assert field in outcome.detail["fields"]
    assert outcome.notice is None
    assert outcome.refund.state is before.state
    assert field in outcome.refund.operator_reason


def test_fields_that_older_answers_lack_are_not_compared() -> None:
    """Currency, app and metadata are missing from old answers, and that is no mismatch."""
    facts = some_facts(RefundSaid.DONE, currency="", app_id="", refund_no="")
    assert machine.mismatches(a_refund(), facts) == ()


def test_the_link_comes_and_goes() -> None:
    """The link that a person must open is kept while the refund is pending, the newest one."""
    pending = machine.observe(a_refund(), seen(RefundSaid.WORKING)).refund
    assert pending.action_url == "https://example.test/approve"
    again = some_facts(RefundSaid.WORKING, action_url="https://example.test/fresh")
    fresh = machine.observe(pending, replace(seen(RefundSaid.WORKING), facts=again)).refund
    assert fresh.action_url == "https://example.test/fresh"
    assert machine.observe(fresh, seen(RefundSaid.DONE)).refund.action_url == ""


def test_a_refusal_that_was_none_keeps_its_amount() -> None:
    """A refund taken for refused that Ping++ works on after all counts as spent, and is raised."""
    refused = machine.observe(a_refund(), seen(RefundSaid.REFUSED)).refund
    assert not refused.holds_money
    told = machine.observe(refused, seen(RefundSaid.WORKING))
    assert told.event == "refund_contradicted"
    assert told.refund.holds_money
    assert told.refund.refund_id == "re_1"


def test_an_alarm_outlives_the_success() -> None:
    """What a person has to look at is not taken back because the refund went through."""
    alarmed = replace(a_refund(RefundState.PENDING), operator_reason="doubled")
    assert machine.observe(alarmed, seen(RefundSaid.DONE)).refund.operator_reason == "doubled"
