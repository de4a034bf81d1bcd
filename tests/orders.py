"""Orders in short, what Ping++ tells of them, and what a draft of one writes."""

from datetime import timedelta
from typing import Any

from midas.charge import (
    Charge,
    ChargeFacts,
    ChargeObservation,
    ChargeReport,
    ChargeState,
    ObservedBy,
)
from midas.draft import Draft
from midas.event import EventRecord, EventStanding
from midas.payment import JournalEntry, Notification, Order
from midas.refund import Refund, RefundFacts, RefundObservation, RefundReport, RefundState
from tests.records import NOON, a_charge, a_refund

LATER = NOON + timedelta(minutes=1)
"""When everything here is observed, changed or put back."""
EARLIER = NOON - timedelta(minutes=1)
COMMIT = "the-commit"
BEFORE = "the-commit-before"

SUBMITTING, PENDING, SUCCEEDED, CLOSED, FAILED, REVERSED = ChargeState
Row = Charge | Refund
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
    key: str = "R1", report: RefundReport = RefundReport.DONE, of: str = "T1", /, **values: Any
) -> RefundFacts:
    """What Ping++ tells of that refund: it is done."""
    known: dict[str, Any] = {
        "refund_id": f"re_{key}",
        "charge_id": f"ch_{of}",
        "amount": 10,
        "report": report,
        "created_at": NOON,
        "refund_no": key,
    }
    return RefundFacts(**known | values)


def waiting(number: str = "T1", by: ObservedBy = QUERY, /, **values: Any) -> ChargeObservation:
    """Ping++ shows the charge, unpaid."""
    return ChargeObservation(ChargeReport.WAITING, by, LATER, charge_facts(number, **values))


def paid(number: str = "T1", by: ObservedBy = WEBHOOK, /, **values: Any) -> ChargeObservation:
    """Ping++ shows the charge, paid at noon."""
    facts = charge_facts(number, paid=True, paid_at=NOON, **values)
    return ChargeObservation(ChargeReport.PAID, by, LATER, facts)


def observed(facts: RefundFacts, by: str = "WEBHOOK") -> RefundObservation:
    """Ping++ shows the refund."""
    return RefundObservation(facts.report, by, LATER, facts)


def bare(report: ChargeReport, by: ObservedBy = QUERY) -> ChargeObservation:
    """What came to light without a charge object."""
    return ChargeObservation(report, by, LATER)


def written(draft: Draft) -> dict[str, Any]:
    """What the draft's commit writes beside the order's version, by the name of the field."""
    names = [
        *("new_charges", "changed_charges", "new_refunds", "changed_refunds"),
        *("journal", "notifications", "new_events", "changed_events"),
    ]
    change = draft.change(COMMIT)
    return {name: getattr(change, name) for name in names if change and getattr(change, name)}


def line(
    subject: str,
    event: str,
    before: str = "",
    after: str = "",
    by: str = "WEBHOOK",
    *,
    report: str = "",
    **more: Any,
) -> JournalEntry:
    """A journal entry of now; `more` is its detail. The journal's word for a report is `said`."""
    detail = {"said": report, **more} if report else more
    return JournalEntry("o1", subject, event, LATER, by, before, after, detail)


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
