"""The order and its draft: every question to it, and everything that a commit writes.

Whole values are compared. What a single observation makes of a row stands in test_charge.py and
test_refund.py; here stands which row it is told to, and what is written beside it.
"""

from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from midas.charge import (
    REVERSING,
    WITHDRAWN,
    Charge,
    ChargeFacts,
    ChargeObservation,
    ChargeSaid,
    ChargeState,
    ObservedBy,
)
from midas.errors import StorageUnavailable
from midas.event import EventRecord, EventStanding
from midas.payment import (
    Change,
    Draft,
    JournalEntry,
    Notification,
    Order,
    charges_by_age,
    refunds_by_age,
)
from midas.refund import Refund, RefundFacts, RefundObservation, RefundSaid, RefundState
from midas.sequences import EPOCH
from tests.records import NOON, a_charge, a_refund

LATER = NOON + timedelta(minutes=1)
"""When everything here is seen, changed or put back."""
EARLIER = NOON - timedelta(minutes=1)
COMMIT = "the-commit"
BEFORE = "the-commit-before"

SUBMITTING, PENDING, SUCCEEDED, CLOSED, FAILED, REVERSED = ChargeState
Row = Charge | Refund
OPEN_CHARGES = {"SUBMITTING", "PENDING"}
OPEN_REFUNDS = {"SUBMITTING", "PENDING"}
POLL, QUERY, WEBHOOK = ObservedBy.POLL, ObservedBy.QUERY, ObservedBy.WEBHOOK


def charge(number: str = "T1", state: ChargeState = PENDING, /, **values: Any) -> Charge:
    """A charge of 100 fen. Ping++'s id of T1 is ch_T1, unless it is unknown yet."""
    charge_id = None if state is SUBMITTING else f"ch_{number}"
    known: dict[str, Any] = {"out_trade_no": number, "charge_id": charge_id, "state": state}
    return a_charge("o1", **known | values)


def refund(
    key: str = "R1", state: RefundState = RefundState.PENDING, of: str = "T1", /, **values: Any
) -> Refund:
    """A refund of 10 fen. Ping++'s id of R1 is re_R1, unless it is unknown yet."""
    known: dict[str, Any] = {
        "refund_no": key,
        "charge_id": f"ch_{of}",
        "refund_id": None if state is RefundState.SUBMITTING else f"re_{key}",
        "state": state,
    }
    return a_refund(charge(of), **known | values)


def an_order(*rows: Row, **values: Any) -> Order:
    """An order of these, at its fourth version."""
    known: dict[str, Any] = {
        "version": 4,
        "last_sequence": 6,
        "charges": tuple(each for each in rows if isinstance(each, Charge)),
        "refunds": tuple(each for each in rows if isinstance(each, Refund)),
        "last_change": BEFORE,
    }
    return Order("o1", **known | values)


def charge_facts(number: str = "T1", /, **values: Any) -> ChargeFacts:
    """What Ping++ tells of that charge: it waits for its payer."""
    known: dict[str, Any] = {
        "charge_id": f"ch_{number}",
        "out_trade_no": number,
        "app_id": "app_1",
        "livemode": False,
        "channel": "alipay",
        "amount": 100,
        "currency": "cny",
        "paid": False,
        "reversed": False,
        "created_at": NOON,
    }
    return ChargeFacts(**known | values)


def refund_facts(
    key: str = "R1", said: RefundSaid = RefundSaid.DONE, of: str = "T1", /, **values: Any
) -> RefundFacts:
    """What Ping++ tells of that refund: it is done."""
    known: dict[str, Any] = {
        "refund_id": f"re_{key}",
        "charge_id": f"ch_{of}",
        "amount": 10,
        "said": said,
        "created_at": NOON,
        "refund_no": key,
    }
    return RefundFacts(**known | values)


def waiting(number: str = "T1", by: ObservedBy = QUERY, /, **values: Any) -> ChargeObservation:
    """Ping++ shows the charge, unpaid."""
    return ChargeObservation(ChargeSaid.WAITING, by, LATER, charge_facts(number, **values))


def paid(number: str = "T1", by: ObservedBy = WEBHOOK, /, **values: Any) -> ChargeObservation:
    """Ping++ shows the charge, paid at noon."""
    facts = charge_facts(number, paid=True, paid_at=NOON, **values)
    return ChargeObservation(ChargeSaid.PAID, by, LATER, facts)


def seen(facts: RefundFacts, by: str = "WEBHOOK") -> RefundObservation:
    """Ping++ shows the refund."""
    return RefundObservation(facts.said, by, LATER, facts)


def bare(said: ChargeSaid, by: ObservedBy = QUERY) -> ChargeObservation:
    """What came to light without a charge object."""
    return ChargeObservation(said, by, LATER)


def written(draft: Draft) -> dict[str, Any]:
    """What the draft's commit writes beside the order's version, by the name of the field."""
    names = [
        *("new_charges", "changed_charges", "new_refunds", "changed_refunds"),
        *("journal", "notifications", "new_events", "changed_events"),
    ]
    change = draft.change(COMMIT)
    return {name: getattr(change, name) for name in names if change and getattr(change, name)}


def line(
    subject: str, event: str, before: str = "", after: str = "", by: str = "WEBHOOK", **more: Any
) -> JournalEntry:
    """A journal entry of now; `more` is its detail."""
    return JournalEntry("o1", subject, event, LATER, by, before, after, more)


def notice(
    kind: str, sequence: int = 7, by: str = "WEBHOOK", of: str = "T1", **values: Any
) -> Notification:
    """A notification of now."""
    return Notification("o1", sequence, kind, LATER, by, of, change_id=COMMIT, **values)


def an_event(event_id: str = "evt_1") -> EventRecord:
    """An event of Ping++'s that was applied."""
    return EventRecord(
        event_id, "o1", "charge.succeeded", NOON, "digest", b"{}", EventStanding.APPLIED
    )


# The order


def test_what_is_not_said_of_an_order_or_a_message() -> None:
    """An order that is not stored, and a message that is nothing but that."""
    order = Order("o1")
    assert [getattr(order, each.name) for each in fields(order)] == ["o1", 0, 0, (), (), "", 0]
    assert JournalEntry("o1", "T1", "event", NOON, "QUERY", "", "").detail == {}
    told = Notification("o1", 1, "PAY_ORDER_SUCCESS", NOON, "QUERY", "T1")
    assert (told.refund_no, told.late, told.duplicate_payment) == ("", False, False)
    assert (told.change_id, told.told_again) == ("", False)
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
    """Only what Ping++ said is done, and only of this charge."""
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
    assert charges_by_age(reversed(by_age)) == tuple(by_age)
    given_back = [refund("R3", created_at=EARLIER), refund("R1"), refund("R2")]
    assert refunds_by_age(reversed(given_back)) == tuple(given_back)
    draft = Draft(an_order(*reversed(by_age), *reversed(given_back)))
    assert draft.order.charges == tuple(by_age)
    assert draft.order.refunds == tuple(given_back)


# What a commit writes


def test_a_change_is_all_that_one_commit_writes() -> None:
    """Guarded by the version and the commit that it was decided by."""
    first, other = charge("T1", SUCCEEDED), charge("T2", CLOSED, created_at=LATER)
    given_back = refund("R1")
    base = an_order(first, other, given_back, sequence_floor=3)
    draft = Draft(base)
    newer, older = charge("T4", created_at=LATER), refund("R0", created_at=EARLIER)
    closing, sent = replace(other, superseded=True), replace(given_back, unsent=True)
    draft.add_charge(newer, "CREATE")
    draft.put_charge(closing, "charge_superseded", LATER, "CREATE")
    draft.add_refund(older, "QUERY")
    draft.put_refund(sent, "refund_unsent", LATER, "POLL")
    draft.record_event(an_event("evt_1"))
    draft.settle_event(an_event("evt_2"))
    draft.observe_charge("T4", paid("T4"))
    told = draft.charge("T4")
    after = Order("o1", 5, 7, (first, closing, told), (older, sent), COMMIT, 3)
    change = draft.change(COMMIT)
    assert change == Change(
        order_no="o1",
        expected_version=4,
        expected_change=BEFORE,
        last_sequence=7,
        change_id=COMMIT,
        after=after,
        new_charges=(told,),
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
            line("T4", "charge_succeeded", "PENDING", "SUCCEEDED", said="PAID", code=""),
        ),
        notifications=(notice("PAY_ORDER_SUCCESS", of="T4", duplicate_payment=True),),
        new_events=(an_event("evt_1"),),
        changed_events=(an_event("evt_2"),),
        sequence_floor=3,
        retells=False,
    )
    assert (change.after.last_change, change.after.sequence_floor) == (COMMIT, 3)
    assert draft.order == after
    assert (draft.order.last_change, draft.order.sequence_floor) == ("", 3)
    assert draft.base is base


STEPS: dict[str, tuple[Callable[[Draft], object], str | None]] = {
    "a charge": (lambda draft: draft.reschedule_charge(charge("T2")), "new_charges"),
    "a charge's date": (
        lambda draft: draft.reschedule_charge(charge("T1", due_at=LATER)),
        "changed_charges",
    ),
    "a refund": (lambda draft: draft.reschedule_refund(refund("R2")), "new_refunds"),
    "a refund's date": (
        lambda draft: draft.reschedule_refund(refund("R1", due_at=LATER)),
        "changed_refunds",
    ),
    "a line": (
        lambda draft: draft.observe_charge("T1", bare(ChargeSaid.NO_ANSWER, POLL)),
        "journal",
    ),
    "an event": (lambda draft: draft.record_event(an_event()), "new_events"),
    "what became of an event": (lambda draft: draft.settle_event(an_event()), "changed_events"),
    "nothing": (lambda _: None, None),
    "the very same": (lambda draft: draft.reschedule_charge(draft.charge("T1")), None),
    "the same read again": (lambda draft: draft.reschedule_charge(charge("T1")), None),
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
            lambda d: d.observe_charge("T1", bare(ChargeSaid.NO_ANSWER, POLL)),
        ),
        False,
    ),
    "a refund found at Ping++": (
        (lambda d: d.add_refund(refund("R2"), "QUERY", "refund_found_at_psp"),),
        False,
    ),
    "another date of a charge": (
        (lambda d: d.reschedule_charge(charge("T1", due_at=LATER)),),
        False,
    ),
    "another date of a refund": (
        (lambda d: d.reschedule_refund(refund("R1", due_at=LATER)),),
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
    draft.reschedule_charge(row)
    left = bool(reason) and (state is SUBMITTING or (state is PENDING and superseded))
    assert written(draft) == {"new_charges": (replace(row, due_at=None if left else LATER),)}


@pytest.mark.parametrize(("state", "reason"), list(product(RefundState, ("", "look at it"))))
def test_a_refund_that_a_person_looks_at_is_not_due(state: RefundState, reason: str) -> None:
    """If it is unknown; what Ping++ works on is still looked at."""
    row = refund("R1", state, operator_reason=reason, due_at=LATER)
    draft = Draft(an_order())
    draft.reschedule_refund(row)
    left = bool(reason) and state is RefundState.SUBMITTING
    assert written(draft) == {"new_refunds": (replace(row, due_at=None if left else LATER),)}


# What is seen of a charge


def by_psp(before: Charge, state: ChargeState, by: ObservedBy = WEBHOOK, **values: Any) -> Charge:
    """The row once it has moved."""
    moved: dict[str, Any] = {"state": state, "observed_by": by, "updated_at": LATER}
    return replace(before, **moved | values)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("beside", [[], [charge("T2", CLOSED)], [charge("T2", SUCCEEDED)]])
def test_a_payment_is_written_and_told(late: bool, beside: list[Charge]) -> None:
    """With the row, the line and the message in one commit; a second payment is called that."""
    first = charge("T1", CLOSED if late else PENDING)
    draft = Draft(an_order(first, charge("T0", FAILED), *beside))
    twice = any(each.state is SUCCEEDED for each in beside)
    after = by_psp(first, SUCCEEDED, paid_at=NOON, late=late, duplicate_payment=twice)
    assert draft.observe_charge("T1", paid()) == after
    assert draft.charge("T1") == after
    assert written(draft) == {
        "changed_charges": (after,),
        "journal": (line("T1", "charge_succeeded", first.state, SUCCEEDED, said="PAID", code=""),),
        "notifications": (notice("PAY_ORDER_SUCCESS", late=late, duplicate_payment=twice),),
    }


def test_its_own_payment_does_not_make_a_charge_a_second_one() -> None:
    """Money that went back and comes again; and another charge's that was given back in full."""
    first, other = charge("T1", CLOSED), charge("T2", SUCCEEDED)
    given_back = refund("R1", RefundState.SUCCEEDED, "T2", amount=100)
    draft = Draft(an_order(first, other, given_back))
    assert draft.observe_charge("T1", paid()).duplicate_payment is False
    assert draft.observe_charge("T1", paid()).duplicate_payment is False


def test_what_is_no_news_is_not_told() -> None:
    """The row has it, and the journal."""
    first = charge("T1", SUBMITTING)
    draft = Draft(an_order(first))
    after = by_psp(first, PENDING, QUERY, charge_id="ch_T1")
    assert draft.observe_charge("T1", waiting()) == after
    assert written(draft) == {
        "changed_charges": (after,),
        "journal": (
            line("T1", "charge_pending", SUBMITTING, PENDING, QUERY, said="WAITING", code=""),
        ),
    }


UNKNOWN = (SUBMITTING, ChargeSaid.NO_ANSWER)
RECURRING = [(PENDING, ChargeSaid.WAITING), (SUCCEEDED, ChargeSaid.WAITING)]


@pytest.mark.parametrize(("row", "by"), list(product([UNKNOWN, *RECURRING], ObservedBy)))
@pytest.mark.parametrize("looks", [0, 9, 10, 11])
def test_what_every_look_says_again_is_not_journaled_each_time(
    row: tuple[ChargeState, ChargeSaid], by: ObservedBy, looks: int
) -> None:
    """That nothing is known is, of Midas's own first ten looks; callers may ask as they like."""
    state, said = row
    draft = Draft(an_order(charge("T1", state, looks=looks)))
    draft.observe_charge("T1", bare(said, by))
    shown = row == UNKNOWN and by is not QUERY and looks < 10
    entry = line("T1", "charge_outcome_unknown", state, state, by, said=said.value, code="")
    assert written(draft) == ({"journal": (entry,)} if shown else {})


@pytest.mark.parametrize("row", [UNKNOWN, *RECURRING])
def test_what_recurs_is_journaled_with_what_else_was_changed(
    row: tuple[ChargeState, ChargeSaid],
) -> None:
    """A row that is written has a line that says why."""
    state, said = row
    draft = Draft(an_order(charge("T1", state, looks=11)))
    draft.reschedule_charge(charge("T1", state, looks=12))
    draft.observe_charge("T1", bare(said))
    (entry,) = written(draft)["journal"]
    assert (entry.subject, entry.state_before, entry.state_after) == ("T1", state, state)


def test_what_does_not_recur_is_journaled_though_nothing_moves() -> None:
    """Money that a reversal may take back."""
    draft = Draft(an_order(charge("T1", PENDING, answer=REVERSING)))
    draft.observe_charge("T1", paid())
    entry = line("T1", "charge_paid_while_reversed", PENDING, PENDING, said="PAID", code="")
    assert written(draft) == {"journal": (entry,)}


@pytest.mark.parametrize("by", ObservedBy)
def test_what_a_person_was_called_for_is_not_said_again_by_every_look(by: ObservedBy) -> None:
    """A webhook is: it is something that Ping++ sent."""
    draft = Draft(an_order(charge("T1")))
    draft.observe_charge("T1", waiting("T1", by, amount=99))
    first = draft.change(COMMIT)
    assert first is not None
    draft = Draft(first.after)
    draft.observe_charge("T1", waiting("T1", by, amount=99))
    again = first.journal if by is WEBHOOK else ()
    assert written(draft) == ({"journal": again} if again else {})


@pytest.mark.parametrize("by", [POLL, QUERY])
def test_what_contradicts_itself_is_said_once(by: ObservedBy) -> None:
    """However often Ping++ is asked."""
    draft = Draft(an_order(charge("T1", SUCCEEDED)))
    draft.observe_charge("T1", bare(ChargeSaid.REFUSED, by))
    first = draft.change(COMMIT)
    assert first is not None
    assert [each.event for each in first.journal] == ["charge_contradicted"]
    draft = Draft(first.after)
    draft.observe_charge("T1", bare(ChargeSaid.REFUSED, by))
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
    given_back = refund_facts("R7", RefundSaid.DONE, charge_id="ch_9", refund_no="")
    after = draft.observe_charge("T1", paid(charge_id="ch_9", refunds=(given_back,)))
    reason = "Ping++ answered with the charge ch_9, which is booked already"
    assert after == replace(first, operator_reason=reason, updated_at=LATER)
    entry = line("T1", "charge_quarantined", SUBMITTING, SUBMITTING, fields=["charge_id"])
    assert written(draft) == {
        "changed_charges": (after,),
        "journal": (replace(entry, detail={**entry.detail, **QUARANTINE}),),
    }


@pytest.mark.parametrize("case", BOOKED)
def test_what_is_silent_is_not_booked(case: str) -> None:
    """Without facts nothing can be another row's."""
    beside, foreign = BOOKED[case]
    draft = Draft(an_order(charge("T1", SUBMITTING), *beside), foreign=foreign)
    draft.observe_charge("T1", bare(ChargeSaid.REFUSED))
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
    assert draft.observe_charge("T1", paid(refunds=(refund_facts(),))) == first
    assert written(draft) == {
        "changed_refunds": (after,),
        "journal": (line("R1", "refund_succeeded", PENDING, SUCCEEDED, said="DONE", code=""),),
        "notifications": (notice("REFUND_SUCCESS", refund_no="R1"),),
    }


def test_the_refunds_of_another_charge_do_not() -> None:
    """Where the charge is not the one that was asked for, nor are its refunds."""
    draft = Draft(an_order(charge("T1", SUCCEEDED), refund("R1")))
    draft.observe_charge("T1", paid(amount=99, refunds=(refund_facts(),)))
    assert draft.refund("R1") == refund("R1")
    assert [each.event for each in written(draft)["journal"]] == ["charge_quarantined"]


def test_a_charge_is_answered_as_its_refunds_have_left_it() -> None:
    """A refund that another charge has calls a person to this one."""
    other = refund("R2", RefundState.PENDING, "T2")
    draft = Draft(an_order(charge("T1", SUCCEEDED, paid_at=NOON), charge("T2", SUCCEEDED), other))
    after = draft.observe_charge("T1", paid(refunds=(refund_facts("R2"),)))
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
    assert draft.observe_charge("T1", waiting("T1", charge_id="ch_2")) == first
    found = second(observed_by=QUERY)
    assert written(draft) == {
        "new_charges": (found,),
        "journal": (
            *doubled(PENDING, QUERY),
            line("ch_2", "charge_pending", SUBMITTING, PENDING, QUERY, said="WAITING", code=""),
        ),
    }


def test_a_second_charge_is_found_once() -> None:
    """From then on it has a row, and a charge that is told of under the number may be that one."""
    first, found = charge("T1", PENDING, created_at=EARLIER), second()
    draft = Draft(an_order(first, found))
    assert draft.observe_charge("T1", waiting("T1", charge_id="ch_2")) == first
    assert draft.change(COMMIT) is None


def test_a_second_charge_that_is_paid_makes_the_first_one_go() -> None:
    """Its payer shall not pay twice."""
    first = charge("T1", PENDING, created_at=EARLIER)
    draft = Draft(an_order(first))
    closing = replace(first, superseded=True, due_at=LATER)
    assert draft.observe_charge("T1", paid(charge_id="ch_2")) == closing
    found = second(state=SUCCEEDED, observed_by=WEBHOOK, paid_at=NOON, answer=None, due_at=None)
    assert written(draft) == {
        "new_charges": (found,),
        "changed_charges": (closing,),
        "journal": (
            *doubled(PENDING, WEBHOOK),
            line("ch_2", "charge_succeeded", SUBMITTING, SUCCEEDED, said="PAID", code=""),
            line("T1", "charge_superseded", PENDING, PENDING),
        ),
        "notifications": (notice("PAY_ORDER_SUCCESS", of="ch_2"),),
    }


@pytest.mark.parametrize("state", [SUCCEEDED, CLOSED, FAILED, REVERSED])
def test_a_first_charge_that_is_over_has_no_way_to_make(state: ChargeState) -> None:
    """Paid both, the second payment is a duplicate."""
    first = charge("T1", state)
    draft = Draft(an_order(first))
    assert draft.observe_charge("T1", paid(charge_id="ch_2")) is first
    assert draft.charge("ch_2").duplicate_payment is (state is SUCCEEDED)
    assert "changed_charges" not in written(draft)


def test_a_second_charge_that_another_order_has_is_left_to_a_person() -> None:
    """No row of this order can have its id."""
    first = charge("T1")
    draft = Draft(an_order(first), foreign=frozenset({"ch_2"}))
    after = draft.observe_charge("T1", waiting("T1", charge_id="ch_2"))
    reason = "Ping++ told of another charge_id than was asked for"
    assert after == replace(first, operator_reason=reason, updated_at=LATER)
    assert list(draft.order.charges) == [after]


# What is seen of a refund


def test_the_end_of_a_refund_is_written_and_told() -> None:
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
    assert draft.observe_refund("R1", seen(refund_facts())) == after
    assert draft.refund("R1") == after
    assert written(draft) == {
        "changed_refunds": (after,),
        "journal": (line("R1", "refund_succeeded", SUBMITTING, SUCCEEDED, said="DONE", code=""),),
        "notifications": (notice("REFUND_SUCCESS", refund_no="R1"),),
    }


def test_a_refund_that_ping_works_on_is_not_told() -> None:
    """Its id is known from now on."""
    asked = refund("R1", RefundState.SUBMITTING)
    draft = Draft(an_order(charge("T1", SUCCEEDED), asked))
    draft.observe_refund("R1", seen(refund_facts("R1", RefundSaid.WORKING)))
    assert list(written(draft)) == ["changed_refunds", "journal"]


@pytest.mark.parametrize(
    ("said", "event", "shown"),
    [
        (RefundSaid.WORKING, "refund_still_pending", False),
        (RefundSaid.NO_ANSWER, "refund_outcome_unknown", True),
    ],
)
@pytest.mark.parametrize(("by", "looks"), list(product(["POLL", "QUERY"], [0, 9, 10])))
def test_what_every_look_says_of_a_refund_is_not_journaled_each_time(
    said: RefundSaid, event: str, shown: bool, by: str, looks: int
) -> None:
    """As it is with charges."""
    draft = Draft(an_order(charge("T1", SUCCEEDED), refund("R1", looks=looks)))
    draft.observe_refund("R1", RefundObservation(said, by, LATER))
    entry = line("R1", event, PENDING, PENDING, by, said=said.value, code="")
    shown = shown and by == "POLL" and looks < 10
    assert written(draft) == ({"journal": (entry,)} if shown else {})
    draft.reschedule_refund(refund("R1", due_at=LATER))
    draft.observe_refund("R1", RefundObservation(said, by, LATER))
    assert written(draft)["journal"] == ((entry, entry) if shown else (entry,))


@pytest.mark.parametrize(
    ("state", "said", "event"),
    [
        (RefundState.SUBMITTING, RefundSaid.ABSENT, "refund_needs_operator"),
        (RefundState.PENDING, RefundSaid.ABSENT, "refund_contradicted"),
    ],
)
def test_what_a_person_was_called_for_with_a_refund_is_said_once(
    state: RefundState, said: RefundSaid, event: str
) -> None:
    """However often Ping++ is asked."""
    draft = Draft(an_order(charge("T1", SUCCEEDED), refund("R1", state)))
    draft.observe_refund("R1", RefundObservation(said, "POLL", LATER))
    first = draft.change(COMMIT)
    assert first is not None
    assert [each.event for each in first.journal] == [event]
    draft = Draft(first.after)
    draft.observe_refund("R1", RefundObservation(said, "POLL", LATER))
    assert draft.change(COMMIT) is None


@pytest.mark.parametrize("where", ["here", "in another order", "nowhere"])
def test_a_refund_that_is_booked_already_is_left_to_a_person(where: str) -> None:
    """Money that went back once is one refund."""
    asked = refund("R1", RefundState.SUBMITTING)
    beside = [refund("R2", refund_id="re_9")] if where == "here" else []
    foreign = frozenset({"re_9"} if where == "in another order" else ())
    draft = Draft(an_order(charge("T1", SUCCEEDED), asked, *beside), foreign=foreign)
    after = draft.observe_refund("R1", seen(refund_facts(refund_id="re_9")))
    reason = "Ping++ answered with the refund re_9, which is booked already"
    raised = replace(asked, operator_reason=reason, updated_at=LATER)
    assert (after == raised) is (where != "nowhere")
    assert (after.state is RefundState.SUCCEEDED) is (where == "nowhere")


def test_a_silent_observation_of_a_refund_is_not_booked() -> None:
    """Without facts nothing can be another row's, nor a second refund."""
    draft = Draft(an_order(charge("T1", SUCCEEDED), refund("R1", RefundState.SUBMITTING)))
    after = draft.observe_refund("R1", RefundObservation(RefundSaid.REFUSED, "POLL", LATER))
    assert after.state is RefundState.FAILED


# Refunds that Ping++ lists


TOLD_OF = {"said": "DONE", "code": ""}


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
        line(key, "refund_succeeded", PENDING, SUCCEEDED, **TOLD_OF),
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
    facts = elsewhere(said=RefundSaid.WORKING)
    draft.observe_refund_list("T1", [facts], "WEBHOOK", LATER)
    (row,) = written(draft)["new_refunds"]
    assert row == found(
        "re_9",
        state=RefundState.PENDING,
        observed_by=None,
        due_at=LATER + timedelta(seconds=30),
        currency="usd",
        app_id="app_9",
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
        told = [each.refund_no for each in written(draft)["notifications"]]
        assert told == ["re_3", "re_1", "re_2"]


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
        assert draft.observe_refund("R1", seen(facts)) == raised
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
    after = draft.observe_refund("R1", seen(elsewhere("R1", charge_id="ch_T2")))
    reason = "Ping++ told of another charge_id, refund_id than was asked for"
    assert after == replace(first, operator_reason=reason, updated_at=LATER)
    assert draft.order.refunds == (after,)


def test_a_refund_under_another_key_is_no_second_one() -> None:
    """The same."""
    first = refund("R1")
    draft = Draft(an_order(charge("T1", SUCCEEDED), first))
    after = draft.observe_refund("R1", seen(elsewhere("R8")))
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
        said="DONE",
    )
    draft.observe_refund_list("T1", [elsewhere(), more], "WEBHOOK", LATER)
    draft.observe_refund_list("T1", [elsewhere()], "WEBHOOK", LATER + timedelta(minutes=1))
    assert written(draft) == {
        "new_refunds": (found("re_99"),),
        "changed_charges": (raised,),
        "journal": (refused, *lines_of_finding("re_99")),
        "notifications": (notice("REFUND_SUCCESS", refund_no="re_99"),),
    }


# What was lost and is put back


def restored(here: Iterable[Row], known: Iterable[Row], *foreign: str) -> Draft:
    """An order that had all of `known`, put back."""
    draft = Draft(an_order(*here), foreign=frozenset(foreign))
    draft.restore(an_order(*known), LATER)
    return draft


def back(subject: str, state: str) -> JournalEntry:
    """The line of it."""
    kind = "refund" if subject.startswith("R") else "charge"
    return line(subject, f"{kind}_restored", "", state, "RESOLVE")


def test_what_was_lost_is_put_back_and_told_again() -> None:
    """Under new numbers, by whom it was seen: its messages are lost, too."""
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
    here: list[Row] = [charge("T1", SUCCEEDED), refund("R1", RefundState.SUCCEEDED)]
    known: list[Row] = [charge("T1", PENDING, absent_since=NOON), refund("R1", absent_since=NOON)]
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
    draft.observe_charge("T1", paid())
    for each in ("R1", "R2"):
        draft.observe_refund(each, seen(refund_facts(each)))
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
def test_what_is_told_again_has_numbers_of_a_new_epoch(
    last: int, floor: int, above: int, epoch: int
) -> None:
    """None of them was used for anything else, and nothing before them is to be told."""
    told = [notice("PAY_ORDER_SUCCESS", 5), notice("REFUND_SUCCESS", 3, refund_no="R1")]
    draft = Draft(an_order(charge("T1"), last_sequence=last, sequence_floor=floor))
    draft.tell_again(told, above, LATER)
    change = draft.change(COMMIT)
    assert change is not None
    assert change.retells
    assert change.notifications == (
        notice("PAY_ORDER_SUCCESS", epoch + 1, told_again=True),
        notice("REFUND_SUCCESS", epoch + 2, refund_no="R1", told_again=True),
    )
    assert change.last_sequence == epoch + 2
    detail: dict[str, Any] = {"above": above, "first": epoch + 1, "count": 2}
    assert change.journal == (line("o1", "notifications_renumbered", by="RESOLVE", **detail),)
