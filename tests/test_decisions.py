"""What the flows decide about one row, each decision by itself: on a draft, without a world."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from midas import limits, schedule
from midas.charge import (
    OUTCOME_STAYS_UNKNOWN,
    REVERSING,
    WITHDRAWN,
    Charge,
    ChargeFacts,
    ChargeObservation,
    ChargeReport,
    ChargeState,
    ObservedBy,
)
from midas.draft import Draft
from midas.errors import (
    ChargeRefused,
    ChargeStillOpen,
    InvalidRequest,
    MidasError,
    NotFound,
    OutcomeUnknown,
    PspUnavailable,
    RefundNotAllowed,
)
from midas.event import ChargeInEvent
from midas.flows import close, declined, query, reversal
from midas.flows import create_charge as charge_flow
from midas.flows import create_refund as refund_flow
from midas.flows.apply_event import _charge_of
from midas.flows.commit import Ports
from midas.flows.deadline import NO_DEADLINE
from midas.flows.event_handlers import NotYet
from midas.flows.look import refund_decision_on
from midas.flows.not_sent import not_sent
from midas.flows.observe import charge_observation, create_observation
from midas.flows.payment_calls import Payments, SystemClock
from midas.flows.resolve_charge import finish_superseded
from midas.flows.run import Run
from midas.flows.terms import charge_digest
from midas.flows.unknown import as_unknown, lease_end
from midas.payment import Order
from midas.ports import Done, KeyKind, NotDone, Refusal, Unknown, Verdict
from midas.psp.sdk import Prepared
from midas.psp.transport import Answer, Lost, NotSent, Sent
from midas.refund import RefundObservation, RefundReport, RefundState
from midas.sandbox.ledger import Lookalike
from tests.fakes.psp import DirectWire, client_over
from tests.fakes.store import MemoryStore
from tests.faults.scenarios import TERMS
from tests.faults.world import TOTAL_TIMEOUT
from tests.records import NOON, a_charge, a_refund

KEY, NUMBER = "o1", "N1"
GONE = Answer(404, b'{"error":{"type":"invalid_request_error","message":"gone","param":"id"}}', "")


class Wire(DirectWire):
    """Ping++, and what it was asked."""

    def __init__(self) -> None:
        super().__init__(Lookalike("app_1"))
        self.asked: list[str] = []
        self.answer: dict[str, Any] | Sent = {}
        """What it says instead, or what of its answer is changed."""

    async def send(self, request: Prepared, limit: timedelta) -> Sent:
        """As it is, and noted."""
        self.asked.append(request.method)
        if not isinstance(self.answer, dict):
            return self.answer
        answer = await super().send(request, limit)
        assert isinstance(answer, Answer)
        return replace(answer, body=json.dumps(json.loads(answer.body) | self.answer).encode())


@pytest.fixture
def wire() -> Wire:
    """Nothing was asked yet."""
    return Wire()


@pytest.fixture
def ports(wire: Wire) -> Ports:
    """A store at NOON."""
    psp = client_over(wire, "app_1", TOTAL_TIMEOUT)
    return Payments(MemoryStore(clock=NOON), psp, SystemClock()).ports


def one(state: ChargeState = ChargeState.PENDING, **fields: Any) -> Charge:
    """An order's only charge."""
    known = {"out_trade_no": NUMBER, "charge_id": "ch_1", "state": state}
    return a_charge(KEY, **known | fields)


def written(charge: Charge, decide: Callable[[Draft], object]) -> list[str]:
    """The entries of the journal that the decision comes to; none where nothing is written."""
    draft = Draft(Order(KEY, charges=(charge,)))
    decide(draft)
    change = draft.change("change")
    return [] if change is None else [each.event for each in change.journal]


def shown_unpaid(charge: Charge) -> ChargeObservation:
    """Ping++ shows it, and nobody has paid."""
    facts = ChargeFacts(
        *("ch_1", NUMBER, charge.app_id, charge.livemode, charge.channel),
        *(charge.amount, charge.currency, False, False),
        created_at=NOON,
    )
    return ChargeObservation(ChargeReport.WAITING, ObservedBy.QUERY, NOON, facts)


# Making way -------------------------------------------------------------------------------


@pytest.mark.parametrize("superseded", [False, True])
def test_a_charge_makes_way_once(superseded: bool) -> None:
    """Another process may have superseded it meanwhile: that is not written a second time."""
    charge = one(superseded=superseded)
    events = written(charge, close._supersede(NUMBER, shown_unpaid(charge)))
    assert events.count("charge_superseded") == (not superseded)


@pytest.mark.parametrize(
    ("shown", "superseded"),
    [({}, True), ({"paid": True}, False), ({"amount": 1}, False)],
    ids=["unpaid", "paid", "another amount"],
)
def test_only_what_is_ours_and_unpaid_makes_way(shown: dict[str, Any], superseded: bool) -> None:
    """What is paid after all stays the order's charge, and of what is not ours nobody knows."""
    observation = shown_unpaid(one())
    assert observation.facts is not None
    report = ChargeReport.PAID if "paid" in shown else ChargeReport.WAITING
    observation = replace(observation, report=report, facts=replace(observation.facts, **shown))
    events = written(one(), close._supersede(NUMBER, observation))
    assert ("charge_superseded" in events) is superseded


@pytest.mark.parametrize(
    ("answer", "verdict", "asked"),
    [
        ({}, Done, []),
        ({"reversed": False}, Done, ["GET"]),
        ({"reversed": False, "paid": True, "time_paid": int(NOON.timestamp())}, Done, []),
        (Lost("timeout"), Unknown, ["GET"]),
        (GONE, NotDone, ["GET"]),
        (NotSent("refused"), NotDone, []),
    ],
    ids=["reversed", "says nothing", "paid", "no answer", "not found", "not sent"],
)
async def test_a_reversal_that_does_not_say_how_it_ended_is_asked_about(
    ports: Ports,
    wire: Wire,
    answer: dict[str, Any] | Sent,
    verdict: type[Done[Any] | Unknown | NotDone],
    asked: list[str],
) -> None:
    """Once; one that did not leave has changed nothing."""
    made = await ports.psp.create_charge(one(channel="alipay_qr", created_at=ports.store.now()))
    assert isinstance(made, Done)
    wire.asked, wire.answer = [], answer
    assert type(await close._reverse(ports, made.answer.charge_id)) is verdict
    assert wire.asked == ["POST", *asked]


@pytest.mark.parametrize(
    ("charge", "events"),
    [
        (one(), ["charge_closing"]),
        (one(answer="{}"), ["charge_closing"]),
        (one(answer=WITHDRAWN), []),
        (one(ChargeState.SUCCEEDED, answer="{}"), []),
        (one(ChargeState.CLOSED), []),
    ],
)
def test_only_an_open_charge_is_withdrawn(ports: Ports, charge: Charge, events: list[str]) -> None:
    """What was paid or closed meanwhile stays as it is, and what is withdrawn already, too."""
    assert written(charge, close._not_handed_out_again(ports, NUMBER)) == events


QR_CODE = one(channel="isv_qr")
DECLINED = one(ChargeState.SUBMITTING, failure_code="no")


@pytest.mark.parametrize(
    ("charge", "shown", "is_reversed"),
    [
        (QR_CODE, {}, True),
        (one(channel="wx_pub_qr"), {}, True),
        (one(channel="upacp_qr"), {}, False),
        (QR_CODE, {"paid": True}, False),
        (QR_CODE, {"reversed": True}, False),
        (QR_CODE, {"amount": 7}, False),
        (QR_CODE, {"expires_at": NOON - timedelta(days=1)}, False),
        (replace(QR_CODE, operator_reason="amount"), {}, False),
    ],
)
def test_what_is_to_be_reversed(
    ports: Ports, charge: Charge, shown: dict[str, Any], is_reversed: bool
) -> None:
    """Ours, open and unpaid; and not while a person has to say whose it is."""
    facts = shown_unpaid(charge).facts
    assert facts is not None
    assert reversal.is_to_be_reversed(ports, charge, replace(facts, **shown)) is is_reversed


@pytest.mark.parametrize(
    ("answer", "shown", "is_reversed"),
    [
        (None, {}, True),
        ("reversing 1", {}, True),
        (None, {"paid": True}, False),
        ("reversing 1", {"paid": True}, True),
        (None, {"reversed": True}, False),
        ("reversing 1", {"paid": True, "reversed": True}, False),
        (None, {"amount": 7}, False),
        ("reversing 1", {"expires_at": NOON - timedelta(days=1)}, False),
        ("reversing 1", {"paid": True, "paid_at": NOON - limits.SETTLE_WINDOW}, False),
        ("reversing 1", {"paid": True, "paid_at": NOON - limits.SETTLE_WINDOW / 2}, True),
    ],
)
def test_which_declined_bar_code_is_to_be_reversed(
    ports: Ports, answer: str | None, shown: dict[str, Any], is_reversed: bool
) -> None:
    """One that is paid only where an earlier reversal may take it back, and for a while."""
    charge = replace(DECLINED, channel="alipay_scan", answer=answer)
    facts = shown_unpaid(charge).facts
    assert facts is not None
    found = replace(facts, **shown)
    by = ObservedBy.RESOLVE
    assert declined._is_to_be_reversed(ports, charge, found, by) is is_reversed
    called = replace(charge, operator_reason="amount")
    assert declined._is_to_be_reversed(ports, called, found, by) is False
    asked = declined._is_to_be_reversed(ports, charge, found, ObservedBy.QUERY)
    assert asked is (is_reversed and answer is None), "who asks adds none to one on its way"


@pytest.mark.parametrize(
    ("charge", "answer"),
    [
        (one(answer="{}"), "reversing 1"),
        (one(answer=WITHDRAWN), "reversing 1"),
        (one(answer="reversing 0"), "reversing 1 again"),
        (one(answer="{}", operator_reason="amount"), "{}"),
        (one(ChargeState.SUCCEEDED), None),
        (one(ChargeState.CLOSED), None),
    ],
)
def test_only_an_open_charge_is_marked(ports: Ports, charge: Charge, answer: str | None) -> None:
    """What was paid, closed or left to a person meanwhile is not reversed."""
    draft = Draft(Order(KEY, charges=(charge,)))
    reversal._marked(ports, NUMBER, "reversing 1", ObservedBy.QUERY)(draft)
    assert draft.charge(NUMBER).answer == answer


@pytest.mark.parametrize(
    ("charge", "is_marked"),
    [
        (DECLINED, True),
        (replace(DECLINED, operator_reason="amount"), False),
        (one(), False),
        (one(ChargeState.SUCCEEDED), False),
    ],
)
def test_only_a_declined_bar_code_is_marked(ports: Ports, charge: Charge, is_marked: bool) -> None:
    """What was announced meanwhile, or left to a person, is not reversed."""
    draft = Draft(Order(KEY, charges=(charge,)))
    declined._marked(ports, NUMBER, "reversing 1", ObservedBy.QUERY)(draft)
    assert (draft.charge(NUMBER).answer == "reversing 1") is is_marked


@pytest.mark.parametrize("answer", ["reversing 1", "reversing 2", WITHDRAWN])
def test_a_bar_code_that_is_refused_to_be_reversed_stays_declined(
    ports: Ports, answer: str
) -> None:
    """It is unpaid and was listed: it is neither open again nor given up."""
    charge = replace(DECLINED, answer=answer)
    facts = shown_unpaid(charge).facts
    assert facts is not None
    draft = Draft(Order(KEY, charges=(charge,)))
    by = ObservedBy.QUERY
    reversal.reversal_answered(ports, DECLINED, "reversing 1", facts, by)(draft)
    after = draft.charge(NUMBER)
    assert (after.is_declined, after.is_withdrawn) == (True, True)
    assert after.is_being_reversed is (answer == "reversing 2"), "that is another one's"


@pytest.mark.parametrize("charge", [one(), DECLINED])
@pytest.mark.parametrize(
    ("answer", "verdict", "after"),
    [
        ("reversing 1", NotDone(Refusal.NOT_SENT), WITHDRAWN),
        ("reversing 1", NotDone(Refusal.THROTTLED), WITHDRAWN),
        ("reversing 1", Unknown("timeout"), "reversing 1"),
        ("reversing 1 again", NotDone(Refusal.NOT_SENT), "reversing 1 again"),
        ("reversing 1 again", Unknown("timeout"), "reversing 1 again"),
        ("reversing 2", NotDone(Refusal.NOT_SENT), "reversing 2"),
        ("reversing 2", Unknown("timeout"), "reversing 2 again"),
        ("reversing 2 again", Unknown("timeout"), "reversing 2 again"),
        (WITHDRAWN, NotDone(Refusal.NOT_SENT), WITHDRAWN),
        (WITHDRAWN, Unknown("timeout"), "reversing 1 again"),
        (None, Unknown("timeout"), "reversing 1 again"),
        (None, NotDone(Refusal.NOT_SENT), None),
    ],
)
def test_what_is_left_of_a_mark(
    ports: Ports, charge: Charge, answer: str | None, verdict: NotDone | Unknown, after: str | None
) -> None:
    """Doubt ends with the only reversal, and begins anew where the database has lost its mark."""
    apart = timedelta(minutes=5)
    row = replace(charge, answer=answer, due_at=NOON + apart, updated_at=NOON - apart)
    draft = Draft(Order(KEY, charges=(row,)))
    reversal.reversal_answered(ports, charge, "reversing 1", verdict, ObservedBy.QUERY)(draft)
    now = draft.charge(NUMBER)
    assert now.answer == after
    is_new = not row.is_being_reversed and now.is_being_reversed
    assert (now.due_at == NOON) is is_new
    is_marked = isinstance(verdict, Unknown) and not str(answer).startswith("reversing 1")
    assert (now.updated_at == NOON) is is_marked, "the settle window begins anew"
    assert now.superseded is (is_marked and charge.state is ChargeState.PENDING)


def test_a_payment_that_was_believed_meanwhile_calls_a_person(ports: Ports) -> None:
    """The mark was lost, and Ping++ would not tell that this reversal took the payment back."""
    before = NOON - timedelta(minutes=5)
    paid = one(ChargeState.SUCCEEDED, updated_at=before)
    draft = Draft(Order(KEY, charges=(paid,)))
    lost = Unknown("timeout")
    reversal.reversal_answered(ports, paid, "reversing 1", lost, ObservedBy.QUERY)(draft)
    called = draft.charge(NUMBER)
    assert (called.state, called.updated_at) == (ChargeState.SUCCEEDED, NOON)
    assert called.operator_reason == "a reversal that was not answered may take this payment back"


def test_what_a_person_looks_at_is_not_doubted_again(ports: Ports) -> None:
    """He has been called; nobody looks at it by himself."""
    called = one(answer=WITHDRAWN, operator_reason="amount")
    draft = Draft(Order(KEY, charges=(called,)))
    lost = Unknown("timeout")
    reversal.reversal_answered(ports, called, "reversing 1", lost, ObservedBy.QUERY)(draft)
    assert draft.charge(NUMBER) == called


@pytest.mark.parametrize(
    ("state", "verdict", "called"),
    [
        (ChargeState.SUCCEEDED, Unknown("timeout"), True),
        (ChargeState.SUCCEEDED, NotDone(Refusal.NOT_SENT), False),
        (ChargeState.CLOSED, Unknown("timeout"), False),
        (ChargeState.REVERSED, Unknown("timeout"), False),
    ],
)
def test_whose_payment_a_lost_reversal_may_take_back(
    ports: Ports, state: ChargeState, verdict: NotDone | Unknown, called: bool
) -> None:
    """A person is called where it was believed, and nobody where no reversal has left."""
    draft = Draft(Order(KEY, charges=(one(state),)))
    reversal.reversal_answered(ports, one(), "reversing 1", verdict, ObservedBy.QUERY)(draft)
    assert bool(draft.charge(NUMBER).operator_reason) is called


def test_a_mark_says_when_its_reversal_left(ports: Ports) -> None:
    """From then on it has the settle window."""
    for charge, mark in ((one(), reversal._marked), (DECLINED, declined._marked)):
        draft = Draft(Order(KEY, charges=(replace(charge, updated_at=NOON - timedelta(hours=1)),)))
        mark(ports, NUMBER, "reversing 1", ObservedBy.QUERY)(draft)
        marked = draft.charge(NUMBER)
        assert (marked.updated_at, marked.is_being_reversed) == (NOON, True)


@pytest.mark.parametrize(
    ("mark", "state"),
    [("reversing 1", ChargeState.SUCCEEDED), ("reversing 2", ChargeState.SUBMITTING)],
)
def test_a_refused_reversal_speaks_for_itself_alone(
    ports: Ports, mark: str, state: ChargeState
) -> None:
    """Another process has sent another one meanwhile, and that may take the payment back."""
    charge = replace(DECLINED, answer=mark)
    facts = shown_unpaid(charge).facts
    assert facts is not None
    paid = replace(facts, paid=True)
    by = ObservedBy.RESOLVE
    draft = Draft(Order(KEY, charges=(charge,)))
    reversal.reversal_answered(ports, DECLINED, "reversing 1", paid, by)(draft)
    assert draft.charge(NUMBER).state is state


SETTLES = limits.SETTLE_WINDOW + TOTAL_TIMEOUT
"""After that a reversal has arrived, also where the look that finds it took its time."""


@pytest.mark.parametrize(
    ("awake", "settled"),
    [(None, True), (SETTLES, True), (SETTLES - timedelta(seconds=1), False)],
)
def test_a_reversal_has_settled_when_that_much_time_has_certainly_passed(
    ports: Ports, awake: timedelta | None, settled: bool
) -> None:
    """A clock that stepped while nobody ran says nothing."""
    began = None if awake is None else ports.clock.monotonic() - awake.total_seconds()
    charge = one(answer=REVERSING)
    facts = shown_unpaid(charge).facts
    assert facts is not None
    observation = charge_observation(replace(ports, started=began), charge, facts, ObservedBy.QUERY)
    assert observation.settled_before == (NOON - SETTLES if settled else None)


@pytest.mark.parametrize("ahead_s", [-3600, 0, 3600])
def test_of_two_clocks_the_slower_one_tells_when_a_reversal_has_settled(
    ports: Ports, monkeypatch: pytest.MonkeyPatch, ahead_s: int
) -> None:
    """Whichever is wrong, that only delays it; and a restart does not (I9)."""
    psp_now = NOON + timedelta(seconds=ahead_s)
    monkeypatch.setattr(type(ports.psp), "latest_now", lambda _: psp_now)
    charge = one(answer=REVERSING)
    facts = shown_unpaid(charge).facts
    assert facts is not None
    just_started = replace(ports, started=ports.clock.monotonic())
    observation = charge_observation(just_started, charge, facts, ObservedBy.QUERY)
    assert observation.settled_before == min(NOON, psp_now) - SETTLES


@pytest.mark.parametrize(
    ("charge", "code"),
    [
        (one(ChargeState.SUBMITTING, failure_code="no", answer=WITHDRAWN), "not_listed"),
        (one(ChargeState.SUCCEEDED), None),
        (one(ChargeState.PENDING), None),
    ],
)
def test_only_a_declined_code_is_given_up(ports: Ports, charge: Charge, code: str | None) -> None:
    """A list without it changes nothing of one of which a webhook has brought more meanwhile.

    One that was listed before is not given up either: the journal says that it was not listed now.
    """
    draft = Draft(Order(KEY, charges=(charge,)))
    declined._not_listed(ports, NUMBER, ObservedBy.RESOLVE, NOON)(draft)
    change = draft.change("change")
    assert (change is None) is (code is None)
    assert code is None or draft.charge(NUMBER).state is ChargeState.SUBMITTING
    assert draft.charge(NUMBER).absent_since is None
    if change is not None:
        assert [each.detail.get("code") for each in change.journal] == [code]


def test_a_declined_code_that_a_person_looks_at_is_not_due(ports: Ports) -> None:
    """It is not listed; when it is given up is for that person to say."""
    called = {"failure_code": "no", "operator_reason": "look at it", "absent_since": NOON}
    draft = Draft(Order(KEY, charges=(one(ChargeState.SUBMITTING, **called),)))
    declined._not_listed(ports, NUMBER, ObservedBy.RESOLVE, NOON)(draft)
    assert draft.charge(NUMBER).due_at is None


# What nobody tells for a day --------------------------------------------------------------


@pytest.mark.parametrize("early_s", [0, 1])
@pytest.mark.parametrize("unsent", [False, True])
@pytest.mark.parametrize("state", list(RefundState))
def test_a_person_is_called_for_a_refund_that_is_unknown_for_a_day(
    state: RefundState, unsent: bool, early_s: int
) -> None:
    """Not for one that Ping++ works on or that has ended, nor for one that was never sent."""
    charge = one(ChargeState.SUCCEEDED)
    refund = a_refund(charge, refund_no="R1", state=state, unsent=unsent, due_at=NOON)
    at = refund.updated_at + limits.UNKNOWN_PATIENCE - timedelta(seconds=early_s)
    draft = Draft(Order(KEY, charges=(charge,), refunds=(refund,)))
    after = draft.observe_refund(
        "R1", RefundObservation(RefundReport.NO_ANSWER, ObservedBy.RESOLVE, at)
    )
    called = state is RefundState.SUBMITTING and not unsent and not early_s
    assert (after.operator_reason == OUTCOME_STAYS_UNKNOWN) is called


@pytest.mark.parametrize("early_s", [0, 1])
@pytest.mark.parametrize("state", list(ChargeState))
def test_a_person_is_called_for_a_charge_that_is_unknown_for_a_day(
    state: ChargeState, early_s: int
) -> None:
    """Not for one that its payer may pay, or that has ended."""
    charge = one(state, due_at=NOON)
    at = charge.created_at + limits.UNKNOWN_PATIENCE - timedelta(seconds=early_s)
    draft = Draft(Order(KEY, charges=(charge,)))
    unanswered = ChargeObservation(ChargeReport.NO_ANSWER, ObservedBy.RESOLVE, at)
    after = draft.observe_charge(NUMBER, unanswered)
    called = state is ChargeState.SUBMITTING and not early_s
    assert (after.operator_reason == OUTCOME_STAYS_UNKNOWN) is called


# When to look next ------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "look at it"])
@pytest.mark.parametrize("looks", [0, 3])
@pytest.mark.parametrize("state", list(RefundState))
def test_when_a_refund_is_looked_at_next(state: RefundState, looks: int, reason: str) -> None:
    """The more rarely, the longer nothing comes; what has ended or waits for a person, never."""
    pauses = {
        RefundState.SUBMITTING: schedule.next_resolve(LATER, looks),
        RefundState.PENDING: schedule.next_poll(LATER, looks),
    }
    due_at = pauses.get(state)
    known = {"state": state, "looks": looks, "operator_reason": reason}
    charge = one(ChargeState.SUCCEEDED)
    refund = a_refund(charge, refund_no="R1", due_at=due_at and NOON, **known)
    draft = Draft(Order(KEY, charges=(charge,), refunds=(refund,)))
    unanswered = RefundObservation(RefundReport.NO_ANSWER, ObservedBy.RESOLVE, LATER)
    after = draft.observe_refund("R1", unanswered)
    if reason:
        assert (after.due_at, after.looks) == (refund.due_at, looks)
    else:
        assert (after.due_at, after.looks) == (due_at, looks + (due_at is not None))


@pytest.mark.parametrize("reason", ["", "look at it"])
@pytest.mark.parametrize("looks", [0, 3])
@pytest.mark.parametrize("state", list(ChargeState))
def test_when_a_charge_is_looked_at_next(state: ChargeState, looks: int, reason: str) -> None:
    """The same of a charge, which its payer may pay."""
    pauses = {
        ChargeState.SUBMITTING: schedule.next_resolve(LATER, looks),
        ChargeState.PENDING: schedule.next_poll(LATER, looks),
    }
    due_at = pauses.get(state)
    charge = one(state, looks=looks, operator_reason=reason, due_at=due_at and NOON)
    draft = Draft(Order(KEY, charges=(charge,)))
    unanswered = ChargeObservation(ChargeReport.NO_ANSWER, ObservedBy.RESOLVE, LATER)
    after = draft.observe_charge(NUMBER, unanswered)
    if reason:
        assert (after.due_at, after.looks) == (charge.due_at, looks)
    else:
        assert (after.due_at, after.looks) == (due_at, looks + (due_at is not None))


LATER = NOON + timedelta(minutes=1)


# What was never sent, or is not shown -----------------------------------------------------


@pytest.mark.parametrize(("late_s", "failed"), [(-1, True), (0, False)])
def test_a_charge_that_was_not_sent_has_failed_within_its_lease(
    ports: Ports, late_s: int, failed: bool
) -> None:
    """After that others may have posted it, of which its sender knows nothing."""
    charge = one(ChargeState.SUBMITTING, charge_id=None)
    lasts = lease_end(ports, charge) - NOON
    cast(MemoryStore, ports.store).clock = NOON + lasts + timedelta(seconds=late_s)
    events = written(charge, not_sent(ports, charge))
    assert events == ["charge_failed"] * failed


@pytest.mark.parametrize("by", [ObservedBy.QUERY, ObservedBy.RESOLVE])
@pytest.mark.parametrize("reason", ["", "look at it"])
@pytest.mark.parametrize("state", list(RefundState))
def test_only_a_refund_that_is_pending_can_be_missed(
    ports: Ports, state: RefundState, reason: str, by: ObservedBy
) -> None:
    """A webhook may have brought its end since Ping++ was asked; and a person is called once."""
    charge = one(ChargeState.SUCCEEDED)
    refund = a_refund(charge, refund_no="R1", state=state, operator_reason=reason)
    decide = refund_decision_on(ports, refund, NotDone(Refusal.NOT_FOUND), by)
    assert decide is not None
    draft = Draft(Order(KEY, charges=(charge,), refunds=(refund,)))
    decide(draft)
    missed = state is RefundState.PENDING and not reason
    assert draft.refund("R1").absent_since == (ports.store.now() if missed else None)
    assert (draft.change("change") is not None) is missed


# What the caller hears --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "state", "error"),
    [
        (Unknown("lease_over"), ChargeState.FAILED, ChargeRefused),
        (Unknown("timeout"), ChargeState.CLOSED, ChargeRefused),
        (Unknown("timeout"), ChargeState.REVERSED, ChargeRefused),
        (Unknown("timeout"), ChargeState.SUBMITTING, OutcomeUnknown),
        (Unknown("timeout"), ChargeState.SUCCEEDED, OutcomeUnknown),
        (NotDone(Refusal.REFUSED, param="scan_code"), ChargeState.FAILED, ChargeRefused),
    ],
)
def test_why_there_is_no_charge(
    verdict: Unknown | NotDone, state: ChargeState, error: type[MidasError]
) -> None:
    """By how the charge stands after all, whatever the call itself came to."""
    raised = charge_flow._why_not(verdict, one(state, failure_code="balance", failure_message="no"))
    assert type(raised) is error
    if isinstance(raised, ChargeRefused):
        assert (raised.code, raised.message) == ("balance", "no")
        assert raised.param == getattr(verdict, "param", "")


@pytest.mark.parametrize(
    ("verdict", "code", "message"),
    [
        (
            NotDone(Refusal.REFUSED, "channel_request_error", "", "no"),
            "channel_request_error",
            "no",
        ),
        (NotDone(Refusal.REFUSED, message="no"), "refused", "no"),
        (NotDone(Refusal.THROTTLED, message="too many"), "throttled", ""),
        (NotDone(Refusal.MIDAS_REJECTED, message="sk_live_1 is wrong"), "midas_rejected", ""),
    ],
)
def test_a_refusal_has_a_code(ports: Ports, verdict: NotDone, code: str, message: str) -> None:
    """Ping++'s own, or what kind of refusal it was; its words, unless they are of our key."""
    observation = create_observation(ports, one(ChargeState.SUBMITTING), verdict)
    assert (observation.report, observation.code, observation.message) == (
        ChargeReport.REFUSED,
        code,
        message,
    )


def test_an_expiry_is_in_whole_seconds() -> None:
    """Ping++ takes no others; what is stored is what was sent."""
    now = datetime(2026, 3, 1, 12, 0, 0, 654321, tzinfo=UTC)
    asked = charge_flow._expiry(now, timedelta(minutes=10))
    assert asked == datetime(2026, 3, 1, 12, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("charge_id", "channel", "asked"),
    [
        ("ch_1", "wx_scan", ["GET"]),
        (None, "wx_scan", []),
        ("ch_1", "wx_pub_qr", ["POST"]),
        ("ch_1", "alipay_qr", []),
    ],
)
async def test_how_an_answer_is_had_again(
    ports: Ports, wire: Wire, charge_id: str | None, channel: str, asked: list[str]
) -> None:
    """A bar code is asked for, never posted again; others where Ping++ refuses a second one."""
    charge = one(channel=channel, charge_id=charge_id, created_at=ports.store.now())
    await charge_flow._fresh_answer(ports, charge)
    assert wire.asked == asked


@pytest.mark.parametrize(
    ("answer", "waits"),
    [
        ({}, True),
        ({"amount": 1}, False),
        ({"paid": True, "time_paid": int(NOON.timestamp())}, False),
        (Lost("timeout"), False),
        (GONE, False),
    ],
    ids=["unpaid", "another amount", "paid", "no answer", "not found"],
)
async def test_what_is_over_by_our_own_clock_is_asked_about(
    ports: Ports, wire: Wire, answer: dict[str, Any] | Sent, waits: bool
) -> None:
    """It is handed out again only if Ping++ shows just this charge, still waiting for its payer."""
    made = await ports.psp.create_charge(one(created_at=ports.store.now()))
    assert isinstance(made, Done)
    over = one(charge_id=made.answer.charge_id, expires_at=NOON - timedelta(seconds=1))
    wire.answer = answer
    assert await charge_flow._can_be_paid(ports, over) is waits
    assert wire.asked == ["POST", "GET"]


@pytest.mark.parametrize("answer", [None, WITHDRAWN, f"{REVERSING}1"])
async def test_what_is_withdrawn_is_not_handed_out_while_ping_rests(
    ports: Ports, answer: str | None
) -> None:
    """The caller hears what it would have heard without that charge."""
    terms = replace(TERMS, order_no=KEY)
    known = one(terms_digest=charge_digest(terms), answer="{}")
    rests = PspUnavailable()
    await keep(ports, known)
    assert (await charge_flow.answer_from_storage(ports, terms, rests)).charge_json == "{}"
    ports = replace(ports, store=MemoryStore(clock=NOON))
    await keep(ports, replace(known, answer=answer))
    with pytest.raises(PspUnavailable):
        await charge_flow.answer_from_storage(ports, terms, rests)


@pytest.mark.parametrize("superseded", [False, True])
@pytest.mark.parametrize("answer", [None, "{}", WITHDRAWN, f"{REVERSING}1"])
def test_what_another_process_has_begun_to_close_has_made_way(
    answer: str | None, superseded: bool
) -> None:
    """Its answer came after that, and is handed out no more."""
    closing = answer in (WITHDRAWN, f"{REVERSING}1")
    charge = one(answer=answer, superseded=superseded)
    assert charge_flow._closing_began(charge) is (closing or superseded)


async def keep(ports: Ports, charge: Charge) -> None:
    """Write it down as it is."""
    draft = Draft(await ports.store.load(KEY))
    draft.put(charge, ("charge_pending", NOON, ObservedBy.CREATE))
    change = draft.change("1")
    assert change is not None
    assert await ports.store.commit(change)


async def test_a_charge_without_an_id_is_not_asked_about(ports: Ports, wire: Wire) -> None:
    """Nobody can tell Ping++ which one is meant: not to give it back, to close it or to pay it."""
    charge = one(charge_id=None, expires_at=NOON)
    assert await charge_flow._can_be_paid(ports, charge) is False
    with pytest.raises(RefundNotAllowed) as refused:
        await refund_flow._fetch(ports, Order(KEY, charges=(charge,)), charge)
    with pytest.raises(ChargeStillOpen):
        await close.close(ports, Order(KEY, charges=(charge,)), NUMBER)
    assert refused.value.reason == "ORDER_NOT_PAID"
    assert wire.asked == []


@pytest.mark.parametrize(
    ("kind", "key", "numbers"),
    [
        (KeyKind.ORDER_NO, KEY, ["N1", "N2"]),
        (KeyKind.OUT_TRADE_NO, "N2", ["N2"]),
        (KeyKind.OUT_TRADE_NO, "N3", []),
        (KeyKind.CHARGE_ID, "ch_1", ["N1"]),
        (KeyKind.CHARGE_ID, "ch_3", []),
        (KeyKind.REFUND_NO, "R2", ["N2"]),
        (KeyKind.REFUND_ID, "re_1", ["N1"]),
    ],
)
def test_a_key_names_the_charges_that_it_is_of(kind: KeyKind, key: str, numbers: list[str]) -> None:
    """A refund's key names its charge, an order's number all charges of the order."""
    charges = (one(), one(out_trade_no="N2", charge_id="ch_2"))
    refunds = [
        a_refund(each, refund_no=f"R{n}", refund_id=f"re_{n}") for n, each in enumerate(charges, 1)
    ]
    order = Order(KEY, charges=charges, refunds=tuple(refunds))
    assert [each.out_trade_no for each in query.named(order, kind, key)] == numbers


@pytest.mark.parametrize("kind", [KeyKind.REFUND_NO, KeyKind.REFUND_ID])
def test_a_refund_that_the_order_does_not_have_is_not_found(kind: KeyKind) -> None:
    """It was lost between two reads."""
    with pytest.raises(NotFound) as raised:
        query.named(Order(KEY, charges=(one(),)), kind, "R1")
    assert (raised.value.kind, raised.value.key) == ("refund", "R1")


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (KeyKind.ORDER_NO, "order"),
        (KeyKind.OUT_TRADE_NO, "charge"),
        (KeyKind.CHARGE_ID, "charge"),
        (KeyKind.REFUND_NO, "refund"),
        (KeyKind.REFUND_ID, "refund"),
    ],
)
async def test_a_key_that_nothing_can_have_is_refused(
    ports: Ports, kind: KeyKind, what: str
) -> None:
    """By its name, before anything is looked up; one that could be there is not found."""
    with pytest.raises(InvalidRequest) as refused:
        await query.find(ports, kind, "a b")
    assert [each.field for each in refused.value.violations] == [kind.value]
    with pytest.raises(NotFound) as raised:
        await query.find(ports, kind, "a")
    assert (raised.value.kind, raised.value.key) == (what, "a")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({}, None),
        ({"reversed": False}, "not_reversed"),
        ({"app": "app_other"}, "not_reversed"),
        (Lost("timeout"), "timeout"),
    ],
    ids=["reversed", "on its way", "another account", "no answer"],
)
async def test_what_a_reversal_came_to(
    ports: Ports, wire: Wire, answer: dict[str, Any] | Sent, reason: str | None
) -> None:
    """Only an answer about our charge that says so ends it."""
    made = await ports.psp.create_charge(one(channel="alipay_qr", created_at=ports.store.now()))
    assert isinstance(made, Done)
    marked = one(charge_id=made.answer.charge_id, due_at=ports.store.now() + 2 * TOTAL_TIMEOUT)
    wire.answer = answer
    answered = await reversal._sent(ports, marked, made.answer.charge_id, NO_DEADLINE)
    assert (answered.reason if isinstance(answered, Unknown) else None) == reason


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        (Answer(400, b'{"error":{"type":"invalid_request_error","message":"late"}}', ""), True),
        (Answer(403, b'{"error":{"type":"rate_limit_error","message":"slowly"}}', ""), False),
        (NotSent("refused"), False),
    ],
    ids=["refused", "throttled", "not sent"],
)
async def test_after_a_refusal_ping_is_asked_how_the_charge_stands(
    ports: Ports, wire: Wire, answer: Sent, asked: bool
) -> None:
    """It may be paid. What was not read by Ping++ says nothing of the charge."""
    marked = one(charge_id="ch_1", due_at=NOON + 2 * TOTAL_TIMEOUT)
    wire.answer = answer
    answered = await reversal._sent(ports, marked, "ch_1", NO_DEADLINE)
    assert isinstance(answered, NotDone)
    assert ("GET" in wire.asked) is asked


async def test_a_charge_that_failed_before_it_was_named_is_not_looked_for(
    ports: Ports, wire: Wire
) -> None:
    """A query of it asks for nothing: it has ended."""
    failed = one(ChargeState.FAILED, charge_id=None)
    order = Order(KEY, charges=(failed,))
    assert await query.refresh(ports, order, (failed,), NO_DEADLINE) is order
    assert wire.asked == []


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [
        (Unknown("timeout"), "timeout"),
        (NotDone(Refusal.THROTTLED), "throttled"),
        (Done(one()), "unexpected_answer"),
    ],
)
def test_what_kept_an_answer_away_has_a_name(verdict: Verdict[Charge], reason: str) -> None:
    """In the journal, and nothing of what Ping++ reported beside it."""
    assert as_unknown(verdict).reason == reason


async def test_a_charge_that_is_not_shown_in_a_run_is_put_off(ports: Ports, wire: Wire) -> None:
    """The key may not be the right one: nothing is written, and it comes up again."""
    wire.answer = GONE
    superseded = one(superseded=True)
    order, run = Order(KEY, charges=(superseded,)), Run()
    after = await finish_superseded(ports, order, superseded, ObservedBy.RESOLVE, run)
    assert after is order
    assert (run.put_off, wire.asked) == ([KEY], ["GET"])


def test_an_event_of_a_charge_that_is_gone_waits() -> None:
    """A failover may lose the charge between the look for its order and the commit."""

    def found(number: str, charge_id: str) -> Charge:
        facts = shown_unpaid(one()).facts
        assert facts is not None
        subject = ChargeInEvent(replace(facts, out_trade_no=number, charge_id=charge_id))
        return _charge_of(Order(KEY, charges=(one(),)), subject)

    with pytest.raises(NotYet, match=r"^charge_lost$"):
        found("N2", "ch_2")
    assert found("N2", "ch_1") == one()
    assert found(NUMBER, "ch_2") == one()
