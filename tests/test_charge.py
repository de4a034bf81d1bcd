"""The charge's state machine: every pair of state and observation, spelled out."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from midas import charge as machine
from midas.charge import (
    Charge,
    ChargeFacts,
    ChargeNotice,
    ChargeObservation,
    ChargeSaid,
    ChargeState,
    ObservedBy,
)

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

TOLD = {
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
"""What the order service is told; `-` is nothing."""

TOLD_BESIDE_THE_ANSWER = {
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

TOLD_IF_SUPERSEDED = {
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

TABLES = [EXPECTED, JOURNAL, JOURNAL_OF_WEBHOOKS, TOLD, TOLD_BESIDE_THE_ANSWER, TOLD_IF_SUPERSEDED]
OBSERVERS = {
    ObservedBy.CREATE: (JOURNAL, TOLD_BESIDE_THE_ANSWER),
    ObservedBy.WEBHOOK: (JOURNAL_OF_WEBHOOKS, TOLD),
    ObservedBy.QUERY: (JOURNAL, TOLD),
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
PAIRS = list(product(ChargeState, ChargeSaid))


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


def some_facts(said: str = "WAITING", /, **changes: object) -> ChargeFacts:
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
    return replace(facts, **{**FLAGS.get(said, {}), **changes})  # type: ignore[arg-type]


def seen(said: ChargeSaid, by: ObservedBy = ObservedBy.QUERY) -> ChargeObservation:
    """An observation as the adapter would make it."""
    facts = None if said in WITHOUT_FACTS else some_facts(said)
    return ChargeObservation(said, by, NOW + timedelta(minutes=1), facts)


def cell(table: dict[str, str], state: ChargeState, said: ChargeSaid) -> str:
    """What the table says of this pair."""
    return table[said].split()[list(ChargeState).index(state)]


def expected(state: ChargeState, said: ChargeSaid) -> tuple[str, bool]:
    """The state that must follow, and whether a person is called."""
    told = cell(EXPECTED, state, said)
    return told.rstrip("!"), told.endswith("!")


@pytest.mark.parametrize("table", TABLES)
def test_the_tables_cover_everything(table: dict[str, str]) -> None:
    """No state and no observation is left out of the expectations."""
    assert set(table) == set(ChargeSaid)
    assert all(len(row.split()) == len(ChargeState) for row in table.values())


@pytest.mark.parametrize(("state", "said"), PAIRS)
def test_every_pair(state: ChargeState, said: ChargeSaid) -> None:
    """Each observation leads each state exactly where the table says (I6)."""
    outcome = machine.observe(a_charge(state), seen(said), order_paid=False)
    assert (outcome.charge.state, bool(outcome.charge.operator_reason)) == expected(state, said)


@pytest.mark.parametrize("by", OBSERVERS)
@pytest.mark.parametrize(("state", "said"), PAIRS)
def test_what_every_pair_writes_and_tells(
    state: ChargeState, said: ChargeSaid, by: ObservedBy
) -> None:
    """Each pair has its own journal entry and its own notice, or none, for each observer (I3)."""
    journal, told = OBSERVERS[by]
    outcome = machine.observe(a_charge(state), seen(said, by), order_paid=False)
    assert outcome.event == EVENTS[cell(journal, state, said)]
    assert outcome.notice is NOTICES[cell(told, state, said)]


@pytest.mark.parametrize("by", OBSERVERS)
@pytest.mark.parametrize(("state", "said"), PAIRS)
def test_what_every_pair_tells_of_a_superseded_charge(
    state: ChargeState, said: ChargeSaid, by: ObservedBy
) -> None:
    """It moves as any other charge does, and of its end only money is told."""
    superseded = replace(a_charge(state), superseded=True)
    outcome = machine.observe(superseded, seen(said, by), order_paid=False)
    assert outcome.charge.state == expected(state, said)[0]
    assert outcome.charge.superseded
    assert outcome.event == EVENTS[cell(OBSERVERS[by][0], state, said)]
    assert outcome.notice is NOTICES[cell(TOLD_IF_SUPERSEDED, state, said)]


@pytest.mark.parametrize(("state", "said"), PAIRS)
def test_a_webhook_calls_nobody_by_coming_late(state: ChargeState, said: ChargeSaid) -> None:
    """It leads to the same states; but it may have been overtaken by a newer one (W4)."""
    told = seen(said, ObservedBy.WEBHOOK)
    outcome = machine.observe(a_charge(state), told, order_paid=False)
    assert outcome.charge.state == expected(state, said)[0]
    assert outcome.charge.operator_reason == ""


@pytest.mark.parametrize(("state", "said"), PAIRS)
def test_seen_twice_is_seen_once(state: ChargeState, said: ChargeSaid) -> None:
    """The same observation again, an hour later, changes nothing and announces nothing."""
    once = machine.observe(a_charge(state), seen(said), order_paid=False).charge
    later = replace(seen(said), at=NOW + timedelta(hours=1))
    twice = machine.observe(once, later, order_paid=False)
    assert twice.charge is once
    assert twice.notice is None


@pytest.mark.parametrize("state", list(ChargeState))
def test_money_is_never_dropped(state: ChargeState) -> None:
    """A payment ends in SUCCEEDED and is announced, wherever the charge stood; late ones say so."""
    outcome = machine.observe(a_charge(state), seen(ChargeSaid.PAID), order_paid=False)
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
    outcome = machine.observe(a_charge(state), seen(ChargeSaid.PAID), order_paid=True)
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
WITH_FACTS = [said for said in ChargeSaid if said not in WITHOUT_FACTS]


@pytest.mark.parametrize(
    ("state", "said", "field"),
    [
        (state, said, field)
        for state, said, field in product(ChargeState, WITH_FACTS, MISMATCHES)
        # before an answer no id is known: the first one told is adopted
        if (state, field) != (ChargeState.SUBMITTING, "charge_id")
    ],
)
def test_what_does_not_match_is_quarantined(
    state: ChargeState, said: ChargeSaid, field: str
) -> None:
    """Another amount, currency, app, mode or number moves nothing and calls a person (I4)."""
    before = a_charge(state)
    told = replace(seen(said), facts=some_facts(said, **MISMATCHES[field]))
    outcome = machine.observe(before, told, order_paid=False)
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
    outcome = machine.observe(before, seen(ChargeSaid.NO_ANSWER), order_paid=False)
    assert outcome.charge == before


def test_the_first_id_is_adopted() -> None:
    """A webhook may be the first to tell Ping++'s id of a charge whose answer was lost."""
    told = seen(ChargeSaid.PAID)
    outcome = machine.observe(a_charge(ChargeState.SUBMITTING), told, order_paid=False)
    assert outcome.charge.charge_id == "ch_1"


@pytest.mark.parametrize(
    ("state", "said", "by", "superseded", "notice"),
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
    state: str, said: str, by: str, superseded: bool, notice: ChargeNotice | None
) -> None:
    """An end is told unless the caller knows it by the answer or asked for it itself."""
    before = replace(a_charge(ChargeState(state)), superseded=superseded)
    told = seen(ChargeSaid(said), ObservedBy(by))
    assert machine.observe(before, told, order_paid=False).notice is notice


@pytest.mark.parametrize("state", list(ChargeState))
@pytest.mark.parametrize("said", list(ChargeSaid))
def test_only_an_open_charge_is_handed_out_again(state: ChargeState, said: ChargeSaid) -> None:
    """Ping++'s JSON is kept while the charge is PENDING and no longer."""
    after = machine.observe(a_charge(state), seen(said), order_paid=False).charge
    if after.state in {ChargeState.SUCCEEDED, ChargeState.CLOSED, ChargeState.FAILED}:
        assert after.answer is None


@pytest.mark.parametrize(
    ("changes", "minutes", "said"),
    [
        ({}, 0, ChargeSaid.WAITING),
        ({}, 121, ChargeSaid.WAITING),
        ({}, 122, ChargeSaid.LAPSED),
        ({"expires_at": None}, 10**6, ChargeSaid.WAITING),
        ({"paid": True}, 10**6, ChargeSaid.PAID),
        ({"paid": True, "reversed": True}, 0, ChargeSaid.PAID_THEN_REVERSED),
        ({"reversed": True}, 10**6, ChargeSaid.REVERSED),
        ({"failure_code": "x"}, 0, ChargeSaid.PAYMENT_FAILED),
    ],
)
def test_reading_the_flags(changes: dict[str, object], minutes: int, said: ChargeSaid) -> None:
    """Ping++'s flags mean what pingpp.md section 2 says, and an expiry counts after its grace."""
    facts = some_facts(**changes)
    at = NOW + timedelta(minutes=minutes)
    assert machine.said_by(facts, at, facts.created_at, timedelta(minutes=2)) is said


def test_a_clock_that_is_ahead_lets_nothing_lapse_early() -> None:
    """A charge lasts by our own clock as long as by Ping++'s, from when it was asked for (R6)."""
    facts = some_facts()
    assert facts.expires_at is not None
    ahead, grace = timedelta(minutes=10), timedelta(minutes=2)
    asked_since = facts.created_at + ahead
    over = facts.expires_at + grace
    assert machine.said_by(facts, over, asked_since, grace) is ChargeSaid.WAITING
    assert machine.said_by(facts, over + ahead, asked_since, grace) is ChargeSaid.LAPSED


def test_a_clock_that_is_behind_lets_nothing_lapse_early() -> None:
    """Nor does one that is slow, or a charge that Ping++ made long after it was asked for."""
    facts = some_facts()
    assert facts.expires_at is not None
    grace, earlier = timedelta(minutes=2), facts.created_at - timedelta(hours=1)
    over = facts.expires_at + grace
    assert machine.said_by(facts, over - timedelta(seconds=1), earlier, grace) is ChargeSaid.WAITING
    assert machine.said_by(facts, over, earlier, grace) is ChargeSaid.LAPSED


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
    assert machine.is_over(facts, at, since, GRACE, beside) is over
    said = ChargeSaid.LAPSED if over else ChargeSaid.WAITING
    assert machine.said_by(facts, at, since, GRACE, beside) is said


def test_what_has_no_end_is_never_over() -> None:
    """Ping++ did not tell when it ends."""
    facts = some_facts(expires_at=None)
    assert not machine.is_over(facts, NOW + 1000 * HOUR, NOW, GRACE)
